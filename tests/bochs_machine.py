# SPDX-License-Identifier: MIT
"""The machine that Bochs emulates for us, for the guests' runner and the Linux suite: scripts/bochs.sh and a disk to boot.

Bochs has no exit code and no ACPI under UEFI; what ends a run stands in its log. Tools come from the environment:
BOCHS (default: the one that scripts/fetch-bochs.sh put into $TRIVET_OUT/bochs) and OVMF."""
import os
import re
import shlex
import struct
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
OUT = Path(os.environ.get("TRIVET_OUT", TOP / "build"))
BOCHS = shlex.split(os.environ.get("BOCHS", str(OUT / "bochs" / "bin" / "bochs")))
OVMF = Path(os.environ.get("OVMF", "/usr/share/ovmf/OVMF.fd"))
INTEL = "corei7_haswell_4770"
AMD = "ryzen"
IPS = 100_000_000  # instructions in a guest's second, which is TSC ticks too

SECTOR, HEADS, SECTORS = 512, 16, 63
START = 2048  # first sector of the partition
RESET = re.compile(r"bx_pc_system_c::Reset\(HARDWARE\) called")
POWER_ON = "1767225600"  # the clock then, seconds since 1970: with the same one every run is the same


def start(folder, disk, com2, model=INTEL, smp=1, mem=512, disk2=None, lines=(), vm_disk=None, **streams):
    """Bochs as scripts/bochs.sh starts it: COM1 on its stdin and stdout (`streams` goes to Popen), its log and temporary
    files in `folder`. `model` may have more for the `cpu:` line behind a comma; `lines` are more configuration; the second disk is
    `disk2` or `vm_disk`, that of scripts/build-vm-disk.sh."""
    env = {**os.environ, "BOCHS": shlex.join(BOCHS), "OVMF": str(OVMF), "CPU": model, "SMP": str(smp), "MEM": str(mem),
           "DISK2": str(disk2 or ""), "VM_DISK": str(vm_disk or ""), "TIME0": POWER_ON, "BOCHS_LOG": f"{folder}/bochs.log",
           "TMPDIR": str(folder)}
    Path(com2).touch()
    return subprocess.Popen([str(TOP / "scripts" / "bochs.sh"), str(disk), str(com2), *lines], env=env,
                            start_new_session=True, **streams)


def make_disk(image, tree, spare=1 << 20):
    """A disk with an MBR and one FAT partition that holds the folders of `tree`."""
    content = sum(f.stat().st_size + 4096 for f in Path(tree).rglob("*"))
    cylinder = SECTOR * HEADS * SECTORS
    size = -(-max(content * 9 // 8 + spare + START * SECTOR, 6 << 20) // cylinder) * cylinder
    sectors = size // SECTOR - START
    entry = struct.pack("<B3sB3sII", 0x80, b"\xff\xff\xff", 0xef, b"\xff\xff\xff", START, sectors)
    with open(image, "wb") as f:
        f.truncate(size)
        f.seek(446)
        f.write(entry)
        f.seek(510)
        f.write(b"\x55\xaa")
    drive = f"{image}@@{START * SECTOR}"
    quiet = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    subprocess.run(["mformat", "-i", drive, "-T", str(sectors), "-h", str(HEADS), "-s", str(SECTORS), "-H", str(START),
                    "::"], check=True, env=quiet)
    subprocess.run(["mcopy", "-s", "-i", drive, *map(str, sorted(Path(tree).iterdir())), "::"], check=True, env=quiet)
