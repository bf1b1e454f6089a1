/* unit: core/cpuid_policy.c core/cpuid_features.c core/cpuid_overrides.c */
/* SPDX-License-Identifier: MIT */
/*
 * CPUID of a child on two modelled processors, an AMD without and an Intel with nearly everything: what may be seen, what a parent took
 * away and what stood on it, topology, extended state, and results that were registered.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <trivet/backend.h>
#include <trivet/cpuid_policy.h>
#include <trivet/page_source.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

static struct partition partition;
static struct vp *vps[4], *vp;
static bool intel;
static uint64_t xcr0;
static size_t pages_left, pages_out;

static unsigned int phys_bits(void)
{
	return 46;
}

static const struct backend fake_backend = { .phys_bits = phys_bits };
const struct backend *backend = &fake_backend;

/* Every bit of every leaf that isn't named here: so what gets through was let through. */
struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs all = { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX };

	switch (leaf) {
	case 0:
		return (struct cpuid_regs){ intel ? 0x20 : 0xd, intel ? 0x756e6547 : 0x68747541, 2, 3 };
	case 1:
		all.ebx = 0x12345678;
		if (!intel) /* no XSAVE's AVX... */
			all.ecx &= ~(1u << 28 | 1u << 12 | 1u << 29);
		return all;
	case 4:
		return subleaf > 3 ? (struct cpuid_regs){ 0 } :
				     (struct cpuid_regs){ 0xffffc001u | (subleaf + 1) << 5, 1, 2, 3 };
	case 7:
		all.eax = intel ? 2 : 0;
		if (!intel)
			all.ebx &= ~(1u << 5 | 1u << 16);
		return all;
	case 0xd:
		switch (subleaf) {
		case 0:
			return (struct cpuid_regs){ intel ? 0x606e7 : 3, 0, 0x2b00, 0 };
		case 1:
			return (struct cpuid_regs){ intel ? 0x1f : 0, 0x999, 0x1900, 0 };
		case 2:
			return (struct cpuid_regs){ 256, 576, 0, 0 };
		case 5:
			return (struct cpuid_regs){ 64, 1088, 0, 0 };
		case 6:
			return (struct cpuid_regs){ 512, 1152, 0, 0 };
		case 7:
			return (struct cpuid_regs){ 1024, 1664, 0, 0 };
		case 9:
			return (struct cpuid_regs){ 8, 2688, 2, 0 }; /* aligned, to see it */
		case 18:
			return (struct cpuid_regs){ 8192, 2816, 2, 0 };
		default:
			return (struct cpuid_regs){ 0 };
		}
	case 0x80000000:
		return (struct cpuid_regs){ intel ? 0x80000008 : 0x80000028, 5, 6, 7 };
	case 0x80000008:
		all.eax = 52 | 57 << 8;
		return all;
	default:
		return all;
	}
}

bool read_xcr0(uint64_t *value)
{
	*value = xcr0;
	return true;
}

static void *page_of_source(struct page_source *source)
{
	(void)source;
	if (!pages_left)
		return NULL;
	pages_left--;
	pages_out++;
	return calloc(1, PAGE_SIZE);
}

static void page_to_source(struct page_source *source, void *page)
{
	(void)source;
	pages_out--;
	free(page);
}

static struct page_source source = { .alloc = page_of_source, .free = page_to_source };

static void begin(bool is_intel, const uint64_t disabled[2], uint64_t disabled_xsave)
{
	intel = is_intel;
	xcr0 = 1;
	memset(&partition, 0, sizeof(partition));
	partition.pages = &source;
	partition.hv = true;
	partition.vp_count = 4;
	partition.vps = vps;
	pages_left = 100;
	cpuid_policy_init(&partition.cpuid, disabled, disabled_xsave);
	for (uint32_t i = 0; i < 4; i++) {
		memset(vps[i]->child, 0, sizeof(*vps[i]->child));
		vps[i]->partition = &partition;
		vps[i]->index = i;
		vps[i]->apic.config.apic_id = i;
		vps[i]->apic.base = APIC_BASE_EN;
	}
	vp = vps[2];
}

