# SPDX-License-Identifier: MIT
"""The bare-metal guests as child partitions: Linux 7.2 as root is booted once for each vendor, with our monitors
(tests/vmm) and the guests in its initial RAM disk, and runs one after the other.

    /usr/bin/python3 -m pytest tests/guests/test_children.py -k 'xapic' -m intel

What a guest finds different in a child it knows itself, by the word "child" in its load options."""
import gzip
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from guest_machine import EXIT_GOOD, GUESTS, OUT, Result
from test_guests import BARE_ONLY, check_tap

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "linux"))
from bochs import BochsMachine  # noqa: E402
from machine import BAD_LINE, TOP, Machine, MachineError  # noqa: E402
from mshv import STATS, pages_at_ends  # noqa: E402

pytestmark = pytest.mark.skipif(BARE_ONLY, reason="TRIVET_BARE is set")
KERNELS = Path(os.environ.get("LINUX_KERNELS", OUT / "linux"))
VMM = OUT / "vmm"
VENDORS = [pytest.param("amd", marks=pytest.mark.amd), pytest.param("intel", marks=pytest.mark.intel)]
TRIPLE_FAULT, RESET = 101, 104  # tests/vmm/machine.h
CHURN = int(os.environ.get("TRIVET_CHURN", "0"))
# QEMU's time is that of its instructions, as Bochs' is: what the host takes away from the one processor isn't time to anybody.
COUNTED = ("-icount", "shift=4,sleep=off", "-rtc", "clock=vm,base=2026-01-01")


@dataclass(frozen=True)
class Child:
    name: str
    least: int  # results, so that an empty run is no success
    vps: int = 1
    mib: int = 64
    options: str = "-P"  # of mshv-guest; -N: nothing of the hypervisor's interface
    monitor: str = ""  # another one than that
    timeout: int = 120

    @property
    def id(self):
        return self.name + (f"-{self.vps}" if self.vps > 1 else "") + self.options.replace("-P", "").replace(" ", "")


CHILDREN = [
    Child("cpuid", least=20),
    Child("msr", least=39),
    Child("cr", least=47),
    Child("mtrr", least=37),
    Child("portio", least=56),
    Child("xapic", least=91),
    Child("x2apic", least=33, vps=2),
    Child("apic_timer", least=35),
    Child("ipi", least=24, vps=2),
    Child("smp", least=13, vps=2, timeout=240),
    Child("reinject", least=19, mib=192),
    Child("shadow", least=23),
    Child("world_switch", least=3, vps=2),
    Child("virt_insns", least=57),
    Child("smc", least=7),
    Child("exits", least=19, timeout=240),
    Child("modes", least=20),
    Child("task_switch", least=150),
    Child("tlfs_calls", least=197, timeout=240),
    Child("tlfs_synic", least=137, timeout=240),
    Child("tlfs_state", least=143, timeout=240),
    Child("tlfs_vp_registers", least=114, timeout=240),
    Child("tlfs_smp", least=67, vps=2, timeout=240),
    Child("isolation", least=59, timeout=240),
    # Moved from partition to partition.
    Child("saved", least=43, vps=2, mib=16, options="-P -s", timeout=240),
    Child("vmbus", least=51, mib=16, monitor="./mshv-vmbus", options=""),
    Child("devices", least=92, mib=16, monitor="./mshv-vmbus", options=""),
    # The same without a register page, and without the privileges that our monitor adds.
    Child("cpuid", least=20, options="-P -r"),
    Child("isolation", least=59, options="", timeout=240),
    # Without the interface, all is as on a processor.
    *(Child(name, least=least, vps=vps, options="-N", timeout=240) for name, least, vps in
      (("cpuid", 21, 1), ("msr", 41, 1), ("xapic", 91, 1), ("apic_timer", 35, 1), ("ipi", 24, 2), ("smp", 13, 2), ("virt_insns", 57, 1),
       ("exits", 19, 1))),
]


@pytest.fixture
def root(roots, vendor):
    """The vendor's running root. After each test it is as before: no partition is left, and every page is back."""
    machine = roots.get(vendor)
    yield machine
    if not machine.dead:
        roots.check_pages(vendor)


