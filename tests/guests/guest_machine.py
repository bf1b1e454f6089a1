# SPDX-License-Identifier: MIT
"""Runs one bare-metal UEFI guest in QEMU or in Bochs, on the bare machine or as Trivet's root image, and reads its TAP.

Tools come from the environment: QEMU, OVMF_CODE, OVMF_VARS, TRIVET_EFI, GUESTS (folder of the .efi files), and for
Bochs what tests/bochs_machine.py names."""
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bochs_machine  # noqa: E402
from bochs_machine import OUT  # noqa: E402

TRIVET_EFI = Path(os.environ.get("TRIVET_EFI", OUT / "trivet.efi"))
GUESTS = Path(os.environ.get("GUESTS", OUT / "guests"))
QEMU = shlex.split(os.environ.get("QEMU", "qemu-system-x86_64"))
MENDED = {**os.environ, "LD_PRELOAD": os.environ.get("QEMU_MEND", "")}  # tests/qemu_mend.c
OVMF_CODE = os.environ.get("OVMF_CODE", "/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = os.environ.get("OVMF_VARS", "/usr/share/OVMF/OVMF_VARS_4M.fd")

# isa-debug-exit: the guest writes v, QEMU ends with (v << 1) | 1
EXIT_GOOD, EXIT_FAILED, EXIT_BAILED = 1, 3, 5
WAS_RESET = 0  # with -no-reboot
TIMED_OUT = 124


@dataclass
class Result:
    status: int  # as QEMU's; TIMED_OUT when it had to be ended
    console: str  # COM1
    log: str  # COM2: the hypervisor's log
    errors: str  # QEMU's stderr, the end of Bochs' log
    lines: list = field(default_factory=list)  # of the guest itself

    def __post_init__(self):
        text = self.console.replace("\r", "")
        start = text.find("# guest starts")
        self.started = start >= 0
        self.lines = text[start:].split("\n") if self.started else []

    def with_prefix(self, prefix):
        return [line for line in self.lines if line.startswith(prefix)]

    @property
    def ended(self):
        return "TAP-END" in self.lines

    @property
    def skipped(self):
        found = self.with_prefix("1..0 # SKIP")
        return found[0][len("1..0 # SKIP"):].strip() if found else None

    @property
    def plan(self):
        for line in self.lines:
            if match := re.match(r"1\.\.(\d+)", line):
                return int(match[1])
        return None

    def report(self):
        def tail(text, n):
            return "\n".join(re.sub(r"\x1b\[[0-9;=]*[A-Za-z]", "", text).replace("\r", "").split("\n")[-n:])

        return (f"the emulator ended with {self.status}\n--- console (COM1)\n{tail(self.console, 60)}\n"
                f"--- hypervisor's log (COM2)\n{tail(self.log, 60)}\n--- emulator\n{tail(self.errors, 10)}")


def make_esp(esp, guest, trivet, conf, efi=TRIVET_EFI):
    boot = esp / "EFI" / "BOOT"
    boot.mkdir(parents=True)
    if not trivet:
        shutil.copy(guest, boot / "BOOTX64.EFI")
        return
    shutil.copy(efi, boot / "BOOTX64.EFI")
    (esp / "EFI" / "test").mkdir()
    shutil.copy(guest, esp / "EFI" / "test" / guest.name)
    (esp / "EFI" / "trivet").mkdir()
    keys = {"root": rf"\EFI\test\{guest.name}", "cmdline": "trivet", **(conf or {})}
    text = "".join(f"{key} = {value}\n" for key, value in keys.items())
    (esp / "EFI" / "trivet" / "trivet.conf").write_text(text)


def text(path):
    return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""


def run_guest(name, trivet, machine="qemu", **options):
    """Runs GUESTS/name.efi; options as the machine's function below has them."""
    return {"qemu": run_in_qemu, "bochs": run_in_bochs}[machine](name, trivet, **options)


def run_in_qemu(name, trivet, cpu=None, smp=1, mem=512, conf=None, timeout=120, extra=(), efi=TRIVET_EFI):
    """`cpu` defaults to EPYC under Trivet, to EPYC without SVM on the bare machine."""
    cpu = cpu or ("EPYC" if trivet else "EPYC,-svm")
    with tempfile.TemporaryDirectory(prefix="trivet-guest-") as folder:
        work = Path(folder)
        make_esp(work / "esp", GUESTS / f"{name}.efi", trivet, conf, efi)
        command = [
            *QEMU, "-accel", "tcg", "-machine", "q35", "-cpu", cpu, "-smp", str(smp), "-m", str(mem),
            "-nodefaults", "-display", "none", "-no-reboot",
            "-serial", f"file:{work}/com1", "-serial", f"file:{work}/com2",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}",
            "-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={OVMF_VARS}",
            "-drive", f"if=none,id=esp,format=raw,file=fat:rw:{work}/esp",
            "-device", "virtio-blk-pci,drive=esp,bootindex=0,romfile=", *extra,
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env=MENDED, text=True)
        try:
            _, errors = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
            status = TIMED_OUT

        errors = "\n".join(line for line in errors.split("\n") if "TCG doesn't support" not in line)
        return Result(status, text(work / "com1"), text(work / "com2"), errors)


