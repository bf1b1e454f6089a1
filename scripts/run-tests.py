#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs test suites one after the other (each is a make target that leaves a JUnit report), or `a+b+c` beside each other,
as many at once as there are processors; shows their output as it comes (b's after a's), then a line for each suite; the last line is
`N passed, N failed, N skipped`. Exit status 1 if any failed.

What takes minutes to build and is wanted late is made beside the suites, at the lowest priority: most of them leave a processor
idle. A suite waits for what it needs; when that cannot be built, the suite counts as failed."""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    target: str
    variables: tuple = ()
    reports: bool = True  # it writes <results>/<suite>.xml
    needs: tuple = ()  # of BUILDS


def emulators(target, mark, *needs):
    return Suite(target, (f"MARK={mark}",), needs=("bochs", *needs))


SUITES = {
    "lint": Suite("lint-quick", reports=False),
    "scripts": Suite("test-scripts"),
    "unit": Suite("test-unit"),
    "fuzz": Suite("fuzz", ("FUZZ_SECONDS=10", "FUZZ_SEED=1")),
    # The mark `mshv` is that of tests that need the root's kernel.
    "guests": emulators("test-guests", "not intel and not mshv"),
    "linux": emulators("test-linux", "not intel and not mshv", "vm-disk"),
    "children": emulators("test-guests", "not intel and mshv", "root-kernel"),
    "mshv": emulators("test-linux", "not intel and mshv", "vm-disk", "root-kernel"),
    "guests-intel": emulators("test-guests", "intel and not mshv"),
    "children-intel": emulators("test-guests", "intel and mshv", "root-kernel"),
    "linux-intel": emulators("test-linux", "intel", "vm-disk", "root-kernel"),
}
# Made beside the suites in this order: name -> make targets
BUILDS = {"bochs": ["bochs"], "vm-disk": ["vm-disk"], "root-kernel": ["root-kernel", "vmm"]}
TOGETHER = ["efi", "guests"]  # made before suites run beside each other: they would both make it


def count(report):
    """Returns (passed, failed, skipped) of a JUnit file."""
    passed = failed = skipped = 0
    for case in ET.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def make_command(make, *targets):
    jobs = [] if "-j" in os.environ.get("MAKEFLAGS", "") else [f"-j{os.cpu_count() or 2}"]
    return [*make, *jobs, "--no-print-directory", *targets]


class Builds:
    """Some of BUILDS, one after the other in the background. A context manager that ends what still runs."""

    def __init__(self, names, make, log):
        self.names, self.make, self.log = names, make, log
        self.status, self.seconds = {}, {}  # of those that ended
        self.changed, self.process, self.stopped = threading.Condition(), None, False
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self):
        self.log.write_text("")
        if self.names:
            print(f"== beside the suites: {', '.join(self.names)}; log in {self.log}", flush=True)
            self.thread.start()
        return self

    def __exit__(self, *_):
        with self.changed:
            self.stopped = True
            if self.process:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGTERM)

    def work(self):
        for name in self.names:
            start = time.monotonic()
            with open(self.log, "a") as log, self.changed:
                if self.stopped:
                    return
                # A session of its own, so that all of it can be ended. Linux may share the processors by sessions first, and
                # then the session is what has to stand back.
                self.process = subprocess.Popen(["nice", "-n", "19", *make_command(self.make, *BUILDS[name])], stdout=log,
                                                stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
                with contextlib.suppress(OSError):
                    pathlib.Path(f"/proc/{self.process.pid}/autogroup").write_text("19")
            status = self.process.wait()
            with self.changed:
                self.process = None
                self.status[name], self.seconds[name] = status, time.monotonic() - start
                self.changed.notify_all()

    def wait(self, needs, output=None):
        """Until they are there; meanwhile the log is shown as it grows. False when one could not be made."""
        needs = [name for name in needs if name in self.names]
        with open(self.log, errors="replace") as log:
            log.seek(0, os.SEEK_END)
            while True:
                with self.changed:
                    missing = [name for name in needs if name not in self.status]
                    failed = [name for name in needs if self.status.get(name)]
                    if missing and not failed:
                        self.changed.wait(1)
                print(log.read(), end="", file=output, flush=True)
                if failed or not missing:
                    break
        for name in failed:
            print(f"== {name} COULD NOT BE BUILT (status {self.status[name]}); the end of {self.log}:\n"
                  + "\n".join(self.log.read_text(errors="replace").splitlines()[-30:]), file=output, flush=True)
        return not failed

    def news(self):
        """The last line that was said, while something is made"""
        with self.changed:
            lines = self.log.read_text(errors="replace").split("\n") if len(self.status) < len(self.names) else []
        return next((line.strip() for line in reversed(lines) if line.strip()), None)


def run(name, make, results, builds, output=None):
    """Returns the suite's counts and seconds; `output` is a file, None for our own."""
    suite = SUITES[name]
    report = results / f"{name}.xml"
    report.unlink(missing_ok=True)
    start = time.monotonic()
    news = builds.news()
    print(f"== {name}" + (f" (beside: {news})" if news else ""), file=output, flush=True)
    if not builds.wait(suite.needs, output):
        return (0, 1, 0), time.monotonic() - start
    command = make_command(make, suite.target, *suite.variables, f"REPORT={name}", f"RESULTS={results}")
    status = subprocess.run(command, stdout=output, stderr=output).returncode
    seconds = time.monotonic() - start
    if not suite.reports:
        return ((1, 0, 0) if status == 0 else (0, 1, 0)), seconds
    try:
        passed, failed, skipped = count(report)
    except (OSError, ET.ParseError):
        passed, failed, skipped = 0, 0, 0
    # pytest says 5 when it found nothing to run: that is no success either. make turns both into 2.
    if failed == 0 and (status != 0 or passed + skipped == 0):
        print(f"{name}: ended with status {status} and no failed test in its report", file=output, flush=True)
        failed = 1
    return (passed, failed, skipped), seconds


