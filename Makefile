# SPDX-License-Identifier: MIT
#
# Builds the hypervisor (an ELF image), the UEFI application that carries it, the test guests and the
# host tests. `make help` lists the targets. Rules for host tests: scripts/tests.mk.
#
#   BUILD=release|debug   CC=gcc|clang   OUT=build (one directory per checkout user)   V=1 shows full commands

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

ifeq ($(origin CC),default)
CC := gcc
endif
BUILD ?= release
OUT ?= build
V ?= 0
PYTHON ?= /usr/bin/python3
NASM ?= nasm
LD := ld
OBJCOPY := objcopy

ifeq ($(filter $(BUILD),release debug),)
$(error BUILD is release or debug, not "$(BUILD)")
endif

B := $(OUT)/$(BUILD)
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' '$(1)' '$(2)')
# Writes stdin to $(1) only when that changes it, so that nothing is rebuilt for nothing.
update = { cat > $(1).new.$$$$; cmp -s $(1).new.$$$$ $(1) && rm -f $(1).new.$$$$ || mv -f $(1).new.$$$$ $(1); }

.PHONY: all efi elf help FORCE clean
all: efi

help:
	@sed -n 's/^#: //p' Makefile scripts/tests.mk

#: make                     build/trivet.efi, the loader with the hypervisor inside
#: make elf                 the hypervisor's ELF image only
efi: $(OUT)/trivet.efi
elf: $(B)/trivet.elf

# ---------------------------------------------------------------------------------------------------
# Tools: the packages of scripts/packages.txt, checked once

SETUP := $(OUT)/.setup
$(SETUP): scripts/packages.txt scripts/setup.sh
	@mkdir -p $(@D)
	@scripts/setup.sh build test
	@touch $@

# ---------------------------------------------------------------------------------------------------
# Flags

VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
CC_INCLUDE = $(eval CC_INCLUDE := $(shell $(CC) -print-file-name=include))$(CC_INCLUDE)

WARNINGS := -Wall -Wextra -Werror -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
# No SSE or x87 anywhere: the registers belong to the guest at all times. (No -mcmodel=kernel: the image
# is position independent, and code that is relative to RIP reaches everything.)
FREESTANDING := -ffreestanding -fno-builtin-printf -mgeneral-regs-only -mno-red-zone -fpie \
	-fvisibility=hidden -fno-plt -fno-stack-protector -fcf-protection=none -fno-jump-tables \
	-fno-asynchronous-unwind-tables -fno-unwind-tables -fno-omit-frame-pointer -fno-strict-aliasing \
	-fno-common -ffunction-sections -fdata-sections -fno-delete-null-pointer-checks
ifneq ($(findstring clang,$(CC)),)
FREESTANDING += -fdirect-access-external-data
endif
OPT_release := -O2 -g
OPT_debug := -O1 -g -DTRIVET_DEBUG
HV_CFLAGS := -std=gnu17 $(OPT_$(BUILD)) $(WARNINGS) $(FREESTANDING)
# The prefix maps make the same source give the same bytes in any folder.
HV_CFLAGS += -ffile-prefix-map=$(CURDIR)/=

NEWLIB_TAR := $(firstword $(wildcard /usr/src/newlib/newlib-*.tar.*) /usr/src/newlib/newlib-3.3.0.tar.xz)
NEWLIB_SRC := $(OUT)/newlib-src
NEWLIB_LIBC := $(NEWLIB_SRC)/newlib/libc
NEWLIB := $(OUT)/newlib
LIBC := $(NEWLIB)/libc.a
LIBC_INCLUDE = -nostdinc -isystem scripts/newlib -isystem $(NEWLIB_LIBC)/include -isystem $(CC_INCLUDE)

HV_CPPFLAGS = -Iinclude $(LIBC_INCLUDE)
VERSION_DEFINE := -DTRIVET_VERSION='"$(VERSION)"'
HV_ASFLAGS := -f elf64 -g -F dwarf -Iinclude/ -w+all -Werror \
	$(if $(filter debug,$(BUILD)),-DTRIVET_DEBUG)
HV_LDFLAGS := -pie --no-dynamic-linker -z text -z noexecstack -z separate-code -z max-page-size=4096 \
	--gc-sections --build-id=none --orphan-handling=error -T linker.ld

# A changed compiler or flag rebuilds what it touches; a changed version only the files that show it.
FLAGS := $(B)/.flags
$(FLAGS): FORCE | $(SETUP)
	@mkdir -p $(@D)
	@echo '$(CC) $(HV_CFLAGS) $(HV_CPPFLAGS) $(HV_ASFLAGS) $(EFI_CFLAGS) $(EFI_CPPFLAGS) $(HV_LDFLAGS)' | \
		$(call update,$@)