static const uint64_t nothing[2];

static struct cpuid_regs ask(uint32_t leaf, uint32_t subleaf)
{
	const struct cpuid_query query = { .leaf = leaf, .subleaf = subleaf, .xcr0 = xcr0 };

	return cpuid_policy_query(vp, &query);
}

static int setup(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		vps[i] = calloc(1, sizeof(struct vp));
		vps[i]->child = calloc(1, sizeof(struct vp_child));
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		free(vps[i]->child);
		free(vps[i]);
	}
	return 0;
}

static void what_a_child_never_sees(void **state)
{
	static const struct {
		uint32_t leaf, subleaf;
		unsigned int reg;
		uint32_t bits;
	} hidden[] = {
		{ 1, 0, 2,
		  1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 14 | 1 << 15 | 1 << 18 },
		{ 1, 0, 3, 1u << 21 | 1u << 22 | 1u << 29 | 1u << 31 },
		{ 5, 0, 0, UINT32_MAX },
		{ 6, 0, 0, ~4u },
		{ 6, 0, 2, UINT32_MAX },
		{ 7, 0, 1, 1 << 2 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 25 },
		/* WAITPKG, CET, LA57, key locker, bus lock, ENQCMD, SGX_LC, PKS */
		{ 7, 0, 2, 1 << 5 | 1 << 7 | 1 << 16 | 1 << 23 | 1 << 24 | 1 << 29 | 1 << 30 | 1u << 31 },
		/* CET's IBT, AMX, L1D flush, architectural and core capabilities */
		{ 7, 0, 3, 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25 | 0x70000000u },
		{ 7, 1, 0, 1 << 17 | 1 << 26 | 1 << 6 },
		{ 7, 1, 3, UINT32_MAX },
		{ 0xa, 0, 0, UINT32_MAX },
		{ 0x12, 0, 0, UINT32_MAX },
		{ 0x14, 0, 1, UINT32_MAX },
		{ 0x19, 0, 1, UINT32_MAX },
		/* SVM, IBS, SKINIT, LWP, node id, performance counters, MWAITX */
		{ 0x80000001, 0, 2,
		  1 << 2 | 1 << 3 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 15 | 1 << 19 | 1 << 23 |
			  1 << 24 | 1 << 28 | 1 << 29 },
		{ 0x80000007, 0, 3, ~0x100u },
		{ 0x80000008, 0, 1, ~0x100d005u },
		{ 0x8000000a, 0, 0, UINT32_MAX },
		{ 0x8000001b, 0, 0, UINT32_MAX },
		{ 0x8000001c, 0, 0, UINT32_MAX },
		{ 0x8000001f, 0, 0, UINT32_MAX },
		{ 0x80000022, 0, 0, UINT32_MAX },
		{ 0xc0000001, 0, 3, UINT32_MAX },
		{ 0x20, 0, 0, UINT32_MAX },
	};

	(void)state;
	for (unsigned int vendor = 0; vendor < 2; vendor++) {
		begin(vendor, nothing, 0);
		for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
			struct cpuid_regs regs = ask(hidden[i].leaf, hidden[i].subleaf);
			const uint32_t all[4] = { regs.eax, regs.ebx, regs.ecx, regs.edx };

			if (all[hidden[i].reg] & hidden[i].bits)
				fail_msg("leaf 0x%x register %u: 0x%x", hidden[i].leaf, hidden[i].reg,
					 all[hidden[i].reg] & hidden[i].bits);
		}
	}
	begin(true, nothing, 0);
	assert_int_equal(ask(0, 0).eax, 0x1f);
	begin(false, nothing, 0);
	assert_int_equal(ask(0, 0).eax, 0xd);
	assert_int_equal(ask(0xe, 0).eax, 0); /* beyond this processor's last, whatever that repeats */
	assert_int_equal(ask(0x80000000, 0).eax, 0x80000021);
}

