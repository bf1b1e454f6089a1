# SPDX-License-Identifier: MIT
"""Kexec, reboot, power-off, and a reset by triple fault, all from Linux."""
import re

import pytest

from machine import PANIC_LINE, ROOT_LINE, Machine

SMP = 4


@pytest.fixture(scope="module")
def root(cloud_kernel):
    with Machine("power", cloud_kernel, smp=SMP, reboot=True) as machine:
        assert machine.expect_ready()[0] == SMP
        yield machine


def launches(machine):
    return len(ROOT_LINE.findall(machine.log_text()))


def test_kexec(root):
    """A second kernel takes over, on the same hypervisor, with all processors"""
    root.check("mount -t vfat -o ro /dev/vda /mnt && "
               "kexec -s -l /mnt/vmlinuz --initrd=/mnt/initrd --reuse-cmdline && umount /mnt", 120)
    root.check("cat /proc/sys/kernel/random/boot_id >/dev/null && [ \"$(cat /sys/kernel/kexec_loaded)\" = 1 ]")
    before = launches(root)
    root.send("kexec -e\n")
    assert root.expect_ready()[0] == SMP
    assert launches(root) == before, "the machine was reset: see the hypervisor's log"
    assert "BdsDxe" not in root.console.before.decode(errors="replace"), "the machine was reset"
    root.check("hotplug-loop 1", 120)


def test_reboot(root):
    """Through firmware and Trivet again"""
    before = launches(root)
    root.send("reboot -f\n")
    assert root.expect_ready()[0] == SMP
    if not root.bare:
        assert launches(root) > before, "the second boot did not launch Trivet"


def test_power_off(root):
    root.send("poweroff -f\n")
    assert root.wait_exit(120) == 0


def test_triple_fault_resets_and_is_logged(cloud_kernel):
    """`reboot=t` makes the kernel reset by a triple fault"""
    with Machine("triple-fault", cloud_kernel, smp=2, reboot=True, cmdline="reboot=t",
                 check_log=False) as machine:
        machine.expect_ready()
        machine.send("reboot -f\n")
        assert machine.expect_ready()[0] == 2
        if not machine.bare:
            log = machine.log_text()
            assert re.search(r"error .*triple fault", log), "the log does not say why the machine was reset"
            assert len(ROOT_LINE.findall(log)) == 2
            assert not PANIC_LINE.search(log)
