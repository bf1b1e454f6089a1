/* SPDX-License-Identifier: MIT */
/*
 * CPUID of a child's VPs. Every leaf that a child gets is named here, every bit of a word of features is in core/cpu_features.def or among
 * the `always` below: what neither has is 0, so that nothing a future processor adds reaches a child unseen. SDM2A CPUID, APM3 E.
 */
#include <trivet/backend.h>
#include <trivet/cpuid_policy.h>
#include <trivet/io.h>
#include <trivet/live_registers.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

#define BASIC_LEAF_MAX 0x1fu
#define EXTENDED_LEAF_FIRST 0x80000000u
#define EXTENDED_LEAF_MAX 0x80000021u
#define VENDOR_INTEL_EBX 0x756e6547u /* "Genu" */

#define ECX1_XSAVE BIT(26)
#define ECX1_OSXSAVE BIT(27)
#define ECX1_X2APIC BIT(21)
#define ECX1_HYPERVISOR BIT(31)
#define ECX1_TSC_DEADLINE BIT(24)
#define EDX1_APIC BIT(9)
#define EDX1_HTT BIT(28)
#define ECX7_PKU BIT(3)
#define ECX7_OSPKE BIT(4)
#define EAX6_ARAT BIT(2)
#define CMP_LEGACY BIT(1)
#define TOPOLOGY_EXTENSIONS BIT(22)
#define CR4_OSXSAVE BIT(18)
#define CR4_PKE BIT(22)

#define STATE_AVX BIT(2)
#define STATE_AVX512 (7ull << 5)
#define STATE_PKRU BIT(9)
#define XSAVE_AREA_MAX PAGE_SIZE /* vp->fpu, and what the tools of a parent make room for */

enum bank { BANK_0, BANK_1, BANK_XSAVE };
enum how { NATIVE, EMULATED };
enum cpuid_register { EAX, EBX, ECX, EDX };

struct feature {
	uint32_t leaf;
	uint8_t subleaf, reg, cpuid_bit;
	uint8_t bank, bit, how;
};

