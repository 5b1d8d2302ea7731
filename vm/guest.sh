#!/usr/bin/env bash
# Sets up a Debian 12 guest: the set-up of every machine, the command `netkv` for its user, and the kernel's modules.
# Run as root by `vagrant up`; safe to run again. Fails if `netkv doctor` finds something missing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export NETKV_VENV=/opt/netkv  # outside the project's folder, which is shared with the host

./provision.sh

# A sandbox cannot load kernel modules, so they are loaded now and at every boot.
printf '%s\n' openvswitch sch_htb sch_netem sch_red cls_bpf tcp_dctcp tcp_bbr >/etc/modules-load.d/netkv.conf
xargs modprobe --all </etc/modules-load.d/netkv.conf

install -m 755 /dev/stdin /usr/local/bin/netkv <<END
#!/bin/sh
# The emulated world needs root; the user of this machine may use sudo.
[ "\$(id -u)" = 0 ] || exec sudo --preserve-env=TERM,COLUMNS,NO_COLOR -- "\$0" "\$@"
exec $NETKV_VENV/bin/netkv "\$@"
END
cat >/etc/profile.d/netkv.sh <<END
# A login shell starts in the project's folder, so results are written there.
export NETKV_VENV=$NETKV_VENV
[ "\$PWD" != "\$HOME" ] || cd "$PWD"
END

netkv doctor
