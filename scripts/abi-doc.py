#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes docs/abi.md: each hypercall, MSR, CPUID leaf and register name of the hypervisor's interface, whether Trivet has it, since which
version, and where the TLFS specifies it. What the interface is comes from include/hv, what there is from the tables that
the hypervisor is compiled from (core/hypercalls.def, core/hv_msrs.def, core/hv_cpuid.def, core/intercepts.def,
core/vp_registers.def and core/hv_cpuid.c).

    abi-doc.py [--check] [ROOT]      --check: only tell whether docs/abi.md is current

A row that contradicts include/hv (a code of another name, a size of another structure) is an error."""

import pathlib
import re
import sys

NOT_YET = "not yet"

# Input of a call, where it is not struct hv_input_<name>; None: it has no structure.
INPUTS = {
    "FLUSH_VIRTUAL_ADDRESS_LIST": "flush_virtual_address_space",
    "FLUSH_VIRTUAL_ADDRESS_LIST_EX": "flush_virtual_address_space_ex",
    "FLUSH_GUEST_PHYSICAL_ADDRESS_LIST": "flush_guest_physical_address_space",
    "NOTIFY_LONG_SPIN_WAIT": None,  # 4 bytes, of a register of 8
    "GET_VP_REGISTERS": "vp_registers",
    "SET_VP_REGISTERS": "vp_registers",
    "GET_VP_STATE": "vp_state",
    "SET_VP_STATE": "vp_state",
    "INITIALIZE_PARTITION": "partition_id",
    "FINALIZE_PARTITION": "partition_id",
    "DELETE_PARTITION": "partition_id",
    "CLEAR_VIRTUAL_INTERRUPT": "partition_id",
    "UNMAP_STATS_PAGE": "map_stats_page",
    "ENABLE_VP_VTL": "start_virtual_processor",
    "ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS": "sparse_spa_page_host_access",
    "RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS": "sparse_spa_page_host_access",
}
# The mask of banks, which their structure has too, belongs to the variable header.
FIXED = {"MAP_DEVICE_INTERRUPT": 72, "RETARGET_DEVICE_INTERRUPT": 56}

# Kinds of core/vp_registers.def that a VP may not ask for of itself.
PARENTS_KINDS = ("PARENT", "HOLD", "DELIVERABILITY")

MSR_SECTIONS = [
    (r"GUEST_OS_ID|HYPERCALL", "Hypercall Interface"),
    (r"VP_INDEX|VP_RUNTIME|GUEST_IDLE|VP_ASSIST_PAGE|NPIEP_CONFIG", "Virtual Processors"),
    (r"RESET|CRASH_\w+", "Partitions"),
    (r"TIME_REF_COUNT|REFERENCE_TSC|STIMER\w+|STIME_UNHALTED\w+|\w+_FREQUENCY", "Timers"),
    (r"EOI|ICR|TPR|SCONTROL|SVERSION|SIEFP|SIMP|EOM|SIRBP|SINT\d*", "Virtual Interrupts"),
    (r"NESTED_\w+|REENLIGHTENMENT\w+|TSC_EMULATION\w+", "Nested Virtualization"),
    (r"TSC_INVARIANT_CONTROL", "Feature and Interface Discovery"),
]


class Wrong(Exception):
    """A table contradicts include/hv."""


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def rows(text, macros):
    """The arguments of each use of one of the macros, as [(macro, [argument])]."""
    found = []
    for match in re.finditer(rf"\b({macros})\(", strip_comments(text)):
        depth, quoted, argument, arguments = 1, False, "", []
        for character in strip_comments(text)[match.end():]:
            quoted ^= character == '"'
            depth += 0 if quoted else (character == "(") - (character == ")")
            if depth == 0:
                break
            if character == "," and depth == 1 and not quoted:
                arguments.append(argument.strip())
                argument = ""
            else:
                argument += character
        found.append((match.group(1), [*arguments, argument.strip()]))
    return found


def constants(text, prefix):
    """[(name without prefix, value)] in the order of the header."""
    return [(name, value) for name, value in re.findall(rf"^#define {prefix}(\w+) (\(?[^/\n]+?)\s*(?:/\*.*)?$", text, re.M)]


def number(value):
    return int(re.sub(r"[uUlL]+$", "", value), 0)


def snake(name):
    """MapStatsPage2 is MAP_STATS_PAGE2."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def camel(name):
    return "".join(part.capitalize() for part in name.split("_"))