#define CPU_FEATURE(bank, bit, how, leaf, subleaf, reg, cpuid_bit) \
	{ leaf, subleaf, reg, cpuid_bit, BANK_##bank, bit, how },
static const struct feature features[] = {
#include "cpu_features.def"
};
#undef CPU_FEATURE

/* Bits that no parent can take away, where the processor has them. */
static const struct word {
	uint32_t leaf;
	uint8_t subleaf, reg;
	uint32_t always;
} words[] = {
	/* x87 to MTRR, PGE to PSE36, CLFSH, MMX, FXSR, SSE, SSE2, self snoop */
	{ 1, 0, EDX, 0x0f8bfbff },
	/* FDP only with exceptions: it says how x87 works */
	{ 7, 0, EBX, 1 << 6 },
	{ 7, 0, ECX, 1 << 0 | 1 << 3 }, /* PREFETCHWT1, PKU */
	/* TBM, topology extensions */
	{ 0x80000001, 0, ECX, 1 << 21 | 1 << 22 },
	{ 0x80000001, 0, EDX, 0x2193fbff }, /* as leaf 1, SYSCALL, NX, long mode */
	{ 0x80000008, 0, EBX, 1 << 2 },	    /* error pointers are always restored */
	/* No nested data breakpoints, LFENCE serializes, null selectors clear the base */
	{ 0x80000021, 0, EAX, 1 << 0 | 1 << 2 | 1 << 6 },
};

/* What makes no sense without another: `bank` and `bit` of both. In an order in which one pass does. */
static const struct dependency {
	uint8_t bank, bit;
	uint8_t on_bank, on_bit;
} dependencies[] = {
#define ON_XSAVE(bit)                          \
	{                                      \
		BANK_XSAVE, bit, BANK_XSAVE, 0 \
	}
#define ON_AVX(bit)                            \
	{                                      \
		BANK_XSAVE, bit, BANK_XSAVE, 2 \
	}
#define ON_AVX512(bit)                         \
	{                                      \
		BANK_XSAVE, bit, BANK_XSAVE, 6 \
	}
	ON_XSAVE(1),
	ON_XSAVE(2),
	ON_XSAVE(11),
	ON_XSAVE(12),
	ON_XSAVE(13),
	ON_AVX(3),  /* AVX2 */
	ON_AVX(4),  /* FMA */
	ON_AVX(20), /* VAES */
	ON_AVX(22), /* VPCLMULQDQ */
	ON_AVX(30), /* AVX-VNNI */
	ON_AVX(31), /* AVX-IFMA */
	{ BANK_XSAVE, 6, BANK_XSAVE, 3 },
	ON_AVX512(7),
	ON_AVX512(8),
	ON_AVX512(9),
	ON_AVX512(10),
	ON_AVX512(14),
	ON_AVX512(15),
	ON_AVX512(16),
	ON_AVX512(17),
	ON_AVX512(18),
	ON_AVX512(21),
	ON_AVX512(23),
	ON_AVX512(24),
	ON_AVX512(25),
	{ BANK_0, 6, BANK_XSAVE, 2 },  /* XOP */
	{ BANK_0, 19, BANK_XSAVE, 2 }, /* FMA4 */
	{ BANK_0, 20, BANK_XSAVE, 2 }, /* F16C */
	{ BANK_1, 46, BANK_XSAVE, 2 }, /* SHA512 */
	{ BANK_1, 50, BANK_XSAVE, 2 }, /* SM3 */
	{ BANK_1, 51, BANK_XSAVE, 2 }, /* SM4 */
};

static uint32_t *register_of(struct cpuid_regs *regs, unsigned int reg)
{
	switch (reg) {
	case EAX:
		return &regs->eax;
	case EBX:
		return &regs->ebx;
	case ECX:
		return &regs->ecx;
	default:
		return &regs->edx;
	}
}

static uint64_t *bank_of(struct cpuid_policy *policy, unsigned int bank)
{
	return bank == BANK_XSAVE ? &policy->xsave_features : &policy->features[bank];
}

static bool has(const struct cpuid_policy *policy, unsigned int bank, unsigned int bit)
{
	return (bank == BANK_XSAVE ? policy->xsave_features : policy->features[bank]) >> bit & 1;
}

/* Leaves beyond the highest read as 0 here, though Intel's repeat the last. */
static struct cpuid_regs native(uint32_t leaf, uint32_t subleaf)
{
	static const struct cpuid_regs none;

	if (leaf > cpuid(leaf & EXTENDED_LEAF_FIRST, 0).eax)
		return none;
	return cpuid(leaf, subleaf);
}

/* ---- Policies ---- */

struct xsave_component xsave_component(unsigned int index)
{
	struct cpuid_regs regs = native(0xd, index);

	return (struct xsave_component){ regs.eax, regs.ebx, (regs.ecx & BIT(1)) != 0 };
}

uint32_t xsave_bytes(uint64_t states, bool compacted)
{
	uint32_t bytes = XSAVE_EXTENDED_OFFSET;

	for (unsigned int i = 2; i < XSAVE_COMPONENTS; i++) {
		struct xsave_component component;

		if (!(states >> i & 1))
			continue;
		component = xsave_component(i);
		if (!compacted) {
			if (component.offset + component.bytes > bytes)
				bytes = component.offset + component.bytes;
			continue;
		}
		if (component.aligned)
			bytes = (bytes + 63) & ~63u;
		bytes += component.bytes;
	}
	return bytes;
}

static void drop_dependent(struct cpuid_policy *policy)
{
	for (size_t i = 0; i < ARRAY_SIZE(dependencies); i++)
		if (!has(policy, dependencies[i].on_bank, dependencies[i].on_bit))
			*bank_of(policy, dependencies[i].bank) &= ~BIT(dependencies[i].bit);
}

/* What must be switched with a VP for the features that are left: as much as a page takes. */
static void choose_states(struct cpuid_policy *policy)
{
	struct cpuid_regs regs = native(0xd, 0);
	uint64_t there = regs.eax | (uint64_t)regs.edx << 32;

	policy->xsave_states = 0;
	if (!has(policy, BANK_XSAVE, 0))
		return;
	policy->xsave_states = XSAVE_LEGACY_STATES;
	if (has(policy, BANK_XSAVE, 2))
		policy->xsave_states |= there & STATE_AVX;
	if (has(policy, BANK_XSAVE, 6) && (there & STATE_AVX512) == STATE_AVX512 &&
	    xsave_bytes(policy->xsave_states | STATE_AVX512, false) <= XSAVE_AREA_MAX)
		policy->xsave_states |= STATE_AVX512;
	if (xsave_bytes(policy->xsave_states | STATE_PKRU, false) <= XSAVE_AREA_MAX)
		policy->xsave_states |= there & STATE_PKRU;
}

/* Features without their state are none. */
static void settle(struct cpuid_policy *policy)
{
	drop_dependent(policy);
	choose_states(policy);
	if (!(policy->xsave_states & STATE_AVX))
		policy->xsave_features &= ~BIT(2);
	if (!(policy->xsave_states & STATE_AVX512))
		policy->xsave_features &= ~BIT(6);
	drop_dependent(policy);
}

static void gather(struct cpuid_policy *policy)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		const struct feature *feature = &features[i];
		struct cpuid_regs regs = native(feature->leaf, feature->subleaf);

		if (feature->how == EMULATED || (*register_of(&regs, feature->reg) >> feature->cpuid_bit & 1))
			*bank_of(policy, feature->bank) |= BIT(feature->bit);
	}
}

void cpuid_policy_host(struct cpuid_policy *policy)
{
	*policy = (struct cpuid_policy){ .lock = SPINLOCK_INIT(LOCK_RANK_CPUID) };
	gather(policy);
	settle(policy);
}

