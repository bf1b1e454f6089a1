/* SPDX-License-Identifier: MIT */
/*
 * Statistics pages: the counters' way into the published slots (hv/stats.h). Only the root maps any.
 *
 * The hypervisor only writes these pages. One LP at a time refreshes a bounded number of them, taking turns around a ring of those that are
 * mapped; the lock keeps a page from being taken away meanwhile, and its object from going, and nobody waits for it on a timer.
 */
#include <hv/stats.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/host_memory.h>
#include <trivet/lock.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/run_time.h>
#include <trivet/statistics.h>
#include <trivet/vp.h>

#define PAGES_PER_REFRESH 16u
/* Between two refreshes, as long as no page waits for its turn longer than the round. */
#define REFRESH_INTERVAL_MS 5u
#define ROUND_MS 1000u

_Atomic bool statistics_mapped;
struct statistics_object statistics_hypervisor;

static struct partition *root;
static struct spinlock lock = SPINLOCK_INIT(LOCK_RANK_STATISTICS); /* the objects' pages and ring */
static struct statistics_object *next_object; /* of the ring, whose turn it is; NULL: it is empty */
static uint32_t mapped_count;
static uint64_t refreshes;
static _Atomic uint64_t refresh_due_tsc;
static _Atomic uint32_t child_vps;
static uint8_t categories[VP_EXIT_COUNTS]; /* enum exit_category, by index of vp->exit_counts */

