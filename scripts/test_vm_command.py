# SPDX-License-Identifier: MIT
"""The command `vm` of the root's shell, here on the host: what it makes of its options, and what it says when something is
missing. A script that shows its arguments stands for QEMU."""

import os
import pathlib
import subprocess
import time

import pytest

VM = pathlib.Path(__file__).resolve().parent / "initramfs" / "bin" / "vm"
FAKE_QEMU = """#!/bin/sh
case " $* " in
*chardev*) ;;
*) printf '%s\\n' "$@"; exit ;;
esac
tty=${*##*path=}
tty=${tty%%,*}
[ "$FAIL" = 1 ] && echo "no such thing" >&2 && exit 1
: >"$tty"
exec sleep 60
"""


@pytest.fixture
def vm(tmp_path):
    """vm(*options) with a disk of guests of its own: (status, output, errors)"""
    disk = tmp_path / "vm"
    (disk / "bin").mkdir(parents=True)
    qemu = disk / "bin" / "qemu-system-x86_64"
    qemu.write_text(FAKE_QEMU)
    qemu.chmod(0o755)
    for version in ("6.1", "7.2"):
        folder = disk / "guests" / version
        folder.mkdir(parents=True)
        for name in ("vmlinuz", "initrd", "release"):
            (folder / name).write_text(version)
    (disk / "guests" / "default").symlink_to("7.2")

    def run(*options, accelerator="tcg", **more):
        env = {**os.environ, "VM": str(disk), "VM_RUN": str(tmp_path / "run"), **more}
        before = ["-a", accelerator] if accelerator else []
        done = subprocess.run(["busybox", "sh", VM, *before, *options], env=env, capture_output=True, text=True, timeout=30)
        return done.returncode, done.stdout, done.stderr

    run.disk, run.folder = disk, tmp_path / "run"
    return run


def after(output, option):
    """The argument of an option of QEMU"""
    words = output.splitlines()
    return words[words.index(option) + 1]


def test_one_word_is_enough(vm):
    status, output, _ = vm()
    assert status == 0
    assert after(output, "-kernel") == f"{vm.disk}/guests/default/vmlinuz"
    assert after(output, "-initrd") == f"{vm.disk}/guests/default/initrd"
    assert after(output, "-accel") == "tcg"
    assert after(output, "-serial") == "mon:stdio"
    assert (after(output, "-m"), after(output, "-smp")) == ("256", "1")
    assert after(output, "-append").startswith("console=ttyS0 ")
    assert after(output, "-bios") == "qboot.rom" and "virtio" not in output.replace("mods=virtio", "")


def test_options(vm):
    _, output, _ = vm("-k", "6.1", "-m", "300", "-c", "2", "-u", "-e", "-d", vm.disk / "guests/6.1/vmlinuz", "-v", "-x", "a=b c", "--",
                      "-rtc", "x y")
    assert after(output, "-kernel") == f"{vm.disk}/guests/6.1/vmlinuz"
    assert (after(output, "-m"), after(output, "-smp"), after(output, "-rtc")) == ("300", "2", "x y")
    assert after(output, "-append").endswith(" a=b c") and "quiet" not in after(output, "-append")
    assert after(output, "-bios") == "OVMF.fd" and "virtio-net-pci" in output and "virtio-blk-pci,drive=disk0" in output


def test_a_kernel_of_ones_own_has_no_initrd_of_ours(vm):
    _, output, _ = vm("-k", vm.disk / "guests/6.1/vmlinuz")
    assert "-initrd" not in output


@pytest.mark.parametrize("options,said", [
    (["-k", "5.0"], "kernels here: 6.1 7.2"),
    (["-m", "much"], "'much' is no number"),
    (["-m", "99999999"], "take less by -m"),
    (["-d", "/nothing"], "cannot read /nothing"),
    (["-n", "a/b"], "a name has letters"),
    (["-s", "nobody"], "no guest nobody runs"),
])
def test_what_is_wrong_is_said(vm, options, said):
    status, output, errors = vm(*options)
    assert status != 0 and said in errors and not output


def test_without_the_device_or_the_disk_it_says_what_to_do(vm):
    if not pathlib.Path("/dev/mshv").exists():
        status, _, errors = vm(accelerator=None)
        assert status == 1 and "no /dev/mshv" in errors and "make run ROOT=mshv" in errors
    status, _, errors = vm(VM="/nothing")
    assert status == 1 and "build-vm-disk.sh" in errors


def test_guests_with_names(vm):
    assert vm("-n", "a")[0] == 0 and vm("-n", "b")[0] == 0
    try:
        assert [line.split(":")[0] for line in vm("-l")[1].splitlines()] == ["a", "b"]
        status, _, errors = vm("-n", "a")
        assert status == 1 and "runs already" in errors
    finally:
        assert vm("-s", "a")[0] == 0 and vm("-s", "b")[0] == 0
    end = time.monotonic() + 10
    while vm("-l")[1]:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_guest_with_a_name_that_does_not_start(vm):
    status, _, errors = vm("-n", "a", FAIL="1")
    assert status == 1 and "QEMU ended: no such thing" in errors
