/* unit: core/extended_state.c */
/* SPDX-License-Identifier: MIT */
/*
 * Extended state when VPs are switched, by a processor with components that nobody has made: what is saved and loaded, and with which XCR0; that
 * a VP finds its own state and nobody else's; that a child's area is a page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/extended_state.h>
#include <trivet/live_registers.h>
#include <trivet/lp.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#define X87 BIT(0)
#define SSE BIT(1)
#define COMPONENTS 64u
#define AREA_BYTES 0x3008u
#define HEADER 512u /* of XSAVE's, behind what FXSAVE knows (SDM1 13.4.2) */
#define OF_OURS 0x7777u
#define FSW_ES BIT(7) /* an exception is pending */

/* CPUID 0DH, a component each: it ends with a child's page, or one byte behind; one isn't XCR0's but IA32_XSS'. */
#define LAST_IN_PAGE 5u
#define BEYOND_PAGE 9u
#define IN_HIGH_HALF 40u
#define OF_XSS 11u
static const struct {
	unsigned int index;
	uint32_t bytes, offset;
} layout[] = {
	{ 2, 0x100, 0x240 },	       { LAST_IN_PAGE, 0x80, PAGE_SIZE - 0x80 },
	{ BEYOND_PAGE, 1, PAGE_SIZE }, { 18, 0x2007, PAGE_SIZE + 1 },
	{ IN_HIGH_HALF, 8, 0x340 },    { OF_XSS, 0x10, 0 },
};
static const uint64_t everything =
	X87 | SSE | BIT(2) | BIT(LAST_IN_PAGE) | BIT(BEYOND_PAGE) | BIT(18) | BIT(IN_HIGH_HALF);
static const uint64_t for_children = X87 | SSE | BIT(2) | BIT(LAST_IN_PAGE) | BIT(IN_HIGH_HALF);

static struct {
	bool has_xsave, is_amd, restores_pointers;
	uint32_t leaf_max, extended_leaf_max;
} machine;

/* What is in the processor. A component is one byte, repeated; 0: initial. */
static struct {
	uint8_t component[COMPONENTS];
	uint64_t fip, xcr0, dr[4];
	uint32_t mxcsr;
	bool x87_exception;
} now;
static unsigned int forgotten, xcr0_writes;
static struct vp root, other, child;
static struct lp lp; /* where `root` is loaded */

bool vp_is_loaded_here(const struct vp *vp)
{
	return vp == &root;
}

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs none = { 0 };

	switch (leaf) {
	case 0:
		return (struct cpuid_regs){ .eax = machine.leaf_max,
					    .ecx = machine.is_amd ? 0x444d4163 : 0x6c65746e };
	case 1:
		return (struct cpuid_regs){ .ecx = machine.has_xsave ? ~0u : ~(1u << 26) };
	case 0xd:
		assert_true(machine.has_xsave && machine.leaf_max >= 0xd);
		if (subleaf == 0) /* EBX: by the XCR0 of the moment */
			return (struct cpuid_regs){ .eax = (uint32_t)everything,
						    .ebx = 0x240,
						    .ecx = AREA_BYTES,
						    .edx = (uint32_t)(everything >> 32) };
		for (unsigned int i = 0; i < sizeof(layout) / sizeof(layout[0]); i++)
			if (layout[i].index == subleaf)
				return (struct cpuid_regs){ .eax = layout[i].bytes, .ebx = layout[i].offset };
		return none;
	case 0x80000000:
		return (struct cpuid_regs){ .eax = machine.extended_leaf_max };
	case 0x80000008:
		assert_true(machine.extended_leaf_max >= leaf);
		return (struct cpuid_regs){ .ebx = machine.restores_pointers ? ~0u : ~(1u << 2) };
	default:
		fail();
		return none;
	}
}

/* ---- The processor ---- */

uint64_t get_xcr0(void)
{
	assert_true(machine.has_xsave);
	return now.xcr0;
}

void set_xcr0(uint64_t value)
{
	assert_true(machine.has_xsave);
	assert_true((value & X87) && !(value & ~everything));
	now.xcr0 = value;
	xcr0_writes++;
}

static void save_x87(struct fx_area *area)
{
	area->fcw = FCW_INITIAL;
	area->fsw = now.x87_exception ? FSW_ES : 0;
	area->fip = now.fip;
	memset(area->st, now.component[0], sizeof(area->st));
}

/* APM5 "FXRSTOR": without a pending exception pointers stay as they are, unless CPUID says that they don't. */
static void load_x87(const struct fx_area *area)
{
	assert_int_equal(area->fcw, FCW_INITIAL);
	now.x87_exception = area->fsw & FSW_ES;
	now.component[0] = ((const uint8_t *)area->st)[0];
	if (now.x87_exception || !machine.is_amd || machine.restores_pointers)
		now.fip = area->fip;
}

