/* SPDX-License-Identifier: MIT */
/*
 * The machine under the hypervisor's core, for the fuzzing of its interface: memory, local APICs, TSCs, and a back end that keeps
 * registers in an array. Everything above is the real thing. Processors take turns: one is in the hypervisor, the others run
 * guest code, which an interrupt from the first one makes them leave for a moment.
 */
#ifndef TRIVET_TESTS_ABI_MACHINE_H
#define TRIVET_TESTS_ABI_MACHINE_H

#include "abi_processors.h"

#include "../../svm/npt.h"
#include "../../vmx/ept.h"

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

/* ---- The back end ---- */

static uint64_t fake_ss_flags(bool of_child)
{
	(void)of_child;
	return SS_1G_PAGES;
}

static unsigned int fake_phys_bits(void)
{
	return PHYS_BITS;
}

static void *apic_access_page; /* made once, as by the back ends */

static hpa_t fake_apic_page(void)
{
	return apic_access_page ? hv_virt_to_phys(apic_access_page) : HPA(0);
}

static bool fake_reads_apic_page(void)
{
	return options.apic_page;
}

static const struct vp *borrowed; /* one at a time: nobody else does anything meanwhile */

/* Its registers may be touched now. */
static bool is_at_hand(const struct vp *vp)
{
	return (vp->lp == current_lp && machine_of(current_lp)->in_processor == vp) || vp == borrowed;
}

static void fake_mode_changed(struct vp *vp)
{
	CHECK(is_at_hand(vp));
}

static struct kept_state *state_of(const struct vp *vp)
{
	return vp->control;
}

static int fake_vp_create(struct vp *vp)
{
	if (partition_is_root(vp->partition))
		vp->control = &machine_of(vp->lp)->root_state;
	else
		vp->control = vp->partition->pages->alloc(vp->partition->pages);
	return vp->control ? 0 : -ENOMEM;
}

static void fake_vp_destroy(struct vp *vp)
{
	CHECK(!partition_is_root(vp->partition) && !atomic_load(&vp->loaded));
	if (vp->control)
		vp->partition->pages->free(vp->partition->pages, vp->control);
}

static void fake_vp_unload(struct vp *vp)
{
	CHECK(vp->lp == current_lp && machine_of(current_lp)->in_processor == vp);
	machine_of(current_lp)->in_processor = NULL;
}

static void fake_vp_load(struct vp *vp)
{
	CHECK(vp->lp == current_lp && !machine_of(current_lp)->in_processor);
	CHECK(machine_of(current_lp)->in_fpu == vp->fpu && vp != borrowed);
	machine_of(current_lp)->in_processor = vp;
	if (vp->child)
		intercepts_follow(vp);
}

static void fake_vp_borrow(struct vp *vp)
{
	CHECK(!borrowed && !atomic_load(&vp->loaded));
	borrowed = vp;
}

static void fake_vp_return(struct vp *vp)
{
	CHECK(borrowed == vp);
	borrowed = NULL;
}

static void fake_vp_reset(struct vp *vp)
{
	struct kept_state *at = state_of(vp);

	CHECK(is_at_hand(vp));
	memset(at->registers, 0, sizeof(at->registers));
	at->registers[VP_REGISTER_RFLAGS].reg64 = 2;
	at->efer = 0;
}

/* 64-bit mode on the page tables of reset_memory(). */
static void fake_vp_start(struct vp *vp, uint8_t vector)
{
	struct kept_state *at = state_of(vp);

	(void)vector;
	at->registers[VP_REGISTER_RFLAGS].reg64 = 0x202;
	at->registers[VP_REGISTER_CR0].reg64 = 0x80050033;
	at->registers[VP_REGISTER_CR3].reg64 = TABLES_PAGE * PAGE_SIZE;
	at->registers[VP_REGISTER_CR4].reg64 = 0x20;
	at->efer = 0xd01;
}

