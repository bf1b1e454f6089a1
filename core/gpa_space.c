/* SPDX-License-Identifier: MIT */
/*
 * GPA spaces of children: see gpa_space.h. The order of a change is what keeps a page from being a child's memory and the hypervisor's at once:
 * a page counts as mapped before it is in a table, and until every processor has forgotten what was replaced.
 */
#include <errno.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/apic.h>
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/flush.h>
#include <trivet/gpa_space.h>
#include <trivet/host_memory.h>
#include <trivet/page_use.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define APIC_GPN (APIC_BASE_DEFAULT >> PAGE_SHIFT)
/* gpa_space_destroy(): about 100 us */
#define SLICE_PAGES 4096u
#define SLICE_LOOKUPS 2048u

static bool has_apic(const struct partition *child)
{
	return child->properties.creation_flags & HV_CREATE_PARTITION_LAPIC;
}

int gpa_space_init(struct partition *child, unsigned int gpa_bits)
{
	/* No leaf of 1 GiB: to give up one takes too long for a hypercall. */
	int err = ss_init(&child->space, backend->ss_format, child->pages,
			  backend->ss_flags(true) & ~SS_1G_PAGES);

	if (err)
		return err;
	child->space_emptied = 0;
	overlay_space_init(child, gpa_bits, false, gpa_space_restore);
	child->overlays.read_beneath = gpa_space_beneath;
	gpa_space_track(child, child->properties.tracks_access);
	if (has_apic(child) && backend->apic_page().v)
		err = ss_map(&child->space, GPA(APIC_BASE_DEFAULT), backend->apic_page(), PAGE_SIZE,
			     SS_READ | SS_WRITE | SS_ALONE, 0);
	if (err)
		ss_destroy(&child->space);
	return err;
}

void gpa_space_track(struct partition *child, bool tracks)
{
	spin_lock(&child->space_lock);
	child->properties.tracks_access = tracks;
	child->space.flags &= ~SS_SMALL_PAGES;
	child->space.flags |= tracks ? SS_SMALL_PAGES : backend->ss_flags(true) & SS_SMALL_PAGES;
	spin_unlock(&child->space_lock);
}

static bool look_up(const struct partition *child, gpa_t gpa, struct ss_mapping *mapping)
{
	*mapping = (struct ss_mapping){ .page_size = PAGE_SIZE };
	return child->space.root && ss_lookup(&child->space, gpa, mapping);
}

static bool is_covered(struct partition *child, gpa_t gpa)
{
	uint64_t gpn = gpa.v >> PAGE_SHIFT;
	bool covered;

	spin_lock(&child->space_lock);
	covered = overlay_first_in(child, gpn, gpn + 1) == gpn;
	spin_unlock(&child->space_lock);
	return covered;
}

enum gpa_state gpa_space_check(struct partition *child, gpa_t gpa, unsigned int access,
			       struct ss_mapping *out)
{
	const struct vp *here = this_lp()->vp;
	struct ss_mapping mapping;
	/* Elsewhere no flush waits for who walks the tables: they may be freed meanwhile. */
	bool found = likely(here && here->partition == child) && look_up(child, gpa, &mapping);

	if (unlikely(!found)) {
		/* Or perhaps a table that was just taken out (second_stage.h). */
		spin_lock(&child->space_lock);
		found = look_up(child, gpa, &mapping);
		spin_unlock(&child->space_lock);
	}
	if (!found)
		return mapping.reserved ? GPA_REFUSED : GPA_UNMAPPED;
	if (out)
		*out = mapping;
	if (likely((mapping.perm & access) == access))
		return GPA_ACCESSIBLE;
	return is_covered(child, gpa) ? GPA_COVERED : GPA_REFUSED;
}

/* ---- What is beneath an overlay, in a word: 0, a hole; RESERVED; or the page, its memory type and its rights ---- */

#define WORD_RESERVED BIT(11)
#define WORD_TYPE_SHIFT 4

static uint64_t pack(const struct ss_mapping *mapping)
{
	return ALIGN_DOWN(mapping->hpa.v, PAGE_SIZE) | mapping->memtype << WORD_TYPE_SHIFT | mapping->perm;
}

uint64_t gpa_space_beneath(const struct partition *child, uint64_t gpn)
{
	struct ss_mapping mapping;

	if (overlay_first_in(child, gpn, gpn + 1) == gpn)
		return overlay_beneath(child, gpn);
	if (gpn == APIC_GPN && has_apic(child))
		return 0;
	if (look_up(child, GPA(gpn << PAGE_SHIFT), &mapping))
		return pack(&mapping);
	return mapping.reserved ? WORD_RESERVED : 0;
}

