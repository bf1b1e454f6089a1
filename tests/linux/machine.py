# SPDX-License-Identifier: MIT
"""One emulated machine: its EFI system partition, its QEMU process, its root console and its logs. (bochs.py: one in Bochs.)

A Machine boots a stock kernel on Trivet from UEFI, or with `bare` the same kernel by the same
firmware on the same machine without Trivet, which is what the tests compare with.
"""
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pexpect
from pexpect.spawnbase import SpawnBase

TOP = Path(__file__).resolve().parents[2]
QEMU = shlex.split(os.environ.get("QEMU", "qemu-system-x86_64"))
MENDED = {**os.environ, "LD_PRELOAD": os.environ.get("QEMU_MEND", "")}  # tests/qemu_mend.c
OVMF_CODE = os.environ.get("OVMF_CODE", "/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = os.environ.get("OVMF_VARS", "/usr/share/OVMF/OVMF_VARS_4M.fd")
CPU = os.environ.get("QEMU_CPU", "EPYC")
TRIVET_EFI = Path(os.environ.get("TRIVET_EFI", TOP / "build" / "trivet.efi"))
BARE = os.environ.get("TRIVET_BARE", "0") not in ("", "0")
SCALE = float(os.environ.get("TIMEOUT_SCALE", "1"))
LOGS = Path(os.environ.get("LINUX_LOGS", TOP / "build" / "linux-logs"))

CYLINDER = 16 * 63 * 512  # bytes: disks are whole cylinders, for emulators that know them so
BOOT = "/EFI/BOOT/BOOTX64.EFI"  # what firmware starts from a disk that it knows nothing of
READY = rb"TRIVET-READY cpus=(\d+) release=(\S+) up=(\S+)\s"  # up to its end: a console brings it in parts
ROOT_LINE = re.compile(r"(?m)^\[[^\]]*\] info +root: partition \d+")  # the hypervisor's, at a launch
# A child's panic is no trouble: it is told as information
BAD_LINE = re.compile(r"^\[ *[-\d.]+\] (error|(?!info +p\d+/vp\d+: guest: ).*\b(panic|assertion|unhandled)\b)")
PANIC_LINE = re.compile(r"(?m)^\[ *[-\d.]+\] error panic")
# What OVMF's terminal driver sends besides text: cursor positions, colours, modes
ANSI = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00\x08]")


class MachineError(AssertionError):
    """The machine did not do what was waited for; the text carries the ends of its logs."""