void statistics_init(struct partition *partition)
{
	root = partition;
	statistics_hypervisor = (struct statistics_object){ 0 };
	next_object = NULL;
	mapped_count = 0;
	atomic_store(&child_vps, 0);
	atomic_store(&refresh_due_tsc, 0);
	for (uint32_t i = 0; i < ARRAY_SIZE(categories); i++)
		categories[i] = (uint8_t)backend->exit_category(i);
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

static uint32_t load32(const _Atomic uint32_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static uint64_t load64(const uint64_t *value)
{
	return __atomic_load_n(value, __ATOMIC_RELAXED);
}

static void fill_hypervisor(struct hv_stats_page *page)
{
	set(page, HV_STAT_HYPERVISOR_LOGICAL_PROCESSORS, partition_added_lps(root));
	set(page, HV_STAT_HYPERVISOR_PARTITIONS, partition_count());
	set(page, HV_STAT_HYPERVISOR_TOTAL_PAGES, page_pool_total_pages(&host_pool));
	set(page, HV_STAT_HYPERVISOR_VIRTUAL_PROCESSORS, root->vp_count + load32(&child_vps));
}

static void fill_partition(struct hv_stats_page *page, const struct partition *partition)
{
	const struct deposit_pool *deposits = &partition->deposits;
	bool is_root = partition == root;

	set(page, HV_STAT_PARTITION_VIRTUAL_PROCESSORS,
	    is_root ? root->vp_count : load32(&partition->statistics.child_vps));
	set(page, HV_STAT_PARTITION_DEPOSITED_PAGES,
	    load64(&deposits->free_pages) + load64(&deposits->used_pages));
	set(page, HV_STAT_PARTITION_GPA_PAGES,
	    atomic_load_explicit(&partition->statistics.gpa_pages, memory_order_relaxed));
	set(page, HV_STAT_PARTITION_GPA_SPACE_MODIFICATIONS, load64(&partition->space.generation));
	set(page, HV_STAT_PARTITION_DEVICE_INTERRUPT_MAPPINGS, partition->device_interrupts.mappings);
	set(page, HV_STAT_PARTITION_PARTITION_ID, partition->id);
	set(page, HV_STAT_PARTITION_NUMBER_OF_ACTIVE_CHILD_PARTITIONS, is_root ? partition_count() - 1 : 0);
}

static void fill_lp(struct hv_stats_page *page, const struct lp *lp)
{
	uint64_t time = reference_time_100ns(root), run_tsc = lp_run_time_tsc(lp);
	uint64_t waits = atomic_load_explicit(&lp->run_time.waits, memory_order_relaxed);

	set(page, HV_STAT_LP_GLOBAL_TIME, time);
	set(page, HV_STAT_LP_TOTAL_RUN_TIME, tsc_to_100ns(&root->reference_time, run_tsc));
	set(page, HV_STAT_LP_HARDWARE_INTERRUPTS, load64(&lp->interrupts));
	set(page, HV_STAT_LP_CONTEXT_SWITCHES, load64(&lp->switches));
	set(page, HV_STAT_LP_INTER_PROCESSOR_INTERRUPTS, load64(&lp->kicks_taken));
	set(page, HV_STAT_LP_TIMER_INTERRUPTS, load64(&lp->timer_interrupts));
	set(page, HV_STAT_LP_PROCESSOR_HALTS, waits);
	set(page, HV_STAT_LP_C1_TRANSITIONS_COUNT, waits);
	set(page, HV_STAT_LP_C1_RUN_TIME, tsc_to_100ns(&root->reference_time, lp_idle_time_tsc(lp)));
	set(page, HV_STAT_LP_ROOT_VP_INDEX, lp->root_vp->index);
	set(page, HV_STAT_LP_GLOBAL_TSC_COUNT, lp_clock());
	set(page, HV_STAT_LP_ACTIVE_TSC_COUNT, run_tsc);
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
	set(page, HV_STAT_VP_IDEAL_CPU, __atomic_load_n(&vp->lp, __ATOMIC_RELAXED)->index);
	set(page, HV_STAT_VP_HYPERCALLS_COUNT, load64(&vp->hypercalls));
	set(page, HV_STAT_VP_ADDRESS_DOMAIN_FLUSHES, load64(&vp->flushes));
	set(page, HV_STAT_VP_VIRTUAL_MMU_HYPERCALLS, load64(&vp->flush_calls));
	set(page, HV_STAT_VP_VIRTUAL_INTERRUPT_HYPERCALLS, load64(&vp->ipi_calls));
	set(page, HV_STAT_VP_APIC_IPIS_SENT, load64(&vp->ipis_sent));
	set(page, HV_STAT_VP_LONG_SPIN_WAIT_HYPERCALLS, load64(&vp->long_spin_waits));
	set(page, HV_STAT_VP_LOGICAL_PROCESSOR_DISPATCHES, load64(&vp->dispatches));
	set(page, HV_STAT_VP_LOGICAL_PROCESSOR_MIGRATIONS, load64(&vp->migrations));
	set(page, HV_STAT_VP_IO_INTERCEPT_MESSAGES, load64(&vp->io_messages));
	set(page, HV_STAT_VP_MEMORY_INTERCEPT_MESSAGES, load64(&vp->memory_messages));
	set(page, HV_STAT_VP_OTHER_MESSAGES, load64(&vp->other_messages));
}

/* With what is counted now. */
static void fill_with_counts(struct hv_stats_page *page, const struct statistics_object *object)
{
	switch ((enum statistics_kind)object->kind) {
	case STATISTICS_HYPERVISOR:
		fill_hypervisor(page);
		break;
	case STATISTICS_LP:
		fill_lp(page, container_of(object, const struct lp, statistics));
		break;
	case STATISTICS_PARTITION:
		fill_partition(page, container_of(object, const struct partition, statistics.object));
		break;
	case STATISTICS_VP:
		fill_vp(page, container_of(object, const struct vp, statistics));
		break;
	}
}

/* ---- The ring; under the lock ---- */

/* Last in the round that begins with the next object. */
static void link_object(struct statistics_object *object)
{
	if (!next_object)
		next_object = object->prev = object;
	object->next = next_object;
	object->prev = next_object->prev;
	object->prev->next = object;
	next_object->prev = object;
	if (mapped_count++ == 0)
		atomic_store(&statistics_mapped, true);
}

static void unlink_object(struct statistics_object *object)
{
	object->prev->next = object->next;
	object->next->prev = object->prev;
	if (next_object == object)
		next_object = object->next == object ? NULL : object->next;
	object->next = object->prev = NULL;
	if (--mapped_count == 0)
		atomic_store(&statistics_mapped, false);
}

/* So that a round takes no longer than it may, but no LP's part of the work grows. */
static uint64_t interval_tsc(void)
{
	uint64_t usual = lp_tsc_hz() / 1000 * REFRESH_INTERVAL_MS;
	uint64_t least = usual / lp_count;
	uint64_t wanted = lp_tsc_hz() / 1000 * ROUND_MS / (mapped_count / PAGES_PER_REFRESH + 1);

	if (wanted > usual)
		return usual;
	return wanted > least ? wanted : least;
}

void statistics_refresh(void)
{
	uint64_t now = lp_clock();

	if (now < atomic_load_explicit(&refresh_due_tsc, memory_order_relaxed) || !spin_trylock(&lock))
		return;
	atomic_store_explicit(&refresh_due_tsc, now + interval_tsc(), memory_order_relaxed);
	refreshes++;
	for (uint32_t i = 0; i < mapped_count && i < PAGES_PER_REFRESH; i++) {
		fill_with_counts(deposit_page_pointer(next_object->page), next_object);
		next_object = next_object->next;
	}
	spin_unlock(&lock);
}

/* ---- Pages come and go ---- */

/* Enters a page for the object unless it has one. True: `*page` is in use now, else the one that is there. */
static bool enter_page(struct statistics_object *object, enum statistics_kind kind, uint64_t *page)
{
	bool entered = false;

	spin_lock(&lock);
	if (!object->page && *page) {
		object->page = *page;
		object->kind = (uint8_t)kind;
		link_object(object);
		fill_with_counts(deposit_page_pointer(*page), object);
		entered = true;
	} else {
		*page = object->page;
	}
	spin_unlock(&lock);
	return entered;
}

/* 0: it has none. */
static uint64_t remove_page(struct statistics_object *object)
{
	uint64_t page;

	spin_lock(&lock);
	page = object->page;
	if (page)
		unlink_object(object);
	object->page = 0;
	spin_unlock(&lock);
	return page;
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

uint16_t statistics_map(struct vp *caller, enum statistics_kind kind, struct statistics_object *object,
			uint64_t *page)
{
	uint64_t own;

	*page = 0;
	enter_page(object, kind, page);
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
	return enter_page(object, kind, page) ? HV_STATUS_SUCCESS : give_page_back(caller, own);
}

uint16_t statistics_unmap(struct vp *caller, struct statistics_object *object)
{
	uint64_t page = remove_page(object);

	return page ? give_page_back(caller, page) : HV_STATUS_NOT_FOUND;
}

void statistics_add_vp(struct vp *vp)
{
	vp->statistics.counted = true;
	atomic_fetch_add(&vp->partition->statistics.child_vps, 1);
	atomic_fetch_add(&child_vps, 1);
}

static void forget(struct statistics_object *object, struct vp *caller)
{
	uint64_t page = remove_page(object);

	if (page)
		give_page_back(caller, page); /* if that fails, nothing of the child's is lost by it */
}

void statistics_forget_partition(struct partition *partition, struct vp *caller)
{
	forget(&partition->statistics.object, caller);
}

void statistics_forget_vp(struct vp *vp, struct vp *caller)
{
	forget(&vp->statistics, caller);
	if (!vp->statistics.counted)
		return;
	vp->statistics.counted = false;
	atomic_fetch_sub(&vp->partition->statistics.child_vps, 1);
	atomic_fetch_sub(&child_vps, 1);
}