int gpa_space_restore(struct partition *child, uint64_t gpn, uint64_t beneath)
{
	gpa_t gpa = GPA(gpn << PAGE_SHIFT);

	if (!beneath)
		return ss_unmap(&child->space, gpa, PAGE_SIZE);
	if (beneath == WORD_RESERVED)
		return ss_reserve(&child->space, gpa, PAGE_SIZE);
	return ss_map(&child->space, gpa, HPA(ALIGN_DOWN(beneath, PAGE_SIZE)), PAGE_SIZE, beneath & SS_RWX,
		      beneath >> WORD_TYPE_SHIFT & 7);
}

/* ---- What is replaced ---- */

#define RUN_COUNT_BITS 10 /* of an entry: the pages of a run, less one; above them the first one's number */
#define RUN_PAGES_MAX BIT(RUN_COUNT_BITS)

static void note_replaced(struct gpa_change *change, uint64_t page, uint64_t count)
{
	uint64_t *last = &change->replaced[change->replaced_count - 1];

	if (change->replaced_count) {
		uint64_t first = *last >> RUN_COUNT_BITS, length = (*last & (RUN_PAGES_MAX - 1)) + 1;

		if (page == first + length && length + count <= RUN_PAGES_MAX) {
			*last += count;
			return;
		}
	}
	ASSERT(change->replaced_count < GPA_CHANGE_RUNS);
	change->replaced[change->replaced_count++] = page << RUN_COUNT_BITS | (count - 1);
}

/* What the parent has mapped at [gpn, end), where neither overlays lie nor the local APIC's page. Under space_lock. */
static void note_mapped(struct gpa_change *change, uint64_t gpn, uint64_t end)
{
	struct ss_mapping mapping;
	uint64_t next;

	for (; gpn < end; gpn = next) {
		bool mapped = look_up(change->child, GPA(gpn << PAGE_SHIFT), &mapping);

		next = (ALIGN_DOWN(gpn << PAGE_SHIFT, mapping.page_size) + mapping.page_size) >> PAGE_SHIFT;
		if (next > end)
			next = end;
		if (mapped)
			note_replaced(change, mapping.hpa.v >> PAGE_SHIFT, next - gpn);
	}
}

static void note_word(struct gpa_change *change, uint64_t beneath)
{
	if (beneath & SS_RWX)
		note_replaced(change, beneath >> PAGE_SHIFT, 1);
}

void gpa_change_end(struct gpa_change *change)
{
	uint64_t total = 0;

	flush_and_reclaim(change->child, change->caller);
	for (uint32_t i = 0; i < change->replaced_count; i++) {
		uint64_t count = (change->replaced[i] & (RUN_PAGES_MAX - 1)) + 1;

		page_use_unmap(change->replaced[i] >> RUN_COUNT_BITS, count);
		total += count;
	}
	if (total)
		atomic_fetch_sub(&change->child->statistics.gpa_pages, total);
	change->replaced_count = 0;
}

/* ---- Changes ---- */

/* The page or hole around `page` in the parent's space, seen by the caller on its own LP. False: a hole. */
static bool look_up_parents(struct partition *parent, uint64_t page, struct ss_mapping *mapping)
{
	bool found = ss_lookup(&parent->space, GPA(page << PAGE_SHIFT), mapping);

	if (likely(found))
		return true;
	spin_lock(&parent->space_lock);
	found = ss_lookup(&parent->space, GPA(page << PAGE_SHIFT), mapping);
	spin_unlock(&parent->space_lock);
	return found;
}

/*
 * How many of the `count` pages from `page` on the parent may give away with `perm`, at least the first one; 0: none. What it has at other than
 * its own address are overlays; a hole that isn't RAM is a device it hasn't touched yet (root.c).
 */
static uint64_t givable(struct partition *parent, uint64_t page, uint64_t count, unsigned int perm)
{
	uint64_t gpa = page << PAGE_SHIFT, start = 0, end = BIT(parent->overlays.gpa_bits);
	struct ss_mapping mapping;

	if (page >= end >> PAGE_SHIFT || page == APIC_GPN)
		return 0;
	if (look_up_parents(parent, page, &mapping)) {
		if (mapping.hpa.v != gpa || (mapping.perm & perm) != perm)
			return 0;
	} else if (!host_memory_clip_to_devices(HPA(gpa), &start, &end)) {
		return 0;
	}
	start = ALIGN_DOWN(gpa, mapping.page_size);
	if (start + mapping.page_size < end)
		end = start + mapping.page_size;
	if (page < APIC_GPN && end > APIC_BASE_DEFAULT)
		end = APIC_BASE_DEFAULT;
	if (count > (end >> PAGE_SHIFT) - page)
		count = (end >> PAGE_SHIFT) - page;
	return count && !host_memory_is_ours(HPA(gpa), count << PAGE_SHIFT) ? count : 0;
}

