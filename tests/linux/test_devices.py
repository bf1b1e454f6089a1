# SPDX-License-Identifier: MIT
"""Disks and network of the root while all its processors are busy, on Debian's general kernel."""
import pytest

from machine import Machine
from oracle import bare_facts, complaints

SMP = 4
DISK_MIB = 64


def disk(path):
    with open(path, "wb") as f:
        f.truncate((DISK_MIB + 8) << 20)
    return path


@pytest.fixture(scope="module")
def root(general_kernel, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("disks")
    extra = [
        "-drive", f"if=none,id=d0,format=raw,file={disk(tmp / 'virtio')}",
        "-device", "virtio-blk-pci,drive=d0,serial=scratch",
        "-drive", f"if=none,id=d1,format=raw,file={disk(tmp / 'nvme')}",
        "-device", "nvme,drive=d1,serial=scratch",
        "-drive", f"if=none,id=d2,format=raw,file={disk(tmp / 'ahci')}",
        "-device", "ide-hd,drive=d2,bus=ide.0",
        "-netdev", "user,id=n0,net=10.0.2.0/24", "-device", "virtio-net-pci,netdev=n0",
        "-netdev", "user,id=n1,net=10.0.3.0/24", "-device", "e1000e,netdev=n1",
        "-device", "virtio-rng-pci", "-vga", "std",
    ]
    facts = bare_facts(general_kernel, SMP, extra)
    with Machine("devices", general_kernel, smp=SMP, extra=extra) as machine:
        machine.facts = facts
        assert machine.expect_ready()[0] == SMP
        yield machine


@pytest.mark.parametrize("kind", ["virtio", "nvme", "ahci"])
def test_disk(root, kind):
    find = {"virtio": "grep -lx scratch /sys/block/vd*/serial | cut -d/ -f4",
            "nvme": "ls /sys/block | grep ^nvme", "ahci": "ls /sys/block | grep ^sd"}[kind]
    name = root.check(find)
    assert name and "\n" not in name
    assert f"disk-check /dev/{name} ok" in root.check(f"busy-cpus disk-check /dev/{name} {DISK_MIB}", 300)


@pytest.mark.parametrize("driver,subnet", [("virtio_net", "10.0.2"), ("e1000e", "10.0.3")])
def test_network(root, web_file, driver, subnet):
    port, digest = web_file
    name = root.check(f"for d in /sys/class/net/*; do "
                      f"[ -d $d/device/driver/module ] && readlink $d/device/driver/module | grep -q /{driver}$ "
                      f"&& basename $d; done; true")
    assert name and "\n" not in name, f"no interface of {driver}: {name!r}"
    root.check(f"ip addr add {subnet}.15/24 dev {name} && ip link set {name} up")
    root.check(f"n=0; until [ \"$(cat /sys/class/net/{name}/carrier)\" = 1 ] || [ $n -gt 100 ]; "
               f"do n=$((n + 1)); usleep 100000; done; true")
    got = root.check(f"busy-cpus wget -q -O /tmp/file http://{subnet}.2:{port}/file; "
                     f"sha256sum </tmp/file; rm /tmp/file", 240)
    assert got.split()[0] == digest


def test_kernel_messages(root):
    new = {k: v for k, v in complaints(root).items() if k not in root.facts.complaints}
    assert not new, "kernel messages that the bare machine does not show:\n" + "\n".join(new.values())
