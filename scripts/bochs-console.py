#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs Bochs with its COM1 on stdio, for scripts/bochs.sh.

    bochs-console.py RUNDIR COMMAND...

COM1 is a pseudo terminal, linked as RUNDIR/com1. On a terminal Ctrl-A x leaves, Ctrl-A Ctrl-A sends a Ctrl-A; a line
that counts seconds shows while the machine is silent, until Linux speaks. RUNDIR is removed at the end. Exit status: 0
when the guest switched the machine off, 130 after Ctrl-A x, else 1, with Bochs' last words on stderr."""

import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
import tty

ESCAPE = b"\x01"  # Ctrl-A
SWITCHED_OFF = re.compile(r"soft power off|shutdown requested", re.I)
SPEAKS = re.compile(rb"Linux version|TRIVET-READY")
SILENCE_S = 2
# The UART holds 16 characters and there is no flow control: what a guest that is busy for a moment can lose, nobody types.
BURST, BURST_S = 4, 0.005


class Progress:
    """The line that says that the machine is at work, on a terminal and below what the machine last said"""

    def __init__(self, wanted):
        self.start = self.heard = time.monotonic()
        self.wanted, self.shown, self.tail = wanted, None, b""

    def tick(self):
        now = time.monotonic()
        seconds = int(now - self.start)
        if self.wanted and now - self.heard > SILENCE_S and self.shown != seconds:
            # First room for a line, should the cursor be on the last one; afterwards it stands where the machine left it
            room = "\n\x1b[A" if self.shown is None else ""
            text = f"{room}\x1b7\r\n\x1b[K  Bochs interprets each instruction; {seconds} s so far\x1b8"
            os.write(1, text.encode())
            self.shown = seconds

    def machine_speaks(self, data):
        self.heard = time.monotonic()
        if self.shown is not None:
            os.write(1, b"\x1b7\r\n\x1b[K\x1b8")
            self.shown = None
        if self.wanted:
            self.tail = (self.tail + data)[-4096:]
            if SPEAKS.search(self.tail):
                self.wanted = False

    def stop(self):
        self.machine_speaks(b"")
        self.wanted = False


class Keyboard:
    """Stdin: on a terminal with Ctrl-A as escape, else as it is"""

    def __init__(self):
        self.open, self.terminal, self.escaped = True, os.isatty(0), False

    def read(self):
        """(bytes for the machine, whether to leave)"""
        try:
            data = os.read(0, 4096)
        except BlockingIOError:
            return b"", False
        if not data:
            self.open = False
        if not self.terminal:
            return data, False
        out = b""
        for key in (data[i:i + 1] for i in range(len(data))):
            if self.escaped:
                self.escaped = False
                if key in b"xX":
                    return out, True
                out += key if key == ESCAPE else b""
            elif key == ESCAPE:
                self.escaped = True
            else:
                out += key
        return out, False


def write_all(fd, data):
    while data:
        try:
            data = data[os.write(fd, data):]
        except BlockingIOError:
            select.select([], [fd], [])


def relay(process, master):
    """Copies both ways until Bochs has ended; True when the user asked to leave."""
    keyboard, progress, pending, next_burst = Keyboard(), Progress(os.isatty(1)), b"", 0.0
    while True:
        wait = max(0.0, next_burst - time.monotonic()) if pending else 0.1
        ended = process.poll() is not None  # asked before reading: what was written before the end is read
        readers = [master] + ([0] if keyboard.open and len(pending) < 65536 else [])
        ready, _, _ = select.select(readers, [], [], 0 if ended else wait)
        if master in ready:
            data = os.read(master, 65536)
            progress.machine_speaks(data)
            write_all(1, data)
        elif ended:
            progress.stop()
            return False
        if 0 in ready:
            data, leave = keyboard.read()
            if leave:
                progress.stop()
                return True
            if data and keyboard.terminal:
                progress.stop()
            pending += data
        if pending and time.monotonic() >= next_burst and select.select([], [master], [], 0)[1]:
            pending = pending[os.write(master, pending[:BURST]):]
            next_burst = time.monotonic() + BURST_S
        progress.tick()


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def last_words(run):
    """(whether the guest switched the machine off, what Bochs complained of) from its log"""
    rc = (run / "bochsrc").read_text()
    log = pathlib.Path(re.findall(r"(?m)^log: (.*)$", rc)[-1])
    text = log.read_text(errors="replace")[-65536:] if log.exists() else ""
    text += (run / "stdout").read_text(errors="replace")[-4096:]
    panics = [line for line in text.splitlines() if re.match(r"\d{11}p|>>PANIC<<", line)]
    return any(SWITCHED_OFF.search(line) for line in panics), panics, log


def main():
    run, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    before = termios.tcgetattr(0) if os.isatty(0) else None
    process = None
    try:
        master, slave = os.openpty()  # our hold on the other side keeps it open while Bochs starts and ends
        tty.setraw(slave)
        os.set_blocking(master, False)
        (run / "com1").symlink_to(os.ttyname(slave))
        with open(run / "stdout", "wb") as out:
            # Bochs goes with us, whatever ends us
            process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], cwd=run, start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        if before:
            tty.setraw(0)
        if relay(process, master):
            return 130
        off, panics, log = last_words(run)
        if off:
            return 0
        print(f"\r\nBochs ended with status {process.returncode}; its log: {log}", *panics[:5], sep="\r\n", file=sys.stderr)
        return 1
    finally:
        if process:
            end(process)
        if before:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        shutil.rmtree(run, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
