#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks a linked hypervisor image: no code that touches the guest's vector or x87 registers, no memory that
is writable and executable, pages of one kind of access only, no relocation that the loader does not know."""

import re
import struct
import subprocess
import sys

# Symbols that may hold such instructions: the routines that set that state for a guest, or switch it between guests.
ALLOWED_SYMBOLS = frozenset({"load_fx", "extended_state_save", "extended_state_load"})

PT_LOAD, PT_DYNAMIC, PT_GNU_STACK = 1, 2, 0x6474E551
PF_X, PF_W = 1, 2
DT_RELA, DT_RELASZ, DT_REL, DT_JMPREL, DT_TEXTREL, DT_NEEDED = 7, 8, 17, 23, 22, 1
R_X86_64_RELATIVE = 8
ET_DYN, EM_X86_64 = 3, 62

# Mnemonics that begin with f are x87; FXSAVE only reads the guest's state. The rest is known by its registers.
STATE_MNEMONIC = re.compile(r"^(f(?!s$|xsave64$)\w*|v?(ld|st)mxcsr|emms|vzeroupper|vzeroall|xsave\w*|xrstor\w*|maskmov\w*)$")
STATE_REGISTER = re.compile(r"%([xyz]?mm\d|st\b|k\d|tmm\d)")
PREFIXES = {"lock", "rep", "repz", "repnz", "notrack", "bnd", "data16", "addr32", "cs", "ds", "es", "ss", "fs", "gs"}


class Image:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise SystemExit(f"{path}: not a little-endian ELF64 file")
        self.type, self.machine = struct.unpack_from("<HH", self.data, 16)
        self.entry, phoff = struct.unpack_from("<QQ", self.data, 24)
        size, count = struct.unpack_from("<HH", self.data, 54)
        names = ("type", "flags", "offset", "vaddr", "paddr", "filesz", "memsz", "align")
        self.segments = [
            dict(zip(names, struct.unpack_from("<IIQQQQQQ", self.data, phoff + i * size))) for i in range(count)
        ]

    def file_offset(self, vaddr):
        for seg in self.segments:
            if seg["type"] == PT_LOAD and seg["vaddr"] <= vaddr < seg["vaddr"] + seg["filesz"]:
                return seg["offset"] + vaddr - seg["vaddr"]
        raise SystemExit(f"address {vaddr:#x} is in no segment's file part")

    def dynamic(self):
        entries = {}
        for seg in self.segments:
            if seg["type"] == PT_DYNAMIC:
                for offset in range(seg["offset"], seg["offset"] + seg["filesz"], 16):
                    tag, value = struct.unpack_from("<QQ", self.data, offset)
                    if tag == 0:
                        break
                    entries[tag] = value
        return entries


def check_layout(image):
    if image.type != ET_DYN or image.machine != EM_X86_64:
        yield "not a position-independent x86-64 image"
    loads = [seg for seg in image.segments if seg["type"] == PT_LOAD]
    pages = {}
    for seg in loads:
        where = f"segment at {seg['vaddr']:#x}"
        if seg["flags"] & PF_W and seg["flags"] & PF_X:
            yield f"{where} is writable and executable"
        if seg["vaddr"] % 4096:
            yield f"{where} does not begin on a page"
        for page in range(seg["vaddr"] // 4096, (seg["vaddr"] + seg["memsz"] + 4095) // 4096):
            if pages.setdefault(page, seg["flags"]) != seg["flags"]:
                yield f"{where} shares page {page:#x} with one of other access rights"
    for seg in image.segments:
        if seg["type"] == PT_GNU_STACK and seg["flags"] & PF_X:
            yield "an object asks for an executable stack"
    if not any(s["flags"] & PF_X and s["vaddr"] <= image.entry < s["vaddr"] + s["memsz"] for s in loads):
        yield "the entry point is not in the text"


def check_relocations(image):
    dynamic = image.dynamic()
    for tag, name in ((DT_REL, "DT_REL"), (DT_JMPREL, "DT_JMPREL"), (DT_TEXTREL, "DT_TEXTREL"), (DT_NEEDED, "DT_NEEDED")):
        if tag in dynamic:
            yield f"the dynamic section has {name}"
    if DT_RELA not in dynamic:
        return
    start = image.file_offset(dynamic[DT_RELA])
    for offset in range(start, start + dynamic.get(DT_RELASZ, 0), 24):
        target, info, _ = struct.unpack_from("<QQq", image.data, offset)
        if info != R_X86_64_RELATIVE:
            yield f"relocation of type {info & 0xFFFFFFFF}, symbol {info >> 32}, at {target:#x}: only RELATIVE is known"


def check_code(path):
    command = ["objdump", "-d", "--no-show-raw-insn", path]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    symbol = "?"
    for line in listing.splitlines():
        head = re.match(r"^[0-9a-f]+ <(.*)>:$", line)
        if head:
            symbol = head.group(1)
            continue
        fields = line.split("\t")
        if len(fields) < 2 or symbol in ALLOWED_SYMBOLS:
            continue
        code = re.sub(r"\s*[#<].*", "", fields[1])
        words = [word for word in code.split() if word not in PREFIXES and not word.startswith("rex")]
        mnemonic = words[0] if words else ""
        if STATE_MNEMONIC.match(mnemonic) or STATE_REGISTER.search(code):
            yield f"{symbol}: `{code.strip()}` at {fields[0].strip(' :')} touches the guest's registers"


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: check-image.py trivet.elf")
    path = sys.argv[1]
    image = Image(path)
    problems = [*check_layout(image), *check_relocations(image), *check_code(path)]
    for problem in problems[:20]:
        print(f"{path}: {problem}", file=sys.stderr)
    if len(problems) > 20:
        print(f"{path}: and {len(problems) - 20} more", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
