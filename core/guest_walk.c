/* SPDX-License-Identifier: MIT */
/*
 * The guest's page tables, as the processor walks them: APM2 5.2 (32-bit and PAE), 5.3 (long
 * mode), 5.6 (rights), 8.4.2 (error code); SDM3 4.6 for what both vendors share. A walk collects
 * the rights of all levels and tests them once, at the leaf.
 */
#include <errno.h>

#include <trivet/guest_walk.h>
#include <trivet/x86.h>

#define PTE_USER BIT(2)
#define SIZE_4M (4ull << 20)

/* Bits low..high, both included. */
#define BITS(high, low) ((BIT(high) << 1) - BIT(low))

struct walk {
	const struct guest_paging *paging;
	void *space;
	uint64_t gva;
	unsigned access;
	uint64_t rights; /* and of all levels: PTE_WRITE, PTE_USER; and PTE_NX inverted */
	struct guest_translation *out;
	struct guest_path *path; /* or NULL */
};

static void note_entry(const struct walk *w, uint64_t gpa, uint64_t value, uint32_t bytes)
{
	struct guest_path *path = w->path;

	if (!path || path->count == ARRAY_SIZE(path->entry))
		return;
	path->entry_bytes = bytes;
	path->entry[path->count].gpa = GPA(gpa);
	path->entry[path->count++].value = value;
}

static bool is_user(const struct walk *w)
{
	return (w->access & (GUEST_USER | GUEST_IMPLICIT)) == GUEST_USER;
}

static bool nx_enabled(const struct guest_paging *p)
{
	return (p->efer & EFER_NXE) && ((p->efer & EFER_LMA) || (p->cr4 & CR4_PAE));
}

static int page_fault(const struct walk *w, uint64_t cause)
{
	const struct guest_paging *p = w->paging;

	if (w->access & GUEST_WRITE)
		cause |= PF_WRITE;
	if (is_user(w))
		cause |= PF_USER;
	if ((w->access & GUEST_FETCH) && (nx_enabled(p) || (p->cr4 & CR4_SMEP)))
		cause |= PF_FETCH;
	w->out->error_code = (uint32_t)cause;
	return -EFAULT;
}

/* APM2 5.6: rights of the collected levels against the kind of access. */
static bool access_allowed(const struct walk *w)
{
	const struct guest_paging *p = w->paging;
	bool user_page = w->rights & PTE_USER;
	bool ac_counts = !(w->access & GUEST_IMPLICIT);

	if (w->access & GUEST_UNCHECKED)
		return true;
	if (is_user(w) && !user_page)
		return false;
	if (w->access & GUEST_FETCH) {
		if (nx_enabled(p) && !(w->rights & PTE_NX))
			return false;
		return is_user(w) || !user_page || !(p->cr4 & CR4_SMEP);
	}
	if (!is_user(w) && user_page && (p->cr4 & CR4_SMAP) && !(ac_counts && (p->rflags & RFLAGS_AC)))
		return false;
	if ((w->access & GUEST_WRITE) && !(w->rights & PTE_WRITE))
		return !is_user(w) && !(p->cr0 & CR0_WP);
	return true;
}

static int finish(const struct walk *w, uint64_t base, uint64_t page_size)
{
	if (!access_allowed(w))
		return page_fault(w, PF_PRESENT);
	w->out->gpa = GPA(base | (w->gva & (page_size - 1)));
	w->out->page_size = page_size;
	return 0;
}

/*
 * APM2 5.2.1, 5.2.2: two levels of 32-bit entries; 4 MiB pages reach 40 bits of physical address
 * (PSE-36).
 */
static int walk_32bit(struct walk *w)
{
	const struct guest_paging *p = w->paging;
	uint64_t at = (p->cr3 & 0xfffff000u) + (w->gva >> 22) * 4;
	uint64_t base;
	uint32_t entry;

	if (!guest_phys_read32(w->space, GPA(at), &entry))
		return -EIO;
	if (!(entry & PTE_PRESENT))
		return page_fault(w, 0);
	note_entry(w, at, entry, sizeof(entry));
	w->rights &= entry;
	if ((entry & PTE_LARGE) && (p->cr4 & CR4_PSE)) {
		base = (entry & 0xffc00000u) | (uint64_t)(entry >> 13 & 0xff) << 32;
		if ((entry & BIT(21)) || base >> p->maxphyaddr)
			return page_fault(w, PF_PRESENT | PF_RESERVED);
		return finish(w, base, SIZE_4M);
	}
	at = (entry & 0xfffff000u) + (w->gva >> 12 & 0x3ff) * 4;
	if (!guest_phys_read32(w->space, GPA(at), &entry))
		return -EIO;
	if (!(entry & PTE_PRESENT))
		return page_fault(w, 0);
	note_entry(w, at, entry, sizeof(entry));
	w->rights &= entry;
	return finish(w, entry & 0xfffff000u, SIZE_4K);
}

/* Bits that must be zero in every entry of a table with 64-bit entries. */
static uint64_t reserved_everywhere(const struct guest_paging *p)
{
	uint64_t reserved = 0;

	if (p->maxphyaddr < 52)
		reserved |= BITS(51, p->maxphyaddr);
	if (!(p->efer & EFER_NXE))
		reserved |= PTE_NX;
	if (!(p->efer & EFER_LMA))
		reserved |= BITS(62, 52);
	return reserved;
}

