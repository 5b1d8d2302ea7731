#!/usr/bin/env bash
# Builds a Debian 12 guest from Debian's packages only: a disk, an SSH key and, on request, boxes for Vagrant.
#
#   sudo vm/build_box.sh FOLDER                  FOLDER/disk.qcow2 and FOLDER/key, with user `vagrant`, who may use sudo
#   sudo vm/build_box.sh FOLDER libvirt          and FOLDER/libvirt.box; likewise qemu, virtualbox
#   sudo vm/build_box.sh FOLDER --provisioned libvirt    with what provision.sh installs in it, so that `vagrant up` is quick
#
# Needs what `./provision.sh --vm` installs; no mounts, no loop devices and no virtualisation. Packages come from the
# Debian 12 sources of this machine's apt, else from deb.debian.org.
set -euo pipefail

SUITE=bookworm
DISK_SIZE=20G           # sparse
PARTITION_AT=1048576    # bytes; the boot loader is before it
PACKAGES=(
    linux-image-cloud-amd64 initramfs-tools e2fsprogs grub-pc-bin grub-common  # to boot
    systemd-sysv systemd-resolved libnss-resolve udev dbus                # system services
    openssh-server sudo ca-certificates rsync iproute2                   # for Vagrant
)

fail() {
    printf 'build_box.sh: %s\n' "$*" >&2
    exit 1
}

[ $# -ge 1 ] || fail "takes a folder, then any of libvirt, qemu, virtualbox"
[ "$(id -u)" = 0 ] || fail "needs root: a guest's files belong to its own users"
for tool in mmdebstrap qemu-img mke2fs sfdisk ssh-keygen; do
    command -v "$tool" >/dev/null || fail "$tool is missing: run ./provision.sh --vm"
done
mkdir -p -- "$1"
folder=$(realpath -- "$1")
shift
provisioned=no
if [ "${1:-}" = --provisioned ]; then
    provisioned=yes
    shift
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for provider; do
    case "$provider" in libvirt | qemu | virtualbox) ;; *) fail "$provider: no box can be built for it" ;; esac
done
work=$(mktemp --directory -- "$folder/building.XXXXXX")
trap 'rm -rf -- "$work"' EXIT

# This machine's apt sources of Debian, in the format of mmdebstrap.
sources() {
    local found
    found=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' "Architecture: amd64" 2>/dev/null | grep -E " $SUITE(-updates|-security)? " | sort -u) || true
    printf '%s\n' "${found:-deb http://deb.debian.org/debian $SUITE main}"
}
options=()
while IFS= read -r option; do
    options+=(--aptopt="$option")
done < <(apt-config dump Acquire 2>/dev/null |
    grep -E '^Acquire::(Check-Valid-Until|Check-Date|https?::Proxy|https::CaInfo) ' || true)

mkdir -- "$work/files"
ssh-keygen -q -t ed25519 -N '' -C netkv-guest -f "$work/key"
cat >"$work/files/fstab" <<'END'
LABEL=netkv / ext4 errors=remount-ro 0 1
END
cat >"$work/files/grub.cfg" <<'END'
set timeout=0
search --set=root --label netkv
linux /vmlinuz root=LABEL=netkv ro console=tty0 console=ttyS0
initrd /initrd.img
boot
END
cat >"$work/files/ether.network" <<'END'
[Match]
Type=ether
Name=e*

[Network]
DHCP=ipv4
END
# Runs as the guest's root in the guest's tree.
cat >"$work/files/furnish.sh" <<'END'
set -eu
useradd --create-home --shell /bin/bash vagrant
install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
install -m 600 -o vagrant -g vagrant /root/furnish/key.pub /home/vagrant/.ssh/authorized_keys
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant
chmod 440 /etc/sudoers.d/vagrant
echo netkv >/etc/hostname
echo '127.0.1.1 netkv' >>/etc/hosts
install -m 644 /root/furnish/fstab /etc/fstab
install -m 644 /root/furnish/ether.network /etc/systemd/network/
systemctl enable --quiet systemd-networkd systemd-resolved ssh serial-getty@ttyS0
systemctl disable --quiet systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer
echo 'UseDNS no' >/etc/ssh/sshd_config.d/netkv.conf
install -D -m 644 /root/furnish/grub.cfg /boot/grub/grub.cfg
grub-mkimage --format=i386-pc --output=/root/furnish/core.img --prefix='(hd0,msdos1)/boot/grub' \
    biosdisk part_msdos ext2 search search_label normal linux echo
