/* SPDX-License-Identifier: MIT */
/*
 * mshv-churn [-n CYCLES] [-k KILLS]: creates a partition with a guest of one OUT and HLT, runs it and deletes it, CYCLES times in one
 * process; then KILLS times a process of its own does the same in a loop and is killed at some moment. In the end no partition and no
 * memory may be missing: the hypervisor's counters and the kernel's free memory are compared with what they were when the first cycles
 * had warmed everything up. (Its log, at level debug, tells at each end what the hypervisor has.)
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tiny.h"

#define MEMORY (64u << 10)
#define WARM_UP 20u
/* A page lost per cycle would be far more: what the kernel itself takes and gives meanwhile. */
#define SLACK_KB 256
#define STEADY_TRIES 60u
#define STEADY_TIMES 4u
#define STEADY_KB 16

static const char partitions[] = "/sys/kernel/debug/mshv/partition";
static const char hypervisor_stats[] = "/sys/kernel/debug/mshv/stats";
static const char root_stats[] = "/sys/kernel/debug/mshv/partition/1/stats";

static void cycle(int dev)
{
	struct tiny t;

	tiny_make(&t, dev, MEMORY, tiny_out, tiny_out_end);
	tiny_run_to_port(&t);
	tiny_end(&t);
}

/* The free pages that each processor keeps for itself, which MemFree leaves out. */
static long kept_kb(void)
{
	FILE *file = fopen("/proc/zoneinfo", "r");
	char line[128];
	long sum = 0, count;

	if (!file)
		die("/proc/zoneinfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, " count: %ld", &count) == 1)
			sum += count * (PAGE / 1024);
	fclose(file);
	return sum;
}

/* Of free memory and the slabs, whose own objects Linux 7.2 keeps a few of (some 70 bytes a cycle), in KiB. No deposit is there. */
static long free_kb_now(void)
{
	char line[128];
	long sum = kept_kb(), kb;
	FILE *file;

	sync();
	file = fopen("/proc/sys/vm/drop_caches", "w");
	if (file) {
		fputs("3\n", file);
		fclose(file);
	}
	usleep(100000);
	file = fopen("/proc/meminfo", "r");
	if (!file)
		die("/proc/meminfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "MemFree: %ld kB", &kb) == 1 || sscanf(line, "Slab: %ld kB", &kb) == 1)
			sum += kb;
	fclose(file);
	return sum;
}

/* What is deleted later (RCU, work queues, per-processor lists) is deleted when it doesn't change any more. */
static long free_kb(void)
{
	long last = free_kb_now(), now = last;
	unsigned int steady = 0;

	for (unsigned int i = 0; i < STEADY_TRIES && steady < STEADY_TIMES; i++, last = now) {
		now = free_kb_now();
		steady = labs(now - last) < STEADY_KB ? steady + 1 : 0;
	}
	return now;
}

/* How many the hypervisor's statistics know; -1 without debugfs. */
static int partition_count(void)
{
	DIR *folder = opendir(partitions);
	struct dirent *entry;
	int count = 0;

	if (!folder)
		return -1;
	while ((entry = readdir(folder)))
		count += entry->d_name[0] != '.';
	closedir(folder);
	return count;
}

/* A counter of the hypervisor's; -1 without it. */
static long counter(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	char line[128];
	long value = -1, found;
	size_t length = strlen(name);

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, length) && sscanf(line + length, " : %ld", &found) == 1)
			value = found;
	fclose(file);
	return value;
}

/* One process that is killed between two instructions of the loop, sooner or later. */
static void killed_cycle(int dev, unsigned int number)
{
	struct timespec pause = { 0, (long)((uint64_t)number * 2654435761u % 40000) * 1000 };
	pid_t child = fork();
	int status;

	if (child < 0)
		die("fork: %s", strerror(errno));
	if (!child)
		for (;;)
			cycle(dev);
	nanosleep(&pause, NULL);
	kill(child, SIGKILL);
	if (waitpid(child, &status, 0) != child)
		die("waitpid: %s", strerror(errno));
	if (!WIFSIGNALED(status))
		die("the killed process had ended with %d before", WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	unsigned long cycles = 10000, kills = 100, done = 0;
	long before, after, vps, deposits;
	int option, known, dev;

	while ((option = getopt(argc, argv, "n:k:")) >= 0) {
		if (option == 'n')
			cycles = strtoul(optarg, NULL, 10);
		else if (option == 'k')
			kills = strtoul(optarg, NULL, 10);
		else
			return 64;
	}
	dev = open_mshv();
	known = partition_count();
	for (unsigned int i = 0; i < WARM_UP; i++)
		cycle(dev);
	before = free_kb();
	vps = counter(hypervisor_stats, "HvVirtualProcessors");
	deposits = counter(root_stats, "PtDepositedPages");
	for (; done < cycles; done++) {
		cycle(dev);
		if (done % 1000 == 999) {
			printf("# %lu cycles\n", done + 1);
			fflush(stdout);
		}
	}
	tap_ok(done == cycles, "%lu partitions created, run and deleted", done);
	for (done = 0; done < kills; done++)
		killed_cycle(dev, (unsigned int)done + 1);
	tap_ok(done == kills, "%lu processes killed meanwhile", done);
	cycle(dev);
	tap_ok(true, "one more runs");
	after = free_kb();
	tap_ok(before - after < SLACK_KB, "free memory: %ld KiB, then %ld KiB", before, after);
	after = counter(hypervisor_stats, "HvVirtualProcessors");
	tap_ok(after == vps && vps > 0, "VPs: %ld, then %ld", vps, after);
	after = counter(root_stats, "PtDepositedPages");
	tap_ok(after == deposits && deposits > 0, "the root's deposits: %ld pages, then %ld", deposits,
	       after);
	tap_ok(partition_count() == known, "partitions: %d, then %d", known, partition_count());
	return tap_end();
}