/* Something comes sooner or later: the timer, a device, an NMI, INIT and its start-up IPI. */
static void fake_lp_idle(struct lp *lp)
{
	struct machine_lp *at = machine_of(lp);

	CHECK(lp == current_lp && atomic_load(&lp->root_vp->idle));
	CHECK(idle_rounds < 32); /* a VP that nothing wakes */
	switch (idle_rounds++ % 5) {
	case 0:
		if (at->timer_tsc && at->timer_tsc - at->tsc_offset - now_tsc < BIT(40))
			now_tsc = at->timer_tsc - at->tsc_offset;
		if (at->timer_tsc && at->timer_tsc <= now_tsc + at->tsc_offset) {
			at->timer_tsc = 0;
			raise_vector(lp, HV_VECTOR_TIMER, false);
		}
		return;
	case 1:
		raise_vector(lp, 0x51, false);
		return;
	case 2:
		atomic_store(&lp->nmi_taken, 1);
		return;
	case 3:
		vp_post(lp->root_vp, VP_PENDING_INIT);
		return;
	default:
		vp_send_sipi(lp->root_vp, 9);
		return;
	}
}

static void fake_get_snapshot(struct vp *vp, struct vp_snapshot *snapshot)
{
	const union hv_register_value *r = state_of(vp)->registers;

	CHECK(is_at_hand(vp));
	*snapshot = (struct vp_snapshot){
		.rip = r[VP_REGISTER_RIP].reg64,
		.rflags = r[VP_REGISTER_RFLAGS].reg64,
		.cr0 = r[VP_REGISTER_CR0].reg64,
		.cr3 = r[VP_REGISTER_CR3].reg64,
		.cr4 = r[VP_REGISTER_CR4].reg64,
		.cr8 = r[VP_REGISTER_CR8].reg64,
		.efer = state_of(vp)->efer,
		.dr7 = r[VP_REGISTER_DR7].reg64,
		.cpl = r[VP_REGISTER_SS].segment.attributes >> 5 & 3,
	};
	for (unsigned int i = 0; i < 6; i++)
		snapshot->segment[i] = r[VP_REGISTER_ES + i].segment;
}

static void fake_get_context(struct vp *vp, struct vp_context *context)
{
	const struct kept_state *at = state_of(vp);
	const union hv_register_value *r = at->registers;

	CHECK(is_at_hand(vp));
	*context = (struct vp_context){
		.rip = r[VP_REGISTER_RIP].reg64,
		.rflags = r[VP_REGISTER_RFLAGS].reg64,
		.mode = at->efer & BIT(10) ? INSN_MODE_64 : INSN_MODE_32,
		.cpl = r[VP_REGISTER_SS].segment.attributes >> 5 & 3,
		.paging = { .cr0 = r[VP_REGISTER_CR0].reg64,
			    .cr3 = r[VP_REGISTER_CR3].reg64,
			    .cr4 = r[VP_REGISTER_CR4].reg64,
			    .efer = at->efer,
			    .rflags = r[VP_REGISTER_RFLAGS].reg64,
			    .maxphyaddr = PHYS_BITS,
			    .gbpages = true },
	};
	vp->gpr[GPR_RSP] = r[VP_REGISTER_RSP].reg64;
}

static void fake_set_context(struct vp *vp, const struct vp_context *context)
{
	struct kept_state *at = state_of(vp);

	CHECK(is_at_hand(vp));
	at->registers[VP_REGISTER_RIP].reg64 = context->rip;
	at->registers[VP_REGISTER_RFLAGS].reg64 = context->rflags;
	at->registers[VP_REGISTER_RSP].reg64 = vp->gpr[GPR_RSP];
}

static void fake_get_register(struct vp *vp, enum vp_register which, union hv_register_value *value)
{
	CHECK(is_at_hand(vp) && (unsigned int)which < VP_REGISTER_COUNT);
	*value = state_of(vp)->registers[which];
	if (which == VP_REGISTER_CR8)
		value->reg64 = apic_cr8(&vp->apic);
}

