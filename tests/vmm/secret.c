/* SPDX-License-Identifier: MIT */
/*
 * mshv-secret [-n ROUNDS]: is anything of a deleted child readable in the next one? A child's RAM, registers, vector registers, local
 * APIC and pages are filled with a pattern and it is deleted; the next one, made at once so that it gets the same pages, is searched
 * wherever its monitor and the guest itself can look.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tiny.h"

#define MEMORY (1u << 20)
#define SECRET 0x5ec2e7c0d6a7e55aull
/* As 16 bits the pattern may come by chance, as 32 not. */
#define SECRET_LOW ((uint32_t)SECRET)
#define SECRET_HIGH ((uint32_t)(SECRET >> 32))

static uint8_t *page; /* to read states into */

/* ---- Filling ---- */

static void fill(void *memory, size_t bytes)
{
	for (size_t i = 0; i + 8 <= bytes; i += 8)
		memcpy((uint8_t *)memory + i, &(uint64_t){ SECRET }, 8);
}

/* A register that doesn't take the pattern is none that could tell it. */
static unsigned int fill_registers(int vp)
{
	static const uint32_t plain[] = { HV_REGISTER_X64_RAX, HV_REGISTER_X64_RCX, HV_REGISTER_X64_RDX,
					  HV_REGISTER_X64_RBX, HV_REGISTER_X64_RSP, HV_REGISTER_X64_RBP,
					  HV_REGISTER_X64_RSI, HV_REGISTER_X64_RDI, HV_REGISTER_X64_R8,
					  HV_REGISTER_X64_R9,  HV_REGISTER_X64_R10, HV_REGISTER_X64_R11,
					  HV_REGISTER_X64_R12, HV_REGISTER_X64_R13, HV_REGISTER_X64_R14,
					  HV_REGISTER_X64_R15, HV_REGISTER_X64_CR2, HV_REGISTER_X64_DR0,
					  HV_REGISTER_X64_DR1, HV_REGISTER_X64_DR2, HV_REGISTER_X64_DR3 };
	/* Addresses: canonical. */
	static const uint32_t addresses[] = { HV_REGISTER_X64_KERNEL_GS_BASE, HV_REGISTER_X64_LSTAR,
					      HV_REGISTER_X64_CSTAR, HV_REGISTER_X64_SYSENTER_EIP,
					      HV_REGISTER_X64_SYSENTER_ESP };
	unsigned int filled = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(plain); i++) {
		struct hv_register_assoc one = { .name = plain[i], .value.reg64 = SECRET };

		filled += !set_registers(vp, 0, &one, 1).error;
	}
	for (unsigned int i = 0; i < ARRAY_LEN(addresses); i++) {
		struct hv_register_assoc one = { .name = addresses[i], .value.reg64 = SECRET_LOW };

		filled += !set_registers(vp, 0, &one, 1).error;
	}
	for (unsigned int i = 0; i < 16; i++) {
		struct hv_register_assoc one = { .name = HV_REGISTER_X64_XMM0 + i,
						 .value.reg128 = { SECRET, SECRET } };

		filled += !set_registers(vp, 0, &one, 1).error;
	}
	return filled;
}

/* The state's own bits keep some of the pattern: vectors in service and requested, counts. */
static void fill_states(int vp)
{
	struct hv_vp_state_lapic *lapic = (void *)page;

	if (!get_vp_state(vp, STATE_LAPIC, page)) {
		lapic->initial_count = SECRET_LOW;
		lapic->lvt_error = 0x10000 | (SECRET_LOW & 0xff);
		for (unsigned int i = 1; i < 8; i++)
			lapic->irr[i] = SECRET_LOW;
		set_vp_state(vp, STATE_LAPIC, page);
	}
	fill(page, PAGE);
	set_vp_state(vp, STATE_SIMP, page);
	set_vp_state(vp, STATE_SIEFP, page);
}

/* ---- Searching ---- */

static bool has_secret(const void *memory, size_t bytes)
{
	for (size_t i = 0; i + 4 <= bytes; i++) {
		uint32_t word;

		memcpy(&word, (const uint8_t *)memory + i, 4);
		if (word == SECRET_LOW || word == SECRET_HIGH)
			return true;
	}
	return false;
}

static unsigned int found(const char *where)
{
	tap_note("found in %s", where);
	return 1;
}

static unsigned int search_page(int vp, unsigned int which, const char *name)
{
	void *shared = map_state_page(vp, which);
	unsigned int bad;

	if (!shared)
		return 0;
	bad = has_secret(shared, PAGE) ? found(name) : 0;
	munmap(shared, PAGE);
	return bad;
}

