/* SPDX-License-Identifier: MIT */
/*
 * Guest physical memory for the page walker, the instruction fetch and what is done in the processor's place: the root's,
 * which is identity mapped. Stores go where loads do (guest_read.h): into the RAM window, which holds nothing of ours. The root's overlay pages
 * are where the window has nothing, unless it moved them; guest page tables can't lie in one. What was deposited is in the window all the same, but
 * no longer the guest's: it is refused here. (guest_walk_fast.h doesn't ask, and tells the guest no more than how long an instruction is.)
 */
#include <errno.h>
#include <string.h>
#include <trivet/deposit.h>
#include <trivet/guest_access.h>
#include <trivet/guest_read.h>
#include <trivet/overlay.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

static __attribute__((__noinline__)) void *overlay_for(const struct vp *vp, gpa_t gpa, bool write)
{
	return vp && vp->partition->hv ? overlay_at(vp->partition, gpa, write) : NULL;
}

/* The overlay that lies over what the window shows at `gpa`. */
static inline void *overlay_over_window(const struct vp *vp, gpa_t gpa)
{
	if (likely(!vp || !atomic_load_explicit(&vp->partition->overlays.displaced, memory_order_relaxed)))
		return NULL;
	return overlay_for(vp, gpa, false);
}

/* Behind an overlay's content there are other pages of ours. */
static inline bool in_page(gpa_t gpa, size_t size)
{
	return size <= PAGE_SIZE - (gpa.v & (PAGE_SIZE - 1));
}

static inline bool is_deposited(gpa_t gpa)
{
	return unlikely(deposit_holds(gpa.v >> PAGE_SHIFT));
}

bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value)
{
	(void)space;
	return !is_deposited(gpa) && guest_read64_raw(gpa.v, value);
}

bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value)
{
	(void)space;
	return !is_deposited(gpa) && guest_read32_raw(gpa.v, value);
}

static inline bool load_word(uint64_t gpa, uint8_t *bytes)
{
	uint64_t word;

	if (!guest_read64_raw(gpa, &word))
		return false;
	__builtin_memcpy(bytes, &word, sizeof(word));
	return true;
}

/* In words, of which the last may overlap the one before: an instruction is up to 15 bytes. */
static inline bool load(uint64_t gpa, uint8_t *bytes, size_t size)
{
	size_t done = 0;

	if (size >= sizeof(uint64_t)) {
		for (; done + sizeof(uint64_t) < size; done += sizeof(uint64_t))
			if (!load_word(gpa + done, bytes + done))
				return false;
		done = size - sizeof(uint64_t);
		return load_word(gpa + done, bytes + done);
	}
	for (; done < size; done++)
		if (!guest_read8_raw(gpa + done, &bytes[done]))
			return false;
	return true;
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	const void *overlay = overlay_over_window(space, gpa);

	if (likely(!overlay) && !is_deposited(gpa) && likely(load(gpa.v, buf, size)))
		return true;
	if (!overlay)
		overlay = overlay_for(space, gpa, false);
	if (!overlay || !in_page(gpa, size))
		return false;
	memcpy(buf, overlay, size);
	return true;
}

static inline bool store(uint64_t gpa, const uint8_t *bytes, size_t size)
{
	size_t done = 0;
	uint64_t word;

	for (; done + sizeof(word) <= size; done += sizeof(word)) {
		__builtin_memcpy(&word, bytes + done, sizeof(word));
		if (!guest_write64_raw(gpa + done, word))
			return false;
	}
	for (; done < size; done++)
		if (!guest_write8_raw(gpa + done, bytes[done]))
			return false;
	return true;
}

bool guest_phys_write(void *space, gpa_t gpa, const void *buf, size_t size)
{
	bool covered = overlay_over_window(space, gpa); /* perhaps by one that is read only */
	void *overlay;

	if (likely(!covered) && !is_deposited(gpa) && likely(store(gpa.v, buf, size)))
		return true;
	overlay = overlay_for(space, gpa, true);
	if (!overlay || !in_page(gpa, size))
		return false;
	memcpy(overlay, buf, size);
	return true;
}

bool guest_phys_can_write(void *space, gpa_t gpa)
{
	uint8_t byte;

	if (!overlay_over_window(space, gpa) && !is_deposited(gpa) && guest_read8_raw(gpa.v, &byte))
		return true;
	return overlay_for(space, gpa, true) != NULL;
}

int guest_phys_exchange(void *space, gpa_t gpa, uint32_t bytes, uint64_t old, uint64_t value)
{
	(void)space;
	if (is_deposited(gpa))
		return -EIO;
	return bytes == sizeof(value) ? guest_exchange64_raw(gpa.v, old, value) :
					guest_exchange32_raw(gpa.v, (uint32_t)old, (uint32_t)value);
}
