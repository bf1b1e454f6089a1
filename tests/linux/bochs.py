# SPDX-License-Identifier: MIT
"""A machine with an Intel processor, in Bochs: the interface of machine.Machine, started by scripts/bochs.sh.

Its firmware makes no ACPI tables. tests/acpi adds them on the bare machine and before Trivet alike."""
import os
import sys
import time
from pathlib import Path

from machine import BARE, BOOT, TRIVET_EFI, Machine, MachineError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bochs_machine  # noqa: E402
from bochs_machine import INTEL, OUT  # noqa: E402

FIFO_BYTES = 16
ECHO_S = 1  # as long, where nothing is echoed
ACPI_EFI = Path(os.environ.get("ACPI_EFI", OUT / "acpi.efi"))


class BochsMachine(Machine):
    emulator = "Bochs"
    slowness = 2

    def __init__(self, name, kernel, smp=1, mem=512, bare=BARE, cpu=INTEL, disk=None, vm_disk=None, **more):
        """The second disk is `disk`, an image of whole cylinders, or `vm_disk`, that of scripts/build-vm-disk.sh."""
        super().__init__(name, kernel, smp=smp, mem=mem, bare=bare, cpu=cpu, **more)
        self.disk, self.vm_disk = disk, vm_disk

    def boot_files(self):
        if not ACPI_EFI.exists():
            raise MachineError(f"{ACPI_EFI} not found: run make guests")
        files = super().boot_files()
        if self.bare:
            files["/EFI/acpi/next"] = f"\\vmlinuz initrd=\\initrd {self.cmdline}\n".encode()
        else:
            files["/EFI/trivet/trivet.efi"] = TRIVET_EFI
        return {**files, BOOT: ACPI_EFI}

    def command(self):
        return [str(self.make_esp())]

    def spawn(self, args, err):
        with open(self.work / "com1.in", "rb") as com1_in, open(self.work / "com1.out", "wb") as com1_out:
            return bochs_machine.start(self.logs, args[0], self.hypervisor_log, self.cpu, self.smp, self.mem, self.disk,
                                       self.extra, self.vm_disk, stdin=com1_in, stdout=com1_out, stderr=err)

    def send(self, text):
        """No more at once than the UART's FIFO has room for: Bochs drops what a busy root leaves there. The echo tells that it was taken."""
        for start in range(0, len(text), FIFO_BYTES // 2):
            piece, before = text[start:start + FIFO_BYTES // 2], self.console.received
            super().send(piece)
            end = time.monotonic() + ECHO_S
            while self.console.received < before + len(piece) and time.monotonic() < end:
                time.sleep(0.005)
                self.console.gather()

    def stopped(self):
        resets = self.console_text().count("BdsDxe: starting") - 1
        return super().stopped() or (resets > 0 and not self.reboot)

    def registers(self):
        return "(Bochs shows none)"
