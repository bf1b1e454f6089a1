# SPDX-License-Identifier: MIT
"""Bare-metal guests, each on the bare machine (the oracle) and as Trivet's root image.

    /usr/bin/python3 -m pytest tests/guests -k 'xapic and trivet' -m intel

One source of each guest for both vendors: AMD in QEMU, Intel in Bochs; and those that don't depend on interrupts once
more on Bochs' AMD processor, whose SVM has features that QEMU's lacks. TRIVET_BARE=1 leaves Trivet out. Other variables: guest_machine.py. Guests: test_*.c beside this file."""
import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest

from guest_machine import EXIT_GOOD, TIMED_OUT, TRIVET_EFI, WAS_RESET, bochs_machine, run_guest

BARE_ONLY = bool(os.environ.get("TRIVET_BARE"))


@dataclass(frozen=True)
class Guest:
    name: str
    smp: int = 1
    least: int = 1  # results that the guest must give, so that an empty run is no success
    cpu: str = ""  # features added to the model
    machine: str = "qemu"
    model: str = "EPYC"
    conf: tuple = ()  # more lines for trivet.conf
    timeout: int = 120
    extra: tuple = ()  # QEMU arguments, lines for Bochs' configuration
    compare: str = ""  # prefix of lines that must be the same on both sides

    @property
    def id(self):
        return self.name + (f"-{self.model}" if self.model != "EPYC" else "") + (f"-{self.smp}" if self.smp > 1 else "")

    @property
    def is_amd(self):
        return self.model in ("EPYC", "max", bochs_machine.AMD)

    @property
    def marks(self):
        return pytest.mark.amd if self.is_amd else pytest.mark.intel


# Memory behind a PCI BAR far above the RAM; the host gives pages of it only where it is touched.
DEVICE_MEMORY = ("-object", "memory-backend-ram,id=far,size=8G,reserve=off",
                 "-device", "ivshmem-plain,memdev=far")

ON_AMD = [
    Guest("cpuid", least=19, compare="CPUID "),
    Guest("cpuid", least=19, smp=4, compare="CPUID "),
    Guest("cpuid", least=19, model="max", compare="CPUID "),
    Guest("msr", least=30, compare="MSR "),
    Guest("cr", least=47, compare="CR "),
    Guest("mtrr", least=37, compare="MTRR "),
    Guest("portio", least=19),
    Guest("xapic", least=80),
    Guest("x2apic", least=15, smp=2, cpu=",+x2apic"),
    Guest("apic_timer", least=29),
    Guest("ipi", least=40, smp=4),
    Guest("ipi", least=4, smp=2),
    Guest("smp", least=18, smp=4, timeout=240),
    Guest("reinject", least=24, extra=DEVICE_MEMORY),
    Guest("shadow", least=23),
    Guest("shadow", least=26, smp=2),
    Guest("world_switch", least=3, smp=2),
    Guest("virt_insns", least=51),
    Guest("hvmem", least=1),
    Guest("hvmem", least=1, conf=(("memory", "16M"),), smp=2),
    Guest("smc", least=7),
    Guest("exits", least=19, timeout=240),
    Guest("modes", least=20),
    Guest("task_switch", least=140),
]
# Bochs has one device less for `reinject`, and no reason to emulate four processors where two will do. With more than one it lets a
# virtual interrupt into the shadow of STI without an exit between (docs/hacking.md).
ON_INTEL = [
    replace(guest, machine="bochs", model=bochs_machine.INTEL, cpu="", smp=2 if guest.name == "cpuid" and guest.smp > 1
            else guest.smp, extra=(), least=19 if guest.name == "reinject" else guest.least, timeout=240)
    for guest in ON_AMD if guest.model == "EPYC" and not (guest.name in ("ipi", "shadow") and guest.smp == 2)
]
# Less (no APIC virtualization, no x2APIC, no XSAVE) and more (PML, XSAVES, TSC scaling, but no APIC virtualization).
ON_INTEL += [replace(guest, model=model, least=guest.least - 2)  # no XSAVE, no AVX
             for model in ("corei5_arrandale_m520", "corei3_cnl") for guest in ON_INTEL
             if guest.name in ("cpuid", "msr", "cr", "exits", "apic_timer") and guest.smp == 1]
