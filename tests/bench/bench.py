#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Speed and size of Trivet in figures: writes build/bench.tsv (metric, value, unit) and prints it.

Exit costs are instruction counts: QEMU's -icount makes one instruction one TSC tick, as Bochs always does, so that the
figures do not depend on the machine that measures. The same guest runs bare and under Trivet; the difference is the
exit. Environment: as tests/guests/guest_machine.py and tests/linux/machine.py. CPU=intel measures the Intel back end in
Bochs, and leaves the rows of the other vendor in the table. BENCH_LINUX=0 leaves Linux out."""
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "guests"), str(HERE.parent / "linux")]

from guest_machine import OUT, QEMU, TRIVET_EFI, bochs_machine, run_guest  # noqa: E402


@dataclass(frozen=True)
class Vendor:
    exits: str  # first part of the names of the rows about exits
    others: str  # of the other rows
    emulator: str
    trivet: dict  # what run_guest gets
    bare: dict
    # What the switch to the hypervisor and back counts by itself, beyond the instruction that exits.
    switch: int
    ticks_per_ms: float


EXACT = ("-icount", "shift=0,sleep=off", "-rtc", "clock=vm,base=2026-01-01")
AMD = Vendor("svm.", "", QEMU[0], {"cpu": "EPYC,+x2apic,tcg-cpuid=off", "extra": EXACT}, {"cpu": "EPYC,-svm,+x2apic", "extra": EXACT},
             2, 1e6)
INTEL = Vendor("vmx.", "vmx.", bochs_machine.BOCHS[0], {"machine": "bochs"}, {"machine": "bochs"}, 1,
               bochs_machine.IPS / 1e3)


class Table:
    def __init__(self, vendor):
        self.vendor = vendor
        self.rows = []

    def add(self, name, value, unit):
        of_exits = name.split(".")[0] in ("exit", "hypercall", "ipi", "flush", "stimer", "hv_msr")
        prefix = self.vendor.exits if of_exits else self.vendor.others
        self.rows.append((prefix + name, value, unit))
        print(f"  {prefix + name:36} {value:>14} {unit}", flush=True)

    def write(self, path):
        """Rows of others stay: the other vendor's, and those of scripts/fuzz-bench.py and tests/sim/sim.py."""
        path.parent.mkdir(parents=True, exist_ok=True)
        old = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
        amd = self.vendor is AMD
        kept = [row for row in old if row[0].startswith(("vmx.", "fuzz.", "sched.")) and amd or not row[0].startswith("vmx.") and not amd]
        rows = self.rows + kept if self.vendor is AMD else kept + self.rows
        path.write_text("".join(f"{name}\t{value}\t{unit}\n" for name, value, unit in rows))


def metrics_of(result):
    return {m[1]: int(m[2]) for line in result.lines if (m := re.match(r"METRIC (\S+) (\d+)", line))}


def measure(vendor, trivet, efi=TRIVET_EFI, guest="bench_exits", **options):
    """The guest's metrics, name -> ticks, and its Result."""
    result = run_guest(guest, trivet, efi=efi, timeout=900, **(vendor.trivet if trivet else vendor.bare), **options)
    if not result.ended or result.with_prefix("not ok"):
        sys.exit(f"{guest} ({'Trivet' if trivet else 'bare'}) failed\n{result.report()}")
    return metrics_of(result), result


def number(log, pattern):
    found = re.search(pattern, log)
    return int(found[1]) if found else None


def exits(table, bare, trivet):
    switch = table.vendor.switch

    def extra(name):
        return trivet[name] - bare[name]

    table.add("exit.cpuid", extra("cpuid") - switch, "instructions")
    if "apic_msr.eoi" in trivet:
        worst = max(extra("apic_msr.eoi"), extra("apic_msr.icr"))
        table.add("exit.apic_msr", worst - switch, "instructions")
        for name in ("eoi", "icr", "tpr", "self_ipi"):
            table.add(f"exit.apic_msr_{name}", extra(f"apic_msr.{name}") - switch, "instructions")
    else:
        print("  (this CPU has no x2APIC: exit.apic_msr is an RDMSR of APIC_BASE)")
        table.add("exit.apic_msr", extra("rdmsr.apic_base") - switch, "instructions")
    # One delivery is one exit and one entry, or more; what lies between counts in full.
    table.add("exit.interrupt", extra("interrupt.device") - switch, "instructions")
    table.add("exit.interrupt_timer", extra("interrupt.timer") - switch, "instructions")
    table.add("exit.self_ipi_to_handler", extra("interrupt.self_ipi"), "instructions")
    for name in ("rdmsr.apic_base", "rdmsr.efer", "rdmsr.star", "apic_page.read_id", "apic_page.eoi", "apic_page.tpr",
                 "apic_page.icr", "mov_cr8"):
        cost = extra(name)
        table.add("exit." + name.replace(".", "_"), cost - switch if cost > switch else cost, "instructions")


# Of the hypervisor's interface: the guest's name for it and ours.
INTERFACE = {"hypercall.null": "hypercall.null", "hypercall.null_page": "hypercall.null_by_page",
             "hypercall.get_partition_id": "hypercall.get_partition_id", "hypercall.ipi_self": "ipi.self",
             "hypercall.ipi_8vp": "ipi.8vp", "hypercall.flush_8vp": "flush.8vp", "hv_msr.stimer_count": "stimer.set",
             "hv_msr.time_ref_count": "hv_msr.time_ref_count", "hv_msr.eoi": "hv_msr.eoi",
             "hv_msr.vp_index": "hv_msr.vp_index"}


