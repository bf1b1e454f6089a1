/* SPDX-License-Identifier: MIT */
/*
 * 32-bit protected mode with and without paging, PAE, compatibility and real mode: CPUID, MSRs, the APIC's
 * page, INT n, an interrupt, SVM and VMX instructions in each, and back to 64-bit mode, many times.
 */
#include "lib/guest.h"

#define GDT_OFF 0x1100u
#define DATA_OFF 0x1000u
#define RES_OFF 0x1400u
#define IVT_OFF 0x1600u
#define IDT_OFF 0x1800u
#define PDPT_OFF 0x3000u
#define PSE_OFF 0x4000u

enum mode { COMPAT, PROTECTED, PAE, PSE, REAL, MODES };
static const char *const mode_name[MODES] = { "compatibility mode", "protected mode, no paging",
					      "protected mode, PAE", "protected mode, 4 MiB pages",
					      "real mode" };

struct result {
	struct cpuid_regs cpuid0, cpuid_ext;
	uint32_t efer_lo, efer_hi, apic_base_lo, apic_base_hi;
	uint32_t apic_version, tpr, tpr_added, pad0;
	uint32_t ints, irqs, uds, pad1;
	uint32_t carries, flags, kept, cr0;
	uint32_t done;
};
_Static_assert(offsetof(struct result, ints) == 0x40 && offsetof(struct result, done) == 0x60,
	       "as in modes.asm");

extern HIDDEN const uint8_t modes_blob[], modes_blob_end[], modes_back64[], modes_real[];
extern HIDDEN const uint8_t modes_int32[], modes_irq32[], modes_ud32[], modes_int16[], modes_irq16[],
	modes_ud16[];

static void put(uint64_t at, uint64_t v, unsigned int bytes)
{
	memcpy((void *)(low_memory + at), &v, bytes);
}

static uint64_t offset(const uint8_t *label)
{
	return (uint64_t)(label - modes_blob);
}

static void set_vector(unsigned int vector, const uint8_t *handler32, const uint8_t *handler16)
{
	uint64_t h = offset(handler32);

	put(IDT_OFF + vector * 8, (h & 0xffff) | 0x18u << 16 | 0x8eull << 40 | (h >> 16) << 48, 8);
	put(IVT_OFF + vector * 4, offset(handler16) | low_memory >> 4 << 16, 4);
}

static void prepare(void)
{
	uint64_t base = (low_memory & 0xffffff) << 16;
	const uint64_t gdt[] = { 0,
				 0x00af9b000000ffffull,
				 0x00cf93000000ffffull,
				 0x00cf9b000000ffffull | base,
				 0x00cf93000000ffffull | base,
				 0x00cf93000000ffffull,
				 0x00009b000000ffffull | base,
				 0x000093000000ffffull | base };

	memset((void *)low_memory, 0, 5 * PAGE);
	memcpy((void *)low_memory, modes_blob, (size_t)(modes_blob_end - modes_blob));
	memcpy((void *)(low_memory + GDT_OFF), gdt, sizeof(gdt));
	put(DATA_OFF + 0x50, sizeof(gdt) - 1, 2);
	put(DATA_OFF + 0x52, low_memory + GDT_OFF, 8);
	put(DATA_OFF + 0x60, 0x40 * 8 - 1, 2);
	put(DATA_OFF + 0x62, low_memory + IDT_OFF, 4);
	put(DATA_OFF + 0x70, 0x40 * 4 - 1, 2);
	put(DATA_OFF + 0x72, low_memory + IVT_OFF, 4);
	put(DATA_OFF + 0x80, low_memory + PDPT_OFF, 4);
	put(DATA_OFF + 0x84, low_memory + PSE_OFF, 4);
	put(DATA_OFF + 0x88, low_memory + offset(modes_back64), 4);
	put(DATA_OFF + 0x8c, SEL_CODE64, 2);
	put(DATA_OFF + 0x90, offset(modes_real), 2);
	put(DATA_OFF + 0x92, low_memory >> 4, 2);
	set_vector(0x06, modes_ud32, modes_ud16);
	set_vector(0x30, modes_int32, modes_int16);
	set_vector(0x31, modes_irq32, modes_irq16);
	for (uint64_t i = 0; i < 4; i++)
		put(PDPT_OFF + i * 8, (uint64_t)page_pd[i] | PTE_P, 8);
	for (uint64_t i = 0; i < 1024; i++)
		put(PSE_OFF + i * 4, i << 22 | PTE_PS | PTE_W | PTE_P, 4);
}

