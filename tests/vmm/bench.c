/* SPDX-License-Identifier: MIT */
/*
 * mshv-bench IMAGE.efi [VPS]: runs tests/bench/bench_child.c, which measures from inside. What it needs of its monitor is here: a port that does
 * nothing, a doorbell whose event file nobody reads, an interrupt that comes back for an OUT.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine.h"
#include "../bench/bench_child.h"

static struct machine machine = { .bytes = 192u << 20, .vp_count = 1, .load_options = "child" };
static int interrupt_event;
static uint8_t pages[BENCH_PAGE_COUNT][PAGE] __attribute__((aligned(PAGE)));

/* BENCH_PORT: nothing to do. BENCH_ASSERT_PORT: vector in, by call; BENCH_EVENT_PORT: by event file. */
static bool bench_port(struct vp *vp, uint16_t port, unsigned int bytes, bool is_write, uint32_t *value)
{
	uint64_t one = 1;

	(void)bytes;
	if (port == BENCH_PORT) {
		if (!is_write)
			*value = 0;
		return true;
	}
	if (!is_write || (port != BENCH_ASSERT_PORT && port != BENCH_EVENT_PORT))
		return false;
	if (port == BENCH_EVENT_PORT) {
		if (write(interrupt_event, &one, sizeof(one)) != sizeof(one))
			die("the event file is full");
	} else if (assert_interrupt(vp->machine->partition, HV_INTERRUPT_FIXED, *value, 0).error) {
		die("vector %#x can't be asserted", *value);
	}
	return true;
}

int main(int argc, char **argv)
{
	int doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	interrupt_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (argc == 3)
		machine.vp_count = (unsigned int)atoi(argv[2]);
	if (argc < 2 || argc > 3 || !machine.vp_count || machine.vp_count > VPS_MAX || doorbell < 0 ||
	    interrupt_event < 0)
		return ENDED_USAGE;
	machine.serial = stdout;
	machine.port = bench_port;
	machine_make(&machine, open_mshv(), argv[1]);
	if (attach_doorbell(machine.partition, doorbell, BENCH_DOORBELL, 4))
		die("no doorbell");
	for (unsigned int i = 0; i < BENCH_PAGE_COUNT; i++)
		map_memory(machine.partition, BENCH_PAGES + i * PAGE, pages[i], PAGE, MEMORY_ALL);
	route_interrupt(machine.partition, BENCH_GSI, BENCH_VECTOR, 0);
	if (attach_interrupt(machine.partition, interrupt_event, BENCH_GSI))
		die("no event file for interrupts");
	machine_run(&machine);
}
