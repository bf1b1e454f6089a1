/* SPDX-License-Identifier: MIT */
/*
 * Control registers: what is written reads back, whoever owns the bits underneath; reserved bits and forbidden
 * combinations fault; paging goes on and off in all its forms together with other bits of CR0 (VMX keeps NE for itself),
 * and each time addresses lead where the page tables say. QEMU's processor checks less than the manuals ask (APM2 3.1,
 * SDM3 2.5): what it lets pass is only asked of Intel's, and the rest compared by the harness.
 */
#include "lib/guest.h"

#define GP 13u
#define NONE NO_FAULT

/* Pages of the copy below 1 MiB; the first three as in cr.asm. */
#define DATA_OFF 0x1000u
#define GDT_OFF 0x1100u
#define IDT_OFF 0x1200u
#define STEPS_OFF 0x2000u
#define PAE_OFF 0x3000u
#define PSE_OFF 0x4000u
#define PML4_OFF 0x5000u
#define LONG_PDPT_OFF 0x6000u
#define PAE_PD_OFF 0x7000u
#define LONG_PD_OFF 0x8000u

enum op { END, CR0, CR3, CR4, EFER, LMSW, CLTS };
static const char *const op_name[] = { "end", "CR0", "CR3", "CR4", "EFER", "LMSW", "CLTS" };

struct step {
	uint32_t op, value;
	uint32_t vector, error, cr0, cr3, cr4, efer, probe, smsw;
};
_Static_assert(sizeof(struct step) == 40 && offsetof(struct step, probe) == 32, "as in cr.asm");

struct want {
	uint32_t op, value, vector;
};

/* Where the probe address leads without paging and by each kind of table. */
enum marker { FLAT_MARK = 0xf1a7f1a7, PSE_MARK = 0x05e05e05, PAE_MARK = 0x9ae09ae0, LONG_MARK = 0x10461046 };

extern HIDDEN const uint8_t cr_blob[], cr_blob_end[], cr_back64[], cr_gp[], cr_ud[], cr_pf[];

static uint64_t probe;

static void put(uint64_t at, uint64_t v, unsigned int bytes)
{
	memcpy((void *)(low_memory + at), &v, bytes);
}

static void set_vector(unsigned int vector, const uint8_t *handler)
{
	uint64_t h = (uint64_t)(handler - cr_blob);

	put(IDT_OFF + vector * 8, (h & 0xffff) | 0x18u << 16 | 0x8eull << 40 | (h >> 16) << 48, 8);
}

/* Four pieces of memory, 4 MiB each: every kind of table has another one at the address of the first. */
static void make_tables(void)
{
	uint64_t index;

	probe = alloc_memory(16ull << 20, 4ull << 20);
	*(volatile uint32_t *)probe = FLAT_MARK;
	*(volatile uint32_t *)(probe + (4ull << 20)) = PSE_MARK;
	*(volatile uint32_t *)(probe + (8ull << 20)) = PAE_MARK;
	*(volatile uint32_t *)(probe + (12ull << 20)) = LONG_MARK;
	for (uint64_t i = 0; i < 1024; i++)
		put(PSE_OFF + i * 4, i << 22 | PTE_PS | PTE_W | PTE_P, 4);
	put(PSE_OFF + (probe >> 22) * 4, (probe + (4ull << 20)) | PTE_PS | PTE_W | PTE_P, 4);
	for (uint64_t i = 0; i < 4; i++) {
		put(PAE_OFF + i * 8, (uint64_t)page_pd[i] | PTE_P, 8);
		put(LONG_PDPT_OFF + i * 8, (uint64_t)page_pd[i] | PTE_W | PTE_P, 8);
	}
	put(PAE_OFF + (probe >> 30) * 8, (low_memory + PAE_PD_OFF) | PTE_P, 8);
	put(LONG_PDPT_OFF + (probe >> 30) * 8, (low_memory + LONG_PD_OFF) | PTE_W | PTE_P, 8);
	put(PML4_OFF, (low_memory + LONG_PDPT_OFF) | PTE_W | PTE_P, 8);
	memcpy((void *)(low_memory + PAE_PD_OFF), page_pd[probe >> 30], PAGE);
	memcpy((void *)(low_memory + LONG_PD_OFF), page_pd[probe >> 30], PAGE);
	index = probe >> 21 & 511;
	put(PAE_PD_OFF + index * 8, (probe + (8ull << 20)) | PTE_PS | PTE_W | PTE_P, 8);
	put(LONG_PD_OFF + index * 8, (probe + (12ull << 20)) | PTE_PS | PTE_W | PTE_P, 8);
}

