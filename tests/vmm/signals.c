/* SPDX-License-Identifier: MIT */
/*
 * mshv-signals [-n TURNS]: signals at threads that run VPs, and suspension of running VPs. VP 0 leaves three times a turn (tiny_turns),
 * VP 1 never does (tiny_count). A RUN_VP that a signal ends suspends the VP just when it may be leaving by itself: then its message
 * must come, once, and with none on its way the VP must stand still.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include "machine.h"
#include "move.h"
#include "tiny.h"

#define MEMORY 0x8000u
#define COUNTER 0x4000u /* VP 1's code */
#define EXITS_PER_TURN 3u
#define RUNNERS 2u
#define CALM_TURNS 100u

struct runner {
	struct vp vp;
	void *page;
	unsigned long exits;		    /* answered, since VP 0 was made */
	unsigned long until;		    /* exits, or interruptions where there are none */
	unsigned long interruptions, least; /* until there were so many */
	unsigned long moves;		    /* found between two of them */
	unsigned long wrong;
	atomic_ulong entered; /* RUN_VPs begun */
	atomic_bool done;
};

static struct tiny guest;
static struct runner turns, counter;
static uint64_t exit_ticks = UINT64_MAX; /* of the quickest of VP 0's, until it is answered */

static void ignore(int signal)
{
	(void)signal;
}

static volatile uint32_t *data(unsigned int offset)
{
	return (volatile uint32_t *)(void *)(guest.memory + TINY_DATA + offset);
}

static uint64_t random_below(uint64_t limit)
{
	static _Thread_local uint64_t state = 88172645463325252;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return limit ? state % limit : 0;
}

static void spin(uint64_t ticks)
{
	uint64_t start = __rdtsc();

	while (__rdtsc() - start < ticks)
		_mm_pause();
}

/* ---- VP 0's exits: the next one that it must make, with the count that both keep ---- */

static bool answer_port(struct runner *r, const struct hv_message *message, bool write, uint32_t turn)
{
	const struct hv_x64_io_port_intercept *io = (const void *)message->payload.bytes;
	uint8_t access = write ? HV_INTERCEPT_ACCESS_WRITE : HV_INTERCEPT_ACCESS_READ;

	if (message->type != HV_MESSAGE_X64_IO_PORT_INTERCEPT || io->header.access_type != access ||
	    io->port != TINY_PORT || (write && (uint32_t)io->rax != turn))
		return false;
	if (!write)
		vp_set_general(&r->vp, 0, turn);
	vp_set_rip(&r->vp, io->header.rip + instruction_length(&io->header));
	return true;
}

static bool answer_store(struct runner *r, const struct hv_message *message, uint32_t turn)
{
	const struct hv_x64_memory_intercept *access = (const void *)message->payload.bytes;
	struct move move;

	if (message->type != HV_MESSAGE_UNMAPPED_GPA ||
	    access->header.access_type != HV_INTERCEPT_ACCESS_WRITE || access->gpa != MEMORY ||
	    !decode_move(access->instruction_bytes, access->instruction_byte_count, 16, &move) || move.load ||
	    (uint32_t)vp_general(&r->vp, move.reg) != turn)
		return false;
	vp_set_rip(&r->vp, access->header.rip + move.length);
	return true;
}

static bool answer(struct runner *r, const struct hv_message *message)
{
	uint32_t turn = (uint32_t)(r->exits / EXITS_PER_TURN) + 1;
	unsigned long kind = r->exits % EXITS_PER_TURN;

	/* By turns by the register page and by hypercall. */
	r->vp.page = turn % 2 ? r->page : NULL;
	r->exits++;
	return kind == 2 ? answer_store(r, message, turn) : answer_port(r, message, kind == 0, turn);
}

/* ---- Running ---- */

static bool is_suspended(const struct runner *r, bool *intercepted)
{
	static const uint32_t names[] = { HV_REGISTER_EXPLICIT_SUSPEND, HV_REGISTER_INTERCEPT_SUSPEND };
	union hv_register_value values[2];
	struct answer a = get_registers(guest.partition, r->vp.index, names, values, 2);

	if (a.error)
		die("VP %u's suspend registers: status %#x", r->vp.index, a.status);
	*intercepted = values[1].reg64;
	return values[0].reg64;
}

