/* SPDX-License-Identifier: MIT */
/*
 * Hundreds of thousands of exits with random contents of all registers: only what the instruction writes may
 * change. Vector, x87, debug registers and CR2 likewise. The seed is fixed.
 */
#include "lib/guest.h"

enum kind { CPUID, RDMSR, WRMSR, APIC_LOAD, APIC_STORE, APIC_LOAD_RAX, KINDS };
static const char *const kind_name[KINDS] = { "CPUID",	   "RDMSR",	 "WRMSR",
					      "APIC load", "APIC store", "APIC load to RAX" };

extern HIDDEN uint64_t regs_in[17], regs_out[17];
void regs_run(unsigned int kind) HIDDEN;

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, FLAGS, REGS };

#define FLAGS_RANDOM 0x200cd5ull /* ID, OF, DF, SF, ZF, AF, PF, CF */
#define FLAGS_FIXED 2ull
#define IF 0x200ull

static uint64_t seed = 0x9e3779b97f4a7c15ull;

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void prepare(enum kind kind, uint64_t extra_flags)
{
	static const uint32_t leaves[] = { 0, 1, 7, 0x80000000, 0x80000001, 0x80000008, 0x40000000 };

	for (unsigned int i = 0; i < FLAGS; i++)
		regs_in[i] = random64();
	regs_in[FLAGS] = (random64() & FLAGS_RANDOM) | FLAGS_FIXED | extra_flags;
	switch (kind) {
	case CPUID:
		regs_in[RAX] = (regs_in[RAX] & ~0xffffffffull) | leaves[random64() % ARRAY_LEN(leaves)];
		regs_in[RCX] &= ~0xffffffffull;
		break;
	case RDMSR:
	case WRMSR:
		regs_in[RCX] = (regs_in[RCX] & ~0xffffffffull) | (random64() & 1 ? MSR_EFER : MSR_APIC_BASE);
		if (kind == WRMSR) {
			uint64_t v = rdmsr((uint32_t)regs_in[RCX]);

			regs_in[RAX] = (regs_in[RAX] & ~0xffffffffull) | (uint32_t)v;
			regs_in[RDX] = (regs_in[RDX] & ~0xffffffffull) | v >> 32;
		}
		break;
	case APIC_LOAD:
		regs_in[RSI] = APIC_PHYS + APIC_VERSION;
		break;
	case APIC_STORE:
		regs_in[RSI] = APIC_PHYS + APIC_LVT_ERROR;
		regs_in[R10] = (regs_in[R10] & ~0xffffffffull) | LVT_MASKED | (0x20 + random64() % 0xd0);
		break;
	default:
		regs_in[RSI] = APIC_PHYS;
		regs_in[RDI] = APIC_LVT_ERROR / 4;
		break;
	}
}

/* What the instruction should have left in the registers. */
static void expect(enum kind kind, uint64_t want[REGS])
{
	uint64_t v;
	struct cpuid_regs c;

	memcpy(want, regs_in, sizeof(regs_in));
	switch (kind) {
	case CPUID:
		c = cpuid((uint32_t)regs_in[RAX], 0);
		want[RAX] = c.eax;
		want[RBX] = c.ebx;
		want[RCX] = c.ecx;
		want[RDX] = c.edx;
		break;
	case RDMSR:
		v = rdmsr((uint32_t)regs_in[RCX]);
		want[RAX] = (uint32_t)v;
		want[RDX] = v >> 32;
		break;
	case APIC_LOAD:
		want[R9] = apic_read(APIC_VERSION);
		break;
	case APIC_LOAD_RAX:
		want[RAX] = apic_read(APIC_LVT_ERROR);
		break;
	default:
		break;
	}
}

static bool one(enum kind kind, uint64_t extra_flags)
{
	uint64_t want[REGS];

	prepare(kind, extra_flags);
	regs_run(kind);
	expect(kind, want);
	for (unsigned int i = 0; i < REGS; i++) {
		if (regs_out[i] == want[i])
			continue;
		note("%s: register %u is %llx, want %llx", kind_name[kind], i,
		     (unsigned long long)regs_out[i], (unsigned long long)want[i]);
		return false;
	}
	return kind != APIC_STORE || apic_read(APIC_LVT_ERROR) == (uint32_t)regs_in[R10];
}

static void many(enum kind kind, uint32_t times, uint64_t extra_flags, const char *how)
{
	uint32_t good = 0;

	while (good < times && one(kind, extra_flags))
		good++;
	is(good, times, "%s %u times%s: registers and flags", kind_name[kind], times, how);
}

/* A plain fast loop, all exits of one kind. */
static void long_loop(uint32_t times)
{
	uint32_t bad = 0;
	struct cpuid_regs first = cpuid(0, 0);

	for (uint32_t i = 0; i < times; i++) {
		struct cpuid_regs r = cpuid(0, 0);

		if (r.eax != first.eax || r.ebx != first.ebx || r.ecx != first.ecx || r.edx != first.edx)
			bad++;
	}
	is(bad, 0, "%u times CPUID in a row", times);
}

static uint8_t area_in[4096] __attribute__((aligned(64))), area_out[4096] __attribute__((aligned(64)));

