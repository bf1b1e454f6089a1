/* unit: core/guest_access.c core/guest_walk.c */
/* SPDX-License-Identifier: MIT */
/* Reads and writes in the processor's place: what is copied where, which entries get accessed and dirty bits, who faults. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/guest_access.h>

#define MEMORY_BYTES 0x8000u
#define DIRECTORY 0x1000u
#define TABLE 0x2000u
#define PDPT 0x3000u
#define FRAME 0x4000u
#define OTHER_FRAME 0x6000u
#define LINEAR 0x00400000u /* its second directory entry, first of the table */
#define P 1u
#define W 2u
#define U 4u
#define A 0x20u
#define DIRTY 0x40u
#define CR0_PG BIT(31)
#define CR0_WP BIT(16)

static uint8_t memory[MEMORY_BYTES];
static unsigned int exchanges, losses; /* the first `losses` exchanges find the entry changed */
static uint64_t changed_to;
static struct guest_paging paging;
static struct guest_access_fault fault;

static bool inside(uint64_t gpa, size_t size)
{
	return gpa < MEMORY_BYTES && size <= MEMORY_BYTES - gpa;
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	assert_ptr_equal(space, memory);
	assert_true((gpa.v & (PAGE_SIZE - 1)) + size <= PAGE_SIZE);
	if (inside(gpa.v, size))
		memcpy(buf, memory + gpa.v, size);
	return inside(gpa.v, size);
}

bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value)
{
	return guest_phys_read(space, gpa, value, sizeof(*value));
}

bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value)
{
	return guest_phys_read(space, gpa, value, sizeof(*value));
}

bool guest_phys_write(void *space, gpa_t gpa, const void *buf, size_t size)
{
	assert_ptr_equal(space, memory);
	assert_true((gpa.v & (PAGE_SIZE - 1)) + size <= PAGE_SIZE);
	if (inside(gpa.v, size))
		memcpy(memory + gpa.v, buf, size);
	return inside(gpa.v, size);
}

int guest_phys_exchange(void *space, gpa_t gpa, uint32_t bytes, uint64_t old, uint64_t value)
{
	uint64_t now = 0;

	assert_ptr_equal(space, memory);
	assert_true(inside(gpa.v, bytes) && IS_ALIGNED(gpa.v, bytes));
	exchanges++;
	if (losses) {
		losses--;
		memcpy(memory + gpa.v, &changed_to, bytes);
		return -EAGAIN;
	}
	memcpy(&now, memory + gpa.v, bytes);
	assert_int_equal(now, old);
	memcpy(memory + gpa.v, &value, bytes);
	return 0;
}

static uint64_t get(uint32_t at, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, memory + at, bytes);
	return value;
}

static void put(uint32_t at, size_t bytes, uint64_t value)
{
	memcpy(memory + at, &value, bytes);
}

/* Three pages from LINEAR on: two present, of which the first lies behind the second, and none. */
static int setup(void **unused)
{
	(void)unused;
	memset(memory, 0, sizeof(memory));
	exchanges = losses = 0;
	paging = (struct guest_paging){ .cr0 = CR0_PG | CR0_WP, .cr3 = DIRECTORY, .maxphyaddr = 40 };
	fault = (struct guest_access_fault){ 0 };
	put(DIRECTORY + 4, 4, TABLE | P | W | U);
	put(TABLE, 4, (FRAME + PAGE_SIZE) | P | W);
	put(TABLE + 4, 4, FRAME | P | W);
	return 0;
}

static void test_read(void **unused)
{
	uint32_t value = 0;

	(void)unused;
	put(FRAME + PAGE_SIZE + 0xffe, 2, 0x2211);
	put(FRAME, 2, 0x4433);
	assert_int_equal(guest_read(&paging, memory, GVA(LINEAR + 0xffe), &value, 4, GUEST_IMPLICIT, &fault),
			 0);
	assert_int_equal(value, 0x44332211);
	assert_int_equal(get(DIRECTORY + 4, 4), TABLE | P | W | U | A);
	assert_int_equal(get(TABLE, 4), (FRAME + PAGE_SIZE) | P | W | A);
	assert_int_equal(get(TABLE + 4, 4), FRAME | P | W | A);
	assert_int_equal(exchanges, 3);
	/* Once is enough. */
	assert_int_equal(guest_read(&paging, memory, GVA(LINEAR), &value, 4, GUEST_IMPLICIT, &fault), 0);
	assert_int_equal(exchanges, 3);
	assert_int_equal(guest_read(&paging, memory, GVA(LINEAR), &value, 4, GUEST_USER, &fault), -EFAULT);
	assert_int_equal(fault.gva.v, LINEAR);
	assert_int_equal(fault.error_code, PF_PRESENT | PF_USER);
}

