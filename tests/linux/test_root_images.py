# SPDX-License-Identifier: MIT
"""Root images other than a kernel: GRUB, and the boot manager with the UEFI shell behind it."""
import shutil
import subprocess
import time

import pytest

from machine import BARE, BOOT, ROOT_LINE, Machine
from oracle import cpu_flags

UP, DOWN, ENTER = "\x1b[A", "\x1b[B", "\r"
CONFIG = """
serial --unit=0 --speed=115200
echo "GRUB runs"
search --no-floppy --file /vmlinuz --set=root
linux /vmlinuz console=ttyS0,115200 quiet panic=-1
initrd /initrd
boot
"""
MODULES = "normal linux fat part_gpt part_msdos search search_fs_file serial terminal echo test"


@pytest.fixture(scope="module")
def grub(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("grub")
    tool = shutil.which("grub-mkstandalone")
    assert tool, "grub-mkstandalone not found (packages grub-common, grub-efi-amd64-bin)"
    (tmp / "grub.cfg").write_text(CONFIG)
    subprocess.run([tool, "-O", "x86_64-efi", "-o", tmp / "grubx64.efi", "--themes=", "--locales=", "--fonts=",
                    f"--install-modules={MODULES}", f"--modules={MODULES}",
                    f"boot/grub/grub.cfg={tmp / 'grub.cfg'}"], check=True, capture_output=True)
    return tmp / "grubx64.efi"


def test_grub(grub, cloud_kernel):
    where = BOOT if BARE else "/EFI/debian/grubx64.efi"
    with Machine("grub", cloud_kernel, smp=2, files={where: grub},
                 conf=["root = \\EFI\\debian\\grubx64.efi"]) as machine:
        machine.said("GRUB runs")
        assert machine.expect_ready()[0] == 2
        assert "BOOT_IMAGE" in machine.check("cat /proc/cmdline"), "the kernel was not started by GRUB"


@pytest.mark.skipif(BARE, reason="tests Trivet's loader")
def test_no_configuration(cloud_kernel):
    """Without trivet.conf Trivet starts and returns to the boot manager; a kernel from the UEFI shell then"""
    with Machine("no-conf", cloud_kernel, smp=2, files={"/EFI/trivet/trivet.conf": None}) as machine:
        machine.said("Continue")  # firmware's front page: the first boot option came back with success
        assert ROOT_LINE.search(machine.log_text())
        for key, shows in ((DOWN, "Device Manager"), (DOWN, "Boot Manager"), (ENTER, "Boot Manager Menu")):
            machine.send(key)
            time.sleep(1)
            machine.said(shows)
        if "Internal Shell" not in machine.console_text():
            pytest.skip("this firmware has no UEFI shell")
        machine.send(UP)  # from the first entry to the last
        time.sleep(1)
        machine.send(ENTER)
        machine.said("Shell>")
        machine.send("fs0:\\vmlinuz initrd=\\initrd console=ttyS0,115200 quiet from-the-shell\r")
        assert machine.expect_ready()[0] == 2
        assert "from-the-shell" in machine.check("cat /proc/cmdline")
        assert all("svm" not in flags for flags in cpu_flags(machine))
