#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks a UEFI application as firmware with Secure Boot and memory protection wants it: a PE32+ for x86-64 with
page-aligned sections, none of them writable and executable, and declares it compatible with no-execute data."""

import struct
import sys

IMAGE_SCN_MEM_EXECUTE, IMAGE_SCN_MEM_WRITE = 0x20000000, 0x80000000
DLL_DYNAMIC_BASE, DLL_NX_COMPAT = 0x0040, 0x0100
EFI_APPLICATION = 10


def check(data):
    pe = struct.unpack_from("<I", data, 0x3C)[0]
    if data[:2] != b"MZ" or data[pe : pe + 4] != b"PE\0\0":
        yield "not a PE file"
        return
    machine, sections = struct.unpack_from("<HH", data, pe + 4)
    optional_size = struct.unpack_from("<H", data, pe + 20)[0]
    optional = pe + 24
    magic = struct.unpack_from("<H", data, optional)[0]
    if machine != 0x8664 or magic != 0x20B:
        yield "not PE32+ for x86-64"
        return
    section_alignment, file_alignment = struct.unpack_from("<II", data, optional + 32)
    image_size, header_size = struct.unpack_from("<II", data, optional + 56)
    subsystem = struct.unpack_from("<H", data, optional + 68)[0]
    if subsystem != EFI_APPLICATION:
        yield f"subsystem {subsystem} is not EFI application"
    if section_alignment != 4096:
        yield f"section alignment {section_alignment} is not a page"
    end = header_size
    names = []
    for i in range(sections):
        offset = optional + optional_size + 40 * i
        name = data[offset : offset + 8].rstrip(b"\0").decode()
        names.append(name)
        size, address, raw_size, raw = struct.unpack_from("<IIII", data, offset + 8)
        flags = struct.unpack_from("<I", data, offset + 36)[0]
        if flags & IMAGE_SCN_MEM_EXECUTE and flags & IMAGE_SCN_MEM_WRITE:
            yield f"section {name} is writable and executable"
        if address % section_alignment or raw % file_alignment:
            yield f"section {name} is not aligned"
        if address < end:
            yield f"section {name} overlaps what is before it"
        if raw + raw_size > len(data):
            yield f"section {name} is cut off"
        end = address + max(size, raw_size)
    if end > (image_size + 4095) // 4096 * 4096:
        yield "sections go beyond SizeOfImage"
    if ".reloc" not in names:
        yield "no .reloc section: firmware could not move it"


def main():
    path = sys.argv[1]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    problems = list(check(data))
    for problem in problems:
        print(f"{path}: {problem}", file=sys.stderr)
    if problems:
        return 1
    # objcopy cannot set these; the linker script keeps code and data on pages of their own.
    optional = struct.unpack_from("<I", data, 0x3C)[0] + 24
    characteristics = struct.unpack_from("<H", data, optional + 70)[0] | DLL_NX_COMPAT | DLL_DYNAMIC_BASE
    struct.pack_into("<H", data, optional + 70, characteristics)
    struct.pack_into("<I", data, optional + 64, 0)  # CheckSum: 0 means none, UEFI does not look at it
    # A fixed time stamp gives the same file for the same source.
    struct.pack_into("<I", data, struct.unpack_from("<I", data, 0x3C)[0] + 8, 0)
    with open(path, "wb") as file:
        file.write(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