static void what_it_sees(void **state)
{
	struct cpuid_regs regs;

	(void)state;
	begin(true, nothing, 0);
	vp->apic.config.x2apic = true;
	regs = ask(1, 0);
	assert_int_equal(regs.eax, UINT32_MAX);
	assert_int_equal(regs.ebx, 0x02045678);
	assert_int_equal(regs.ecx & (1u << 31 | 1 << 21 | 1 << 26), 1u << 31 | 1 << 21 | 1 << 26);
	assert_int_equal(regs.ecx & 1 << 24, 0); /* no deadline timer in its APIC */
	assert_int_equal(regs.edx, 0x1f8bfbff);
	vp->apic.config.tsc_deadline = true;
	assert_int_equal(ask(1, 0).ecx & 1 << 24, 1 << 24);
	partition.hv = false;
	assert_int_equal(ask(1, 0).ecx >> 31, 0);
	assert_int_equal(ask(6, 0).eax, 4);
	assert_int_equal(ask(7, 0).eax, 1);
	assert_int_equal(ask(7, 0).ecx & 8, 8);
	assert_int_equal(ask(0x80000007, 0).edx, 0x100);
	assert_int_equal(ask(0x80000008, 0).eax, 46 | 48 << 8);
	assert_int_equal(ask(0x80000008, 0).ecx, 0);
	assert_int_equal(ask(0x80000003, 0).ebx, UINT32_MAX);
	partition.hv_leaves[3].ebx = 77;
	assert_int_equal(ask(0x40000003, 0).ebx, 77);
	assert_int_equal(ask(0x40000082, 0).eax, 0);
	assert_int_equal(ask(0x4fffffff, 0).eax, 0);
}

/* Registers of the VP that CPUID shows. */
static void live_bits(void **state)
{
	(void)state;
	begin(true, nothing, 0);
	for (unsigned int on = 0; on < 2; on++) {
		uint64_t cr4 = on ? BIT(18) | BIT(22) : 0;

		vp->gpr[GPR_RAX] = 0xffffffff00000001;
		cpuid_policy_read(vp, cr4);
		assert_int_equal(vp->gpr[GPR_RCX] >> 27 & 1, on);
		assert_int_equal(vp->gpr[GPR_RBX], 0x02045678);
		vp->gpr[GPR_RAX] = 7;
		vp->gpr[GPR_RCX] = 0;
		cpuid_policy_read(vp, cr4);
		assert_int_equal(vp->gpr[GPR_RCX] >> 4 & 1, on);
	}
	vp->apic.base = 0;
	assert_int_equal(ask(1, 0).edx & 1 << 9, 0);
	begin(false, nothing, 0);
	assert_int_equal(ask(0x80000001, 0).edx & 1 << 9, 1 << 9);
	vp->apic.base = 0;
	assert_int_equal(ask(0x80000001, 0).edx & 1 << 9, 0);
}

static void banks_of_the_host(void **state)
{
	struct cpuid_policy host;

	(void)state;
	begin(true, nothing, 0);
	cpuid_policy_host(&host);
	assert_int_equal(host.features[0] & (BIT(0) | BIT(18) | BIT(57)), BIT(0) | BIT(18) | BIT(57));
	/* L1D flush, RDCL_NO, IBRS_ALL, virtual SSBD, TSX_CTRL, the reserved one */
	assert_int_equal(host.features[0] & (BIT(50) | BIT(51) | BIT(52) | BIT(56) | BIT(62) | BIT(63)), 0);
	/* APERF, RDPRU, LA57, MBEC, nested, PSFD, both CETs, WAITPKG */
	assert_int_equal(host.features[1] & (BIT(0) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) |
					     BIT(9) | BIT(12)),
			 0);
	assert_int_equal(host.features[1] & (BIT(17) | BIT(18)), BIT(17) | BIT(18));
	assert_int_equal(host.xsave_features & (BIT(0) | BIT(2) | BIT(6) | BIT(12)),
			 BIT(0) | BIT(2) | BIT(6) | BIT(12));
	assert_int_equal(host.xsave_features & (BIT(5) | 0xfull << 26), 0); /* MPX; XFD, AMX */
	assert_int_equal(host.xsave_states, 0x2e7);
	begin(false, nothing, 0);
	cpuid_policy_host(&host);
	assert_int_equal(host.xsave_states, 3);
	assert_int_equal(host.xsave_features, BIT(0) | BIT(19)); /* all but GFNI stands on AVX */
	assert_int_equal(host.features[0] & (BIT(6) | BIT(19) | BIT(20)), 0);
}

