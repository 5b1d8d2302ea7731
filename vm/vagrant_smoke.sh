#!/usr/bin/env bash
# Starts the box by `vagrant up --provider=libvirt`, runs its user's commands in it, and destroys it.
#
#   vm/vagrant_smoke.sh FOLDER [COMMAND ...]    FOLDER holds libvirt.box (vm/build_box.sh FOLDER libvirt)
#
# Each COMMAND also runs in the guest and must exit with 0, for example 'netkv run --seed 1'. NETKV_VM_DEADLINE_S is the
# deadline for all of it, seconds (default: 1500).
#
# Needs root. libvirt, its networks and the guest run in their own sandbox, which the kernel removes: the host's libvirt,
# interfaces and firewall are not changed. The guest has Internet access through slirp4netns. The processor is emulated,
# so no virtualisation is needed.
set -eEuo pipefail
trap 'echo "vagrant_smoke.sh: line $LINENO failed: $BASH_COMMAND" >&2' ERR

DEADLINE_S=${NETKV_VM_DEADLINE_S:-1500}
PRIVATE=(/run /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt)

# The first process of the sandbox: the user's commands, and checks of their output.
inside() {
    local work=$1
    shift
    head --bytes=1 <"$work/uplink" >/dev/null  # slirp4netns is ready
    for directory in "${PRIVATE[@]}"; do
        mkdir -p -- "$directory"
    done
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /etc/libvirt
    for name in lib log cache; do
        mkdir -- "$work/$name"
        mount --bind "$work/$name" "/var/$name/libvirt"
    done
    printf '%s\n' 'auth_unix_rw = "none"' >/etc/libvirt/libvirtd.conf
    printf '%s\n' 'user = "root"' 'group = "root"' 'security_driver = "none"' 'namespaces = []' \
        'cgroup_controllers = []' 'remember_owner = 0' >/etc/libvirt/qemu.conf
    virtlogd --daemon
    libvirtd --daemon
    sysctl -qw net.ipv4.ip_forward=1

    export VAGRANT_HOME=$work/vagrant VAGRANT_DEFAULT_PROVIDER=libvirt VAGRANT_NO_COLOR=1
    cd "$work/project"
    step "vagrant up"
    vagrant up 2>&1 | tr '\r' '\n' | grep --line-buffered -v 'Progress: '
    step "netkv doctor, in the guest"
    vagrant ssh -c 'netkv doctor' | tee "$work/doctor"
    grep -q 'kernel: the openvswitch kernel module is loaded' "$work/doctor"
    step "results are visible on the host"
    vagrant ssh -c 'netkv run --world analytic --requests 4 --out results/smoke'
    test -s results/smoke/summary.json || vm/fetch_results.sh
    test -s results/smoke/summary.json
    for command; do
        step "in the guest: $command"
        vagrant ssh -c "$command"
    done
    step "results on the host: $(find results -name manifest.json | wc -l) runs"
    step "vagrant destroy"
    vagrant destroy --force
    test -z "$(virsh list --all --name)"
    step "done"
}

step() {
    echo "--- $*  ($SECONDS s)"
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
    exit
fi

[ $# -ge 1 ] || { echo 'vagrant_smoke.sh: takes the folder of libvirt.box' >&2 && exit 1; }
[ "$(id -u)" = 0 ] || { echo 'vagrant_smoke.sh: needs root for its sandbox' >&2 && exit 1; }
folder=$(realpath -- "$1")
shift
self=$(realpath -- "${BASH_SOURCE[0]}")
cd "$(dirname -- "$self")/.."
work=$(mktemp --directory -- "$folder/vagrant.XXXXXX")
sandbox= uplink=
tidy() {
    [ -z "$sandbox" ] || kill -KILL "$sandbox" 2>/dev/null || true
    [ -z "$uplink" ] || kill "$uplink" 2>/dev/null || true
    wait
    rm -rf -- "$work"
}
trap tidy EXIT
trap 'exit 143' TERM INT

mkdir -- "$work/project" "$work/vagrant"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null |
    tar --create --files-from=- .git | tar --extract --directory "$work/project"
mkfifo -- "$work/uplink"

export NETKV_BOX_URL=file://$folder/libvirt.box NETKV_EMULATE=1 NETKV_CPUS=2 NETKV_MEMORY=3072
setpriv --pdeathsig KILL ${NETKV_VM_PREFIX:-} unshare --net --pid --mount --propagation private --fork --mount-proc --kill-child=SIGKILL \
    -- timeout "$DEADLINE_S" "$self" --inside "$work" "$@" &
sandbox=$!
until first=$(pgrep --parent "$sandbox") && [ "$(readlink "/proc/$first/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do
    sleep 0.1
done
setpriv --pdeathsig KILL slirp4netns --configure --mtu=1500 --disable-host-loopback --ready-fd=3 "$first" uplink 3>"$work/uplink" >/dev/null 2>&1 &
uplink=$!
wait "$sandbox"
