/* SPDX-License-Identifier: MIT */
/*
 * CPUID results that a parent registered: a table sorted by leaf, then what is for all subleaves, then by subleaf. An exit looks one up
 * by bisection, without a lock; a writer holds it up for as long as it moves entries along.
 */
#include <errno.h>
#include <trivet/cpuid_policy.h>
#include <trivet/io.h>
#include <trivet/page_source.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

struct key {
	uint32_t leaf;
	uint64_t order; /* within the leaf */
};

static struct key key_of(const struct cpuid_override *entry)
{
	return (struct key){ entry->leaf, entry->specific ? BIT(32) | entry->subleaf : 0 };
}

static bool is_before(struct key a, struct key b)
{
	return a.leaf != b.leaf ? a.leaf < b.leaf : a.order < b.order;
}

static bool is_same(struct key a, struct key b)
{
	return a.leaf == b.leaf && a.order == b.order;
}

static struct cpuid_override *entry_at(const struct cpuid_overrides *overrides, uint32_t index)
{
	return &overrides->page[index / CPUID_OVERRIDES_PER_PAGE][index % CPUID_OVERRIDES_PER_PAGE];
}

/* The first of `count` entries that isn't before `key`. */
static uint32_t lower_bound(const struct cpuid_overrides *overrides, uint32_t count, struct key key)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (is_before(key_of(entry_at(overrides, middle)), key))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool find_key(const struct cpuid_overrides *overrides, uint32_t count, struct key key,
		     struct cpuid_override *entry)
{
	uint32_t at = lower_bound(overrides, count, key);

	if (at == count)
		return false;
	*entry = *entry_at(overrides, at);
	return is_same(key_of(entry), key);
}

bool cpuid_overrides_find(const struct cpuid_overrides *overrides, uint32_t leaf, uint32_t subleaf,
			  struct cpuid_override *entry)
{
	uint32_t version;
	bool found;

	do {
		uint32_t count;

		version = atomic_load_explicit(&overrides->version, memory_order_acquire);
		/* While it is being changed the count is of pages that are there: they come first and stay. */
		count = atomic_load_explicit(&overrides->count, memory_order_acquire);
		found = count &&
			(find_key(overrides, count, (struct key){ leaf, BIT(32) | subleaf }, entry) ||
			 find_key(overrides, count, (struct key){ leaf, 0 }, entry));
		atomic_thread_fence(memory_order_acquire);
		if (likely(!(version & 1) &&
			   version == atomic_load_explicit(&overrides->version, memory_order_relaxed)))
			return found;
		cpu_relax();
	} while (true);
}

static void begin_change(struct cpuid_overrides *overrides)
{
	atomic_fetch_add(&overrides->version, 1);
}

static void end_change(struct cpuid_overrides *overrides)
{
	atomic_fetch_add(&overrides->version, 1);
}

static void insert(struct cpuid_overrides *overrides, uint32_t at, const struct cpuid_override *entry)
{
	uint32_t count = atomic_load(&overrides->count);

	atomic_store(&overrides->count, count + 1);
	for (uint32_t i = count; i > at; i--)
		*entry_at(overrides, i) = *entry_at(overrides, i - 1);
	*entry_at(overrides, at) = *entry;
}

/* -EAGAIN: a page is needed, and there is none in `*page`. */
static int set_locked(struct cpuid_overrides *overrides, const struct cpuid_override *entry, void **page)
{
	uint32_t count = atomic_load(&overrides->count);
	uint32_t at = lower_bound(overrides, count, key_of(entry));
	bool replaces = at < count && is_same(key_of(entry_at(overrides, at)), key_of(entry));

	if (!replaces && count == CPUID_OVERRIDES_MAX)
		return -ENOSPC;
	if (!replaces && !overrides->page[count / CPUID_OVERRIDES_PER_PAGE]) {
		if (!*page)
			return -EAGAIN;
		overrides->page[count / CPUID_OVERRIDES_PER_PAGE] = *page;
		*page = NULL;
	}
	begin_change(overrides);
	if (replaces)
		*entry_at(overrides, at) = *entry;
	else
		insert(overrides, at, entry);
	end_change(overrides);
	return 0;
}

int cpuid_overrides_set(struct cpuid_policy *policy, struct cpuid_overrides *overrides,
			struct page_source *pages, const struct cpuid_override *entry)
{
	void *page = NULL;
	int err;

	for (;;) {
		spin_lock(&policy->lock);
		err = set_locked(overrides, entry, &page);
		spin_unlock(&policy->lock);
		if (err != -EAGAIN)
			break;
		page = pages->alloc(pages);
		if (!page)
			return -ENOMEM;
	}
	if (page) /* another VP of the parent's brought one too */
		pages->free(pages, page);
	return err;
}

int cpuid_overrides_remove(struct cpuid_policy *policy, struct cpuid_overrides *overrides,
			   const struct cpuid_override *entry)
{
	uint32_t count, at;
	int err = -ENOENT;

	spin_lock(&policy->lock);
	count = atomic_load(&overrides->count);
	at = lower_bound(overrides, count, key_of(entry));
	if (at < count && is_same(key_of(entry_at(overrides, at)), key_of(entry))) {
		begin_change(overrides);
		for (uint32_t i = at; i + 1 < count; i++)
			*entry_at(overrides, i) = *entry_at(overrides, i + 1);
		atomic_store(&overrides->count, count - 1);
		end_change(overrides);
		err = 0;
	}
	spin_unlock(&policy->lock);
	return err;
}

static void destroy(struct cpuid_overrides *overrides, struct page_source *pages)
{
	atomic_store(&overrides->count, 0);
	for (unsigned int i = 0; i < CPUID_OVERRIDE_PAGES; i++) {
		if (overrides->page[i])
			pages->free(pages, overrides->page[i]);
		overrides->page[i] = NULL;
	}
}

void cpuid_overrides_destroy(struct vp *vp)
{
	if (vp->child)
		destroy(&vp->child->overrides, vp->partition->pages);
}

void cpuid_policy_destroy(struct partition *partition)
{
	destroy(&partition->cpuid.overrides, partition->pages);
}