static void prepare(void)
{
	uint64_t base = (low_memory & 0xffffff) << 16;
	const uint64_t gdt[] = { 0,
				 0x00af9b000000ffffull,
				 0x00cf93000000ffffull,
				 0x00cf9b000000ffffull | base,
				 0x00cf93000000ffffull | base,
				 0x00cf93000000ffffull };

	memset((void *)low_memory, 0, LOW_PAGES * PAGE);
	memcpy((void *)low_memory, cr_blob, (size_t)(cr_blob_end - cr_blob));
	memcpy((void *)(low_memory + GDT_OFF), gdt, sizeof(gdt));
	put(DATA_OFF + 0x50, sizeof(gdt) - 1, 2);
	put(DATA_OFF + 0x52, low_memory + GDT_OFF, 8);
	put(DATA_OFF + 0x60, 0x20 * 8 - 1, 2);
	put(DATA_OFF + 0x62, low_memory + IDT_OFF, 4);
	put(DATA_OFF + 0x78, low_memory + (uint64_t)(cr_back64 - cr_blob), 4);
	put(DATA_OFF + 0x7c, SEL_CODE64, 2);
	set_vector(6, cr_ud);
	set_vector(13, cr_gp);
	set_vector(14, cr_pf);
	make_tables();
	put(DATA_OFF + 0x70, probe, 4);
}

/* What the registers hold, by the manual. */
struct model {
	uint32_t cr0, cr3, cr4, efer;
};

static void apply(struct model *m, const struct want *w)
{
	switch (w->op) {
	case CR0:
		m->cr0 = w->value | (uint32_t)CR0_ET;
		break;
	case CR3:
		m->cr3 = w->value;
		break;
	case CR4:
		m->cr4 = w->value;
		break;
	case EFER:
		m->efer = w->value | (m->efer & EFER_LMA);
		break;
	case LMSW:
		m->cr0 = (m->cr0 & ~0xeu) | (w->value & 0xf);
		break;
	default:
		m->cr0 &= ~(uint32_t)CR0_TS;
		break;
	}
	m->efer &= ~EFER_LMA;
	if ((m->cr0 & CR0_PG) && (m->efer & EFER_LME))
		m->efer |= EFER_LMA;
}

static uint32_t expected_probe(const struct model *m)
{
	if (!(m->cr0 & CR0_PG))
		return FLAT_MARK;
	if (m->efer & EFER_LMA)
		return LONG_MARK;
	return m->cr4 & CR4_PAE ? PAE_MARK : PSE_MARK;
}

static void explain(const struct want *w, const struct step *s, const struct model *m)
{
	note("%s = %x (want vector %x): vector %x error %x", op_name[w->op], w->value, w->vector, s->vector,
	     s->error);
	note("cr0 %x/%x cr3 %x/%x cr4 %x/%x efer %x/%x probe %x/%x smsw %x (is/want)", s->cr0, m->cr0, s->cr3,
	     m->cr3, s->cr4, m->cr4, s->efer, m->efer, s->probe, expected_probe(m), s->smsw);
}

