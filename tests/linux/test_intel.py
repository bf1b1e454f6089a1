# SPDX-License-Identifier: MIT
"""A stock kernel as transparent root on an Intel processor, in Bochs, measured against the bare machine there.

Bochs' clock counts instructions, so its times do not depend on how busy the host is."""
import hashlib
import random
import re

import pytest

from bochs import BochsMachine
from machine import CYLINDER, ROOT_LINE
from oracle import SAME, VMX_FLAGS, bare_facts, complaints, cpu_flags, system_ram

pytestmark = [pytest.mark.intel, pytest.mark.slow]
DISK_BYTES = 8 * CYLINDER


def pattern(seed):
    return random.Random(seed).randbytes(DISK_BYTES)


@pytest.fixture(scope="module", params=[1, 2], ids=lambda n: f"{n}cpu")
def root(request, cloud_kernel, tmp_path_factory):
    """A machine that all tests of one processor count share, in the order of this file"""
    smp = request.param
    disk = tmp_path_factory.mktemp("disk") / "second"
    disk.write_bytes(pattern(1))
    facts = bare_facts(cloud_kernel, smp, machine_class=BochsMachine, disk=disk)
    with BochsMachine(f"intel-{smp}cpu", cloud_kernel, smp=smp, disk=disk, reboot=True) as machine:
        machine.facts = facts
        machine.ready = machine.expect_ready()
        yield machine


def test_shell_with_all_processors(root):
    assert root.ready[0] == root.smp
    assert root.check("cat /sys/devices/system/cpu/online") == ("0" if root.smp == 1 else f"0-{root.smp - 1}")
    for cpu in range(root.smp):
        root.check(f"taskset -c {cpu} true")


def without_vmx(name, text):
    """What the kernel says of a vulnerability that only a hypervisor's guests have depends on VMX."""
    return re.sub(r"(KVM|VMX): .*", "", text) if name == "vulnerabilities" else text


def test_sees_the_machine_as_it_is(root):
    different = {}
    for name, command in SAME.items():
        seen, bare = without_vmx(name, root.check(command)), without_vmx(name, root.facts.same[name])
        if seen != bare:
            different[name] = {"bare": bare, "root": seen}
    assert not different
    for cpu, (seen, bare) in enumerate(zip(cpu_flags(root), root.facts.flags, strict=True)):
        assert seen - bare == set(), f"cpu {cpu}: flags that the bare machine has not"
        if root.bare:
            assert "vmx" in seen
        else:
            assert "vmx" not in seen
            assert bare - seen <= VMX_FLAGS, f"cpu {cpu}: flags missing"
    hidden = root.facts.ram - system_ram(root)
    if not root.bare:
        assert 0 < hidden <= (16 << 20) + root.smp * (64 << 10) + (2 << 20), f"{hidden} bytes hidden from the root"


def test_clocks_agree(root):
    before, date, rtc, after, date2, rtc2 = root.check(
        "clock() { cut -d' ' -f1 /proc/uptime; date +%s; cat /sys/class/rtc/rtc0/since_epoch; }; "
        "clock; sleep 3; clock").split()
    assert 2.9 <= float(after) - float(before) <= 5, f"sleep 3 from {before} to {after}"
    assert 2 <= int(date2) - int(date) <= 6
    assert 2 <= int(rtc2) - int(rtc) <= 6, "the RTC and the kernel's clock went apart"


def test_timer_interrupts_on_each_processor(root):
    def local():
        return [int(n) for n in re.findall(r"\b\d+\b", root.check("grep LOC: /proc/interrupts"))][:root.smp]

    before = local()
    for cpu in range(root.smp):
        root.check(f"timeout 1 taskset -c {cpu} sh -c 'while :; do :; done'; [ $? = 143 ]")
    after = local()
    assert len(after) == root.smp
    assert all(b > a for a, b in zip(before, after)), f"LOC before {before}, after {after}"


def test_disk(root):
    """Reads what the host wrote, writes what the host reads"""
    # No disk's name is certain: it is the one of this size
    name = root.check(f"grep -lx {DISK_BYTES // 512} /sys/block/sd*/size | cut -d/ -f4")
    assert re.fullmatch(r"sd[a-z]", name), name
    assert root.check(f"sha256sum </dev/{name}", 120).split()[0] == hashlib.sha256(pattern(1)).hexdigest()
    half = DISK_BYTES // 2
    root.check(f"dd if=/dev/{name} bs={half} count=1 2>/dev/null | tr '\\000-\\377' '\\001-\\377\\000' >/tmp/next && "
               f"dd if=/tmp/next of=/dev/{name} bs={half} seek=1 conv=fsync 2>/dev/null && rm /tmp/next", 240)
    data = root.disk.read_bytes()
    assert data[:half] == pattern(1)[:half], "the first half was written to"
    assert data[half:] == bytes(b + 1 & 255 for b in data[:half]), "the second half is not what the root wrote"


def test_processors_off_and_on(root):
    if root.smp == 1:
        pytest.skip("one processor")
    assert "hotplug-loop 5 rounds" in root.check("hotplug-loop 5", 200)


def test_kernel_messages(root):
    new = {k: v for k, v in complaints(root).items() if k not in root.facts.complaints}
    assert not new, "kernel messages that the bare machine does not show:\n" + "\n".join(new.values())
    assert root.check("cat /proc/sys/kernel/tainted") == "0"


def test_reboot(root):
    """Through firmware and Trivet again"""
    before = len(ROOT_LINE.findall(root.log_text()))
    root.send("reboot -f\n")
    assert root.expect_ready()[0] == root.smp
    if not root.bare:
        assert len(ROOT_LINE.findall(root.log_text())) > before, "the second boot did not launch Trivet"


def test_power_off(root):
    root.send("poweroff -f\n")
    assert root.wait_exit(60) == 0
