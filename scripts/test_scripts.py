# SPDX-License-Identifier: MIT
"""The checks check: each builds a small image or test with one thing wrong and wants it to be refused."""

import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parent
ROOT = SCRIPTS.parent
GOOD = "int hv_entry(void); int hv_entry(void) { return 0; }\n"


def build(tmp_path, source, flags=(), link=()):
    """Links `source` as the hypervisor is linked; returns the image's path."""
    (tmp_path / "a.c").write_text(source)
    compile_command = ["gcc", "-O1", "-fpie", "-ffreestanding", "-fcf-protection=none", *flags, "-c", "a.c", "-o", "a.o"]
    subprocess.run(compile_command, cwd=tmp_path, check=True)
    base = ["ld", "-pie", "--no-dynamic-linker", "-z", "noexecstack", "-z", "max-page-size=4096", "--build-id=none"]
    script = [] if "-N" in link else ["-T", str(ROOT / "linker.ld")]
    subprocess.run([*base, *script, *link, "-e", "hv_entry", "a.o", "-o", "a.elf"], cwd=tmp_path, check=True)
    return tmp_path / "a.elf"


def check_image(path):
    done = subprocess.run([sys.executable, SCRIPTS / "check-image.py", path], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_good_image_passes(tmp_path):
    assert check_image(build(tmp_path, GOOD, ["-mgeneral-regs-only"])) == (0, "")


@pytest.mark.parametrize(
    "instruction",
    [
        "movaps %%xmm0, %%xmm1",
        "vmovdqu %%ymm3, (%%rsp)",
        "movq %%mm0, %%mm1",
        "fninit",
        "fldz",
        "emms",
        "ldmxcsr (%%rsp)",
        "fxrstor64 (%%rsp)",
        "xrstor (%%rsp)",
        "rep movsb; pxor %%xmm7, %%xmm7",
    ],
)
def test_vector_and_x87_instructions_are_refused(tmp_path, instruction):
    status, text = check_image(build(tmp_path, GOOD + f'void f(void); void f(void) {{ asm volatile("{instruction}" :); }}\n'))
    assert status == 1
    assert "f: `" in text and "touches the guest's registers" in text


@pytest.mark.parametrize("instruction", ["mov %%fs:0, %%rax", "lock incq (%%rsp)", "rep stosq", "mov %%cr0, %%rax", "xgetbv", "fxsave64 (%%rsp)"])
def test_ordinary_instructions_pass(tmp_path, instruction):
    assert check_image(build(tmp_path, GOOD + f'void f(void); void f(void) {{ asm volatile("{instruction}" :); }}\n'))[0] == 0


def test_writable_text_is_refused(tmp_path):
    status, text = check_image(build(tmp_path, GOOD + "int data = 1;\n", link=["-N"]))
    assert status == 1 and "writable and executable" in text


def test_a_relocation_that_runs_code_is_refused(tmp_path):
    source = GOOD + (
        "static int g(void) { return 1; }\nstatic void *resolve(void) { return (void *)g; }\n"
        'int f(void) __attribute__((ifunc("resolve")));\nint (*p)(void) = f;\n'
    )
    status, text = check_image(build(tmp_path, source))
    assert status == 1 and ("only RELATIVE" in text or "DT_JMPREL" in text)


def test_an_orphan_section_does_not_link(tmp_path):
    source = GOOD + '__attribute__((section(".mystery"), used)) static int x = 1;\n'
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path, source, link=["--orphan-handling=error"])