def call_name(name):
    return f"HvExtCall{camel(name[4:])}" if name.startswith("EXT_") else f"HvCall{camel(name)}"


def table(head, lines):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in lines), ""]


def hypercalls(root):
    headers = "".join(path.read_text() for path in sorted((root / "include/hv").glob("*.h")))
    sizes = {name: int(size) for name, size in re.findall(r"HV_ASSERT_SIZE\(struct hv_(input_\w+), (\d+)\)", headers)}
    calls = {number(value): name for name, value in constants((root / "include/hv/hypercall.h").read_text(), "HV_CALL_")
             if name != "EXTENDED_FIRST"}
    done, last = {}, -1
    for _, row in rows((root / "core/hypercalls.def").read_text(), "HYPERCALL"):
        code, name, form, _, size, rep_size, _, _, privilege, since, tlfs = row[:11]
        code = number(code) if code[0].isdigit() else {f"HV_CALL_{n}": c for c, n in calls.items()}.get(code, -1)
        if code not in calls or snake(name) != calls[code]:
            raise Wrong(f"hypercalls.def: {code:#06x} is {calls.get(code, 'nothing')} in hv/hypercall.h, not {snake(name)}")
        if code <= last:
            raise Wrong(f"hypercalls.def: {name} is not in order")
        last = code
        structure = INPUTS.get(calls[code], calls[code].lower())
        wanted = FIXED.get(calls[code], sizes.get(f"input_{structure}"))
        if wanted is not None and re.fullmatch(r"\w+", size) and number(size) != wanted:
            raise Wrong(f"hypercalls.def: {name} takes {size} bytes, struct hv_input_{structure} has {wanted}")
        kind = form.replace("SIMPLE", "simple").replace("REP", "rep").replace("_VAR", ", variable header")
        who = " or ".join(part.strip().removeprefix("HV_PRIVILEGE_") for part in privilege.split("|")) if privilege != "0" else ""
        done[code] = (kind, f"`{who}`" if who else "", since.strip('"'), tlfs.strip('"'))
    lines = []
    for code, name in sorted(calls.items()):
        kind, privilege, since, tlfs = done.get(code, ("", "", NOT_YET, call_name(name)))
        lines.append((f"`{code:#06x}`", camel(name), since, kind, privilege, tlfs))
    return len(done), len(lines), table(["Code", "Hypercall", "Since", "Form", "Privilege", "TLFS"], lines)


def msrs(root):
    known = [(name, number(value)) for name, value in constants((root / "include/hv/msr.h").read_text(), "HV_MSR_")
             if name not in ("FIRST", "LAST")]
    numbers = dict(known)
    done = {}
    for macro, row in rows((root / "core/hv_msrs.def").read_text(), "HV_MSR|HV_MSR_RO|HV_MSR_WO"):
        first, count, _, privilege, feature = row[:5]
        if first.removeprefix("HV_MSR_") not in numbers:
            raise Wrong(f"hv_msrs.def: {first} is not in hv/msr.h")
        offers = [part.strip() for word in (privilege, feature) for part in word.split("|") if part.strip() != "0"]
        access = {"HV_MSR": "read, write", "HV_MSR_RO": "read", "HV_MSR_WO": "write"}[macro]
        for index in range(int(count, 0)):
            done[numbers[first.removeprefix("HV_MSR_")] + index] = (access, offers, row[-1].strip('"'))
    lines = []
    for name, msr in known:
        access, offers, since = done.get(msr, ("", [], NOT_YET))
        section = next((text for pattern, text in MSR_SECTIONS if re.fullmatch(pattern, name)), None)
        if section is None:
            raise Wrong(f"abi-doc.py: HV_MSR_{name} has no chapter in MSR_SECTIONS")
        offered = ", ".join(f"`{re.sub('HV_(PRIVILEGE|FEATURE)_', '', offer)}`" for offer in offers)
        lines.append((f"`{msr:#010x}`", name, since, access, offered, section))
    return sum(line[2] != NOT_YET for line in lines), len(lines), table(["MSR", "Name", "Since", "Access", "Offered with", "TLFS"], lines)


