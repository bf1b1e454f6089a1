/* SPDX-License-Identifier: MIT */
/*
 * CPUID of a child's VPs, leaf by leaf: every leaf that a child gets is named here, the others are 0. Over it comes what its parent registered,
 * and over that what follows the VP's registers.
 */
#include "cpuid_internal.h"

#include <trivet/backend.h>
#include <trivet/live_registers.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>
#include <trivet/x86.h>

#define BASIC_LEAF_MAX 0x1fu
#define EXTENDED_LEAF_MAX 0x80000021u
#define ECX1_OSXSAVE BIT(27)
#define EDX1_APIC BIT(9)
#define ECX7_OSPKE BIT(4)

static void filter_all(const struct cpuid_policy *policy, uint32_t leaf, uint32_t subleaf,
		       struct cpuid_regs *regs)
{
	for (unsigned int reg = EAX; reg <= EDX; reg++)
		*register_of(regs, reg) = cpuid_filter(policy, leaf, subleaf, reg, *register_of(regs, reg));
}

/* ---- Topology: a VP is a core with one thread ---- */

static uint32_t socket_vps(const struct vp *vp)
{
	uint32_t vps = vp->partition->cpuid.vps_per_socket;

	if (!vps)
		vps = vp->partition->vp_count;
	return vps ? vps : 1;
}

/* Bits of the APIC id that tell the VPs of a socket apart. */
static unsigned int socket_bits(const struct vp *vp)
{
	uint32_t vps = socket_vps(vp);

	return vps > 1 ? 32u - (unsigned int)__builtin_clz(vps - 1) : 0;
}

static uint32_t apic_id_of(const struct vp *vp)
{
	return vp->apic.config.apic_id;
}

static uint32_t capped(uint32_t value, uint32_t most)
{
	return value < most ? value : most;
}

static struct cpuid_regs topology(const struct vp *vp, uint32_t subleaf)
{
	enum { LEVEL_THREAD = 1 << 8, LEVEL_CORE = 2 << 8 };
	struct cpuid_regs regs = { .ecx = subleaf & 0xff, .edx = apic_id_of(vp) };

	if (subleaf == 0) {
		regs.ebx = 1;
		regs.ecx |= LEVEL_THREAD;
	} else if (subleaf == 1) {
		regs.eax = socket_bits(vp);
		regs.ebx = socket_vps(vp);
		regs.ecx |= LEVEL_CORE;
	}
	return regs;
}

/* Level 1 and 2 caches are a VP's own, what comes after is the socket's. */
static struct cpuid_regs cache(const struct vp *vp, uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs regs = native(leaf, subleaf);
	uint32_t others = (1u << socket_bits(vp)) - 1;
	uint32_t sharing = (regs.eax >> 5 & 7) >= 3 ? capped(others, 0xfff) : 0;

	if (!(regs.eax & 0x1f))
		return (struct cpuid_regs){ 0 };
	regs.eax = (regs.eax & 0x3fff) | sharing << 14;
	if (leaf == 4)
		regs.eax |= capped(others, 0x3f) << 26;
	return regs;
}

/* ---- Leaves ---- */

static struct cpuid_regs version_leaf(const struct vp *vp)
{
	const struct cpuid_policy *policy = &vp->partition->cpuid;
	struct cpuid_regs regs = native(1, 0);
	uint32_t ids = capped(1u << socket_bits(vp), 0xff);

	regs.ebx = (regs.ebx & 0xffff) | ids << 16 | apic_id_of(vp) << 24;
	regs.ecx = cpuid_filter(policy, 1, 0, ECX, regs.ecx);
	regs.edx = cpuid_filter(policy, 1, 0, EDX, regs.edx) | (socket_vps(vp) > 1 ? (uint32_t)EDX1_HTT : 0);
	if (!vp->apic.config.tsc_deadline)
		regs.ecx &= ~(uint32_t)CPUID_1_ECX_TSC_DEADLINE;
	if (vp->apic.config.x2apic)
		regs.ecx |= (uint32_t)CPUID_1_ECX_X2APIC;
	if (vp->partition->hv)
		regs.ecx |= (uint32_t)CPUID_1_ECX_HYPERVISOR;
	return regs;
}

static struct cpuid_regs feature_leaf(const struct cpuid_policy *policy, uint32_t subleaf)
{
	struct cpuid_regs regs = native(7, subleaf);
	uint32_t last = subleaf == 0 ? capped(regs.eax, 1) : 0;

