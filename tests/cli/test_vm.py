"""The virtual machine's files, as far as they can be judged without booting one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.paths import ROOT

PROVIDERS = ("virtualbox", "libvirt", "vmware_desktop", "parallels", "qemu")


def vagrant(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    assert shutil.which("vagrant"), "vagrant is missing: run ./provision.sh --tests"
    return subprocess.run(
        ["vagrant", *arguments],
        cwd=ROOT,
        env={**os.environ, "VAGRANT_HOME": str(home), "VAGRANT_DOTFILE_PATH": str(home / "dot"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_vagrant_validates_the_vagrantfile(tmp_path: Path) -> None:
    done = vagrant("validate", "--ignore-provider", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Vagrantfile validated successfully." in done.stdout


def test_every_knob_of_the_vagrantfile_is_one(tmp_path: Path) -> None:
    knobs = {"NETKV_BOX": "mine", "NETKV_BOX_URL": "file:///none.box", "NETKV_CPUS": "2", "NETKV_MEMORY": "3000"}
    done = vagrant("validate", "--ignore-provider", home=tmp_path, NETKV_SYNC="rsync", NETKV_EMULATE="1", **knobs)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_knob_that_is_no_number_is_refused(tmp_path: Path) -> None:
    done = vagrant("validate", "--ignore-provider", home=tmp_path, NETKV_MEMORY="much")
    assert done.returncode != 0
    assert 'invalid value for Integer(): "much"' in done.stdout + done.stderr


def test_every_provider_is_configured_and_provisioned_by_the_one_script() -> None:
    text = (ROOT / "Vagrantfile").read_text()
    assert all(f'config.vm.provider "{name}"' in text for name in PROVIDERS)
    assert "vm/guest.sh" in text
    assert "apt-get" not in text
    guest = (ROOT / "vm/guest.sh").read_text()
    assert "./provision.sh" in guest
    assert "apt-get" not in guest


@pytest.mark.parametrize("name", ["build_box.sh", "guest.sh", "pack_box.sh", "vagrant_smoke.sh"])
def test_the_scripts_are_bash(name: str) -> None:
    assert os.access(ROOT / "vm" / name, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / "vm" / name], check=True)


def test_a_box_cannot_be_built_for_just_any_provider(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "vm/pack_box.sh", "hyperv", tmp_path / "disk", tmp_path / "key", tmp_path / "box"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "pack_box.sh: hyperv: no box can be packed for it\n"
    assert not list(tmp_path.iterdir())


def test_the_virtual_hardware_of_the_virtualbox_box_hangs_together() -> None:
    text = (ROOT / "vm/box.ovf").read_text().replace("@CAPACITY@", "1").replace("@FILE_SIZE@", "2")
    ovf = "{http://schemas.dmtf.org/ovf/envelope/1}"
    tree = ElementTree.fromstring(text)
    (file,) = tree.iter(f"{ovf}File")
    (disk,) = tree.iter(f"{ovf}Disk")
    assert disk.get(f"{ovf}fileRef") == file.get(f"{ovf}id")
    assert (disk.get(f"{ovf}capacity"), file.get(f"{ovf}size"), file.get(f"{ovf}href")) == ("1", "2", "disk.vmdk")
    assert f"/disk/{disk.get(f'{ovf}diskId')}" in text
    assert "disk.vmdk" in (ROOT / "vm/pack_box.sh").read_text()