/* What a parent takes away is in neither the banks nor CPUID; everything else stays. */
static void each_feature_can_be_taken(void **state)
{
	(void)state;
	begin(true, nothing, 0);
	for (unsigned int i = 0; i < 192; i++) {
		uint64_t disabled[3] = { 0 };
		struct cpuid_policy all;

		cpuid_policy_host(&all);
		disabled[i / 64] = BIT(i % 64);
		begin(true, disabled, disabled[2]);
		assert_int_equal(partition.cpuid.features[0] & disabled[0], 0);
		assert_int_equal(partition.cpuid.features[1] & disabled[1], 0);
		assert_int_equal(partition.cpuid.xsave_features & disabled[2], 0);
		if (i < 128) {
			assert_int_equal(partition.cpuid.features[0], all.features[0] & ~disabled[0]);
			assert_int_equal(partition.cpuid.features[1], all.features[1] & ~disabled[1]);
			assert_int_equal(partition.cpuid.xsave_features, all.xsave_features);
		}
	}
	begin(true, (const uint64_t[]){ BIT(18), BIT(1) }, 0);
	assert_int_equal(ask(1, 0).ecx & 1 << 17, 0);
	assert_int_equal(ask(1, 0).ecx & 1 << 13, 1 << 13);
	assert_int_equal(ask(0x80000007, 0).edx, 0);
	/* One bit of CPUID, two of the banks: gone with either. */
	begin(true, (const uint64_t[]){ BIT(44), 0 }, 0);
	assert_int_equal(ask(7, 0).edx >> 26, 0x22);
	begin(true, (const uint64_t[]){ BIT(46), 0 }, 0);
	assert_int_equal(ask(7, 0).edx >> 26, 0x22);
	begin(true, nothing, 0);
	assert_int_equal(ask(7, 0).edx >> 26, 0x23);
}

static void xsave_disabled(void **state)
{
	(void)state;
	begin(true, nothing, BIT(0));
	assert_int_equal(partition.cpuid.xsave_states, 0);
	assert_int_equal(partition.cpuid.xsave_features & (BIT(1) | BIT(2) | BIT(3) | BIT(6) | BIT(25)), 0);
	assert_int_equal(ask(1, 0).ecx & (1 << 26 | 1 << 28 | 1 << 29 | 1 << 12), 0);
	assert_int_equal(ask(7, 0).ebx & (1 << 5 | 1 << 16), 0);
	assert_int_equal(ask(7, 0).ecx & (1 << 3 | 1 << 9), 0);
	assert_int_equal(ask(0xd, 0).eax | ask(0xd, 0).ecx | ask(0xd, 1).eax | ask(0xd, 2).eax, 0);
	begin(true, nothing, BIT(2));
	assert_int_equal(partition.cpuid.xsave_states, 0x203);
	assert_int_equal(ask(7, 0).ebx & (1 << 5 | 1 << 16), 0);
	begin(true, nothing, BIT(6));
	assert_int_equal(partition.cpuid.xsave_states, 0x207);
	assert_int_equal(ask(7, 0).ebx & (1 << 5 | 1 << 16 | 1u << 31 | 1 << 17), 1 << 5);
}