def run_unit(tmp_path, body):
    (tmp_path / "t.c").write_text(
        "#include <setjmp.h>\n#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <stdlib.h>\n"
        "#include <cmocka.h>\nstatic void good(void **s) { (void)s; }\n"
        f"static void other(void **s) {{ (void)s; {body} }}\n"
        "int main(void) { const struct CMUnitTest t[] = { cmocka_unit_test(good), cmocka_unit_test(other) };\n"
        "return cmocka_run_group_tests(t, NULL, NULL); }\n"
    )
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    subprocess.run(["gcc", *flags, "t.c", "-lcmocka", "-o", "t"], cwd=tmp_path, check=True)
    report = tmp_path / "unit.xml"
    command = [sys.executable, SCRIPTS / "run-unit.py", "--xml", report, tmp_path / "t"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()[-1], ET.parse(report).getroot()


@pytest.mark.parametrize(
    "body, status, line",
    [
        ("", 0, "unit: 2 passed, 0 failed"),
        ("skip();", 0, "unit: 1 passed, 0 failed, 1 skipped"),
        ("assert_int_equal(1, 2);", 1, "unit: 1 passed, 1 failed"),
        ("volatile int n = 32; volatile int x = 1 << n; (void)x;", 1, "unit: 0 passed, 1 failed"),
        ("char *p = malloc(1); p[1] = 1; free(p);", 1, "unit: 0 passed, 1 failed"),
        ("exit(0);", 1, "unit: 0 passed, 1 failed"),
    ],
)
def test_unit_runner_counts(tmp_path, body, status, line):
    got_status, got_line, report = run_unit(tmp_path, body)
    assert (got_status, got_line) == (status, line)
    assert (int(report.get("failures")) > 0) == (status != 0)


def test_source_check_finds_what_it_is_for(tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__", "test_*", "initramfs"))
    (tmp_path / "core").mkdir()
    (tmp_path / "svm").mkdir()
    (tmp_path / "svm" / "vmcb.h").write_text("/* SPDX-License-Identifier: MIT */\n")
    good = tmp_path / "core" / "good.c"
    good.write_text("/* SPDX-License-Identifier: MIT */\nint x;\n")
    command = [sys.executable, tmp_path / "scripts" / "check-source.py"]
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0
    (tmp_path / "core" / "bad.c").write_text('#include "../svm/vmcb.h"\n/* FIX' "ME */\nstruct a {\n\tunsigned int b : 3;\n};\n")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    for part in ("SPDX", "may not include", "unfinished", "bit-field"):
        assert part in done.stderr
    assert "good.c" not in done.stderr


def run_bochs(tmp_path, version, last_words):
    """scripts/bochs.sh with a stand-in for Bochs that greets on COM1, repeats a line, and ends"""
    fake = tmp_path / "bochs"
    fake.write_text(
        "#!/bin/bash\n"
        f'[[ $1 != --help ]] || {{ echo "   Bochs x86 Emulator {version}"; exit 0; }}\n'
        'rc=${!#}; com1=$(sed -n "s/^com1:.*dev=//p" "$rc"); log=$(sed -n "s/^log: //p" "$rc")\n'
        'exec 3<> "$com1"; echo "cpus=$(grep -o "count=[0-9]*" "$rc")" >&3\n'
        'read -r line <&3; echo "got $line" >&3; : > "${rc%/*}/disk.lock"\n'
        f"echo '{last_words}' > \"$log\"; exit 1\n"
    )
    fake.chmod(0o755)
    for name in ("disk.img", "rom", "trivet.log"):
        (tmp_path / name).write_bytes(b"x" * 512)
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "BOCHS": str(fake), "OVMF": str(tmp_path / "rom"), "TMPDIR": str(tmp_path / "tmp"), "SMP": "3"}
    command = [SCRIPTS / "bochs.sh", tmp_path / "disk.img", tmp_path / "trivet.log"]
    done = subprocess.run(command, input="hello\n", env=env, capture_output=True, text=True, timeout=30)
    assert list((tmp_path / "tmp").iterdir()) == []
    return done


@pytest.mark.parametrize(
    "last_words, status",
    [("05328134391p[ACPI  ] >>PANIC<< ACPI control: soft power off", 0), ("05328134391p[CPU0  ] >>PANIC<< triple fault", 1)],
)
def test_bochs_console_goes_both_ways_and_nothing_is_left(tmp_path, last_words, status):
    done = run_bochs(tmp_path, "3.0", last_words)
    assert done.returncode == status
    assert done.stdout == "cpus=count=3\ngot hello\n"
    assert ("triple fault" in done.stderr) == (status == 1)


@pytest.mark.parametrize("version", ["3.1", "2.6.11"])
def test_a_bochs_with_known_bugs_is_refused(tmp_path, version):
    done = run_bochs(tmp_path, version, "")
    assert done.returncode == 1 and f"Bochs {version}: 2.7 or 3.0 is wanted" in done.stderr


def run_tests(tmp_path, makefile, *suites):
    """scripts/run-tests.py with a Makefile that stands in for ours; (exit status, lines)"""
    (tmp_path / "Makefile").write_text(makefile)
    command = [sys.executable, SCRIPTS / "run-tests.py", "--results", tmp_path / "results", *suites]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines()


REPORT = '<testsuite><testcase name="a"/><testcase name="b">{}</testcase></testsuite>'


def test_suites_run_beside_each_other_and_all_count(tmp_path):
    status, lines = run_tests(
        tmp_path,
        "efi guests bochs vm-disk root-kernel vmm:\n"
        "test-guests test-linux:\n"
        # Each waits for the other: one after the other they would not end
        "\t@touch $@.on; for i in $$(seq 100); do [ -f test-guests.on ] && [ -f test-linux.on ] && break; sleep 0.1; done; "
        "[ -f test-guests.on ] && [ -f test-linux.on ]\n"
        "\t@echo \"this is $@\"; echo '$(if $(filter test-linux,$@),"
        f"{REPORT.format('<failure/>')},{REPORT.format('')})' > $(RESULTS)/$(REPORT).xml\n",
        "guests-intel+linux-intel",
    )
    assert status == 1
    assert lines[-1] == "3 passed, 1 failed, 0 skipped"
    assert "this is test-guests" in lines and "this is test-linux" in lines


SUITES_BESIDE_BUILDS = (
    "bochs vmm:\n"
    "test-unit test-guests:\n"
    f"\t@echo this is $@ '$(MARK)'; touch $@.on; echo '{REPORT.format('')}' > $(RESULTS)/$(REPORT).xml\n"
    "root-kernel:\n"
    "\t@echo compiling; for i in $$(seq 100); do [ -f test-unit.on ] && break; sleep 0.1; done; [ -f test-unit.on ]; nice\n"
)


def test_suites_wait_for_what_is_built_beside_them(tmp_path):
    # The kernel is not done before test-unit has run, and children not begun before the kernel is done.
    makefile = SUITES_BESIDE_BUILDS + "\t@touch kernel\ntest-guests: kernel\nkernel:\n\t@false\n"
    status, lines = run_tests(tmp_path, makefile, "unit", "children")
    assert status == 0
    assert lines[-1] == "4 passed, 0 failed, 0 skipped"
    assert "this is test-guests not intel and mshv" in lines
    assert "19" in (tmp_path / "results" / "builds.log").read_text().splitlines()


def test_what_cannot_be_built_fails_the_suites_that_need_it(tmp_path):
    status, lines = run_tests(tmp_path, SUITES_BESIDE_BUILDS + "\t@echo the compiler is gone; false\n", "unit", "guests", "children")
    assert status == 1
    assert lines[-1] == "4 passed, 1 failed, 0 skipped"
    assert "this is test-guests not intel and not mshv" in lines and "this is test-guests not intel and mshv" not in lines
    told = "\n".join(lines)
    assert "root-kernel COULD NOT BE BUILT" in told and "the compiler is gone" in told