static void save_sse(struct fx_area *area)
{
	area->mxcsr = now.mxcsr;
	memset(area->xmm, now.component[1], sizeof(area->xmm));
}

static void load_sse(const struct fx_area *area)
{
	now.mxcsr = area->mxcsr;
	now.component[1] = ((const uint8_t *)area->xmm)[0];
}

void save_fx(struct fx_area *area)
{
	save_x87(area);
	save_sse(area);
}

void load_fx(const struct fx_area *area)
{
	load_x87(area);
	load_sse(area);
}

/* SDM1 13.7 */
void save_extended(struct fx_area *area, uint64_t mask)
{
	uint8_t *bytes = (uint8_t *)area;
	uint64_t *in_use = (uint64_t *)(void *)(bytes + HEADER);

	assert_false(mask & ~now.xcr0); /* live_registers.h */
	if (mask & X87)
		save_x87(area);
	if (mask & SSE)
		save_sse(area);
	for (unsigned int i = 0; i < sizeof(layout) / sizeof(layout[0]); i++)
		if (mask >> layout[i].index & 1)
			memset(bytes + layout[i].offset, now.component[layout[i].index], layout[i].bytes);
	*in_use &= ~mask;
	for (unsigned int i = 0; i < COMPONENTS; i++)
		if ((mask >> i & 1) && (now.component[i] || (i == 0 && (now.fip || now.x87_exception))))
			*in_use |= BIT(i);
}

/* SDM1 13.8 */
void load_extended(const struct fx_area *area, uint64_t mask)
{
	const uint8_t *bytes = (const uint8_t *)area;
	uint64_t in_use = *(const uint64_t *)(const void *)(bytes + HEADER);
	static const struct fx_area initial = { .fcw = FCW_INITIAL };

	assert_false(in_use & ~now.xcr0); /* #GP */
	assert_false(mask & ~now.xcr0);
	if (mask & X87)
		load_x87(in_use & X87 ? area : &initial);
	if (mask & SSE) {
		load_sse(in_use & SSE ? area : &initial);
		now.mxcsr = area->mxcsr; /* initial or not (SDM1 13.8.1) */
	}
	for (unsigned int i = 0; i < sizeof(layout) / sizeof(layout[0]); i++)
		if (mask >> layout[i].index & 1)
			now.component[layout[i].index] =
				in_use >> layout[i].index & 1 ? bytes[layout[i].offset] : 0;
}

void forget_x87_pointers(void)
{
	now.fip = OF_OURS;
	now.component[0] = 0x99;
	now.x87_exception = false;
	forgotten++;
}

uint64_t read_dr(unsigned int index)
{
	assert_in_range(index, 0, 3);
	return now.dr[index];
}

void write_dr(unsigned int index, uint64_t value)
{
	assert_in_range(index, 0, 3);
	now.dr[index] = value;
}

/* ---- VPs ---- */

/* One that isn't loaded, as after power-up, in memory that is no byte too long. */
static void make(struct vp *vp, bool is_child)
{
	size_t bytes = is_child ? PAGE_SIZE : extended_state_bytes();

	memset(vp, 0, sizeof(*vp));
	vp->child = is_child ? (struct vp_child *)&now : NULL;
	vp->fpu = aligned_alloc(64, (bytes + 63) & ~63ul);
	memset(vp->fpu, 0xcc, (bytes + 63) & ~63ul);
	extended_state_reset(vp);
}

static void start(void)
{
	extended_state_init();
	memset(&now, 0, sizeof(now));
	now.xcr0 = extended_state_bytes() == AREA_BYTES ? everything : X87;
	forgotten = xcr0_writes = 0;
	make(&root, false);
	make(&other, false);
	make(&child, true);
}

static void start_with_xsave(void)
{
	machine.has_xsave = true;
	machine.leaf_max = 0xd;
	machine.extended_leaf_max = 0x80000008;
	start();
}

static int setup(void **state)
{
	(void)state;
	memset(&machine, 0, sizeof(machine));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(root.fpu);
	free(other.fpu);
	free(child.fpu);
	root.fpu = other.fpu = child.fpu = NULL;
	return 0;
}

/* The VP that is loaded uses the components of `mask`. */
static void use(uint64_t mask, uint8_t what)
{
	for (unsigned int i = 0; i < COMPONENTS; i++)
		if (mask >> i & 1)
			now.component[i] = what;
}

static void check(uint64_t mask, uint8_t what)
{
	for (unsigned int i = 0; i < COMPONENTS; i++)
		if (mask >> i & 1)
			assert_int_equal(now.component[i], what);
}