static void xsave_sizes(void **state)
{
	(void)state;
	begin(true, nothing, 0);
	assert_int_equal(xsave_bytes(3, false), 576);
	assert_int_equal(xsave_bytes(3, true), 576);
	assert_int_equal(xsave_bytes(7, false), 832);
	assert_int_equal(xsave_bytes(0xe7, false), 2688);
	assert_int_equal(xsave_bytes(0x2e7, false), 2696);
	assert_int_equal(xsave_bytes(0x2e7, true), 2440);
	assert_int_equal(xsave_bytes(3 | BIT(9) | BIT(18), true), 640 + 8192); /* aligned */
	xcr0 = 7;
	assert_int_equal(ask(0xd, 0).eax, 0x2e7);
	assert_int_equal(ask(0xd, 0).edx, 0);
	assert_int_equal(ask(0xd, 0).ebx, 832);
	assert_int_equal(ask(0xd, 0).ecx, 2696);
	assert_int_equal(ask(0xd, 1).eax, 0xf);
	assert_int_equal(ask(0xd, 1).ebx, 832);
	assert_int_equal(ask(0xd, 1).ecx | ask(0xd, 1).edx, 0);
	assert_int_equal(ask(0xd, 9).ebx, 2688);
	assert_int_equal(ask(0xd, 18).eax, 0);
	assert_int_equal(ask(0xd, 63).eax, 0);
	xcr0 = 0x2e7;
	vp->gpr[GPR_RAX] = 0xd;
	vp->gpr[GPR_RCX] = 0;
	cpuid_policy_read(vp, 0);
	assert_int_equal(vp->gpr[GPR_RBX], 2696);
}