def run_beside(names, make, results, builds):
    """As many of the suites at once as there are processors, begun in their order; [(counts, seconds)]"""
    builds.wait([need for name in names for need in SUITES[name].needs])  # what fails fails each suite that needs it
    subprocess.run(make_command(make, *TOGETHER))
    files = [None] + [tempfile.TemporaryFile("w+", errors="replace") for _ in names[1:]]
    with concurrent.futures.ThreadPoolExecutor(max(2, min(len(names), os.cpu_count() or 2))) as pool:
        futures = [pool.submit(run, name, make, results, builds, file) for name, file in zip(names, files)]
        answers = []
        for future, file in zip(futures, files):
            answers.append(future.result())
            if file:
                file.seek(0)
                print(file.read(), end="", flush=True)
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make", default="make")
    parser.add_argument("--results", default="build/results")
    parser.add_argument("suites", nargs="+", metavar="SUITE", help=f"of {', '.join(sorted(SUITES))}; a+b: at once")
    args = parser.parse_args()
    groups = [group.split("+") for group in args.suites]
    unknown = {name for group in groups for name in group} - set(SUITES)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    results = pathlib.Path(args.results)
    results.mkdir(parents=True, exist_ok=True)
    lines, total = [], [0, 0, 0]
    make = shlex.split(args.make)
    needed = {need for group in groups for name in group for need in SUITES[name].needs}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is built beside ends too
    with Builds([name for name in BUILDS if name in needed], make, results / "builds.log") as builds:
        for group in groups:
            beside = len(group) > 1
            answers = run_beside(group, make, results, builds) if beside else [run(group[0], make, results, builds)]
            for name, (counts, seconds) in zip(group, answers):
                total = [a + b for a, b in zip(total, counts)]
                lines.append(f"  {name:14} {counts[0]:5} passed {counts[1]:5} failed {counts[2]:5} skipped {seconds:7.0f} s")
    lines += [f"  {name:14} {'built beside' if status == 0 else 'COULD NOT BE BUILT':36} {builds.seconds[name]:7.0f} s"
              for name, status in builds.status.items()]
    print("== summary")
    print("\n".join(lines))
    print("{} passed, {} failed, {} skipped".format(*total))
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
