/* SPDX-License-Identifier: MIT */
/*
 * Second-stage page tables. One recursive function applies an operation; it runs twice, first
 * counting the table pages it will need, then, with these in hand, for real. So the second run
 * can't fail, and the two can't disagree. The tables are kept in canonical form: whatever could be
 * one large leaf is one, but for leaves that are to stay alone, and no table is empty.
 *
 * Tables that are linked nowhere, in hand or retired, are chained through their own first entry. The link is a page's
 * address, whose low bits are clear: for whoever still walks a retired table it is a hole.
 */
#include "second_stage_entries.h"
#include <errno.h>
#include <string.h>

#include <trivet/assert.h>
#include <trivet/second_stage.h>

/* In an entry that isn't present: reserved. Processors ignore what stands there (APM2 5.4.1 "P", SDM3 29.3.2). */
#define RESERVED BIT(11)

enum op_kind { OP_MAP, OP_FILL, OP_SPLIT };

struct ss_op {
	struct second_stage *ss;
	enum op_kind kind;
	bool counting;	   /* first run: nothing is changed */
	bool hopeless;	   /* first run: more tables needed than there are pages */
	bool live_changed; /* an entry that a TLB may hold was changed */
	uint64_t start_gpa;
	uint64_t end_gpa;
	uint64_t start_hpa; /* OP_MAP */
	uint64_t perm_bits; /* OP_MAP: in the entry's format */
	uint64_t memtype_bits;
	uint64_t fill;	 /* OP_FILL: 0, or RESERVED */
	size_t tables;	 /* needed, then in hand */
	size_t writes;	 /* entries changed so far */
	uint64_t *stash; /* tables in hand */
};

static void push_link(uint64_t **list, uint64_t *table)
{
	__atomic_store_n(&table[0], (uint64_t)(uintptr_t)*list, __ATOMIC_RELEASE);
	*list = table;
}

static uint64_t *pop_link(uint64_t **list)
{
	uint64_t *table = *list;

	*list = (uint64_t *)(uintptr_t)table[0];
	return table;
}

/* Can [hpa, hpa + level_size) be one leaf? */
static bool can_be_leaf(const struct second_stage *ss, unsigned level, uint64_t hpa)
{
	unsigned max_level = ss->flags & SS_SMALL_PAGES ? 1 : ss->flags & SS_1G_PAGES ? 3 : 2;

	return level <= max_level && IS_ALIGNED(hpa, level_size(level));
}

/*
 * Entry `index` of the table that would say the same as `parent`, a hole or a leaf one level above
 * `level`.
 */
static uint64_t split_entry(const struct ss_format *f, uint64_t parent, unsigned level, unsigned index)
{
	if (!is_present(f, parent))
		return parent;
	if (level == 1)
		parent &= ~f->large_bit;
	return parent + index * level_size(level);
}

static uint64_t target_hpa(const struct ss_op *op, uint64_t gpa)
{
	return op->start_hpa + (gpa - op->start_gpa);
}

/*
 * The entry that the operation puts in place of `entry`, a hole or leaf that the operation covers
 * from `gpa` on.
 */
static uint64_t new_entry(const struct ss_op *op, uint64_t entry, unsigned level, uint64_t gpa)
{
	const struct ss_format *f = op->ss->format;

	switch (op->kind) {
	case OP_MAP:
		return target_hpa(op, gpa) | op->perm_bits | op->memtype_bits | f->leaf_bits |
		       (level > 1 ? f->large_bit : 0);
	case OP_SPLIT:
		return entry;
	case OP_FILL:
		break;
	}
	return op->fill;
}