/* ---- Without XSAVE: first, as a processor doesn't lose it ---- */

static void check_without_xsave(void)
{
	assert_int_equal(extended_state_bytes(), sizeof(struct fx_area));
	now.xcr0 = 0;
	extended_state_load(&root);
	assert_int_equal(now.mxcsr, MXCSR_INITIAL);
	use(X87 | SSE, 0x11);
	now.mxcsr = 0x1fa0;
	extended_state_save(&root);
	extended_state_load(&child);
	check(X87 | SSE, 0);
	assert_int_equal(now.mxcsr, MXCSR_INITIAL);
	use(X87 | SSE, 0x22);
	extended_state_save(&child);
	extended_state_load(&root);
	check(X87 | SSE, 0x11);
	assert_int_equal(now.mxcsr, 0x1fa0);
	extended_state_save(&root);
	extended_state_load(&child);
	check(X87 | SSE, 0x22);
	assert_int_equal(forgotten, 0);
}

static void without_xsave(void **state)
{
	(void)state;
	machine.leaf_max = 0xd;
	start();
	check_without_xsave();
}

/* CPUID limited by the firmware (IA32_MISC_ENABLE bit 22): nobody can tell how large what is. */
static void without_cpuid_0dh(void **state)
{
	(void)state;
	machine.leaf_max = 0xc;
	machine.has_xsave = true;
	start();
	machine.has_xsave = false;
	check_without_xsave();
}

static void pointers_are_forgotten_without_xsave(void **state)
{
	(void)state;
	machine.is_amd = true;
	start();
	extended_state_load(&root);
	now.fip = 0x1234;
	extended_state_save(&root);
	extended_state_load(&child);
	assert_int_equal(now.fip, OF_OURS);
	check(X87, 0);
}

/* ---- With XSAVE ---- */

static void what_there_is(void **state)
{
	(void)state;
	start_with_xsave();
	assert_int_equal(extended_state_bytes(), AREA_BYTES);
}

static void check_reset(const struct vp *vp, size_t bytes)
{
	const uint8_t *area = (const uint8_t *)vp->fpu;

	assert_int_equal(vp->fpu->fcw, FCW_INITIAL);
	assert_int_equal(vp->fpu->mxcsr, MXCSR_INITIAL);
	assert_int_equal(vp->xcr0, X87);
	for (size_t i = 0; i < bytes; i++)
		if (i >= 2 &&
		    (i < offsetof(struct fx_area, mxcsr) || i >= offsetof(struct fx_area, mxcsr_mask)))
			assert_int_equal(area[i], 0);
}

/* SDM1 13.6; a child's page is cleared to its end: it has been a page of its parent's. */
static void reset_is_as_after_power_up(void **state)
{
	(void)state;
	start_with_xsave();
	check_reset(&root, AREA_BYTES);
	check_reset(&child, PAGE_SIZE);
	assert_int_equal(((uint8_t *)root.fpu)[AREA_BYTES], 0xcc); /* of which the rest isn't ours */
	use(everything, 0x44);
	extended_state_load(&root);
	check(everything, 0);
	assert_int_equal(now.mxcsr, MXCSR_INITIAL);
	assert_int_equal(now.xcr0, X87);
}

static void everybody_finds_his_own(void **state)
{
	struct vp *vps[] = { &root, &other, &child };
	const uint64_t uses[] = { everything, everything & ~BIT(18), for_children };
	const uint64_t xcr0s[] = { everything, everything & ~BIT(18), X87 | SSE };

	(void)state;
	start_with_xsave();
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < 3; i++) {
			extended_state_load(vps[i]);
			check(uses[i], round ? (uint8_t)(0x10 * round + i) : 0);
			assert_int_equal(now.mxcsr, round ? 0x1f00 + i : MXCSR_INITIAL);
			assert_true(now.xcr0 == (round ? xcr0s[i] : X87));
			use(uses[i], (uint8_t)(0x10 * (round + 1) + i));
			now.mxcsr = 0x1f00 + i;
			now.xcr0 = xcr0s[i];
			extended_state_save(vps[i]);
			assert_true(now.xcr0 == everything); /* nothing is left out of what comes */
			assert_true(vps[i]->xcr0 == xcr0s[i]);
		}
	}
}

/* XCR0 hides a component from the VP, and the state is there all the same: it is neither lost nor the next one's to see. */
static void what_xcr0_hides_is_switched(void **state)
{
	(void)state;
	start_with_xsave();
	extended_state_load(&root);
	now.xcr0 = everything;
	use(everything, 0x31);
	now.xcr0 = X87;
	extended_state_save(&root);
	extended_state_load(&other);
	now.xcr0 = everything;
	check(everything, 0);
	extended_state_save(&other);
	extended_state_load(&root);
	check(everything, 0x31);
}

