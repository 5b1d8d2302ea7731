#!/usr/bin/env bash
# Sets up everything that NetKV needs on a bare Debian 12: Debian's packages, then a Python environment of exact
# versions with `netkv` in it. Safe to run again: what is there already is left alone, and a run with nothing to do
# takes about a second, needs no network and no root.
#
#   ./provision.sh                  as root, or as a user who may use sudo (for apt only)
#   ./provision.sh --tests          with what only the tests need: a browser and Vagrant
#   ./provision.sh --vm             with what building and booting the virtual machine needs
#   ./provision.sh --routers        with other people's routers and KV transfer engines (pyproject.toml's extras)
#   ./provision.sh --check ...      changes nothing; exit 0 when there is nothing left to do, 1 otherwise
#   NETKV_VENV=DIR ./provision.sh   puts the environment into DIR instead of .venv
set -euo pipefail

PACKAGES=(
    mininet openvswitch-switch                # the emulated fabric
    ethtool iproute2 iputils-ping kmod mount  # its interfaces, namespaces and kernel modules
    iperf3 tcpdump socat                      # probes of it
    procps util-linux                         # sysctl, unshare, nsenter
    git make                                  # the commit that a run records; the Makefile
    python3 python3-venv
)
TEST_PACKAGES=(
    chromium chromium-driver  # opens the reports
    vagrant                   # reads the Vagrantfile
)
VM_PACKAGES=(
    mmdebstrap e2fsprogs fdisk qemu-utils                  # the guest's disk
    qemu-system-x86 openssh-client                         # the guest
    vagrant vagrant-libvirt rsync                          # the guest through Vagrant
    libvirt-daemon libvirt-clients dnsmasq-base iptables slirp4netns
)
ROUTER_PACKAGES=(
    libcurl4 libibverbs1 libnuma1 libssl3  # Mooncake's transfer engine
)
PYTHON=/usr/bin/python3  # Debian's own, whatever else is first on PATH: Mininet is installed for this one

cd "$(dirname "${BASH_SOURCE[0]}")"
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX
venv=$(realpath -m -- "${NETKV_VENV:-.venv}")
log=
routers=no

fail() {
    printf 'provision.sh: %s\n' "$*" >&2
    exit 1
}

# Runs a command with its output in the log; when it fails, shows the end of the log.
logged() {
    printf '\n$ %s\n' "${*%%$'\n'*}" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null 9<&- && return  # no child keeps the lock
    tail -n 25 -- "$log" >&2
    trap - EXIT
    fail "this step failed; fix what the lines above say and run it again (the whole log: $log)"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo -- "$@"
    else
        sudo -n -- "$@"
    fi
}

missing_packages() {
    local installed
    installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "${PACKAGES[@]}" 2>/dev/null) || true
    printf '%s\n' "${PACKAGES[@]}" | grep --invert-match --line-regexp --fixed-strings \
        --file=<(sed -n 's/^installed //p' <<<"$installed") || true
}

# As root. Installing Open vSwitch would start and enable its service, which would claim the host's datapath; the
# testbed starts its own in a sandbox. So the service is held back while apt runs and disabled after it, but only if
# it is we who bring Open vSwitch here. A policy-rc.d that is there already is the administrator's: it stays.
install_packages() {
    set -euo pipefail
    export DEBIAN_FRONTEND=noninteractive
    local policy=/usr/sbin/policy-rc.d brings_ovs=no
    case " $* " in *" openvswitch-switch "*) brings_ovs=yes ;; esac
    if [ -e "$policy" ] && grep -q 'netkv provision.sh' "$policy"; then
        rm -f "$policy"  # left by a run that was killed
    fi
    if [ "$brings_ovs" = yes ] && [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\n# Temporary, by netkv provision.sh: no Open vSwitch service at installation.\n%s\n' \
            'case "$1" in openvswitch*|ovs*) exit 101 ;; esac' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get -q update || echo 'apt-get update failed; trying with the lists at hand'
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    if [ "$brings_ovs" = yes ]; then
        update-rc.d openvswitch-switch disable || true
        if [ -d /run/systemd/system ]; then
            systemctl disable --now openvswitch-switch.service ovs-record-hostname.service || true
        fi
    fi
}

hash_of() {
    # The paths count too: an environment does not survive being moved, nor its project being moved.
    { printf '%s\n' "$venv" "$PWD" && cat -- "$@"; } | sha256sum | cut -d ' ' -f 1
}

stamped() {
    [ "$(cat -- "$venv/$1" 2>/dev/null)" = "$2" ]
}

imports() {
    "$venv/bin/python" -I -c "import $1" >/dev/null 2>&1
}

nothing_to_do() {
    [ -z "$missing" ] && stamped .netkv-packages "$packages_hash" && stamped .netkv-project "$project_hash" &&
        [ -x "$venv/bin/netkv" ] && imports 'mininet, numpy, ryu, experiments' &&
        { [ "$routers" = no ] || stamped .netkv-routers "$routers_hash"; }
}

leave_if_nothing_to_do() {
    if nothing_to_do; then
        echo "netkv is set up: ${NETKV_VENV:-.venv}/bin/netkv"
        exit
    fi
}

check_python() {
    local version
    version=$("$PYTHON" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "$version" = 3.11 ] ||
        fail "needs Debian 12's Python 3.11; $PYTHON is $version: use the virtual machine (docs/how-to/virtual-machine.md)"
}

