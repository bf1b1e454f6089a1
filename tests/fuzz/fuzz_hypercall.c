/* fuzz: */
/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's interface under a hostile root with up to four processors, and its children: hypercalls, synthetic MSRs, messages, timers,
 * interrupts, overlay pages, memory that is deposited and withdrawn. An input is a sequence of what its VPs do; all of core/ that
 * has to do with it is linked as it is (ABI_SOURCES in scripts/tests.mk), on the machine of abi_machine.h. After each step the
 * rules of abi_checks.h must hold; at the end everything is undone and every page must be back.
 */
/* Has a memory of its own, of the machine: so it is of this file, which can make it forget. */
#include "../../core/calls_system.c"
/* Its table is what children ask for. */
#include "../../core/guest_msrs.c"

#include "abi_vmm.h"

#include <hv/synic.h>
#include <trivet/hv_msr.h>
#include <time.h>

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

#define STEPS_MAX 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- The other things a guest does ---- */

static void step_msr(struct input *in, struct vp *vp, bool writes)
{
	uint32_t msr = take_msr(in);
	uint64_t old = 0, value = 0, after;
	bool readable = vp_msr_read(vp, msr, &old) == 0;
	bool keeps = is_page_msr(msr) || (msr >= HV_MSR_SINT0 && msr <= HV_MSR_SINT15);

	if (!readable && hv_msr_is_synthetic(msr))
		hv_msr_note_refusal(vp, false, msr, 0);
	if (!writes)
		return;
	value = take_msr_value(in, msr, old, last_time_100ns);
	if (vp_msr_write(vp, msr, value) == 0) {
		if (is_page_msr(msr) && (value & 1) && msr != HV_MSR_HYPERCALL)
			CHECK(vp_msr_read(vp, msr, &after) == 0 && after == value);
		return;
	}
	if (hv_msr_is_synthetic(msr))
		hv_msr_note_refusal(vp, true, msr, value);
	if (readable && keeps) /* what is refused changes nothing */
		CHECK(vp_msr_read(vp, msr, &after) == 0 && after == old);
}

/* The end of an interrupt, by way of the assist page if it may be. */
static void step_eoi(struct vp *vp)
{
	uint8_t *word =
		overlay_enabled(&vp->assist.page) ? guest_pointer(overlay_gpa(vp, 2), SS_WRITE) : NULL;

	if (word && (word[0] & 1))
		word[0] &= (uint8_t)~1u;
	else
		vp_msr_write(vp, HV_MSR_EOI, 0);
}

/* A slot of the message page is freed, as TLFS wants it, or whatever the guest likes is written there. */
static void step_slot(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);
	uint64_t at = overlay_gpa(vp, 3) + (byte & 15u) * sizeof(struct hv_message);
	const uint32_t none = HV_MESSAGE_NONE;

	if (byte < 0xc0) {
		guest_store(at, &none, sizeof(none));
		if (byte & 0x10)
			vp_msr_write(vp, HV_MSR_EOM, 0);
	} else {
		uint64_t wild = take64(in);

		guest_store(at + (byte & 0x30u), &wild, sizeof(wild));
	}
}

static void step_store(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);
	uint64_t gpa = byte & 0x80 ? (uint64_t)(byte & 63u) << PAGE_SHIFT : overlay_gpa(vp, byte);
	uint64_t value;

	gpa += (take8(in) * 16u) & (PAGE_SIZE - 8);
	value = byte & 0x40 ? take64(in) : take8(in);
	guest_store(gpa, &value, sizeof(value));
}

/* A VP touches what isn't there, or the local APIC's page, whose instruction is fetched and decoded. */
static void step_fault(struct input *in, struct vp *vp)
{
	static const uint8_t code[][8] = {
		{ 0x89, 0x01 },				/* mov %eax, (%rcx) */
		{ 0x8b, 0x01 },				/* mov (%rcx), %eax */
		{ 0xc7, 0x01, 0xff, 0x01, 0x00, 0x00 }, /* movl $0x1ff, (%rcx) */
		{ 0x0f, 0xb1, 0x01 },			/* cmpxchg: not for devices */
	};
	uint8_t byte = take8(in);
	uint64_t gpa =
		byte & 0x80 ? APIC_BASE_DEFAULT + (byte & 0x3fu) * 0x10u : (uint64_t)byte << (take8(in) & 63);

	if (byte & 0x80) {
		guest_store(0x7000, code[byte >> 6 & 1 ? take8(in) % 4 : 0], sizeof(code[0]));
		state_of(vp)->registers[VP_REGISTER_RIP].reg64 = 0x5000;
		vp->gpr[GPR_RAX] = take64(in);
	}
	root_second_stage_fault(vp, GPA(gpa), byte & 1, (byte & 7) == 6);
}

