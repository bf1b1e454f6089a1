#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs test suites one after the other (each is a make target that leaves a JUnit report), or `a+b` beside each other;
shows their output as it comes (b's after a's), then a line for each suite; the last line is `N passed, N failed,
N skipped`. Exit status 1 if any failed."""

import argparse
import concurrent.futures
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

# Suite: make target and variables, and whether it writes <results>/<suite>.xml
SUITES = {
    "lint": (["lint-quick"], False),
    "scripts": (["test-scripts"], True),
    "unit": (["test-unit"], True),
    "guests": (["test-guests", "MARK=not intel"], True),
    "linux": (["test-linux", "MARK=not intel"], True),
    "guests-intel": (["test-guests", "MARK=intel", "REPORT=guests-intel"], True),
    "linux-intel": (["test-linux", "MARK=intel", "REPORT=linux-intel"], True),
    "fuzz": (["fuzz", "FUZZ_SECONDS=10", "FUZZ_SEED=1"], True),
}
NEEDED = ["efi", "guests", "bochs", "root-kernel", "vmm"]  # made before suites run beside each other: they would both make it


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


def run(name, make, results, output=None):
    """Returns the suite's counts and seconds; `output` is a file, None for our own."""
    arguments, reports = SUITES[name]
    report = results / f"{name}.xml"
    report.unlink(missing_ok=True)
    print(f"== {name}", file=output, flush=True)
    start = time.monotonic()
    status = subprocess.run(make_command(make, *arguments, f"RESULTS={results}"), stdout=output, stderr=output).returncode
    seconds = time.monotonic() - start
    if not reports:
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


def run_beside(names, make, results):
    """The suites all at once; [(counts, seconds)]"""
    subprocess.run(make_command(make, *NEEDED))  # what fails here fails in each suite, and is counted there
    files = [None] + [tempfile.TemporaryFile("w+", errors="replace") for _ in names[1:]]
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        futures = [pool.submit(run, name, make, results, file) for name, file in zip(names, files)]
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
    for group in groups:
        answers = [run(group[0], make, results)] if len(group) == 1 else run_beside(group, make, results)
        for name, (counts, seconds) in zip(group, answers):
            total = [a + b for a, b in zip(total, counts)]
            lines.append(f"  {name:12} {counts[0]:5} passed {counts[1]:5} failed {counts[2]:5} skipped {seconds:7.0f} s")
    print("== summary")
    print("\n".join(lines))
    print("{} passed, {} failed, {} skipped".format(*total))
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