static void topology(void **state)
{
	static const struct {
		uint32_t vps, per_socket, bits;
	} cases[] = { { 1, 0, 0 }, { 2, 0, 1 }, { 3, 0, 2 }, { 4, 0, 2 },
		      { 5, 0, 3 }, { 4, 2, 1 }, { 4, 1, 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t socket = cases[i].per_socket ? cases[i].per_socket : cases[i].vps;

		begin(true, nothing, 0);
		partition.vp_count = cases[i].vps;
		partition.cpuid.vps_per_socket = cases[i].per_socket;
		assert_int_equal(ask(0xb, 0).eax, 0);
		assert_int_equal(ask(0xb, 0).ebx, 1);
		assert_int_equal(ask(0xb, 0).ecx, 0x100);
		assert_int_equal(ask(0xb, 0).edx, 2);
		assert_int_equal(ask(0x1f, 1).eax, cases[i].bits);
		assert_int_equal(ask(0xb, 1).ebx, socket);
		assert_int_equal(ask(0xb, 1).ecx, 0x201);
		assert_int_equal(ask(0xb, 2).ecx, 2);
		assert_int_equal(ask(0xb, 2).ebx, 0);
		assert_int_equal(ask(1, 0).ebx >> 16 & 0xff, 1 << cases[i].bits);
		assert_int_equal(ask(1, 0).edx >> 28 & 1, socket > 1);
		assert_int_equal(ask(4, 0).eax >> 26, (1u << cases[i].bits) - 1);
		assert_int_equal(ask(4, 0).eax >> 14 & 0xfff, 0);
		assert_int_equal(ask(4, 2).eax >> 14 & 0xfff, (1u << cases[i].bits) - 1);
		assert_int_equal(ask(4, 4).eax, 0);
		begin(false, nothing, 0);
		partition.vp_count = cases[i].vps;
		partition.cpuid.vps_per_socket = cases[i].per_socket;
		assert_int_equal(ask(0x80000008, 0).ecx, (socket - 1) | cases[i].bits << 12);
		assert_int_equal(ask(0x80000001, 0).ecx >> 1 & 1, socket > 1);
		assert_int_equal(ask(0x8000001e, 0).eax, 2);
		assert_int_equal(ask(0x8000001e, 0).ebx, 2u & ((1u << cases[i].bits) - 1));
		assert_int_equal(ask(0x8000001e, 0).ecx, 2 >> cases[i].bits);
	}
}

/* ---- Registered results ---- */

static int put(struct cpuid_overrides *to, uint32_t leaf, uint32_t subleaf, bool specific, uint32_t value)
{
	struct cpuid_override entry = { leaf, subleaf, specific, { value, value, value, value }, { 0 } };

	memset(entry.mask, 0xff, sizeof(entry.mask));
	return cpuid_overrides_set(&partition.cpuid, to, &source, &entry);
}

static void overrides(void **state)
{
	struct cpuid_override entry = {
		1, 0, 0, { 5, 0, ~0u, 0 }, { 0xf, 0, 1u << 31 | 1 << 5 | 1 << 27, 0 }
	};
	struct cpuid_overrides *own;
	struct cpuid_regs before;

	(void)state;
	begin(true, nothing, 0);
	own = &vp->child->overrides;
	before = ask(1, 0);
	assert_int_equal(cpuid_overrides_set(&partition.cpuid, own, &source, &entry), 0);
	assert_int_equal(ask(1, 0).eax, 0xfffffff5);
	assert_int_equal(ask(1, 7).ecx, before.ecx); /* and OSXSAVE is CR4's, whatever was registered */
	assert_int_equal(ask(1, 0).edx, before.edx);
	assert_int_equal(put(own, 7, 0, true, 0x09), 0);
	assert_int_equal(put(own, 7, 5, true, 0x55), 0);
	assert_int_equal(ask(7, 0).ebx, 0x09);
	assert_int_equal(ask(7, 5).ebx, 0x55);
	assert_int_equal(ask(7, 6).ebx, 0);
	assert_int_equal(put(own, 7, 9, false, 0x99), 0);
	assert_int_equal(ask(7, 6).ebx, 0x99);
	assert_int_equal(ask(7, 5).ebx, 0x55);
	assert_int_equal(put(own, 7, 5, true, 0x56), 0);
	assert_int_equal(ask(7, 5).ebx, 0x56);
	/* The partition's, where the VP has none. */
	assert_int_equal(put(&partition.cpuid.overrides, 7, 5, true, 0x77), 0);
	assert_int_equal(put(&partition.cpuid.overrides, 0x40000001, 0, false, 0x78), 0);
	assert_int_equal(ask(7, 5).ebx, 0x56);
	assert_int_equal(ask(0x40000001, 0).ebx, 0x78);
	vp = vps[0];
	assert_int_equal(ask(7, 5).ebx, 0x77);
	assert_int_equal(ask(1, 0).eax, UINT32_MAX);
	vp = vps[2];
	assert_int_equal(pages_out, 2);
	cpuid_overrides_destroy(vp);
	assert_int_equal(ask(7, 5).ebx, 0x77);
	cpuid_policy_destroy(&partition);
	assert_int_equal(pages_out, 0);
	assert_int_equal(ask(7, 5).ebx, 0);
}

/* What QEMU registers is its model of the root's processor, which has more than a VP: that can only take away. */
static void overrides_add_no_features(void **state)
{
	static const struct {
		uint32_t leaf, subleaf;
	} leaves[] = { { 1, 0 },	  { 6, 0 },	     { 7, 0 },		{ 7, 1 },
		       { 7, 2 },	  { 0xa, 0 },	     { 0xd, 0 },	{ 0xd, 1 },
		       { 0x80000001, 0 }, { 0x80000007, 0 }, { 0x80000008, 0 }, { 0x8000000a, 0 },
		       { 0x80000021, 0 } };
	struct cpuid_regs before;

	(void)state;
	for (unsigned int vendor = 0; vendor < 2; vendor++) {
		for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
			struct cpuid_regs now;

			begin(vendor, nothing, 0);
			before = ask(leaves[i].leaf, leaves[i].subleaf);
			assert_int_equal(put(&vp->child->overrides, leaves[i].leaf, leaves[i].subleaf,
					     leaves[i].leaf == 7 || leaves[i].leaf == 0xd, UINT32_MAX),
					 0);
			now = ask(leaves[i].leaf, leaves[i].subleaf);
			switch (leaves[i].leaf) {
			case 1:
				assert_int_equal(now.ecx, before.ecx);
				assert_int_equal(now.edx, before.edx);
				assert_int_equal(now.ebx, UINT32_MAX);
				break;
			case 7:
				if (leaves[i].subleaf == 0)
					assert_int_equal(now.ebx, before.ebx);
				else
					assert_int_equal(now.eax == before.eax || leaves[i].subleaf == 2, 1);
				assert_int_equal(now.edx, before.edx);
				break;
			case 0xd:
				assert_int_equal(now.eax, before.eax);
				break;
			case 0x80000001:
				assert_int_equal(now.ecx & ~(1u << 22 | 2u), before.ecx & ~(1u << 22 | 2u));
				assert_int_equal(now.edx & ~0x0183f3ffu, before.edx & ~0x0183f3ffu);
				break;
			case 0x80000008:
				assert_int_equal(now.ebx, before.ebx);
				break;
			case 0x80000007:
			case 0x8000000a:
				assert_int_equal(now.edx, before.edx);
				break;
			default:
				assert_int_equal(now.eax, before.eax);
				break;
			}
			/* And all of it can be taken. */
			assert_int_equal(put(&vp->child->overrides, leaves[i].leaf, leaves[i].subleaf,
					     leaves[i].leaf == 7 || leaves[i].leaf == 0xd, 0),
					 0);
			now = ask(leaves[i].leaf, leaves[i].subleaf);
			assert_int_equal(now.eax | now.ebx | now.ecx | now.edx, 0);
			cpuid_overrides_destroy(vp);
		}
	}
}

