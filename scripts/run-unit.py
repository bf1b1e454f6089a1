#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the cmocka executables it is given, a few at a time, and prints failures, one line for each executable and
the sum. A crash or a sanitizer report counts as one failed test, with what it printed."""

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

TIMEOUT_S = 300


def run(path):
    """Returns (name, seconds, [testcase elements])."""
    name = pathlib.Path(path).name
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="xml", CMOCKA_XML_FILE=f"{folder}/%g.xml")
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        try:
            done = subprocess.run(
                [path], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, errors="replace"
            )
            output, status = done.stdout, done.returncode
        except subprocess.TimeoutExpired as late:
            output, status = f"{late.stdout or ''}\nno end after {TIMEOUT_S} s", "timeout"
        cases = []
        for xml in sorted(pathlib.Path(folder).glob("*.xml")):
            try:
                cases += ET.parse(xml).getroot().iter("testcase")
            except ET.ParseError as error:
                output += f"\n{xml.name}: {error}"
                status = status or "bad report"
    failed = sum(case.find("failure") is not None for case in cases)
    # cmocka exits with the number of failed tests; anything else is a crash, and no test at all is no success.
    if not cases or status not in (0, failed):
        case = ET.Element("testcase", name="(run)")
        text = output.strip() or "no test was run"
        ET.SubElement(case, "failure", message=f"exit status {status}").text = text
        cases.append(case)
    elif failed:
        cases[0].append(ET.Element("system-out"))
        cases[0].find("system-out").text = output
    for case in cases:
        case.set("classname", name)
    return name, time.monotonic() - start, cases, output


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--xml", help="JUnit report to write")
    parser.add_argument("executables", nargs="*")
    args = parser.parse_args()
    suite = ET.Element("testsuite", name="unit")
    passed = failed = skipped = 0
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for name, seconds, cases, output in pool.map(run, args.executables):
            bad = [case for case in cases if case.find("failure") is not None]
            left_out = sum(case.find("skipped") is not None for case in cases)
            good = len(cases) - len(bad) - left_out
            passed, failed, skipped = passed + good, failed + len(bad), skipped + left_out
            print(f"  {'FAIL' if bad else 'ok':4} {name}: {good} passed, {len(bad)} failed ({seconds:.1f} s)")
            for case in bad:
                print(f"    {case.get('name')}: {(case.find('failure').text or '').strip()}")
            if bad and output.strip():
                print("    " + "\n    ".join(output.strip().splitlines()[-60:]))
            sys.stdout.flush()
            suite.extend(cases)
    suite.attrib.update(
        tests=str(passed + failed + skipped),
        failures=str(failed),
        errors="0",
        skipped=str(skipped),
        time=f"{time.monotonic() - start:.2f}",
    )
    if args.xml:
        pathlib.Path(args.xml).parent.mkdir(parents=True, exist_ok=True)
        ET.ElementTree(suite).write(args.xml, encoding="utf-8", xml_declaration=True)
    tail = f", {skipped} skipped" if skipped else ""
    print(f"unit: {passed} passed, {failed} failed{tail}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
