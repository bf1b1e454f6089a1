/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tiny.h"

void tiny_make(struct tiny *t, int dev, size_t bytes, const uint8_t *code, const uint8_t *code_end)
{
	t->bytes = bytes;
	t->partition = create_partition(dev, PARTITION_FLAGS);
	initialize_partition(t->partition);
	t->memory = allocate_memory(bytes);
	memcpy(t->memory + TINY, code, (size_t)(code_end - code));
	map_memory(t->partition, 0, t->memory, bytes, MEMORY_ALL);
	t->vp = create_vp(t->partition, 0);
	start_in_real_mode(t->vp, 0, TINY);
}

void tiny_end(struct tiny *t)
{
	close(t->vp);
	close(t->partition);
	munmap(t->memory, t->bytes);
}

void tiny_run_to_port(struct tiny *t)
{
	struct hv_message message;
	const struct hv_x64_io_port_intercept *io = (const void *)message.payload.bytes;
	int r;

	do {
		r = run_vp(t->vp, &message);
	} while (r == -EINTR);
	if (r)
		die("the VP doesn't run: %s", strerror(-r));
	if (message.type != HV_MESSAGE_X64_IO_PORT_INTERCEPT || io->port != TINY_PORT)
		die("message %#x (%s) instead of the port's", message.type, message_name(message.type));
}

/* ---- TAP ---- */

static unsigned int results, failures;

bool tap_ok(bool good, const char *fmt, ...)
{
	va_list ap;

	results++;
	failures += !good;
	printf("%sok %u - ", good ? "" : "not ", results);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	return good;
}

void tap_note(const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

int tap_end(void)
{
	printf("1..%u\nTAP-END\n", results);
	fflush(stdout);
	return failures ? 1 : 0;
}
