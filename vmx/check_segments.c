/* SPDX-License-Identifier: MIT */
/* The VM-entry checker's part on the guest's segment and descriptor-table registers (SDM3 27.3.1.2, 27.3.1.3). */
#include "check.h"

#include <stdio.h>

enum segment { ES, CS, SS, DS, FS, GS, LDTR, TR, SEGMENTS }; /* in the order of their fields */
static const char *const names[SEGMENTS] = { "ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR" };

#define RIGHTS_RESERVED_LOW 0xf00u
#define RIGHTS_RESERVED_HIGH 0xfffe0000u
#define TYPE_ACCESSED 1u
#define TYPE_READABLE 2u
#define TYPE_CODE 8u
#define TYPE_DATA_RW 3u /* accessed */
#define TYPE_DATA_RW_DOWN 7u
#define TYPE_CODE_CONFORMING 13u /* from here on */
#define TYPE_LDT 2u
#define TYPE_TSS16_BUSY 3u
#define TYPE_TSS32_BUSY 11u

struct segments {
	struct check *c;
	bool v8086, unrestricted, long_mode, protected;
	struct {
		uint64_t base;
		uint32_t selector, limit, rights, type, dpl;
		bool usable;
	} s[SEGMENTS];
};

static void expect(struct segments *g, bool holds, unsigned int i, const char *part, uint64_t value,
		   const char *text)
{
	char field[24];

	if (holds || g->c->broken)
		return;
	snprintf(field, sizeof(field), "guest %s %s", names[i], part);
	vmx_expect(g->c, false, field, value, text);
}

static void expect_rights(struct segments *g, bool holds, unsigned int i, const char *text)
{
	expect(g, holds, i, "rights", g->s[i].rights, text);
}

static void read_segments(struct segments *g)
{
	for (unsigned int i = 0; i < SEGMENTS; i++) {
		g->s[i].selector = (uint32_t)vmread(VMCS_GUEST_ES_SELECTOR + 2 * i);
		g->s[i].base = vmread(VMCS_GUEST_ES_BASE + 2 * i);
		g->s[i].limit = (uint32_t)vmread(VMCS_GUEST_ES_LIMIT + 2 * i);
		g->s[i].rights = (uint32_t)vmread(VMCS_GUEST_ES_RIGHTS + 2 * i);
		g->s[i].type = g->s[i].rights & RIGHTS_TYPE;
		g->s[i].dpl = g->s[i].rights >> RIGHTS_DPL_SHIFT & 3;
		/* CS and TR have no such state: the manual's rules for them don't look at the bit, or forbid it. */
		g->s[i].usable = i == CS || i == TR || !(g->s[i].rights & RIGHTS_UNUSABLE);
	}
}

static void check_selectors(struct segments *g)
{
	uint32_t ss = g->s[SS].selector;

	expect(g, !(g->s[TR].selector & SELECTOR_TI), TR, "selector", g->s[TR].selector, "TI is set");
	expect(g, !g->s[LDTR].usable || !(g->s[LDTR].selector & SELECTOR_TI), LDTR, "selector",
	       g->s[LDTR].selector, "TI is set");
	if (!g->v8086 && !g->unrestricted)
		expect(g, (ss & SELECTOR_RPL) == (g->s[CS].selector & SELECTOR_RPL), SS, "selector", ss,
		       "RPL differs from that of CS");
}

static void check_bases(struct segments *g)
{
	for (unsigned int i = ES; i <= GS && g->v8086; i++)
		expect(g, g->s[i].base == (uint64_t)g->s[i].selector << 4, i, "base", g->s[i].base,
		       "not 16 times the selector in virtual-8086 mode");
	vmx_expect_canonical(g->c, "guest TR base", g->s[TR].base);
	vmx_expect_canonical(g->c, "guest FS base", g->s[FS].base);
	vmx_expect_canonical(g->c, "guest GS base", g->s[GS].base);
	if (g->s[LDTR].usable)
		vmx_expect_canonical(g->c, "guest LDTR base", g->s[LDTR].base);
	for (unsigned int i = ES; i <= DS; i++)
		expect(g, !g->s[i].usable || !(g->s[i].base >> 32), i, "base", g->s[i].base,
		       "more than 32 bits");
}

/* SDM3 27.3.1.2 in virtual-8086 mode: the three values are those of a real-mode segment. */
static void check_8086(struct segments *g)
{
	for (unsigned int i = ES; i <= GS; i++) {
		expect(g, g->s[i].limit == 0xffff, i, "limit", g->s[i].limit,
		       "not 0xffff in virtual-8086 mode");
		expect_rights(g, g->s[i].rights == RIGHTS_8086, i, "not 0xf3 in virtual-8086 mode");
	}
}

/* What every usable segment obeys, LDTR and TR too. */
static void check_common(struct segments *g, unsigned int i)
{
	uint32_t rights = g->s[i].rights, limit = g->s[i].limit;

	expect_rights(g, rights & RIGHTS_PRESENT, i, "not present");
	expect_rights(g, !(rights & RIGHTS_RESERVED_LOW), i, "bits 11:8 are not 0");
	expect_rights(g, !(rights & RIGHTS_RESERVED_HIGH), i, "bits 31:17 are not 0");
	expect_rights(g, !(rights & RIGHTS_GRANULARITY) || (limit & 0xfff) == 0xfff, i,
		      "G is set, and bits 11:0 of the limit are not all 1");
	expect_rights(g, (rights & RIGHTS_GRANULARITY) || !(limit >> 20), i,
		      "G is clear, and bits 31:20 of the limit are not 0");
}

