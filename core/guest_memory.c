/* SPDX-License-Identifier: MIT */
/* Guest physical memory for the page walker and the instruction fetch: the root's, which is identity mapped. */
#include <trivet/guest_read.h>
#include <trivet/guest_walk.h>

bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value)
{
	(void)space;
	return guest_read64_raw(gpa.v, value);
}

bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value)
{
	(void)space;
	return guest_read32_raw(gpa.v, value);
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	uint8_t *bytes = buf;
	uint64_t word;

	(void)space;
	/* An instruction is up to 15 bytes: two words, which may overlap. */
	if (size >= sizeof(word) && size <= 2 * sizeof(word)) {
		size_t rest = size - sizeof(word);

		if (!guest_read64_raw(gpa.v, &word))
			return false;
		__builtin_memcpy(bytes, &word, sizeof(word));
		if (!guest_read64_raw(gpa.v + rest, &word))
			return false;
		__builtin_memcpy(bytes + rest, &word, sizeof(word));
		return true;
	}
	for (size_t i = 0; i < size; i++)
		if (!guest_read8_raw(gpa.v + i, &bytes[i]))
			return false;
	return true;
}
