/* SPDX-License-Identifier: MIT */
/*
 * Guest physical memory for the page walker, the instruction fetch and what is done in the processor's place. `space` is the VP.
 *
 * The root's is identity mapped. Stores go where loads do (guest_read.h): into the RAM window, which holds nothing of ours. The root's overlay pages
 * are where the window has nothing, unless it moved them; guest page tables can't lie in one. What was deposited is in the window all the same, but
 * no longer the guest's: it is refused here. (guest_walk_fast.h doesn't ask, and tells the guest no more than how long an instruction is.)
 *
 * A child's goes through its second stage, with the rights it has there, and then into the window: RAM of its parent's, or an overlay's content. What
 * isn't in the window, devices and the hypervisor's own, is refused. guest_walk_fast.h is not for children.
 */
#include <errno.h>
#include <string.h>
#include <trivet/deposit.h>
#include <trivet/guest_access.h>
#include <trivet/guest_read.h>
#include <trivet/host_memory.h>
#include <trivet/overlay.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

/* ---- Children ---- */

static inline bool is_childs(const struct vp *vp)
{
	return vp && unlikely(vp->partition->parent != NULL);
}

/* An access under way: `hpa` stays what the VP has there until access_end(). */
struct child_access {
	struct partition *partition;
	gpa_t gpa;
	hpa_t hpa;
	bool locked;
};

static bool look_up(struct child_access *access, unsigned int perm)
{
	struct ss_mapping mapping;

	if (!access->partition->space.root || !ss_lookup(&access->partition->space, access->gpa, &mapping))
		return false;
	access->hpa = mapping.hpa;
	return (mapping.perm & perm) == perm && !host_memory_is_ours(mapping.hpa, 1);
}

static inline bool is_loaded_here(const struct vp *vp)
{
	return vp->lp == this_lp() && atomic_load_explicit(&vp->loaded, memory_order_relaxed);
}

/*
 * On the LP where it is loaded a VP's translations hold, without a lock, until its next entry: whoever takes a page away waits for it (flush.h).
 * For others' eyes the lock is what keeps them. It also settles a miss: a table may just have been taken out (second_stage.h).
 */
static bool access_begin(struct child_access *access, const struct vp *vp, gpa_t gpa, unsigned int perm)
{
	*access = (struct child_access){ .partition = vp->partition, .gpa = gpa };
	if (is_loaded_here(vp) && look_up(access, perm))
		return true;
	access->locked = true;
	spin_lock(&access->partition->space_lock);
	if (look_up(access, perm))
		return true;
	spin_unlock(&access->partition->space_lock);
	return false;
}

static bool fill_read_page(const struct vp *vp, gpa_t gpa, struct read_page *page)
{
	const struct second_stage *space = &vp->partition->space;
	/* Read first: what is taken away while we look makes it the wrong one. */
	uint64_t generation = __atomic_load_n(&space->generation, __ATOMIC_ACQUIRE);
	struct ss_mapping mapping;

	page->key = 0;
	if (!space->root || !ss_lookup(space, gpa, &mapping) || !(mapping.perm & SS_READ) ||
	    host_memory_is_ours(mapping.hpa, 1))
		return false;
	*page = (struct read_page){ .key = gpa.v | READ_PAGE_VALID,
				    .hpa = mapping.hpa,
				    .generation = generation };
	return true;
}

/* For the VP that is loaded here, as in access_begin(). False: to be looked up, under the lock. */
static bool find_read_page(const struct vp *vp, gpa_t gpa, hpa_t *hpa)
{
	struct read_page *page = &vp->child->read_pages[(gpa.v >> PAGE_SHIFT) % READ_PAGES];
	uint64_t generation = __atomic_load_n(&vp->partition->space.generation, __ATOMIC_ACQUIRE);
	gpa_t start = GPA(ALIGN_DOWN(gpa.v, PAGE_SIZE));

	if ((page->key != (start.v | READ_PAGE_VALID) || page->generation != generation) &&
	    !fill_read_page(vp, start, page))
		return false;
	*hpa = HPA(page->hpa.v + (gpa.v - start.v));
	return true;
}

