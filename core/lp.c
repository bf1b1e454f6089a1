/* SPDX-License-Identifier: MIT */
/*
 * Logical processors: their areas, descriptor tables and stacks, and how the ones after the first come in: the root's
 * start-up IPI is redirected to our trampoline, which ends in ap_main().
 */
#include "traps.h"
#include <errno.h>
#include <string.h>
#include <trivet/acpi.h>
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/schedule.h>
#include <trivet/x86.h>

#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR4_OSFXSR BIT(9)

/* GDT: null, code, data, then the 16-byte TSS descriptor. */
#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS 0x18
#define IST_NMI 1
#define IST_DF 2
#define IST_MC 3

/* Largest local APIC id that is looked up in constant time; processors above it are not used. */
#define APIC_ID_LIMIT 4096u

struct gate {
	uint16_t offset_low;
	uint16_t selector;
	uint8_t ist;
	uint8_t type;
	uint16_t offset_middle;
	uint32_t offset_high;
	uint32_t reserved;
};
static_assert(sizeof(struct gate) == 16, "APM2 4.8.3");

struct trampoline_data {
	uint64_t gdt[3];
	uint64_t entry;
	uint32_t cr3;
	uint32_t target;
	uint16_t target_selector;
	uint16_t gdt_limit;
	uint32_t gdt_base;
} __attribute__((packed));
static_assert(sizeof(struct trampoline_data) == 48, "core/trampoline.asm");

extern void *const trap_stubs[256];
extern const char trampoline_start[], trampoline_long_mode[], trampoline_data[], trampoline_end[];
void ap_entry(void);
_Noreturn void ap_main(void);

struct lp **lp_table;
uint32_t lp_count;
/* The same once more, in the form core/entry.asm searches. */
uint32_t *lp_start_ids;
struct lp **lp_start_areas;

static struct lp **by_apic_id;
static struct gate idt[256];
static struct gate window_idt[256]; /* the same without interrupt stacks */
/* Where interrupts are let in, for the stubs: address and length. */
struct {
	uint64_t begin, length;
} interrupt_window;
static uint8_t trampoline_vector;

static struct lp *lp_create(uint32_t index, uint32_t apic_id)
{
	char *area = page_alloc(&host_pool, LP_AREA_ORDER);
	struct lp *lp = (struct lp *)area;

	if (!area)
		return NULL;
	host_unmap_page(area + LP_GUARD_MAIN);
	host_unmap_page(area + LP_GUARD_NMI);
	host_unmap_page(area + LP_GUARD_DF);
	lp->self = lp;
	lp->index = index;
	lp->apic_id = apic_id;
	lp->timer_deadline_tsc = UINT64_MAX;
	schedule_init(lp);
	return lp;
}

static int add_lp(uint32_t apic_id)
{
	struct lp *lp;

	if (apic_id >= APIC_ID_LIMIT) {
		log_warn("lp: local APIC id %u is beyond %u, not used", apic_id, APIC_ID_LIMIT - 1);
		return 0;
	}
	if (by_apic_id[apic_id])
		return 0;
	lp = lp_create(lp_count, apic_id);
	if (!lp)
		return -ENOMEM;
	by_apic_id[apic_id] = lp;
	lp_start_ids[lp_count] = apic_id;
	lp_start_areas[lp_count] = lp;
	lp_count++;
	return 0;
}

/* The processors of the MADT. -ENOENT, -EINVAL or -EFAULT when there is no usable one; then nothing was added. */
static int add_from_madt(hpa_t rsdp_hpa, struct acpi_processor *processors)
{
	struct acpi_madt madt = { .processors = processors, .processor_capacity = APIC_ID_LIMIT };
	struct acpi_table table;
	int err = rsdp_hpa.v ? acpi_find_table(rsdp_hpa, "APIC", &table) : -ENOENT;

	if (!err)
		err = acpi_parse_madt(table.data, table.size, &madt);
	if (err && err != -ENOSPC) /* more processors than there is room for: those that have room */
		return err;
	err = 0;
	for (uint32_t i = 0; i < madt.processor_count && i < madt.processor_capacity && !err; i++)
		if (processors[i].flags & (ACPI_PROCESSOR_ENABLED | ACPI_PROCESSOR_ONLINE_CAPABLE))
			err = add_lp(processors[i].apic_id);
	return err;
}