cp /usr/lib/grub/i386-pc/boot.img /root/furnish/
: >/etc/machine-id
apt-get clean
END
# Argument: the guest's tree. Runs the set-up of the first `vagrant up`, in the folder that it will share.
cat >"$work/provision" <<'END'
#!/usr/bin/env bash
set -euo pipefail
place=$1/home/vagrant/netkv
mkdir -- "$place"
rm -f -- "$1/etc/resolv.conf"
cp -- /etc/resolv.conf "$1/etc/"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
    xargs -0 ls -d 2>/dev/null | tar --create --files-from=- | tar --extract --directory "$place"
environment=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root NETKV_VENV=/opt/netkv)
for name in http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
    [ -z "${!name:-}" ] || environment+=("$name=${!name}")
done
if [ -n "${PIP_CERT:-}" ]; then
    cp -- "$PIP_CERT" "$1/root/furnish/certificates.pem"
    environment+=(PIP_CERT=/root/furnish/certificates.pem)
fi
chroot "$1" env --ignore-environment --chdir=/home/vagrant/netkv "${environment[@]}" ./provision.sh
chroot "$1" /opt/netkv/bin/python -m compileall -q -j 0 /opt/netkv/lib  # an emulated processor takes minutes for it
chroot "$1" apt-get clean
rm -rf -- "$place"
END
chmod +x "$work/provision"
cp -- "$work/key.pub" "$work/files/"
hooks=(
    --customize-hook="copy-in $work/files /root"
    --customize-hook='mv "$1/root/files" "$1/root/furnish"'
    --customize-hook='chroot "$1" sh /root/furnish/furnish.sh'
)
if [ "$provisioned" = yes ]; then
    hooks+=(--customize-hook="$work/provision")
fi

echo "[1/3] $(IFS=' '; echo "${#PACKAGES[@]}") Debian packages and what they need, into a tree"
sources | mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${PACKAGES[*]}")" "${options[@]}" \
    "${hooks[@]}" \
    --customize-hook='ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"' \
    "$SUITE" "$work/tree" -

echo "[2/3] a disk of $DISK_SIZE with a boot loader and one partition"
mv -- "$work/tree/root/furnish/boot.img" "$work/tree/root/furnish/core.img" "$work/"
rm -rf -- "$work/tree/root/furnish"
raw=$work/disk.raw
truncate --size="$DISK_SIZE" -- "$raw"
size_sectors=$((($(stat --format=%s -- "$raw") - PARTITION_AT) / 512))
echo "$((PARTITION_AT / 512)),$size_sectors,83,*" | sfdisk --quiet --label dos "$raw"
mke2fs -q -t ext4 -L netkv -d "$work/tree" -E "offset=$PARTITION_AT,root_owner=0:0" "$raw" "$((size_sectors / 2))k"
# The first sector's boot code, which loads the next sectors; not the partition table, bytes 446 to 509 of the sector.
dd if="$work/boot.img" of="$raw" bs=446 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$raw" bs=512 seek=1 conv=notrunc status=none

echo "[3/3] $folder/disk.qcow2${*:+ and boxes: $*}"
qemu-img convert -f raw -O qcow2 "$raw" "$work/disk.qcow2"
rm -rf -- "$work/tree" "$raw"
for provider; do
    vm/pack_box.sh "$provider" "$work/disk.qcow2" "$work/key" "$folder/$provider.box"
done
mv -- "$work/key" "$work/disk.qcow2" "$folder/"
[ -z "${SUDO_UID:-}" ] || chown --recursive "$SUDO_UID:$SUDO_GID" "$folder"