def make_folder(folder):
    """What the root's initial RAM disk gets besides its own: programs and guests, packed, for a slow disk reads it."""
    target = folder / "children"
    target.mkdir(parents=True)
    programs, guests = sorted(VMM.glob("mshv-*")), sorted(GUESTS.glob("test_*.efi"))
    assert len(programs) >= 6, f"no programs in {VMM}: run make vmm"
    assert guests, f"no guests in {GUESTS}: run make guests"
    for file in programs + guests:
        (target / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    return folder


@pytest.fixture(scope="session")
def kernel_with_children(tmp_path_factory):
    """A kernel's directory of its own, so that the other tests' initial RAM disk stays as it is"""
    subprocess.run([TOP / "scripts" / "build-root-kernel.sh", KERNELS / "mshv"], check=True)
    out, folder = tmp_path_factory.mktemp("kernel"), make_folder(tmp_path_factory.mktemp("initrd"))
    for name in ("vmlinuz", "package", "release"):
        (out / name).symlink_to(KERNELS / "mshv" / name)
    subprocess.run([TOP / "scripts" / "make-initramfs.sh", out, folder], check=True)
    return out


def boot(vendor, kernel, name, smp, extra=()):
    if vendor == "intel":
        return BochsMachine(f"{name}-intel", kernel, smp=smp, mem=768, interface="hv", log_level="debug")
    return Machine(f"{name}-amd", kernel, smp=smp, mem=1024, interface="hv", extra=extra, log_level="debug")


class Roots:
    """The running root of each vendor; one that is gone is started anew, once."""

    def __init__(self, kernel):
        self.kernel, self.machines, self.starts = kernel, {}, {}
        self.pages = {}  # when no child is there

    def get(self, vendor):
        machine = self.machines.get(vendor)
        if machine and not machine.dead:
            return machine
        if self.starts.get(vendor, 0) == 3:
            pytest.fail(f"the root died three times; the last: {machine.dead}")
        self.stop(vendor)
        self.starts[vendor] = self.starts.get(vendor, 0) + 1
        machine = self.machines[vendor] = boot(vendor, self.kernel, f"children{self.starts[vendor]}", 2)
        machine.start()
        assert machine.expect_ready()[0] == 2
        machine.check("ls /dev/mshv && gunzip /children/mshv-*.gz && chmod +x /children/mshv-*", 60)
        run_child(machine, Child("reset", least=0))
        self.pages[vendor] = pages_at_ends(machine.log_text())[-1]
        return machine

    def check_pages(self, vendor):
        """No child is there any more, and nothing that served one."""
        machine = self.machines[vendor]
        held = machine.check(f"n=0; until grep -q 'HvPartitions *: 1$' {STATS}/stats || [ $((n += 1)) = 50 ]; do usleep 100000; done; "
                             f"grep -oE 'HvPartitions.*|HvVirtualProcessors.*' {STATS}/stats")
        assert re.findall(r": (\d+)", held) == ["1", "2"], held
        log = machine.log_text()
        bad = [line for line in log.splitlines() if BAD_LINE.search(line)]
        assert not bad, bad
        ends = pages_at_ends(log)
        assert ends[-1] == self.pages[vendor], f"at first {self.pages[vendor]}, lately {ends[-4:]}"

    def stop(self, vendor):
        if vendor in self.machines:
            self.machines.pop(vendor).stop()


@pytest.fixture(scope="module")
def roots(kernel_with_children):
    roots = Roots(kernel_with_children)
    yield roots
    for vendor in list(roots.machines):
        roots.stop(vendor)


def run_program(root, line, timeout):
    """A program's output and status, in a machine that goes on when the program doesn't."""
    try:
        return root.run(f"cd /children; timeout -s KILL {int(timeout * root.scale)} {line}; s=$?; cd /root; (exit $s)",
                        timeout + 30)
    except MachineError as error:
        pytest.fail(f"{error}\n{root.report()}")


def run_child(root, child):
    """The Result as of a guest on a machine of its own."""
    efi = f"test_{child.name}.efi"
    line = f"{child.monitor} /tmp/{efi}" if child.monitor else \
        f"./mshv-guest /tmp/{efi} -c {child.vps} -m {child.mib} {child.options}"
    output, status = run_program(root, f"sh -c 'gunzip -c {efi}.gz >/tmp/{efi} && exec {line}'", child.timeout)
    root.check(f"rm -f /tmp/{efi}")
    # As the emulator's exit device has it, so that the same checks do.
    return Result(status * 2 + 1, output, root.log_text(), output[-2000:])


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("child", [pytest.param(child, id=child.id) for child in CHILDREN])
def test_child(root, vendor, child):
    if vendor == "intel" and child.name == "shadow":
        pytest.skip("Bochs with two processors lets a virtual interrupt into the shadow of STI (docs/hacking.md)")
    result = run_child(root, child)
    assert result.skipped is None, result.report()
    check_tap(result, child.least)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("name,status", [("tfault", TRIPLE_FAULT), ("reset", RESET)])
def test_end(root, vendor, name, status):
    """The monitor is told of a triple fault, and sees a reset by the chip set's port; the root goes on."""
    result = run_child(root, Child(name, least=0))
    assert result.started and not result.ended and result.status == status * 2 + 1, result.report()
    assert root.check("echo alive") == "alive"


def check_program(root, line, timeout, least):
    output, status = run_program(root, line, timeout)
    result = Result(status * 2 + 1, "# guest starts\n" + output, root.log_text(), "")
    check_tap(result, least)
    assert result.status == EXIT_GOOD
    return output


@pytest.mark.parametrize("vendor", VENDORS)
def test_isolation_from_outside(root, vendor):
    check_program(root, "./mshv-isolation", 60, 24)


@pytest.mark.parametrize("vendor", VENDORS)
def test_intercepts(root, vendor):
    """CPUID, MSRs and exceptions go to the monitor that installed an intercept, with all that the messages say, and are answered."""
    check_program(root, "./mshv-intercepts", 60, 68)


@pytest.mark.parametrize("vendor", VENDORS)
def test_signals(root, vendor):
    """However RUN_VP is interrupted, no exit is lost or doubled, and an interrupted VP stands still."""
    check_program(root, "./mshv-signals -n 150", 120, 8)


@pytest.mark.parametrize("vendor", VENDORS)
def test_nothing_is_left_for_the_next(root, vendor):
    check_program(root, f"./mshv-secret -n {20 if vendor == 'amd' else 3}", 120, 4)


@pytest.mark.parametrize("vendor", VENDORS)
def test_churn(root, vendor):
    """Created, run and deleted, and killed at any moment, without a page lost, each time (TRIVET_CHURN=10000: so often)"""
    before = len(pages_at_ends(root.log_text()))
    cycles, kills = (CHURN or 400, 30) if vendor == "amd" else (CHURN or 300, 10)
    check_program(root, f"./mshv-churn -n {cycles} -k {kills}", 120 + cycles // 4, 7)
    ends = pages_at_ends(root.log_text())[before:]
    assert len(ends) >= cycles + kills
    # One that is killed may end while the next one begins, and lends already.
    assert len(set(ends[:cycles])) == 1 and len({pages.own for pages in ends}) == 1, set(ends)


@pytest.mark.parametrize("vendor", VENDORS)
def test_scheduler(kernel_with_children, vendor):
    """Three busy guests on one LP share it by their weights; caps and reserves hold; the root stays responsive."""
    seconds = 10 if vendor == "amd" else 2  # of the machine's time
    with boot(vendor, kernel_with_children, "children-sched", 1, COUNTED) as root:
        root.expect_ready()
        root.check("gunzip /children/mshv-sched.gz && chmod +x /children/mshv-sched")
        output, status = run_program(root, f"./mshv-sched -s {seconds}", 30 * seconds)
    values = {name: int(value) for name, value in re.findall(r"(?m)^METRIC (\S+) (\d+)", output)}
    assert status == 0 and "TAP-END" in output, output
    assert values["lps"] == 1
    percent = {name: value / 1000 for name, value in values.items() if "." in name and not name.startswith("root")}
    for name, ideal in (("share.100", 10), ("share.200", 20), ("share.700", 70), ("cap.25", 25)):
        assert abs(percent[name] - ideal) <= 1, f"{name}: {percent[name]} %\n{output}"
    assert percent["reserve.50"] >= 49, output
    # The guests' slices have up to 10 ms: the root waits for the end of none.
    assert values["root.late_us"] < 2000 and values["root.late_max_us"] < 5000, output