static int fake_set_register(struct vp *vp, enum vp_register which, const union hv_register_value *value)
{
	CHECK(is_at_hand(vp) && (unsigned int)which < VP_REGISTER_COUNT);
	if (which == VP_REGISTER_CR4 && value->reg64 >> 24)
		return -EINVAL;
	if (which == VP_REGISTER_CR8) {
		CHECK(value->reg64 < 16);
		apic_set_tpr(&vp->apic, (uint8_t)(value->reg64 << 4));
	}
	state_of(vp)->registers[which] = *value;
	vp_post_self(vp, VP_PENDING_EVENT | VP_PENDING_FLUSH);
	return 0;
}

static int fake_get_msr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	if (msr == 0xc0000080)
		*value = state_of(vp)->efer;
	else if (msr >> 16 == 0xc000)
		*value = state_of(vp)->msrs[msr % 8];
	else
		return vp_msr_read(vp, msr, value);
	return 0;
}

static int fake_set_msr(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (msr == 0xc0000080 && (value & ~0xd01ull))
		return -EINVAL;
	if (msr == 0xc0000080)
		state_of(vp)->efer = value;
	else if (msr >> 16 == 0xc000)
		state_of(vp)->msrs[msr % 8] = value;
	else
		return vp_msr_write(vp, msr, value);
	return 0;
}

static bool fake_can_run(struct vp *vp)
{
	const struct kept_state *at = state_of(vp);
	uint64_t cr0 = at->registers[VP_REGISTER_CR0].reg64, cr4 = at->registers[VP_REGISTER_CR4].reg64;

	return !(cr0 & BIT(31)) || !(at->efer & BIT(8)) || ((cr4 & BIT(5)) && (at->efer & BIT(10)));
}

static uint64_t fake_rip(const struct vp *vp)
{
	return state_of(vp)->registers[VP_REGISTER_RIP].reg64;
}

static const char *fake_exit_name(uint32_t code)
{
	(void)code;
	return "exit";
}

static enum exit_category fake_exit_category(uint32_t index)
{
	return (enum exit_category)(index % EXIT_CATEGORY_COUNT);
}

static unsigned int fake_memory_type(uint64_t start, uint64_t *end)
{
	(void)start;
	(void)end;
	return memory_type_of_machine;
}

static struct backend fake_backend = {
	.name = "fake",
	.ss_flags = fake_ss_flags,
	.phys_bits = fake_phys_bits,
	.hypercall_code = { 0x0f, 0x01, 0xd9, 0xc3 },
	.apic_page = fake_apic_page,
	.reads_apic_page = fake_reads_apic_page,
	.apic_mode_changed = fake_mode_changed,
	.vp_create = fake_vp_create,
	.vp_destroy = fake_vp_destroy,
	.vp_unload = fake_vp_unload,
	.vp_load = fake_vp_load,
	.vp_borrow = fake_vp_borrow,
	.vp_return = fake_vp_return,
	.vp_reset = fake_vp_reset,
	.vp_start = fake_vp_start,
	.lp_idle = fake_lp_idle,
	.get_snapshot = fake_get_snapshot,
	.get_context = fake_get_context,
	.set_context = fake_set_context,
	.get_register = fake_get_register,
	.set_register = fake_set_register,
	.get_msr = fake_get_msr,
	.set_msr = fake_set_msr,
	.can_run = fake_can_run,
	.rip = fake_rip,
	.exit_name = fake_exit_name,
	.exit_category = fake_exit_category,
	.memory_type = fake_memory_type,
};
const struct backend *backend = &fake_backend;

/* The end of the machine, and of the input. */
_Noreturn void machine_reset(void)
{
	longjmp(end_of_machine, 1);
}

