#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs libFuzzer executables for a while each, keeps their corpora, and reports crashes with the input's path."""

import argparse
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

# An input of this one is a sequence of what a guest does: short ones do little but start the machine.
OPTIONS = {"fuzz_hypercall": ["-max_len=4096", "-len_control=0"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0: another each time")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--xml")
    parser.add_argument("executables", nargs="*")
    args = parser.parse_args()
    suite, failed = ET.Element("testsuite", name="fuzz"), 0
    for path in args.executables:
        name = pathlib.Path(path).name
        corpus = pathlib.Path(args.corpus) / name
        artifacts = pathlib.Path(args.corpus) / f"{name}-crashes"
        corpus.mkdir(parents=True, exist_ok=True)
        artifacts.mkdir(parents=True, exist_ok=True)
        seeds = pathlib.Path("tests/fuzz/corpus") / name
        command = [
            path,
            f"-max_total_time={args.seconds}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            f"-seed={args.seed}",
            *OPTIONS.get(name, []),
            f"-artifact_prefix={artifacts}/",
            str(corpus),
        ]
        if seeds.is_dir():
            command.append(str(seeds))
        print(f"  fuzz {name}, {args.seconds} s", flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
        runs = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stdout)
        case = ET.SubElement(suite, "testcase", name=name, classname="fuzz")
        if done.returncode or not runs or int(runs[1]) < 2:
            failed += 1
            ET.SubElement(case, "failure", message=f"exit status {done.returncode}").text = done.stdout[-20000:]
            print("\n".join(done.stdout.splitlines()[-60:]))
        else:
            rate = re.search(r"stat::(\w+)_per_s:\s+(\d+)", done.stdout)
            extra = f", {rate[2]} {rate[1]} per second" if rate else ""
            print(f"  ok   {name}: {runs[1]} inputs{extra}, corpus of {len(list(corpus.iterdir()))}", flush=True)
    if args.xml:
        pathlib.Path(args.xml).parent.mkdir(parents=True, exist_ok=True)
        ET.ElementTree(suite).write(args.xml, encoding="utf-8", xml_declaration=True)
    print(f"fuzz: {len(args.executables) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