/* As a guest that goes down, whatever it may: nothing of the SynIC's is left on. Without memory a page may have to stay. */
static void step_shutdown(struct vp *vp)
{
	static const uint32_t pages[] = { HV_MSR_SIMP, HV_MSR_SIEFP, HV_MSR_SIRBP };
	uint64_t value;

	for (uint32_t i = 0; i < HV_STIMER_COUNT; i++)
		CHECK(stimer_write_config(vp, HV_MSR_STIMER0_CONFIG + 2 * i, 0) == 0);
	for (uint32_t i = 0; i < ARRAY_SIZE(pages); i++) {
		CHECK(synic_read_page(vp, pages[i], &value) == 0);
		CHECK(synic_write_page(vp, pages[i], value & ~1ull) == 0 || memory_was_short);
	}
	CHECK(synic_write_control(vp, HV_MSR_SCONTROL, 0) == 0);
}

static void step_of_machine(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);

	switch (byte % 8) {
	case 0:
	case 1: /* a device's interrupt */
		raise_vector(vp->lp, (uint8_t)(0x20 + byte / 2), byte & 1);
		lp_handle_interrupts(vp->lp);
		return;
	case 2: /* memory is short */
		page_pool_fail_nth(&host_pool, 1 + (byte >> 4));
		return;
	case 3:
		step_shutdown(vp);
		return;
	case 4:
		memory_type_of_machine = options.posted ? (byte >> 4) % 7 : 0;
		root_memory_types_changed(vp);
		return;
	case 5:
		vp->gpr[GPR_RAX] = HV_CPUID_BASE + (byte >> 3);
		hv_cpuid_read(vp);
		return;
	case 6:
		statistics_tick();
		return;
	default:
		vp_send_init(root_partition.vps[(byte >> 3) % root_partition.vp_count]);
		vp_send_sipi(root_partition.vps[(byte >> 3) % root_partition.vp_count], byte);
		return;
	}
}

static void step(struct input *in)
{
	uint8_t what = take8(in);
	struct vp *vp = root_partition.vps[(what >> 6) % root_partition.vp_count];

	if (!enter(vp, what & 0x20)) {
		let_time_pass(1000);
		return;
	}
	switch (what & 0x1f) {
	default:
		step_hypercall(in, vp);
		break;
	case 16:
		step_msr(in, vp, false);
		break;
	case 17:
	case 18:
	case 19:
	case 20:
		step_msr(in, vp, true);
		break;
	case 21:
		step_eoi(vp);
		break;
	case 22:
	case 23:
		step_slot(in, vp);
		break;
	case 24:
		step_store(in, vp);
		break;
	case 25:
		step_fault(in, vp);
		break;
	case 26:
		step_of_machine(in, vp);
		break;
	case 29:
	case 30:
	case 31:
		step_vmm(in, vp);
		break;
	case 27:
	case 28:
		let_time_pass((uint64_t)take8(in) << (take8(in) & 31));
		break;
	}
	if (vp->state == VP_RUNNING && !(atomic_load(&vp->pending) & (VP_PENDING_INIT | VP_PENDING_SIPI)))
		others_take_their_turns(in, vp);
	leave(vp);
	check_step(vp);
}

/* ---- Beginning and end ---- */

/* As Linux sets its processors up: most inputs would never get to messages otherwise. */
static void set_up_guest(bool synic)
{
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		struct vp *vp = root_partition.vps[i];
		uint64_t value;

		if (!enter(vp, false))
			continue;
		CHECK(vp_msr_write(vp, HV_MSR_GUEST_OS_ID, 0x8100ull << 48) == 0);
		for (uint32_t msr = HV_MSR_FIRST; synic && msr <= HV_MSR_SIRBP; msr++)
			if (is_page_msr(msr))
				CHECK(vp_msr_read(vp, msr, &value) == 0 &&
				      vp_msr_write(vp, msr, value | 1) == 0);
		CHECK(vp_msr_write(vp, HV_MSR_SCONTROL, synic) == 0);
		for (uint32_t sint = 0; synic && sint < 4; sint++)
			CHECK(vp_msr_write(vp, HV_MSR_SINT0 + sint, 0x30 + 0x10 * sint) == 0);
		leave(vp);
	}
}

