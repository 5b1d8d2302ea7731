#!/usr/bin/env bash
# Packs a disk and the key of its user `vagrant` as a box for one of Vagrant's providers.
#
#   vm/pack_box.sh libvirt|qemu|virtualbox DISK.qcow2 KEY OUT.box
set -euo pipefail

[ $# = 4 ] || { echo 'pack_box.sh: takes a provider, a disk, a key and the box to write' >&2 && exit 1; }
provider=$1 disk=$2 key=$3 box=$4
case "$provider" in libvirt | qemu | virtualbox) ;; *) echo "pack_box.sh: $provider: no box can be packed for it" >&2 && exit 1 ;; esac
work=$(mktemp --directory -- "$box.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
bytes=$(qemu-img info --output=json "$disk" | sed -n 's/^    "virtual-size": \([0-9]*\),$/\1/p')

install -m 600 -- "$key" "$work/vagrant_private_key"
cat >"$work/Vagrantfile" <<'END'
Vagrant.configure("2") do |config|
  config.ssh.private_key_path = File.expand_path("vagrant_private_key", __dir__)
  config.ssh.insert_key = false
  config.vm.base_mac = "080027c0ffee"
end
END

case "$provider" in
    libvirt | qemu)  # the plugin vagrant-qemu takes libvirt's boxes
        qemu-img convert -c -O qcow2 -- "$disk" "$work/box.img"
        printf '{"provider": "libvirt", "format": "qcow2", "virtual_size": %d}\n' $((bytes / 2 ** 30)) >"$work/metadata.json"
        ;;
    virtualbox)
        qemu-img convert -O vmdk -o subformat=streamOptimized -- "$disk" "$work/disk.vmdk"
        printf '{"provider": "virtualbox"}\n' >"$work/metadata.json"
        sed -e "s/@CAPACITY@/$bytes/" -e "s/@FILE_SIZE@/$(stat --format=%s -- "$work/disk.vmdk")/" \
            "$(dirname "${BASH_SOURCE[0]}")/box.ovf" >"$work/box.ovf"
        ;;
esac
tar --create --owner=0 --group=0 --file "$box" --directory "$work" .
