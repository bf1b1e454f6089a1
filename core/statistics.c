/* SPDX-License-Identifier: MIT */
/*
 * Statistics pages: the counters' way into the published slots (hv/stats.h). Only the root maps any today.
 *
 * The hypervisor only writes these pages. One LP at a time refreshes a bounded number of them; the lock keeps a page
 * from being taken away meanwhile, and nobody waits for it on a timer.
 */
#include <errno.h>
#include <hv/stats.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/run_time.h>
#include <trivet/statistics.h>
#include <trivet/vp.h>

#define REFRESH_INTERVAL_MS 5u
#define PAGES_PER_REFRESH 16u

_Atomic bool statistics_mapped;

static struct partition *root;
static uint64_t *pages; /* by object: page number of the mapped page, 0: none */
static uint32_t object_count;
static uint32_t mapped_count;
static uint32_t next_object;
static uint64_t refreshes;
static _Atomic uint64_t refresh_due_tsc;
static atomic_flag busy = ATOMIC_FLAG_INIT;
static uint8_t categories[VP_EXIT_COUNTS]; /* enum exit_category, by index of vp->exit_counts */

int statistics_init(struct partition *partition)
{
	root = partition;
	mapped_count = 0;
	object_count = STATISTICS_LP(partition->vp_count);
	pages = page_alloc(&host_pool, page_order_for(object_count * sizeof(*pages)));
	for (uint32_t i = 0; i < ARRAY_SIZE(categories); i++)
		categories[i] = (uint8_t)backend->exit_category(i);
	return pages ? 0 : -ENOMEM;
}

static void set(struct hv_stats_page *page, uint32_t slot, uint64_t value)
{
	__atomic_store_n(&page->counter[slot], value, __ATOMIC_RELAXED);
}

struct exit_totals {
	uint64_t of[EXIT_CATEGORY_COUNT];
};

/* Another LP may be counting: each number is right for some moment. */
static void add_up(const struct vp *vp, struct exit_totals *totals)
{
	*totals = (struct exit_totals){ 0 };
	for (uint32_t i = 0; i < VP_EXIT_COUNTS; i++)
		totals->of[categories[i]] += __atomic_load_n(&vp->exit_counts[i], __ATOMIC_RELAXED);
}

static void fill_hypervisor(struct hv_stats_page *page)
{
	set(page, HV_STAT_HYPERVISOR_LOGICAL_PROCESSORS, partition_added_lps(root));
	set(page, HV_STAT_HYPERVISOR_PARTITIONS, 1);
	set(page, HV_STAT_HYPERVISOR_TOTAL_PAGES, page_pool_total_pages(&host_pool));
	set(page, HV_STAT_HYPERVISOR_VIRTUAL_PROCESSORS, root->vp_count);
}

static void fill_partition(struct hv_stats_page *page)
{
	set(page, HV_STAT_PARTITION_VIRTUAL_PROCESSORS, root->vp_count);
	set(page, HV_STAT_PARTITION_DEPOSITED_PAGES, root->deposits.free_pages + root->deposits.used_pages);
	set(page, HV_STAT_PARTITION_GPA_SPACE_MODIFICATIONS,
	    __atomic_load_n(&root->space.generation, __ATOMIC_RELAXED));
	set(page, HV_STAT_PARTITION_DEVICE_INTERRUPT_MAPPINGS, root->device_interrupts.mappings);
	set(page, HV_STAT_PARTITION_PARTITION_ID, root->id);
}