void cpuid_policy_init(struct cpuid_policy *policy,
		       const uint64_t disabled_features[HV_PROCESSOR_FEATURE_BANKS], uint64_t disabled_xsave)
{
	cpuid_policy_host(policy);
	for (unsigned int i = 0; i < HV_PROCESSOR_FEATURE_BANKS; i++)
		policy->features[i] &= ~disabled_features[i];
	policy->xsave_features &= ~disabled_xsave;
	settle(policy);
}

/* ---- Words of features ---- */

/* What may be seen of one register: without the banks' opinion nothing of a word that isn't in the tables. */
static uint32_t filter(const struct cpuid_policy *policy, uint32_t leaf, uint32_t subleaf, unsigned int reg,
		       uint32_t value)
{
	uint32_t allowed = 0, emulated = 0, taken = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].leaf == leaf && words[i].subleaf == subleaf && words[i].reg == reg)
			allowed |= words[i].always;
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		const struct feature *feature = &features[i];

		if (feature->leaf != leaf || feature->subleaf != subleaf || feature->reg != reg)
			continue;
		if (!has(policy, feature->bank, feature->bit))
			taken |= 1u << feature->cpuid_bit;
		allowed |= 1u << feature->cpuid_bit;
		if (feature->how == EMULATED)
			emulated |= 1u << feature->cpuid_bit;
	}
	return (value | emulated) & allowed & ~taken;
}

static void filter_all(const struct cpuid_policy *policy, uint32_t leaf, uint32_t subleaf,
		       struct cpuid_regs *regs)
{
	for (unsigned int reg = EAX; reg <= EDX; reg++)
		*register_of(regs, reg) = filter(policy, leaf, subleaf, reg, *register_of(regs, reg));
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
	regs.ecx = filter(policy, 1, 0, ECX, regs.ecx);
	regs.edx = filter(policy, 1, 0, EDX, regs.edx) | (socket_vps(vp) > 1 ? (uint32_t)EDX1_HTT : 0);
	if (!vp->apic.config.tsc_deadline)
		regs.ecx &= ~(uint32_t)ECX1_TSC_DEADLINE;
	if (vp->apic.config.x2apic)
		regs.ecx |= (uint32_t)ECX1_X2APIC;
	if (vp->partition->hv)
		regs.ecx |= (uint32_t)ECX1_HYPERVISOR;
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
		regs.ecx &= ~(uint32_t)ECX7_PKU;
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
		regs.eax = filter(policy, 0xd, 1, EAX, native(0xd, 1).eax);
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
	if (native(0, 0).ebx != VENDOR_INTEL_EBX && socket_vps(vp) > 1)
		regs.ecx |= (uint32_t)CMP_LEGACY;
	return regs;
}

static struct cpuid_regs address_sizes(const struct vp *vp)
{
	struct cpuid_regs regs = native(0x80000008, 0);
	uint32_t physical = capped(regs.eax & 0xff, backend->phys_bits());

	regs.eax = physical | 48u << 8; /* no 57-bit addresses */
	regs.ebx = filter(&vp->partition->cpuid, 0x80000008, 0, EBX, regs.ebx);
	regs.ecx = capped(socket_vps(vp) - 1, 0xff) | socket_bits(vp) << 12;
	if (native(0, 0).ebx == VENDOR_INTEL_EBX)
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
		if ((regs->ecx & ECX1_XSAVE) && (query->cr4 & CR4_OSXSAVE))
			regs->ecx |= (uint32_t)ECX1_OSXSAVE;
	}
	if (query->leaf == 7 && query->subleaf == 0) {
		regs->ecx &= ~(uint32_t)ECX7_OSPKE;
		if ((regs->ecx & ECX7_PKU) && (query->cr4 & CR4_PKE))
			regs->ecx |= (uint32_t)ECX7_OSPKE;
	}
	if ((query->leaf == 1 || query->leaf == 0x80000001) && !apic_enabled)
		regs->edx &= ~(uint32_t)EDX1_APIC;
}

static bool is_complete(const struct cpuid_override *override)
{
	return (override->mask[EAX] & override->mask[EBX] & override->mask[ECX] & override->mask[EDX]) ==
	       UINT32_MAX;
}

struct cpuid_regs cpuid_policy_query(const struct vp *vp, const struct cpuid_query *query)
{
	struct cpuid_regs regs = { 0 };
	struct cpuid_override override;
	bool found = !query->defaults &&
		     (cpuid_overrides_find(&vp->child->overrides, query->leaf, query->subleaf, &override) ||
		      cpuid_overrides_find(&vp->partition->cpuid.overrides, query->leaf, query->subleaf,
					   &override));

	if (!found || !is_complete(&override))
		regs = defaults(vp, query);
	for (unsigned int reg = EAX; found && reg <= EDX; reg++) {
		uint32_t *value = register_of(&regs, reg);

		*value = (*value & ~override.mask[reg]) | (override.value[reg] & override.mask[reg]);
	}
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

	return cpuid_policy_query(vp, &query).eax & 0xff;
}
