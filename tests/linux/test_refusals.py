# SPDX-License-Identifier: MIT
"""What the loader does when Trivet can't run here, or is configured wrongly.

Not tested: SVM switched off by firmware (VM_CR.SVMDIS), for which QEMU has no setting.
"""
import re
import time

import pytest

from machine import BARE, CPU, ROOT_LINE, Machine

pytestmark = pytest.mark.skipif(BARE, reason="tests Trivet's loader")


def reason_given(machine):
    """What follows "can't run here:" on the firmware's console, blanks reduced"""
    said = re.search(r"Trivet can't run here:? *(.{0,160})", re.sub(r"\s+", " ", machine.console_text()))
    return said[1] if said else ""


@pytest.mark.parametrize("minus,reason", [("svm", r"SVM"), ("npt", r"nested ?pag")])
def test_starts_the_root_without_trivet(cloud_kernel, minus, reason):
    """Says which feature is missing and boots on, as `no-virtualization` tells by default"""
    with Machine(f"without-{minus}", cloud_kernel, cpu=f"{CPU},-{minus}", check_log=False) as machine:
        machine.said("Trivet can't run here")
        assert machine.expect_ready()[0] == 2
        told = reason_given(machine)
        assert re.search(reason, told, re.I), f"the reason is not given: {told!r}"
        assert not ROOT_LINE.search(machine.log_text())


@pytest.mark.parametrize("minus,reason", [("svm", r"SVM"), ("npt", r"nested ?pag")])
def test_halts_when_told_so(cloud_kernel, minus, reason):
    conf = ["root = \\vmlinuz", "initrd = \\initrd", "cmdline = console=ttyS0", "no-virtualization = halt"]
    with Machine(f"halt-{minus}", cloud_kernel, cpu=f"{CPU},-{minus}", conf=conf, check_log=False) as machine:
        machine.said("Trivet can't run here")
        time.sleep(10)  # a kernel would have said something by now
        assert machine.process.poll() is None
        text = machine.console_text()
        assert re.search(reason, reason_given(machine), re.I)
        assert "halted" in text
        assert "Linux version" not in text and "TRIVET-READY" not in text


def test_bad_lines_are_reported_and_the_rest_counts(cloud_kernel):
    conf = ["# a comment", "colour = green", "this is no setting", "log-level = loudest", "root = \\vmlinuz",
            "initrd = \\initrd", "cmdline = console=ttyS0,115200 quiet trivet-test-word", "memory = much"]
    with Machine("bad-lines", cloud_kernel, conf=conf) as machine:
        assert machine.expect_ready()[0] == 2
        text = re.sub(r"\s+", "", machine.console_text())
        for line in (2, 3, 4, 8):
            assert re.search(rf"trivet\.conf:{line}:\w", text), f"line {line} is not reported with a reason"
        for line in (1, 5, 6, 7):
            assert f"trivet.conf:{line}:" not in text, f"line {line} is reported, but is right"
        assert "trivet-test-word" in machine.check("cat /proc/cmdline")


def test_missing_root_image(cloud_kernel):
    """Names the path, and goes back to the boot manager"""
    conf = ["root = \\EFI\\nowhere\\nothing.efi"]
    with Machine("missing-root", cloud_kernel, conf=conf, check_log=False) as machine:
        machine.said("nothing.efi")
        machine.said("not found")
        assert machine.process.poll() is None


def test_missing_initrd(cloud_kernel):
    """A kernel without the initial RAM disk that it needs is not started"""
    conf = ["root = \\vmlinuz", "initrd = \\initrd \\no-such-part", "cmdline = console=ttyS0,115200"]
    with Machine("missing-initrd", cloud_kernel, conf=conf, check_log=False) as machine:
        machine.said("no-such-part")
        machine.said("not found")
        assert "Linux version" not in machine.console_text()


def test_too_little_memory(cloud_kernel):
    """More memory wanted for the hypervisor than the machine has: a reason, and the root without Trivet"""
    conf = ["memory = 1G", "root = \\vmlinuz", "initrd = \\initrd",
            "cmdline = console=ttyS0,115200 quiet panic=-1"]
    with Machine("little-memory", cloud_kernel, mem=512, conf=conf, check_log=False) as machine:
        machine.said("Trivet can't run here")
        assert machine.expect_ready()[0] == 2
        told = reason_given(machine)
        assert "memory" in told, f"the reason is not given: {told!r}"
        assert not ROOT_LINE.search(machine.log_text())
