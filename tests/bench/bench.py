#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Speed and size of Trivet in figures: writes build/bench.tsv (metric, value, unit) and prints it.

Exit costs are instruction counts: QEMU's -icount makes one instruction one TSC tick, so that the figures do not
depend on the machine that measures. The same guest runs bare and under Trivet; the difference is the exit.
Environment: as tests/guests/guest_machine.py and tests/linux/machine.py. BENCH_LINUX=0 leaves Linux out."""
import os
import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "guests"), str(HERE.parent / "linux")]

from guest_machine import OUT, QEMU, TRIVET_EFI, run_guest  # noqa: E402

EXACT = ["-icount", "shift=0,sleep=off", "-rtc", "clock=vm,base=2026-01-01"]
# VMRUN and #VMEXIT themselves count as one instruction each.
SWITCH = 2


class Table:
    def __init__(self):
        self.rows = []

    def add(self, name, value, unit):
        self.rows.append((name, value, unit))
        print(f"  {name:36} {value:>14} {unit}", flush=True)

    def write(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\t{value}\t{unit}\n" for name, value, unit in self.rows))


def measure(trivet):
    """The guest's metrics, name -> ticks, and its Result."""
    cpu = ("EPYC" if trivet else "EPYC,-svm") + ",+x2apic"
    result = run_guest("bench_exits", trivet, cpu=cpu, timeout=900, extra=EXACT)
    if not result.ended or result.with_prefix("not ok"):
        sys.exit(f"bench_exits ({'Trivet' if trivet else 'bare'}) failed\n{result.report()}")
    return {m[1]: int(m[2]) for line in result.lines if (m := re.match(r"METRIC (\S+) (\d+)", line))}, result


def number(log, pattern):
    found = re.search(pattern, log)
    return int(found[1]) if found else None


def exits(table, bare, trivet):
    def extra(name):
        return trivet[name] - bare[name]

    table.add("svm.exit.cpuid", extra("cpuid") - SWITCH, "instructions")
    if "apic_msr.eoi" in trivet:
        worst = max(extra("apic_msr.eoi"), extra("apic_msr.icr"))
        table.add("svm.exit.apic_msr", worst - SWITCH, "instructions")
        for name in ("eoi", "icr", "tpr", "self_ipi"):
            table.add(f"svm.exit.apic_msr_{name}", extra(f"apic_msr.{name}") - SWITCH, "instructions")
    else:
        print("  (this QEMU has no x2APIC: svm.exit.apic_msr is an RDMSR of APIC_BASE)")
        table.add("svm.exit.apic_msr", extra("rdmsr.apic_base") - SWITCH, "instructions")
    # One delivery is one exit and one entry, or more; what lies between counts in full.
    table.add("svm.exit.interrupt", extra("interrupt.device") - SWITCH, "instructions")
    table.add("svm.exit.interrupt_timer", extra("interrupt.timer") - SWITCH, "instructions")
    table.add("svm.exit.self_ipi_to_handler", extra("interrupt.self_ipi"), "instructions")
    for name in ("rdmsr.apic_base", "rdmsr.efer", "rdmsr.star", "apic_page.read_id", "apic_page.eoi", "apic_page.tpr",
                 "apic_page.icr", "mov_cr8"):
        cost = extra(name)
        table.add("svm.exit." + name.replace(".", "_"), cost - SWITCH if cost > SWITCH else cost, "instructions")


def sizes(table, trivet, log):
    entry = number(log, r"loader entry tsc (\d+)")
    if entry is not None:
        table.add("boot.loader_to_root_ms", f"{(trivet['start_tsc'] - entry) / 1e6:.2f}", "ms")
    launch = number(log, r"launch tsc (\d+)")
    if entry is not None and launch is not None:
        table.add("boot.loader_to_launch_ms", f"{(launch - entry) / 1e6:.2f}", "ms")
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
    from machine import Machine

    kernel = Path(os.environ.get("LINUX_KERNELS", OUT / "linux")) / "cloud"
    if not (kernel / "vmlinuz").exists():
        print(f"  (no kernel in {kernel}: Linux is left out)")
        return
    # The same loader on the same disk in both: without SVM in the CPU it starts the kernel on the bare machine.
    for name, cpu in (("bare", "EPYC,-svm"), ("trivet", "EPYC")):
        best, log = None, ""
        for _ in range(2):
            start = time.monotonic()
            with Machine(f"bench-{name}", kernel, smp=1, cpu=cpu, bare=False, check_log=False) as machine:
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
    table = Table()
    print(f"bench: {TRIVET_EFI} on {QEMU[0]}, instruction counts (bare, then Trivet: some minutes)", flush=True)
    bare, _ = measure(False)
    trivet, result = measure(True)
    if "root: partition" not in result.log:
        sys.exit(f"Trivet did not run\n{result.report()}")
    exits(table, bare, trivet)
    sizes(table, trivet, result.log)
    if os.environ.get("BENCH_LINUX", "1") != "0":
        linux(table)
    table.write(OUT / "bench.tsv")
    print(f"bench: {OUT / 'bench.tsv'}")


if __name__ == "__main__":
    main()
