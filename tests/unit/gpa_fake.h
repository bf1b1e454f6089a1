/* SPDX-License-Identifier: MIT */
/*
 * A machine of memory for tests of children's GPA spaces: a block that is the hypervisor's, RAM in a window, a root that has all of it, and a
 * child that lives on deposits. All that is faked is the processors.
 */
#ifndef TESTS_UNIT_GPA_FAKE_H
#define TESTS_UNIT_GPA_FAKE_H

#include "memory_fake.h"
#include "window_fake.h"

#include <stdio.h>

#include <hv/memory.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/flush.h>
#include <trivet/gpa_space.h>
#include <trivet/guest_access.h>
#include <trivet/hypercall.h>
#include <trivet/page_use.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

#include "../../svm/npt.h"
#include "../../vmx/ept.h"

#define DEVICE_PAGE 0xd0000ull
#define NEW_DEVICE_PAGE 0x900000ull /* that the root hasn't touched */
#define DEPOSIT_FIRST (RAM_FIRST + 3072)
#define GPA_BITS 40u

static struct partition root, child;
static struct vp caller, child_vp, *child_vps[1] = { &child_vp };
static struct vp_child child_vp_own;
static struct lp lps[2];
static _Thread_local struct lp *current_lp;
static uint8_t call_pages[2 * PAGE_SIZE] __attribute__((aligned(8)));
static unsigned int flushes;
static void (*on_flush)(void);

bool host_memory_is_ram(hpa_t hpa, uint64_t size)
{
	return hpa.v >= RAM_FIRST << PAGE_SHIFT && hpa.v + size <= host_memory_end();
}

bool host_memory_is_ours(hpa_t hpa, uint64_t size)
{
	return hpa.v + size > ARENA_HPA && hpa.v < ARENA_HPA + ARENA_PAGES * PAGE_SIZE;
}

bool host_memory_clip_to_devices(hpa_t hpa, uint64_t *start, uint64_t *end)
{
	(void)start;
	if (hpa.v < host_memory_end() && *end > RAM_FIRST << PAGE_SHIFT)
		*end = RAM_FIRST << PAGE_SHIFT;
	return !host_memory_is_ram(hpa, 1);
}

static uint8_t *in_window(uint64_t hpa, size_t size)
{
	return host_memory_is_ram(HPA(hpa), size) ? ram + (hpa - (RAM_FIRST << PAGE_SHIFT)) : NULL;
}

struct lp *this_lp(void)
{
	return current_lp;
}

/* All processors at once. */
void flush_and_reclaim(struct partition *of, struct vp *self)
{
	(void)self;
	if (on_flush)
		on_flush();
	spin_lock(&of->space_lock);
	flushes += ss_needs_flush(&of->space);
	ss_note_flush(&of->space, of->space.generation);
	ss_reclaim(&of->space);
	spin_unlock(&of->space_lock);
}

struct partition *partition_authority(struct vp *by, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_ptr_equal(by, &caller);
	(void)privilege;
	*status = id <= 2 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARTITION_ID;
	return id == 1 ? &root : id == 2 ? &child : NULL;
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

static uint64_t ss_flags_of_machine;

static uint64_t fake_ss_flags(bool of_child)
{
	assert_true(of_child);
	return ss_flags_of_machine;
}

static hpa_t no_apic_page(void)
{
	return HPA(0);
}

static struct backend fake = {
	.memory_type = one_type,
	.ss_flags = fake_ss_flags,
	.apic_page = no_apic_page,
};
const struct backend *backend = &fake;

static void deposit(uint64_t first, uint32_t count)
{
	uint64_t list[511];

	for (uint32_t i = 0; i < count; i++)
		list[i] = first + i;
	assert_int_equal(deposit_pages(&child, &caller, list, count), HV_STATUS_SUCCESS);
}

static void begin(bool ept, uint32_t deposits)
{
	fake.ss_format = ept ? &ss_format_ept : &ss_format_npt;
	ss_flags_of_machine = SS_1G_PAGES | SS_ACCESS_BITS;
	memory_begin();
	memset(&root, 0, sizeof(root));
	memset(&child, 0, sizeof(child));
	memset(&child_vp, 0, sizeof(child_vp));
	root.id = 1;
	root.hv = true;
	root.pages = &host_pages;
	root.space_lock = child.space_lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_PARTITION);
	child.deposits.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_DEPOSIT);
	child.id = 2;
	child.parent = &root;
	child.vps = child_vps;
	child.vp_count = 1;
	child.properties.creation_flags = HV_CREATE_PARTITION_LAPIC;
	atomic_store(&child.state, PARTITION_ACTIVE);
	caller = (struct vp){ .partition = &root, .lp = &lps[0] };
	lps[0].call_pages = call_pages;
	memset(&child_vp_own, 0, sizeof(child_vp_own));
	child_vp.child = &child_vp_own;
	child_vp.partition = &child;
	child_vp.lp = &lps[1];
	current_lp = &lps[0];
	assert_int_equal(ss_init(&root.space, fake.ss_format, &host_pages, SS_1G_PAGES), 0);
	assert_int_equal(ss_map(&root.space, GPA(0), HPA(0), 0xfee00000, SS_RWX, 0), 0);
	assert_int_equal(
		ss_map(&root.space, GPA(0xfee01000), HPA(0xfee01000), 0x100000000 - 0xfee01000, SS_RWX, 0),
		0);
	overlay_space_init(&root, GPA_BITS, true, NULL);
	assert_int_equal(page_use_init(), 0);
	deposit_source_init(&child);
	on_flush = NULL;
	if (deposits)
		deposit(DEPOSIT_FIRST, deposits);
	assert_int_equal(gpa_space_init(&child, GPA_BITS), deposits ? 0 : -ENOMEM);
	flushes = 0;
}