	filter_all(policy, 7, subleaf, &regs);
	if (subleaf == 0)
		regs.eax = last;
	if (!(policy->xsave_states & STATE_PKRU))
		regs.ecx &= ~(uint32_t)CPUID_7_ECX_PKU;
	return regs;
}

static struct cpuid_regs xsave_leaf(const struct cpuid_policy *policy, const struct cpuid_query *query)
{
	uint64_t states = policy->xsave_states;
	struct cpuid_regs regs = { 0 };

	if (!states)
		return regs;
	if (query->subleaf == 0) {
		regs.eax = (uint32_t)states;
		regs.edx = (uint32_t)(states >> 32);
		regs.ebx = xsave_bytes(query->xcr0 & states, false);
		regs.ecx = xsave_bytes(states, false);
	} else if (query->subleaf == 1) {
		regs.eax = cpuid_filter(policy, 0xd, 1, EAX, native(0xd, 1).eax);
		if (regs.eax & (BIT(1) | BIT(3)))
			regs.ebx = xsave_bytes((query->xcr0 | query->xss) & states, true);
	} else if (query->subleaf < XSAVE_COMPONENTS && (states >> query->subleaf & 1)) {
		regs = native(0xd, query->subleaf);
		regs.edx = 0;
	}
	return regs;
}

static struct cpuid_regs basic(const struct vp *vp, const struct cpuid_query *query)
{
	const struct cpuid_policy *policy = &vp->partition->cpuid;
	struct cpuid_regs regs = { 0 };

	switch (query->leaf) {
	case 0:
		regs = native(0, 0);
		regs.eax = capped(regs.eax, BASIC_LEAF_MAX);
		return regs;
	case 1:
		return version_leaf(vp);
	case 4:
		return cache(vp, 4, query->subleaf);
	case 6: /* our timers run on in any power state */
		regs.eax = EAX6_ARAT;
		return regs;
	case 7:
		return feature_leaf(policy, query->subleaf);
	case 0xb:
	case 0x1f:
		return topology(vp, query->subleaf);
	case 0xd:
		return xsave_leaf(policy, query);
	case 2:	   /* caches and TLBs as descriptors */
	case 0x15: /* the TSC's clock */
	case 0x16:
	case 0x18: /* TLBs */
		return native(query->leaf, query->subleaf);
	default:
		return regs;
	}
}

static struct cpuid_regs extended_features(const struct vp *vp)
{
	struct cpuid_regs regs = native(0x80000001, 0);
	uint32_t signature = regs.eax, brand = regs.ebx;

	filter_all(&vp->partition->cpuid, 0x80000001, 0, &regs);
	regs.eax = signature;
	regs.ebx = brand;
	if (native(0, 0).ebx != CPUID_VENDOR_INTEL_EBX && socket_vps(vp) > 1)
		regs.ecx |= (uint32_t)CMP_LEGACY;
	return regs;
}

static struct cpuid_regs address_sizes(const struct vp *vp)
{
	struct cpuid_regs regs = native(0x80000008, 0);
	uint32_t physical = capped(regs.eax & 0xff, backend->phys_bits());

	regs.eax = physical | 48u << 8; /* no 57-bit addresses */
	regs.ebx = cpuid_filter(&vp->partition->cpuid, 0x80000008, 0, EBX, regs.ebx);
	regs.ecx = capped(socket_vps(vp) - 1, 0xff) | socket_bits(vp) << 12;
	if (native(0, 0).ebx == CPUID_VENDOR_INTEL_EBX)
		regs.ecx = 0;
	regs.edx = 0;
	return regs;
}

static struct cpuid_regs extended(const struct vp *vp, const struct cpuid_query *query)
{
	const struct cpuid_policy *policy = &vp->partition->cpuid;
	bool has_topology = native(0x80000001, 0).ecx & TOPOLOGY_EXTENSIONS;
	struct cpuid_regs regs = { 0 };

	switch (query->leaf) {
	case 0x80000000:
		regs = native(0x80000000, 0);
		regs.eax = capped(regs.eax, EXTENDED_LEAF_MAX);
		return regs;
	case 0x80000001:
		return extended_features(vp);
	case 0x80000007:
	case 0x80000021:
		regs = native(query->leaf, 0);
		filter_all(policy, query->leaf, 0, &regs);
		return regs;
	case 0x80000008:
		return address_sizes(vp);
	case 0x8000001d:
		return has_topology ? cache(vp, 0x8000001d, query->subleaf) : regs;
	case 0x8000001e:
		if (!has_topology)
			return regs;
		regs.eax = apic_id_of(vp);
		regs.ebx = apic_id_of(vp) & ((1u << socket_bits(vp)) - 1) & 0xff;
		regs.ecx = apic_id_of(vp) >> socket_bits(vp) & 0xff;
		return regs;
	case 0x80000002 ... 0x80000006: /* name; caches and TLBs */
	case 0x80000019:		/* TLBs of 1 GiB pages */
	case 0x8000001a:		/* how wide the units are */
		return native(query->leaf, 0);
	default:
		return regs;
	}
}