/*
 * Bits that must be zero in a present entry of `level` besides reserved_everywhere(), APM2 5.3.3
 * to 5.3.5.
 */
static uint64_t reserved_at(const struct guest_paging *p, unsigned level, bool leaf)
{
	if (leaf)
		return level == 3 ? BITS(29, 13) : level == 2 ? BITS(20, 13) : 0;
	if (level < 3)
		return 0;
	return PTE_LARGE | (p->nonleaf_global_reserved ? PTE_GLOBAL : 0);
}

/* From the table of `level` down; 2 levels for PAE, 4 or 5 in long mode. */
static int walk_64bit(struct walk *w, uint64_t table, unsigned level)
{
	const struct guest_paging *p = w->paging;
	uint64_t reserved = reserved_everywhere(p);

	for (;; level--) {
		unsigned shift = PAGE_SHIFT + 9 * (level - 1);
		uint64_t at = table + (w->gva >> shift & 0x1ff) * 8;
		uint64_t entry;
		bool leaf;

		if (!guest_phys_read64(w->space, GPA(at), &entry))
			return -EIO;
		if (!(entry & PTE_PRESENT))
			return page_fault(w, 0);
		leaf = level == 1 || ((entry & PTE_LARGE) && (level == 2 || (level == 3 && p->gbpages)));
		if (entry & (reserved | reserved_at(p, level, leaf)))
			return page_fault(w, PF_PRESENT | PF_RESERVED);
		note_entry(w, at, entry, sizeof(entry));
		w->rights &= entry ^ PTE_NX;
		if (leaf)
			return finish(w, entry & PTE_ADDRESS & ~(BIT(shift) - 1), BIT(shift));
		table = entry & PTE_ADDRESS;
	}
}

/*
 * APM2 5.2.3. The four top entries carry no rights. They are read at every walk, as a processor
 * does under nested paging (APM2 15.25.10); one that caches them has checked them when CR3 was
 * loaded.
 */
static int walk_pae(struct walk *w)
{
	uint64_t reserved = reserved_everywhere(w->paging) | PTE_NX | BITS(2, 1);
	uint64_t entry;

	/* Where the processor is executing it found the entry in order; QEMU sets the accessed bit, reserved here. */
	if (!(w->access & GUEST_UNCHECKED))
		reserved |= BITS(8, 5);

	if (!guest_phys_read64(w->space, GPA((w->paging->cr3 & 0xffffffe0u) + (w->gva >> 30) * 8), &entry))
		return -EIO;
	if (!(entry & PTE_PRESENT))
		return page_fault(w, 0);
	if (entry & reserved)
		return page_fault(w, PF_PRESENT | PF_RESERVED);
	return walk_64bit(w, entry & PTE_ADDRESS, 2);
}

static int walk_long(struct walk *w)
{
	unsigned levels = w->paging->cr4 & CR4_LA57 ? 5 : 4;
	uint64_t sign = w->gva >> (11 + 9 * levels);

	if (sign != 0 && sign != UINT64_MAX >> (11 + 9 * levels))
		return -EINVAL;
	return walk_64bit(w, w->paging->cr3 & PTE_ADDRESS, levels);
}

int guest_walk(const struct guest_paging *paging, void *space, gva_t gva, unsigned access,
	       struct guest_translation *out)
{
	return guest_walk_path(paging, space, gva, access, out, NULL);
}

int guest_walk_path(const struct guest_paging *paging, void *space, gva_t gva, unsigned access,
		    struct guest_translation *out, struct guest_path *path)
{
	struct walk w = {
		.paging = paging,
		.space = space,
		.gva = gva.v,
		.access = access,
		.rights = PTE_WRITE | PTE_USER | PTE_NX,
		.out = out,
		.path = path,
	};

	*out = (struct guest_translation){ 0 };
	if (path)
		path->count = 0;
	if (paging->efer & EFER_LMA)
		return walk_long(&w);
	w.gva &= UINT32_MAX;
	if (!(paging->cr0 & CR0_PG)) {
		out->gpa = GPA(w.gva);
		out->page_size = SIZE_4K;
		return 0;
	}
	return paging->cr4 & CR4_PAE ? walk_pae(&w) : walk_32bit(&w);
}

size_t guest_fetch(const struct guest_paging *paging, void *space, gva_t gva, void *buf, size_t size)
{
	struct guest_translation t;
	size_t done = 0;

	if (size > GUEST_FETCH_MAX)
		size = GUEST_FETCH_MAX;
	while (done < size) {
		gva_t at = GVA(gva.v + done);
		size_t chunk = PAGE_SIZE - (at.v & (PAGE_SIZE - 1));

		if (chunk > size - done)
			chunk = size - done;
		if (guest_walk(paging, space, at, GUEST_FETCH | GUEST_UNCHECKED, &t) ||
		    !guest_phys_read(space, t.gpa, (uint8_t *)buf + done, chunk))
			break;
		done += chunk;
	}
	return done;
}