static unsigned int search_states(int vp)
{
	static const char *const names[STATES] = { "the local APIC", "the XSAVE image", "SIMP", "SIEFP",
						   "the synthetic timers" };
	unsigned int bad = 0;

	for (unsigned int i = 0; i < STATES; i++) {
		memset(page, 0, PAGE);
		if (!get_vp_state(vp, (enum vp_state)i, page) && has_secret(page, PAGE))
			bad += found(names[i]);
	}
	return bad;
}

/* All ranges of names that a VP has registers in. */
static unsigned int search_registers(int vp)
{
	static const struct {
		uint32_t first, count;
	} ranges[] = { { 0x00000, 8 },	  { 0x10000, 16 },   { 0x20000, 18 },	{ 0x30000, 0x40 },
		       { 0x40000, 8 },	  { 0x50000, 6 },    { 0x60000, 8 },	{ 0x70000, 2 },
		       { 0x80000, 0xa0 }, { 0x90000, 0x20 }, { 0xa0000, 0x18 }, { 0xb0000, 8 } };
	unsigned int bad = 0, readable = 0;

	for (unsigned int r = 0; r < ARRAY_LEN(ranges); r++)
		for (uint32_t i = 0; i < ranges[r].count; i++) {
			uint32_t name = ranges[r].first + i;
			union hv_register_value value = { 0 };
			char text[32];

			if (get_registers(vp, 0, &name, &value, 1).error)
				continue;
			readable++;
			snprintf(text, sizeof(text), "register %#x", name);
			if (has_secret(&value, sizeof(value)))
				bad += found(text);
		}
	tap_note("%u registers can be read", readable);
	return bad;
}

/* The counters of all partitions, as text: a 64-bit number there is the pattern's, or one half of it. */
static unsigned int search_statistics(void)
{
	char command[256];
	char line[256] = "";
	FILE *out;

	snprintf(command, sizeof(command), "grep -rlE ': (%llu|%u|%u)$' /sys/kernel/debug/mshv 2>/dev/null",
		 SECRET, SECRET_LOW, SECRET_HIGH);
	out = popen(command, "r");
	if (!out)
		return 0;
	if (!fgets(line, sizeof(line), out))
		line[0] = 0;
	pclose(out);
	return line[0] ? found(line) : 0;
}

/* The guest's own view of registers and memory. */
static unsigned int search_inside(struct tiny *t)
{
	unsigned int bad = 0;

	tiny_run_to_port(t);
	if (has_secret(t->memory + TINY_DATA, 0x200 + 512))
		bad += found("what the guest sees of its registers");
	memset(t->memory + TINY_DATA, 0, PAGE);
	if (has_secret(t->memory, MEMORY))
		bad += found("the guest's memory");
	return bad;
}

/* ---- ---- */

static unsigned int leave_secrets(int dev)
{
	struct tiny t;
	unsigned int filled;

	tiny_make(&t, dev, MEMORY, tiny_loop, tiny_loop_end);
	fill(t.memory + TINY_DATA, MEMORY - TINY_DATA);
	tiny_run_to_port(&t);
	filled = fill_registers(t.vp);
	fill_states(t.vp);
	for (unsigned int i = 0; i < 3; i++)
		tiny_run_to_port(&t);
	tiny_end(&t);
	return filled;
}

static unsigned int search_next(int dev)
{
	struct tiny t;
	unsigned int bad;

	tiny_make(&t, dev, MEMORY, tiny_show, tiny_show_end);
	bad = search_page(t.vp, REGISTER_PAGE, "the register page before the first run");
	bad += search_page(t.vp, INTERCEPT_PAGE, "the intercept message page before the first run");
	bad += search_registers(t.vp);
	bad += search_states(t.vp);
	bad += search_statistics();
	bad += search_inside(&t);
	bad += search_page(t.vp, REGISTER_PAGE, "the register page");
	bad += search_page(t.vp, INTERCEPT_PAGE, "the intercept message page");
	bad += search_statistics();
	tiny_end(&t);
	return bad;
}

/* The search finds what is there: in the child that has the secret. */
static void check_search(int dev)
{
	struct tiny t;

	tiny_make(&t, dev, MEMORY, tiny_show, tiny_show_end);
	fill_registers(t.vp);
	tap_ok(search_registers(t.vp) >= 20, "(in the child that has the secret it is found)");
	tiny_run_to_port(&t);
	tap_ok(has_secret(t.memory + TINY_DATA, 0x200 + 512), "(by the guest too)");
	tiny_end(&t);
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 2 && !strcmp(argv[1], "-n") ? strtoul(argv[2], NULL, 10) : 20;
	unsigned int filled = 0, bad = 0;
	int dev = open_mshv();

	page = allocate_memory(PAGE);
	check_search(dev);
	for (unsigned long i = 0; i < rounds; i++) {
		filled = leave_secrets(dev);
		bad += search_next(dev);
	}
	tap_ok(filled >= 30, "%u registers took the pattern", filled);
	tap_ok(!bad, "nothing of a deleted child in the next one, %lu times", rounds);
	return tap_end();
}
