# SPDX-License-Identifier: MIT
"""Reading what a root partition shows: the hypervisor's counters through mshv's debugfs, and /proc/interrupts."""
import re
from dataclasses import dataclass

STATS = "/sys/kernel/debug/mshv"
# What every kernel on this interface says, and a root partition besides
SAID = ["Hypervisor detected: Microsoft Hyper-V", "Hyper-V: running as root partition", "Hyper-V: Hypervisor Build",
        r"Hypervisor using (core|root|classic) scheduler"]


def said(machine, *patterns):
    """Which of the patterns the kernel's messages do not have"""
    text = machine.check("dmesg", 120)
    return [pattern for pattern in patterns if not re.search(pattern, text)]


def counters(machine):
    """{"hv": ..., "lp0": ..., "partition": ..., "vp0": ...}, each {counter's name: value}"""
    found = {}
    text = machine.check(f"cd {STATS} && for f in stats lp/*/stats partition/*/stats partition/*/vp/*/stats; do "
                         f"echo \"@$f\"; grep -v ': 0$' $f; done; cd /root", 120)
    for part in text.split("@")[1:]:
        path, _, rows = part.partition("\n")
        words = path.split("/")[:-1]  # [], lp N, partition ID, partition ID vp N
        name = "".join(words[-2:]) or "hv"
        name = "partition" if name.startswith("partition") else name
        found[name] = {k: int(v) for k, v in re.findall(r"(?m)^(\w+) *: (\d+)$", rows)}
    return found


@dataclass(frozen=True)
class Pages:
    """What the hypervisor's log (log-level debug) says when a child's end is done"""
    own: int  # of the hypervisor's pages: free, or in tables of the root's memory and ports; always the same
    lent: int  # of the root's deposits: what serves children; the same when as many are there


def pages_at_ends(log):
    """[Pages] at the end of each child"""
    return [Pages(sum(map(int, own)), int(lent)) for *own, lent in
            re.findall(r"p\d+: deleted; pages: (\d+) free, (\d+) of page use, (\d+) of p1's space, (\d+) of its ports; "
                       r"its deposits: (\d+) used", log)]


class Ends:
    """Judges what the log says at the ends of children, after each test"""

    def __init__(self, machine):
        self.machine, self.seen, self.lent = machine, 0, {}  # by the number of partitions that are there

    def check(self):
        ends = pages_at_ends(self.machine.log_text())
        assert len({pages.own for pages in ends}) <= 1, ends[-20:]
        if len(ends) > self.seen:
            there = counters(self.machine)["hv"]["HvPartitions"]
            assert self.lent.setdefault(there, ends[-1].lent) == ends[-1].lent, (there, self.lent, ends[-4:])
        self.seen = len(ends)


def grown(before, after, who, *names):
    """The sum of what the counters of `who` (a prefix: all VPs) with these names gained"""
    return sum(after[key].get(name, 0) - before[key].get(name, 0)
               for key in after if key.startswith(who) for name in names)


def clock_skews_ns(machine):
    """How far clock sources were apart when the kernel called one unstable"""
    found = re.findall(r"clocksource: Watchdog +\S+ interval: +(\d+)ns\n.*clocksource: Clocksource +\S+ interval: +(\d+)ns",
                       machine.check("dmesg", 120))
    return [abs(int(a) - int(b)) for a, b in found]


class Interrupt:
    """A line of /proc/interrupts"""

    def __init__(self, number, counts, chip, name):
        self.number, self.counts, self.chip, self.name = number, counts, chip, name


def interrupts(machine):
    """{name: Interrupt}; the name is the device's, or the label of what has no number"""
    found = {}
    head, *rows = machine.check("cat /proc/interrupts").splitlines()
    processors = len(head.split())
    for row in rows:
        number, *words = row.split()
        number = number.rstrip(":")
        counts = [int(word) for word in words[:processors] if word.isdigit()]
        rest = words[len(counts):]
        name = rest[-1] if number.isdigit() and rest else number
        found[name] = Interrupt(number, counts, rest[0] if rest else "", name)
    return found
