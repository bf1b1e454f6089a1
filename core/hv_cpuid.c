/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's CPUID leaves. They are put together once for a partition, from core/hv_cpuid.def; an exit only looks them up.
 * Leaves beyond them, those of a virtualization stack too (0x40000080 on), read as 0.
 */
#include <hv/cpuid.h>
#include <trivet/backend.h>
#include <trivet/hv_cpuid.h>
#include <trivet/hv_msr.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

/*
 * The version Linux's mshv driver knows (27744 to 27751) is one of the interface, so it is what we report: that of the
 * interface we implement.
 */
#define INTERFACE_BUILD 27744u
#define INTERFACE_MAJOR 10u
#define INTERFACE_MINOR 0u

enum offer_word { PRIVILEGE, FEATURE, HINT };

struct offer {
	uint64_t bit;
	uint8_t word;
};

#define HV_OFFER(word, name, role, since) { HV_##word##_##name, word },
static const struct offer offers[] = {
#include "hv_cpuid.def"
};
#undef HV_OFFER

static void add(struct partition *partition, const struct offer *offer)
{
	if (offer->word == PRIVILEGE)
		partition->privileges |= offer->bit;
	else if (offer->word == FEATURE)
		partition->features |= (uint32_t)offer->bit;
	else
		partition->hints |= (uint32_t)offer->bit;
}

static struct cpuid_regs *leaf_of(struct partition *partition, uint32_t leaf)
{
	return &partition->hv_leaves[leaf - HV_CPUID_BASE];
}

void hv_cpuid_init(struct partition *partition)
{
	partition->privileges = 0;
	partition->features = partition->hints = 0;
	for (size_t i = 0; i < ARRAY_SIZE(offers); i++)
		add(partition, &offers[i]);
	hv_msr_offer(partition);
	*leaf_of(partition, HV_CPUID_VENDOR) = (struct cpuid_regs){
		HV_CPUID_BASE + HV_CPUID_LEAVES - 1,
		HV_VENDOR_EBX,
		HV_VENDOR_ECX,
		HV_VENDOR_EDX,
	};
	*leaf_of(partition, HV_CPUID_INTERFACE) = (struct cpuid_regs){ .eax = HV_INTERFACE_SIGNATURE };
	*leaf_of(partition, HV_CPUID_VERSION) = (struct cpuid_regs){
		.eax = INTERFACE_BUILD,
		.ebx = INTERFACE_MAJOR << 16 | INTERFACE_MINOR,
	};
	*leaf_of(partition, HV_CPUID_FEATURES) = (struct cpuid_regs){
		.eax = (uint32_t)partition->privileges,
		.ebx = (uint32_t)(partition->privileges >> 32),
		.edx = partition->features,
	};
	*leaf_of(partition, HV_CPUID_HINTS) = (struct cpuid_regs){
		.eax = partition->hints,
		.ebx = HV_SPIN_RETRIES_NEVER,
		.ecx = backend->phys_bits() & 0x7f,
	};
	*leaf_of(partition, HV_CPUID_LIMITS) = (struct cpuid_regs){
		.eax = HV_VPS_MAX,
		.ebx = HV_VPS_MAX,
	};
	*leaf_of(partition, HV_CPUID_HARDWARE) = (struct cpuid_regs){
		.eax = HV_HARDWARE_MSR_BITMAPS | HV_HARDWARE_SECOND_LEVEL_TRANSLATION,
	};
	*leaf_of(partition, HV_CPUID_CPU_MANAGEMENT) = (struct cpuid_regs){
		.eax = HV_CPU_MANAGEMENT_START_LOGICAL_PROCESSOR | HV_CPU_MANAGEMENT_CREATE_ROOT_VP,
	};
}

void hv_cpuid_read(struct vp *vp)
{
	static const struct cpuid_regs none;
	uint32_t index = (uint32_t)vp->gpr[GPR_RAX] - HV_CPUID_BASE;
	const struct cpuid_regs *regs = index < HV_CPUID_LEAVES ? &vp->partition->hv_leaves[index] : &none;

	vp->gpr[GPR_RAX] = regs->eax;
	vp->gpr[GPR_RBX] = regs->ebx;
	vp->gpr[GPR_RCX] = regs->ecx;
	vp->gpr[GPR_RDX] = regs->edx;
}
