/* SPDX-License-Identifier: MIT */
/*
 * mshv-sched [-s SECONDS] [-u UNIT]: what the hypervisor's scheduler gives to busy guests, each with one VP that counts for ever. Lines
 * `METRIC name value unit` for a test to judge, all shares in thousandths of a percent:
 *
 *   share.100, share.200, share.700   of all counts, three guests with these weights on one LP
 *   cap.25                            counts of a guest with a cap of 25 % against those without, alone on its LP
 *   reserve.50                        of a guest with weight 1 and a reserve of 50 %, against two of weight 10000
 *   root.late_us, root.late_max_us    how late a sleep of 1 ms ends in the root meanwhile, mean and worst
 *
 * Nothing pins a VP: run it in a machine with one LP. -u: what stands for 100 % in the properties CPU_CAP and CPU_RESERVE.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tiny.h"

#define MEMORY (64u << 10)
#define GUESTS_MAX 3u
#define UNTIL_STEADY_US 500000u
#define SLEEP_NS 1000000

struct guest {
	struct tiny tiny;
	pthread_t thread;
	uint64_t start;
};

static struct guest guests[GUESTS_MAX];
static atomic_bool over;
static int dev;
static uint64_t unit = 0x10000;
static unsigned int seconds = 10;

static void wake(int signal)
{
	(void)signal;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t count_of(const struct guest *g)
{
	return *(volatile uint64_t *)(void *)(g->tiny.memory + TINY_DATA);
}

static void *run(void *argument)
{
	struct guest *g = argument;
	struct hv_message message;

	while (!over) {
		int r = run_vp(g->tiny.vp, &message);

		if (!r)
			die("a guest that only counts stopped: message %#x (%s)", message.type,
			    message_name(message.type));
		if (r != -EINTR)
			die("a VP doesn't run: %s", strerror(-r));
	}
	return NULL;
}

static void property(const struct guest *g, uint32_t code, uint64_t value)
{
	struct answer a = set_property(g->tiny.partition, code, value);

	if (a.error)
		die("property %#x = %llu: status %#x", code, (unsigned long long)value, a.status);
}

static void start(unsigned int count)
{
	over = false;
	for (unsigned int i = 0; i < count; i++)
		if (pthread_create(&guests[i].thread, NULL, run, &guests[i]))
			die("no thread");
	usleep(UNTIL_STEADY_US);
	for (unsigned int i = 0; i < count; i++)
		guests[i].start = count_of(&guests[i]);
}

/* The counts since start(), and no guest runs any more. */
static void stop(unsigned int count, uint64_t counts[])
{
	for (unsigned int i = 0; i < count; i++)
		counts[i] = count_of(&guests[i]) - guests[i].start;
	over = true;
	for (unsigned int i = 0; i < count; i++) {
		/* A signal may come right before the thread enters the driver. */
		while (pthread_kill(guests[i].thread, SIGUSR1) == 0 &&
		       pthread_tryjoin_np(guests[i].thread, NULL) == EBUSY)
			usleep(1000);
	}
}

static void make(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		tiny_make(&guests[i].tiny, dev, MEMORY, tiny_count, tiny_count_end);
}

static void delete (unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		tiny_end(&guests[i].tiny);
}

static void metric(const char *name, uint64_t value, const char *text)
{
	printf("METRIC %s %llu %s\n", name, (unsigned long long)value, text);
	fflush(stdout);
}

static uint64_t share(uint64_t part, uint64_t whole)
{
	return whole ? (uint64_t)((unsigned __int128)part * 100000 / whole) : 0;
}

/* How late sleeps of 1 ms end, for the time of a measurement. */
static void sleep_and_watch(void)
{
	uint64_t end = now_ns() + seconds * 1000000000ull, sum = 0, worst = 0, count = 0;

	while (now_ns() < end) {
		struct timespec pause = { 0, SLEEP_NS };
		uint64_t begin = now_ns(), late;

		nanosleep(&pause, NULL);
		late = now_ns() - begin - SLEEP_NS;
		sum += late;
		count++;
		worst = late > worst ? late : worst;
	}
	metric("root.late_us", count ? sum / count / 1000 : 0, "us");
	metric("root.late_max_us", worst / 1000, "us");
	metric("root.sleeps", count, "times");
}

static void weights(void)
{
	static const unsigned int weight[GUESTS_MAX] = { 100, 200, 700 };
	uint64_t counts[GUESTS_MAX], sum = 0;

	make(GUESTS_MAX);
	for (unsigned int i = 0; i < GUESTS_MAX; i++)
		property(&guests[i], HV_PROPERTY_CPU_WEIGHT, weight[i]);
	start(GUESTS_MAX);
	sleep_and_watch();
	stop(GUESTS_MAX, counts);
	delete (GUESTS_MAX);
	for (unsigned int i = 0; i < GUESTS_MAX; i++)
		sum += counts[i];
	for (unsigned int i = 0; i < GUESTS_MAX; i++) {
		char name[32];

		snprintf(name, sizeof(name), "share.%u", weight[i]);
		metric(name, share(counts[i], sum), "thousandths of a percent");
	}
}

static uint64_t count_alone(uint64_t cap)
{
	uint64_t counts[1];

	make(1);
	if (cap)
		property(&guests[0], HV_PROPERTY_CPU_CAP, cap);
	start(1);
	sleep(seconds);
	stop(1, counts);
	delete (1);
	return counts[0];
}

static void caps(void)
{
	uint64_t without = count_alone(0), with = count_alone(unit / 4);

	metric("count.alone", without / seconds, "per second");
	metric("cap.25", share(with, without), "thousandths of a percent");
}

static void reserves(void)
{
	uint64_t counts[GUESTS_MAX], sum = 0;

	make(GUESTS_MAX);
	property(&guests[0], HV_PROPERTY_CPU_WEIGHT, 1);
	property(&guests[0], HV_PROPERTY_CPU_RESERVE, unit / 2);
	for (unsigned int i = 1; i < GUESTS_MAX; i++)
		property(&guests[i], HV_PROPERTY_CPU_WEIGHT, 10000);
	start(GUESTS_MAX);
	sleep(seconds);
	stop(GUESTS_MAX, counts);
	delete (GUESTS_MAX);
	for (unsigned int i = 0; i < GUESTS_MAX; i++)
		sum += counts[i];
	metric("reserve.50", share(counts[0], sum), "thousandths of a percent");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = wake };
	int option;

	while ((option = getopt(argc, argv, "s:u:")) >= 0) {
		if (option == 's')
			seconds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (option == 'u')
			unit = strtoull(optarg, NULL, 0);
		else
			return 64;
	}
	if (!seconds || sigaction(SIGUSR1, &action, NULL))
		return 64;
	dev = open_mshv();
	metric("lps", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN), "processors of the root");
	weights();
	caps();
	reserves();
	printf("TAP-END\n");
	return 0;
}
