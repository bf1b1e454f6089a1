#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks what compilers don't: a licence line in each source, who may include whom, files that fit one's head, no
unfinished business, no C bit-fields in hardware or ABI layouts."""

import pathlib
import re
import subprocess
import sys

FOLDERS = ("boot", "core", "drivers", "svm", "vmx", "sched", "include", "scripts", "tests")
SUFFIXES = {".c", ".h", ".asm", ".def", ".py", ".sh", ".mk", ".ld"}
LINES_MAX = 600
# Which folders a folder's files may include by a path of their own, besides include/
MAY_INCLUDE = {
    "core": {"core"},
    "drivers": {"drivers"},
    "svm": {"svm"},
    "vmx": {"vmx"},
    "sched": {"sched"},
    "boot": {"boot"},
    "include": {"include"},
}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
BIT_FIELD = re.compile(r"^\s*(unsigned|int|bool|u?int\d+_t)[\w\s]*\w+\s*:\s*\d+\s*;", re.M)


def check(path, root):
    text = path.read_text(encoding="utf-8", errors="replace")
    name = path.relative_to(root).as_posix()
    lines = text.splitlines()
    folder = name.split("/")[0]
    if "SPDX-License-Identifier: MIT" not in "\n".join(lines[:6]):
        yield f"{name}:1: no `SPDX-License-Identifier: MIT` line"
    if folder not in ("tests", "scripts") and len(lines) > LINES_MAX:
        yield f"{name}:{len(lines)}: longer than {LINES_MAX} lines"
    for number, line in enumerate(lines, 1):
        if name != "scripts/check-source.py" and UNFINISHED.search(line):
            yield f"{name}:{number}: unfinished: {line.strip()}"
        if line != line.rstrip():
            yield f"{name}:{number}: blanks at the end of the line"
    if text and not text.endswith("\n"):
        yield f"{name}:{len(lines)}: no newline at the end"
    if path.suffix not in (".c", ".h") or folder not in MAY_INCLUDE:
        return
    for match in INCLUDE.finditer(text):
        target = path.parent / match[1]
        base = target if target.exists() else root / match[1]
        try:
            owner = base.resolve().relative_to(root.resolve()).parts[0]
        except ValueError:
            continue
        if owner not in MAY_INCLUDE[folder] and target.suffix != ".def":  # a table is everybody's
            yield f"{name}: {folder}/ may not include {match[1]} of {owner}/"
    for match in re.finditer(r"^\s*#\s*include\s+<trivet/(svm|vmx)/", text, re.M):
        if folder not in ("svm", "vmx"):
            yield f"{name}: {folder}/ may not include <trivet/{match[1]}/...>"
    for match in BIT_FIELD.finditer(text):
        yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}: C bit-field: its layout is the compiler's choice"


def sources(root):
    """What git tracks or would track; every file of the folders when there is no git."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *FOLDERS]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        done = None
    if done and done.returncode == 0:
        names = {root / name for name in done.stdout.split("\0") if name}
    else:
        names = {path for folder in FOLDERS for path in (root / folder).rglob("*")}
    return sorted(path for path in names if path.suffix in SUFFIXES and path.is_file())


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    problems = [problem for path in sources(root) for problem in check(path, root)]
    print("\n".join(problems), end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
