# SPDX-License-Identifier: MIT
"""What the bare-metal guests' tests say about themselves."""
import os

import pytest

from guest_machine import QEMU, TRIVET_EFI, bochs_machine


def pytest_report_header():
    where = "bare machine only (TRIVET_BARE)" if os.environ.get("TRIVET_BARE") else f"bare and on {TRIVET_EFI}"
    return f"guests: {where}, with {QEMU[0]} and {bochs_machine.BOCHS[0]}"


def pytest_configure(config):
    config.addinivalue_line("markers", "amd: on an AMD processor (QEMU; Bochs too where a test says so)")
    config.addinivalue_line("markers", "intel: on an Intel processor, which is in Bochs")
    config.addinivalue_line("markers", "mshv: with the root's kernel (scripts/build-root-kernel.sh); whatever uses its fixture has it")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    for item in items:
        if "kernel_with_children" in item.fixturenames:
            item.add_marker(pytest.mark.mshv)
