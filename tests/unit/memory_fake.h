/* SPDX-License-Identifier: MIT */
/* A machine's memory, all of one type: a block that is the hypervisor's, and RAM. */
#ifndef TESTS_UNIT_MEMORY_FAKE_H
#define TESTS_UNIT_MEMORY_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/host_memory.h>
#include <trivet/log.h>
#include <trivet/page_alloc.h>

#define ARENA_PAGES 1024u
#define ARENA_HPA 0x180000000ull
#define RAM_FIRST 4096ull /* a number that a large page can have */
#define RAM_PAGES 4096u

struct page_pool host_pool;
static uint8_t *arena, *ram;
static void (*on_virt_to_phys)(void); /* called once */

hpa_t hv_virt_to_phys(const void *p)
{
	const uint8_t *at = p;
	void (*call)(void) = on_virt_to_phys;

	on_virt_to_phys = NULL;
	if (call)
		call();
	if (at >= ram && at < ram + RAM_PAGES * PAGE_SIZE)
		return HPA((RAM_FIRST << PAGE_SHIFT) + (uint64_t)(at - ram));
	return HPA(ARENA_HPA + (uint64_t)(at - arena));
}

void *hv_phys_to_virt(hpa_t hpa)
{
	if (hpa.v >= ARENA_HPA)
		return arena + (hpa.v - ARENA_HPA);
	assert_in_range(hpa.v >> PAGE_SHIFT, RAM_FIRST, RAM_FIRST + RAM_PAGES - 1);
	return ram + (hpa.v - (RAM_FIRST << PAGE_SHIFT));
}

uint64_t host_memory_end(void)
{
	return (RAM_FIRST + RAM_PAGES) << PAGE_SHIFT;
}

enum log_level log_threshold;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

static unsigned int one_type(uint64_t start, uint64_t *end)
{
	(void)start;
	(void)end;
	return 0;
}

static void memory_begin(void)
{
	on_virt_to_phys = NULL;
	arena = aligned_alloc(SIZE_2M, ARENA_PAGES * PAGE_SIZE);
	ram = malloc(RAM_PAGES * PAGE_SIZE);
	memset(ram, 0x5a, RAM_PAGES * PAGE_SIZE);
	assert_int_equal(page_pool_init(&host_pool, arena, ARENA_PAGES), 0);
}

static void memory_end(void)
{
	page_pool_check(&host_pool);
	free(arena);
	free(ram);
}

#endif
