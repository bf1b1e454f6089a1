# SPDX-License-Identifier: MIT
#
# The part of the Makefile that builds and runs tests. A host test names what it links in its first line,
# `/* unit: core/a.c core/b.c */` or `/* fuzz: core/a.c */`, and may name libraries in its second,
# `/* libs: Zydis */` (`newlib` means our libc.a, its symbols prefixed with newlib_).

UNIT_CC ?= gcc
FUZZ_CC ?= clang
FUZZ_SECONDS ?= 20
FUZZ_SEED ?= 0
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
U := $(OUT)/unit/$(notdir $(UNIT_CC))
F := $(OUT)/fuzz
RESULTS := $(OUT)/results

# ---------------------------------------------------------------------------------------------------
# Unit tests: product sources and tests compiled once each for the host with ASan and UBSan

UNIT_TESTS := $(sort $(wildcard tests/unit/test_*.c))
UNIT_BINS := $(UNIT_TESTS:tests/unit/%.c=$(U)/%)
UNIT_CFLAGS := -std=gnu17 -DTRIVET_HOST_TEST -g -O1 -Wall -Wextra -Werror -Wconversion -fno-omit-frame-pointer $(SANITIZE) -Iinclude -I.
NEWLIB_PREFIXED := $(NEWLIB)/libc-prefixed.a

# One line for each test, "test|sources|libraries", made a rule by link_rule.
first_lines = $(shell awk -v kind=$(1) 'FNR == 1 { name = FILENAME; gsub(/.*\/|\.c$$/, "", name); src = ""; libs = "" } \
	FNR <= 2 && match($$0, "^/\\* *" kind ":") { src = $$0; sub("^/\\* *" kind ":", "", src); sub(/\*\/.*/, "", src) } \
	FNR <= 2 && match($$0, /^\/\* *libs:/) { libs = $$0; sub(/^\/\* *libs:/, "", libs); sub(/\*\/.*/, "", libs) } \
	FNR == 2 { gsub(/[ \t]+/, ",", src); gsub(/[ \t]+/, ",", libs); print name "|" src "|" libs }' $(2) /dev/null)
comma := ,
field = $(subst $(comma), ,$(word $(1),$(subst |, ,$(subst ||,| |,$(subst |,|$(comma),$(2)))$(comma))))
link_libs = $(patsubst %,-l%,$(filter-out newlib,$(1))) $(if $(filter newlib,$(1)),$(NEWLIB_PREFIXED))

define unit_rule
$(U)/$(strip $(call field,1,$(1))): $(patsubst %,$(U)/obj/%.o,$(call field,2,$(1))) $(if $(filter newlib,$(call field,3,$(1))),$(NEWLIB_PREFIXED))
$(U)/$(strip $(call field,1,$(1))): LIBS := $(call link_libs,$(call field,3,$(1)))
endef
$(foreach line,$(if $(UNIT_TESTS),$(call first_lines,unit,$(UNIT_TESTS))),$(eval $(call unit_rule,$(line))))

$(U)/.flags: FORCE | $(SETUP)
	@mkdir -p $(@D)
	@echo '$(UNIT_CC) $(UNIT_CFLAGS)' | $(call update,$@)

$(U)/obj/%.c.o: %.c $(U)/.flags
	@mkdir -p $(@D)
	$(call say,UNIT-CC,$<)
	$(Q)$(UNIT_CC) $(UNIT_CFLAGS) -MMD -MP -c $< -o $@

# The monitors' firmware takes its tables from gnu-efi.
$(U)/obj/tests/vmm/%.c.o: UNIT_CFLAGS += -DGNU_EFI_USE_MS_ABI -fshort-wchar -isystem /usr/include/efi -isystem /usr/include/efi/x86_64

$(UNIT_BINS): $(U)/%: $(U)/obj/tests/unit/%.c.o
	$(call say,LINK,$@)
	$(Q)$(UNIT_CC) $(UNIT_CFLAGS) $(filter %.o,$^) -lcmocka $(LIBS) -o $@

