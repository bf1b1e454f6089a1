# SPDX-License-Identifier: MIT
"""include/hv against Linux's include/hyperv (tests/abi/linux_names.txt says how the names correspond): every constant's
value, every structure's size and every field's offset. A constant or structure that is neither compared nor listed as
unknown to Linux fails, and so does a number that Linux names and we don't."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = pathlib.Path(os.environ.get("TRIVET_OUT", ROOT / "build"))
HEADERS = sorted((ROOT / "include/hv").glob("*.h"))
HEADER_NAMES = ["linux/types.h", "linux/bits.h", "linux/build_bug.h"]

# HV_x of ours is what these make of it, unless linux_names.txt says otherwise.
RULES = [
    (r"HV_CALL_EXT_(\w+)", r"HV_EXT_CALL_\1"),
    (r"HV_CALL_(\w+)", r"HVCALL_\1"),
    (r"HV_MSR_(\w+)", r"HV_X64_MSR_\1"),
    (r"HV_MESSAGE_(\w+)", r"HVMSG_\1"),
    (r"HV_REGISTER_X64_(\w+)", r"HV_X64_REGISTER_\1"),
    (r"HV_REGISTER_X64_(MTRR\w+)", r"HV_X64_REGISTER_MSR_\1"),
    (r"HV_PROPERTY_(\w+)", r"HV_PARTITION_PROPERTY_\1"),
    (r"(HV_\w+)", r"\1"),
]
# All that Linux names with these prefixes is wanted in include/hv.
WANTED = r"HV_STATUS_|HVCALL_|HV_EXT_CALL_|HV_X64_MSR_|HVMSG_|HV_(X64_)?REGISTER_|HV_PARTITION_PROPERTY_|HYPERV_CPUID_|HV_MAP_GPA_"


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def our_constants(text):
    """Names of object-like macros with a value."""
    return re.findall(r"^#define (HV_\w+)[ \t]+(?!__attribute__)\S", strip_comments(text), flags=re.M)


def our_layouts(text):
    """{"struct hv_x": [field, ...]}"""
    layouts = {}
    for kind, name, body in re.findall(r"^(struct|union) (?:HV_PACKED )?(hv_\w+) \{\n(.*?)^\};", strip_comments(text), re.S | re.M):
        body = re.sub(r"union \{.*?\}", "inner", body, flags=re.S)
        fields = [re.search(r"(\w+)(?:\[[^\]]*\])*$", part.strip()).group(1) for part in body.split(";") if part.strip()]
        layouts[f"{kind} {name}"] = fields
    return layouts


def read_names(text):
    """What linux_names.txt says: ({our constant: Linux's expression}, {our layout: (Linux's, {field: Linux's})}, {unknown: why})."""
    constants, layouts, unknown, fields, reason = {}, {}, {}, None, None
    for line in text.splitlines():
        line = line.split("#")[0].rstrip()
        if not line:
            continue
        if line.startswith("["):
            reason, fields = line.strip("[]"), None
        elif re.match(r"(struct|union) ", line):
            name, _, linux = (part.strip() for part in line.partition("="))
            if linux:
                fields = {}
                layouts[name] = (linux, fields)
            else:
                unknown[name] = reason
        elif line[0] == "\t":
            name, linux = line.split(None, 1)
            fields[name] = linux
        elif "=" in line:
            name, linux = (part.strip() for part in line.split("=", 1))
            constants[name] = linux
        else:
            for name in line.split():
                assert name not in unknown, f"{name} is listed twice"
                unknown[name] = reason
    return constants, layouts, unknown


def run_c(folder, name, source, flags=()):
    """Compiles and runs; returns {key: value}."""
    path = folder / f"{name}.c"
    path.write_text(source)
    subprocess.run(["gcc", "-std=gnu17", "-w", *flags, "-o", folder / name, path], check=True)
    lines = subprocess.run([folder / name], check=True, capture_output=True, text=True).stdout.splitlines()
    return {key: int(value) for key, value in (line.rsplit(" ", 1) for line in lines)}


def print_all(rows):
    body = "".join(f'\tprintf("%s %llu\\n", "{key}", (unsigned long long)({value}));\n' for key, value in rows)
    return f"#include <stdio.h>\nint main(void)\n{{\n{body}\treturn 0;\n}}\n"


class Abi:
    """Both sides, as {key: value}: "HV_X", "struct hv_x" (its size), "struct hv_x.field" (its offset)."""

    def __init__(self, folder, headers, linux, names):
        text = "".join(strip_comments(path.read_text()) for path in headers)
        self.linux_text = strip_comments("".join(path.read_text() for path in sorted(linux.glob("*.h"))))
        self.explicit, self.layout_names, self.unknown = read_names(names)
        self.constants = our_constants(text)
        self.layouts = our_layouts(text)
        self.linux_constants = set(re.findall(r"^#define (\w+)[ \t]+\S", self.linux_text, re.M))
        for body in re.findall(r"enum \w*\s*\{(.*?)\}", self.linux_text, re.S):
            self.linux_constants |= set(re.findall(r"^\s*(\w+)\s*(?:=[^,]*)?(?:,|$)", re.sub("#.*", "", body), re.M))
        self.names = {name: self.linux_name(name) for name in self.constants}
        self.ours = run_c(folder, "ours", self.our_source(headers), [f"-I{ROOT / 'include'}"])
        shim = folder / "shim"
        for name in HEADER_NAMES:
            (shim / name).parent.mkdir(parents=True, exist_ok=True)
            (shim / name).write_text("")
        self.theirs = run_c(folder, "theirs", self.linux_source(linux), [f"-I{shim}", f"-I{linux}"])

    def linux_name(self, name):
        if name in self.explicit:
            return self.explicit[name]
        if name in self.unknown:
            return None
        for pattern, replacement in RULES:
            if re.fullmatch(pattern, name):
                candidate = re.sub(pattern, replacement, name)
                if candidate in self.linux_constants:
                    return candidate
        return None

    def our_source(self, headers):
        includes = "".join(f'#include "{path}"\n' for path in headers)
        rows = [(name, name) for name in self.constants]
        for layout, fields in self.layouts.items():
            rows.append((layout, f"sizeof({layout})"))
            rows += [(f"{layout}.{field}", f"offsetof({layout}, {field})") for field in fields]
        return includes + print_all(rows)

    def linux_source(self, linux):
        includes = f'#include "{HERE / "linux_shim.h"}"\n' + '#include "hvhdk.h"\n#include "hvgdk_ext.h"\n'
        rows = [(name, expression) for name, expression in self.names.items() if expression]
        for layout, (linux_layout, fields) in self.layout_names.items():
            if fields.get("sizeof") != "-":
                rows.append((layout, fields.get("sizeof", f"sizeof({linux_layout})")))
            for field in self.layouts.get(layout, ()):
                linux_field = fields.get(field, field)
                if linux_field != "-":
                    place, _, more = linux_field.partition("+")
                    rows.append((f"{layout}.{field}", f"offsetof({linux_layout}, {place}) + {more or 0}"))
        return includes + print_all(rows)


@pytest.fixture(scope="module")
def linux():
    folder = OUT / "linux-headers"
    archive = OUT / "linux/mshv/source/root/usr/src/linux-source-7.2.tar.xz"
    done = subprocess.run([ROOT / "scripts/fetch-linux-headers.sh", folder, archive], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package with Linux's headers: {done.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture(scope="module")
def abi(linux, tmp_path_factory):
    return Abi(tmp_path_factory.mktemp("abi"), HEADERS, linux / "hyperv", (HERE / "linux_names.txt").read_text())


def problems(abi):
    found = []
    for key, theirs in abi.theirs.items():
        if abi.ours[key] != theirs:
            found.append(f"{key} is {abi.ours[key]:#x}, Linux has {theirs:#x}")
    for name in abi.constants:
        if name not in abi.unknown and name not in abi.theirs and not name.startswith("HV_STAT_"):  # they have a test below
            found.append(f"{name}: not compared and not listed in linux_names.txt")
    for layout in abi.layouts:
        if layout not in abi.unknown and layout not in abi.layout_names:
            found.append(f"{layout}: not compared and not listed in linux_names.txt")
    return found


def test_numbers_and_layouts_are_linuxs(abi):
    assert problems(abi) == []
    layouts = [key for key in abi.theirs if " " in key and "." not in key]
    assert len(abi.theirs) > 800 and len(layouts) > 70  # nothing was lost on the way
    print(f"{len(abi.theirs)} compared with {(OUT / 'linux-headers/package').read_text().strip()}, {len(abi.unknown)} not in Linux")


def test_the_list_is_no_older_than_the_headers(abi):
    everything = set(abi.constants) | set(abi.layouts)
    gone = [name for name in [*abi.explicit, *abi.layout_names, *abi.unknown] if name not in everything]
    fields = [f"{layout}.{field}" for layout, (_, names) in abi.layout_names.items() for field in names
              if field != "sizeof" and field not in abi.layouts.get(layout, [field])]
    assert gone + fields == []


def test_what_is_listed_as_unknown_is_unknown(abi):
    """A name that Linux learns later must be compared."""
    unknown, abi.unknown = abi.unknown, {}
    known = [name for name in unknown if name.startswith("HV_") and abi.linux_name(name)]
    abi.unknown = unknown
    assert known == []


def test_nothing_that_linux_names_is_missing(abi):
    named = " ".join(expression for expression in abi.names.values() if expression)
    used = set(re.findall(r"\w+", named))
    missing = [name for name in abi.linux_constants if re.match(WANTED, name) and name not in used]
    aliases = r"HV_X64_MSR_\w+_(ENABLE|ADDRESS_SHIFT|ADDRESS_MASK)|HV_X64_MSR_CRASH_PARAMS|HV_REGISTER_NESTED_SI[FP]P|HYPERV_CPUID_M(IN|AX)"
    assert sorted(name for name in missing if not re.fullmatch(aliases, name)) == []


def test_slots_of_counters_are_linuxs(abi, linux):
    path = linux / "mshv_debugfs_counters.c"
    if not path.exists():
        pytest.skip("the slots are in Linux's source only: `make root-kernel` fetches it")
    text = re.sub(r"#elif IS_ENABLED\(CONFIG_ARM64\).*?#endif", "", path.read_text(), flags=re.S)
    theirs = {}
    for array, ours in [("hypervisor", "HYPERVISOR"), ("lp", "LP"), ("partition", "PARTITION"), ("vp", "VP")]:
        body = re.search(rf"hv_{array}_counters\[\] = \{{(.*?)\n\}};", text, re.S).group(1)
        for slot, name in re.findall(r'\[(\d+)\]\s*=\s*"[A-Z][a-z](\w+)"', body):
            if "Placeholder" not in name:
                theirs[(ours, int(slot))] = re.sub("Entires", "Entries", name).upper()
    ours = {}
    for name in abi.constants:
        match = re.fullmatch(r"HV_STAT_(HYPERVISOR|LP|PARTITION|VP)_(\w+)", name)
        if match:
            ours[(match.group(1), abi.ours[name])] = match.group(2).replace("_", "")
    assert ours == theirs


def test_every_layout_is_asserted():
    """Size and each field, in the header itself, so that every compiler that includes it checks."""
    for path in HEADERS:
        text = path.read_text()
        sizes = set(re.findall(r"HV_ASSERT_SIZE\(((?:struct|union) \w+), \d+\)", text))
        offsets = set(re.findall(r"HV_ASSERT_OFFSET\(((?:struct|union) \w+), (\w+), \d+\)", text))
        for layout, fields in our_layouts(text).items():
            assert layout in sizes, f"{path.name}: {layout}"
            if layout.startswith("struct"):
                assert [field for field in fields if (layout, field) not in offsets] == [], f"{path.name}: {layout}"


@pytest.mark.parametrize("compiler", [["gcc", "-std=c17"], ["clang", "-std=c17"], ["g++", "-std=c++17", "-x", "c++"]])
def test_each_header_compiles_alone_and_freestanding(tmp_path, compiler):
    if not shutil.which(compiler[0]):
        pytest.skip(f"no {compiler[0]}")
    for path in HEADERS:
        assert re.search(r'#include (?!"\w+\.h"|<std(?:int|def)\.h>)', path.read_text()) is None
        (tmp_path / "a.c").write_text(f'#include "{path}"\n#include "{path}"\nint x;\n')
        subprocess.run([*compiler, "-ffreestanding", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-fsyntax-only", "a.c"],
                       cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    "header, good, bad, said",
    [
        ("status.h", "ALIGNMENT 0x0004u", "ALIGNMENT 0x0005u", "HV_STATUS_INVALID_ALIGNMENT is 0x5, Linux has 0x4"),
        ("cpuid.h", "HV_PRIVILEGE_CREATE_PORT (1ull << 38)", "HV_PRIVILEGE_CREATE_PORT (1ull << 37)", "HV_PRIVILEGE_CREATE_PORT is"),
        ("msr.h", "HV_SINT_POLLING (1ull << 18)", "HV_SINT_POLLING (1ull << 17)", "HV_SINT_POLLING is"),
        ("status.h", "#define HV_STATUS_SUCCESS", "#define HV_STATUS_NEW 9\n#define HV_STATUS_SUCCESS", "HV_STATUS_NEW: not compared"),
        ("vp.h", "rflags;\n\tuint64_t reserved1;", "reserved1;\n\tuint64_t rflags;", "struct hv_vp_register_page.rflags is"),
        ("types.h", "struct hv_u128 {", "struct hv_odd {\n\tuint8_t a;\n};\nstruct hv_u128 {", "struct hv_odd: not compared"),
    ],
)
def test_a_wrong_header_is_noticed(abi, linux, tmp_path, header, good, bad, said):
    folder = tmp_path / "hv"
    shutil.copytree(ROOT / "include/hv", folder)
    text = (folder / header).read_text()
    assert good in text
    text = text.replace(good, bad)
    if header == "vp.h":
        text = re.sub(r"HV_ASSERT_OFFSET\(struct hv_vp_register_page, (rflags|reserved1), \d+\);\n", "", text)
    (folder / header).write_text(text)
    wrong = Abi(tmp_path, sorted(folder.glob("*.h")), linux / "hyperv", (HERE / "linux_names.txt").read_text())
    assert any(line.startswith(said) for line in problems(wrong))