static void fill_area(bool avx)
{
	for (unsigned int i = 0; i < sizeof(area_in); i++)
		area_in[i] = 0;
	*(uint16_t *)(area_in + 0) = 0x027f;	      /* FCW: double precision */
	*(uint16_t *)(area_in + 2) = 0x3800 | 0x4100; /* FSW: top 7 and condition codes */
	area_in[4] = 0xff;			      /* abridged tag: all in use */
	*(uint32_t *)(area_in + 24) = 0x1fa0;	      /* MXCSR: a sticky flag */
	for (unsigned int r = 0; r < 8; r++) {
		*(uint64_t *)(area_in + 32 + r * 16) = random64() | 1ull << 63;
		*(uint16_t *)(area_in + 40 + r * 16) = 0x3fff;
	}
	for (unsigned int i = 160; i < 416; i += 8)
		*(uint64_t *)(area_in + i) = random64();
	if (!avx)
		return;
	*(uint64_t *)(area_in + 512) = 7; /* XSTATE_BV */
	for (unsigned int i = 576; i < 832; i += 8)
		*(uint64_t *)(area_in + i) = random64();
}

static bool same_area(bool avx)
{
	for (unsigned int i = 0; i < 832; i++) {
		if (i == 416)
			i = 576;
		if (i >= 576 && !avx)
			return true;
		/* Instruction and data pointers of the x87 are the CPU's affair. */
		if ((i >= 6 && i < 24) || (i >= 28 && i < 32))
			continue;
		if (area_in[i] != area_out[i]) {
			note("byte %u of the state is %02x, want %02x", i, area_out[i], area_in[i]);
			return false;
		}
	}
	return true;
}

static void check_vectors(void)
{
	bool avx = (cpuid(1, 0).ecx >> 28 & 1) && (cpuid(1, 0).ecx >> 26 & 1);
	uint64_t cr4 = read_cr4();
	bool good = true;

	write_cr0((read_cr0() & ~0xcull) | 2);
	write_cr4(cr4 | 0x600 | (avx ? 1ull << 18 : 0));
	if (avx)
		__asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
	for (int i = 0; i < 200 && good; i++) {
		fill_area(avx);
		if (avx)
			__asm__ volatile("xrstor64 (%0)" : : "r"(area_in), "a"(7), "d"(0) : "memory");
		else
			__asm__ volatile("fxrstor64 (%0)" : : "r"(area_in) : "memory");
		for (int k = 0; k < 20; k++) {
			prepare((enum kind)(k % KINDS), 0);
			regs_run((unsigned int)k % KINDS);
		}
		if (avx)
			__asm__ volatile("xsave64 (%0)" : : "r"(area_out), "a"(7), "d"(0) : "memory");
		else
			__asm__ volatile("fxsave64 (%0)" : : "r"(area_out) : "memory");
		good = same_area(avx);
	}
	ok(good, "x87, MXCSR, XMM%s across 4000 exits", avx ? ", YMM" : "");
	if (avx) {
		uint32_t lo, hi;

		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
		is(lo, 7, "XCR0 is the guest's");
	}
}

static void check_debug_registers(void)
{
	uint64_t d[4], cr2;

	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr2; mov %3, %%dr3"
			 :
			 : "r"(0x1111ull), "r"(0x2222ull), "r"(0x3333ull), "r"(0x4444ull));
	write_cr2(0xdead0000beefull);
	for (int i = 0; i < 1000; i++)
		cpuid(0, 0);
	cr2 = read_cr2();
	__asm__ volatile("mov %%dr0, %0; mov %%dr1, %1; mov %%dr2, %2; mov %%dr3, %3"
			 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]));
	ok(d[0] == 0x1111 && d[1] == 0x2222 && d[2] == 0x3333 && d[3] == 0x4444,
	   "DR0 to DR3 across 1000 exits");
	is(cr2, 0xdead0000beefull, "CR2 across 1000 exits");
	wrmsr(MSR_KERNEL_GS_BASE, 0x123456789000ull);
	wrmsr(MSR_FS_BASE, 0x223456789000ull);
	wrmsr(MSR_LSTAR, 0x323456789000ull);
	wrmsr(0x175, 0x423456789000ull);
	for (int i = 0; i < 1000; i++)
		cpuid(0, 0);
	ok(rdmsr(MSR_KERNEL_GS_BASE) == 0x123456789000ull && rdmsr(MSR_FS_BASE) == 0x223456789000ull &&
		   rdmsr(MSR_LSTAR) == 0x323456789000ull && rdmsr(0x175) == 0x423456789000ull,
	   "KERNEL_GS_BASE, FS_BASE, LSTAR, SYSENTER_ESP across 1000 exits");
	wrmsr(MSR_FS_BASE, 0);
}

void test_main(void)
{
	long_loop(100000);
	for (unsigned int k = 0; k < KINDS; k++)
		many((enum kind)k, 15000, 0, "");
	check_vectors();
	check_debug_registers();
	apic_write(APIC_TIMER_DIVIDE, 0xb);
	apic_write(APIC_LVT_TIMER, LVT_PERIODIC | 0x50);
	apic_write(APIC_TIMER_INITIAL, 1000000); /* 1 ms in QEMU */
	irq_on();
	for (unsigned int k = 0; k < KINDS; k++)
		many((enum kind)k, 5000, IF, " under timer interrupts");
	irq_off();
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	ok(vector_count[0][0x50] > 3, "timer interrupts came in between");
}
