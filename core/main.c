/* SPDX-License-Identifier: MIT */
/*
 * The boot story: the loader calls, the machine is taken over where it stands, and the loader's own code goes on as
 * VP 0 of the root partition. Until launch() every error goes back to the loader with the reason.
 */
#include "acpi_hide.h"
#include "console.h"
#include "reset.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <trivet/acpi.h>
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/extended_state.h>
#include <trivet/flush.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/panic.h>
#include <trivet/partition.h>
#include <trivet/tsc.h>
#include <trivet/x86.h>

_Noreturn void hv_back_to_loader(uint64_t rip, uint64_t rsp, int64_t status, uint64_t efer);
_Noreturn void lp_run_on_own_stack(struct lp *lp, uint64_t stack_top, void (*function)(struct lp *lp));
_Noreturn void hv_main(struct boot_handoff *handoff);

static const struct backend *const backends[] = { &svm_backend, &vmx_backend };
const struct backend *backend;

static struct boot_handoff *boot;
static struct boot_cpu_state boot_cpu;

static void save_cpu_state(struct boot_cpu_state *state)
{
	__asm__ volatile("sgdt %0" : "=m"(state->gdtr));
	__asm__ volatile("sidt %0" : "=m"(state->idtr));
	__asm__ volatile("mov %%es, %0" : "=r"(state->es.selector));
	__asm__ volatile("mov %%cs, %0" : "=r"(state->cs.selector));
	__asm__ volatile("mov %%ss, %0" : "=r"(state->ss.selector));
	__asm__ volatile("mov %%ds, %0" : "=r"(state->ds.selector));
	__asm__ volatile("mov %%fs, %0" : "=r"(state->fs.selector));
	__asm__ volatile("mov %%gs, %0" : "=r"(state->gs.selector));
	__asm__ volatile("str %0" : "=r"(state->tr.selector));
	__asm__ volatile("sldt %0" : "=r"(state->ldtr.selector));
	__asm__ volatile("movq %%cr0, %0" : "=r"(state->cr0));
	__asm__ volatile("movq %%cr4, %0" : "=r"(state->cr4));
	state->efer = rdmsr(MSR_EFER);
}

/* Expands what the selector names in the loader's GDT (APM2 4.8). */
static void load_segment(struct boot_segment *segment)
{
	uint64_t offset = segment->selector & ~7u;
	uint64_t low, high;

	if ((segment->selector & ~3u) == 0 || (segment->selector & 4) || (offset | 7) > boot_cpu.gdtr.limit ||
	    !guest_phys_read64(NULL, GPA(boot_cpu.gdtr.base + offset), &low))
		return;
	segment->rights = (uint16_t)(low >> 40 & 0xf0ff);
	segment->limit = (uint32_t)((low & 0xffff) | (low >> 32 & 0xf0000));
	if (low & BIT(55))
		segment->limit = segment->limit << 12 | 0xfff;
	segment->base = (low >> 16 & 0xffffff) | (low >> 32 & 0xff000000);
	/* System descriptors have 16 bytes in long mode. */
	if (!(low & BIT(44)) && (offset | 15) <= boot_cpu.gdtr.limit &&
	    guest_phys_read64(NULL, GPA(boot_cpu.gdtr.base + offset + 8), &high))
		segment->base |= high << 32;
}

static void load_segments(void)
{
	struct boot_segment *const segments[] = { &boot_cpu.es, &boot_cpu.cs, &boot_cpu.ss, &boot_cpu.ds,
						  &boot_cpu.fs, &boot_cpu.gs, &boot_cpu.tr, &boot_cpu.ldtr };

	for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
		load_segment(segments[i]);
}

static _Noreturn void refuse(int err, const char *why)
{
	snprintf(boot->refusal, sizeof(boot->refusal), "%s", why);
	log_error("refused: %s", why);
	hv_back_to_loader(boot->context.rip, boot->context.rsp, err, boot_cpu.efer);
}

static void require(int err, const char *what)
{
	char why[sizeof(boot->refusal)];

	if (!err)
		return;
	snprintf(why, sizeof(why),
		 err == -ENOMEM ? "%s: not enough hypervisor memory (memory = in trivet.conf)" :
				  "%s (error %d)",
		 what, err);
	refuse(err, why);
}

static void choose_backend(void)
{
	char why[sizeof(boot->refusal)] =
		"the processor has neither AMD SVM nor Intel VMX (or the firmware hides it)";

	for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
		if (backends[i]->probe(why, sizeof(why)) == 0) {
			backend = backends[i];
			return;
		}
	}
	refuse(-ENODEV, why);
}

const void *acpi_map(hpa_t hpa, size_t size)
{
	return host_ram_window(hpa, size);
}

static void read_fadt(struct acpi_fadt *fadt)
{
	struct acpi_table table;

	*fadt = (struct acpi_fadt){ 0 };
	if (boot->rsdp_hpa && acpi_find_table(HPA(boot->rsdp_hpa), "FACP", &table) == 0 &&
	    acpi_parse_fadt(table.data, table.size, fadt) == 0)
		reset_init(fadt);
}

static void describe_machine(void)
{
	struct cpuid_regs r;
	char brand[49] = "";
	char features[160];

	for (uint32_t i = 0; i < 3 && cpuid(0x80000000, 0).eax >= 0x80000004; i++) {
		r = cpuid(0x80000002 + i, 0);
		memcpy(brand + i * 16, &r, 16);
	}
	backend->describe(features, sizeof(features));
	log_info("cpu: %s", brand);
	log_info("cpu: %s: %s", backend->name, features);
}