static void fill_lp(struct hv_stats_page *page, const struct vp *vp)
{
	uint64_t time = reference_time_100ns(root);
	struct exit_totals exits;

	add_up(vp, &exits);
	set(page, HV_STAT_LP_GLOBAL_TIME, time);
	set(page, HV_STAT_LP_TOTAL_RUN_TIME, vp_run_time_100ns(vp));
	set(page, HV_STAT_LP_HARDWARE_INTERRUPTS, exits.of[EXIT_CATEGORY_INTERRUPT]);
	set(page, HV_STAT_LP_INTER_PROCESSOR_INTERRUPTS, vp->lp->kicks_taken);
	set(page, HV_STAT_LP_TIMER_INTERRUPTS, vp->lp->timer_interrupts);
	set(page, HV_STAT_LP_PROCESSOR_HALTS, exits.of[EXIT_CATEGORY_HLT]);
	set(page, HV_STAT_LP_C1_TRANSITIONS_COUNT, exits.of[EXIT_CATEGORY_HLT]);
	set(page, HV_STAT_LP_ROOT_VP_INDEX, vp->index);
	set(page, HV_STAT_LP_GLOBAL_TSC_COUNT, lp_clock());
	set(page, HV_STAT_LP_ACTIVE_TSC_COUNT, vp_run_time_tsc(vp));
	set(page, HV_STAT_LP_COUNTER_REFRESH_SEQUENCE_NUMBER, refreshes);
	set(page, HV_STAT_LP_COUNTER_REFRESH_REFERENCE_TIME, time);
}

static void fill_vp(struct hv_stats_page *page, const struct vp *vp)
{
	static const struct {
		uint8_t category, slot;
	} counts[] = {
		{ EXIT_CATEGORY_INVALIDATION, HV_STAT_VP_PAGE_INVALIDATIONS_COUNT },
		{ EXIT_CATEGORY_CONTROL_REGISTER, HV_STAT_VP_CONTROL_REGISTER_ACCESSES_COUNT },
		{ EXIT_CATEGORY_IO, HV_STAT_VP_IO_INSTRUCTIONS_COUNT },
		{ EXIT_CATEGORY_HLT, HV_STAT_VP_HLT_INSTRUCTIONS_COUNT },
		{ EXIT_CATEGORY_MWAIT, HV_STAT_VP_MWAIT_INSTRUCTIONS_COUNT },
		{ EXIT_CATEGORY_CPUID, HV_STAT_VP_CPUID_INSTRUCTIONS_COUNT },
		{ EXIT_CATEGORY_MSR, HV_STAT_VP_MSR_ACCESSES_COUNT },
		{ EXIT_CATEGORY_OTHER, HV_STAT_VP_OTHER_INTERCEPTS_COUNT },
		{ EXIT_CATEGORY_INTERRUPT, HV_STAT_VP_EXTERNAL_INTERRUPTS_COUNT },
		{ EXIT_CATEGORY_INTERRUPT, HV_STAT_VP_HARDWARE_INTERRUPTS },
		{ EXIT_CATEGORY_WINDOW, HV_STAT_VP_PENDING_INTERRUPTS_COUNT },
		{ EXIT_CATEGORY_DEBUG_REGISTER, HV_STAT_VP_DEBUG_REGISTER_ACCESSES_COUNT },
		{ EXIT_CATEGORY_SECOND_STAGE, HV_STAT_VP_PAGE_FAULT_INTERCEPTS_COUNT },
		{ EXIT_CATEGORY_SECOND_STAGE, HV_STAT_VP_NESTED_PAGE_FAULT_INTERCEPTS_COUNT },
		{ EXIT_CATEGORY_APIC, HV_STAT_VP_APIC_MMIO_ACCESSES },
		{ EXIT_CATEGORY_RDPMC, HV_STAT_VP_RDPMC_INSTRUCTIONS_COUNT },
	};
	struct exit_totals exits;

	add_up(vp, &exits);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		set(page, counts[i].slot, exits.of[counts[i].category]);
	set(page, HV_STAT_VP_TOTAL_RUN_TIME, vp_run_time_100ns(vp));
	set(page, HV_STAT_VP_IDEAL_CPU, vp->index);
	set(page, HV_STAT_VP_HYPERCALLS_COUNT, vp->hypercalls);
	set(page, HV_STAT_VP_ADDRESS_DOMAIN_FLUSHES, vp->flushes);
	set(page, HV_STAT_VP_VIRTUAL_MMU_HYPERCALLS, vp->flush_calls);
	set(page, HV_STAT_VP_VIRTUAL_INTERRUPT_HYPERCALLS, vp->ipi_calls);
	set(page, HV_STAT_VP_APIC_IPIS_SENT, vp->ipis_sent);
	set(page, HV_STAT_VP_LONG_SPIN_WAIT_HYPERCALLS, vp->long_spin_waits);
}