/* Without what was registered. Hypervisor's leaves are the partition's (hv_cpuid.c). */
static struct cpuid_regs defaults(const struct vp *vp, const struct cpuid_query *query)
{
	static const struct cpuid_regs none;
	uint32_t hypervisor = query->leaf - HV_CPUID_BASE;

	if (hv_cpuid_is_hypervisor_leaf(query->leaf))
		return hypervisor < HV_CPUID_LEAVES ? vp->partition->hv_leaves[hypervisor] : none;
	if (query->leaf > cpuid(query->leaf & EXTENDED_LEAF_FIRST, 0).eax)
		return none;
	if (query->leaf >= EXTENDED_LEAF_FIRST)
		return query->leaf <= EXTENDED_LEAF_MAX ? extended(vp, query) : none;
	return query->leaf <= BASIC_LEAF_MAX ? basic(vp, query) : none;
}

/* Bits that follow the VP's registers, in what the guest is told it has. */
static void show_state(const struct vp *vp, const struct cpuid_query *query, struct cpuid_regs *regs)
{
	bool apic_enabled = vp->apic.base & APIC_BASE_EN;

	if (query->leaf == 1) {
		regs->ecx &= ~(uint32_t)ECX1_OSXSAVE;
		if ((regs->ecx & CPUID_1_ECX_XSAVE) && (query->cr4 & CR4_OSXSAVE))
			regs->ecx |= (uint32_t)ECX1_OSXSAVE;
	}
	if (query->leaf == 7 && query->subleaf == 0) {
		regs->ecx &= ~(uint32_t)ECX7_OSPKE;
		if ((regs->ecx & CPUID_7_ECX_PKU) && (query->cr4 & CR4_PKE))
			regs->ecx |= (uint32_t)ECX7_OSPKE;
	}
	if ((query->leaf == 1 || query->leaf == 0x80000001) && !apic_enabled)
		regs->edx &= ~(uint32_t)EDX1_APIC;
}

static void apply(const struct cpuid_query *query, const struct cpuid_override *override,
		  struct cpuid_regs *regs)
{
	for (unsigned int reg = EAX; reg <= EDX; reg++) {
		uint32_t *value = register_of(regs, reg), mask = override->mask[reg];
		uint32_t told, possible = UINT32_MAX;

		if (cpuid_is_features(query->leaf, query->subleaf, reg, &told))
			possible = *value | told;
		*value = ((*value & ~mask) | (override->value[reg] & mask)) & possible;
	}
}

struct cpuid_regs cpuid_policy_query(const struct vp *vp, const struct cpuid_query *query)
{
	struct cpuid_regs regs = defaults(vp, query);
	struct cpuid_override override;

	if (!query->defaults &&
	    (cpuid_overrides_find(&vp->child->overrides, query->leaf, query->subleaf, &override) ||
	     cpuid_overrides_find(&vp->partition->cpuid.overrides, query->leaf, query->subleaf, &override)))
		apply(query, &override, &regs);
	show_state(vp, query, &regs);
	return regs;
}

void cpuid_policy_read(struct vp *vp, uint64_t cr4)
{
	struct cpuid_query query = {
		.leaf = (uint32_t)vp->gpr[GPR_RAX],
		.subleaf = (uint32_t)vp->gpr[GPR_RCX],
		.cr4 = cr4,
		.xcr0 = 1,
	};
	struct cpuid_regs regs;

	if (query.leaf == 0xd)
		(void)read_xcr0(&query.xcr0); /* else there is only x87, as in `query` */
	regs = cpuid_policy_query(vp, &query);
	vp->gpr[GPR_RAX] = regs.eax;
	vp->gpr[GPR_RBX] = regs.ebx;
	vp->gpr[GPR_RCX] = regs.ecx;
	vp->gpr[GPR_RDX] = regs.edx;
}

unsigned int cpuid_policy_phys_bits(const struct vp *vp)
{
	const struct cpuid_query query = { .leaf = 0x80000008 };
	unsigned int bits = cpuid_policy_query(vp, &query).eax & 0xff;

	return bits < 52 ? bits : 52; /* the architecture's most: its parent may have given it any number */
}