/* Runs the list, which ends at END, and checks every step against the model. */
static void run(const char *name, const struct want *list)
{
	struct step *steps = (struct step *)(low_memory + STEPS_OFF);
	struct model m = { (uint32_t)(CR0_PE | CR0_ET), 0, 0, 0 };
	unsigned int n, good = 0;

	for (n = 0; list[n].op != END; n++)
		steps[n] = (struct step){ .op = list[n].op, .value = list[n].value };
	steps[n].op = END;
	m.cr3 = (uint32_t)read_cr3();
	((void (*)(void))low_memory)();
	for (unsigned int i = 0; i < n; i++) {
		const struct step *s = &steps[i];

		if (list[i].vector == NONE)
			apply(&m, &list[i]);
		if (s->vector == list[i].vector && !s->error && s->cr0 == m.cr0 && s->cr3 == m.cr3 &&
		    s->cr4 == m.cr4 && s->efer == m.efer && s->probe == expected_probe(&m) &&
		    s->smsw == (m.cr0 & 0xffff))
			good++;
		else
			explain(&list[i], s, &m);
	}
	is(good, n, "%s: every step as the manual says", name);
}

#define PE ((uint32_t)CR0_PE)
#define PG ((uint32_t)CR0_PG)
#define NE ((uint32_t)CR0_NE)
#define WP ((uint32_t)CR0_WP)
#define CD ((uint32_t)CR0_CD)
#define NW ((uint32_t)CR0_NW)
#define FPU ((uint32_t)(CR0_MP | CR0_EM | CR0_TS))
#define PSE 0x10u
#define PAE ((uint32_t)CR4_PAE)
#define PGE 0x80u
#define TSD 0x04u

/* LME only with PAE: without, QEMU 7.2 fails to restore the host's CR0 at the next exit. */
static void check_no_paging(void)
{
	const struct want list[] = {
		{ CR0, PE, NONE },
		{ CR0, PE | NE, NONE },
		{ CR0, PE | NE | WP, NONE },
		{ CR0, PE | FPU, NONE },
		{ CLTS, 0, NONE },
		{ LMSW, 8, NONE },
		{ LMSW, 6, NONE },
		{ LMSW, 0, NONE },
		{ CR0, PE | CD, NONE },
		{ CR0, PE | CD | NW, NONE },
		{ CR0, PE | NE, NONE },
		{ CR0, PE | 1u << 18, NONE },
		{ CR4, TSD | PGE, NONE },
		{ CR4, PAE, NONE },
		{ EFER, EFER_NXE, NONE },
		{ EFER, 0, NONE },
		{ EFER, EFER_LME, NONE },
		{ EFER, 0, NONE },
		{ END, 0, 0 },
	};

	run("no paging", list);
}

static void check_pse(void)
{
	uint32_t cr3 = (uint32_t)low_memory + PSE_OFF;
	const struct want list[] = {
		{ CR4, PSE, NONE },
		{ CR3, cr3, NONE },
		{ CR0, PE | PG | NE | WP, NONE },
		{ CR0, PE | PG, NONE },
		{ CR0, PE | PG | CD, NONE },
		{ CR3, cr3, NONE },
		{ LMSW, 0xf, NONE },
		{ CLTS, 0, NONE },
		{ LMSW, 0, NONE },
		{ CR4, PSE | PGE, NONE },
		{ CR3, cr3 | 0x18, NONE },
		{ CR0, PE | NE, NONE },
		{ CR0, PE | PG | NE, NONE },
		{ CR0, PE, NONE },
		{ CR0, PE | PG | CD | NW, NONE },
		{ CR0, PE | PG | WP, NONE },
		{ END, 0, 0 },
	};

	run("4 MiB pages", list);
}

static void check_pae(void)
{
	uint32_t cr3 = (uint32_t)low_memory + PAE_OFF, pse = (uint32_t)low_memory + PSE_OFF;
	const struct want list[] = {
		{ CR4, PAE, NONE },
		{ CR3, cr3, NONE },
		{ CR0, PE | PG | NE, NONE },
		{ CR0, PE | PG, NONE },
		{ CR0, PE | PG | CD | NE, NONE },
		{ CR4, PAE | PGE, NONE },
		{ CR4, PAE | PSE | TSD, NONE },
		{ CR3, cr3, NONE },
		{ EFER, EFER_NXE, NONE },
		{ CR0, PE, NONE },
		{ CR4, PSE, NONE },
		{ CR3, pse, NONE },
		{ CR0, PE | PG | NE, NONE },
		{ CR0, PE | NE, NONE },
		{ CR3, cr3, NONE },
		{ CR4, PAE, NONE },
		{ CR0, PE | PG | NE | WP, NONE },
		{ END, 0, 0 },
	};

	run("PAE", list);
}