static void describe_memory(void)
{
	uint64_t ram = 0;
	const struct boot_memory_range *map = (const void *)(HV_VIRT_BASE + boot->memory_map_offset);

	for (uint64_t i = 0; i < boot->memory_map_count; i++)
		if (map[i].kind == BOOT_MEMORY_RAM)
			ram += map[i].size;
	log_info("memory: %llu MiB for the root", (unsigned long long)(ram >> 20));
	log_info("memory: hypervisor memory 0x%llx-0x%llx, trampoline 0x%llx",
		 (unsigned long long)boot->hv_base, (unsigned long long)(boot->hv_base + boot->hv_size),
		 (unsigned long long)boot->trampoline_hpa);
	log_info("memory: %llu bytes reserved",
		 (unsigned long long)(boot->hv_size + (boot->trampoline_hpa ? PAGE_SIZE : 0)));
}

/* As core/entry.asm finds it for the other processors. */
static uint32_t own_apic_id(void)
{
	struct cpuid_regs topology = { 0 };

	if (cpuid(0, 0).eax >= 0xb)
		topology = cpuid(0xb, 0);
	return topology.ebx ? topology.edx : cpuid(1, 0).ebx >> 24;
}

static void calibrate(struct lp *lp)
{
	struct acpi_fadt fadt;
	struct tsc_info info;

	read_fadt(&fadt);
	require(lp_apic_find(lp), "the local APIC is disabled or has been moved");
	require(tsc_calibrate(&lp->lapic, fadt.pm_timer_port, fadt.pm_timer_32bit, &info),
		"no clock to measure the TSC with");
	log_set_clock(info.tsc_hz, boot->tsc_at_entry);
	lp_set_timer_frequencies(info.tsc_hz, info.apic_timer_hz);
	log_info("time: TSC %llu kHz (%s), local APIC timer %llu kHz",
		 (unsigned long long)(info.tsc_hz / 1000), tsc_source_name(info.source),
		 (unsigned long long)(info.apic_timer_hz / 1000));
}

_Noreturn void lp_main(struct lp *lp)
{
	if (lp->index != 0) {
		if (lp_apic_find(lp))
			panic("lp%u: local APIC disabled", lp->index);
		lp_apic_adopt(lp);
		backend->lp_start(lp);
		lp_load_window_idt();
		log_info("lp%u: online, apic id %u", lp->index, lp->apic_id);
	}
	atomic_store(&lp->kicked, 0);
	lp_tsc_start(lp);
	atomic_exchange(&lp->state, LP_ONLINE);
	lp_run_time_start(lp);
	vp_run_time_start(lp->root_vp);
	reference_time_tsc_moved(lp->root_vp->partition);
	schedule_start(lp->root_vp);
	flush_idle_end(
		lp->root_vp); /* from here on kicks arrive; the back end looks at what is pending first */
	backend->vp_run(lp->root_vp);
}

static void launch(struct lp *lp)
{
	lp_set_control_registers();
	lp_load_tables(lp);
	lp_apic_adopt(lp);
	backend->lp_start(lp);
	lp_load_window_idt();
	load_segments();
	if (root_partition.hv)
		acpi_hide_iommus(HPA(boot->rsdp_hpa));
	backend->vp_launch(lp->root_vp, &boot_cpu, &boot->context);
	log_info("root: partition 1, %u VPs, %s, starts on lp0", root_partition.vp_count,
		 root_partition.hv ? "hypervisor interface" : "transparent");
	log_info("loader entry tsc %llu, launch tsc %llu", (unsigned long long)boot->tsc_at_entry,
		 (unsigned long long)rdtsc());
	console_leave_framebuffer();
	lp_main(lp);
}

_Noreturn void hv_main(struct boot_handoff *handoff)
{
	uint64_t pages_before;

	boot = handoff;
	save_cpu_state(&boot_cpu);
	if (boot->magic != BOOT_HANDOFF_MAGIC || boot->version != BOOT_HANDOFF_VERSION ||
	    boot->size != sizeof(*boot))
		refuse(-EINVAL, "loader and hypervisor don't belong together");
	log_set_level(boot->log_level);
	console_init_early(boot);
	log_info("Trivet " TRIVET_VERSION);
	choose_backend();
	describe_machine();
	require(host_memory_init(boot), "memory");
	panic_set_symbols(boot);
	describe_memory();
	pages_before = page_pool_free_pages(&host_pool);
	require(lp_table_init(HPA(boot->rsdp_hpa), own_apic_id(),
			      (const void *)(HV_VIRT_BASE + boot->processors_offset), boot->processors_count),
		"logical processors");
	calibrate(lp_table[0]);
	require(backend->init(), backend->name);
	extended_state_init();
	sched_init(lp_tsc_hz());
	require(root_init(boot), "root partition");
	log_info("memory: %llu bytes per LP", (unsigned long long)((LP_AREA_SIZE + vp_memory_bytes())));
	log_info("memory: %llu KiB of tables and processors, %llu KiB free",
		 (unsigned long long)((pages_before - page_pool_free_pages(&host_pool)) * 4),
		 (unsigned long long)(page_pool_free_pages(&host_pool) * 4));
	log_info("lp: %u logical processors", lp_count);
	lp_trampoline_init(HPA(boot->trampoline_hpa));
	console_init(boot);
	lp_run_on_own_stack(lp_table[0], (uint64_t)lp_table[0] + LP_STACK_TOP, launch);
}
