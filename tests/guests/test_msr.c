/* SPDX-License-Identifier: MIT */
/*
 * MSRs as the root sees them: the system-call, segment, PAT and MTRR registers are its own, EFER shows no
 * SVME (what else of virtualization is hidden: test_virt_insns.c). Dumped values are compared with a bare machine by the harness.
 */
#include "lib/guest.h"
#include <hv/msr.h>

#define MSR_MTRRCAP 0xfeu
#define MSR_MTRR_DEF 0x2ffu
#define GP 13u

static void dump(uint32_t msr)
{
	uint64_t v;

	if (try_rdmsr(msr, &v) != NO_FAULT)
		print("MSR %08x: fault %u\n", msr, last_fault.vector);
	else
		print("MSR %08x: %016llx\n", msr, (unsigned long long)v);
}

static void dump_all(void)
{
	static const uint32_t list[] = {
		MSR_APIC_BASE, MSR_MTRRCAP,
		0x174,	       0x175,
		0x176,	       0x179,
		0x17a,	       MSR_MTRR_DEF,
		MSR_PAT,       0x250,
		0x258,	       0x259,
		0x268,	       0x269,
		0x26a,	       0x26b,
		0x26c,	       0x26d,
		0x26e,	       0x26f,
		0x200,	       0x201,
		0x202,	       0x203,
		0x204,	       0x205,
		0x206,	       0x207,
		0x400,	       0x401,
		MSR_EFER,      MSR_STAR,
		MSR_LSTAR,     MSR_CSTAR,
		MSR_SFMASK,    MSR_FS_BASE,
		MSR_GS_BASE,   MSR_KERNEL_GS_BASE,
		MSR_TSC_AUX,   0x8b,
		0x1d9,	       0xc0010015,
	};

	/* Intel's platform, power, thermal, debug and machine check registers. */
	static const uint32_t intel[] = {
		0x17,  0x2a,  0x34,  0x3b,  0x48,  0xc1,  0xce,	 0xe2,	0xe7,  0xe8,  0x10a,
		0x122, 0x186, 0x198, 0x199, 0x19a, 0x19b, 0x19c, 0x1a0, 0x1a2, 0x1a4, 0x1ad,
		0x1b0, 0x1c8, 0x1c9, 0x1d8, 0x1f2, 0x208, 0x209, 0x210, 0x211, 0x280, 0x309,
		0x345, 0x38d, 0x38f, 0x390, 0x600, 0x606, 0x610, 0x611, 0x640, 0xda0,
	};

	for (unsigned int i = 0; i < ARRAY_LEN(list); i++)
		dump(list[i]);
	for (unsigned int i = 0; i < ARRAY_LEN(intel) && is_intel(); i++)
		dump(intel[i]);
}

/* Writes two patterns, reads them back, puts the old value in its place. */
static void check_storage(const char *name, uint32_t msr, uint64_t a, uint64_t b)
{
	uint64_t old = rdmsr(msr), got_a, got_b;

	wrmsr(msr, a);
	got_a = rdmsr(msr);
	wrmsr(msr, b);
	got_b = rdmsr(msr);
	wrmsr(msr, old);
	ok(got_a == a && got_b == b && rdmsr(msr) == old, "%s keeps what is written", name);
}

static void check_efer(void)
{
	uint64_t old = rdmsr(MSR_EFER), v;

	ok((old & (EFER_LME | EFER_LMA)) == (EFER_LME | EFER_LMA), "EFER has LME and LMA");
	is(old & EFER_SVME, 0, "EFER.SVME reads 0");
	wrmsr(MSR_EFER, old ^ EFER_SCE);
	is(rdmsr(MSR_EFER), old ^ EFER_SCE, "EFER.SCE toggles");
	wrmsr(MSR_EFER, old ^ EFER_NXE);
	is(rdmsr(MSR_EFER), old ^ EFER_NXE, "EFER.NXE toggles");
	wrmsr(MSR_EFER, old);
	is(rdmsr(MSR_EFER), old, "EFER is back");
	is(try_wrmsr(MSR_EFER, old), NO_FAULT, "writing EFER as read does not fault");
	/* LMA is read-only: with paging on, AMD ignores what is written there or faults; it never goes. */
	try_wrmsr(MSR_EFER, old & ~(uint64_t)EFER_LMA);
	ok(rdmsr(MSR_EFER) & EFER_LMA, "EFER.LMA stays");
	wrmsr(MSR_EFER, old);

	if (on_trivet()) {
		is(try_wrmsr(MSR_EFER, old | EFER_SVME), GP, "setting EFER.SVME: #GP");
		is(last_fault.error, 0, "... with error code 0");
		is(try_wrmsr(MSR_EFER, old | 1ull << 40), GP, "setting a reserved EFER bit: #GP");
		is(try_wrmsr(MSR_EFER, old | 1ull << 1), GP, "setting EFER bit 1: #GP");
	} else {
		/* QEMU's CPUs drop bits that they don't have, real ones raise #GP. */
		note("EFER.SVME bare: vector %u, reads back %llx", try_wrmsr(MSR_EFER, old | EFER_SVME),
		     (unsigned long long)rdmsr(MSR_EFER));
		wrmsr(MSR_EFER, old);
	}
	is(rdmsr(MSR_EFER), old, "EFER is unchanged after that");
	is(try_rdmsr(MSR_EFER, &v), NO_FAULT, "reading EFER does not fault");
}

