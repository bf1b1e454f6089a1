#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a child's exits cost the hypervisor: its own instructions between a VM exit and the next entry, without those of the root and its
monitor, into build/bench.tsv.

Linux 7.2 as root on one processor runs tests/bench/bench_child.c in a child, on a build that counts (include/trivet/count.h); one
tick is one instruction, as in bench.py. CPU=intel measures the Intel back end. Environment: as bench.py; COUNTED_EFI; TRIVET_OUT/vmm."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "guests"), str(HERE.parent / "linux")]
if os.environ.get("COUNTED_EFI"):
    os.environ["TRIVET_EFI"] = os.environ["COUNTED_EFI"]

from bochs import BochsMachine  # noqa: E402
from guest_machine import GUESTS, OUT  # noqa: E402
from machine import TOP, Machine  # noqa: E402

KERNEL = Path(os.environ.get("LINUX_KERNELS", OUT / "linux")) / "mshv"
EXACT = ["-icount", "shift=0,sleep=off", "-rtc", "clock=vm,base=2026-01-01"]
# Instructions of an exit that lie outside the two clock readings, without those of the counting between them (<trivet/count.inc>): the
# registers stored and loaded, and what enters and leaves (enter.asm).
OUTSIDE = {"svm": 36, "vmx": 29}
# The row's name, what bench_child.c calls it.
ROWS = (("child.cpuid", "child.cpuid"), ("child.hypercall_null", "child.hypercall_null"), ("child.rdmsr", "child.rdmsr_apic_base"),
        ("child.apic_page_read", "child.apic_page_read"), ("child.doorbell", "child.doorbell"), ("vmm.pio", "vmm.out"),
        ("vmm.pio_in", "vmm.in"), ("vmm.unmapped_store", "vmm.unmapped_store"), ("child.fault", "child.fault"),
        ("child.fault_2mib", "child.fault_2mib"))
PAGE = 4096


def make_kernel(folder):
    """A kernel's directory with an initial RAM disk that has monitor and guest"""
    children = folder / "initrd" / "children"
    children.mkdir(parents=True)
    shutil.copy(OUT / "vmm" / "mshv-bench", children)
    shutil.copy(GUESTS / "bench_child.efi", children)
    kernel = folder / "kernel"
    kernel.mkdir()
    for name in ("vmlinuz", "package", "release"):
        (kernel / name).symlink_to(KERNEL / name)
    subprocess.run([TOP / "scripts" / "make-initramfs.sh", kernel, folder / "initrd"], check=True)
    return kernel


def measure(machine, vps):
    output = machine.check(f"/children/mshv-bench /children/bench_child.efi {vps}", 300)
    values = {m[1]: int(m[2]) for m in re.finditer(r"METRIC (\S+) (\d+)", output)}
    if "TAP-END" not in output or "not ok" in output or "own.vmm.out" not in values:
        sys.exit(f"bench_child failed, or {os.environ.get('TRIVET_EFI')} does not count\n{output}")
    return values


def rows_of(vendor, one, two):
    for row, name in ROWS:
        own = one[f"own.{name}"] + OUTSIDE[vendor] * one[f"exits.{name}"]
        yield f"{vendor}.{row}", own, "instructions"
    yield f"{vendor}.vmm.pio_exits", one["exits.vmm.out"], "exits"
    yield f"{vendor}.vmm.pio_round_trip", one["vmm.out"], "instructions"
    yield f"{vendor}.vp_switch", one["switch_ticks.vmm.out"] // one["switches.vmm.out"], "instructions"
    yield f"{vendor}.vp_switch_with_choice", one["choice_ticks.vmm.out"] // one["switches.vmm.out"], "instructions"
    if vendor == "svm":
        per_vp = two["child.used_pages"] - one["child.used_pages"]
        rest = one["child.used_pages"] - per_vp
        yield "mem.per_vp_bytes", per_vp * PAGE, "bytes"
        yield "mem.child_pct", f"{100 * rest / one['child.gpa_pages']:.3f}", "%"


def write(path, rows):
    old = path.read_text().splitlines() if path.exists() else []
    mine = {name for name, _, _ in rows}
    kept = [line for line in old if line.split("\t")[0] not in mine]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in kept + ["\t".join(map(str, row)) for row in rows]))


def main():
    vendor = "vmx" if os.environ.get("CPU") == "intel" else "svm"
    with tempfile.TemporaryDirectory(prefix="trivet-bench-") as folder:
        options = {"smp": 1, "interface": "hv"}
        kernel = make_kernel(Path(folder))
        machine = (BochsMachine("bench-children-intel", kernel, mem=768, **options) if vendor == "vmx" else
                   Machine("bench-children", kernel, extra=EXACT, **options))
        with machine:
            machine.expect_ready(900)
            one, two = measure(machine, 1), measure(machine, 2)
    rows = list(rows_of(vendor, one, two))
    for name, value, unit in rows:
        print(f"  {name:36} {value:>14} {unit}", flush=True)
    write(OUT / "bench.tsv", rows)


if __name__ == "__main__":
    main()
