/* SPDX-License-Identifier: MIT */
/*
 * The root partition: a VP on every LP, and all physical memory at its own address but for what the hypervisor must own:
 * its memory, the trampoline page and the local APIC's page. Device memory above 4 GiB is mapped when first touched.
 */
#include "memory_types.h"
#include <errno.h>
#include <trivet/backend.h>
#include <trivet/flush.h>
#include <trivet/host_memory.h>
#include <trivet/hypercall.h>
#include <trivet/hypercall_page.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/page_use.h>
#include <trivet/partition.h>
#include <trivet/statistics.h>
#include <trivet/vp.h>

#define LOW_MEMORY_SIZE (4 * SIZE_1G)

struct partition root_partition = {
	.id = 1,
	.pages = &host_pages,
	.space_lock = SPINLOCK_INIT(LOCK_RANK_PARTITION),
	.deposits.lock = SPINLOCK_INIT(LOCK_RANK_DEPOSIT),
	.device_interrupts.lock = SPINLOCK_INIT(LOCK_RANK_DEVICE_INTERRUPTS),
	.ports.lock = SPINLOCK_INIT(LOCK_RANK_PORTS),
};

static uint64_t block_base, block_size, trampoline_base;
static unsigned int phys_bits;

/* Maps [start, end) without [hole, hole + hole_size), and goes on with the next hole. */
static int map_around(uint64_t start, uint64_t end, unsigned int hole_index)
{
	const struct {
		uint64_t base, size;
	} holes[3] = {
		{ block_base, block_size },
		{ trampoline_base, trampoline_base ? PAGE_SIZE : 0 },
		{ APIC_BASE_DEFAULT, PAGE_SIZE },
	};
	uint64_t hole_start, hole_end;
	int err;

	if (start >= end)
		return 0;
	if (hole_index == ARRAY_SIZE(holes))
		return memory_types_map(&root_partition.space, start, end, backend->memory_type);
	hole_start = holes[hole_index].base;
	hole_end = hole_start + holes[hole_index].size;
	if (hole_start == hole_end || hole_end <= start || hole_start >= end)
		return map_around(start, end, hole_index + 1);
	err = map_around(start, hole_start, hole_index + 1);
	return err ? err : map_around(hole_end, end, hole_index + 1);
}

static int map_identity(uint64_t start, uint64_t end)
{
	return map_around(start, end, 0);
}

static int map_memory(const struct boot_handoff *handoff)
{
	const struct boot_memory_range *map = (const void *)(HV_VIRT_BASE + handoff->memory_map_offset);
	int err = map_identity(0, LOW_MEMORY_SIZE);

	for (uint64_t i = 0; i < handoff->memory_map_count && !err; i++) {
		uint64_t start = map[i].base_hpa;
		uint64_t end = start + map[i].size;

		if (map[i].kind == BOOT_MEMORY_MMIO || end <= LOW_MEMORY_SIZE || end >> phys_bits)
			continue;
		err = map_identity(start < LOW_MEMORY_SIZE ? LOW_MEMORY_SIZE : start, end);
	}
	return err;
}

/* What the root has at a page without overlays. */
static int map_beneath(struct partition *partition, uint64_t gpn, uint64_t beneath)
{
	uint64_t start = gpn << PAGE_SHIFT;

	(void)beneath;

	if (host_memory_is_ours(HPA(start), PAGE_SIZE))
		return ss_unmap(&partition->space, GPA(start), PAGE_SIZE);
	return map_identity(start, start + PAGE_SIZE);
}

/* What the interface has for the partition as a whole. -ENOMEM. */
static int init_interface(void)
{
	int err;

	overlay_space_init(&root_partition, phys_bits, true, map_beneath);
	lp_tsc_start(lp_table[0]);
	err = hypercall_page_init(&root_partition);
	return err ? err :
		     reference_time_init(&root_partition, lp_tsc_hz(), rdtsc(),
					 atomic_load(&lp_table[0]->tsc_moved));
}

int root_init(const struct boot_handoff *handoff)
{
	int err;

	block_base = handoff->hv_base;
	block_size = handoff->hv_size;
	trampoline_base = handoff->trampoline_hpa;
	phys_bits = backend->phys_bits();
	if (phys_bits > SS_GPA_BITS)
		phys_bits = SS_GPA_BITS;
	err = ss_init(&root_partition.space, backend->ss_format, &host_pages, backend->ss_flags(false));
	if (!err)
		err = map_memory(handoff);
	if (!err && backend->apic_page().v)
		err = ss_map(&root_partition.space, GPA(APIC_BASE_DEFAULT), backend->apic_page(), PAGE_SIZE,
			     SS_READ | SS_WRITE, 0);
	if (err)
		return err;
	/* Nothing has run on these tables yet. */
	ss_note_flush(&root_partition.space, root_partition.space.generation);
	ss_reclaim(&root_partition.space);

	if (handoff->root_interface == BOOT_ROOT_HV) {
		root_partition.hv = true;
		hv_cpuid_init(&root_partition);
		err = init_interface();
		if (!err)
			err = page_use_init();
		if (!err)
			err = device_interrupts_init(&root_partition, lp_count);
		if (err)
			return err;
	}
	root_partition.vps = page_alloc(&host_pool, page_order_for(lp_count * sizeof(void *)));
	if (!root_partition.vps)
		return -ENOMEM;
	for (uint32_t i = 0; i < lp_count && !err; i++) {
		if (root_partition.hv)
			err = hypercall_lp_init(lp_table[i]);
		if (!err)
			err = vp_create(&root_partition, i, lp_table[i], &root_partition.vps[i]);
	}
	root_partition.vp_count = lp_count;
	if (!err && root_partition.hv)
		statistics_init(&root_partition);
	return err;
}

