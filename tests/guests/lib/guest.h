/* SPDX-License-Identifier: MIT */
/*
 * The library of the bare-metal test guests: UEFI applications that leave boot services, take the
 * whole machine (own GDT, IDT, page tables) and print TAP on COM1. The same binary runs on a bare
 * machine, as Trivet's root image and in a child partition, where tests/vmm is its firmware. The load
 * options tell (key `cmdline` of trivet.conf): the word "trivet" sets `under_trivet`, "child" `in_child`, "plain" `in_plain_child`.
 */
#ifndef GUEST_H
#define GUEST_H

/* An exception handler saves no vector registers, so no code may use them. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("general-regs-only")
#endif

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define HIDDEN __attribute__((visibility("hidden")))
#define PAGE 4096ull
#define MAX_CPUS 16u

/* Every test guest defines this one; it runs on the boot processor with interrupts off. */
void test_main(void);

void *memcpy(void *restrict dst, const void *restrict src, size_t n);
void *memset(void *dst, int c, size_t n);

/* --- output (output.c) ------------------------------------------------------------------- */
void serial_init(void);
void print_char(char c);
/* %c %s %d %u %x %p, with l, ll, z, width and 0 padding. */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void vprint(const char *fmt, va_list ap);
/* One TAP result; returns `good`. The plan line comes at the end. */
bool ok(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Like ok(got == want), showing both when they differ. */
bool is(uint64_t got, uint64_t want, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void skip(const char *what, const char *why);
/* Ends the run with no test done. */
void skip_all(const char *why) __attribute__((noreturn));
/* Prints the plan and TAP-END, then ends the emulator. */
void finish(void) __attribute__((noreturn));
void bail_out(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* --- what the firmware told us (start.c) ------------------------------------------------- */
struct memory_range {
	uint64_t base; /* physical, page aligned */
	uint64_t size; /* bytes */
	uint32_t type; /* EFI_MEMORY_TYPE */
};
#define MEMORY_RESERVED 0u
#define MEMORY_CONVENTIONAL 7u

extern HIDDEN bool under_trivet; /* as its root */
extern HIDDEN bool in_child; /* in a child: no devices but a serial port, and whatever the hypervisor has */
extern HIDDEN bool in_plain_child; /* in one whose parent gave it nothing of the hypervisor's interface */
extern HIDDEN bool bare_bochs;	   /* on the bare Bochs, whose known deviations a test may then leave out */
extern HIDDEN uint64_t start_tsc;  /* TSC at the image's first instruction in C */
extern HIDDEN struct memory_range memory_map[512];
extern HIDDEN unsigned int memory_map_len;
extern HIDDEN uint64_t low_memory; /* LOW_PAGES pages below 1 MiB, ours */
#define LOW_PAGES 16u
/* Number of processors and their APIC ids; index 0 is the boot processor. */
extern HIDDEN unsigned int cpu_count;
extern HIDDEN uint32_t cpu_apic_id[MAX_CPUS];

/* Processor and local APIC are the hypervisor's: it does what the manuals ask, where an emulator may not. */
static inline bool on_trivet(void)
{
	return under_trivet || in_child;
}

/* --- machine ------------------------------------------------------------------------------ */
static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return ((uint64_t)hi << 32) | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return ((uint64_t)hi << 32) | lo;
}

struct cpuid_regs {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_regs cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid_regs r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(sub)
			 : "memory");
	return r;
}

static inline bool is_intel(void)
{
	return cpuid(0, 0).ebx == 0x756e6547; /* "Genu" */
}

#define READ_CR(n)                                                             \
	static inline uint64_t read_cr##n(void)                                \
	{                                                                      \
		uint64_t v;                                                    \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(v) : : "memory"); \
		return v;                                                      \
	}                                                                      \
	static inline void write_cr##n(uint64_t v)                             \
	{                                                                      \
		__asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory");     \
	}
READ_CR(0)
READ_CR(2)
READ_CR(3)
READ_CR(4)
READ_CR(8)

static inline void irq_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void irq_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

static inline uint64_t read_flags(void)
{
	uint64_t v;

	__asm__ volatile("pushfq; popq %0" : "=r"(v) : : "memory");
	return v;
}

static inline void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

static inline void barrier(void)
{
	__asm__ volatile("" : : : "memory");
}

#define MSR_APIC_BASE 0x1bu
#define MSR_PAT 0x277u
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_FEATURE_CONTROL 0x3au
#define MSR_VMX_FIRST 0x480u
#define MSR_VMX_LAST 0x491u
#define MSR_VM_CR 0xc0010114u
#define MSR_VM_HSAVE_PA 0xc0010117u

#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define EFER_NXE (1u << 11)
#define EFER_SVME (1u << 12)

#define CR0_PE (1ull << 0)
#define CR0_MP (1ull << 1)
#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR0_ET (1ull << 4)
#define CR0_NE (1ull << 5)
#define CR0_WP (1ull << 16)
#define CR0_AM (1ull << 18)
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)
#define CR0_PG (1ull << 31)
#define CR4_PAE (1ull << 5)
#define CR4_LA57 (1ull << 12)
#define CR4_VMXE (1ull << 13)
#define CR4_SMXE (1ull << 14)
#define CR4_PCIDE (1ull << 17)
#define CR4_OSXSAVE (1ull << 18)