/* What lies behind a child's page it can't have (core/cpuid_features.c): it is neither written nor read there, nor is what is in use. */
static void a_child_has_a_page(void **state)
{
	const uint64_t *in_use;

	(void)state;
	start_with_xsave();
	in_use = (const uint64_t *)(const void *)(child.fpu + 1);
	use(everything, 0x51);
	extended_state_save(&child);
	assert_true(*in_use == for_children);
	use(everything, 0x52);
	extended_state_load(&child);
	check(for_children, 0x51);
	check(everything & ~for_children, 0x52);
}

/* XSETBV costs: only where the values differ. */
static void xcr0_is_written_where_it_changes(void **state)
{
	(void)state;
	start_with_xsave();
	root.xcr0 = everything;
	extended_state_load(&root);
	extended_state_save(&root);
	assert_int_equal(xcr0_writes, 0);
	extended_state_load(&child);
	assert_int_equal(xcr0_writes, 1);
	extended_state_save(&child);
	assert_int_equal(xcr0_writes, 2);
}

/* ---- x87's last pointers ---- */

static void check_pointers(bool leaks)
{
	start_with_xsave();
	extended_state_load(&root);
	use(X87, 0x61);
	now.fip = 0x1234;
	extended_state_save(&root);
	extended_state_load(&other);
	assert_int_equal(now.fip, leaks ? OF_OURS : 0);
	check(X87, 0);
	use(X87, 0x62);
	now.fip = 0x5678;
	now.x87_exception = true; /* then they matter, and are loaded */
	extended_state_save(&other);
	extended_state_load(&root);
	assert_int_equal(now.fip, leaks ? OF_OURS : 0x1234);
	check(X87, 0x61);
	extended_state_save(&root);
	extended_state_load(&other);
	assert_int_equal(now.fip, 0x5678);
	assert_true(now.x87_exception);
	check(X87, 0x62);
	assert_int_equal(forgotten, leaks ? 4 : 0);
	teardown(NULL);
}

static void pointers_do_not_leak(void **state)
{
	(void)state;
	check_pointers(false);
	machine.is_amd = true;
	check_pointers(true);
	machine.restores_pointers = true;
	check_pointers(false);
}

/* Processors that have no such leaf can't say that they restore them. */
static void pointers_leak_where_cpuid_is_short(void **state)
{
	(void)state;
	machine.is_amd = true;
	machine.restores_pointers = true;
	machine.has_xsave = true;
	machine.leaf_max = 0xd;
	machine.extended_leaf_max = 0x80000007;
	start();
	extended_state_load(&root);
	assert_int_equal(forgotten, 1);
}

/* ---- Breakpoint addresses ---- */

static void debug_addresses_are_four(void **state)
{
	(void)state;
	start_with_xsave();
	for (unsigned int i = 0; i < 4; i++)
		now.dr[i] = 0xffff800000001000 + i;
	debug_registers_save(&root);
	debug_registers_load(&other);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(now.dr[i], 0);
	debug_registers_load(&root);
	for (unsigned int i = 0; i < 4; i++)
		assert_true(now.dr[i] == 0xffff800000001000 + i);
}

static void debug_addresses_are_reset_where_they_are(void **state)
{
	(void)state;
	start_with_xsave();
	root.lp = other.lp = &lp;
	lp.dr_owner = &other;
	now.dr[3] = root.dr[3] = 0x1000;
	debug_registers_reset(&root);
	assert_true(root.dr[3] == 0);
	assert_true(now.dr[3] == 0x1000);
	other.dr[3] = 0x1000;
	debug_registers_reset(&other); /* the owner isn't loaded */
	assert_true(now.dr[3] == 0x1000);
	lp.dr_owner = &root;
	debug_registers_reset(&root);
	assert_true(now.dr[3] == 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(without_xsave),
		TEST(without_cpuid_0dh),
		TEST(pointers_are_forgotten_without_xsave),
		TEST(what_there_is),
		TEST(reset_is_as_after_power_up),
		TEST(everybody_finds_his_own),
		TEST(what_xcr0_hides_is_switched),
		TEST(a_child_has_a_page),
		TEST(xcr0_is_written_where_it_changes),
		TEST(pointers_do_not_leak),
		TEST(pointers_leak_where_cpuid_is_short),
		TEST(debug_addresses_are_four),
		TEST(debug_addresses_are_reset_where_they_are),
	};

	return cmocka_run_group_tests_name("extended_state", tests, NULL, NULL);
}