static void check_long(void)
{
	uint32_t cr3 = (uint32_t)low_memory + PML4_OFF, pae = (uint32_t)low_memory + PAE_OFF;
	const struct want list[] = {
		{ CR4, PAE, NONE },
		{ CR3, cr3, NONE },
		{ EFER, EFER_LME, NONE },
		{ CR0, PE | PG | NE, NONE },
		{ CR0, PE | PG, NONE },
		{ CR0, PE | PG | CD | WP, NONE },
		{ CR4, PAE | PGE, NONE },
		{ CR3, cr3, NONE },
		{ EFER, EFER_LME | EFER_NXE | EFER_SCE, NONE },
		{ CR0, PE | NE, NONE },
		{ CR0, PE | PG, NONE },
		{ CR0, PE, NONE },
		{ EFER, 0, NONE },
		{ CR3, pae, NONE },
		{ CR0, PE | PG | NE, NONE },
		{ CR0, PE, NONE },
		{ EFER, EFER_LME, NONE },
		{ CR3, cr3, NONE },
		{ CR0, PE | PG, NONE },
		{ END, 0, 0 },
	};

	run("compatibility mode", list);
}

/* What Intel's processors refuse, and ours must refuse in their place. */
static void check_refused(void)
{
	uint32_t cr3 = (uint32_t)low_memory + PAE_OFF, pml4 = (uint32_t)low_memory + PML4_OFF;
	const struct want list[] = {
		{ CR0, PE | NW, GP },
		{ CR0, PG, GP },
		{ CR0, PG | NE, GP },
		{ CR4, 1u << 31, GP },
		{ CR4, 1u << 15, GP },
		{ CR4, (uint32_t)CR4_VMXE, GP },
		{ CR4, (uint32_t)CR4_SMXE, GP },
		{ EFER, 1u << 1, GP },
		{ EFER, 1u << 12, GP },
		{ EFER, EFER_LME, NONE },
		{ CR0, PE | PG | NE, GP }, /* long mode needs PAE */
		{ EFER, 0, NONE },
		{ CR4, PAE, NONE },
		{ CR3, cr3, NONE },
		{ CR0, PE | PG | NW, GP },
		{ CR0, PE | PG | NE, NONE },
		{ EFER, EFER_LME, GP }, /* not while paging is on */
		{ CR0, PG, GP },
		{ CR0, PE | PG | NW | NE, GP },
		{ CR4, PAE | 1u << 31, GP },
		{ CR4, PAE | (uint32_t)CR4_VMXE, GP },
		{ CR0, PE, NONE },
		{ EFER, EFER_LME, NONE },
		{ CR3, pml4, NONE },
		{ CR0, PE | PG, NONE },
		{ END, 0, 0 },
	};

	run("refused writes", list);
}