def cpuid(root):
    text = (root / "include/hv/cpuid.h").read_text()
    source = strip_comments((root / "core/hv_cpuid.c").read_text())
    offers = {}
    for _, (word, name, roles, since) in rows((root / "core/hv_cpuid.def").read_text(), "HV_OFFER"):
        if f"HV_{word}_{name} " not in text:
            raise Wrong(f"hv_cpuid.def: HV_{word}_{name} is not in hv/cpuid.h")
        offers[f"{word}_{name}"] = (roles, since.strip('"'))
    leaves = []
    for name, value in constants(text, "HV_CPUID_"):
        if name not in ("MIN_MAXIMUM", "MAX_MAXIMUM"):
            leaves.append((f"`{number(value):#010x}`", name, "0.4" if re.search(rf"\bHV_CPUID_{name}\b", source) else NOT_YET))
    bits = []
    for word in ("PRIVILEGE", "FEATURE", "HINT"):
        for name, value in constants(text, f"HV_{word}_"):
            match = re.match(r"\(1u(?:ll)? << (\d+)\)", value)
            if not match or name.startswith("ECX_"):
                continue
            bit = int(match.group(1))
            place = {"PRIVILEGE": f"`0x40000003` {'EBX' if bit > 31 else 'EAX'} {bit % 32}", "FEATURE": f"`0x40000003` EDX {bit}",
                     "HINT": f"`0x40000004` EAX {bit}"}[word]
            roles, since = offers.get(f"{word}_{name}", ("", NOT_YET))
            bits.append((place, name, since, roles.replace("|", "or").replace("_", " ").lower()))
    count = sum(line[2] != NOT_YET for line in bits)
    return (sum(line[2] != NOT_YET for line in leaves), len(leaves), table(["Leaf", "Name", "Since"], leaves),
            count, len(bits), table(["Bit", "Name", "Since", "Offered to"], bits))