# Debian's Mininet alone, by a link. With all of Debian's site-packages in view, a package of theirs can meet one of
# ours that it does not fit: python3-openssl breaks on a newer cryptography, and eventlet imports both.
link_mininet() {
    local source
    source=$("$PYTHON" -I -c 'import mininet; print(mininet.__path__[0])') || return
    ln -sfn -- "$source" "$("$venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mininet"
}

check=no
for argument; do
    case "$argument" in
        --check) check=yes ;;
        --tests) PACKAGES+=("${TEST_PACKAGES[@]}") ;;
        --vm) PACKAGES+=("${VM_PACKAGES[@]}") ;;
        --routers) PACKAGES+=("${ROUTER_PACKAGES[@]}") routers=yes ;;
        *) fail "takes no argument but --check, --tests, --vm and --routers; its first lines say what it does" ;;
    esac
done

missing=$(missing_packages)
packages_hash=$(hash_of provision.sh requirements.lock constraints-build.txt)
project_hash=$(hash_of provision.sh requirements.lock constraints-build.txt pyproject.toml)
routers_hash=$(hash_of provision.sh requirements.lock routers.lock engines.lock)
if [ "$check" = yes ]; then
    nothing_to_do && exit
    echo "netkv is not set up, or not for these files: run ./provision.sh${missing:+ (Debian packages missing: ${missing//$'\n'/ })}"
    exit 1
fi

leave_if_nothing_to_do
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        fail "needs root or sudo to install Debian packages:" $missing
    command -v apt-get >/dev/null || fail "needs Debian's apt-get to install:" $missing
fi
parent=$(dirname -- "$venv")
mkdir -p -- "$parent" 2>/dev/null && [ -w "$parent" ] || fail "cannot write to $parent, where the Python environment belongs"
if [ -n "${NETKV_VENV:-}" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ -n "$(ls -A -- "$venv" 2>/dev/null)" ]; then
    fail "NETKV_VENV=$NETKV_VENV holds something else than a Python environment; it is not overwritten"
fi
exec 9<"$parent"
flock 9  # two set-ups at once take turns; the second finds the work done
leave_if_nothing_to_do

if command -v "$PYTHON" >/dev/null; then check_python; fi  # before anything is installed

log=$(mktemp --tmpdir netkv-provision.XXXXXX.log)
trap 'rm -f -- "$log"' EXIT

if [ -n "$missing" ]; then
    echo "[1/3] Debian packages: installing" $missing
    # shellcheck disable=SC2086  # package names have no spaces
    as_root true || fail "needs root or sudo to install Debian packages:" $missing
    logged as_root env ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        bash -c "$(declare -f install_packages); install_packages \"\$@\"" install_packages $missing
else
    echo "[1/3] Debian packages: all present"
fi
check_python

# Relative, because pip splits this variable at spaces and the project's path may have some.
export PIP_CONSTRAINT=constraints-build.txt PIP_DISABLE_PIP_VERSION_CHECK=1
pip_install=("$venv/bin/python" -m pip install --no-deps --no-build-isolation --no-compile)

if stamped .netkv-packages "$packages_hash" && imports 'mininet, numpy, ryu, setuptools'; then
    echo "[2/3] Python packages: all present"
else
    echo "[2/3] Python packages: installing $(grep -c == requirements.lock) of them, pinned by digest in requirements.lock (about half a minute)"
    rm -f -- "$venv/.netkv-packages"
    [ ! -e "$venv/.netkv-routers" ] || routers=yes  # who had them has them again
    logged "$PYTHON" -I -m venv --clear "$venv"
    logged "${pip_install[@]}" --require-hashes -r constraints-build.txt
    logged "${pip_install[@]}" --require-hashes -r requirements.lock
    logged link_mininet
    logged "$venv/bin/python" -m pip check
    printf '%s\n' "$packages_hash" >"$venv/.netkv-packages"
fi

# A path, not an import hook: a hook comes after the folder that a command is typed in, whose own `scheduler` would win.
# Without the constraints, whose digests pip would ask of this folder, too.
logged env -u PIP_CONSTRAINT "${pip_install[@]}" --config-settings editable_mode=compat --editable .
logged "$venv/bin/python" -I -c 'import experiments, mininet.net, numba, pandas, pyarrow, pydantic, matplotlib.pyplot'
logged "$venv/bin/python" -I -W ignore -c '
import eventlet.wsgi
eventlet.wsgi.ALREADY_HANDLED = object()  # Ryu 4.34 imports this name, which eventlet has dropped
import ryu.cmd.manager'
printf '%s\n' "$project_hash" >"$venv/.netkv-project"

if [ "$routers" = yes ] && ! stamped .netkv-routers "$routers_hash"; then
    echo "[+] Routers and engines of others: installing $(cat routers.lock engines.lock | grep -c ==) packages (some 600 MB)"
    echo 'not finished' >"$venv/.netkv-routers"  # the tests of what is half there must fail, not vanish
    logged "${pip_install[@]}" --require-hashes -r routers.lock -r engines.lock
    logged "$venv/bin/python" -m pip check
    printf '%s\n' "$routers_hash" >"$venv/.netkv-routers"
fi
cp -- "$log" "$venv/provision.log"
echo "[3/3] netkv is set up: ${NETKV_VENV:-.venv}/bin/netkv"
