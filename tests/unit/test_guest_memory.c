/* unit: core/guest_memory.c */
/* SPDX-License-Identifier: MIT */
/*
 * Guest physical memory for the hypervisor: a window that is an array, an overlay over it or beside it, and what was deposited, which the
 * window still shows and nobody may reach through it.
 */
#include "window_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <trivet/deposit.h>
#include <trivet/guest_access.h>
#include <trivet/host_memory.h>
#include <trivet/overlay.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define PAGES 4u
#define DEPOSITED 2u
#define OVERLAY_GPA (PAGES * PAGE_SIZE) /* where the window has nothing */

static uint8_t memory[PAGES * PAGE_SIZE];
static uint8_t overlay[PAGE_SIZE];
static uint64_t overlay_gpa;
static bool overlay_is_read_only;
static struct partition partition;
static struct vp vp;

static uint8_t *in_window(uint64_t gpa, size_t size)
{
	return gpa + size <= sizeof(memory) ? memory + gpa : NULL;
}

bool deposit_holds(uint64_t page)
{
	return page == DEPOSITED;
}

void *overlay_at(const struct partition *of, gpa_t gpa, bool write)
{
	assert_ptr_equal(of, &partition);
	if (gpa.v / PAGE_SIZE != overlay_gpa / PAGE_SIZE || (write && overlay_is_read_only))
		return NULL;
	return overlay + gpa.v % PAGE_SIZE;
}

/* A child's accesses: test_calls_gpa.c. Here there is only the root. */
struct lp *this_lp(void)
{
	abort();
}

bool ss_lookup(const struct second_stage *ss, gpa_t gpa, struct ss_mapping *out)
{
	(void)ss;
	(void)gpa;
	(void)out;
	abort();
}

void ss_mark_written(const struct second_stage *ss, gpa_t gpa)
{
	(void)ss;
	(void)gpa;
	abort();
}

bool host_memory_is_ours(hpa_t hpa, uint64_t size)
{
	(void)hpa;
	(void)size;
	abort();
}

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(memory); i++)
		memory[i] = (uint8_t)(i * 7);
	memset(overlay, 0xee, sizeof(overlay));
	memset(&partition, 0, sizeof(partition));
	partition.hv = true;
	vp.partition = &partition;
	overlay_gpa = OVERLAY_GPA;
	overlay_is_read_only = false;
	return 0;
}

static void every_size(void **state)
{
	uint8_t buf[64];

	(void)state;
	for (size_t size = 1; size <= sizeof(buf); size++) {
		const uint64_t gpa = PAGE_SIZE - size; /* up to the end of the page */
		uint8_t written[64];

		assert_true(guest_phys_read(&vp, GPA(gpa), buf, size));
		assert_memory_equal(buf, memory + gpa, size);
		for (size_t i = 0; i < size; i++)
			written[i] = (uint8_t)(size + i);
		assert_true(guest_phys_write(&vp, GPA(gpa), written, size));
		assert_memory_equal(memory + gpa, written, size);
		assert_int_equal(memory[PAGE_SIZE], (uint8_t)(PAGE_SIZE * 7));
	}
}