/* --- traps (trap.c, isr.asm) -------------------------------------------------------------- */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rdx, rcx, rbx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

typedef void (*trap_handler)(struct trap_frame *f);

#define NO_FAULT 0xffffu
struct fault {
	uint32_t vector; /* NO_FAULT: none came */
	uint64_t error, rip, cr2;
};

#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define SEL_TSS0 0x40 /* 16 bytes per processor */

struct idt_gate {
	uint16_t offset_lo, selector;
	uint8_t ist, type;
	uint16_t offset_mid;
	uint32_t offset_hi, zero;
};

struct tss64 {
	uint32_t reserved0;
	uint32_t rsp[6];
	uint32_t reserved1[2];
	uint32_t ist[14]; /* IST1 is ist[0..1]: low, high */
	uint32_t reserved2[2];
	uint16_t reserved3, iomap;
} __attribute__((packed));

struct table_register {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

extern HIDDEN uint64_t try_resume;
extern HIDDEN struct fault last_fault;
extern HIDDEN trap_handler trap_handlers[256];
extern HIDDEN struct idt_gate idt[256];
/* How often each vector came, per processor. */
extern HIDDEN volatile uint32_t vector_count[MAX_CPUS][256];

void trap_init_cpu(unsigned int cpu);
unsigned int cpu_index(void);
struct tss64 *tss_of(unsigned int cpu);
void set_ist(unsigned int cpu, unsigned int ist, uint64_t rsp);
void set_gate(struct idt_gate *g, uint64_t handler, uint8_t ist, uint8_t type);
void load_idt(const void *base, uint16_t limit);

/*
 * Wraps instructions that may fault: TRY("rdmsr") inside an asm statement that names R11 as
 * clobbered. A fault goes on behind the instruction and is found in last_fault. One processor at a time.
 */
#define TRY(insn)                                                                    \
	"leaq 771f(%%rip), %%r11\n\tmovq %%r11, try_resume(%%rip)\n\tmovl $0xffff, " \
	"last_fault(%%rip)\n\t" insn "\n771:\n\tmovq $0, try_resume(%%rip)\n\t"

/* Vector of the fault that the RDMSR or WRMSR raised, or NO_FAULT. */
uint32_t try_rdmsr(uint32_t msr, uint64_t *v);
uint32_t try_wrmsr(uint32_t msr, uint64_t v);
/* The same for MOV to a control register: 0, 3, 4 or 8. */
uint32_t try_write_cr(unsigned int cr, uint64_t v);

/* --- memory (paging.c) -------------------------------------------------------------------- */
#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_PS 0x80ull
#define PTE_NX (1ull << 63)

extern HIDDEN uint64_t page_pml4[512], page_pdpt[512], page_pd[4][512];

/* Identity map of 1 TiB, supervisor, writable, executable; switches CR3 to it. */
void paging_init(void);
/* The 4 KiB entry that maps `va` (below 4 GiB): splits the 2 MiB page when it has to. */
uint64_t *paging_pte(uint64_t va);
void flush_page(uint64_t va);
/* Conventional memory that nothing used so far: `align` a power of two. */
uint64_t alloc_memory(uint64_t size, uint64_t align);

/* --- time and the local APIC (apic.c) ----------------------------------------------------- */
#define APIC_PHYS 0xfee00000ull
#define APIC_ID 0x020u
#define APIC_VERSION 0x030u
#define APIC_TPR 0x080u
#define APIC_PPR 0x0a0u
#define APIC_EOI 0x0b0u
#define APIC_LDR 0x0d0u
#define APIC_DFR 0x0e0u
#define APIC_SVR 0x0f0u
#define APIC_ISR 0x100u
#define APIC_TMR 0x180u
#define APIC_IRR 0x200u
#define APIC_ESR 0x280u
#define APIC_ICR 0x300u
#define APIC_ICR2 0x310u
#define APIC_LVT_TIMER 0x320u
#define APIC_LVT_THERMAL 0x330u
#define APIC_LVT_PERF 0x340u
#define APIC_LVT_LINT0 0x350u
#define APIC_LVT_LINT1 0x360u
#define APIC_LVT_ERROR 0x370u
#define APIC_TIMER_INITIAL 0x380u
#define APIC_TIMER_CURRENT 0x390u
#define APIC_TIMER_DIVIDE 0x3e0u

#define ICR_NMI 0x400u
#define ICR_INIT 0x500u
#define ICR_STARTUP 0x600u
#define ICR_LOGICAL 0x800u
#define ICR_PENDING 0x1000u
#define ICR_ASSERT 0x4000u
#define ICR_LEVEL 0x8000u
#define ICR_SELF 0x40000u
#define ICR_ALL 0x80000u
#define ICR_OTHERS 0xc0000u
#define LVT_MASKED 0x10000u
#define LVT_PERIODIC 0x20000u
#define LVT_DEADLINE 0x40000u
#define SPURIOUS_VECTOR 0xffu

extern HIDDEN uint64_t tsc_khz;
extern HIDDEN bool x2apic_on;

void time_init(void);
void delay_us(uint64_t us);
void apic_init(void);
uint32_t apic_read(uint32_t reg);
void apic_write(uint32_t reg, uint32_t v);
bool apic_bit(uint32_t bank, uint8_t vector);
uint32_t apic_id(void);
void apic_icr(uint32_t target, uint32_t low);
/* Waits until *p reaches `want`; false after `us` microseconds. */
bool wait_for(volatile uint32_t *p, uint32_t want, uint64_t us);

/* --- other processors (smp.c, ap.asm) ----------------------------------------------------- */
/* What an AP found in its registers (segments: low 16 bits) at its first instruction and on its way up; ap.asm fills it. */
struct ap_record {
	uint32_t eax, ebx, ecx, edx, esi, edi, ebp, esp;					   /* 0x00 */
	uint32_t flags, cr0, cr2, cr3, cr4, dr6, dr7, ip;					   /* 0x20 */
	uint32_t cs, ds, es, fs, gs, ss, efer_lo, efer_hi;					   /* 0x40 */
	uint32_t apic_base_lo, apic_base_hi, ds_base_probe, cpuid1_ebx;				   /* 0x60 */
	uint16_t gdt_limit, gdt_base_lo, gdt_base_hi, idt_limit, idt_base_lo, idt_base_hi, pad[2]; /* 0x70 */
	uint32_t pm_cpuid1_eax, pm_apic_version, pm_efer, pm_eax_pattern;			   /* 0x80 */
	uint32_t stage, counter;								   /* 0x90 */
};

/* Puts the start-up code at `page` (below 1 MiB). Call before ap_kick(). */
void ap_prepare(uint64_t page);
struct ap_record *ap_record_at(uint64_t page);
/* INIT, SIPI, SIPI to cpu; `fn` runs there in 64-bit mode with interrupts off, then the AP halts. */
bool ap_start(unsigned int cpu, uint64_t page, void (*fn)(unsigned int cpu));
/* True once `fn` of this start has returned. */
bool ap_wait_done(unsigned int cpu, uint64_t us);
/* Starts all other processors, which then wait for interrupts with IF=1. */
bool ap_start_all_idle(void);

#endif
