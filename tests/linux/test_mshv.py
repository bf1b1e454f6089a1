# SPDX-License-Identifier: MIT
"""Linux 7.2 as root partition with /dev/mshv on 1, 2 and 4 processors: what it says, which of the hypervisor's paths it
takes, and whether devices, processors and power still work through hypercalls."""
import re

import pytest

from machine import BARE, ROOT_LINE, Machine
from mshv import SAID, clock_skews_ns, counters, grown, interrupts, said
from oracle import BAD_WORDS, PARTITION_FLAGS, SAME, SVM_FLAGS, bare_facts, complaints, cpu_flags

pytestmark = pytest.mark.skipif(BARE, reason="the bare machine has no interface")
DISK_MIB = 16
SECOND_100NS = 10_000_000
HOST_AWAY_NS = 1_000_000


@pytest.fixture(scope="module", params=[1, 2, 4], ids=lambda n: f"{n}cpu")
def root(request, mshv_kernel, tools, tmp_path_factory):
    """A machine that all tests of one processor count share, in the order of this file: disks by MSI-X (NVMe), by MSI
    (AHCI) and by the I/O APIC (a virtio disk without MSI-X), and a network"""
    smp, tmp = request.param, tmp_path_factory.mktemp("disks")
    extra = []
    for name, device in [("nvme", "nvme,serial=scratch"), ("ahci", "ide-hd,bus=ide.0"),
                         ("pins", "virtio-blk-pci,serial=pins,vectors=0")]:
        with open(tmp / name, "wb") as f:
            f.truncate((DISK_MIB + 8) << 20)
        extra += ["-drive", f"if=none,id={name},format=raw,file={tmp / name}", "-device", f"{device},drive={name}"]
    extra += ["-netdev", "user,id=n0,net=10.0.2.0/24", "-device", "virtio-net-pci,netdev=n0,romfile="]
    facts = bare_facts(mshv_kernel, smp, extra)
    with Machine(f"mshv-{smp}cpu", mshv_kernel, smp=smp, extra=extra, interface="hv", reboot=True,
                 files={"/remap": tools["remap"]}) as machine:
        machine.facts = facts
        machine.ready = machine.expect_ready()
        yield machine


def find_disk(root, kind):
    name = root.check({"nvme": "ls /sys/block | grep ^nvme", "ahci": "ls /sys/block | grep ^sd",
                       "pins": "grep -lx pins /sys/block/vd*/serial | cut -d/ -f4"}[kind])
    assert name and "\n" not in name
    return name


def test_root_partition_with_dev_mshv(root):
    cpus, release, _ = root.ready
    assert (cpus, release) == (root.smp, (root.kernel / "release").read_text().strip())
    assert root.check("ls -l /dev/mshv").startswith("crw")
    assert not said(root, *SAID)
    for cpu in range(root.smp):
        root.check(f"taskset -c {cpu} true")


def test_sees_the_machine(root):
    """As the bare machine is, but for the interface: its clocks and interrupt chips"""
    different = {}
    for name in ("processors", "model", "topology", "PCI devices", "ACPI tables", "MTRRs", "block devices", "EFI"):
        if (seen := root.check(SAME[name])) != root.facts.same[name]:
            different[name] = {"bare": root.facts.same[name], "root": seen}
    assert not different
    for cpu, (seen, bare) in enumerate(zip(cpu_flags(root), root.facts.flags, strict=True)):
        assert "hypervisor" in seen, f"cpu {cpu}"
        assert seen - bare <= {"hypervisor", "tsc_known_freq"}, f"cpu {cpu}: flags that the bare machine has not"
        assert bare - seen <= SVM_FLAGS | PARTITION_FLAGS, f"cpu {cpu}: flags missing"


def test_clock(root):
    """Synthetic timers in direct mode as clock events. A root prefers the TSC itself as clock source (its rating for the
    hypervisor's is low), so the TSC page and the reference counter are tried one after the other."""
    clocks = "/sys/devices/system/clocksource/clocksource0"
    # A kernel that measures its TSC calls it tsc-early for a second.
    own = root.check(f"n=0; while grep -q early {clocks}/current_clocksource && [ $n -lt 20 ]; do n=$((n + 1)); sleep 1; done; "
                     f"cat {clocks}/current_clocksource", 60)
    assert own in ("tsc", root.facts.same["clock source"]) or clock_skews_ns(root)
    assert not said(root, "Booting paravirtualized kernel on Hyper-V")
    for clock in ("hyperv_clocksource_tsc_page", "hyperv_clocksource_msr", own):
        chosen = root.check(f"echo {clock} >{clocks}/current_clocksource; cat {clocks}/current_clocksource")
        # The kernel's watchdog may have called its own unstable meanwhile: for how much, clock_skews_ns() tells test_kernel_messages.
        assert chosen == clock or clock == own and clock_skews_ns(root)
        up, rtc, up2, rtc2 = (float(n) for n in root.check(
            "clock() { cut -d' ' -f1 /proc/uptime; cat /sys/class/rtc/rtc0/since_epoch; }; clock; sleep 2; clock").split())
        assert 1.9 <= up2 - up <= 8 and abs((up2 - up) - (rtc2 - rtc)) <= 2, f"{clock}: {up} to {up2}, RTC {rtc} to {rtc2}"
    timers = root.check("cat /proc/timer_list")
    assert len(re.findall(r"Clock Event Device: Hyper-V clockevent", timers)) == root.smp
    assert len(re.findall(r"\.hres_active +: 1", timers)) == root.smp
    before = interrupts(root)["HVS"].counts
    for cpu in range(root.smp):
        root.check(f"timeout 1 taskset -c {cpu} sh -c 'while :; do :; done'; [ $? = 143 ]")
    after = interrupts(root)
    assert all(b > a for a, b in zip(before, after["HVS"].counts)), f"timer interrupts before {before}, after {after['HVS'].counts}"
    assert not any(after["LOC"].counts), "the APIC's timer ticked"