/* Loading CR3, or CR0 and CR4 bits that matter, loads the four entries; reserved bits in present ones fault (SDM3 4.4.1). */
static void check_pdptes(void)
{
	uint32_t good = (uint32_t)low_memory + PAE_OFF, first = good + 0x100, last = good + 0x120,
		 absent = good + 0x140;
	const struct want list[] = {
		{ CR4, PAE, NONE },
		{ CR3, good, NONE },
		{ CR0, PE | PG | NE, NONE },
		{ CR3, first, GP },
		{ CR3, last, GP },
		{ CR3, absent, NONE },
		{ CR0, PE | PG | CD, NONE },
		{ CR3, last, GP },
		{ CR0, PE, NONE },
		{ CR3, last, NONE },
		{ CR0, PE | PG, GP },
		{ CR0, PE | PG | NE, GP },
		{ CR3, first, NONE },
		{ CR0, PE | PG | WP, GP },
		{ CR3, absent, NONE },
		{ CR0, PE | PG | NE, NONE },
		{ CR4, PAE | PGE, NONE },
		{ CR3, good, NONE },
		{ END, 0, 0 },
	};

	for (unsigned int i = 1; i <= 3; i++)
		memcpy((void *)(low_memory + PAE_OFF + 0xe0 + i * 0x20), (void *)(low_memory + PAE_OFF), 32);
	put(PAE_OFF + 0x100, *(uint64_t *)(low_memory + PAE_OFF) | PTE_W, 8);
	put(PAE_OFF + 0x120 + 24, *(uint64_t *)(low_memory + PAE_OFF + 24) | 1ull << 62, 8);
	put(PAE_OFF + 0x140 + 8, ~1ull, 8);
	run("PDPTEs with reserved bits", list);
}

/* Every bit of CR0 and CR4 the other way, in 64-bit mode: told, for the harness to compare. */
static void dump_bits(unsigned int cr, uint64_t old, uint64_t leave_out)
{
	for (unsigned int bit = 0; bit < 64; bit++) {
		uint64_t got;
		uint32_t vector;

		if (leave_out >> bit & 1)
			continue;
		vector = try_write_cr(cr, old ^ 1ull << bit);
		got = cr ? read_cr4() : read_cr0();
		if (cr)
			write_cr4(old);
		else
			write_cr0(old);
		print("CR %u bit %u: vector %x, reads %llx\n", cr, bit, vector, (unsigned long long)got);
	}
}

static void check_64bit(void)
{
	uint64_t cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4();
	bool intel = is_intel();

	/* QEMU lets a system saw off the branch it sits on, and takes reserved bits of CR4 for a failed VMRUN. */
	dump_bits(0, cr0, intel ? 0 : CR0_PE | CR0_PG);
	dump_bits(4, cr4, intel ? 0 : CR4_PAE | ~0x7ffull);
	is(read_cr0(), cr0, "CR0 is as it was");
	is(read_cr4(), cr4, "CR4 is as it was");
	write_cr3(cr3 | 0x18);
	is(read_cr3(), cr3 | 0x18, "CR3 keeps PWT and PCD");
	write_cr3(cr3);
	if (!intel)
		return;
	is(try_write_cr(8, 16), GP, "CR8 takes 4 bits");
	is(try_write_cr(0, cr0 & ~CR0_PG), GP, "paging off in 64-bit mode: #GP");
	is(try_write_cr(0, cr0 & ~CR0_PE), GP, "protection off with paging on: #GP");
	is(try_write_cr(0, cr0 | CR0_NW), GP, "NW without CD: #GP");
	is(try_write_cr(0, cr0 | 1ull << 32), GP, "CR0's upper half: #GP");
	is(try_write_cr(4, cr4 & ~CR4_PAE), GP, "PAE off in 64-bit mode: #GP");
	is(try_write_cr(4, cr4 ^ CR4_LA57), GP, "LA57 in 64-bit mode: #GP");
	is(try_write_cr(4, cr4 | 1ull << 32), GP, "CR4's upper half: #GP");
	is(try_write_cr(3, cr3 | 1ull << (cpuid(0x80000008, 0).eax & 0xff)), GP,
	   "CR3 beyond the physical address: #GP");
	is(try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_LME), GP, "LME off with paging on: #GP");
	is(try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 1ull << 32), GP, "EFER's upper half: #GP");
	is(read_cr0() | read_cr4() << 32, cr0 | cr4 << 32, "nothing of that changed CR0 or CR4");
}

void test_main(void)
{
	if (!low_memory)
		skip_all("no memory below 640 KiB");
	prepare();
	check_64bit();
	check_no_paging();
	check_pse();
	check_pae();
	check_long();
	if (is_intel()) {
		check_refused();
		check_pdptes();
	}
	for (int i = 0; i < 20; i++) {
		check_long();
		check_pse();
	}
}
