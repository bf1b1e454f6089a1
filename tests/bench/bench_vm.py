#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How long a child kernel takes to its user space, and the same under KVM: the rows linux.child_boot_s and
linux.child_boot_s.kvm of build/bench.tsv.

The same emulated machine, the same QEMU in it, the same guest and command line (`vm` adds nothing else): once Trivet is below
Linux 7.2 as root partition, once Debian's 6.1 is a KVM host on the bare machine. The guest is Debian's 6.1: under QEMU 7.2's
SVM, KVM runs no Linux 7.2, since XSETBV is not intercepted there. Seconds by the host's clock, from the command to the guest's
line that it is ready, the best of three; the first start is not counted (it reads the disk).
Environment: as tests/linux/machine.py; LINUX_KERNELS."""
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "linux")]

from machine import READY, TOP, Machine  # noqa: E402

KERNELS = Path(os.environ.get("LINUX_KERNELS", TOP / "build" / "linux"))
OUT = Path(os.environ.get("TRIVET_OUT", TOP / "build"))
GUEST = "-k 6.1 -m 256 -c 1"
RUNS = 3


def script(name, *args, **env):
    subprocess.run([TOP / "scripts" / name, *args], env={**os.environ, **env}, check=True)


def boot_s(machine, accelerator):
    """Seconds from the command line to the guest's user space"""
    start = time.monotonic()
    machine.send(f"vm -a {accelerator} {GUEST}; echo '@@''END'\n")
    machine.expect(READY, 180)
    spent = time.monotonic() - start
    machine.expect(rb"# ", 60)
    machine.send("\x01x")
    machine.expect(rb"@@END", 60)
    return spent


def measure(name, kernel, accelerator, **options):
    disk = KERNELS / "vm" / "vm.squashfs"
    extra = ["-drive", f"if=none,id=vm,format=raw,readonly=on,file={disk}", "-device", "virtio-blk-pci,drive=vm,serial=vm"]
    with Machine(f"bench-{name}", kernel, smp=2, mem=1024, extra=extra, check_log=False, **options) as machine:
        machine.expect_ready()
        boot_s(machine, accelerator)
        return min(boot_s(machine, accelerator) for _ in range(RUNS))


def main():
    script("build-vm-disk.sh", KERNELS / "vm")
    script("build-root-kernel.sh", KERNELS / "mshv")
    script("make-initramfs.sh", KERNELS / "mshv")
    script("fetch-kernel.sh", KERNELS / "kvm")
    script("make-initramfs.sh", KERNELS / "kvm", MODULES="kvm")
    rows = [("linux.child_boot_s", measure("child", KERNELS / "mshv", "mshv", bare=False, interface="hv")),
            ("linux.child_boot_s.kvm", measure("kvm", KERNELS / "kvm", "kvm", bare=True, cmdline="mods=virtio,kvm,fs"))]
    path = OUT / "bench.tsv"
    old = path.read_text().splitlines() if path.exists() else []
    mine = {name for name, _ in rows}
    lines = [line for line in old if line.split("\t")[0] not in mine]
    for name, value in rows:
        print(f"  {name:36} {value:>14.1f} s", flush=True)
        lines.append(f"{name}\t{value:.1f}\ts")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