$(B)/.version: FORCE | $(SETUP)
	@mkdir -p $(@D)
	@echo '$(VERSION)' | $(call update,$@)

# ---------------------------------------------------------------------------------------------------
# newlib: a few string and printing functions, compiled with the hypervisor's flags

NEWLIB_LIST := $(shell grep -v '^\#' scripts/newlib/files.txt)
NEWLIB_OBJS := $(NEWLIB_LIST:%.c=$(NEWLIB)/%.o) $(NEWLIB)/libc_glue.o
NEWLIB_STAMP := $(NEWLIB_SRC)/.unpacked
NEWLIB_FLAGS := $(NEWLIB)/.flags
# The compiler's own stdatomic.h is the one that works. newlib is old-fashioned C, and its memcpy must not become a call of memcpy.
NEWLIB_CFLAGS := -std=gnu99 -O2 -g -w $(FREESTANDING) -fno-builtin -ffile-prefix-map=$(CURDIR)/=

$(NEWLIB_STAMP): $(NEWLIB_TAR) scripts/newlib/newlib.h | $(SETUP)
	$(call say,UNPACK,$(notdir $<))
	@rm -rf $(@D).tmp.$$$$ && mkdir -p $(@D).tmp.$$$$ && \
		tar -xf $< -C $(@D).tmp.$$$$ --strip-components=1 --wildcards \
		--exclude='*/libc/include/stdatomic.h' '*/newlib/libc/*' && \
		rm -rf $(@D) && mv $(@D).tmp.$$$$ $(@D) && touch $@

$(NEWLIB_TAR): | $(SETUP)

$(NEWLIB_FLAGS): FORCE | $(SETUP)
	@mkdir -p $(@D)
	@echo '$(CC) $(NEWLIB_CFLAGS)' | $(call update,$@)

$(NEWLIB)/stdio/svfiprintf.o: NEWLIB_DEFINES := -DINTEGER_ONLY -DSTRING_ONLY
newlib_source = $(NEWLIB_LIBC)/$(patsubst stdio/svfiprintf,stdio/vfprintf,$(1)).c
$(NEWLIB_LIST:%.c=$(NEWLIB)/%.o): $(NEWLIB)/%.o: $(NEWLIB_STAMP) scripts/newlib/newlib.h $(NEWLIB_FLAGS)
	@mkdir -p $(@D)
	$(call say,LIBC,$*)
	$(Q)$(CC) $(NEWLIB_CFLAGS) $(NEWLIB_DEFINES) $(LIBC_INCLUDE) -c $(call newlib_source,$*) -o $@

$(NEWLIB)/libc_glue.o: core/libc_glue.c $(NEWLIB_STAMP) scripts/newlib/newlib.h $(NEWLIB_FLAGS)
	@mkdir -p $(@D)
	$(call say,LIBC,libc_glue)
	$(Q)$(CC) -std=gnu17 -O2 -g $(WARNINGS) -Wno-missing-prototypes $(FREESTANDING) -Iinclude $(LIBC_INCLUDE) -c $< -o $@

$(LIBC): $(NEWLIB_OBJS)
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcsD $@ $^

# ---------------------------------------------------------------------------------------------------
# The hypervisor