/* Every page is back where it came from, and serves nothing. */
static void end(void)
{
	uint64_t out[511];
	uint32_t count;

	atomic_store(&child.state, PARTITION_FINALIZED);
	while (!gpa_space_destroy(&child, &caller))
		;
	assert_true(gpa_space_destroy(&child, &caller));
	overlay_destroy(&child.hypercall_page);
	assert_int_equal(child.deposits.used_pages, 0);
	while ((count = deposit_withdraw(&child, &caller, out, 500)))
		;
	for (uint64_t page = RAM_FIRST; page < RAM_FIRST + RAM_PAGES; page++) {
		assert_int_equal(page_use_mappings(page), 0);
		assert_false(page_use_is_deposited(page));
		assert_true(ss_lookup(&root.space, GPA(page << PAGE_SHIFT), NULL));
	}
	memory_end();
}

/* ---- Calls, made as the dispatcher makes them: in passes ---- */

static uint16_t reps_done;
static uint8_t states[PAGE_SIZE];

static uint16_t make_call(hypercall_handler handler, const void *input, const uint64_t *list, uint32_t reps,
			  uint32_t batch)
{
	uint16_t status = HV_STATUS_SUCCESS;

	reps_done = 0;
	while (reps_done < reps && !status) {
		uint16_t stop = (uint16_t)(reps - reps_done > batch ? reps_done + batch : reps);
		struct hypercall call = {
			.vp = &caller,
			.partition = &root,
			.rep_start = reps_done,
			.rep_count = stop,
			.reps_done = reps_done,
			.input = input,
			.rep_input = list,
			.output = call_pages + PAGE_SIZE,
			.rep_output = call_pages + PAGE_SIZE,
		};

		status = handler(&call);
		memcpy(states + reps_done, call_pages + PAGE_SIZE + reps_done, call.reps_done - reps_done);
		assert_true(status || call.reps_done > reps_done);
		assert_in_range(call.reps_done, reps_done, stop);
		reps_done = call.reps_done;
	}
	return status;
}

#define RW (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)
#define ALL (RW | HV_MAP_GPA_EXECUTABLE)

static uint16_t map_list(uint64_t gpn, const uint64_t *list, uint32_t reps, uint32_t flags)
{
	const struct hv_input_map_gpa_pages in = { .partition_id = 2, .gpn = gpn, .map_flags = flags };

	return make_call(hypercall_map_gpa_pages, &in, list, reps, 128);
}

/* Pages that follow each other, `step` apart. */
__attribute__((unused)) static uint16_t map_from(uint64_t gpn, uint64_t page, uint32_t reps, uint32_t flags)
{
	static uint64_t list[512];
	uint64_t step = flags & HV_MAP_GPA_LARGE_PAGE ? 512 : 1;

	for (uint32_t i = 0; i < reps; i++)
		list[i] = flags & HV_MAP_GPA_NO_ACCESS ? 0 : page + i * step;
	return map_list(gpn, list, reps, flags);
}

__attribute__((unused)) static uint16_t unmap(uint64_t gpn, uint32_t reps, uint32_t flags)
{
	const struct hv_input_unmap_gpa_pages in = { .partition_id = 2, .gpn = gpn, .unmap_flags = flags };

	return make_call(hypercall_unmap_gpa_pages, &in, NULL, reps, 128);
}

__attribute__((unused)) static uint16_t get_states(uint64_t gpn, uint32_t reps, uint64_t flags)
{
	const struct hv_input_get_gpa_pages_access_states in = { .partition_id = 2,
								 .flags = flags,
								 .gpn = gpn };

	return make_call(hypercall_get_gpa_pages_access_states, &in, NULL, reps, 256);
}

#endif