# A tick for 32 instructions' worth of time makes QEMU's firmware start nine processors in seconds; Bochs' time is the processors' own.
COARSE, TICKS = ("-icount", "shift=5,sleep=off", "-rtc", "clock=vm,base=2026-01-01"), 32


def interface(table):
    """Alone; and with nine processors, the caller and eight that sleep, what concerns eight."""
    conf = {"root.interface": "hv"}
    alone, _ = measure(table.vendor, True, guest="bench_hv", conf=conf)
    options = {**table.vendor.trivet, **({"extra": COARSE} if table.vendor is AMD else {})}
    many = run_guest("bench_hv", True, timeout=900, smp=9, conf=conf, **options)
    if not many.ended or many.with_prefix("not ok"):
        sys.exit(f"bench_hv with nine processors failed\n{many.report()}")
    scale = TICKS if table.vendor is AMD else 1
    alone |= {name: ticks // scale for name, ticks in metrics_of(many).items() if name.endswith("_8vp")}
    for name, ours in INTERFACE.items():
        table.add(ours, alone[name] - table.vendor.switch, "instructions")


# In the marked build a VMREAD is one instruction more and a VMWRITE a hundred (vmx/vmcs.h).
READ, WRITE = 1, 100


def accesses(table, trivet, marked):
    """How many VMCS accesses each kind of exit takes."""
    for name in ("cpuid", "apic_msr.eoi", "apic_msr.icr", "apic_msr.tpr", "rdmsr.apic_base", "interrupt.device",
                 "interrupt.timer", "apic_page.eoi"):
        if name in trivet:
            count = marked[name] - trivet[name]
            row = "exit." + name.replace(".", "_")
            table.add(row + "_vmreads", count % WRITE // READ, "accesses")
            table.add(row + "_vmwrites", count // WRITE, "accesses")


def sizes(table, trivet, log):
    ticks = table.vendor.ticks_per_ms
    entry = number(log, r"loader entry tsc (\d+)")
    if entry is not None:
        table.add("boot.loader_to_root_ms", f"{(trivet['start_tsc'] - entry) / ticks:.2f}", "ms")
    launch = number(log, r"launch tsc (\d+)")
    if entry is not None and launch is not None:
        table.add("boot.loader_to_launch_ms", f"{(launch - entry) / ticks:.2f}", "ms")
    for name, pattern in (("mem.hypervisor_bytes", r"(\d+) bytes reserved"), ("mem.per_lp_bytes", r"(\d+) bytes per LP")):
        value = number(log, pattern)
        if value is not None:
            table.add(name, value, "bytes")
    table.add("size.efi_bytes", TRIVET_EFI.stat().st_size, "bytes")


def exit_table(log):
    """From each VP's last line of `exit statistics` (log level debug): cause=count pairs, summed."""
    counts = {}
    for line in dict(re.findall(r"(vp\d+): exit statistics(.*)", log)).values():
        for cause, count in re.findall(r"([A-Za-z][\w./-]*)[=:] ?(\d+)", line):
            counts[cause] = counts.get(cause, 0) + int(count)
    return sorted(counts.items(), key=lambda item: -item[1])


def linux(table):
    """Boot of the stock kernel to its shell: wall time on the same machine, and exits by cause."""
    from bochs import BochsMachine
    from machine import Machine

    kernel = Path(os.environ.get("LINUX_KERNELS", OUT / "linux")) / "cloud"
    if not (kernel / "vmlinuz").exists():
        print(f"  (no kernel in {kernel}: Linux is left out)")
        return
    # The same loader on the same disk in both: without SVM in the CPU it starts the kernel on the bare machine.
    intel = table.vendor is INTEL
    bare, trivet = ("EPYC,-svm", "EPYC")
    if intel:
        bare, trivet = bochs_machine.INTEL + ', exclude_features="vmx"', bochs_machine.INTEL
    for name, cpu in (("bare", bare), ("trivet", trivet)):
        best, log = None, ""
        for _ in range(2):
            start = time.monotonic()
            with (BochsMachine if intel else Machine)(f"bench-{name}", kernel, smp=1, cpu=cpu, bare=False,
                                                      check_log=False) as machine:
                machine.expect_ready(300)
                spent = time.monotonic() - start
                machine.send("poweroff -f\n")
                machine.wait_exit(60)
                log = machine.log_text()
            best = spent if best is None else min(best, spent)
        table.add(f"linux.boot_{name}_s", f"{best:.1f}", "s")
    counts = exit_table(log)
    for cause, count in counts:
        table.add(f"linux.boot_exits.{cause}", count, "exits")
    if counts:
        table.add("linux.boot_exits", sum(count for _, count in counts), "exits")


def main():
    vendor = INTEL if os.environ.get("CPU") == "intel" else AMD
    table = Table(vendor)
    print(f"bench: {TRIVET_EFI} on {vendor.emulator}, instruction counts (bare, then Trivet: some minutes)", flush=True)
    bare, _ = measure(vendor, False)
    trivet, result = measure(vendor, True)
    if "root: partition" not in result.log:
        sys.exit(f"Trivet did not run\n{result.report()}")
    exits(table, bare, trivet)
    interface(table)
    marked = Path(os.environ.get("MARKED_EFI", ""))
    if vendor is INTEL and marked.is_file():
        accesses(table, trivet, measure(vendor, True, marked)[0])
    sizes(table, trivet, result.log)
    if os.environ.get("BENCH_LINUX", "1") != "0":
        linux(table)
    table.write(OUT / "bench.tsv")
    print(f"bench: {OUT / 'bench.tsv'}")


if __name__ == "__main__":
    main()
