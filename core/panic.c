/* SPDX-License-Identifier: MIT */
/* The loud stop; see trivet/panic.h. It trusts nothing: every pointer it follows is checked first. */
#include "console.h"
#include "traps.h"
#include <stdatomic.h>
#include <stdio.h>
#include <trivet/abi_log.h>
#include <trivet/backend.h>
#include <trivet/host_memory.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/panic.h>
#include <trivet/vp.h>
#include <trivet/vp_registers.h>
#include <trivet/x86.h>

#define HISTORY 32
#define FRAMES_MAX 32

static const struct boot_symbol *symbols; /* ascending */
static uint64_t symbol_count;
static const char *strings;
static uint64_t strings_size;
static _Atomic uint32_t panicking;

void panic_set_symbols(const struct boot_handoff *handoff)
{
	symbols = (const void *)(HV_VIRT_BASE + handoff->symtab_offset);
	symbol_count = handoff->symtab_count;
	strings = (const char *)(HV_VIRT_BASE + handoff->strtab_offset);
	strings_size = handoff->strtab_size;
}

bool panic_in_progress(void)
{
	return atomic_load_explicit(&panicking, memory_order_relaxed);
}

_Noreturn void panic_halt(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* The LP whose area the stack pointer is in; NULL while the boot LP still runs on the loader's or the boot stack. */
static struct lp *current_lp(void)
{
	struct lp *lp = this_lp();

	for (uint32_t i = 0; i < lp_count; i++)
		if (lp_table[i] == lp)
			return lp;
	return NULL;
}

static void print_address(const char *what, uint64_t address)
{
	const struct boot_symbol *best = NULL;

	for (uint64_t i = 0; i < symbol_count && symbols[i].value <= address; i++)
		best = &symbols[i];
	if (best && best->name < strings_size && address - best->value < 0x10000)
		log_error("  %s %016llx  %s+0x%llx", what, (unsigned long long)address, strings + best->name,
			  (unsigned long long)(address - best->value));
	else
		log_error("  %s %016llx", what, (unsigned long long)address);
}

/* Frame pointers may be followed only within the stack they start on. */
static void print_back_trace(uint64_t frame)
{
	uint64_t low = ALIGN_DOWN(frame, LP_AREA_SIZE);

	log_error("back trace:");
	for (int i = 0; i < FRAMES_MAX; i++) {
		const uint64_t *words = (const uint64_t *)frame;

		if (frame < HV_VIRT_BASE || !IS_ALIGNED(frame, 8) || ALIGN_DOWN(frame, LP_AREA_SIZE) != low)
			return;
		print_address("  ", words[1]);
		if (words[0] <= frame)
			return;
		frame = words[0];
	}
}

static void history_line(void *context, const char *line)
{
	(void)context;
	log_error("  %s", line);
}

void vp_log_history(struct vp *vp)
{
	log_error("last VM exits of lp%u, oldest first:", vp->lp->index);
	trace_dump(&vp->lp->trace, HISTORY, backend->exit_name, history_line, NULL);
	abi_log_dump(vp->lp);
}

static void log_segment(struct vp *vp, const char *name, enum vp_register which)
{
	union hv_register_value value = { 0 };

	backend->get_register(vp, which, &value);
	log_error("  %s %04x base %016llx limit %08x attributes %04x", name, value.segment.selector,
		  (unsigned long long)value.segment.base, value.segment.limit, value.segment.attributes);
}

static void log_table(struct vp *vp, const char *name, enum vp_register which)
{
	union hv_register_value value = { 0 };

	backend->get_register(vp, which, &value);
	log_error("  %s base %016llx limit %04x", name, (unsigned long long)value.table.base,
		  value.table.limit);
}

/* `names` in one line, four at most. */
static void log_registers(struct vp *vp, const char *const names[4], const enum vp_register which[4])
{
	char text[128] = "";
	size_t used = 0;

	for (int i = 0; i < 4 && names[i] && used < sizeof(text); i++) {
		union hv_register_value value = { 0 };

		backend->get_register(vp, which[i], &value);
		used += (size_t)snprintf(text + used, sizeof(text) - used, " %s %016llx", names[i],
					 (unsigned long long)value.reg64);
	}
	log_error(" %s", text);
}

void vp_log_state(struct vp *vp)
{
	static const char *const names[][4] = { { "rip", "rsp", "rflags" },
						{ "cr0", "cr2", "cr3", "cr4" },
						{ "cr8", "dr6", "dr7" },
						{ "pending event", "interrupt state" } };
	static const enum vp_register which[][4] = {
		{ VP_REGISTER_RIP, VP_REGISTER_RSP, VP_REGISTER_RFLAGS },
		{ VP_REGISTER_CR0, VP_REGISTER_CR2, VP_REGISTER_CR3, VP_REGISTER_CR4 },
		{ VP_REGISTER_CR8, VP_REGISTER_DR6, VP_REGISTER_DR7 },
		{ VP_REGISTER_PENDING_INTERRUPTION, VP_REGISTER_INTERRUPT_STATE },
	};
	static const char *const gprs[] = { "rax rcx rdx rbx", "- rbp rsi rdi", "r8-r11", "r12-r15" };
	uint64_t efer = 0;

	for (size_t i = 0; i < ARRAY_SIZE(which); i++)
		log_registers(vp, names[i], which[i]);
	backend->get_msr(vp, MSR_EFER, &efer);
	log_error("  efer %llx, interrupts in service up to %d, waiting up to %d, pending work %llx",
		  (unsigned long long)efer, vp->apic.isr_top, vp->apic.irr_top,
		  (unsigned long long)atomic_load(&vp->pending));
	for (unsigned int i = 0; i < 16; i += 4)
		log_error("  %-15s %016llx %016llx %016llx %016llx", gprs[i / 4],
			  (unsigned long long)vp->gpr[i], (unsigned long long)vp->gpr[i + 1],
			  (unsigned long long)vp->gpr[i + 2], (unsigned long long)vp->gpr[i + 3]);
	log_segment(vp, "cs  ", VP_REGISTER_CS);
	log_segment(vp, "ss  ", VP_REGISTER_SS);
	log_segment(vp, "fs  ", VP_REGISTER_FS);
	log_segment(vp, "gs  ", VP_REGISTER_GS);
	log_segment(vp, "tr  ", VP_REGISTER_TR);
	log_table(vp, "idtr", VP_REGISTER_IDTR);
	log_table(vp, "gdtr", VP_REGISTER_GDTR);
}

static void begin(const char *text)
{
	struct lp *lp;

	if (atomic_exchange(&panicking, 1))
		panic_halt(); /* another LP, or a panic within this one */
	log_enter_panic();
	console_take_back();
	lp = current_lp();
	log_error("panic: %s", text);
	if (lp && lp->vp)
		log_error("lp%u (apic id %u), running vp%u, guest rip %016llx", lp->index, lp->apic_id,
			  lp->vp->index, (unsigned long long)(lp->vp->control ? backend->rip(lp->vp) : 0));
}

static _Noreturn void finish(uint64_t frame)
{
	struct lp *lp = current_lp();

	print_back_trace(frame);
	if (lp && lp->vp) {
		vp_log_history(lp->vp);
		/* Others stop at this NMI or at their next exit's. */
		lapic_icr(&lp->lapic, 0, LAPIC_ICR_NMI | LAPIC_ICR_ASSERT | LAPIC_ICR_OTHERS);
	}
	log_error("Trivet stopped. Please report the lines above.");
	panic_halt();
}

noreturn void panic(const char *fmt, ...)
{
	char text[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	begin(text);
	finish((uint64_t)__builtin_frame_address(0));
}

_Noreturn void panic_trap(const struct trap_frame *f, const char *what)
{
	uint64_t cr2, cr3;
	char text[80];

	__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
	__asm__ volatile("movq %%cr3, %0" : "=r"(cr3));
	snprintf(text, sizeof(text), "%s in the hypervisor, error code 0x%llx", what,
		 (unsigned long long)f->error_code);
	begin(text);
	print_address("rip", f->rip);
	log_error("  rax %016llx rbx %016llx rcx %016llx rdx %016llx", (unsigned long long)f->rax,
		  (unsigned long long)f->rbx, (unsigned long long)f->rcx, (unsigned long long)f->rdx);
	log_error("  rsi %016llx rdi %016llx rbp %016llx rsp %016llx", (unsigned long long)f->rsi,
		  (unsigned long long)f->rdi, (unsigned long long)f->rbp, (unsigned long long)f->rsp);
	log_error("  r8  %016llx r9  %016llx r10 %016llx r11 %016llx", (unsigned long long)f->r8,
		  (unsigned long long)f->r9, (unsigned long long)f->r10, (unsigned long long)f->r11);
	log_error("  r12 %016llx r13 %016llx r14 %016llx r15 %016llx", (unsigned long long)f->r12,
		  (unsigned long long)f->r13, (unsigned long long)f->r14, (unsigned long long)f->r15);
	log_error("  cr2 %016llx cr3 %016llx rflags %08llx", (unsigned long long)cr2, (unsigned long long)cr3,
		  (unsigned long long)f->rflags);
	finish(f->rbp);
}
