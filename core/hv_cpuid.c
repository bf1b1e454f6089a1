/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's CPUID leaves. They are put together once for a partition, from core/hv_cpuid.def; an exit only looks them up.
 * Leaves beyond them, those of a virtualization stack too (0x40000080 on), read as 0.
 */
#include <errno.h>
#include <hv/cpuid.h>
#include <hv/partition.h>
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
enum role { ROOT = 1, CHILD = 2, GIVEN = 4 };

/* A parent that asked for calls about long waits for a lock gets them after this many tries. */
#define SPIN_RETRIES 4095u

struct offer {
	uint64_t bit;
	uint64_t synthetic; /* of a child's: what its parent set for it */
	uint8_t word;
	uint8_t roles; /* of the root's */
};

#define HV_OFFER(word, name, roles, since) { HV_##word##_##name, 0, word, roles },
#define HV_ASSIGNABLE(synthetic, word, name)
static const struct offer offers[] = {
#include "hv_cpuid.def"
};
#undef HV_OFFER
#undef HV_ASSIGNABLE

#define HV_OFFER(word, name, roles, since)
#define HV_ASSIGNABLE(synthetic, word, name) { HV_##word##_##name, HV_SYNTHETIC_##synthetic, word, CHILD },
static const struct offer assignable[] = {
#include "hv_cpuid.def"
};
#undef HV_OFFER
#undef HV_ASSIGNABLE

static void add(struct partition *partition, const struct offer *offer)
{
	if (offer->word == PRIVILEGE)
		partition->privileges |= offer->bit;
	else if (offer->word == FEATURE)
		partition->features |= (uint32_t)offer->bit;
	else
		partition->hints |= (uint32_t)offer->bit;
}

static bool is_offered(const struct partition *partition, const struct offer *offer)
{
	uint64_t word = offer->word == PRIVILEGE ? partition->privileges :
			offer->word == FEATURE	 ? partition->features :
						   partition->hints;

	return word & offer->bit;
}

static struct cpuid_regs *leaf_of(struct partition *partition, uint32_t leaf)
{
	return &partition->hv_leaves[leaf - HV_CPUID_BASE];
}

static void fill_leaves(struct partition *partition)
{
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
		.ebx = partition->synthetic & HV_SYNTHETIC_NOTIFY_LONG_SPIN_WAIT ? SPIN_RETRIES :
										   HV_SPIN_RETRIES_NEVER,
		.ecx = backend->phys_bits() & 0x7f,
	};
	*leaf_of(partition, HV_CPUID_LIMITS) = (struct cpuid_regs){
		.eax = partition_is_root(partition) ? HV_VPS_MAX : HV_CHILD_VPS_MAX,
		.ebx = HV_VPS_MAX,
	};
	*leaf_of(partition, HV_CPUID_HARDWARE) = (struct cpuid_regs){
		.eax = HV_HARDWARE_MSR_BITMAPS | HV_HARDWARE_SECOND_LEVEL_TRANSLATION,
	};
	if (partition->privileges & HV_PRIVILEGE_CPU_MANAGEMENT)
		*leaf_of(partition, HV_CPUID_CPU_MANAGEMENT) = (struct cpuid_regs){
			.eax = HV_CPU_MANAGEMENT_START_LOGICAL_PROCESSOR | HV_CPU_MANAGEMENT_CREATE_ROOT_VP,
		};
}

void hv_cpuid_init(struct partition *partition)
{
	partition->privileges = 0;
	partition->features = partition->hints = 0;
	for (size_t i = 0; i < ARRAY_SIZE(offers); i++)
		if (offers[i].roles & ROOT)
			add(partition, &offers[i]);
	/* Where an EOI is an exit, a SINT is better off without; where it isn't, such a SINT would make all interrupts exits. */
	if (!backend->reads_apic_page())
		partition->hints &= ~HV_HINT_NO_AUTO_EOI;
	hv_msr_offer(partition);
	fill_leaves(partition);
}

uint64_t hv_cpuid_assignable(void)
{
	uint64_t features = HV_SYNTHETIC_HYPERVISOR_PRESENT | HV_SYNTHETIC_NOTIFY_LONG_SPIN_WAIT;

	for (size_t i = 0; i < ARRAY_SIZE(assignable); i++)
		features |= assignable[i].synthetic;
	return features;
}

void hv_cpuid_assign(struct partition *partition, uint64_t synthetic)
{
	synthetic &= hv_cpuid_assignable();
	if (!(synthetic & HV_SYNTHETIC_HV1)) /* all else is of that interface */
		synthetic &= HV_SYNTHETIC_HYPERVISOR_PRESENT;
	partition->synthetic = synthetic;
	partition->hv = synthetic & HV_SYNTHETIC_HV1;
	partition->privileges = 0;
	partition->features = partition->hints = 0;
	for (size_t i = 0; i < ARRAY_SIZE(assignable); i++)
		if (synthetic & assignable[i].synthetic)
			add(partition, &assignable[i]);
	/* Where the processor has the registers' page, it is faster than a call. */
	if (backend->reads_apic_page())
		partition->hints &= ~HV_HINT_APIC_MSRS;
	__builtin_memset(partition->hv_leaves, 0, sizeof(partition->hv_leaves));
	hv_msr_offer(partition);
	if (partition->hv)
		fill_leaves(partition);
}

int hv_cpuid_set_privileges(struct partition *partition, uint64_t privileges)
{
	uint64_t possible = 0;

	for (size_t i = 0; i < ARRAY_SIZE(offers); i++)
		if (offers[i].word == PRIVILEGE && (offers[i].roles & (CHILD | GIVEN)))
			possible |= offers[i].bit;
	if ((privileges & ~possible) || (privileges && !partition->hv))
		return -EINVAL;
	partition->privileges = privileges;
	hv_msr_offer(partition);
	if (partition->hv)
		fill_leaves(partition);
	return 0;
}

/* Of a root: what would give a child the same. */
uint64_t hv_cpuid_synthetic(const struct partition *partition)
{
	uint64_t features = partition->hv ? HV_SYNTHETIC_HYPERVISOR_PRESENT | HV_SYNTHETIC_HV1 : 0;

	if (!partition_is_root(partition))
		return partition->synthetic;
	for (size_t i = 0; i < ARRAY_SIZE(assignable); i++)
		if (assignable[i].word == PRIVILEGE && is_offered(partition, &assignable[i]))
			features |= assignable[i].synthetic;
	return features;
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
