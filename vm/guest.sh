#!/usr/bin/env bash
# Makes a Debian 12 guest a NetKV machine: the set-up of every other machine, `netkv` for whoever logs in, and the
# kernel's modules. Run as root by `vagrant up`; safe to run again. Fails unless `netkv doctor` is content in the end.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export NETKV_VENV=/opt/netkv  # not in the project: that is shared with the host, and these paths are the guest's

./provision.sh

# Sandboxes have no modules of their own: what they use is loaded before them, now and at every boot.
printf '%s\n' openvswitch sch_htb sch_netem sch_red cls_bpf tcp_dctcp tcp_bbr >/etc/modules-load.d/netkv.conf
xargs modprobe --all </etc/modules-load.d/netkv.conf

install -m 755 /dev/stdin /usr/local/bin/netkv <<END
#!/bin/sh
# Packets need root, which the user of this machine may have for the asking.
[ "\$(id -u)" = 0 ] || exec sudo --preserve-env=TERM,COLUMNS -- "\$0" "\$@"
exec $NETKV_VENV/bin/netkv "\$@"
END
cat >/etc/profile.d/netkv.sh <<END
# What is typed after login happens in the project, so that results are there, too.
export NETKV_VENV=$NETKV_VENV
[ "\$PWD" != "\$HOME" ] || cd "$PWD"
END

netkv doctor