def status_of(result):
    """Bochs has no exit code: what the guest would have given to isa-debug-exit, from its TAP."""
    if not result.ended:
        return -1
    if result.with_prefix("Bail out"):
        return EXIT_BAILED
    return EXIT_FAILED if result.with_prefix("not ok") else EXIT_GOOD


def watch_bochs(process, work, timeout):
    """Until Bochs ends (None), the started guest's machine resets or the time is over: the status."""
    end, resets = time.monotonic() + timeout, 0
    while process.poll() is None:
        if time.monotonic() > end:
            return TIMED_OUT
        # A reset brings the guest up again, and again: the first one ends the run.
        log = text(work / "bochs.log")
        if "# guest starts" not in text(work / "com1"):
            resets = len(bochs_machine.RESET.findall(log))
        elif len(bochs_machine.RESET.findall(log)) > resets:
            return WAS_RESET
        time.sleep(0.1)
    return None


def run_in_bochs(name, trivet, cpu=None, smp=1, mem=512, conf=None, timeout=180, extra=(), efi=TRIVET_EFI):
    """`cpu` is Bochs' model, with more for its `cpu:` line behind a comma; the bare machine has no VMX and no SVM."""
    model = cpu or bochs_machine.INTEL
    if not trivet:
        model += ', exclude_features="vmx,smx,svm"'
    with tempfile.TemporaryDirectory(prefix="trivet-guest-") as folder:
        work = Path(folder)
        make_esp(work / "esp", GUESTS / f"{name}.efi", trivet, conf, efi)
        bochs_machine.make_disk(work / "disk.img", work / "esp")
        with open(work / "com1", "wb") as com1, open(work / "errors", "wb") as errors:
            process = bochs_machine.start(work, work / "disk.img", work / "com2", model, smp, mem, lines=extra,
                                          stdin=subprocess.DEVNULL, stdout=com1, stderr=errors)
            try:
                status = watch_bochs(process, work, timeout)
            finally:
                process.terminate()  # it takes Bochs with it
                process.wait()
        log = [line for line in text(work / "bochs.log").split("\n") if not re.search(r"\] (RD|WR)MSR: ", line)]
        result = Result(0, text(work / "com1"), text(work / "com2"), "\n".join(log[-40:]) + text(work / "errors"))
        # Bochs stops at a triple fault; below a hypervisor it is never the guest's.
        if status is None and not trivet and "exception with no resolution" in result.errors:
            status = WAS_RESET
        result.status = status_of(result) if status is None else status
        return result