static void skip_three(struct trap_frame *f)
{
	f->rip += 3;
}

/* Outside of 64-bit mode Intel's processors do not offer SYSCALL (SDM2A, CPUID 80000001H). */
static struct cpuid_regs extended_features(void)
{
	struct cpuid_regs r = cpuid(0x80000001, 0);

	if (is_intel())
		r.edx &= ~(1u << 11);
	return r;
}

static bool same(struct cpuid_regs a, struct cpuid_regs b)
{
	return a.eax == b.eax && a.ebx == b.ebx && a.ecx == b.ecx && a.edx == b.edx;
}

/* What is wrong in the result, NULL if nothing. */
static const char *wrong(enum mode mode, const struct result *r, uint64_t efer)
{
	uint32_t counts[3] = { r->ints, r->irqs, r->uds };

	/* In compatibility mode the 64-bit handlers count. */
	if (mode == COMPAT) {
		counts[0] = vector_count[0][0x30];
		counts[1] = vector_count[0][0x31];
		counts[2] = vector_count[0][6];
	}
	if (r->done != 0x600d)
		return "did not get through";
	if (!same(r->cpuid0, cpuid(0, 0)) || !same(r->cpuid_ext, extended_features()))
		return "CPUID";
	if (mode == COMPAT ? r->efer_lo != (uint32_t)efer :
			     r->efer_lo != (efer & ~(uint64_t)(EFER_LME | EFER_LMA)))
		return "EFER";
	if (r->apic_base_lo != (uint32_t)rdmsr(MSR_APIC_BASE) || r->apic_base_hi)
		return "APIC_BASE";
	if (r->apic_version != apic_read(APIC_VERSION) || r->tpr != 0x20 || r->tpr_added != 0x35)
		return "APIC page";
	if (counts[0] != 2)
		return "INT n";
	if (counts[1] != 1)
		return "self IPI";
	if (counts[2] != 4)
		return "instructions of SVM and VMX";
	if (r->carries != 2 || (r->flags & 0x600) != 0x400)
		return "flags";
	if (r->kept != 1)
		return "ESI, EDI, EBP";
	if ((r->cr0 & 1) != (mode != REAL) || r->cr0 >> 31 != (mode != REAL && mode != PROTECTED))
		return "CR0";
	return NULL;
}

static void check(enum mode mode, uint32_t times)
{
	volatile struct result *r = (volatile struct result *)(low_memory + RES_OFF);
	void (*entry)(unsigned int) = (void (*)(unsigned int))low_memory;
	uint64_t efer = rdmsr(MSR_EFER);
	const char *bad = NULL;
	uint32_t good = 0;

	for (; good < times && !bad; good += !bad) {
		memset((void *)(low_memory + RES_OFF), 0, sizeof(*r));
		vector_count[0][0x30] = vector_count[0][0x31] = vector_count[0][6] = 0;
		entry(mode);
		bad = wrong(mode, (const struct result *)r, efer);
	}
	is(good, times, "%s %u times%s%s", mode_name[mode], times, bad ? ": " : "", bad ? bad : "");
	if (bad)
		note("efer %x_%08x apic_base %x version %x tpr %x %x ints %u irqs %u uds %u carries %u flags "
		     "%x cr0 %x",
		     r->efer_hi, r->efer_lo, r->apic_base_lo, r->apic_version, r->tpr, r->tpr_added, r->ints,
		     r->irqs, r->uds, r->carries, r->flags, r->cr0);
	is(rdmsr(MSR_EFER), efer, "... and EFER is back");
}

void test_main(void)
{
	if (!low_memory)
		skip_all("no memory below 640 KiB");
	prepare();
	trap_handlers[6] = skip_three;
	for (unsigned int m = 0; m < MODES; m++)
		check((enum mode)m, 1);
	note("PDPTE %llx", *(unsigned long long *)(low_memory + PDPT_OFF));
	for (unsigned int m = 0; m < MODES; m++)
		check((enum mode)m, 100);
}