/* All of them, and they count as mapped: or a refusal. */
static uint16_t take_from_parent(struct partition *parent, const struct gpa_run *run)
{
	uint64_t given;
	int err;

	for (uint64_t done = 0; done < run->count; done += given) {
		given = givable(parent, run->page + done, run->count - done, run->perm);
		if (!given)
			return HV_STATUS_ACCESS_DENIED;
	}
	err = page_use_map(run->page, run->count);
	if (err)
		return err == -EBUSY ? HV_STATUS_OPERATION_DENIED : HV_STATUS_NO_RESOURCES;
	return HV_STATUS_SUCCESS;
}

/* A device's memory is a device's for the child, too. */
static unsigned int memory_type(const struct partition *child, const struct gpa_run *run, uint64_t hpa,
				uint64_t *end)
{
	return run->uncached ? child->space.format->uncached_memtype : backend->memory_type(hpa, end);
}

/* Pages `done` .. `end` of the run, all of one memory type, nothing on top of them: changed, or -ENOMEM. Under space_lock. */
static int change_tables(struct gpa_change *change, const struct gpa_run *run, uint64_t done, uint64_t end,
			 unsigned int type)
{
	struct second_stage *space = &change->child->space;
	uint32_t count_before = change->replaced_count;
	uint64_t last_before = count_before ? change->replaced[count_before - 1] : 0;
	uint64_t size = (end - done) << PAGE_SHIFT;
	gpa_t gpa = GPA((run->gpn + done) << PAGE_SHIFT);
	int err;

	note_mapped(change, run->gpn + done, run->gpn + end);
	if (run->kind == GPA_MAP)
		err = ss_map(space, gpa, HPA((run->page + done) << PAGE_SHIFT), size, run->perm, type);
	else
		err = run->kind == GPA_UNMAP ? ss_unmap(space, gpa, size) : ss_reserve(space, gpa, size);
	if (err) {
		change->replaced_count = count_before;
		if (count_before)
			change->replaced[count_before - 1] = last_before;
	}
	return err;
}

/* One page, with an overlay on top. */
static void change_beneath(struct gpa_change *change, const struct gpa_run *run, uint64_t done)
{
	struct partition *child = change->child;
	uint64_t gpn = run->gpn + done, word = 0, hpa = (run->page + done) << PAGE_SHIFT;
	uint64_t end = hpa + PAGE_SIZE;

	if (run->kind == GPA_RESERVE)
		word = WORD_RESERVED;
	if (run->kind == GPA_MAP)
		word = hpa | memory_type(child, run, hpa, &end) << WORD_TYPE_SHIFT | run->perm;
	note_word(change, overlay_beneath(child, gpn));
	overlay_set_beneath(child, gpn, word);
}

/* Where the stretch ends that begins with page `done` and can be changed at once; its memory type. Under space_lock. */
static uint64_t stretch_end(const struct partition *child, const struct gpa_run *run, uint64_t done,
			    uint64_t covered, unsigned int *type)
{
	uint64_t gpn = run->gpn + done, end = covered;
	uint64_t hpa = (run->page + done) << PAGE_SHIFT, hpa_end = (run->page + run->count) << PAGE_SHIFT;

	*type = 0;
	if (has_apic(child) && gpn < APIC_GPN && end > APIC_GPN)
		end = APIC_GPN;
	end -= run->gpn;
	if (run->kind != GPA_MAP)
		return end;
	*type = memory_type(child, run, hpa, &hpa_end);
	return (hpa_end >> PAGE_SHIFT) - run->page < end ? (hpa_end >> PAGE_SHIFT) - run->page : end;
}