/*
 * A hole is device memory that nobody touched yet, or RAM that the root has deposited, or a page that no table was left for when a deposit
 * failed. Under space_lock: -EACCES when the root has no business there: deposited memory, or a page that it has for less than all accesses
 * (a read-only one).
 */
static int fill_hole(gpa_t gpa)
{
	uint64_t start = ALIGN_DOWN(gpa.v, SIZE_1G), end = start + SIZE_1G;
	struct ss_mapping mapping;

	if (ss_lookup(&root_partition.space, gpa, &mapping))
		return mapping.perm == SS_RWX ? 0 : -EACCES; /* 0: another processor was faster */
	if (!host_memory_clip_to_devices(HPA(gpa.v), &start, &end)) {
		start = ALIGN_DOWN(gpa.v, PAGE_SIZE);
		if (page_use_is_deposited(start >> PAGE_SHIFT))
			return -EACCES;
		return map_identity(start, start + PAGE_SIZE);
	}
	if (overlay_in_range(&root_partition, start, end)) { /* it stays on top */
		start = ALIGN_DOWN(gpa.v, PAGE_SIZE);
		end = start + PAGE_SIZE;
	}
	return map_identity(ALIGN_UP(start, PAGE_SIZE), ALIGN_DOWN(end, PAGE_SIZE));
}

static enum fault_result map_device_memory(struct vp *vp, gpa_t gpa)
{
	int err;

	spin_lock(&root_partition.space_lock);
	err = fill_hole(gpa);
	spin_unlock(&root_partition.space_lock);
	flush_and_reclaim(&root_partition, vp);
	if (err == -EACCES) {
		static struct log_ratelimit bucket;

		log_vp_ratelimited(
			&bucket, LOG_WARN, vp->partition->id, vp->index,
			"rip 0x%llx: touched memory at 0x%llx that it deposited, or may only read: #GP",
			(unsigned long long)backend->rip(vp), (unsigned long long)gpa.v);
		return FAULT_REFUSED;
	}
	if (err) {
		static struct log_ratelimit bucket;

		log_vp_ratelimited(&bucket, LOG_ERROR, vp->partition->id, vp->index,
				   "no page left to map 0x%llx: #GP. Give the hypervisor more memory (memory "
				   "= in trivet.conf)",
				   (unsigned long long)gpa.v);
		return FAULT_REFUSED;
	}
	return FAULT_RETRY;
}

void root_memory_types_changed(struct vp *vp)
{
	static struct log_ratelimit bucket, no_page_bucket;
	struct second_stage *space = &root_partition.space;
	uint64_t generation;
	int err;

	spin_lock(&root_partition.space_lock);
	generation = space->generation;
	err = memory_types_refresh(space, backend->memory_type);
	log_vp_ratelimited(&bucket, LOG_DEBUG, vp->partition->id, vp->index,
			   "memory types: %s, %llu KiB of tables",
			   space->generation != generation ? "changed" : "as before",
			   (unsigned long long)(space->table_pages * PAGE_SIZE >> 10));
	spin_unlock(&root_partition.space_lock);
	flush_and_reclaim(&root_partition, vp);
	if (err)
		log_vp_ratelimited(
			&no_page_bucket, LOG_WARN, vp->partition->id, vp->index,
			"no page left for new memory types, some memory keeps its old one. Give the "
			"hypervisor more memory (memory = in trivet.conf)");
}

enum fault_result root_second_stage_fault(struct vp *vp, gpa_t gpa, bool is_fetch, bool is_walk)
{
	if (ALIGN_DOWN(gpa.v, PAGE_SIZE) == APIC_BASE_DEFAULT) {
		if (is_fetch || is_walk)
			return FAULT_REFUSED;
		return vp_apic_page_access(vp, gpa);
	}
	if (host_memory_is_ours(HPA(gpa.v), 1)) {
		static struct log_ratelimit bucket;

		log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index,
				   "rip 0x%llx: touched the hypervisor's memory at 0x%llx: #GP",
				   (unsigned long long)backend->rip(vp), (unsigned long long)gpa.v);
		return FAULT_REFUSED;
	}
	if (gpa.v >> phys_bits)
		return FAULT_REFUSED;
	return map_device_memory(vp, gpa);
}
