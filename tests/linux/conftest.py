# SPDX-License-Identifier: MIT
"""Kernels, and log ends in failure reports, for the tests of stock Linux on Trivet."""
import functools
import hashlib
import http.server
import os
import random
import subprocess
import threading
from pathlib import Path

import pytest

from machine import BARE, TOP, Machine

FILE_MIB = 20
KERNELS = Path(os.environ.get("LINUX_KERNELS", TOP / "build" / "linux"))


def pytest_configure(config):
    config.addinivalue_line("markers", "intel: on an Intel processor, which is in Bochs")
    config.addinivalue_line("markers", "mshv: with the root's kernel, or its disk of guests; whatever uses their fixtures has it")
    config.addinivalue_line("markers", "slow: takes minutes")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    for item in items:
        if {"mshv_kernel", "vm_disk"} & set(item.fixturenames):
            item.add_marker(pytest.mark.mshv)


def stock_kernel(name, meta, modules=""):
    out = KERNELS / name
    env = {**os.environ, "META": meta, "MODULES": modules}
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


@pytest.fixture(scope="session")
def mshv_kernel():
    """Linux 7.2 with CONFIG_MSHV_ROOT: built, when it is not there, in some minutes"""
    out = KERNELS / "mshv"
    for script in ("build-root-kernel.sh", "make-initramfs.sh"):
        subprocess.run([TOP / "scripts" / script, out], check=True)
    return out


@pytest.fixture(scope="session")
def vm_disk():
    """The disk from which a root runs guests: Debian's QEMU, kernels"""
    subprocess.run([TOP / "scripts" / "build-vm-disk.sh", KERNELS / "vm"], check=True)
    return KERNELS / "vm" / "vm.squashfs"


@pytest.fixture(scope="session")
def kvm_kernel():
    """The cloud kernel with KVM's modules in its RAM disk: what Trivet is compared with"""
    return stock_kernel("kvm", "linux-image-cloud-amd64", "kvm")


@pytest.fixture(scope="session")
def vm_files(tmp_path_factory):
    """For the EFI system partition: guest/* of this folder, hostile.c built; path there -> file"""
    folder, source = tmp_path_factory.mktemp("guest"), Path(__file__).parent / "guest"
    subprocess.run(["nasm", "-f", "elf64", "-w+all", "-Werror", source / "start.asm", "-o", folder / "start.o"], check=True)
    subprocess.run(["gcc", "-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-builtin",
                    "-mgeneral-regs-only", "-mno-red-zone", "-fno-pic", "-fno-stack-protector", "-fcf-protection=none", "-static",
                    "-nostdlib", "-Wl,--build-id=none,-N,--no-warn-rwx-segments,-e,start,-Ttext=0x200000", folder / "start.o",
                    source / "hostile.c", "-o", folder / "hostile"], check=True)
    return {f"/guest/{file.name}": file for file in (folder / "hostile", source / "work", source / "kills")}


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """Programs of tools/*.c for the root, on any of our initial RAM disks: name -> file"""
    folder = tmp_path_factory.mktemp("tools")
    made = {}
    for source in sorted((Path(__file__).parent / "tools").glob("*.c")):
        made[source.stem] = folder / source.stem
        subprocess.run(["gcc", "-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-s", source, "-o",
                        made[source.stem]], check=True)
    return made


@pytest.fixture(scope="session")
def web_file(tmp_path_factory):
    """A file of random bytes on a web server of the host; (port, SHA-256)"""
    tmp = tmp_path_factory.mktemp("web")
    data = random.Random(1).randbytes(FILE_MIB << 20)
    (tmp / "file").write_bytes(data)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, hashlib.sha256(data).hexdigest()
        server.shutdown()


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