_Noreturn void machine_power_off(uint8_t pm1a_slp_typ, uint8_t pm1b_slp_typ)
{
	CHECK(pm1a_slp_typ <= 7 && pm1b_slp_typ <= 7);
	longjmp(end_of_machine, 1);
}

void panic(const char *format, ...)
{
	fail(format);
}

/* ---- Turns ---- */

/* Before an entry: the TLB is empty. */
static void take_flush(struct vp *vp)
{
	flush_taken(vp);
	machine_of(vp->lp)->tlb_generation = root_partition.space.generation;
}

/* A kick, or another physical interrupt: guest mode ends, what can't wait is done, and the guest goes on. */
static void leave_guest(struct lp *lp)
{
	struct lp *before = current_lp;
	struct machine_lp *at = machine_of(lp);

	if (at->in_hypervisor || atomic_load(&lp->state) != LP_ONLINE)
		return;
	at->in_hypervisor = true;
	current_lp = lp;
	do { /* what it does may make others send it a kick */
		lp_handle_interrupts(lp);
	} while (lp->acked[0] | lp->acked[1] | lp->acked[2] | lp->acked[3]);
	if (lp->root_vp->state == VP_RUNNING && (atomic_load(&lp->root_vp->pending) & VP_PENDING_FLUSH))
		take_flush(lp->root_vp);
	current_lp = before;
	at->in_hypervisor = false;
}

/* A started processor comes in, as core/main.c and core/lp_apic.c have it do. */
static void bring_in(struct lp *lp)
{
	struct apic_config config = {
		.apic_id = lp->apic_id,
		.bsp = lp->index == 0,
		.x2apic = true,
		.tsc_deadline = options.deadline_timer,
		.page_read = options.apic_page,
		.arb_regs = !options.posted,
		.version = 0x14,
		.max_lvt = 6,
		.phys_bits = PHYS_BITS,
		.min_period_tsc = TSC_HZ / 20000,
	};

	CHECK(apic_clock_init(&config.clock, lp_apic_timer_hz(), TSC_HZ) == 0);
	CHECK(apic_init(&lp->root_vp->apic, &config, lp->root_vp->apic_page) == 0);
	schedule_init(lp);
	schedule_start(lp->root_vp);
	machine_of(lp)->in_processor = lp->root_vp;
	machine_of(lp)->in_fpu = lp->root_vp->fpu;
	machine_of(lp)->xcr0 = XCR0_OF_MACHINE;
	lp_tsc_start(lp);
	lp_timer_update(lp);
	lp_run_time_start(lp);
	vp_run_time_start(lp->root_vp);
	atomic_store(&lp->state, LP_ONLINE);
	flush_idle_end(lp->root_vp);
}

static void reset_memory(void)
{
	uint64_t *tables = (uint64_t *)(window + TABLES_PAGE * PAGE_SIZE);

	for (unsigned int i = 0; i < WINDOW_PAGES; i++) {
		if (window_dirty[i])
			memset(window + i * PAGE_SIZE, 0, PAGE_SIZE);
		window_dirty[i] = false;
	}
	/* A table of each level, with entries of every kind; the last one's are the window's pages and some that aren't there. */
	tables[0] = tables[511] = (TABLES_PAGE + 1) * PAGE_SIZE | 7;
	tables[512] = (TABLES_PAGE + 2) * PAGE_SIZE | 7;
	tables[513] = 0x87;
	tables[514] = 0x2087; /* reserved bits */
	tables[1024] = (TABLES_PAGE + 3) * PAGE_SIZE | 7;
	tables[1025] = 0x83;
	tables[1026] = BIT(38) | 7; /* a table where no memory is */
	for (uint64_t i = 0; i < 64; i++)
		tables[1536 + i] = i << PAGE_SHIFT | (i % 8 == 7 ? 0 : 1) | (i & 3) << 1 | (i & 16) << 59;
	for (unsigned int i = 0; i < 4; i++)
		window_dirty[TABLES_PAGE + i] = true;
}