def test_statistics(root):
    """Each processor computes for a second: the counters of the hypervisor tell of it"""
    before = counters(root)
    for cpu in range(root.smp):
        root.check(f"timeout 1 taskset -c {cpu} sh -c 'while :; do :; done'; [ $? = 143 ]")
    after = counters(root)
    assert set(after) == {"hv", "partition"} | {f"{kind}{n}" for kind in ("lp", "vp") for n in range(root.smp)}
    assert after["hv"]["HvLogicalProcessors"] == root.smp
    assert after["hv"]["HvVirtualProcessors"] == root.smp
    assert after["hv"]["HvPartitions"] == 1
    assert after["partition"]["PtVirtualProcessors"] == root.smp
    for n in range(root.smp):
        ran = grown(before, after, f"vp{n}", "VpTotalRunTime")
        busy = grown(before, after, f"lp{n}", "LpTotalRunTime")
        passed = grown(before, after, f"lp{n}", "LpGlobalTime")
        # The pages are read one after the other: half a second for a busy host
        assert SECOND_100NS // 4 <= min(ran, busy) and max(ran, busy) <= passed + SECOND_100NS // 2, \
            f"vp{n} ran {ran}, lp{n} {busy} of {passed}"
        assert grown(before, after, f"lp{n}", "LpHardwareInterrupts") > 0
        assert after[f"vp{n}"]["VpHypercallsCount"] > 0


def test_interrupts_by_msi_on_each_processor(root):
    """NVMe has a queue, and an MSI-X vector, for each processor"""
    disk = find_disk(root, "nvme")
    for cpu in range(root.smp):
        before = interrupts(root)
        root.check(f"taskset -c {cpu} dd if=/dev/{disk} of=/dev/null bs=4k count=50 iflag=direct 2>/dev/null")
        after = interrupts(root)
        queues = [name for name in after if re.fullmatch(r"nvme0q[1-9]\d*", name)]
        assert all(after[name].chip.startswith("HV-PCI-MSI") for name in queues)
        assert any(after[name].counts[cpu] > before[name].counts[cpu] for name in queues), f"none on cpu {cpu}"


def line_of(root, device):
    """The interrupt of a device and a command that makes some"""
    lines = interrupts(root)
    if device == "serial":
        return lines["ttyS0"], "for n in 1 2 3 4 5 6 7 8; do echo 0123456789abcdef; done >/dev/ttyS0"
    if device == "network":
        name = next(name for name in lines if re.fullmatch(r"virtio\d+-input\.0", name))
        return lines[name], "ping -q -c 3 -i 0.1 10.0.2.2 >/dev/null"
    disk = find_disk(root, device)
    if device == "ahci":
        name = next(name for name in lines if name.startswith("ahci"))
    else:
        name = root.check(f"readlink /sys/block/{disk}/device | sed 's,.*/,,'")
    return lines[name], f"dd if=/dev/{disk} of=/dev/null bs=4k count=50 iflag=direct 2>/dev/null"


@pytest.mark.parametrize("device,chip", [("serial", "IR-IO-APIC"), ("pins", "IR-IO-APIC"),
                                         ("ahci", "HV-PCI-MSI"), ("network", "HV-PCI-MSI")])
def test_affinity(root, device, chip):
    """The interrupt of each device, sent to each processor in turn"""
    if device == "network":
        root.check("ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up")
    line, command = line_of(root, device)
    assert line.chip.startswith(chip)
    for cpu in range(root.smp):
        root.check(f"echo {cpu} >/proc/irq/{line.number}/smp_affinity_list")
        before = interrupts(root)[line.name].counts
        root.check(command)
        after = interrupts(root)[line.name].counts
        assert after[cpu] > before[cpu], f"{line.name} on cpu {cpu}: before {before}, after {after}"


