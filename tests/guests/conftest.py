# SPDX-License-Identifier: MIT
"""What the bare-metal guests' tests say about themselves."""
import os

from guest_machine import QEMU, TRIVET_EFI


def pytest_report_header():
    where = "bare machine only (TRIVET_BARE)" if os.environ.get("TRIVET_BARE") else f"bare and on {TRIVET_EFI}"
    return f"guests: {where}, with {QEMU[0]}"