static void reset_lps(void)
{
	static const uint32_t apic_ids[MACHINE_LPS] = { 0, 2, 5, 300 };

	lp_count = options.lps;
	for (uint32_t i = 0; i < lp_count; i++) {
		struct machine_lp *at = &machine[i];
		struct lp *lp = &at->lp;

		memset(at, 0, sizeof(*at));
		at->fx = (struct fx_area){ .fcw = 0x37f, .mxcsr = 0x1f80, .mxcsr_mask = 0xffff };
		at->apic_base = APIC_BASE_DEFAULT | APIC_BASE_EN | (i ? 0 : APIC_BASE_BSP);
		lp->self = lp;
		lp->index = i;
		lp->apic_id = apic_ids[i];
		lp->lapic.mmio = (volatile void *)((uintptr_t)(i + 1) << PAGE_SHIFT);
		lp->lapic.tsc_deadline = options.deadline_timer;
		lp->lapic.timer_mult = BIT(32);
		lp->timer_deadline_tsc = UINT64_MAX;
		lp_table[i] = lp;
	}
	current_lp = lp_table[0];
}

/* From power-on to a root that runs on all its processors, but for those that `offline` leaves to be started. */
static void machine_start(const struct machine_options *wanted)
{
	static uint8_t pristine[sizeof(struct partition)];
	static bool saved;
	struct boot_handoff handoff = {
		.hv_base = BLOCK_HPA,
		.hv_size = sizeof(block),
		.trampoline_hpa = wanted->offline ? TRAMPOLINE_PAGE * PAGE_SIZE : 0,
		.memory_map_offset = (uint64_t)memory_map - HV_VIRT_BASE,
		.memory_map_count = ARRAY_SIZE(memory_map),
		.root_interface = BOOT_ROOT_HV,
	};

	if (!saved)
		memcpy(pristine, &root_partition, sizeof(pristine));
	saved = true;
	memcpy(&root_partition, pristine, sizeof(pristine));
	options = *wanted;
	now_tsc = 1000000;
	memory_was_short = false;
	memory_type_of_machine = 0;
	lp_takes_posted = options.posted;
	fake_backend.ss_format = options.posted ? &ss_format_ept : &ss_format_npt;
	log_threshold = options.logged ? LOG_DEBUG : LOG_ERROR;
	atomic_store(&statistics_mapped, false);
	memset(&allowed, 0, sizeof(allowed));
	borrowed = NULL;
	sched_init(TSC_HZ);
	memset(dr, 0, sizeof(dr));
	extended_state_init();
	reset_memory();
	reset_lps();
	ASAN_UNPOISON_MEMORY_REGION(block, sizeof(block));
	CHECK(page_pool_init(&host_pool, block, BLOCK_PAGES) == 0);
	ASAN_POISON_MEMORY_REGION(host_pool.origin + host_pool.first_index * PAGE_SIZE,
				  (host_pool.end_index - host_pool.first_index) * PAGE_SIZE);
	apic_access_page = options.apic_page ? page_alloc(&host_pool, 0) : NULL;
	CHECK(root_init(&handoff) == 0);
	/* Behind the last VP there is nothing to be found. */
	for (uint32_t i = lp_count; i < PAGE_SIZE / sizeof(struct vp *); i++)
		root_partition.vps[i] = (struct vp *)0x100;
	for (uint32_t i = 0; i < lp_count; i++) {
		if (i && options.offline)
			continue;
		current_lp = lp_table[i];
		bring_in(current_lp);
		current_lp->root_vp->state = VP_RUNNING;
		fake_vp_start(current_lp->root_vp, 0);
		apic_mmio_write(&current_lp->root_vp->apic, APIC_REG_SVR, 4, 0x1ff);
	}
	current_lp = lp_table[0];
}

#pragma clang attribute pop

#endif