/* Does the VP change anything for a while? Its memory is looked at first: reading registers stops a VP. */
static bool stands_still(const struct runner *r)
{
	static const uint32_t names[] = { HV_REGISTER_X64_RIP, HV_REGISTER_X64_RBX };
	volatile uint32_t *count = data(r == &turns ? 16 : 0);
	union hv_register_value before[ARRAY_LEN(names)], after[ARRAY_LEN(names)];
	uint32_t counted = *count;

	spin(random_below(2 * exit_ticks));
	if (*count != counted || get_registers(guest.partition, r->vp.index, names, before, 2).error)
		return false;
	spin(random_below(exit_ticks));
	return !get_registers(guest.partition, r->vp.index, names, after, 2).error &&
	       !memcmp(before, after, sizeof(before));
}

/* RUN_VP said EINTR: the VP is suspended, and no message is on its way. */
static bool interruption_is_good(struct runner *r)
{
	static uint32_t last;
	bool intercepted, still = stands_still(r);

	r->interruptions++;
	if (r == &counter && *data(0) != last) {
		last = *data(0);
		r->moves++;
	}
	return is_suspended(r, &intercepted) && !intercepted && still;
}

static bool has_enough(const struct runner *r)
{
	if (r == &counter)
		return r->until ? r->moves >= r->until : atomic_load(&turns.done);
	return r->exits >= r->until && r->interruptions >= r->least;
}

static void *run(void *argument)
{
	struct runner *r = argument;

	while (!has_enough(r) && !r->wrong) {
		struct hv_message message;
		int error;

		atomic_fetch_add(&r->entered, 1);
		error = run_vp(r->vp.fd, &message);
		if (error ? error == -EINTR && interruption_is_good(r) : r == &turns && answer(r, &message))
			continue;
		r->wrong++;
		tap_note("VP %u, exit %lu: %s, message %#x (%s), the guest's count %u", r->vp.index, r->exits,
			 error ? strerror(-error) : "a message", message.type, message_name(message.type),
			 *data(16));
	}
	atomic_store(&r->done, true);
	return NULL;
}

static void begin(struct runner *r, unsigned long until)
{
	r->until = until;
	atomic_store(&r->done, false);
	if (pthread_create(&r->vp.thread, NULL, run, r))
		die("no thread");
}

/* This thread, and those that it begins, on as many processors: one leaves the others to the VPs. */
static void use_processors(unsigned int count)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned int i = 0; i < count; i++)
		CPU_SET(i, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("processors: %s", strerror(errno));
}

/*
 * A signal in each RUN_VP, or soon after it, until all are done: early, at any moment of an exit, or so late that all get on. One that came
 * before RUN_VP was in the kernel interrupts nothing: there is another after a while.
 */
static void storm(struct runner *const runners[], unsigned int count)
{
	unsigned long seen[RUNNERS] = { 0 };
	uint64_t due[RUNNERS] = { 0 };
	unsigned int running;

	do {
		running = 0;
		sched_yield(); /* there may be one processor for all */
		for (unsigned int i = 0; i < count; i++) {
			struct runner *r = runners[i];
			unsigned long entered = atomic_load(&r->entered);

			running += !atomic_load(&r->done);
			if (entered != seen[i]) {
				due[i] = __rdtsc() + random_below(exit_ticks << random_below(8));
				seen[i] = entered;
			} else if (__rdtsc() >= due[i]) {
				pthread_kill(r->vp.thread, SIGUSR1);
				due[i] = __rdtsc() + (exit_ticks << 12);
			}
		}
	} while (running);
	for (unsigned int i = 0; i < count; i++)
		pthread_join(runners[i]->vp.thread, NULL);
}

/* The last exit was answered, but the VP hasn't run since: both have counted the same. */
static bool counts_agree(void)
{
	return (turns.exits + EXITS_PER_TURN - 1) / EXITS_PER_TURN == *data(16) && !*data(20);
}

static void calm(void)
{
	for (unsigned int i = 0; i < CALM_TURNS * EXITS_PER_TURN; i++) {
		struct hv_message message;
		uint64_t start = __rdtsc(), ticks;

		turns.wrong += run_vp(turns.vp.fd, &message) || !answer(&turns, &message);
		ticks = __rdtsc() - start;
		exit_ticks = ticks < exit_ticks ? ticks : exit_ticks;
	}
	tap_ok(!turns.wrong && counts_agree(), "%u turns without a signal: %u counted", CALM_TURNS,
	       *data(16));
}