static void overlays(void **state)
{
	uint8_t buf[8];

	(void)state;
	assert_true(guest_phys_read(&vp, GPA(OVERLAY_GPA + 8), buf, sizeof(buf)));
	assert_int_equal(buf[0], 0xee);
	assert_false(guest_phys_read(&vp, GPA(OVERLAY_GPA + PAGE_SIZE), buf, sizeof(buf)));
	overlay_is_read_only = true;
	assert_false(guest_phys_write(&vp, GPA(OVERLAY_GPA), buf, sizeof(buf)));
	overlay_is_read_only = false;
	overlay_gpa = PAGE_SIZE; /* over memory */
	atomic_store(&partition.overlays.displaced, 1);
	assert_true(guest_phys_read(&vp, GPA(PAGE_SIZE), buf, sizeof(buf)));
	assert_int_equal(buf[0], 0xee);
	memset(buf, 1, sizeof(buf));
	assert_true(guest_phys_write(&vp, GPA(PAGE_SIZE), buf, sizeof(buf)));
	assert_int_equal(overlay[0], 1);
	assert_int_equal(memory[PAGE_SIZE], (uint8_t)(PAGE_SIZE * 7));
	overlay_is_read_only = true; /* what it covers is not written in its place */
	memset(buf, 2, sizeof(buf));
	assert_false(guest_phys_write(&vp, GPA(PAGE_SIZE), buf, sizeof(buf)));
	assert_int_equal(overlay[0], 1);
	assert_int_equal(memory[PAGE_SIZE], (uint8_t)(PAGE_SIZE * 7));
	partition.hv = false; /* without the interface there are none */
	atomic_store(&partition.overlays.displaced, 0);
	assert_false(guest_phys_read(&vp, GPA(OVERLAY_GPA), buf, sizeof(buf)));
}

static void what_was_deposited_is_nobodys(void **state)
{
	const uint64_t edges[] = { DEPOSITED * PAGE_SIZE, DEPOSITED * PAGE_SIZE + 0x800,
				   (DEPOSITED + 1) * PAGE_SIZE - 8 };
	uint8_t before[PAGE_SIZE], buf[16] = { 0 };

	(void)state;
	memcpy(before, memory + DEPOSITED * PAGE_SIZE, sizeof(before));
	for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
		uint64_t word = 5, in_memory;
		uint32_t half = 5;

		memcpy(&in_memory, memory + edges[i], sizeof(in_memory));
		for (size_t size = 1; size <= 8; size++) {
			assert_false(guest_phys_read(&vp, GPA(edges[i]), buf, size));
			assert_false(guest_phys_write(&vp, GPA(edges[i]), buf, size));
		}
		/* Nor as a page table. */
		assert_false(guest_phys_read64(&vp, GPA(edges[i]), &word));
		assert_false(guest_phys_read32(&vp, GPA(edges[i]), &half));
		assert_int_equal(guest_phys_exchange(&vp, GPA(edges[i]), 8, in_memory, 0), -EIO);
		assert_int_equal(guest_phys_exchange(&vp, GPA(edges[i]), 4, (uint32_t)in_memory, 0), -EIO);
		assert_int_equal(word, 5);
		assert_int_equal(half, 5);
	}
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0);
	assert_memory_equal(before, memory + DEPOSITED * PAGE_SIZE, sizeof(before));
	assert_true(guest_phys_read(&vp, GPA(DEPOSITED * PAGE_SIZE - 8), buf, 8));
	assert_true(guest_phys_read(&vp, GPA((DEPOSITED + 1) * PAGE_SIZE), buf, 8));
}

static void exchanges(void **state)
{
	uint64_t word;
	uint32_t half;

	(void)state;
	assert_true(guest_phys_read64(&vp, GPA(0x40), &word));
	assert_int_equal(guest_phys_exchange(&vp, GPA(0x40), 8, word, word | 0x20), 0);
	assert_int_equal(guest_phys_exchange(&vp, GPA(0x40), 8, word + 1, 0), -EAGAIN);
	assert_true(guest_phys_read32(&vp, GPA(0x40), &half));
	assert_int_equal(half, (uint32_t)(word | 0x20));
	assert_int_equal(guest_phys_exchange(&vp, GPA(0x40), 4, half, 1), 0);
	assert_int_equal(guest_phys_exchange(&vp, GPA(OVERLAY_GPA), 4, 0, 1), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(every_size, setup),
		cmocka_unit_test_setup(overlays, setup),
		cmocka_unit_test_setup(what_was_deposited_is_nobodys, setup),
		cmocka_unit_test_setup(exchanges, setup),
	};

	return cmocka_run_group_tests_name("guest physical memory", tests, NULL, NULL);
}
