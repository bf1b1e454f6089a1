/* SPDX-License-Identifier: MIT */
/*
 * mshv-guest IMAGE.efi [-c VPS] [-m MIB] [-N | -P | -p PRIVILEGES] [-r] [-s] [-t] [-u] [-- LOAD OPTIONS]: runs one of tests/guests in a child
 * partition. Its exit status is the guest's, or one of machine.h's.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include <hv/cpuid.h>

/* What the conformance suite's chapters need beyond what a partition has by its features. */
#define PRIVILEGES                                                                                    \
	(HV_PRIVILEGE_ACCESS_PARTITION_ID | HV_PRIVILEGE_POST_MESSAGES | HV_PRIVILEGE_SIGNAL_EVENTS | \
	 HV_PRIVILEGE_CREATE_PORT | HV_PRIVILEGE_CONNECT_PORT | HV_PRIVILEGE_ACCESS_VP_REGISTERS |    \
	 HV_PRIVILEGE_EXTENDED_HYPERCALLS)

static void usage(void)
{
	fputs("usage: mshv-guest IMAGE.efi [-c VPS] [-m MIB] [-N | -P | -p HEX] [-r] [-s] [-t] [-u] [-- LOAD "
	      "OPTIONS]\n"
	      "  -N  nothing of the hypervisor's interface\n"
	      "  -P  the privileges that the conformance suite wants; -p HEX: these (CPUID 0x40000003 "
	      "EBX:EAX)\n"
	      "  -r  registers by hypercall, not by the register page\n"
	      "  -s  go on in another partition whenever VP 0 asks\n"
	      "  -t  each intercept message on stderr\n"
	      "  -u  stop at the first access to what isn't mapped\n",
	      stderr);
	exit(ENDED_USAGE);
}

static unsigned long number(const char *text, unsigned long least, unsigned long most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n < least || n > most)
		usage();
	return n;
}

/* Load options: what the guest is told by us, then what it is told by the user. */
static char *joined(const char *first, char **words, int count)
{
	size_t bytes = strlen(first) + 1;
	char *text;

	for (int i = 0; i < count; i++)
		bytes += strlen(words[i]) + 1;
	text = malloc(bytes);
	if (!text)
		die("no memory");
	strcpy(text, first);
	for (int i = 0; i < count; i++) {
		strcat(text, " ");
		strcat(text, words[i]);
	}
	return text;
}

int main(int argc, char **argv)
{
	static struct machine machine = { .bytes = 128u << 20, .vp_count = 1 };
	const char *image = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
	bool moves = false;
	int option, dev;

	if (!image)
		usage();
	argv++, argc--;
	while ((option = getopt(argc, argv, "c:m:p:NPrstu")) >= 0) {
		switch (option) {
		case 'c':
			machine.vp_count = (unsigned int)number(optarg, 1, VPS_MAX);
			break;
		case 'm':
			machine.bytes = number(optarg, 16, 3072) << 20;
			break;
		case 'N':
			machine.plain = true;
			break;
		case 'p':
			machine.privileges = strtoull(optarg, NULL, 16);
			break;
		case 'P':
			machine.privileges = PRIVILEGES;
			break;
		case 'r':
			machine.registers_by_call = true;
			break;
		case 's':
			moves = true;
			break;
		case 't':
			machine.trace = true;
			break;
		case 'u':
			machine.stop_at_unmapped = true;
			break;
		default:
			usage();
		}
	}
	machine.load_options = joined(machine.plain ? "child plain" : "child", argv + optind, argc - optind);
	machine.serial = stdout;
	/* What the register page has pending isn't in the registers yet. */
	machine.registers_by_call |= moves;
	dev = open_mshv();
	machine_make(&machine, dev, image);
	if (moves)
		machine_run_moving(&machine, dev);
	machine_run(&machine);
}