static void test_write(void **unused)
{
	uint32_t value = 0x44332211;

	(void)unused;
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR + 0xffd), &value, 4, GUEST_IMPLICIT, &fault),
			 0);
	assert_int_equal(get(FRAME + PAGE_SIZE + 0xffd, 3), 0x332211);
	assert_int_equal(get(FRAME, 2), 0x44);
	assert_int_equal(get(DIRECTORY + 4, 4),
			 TABLE | P | W | U | A); /* only the last entry has a dirty bit */
	assert_int_equal(get(TABLE, 4), (FRAME + PAGE_SIZE) | P | W | A | DIRTY);
	assert_int_equal(get(TABLE + 4, 4), FRAME | P | W | A | DIRTY);

	/* All or nothing, even where only the second page refuses; and then nothing is marked. */
	setup(NULL);
	assert_int_equal(
		guest_write(&paging, memory, GVA(LINEAR + 0x1ffe), &value, 4, GUEST_IMPLICIT, &fault),
		-EFAULT);
	assert_int_equal(fault.gva.v, LINEAR + 0x2000);
	assert_int_equal(fault.error_code, PF_WRITE);
	assert_int_equal(get(FRAME + 0xffe, 2), 0);
	assert_int_equal(exchanges, 0);
	put(TABLE, 4, FRAME | P);
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR), &value, 4, GUEST_IMPLICIT, &fault),
			 -EFAULT);
	assert_int_equal(fault.error_code, PF_PRESENT | PF_WRITE);
	assert_int_equal(get(FRAME, 4), 0);
}

static void test_probe(void **unused)
{
	(void)unused;
	assert_int_equal(guest_probe(&paging, memory, GVA(LINEAR + 1), 0x1fff, GUEST_WRITE, &fault), 0);
	assert_int_equal(guest_probe(&paging, memory, GVA(LINEAR + 1), 0x2000, GUEST_WRITE, &fault), -EFAULT);
	assert_int_equal(fault.gva.v, LINEAR + 0x2000);
	assert_int_equal(fault.error_code, PF_WRITE);
	assert_int_equal(guest_probe(&paging, memory, GVA(LINEAR + 0x2000), 0, GUEST_WRITE, &fault), 0);
	assert_int_equal(exchanges, 0);
}

/* The four top entries of PAE have no accessed bit; a large page's entry has the dirty bit. */
static void test_pae(void **unused)
{
	uint8_t value = 0x77;

	(void)unused;
	paging.cr4 = BIT(5);
	paging.cr3 = PDPT;
	put(PDPT, 8, DIRECTORY | P);
	put(DIRECTORY + 16, 8, TABLE | P | W);
	put(TABLE, 8, FRAME | P | W | BIT(40));
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR), &value, 1, 0, &fault), -EFAULT);
	assert_int_equal(fault.error_code, PF_PRESENT | PF_WRITE | PF_RESERVED);
	put(TABLE, 8, FRAME | P | W);
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR + 5), &value, 1, 0, &fault), 0);
	assert_int_equal(get(PDPT, 8), DIRECTORY | P);
	assert_int_equal(get(DIRECTORY + 16, 8), TABLE | P | W | A);
	assert_int_equal(get(TABLE, 8), FRAME | P | W | A | DIRTY);
	assert_int_equal(memory[FRAME + 5], 0x77);
	put(DIRECTORY + 16, 8, 0 | P | W | 0x80);
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR + FRAME + 6), &value, 1, 0, &fault), 0);
	assert_int_equal(get(DIRECTORY + 16, 8), P | W | 0x80 | A | DIRTY);
	assert_int_equal(memory[FRAME + 6], 0x77);
}

/* Another processor moves the page while it is being marked: the write goes where it is now. */
static void test_race(void **unused)
{
	uint8_t value = 0x77;

	(void)unused;
	put(DIRECTORY + 4, 4, TABLE | P | W | U | A);
	losses = 1;
	changed_to = OTHER_FRAME | P | W;
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR), &value, 1, 0, &fault), 0);
	assert_int_equal(memory[FRAME + PAGE_SIZE], 0);
	assert_int_equal(memory[OTHER_FRAME], 0x77);
	assert_int_equal(get(TABLE, 4), OTHER_FRAME | P | W | A | DIRTY);

	/* ... or takes it away. */
	setup(NULL);
	put(DIRECTORY + 4, 4, TABLE | P | W | U | A);
	losses = 1;
	changed_to = 0;
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR), &value, 1, 0, &fault), -EFAULT);
	assert_int_equal(get(TABLE, 4), 0);

	/* A guest that never stops doing so is left alone. */
	setup(NULL);
	put(DIRECTORY + 4, 4, TABLE | P | W | U | A);
	losses = 1000;
	changed_to = OTHER_FRAME | P | W;
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR), &value, 1, 0, &fault), -EIO);
	assert_true(exchanges < 100);
	assert_int_equal(memory[OTHER_FRAME], 0);
}

static void test_no_memory(void **unused)
{
	uint8_t value = 0x77;

	(void)unused;
	put(TABLE, 4, 0x100000 | P | W);
	assert_int_equal(guest_write(&paging, memory, GVA(LINEAR), &value, 1, 0, &fault), -EIO);
	assert_int_equal(guest_read(&paging, memory, GVA(LINEAR), &value, 1, 0, &fault), -EIO);
	put(DIRECTORY + 4, 4, 0x100000 | P | W);
	assert_int_equal(guest_probe(&paging, memory, GVA(LINEAR), 1, 0, &fault), -EIO);
	/* Without paging addresses are physical, and there is nothing to mark. */
	exchanges = 0;
	paging.cr0 = 0;
	assert_int_equal(guest_write(&paging, memory, GVA(0x123), &value, 1, 0, &fault), 0);
	assert_int_equal(memory[0x123], 0x77);
	assert_int_equal(exchanges, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_read, setup),  cmocka_unit_test_setup(test_write, setup),
		cmocka_unit_test_setup(test_probe, setup), cmocka_unit_test_setup(test_pae, setup),
		cmocka_unit_test_setup(test_race, setup),  cmocka_unit_test_setup(test_no_memory, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