def registers(root):
    """A line for each row of the table, and for each run of names that it hasn't."""
    known = [(name, number(value)) for name, value in constants((root / "include/hv/register_names.h").read_text(), "HV_REGISTER_")]
    numbers, done, last = dict(known), {}, -1
    for _, row in rows((root / "core/vp_registers.def").read_text(), "VP_REGISTER"):
        name, count, kind, _, flags, _, since = row
        if name not in numbers:
            raise Wrong(f"vp_registers.def: HV_REGISTER_{name} is not in hv/register_names.h")
        first, count = numbers[name], int(count)
        if first <= last:
            raise Wrong(f"vp_registers.def: {name} is not in order")
        last = first + count - 1
        access = "read" if "READ_ONLY" in flags else "write" if "WRITE_ONLY" in flags else "read, write"
        who = "parent" if kind in PARENTS_KINDS else "itself, parent"
        for value in range(first, last + 1):
            done[value] = (first, since.strip('"'), access, who)
    lines, group = [], None
    for name, value in sorted(known, key=lambda pair: pair[1]):
        first, *rest = done.get(value, (None, NOT_YET, "", ""))
        if lines and group == first and (first is not None or value == end + 1):
            lines[-1][1].append(name)
        else:
            lines.append((f"`{value:#010x}`", [name], *rest))
        group, end = first, value
    text = [(code, names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}", *rest) for code, names, *rest in lines]
    return sum(value in done for value in numbers.values()), len(numbers), table(["From", "Register", "Since", "Access", "Who"], text)


def intercepts(root):
    """What may be installed; in the order of the types' numbers."""
    headers = "".join(path.read_text() for path in sorted((root / "include/hv").glob("*.h")))
    types = [(name, number(value)) for name, value in constants((root / "include/hv/partition.h").read_text(), "HV_INTERCEPT_")
             if not name.startswith("ACCESS_")]
    done = {}
    for macro, row in rows((root / "core/intercepts.def").read_text(), "INTERCEPT|INTERCEPT_REFUSED"):
        if row[0] not in dict(types):
            raise Wrong(f"intercepts.def: HV_INTERCEPT_{row[0]} is not in hv/partition.h")
        if macro == "INTERCEPT_REFUSED":
            done[row[0]] = ("refused", "", "", "", row[1].strip('"'))
            continue
        name, parameter, possible, needed, kind, since, message, what = row
        if not re.search(rf"^#define HV_MESSAGE_{message} ", headers, re.M):
            raise Wrong(f"intercepts.def: {name}: HV_MESSAGE_{message} is nothing in include/hv")
        access = possible.replace(" | ", " and " if needed == possible else " or ")
        done[name] = (since.strip('"'), parameter.lower().replace("none", ""), access,
                      f"`{message}`" + (", always" if kind == "ALWAYS" else ""), what.strip('"'))
    lines = [(f"`{value:#x}`", name, *done.get(name, (NOT_YET, "", "", "", ""))) for name, value in sorted(types, key=lambda pair: pair[1])]
    count = sum(line[2] not in (NOT_YET, "refused") for line in lines)
    return count, len(lines), table(["Type", "Name", "Since", "Parameter", "Access", "Message", "What it covers, or why not"], lines)


INTERCEPT_TEXT = """
InstallIntercept is for a child that is initialized (else status 7) and holds for all its VPs, those that run included, when it returns. An
access mask of 0 uninstalls. A type, access or parameter that isn't in the table is status 5; what is the parent's *always*, whether
installed or not, can't be uninstalled: status 8. There is room for 64 leaves and MSRs together; one more is status 1Dh. It takes no memory.

RIP is at the instruction, and nothing of it has happened. The parent sets the registers and RIP by the length in the header, or raises an
exception (register PENDING_EVENT0), or uninstalls and lets it run.

* *CPUID*: the default results are what the VP would have read, results registered by RegisterInterceptResult included.
  RegisterInterceptResult is for CPUID alone; a result holds whether or not it was asked for always.
* *Exceptions*: vectors 0 to 31 without 2, 9 and 18 (NMIs and machine checks are the machine's). The parameter is the address of a page fault,
  with CR2 as it was; or DR6 of a debug exception, of which DR6, DR7 and DEBUGCTL are what its handler would find. INT3 and INTO are exceptions, with
  SOFTWARE in their information and a length; INT n and INT1 are not. What the hypervisor raises for an instruction is like what a processor
  raises: #GP for an MSR, a hypercall or XSETBV, #UD for an instruction that doesn't exist for the VP, #DB behind one that it carried out. Two go to
  the VP without a message: #DB behind an instruction that ended a level-triggered interrupt, which is a message already; and what a task
  switch raises on Intel processors. An exception during the delivery of another event leaves that event pending (PENDING_INTERRUPTION).
* *HLT* is no type, no property and no register of the TLFS or of Linux's headers, which have only the message's number, HVMSG_X64_HALT. Clients
  show when the hypervisor sends it: to the monitor of a partition without a local APIC of the hypervisor's (creation flag 13 clear), which
  has to know when to raise an interrupt; and that one that gets it otherwise takes it for the end (Cloud Hypervisor resets). CreatePartition
  wants flag 13 here, so HLT is the hypervisor's always.
""".strip().splitlines()


def document(root):
    call_count, call_total, call_table = hypercalls(root)
    msr_count, msr_total, msr_table = msrs(root)
    leaf_count, leaf_total, leaf_table, bit_count, bit_total, bit_table = cpuid(root)
    register_count, register_total, register_table = registers(root)
    intercept_count, intercept_total, intercept_table = intercepts(root)
    return "\n".join([
        "# The hypervisor's interface, done and not done",
        "",
        "<!-- `make docs` writes this file (scripts/abi-doc.py) from include/hv and the tables of core/. Don't edit it. -->",
        "",
        "The interface is Microsoft's *Hypervisor Top Level Functional Specification* (TLFS). The numbers and layouts are in",
        "`include/hv`, whose tests compare them with Linux's. A version under *Since* is the first that answers; whatever is",
        f"*{NOT_YET}* there is refused as the TLFS wants: status 2 for a hypercall, #GP for an MSR, zeroes from CPUID.",
        "",
        "| | done | of |",
        "|---|---|---|",
        f"| Hypercalls | {call_count} | {call_total} |",
        f"| MSRs | {msr_count} | {msr_total} |",
        f"| CPUID leaves | {leaf_count} | {leaf_total} |",
        f"| Bits of privileges, features and hints | {bit_count} | {bit_total} |",
        f"| Registers of a VP by name | {register_count} | {register_total} |",
        f"| Types of intercepts | {intercept_count} | {intercept_total} |",
        "",
        "## Hypercalls",
        "",
        "*Privilege*: the bit of the partition's privilege mask that the caller needs. *TLFS*: the page of that name; a call without",
        "one is only listed in the appendix of call codes.",
        "",
        *call_table,
        "## MSRs",
        "",
        "*Offered with*: what CPUID must offer the partition; without it the MSR is #GP. *TLFS*: the chapter.",
        "",
        *msr_table,
        "## CPUID leaves",
        "",
        "TLFS \"Feature and Interface Discovery\".",
        "",
        *leaf_table,
        "## Privileges, features and hints",
        "",
        "TLFS \"Feature and Interface Discovery\", HV_PARTITION_PRIVILEGE_MASK.",
        "",
        *bit_table,
        "## Registers",
        "",
        "TLFS \"HvCallGetVpRegisters\", \"HvCallSetVpRegisters\", \"HV_REGISTER_NAME\". A name that isn't there is status 5, as is one whose MSR",
        "the processor hasn't; a register that can't be written, or that isn't for who asks, is status 6, a value that it can't have status 50h.",
        "DELIVERABILITY_NOTIFICATIONS takes bits of SINTs; NMIs and interrupts are the hypervisor's local APIC's to deliver. A pending NMI is bit 2 of",
        "the IRR in the local APIC's state (GetVpState), and goes with it when that is set.",
        "",
        "*TranslateVirtualAddress* of a child's VP says where the address leads: what is there, a device or nothing at all, its parent knows better,",
        "so cache type and overlay flag are told of the root's own only. TLB_FLUSH_INHIBIT and SHADOW_STACK are status 5: nothing keeps a guest",
        "from flushing, and to say so would promise it.",
        "",
        *register_table,
        "## Intercepts",
        "",
        "TLFS \"HvCallInstallIntercept\", HV_INTERCEPT_TYPE, HV_INTERCEPT_PARAMETERS.",
        "",
        *INTERCEPT_TEXT,
        "",
        *intercept_table,
    ]).rstrip() + "\n"


def main():
    check = "--check" in sys.argv[1:]
    places = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    root = pathlib.Path(places[0]) if places else pathlib.Path(__file__).resolve().parents[1]
    path = root / "docs/abi.md"
    try:
        text = document(root)
    except Wrong as wrong:
        print(f"abi-doc.py: {wrong}", file=sys.stderr)
        return 1
    if check:
        if not path.exists() or path.read_text() != text:
            print("abi-doc.py: docs/abi.md is not current: make docs", file=sys.stderr)
            return 1
    elif not path.exists() or path.read_text() != text:
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