/* Under space_lock. -ENOMEM with what is done in `*done`. */
static int change_all(struct gpa_change *change, const struct gpa_run *run, uint64_t *done)
{
	struct partition *child = change->child;
	uint64_t gpn_end = run->gpn + run->count, end;
	unsigned int type;
	int err = 0;

	for (*done = 0; *done < run->count && !err; *done = err ? *done : end) {
		uint64_t gpn = run->gpn + *done, covered = overlay_first_in(child, gpn, gpn_end);

		end = *done + 1;
		if (gpn == APIC_GPN && has_apic(child)) {
			/* Nobody sees what the parent has there, with an overlay or without: it isn't kept. */
			if (run->kind == GPA_MAP)
				note_replaced(change, run->page + *done, 1);
		} else if (covered == gpn) {
			change_beneath(change, run, *done);
		} else {
			end = stretch_end(child, run, *done, covered, &type);
			err = change_tables(change, run, *done, end, type);
		}
	}
	return err;
}

uint16_t gpa_change_run(struct gpa_change *change, const struct gpa_run *run, uint32_t *done)
{
	struct partition *child = change->child;
	uint16_t status = HV_STATUS_SUCCESS;
	uint64_t changed = 0;

	*done = 0;
	if (run->kind == GPA_MAP)
		status = take_from_parent(change->caller->partition, run);
	if (status)
		return status;
	spin_lock(&child->space_lock);
	if (atomic_load(&child->state) != PARTITION_ACTIVE || !child->space.root)
		status = HV_STATUS_INVALID_PARTITION_STATE;
	else if (change_all(change, run, &changed))
		status = HV_STATUS_INSUFFICIENT_MEMORY;
	if (run->kind == GPA_MAP) /* before anyone can count them out */
		atomic_fetch_add(&child->statistics.gpa_pages, changed);
	spin_unlock(&child->space_lock);
	if (run->kind == GPA_MAP)
		page_use_unmap(run->page + changed, run->count - changed);
	*done = (uint32_t)changed;
	return status;
}

/* ---- The end ---- */

/* Overlays go first: then all that is mapped is the parent's, but for the local APIC's page. Under space_lock. */
static void take_overlays(struct gpa_change *change)
{
	struct partition *child = change->child;
	uint64_t gpn, beneath;
	bool bare;

	while (change->replaced_count < GPA_CHANGE_RUNS && overlay_forget_one(child, &gpn, &beneath, &bare)) {
		if (!bare || gpn == APIC_GPN)
			continue;
		note_word(change, beneath);
		ss_unmap(&child->space, GPA(gpn << PAGE_SHIFT),
			 PAGE_SIZE); /* a leaf with SS_ALONE: needs no table */
	}
	if (has_apic(child))
		ss_unmap(&child->space, GPA(APIC_BASE_DEFAULT), PAGE_SIZE);
}

/*
 * A slice of what is mapped or reserved, whole leaves: so no table is needed. Nothing comes behind the cursor any more. False: this was the last one.
 * Under space_lock.
 */
static bool take_slice(struct gpa_change *change)
{
	struct second_stage *space = &change->child->space;
	uint64_t start = change->child->space_emptied, gpa = start, pages = 0, next;
	struct ss_mapping mapping;

	for (unsigned int lookups = 0; gpa < BIT(SS_GPA_BITS) && pages < SLICE_PAGES &&
				       lookups < SLICE_LOOKUPS && change->replaced_count < GPA_CHANGE_RUNS;
	     lookups++, gpa = next) {
		bool mapped = ss_lookup(space, GPA(gpa), &mapping);

		next = ALIGN_DOWN(gpa, mapping.page_size) +
		       mapping.page_size; /* a hole may have grown around the cursor */
		if (!mapped)
			continue;
		note_replaced(change, mapping.hpa.v >> PAGE_SHIFT, (next - gpa) >> PAGE_SHIFT);
		pages += (next - gpa) >> PAGE_SHIFT;
	}
	if (gpa != start)
		ss_unmap(space, GPA(start), gpa - start);
	change->child->space_emptied = gpa;
	return gpa < BIT(SS_GPA_BITS);
}

bool gpa_space_destroy(struct partition *child, struct vp *caller)
{
	/* The page for a call's output, which those that end a partition don't have. */
	struct gpa_change change = {
		.child = child,
		.caller = caller,
		.replaced = (uint64_t *)((uint8_t *)caller->lp->call_pages + PAGE_SIZE),
	};
	bool more;

	if (!child->space.root)
		return true;
	spin_lock(&child->space_lock);
	take_overlays(&change);
	more = child->overlays.mapped || take_slice(&change);
	spin_unlock(&child->space_lock);
	gpa_change_end(&change);
	if (more)
		return false;
	spin_lock(&child->space_lock);
	ss_destroy(&child->space);
	spin_unlock(&child->space_lock);
	return true;
}