/* NX must act at once when NXE is switched: a page without execute permission. */
static void check_nx_acts(void)
{
	uint64_t page = alloc_memory(PAGE, PAGE), *pte = paging_pte(page);
	uint64_t old = rdmsr(MSR_EFER);

	*(volatile uint8_t *)page = 0xc3;
	*pte |= PTE_NX;
	flush_page(page);
	__asm__ volatile(TRY("call *%0") "addq $8, %%rsp"
			 :
			 : "r"(page)
			 : "r11", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "memory");
	/* The call pushed its return address before the fetch faulted. */
	is(last_fault.vector, 14, "executing an NX page with NXE: #PF");
	is(last_fault.error, 0x11, "... as instruction fetch of a present page");
	*pte &= ~PTE_NX;
	flush_page(page);
	wrmsr(MSR_EFER, old & ~(uint64_t)EFER_NXE);
	((void (*)(void))page)();
	ok(true, "runs with NXE off");
	*pte |= PTE_NX;
	flush_page(page);
	__asm__ volatile(TRY("movb (%0), %%al") : : "r"(page) : "r11", "rax", "memory");
	is(last_fault.vector, 14, "reading a page with bit 63 set and NXE off: #PF");
	/* QEMU leaves the present bit of the error code clear here. */
	is(last_fault.error & ~1ull, 8, "... for a reserved bit");
	*pte &= ~PTE_NX;
	flush_page(page);
	wrmsr(MSR_EFER, old);
}

static void check_apic_base(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE);

	is(base & ~0xfffull, APIC_PHYS, "APIC base address");
	ok(base & 1u << 8, "APIC_BASE.BSP");
	ok(base & 1u << 11, "APIC_BASE.EN");
	is(try_wrmsr(MSR_APIC_BASE, base), NO_FAULT, "writing APIC_BASE as read does not fault");
	is(rdmsr(MSR_APIC_BASE), base, "... and changes nothing");
}

/* SYSCALL goes to LSTAR with the masked flags: the hypervisor's own registers must not shine through. */
static void check_syscall(void)
{
	uint64_t efer = rdmsr(MSR_EFER), rcx, r11, flags, cs;

	wrmsr(MSR_EFER, efer | EFER_SCE);
	wrmsr(MSR_STAR, (uint64_t)SEL_CODE64 << 32);
	wrmsr(MSR_SFMASK, 0x1);
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, %%rdx\n\t"
			 "shrq $32, %%rdx\n\t"
			 "movl $0xc0000082, %%ecx\n\t"
			 "wrmsr\n\t"
			 "stc\n\t"
			 "syscall\n"
			 "2:\tnop\n"
			 "1:\tpushfq\n\t"
			 "popq %2\n\t"
			 "leaq 2b(%%rip), %%rax\n\t"
			 "subq %%rax, %%rcx\n\t"
			 "movq %%cs, %3"
			 : "=&c"(rcx), "=&r"(r11), "=&r"(flags), "=&r"(cs)
			 :
			 : "rax", "rdx", "r11", "memory");
	is(rcx, 0, "SYSCALL saves the next RIP in RCX");
	is(flags & 1, 0, "SYSCALL masks RFLAGS by SFMASK");
	is(cs, SEL_CODE64, "SYSCALL loads CS from STAR");
	(void)r11;
	wrmsr(MSR_EFER, efer);
}

/* A child without the hypervisor's interface has none of its registers either. */
static void check_no_synthetic(void)
{
	uint32_t reads = 0, writes = 0;
	uint64_t v;

	for (uint32_t msr = HV_MSR_GUEST_OS_ID; msr < HV_MSR_GUEST_OS_ID + 0x200; msr++) {
		reads += try_rdmsr(msr, &v) != GP;
		writes += try_wrmsr(msr, 1) != GP;
	}
	is(reads, 0, "reading an MSR of the hypervisor's: #GP");
	is(writes, 0, "writing one: #GP");
}

void test_main(void)
{
	uint64_t pat = rdmsr(MSR_PAT);

	dump_all();
	check_efer();
	check_nx_acts();
	check_apic_base();
	check_storage("STAR", MSR_STAR, 0x0023001000000000ull, 0x0010000812345678ull);
	check_storage("LSTAR", MSR_LSTAR, 0xffffffff81234567ull, 0x00007fff12345678ull);
	check_storage("CSTAR", MSR_CSTAR, 0xffffffff81234567ull, 0x1000);
	check_storage("SFMASK", MSR_SFMASK, 0x47700, 0x300);
	check_storage("FS_BASE", MSR_FS_BASE, 0xffff888000001000ull, 0x123456789000ull);
	check_storage("GS_BASE", MSR_GS_BASE, 0xffff888000002000ull, 0x123456788000ull);
	check_storage("KERNEL_GS_BASE", MSR_KERNEL_GS_BASE, 0xffff888000003000ull, 0x123456787000ull);
	check_storage("SYSENTER_CS", 0x174, 0x10, 0x18);
	check_storage("SYSENTER_ESP", 0x175, 0xffffffff80001000ull, 0x1000);
	check_storage("SYSENTER_EIP", 0x176, 0xffffffff80002000ull, 0x2000);
	if (cpuid(0x80000001, 0).edx >> 27 & 1)
		check_storage("TSC_AUX", MSR_TSC_AUX, 0x12345678, 3);
	wrmsr(MSR_PAT, 0x0007010600070106ull);
	is(rdmsr(MSR_PAT), 0x0007010600070106ull, "PAT keeps what is written");
	wrmsr(MSR_PAT, pat);
	is(rdmsr(MSR_PAT), pat, "PAT is back");
	check_syscall();
	if (in_plain_child)
		check_no_synthetic();
}