/* As many as fit, in any order; each found, and gone when it is taken away. */
static void many_overrides(void **state)
{
	struct cpuid_overrides *own;

	(void)state;
	begin(true, nothing, 0);
	own = &vp->child->overrides;
	for (uint32_t i = 0; i < CPUID_OVERRIDES_MAX; i++)
		assert_int_equal(put(own, 0x1000 + i * 7 % CPUID_OVERRIDES_MAX / 8,
				     i * 7 % CPUID_OVERRIDES_MAX % 8, true, i * 7 % CPUID_OVERRIDES_MAX),
				 0);
	assert_int_equal(put(own, 1, 0, true, 0), -ENOSPC);
	assert_int_equal(put(own, 0x1000, 0, true, 0), 0); /* in another's place */
	for (uint32_t i = 0; i < CPUID_OVERRIDES_MAX; i++)
		assert_int_equal(ask(0x1000 + i / 8, i % 8).ecx, i);
	for (uint32_t i = 0; i < CPUID_OVERRIDES_MAX; i += 2) {
		const struct cpuid_override entry = { .leaf = 0x1000 + i / 8,
						      .subleaf = i % 8,
						      .specific = 1 };

		assert_int_equal(cpuid_overrides_remove(&partition.cpuid, own, &entry), 0);
		assert_int_equal(cpuid_overrides_remove(&partition.cpuid, own, &entry), -ENOENT);
	}
	for (uint32_t i = 0; i < CPUID_OVERRIDES_MAX; i++)
		assert_int_equal(ask(0x1000 + i / 8, i % 8).ecx, i % 2 ? i : 0);
	assert_int_equal(pages_out, CPUID_OVERRIDE_PAGES);
	cpuid_overrides_destroy(vp);
	assert_int_equal(pages_out, 0);
	pages_left = 0;
	assert_int_equal(put(own, 1, 0, true, 0), -ENOMEM);
	assert_int_equal(ask(1, 0).eax, UINT32_MAX);
}

static void phys_bits_as_told(void **state)
{
	struct cpuid_override entry = { 0x80000008, 0, 0, { 40, 0, 0, 0 }, { 0xff, 0, 0, 0 } };

	(void)state;
	begin(false, nothing, 0);
	assert_int_equal(cpuid_policy_phys_bits(vp), 46);
	assert_int_equal(cpuid_overrides_set(&partition.cpuid, &vp->child->overrides, &source, &entry), 0);
	assert_int_equal(cpuid_policy_phys_bits(vp), 40);
	entry.value[0] = 200;
	assert_int_equal(cpuid_overrides_set(&partition.cpuid, &vp->child->overrides, &source, &entry), 0);
	assert_int_equal(cpuid_policy_phys_bits(vp), 52);
	cpuid_overrides_destroy(vp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_child_never_sees),
		cmocka_unit_test(what_it_sees),
		cmocka_unit_test(live_bits),
		cmocka_unit_test(banks_of_the_host),
		cmocka_unit_test(each_feature_can_be_taken),
		cmocka_unit_test(xsave_disabled),
		cmocka_unit_test(xsave_sizes),
		cmocka_unit_test(topology),
		cmocka_unit_test(overrides),
		cmocka_unit_test(overrides_add_no_features),
		cmocka_unit_test(many_overrides),
		cmocka_unit_test(phys_bits_as_told),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
