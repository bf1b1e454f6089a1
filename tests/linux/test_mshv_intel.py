# SPDX-License-Identifier: MIT
"""Linux 7.2 as root partition with /dev/mshv on two Intel processors, in Bochs, with an initial RAM disk and a serial line."""
import re

import pytest

from bochs import BochsMachine
from machine import BARE
from mshv import SAID, counters, grown, interrupts, said
from oracle import BAD_WORDS, PARTITION_FLAGS, SAME, VMX_FLAGS, bare_facts, complaints, cpu_flags

pytestmark = [pytest.mark.intel, pytest.mark.slow, pytest.mark.skipif(BARE, reason="the bare machine has no interface")]
SMP = 2


@pytest.fixture(scope="module")
def root(mshv_kernel):
    facts = bare_facts(mshv_kernel, SMP, machine_class=BochsMachine)
    with BochsMachine("mshv-intel", mshv_kernel, smp=SMP, interface="hv") as machine:
        machine.facts = facts
        machine.ready = machine.expect_ready()
        yield machine


def test_root_partition_with_dev_mshv(root):
    assert root.ready[:2] == (SMP, (root.kernel / "release").read_text().strip())
    assert root.check("ls -l /dev/mshv").startswith("crw")
    assert not said(root, *SAID)
    assert all(root.check(SAME[name]) == root.facts.same[name] for name in ("processors", "model", "topology", "MTRRs"))
    for cpu, (seen, bare) in enumerate(zip(cpu_flags(root), root.facts.flags, strict=True)):
        assert "hypervisor" in seen, f"cpu {cpu}"
        # Linux turns the deadline timer off for old microcode, and leaves that to a hypervisor where there is one
        assert seen - bare <= {"hypervisor", "tsc_known_freq", "tsc_deadline_timer"}, f"cpu {cpu}: flags that the bare machine has not"
        assert bare - seen <= VMX_FLAGS | PARTITION_FLAGS, f"cpu {cpu}: flags missing"


def test_clock(root):
    clocks = "/sys/devices/system/clocksource/clocksource0"
    root.check(f"echo hyperv_clocksource_tsc_page >{clocks}/current_clocksource")
    assert root.check(f"cat {clocks}/current_clocksource") == "hyperv_clocksource_tsc_page"
    up, up2 = (float(n) for n in root.check("cut -d' ' -f1 /proc/uptime; sleep 2; cut -d' ' -f1 /proc/uptime").split())
    assert 1.9 <= up2 - up <= 4
    assert len(re.findall(r"Clock Event Device: Hyper-V clockevent", root.check("cat /proc/timer_list"))) == SMP
    before = interrupts(root)["HVS"].counts
    for cpu in range(SMP):
        root.check(f"timeout 1 taskset -c {cpu} sh -c 'while :; do :; done'; [ $? = 143 ]")
    after = interrupts(root)["HVS"].counts
    assert all(b > a for a, b in zip(before, after)), f"timer interrupts before {before}, after {after}"


def test_statistics(root):
    before = counters(root)
    root.check("timeout 1 taskset -c 1 sh -c 'while :; do :; done'; [ $? = 143 ]")
    after = counters(root)
    assert after["hv"]["HvLogicalProcessors"] == after["partition"]["PtVirtualProcessors"] == SMP
    ran, passed = grown(before, after, "vp1", "VpTotalRunTime"), grown(before, after, "lp1", "LpGlobalTime")
    assert 5_000_000 <= ran <= passed + 5_000_000, f"vp1 ran {ran} of {passed}"
    assert all(after[f"vp{n}"]["VpHypercallsCount"] > 0 for n in range(SMP))


def test_serial_line_on_each_processor(root):
    line = interrupts(root)["ttyS0"]
    assert line.chip.startswith("IR-IO-APIC")
    for cpu in range(SMP):
        root.check(f"echo {cpu} >/proc/irq/{line.number}/smp_affinity_list")
        before = interrupts(root)["ttyS0"].counts
        root.check("echo 0123456789abcdef >/dev/ttyS0")
        assert interrupts(root)["ttyS0"].counts[cpu] > before[cpu]


def test_processors_off_and_on(root):
    assert "hotplug-loop 3 rounds" in root.check("hotplug-loop 3", 200)


def test_kernel_messages(root):
    new = {k: v for k, v in complaints(root).items() if k not in root.facts.complaints}
    assert not new, "kernel messages that the bare machine does not show:\n" + "\n".join(new.values())
    bad = [s for s in root.check("dmesg | grep -iE 'hyper-?v|mshv|synic'").splitlines() if BAD_WORDS.search(s)]
    assert not bad, "\n".join(bad)


def test_power_off(root):
    root.send("poweroff -f\n")
    assert root.wait_exit(60) == 0
