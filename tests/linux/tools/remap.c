/* SPDX-License-Identifier: MIT */
/*
 * remap ROUNDS: are TLB entries of other processors really gone when the kernel says so? One thread maps a page of rising
 * content over the same address, again and again, and publishes which it was; a thread on each other processor reads the
 * page, which must never be older than what was published before. It goes on when all have seen the page, so that each
 * round has translations to flush. Prints `remap N rounds, M readers ok`.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define CPUS_MAX 64

static volatile uint64_t *page;
static _Atomic uint64_t published;
static atomic_bool done;
static _Atomic uint64_t stale;
static struct {
	_Alignas(64) _Atomic uint64_t value;
} seen[CPUS_MAX];

static void *reader(void *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((uintptr_t)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (!done) {
		uint64_t oldest = published, value = *page;

		if (value < oldest)
			stale++;
		seen[(uintptr_t)cpu].value = value;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
	int file = memfd_create("remap", 0);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[CPUS_MAX];
	void *at = NULL;
	long readers = 0;

	if (file < 0 || ftruncate(file, 2 * PAGE_BYTES) || cpus > CPUS_MAX)
		return 2;
	for (uint64_t round = 0; round <= rounds; round++) {
		off_t offset = (off_t)(round & 1) * PAGE_BYTES;

		/* Nobody maps this page now: the other one is mapped. */
		if (pwrite(file, &round, sizeof(round), offset) != sizeof(round))
			return 2;
		at = mmap(at, PAGE_BYTES, PROT_READ, MAP_SHARED | (at ? MAP_FIXED : 0), file, offset);
		if (at == MAP_FAILED)
			return 2;
		page = at;
		published = round;
		for (; readers < cpus - 1; readers++)
			if (pthread_create(&threads[readers], NULL, reader, (void *)(uintptr_t)(readers + 1)))
				return 2;
		/* An old page that stays is counted, and must not keep us here for ever. */
		for (long i = 1; i <= readers; i++)
			while (seen[i].value < round && !stale)
				sched_yield();
	}
	done = true;
	for (long i = 0; i < readers; i++)
		pthread_join(threads[i], NULL);
	printf("remap %lu rounds, %ld readers %s\n", rounds, readers, stale ? "saw old pages" : "ok");
	return stale != 0;
}
