/* SPDX-License-Identifier: MIT */
/* The window through which the hypervisor sees guest memory. in_window() is the includer's: NULL where there is nothing. */
#ifndef TESTS_UNIT_WINDOW_FAKE_H
#define TESTS_UNIT_WINDOW_FAKE_H

#include <errno.h>
#include <string.h>

#include <trivet/guest_read.h>

static uint8_t *in_window(uint64_t gpa, size_t size);

#define WINDOW(type, bits)                                                    \
	bool guest_read##bits##_raw(uint64_t gpa, type *out)                  \
	{                                                                     \
		if (!in_window(gpa, sizeof(*out)))                            \
			return false;                                         \
		memcpy(out, in_window(gpa, sizeof(*out)), sizeof(*out));      \
		return true;                                                  \
	}                                                                     \
	bool guest_write##bits##_raw(uint64_t gpa, type value);               \
	bool guest_write##bits##_raw(uint64_t gpa, type value)                \
	{                                                                     \
		if (!in_window(gpa, sizeof(value)))                           \
			return false;                                         \
		memcpy(in_window(gpa, sizeof(value)), &value, sizeof(value)); \
		return true;                                                  \
	}
WINDOW(uint64_t, 64)
WINDOW(uint32_t, 32)
WINDOW(uint8_t, 8)

int guest_exchange64_raw(uint64_t gpa, uint64_t old, uint64_t value)
{
	uint64_t now;

	if (!guest_read64_raw(gpa, &now))
		return -EIO;
	return now == old && guest_write64_raw(gpa, value) ? 0 : -EAGAIN;
}

int guest_exchange32_raw(uint64_t gpa, uint32_t old, uint32_t value)
{
	uint32_t now;

	if (!guest_read32_raw(gpa, &now))
		return -EIO;
	return now == old && guest_write32_raw(gpa, value) ? 0 : -EAGAIN;
}

#endif