static void stormed_exits(unsigned long wanted)
{
	turns.least = wanted / 5;
	begin(&turns, turns.exits + wanted * EXITS_PER_TURN);
	storm((struct runner *[]){ &turns }, 1);
	tap_ok(!turns.wrong,
	       "under signals each RUN_VP ends with the next exit, or EINTR and a VP that stands still");
	tap_ok(counts_agree(),
	       "no exit is lost or doubled in %lu interruptions: %lu answered, %u turns counted",
	       turns.interruptions, turns.exits, *data(16));
}

static void stormed_spinning(unsigned long wanted)
{
	begin(&counter, wanted);
	storm((struct runner *[]){ &counter }, 1);
	tap_ok(!counter.wrong,
	       "a VP that never leaves, interrupted %lu times, stands still; %lu times it ran between",
	       counter.interruptions, counter.moves);
}

static void stormed_together(unsigned long wanted)
{
	unsigned long before = counter.interruptions;

	begin(&turns, turns.exits + wanted * EXITS_PER_TURN);
	begin(&counter, 0);
	storm((struct runner *[]){ &turns, &counter }, 2);
	tap_ok(!turns.wrong && !counter.wrong && counts_agree(),
	       "both VPs at once, the second interrupted %lu times more", counter.interruptions - before);
}

/* ---- Suspended by register, while RUN_VP waits for the VP ---- */

enum suspension { STILL, LEAVING, MOVED };

static enum suspension suspend(struct runner *r)
{
	bool intercepted, still;

	set_register(guest.partition, r->vp.index, HV_REGISTER_EXPLICIT_SUSPEND, 1);
	if (!is_suspended(r, &intercepted) || intercepted)
		return LEAVING;
	still = stands_still(r);
	/* The RUN_VP after an exit clears it behind our back: then this tells nothing. */
	if (!is_suspended(r, &intercepted))
		return LEAVING;
	return still && !intercepted ? STILL : MOVED;
}

static void suspend_meanwhile(unsigned long wanted)
{
	unsigned long seen[] = { [STILL] = 0, [LEAVING] = 0, [MOVED] = 0 };

	begin(&turns, turns.exits + wanted * EXITS_PER_TURN);
	while (!atomic_load(&turns.done)) {
		spin(random_below(2 * exit_ticks));
		seen[suspend(&turns)]++;
		set_register(guest.partition, 0, HV_REGISTER_EXPLICIT_SUSPEND, 0);
	}
	pthread_join(turns.vp.thread, NULL);
	tap_ok(!seen[MOVED] && seen[STILL],
	       "suspended by register the VP stands still: %lu times, and not %lu", seen[STILL], seen[MOVED]);
	tap_ok(seen[LEAVING], "... or was leaving: %lu times", seen[LEAVING]);
	tap_ok(!turns.wrong && counts_agree(), "... and no exit is lost or doubled");
}

static void make_runner(struct runner *r, int fd, uint32_t index)
{
	*r = (struct runner){ .vp = { .index = index, .fd = fd }, .page = map_state_page(fd, REGISTER_PAGE) };
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = ignore };
	unsigned long wanted = 1000;
	int option, second;

	while ((option = getopt(argc, argv, "n:")) >= 0) {
		if (option != 'n')
			return 64;
		wanted = strtoul(optarg, NULL, 10);
	}
	if (!wanted || sigaction(SIGUSR1, &action, NULL))
		return 64;
	tiny_make(&guest, open_mshv(), MEMORY, tiny_turns, tiny_turns_end);
	memcpy(guest.memory + COUNTER, tiny_count, (size_t)(tiny_count_end - tiny_count));
	second = create_vp(guest.partition, 1);
	start_in_real_mode(second, 1, COUNTER);
	set_register(second, 1, HV_REGISTER_INTERNAL_ACTIVITY_STATE, 0); /* it waits for no SIPI */
	set_register(guest.vp, 0, HV_REGISTER_X64_RBX, 0);
	make_runner(&turns, guest.vp, 0);
	make_runner(&counter, second, 1);
	calm();
	stormed_exits(wanted);
	use_processors(1);
	stormed_spinning(wanted / 2);
	use_processors(CPU_SETSIZE);
	stormed_together(wanted / 2);
	suspend_meanwhile(wanted / 2);
	close(second);
	tiny_end(&guest);
	return tap_end();
}
