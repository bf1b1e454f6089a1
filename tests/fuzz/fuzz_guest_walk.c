/* fuzz: core/guest_walk.c */
/* SPDX-License-Identifier: MIT */
/*
 * Hostile page tables: whatever they say, a walk ends after at most five reads with a sane answer,
 * the fast walk agrees with the complete one, and a fetch stays within its buffer. Guest physical
 * addresses wrap around the input, so that most pointers lead somewhere.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifndef TRIVET_HOST_TEST
#define TRIVET_HOST_TEST
#endif
#include <trivet/assert.h>
#include <trivet/guest_walk.h>
#include <trivet/guest_walk_fast.h>

#define MEMORY_SIZE 16384u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint64_t cr0, cr3, cr4, efer, rflags, gva;
	uint8_t maxphyaddr;
	uint8_t flags;
	uint8_t access;
	uint8_t fetch_size;
};

static uint8_t memory[MEMORY_SIZE];
static size_t memory_size;
static unsigned reads;

/* What lies behind the end of the input is memory that isn't there. */
static bool copy_out(uint64_t gpa, void *buf, size_t size)
{
	uint64_t at = gpa % MEMORY_SIZE;

	if (size > MEMORY_SIZE - at || at >= memory_size)
		return false;
	memcpy(buf, memory + at, size);
	return true;
}

bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value)
{
	ASSERT(space == memory && IS_ALIGNED(gpa.v, 8));
	reads++;
	return copy_out(gpa.v, value, sizeof(*value));
}

bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value)
{
	ASSERT(space == memory && IS_ALIGNED(gpa.v, 4));
	reads++;
	return copy_out(gpa.v, value, sizeof(*value));
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	ASSERT(space == memory && size && (gpa.v & (PAGE_SIZE - 1)) + size <= PAGE_SIZE);
	return copy_out(gpa.v, buf, size);
}

bool guest_read64_raw(uint64_t gpa, uint64_t *value)
{
	return copy_out(gpa, value, sizeof(*value));
}

static void check_walk(const struct guest_paging *paging, uint64_t gva, unsigned access)
{
	bool is_4level = (paging->efer & BIT(10)) && !(paging->cr4 & BIT(12));
	struct guest_translation t;
	uint64_t gpa = 0;
	int err;

	reads = 0;
	err = guest_walk(paging, memory, GVA(gva), access, &t);
	ASSERT(reads <= 5);
	ASSERT(err == 0 || err == -EFAULT || err == -EINVAL || err == -EIO);
	ASSERT(err == -EFAULT || t.error_code == 0);
	ASSERT(t.error_code < 32 && (!(t.error_code & PF_RESERVED) || (t.error_code & PF_PRESENT)));
	if (err)
		return;
	ASSERT(t.gpa.v < BIT(52));
	ASSERT(t.page_size == SIZE_4K || t.page_size == SIZE_2M || t.page_size == 2 * SIZE_2M ||
	       t.page_size == SIZE_1G);
	ASSERT(((t.gpa.v ^ gva) & (t.page_size - 1)) == 0);
	ASSERT(t.page_size != SIZE_1G || paging->gbpages);
	if (is_4level)
		ASSERT(guest_walk_fast64(0, paging->cr3, gva, &gpa) && gpa == (t.gpa.v & (BIT(46) - 1)));
}

static void check_fetch(const struct guest_paging *paging, uint64_t gva, size_t size)
{
	bool is_4level = (paging->efer & BIT(10)) && !(paging->cr4 & BIT(12));
	uint8_t *buf = malloc(size ? size : 1);
	uint64_t bytes;
	size_t done;

	ASSERT(buf);
	done = guest_fetch(paging, memory, GVA(gva), buf, size);
	ASSERT(done <= size && done <= GUEST_FETCH_MAX);
	if (is_4level && done >= sizeof(bytes) && (gva & (PAGE_SIZE - 1)) <= PAGE_SIZE - sizeof(bytes))
		ASSERT(guest_fetch_fast64(paging->cr3, gva, &bytes) &&
		       memcmp(&bytes, buf, sizeof(bytes)) == 0);
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest_paging paging = { 0 };
	struct input in;

	if (size < sizeof(in))
		return 0;
	memcpy(&in, data, sizeof(in));
	memory_size = size - sizeof(in) < MEMORY_SIZE ? size - sizeof(in) : MEMORY_SIZE;
	memset(memory, 0, sizeof(memory));
	memcpy(memory, data + sizeof(in), memory_size);
	paging.cr0 = in.cr0;
	paging.cr3 = in.cr3;
	paging.cr4 = in.cr4;
	paging.efer = in.efer;
	paging.rflags = in.rflags;
	paging.maxphyaddr = 32 + in.maxphyaddr % 21u;
	paging.gbpages = in.flags & 1;
	paging.nonleaf_global_reserved = in.flags & 2;
	check_walk(&paging, in.gva, in.access & 31u);
	check_fetch(&paging, in.gva, in.fetch_size % 20u);
	return 0;
}