def test_affinity_changes_under_load(root, web_file):
    """Disks and network at work, all processors busy, and each interrupt wanders between the processors meanwhile"""
    port, digest = web_file
    numbers = [line_of(root, device)[0].number for device in ("ahci", "pins", "network")]
    root.check(f"touch /tmp/go /tmp/going; (while [ -e /tmp/go ]; do for cpu in $(seq 0 {root.smp - 1}); do "
               f"for n in {' '.join(numbers)}; do echo $cpu >/proc/irq/$n/smp_affinity_list; done; usleep 20000; done; done; "
               f"rm /tmp/going) & true")
    for kind in ("ahci", "pins", "nvme"):
        disk = find_disk(root, kind)
        assert f"disk-check /dev/{disk} ok" in root.check(f"busy-cpus disk-check /dev/{disk} {DISK_MIB}", 200)
    got = root.check(f"busy-cpus wget -q -O /tmp/file http://10.0.2.2:{port}/file; sha256sum </tmp/file; rm /tmp/file /tmp/go",
                     240)
    assert got.split()[0] == digest
    # A move is complete with the interrupt after it; the kernel complains of one that is not when its processor goes off.
    root.check("while [ -e /tmp/going ]; do usleep 20000; done")
    for device in ("ahci", "pins", "network"):
        root.check(line_of(root, device)[1])


def test_flush_and_ipi(root):
    """By hypercalls: the kernel says so, the hypervisor counts them, and no processor sees a translation that is gone"""
    assert not said(root, "Using hypercall for remote TLB flush", "Hyper-V: Using IPI hypercalls")
    root.check("mkdir -p /tmp/esp && mount -t vfat -o ro /dev/$(grep -lx esp /sys/block/vd*/serial | cut -d/ -f4) /tmp/esp && "
               "cp /tmp/esp/remap /tmp/ && umount /tmp/esp")
    before, calls = counters(root), interrupts(root)["CAL"].counts
    assert f"remap 300 rounds, {root.smp - 1} readers ok" in root.check("/tmp/remap 300", 120)
    root.check("sleep 0.1")  # until the counters' pages are filled
    after = counters(root)
    if root.smp > 1:
        assert grown(before, after, "vp", "VpVirtualMmuHypercalls") >= 300
        root.check("hotplug-loop 1", 60)
        assert grown(before, counters(root), "vp", "VpVirtualInterruptHypercalls") > 0, f"CAL {calls}"


def test_processors_off_and_on(root):
    if root.smp == 1:
        pytest.skip("one processor")
    rounds = 20 // (root.smp - 1)
    assert f"hotplug-loop {rounds} rounds" in root.check(f"hotplug-loop {rounds}", 60 + rounds * root.smp * 4)
    assert root.check("grep -c ^processor /proc/cpuinfo") == str(root.smp)


def test_kernel_messages(root):
    """No complaint that the bare machine does not make, and none of the interface's drivers"""
    new = {k: v for k, v in complaints(root).items() if k not in root.facts.complaints}
    if skews := clock_skews_ns(root):
        # The watchdog allows for the time of two reads of its clock: with the TSC page nothing, where a host may be away
        assert max(skews) < HOST_AWAY_NS
        new = {k: v for k, v in new.items() if not re.search(r"clocksource: |Marking TSC unstable|sched_clock: ", v)}
    assert not new, "kernel messages that the bare machine does not show:\n" + "\n".join(new.values())
    bad = [s for s in root.check("dmesg | grep -iE 'hyper-?v|mshv|synic'").splitlines() if BAD_WORDS.search(s)]
    assert not bad, "\n".join(bad)
    assert root.check("cat /proc/sys/kernel/tainted") == "0"


def test_nmi_reaches_each_processor(root):
    root.check("dmesg -c >/dev/null; echo l >/proc/sysrq-trigger; sleep 1")
    traced = {int(n) for n in re.findall(r"NMI backtrace for cpu (\d+)", root.check("dmesg"))}
    assert traced == set(range(root.smp))


def test_reboot(root):
    """Through firmware and Trivet again"""
    before = len(ROOT_LINE.findall(root.log_text()))
    root.send("reboot -f\n")
    assert root.expect_ready()[0] == root.smp
    assert len(ROOT_LINE.findall(root.log_text())) > before, "the second boot did not launch Trivet"
    assert root.check("ls /dev/mshv") == "/dev/mshv"


def test_power_off(root):
    """The root asks the hypervisor: it has no other way"""
    root.send("poweroff -f\n")
    assert root.wait_exit(120) == 0
    assert "powers the machine off" in root.log_text()


def test_panic_is_logged_and_resets(mshv_kernel):
    """The kernel tells the hypervisor by the crash MSRs, and asks for a reset by the reset MSR"""
    with Machine("mshv-panic", mshv_kernel, smp=2, interface="hv", reboot=True, check_log=False) as machine:
        machine.expect_ready()
        machine.send("echo c >/proc/sysrq-trigger\n")
        assert machine.expect_ready()[0] == 2
        log = machine.log_text()
        assert len(ROOT_LINE.findall(log)) == 2
        assert re.search(r"error .*guest: .*sysrq", log), "the hypervisor's log does not tell of the panic"
