/* SPDX-License-Identifier: MIT */
/* Accessed and dirty bits of second-stage leaves, which processors set at the same time. */
#include "second_stage_entries.h"

/* The leaf that maps `gpa`, NULL: none. */
static uint64_t *leaf_of(const struct second_stage *ss, uint64_t gpa, unsigned *level)
{
	const struct ss_format *f = ss->format;
	uint64_t *table = ss->root, *slot;

	if (gpa >= BIT(SS_GPA_BITS))
		return NULL;
	for (*level = TOP_LEVEL;; --*level) {
		uint64_t entry;

		slot = &table[gpa / level_size(*level) % ENTRIES];
		entry = load_entry(slot);
		if (!is_table(f, entry, *level))
			return is_present(f, entry) ? slot : NULL;
		table = table_of(f, entry);
	}
}

static uint64_t bits_of(const struct ss_format *f, unsigned access)
{
	return (access & SS_ACCESSED ? f->accessed_bit : 0) | (access & SS_DIRTY ? f->dirty_bit : 0);
}

static unsigned access_of(const struct ss_format *f, uint64_t entry)
{
	return (entry & f->accessed_bit ? SS_ACCESSED : 0) | (entry & f->dirty_bit ? SS_DIRTY : 0);
}

int ss_access(struct second_stage *ss, gpa_t gpa, unsigned clear, unsigned set, unsigned *was)
{
	const struct ss_format *f = ss->format;
	unsigned level;
	uint64_t *slot = leaf_of(ss, gpa.v, &level);
	uint64_t entry;
	int err;

	*was = 0;
	if (!slot)
		return 0;
	if (!(ss->flags & SS_ACCESS_BITS)) {
		*was = SS_ACCESSED | SS_DIRTY;
		return 0;
	}
	if ((clear | set) && level > 1 && (ss->flags & SS_SMALL_PAGES)) {
		err = ss_split_leaf(ss, gpa.v);
		if (err)
			return err;
		slot = leaf_of(ss, gpa.v, &level);
	}
	/* The processor sets bits there at the same time. */
	entry = __atomic_fetch_or(slot, bits_of(f, set), __ATOMIC_ACQ_REL);
	if (clear)
		entry = __atomic_fetch_and(slot, ~bits_of(f, clear), __ATOMIC_ACQ_REL) &
			(entry | ~bits_of(f, set));
	*was = access_of(f, entry);
	if (*was & clear)
		__atomic_store_n(&ss->generation, ss->generation + 1, __ATOMIC_RELEASE);
	return 0;
}

void ss_mark_written(const struct second_stage *ss, gpa_t gpa)
{
	unsigned level;
	uint64_t *slot = leaf_of(ss, gpa.v, &level);
	uint64_t bits = bits_of(ss->format, SS_ACCESSED | SS_DIRTY), entry;

	if (!slot)
		return;
	entry = load_entry(slot);
	while (is_leaf(ss->format, entry, level) && (entry & bits) != bits &&
	       !__atomic_compare_exchange_n(slot, &entry, entry | bits, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_ACQUIRE))
		;
}