def qemu_version():
    """(major, minor) of the emulator under test"""
    out = subprocess.run(QEMU + ["--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(n) for n in re.search(r"version (\d+)\.(\d+)", out).groups())


class Stopped(Exception):
    """The hypervisor panicked"""


class Console(SpawnBase):
    """The root console: a pair of FIFOs, all that comes out is copied to a log file.

    The FIFO is large enough that QEMU never waits: it would lose characters (as it does with a socket).
    """

    def __init__(self, fifo, log, running, stopped, timeout):
        super().__init__(timeout=timeout, maxread=65536)
        for end in (".in", ".out"):
            os.mkfifo(f"{fifo}{end}")
        # Opened both ways, neither QEMU's opening waits nor does its end close our side
        self.input = os.open(f"{fifo}.in", os.O_RDWR)
        self.output = os.open(f"{fifo}.out", os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self.output, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.log, self.unread, self.received = open(log, "ab", buffering=0), b"", 0
        self.running, self.stopped, self.asked = running, stopped, 0

    def gather(self):
        """Take what there is into the log, and keep it for expect."""
        try:
            while data := os.read(self.output, 65536):
                self.log.write(data)
                self.unread += data
                self.received += len(data)
        except BlockingIOError:
            pass

    def read_nonblocking(self, size=1, timeout=-1):
        end = time.monotonic() + (self.timeout if timeout == -1 else timeout)
        while True:
            running = self.running()  # asked before reading: what was written before the end is read
            self.gather()
            if self.unread:
                data, self.unread = self.unread[:size], self.unread[size:]
                return data
            if not running:
                raise pexpect.EOF("the emulator ended")
            if time.monotonic() > end:
                raise pexpect.TIMEOUT("Timeout exceeded.")
            if time.monotonic() > self.asked + 1:
                self.asked = time.monotonic()
                if self.stopped():
                    raise Stopped
            time.sleep(0.02)

    def send(self, text):
        os.write(self.input, text.encode())

    def close(self):
        self.gather()
        self.log.close()
        os.close(self.input)
        os.close(self.output)


class Machine:
    """Use as a context manager; leaving it ends the emulator and, with Trivet, judges the hypervisor's log.

    name     for the log directory
    kernel   a directory of scripts/fetch-kernel.sh (or build-root-kernel.sh) and make-initramfs.sh
    smp, mem processors, MiB of memory
    bare     no Trivet
    interface  what the root sees of Trivet: `root.interface` in trivet.conf
    log_level  of the hypervisor
    cmdline  added to the kernel's command line
    conf     lines of trivet.conf, None: the plain one that boots the kernel
    files    path on the ESP -> host file or bytes, added to or replacing the usual ones
    extra    QEMU arguments (Bochs: configuration lines) added
    reboot   let a reset restart the machine (otherwise it ends QEMU, and is a failure in Bochs)
    check_log  judge the hypervisor's log at the end; False when Trivet is meant not to run
    """

    touched = set()  # machines used since the running test began, for failure reports
    emulator = "QEMU"
    slowness = 1  # every time-out is multiplied by it

    def __init__(self, name, kernel, smp=2, mem=1024, bare=BARE, cmdline="", conf=None, files=None,
                 extra=(), cpu=CPU, reboot=False, check_log=True, interface="transparent", log_level=None):
        self.name, self.kernel = name, Path(kernel)
        self.smp, self.mem, self.bare, self.cpu = smp, mem, bare, cpu
        self.scale = SCALE * self.slowness
        # The kernel gives the timer 70 ms to tick: too short where processors share those of a busy host
        busy = "no_timer_check " if smp > 2 else ""
        self.cmdline = f"console=ttyS0,115200 quiet panic=-1 earlyprintk=ttyS0,115200 {busy}{cmdline}".strip()
        self.conf, self.files, self.extra = conf, dict(files or {}), list(extra)
        self.reboot, self.check_log = reboot, check_log
        self.interface, self.log_level = interface, log_level
        self.process = self.console = self.dead = None
        self.work = Path(tempfile.mkdtemp(prefix="trivet-"))
        self.logs = LOGS / re.sub(r"[^\w.-]+", "_", name)
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        self.console_log = self.logs / "console.log"
        self.hypervisor_log = self.logs / "hypervisor.log"

    # -- starting and ending ------------------------------------------------------------------

    def plain_conf(self):
        lines = ["root = \\vmlinuz", "initrd = \\initrd", f"cmdline = {self.cmdline}"]
        if self.interface != "transparent":
            lines.append(f"root.interface = {self.interface}")
        return lines + ([f"log-level = {self.log_level}"] if self.log_level else [])

    def boot_files(self):
        """What makes the firmware start Trivet; path on the ESP -> host file or bytes"""
        if self.bare:
            return {}
        if not TRIVET_EFI.exists():
            raise MachineError(f"{TRIVET_EFI} not found: run make, or set TRIVET_BARE=1")
        lines = self.plain_conf() if self.conf is None else self.conf
        return {BOOT: TRIVET_EFI, "/EFI/trivet/trivet.conf": "".join(f"{s}\n" for s in lines).encode()}

    def make_esp(self):
        """A FAT file system as the whole of a small disk; `files` may replace anything in it."""
        files = {"/vmlinuz": self.kernel / "vmlinuz", "/initrd": self.kernel / "initrd"}
        files.update(self.boot_files())
        files.update(self.files)

        sources = {}
        for i, (path, source) in enumerate(files.items()):
            if source is None:
                continue
            if isinstance(source, bytes):
                (self.work / f"file{i}").write_bytes(source)
                source = self.work / f"file{i}"
            sources[path] = Path(source)
        # The same size for the bare machine and for Trivet, whose files are small
        content = sum(source.stat().st_size for source in sources.values()) // (32 << 20) * (32 << 20)
        image = self.work / "esp.img"
        with open(image, "wb") as f:
            f.truncate(-(-(content + (64 << 20)) // CYLINDER) * CYLINDER)
        env = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}

        def mtool(*args):
            r = subprocess.run(args, env=env, capture_output=True, text=True, check=False)
            if r.returncode:
                raise MachineError(f"{shlex.join(map(str, args))}: {r.stderr}")

        mtool("mkfs.vfat", "-F", "32", "-n", "TRIVET", image)
        dirs = {str(d) for p in sources for d in Path(p).parents} - {"/"}
        for d in sorted(dirs):
            mtool("mmd", "-i", image, f"::{d}")
        for path, source in sources.items():
            mtool("mcopy", "-i", image, source, f"::{path}")
        return image

    def command(self):
        for path in (OVMF_CODE, OVMF_VARS):
            if not Path(path).exists():
                raise MachineError(f"{path} not found (package ovmf; or set OVMF_CODE, OVMF_VARS)")
        shutil.copyfile(OVMF_VARS, self.work / "vars.fd")
        os.chmod(self.work / "vars.fd", 0o600)
        args = QEMU + [
            "-accel", "tcg", "-machine", "q35", "-cpu", self.cpu,
            "-smp", str(self.smp), "-m", str(self.mem),
            "-nodefaults", "-display", "none",
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}",
            "-drive", f"if=pflash,unit=1,format=raw,file={self.work}/vars.fd",
            "-drive", f"if=none,id=esp,format=raw,file={self.make_esp()}",
            "-device", "virtio-blk-pci,drive=esp,serial=esp" +
            ("" if self.bare and BOOT not in self.files else ",bootindex=0"),
            "-chardev", f"pipe,id=com1,path={self.work}/com1",
            "-serial", "chardev:com1", "-serial", f"file:{self.hypervisor_log}",
            "-monitor", f"unix:{self.work}/monitor,server=on,wait=off",
        ]
        if not self.reboot:
            args += ["-no-reboot"]
        if self.bare and BOOT not in self.files:
            args += ["-kernel", str(self.kernel / "vmlinuz"), "-initrd", str(self.kernel / "initrd"),
                     "-append", self.cmdline]
        return args + self.extra

    def start(self):
        Machine.touched.add(self)
        args = self.command()
        (self.logs / "emulator.cmd").write_text(shlex.join(args) + "\n")
        self.console = Console(self.work / "com1", self.console_log, lambda: self.process.poll() is None,
                               self.stopped, 60 * self.scale)
        with open(self.logs / "emulator.log", "wb") as err:
            self.process = self.spawn(args, err)

    def spawn(self, args, err):
        return subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=err, stderr=err, env=MENDED,
                                start_new_session=True)

    def stopped(self):
        return PANIC_LINE.search(self.log_text())

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.console:
            self.console.close()
            self.console = None
        shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind, value, trace):
        Machine.touched.add(self)
        self.stop()
        if kind is None and self.check_log and not self.bare:
            self.check_hypervisor_log()

    # -- the console --------------------------------------------------------------------------

    def expect(self, pattern, timeout=60, what=None):
        """Wait for a bytes pattern on the root console; the match object."""
        Machine.touched.add(self)
        if self.dead:
            raise MachineError(f"not tried: the machine is gone since: {self.dead}")
        try:
            self.console.expect(pattern, timeout=timeout * self.scale)
        except pexpect.TIMEOUT:
            self.fail(f"no {what or pattern!r} within {timeout * self.scale:.0f} s")
        except Stopped:
            time.sleep(1)
            self.fail(f"the hypervisor panicked before {what or pattern!r}")
        except pexpect.EOF:
            self.ended(f"{self.emulator} ended before {what or pattern!r}")
        return self.console.match

    def expect_ready(self, timeout=150):
        """Wait for user space, then make the shell quiet; (processors, kernel release, uptime)."""
        m = self.expect(READY, timeout, "TRIVET-READY")
        self.expect(rb"# ", 30, "shell prompt")
        self.run("stty cols 250; dmesg -n 1", 30)
        return int(m[1]), m[2].decode(), float(m[3])

    def run(self, command, timeout=60):
        """Run a command line (one line, no trailing `&`) in the root's shell; (output, status)."""
        # The marks are split so that the shell's echo of the line is not taken for them
        self.send(f"echo '@@''BEGIN'; {command}; echo \"@@\"\"END $?@@\"\n")
        self.expect(rb"@@BEGIN\r*\n", 60, f"start of `{command}`")
        m = self.expect(rb"@@END (\d+)@@", timeout, f"end of `{command}`")
        output = ANSI.sub("", self.console.before.decode(errors="replace")).replace("\r", "")
        return output.strip("\n"), int(m[1])

    def check(self, command, timeout=60):
        """run(), and fail unless the exit status is 0; the output."""
        output, status = self.run(command, timeout)
        assert status == 0, f"`{command}` in the root: status {status}\n{output}"
        return output

    def send(self, text):
        if self.dead:
            raise MachineError(f"not tried: the machine is gone since: {self.dead}")
        self.console.send(text)

    def console_text(self):
        """All that the root console showed so far, without terminal control sequences."""
        if self.console:
            self.console.gather()
        return ANSI.sub("", self.console_log.read_text(errors="replace")).replace("\r", "")

    def said(self, text, timeout=90):
        """Wait for a text that firmware's console may have wrapped anywhere: blanks do not count."""
        want = re.sub(r"\s+", "", text)
        end = time.monotonic() + timeout * self.scale
        while want not in re.sub(r"\s+", "", self.console_text()):
            if self.process.poll() is not None:
                self.ended(f"{self.emulator} ended before the console said {text!r}")
            if time.monotonic() > end:
                self.fail(f"the console does not say {text!r}")
            time.sleep(0.2)

    def wait_exit(self, timeout=60):
        """Wait until the machine switches itself off; the emulator's exit status."""
        try:
            return self.process.wait(timeout * self.scale)
        except subprocess.TimeoutExpired:
            return self.fail(f"still running after {timeout * self.scale:.0f} s")

    # -- the logs -----------------------------------------------------------------------------

    def log_text(self):
        return self.hypervisor_log.read_text(errors="replace") if self.hypervisor_log.exists() else ""

    def check_hypervisor_log(self):
        """Every run on Trivet: it names the processor and the root partition, and no trouble."""
        text = self.log_text()
        assert text.strip(), f"{self.name}: the hypervisor wrote no log to COM2"
        assert re.search(r"(?i)\bcpu\b.*(AMD|EPYC|QEMU|Intel)|AuthenticAMD", text), \
            f"{self.name}: no processor named in the hypervisor's log\n{text[:3000]}"
        assert ROOT_LINE.search(text), \
            f"{self.name}: no root partition named in the hypervisor's log\n{text[:3000]}"
        bad = [line for line in text.splitlines() if BAD_LINE.search(line)]
        assert not bad, f"{self.name}: in the hypervisor's log:\n" + "\n".join(bad[:80])

    @contextlib.contextmanager
    def interrupted(self, seconds):
        """A hundred times a second the emulator's threads stop for a moment, wherever they are; for so long at least."""
        over = threading.Event()
        end = time.monotonic() + seconds

        def stop_and_go():
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.connect(str(self.work / "monitor"))
                while not over.is_set() or time.monotonic() < end:
                    monitor.sendall(b"stop\ncont\n")
                    monitor.recv(65536)
                    time.sleep(0.01)

        thread = threading.Thread(target=stop_and_go)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def registers(self):
        """`info registers` of every processor, for a machine that hangs"""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(3)
                s.connect(str(self.work / "monitor"))
                s.sendall(b"info cpus\ninfo registers -a\n")
                data = b""
                try:
                    while chunk := s.recv(65536):
                        data += chunk
                except socket.timeout:
                    pass
            return ANSI.sub("", data.decode(errors="replace")).replace("\r", "")
        except OSError as e:
            return f"(no registers: {e})"

    def report(self, lines=40):
        """The ends of the logs, as text"""
        parts = []
        for title, path in (("root console", self.console_log),
                            ("hypervisor log", self.hypervisor_log),
                            (self.emulator, self.logs / "emulator.log")):
            text = path.read_text(errors="replace") if path.exists() else ""
            text = ANSI.sub("", text).replace("\r", "")
            tail = [s for s in text.splitlines() if "doesn't support requested feature" not in s]
            parts.append(f"---- {title}: {path}\n" + "\n".join(tail[-lines:]))
        return "\n".join(parts)

    def ended(self, why):
        """The console is closed: give QEMU the moment it needs to leave a status, and fail."""
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            pass
        self.fail(why)

    def fail(self, why):
        self.dead = why
        if self.process and self.process.poll() is None:
            (self.logs / "registers.txt").write_text(self.registers())
            why += f" (registers of all processors: {self.logs}/registers.txt)"
        elif self.process:
            why += f" ({self.emulator}'s exit status {self.process.returncode})"
        raise MachineError(f"{self.name}: {why}")
