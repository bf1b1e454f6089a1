# SPDX-License-Identifier: MIT
"""What the bare machine shows: the measure for the root partition on Trivet.

The same kernel on the same emulated machine, booted without Trivet in the same session, says what
a warning, a clock source or a CPUID flag must look like. So the tests know no kernel's messages.
"""
import re

from machine import Machine

# Lines below the warning level count too when they have one of these words.
BAD_WORDS = re.compile(
    r"(?i)warn|\bbug\b|oops|call trace|unstable|timed?[ -]?out|\blost\b|spurious|stall|fail|\berr(or)?\b"
    r"|unable|can't|cannot|could not|hung|lockup|skew|nobody cared|unhandled|unchecked|corrupt"
    r"|mismatch|invalid|inconsistent|disabling|refused|illegal|unexpected|stuck|not respond")

# How late a busy host let the emulator run; a bare machine prints these by chance too.
HOST_TIMING = re.compile(
    r"hrtimer: interrupt took"
    r"|APIC calibration not consistent with PM-Timer"
    r"|tsc: Unable to calibrate against PIT"
    r"|tsc: PIT calibration (deviates|matches)"
    r"|clocksource: .*(wd|cs)[-_].*(read-back|retries|delay|nsec)"
    r"|clocksource: Watchdog remote CPU \d+ read timed out"
    r"|perf: interrupt took too long"
    r"|workqueue: .* hogged CPU"
    r"|tsc: Fast TSC calibration failed"
    r"|calibrate_delay_direct\(\) (failed to get a good estimate|dropping)"
    r"|hpet: Lost \d+ RTC interrupts"
    r"|^[ #\d]+$"  # the tail of the line that lists processors, when another message got in between
    r"|random: crng init done")

# A root partition that waits by MWAIT would keep its processor from children
PARTITION_FLAGS = {"monitor"}
# CPUID flags that go away with SVM: the one thing that the root is not to see
SVM_FLAGS = set("svm npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists "
                "pausefilter pfthreshold avic vgif v_vmsave_vmload v_spec_ctrl vnmi x2avic "
                "svme_addr_chk".split())
# The same for VMX, and what Linux derives from VMX's MSRs
VMX_FLAGS = set("vmx smx tpr_shadow vnmi flexpriority ept vpid ept_ad".split())


def normalise(line):
    """A kernel message without its numbers, addresses and processor lists"""
    line = re.sub(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{8,}\b", "N", line)
    line = re.sub(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b", "PCI", line)
    line = re.sub(r"\d+([.,]\d+)?", "N", line)
    return re.sub(r"N([ ,:-]+N)+", "N", line).strip()


def complaints(machine):
    """{normalised: as printed} for each kernel message that is a warning or worse, or reads like one"""
    found = {}
    for raw in machine.check("dmesg -r", 120).splitlines():
        m = re.match(r"<(\d+)>(?:\[ *\d+\.\d+\] ?)?(.*)", raw)
        if not m:
            continue
        level, text = int(m[1]) & 7, m[2]
        if re.match(r"(Kernel c|C)ommand line:", text):
            continue
        if (level <= 4 or BAD_WORDS.search(text)) and not HOST_TIMING.search(text):
            found.setdefault(normalise(text), raw)
    return found


# name -> shell command whose output must be the same on the bare machine and on Trivet
SAME = {
    "processors": "cat /sys/devices/system/cpu/online /sys/devices/system/cpu/present",
    "model": "grep -E '^(vendor_id|cpu family|model|stepping|address sizes)' /proc/cpuinfo",
    "topology": "(cd /sys/devices/system/cpu && grep . cpu[0-9]*/topology/*_list)",
    "clock source": "sed s/-early// /sys/devices/system/clocksource/clocksource0/current_clocksource",
    "clock events": "grep . /sys/devices/system/clockevents/clockevent*/current_device",
    "PCI devices": "(cd /sys/bus/pci/devices && grep . */vendor */device */class)",
    "ACPI tables": "ls -R /sys/firmware/acpi/tables",
    "MTRRs": "cat /proc/mtrr",
    "block devices": "ls /sys/block; cat /sys/block/*/size | sort -n",  # which is sda differs from boot to boot
    "interrupt lines": "awk '/IO-APIC|PCI-MSI/ { sub(/:.*/, \"\", $1); print $1, $NF }' /proc/interrupts",
    "EFI": "cat /sys/firmware/efi/fw_platform_size",
    "vulnerabilities": "grep . /sys/devices/system/cpu/vulnerabilities/*",
    "microcode": "grep -m1 microcode /proc/cpuinfo || true",
}


def cpu_flags(machine):
    """The set of CPUID flags of each processor"""
    return [set(s.split()) for s in machine.check("grep ^flags /proc/cpuinfo | cut -d: -f2").splitlines()]


def system_ram(machine):
    """Bytes that /proc/iomem calls System RAM"""
    total = 0
    for first, last in re.findall(r"(?m)^([0-9a-f]+)-([0-9a-f]+) : System RAM", machine.check("cat /proc/iomem")):
        total += int(last, 16) - int(first, 16) + 1
    return total


class Facts:
    """What one bare machine of this shape shows"""

    def __init__(self, machine):
        self.same = {name: machine.check(command) for name, command in SAME.items()}
        self.flags = cpu_flags(machine)
        self.ram = system_ram(machine)
        if machine.smp > 1:
            machine.check("hotplug-loop 1", 120)
        self.complaints = complaints(machine)


_known = {}


def bare_facts(kernel, smp, extra=(), machine_class=Machine, **more):
    """Facts of the bare machine, recorded once per session and shape"""
    key = (machine_class, str(kernel), smp, tuple(re.sub(r"file=[^,]*", "", a) for a in extra), tuple(sorted(more.items())))
    if key not in _known:
        name = f"bare-{machine_class.emulator}-{kernel.name}-{smp}cpu-{len(_known)}"
        with machine_class(name, kernel, smp=smp, bare=True, extra=extra, **more) as machine:
            machine.expect_ready()
            _known[key] = Facts(machine)
    return _known[key]