static void access_end(const struct child_access *access, bool wrote)
{
	if (wrote && access->partition->properties.tracks_access)
		ss_mark_written(&access->partition->space, access->gpa);
	if (access->locked)
		spin_unlock(&access->partition->space_lock);
}

/* ---- The root ---- */

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

static __attribute__((__noinline__)) bool child_read(const struct vp *vp, gpa_t gpa, void *buf, size_t size);

bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value)
{
	if (is_childs(space))
		return child_read(space, gpa, value, sizeof(*value));
	return !is_deposited(gpa) && guest_read64_raw(gpa.v, value);
}

bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value)
{
	if (is_childs(space))
		return child_read(space, gpa, value, sizeof(*value));
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

/* An entry of a table, 4 or 8 bytes aligned, in one load: another processor may be changing it. */
static inline bool load_childs(hpa_t hpa, void *buf, size_t size)
{
	uint32_t word;

	if (size != sizeof(word))
		return load(hpa.v, buf, size);
	if (!guest_read32_raw(hpa.v, &word))
		return false;
	__builtin_memcpy(buf, &word, sizeof(word));
	return true;
}

static bool child_read(const struct vp *vp, gpa_t gpa, void *buf, size_t size)
{
	struct child_access access;
	hpa_t hpa;
	bool ok;

	if (!in_page(gpa, size))
		return false;
	if (is_loaded_here(vp) && find_read_page(vp, gpa, &hpa))
		return load_childs(hpa, buf, size);
	if (!access_begin(&access, vp, gpa, SS_READ))
		return false;
	ok = load_childs(access.hpa, buf, size);
	access_end(&access, false);
	return ok;
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	const void *overlay;

	if (is_childs(space))
		return child_read(space, gpa, buf, size);
	overlay = overlay_over_window(space, gpa);
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

static __attribute__((__noinline__)) bool child_write(const struct vp *vp, gpa_t gpa, const void *buf,
						      size_t size)
{
	struct child_access access;
	bool ok;

	if (!in_page(gpa, size) || !access_begin(&access, vp, gpa, SS_WRITE))
		return false;
	ok = store(access.hpa.v, buf, size);
	access_end(&access, true);
	return ok;
}

bool guest_phys_write(void *space, gpa_t gpa, const void *buf, size_t size)
{
	bool covered;
	void *overlay;

	if (is_childs(space))
		return child_write(space, gpa, buf, size);
	covered = overlay_over_window(space, gpa); /* perhaps by one that is read only */
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

	if (is_childs(space)) {
		struct child_access access;
		bool ok = access_begin(&access, space, gpa, SS_WRITE);

		if (!ok)
			return false;
		ok = guest_read8_raw(access.hpa.v, &byte);
		access_end(&access, false);
		return ok;
	}
	if (!overlay_over_window(space, gpa) && !is_deposited(gpa) && guest_read8_raw(gpa.v, &byte))
		return true;
	return overlay_for(space, gpa, true) != NULL;
}

static int exchange(uint64_t gpa, uint32_t bytes, uint64_t old, uint64_t value)
{
	return bytes == sizeof(value) ? guest_exchange64_raw(gpa, old, value) :
					guest_exchange32_raw(gpa, (uint32_t)old, (uint32_t)value);
}

int guest_phys_exchange(void *space, gpa_t gpa, uint32_t bytes, uint64_t old, uint64_t value)
{
	struct child_access access;
	int err;

	if (!is_childs(space))
		return is_deposited(gpa) ? -EIO : exchange(gpa.v, bytes, old, value);
	if (!access_begin(&access, space, gpa, SS_READ | SS_WRITE))
		return -EIO;
	err = exchange(access.hpa.v, bytes, old, value);
	access_end(&access, !err);
	return err;
}