# NRIP save, flush-by-ASID and pause filter; its interrupts are lost while the guest's are off (Bochs 3.0).
ON_AMD_IN_BOCHS = [
    replace(guest, machine="bochs", model=bochs_machine.AMD, timeout=240) for guest in ON_AMD
    if guest.id in ("cpuid", "msr", "cr", "mtrr", "virt_insns", "hvmem", "smc")
]
GUESTS = ON_AMD + ON_AMD_IN_BOCHS + ON_INTEL
# The hypervisor's interface (TLFS): there is no bare machine that has it.
HV = (("root.interface", "hv"),)
TLFS = [
    Guest("tlfs_calls", least=199, conf=HV, timeout=240),
    Guest("tlfs_synic", least=142, conf=HV, timeout=240),
    Guest("tlfs_state", least=223, conf=HV, timeout=240),
    Guest("tlfs_vp_registers", least=114, conf=HV, timeout=240),
    Guest("tlfs_smp", least=91, smp=4, conf=HV, timeout=240),
]
TLFS += [replace(guest, machine="bochs", model=bochs_machine.INTEL, smp=min(guest.smp, 2), least=min(guest.least, 89)
                 if guest.smp > 1 else guest.least) for guest in TLFS]
# Without APIC virtualization the local APIC is a model, and lazy EOI has something to save.
TLFS += [replace(guest, model="corei5_arrandale_m520") for guest in TLFS
         if guest.model == bochs_machine.INTEL and guest.name in ("tlfs_synic", "tlfs_state")]
MODELS = pytest.mark.parametrize("model", [pytest.param("EPYC", marks=pytest.mark.amd),
                                           pytest.param(bochs_machine.INTEL, marks=pytest.mark.intel)])
SIDES = ["bare"] if BARE_ONLY else ["bare", "trivet"]


def each(guests):
    return [pytest.param(guest, id=guest.id, marks=guest.marks) for guest in guests]


def find(name, model):
    return next(guest for guest in GUESTS if guest.name == name and guest.model == model)


def cpu_of(guest, side):
    """Without SVM, QEMU's `max` may lose the leaves behind the SVM leaf; a root keeps them, empty."""
    if side == "trivet" or guest.machine == "bochs":
        return guest.model + guest.cpu
    xlevel = ""
    if guest.model == "max" and guest.compare and not BARE_ONLY:
        last = re.search(r"CPUID 80000000 00: ([0-9a-f]{8})", "\n".join(run(guest, "trivet").lines))
        xlevel = f",xlevel=0x{last[1]}" if last else ""
    return guest.model + ",-svm" + xlevel + guest.cpu


@lru_cache(maxsize=None)
def run(guest, side):
    trivet = side == "trivet"
    if trivet and not TRIVET_EFI.exists():
        pytest.fail(f"{TRIVET_EFI} is missing: build it, or set TRIVET_BARE=1")
    return run_guest(f"test_{guest.name}", trivet, machine=guest.machine, cpu=cpu_of(guest, side), smp=guest.smp,
                     conf=dict(guest.conf), timeout=guest.timeout, extra=guest.extra)


def check_trivet(result):
    """The hypervisor ran, and nothing it says is about a failure of its own."""
    # The firmware's console is on COM2 too, so that text alone proves nothing.
    assert re.search(r"root: partition|root partition", result.log), f"no hypervisor log on COM2\n{result.report()}"
    assert "can't run here" not in result.console, result.report()
    assert "panic" not in result.log.lower(), result.report()


def check_tap(result, least):
    assert result.status != TIMED_OUT, f"timed out\n{result.report()}"
    assert result.started and result.ended, f"did not get to its end\n{result.report()}"
    if result.skipped is not None:
        pytest.skip(result.skipped)
    failed = result.with_prefix("not ok") + result.with_prefix("Bail out")
    notes = "\n".join(result.with_prefix("# "))
    assert not failed, "\n".join(failed) + f"\n{notes}\n{result.report()}"
    assert result.plan == len(result.with_prefix("ok ")), result.report()
    assert result.plan >= least, result.report()
    assert result.status == EXIT_GOOD, result.report()


@pytest.mark.skipif(BARE_ONLY, reason="TRIVET_BARE is set")
@pytest.mark.parametrize("guest", each(TLFS))
def test_conformance(guest):
    """Chapter by chapter what the TLFS says of the interface: tests/guests/tlfs."""
    result = run(guest, "trivet")
    check_trivet(result)
    assert result.skipped is None, result.report()
    check_tap(result, guest.least)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("guest", each(GUESTS))