/* Does [lo, ...) of the hole or leaf `entry` at `gpa` already look as the operation wants it? */
static bool is_done(const struct ss_op *op, uint64_t entry, unsigned level, uint64_t gpa, uint64_t lo)
{
	const struct ss_format *f = op->ss->format;
	uint64_t clean = entry & ~f->hardware_bits;

	if (op->kind == OP_MAP)
		return is_present(f, entry) && clean + (lo - gpa) == new_entry(op, entry, level, lo);
	if (op->kind == OP_FILL)
		return entry == op->fill;
	return level == 1 || !is_present(f, entry);
}

/* Can a fully covered entry be dealt with here, without a table below it? */
static bool fits_one_entry(const struct ss_op *op, unsigned level, uint64_t gpa)
{
	switch (op->kind) {
	case OP_MAP:
		return can_be_leaf(op->ss, level, target_hpa(op, gpa));
	case OP_SPLIT:
		return false;
	case OP_FILL:
		break;
	}
	return true;
}

static void set_entry(struct ss_op *op, uint64_t *entry, uint64_t value, bool live)
{
	if (live && is_present(op->ss->format, load_entry(entry)))
		op->live_changed = true;
	op->writes++;
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

/* The same, with what was there until then. */
static uint64_t exchange_entry(struct ss_op *op, uint64_t *entry, uint64_t value, bool live)
{
	uint64_t old = __atomic_exchange_n(entry, value, __ATOMIC_ACQ_REL);

	if (live && is_present(op->ss->format, old))
		op->live_changed = true;
	op->writes++;
	return old;
}

/*
 * Puts a table that is no longer linked on the retired list. It stays as it is but for its first entry: a processor may
 * be reading it.
 */
static void retire_table(struct ss_op *op, uint64_t *table)
{
	struct second_stage *ss = op->ss;

	push_link(&ss->retired, table);
	ss->retired_pages++;
	ss->table_pages--;
	op->live_changed = true;
}

static void retire_subtree(struct ss_op *op, uint64_t *table, unsigned level)
{
	for (unsigned i = 0; level > 1 && i < ENTRIES; i++)
		if (is_table(op->ss->format, table[i], level))
			retire_subtree(op, table_of(op->ss->format, table[i]), level - 1);
	retire_table(op, table);
}

/*
 * If the table of `level` says no more than one entry above it could, gives that entry (a leaf, or
 * what stands in a table without leaves) and returns true.
 */
static bool merged_entry(const struct second_stage *ss, const uint64_t *table, unsigned level,
			 uint64_t *merged)
{
	const struct ss_format *f = ss->format;
	uint64_t first = load_entry(&table[0]) & ~f->hardware_bits;
	uint64_t step = is_present(f, first) ? level_size(level) : 0;

	if (step && (!is_leaf(f, first, level) || (first & f->alone_bit) ||
		     !can_be_leaf(ss, level + 1, first & f->addr_mask)))
		return false;
	/* From the end: a table that is being filled ends in what it was full of. */
	for (unsigned i = ENTRIES - 1; i > 0; i--)
		if ((load_entry(&table[i]) & ~f->hardware_bits) != first + i * step)
			return false;
	*merged = step ? first | f->large_bit : first;
	return true;
}

/*
 * Ends the counting once it is hopeless, so that a range that would need millions of tables costs
 * little.
 */
static bool too_many_tables(struct ss_op *op)
{
	if (op->counting && op->tables > op->ss->pages->available(op->ss->pages))
		op->hopeless = true;
	return op->hopeless;
}

static void apply(struct ss_op *op, uint64_t *table, uint64_t parent, unsigned level, uint64_t table_gpa,
		  bool live);

/* What processors have set in a leaf since the table in its place was made of it: nobody else knows any more which page it was. */
static void set_late_bits(const struct ss_format *f, uint64_t *table, unsigned level, uint64_t bits)
{
	for (unsigned i = 0; i < ENTRIES; i++) {
		uint64_t entry = load_entry(&table[i]);

		if (is_table(f, entry, level))
			set_late_bits(f, table_of(f, entry), level - 1, bits);
		else if (is_present(f, entry))
			__atomic_fetch_or(&table[i], bits, __ATOMIC_RELAXED);
	}
}

/* Replaces a hole or leaf by a table that says the same except for what the operation changes. */
static void apply_split(struct ss_op *op, uint64_t *slot, uint64_t entry, unsigned level, uint64_t gpa,
			bool live)
{
	struct second_stage *ss = op->ss;
	uint64_t *table, late;

	if (op->counting) {
		op->tables++;
		apply(op, NULL, entry, level - 1, gpa, false);
		return;
	}
	ASSERT(op->stash && op->tables);
	table = pop_link(&op->stash);
	op->tables--;
	ss->table_pages++;
	for (unsigned i = 0; i < ENTRIES; i++)
		table[i] = split_entry(ss->format, entry, level - 1, i);
	apply(op, table, 0, level - 1, gpa, false);
	late = exchange_entry(op, slot, hv_virt_to_phys(table).v | ss->format->table_bits, live) & ~entry &
	       ss->format->hardware_bits;
	if (unlikely(late))
		set_late_bits(ss->format, table, level - 1, late);
}

/* Goes into the table that `slot` points to, and merges it back afterwards if it can be. */
static void apply_below(struct ss_op *op, uint64_t *slot, uint64_t entry, unsigned level, uint64_t gpa)
{
	uint64_t *table = table_of(op->ss->format, entry);
	size_t writes = op->writes;
	uint64_t merged;

	apply(op, table, 0, level - 1, gpa, true);
	if (op->writes != writes && merged_entry(op->ss, table, level - 1, &merged)) {
		set_entry(op, slot, merged, true);
		retire_table(op, table);
	}
}

/*
 * The operation on the part of one table that it covers. `table` is NULL while counting below an
 * entry that is still to be split; the entries then follow from `parent`. `live`: the table is
 * linked, processors may be using it.
 */
static void apply(struct ss_op *op, uint64_t *table, uint64_t parent, unsigned level, uint64_t table_gpa,
		  bool live)
{
	const struct ss_format *f = op->ss->format;
	uint64_t size = level_size(level);
	uint64_t first = op->start_gpa > table_gpa ? op->start_gpa : table_gpa;

	if (op->counting && level == 1)
		return;
	for (uint64_t i = (first - table_gpa) / size; i < ENTRIES; i++) {
		uint64_t gpa = table_gpa + i * size;
		uint64_t lo = op->start_gpa > gpa ? op->start_gpa : gpa;
		uint64_t hi = op->end_gpa < gpa + size ? op->end_gpa : gpa + size;
		uint64_t entry = table ? load_entry(&table[i]) : split_entry(f, parent, level, (unsigned)i);
		uint64_t *slot = table ? &table[i] : NULL;
		bool is_linked_table = is_table(f, entry, level);

		if (gpa >= op->end_gpa || too_many_tables(op))
			return;
		if (!is_linked_table && is_done(op, entry, level, gpa, lo))
			continue;
		if (hi - lo == size && fits_one_entry(op, level, gpa)) {
			if (op->counting)
				continue;
			set_entry(op, slot, new_entry(op, entry, level, gpa), live);
			if (is_linked_table)
				retire_subtree(op, table_of(f, entry), level - 1);
		} else if (is_linked_table) {
			apply_below(op, slot, entry, level, gpa);
		} else {
			apply_split(op, slot, entry, level, gpa, live);
		}
	}
}

static void free_list(struct second_stage *ss, uint64_t **list)
{
	while (*list)
		ss->pages->free(ss->pages, pop_link(list));
}

/* Allocates the tables that the first run counted; all or nothing. */
static int fill_stash(struct ss_op *op)
{
	struct page_source *pages = op->ss->pages;

	if (op->hopeless)
		return -ENOMEM;
	for (size_t i = 0; i < op->tables; i++) {
		uint64_t *page = pages->alloc(pages);

		if (!page) {
			free_list(op->ss, &op->stash);
			return -ENOMEM;
		}
		push_link(&op->stash, page);
	}
	return 0;
}

/*
 * The short way for one page whose tables are all there, as most are. False: there is none for it.
 */
static bool apply_to_page(struct ss_op *op)
{
	const struct ss_format *f = op->ss->format;
	uint64_t *table = op->ss->root, *slots[TOP_LEVEL + 1], *tables[TOP_LEVEL + 1];
	uint64_t gpa = op->start_gpa, entry, merged;
	unsigned level;

	for (level = TOP_LEVEL;; level--) {
		tables[level] = table;
		slots[level] = &table[gpa >> (PAGE_SHIFT + 9 * (level - 1)) & (ENTRIES - 1)];
		entry = load_entry(slots[level]);
		if (level == 1)
			break;
		if (!is_table(f, entry, level))
			return false;
		table = table_of(f, entry);
	}
	if (is_done(op, entry, 1, gpa, gpa))
		return true;
	set_entry(op, slots[1], new_entry(op, entry, 1, gpa), true);
	for (; level < TOP_LEVEL && merged_entry(op->ss, tables[level], level, &merged); level++) {
		set_entry(op, slots[level + 1], merged, true);
		retire_table(op, tables[level]);
	}
	return true;
}

static int apply_twice(struct ss_op *op)
{
	struct second_stage *ss = op->ss;
	int err;

	op->counting = true;
	apply(op, ss->root, 0, TOP_LEVEL, 0, true);
	err = fill_stash(op);
	if (err)
		return err;
	op->counting = false;
	op->writes = 0;
	apply(op, ss->root, 0, TOP_LEVEL, 0, true);
	ASSERT(op->tables == 0 && !op->stash);
	return 0;
}

static int run(struct ss_op *op)
{
	struct second_stage *ss = op->ss;
	int err = 0;

	if (op->end_gpa - op->start_gpa != PAGE_SIZE || !apply_to_page(op))
		err = apply_twice(op);
	if (err)
		return err;
	if (op->live_changed)
		__atomic_store_n(&ss->generation, ss->generation + 1, __ATOMIC_RELEASE);
	return 0;
}

/* Is [start, start + size) page aligned, not empty, and below 2^bits? */
static bool range_ok(uint64_t start, uint64_t size, unsigned bits)
{
	return IS_ALIGNED(start | size, PAGE_SIZE) && size && size <= BIT(bits) && start <= BIT(bits) - size;
}

static bool perm_ok(const struct ss_format *f, unsigned perm)
{
	return perm && perm <= SS_RWX && f->perm_bits[perm];
}

int ss_map(struct second_stage *ss, gpa_t gpa, hpa_t hpa, uint64_t size, unsigned perm, unsigned memtype)
{
	const struct ss_format *f = ss->format;
	struct ss_op op = { .ss = ss, .kind = OP_MAP };
	bool alone = perm & SS_ALONE;

	perm &= ~(unsigned)SS_ALONE;
	if (!range_ok(gpa.v, size, SS_GPA_BITS) || !range_ok(hpa.v, size, SS_HPA_BITS) || !perm_ok(f, perm) ||
	    (alone && size != PAGE_SIZE) || memtype > f->memtype_mask >> f->memtype_shift)
		return -EINVAL;
	op.start_gpa = gpa.v;
	op.end_gpa = gpa.v + size;
	op.start_hpa = hpa.v;
	op.perm_bits = f->perm_bits[perm] | (alone ? f->alone_bit : 0);
	op.memtype_bits = (uint64_t)memtype << f->memtype_shift;
	return run(&op);
}

static int fill(struct second_stage *ss, gpa_t gpa, uint64_t size, uint64_t entry)
{
	struct ss_op op = { .ss = ss, .kind = OP_FILL, .fill = entry };

	if (!range_ok(gpa.v, size, SS_GPA_BITS))
		return -EINVAL;
	op.start_gpa = gpa.v;
	op.end_gpa = gpa.v + size;
	return run(&op);
}

int ss_unmap(struct second_stage *ss, gpa_t gpa, uint64_t size)
{
	return fill(ss, gpa, size, 0);
}

int ss_reserve(struct second_stage *ss, gpa_t gpa, uint64_t size)
{
	return fill(ss, gpa, size, RESERVED);
}

static unsigned perm_of(const struct ss_format *f, uint64_t entry)
{
	unsigned perm = SS_RWX;

	while (perm && (!f->perm_bits[perm] || (entry & f->perm_mask) != f->perm_bits[perm]))
		perm--;
	return perm;
}

bool ss_lookup(const struct second_stage *ss, gpa_t gpa, struct ss_mapping *out)
{
	const struct ss_format *f = ss->format;
	const uint64_t *table = ss->root;
	unsigned shift = PAGE_SHIFT + 9 * (TOP_LEVEL - 1);
	uint64_t entry, size;

	if (gpa.v >= BIT(SS_GPA_BITS))
		return false;
	for (;; shift -= 9) {
		entry = load_entry(&table[gpa.v >> shift & (ENTRIES - 1)]);
		if (shift == PAGE_SHIFT || !is_present(f, entry) || (entry & f->large_bit))
			break;
		table = table_of(f, entry);
	}
	size = 1ull << shift;
	if (out) {
		out->page_size = size;
		out->reserved = entry == RESERVED;
	}
	if (!is_present(f, entry))
		return false;
	if (out) {
		out->hpa = HPA((entry & f->addr_mask) + (gpa.v & (size - 1)));
		out->perm = perm_of(f, entry);
		out->memtype = (unsigned)((entry & f->memtype_mask) >> f->memtype_shift);
	}
	return true;
}

int ss_split_leaf(struct second_stage *ss, uint64_t gpa)
{
	struct ss_op op = {
		.ss = ss,
		.kind = OP_SPLIT,
		.start_gpa = ALIGN_DOWN(gpa, PAGE_SIZE),
		.end_gpa = ALIGN_DOWN(gpa, PAGE_SIZE) + PAGE_SIZE,
	};

	return run(&op);
}

int ss_init(struct second_stage *ss, const struct ss_format *format, struct page_source *pages,
	    uint64_t flags)
{
	if (flags & ~(SS_1G_PAGES | SS_ACCESS_BITS | SS_SMALL_PAGES))
		return -EINVAL;
	*ss = (struct second_stage){ .format = format, .pages = pages, .flags = flags };
	ss->root = pages->alloc(pages);
	if (!ss->root)
		return -ENOMEM;
	ss->table_pages = 1;
	return 0;
}

static void free_subtree(struct second_stage *ss, uint64_t *table, unsigned level)
{
	for (unsigned i = 0; level > 1 && i < ENTRIES; i++)
		if (is_table(ss->format, table[i], level))
			free_subtree(ss, table_of(ss->format, table[i]), level - 1);
	ss->pages->free(ss->pages, table);
	ss->table_pages--;
}

void ss_destroy(struct second_stage *ss)
{
	free_list(ss, &ss->retired);
	free_subtree(ss, ss->root, TOP_LEVEL);
	ASSERT(ss->table_pages == 0);
	ss->retired_pages = 0;
	ss->root = NULL;
}

hpa_t ss_root_hpa(const struct second_stage *ss)
{
	return hv_virt_to_phys(ss->root);
}

void ss_note_flush(struct second_stage *ss, uint64_t generation)
{
	ASSERT(generation <= ss->generation);
	if (generation > ss->flushed_generation)
		ss->flushed_generation = generation;
}

size_t ss_reclaim(struct second_stage *ss)
{
	size_t pages = ss->retired_pages;

	ASSERT(!ss_needs_flush(ss));
	free_list(ss, &ss->retired);
	ss->retired_pages = 0;
	return pages;
}
