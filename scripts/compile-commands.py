#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Turns `file|command` lines, as the Makefile prints them, into compile_commands.json on stdout."""

import json
import os
import sys

entries = []
for line in sys.stdin:
    name, command = line.rstrip("\n").split("|", 1)
    if not name.endswith(".c"):
        continue
    entries.append({"directory": os.getcwd(), "file": name, "command": f"{command} -c {name}"})
json.dump(entries, sys.stdout, indent=1)
print()
