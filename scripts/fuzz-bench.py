#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How fast the hypervisor's interface is fuzzed and how much of it the corpus in the tree reaches, into bench.tsv: hypercalls per second
of one processor (libFuzzer with sanitizers; and only the calls, without), and branches of the given sources (clang's source-based
coverage)."""

import argparse
import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
OPTIONS = importlib.import_module("run-fuzz").OPTIONS
SECONDS = 5
CORPUS = "tests/fuzz/corpus/fuzz_hypercall"


def tool(name):
    """llvm-cov and the like: Debian's package calls them so, other places add the version."""
    for candidate in (name, *(f"{name}-{version}" for version in range(20, 13, -1))):
        if shutil.which(candidate):
            return candidate
    sys.exit(f"fuzz-bench: no {name}")


def run(command, **env):
    """Hypercalls per second of processor time."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", env={**os.environ, **env})
    found = re.search(r"hypercalls_per_s:\s+(\d+)", done.stdout)
    if done.returncode or not found:
        sys.exit(f"fuzz-bench: {command} ended with {done.returncode}\n{done.stdout[-10000:]}")
    return int(found[1])


def replay(folder, variant, seconds, **env):
    return run([folder / f"replay-{variant}", str(seconds), CORPUS], **env)


def fuzz(folder, seconds):
    """As `make fuzz` does it, on the corpus in the tree."""
    with tempfile.TemporaryDirectory() as scratch:
        options = [f"-max_total_time={seconds}", "-seed=1", f"-artifact_prefix={scratch}/", *OPTIONS["fuzz_hypercall"]]
        return run([folder / "fuzz_hypercall", *options, scratch, CORPUS])


def coverage(folder, sources):
    """[(file, branches, branches not taken)]"""
    raw, data = folder / "coverage.profraw", folder / "coverage.profdata"
    replay(folder, "coverage", 0, LLVM_PROFILE_FILE=str(raw))
    subprocess.run([tool("llvm-profdata"), "merge", "-o", data, raw], check=True)
    command = [tool("llvm-cov"), "report", folder / "replay-coverage", f"-instr-profile={data}", *sources]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [line.split() for line in text.splitlines() if re.match(r"\S+\.c\s", line)]
    return [(row[0], int(row[-3]), int(row[-2])) for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("sources", nargs="+")
    args = parser.parse_args()
    files = coverage(args.folder, args.sources)
    for name, branches, missed in files:
        print(f"  {name:28} {branches - missed:5} of {branches:5} branches")
    branches, missed = sum(row[1] for row in files), sum(row[2] for row in files)
    rows = [
        ("fuzz.hypercalls_per_s", fuzz(args.folder, 4 * SECONDS), "hypercalls/s"),
        ("fuzz.hypercalls_per_s_plain", replay(args.folder, "plain", SECONDS), "hypercalls/s"),
        ("fuzz.branch_coverage_pct", f"{100 * (branches - missed) / branches:.1f}", "%"),
    ]
    for name, value, unit in rows:
        print(f"  {name:36} {value:>14} {unit}")
    old = args.out.read_text().splitlines() if args.out.exists() else []
    lines = [line for line in old if not line.startswith("fuzz.")] + ["\t".join(map(str, row)) for row in rows]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
