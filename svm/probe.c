/* SPDX-License-Identifier: MIT */
/* Can this processor run Trivet, and with what? APM2 15.4, APM3 appendix E.4.9. */
#include "svm.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <trivet/io.h>

#define VM_CR_SVMDIS BIT(4)

struct svm_machine svm;

static int refuse(char *why, size_t size, const char *text)
{
	snprintf(why, size, "%s", text);
	return -ENODEV;
}

/* QEMU's own emulation of the processor: "TCGTCGTCGTCG" */
static bool is_tcg(void)
{
	struct cpuid_regs regs = cpuid(0x40000000, 0);

	return regs.ebx == 0x54474354 && regs.ecx == 0x43544743 && regs.edx == 0x47435447;
}

/* Which bits of EFER exist: APM2 3.1.7 and the CPUID bit of each. */
static uint64_t find_efer_bits(void)
{
	struct cpuid_regs extended = cpuid(0x80000001, 0);
	uint32_t max_leaf = cpuid(0x80000000, 0).eax;
	uint32_t capacity = max_leaf >= 0x80000008 ? cpuid(0x80000008, 0).ebx : 0;
	uint32_t features2 = max_leaf >= 0x80000021 ? cpuid(0x80000021, 0).eax : 0;
	uint64_t bits = EFER_SCE | EFER_LME | EFER_LMA;

	if (extended.edx & BIT(20))
		bits |= EFER_NXE;
	if (extended.edx & BIT(25))
		bits |= BIT(14); /* FFXSR */
	if (extended.ecx & BIT(17))
		bits |= BIT(15); /* TCE */
	if (capacity & BIT(8))
		bits |= BIT(17); /* MCOMMIT */
	if (capacity & BIT(13))
		bits |= BIT(18); /* INTWB */
	if (features2 & BIT(7))
		bits |= BIT(20); /* UAIE */
	if (features2 & BIT(8))
		bits |= BIT(21); /* AIBRSE */
	return bits;
}

int svm_probe(char *why, size_t size)
{
	uint32_t max_leaf = cpuid(0x80000000, 0).eax;
	uint64_t cr4;

	if (max_leaf < 0x80000001 || !(cpuid(0x80000001, 0).ecx & BIT(2)))
		return -ENOENT;
	if (rdmsr(MSR_VM_CR) & VM_CR_SVMDIS)
		return refuse(why, size,
			      "SVM is disabled by the firmware: turn it on in the setup (\"SVM mode\")");
	/* Then setting EFER.NXE, as host_memory_init() does, is #GP (APM2 3.1.7). */
	if (!(cpuid(0x80000001, 0).edx & CPUID_EXTENDED_EDX_NX))
		return refuse(why, size,
			      "no-execute pages are disabled by the firmware: turn them on in the setup "
			      "(\"NX mode\")");
	svm.features = max_leaf >= 0x8000000a ? cpuid(0x8000000a, 0).edx : 0;
	svm.asids = max_leaf >= 0x8000000a ? cpuid(0x8000000a, 0).ebx : 0;
	if (!(svm.features & SVM_FEATURE_NPT))
		return refuse(why, size, "the processor has SVM but no nested paging");
	if (svm.asids <= ASID_ROOT)
		return refuse(why, size, "the processor has no address space identifiers");
	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	if (cr4 & CR4_LA57)
		return refuse(why, size,
			      "the firmware runs with 5-level paging, which Trivet does not do yet");
	svm.phys_bits = cpuid(0x80000008, 0).eax & 0xff;
	svm.linear_bits = cpuid(0x80000008, 0).eax >> 8 & 0xff;
	svm.gbpages = cpuid(0x80000001, 0).edx & BIT(26);
	svm.invlpgb = cpuid(0x80000008, 0).ebx & BIT(3);
	svm.delivers_twice = is_tcg();
	svm.efer_writable = find_efer_bits();
	return 0;
}

void svm_describe(char *text, size_t size)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{ SVM_FEATURE_NPT, "npt" },
		{ SVM_FEATURE_NRIPS, "nrips" },
		{ SVM_FEATURE_CLEAN_BITS, "clean-bits" },
		{ SVM_FEATURE_FLUSH_BY_ASID, "flush-by-asid" },
		{ SVM_FEATURE_DECODE_ASSISTS, "decode-assists" },
		{ SVM_FEATURE_PAUSE_FILTER, "pause-filter" },
		{ SVM_FEATURE_AVIC, "avic" },
	};
	size_t used = 0;

	text[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(names) && used < size; i++)
		if (svm.features & names[i].bit)
			used += (size_t)snprintf(text + used, size - used, "%s ", names[i].name);
	if (used < size)
		snprintf(text + used, size - used, "asids=%u", svm.asids);
}
