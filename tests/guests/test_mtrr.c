/* SPDX-License-Identifier: MIT */
/*
 * Memory types: MTRRs and PAT are the root's. They keep what is legal, refuse what is not (SDM3 12.11; QEMU's AMD processor
 * refuses nothing: only told there), and whatever they say, memory keeps its content: a hypervisor that turns them into
 * entries of its second-stage tables splits and joins those while the root uses the memory.
 */
#include "lib/guest.h"

#define GP 13u
#define MSR_CAP 0xfeu
#define MSR_DEF 0x2ffu
#define MSR_BASE(n) (0x200u + 2 * (n))
#define MSR_MASK(n) (0x201u + 2 * (n))
#define DEF_FE (1ull << 10)
#define DEF_E (1ull << 11)
#define MASK_VALID (1ull << 11)
#define UC 0u
#define WC 1u
#define WT 4u
#define WP 5u
#define WB 6u
#define MIB (1ull << 20)
#define ELSEWHERE (1024 * MIB) /* what is told is the same with and without a hypervisor */
#define MAX_RANGES 16u

static const uint32_t fixed[] = {
	0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f
};
static const uint8_t legal[] = { UC, WC, WT, WP, WB };

static uint64_t area, address_mask, old_def, old_range[2 * MAX_RANGES];
static unsigned int ranges;
static bool intel;

/* Says what a write did, for the harness to compare, and undoes it. */
static uint32_t try_and_tell(uint32_t msr, uint64_t v)
{
	uint64_t old = rdmsr(msr), got;
	uint32_t vector = try_wrmsr(msr, v);

	got = rdmsr(msr);
	try_wrmsr(msr, old);
	print("MTRR %x = %llx: vector %x, reads %llx\n", msr, (unsigned long long)v, vector,
	      (unsigned long long)got);
	return vector;
}

static void refused(uint32_t msr, uint64_t v, const char *why)
{
	uint32_t vector = try_and_tell(msr, v);

	if (intel)
		is(vector, GP, "%s: #GP", why);
}

static void kept(uint32_t msr, uint64_t v, const char *what)
{
	uint64_t old = rdmsr(msr), got;
	uint32_t vector = try_wrmsr(msr, v);

	got = rdmsr(msr);
	wrmsr(msr, old);
	ok(vector == NO_FAULT && got == v && rdmsr(msr) == old, "%s %x keeps %llx", what, msr,
	   (unsigned long long)v);
}

static void check_illegal(void)
{
	static const uint8_t types[] = { 2, 3, 7, 8, 0xff };

	for (unsigned int i = 0; i < ARRAY_LEN(types); i++) {
		refused(MSR_DEF, (old_def & ~0xffull) | types[i], "an illegal default type");
		refused(MSR_BASE(ranges - 1), ELSEWHERE | types[i], "an illegal type of a range");
		refused(0x268, (uint64_t)types[i] << 24, "an illegal type of a fixed range");
		if (types[i] != 7)
			refused(MSR_PAT, (rdmsr(MSR_PAT) & ~0xff00ull) | (uint64_t)types[i] << 8,
				"an illegal type in PAT");
	}
	refused(MSR_DEF, old_def | 1ull << 8, "a reserved bit of the default type");
	refused(MSR_BASE(ranges - 1), ELSEWHERE | WB | 1ull << 9, "a reserved bit of a base");
	refused(MSR_BASE(ranges - 1), ~address_mask << 1 | WB, "a base that is no physical address");
	refused(MSR_MASK(ranges - 1), address_mask | 1, "a reserved bit of a mask");
	refused(MSR_CAP, 0, "writing the capabilities");
	is(rdmsr(MSR_DEF), old_def, "the default type is as it was");
}

static void check_legal(void)
{
	for (unsigned int i = 0; i < ARRAY_LEN(legal); i++) {
		kept(MSR_BASE(ranges - 1), area | legal[i], "base");
		kept(0x26f, 0x0101010101010101ull * legal[i], "fixed range");
	}
	kept(MSR_MASK(ranges - 1), (address_mask & ~(2 * MIB - 1)) | MASK_VALID, "mask");
	kept(MSR_MASK(ranges - 1), address_mask & ~(PAGE - 1), "mask");
	kept(MSR_PAT, 0x0001040506070001ull, "PAT");
	for (unsigned int i = 0; i < ARRAY_LEN(fixed); i++)
		kept(fixed[i], 0x0606060600000000ull, "fixed range");
}

/* A pattern of its own in every 64 bytes, through a plain mapping. */
static void fill(uint64_t seed, uint64_t bytes)
{
	for (uint64_t off = 0; off < bytes; off += 64)
		*(volatile uint64_t *)(area + off) = seed ^ off * 0x9e3779b97f4a7c15ull;
}

static bool filled(uint64_t seed, uint64_t bytes)
{
	for (uint64_t off = 0; off < bytes; off += 64)
		if (*(volatile uint64_t *)(area + off) != (seed ^ off * 0x9e3779b97f4a7c15ull))
			return false;
	return true;
}