$(NEWLIB_PREFIXED): $(LIBC)
	$(Q)$(OBJCOPY) --prefix-symbols=newlib_ $< $@

.PHONY: unit-build test-unit
unit-build: $(UNIT_BINS)

#: make test-unit           host tests with ASan and UBSan (UNIT_CC=clang for the other compiler)
test-unit: $(UNIT_BINS)
	@$(PYTHON) scripts/run-unit.py --xml $(RESULTS)/unit.xml $(UNIT_BINS)

# ---------------------------------------------------------------------------------------------------
# Fuzzing

FUZZ_TESTS := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_BINS := $(FUZZ_TESTS:tests/fuzz/%.c=$(F)/%)
FUZZ_CFLAGS := $(UNIT_CFLAGS) -O2 -DTRIVET_DEBUG -fsanitize=fuzzer-no-link

# What of core/ is the hypervisor's interface, and what that stands on. fuzz_hypercall links all of it (but for what it includes); the
# coverage that is reported is that of ABI_SOURCES.
ABI_BENEATH := $(wildcard core/apic*.c sched/*.c) svm/npt.c vmx/ept.c $(patsubst %,core/%.c,decode emulate guest_access guest_walk \
	hold lock lp_interrupts lp_tsc memory_types page_alloc placement root schedule schedule_timer second_stage second_stage_access vp vp_apic page_source page_use)
ABI_SOURCES := $(filter-out $(ABI_BENEATH),$(sort $(wildcard core/calls_*.c core/hv_*.c core/hypercall*.c core/synic*.c core/vp_*.c) \
	$(patsubst %,core/%.c,abi_log children cpuid_features cpuid_overrides cpuid_policy deposit doorbell event_ring extended_state flush \
	gpa_space guest_crash guest_memory guest_msrs intercept intercept_memory intercept_pages intercept_processor overlay partition port reference_time run_time \
	statistics synthetic_timer xsave_image)))
ABI_ABOVE := $(filter-out core/calls_system.c core/guest_msrs.c,$(ABI_SOURCES))
# Its pool's pages are out of bounds while they are free.
ABI_LDFLAGS := -Wl,--wrap=page_alloc,--wrap=page_free

define fuzz_rule
$(F)/$(strip $(call field,1,$(1))): $(patsubst %,$(F)/obj/%.o,$(call field,2,$(1)))
$(F)/$(strip $(call field,1,$(1))): LIBS := $(call link_libs,$(call field,3,$(1)))
endef
$(foreach line,$(if $(FUZZ_TESTS),$(call first_lines,fuzz,$(FUZZ_TESTS))),$(eval $(call fuzz_rule,$(line))))
$(F)/fuzz_hypercall: $(ABI_ABOVE:%=$(F)/obj/%.o) $(ABI_BENEATH:%=$(F)/beneath/%.o)
$(F)/fuzz_hypercall: LIBS := $(ABI_LDFLAGS)

$(F)/.flags: FORCE | $(SETUP)
	@mkdir -p $(@D)
	@echo '$(FUZZ_CC) $(FUZZ_CFLAGS) $(REPLAY_plain) $(REPLAY_coverage)' | $(call update,$@)

$(F)/obj/%.c.o: %.c $(F)/.flags
	@mkdir -p $(@D)
	$(call say,FUZZ-CC,$<)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -MMD -MP -c $< -o $@

# What isn't to be explored itself goes faster so.
$(F)/beneath/%.c.o: %.c $(F)/.flags
	@mkdir -p $(@D)
	$(call say,FUZZ-CC,$<)
	$(Q)$(FUZZ_CC) $(filter-out -fsanitize=fuzzer-no-link,$(FUZZ_CFLAGS)) -MMD -MP -c $< -o $@

$(FUZZ_BINS): $(F)/%: $(F)/obj/tests/fuzz/%.c.o
	$(call say,LINK,$@)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer $(filter %.o,$^) $(LIBS) -o $@

.PHONY: fuzz fuzz-bench
#: make fuzz                libFuzzer targets, FUZZ_SECONDS=20 each
fuzz: $(FUZZ_BINS)
	@$(PYTHON) scripts/run-fuzz.py --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED) --corpus $(F)/corpus --xml $(RESULTS)/fuzz.xml $(FUZZ_BINS)

# The same target on its corpus without libFuzzer: plain, and for coverage.
FUZZ_VARIANTS := plain coverage
REPLAY_CFLAGS := $(filter-out $(SANITIZE) -O1,$(UNIT_CFLAGS))
REPLAY_plain := -O2
REPLAY_coverage := -O1 -fprofile-instr-generate -fcoverage-mapping
define replay_rules
$(F)/$(1)/%.c.o: %.c $(F)/.flags
	@mkdir -p $$(@D)
	$$(call say,FUZZ-CC,$$<)
	$$(Q)$$(FUZZ_CC) $$(REPLAY_CFLAGS) $(REPLAY_$(1)) -MMD -MP -c $$< -o $$@
$(F)/replay-$(1): $(patsubst %,$(F)/$(1)/%.o,tests/fuzz/replay.c tests/fuzz/fuzz_hypercall.c $(ABI_ABOVE) $(ABI_BENEATH))
	$$(call say,LINK,$$@)
	$$(Q)$$(FUZZ_CC) $(REPLAY_$(1)) $$^ $$(ABI_LDFLAGS) -o $$@
endef
$(foreach variant,$(FUZZ_VARIANTS),$(eval $(call replay_rules,$(variant))))

#: make fuzz-bench          how fast the interface is fuzzed, and how much of it is reached: build/bench.tsv
fuzz-bench: $(F)/fuzz_hypercall $(FUZZ_VARIANTS:%=$(F)/replay-%)
	@$(PYTHON) scripts/fuzz-bench.py --folder $(F) --out $(OUT)/bench.tsv $(ABI_SOURCES)

# ---------------------------------------------------------------------------------------------------
# The scheduler's simulator: the hypervisor's own objects (sched/), compiled for the host, on a virtual clock

SIM := $(OUT)/sim/trivet-sim
SIM_SOURCES := $(sort $(wildcard sched/*.c tests/sim/*.c))
SIM_CFLAGS := $(filter-out $(SANITIZE) -O1,$(UNIT_CFLAGS)) -O2

$(OUT)/sim/.flags: FORCE | $(SETUP)
	@mkdir -p $(@D)
	@echo '$(UNIT_CC) $(SIM_CFLAGS)' | $(call update,$@)

$(OUT)/sim/obj/%.c.o: %.c $(OUT)/sim/.flags
	@mkdir -p $(@D)
	$(call say,SIM-CC,$<)
	$(Q)$(UNIT_CC) $(SIM_CFLAGS) -MMD -MP -c $< -o $@

$(SIM): $(SIM_SOURCES:%=$(OUT)/sim/obj/%.o)
	$(call say,LINK,$@)
	$(Q)$(UNIT_CC) $^ -lm -o $@

.PHONY: sim
#: make sim                 the scheduler simulated: figures into build/bench.tsv, plots into docs/ (a minute)
sim: $(SIM)
	@$(PYTHON) -B tests/sim/sim.py --program $(SIM) --bench $(OUT)/bench.tsv --docs docs

# ---------------------------------------------------------------------------------------------------
# Bare-metal guests: each tests/guests/test_*.c and tests/bench/bench_*.c is a UEFI application with the library

G := $(OUT)/guests
GUEST_APPS := $(sort $(wildcard tests/guests/test_*.c tests/bench/bench_*.c))
GUEST_LIB := $(sort $(wildcard tests/guests/lib/*.c tests/guests/lib/*.asm))
GUEST_EFIS := $(patsubst %.c,$(G)/%.efi,$(notdir $(GUEST_APPS)))
GUEST_LIB_OBJS := $(GUEST_LIB:%=$(G)/obj/%.o)
# The chapters of the conformance suite, which test_tlfs_*.c put together.
TLFS_OBJS := $(patsubst %,$(G)/obj/%.o,$(sort $(wildcard tests/guests/tlfs/*.c tests/guests/tlfs/*.asm)))
# Guests use every register of the machine as they like, and casts between widths are their daily bread.
GUEST_CFLAGS = $(EFI_CFLAGS) -mgeneral-regs-only -Wno-conversion -Wno-sign-conversion -Wno-missing-prototypes
GUEST_CPPFLAGS = $(EFI_CPPFLAGS) -Itests/guests/lib -Itests/guests -I.
.SECONDARY: $(GUEST_LIB_OBJS) $(TLFS_OBJS) $(GUEST_APPS:%=$(G)/obj/%.o)
vpath test_%.c tests/guests
vpath bench_%.c tests/bench

$(G)/.flags: FORCE | $(SETUP)
	@mkdir -p $(@D)
	@echo '$(CC) $(GUEST_CFLAGS) $(GUEST_CPPFLAGS) $(EFI_LDFLAGS)' | $(call update,$@)

$(G)/obj/%.c.o: %.c $(G)/.flags $(NEWLIB_STAMP)
	@mkdir -p $(@D)
	$(call say,GUEST-CC,$<)
	$(Q)$(CC) $(GUEST_CFLAGS) $(GUEST_CPPFLAGS) $(VERSION_DEFINE) -MMD -MP -c $< -o $@

$(G)/obj/%.asm.o: %.asm $(G)/.flags
	@mkdir -p $(@D)
	$(call say,NASM,$<)
	$(Q)$(NASM) -f elf64 -Iinclude/ -I$(dir $<) -Werror -MD $(@:.o=.d) -MP -MT $@ $< -o $@

define guest_rule
$(G)/$(notdir $(1:.c=.efi)): $(G)/obj/$(1).o $(GUEST_LIB_OBJS) $(if $(filter test_tlfs_%,$(notdir $(1))),$(TLFS_OBJS)) \
		$(LIBC) scripts/check-efi.py
	$$(call say,EFI,$$@)
	$$(Q)$$(call efi_link,$$(@:.efi=.so),$$(filter %.o,$$^))
	$$(Q)$$(call efi_convert,$$(@:.efi=.so),$$@)
endef
$(foreach app,$(GUEST_APPS),$(eval $(call guest_rule,$(app))))

# Monitors for /dev/mshv, static programs for the root's initial RAM disk. The one header of Linux' that they need comes with the
# root's kernel.
V_OUT := $(OUT)/vmm
VMM_PROGRAMS := guest bench churn intercepts isolation secret sched signals vmbus
VMM_LIB := mshv tiny machine devices firmware move pe save
VMM_BINS := $(VMM_PROGRAMS:%=$(V_OUT)/mshv-%)
VMM_UAPI ?= $(OUT)/linux/mshv/uapi
VMM_CC ?= gcc
VMM_CFLAGS := -std=gnu17 -O2 -Wall -Wextra -Werror -Wconversion -Wstrict-prototypes -Wmissing-prototypes -fshort-wchar -pthread
# gnu-efi's headers for the tables that the guests' firmware has.
VMM_CPPFLAGS = -D_GNU_SOURCE -DGNU_EFI_USE_MS_ABI -Iinclude -isystem $(VMM_UAPI) -isystem /usr/include/efi -isystem /usr/include/efi/x86_64
VMM_LIB_OBJS := $(VMM_LIB:%=$(V_OUT)/obj/%.c.o) $(V_OUT)/obj/tiny.asm.o
.SECONDARY: $(VMM_LIB_OBJS) $(VMM_PROGRAMS:%=$(V_OUT)/obj/%.c.o)

$(V_OUT)/.flags: FORCE | $(SETUP)
	@mkdir -p $(@D)
	@echo '$(VMM_CC) $(VMM_CFLAGS) $(VMM_CPPFLAGS)' | $(call update,$@)

$(VMM_UAPI)/linux/mshv.h:
	@$(MAKE) --no-print-directory root-kernel

$(V_OUT)/obj/%.c.o: tests/vmm/%.c $(V_OUT)/.flags | $(VMM_UAPI)/linux/mshv.h
	@mkdir -p $(@D)
	$(call say,VMM-CC,$<)
	$(Q)$(VMM_CC) $(VMM_CFLAGS) $(VMM_CPPFLAGS) -MMD -MP -c $< -o $@

$(V_OUT)/obj/%.asm.o: tests/vmm/%.asm $(V_OUT)/.flags
	@mkdir -p $(@D)
	$(call say,NASM,$<)
	$(Q)$(NASM) -f elf64 -Werror -MD $(@:.o=.d) -MP -MT $@ $< -o $@

$(VMM_BINS): $(V_OUT)/mshv-%: $(V_OUT)/obj/%.c.o $(VMM_LIB_OBJS)
	$(call say,LINK,$@)
	$(Q)$(VMM_CC) -static -pthread -s $^ -o $@

-include $(wildcard $(V_OUT)/obj/*.d)

.PHONY: vmm
#: make vmm                 build/vmm: our own monitors for /dev/mshv (tests/vmm/README.md)
vmm: $(VMM_BINS)

# The ACPI tables that Bochs' firmware lacks: a UEFI application that installs them and starts the next image. Files, text
# and MP services are the loader's.
A := $(OUT)/acpi
ACPI_OBJS := $(A)/acpi.o $(A)/tables.o $(patsubst %,$(B)/boot/%.c.o,console processors text volume)
ACPI_CPPFLAGS = $(EFI_CPPFLAGS) -I. -I$(A)

$(A)/dsdt.hex: tests/acpi/dsdt.asl | $(SETUP)
	@mkdir -p $(@D)
	$(call say,IASL,$<)
	$(Q)iasl -tc -p $(A)/dsdt $< > $(A)/iasl.log 2>&1 || { cat $(A)/iasl.log; exit 1; }

$(A)/acpi.o: $(A)/dsdt.hex
$(A)/%.o: tests/acpi/%.c $(FLAGS) $(NEWLIB_STAMP)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(EFI_CFLAGS) $(ACPI_CPPFLAGS) -MMD -MP -c $< -o $@

$(OUT)/acpi.efi: $(ACPI_OBJS) $(LIBC) scripts/check-efi.py
	$(call say,EFI,$@)
	$(Q)$(call efi_link,$(A)/acpi.so,$(ACPI_OBJS))
	$(Q)$(call efi_convert,$(A)/acpi.so,$@)

-include $(A)/acpi.d $(A)/tables.d

#: make test-scripts        the build's own checks, each given something that it must refuse; include/hv against Linux's
.PHONY: test-scripts
test-scripts: $(SIM)
	@mkdir -p $(RESULTS)
	@SIM=$(abspath $(SIM)) $(PYTEST) -q --junitxml=$(RESULTS)/scripts.xml $(ARGS) scripts tests/abi tests/sim

.PHONY: guests test-guests test-linux test-matrix test bench bochs
guests: $(GUEST_EFIS) $(OUT)/acpi.efi $(OUT)/qemu-mend.so

$(OUT)/qemu-mend.so: tests/qemu_mend.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) -O2 -Wall -Wextra -Werror -Wconversion -shared -fPIC -o $@ $<

# What the emulator suites find in their environment; QEMU, OVMF_CODE and OVMF_VARS reach them too when they are given.
SUITE_ENV = TRIVET_EFI=$(abspath $(OUT)/trivet.efi) TRIVET_OUT=$(abspath $(OUT)) \
	LINUX_KERNELS=$(abspath $(OUT)/linux) LINUX_LOGS=$(abspath $(OUT)/linux-logs) PYTHONDONTWRITEBYTECODE=1 \
	QEMU_MEND=$(abspath $(OUT)/qemu-mend.so)
PYTEST = $(SUITE_ENV) $(PYTHON) -m pytest -p no:cacheprovider --tb=short

# The tests of one vendor: MARK=intel or MARK='not intel'; REPORT names the JUnit file.
suite = mkdir -p $(RESULTS); $(PYTEST) --durations=15 --junitxml=$(RESULTS)/$(or $(REPORT),$(1)).xml $(if $(MARK),-m '$(MARK)') $(ARGS) tests/$(1)

# Tests that need the root's kernel have the mark `mshv`: MARK='not mshv' does without it.
ROOT_KERNEL_FOR_TESTS = $(if $(findstring not mshv,$(MARK)),,root-kernel)

#: make test-guests         bare-metal guests under the hypervisor (ARGS='-k name -v' goes to pytest)
test-guests: efi guests bochs $(if $(ROOT_KERNEL_FOR_TESTS),root-kernel vmm)
	@$(call suite,guests)

#: make test-linux          stock Debian kernels, and Linux with /dev/mshv, under the hypervisor (ARGS as above)
test-linux: efi guests bochs $(if $(ROOT_KERNEL_FOR_TESTS),root-kernel vm-disk)
	@$(call suite,linux)

#: make test                everything: lint, scripts, unit, fuzz, guests, linux; last line `N passed, N failed, N skipped`
# What needs no kernel of ours first: that is built meanwhile. Bochs' clock counts instructions: unlike QEMU's machines, two of its
# can share the host without a test that notices.
test: $(SETUP)
	@$(PYTHON) scripts/run-tests.py --make '$(MAKE)' --results $(RESULTS) lint scripts unit fuzz guests linux children mshv \
		guests-intel+linux-intel+children-intel

#: make test-matrix         the emulator suites again on a newer QEMU from a private folder
test-matrix: efi guests
	@scripts/fetch-qemu.sh $(OUT)/qemu
	@QEMU=$(abspath $(OUT)/qemu/bin/qemu-system-x86_64) $(PYTHON) scripts/run-tests.py --make '$(MAKE)' \
		--results $(RESULTS)/matrix guests linux children mshv

# The emulator of Intel processors: BOCHS= names another one than Bochs 3.0 from Debian 13.
bochs: $(SETUP)
	@$(if $(BOCHS),,scripts/fetch-bochs.sh $(OUT)/bochs)

#: make bench               speed and size figures: build/bench.tsv (CPU=intel: the Intel back end, in Bochs)
bench: efi guests kernel root-kernel vmm $(if $(filter intel,$(CPU)),bochs)
	@$(if $(filter intel,$(CPU)),$(MAKE) --no-print-directory OUT=$(OUT)/marked CC='$(CC) -DTRIVET_MARK_VMCS' efi)
	@$(SUITE_ENV) CPU='$(CPU)' MARKED_EFI=$(abspath $(OUT)/marked/trivet.efi) $(PYTHON) tests/bench/bench.py
	@$(MAKE) --no-print-directory OUT=$(OUT)/counted CC='$(CC) -DTRIVET_COUNT' NASM='$(NASM) -DTRIVET_COUNT' efi
	@$(SUITE_ENV) CPU='$(CPU)' COUNTED_EFI=$(abspath $(OUT)/counted/trivet.efi) $(PYTHON) tests/bench/bench_child.py
	@$(if $(filter intel,$(CPU)),,$(SUITE_ENV) $(PYTHON) tests/bench/bench_vm.py)
	@$(if $(filter intel,$(CPU)),,$(MAKE) --no-print-directory fuzz-bench)

# ---------------------------------------------------------------------------------------------------
# A machine to look at

ROOT ?= stock
ifeq ($(filter $(ROOT),stock mshv),)
$(error ROOT is stock or mshv, not "$(ROOT)")
endif
KERNEL_DIR := $(OUT)/linux/$(if $(filter mshv,$(ROOT)),mshv,cloud)
KERNEL ?= $(KERNEL_DIR)/vmlinuz
# Our initrd has the modules of our kernel: another kernel comes with its own, or none.
INITRD ?= $(if $(filter $(KERNEL_DIR)/%,$(KERNEL)),$(KERNEL_DIR)/initrd)
CMDLINE ?= console=ttyS0
SMP ?= 2
MEM ?= 1024
LOG ?=
CPU ?= amd
RUN := $(OUT)/run
# Guests of the root partition: QEMU and kernels for `vm` in its shell
VM_DISK := $(if $(filter mshv,$(ROOT)),$(OUT)/linux/vm/vm.squashfs)

.PHONY: kernel root-kernel vm-disk run image
#: make kernel              the stock kernel of make run; ROOT=mshv: the one with /dev/mshv (minutes, once)
kernel: $(SETUP)
	@scripts/$(if $(filter mshv,$(ROOT)),build-root-kernel.sh,fetch-kernel.sh) $(KERNEL_DIR)
	@scripts/make-initramfs.sh $(KERNEL_DIR)

root-kernel:
	@$(MAKE) --no-print-directory ROOT=mshv kernel

#: make vm-disk             the disk with QEMU and guest kernels for `vm` in the root's shell (make run ROOT=mshv makes it)
vm-disk: $(SETUP)
	@scripts/build-vm-disk.sh $(OUT)/linux/vm

# The stock kernel is only fetched when no other was given.
image_of = CMDLINE='$(CMDLINE)' LOG='$(LOG)' FIRST='$(2)' INTERFACE='$(if $(filter mshv,$(ROOT)),hv)' \
	scripts/make-image.sh $(1) $(OUT)/trivet.efi $(KERNEL) $(INITRD)

# CPU=amd and CPU=intel, else one of QEMU's models. Bochs' firmware has no ACPI tables: an application before Trivet adds them.
ifeq ($(CPU),intel)
RUN_FIRST := $(OUT)/acpi.efi
RUN_NEEDS := bochs $(RUN_FIRST)
run_machine = BOCHS='$(or $(BOCHS),$(abspath $(OUT)/bochs/bin/bochs))' CPU='$(or $(BOCHS_CPU),corei7_haswell_4770)' scripts/bochs.sh
else
RUN_NEEDS := $(OUT)/qemu-mend.so
run_machine = CPU='$(CPU:amd=EPYC)' QEMU_MEND='$(abspath $(OUT)/qemu-mend.so)' scripts/qemu.sh
endif

#: make run                 a stock Debian kernel on Trivet, console here (Ctrl-A x leaves); variables:
#:                          ROOT=mshv: Linux with /dev/mshv as root partition (its kernel is built once, some minutes);
#:                          `vm` in its shell starts a guest, vm -h tells how
#:                          SMP=2 MEM=1024 KERNEL= INITRD= CMDLINE= LOG=error|warn|info|debug
#:                          CPU=amd|intel|QEMU model; intel: in Bochs, BOCHS_CPU=corei7_haswell_4770
run: efi $(RUN_NEEDS) $(if $(filter $(KERNEL_DIR)/%,$(KERNEL) $(INITRD)),kernel) $(if $(VM_DISK),vm-disk)
	@mkdir -p $(RUN)
	@$(call image_of,$(RUN)/disk.img,$(RUN_FIRST))
	@: > $(RUN)/trivet.log
	@echo "  The hypervisor's log: tail -f $(RUN)/trivet.log"
	@$(if $(RUN_FIRST),echo "  Bochs interprets each instruction: some 10 s to the kernel and a minute to its shell.")
	@echo "  The root's console follows; Ctrl-A x leaves.$(if $(VM_DISK), In its shell, vm starts a guest.)"
	@SMP='$(SMP)' MEM='$(MEM)' VM_DISK='$(VM_DISK)' $(run_machine) $(RUN)/disk.img $(RUN)/trivet.log

#: make image               build/trivet.img, a disk image with the same content
image: efi $(if $(filter $(KERNEL_DIR)/%,$(KERNEL) $(INITRD)),kernel)
	@$(call image_of,$(OUT)/trivet.img)
	@printf '  %-8s %s, %d MiB\n' IMAGE $(OUT)/trivet.img $$(( $$(stat -c %s $(OUT)/trivet.img) >> 20 ))

# ---------------------------------------------------------------------------------------------------
# Reading the source

FORMATTED = $(sort $(shell find boot core drivers svm vmx sched include tests -name '*.[ch]' -not -name '*.def' 2>/dev/null))
SHELL_SCRIPTS = $(sort $(wildcard scripts/*.sh .ci/run scripts/initramfs/* scripts/initramfs/bin/*))
PYTHON_FILES = $(sort $(shell find scripts tests -name '*.py'))
TIDY_FILES = $(HV_C) $(BOOT_C)

.PHONY: lint lint-quick format
#: make lint                style, clang-tidy, scripts
lint: lint-quick compile_commands.json
	@printf '%s\0' $(TIDY_FILES) | xargs -0 -n 4 -P $$(nproc) clang-tidy --quiet -p $(OUT) 2> $(OUT)/tidy.log || \
		{ grep -v 'warnings generated' $(OUT)/tidy.log; exit 1; }

lint-quick: $(SETUP)
	@clang-format --dry-run -Werror $(FORMATTED)
	@for script in $(SHELL_SCRIPTS); do [ ! -f $$script ] || case "$$(head -n 1 $$script)" in \
		*bash*) bash -n $$script || exit 1;; *'/sh'*) sh -n $$script || exit 1;; esac; done
	@PYTHONPYCACHEPREFIX=$(abspath $(OUT)/pycache) $(PYTHON) -m py_compile $(PYTHON_FILES)
	@scripts/check-source.py
	@scripts/abi-doc.py --check

#: make docs                docs/abi.md from the tables that it documents
.PHONY: docs
docs:
	@scripts/abi-doc.py

#: make format              apply the style to every C file
format:
	clang-format -i $(FORMATTED)

.PHONY: compile_commands.json
#: make compile_commands.json   for editors and clang-tidy (so always with clang's flags and headers)
ifneq ($(notdir $(CC)),clang)
compile_commands.json:
	@$(MAKE) --no-print-directory CC=clang UNIT_CC=clang $@
else
quoted = $(subst ','\'',$(1))
list_commands = printf '%s|$(subst %,%%,$(call quoted,$(2) $(VERSION_DEFINE)))\n' $(or $(1),/dev/null)
compile_commands.json: $(NEWLIB_STAMP)
	@mkdir -p $(OUT)
	@{ $(call list_commands,$(HV_C) core/libc_glue.c,$(CC) $(HV_CFLAGS) $(HV_CPPFLAGS)); \
	   $(call list_commands,$(BOOT_C),$(CC) $(EFI_CFLAGS) $(EFI_CPPFLAGS)); \
	   $(call list_commands,$(GUEST_APPS) $(filter %.c,$(GUEST_LIB)),$(CC) $(GUEST_CFLAGS) $(GUEST_CPPFLAGS)); \
	   $(call list_commands,$(UNIT_TESTS) $(FUZZ_TESTS) $(wildcard tests/sim/*.c),$(UNIT_CC) $(UNIT_CFLAGS)); } | \
	   $(PYTHON) scripts/compile-commands.py | $(call update,$(OUT)/compile_commands.json)
	@[ "$(OUT)" != build ] || ln -sf build/compile_commands.json compile_commands.json
endif

-include $(GUEST_LIB_OBJS:.o=.d) $(GUEST_APPS:%=$(G)/obj/%.d)
-include $(SIM_SOURCES:%=$(OUT)/sim/obj/%.d)
-include $(wildcard $(U)/obj/tests/*/*.d $(U)/obj/*/*.d $(F)/obj/tests/fuzz/*.d $(F)/obj/*/*.d $(F)/beneath/*/*.d $(FUZZ_VARIANTS:%=$(F)/%/tests/fuzz/*.d) $(FUZZ_VARIANTS:%=$(F)/%/*/*.d))
