/* SPDX-License-Identifier: MIT */
/*
 * Overlay pages. The specification leaves open which of two overlays on one page is seen; here it is the one laid
 * there last, and the local APIC's page before all. A change is made in an order in which what can fail comes first, so
 * that a refused write has changed nothing.
 */
#include <errno.h>

#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/flush.h>
#include <trivet/host_memory.h>
#include <trivet/log.h>
#include <trivet/overlay.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

static const uint8_t permissions[OVERLAY_KIND_COUNT] = {
	[OVERLAY_HYPERCALL] = SS_READ | SS_EXEC,  [OVERLAY_REFERENCE_TSC] = SS_READ,
	[OVERLAY_VP_ASSIST] = SS_READ | SS_WRITE, [OVERLAY_SIMP] = SS_READ | SS_WRITE,
	[OVERLAY_SIEFP] = SS_READ | SS_WRITE,	  [OVERLAY_SIRBP] = SS_READ | SS_WRITE,
};

void overlay_space_init(struct partition *partition, unsigned int gpa_bits, bool identity,
			int (*map_beneath)(struct partition *partition, uint64_t gpn, uint64_t beneath))
{
	partition->overlays = (struct overlay_space){
		.gpa_bits = (uint8_t)(gpa_bits < SS_GPA_BITS ? gpa_bits : SS_GPA_BITS),
		.identity = identity,
		.map_beneath = map_beneath,
	};
}

static uint64_t own_gpn(const struct overlay *overlay)
{
	return hv_virt_to_phys(overlay->content).v >> PAGE_SHIFT;
}

static uint64_t reset_value(const struct partition *partition, const struct overlay *overlay)
{
	return partition->overlays.identity ? own_gpn(overlay) << OVERLAY_MSR_PAGE_SHIFT : 0;
}

int overlay_init(struct partition *partition, struct overlay *overlay, enum overlay_kind kind)
{
	overlay->content = partition->pages->alloc(partition->pages);
	if (!overlay->content)
		return -ENOMEM;
	overlay->partition = partition;
	overlay->kind = (uint8_t)kind;
	atomic_store_explicit(&overlay->msr, reset_value(partition, overlay), memory_order_relaxed);
	return 0;
}

void overlay_destroy(struct overlay *overlay)
{
	ASSERT(!overlay->mapped);
	if (overlay->content)
		overlay->partition->pages->free(overlay->partition->pages, overlay->content);
	*overlay = (struct overlay){ 0 };
}

static struct overlay **bucket_of(struct partition *partition, uint64_t gpn)
{
	return &partition->overlays.bucket[gpn % OVERLAY_BUCKETS];
}

/* What the VPs see at `gpn`: of those there the one that was laid last. */
static struct overlay *top_at(const struct partition *partition, uint64_t gpn)
{
	struct overlay *at = partition->overlays.bucket[gpn % OVERLAY_BUCKETS];

	while (at && at->gpn != gpn)
		at = at->next;
	return at;
}

static void count_displaced(struct partition *partition, const struct overlay *overlay, uint32_t change)
{
	if (overlay->gpn != own_gpn(overlay))
		atomic_fetch_add_explicit(&partition->overlays.displaced, change, memory_order_relaxed);
}

static void link_on_top(struct partition *partition, struct overlay *overlay, uint64_t gpn, uint64_t beneath)
{
	struct overlay **head = bucket_of(partition, gpn);

	partition->overlays.mapped++;
	overlay->gpn = gpn;
	overlay->beneath = beneath;
	overlay->mapped = true;
	overlay->next = *head;
	*head = overlay;
	count_displaced(partition, overlay, 1);
}

static void unlink_from(struct partition *partition, struct overlay *overlay)
{
	struct overlay **at = bucket_of(partition, overlay->gpn);

	while (*at != overlay)
		at = &(*at)->next;
	*at = overlay->next;
	partition->overlays.mapped--;
	overlay->next = NULL;
	overlay->mapped = false;
	count_displaced(partition, overlay, UINT32_MAX);
}

/*
 * Lets the VPs see `overlay` at `gpn`, or with NULL what is there without overlays: in a child, `beneath`. An overlay's leaf stays alone, whatever
 * a parent maps around it: taking it away must not depend on a page for a table.
 */
static int show(struct partition *partition, const struct overlay *overlay, uint64_t gpn, uint64_t beneath)
{
	hpa_t hpa;
	uint64_t end;

	if (gpn == APIC_BASE_DEFAULT >> PAGE_SHIFT)
		return 0;
	if (!overlay)
		return partition->overlays.map_beneath(partition, gpn, beneath);
	hpa = hv_virt_to_phys(overlay->content);
	end = hpa.v + PAGE_SIZE;
	return ss_map(&partition->space, GPA(gpn << PAGE_SHIFT), hpa, PAGE_SIZE,
		      permissions[overlay->kind] | SS_ALONE, backend->memory_type(hpa.v, &end));
}

