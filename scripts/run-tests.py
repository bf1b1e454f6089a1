#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs test suites one after the other (each is a make target that leaves a JUnit report), shows their output as it
comes, then a line for each suite; the last line is `N passed, N failed, N skipped`. Exit status 1 if any failed."""

import argparse
import os
import pathlib
import shlex
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

# Suite: make target, and whether it writes <results>/<suite>.xml
SUITES = {
    "lint": ("lint-quick", False),
    "scripts": ("test-scripts", True),
    "unit": ("test-unit", True),
    "guests": ("test-guests", True),
    "linux": ("test-linux", True),
    "fuzz": ("fuzz", True),
}


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


def run(name, make, results):
    target, reports = SUITES[name]
    report = results / f"{name}.xml"
    report.unlink(missing_ok=True)
    print(f"== {name}", flush=True)
    jobs = [] if "-j" in os.environ.get("MAKEFLAGS", "") else [f"-j{os.cpu_count() or 2}"]
    status = subprocess.run([*make, *jobs, "--no-print-directory", target, f"RESULTS={results}"]).returncode
    if not reports:
        return (1, 0, 0) if status == 0 else (0, 1, 0)
    try:
        passed, failed, skipped = count(report)
    except (OSError, ET.ParseError):
        passed, failed, skipped = 0, 0, 0
    # pytest says 5 when it found nothing to run: that is no success either. make turns both into 2.
    if failed == 0 and (status != 0 or passed + skipped == 0):
        print(f"{name}: ended with status {status} and no failed test in its report", flush=True)
        failed = 1
    return passed, failed, skipped


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make", default="make")
    parser.add_argument("--results", default="build/results")
    parser.add_argument("suites", nargs="+", choices=sorted(SUITES))
    args = parser.parse_args()
    results = pathlib.Path(args.results)
    results.mkdir(parents=True, exist_ok=True)
    lines, total = [], [0, 0, 0]
    for name in args.suites:
        start = time.monotonic()
        counts = run(name, shlex.split(args.make), results)
        total = [a + b for a, b in zip(total, counts)]
        seconds = time.monotonic() - start
        lines.append(f"  {name:8} {counts[0]:5} passed {counts[1]:5} failed {counts[2]:5} skipped {seconds:7.0f} s")
    print("== summary")
    print("\n".join(lines))
    print("{} passed, {} failed, {} skipped".format(*total))
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
