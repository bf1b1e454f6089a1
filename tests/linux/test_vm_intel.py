# SPDX-License-Identifier: MIT
"""Child partitions on an Intel processor, in Bochs: stock QEMU -accel mshv in the root boots stock Debian kernels (test_vm.py does more
with them, on AMD), and guests that mean harm end without a trace. TRIVET_VM_SMP=2: the root has two processors."""
import os

import pytest

from bochs import BochsMachine
from machine import BARE
from mshv import Ends, counters
from vm import BOOT_S, TROUBLE, Guest, NamedGuest, is_sound

pytestmark = [pytest.mark.intel, pytest.mark.slow, pytest.mark.skipif(BARE, reason="the bare machine has no interface")]
SMP = int(os.environ.get("TRIVET_VM_SMP", "1"))


@pytest.fixture(scope="module")
def host(mshv_kernel, vm_disk, vm_files):
    """The root partition with the disk of guests, and our own guest in /tmp/guest"""
    with BochsMachine("vm-intel", mshv_kernel, smp=SMP, mem=640, interface="hv", log_level="debug", vm_disk=vm_disk,
                      files=vm_files) as machine:
        machine.expect_ready()
        machine.check("mkdir -p /tmp/esp /tmp/guest && mount -t vfat -o ro /dev/sda /tmp/esp && cp /tmp/esp/guest/* /tmp/guest/ && "
                      "umount /tmp/esp")
        yield machine


@pytest.fixture(scope="module")
def log_of_ends(host):
    return Ends(host)


@pytest.fixture(autouse=True)
def every_page_comes_back(host, log_of_ends):
    yield
    if not host.dead:
        log_of_ends.check()


@pytest.mark.parametrize("version,processors", [("6.1", 1), ("7.2", 2)])
def test_boots(host, version, processors):
    """To its shell, and off"""
    with Guest(host, f"-k {version} -c {processors} -m 160") as guest:
        is_sound(guest, version, processors)
        assert guest.power_off() == 0


# What hostile.c does, and whether it comes to an end
@pytest.mark.parametrize("deed,ends", [("triple", False), ("msrs", True), ("hypercalls", True), ("memory", True), ("execute", False)])
def test_hostile_guest(host, deed, ends):
    bad = NamedGuest(host, "bad", f"-m 64 -k /tmp/guest/hostile -x {deed}")
    try:
        bad.wait_for(f"HOSTILE {deed} " + ("done [1-9]" if ends else "begins"), BOOT_S)
        host.check("true")
    finally:
        bad.stop("KILL")
    assert counters(host)["hv"]["HvPartitions"] == 1


def test_root_says_nothing(host):
    assert not host.run(f"dmesg | grep -viE 'clocksource|perf: interrupt took' | grep -E '{TROUBLE}'")[0]
