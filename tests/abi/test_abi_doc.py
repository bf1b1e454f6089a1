# SPDX-License-Identifier: MIT
"""scripts/abi-doc.py: what it writes, and the rows it refuses. (That docs/abi.md is current is `make lint`'s to say.)"""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

CALLS = 'HYPERCALL(0x0046, GetPartitionId, SIMPLE, 0, 0, 0, 8, 0, HV_PRIVILEGE_ACCESS_PARTITION_ID, "0.4", "HvCallGetPartitionId", f)\n'
MSRS = 'HV_MSR_RO(HV_MSR_VP_INDEX, 1, VP_INDEX, HV_PRIVILEGE_VP_INDEX, 0, f, "0.4")\nHV_MSR(HV_MSR_SINT0, 16, SINT, HV_PRIVILEGE_SYNIC, 0, f, g, "0.4")\n'
INTERCEPTS = ('INTERCEPT(X64_MSR, NONE, R | W, 0, MSR, "0.5", X64_MSR_INTERCEPT, "some, or others")\n'
              'INTERCEPT(X64_IO_PORT, PORT, R | W, R | W, ALWAYS, "0.5", X64_IO_PORT_INTERCEPT, "all")\n'
              'INTERCEPT_REFUSED(X64_APIC_SMI, "there are none")\n')
REGISTERS = ('VP_REGISTER(EXPLICIT_SUSPEND, 1, HOLD, VP_HOLD_EXPLICIT, 0, f, "0.4")\n'
             'VP_REGISTER(HYPERVISOR_VERSION, 1, LEAF, 0x40000002, READ_ONLY | WIDE, NULL, "0.4")\n'
             'VP_REGISTER(X64_RAX, 4, GPR, GPR_RAX, 0, NULL, "0.4")\n')
BITS = 'HV_OFFER(PRIVILEGE, SYNIC, ROOT, "0.4")\n'


@pytest.fixture
def tree(tmp_path):
    shutil.copytree(ROOT / "include/hv", tmp_path / "include/hv")
    (tmp_path / "core").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "core/hypercalls.def").write_text("/* HYPERCALL(code, name) */\n" + CALLS)
    (tmp_path / "core/hv_msrs.def").write_text(MSRS)
    (tmp_path / "core/hv_cpuid.def").write_text(BITS)
    (tmp_path / "core/intercepts.def").write_text(INTERCEPTS)
    (tmp_path / "core/vp_registers.def").write_text(REGISTERS)
    (tmp_path / "core/hv_cpuid.c").write_text("f(HV_CPUID_VENDOR);\n")
    return tmp_path


def run(tree, *flags):
    done = subprocess.run([sys.executable, ROOT / "scripts/abi-doc.py", *flags, tree], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_done_and_not_done(tree):
    assert run(tree, "--check") == (1, "abi-doc.py: docs/abi.md is not current: make docs\n")
    assert run(tree) == (0, "")
    assert run(tree, "--check") == (0, "")
    text = (tree / "docs/abi.md").read_text()
    for line in [
        "| `0x0046` | GetPartitionId | 0.4 | simple | `ACCESS_PARTITION_ID` | HvCallGetPartitionId |",
        "| `0x005c` | PostMessage | not yet |  |  | HvCallPostMessage |",
        "| `0x8001` | ExtQueryCapabilities | not yet |  |  | HvExtCallQueryCapabilities |",
        "| `0x40000002` | VP_INDEX | 0.4 | read | `VP_INDEX` | Virtual Processors |",
        "| `0x4000009f` | SINT15 | 0.4 | read, write | `SYNIC` | Virtual Interrupts |",
        "| `0x40000080` | SCONTROL | not yet |  |  | Virtual Interrupts |",
        "| `0x40000000` | VENDOR | 0.4 |",
        "| `0x40000006` | HARDWARE | not yet |",
        "| `0x40000003` EAX 2 | SYNIC | 0.4 | root |",
        "| `0x40000003` EBX 12 | CPU_MANAGEMENT | not yet |  |",
        "| `0x0` | X64_IO_PORT | 0.5 | port | R and W | `X64_IO_PORT_INTERCEPT`, always | all |",
        "| `0x1` | X64_MSR | 0.5 |  | R or W | `X64_MSR_INTERCEPT` | some, or others |",
        "| `0x2` | X64_CPUID | not yet |  |  |  |  |",
        "| `0x7` | X64_APIC_SMI | refused |  |  |  | there are none |",
        "| `0x00000000` | EXPLICIT_SUSPEND | 0.4 | read, write | parent |",
        "| `0x00000001` | INTERCEPT_SUSPEND to INTERNAL_ACTIVITY_STATE | not yet |  |  |",
        "| `0x00000100` | HYPERVISOR_VERSION | 0.4 | read | itself, parent |",
        "| `0x00020000` | X64_RAX to X64_RBX | 0.4 | read, write | itself, parent |",
    ]:
        assert f"{line}\n" in text, line


@pytest.mark.parametrize(
    "path, text, said",
    [
        ("hypercalls.def", CALLS.replace("0x0046", "0x0047"), "0x0047 is GET_NEXT_CHILD_PARTITION in hv/hypercall.h, not GET_PARTITION_ID"),
        ("hypercalls.def", CALLS.replace("0x0046", "0x7fff"), "0x7fff is nothing in hv/hypercall.h"),
        ("hypercalls.def", CALLS + CALLS, "GetPartitionId is not in order"),
        ("hypercalls.def", 'HYPERCALL(0x005c, PostMessage, SIMPLE, 0, 255, 0, 0, 0, 0, "0.4", "x", f)\n',
         "PostMessage takes 255 bytes, struct hv_input_post_message has 256"),
        ("hv_msrs.def", MSRS.replace("HV_MSR_VP_INDEX", "HV_MSR_VP_INDICES"), "HV_MSR_VP_INDICES is not in hv/msr.h"),
        ("intercepts.def", INTERCEPTS.replace("APIC_SMI", "SMI"), "HV_INTERCEPT_X64_SMI is not in hv/partition.h"),
        ("intercepts.def", INTERCEPTS.replace("X64_IO_PORT_INTERCEPT", "X64_PORT"), "X64_IO_PORT: HV_MESSAGE_X64_PORT is nothing in include/hv"),
        ("vp_registers.def", REGISTERS.replace("X64_RAX", "X64_EAX"), "HV_REGISTER_X64_EAX is not in hv/register_names.h"),
        ("vp_registers.def", REGISTERS + REGISTERS, "EXPLICIT_SUSPEND is not in order"),
        ("hv_cpuid.def", BITS.replace("SYNIC", "SYNICS"), "HV_PRIVILEGE_SYNICS is not in hv/cpuid.h"),
    ],
)
def test_rows_that_contradict_the_headers_are_refused(tree, path, text, said):
    (tree / "core" / path).write_text(text)
    status, error = run(tree)
    assert status == 1 and said in error
    assert not (tree / "docs/abi.md").exists()