/* A child to begin with: what a short input does is then about it. */
static void set_up_child(struct input *in)
{
	struct vp *vp = root_partition.vps[0];

	if (!enter(vp, false))
		return;
	vmm_makes_child(in, vp);
	leave(vp);
}

static void undo_deposits(struct vp *vp)
{
	uint64_t pages[RAM_PAGES];

	statistics_unmap(vp, &statistics_hypervisor);
	statistics_unmap(vp, &root_partition.statistics.object);
	for (uint32_t i = 0; i < lp_count; i++) {
		statistics_unmap(vp, &lp_table[i]->statistics);
		statistics_unmap(vp, &root_partition.vps[i]->statistics);
	}
	page_pool_fail_nth(&host_pool, 0);
	while (deposit_withdraw(&root_partition, vp, pages, ARRAY_SIZE(pages)))
		;
}

/* Everything goes: what is left is what was there at the beginning. */
static void finish(void)
{
	page_pool_fail_nth(&host_pool, 0);
	if (options.logged)
		abi_log_dump(current_lp);
	current_lp = root_partition.vps[0]->lp;
	machine_of(current_lp)->in_hypervisor = true;
	flush_idle_end(root_partition.vps[0]);
	delete_children(root_partition.vps[0]);
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		struct vp *vp = root_partition.vps[i];

		current_lp = vp->lp;
		machine_of(current_lp)->in_hypervisor = true;
		flush_idle_end(vp);
		step_shutdown(vp);
		CHECK(vp_unmap_overlays(vp, vp) || memory_was_short);
		if (i == 0)
			undo_deposits(vp);
		take_flush(vp);
		atomic_store(&vp->idle, true);
	}
	check_all();
	if (!memory_was_short)
		CHECK(!root_partition.deposits.free_pages && !root_partition.deposits.used_pages);
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		struct vp *vp = root_partition.vps[i];

		synic_destroy(vp);
		overlay_destroy(&vp->assist.page);
	}
	port_space_destroy(&root_partition);
	CHECK(port_pages() == 0);
	pages_at_start -= OVERLAYS_OF_VP * root_partition.vp_count;
	CHECK(used_pages() == pages_at_start + owned_pages() + leaves_made_since());
	ss_destroy(&root_partition.space);
	CHECK(used_pages() == pages_at_start + leaves_made_since());
	page_pool_check(&host_pool);
}

/* For scripts/run-fuzz.py, in processor time. */
static __attribute__((destructor)) void report(void)
{
	struct timespec spent;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	fprintf(stderr, "stat::hypercalls:               %llu\n", (unsigned long long)hypercalls);
	fprintf(stderr, "stat::children:                 %llu\nstat::child_steps:              %llu\n",
		(unsigned long long)children_made, (unsigned long long)child_steps);
	fprintf(stderr, "stat::hypercalls_per_s:         %.0f\n",
		(double)hypercalls / ((double)spent.tv_sec + (double)spent.tv_nsec / 1e9));
}

static struct machine_options take_options(struct input *in)
{
	uint8_t byte = take8(in), more = take8(in);

	return (struct machine_options){
		.lps = (uint8_t)(1 + (byte & 3)),
		.apic_page = (more & 0x03) == 3,
		.posted = (more & 0x0c) == 0x0c,
		.tsc_adjust = byte & 0x10,
		.deadline_timer = byte & 0x20,
		.offline = byte & 0x40,
		.racing = (more & 0x30) == 0x30,
		.logged = (more & 0xc0) == 0xc0,
		.fewer = (more & 0xc0) == 0x80,
	};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct machine_options wanted = take_options(&in);
	volatile bool has_synic = data && size && data[0] & 0x80;
	volatile bool has_child = data && size && data[0] & 0x08;

	machine_start(&wanted);
	atomic_store(&s5_types, 0);
	atomic_store(&sleep_states_locked, false);
	checks_start();
	set_up_guest(has_synic);
	if (wanted.fewer) {
		root_partition.privileges &= take64(&in);
		root_partition.features &= (uint32_t)take64(&in);
		hv_msr_offer(&root_partition);
	}
	if (setjmp(end_of_machine)) { /* reset or switched off */
		check_pages();
		forget_children();
		return 0;
	}
	if (has_child)
		set_up_child(&in);
	for (unsigned int steps = 0; in.left && steps < STEPS_MAX; steps++) {
		step(&in);
		if (steps % 64 == 63)
			check_all();
	}
	finish();
	return 0;
}

#pragma clang attribute pop