static int add_listed(const uint32_t *apic_ids, uint64_t listed)
{
	int err = 0;

	for (uint64_t i = 0; i < listed && !err; i++)
		err = add_lp(apic_ids[i]);
	return err;
}

int lp_table_init(hpa_t rsdp_hpa, uint32_t boot_apic_id, const uint32_t *apic_ids, uint64_t listed)
{
	unsigned int order = page_order_for(APIC_ID_LIMIT * sizeof(struct acpi_processor));
	struct acpi_processor *processors = page_alloc(&host_pool, order);
	int err;

	by_apic_id = page_alloc(&host_pool, page_order_for(APIC_ID_LIMIT * sizeof(void *)));
	lp_start_ids = page_alloc(&host_pool, page_order_for(APIC_ID_LIMIT * sizeof(*lp_start_ids)));
	lp_start_areas = page_alloc(&host_pool, page_order_for(APIC_ID_LIMIT * sizeof(void *)));
	if (!processors || !by_apic_id || !lp_start_ids || !lp_start_areas)
		return -ENOMEM;
	lp_table = lp_start_areas;
	err = add_lp(boot_apic_id);
	if (err)
		return err;
	err = add_from_madt(rsdp_hpa, processors);
	if (err && err != -ENOMEM) {
		log_warn("lp: no usable ACPI MADT (error %d), %s", err,
			 listed ? "taking the firmware's list of processors" :
				  "only the boot processor is used");
		err = add_listed(apic_ids, listed);
	}
	page_free(&host_pool, processors, order);
	return err;
}

struct lp *lp_by_apic_id(uint32_t apic_id)
{
	return apic_id < APIC_ID_LIMIT ? by_apic_id[apic_id] : NULL;
}

static void fill_idt(void)
{
	interrupt_window.begin = (uint64_t)backend->window_begin;
	interrupt_window.length = (uint64_t)(backend->window_end - backend->window_begin) + 1;
	for (unsigned int v = 0; v < 256; v++) {
		uint64_t handler = (uint64_t)trap_stubs[v];

		idt[v] = (struct gate){
			.offset_low = (uint16_t)handler,
			.selector = SELECTOR_CODE,
			.ist = v == VECTOR_NMI ? IST_NMI :
			       v == VECTOR_DF  ? IST_DF :
			       v == VECTOR_MC  ? IST_MC :
						 0,
			.type = 0x8e, /* present, interrupt gate */
			.offset_middle = (uint16_t)(handler >> 16),
			.offset_high = (uint32_t)(handler >> 32),
		};
		window_idt[v] = idt[v];
		window_idt[v].ist = 0;
	}
}

static void fill_tss(struct lp *lp)
{
	/* APM2 figure 12-8: RSP0..2 at 4, IST1..7 at 0x24, I/O map base at 0x66. */
	const uint64_t ist[3] = { (uint64_t)lp + LP_NMI_STACK_TOP, (uint64_t)lp + LP_DF_STACK_TOP,
				  (uint64_t)lp + LP_MC_STACK_TOP };
	const uint16_t io_map = sizeof(lp->tss);

	memcpy(lp->tss + 0x24, ist, sizeof(ist));
	memcpy(lp->tss + 0x66, &io_map, sizeof(io_map));
}

