#!/usr/bin/env bash
# Copies the guest's results to the project's folder `results`, for providers without a shared folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
vagrant ssh -c 'tar --create --gzip --directory ~/netkv results' -- -q -T | tar --extract --gzip