def test_guest(guest, side):
    if guest.name == "x2apic" and side == "bare" and guest.machine == "qemu":
        pytest.skip("QEMU's own x2APIC raises no #GP for what the manuals forbid: no oracle")
    result = run(guest, side)
    if side == "trivet":
        check_trivet(result)
    check_tap(result, 1 if guest.name == "hvmem" and side == "bare" else guest.least)


# Memory encryption is not offered under nested paging: its leaf is empty for an AMD root, whatever the CPU says. So is
# SVM's, which Bochs' processor keeps without SVM too.
HIDDEN_ON_AMD = re.compile(r"(CPUID (?:8000001f|8000000a) 00:).*")


@pytest.mark.skipif(BARE_ONLY, reason="TRIVET_BARE is set")
@pytest.mark.parametrize("guest", each(g for g in GUESTS if g.compare))
def test_same_view(guest):
    """The root sees what a processor of the same model without SVM or VMX shows."""
    bare, trivet = (run(guest, side).with_prefix(guest.compare) for side in ("bare", "trivet"))
    assert len(bare) >= 30
    if guest.is_amd:
        bare = [HIDDEN_ON_AMD.sub(r"\1 00000000 00000000 00000000 00000000", line) for line in bare]
    differences = [f"bare   {b}\ntrivet {t}" for b, t in zip(bare, trivet) if b != t]
    assert not differences, "\n".join(differences)
    assert len(bare) == len(trivet)


@pytest.mark.skipif(BARE_ONLY, reason="TRIVET_BARE is set")
@MODELS
def test_same_timer_rate(model):
    """The root's APIC timer runs as fast as the machine's: the guest alone only knows that its rates fit together."""
    guest = find("apic_timer", model)
    bare, trivet = (int(re.search(r"timer runs at (\d+) kHz", "\n".join(run(guest, side).lines))[1])
                    for side in ("bare", "trivet"))
    assert 0.8 < trivet / bare < 1.25, f"{bare} kHz bare, {trivet} kHz under Trivet"


@pytest.mark.skipif(BARE_ONLY, reason="TRIVET_BARE is set")
@MODELS
def test_hypervisor_memory_is_logged(model):
    """Touching the hypervisor's memory leaves a line in its log that names an address within."""
    log = run(find("hvmem", model), "trivet").log
    block = re.search(r"hypervisor memory 0x([0-9a-f]+)-0x([0-9a-f]+)", log)
    assert block, f"the log does not name the hypervisor's memory:\n{log[-3000:]}"
    first, last = (int(block[i], 16) for i in (1, 2))
    after = log[block.end():]
    touched = [a for a in re.findall(r"\b(?:0x)?([0-9a-f]{6,16})\b", after) if first <= int(a, 16) < last]
    assert touched, f"no line about the access:\n{log[-3000:]}"


@pytest.mark.skipif(BARE_ONLY, reason="TRIVET_BARE is set")
@MODELS
def test_log_port_is_the_hypervisors(model):
    """What the root writes to the hypervisor's serial port does not get out."""
    log = run(find("portio", model), "trivet").log
    assert "root: partition" in log and "INTRUDER" not in log


def ends_by_reset(name, model, side, smp=1):
    """QEMU (-no-reboot) ends when the machine resets; in Bochs the log tells."""
    guest = replace(find("cpuid", model), name=name, compare="")
    result = run_guest(f"test_{name}", side == "trivet", machine=guest.machine, cpu=cpu_of(guest, side), smp=smp,
                       timeout=60)
    assert result.started, result.report()
    assert result.status == WAS_RESET and not result.ended, result.report()
    return result


@MODELS
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("smp", [1, 2])
def test_triple_fault(side, smp, model):
    """A triple fault resets the machine; Trivet says so first, and does not call it its own failure."""
    result = ends_by_reset("tfault", model, side, smp)
    if side == "trivet":
        check_trivet(result)
        assert re.search(r"triple fault|shutdown", result.log, re.I), result.report()


@MODELS
@pytest.mark.parametrize("side", SIDES)
def test_reset(side, model):
    """A reset through the chip set works with the hypervisor below."""
    result = ends_by_reset("reset", model, side, 2)
    if side == "trivet":
        check_trivet(result)