static void fill_gdt(struct lp *lp)
{
	uint64_t base = (uint64_t)lp->tss;

	lp->gdt[1] = 0x00af9b000000ffffull;
	lp->gdt[2] = 0x00cf93000000ffffull;
	lp->gdt[3] =
		(sizeof(lp->tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	lp->gdt[4] = base >> 32;
}

void lp_set_control_registers(void)
{
	uint64_t cr0, cr4;
	uint32_t max_leaf = cpuid(0, 0).eax;
	uint32_t features = max_leaf >= 7 ? cpuid(7, 0).ebx : 0;

	__asm__ volatile("movq %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	cr0 &= ~(CR0_CD | CR0_NW | CR0_AM | CR0_TS | CR0_EM);
	cr0 |= CR0_PE | CR0_MP | CR0_NE | CR0_WP | CR0_PG;
	cr4 |= CR4_PAE | CR4_PGE | CR4_MCE | CR4_OSFXSR; /* FXSAVE of what is the guest's, with XMM */
	if (cpuid(1, 0).ecx & BIT(26))
		cr4 |= CR4_OSXSAVE; /* extended state is switched */
	if (features & BIT(7))
		cr4 |= CR4_SMEP;
	if (features & BIT(20))
		cr4 |= CR4_SMAP;
	__asm__ volatile("movq %0, %%cr0" ::"r"(cr0) : "memory");
	__asm__ volatile("movq %0, %%cr4" ::"r"(cr4) : "memory");
}

void lp_load_tables(struct lp *lp)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) gdtr = { sizeof(lp->gdt) - 1, (uint64_t)lp->gdt },
				  idtr = { sizeof(idt) - 1, (uint64_t)idt };

	if (idt[0].selector == 0)
		fill_idt();
	fill_tss(lp);
	fill_gdt(lp);
	__asm__ volatile("lgdt %0\n\t"
			 "pushq %[code]\n\t"
			 "leaq 1f(%%rip), %%rax\n\t"
			 "pushq %%rax\n\t"
			 "lretq\n"
			 "1:\n\t"
			 "movl %[data], %%eax\n\t"
			 "movl %%eax, %%ss\n\t"
			 "movl %%eax, %%ds\n\t"
			 "movl %%eax, %%es\n\t"
			 "lidt %1\n\t"
			 "ltr %w2"
			 :
			 : "m"(gdtr), "m"(idtr),
			   "r"(SELECTOR_TSS), [code] "i"(SELECTOR_CODE), [data] "i"(SELECTOR_DATA)
			 : "rax", "memory");
}

bool lp_in_window(uint64_t rip)
{
	return rip - interrupt_window.begin < interrupt_window.length;
}

void lp_load_window_idt(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = { sizeof(window_idt) - 1, (uint64_t)window_idt };

	if (backend->tr_is_guests)
		__asm__ volatile("lidt %0" ::"m"(idtr));
}

void lp_trampoline_init(hpa_t page)
{
	struct trampoline_data data;
	/* Mapped read-execute at its own address; written here, once, through another mapping that then goes. */
	volatile char *writable = page.v ? host_map_mmio(page, PAGE_SIZE) : NULL;
	uint64_t data_offset = (uint64_t)(trampoline_data - trampoline_start);

	if (!writable) {
		log_warn("lp: no page below 1 MiB, other processors can't be started");
		return;
	}
	for (long i = 0; i < trampoline_end - trampoline_start; i++)
		writable[i] = trampoline_start[i];
	memcpy(&data, trampoline_data, sizeof(data));
	data.entry = (uint64_t)ap_entry;
	data.cr3 = (uint32_t)host_cr3();
	data.target = (uint32_t)(page.v + (uint64_t)(trampoline_long_mode - trampoline_start));
	data.gdt_base = (uint32_t)(page.v + data_offset);
	for (size_t i = 0; i < sizeof(data); i++)
		writable[data_offset + i] = ((const char *)&data)[i];
	host_unmap_page((void *)(uintptr_t)writable);
	trampoline_vector = (uint8_t)(page.v >> PAGE_SHIFT);
}

uint8_t lp_trampoline_vector(void)
{
	return trampoline_vector;
}

/* A processor that the root started, on its own stack, interrupts off. */
_Noreturn void ap_main(void)
{
	struct lp *lp = this_lp();

	ASSERT(lp->self == lp);
	atomic_exchange(&lp->state, LP_STARTING);
	lp_set_control_registers();
	lp_load_tables(lp);
	lp_main(lp);
}