static void check_code(struct segments *g)
{
	uint32_t type = g->s[CS].type, dpl = g->s[CS].dpl, ss_dpl = g->s[SS].dpl, rights = g->s[CS].rights;
	bool code = (type & TYPE_CODE) && (type & TYPE_ACCESSED), data = type == TYPE_DATA_RW;

	expect_rights(g, code || (data && g->unrestricted), CS, "type is no accessed code");
	expect_rights(g, rights & RIGHTS_NOT_SYSTEM, CS, "a system segment");
	expect_rights(g, !data || dpl == 0, CS, "type 3 needs DPL 0");
	expect_rights(g, !code || type >= TYPE_CODE_CONFORMING || dpl == ss_dpl, CS,
		      "DPL differs from that of SS");
	expect_rights(g, type < TYPE_CODE_CONFORMING || dpl <= ss_dpl, CS,
		      "conforming, and DPL is above that of SS");
	expect_rights(g, !g->long_mode || !(rights & RIGHTS_LONG) || !(rights & RIGHTS_BIG), CS,
		      "L and D are both set");
	check_common(g, CS);
}

static void check_stack(struct segments *g)
{
	uint32_t type = g->s[SS].type, dpl = g->s[SS].dpl;

	if (!g->unrestricted)
		expect_rights(g, dpl == (g->s[SS].selector & SELECTOR_RPL), SS, "DPL differs from RPL");
	expect_rights(g, dpl == 0 || g->s[CS].type != TYPE_DATA_RW, SS, "DPL is not 0 with CS of type 3");
	expect_rights(g, dpl == 0 || g->protected, SS, "DPL is not 0 in real mode");
	if (!g->s[SS].usable)
		return;
	expect_rights(g, type == TYPE_DATA_RW || type == TYPE_DATA_RW_DOWN, SS,
		      "type is no accessed writable data");
	expect_rights(g, g->s[SS].rights & RIGHTS_NOT_SYSTEM, SS, "a system segment");
	check_common(g, SS);
}

static void check_data(struct segments *g, unsigned int i)
{
	uint32_t type = g->s[i].type;

	if (!g->s[i].usable)
		return;
	expect_rights(g, type & TYPE_ACCESSED, i, "not accessed");
	expect_rights(g, !(type & TYPE_CODE) || (type & TYPE_READABLE), i, "code that can't be read");
	expect_rights(g, g->s[i].rights & RIGHTS_NOT_SYSTEM, i, "a system segment");
	expect_rights(g, g->unrestricted || type >= 12 || g->s[i].dpl >= (g->s[i].selector & SELECTOR_RPL), i,
		      "DPL is below RPL");
	check_common(g, i);
}

static void check_system(struct segments *g)
{
	uint32_t type = g->s[TR].type;

	expect_rights(g, type == TYPE_TSS32_BUSY || (type == TYPE_TSS16_BUSY && !g->long_mode), TR,
		      "type is no busy TSS of this mode");
	expect_rights(g, !(g->s[TR].rights & RIGHTS_NOT_SYSTEM), TR, "not a system segment");
	expect_rights(g, !(g->s[TR].rights & RIGHTS_UNUSABLE), TR, "unusable");
	check_common(g, TR);
	if (!g->s[LDTR].usable)
		return;
	expect_rights(g, g->s[LDTR].type == TYPE_LDT, LDTR, "type is no LDT");
	expect_rights(g, !(g->s[LDTR].rights & RIGHTS_NOT_SYSTEM), LDTR, "not a system segment");
	check_common(g, LDTR);
}

static void check_tables(struct check *c)
{
	uint64_t gdtr_limit = vmread(VMCS_GUEST_GDTR_LIMIT), idtr_limit = vmread(VMCS_GUEST_IDTR_LIMIT);

	c->section = "27.3.1.3";
	vmx_expect_canonical(c, "guest GDTR base", vmread(VMCS_GUEST_GDTR_BASE));
	vmx_expect_canonical(c, "guest IDTR base", vmread(VMCS_GUEST_IDTR_BASE));
	vmx_expect(c, !(gdtr_limit >> 16), "guest GDTR limit", gdtr_limit, "more than 16 bits");
	vmx_expect(c, !(idtr_limit >> 16), "guest IDTR limit", idtr_limit, "more than 16 bits");
}

void vmx_check_segments(struct check *c)
{
	struct segments g = {
		.c = c,
		.v8086 = vmread(VMCS_GUEST_RFLAGS) & RFLAGS_VM,
		.unrestricted = c->proc2 & PROC2_UNRESTRICTED_GUEST,
		.long_mode = c->entry & ENTRY_GUEST_LONG_MODE,
		.protected = vmread(VMCS_GUEST_CR0) & CR0_PE,
	};

	c->section = "27.3.1.2";
	read_segments(&g);
	check_selectors(&g);
	check_bases(&g);
	if (g.v8086) {
		check_8086(&g);
	} else {
		check_code(&g);
		check_stack(&g);
		for (unsigned int i = ES; i <= GS; i++)
			if (i != CS && i != SS)
				check_data(&g, i);
	}
	check_system(&g);
	check_tables(c);
}
