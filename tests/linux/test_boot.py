# SPDX-License-Identifier: MIT
"""A stock kernel as transparent root on 1, 2, 4 and 8 processors, measured against the bare machine."""
import re
import time

import pytest

from machine import CPU, Machine, qemu_version
from oracle import SAME, SVM_FLAGS, bare_facts, complaints, cpu_flags, system_ram


@pytest.fixture(scope="module", params=[1, 2, 4, 8], ids=lambda n: f"{n}cpu")
def root(request, cloud_kernel):
    """A machine that all tests of one processor count share, in the order of this file"""
    smp = request.param
    facts = bare_facts(cloud_kernel, smp)
    with Machine(f"boot-{smp}cpu", cloud_kernel, smp=smp) as machine:
        machine.facts = facts
        machine.ready = machine.expect_ready()
        yield machine


def test_shell_with_all_processors(root):
    cpus, release, _ = root.ready
    assert cpus == root.smp
    assert release == (root.kernel / "release").read_text().strip()
    assert root.check("cat /sys/devices/system/cpu/online") == ("0" if root.smp == 1 else f"0-{root.smp - 1}")
    for cpu in range(root.smp):
        root.check(f"taskset -c {cpu} true")


def test_sees_the_machine_as_it_is(root):
    """Everything of SAME as on the bare machine; CPUID flags less SVM; memory less the hypervisor's"""
    different = {}
    for name, command in SAME.items():
        seen = root.check(command)
        if seen != root.facts.same[name]:
            different[name] = {"bare": root.facts.same[name], "root": seen}
    assert not different
    for cpu, (seen, bare) in enumerate(zip(cpu_flags(root), root.facts.flags, strict=True)):
        assert seen - bare == set(), f"cpu {cpu}: flags that the bare machine has not"
        if root.bare:
            assert seen == bare
        else:
            assert "svm" not in seen
            assert bare - seen <= SVM_FLAGS, f"cpu {cpu}: flags missing"
    hidden = root.facts.ram - system_ram(root)
    if not root.bare:
        limit = (16 << 20) + root.smp * (64 << 10) + (2 << 20)
        assert 0 < hidden <= limit, f"{hidden} bytes hidden from the root"


def test_timers(root):
    """Sanity bounds only: the host is busy"""
    start = time.monotonic()
    before, date, rtc, after, date2, rtc2 = root.check(
        "clock() { cut -d' ' -f1 /proc/uptime; date +%s; cat /sys/class/rtc/rtc0/since_epoch; }; "
        "clock; sleep 3; clock").split()
    host = time.monotonic() - start
    up = float(after) - float(before)
    assert 2.9 <= up <= 10, f"sleep 3 took {up} s of the root's time"
    assert 2 <= int(date2) - int(date) <= 11
    assert 1 <= int(rtc2) - int(rtc) <= 11, "the RTC and the kernel's clock went apart"
    assert host >= 2.5, f"sleep 3 took {host:.1f} s of the host's time"
    assert host <= 3 * up + 10, f"{up} s of the root's time took {host:.1f} s of the host's"

    timers = root.check("cat /proc/timer_list")
    assert len(re.findall(r"\.hres_active +: 1", timers)) == root.smp, "high resolution timers not active"
    assert len(re.findall(r"Clock Event Device: lapic", timers)) == root.smp


def test_timer_interrupts_on_each_processor(root):
    def local():
        line = root.check("grep LOC: /proc/interrupts")
        return [int(n) for n in re.findall(r"\b\d+\b", line)][:root.smp]

    before = local()
    for cpu in range(root.smp):
        root.check(f"timeout 1 taskset -c {cpu} sh -c 'while :; do :; done'; [ $? = 143 ]")
    after = local()
    assert len(after) == root.smp
    assert all(b > a for a, b in zip(before, after)), f"LOC before {before}, after {after}"
    assert root.check("grep -E '^ *(ERR|MIS):' /proc/interrupts").split()[1::2] == ["0", "0"]


def test_processors_off_and_on_fifty_times(root):
    if root.smp == 1:
        pytest.skip("one processor")
    others = root.smp - 1
    rounds = {2: 50, 4: 25}.get(root.smp, -(-50 // others))  # at least fifty times in all
    output = root.check(f"hotplug-loop {rounds}", 100 + rounds * others * 4)
    assert f"hotplug-loop {rounds} rounds" in output
    assert root.check("grep -c ^processor /proc/cpuinfo") == str(root.smp)


def test_kernel_messages(root):
    """After boot, timers and hot-plug: no complaint that the bare machine does not make"""
    new = {k: v for k, v in complaints(root).items() if k not in root.facts.complaints}
    assert not new, "kernel messages that the bare machine does not show:\n" + "\n".join(new.values())
    assert root.check("cat /proc/sys/kernel/tainted") == "0"


def test_nmi_reaches_each_processor(root):
    """The kernel's back trace of all processors goes out as NMIs"""
    root.check("dmesg -c >/dev/null; echo l >/proc/sysrq-trigger; sleep 1")
    traced = {int(n) for n in re.findall(r"NMI backtrace for cpu (\d+)", root.check("dmesg"))}
    # the processor that asks traces itself, without an NMI
    assert traced == set(range(root.smp))


def test_x2apic(cloud_kernel):
    """The same with the local APICs in x2APIC mode, where the emulator has it

    A kernel on what it takes for bare hardware wants interrupt remapping for that, so the machine has an IOMMU.
    """
    if qemu_version() < (9, 0):
        pytest.skip("this QEMU's TCG has no x2APIC")
    cpu, extra = f"{CPU},+x2apic", ["-device", "intel-iommu,intremap=on,eim=on"]
    facts = bare_facts(cloud_kernel, 4, extra, cpu=cpu)
    with Machine("boot-x2apic", cloud_kernel, smp=4, cpu=cpu, extra=extra) as machine:
        assert machine.expect_ready()[0] == 4
        machine.check("dmesg | grep 'Switched APIC routing to .*x2apic'")
        machine.check("hotplug-loop 5", 300)
        new = {k: v for k, v in complaints(machine).items() if k not in facts.complaints}
        assert not new, "\n".join(new.values())