void statistics_fill(struct hv_stats_page *page, uint32_t object)
{
	uint32_t index = (object - STATISTICS_LP(0)) / 2;

	if (object == STATISTICS_HYPERVISOR)
		fill_hypervisor(page);
	else if (object == STATISTICS_PARTITION)
		fill_partition(page);
	else if (object == STATISTICS_LP(index))
		fill_lp(page, root->vps[index]);
	else
		fill_vp(page, root->vps[index]);
}

static void lock(void)
{
	while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
		cpu_relax();
}

static void unlock(void)
{
	atomic_flag_clear_explicit(&busy, memory_order_release);
}

void statistics_refresh(void)
{
	uint64_t now = lp_clock();
	uint32_t filled = 0;

	if (now < atomic_load_explicit(&refresh_due_tsc, memory_order_relaxed) ||
	    atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
		return;
	atomic_store_explicit(&refresh_due_tsc, now + lp_tsc_hz() / 1000 * REFRESH_INTERVAL_MS,
			      memory_order_relaxed);
	refreshes++;
	for (uint32_t i = 0; i < object_count && filled < PAGES_PER_REFRESH; i++) {
		uint32_t object = next_object;

		next_object = next_object + 1 < object_count ? next_object + 1 : 0;
		if (!pages[object])
			continue;
		statistics_fill(deposit_page_pointer(pages[object]), object);
		filled++;
	}
	unlock();
}

/* Enters a page for the object unless it has one. True: `*page` is in use now, else the one that is there. */
static bool enter_page(uint32_t object, uint64_t *page)
{
	bool entered = false;

	lock();
	if (!pages[object] && *page) {
		pages[object] = *page;
		mapped_count++;
		statistics_fill(deposit_page_pointer(*page), object);
		atomic_store(&statistics_mapped, true);
		entered = true;
	} else {
		*page = pages[object];
	}
	unlock();
	return entered;
}

/*
 * A page that can't be taken out of the caller's space stays there for good, and in use: it shows numbers that stand
 * still.
 */
static uint16_t give_page_back(struct vp *caller, uint64_t page)
{
	if (deposit_hide(caller, page))
		return HV_STATUS_OPERATION_FAILED;
	deposit_free(caller->partition, page);
	return HV_STATUS_SUCCESS;
}

uint16_t statistics_map(struct vp *caller, uint32_t object, uint64_t *page)
{
	uint64_t own;

	*page = 0;
	enter_page(object, page);
	if (*page)
		return HV_STATUS_SUCCESS;
	if (!deposit_alloc(caller->partition, page))
		return HV_STATUS_INSUFFICIENT_MEMORY;
	/* Another status than the one that asks for deposits: those would not help, and Linux would go on for ever. */
	if (deposit_show(caller, *page, false)) {
		deposit_free(caller->partition, *page);
		*page = 0;
		return HV_STATUS_OPERATION_FAILED;
	}
	own = *page;
	/* Another VP may have been faster. */
	return enter_page(object, page) ? HV_STATUS_SUCCESS : give_page_back(caller, own);
}

uint16_t statistics_unmap(struct vp *caller, uint32_t object)
{
	uint64_t page;

	lock();
	page = pages[object];
	pages[object] = 0;
	if (page && --mapped_count == 0)
		atomic_store(&statistics_mapped, false);
	unlock();
	if (!page)
		return HV_STATUS_NOT_FOUND;
	return give_page_back(caller, page);
}