HV_DIRS := core drivers svm vmx sched
HV_C := $(filter-out core/libc_glue.c,$(sort $(wildcard $(HV_DIRS:%=%/*.c))))
HV_ASM := $(sort $(wildcard $(HV_DIRS:%=%/*.asm)))
HV_OBJS := $(HV_C:%=$(B)/hv/%.o) $(HV_ASM:%=$(B)/hv/%.o)

$(B)/hv/%.c.o: %.c $(FLAGS) $(NEWLIB_STAMP)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(HV_CFLAGS) $(HV_CPPFLAGS) $(VERSION_DEFINE) -MMD -MP -c $< -o $@

$(patsubst %,$(B)/hv/%.o,$(shell grep -ls TRIVET_VERSION $(HV_C) /dev/null)): $(B)/.version

$(B)/hv/%.asm.o: %.asm $(FLAGS)
	@mkdir -p $(@D)
	$(call say,NASM,$<)
	$(Q)$(NASM) $(HV_ASFLAGS) -MD $(@:.o=.d) -MP -MT $@ $< -o $@

$(B)/trivet.elf: $(HV_OBJS) $(LIBC) linker.ld scripts/check-image.py
	$(call say,LINK,$@)
	$(Q)$(LD) $(HV_LDFLAGS) -Map=$(B)/trivet.map $(HV_OBJS) $(LIBC) -o $@.tmp
	$(Q)$(PYTHON) scripts/check-image.py $@.tmp
	@mv -f $@.tmp $@

# What is embedded keeps the symbol table (back traces name functions) and loses the debug information.
$(B)/trivet.stripped.elf: $(B)/trivet.elf
	$(Q)$(OBJCOPY) --strip-debug --remove-section=.comment $< $@

# ---------------------------------------------------------------------------------------------------
# UEFI applications: the loader, and the bare-metal guests of the tests

EFI_LIB ?= /usr/lib
EFI_CRT := $(EFI_LIB)/crt0-efi-x86_64.o
EFI_LDS := $(EFI_LIB)/elf_x86_64_efi.lds
EFI_CFLAGS := -std=gnu17 -O2 -g $(WARNINGS) -ffreestanding -fpic -fshort-wchar -mno-red-zone -fno-stack-protector \
	-fno-strict-aliasing -fcf-protection=none -fno-asynchronous-unwind-tables -fvisibility=hidden \
	-DGNU_EFI_USE_MS_ABI -ffile-prefix-map=$(CURDIR)/= $(if $(filter debug,$(BUILD)),-DTRIVET_DEBUG)
ifneq ($(findstring clang,$(CC)),)
EFI_CFLAGS += -Wno-error=unused-command-line-argument -Wno-pragma-pack
else
EFI_CFLAGS += -maccumulate-outgoing-args
endif
EFI_CPPFLAGS = -Iinclude $(LIBC_INCLUDE) -isystem /usr/include/efi -isystem /usr/include/efi/x86_64
EFI_LDFLAGS := -shared -Bsymbolic -nostdlib -znocombreloc -znoexecstack -T $(EFI_LDS) --no-undefined \
	--build-id=none --no-warn-rwx-segments
EFI_SECTIONS := $(addprefix -j ,.text .sdata .data .dynamic .dynsym .rel .rela '.rel.*' '.rela.*' .reloc)

# $(1): the shared object, $(2): objects
efi_link = $(LD) $(EFI_LDFLAGS) $(EFI_CRT) $(2) -L$(EFI_LIB) -lefi -lgnuefi $(LIBC) -o $(1)
efi_convert = $(OBJCOPY) $(EFI_SECTIONS) --target=efi-app-x86_64 $(1) $(2).tmp && \
	$(PYTHON) scripts/check-efi.py $(2).tmp && mv -f $(2).tmp $(2)

BOOT_C := $(sort $(wildcard boot/*.c))
BOOT_ASM := $(sort $(wildcard boot/*.asm))
BOOT_OBJS := $(BOOT_C:%=$(B)/%.o) $(BOOT_ASM:%=$(B)/%.o)

$(B)/boot/%.c.o: boot/%.c $(FLAGS) $(NEWLIB_STAMP)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(EFI_CFLAGS) $(EFI_CPPFLAGS) $(VERSION_DEFINE) -MMD -MP -c $< -o $@

$(patsubst %,$(B)/%.o,$(shell grep -ls TRIVET_VERSION $(BOOT_C) /dev/null)): $(B)/.version

$(B)/boot/%.asm.o: boot/%.asm $(FLAGS)
	@mkdir -p $(@D)
	$(call say,NASM,$<)
	$(Q)$(NASM) -f elf64 -Iinclude/ -w+all -Werror -MD $(@:.o=.d) -MP -MT $@ $< -o $@

$(B)/boot/hv_image.o: scripts/embed.asm $(B)/trivet.stripped.elf
	@mkdir -p $(@D)
	$(call say,EMBED,$(B)/trivet.stripped.elf)
	$(Q)$(NASM) -f elf64 -DFILE='"$(B)/trivet.stripped.elf"' $< -o $@

$(B)/trivet.efi: $(BOOT_OBJS) $(B)/boot/hv_image.o $(LIBC) scripts/check-efi.py
	$(call say,EFI,$@)
	$(Q)$(call efi_link,$(B)/trivet.efi.so,$(BOOT_OBJS) $(B)/boot/hv_image.o)
	$(Q)$(call efi_convert,$(B)/trivet.efi.so,$@)

# The copy follows BUILD, also when the other build's file is newer.
$(OUT)/trivet.efi: $(B)/trivet.efi FORCE
	@cmp -s $< $@ || { cp $< $@.tmp && mv -f $@.tmp $@; }
	@printf '  %-8s %s, %d KiB (%s)\n' SIZE $@ $$(( ($$(stat -c %s $@) + 1023) / 1024 )) $(BUILD)

include scripts/tests.mk

#: make clean               remove $(OUT)
clean:
	rm -rf $(OUT)

-include $(HV_OBJS:.o=.d) $(BOOT_OBJS:.o=.d)