/* As SDM3 12.11.8 wants it: caches off and empty, translations gone, ranges off. */
static void set_range(unsigned int n, uint64_t base, uint64_t mask)
{
	uint64_t cr0 = read_cr0();

	write_cr0(cr0 | CR0_CD);
	__asm__ volatile("wbinvd" : : : "memory");
	write_cr3(read_cr3());
	wrmsr(MSR_DEF, old_def & ~DEF_E);
	wrmsr(MSR_BASE(n), base);
	wrmsr(MSR_MASK(n), mask);
	__asm__ volatile("wbinvd" : : : "memory");
	write_cr3(read_cr3());
	wrmsr(MSR_DEF, old_def | DEF_E);
	write_cr0(cr0);
}

static void check_range(uint64_t offset, uint64_t bytes, const char *what)
{
	uint64_t mask = (address_mask & ~(bytes - 1)) | MASK_VALID;
	uint32_t good = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(legal); i++) {
		uint64_t before = 0x1111 * i, seed = 0xabcdef0000ull + i;
		bool content;

		fill(before, 4 * MIB);
		set_range(ranges - 1, (area + offset) | legal[i], mask);
		content = filled(before, 4 * MIB);
		fill(seed, 4 * MIB);
		content = content && filled(seed, 4 * MIB);
		set_range(ranges - 1, old_range[2 * (ranges - 1)], old_range[2 * (ranges - 1) + 1]);
		if (content && filled(seed, 4 * MIB))
			good++;
	}
	is(good, ARRAY_LEN(legal), "%s of every type and back: memory keeps its content", what);
}

/* Everything off makes all memory uncached; the machine goes on, exits and interrupts too. */
static void check_all_off(void)
{
	uint32_t before = vector_count[0][0x40];

	fill(77, 4 * MIB);
	wrmsr(MSR_DEF, 0);
	is(rdmsr(MSR_DEF), 0, "MTRRs off");
	ok(filled(77, 4 * MIB), "... memory is what it was");
	fill(78, 4 * MIB);
	ok(cpuid(0, 0).ebx != 0, "... CPUID works");
	irq_on();
	apic_icr(0, ICR_SELF | ICR_ASSERT | 0x40);
	ok(wait_for(&vector_count[0][0x40], before + 1, 1000000), "... interrupts come");
	irq_off();
	wrmsr(MSR_DEF, DEF_E | WB);
	ok(filled(78, 4 * MIB), "fixed ranges off, all WB: memory is what it was");
	wrmsr(MSR_DEF, old_def);
	ok(filled(78, 4 * MIB), "MTRRs as they were: memory is what it was");
}

/* The fixed ranges below 1 MiB, over our own pages there. */
static void check_fixed(void)
{
	uint64_t old[ARRAY_LEN(fixed)];
	uint32_t good = 0;

	if (!low_memory) {
		skip("fixed ranges", "no memory below 640 KiB");
		return;
	}
	for (unsigned int i = 0; i < ARRAY_LEN(fixed); i++)
		old[i] = rdmsr(fixed[i]);
	for (unsigned int t = 0; t < ARRAY_LEN(legal); t++) {
		bool same = true;

		for (uint64_t off = 0; off < LOW_PAGES * PAGE; off += 8)
			*(volatile uint64_t *)(low_memory + off) = off * 3 + t;
		wrmsr(0x250, 0x0101010101010101ull * legal[t]);
		wrmsr(0x258, 0x0101010101010101ull * legal[t]);
		for (uint64_t off = 0; off < LOW_PAGES * PAGE; off += 8)
			same = same && *(volatile uint64_t *)(low_memory + off) == off * 3 + t;
		good += same;
	}
	for (unsigned int i = 0; i < ARRAY_LEN(fixed); i++)
		wrmsr(fixed[i], old[i]);
	is(good, ARRAY_LEN(legal), "the first 640 KiB of every type: memory keeps its content");
}

void test_main(void)
{
	intel = is_intel();
	if (!(cpuid(1, 0).edx >> 12 & 1))
		skip_all("no MTRRs");
	ranges = rdmsr(MSR_CAP) & 0xff;
	if (!ok(ranges >= 2 && ranges <= MAX_RANGES, "%u variable ranges", ranges))
		return;
	old_def = rdmsr(MSR_DEF);
	for (unsigned int i = 0; i < 2 * ranges; i++)
		old_range[i] = rdmsr(0x200 + i);
	address_mask = (1ull << (cpuid(0x80000008, 0).eax & 0xff)) - 1;
	address_mask &= ~(PAGE - 1);
	area = alloc_memory(4 * MIB, 4 * MIB);
	for (unsigned int i = 0; i < 2 * ranges; i++)
		print("MTRR %x: %llx\n", 0x200 + i, (unsigned long long)old_range[i]);
	check_illegal();
	check_legal();
	check_range(0, 4 * MIB, "a range of 4 MiB");
	check_range(2 * MIB, 64 * 1024, "a range of 64 KiB");
	check_range(3 * MIB, PAGE, "a range of 4 KiB");
	check_fixed();
	check_all_off();
	for (unsigned int i = 0; i < 2 * ranges; i++)
		if (rdmsr(0x200 + i) != old_range[i])
			ok(false, "MSR %x is as it was", 0x200 + i);
	is(rdmsr(MSR_DEF), old_def, "the default type is as it was at the end");
}
