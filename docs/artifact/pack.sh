#!/usr/bin/env bash
# Packs what an artifact committee asks for into DIR/netkv-artifact.tar.gz: the sources of the commit that is checked out, its
# hash, the site that `make docs` has built, and a digest of every file. The same commit gives the same bytes.
# --check only says whether there is anything that is not committed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
fail() {
    printf 'pack.sh: %s\n' "$*" >&2
    exit 1
}

[ -z "$(git status --porcelain)" ] || fail "the work tree differs from its commit: commit or stash what git status shows"
[ "${1:-}" != --check ] || exit 0
out=${1:?the folder of the archive is missing}
site=${2:?the folder of the site is missing}
name=netkv-artifact
[ -f "$site/README.html" ] || fail "$site has no site: make docs"

commit=$(git rev-parse HEAD)
date=$(git log -1 --format=%ct)
mkdir -p -- "$out"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

git archive --format=tar --prefix="$name/" HEAD | tar -x -C "$work"
printf '%s\n' "$commit" >"$work/$name/COMMIT"
cp -r -- "$site" "$work/$name/site"
(cd "$work/$name" && find . -type f ! -name SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >"$work/sums")
mv -- "$work/sums" "$work/$name/SHA256SUMS"
tar --create --directory="$work" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$date" \
    --mode='u=rwX,go=rX' "$name" | gzip -9 --no-name >"$work/archive"
mv -- "$work/archive" "$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz")
