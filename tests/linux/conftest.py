# SPDX-License-Identifier: MIT
"""Kernels, and log ends in failure reports, for the tests of stock Linux on Trivet."""
import os
import subprocess
from pathlib import Path

import pytest

from machine import BARE, TOP, Machine

KERNELS = Path(os.environ.get("LINUX_KERNELS", TOP / "build" / "linux"))


def pytest_configure(config):
    config.addinivalue_line("markers", "intel: on an Intel processor, which is in Bochs")
    config.addinivalue_line("markers", "slow: takes minutes")


def stock_kernel(name, meta):
    out = KERNELS / name
    env = {**os.environ, "META": meta}
    for script in ("fetch-kernel.sh", "make-initramfs.sh"):
        subprocess.run([TOP / "scripts" / script, out], env=env, check=True)
    return out


@pytest.fixture(scope="session")
def cloud_kernel():
    """Debian's kernel for virtual machines: small, boots fastest"""
    return stock_kernel("cloud", "linux-image-cloud-amd64")


@pytest.fixture(scope="session")
def general_kernel():
    """Debian's kernel for any PC: with AHCI, e1000e, machine checks, microcode"""
    return stock_kernel("general", "linux-image-amd64")


def pytest_report_header():
    return "Linux tests: " + ("bare machine, no Trivet" if BARE else "on Trivet")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    Machine.touched.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for machine in Machine.touched:
            report.sections.append((f"machine {machine.name}", machine.report()))
