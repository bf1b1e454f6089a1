# SPDX-License-Identifier: MIT
"""Guests that the root partition runs with `vm` (scripts/initramfs/bin/vm): in the foreground on the root's console, or
by name in the background."""
import time

import pexpect

from machine import BARE, SCALE, Machine, Stopped

# On the bare machine the same guests run under KVM: is it the test or Trivet?
ACCEL = "kvm" if BARE else "mshv"
END = rb"@@VM (\d+)@@"
BOOT_S = 300  # 20 on a host that has nothing else to do
# For grep -E: a console is slow (two exits a character, each with QEMU in between), so messages are judged where they are
TROUBLE = ("BUG:|Oops|Call Trace|lockup|unchecked MSR|general protection|double fault|Kernel panic|hung_task|timed? ?out|"
           "WARNING: CPU")


class GuestError(AssertionError):
    """The guest did not do what was waited for; the root goes on."""


class Guest:
    """A guest on the root's console. A context manager that ends it; run() and check() are a shell's in the guest."""

    run, check, expect_ready = Machine.run, Machine.check, Machine.expect_ready

    def __init__(self, host, options=""):
        self.host, self.options, self.over = host, options, False

    @property
    def console(self):
        return self.host.console

    def complaints(self):
        """What its kernel says of trouble"""
        return self.run(f"dmesg | grep -E '{TROUBLE}'")[0]

    def __enter__(self):
        # In two parts, so that the echo of the line is not the end
        self.send(f"vm -a {ACCEL} {self.options}; echo \"@@\"\"VM $?@@\"\n")
        return self

    def __exit__(self, *_):
        if not self.over:
            self.leave()

    def send(self, text):
        self.host.send(text)

    def expect(self, pattern, timeout=60, what=None):
        what = what or pattern
        try:
            index = self.console.expect([pattern, END], timeout=timeout * SCALE)
        except pexpect.TIMEOUT:
            said = self.host.console_text()[-1500:]
            self.leave()
            raise GuestError(f"vm {self.options}: no {what!r} within {timeout * SCALE:.0f} s\n{said}") from None
        except (pexpect.EOF, Stopped):
            return self.host.expect(pattern, 1, what)  # that tells what became of the machine
        if index == 1:
            self.over = True
            raise GuestError(f"vm {self.options}: ended before {what!r}\n{self.host.console_text()[-1500:]}")
        return self.console.match

    def leave(self):
        """As a user does: Ctrl-] x"""
        self.send("\x1dx")
        self.host.expect(END, 120, f"end of vm {self.options} by Ctrl-] x")
        self.over = True

    def power_off(self):
        """QEMU's exit status"""
        self.send("poweroff -f\n")
        status = int(self.expect_end()[1])
        return status

    def expect_end(self, timeout=120):
        try:
            self.console.expect(END, timeout=timeout * SCALE)
        except pexpect.TIMEOUT:
            self.leave()
            raise GuestError(f"vm {self.options}: did not end within {timeout} s") from None
        self.over = True
        return self.console.match


def is_sound(guest, version, processors, firmware=""):
    """It is the kernel that was asked for, sees what it was given and the hypervisor, and doesn't complain; its clock goes."""
    cpus, release, _ = guest.expect_ready(BOOT_S)
    assert cpus == processors
    assert release.startswith(f"{version}.") and release.endswith("-cloud-amd64")
    assert f"Hypervisor detected: {'KVM' if BARE else 'Microsoft Hyper-V'}" in guest.check("dmesg | grep 'Hypervisor detected'")
    assert BARE or not guest.complaints()
    assert guest.run("[ -d /sys/firmware/efi ]")[1] == (0 if firmware else 1)
    for cpu in range(processors):
        guest.check(f"taskset -c {cpu} true")
    up, up2 = (float(n) for n in guest.check("cut -d' ' -f1 /proc/uptime; sleep 1; cut -d' ' -f1 /proc/uptime").split())
    assert up2 - up >= 0.95


class NamedGuest:
    """A guest in the background, console in a file"""

    def __init__(self, host, name, options):
        self.host, self.name, self.stuck = host, name, None
        host.check(f"vm -a {ACCEL} -n {name} {options}", 180)

    def running(self):
        return self.host.run(f"kill -0 $(cat /run/vm/{self.name}.pid) 2>/dev/null")[1] == 0

    def wait_for(self, pattern, timeout=180):
        """Until the console shows it; when it once hasn't, no later test waits as long."""
        if self.stuck:
            raise GuestError(f"{self.name}: not tried: {self.stuck}")
        log, ends = f"/run/vm/{self.name}.log", f"! kill -0 $(cat /run/vm/{self.name}.pid) 2>/dev/null"
        # In the root, one line: what asks all the time takes the guests' time. `ends` first: what it said last is there then.
        self.host.run(f"n=0; while [ $((n += 1)) -lt {int(timeout * SCALE * 2)} ]; do over=; {ends} || over=no; "
                      f"grep -qE '{pattern}' {log} && break; [ $over ] || break; usleep 500000; done", timeout * 4)
        if self.host.run(f"grep -qE '{pattern}' {log}")[1] != 0:
            self.stuck = f"no {pattern!r} {'in time' if self.running() else 'before it ended'}"
            registers = self.host.registers()
            (self.host.logs / "registers.txt").write_text(registers)
            where = "\n".join(line for line in registers.splitlines() if line.startswith("RIP="))
            raise GuestError(f"{self.name}: {self.stuck}\n{where}\n{self.trace()}")

    def count(self, pattern):
        return int(self.host.run(f"grep -c '{pattern}' /run/vm/{self.name}.log")[0])

    def trace(self):
        return self.host.run(f"tail -n 30 /run/vm/{self.name}.log; cat /run/vm/{self.name}.out")[0]

    def wait_end(self, timeout=120):
        end = time.monotonic() + timeout * SCALE
        while self.running():
            if time.monotonic() > end:
                raise GuestError(f"{self.name}: still running after {timeout * SCALE:.0f} s\n{self.trace()}")
            time.sleep(0.3)

    def stop(self, signal="TERM"):
        if self.running():
            self.host.check(f"kill -{signal} $(cat /run/vm/{self.name}.pid)")
            self.wait_end()