/* Takes `overlay` away from where it lies. */
static int lift(struct partition *partition, struct overlay *overlay)
{
	uint64_t gpn = overlay->gpn, beneath = overlay->beneath;
	bool seen = top_at(partition, gpn) == overlay;
	int err;

	unlink_from(partition, overlay);
	if (!seen)
		return 0;
	err = show(partition, top_at(partition, gpn), gpn, beneath);
	if (err)
		link_on_top(partition, overlay, gpn, beneath); /* where it was */
	return err;
}

/* To `gpn`, from wherever it is. Nothing has changed after an error. */
static int lay(struct partition *partition, struct overlay *overlay, uint64_t gpn)
{
	uint64_t beneath = 0;
	int err;

	if (overlay->mapped && overlay->gpn == gpn)
		return 0;
	if (partition->overlays.read_beneath)
		beneath = partition->overlays.read_beneath(partition, gpn);
	err = show(partition, overlay, gpn, beneath);
	if (!err && overlay->mapped) {
		err = lift(partition, overlay);
		if (err)
			show(partition, top_at(partition, gpn), gpn, beneath); /* its tables are there */
	}
	if (!err)
		link_on_top(partition, overlay, gpn, beneath);
	return err;
}

static void log_no_page(const struct partition *partition, const struct vp *self)
{
	static struct log_ratelimit bucket;

	log_vp_ratelimited(&bucket, LOG_ERROR, partition->id, self ? self->index : 0,
			   "no page left for the tables of an overlay page: #GP. %s",
			   partition->overlays.identity ?
				   "Give the hypervisor more memory (memory = in trivet.conf)" :
				   "Its parent has deposited too little");
}

int overlay_change(struct partition *partition, const struct vp *self, struct overlay *overlay,
		   uint64_t value)
{
	uint64_t gpn = value >> OVERLAY_MSR_PAGE_SHIFT;
	int err = 0;

	if ((value & OVERLAY_MSR_ENABLE) &&
	    (value >> partition->overlays.gpa_bits || (partition->overlays.identity && deposit_holds(gpn))))
		return -EINVAL;
	if (value & OVERLAY_MSR_ENABLE)
		err = lay(partition, overlay, gpn);
	else if (overlay->mapped)
		err = lift(partition, overlay);
	if (err)
		log_no_page(partition, self);
	else
		atomic_store_explicit(&overlay->msr, value, memory_order_release);
	return err;
}

int overlay_write_msr(struct partition *partition, struct vp *self, struct overlay *overlay, uint64_t value)
{
	int err;

	spin_lock(&partition->space_lock);
	err = overlay_change(partition, self, overlay, value);
	spin_unlock(&partition->space_lock);
	flush_and_reclaim(partition, self);
	return err;
}

int overlay_reset(struct partition *partition, struct vp *self, struct overlay *overlay)
{
	return overlay_write_msr(partition, self, overlay, reset_value(partition, overlay));
}

uint64_t overlay_first_in(const struct partition *partition, uint64_t gpn, uint64_t end)
{
	const struct overlay_space *space = &partition->overlays;

	if (!space->mapped)
		return end;
	if (end - gpn < OVERLAY_BUCKETS) {
		while (gpn < end && !top_at(partition, gpn))
			gpn++;
		return gpn;
	}
	for (uint32_t i = 0; i < OVERLAY_BUCKETS; i++)
		for (const struct overlay *at = space->bucket[i]; at; at = at->next)
			if (at->gpn >= gpn && at->gpn < end)
				end = at->gpn;
	return end;
}

uint64_t overlay_beneath(const struct partition *partition, uint64_t gpn)
{
	return top_at(partition, gpn)->beneath;
}

void overlay_set_beneath(struct partition *partition, uint64_t gpn, uint64_t beneath)
{
	for (struct overlay *at = *bucket_of(partition, gpn); at; at = at->next)
		if (at->gpn == gpn)
			at->beneath = beneath;
}

bool overlay_forget_one(struct partition *partition, uint64_t *gpn, uint64_t *beneath, bool *bare)
{
	struct overlay **bucket = partition->overlays.bucket;
	struct overlay *overlay;

	if (!partition->overlays.mapped)
		return false;
	while (!*bucket)
		bucket++;
	overlay = *bucket;
	*gpn = overlay->gpn;
	*beneath = overlay->beneath;
	unlink_from(partition, overlay);
	*bare = !top_at(partition, *gpn);
	return true;
}

bool overlay_in_range(const struct partition *partition, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < OVERLAY_BUCKETS; i++) {
		const struct overlay *at = partition->overlays.bucket[i];

		for (; at; at = at->next)
			if (at->gpn >= start >> PAGE_SHIFT && at->gpn < end >> PAGE_SHIFT)
				return true;
	}
	return false;
}

void *overlay_at(const struct partition *partition, gpa_t gpa, bool write)
{
	struct ss_mapping mapping;

	/* Of the hypervisor's memory a partition's tables have overlays, and the page that stands for the local APIC. */
	if (gpa.v >> PAGE_SHIFT == APIC_BASE_DEFAULT >> PAGE_SHIFT ||
	    !ss_lookup(&partition->space, gpa, &mapping) || !host_memory_is_ours(mapping.hpa, 1) ||
	    (write && !(mapping.perm & SS_WRITE)))
		return NULL;
	return hv_phys_to_virt(mapping.hpa);
}
