/* SPDX-License-Identifier: MIT */
/*
 * Which of the processor's features a child gets. Every bit that it may see is in core/cpu_features.def or among the words below: what
 * neither has is hidden, so that nothing a future processor adds reaches a child unseen. SDM2A CPUID, APM3 E.
 */
#include "cpuid_internal.h"

#define STATE_AVX BIT(2)
#define STATE_AVX512 (7ull << 5)
#define XSAVE_AREA_MAX PAGE_SIZE /* vp->fpu, and what the tools of a parent make room for */

enum bank { BANK_0, BANK_1, BANK_XSAVE };
enum how { NATIVE, EMULATED };

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

/*
 * Every register of CPUID that is a list of features. `always`: what no parent can take away, where the processor has it. `told`: what
 * a parent may say although it isn't so: it is about how VPs are arranged, or a name. All other bits of a result that it registered can only
 * take features away: a guest that saw one which its VP hasn't would fail on it.
 */
static const struct word {
	uint32_t leaf;
	uint8_t subleaf, reg;
	uint32_t always, told;
} words[] = {
	{ 1, 0, ECX, 0, (uint32_t)CPUID_1_ECX_HYPERVISOR },
	/* x87 to MTRR, PGE to PSE36, CLFSH, MMX, FXSR, SSE, SSE2, self snoop */
	{ 1, 0, EDX, 0x0f8bfbff, EDX1_HTT },
	{ 6, 0, EAX, EAX6_ARAT, 0 },
	{ 6, 0, ECX, 0, 0 },
	/* FDP only with exceptions: it says how x87 works */
	{ 7, 0, EBX, 1 << 6, 0 },
	{ 7, 0, ECX, 1 << 0 | 1 << 3, 0 }, /* PREFETCHWT1, PKU */
	{ 7, 0, EDX, 0, 0 },
	{ 7, 1, EAX, 0, 0 },
	{ 7, 1, EBX, 0, 0 },
	{ 7, 1, ECX, 0, 0 },
	{ 7, 1, EDX, 0, 0 },
	{ 7, 2, EDX, 0, 0 },
	{ 0xa, 0, EAX, 0, 0 },
	{ 0xd, 0, EAX, 0, 0 }, /* states, which are a list of features too */
	{ 0xd, 0, EDX, 0, 0 },
	{ 0xd, 1, EAX, 0, 0 },
	/* TBM, topology extensions */
	{ 0x80000001, 0, ECX, 1 << 21 | 1 << 22, CMP_LEGACY | TOPOLOGY_EXTENSIONS },
	/* As leaf 1, where the vendor repeats it; SYSCALL, NX, long mode */
	{ 0x80000001, 0, EDX, 0x2193fbff, 0x0183f3ff },
	{ 0x80000007, 0, EDX, 0, 0 },
	{ 0x80000008, 0, EBX, 1 << 2, 0 }, /* error pointers are always restored */
	{ 0x8000000a, 0, EAX, 0, 0 },
	{ 0x8000000a, 0, EDX, 0, 0 },
	/* No nested data breakpoints, LFENCE serializes, null selectors clear the base */
	{ 0x80000021, 0, EAX, 1 << 0 | 1 << 2 | 1 << 6, 0 },
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

static uint64_t *bank_of(struct cpuid_policy *policy, unsigned int bank)
{
	return bank == BANK_XSAVE ? &policy->xsave_features : &policy->features[bank];
}

static bool has(const struct cpuid_policy *policy, unsigned int bank, unsigned int bit)
{
	return (bank == BANK_XSAVE ? policy->xsave_features : policy->features[bank]) >> bit & 1;
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

uint32_t cpuid_filter(const struct cpuid_policy *policy, uint32_t leaf, uint32_t subleaf, unsigned int reg,
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

bool cpuid_is_features(uint32_t leaf, uint32_t subleaf, unsigned int reg, uint32_t *told)
{
	if (leaf != 7 && leaf != 0xd) /* the others don't look at ECX */
		subleaf = 0;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].leaf == leaf && words[i].subleaf == subleaf && words[i].reg == reg) {
			*told = words[i].told;
			return true;
		}
	return false;
}
