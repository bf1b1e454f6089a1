/* unit: core/calls_statistics.c core/statistics.c core/page_alloc.c svm/names.c vmx/names.c */
/* SPDX-License-Identifier: MIT */
/* Statistics pages: where they come from, every refusal, the published slots, and that they are kept up to date. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/stats.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/host_memory.h>
#include <trivet/hypercall.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/run_time.h>
#include <trivet/statistics.h>
#include <trivet/vp.h>

#define VPS 40u
#define DEPOSITS 100u

enum exit_category svm_exit_category(uint32_t index);
enum exit_category vmx_exit_category(uint32_t index);

struct page_pool host_pool;
static uint8_t *arena;
static struct hv_stats_page deposited[DEPOSITS];
static bool free_page[DEPOSITS], shown[DEPOSITS];
static struct lp lps[VPS];
uint32_t lp_count;
static struct partition child;
static struct vp child_vps[VPS], *child_table[VPS];
static struct vp vps[VPS];
static uint64_t exit_counts[VPS][VP_EXIT_COUNTS], child_exit_counts[VPS][VP_EXIT_COUNTS];
static struct vp *vp_table[VPS];
static struct partition partition;
static struct backend fake;
const struct backend *backend = &fake;
static uint64_t clock_now;
static uint32_t added;
static bool no_tables;

hpa_t hv_virt_to_phys(const void *p)
{
	return HPA((uint64_t)p);
}

bool deposit_alloc(struct partition *of, uint64_t *page)
{
	assert_ptr_equal(of, &partition);
	for (uint64_t i = 0; i < DEPOSITS; i++)
		if (free_page[i]) {
			free_page[i] = false;
			memset(&deposited[i], 0, PAGE_SIZE);
			*page = 100 + i;
			return true;
		}
	return false;
}

void deposit_free(struct partition *of, uint64_t page)
{
	assert_ptr_equal(of, &partition);
	assert_false(free_page[page - 100]);
	assert_false(shown[page - 100]);
	free_page[page - 100] = true;
}

void *deposit_page_pointer(uint64_t page)
{
	return &deposited[page - 100];
}

int deposit_show(struct vp *caller, uint64_t page, bool writable)
{
	assert_false(writable);
	assert_ptr_equal(caller, &vps[0]);
	if (no_tables)
		return -ENOMEM;
	shown[page - 100] = true;
	return 0;
}

int deposit_hide(struct vp *caller, uint64_t page)
{
	assert_ptr_equal(caller, &vps[0]);
	if (no_tables)
		return -ENOMEM;
	shown[page - 100] = false;
	return 0;
}

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_ptr_equal(caller, &vps[0]);
	assert_int_equal(privilege, HV_PRIVILEGE_ACCESS_STATS);
	*status = HV_STATUS_SUCCESS;
	if (id == HV_PARTITION_ID_SELF || id == 1)
		return &partition;
	if (id == 7)
		return &child;
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

uint32_t partition_count(void)
{
	return 2;
}

bool partition_has_lp(const struct partition *of, uint32_t index)
{
	(void)of;
	return index < added;
}

uint32_t partition_added_lps(const struct partition *of)
{
	(void)of;
	return added;
}

uint64_t reference_time_100ns(const struct partition *of)
{
	(void)of;
	return clock_now / 100;
}

uint64_t vp_run_time_100ns(const struct vp *vp)
{
	return 5000 + vp->index;
}

uint64_t tsc_to_100ns(const struct reference_time *time, uint64_t ticks)
{
	assert_ptr_equal(time, &partition.reference_time);
	return ticks / 10;
}

uint64_t lp_run_time_tsc(const struct lp *lp)
{
	return 70000 + lp->index;
}

uint64_t lp_idle_time_tsc(const struct lp *lp)
{
	return 80000 + lp->index * 10;
}

uint64_t lp_clock(void)
{
	return clock_now;
}

uint64_t lp_tsc_hz(void)
{
	return 1000000000;
}

static int setup(void **state)
{
	(void)state;
	arena = aligned_alloc(SIZE_2M, SIZE_2M);
	assert_int_equal(page_pool_init(&host_pool, arena, 512), 0);
	memset(lps, 0, sizeof(lps));
	memset(vps, 0, sizeof(vps));
	memset(exit_counts, 0, sizeof(exit_counts));
	memset(child_exit_counts, 0, sizeof(child_exit_counts));
	memset(child_vps, 0, sizeof(child_vps));
	lp_count = VPS;
	memset(shown, 0, sizeof(shown));
	for (unsigned int i = 0; i < DEPOSITS; i++)
		free_page[i] = true;
	fake.exit_category = svm_exit_category;
	partition = (struct partition){
		.id = 1,
		.vps = vp_table,
		.vp_count = VPS,
		.privileges = HV_PRIVILEGE_CPU_MANAGEMENT | HV_PRIVILEGE_ACCESS_STATS,
	};
	for (unsigned int i = 0; i < VPS; i++) {
		lps[i].index = i;
		lps[i].root_vp = &vps[i];
		vps[i].exit_counts = exit_counts[i];
		vps[i].index = i;
		vps[i].lp = &lps[i];
		vps[i].partition = &partition;
		vp_table[i] = &vps[i];
	}
	child = (struct partition){
		.id = 7, .parent = &partition, .vps = child_table, .state = PARTITION_ACTIVE
	};
	memset(child_table, 0, sizeof(child_table));
	clock_now += 1000000000;
	added = 3;
	no_tables = false;
	statistics_init(&partition);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(arena);
	atomic_store(&statistics_mapped, false);
	return 0;
}

/* A child's VP, as partition_create_vp() leaves it. */
static struct vp *add_child_vp(uint32_t index)
{
	struct vp *vp = &child_vps[index];

	*vp = (struct vp){ .index = index, .lp = &lps[1], .partition = &child };
	vp->exit_counts = child_exit_counts[index];
	child_table[index] = vp;
	if (child.vp_count <= index)
		child.vp_count = index + 1;
	statistics_add_vp(vp);
	return vp;
}

static void forget_child_vp(uint32_t index)
{
	child_table[index] = NULL;
	statistics_forget_vp(&child_vps[index], &vps[0]);
	memset(&child_vps[index], 0xa5, sizeof(struct vp));
}

static uint16_t call(hypercall_handler handler, uint32_t type, union hv_stats_identity identity,
		     uint64_t *page)
{
	const struct hv_input_map_stats_page in = { .object_type = type, .identity = identity };
	struct hv_output_map_stats_page out = { 0 };
	struct hypercall c = { .vp = &vps[0], .partition = &partition, .input = &in, .output = &out };
	uint16_t status = handler(&c);

	if (page)
		*page = out.map_gpn;
	return status;
}

#define MAP(type, identity, page) \
	call(hypercall_map_stats_page, type, (union hv_stats_identity)identity, page)
#define UNMAP(type, identity) call(hypercall_unmap_stats_page, type, (union hv_stats_identity)identity, NULL)
#define HYPERVISOR                         \
	{                                  \
		.hypervisor = {.area = 0 } \
	}
#define LP(i)                            \
	{                                \
		.lp = {.lp_index = (i) } \
	}
#define VP(i)                                               \
	{                                                   \
		.vp = {.partition_id = 1, .vp_index = (i) } \
	}

#define CHILD_VP(i)                                         \
	{                                                   \
		.vp = {.partition_id = 7, .vp_index = (i) } \
	}
#define CHILD                                     \
	{                                         \
		.partition = {.partition_id = 7 } \
	}

static uint64_t counter(uint64_t page, uint32_t slot)
{
	return deposited[page - 100].counter[slot];
}

static void pages_come_from_the_deposits(void **state)
{
	uint64_t page, again, other;

	(void)state;
	memset(free_page, 0, sizeof(free_page));
	assert_int_equal(MAP(1, HYPERVISOR, &page), HV_STATUS_INSUFFICIENT_MEMORY);
	assert_int_equal(page, 0);
	free_page[2] = true; /* Linux deposits one page and asks again */
	assert_int_equal(MAP(1, HYPERVISOR, &page), HV_STATUS_SUCCESS);
	assert_int_equal(page, 102);
	assert_true(shown[2]);
	assert_int_equal(MAP(1, HYPERVISOR, &again), HV_STATUS_SUCCESS);
	assert_int_equal(again, page);
	assert_int_equal(MAP(2, LP(0), &other), HV_STATUS_INSUFFICIENT_MEMORY);
	assert_int_equal(UNMAP(1, HYPERVISOR), HV_STATUS_SUCCESS);
	assert_false(shown[2]);
	assert_true(free_page[2]);
	assert_int_equal(UNMAP(1, HYPERVISOR), HV_STATUS_NOT_FOUND);
	assert_int_equal(MAP(2, LP(0), &other), HV_STATUS_SUCCESS);
	assert_int_equal(other, 102);
}

/* Not INSUFFICIENT_MEMORY: Linux would deposit for ever. */
static void without_tables_it_fails_for_good(void **state)
{
	uint64_t page;

	(void)state;
	no_tables = true;
	assert_int_equal(MAP(1, HYPERVISOR, &page), HV_STATUS_OPERATION_FAILED);
	for (unsigned int i = 0; i < DEPOSITS; i++)
		assert_true(free_page[i]);
	no_tables = false;
	assert_int_equal(MAP(1, HYPERVISOR, &page), HV_STATUS_SUCCESS);
	no_tables = true; /* a page that stays visible isn't used for anything else */
	assert_int_equal(UNMAP(1, HYPERVISOR), HV_STATUS_OPERATION_FAILED);
	assert_false(free_page[page - 100]);
}

static void every_refusal(void **state)
{
	const union hv_stats_identity parent_area = { .partition = { .partition_id = 1, .area = 1 } };
	const union hv_stats_identity vp_parent_area = { .vp = { .partition_id = 1, .area = 1 } };
	const union hv_stats_identity childs_parent_area = { .partition = { .partition_id = 7, .area = 1 } };
	const union hv_stats_identity child_vps_parent_area = {
		.vp = { .partition_id = 7, .vp_index = 2, .area = 1 }
	};
	const union hv_stats_identity lp_parent_area = { .lp = { .area = 1 } };
	const union hv_stats_identity internal = { .hypervisor = { .area = 2 } };
	const union hv_stats_identity dirty = { .hypervisor = { .reserved = { [14] = 1 } } };
	const union hv_stats_identity vp_flags = { .vp = { .partition_id = 1, .flags = 1 } };
	const union hv_stats_identity nobody = { .partition = { .partition_id = 2 } };
	const union hv_stats_identity nobodys_vp = { .vp = { .partition_id = 2 } };
	const struct {
		uint32_t type;
		union hv_stats_identity identity;
		uint16_t status;
	} cases[] = {
		/* "No separate area": Linux goes on with the object's own. */
		{ 0x10001, parent_area, HV_STATUS_INVALID_PARAMETER },
		{ 0x10002, vp_parent_area, HV_STATUS_INVALID_PARAMETER },
		{ 2, lp_parent_area, HV_STATUS_INVALID_PARAMETER },
		{ 1, internal, HV_STATUS_INVALID_PARAMETER },
		{ 1, dirty, HV_STATUS_INVALID_PARAMETER },
		{ 0x10002, vp_flags, HV_STATUS_INVALID_PARAMETER },
		{ 0x10001, nobody, HV_STATUS_INVALID_PARTITION_ID },
		{ 0x10002, nobodys_vp, HV_STATUS_INVALID_PARTITION_ID },
		{ 2, LP(3), HV_STATUS_INVALID_LP_INDEX },
		{ 2, LP(UINT32_MAX), HV_STATUS_INVALID_LP_INDEX },
		{ 0x10002, VP(VPS), HV_STATUS_INVALID_VP_INDEX },
		{ 0x10002, VP(UINT32_MAX), HV_STATUS_INVALID_VP_INDEX },
		{ 0x10001, childs_parent_area, HV_STATUS_INVALID_PARAMETER },
		{ 0x10002, child_vps_parent_area, HV_STATUS_INVALID_PARAMETER },
		{ 0x10002, CHILD_VP(0), HV_STATUS_INVALID_VP_INDEX },
		{ 0x10002, CHILD_VP(1), HV_STATUS_INVALID_VP_INDEX },
		{ 0, HYPERVISOR, HV_STATUS_INVALID_PARAMETER },
		{ 3, HYPERVISOR, HV_STATUS_INVALID_PARAMETER },
		{ 0x10003, HYPERVISOR, HV_STATUS_INVALID_PARAMETER },
	};

	(void)state;
	add_child_vp(2); /* there are no VPs 0 and 1 */
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(call(hypercall_map_stats_page, cases[i].type, cases[i].identity, NULL),
				 cases[i].status);
		assert_int_equal(call(hypercall_unmap_stats_page, cases[i].type, cases[i].identity, NULL),
				 cases[i].status);
	}
	for (int state = PARTITION_CREATED; state <= PARTITION_FINALIZED; state += 2) {
		child.state = (uint32_t)state;
		child.vps = NULL;
		assert_int_equal(MAP(0x10001, CHILD, NULL), HV_STATUS_INVALID_PARTITION_STATE);
		assert_int_equal(MAP(0x10002, CHILD_VP(0), NULL), HV_STATUS_INVALID_PARTITION_STATE);
		assert_int_equal(UNMAP(0x10002, CHILD_VP(0)), HV_STATUS_INVALID_PARTITION_STATE);
	}
	partition.privileges = HV_PRIVILEGE_ACCESS_STATS;
	assert_int_equal(MAP(1, HYPERVISOR, NULL), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(MAP(2, LP(0), NULL), HV_STATUS_ACCESS_DENIED);
	for (unsigned int i = 0; i < DEPOSITS; i++)
		assert_true(free_page[i]);
}

static void the_published_slots(void **state)
{
	uint64_t hypervisor, lp, own, vp;
	const union hv_stats_identity self = { .partition = { .partition_id = HV_PARTITION_ID_SELF } };

	(void)state;
	vps[1].exit_counts[0x72] = 11; /* CPUID */
	vps[1].exit_counts[0x7c] = 12; /* MSR */
	vps[1].exit_counts[0x7b] = 13; /* I/O */
	vps[1].exit_counts[0x78] = 14; /* HLT */
	vps[1].exit_counts[0x60] = 15; /* interrupt */
	vps[1].exit_counts[0x64] = 16; /* window */
	vps[1].exit_counts[0x00] = 17; /* nested page fault */
	vps[1].exit_counts[0x80] = 18; /* VMRUN and... */
	vps[1].exit_counts[0x61] = 1;  /* ... NMI: others */
	vps[1].exit_counts[0x20] = 23; /* a read of DR0 */
	vps[1].exit_counts[0x37] = 1;  /* a write of DR7 */
	vps[1].exit_counts[0x8c] = 25; /* MWAIT */
	vps[1].exit_counts[0x6f] = 26; /* RDPMC */
	vps[1].hypercalls = 19;
	lps[1].interrupts = 15;
	lps[1].timer_interrupts = 20;
	lps[1].switches = 22;
	atomic_store(&lps[1].run_time.waits, 14);
	lps[1].kicks_taken = 21;
	partition.deposits.used_pages = 3;
	partition.deposits.free_pages = 4;
	partition.device_interrupts.mappings = 9;
	assert_int_equal(MAP(1, HYPERVISOR, &hypervisor), HV_STATUS_SUCCESS);
	assert_int_equal(MAP(2, LP(1), &lp), HV_STATUS_SUCCESS);
	assert_int_equal(call(hypercall_map_stats_page, 0x10001, self, &own), HV_STATUS_SUCCESS);
	assert_int_equal(MAP(0x10002, VP(1), &vp), HV_STATUS_SUCCESS);

	assert_int_equal(counter(hypervisor, 1), 3); /* Linux asks for this many LPs' pages */
	assert_int_equal(counter(hypervisor, 2), 2);
	assert_int_equal(counter(hypervisor, 4), VPS);
	assert_int_equal(counter(lp, 1), clock_now / 100);
	assert_int_equal(counter(lp, 2), 7000);
	assert_int_equal(counter(lp, 4), 15);
	assert_int_equal(counter(lp, 5), 22);
	assert_int_equal(counter(lp, 6), 21);
	assert_int_equal(counter(lp, 8), 20);
	assert_int_equal(counter(lp, 10), 14);
	assert_int_equal(counter(lp, 14), 8001);
	assert_int_equal(counter(lp, 19), 1);
	assert_int_equal(counter(lp, 22), 70001);
	assert_int_equal(counter(own, 1), VPS);
	assert_int_equal(counter(own, 5), 7);
	assert_int_equal(counter(own, 19), 9);
	assert_int_equal(counter(own, 26), 1);
	assert_int_equal(counter(own, 46), 1);
	assert_int_equal(counter(vp, 1), 5001);
	assert_int_equal(counter(vp, 7), 19);
	assert_int_equal(counter(vp, 13), 13);
	assert_int_equal(counter(vp, 15), 14);
	assert_int_equal(counter(vp, 17), 25);
	assert_int_equal(counter(vp, 19), 11);
	assert_int_equal(counter(vp, 21), 12);
	assert_int_equal(counter(vp, 23), 19);
	assert_int_equal(counter(vp, 25), 15);
	assert_int_equal(counter(vp, 27), 16);
	assert_int_equal(counter(vp, 31), 24);
	assert_int_equal(counter(vp, 33), 17);
	assert_int_equal(counter(vp, 176), 26);
	assert_int_equal(counter(vp, 202), 0); /* never "blocked": Linux would not dispatch */
}

static void the_other_vendors_exits(void **state)
{
	uint64_t vp;

	(void)state;
	fake.exit_category = vmx_exit_category;
	statistics_init(&partition);
	vps[0].exit_counts[10] = 11; /* CPUID */
	vps[0].exit_counts[31] = 5;  /* RDMSR, WRMSR */
	vps[0].exit_counts[32] = 7;
	vps[0].exit_counts[30] = 13; /* I/O */
	vps[0].exit_counts[12] = 14; /* HLT */
	vps[0].exit_counts[1] = 15;  /* interrupt */
	vps[0].exit_counts[48] = 17; /* EPT violation */
	vps[0].exit_counts[28] = 2;  /* control register */
	vps[0].exit_counts[56] = 3;  /* APIC write */
	assert_int_equal(MAP(0x10002, VP(0), &vp), HV_STATUS_SUCCESS);
	assert_int_equal(counter(vp, 11), 2);
	assert_int_equal(counter(vp, 13), 13);
	assert_int_equal(counter(vp, 15), 14);
	assert_int_equal(counter(vp, 19), 11);
	assert_int_equal(counter(vp, 21), 12);
	assert_int_equal(counter(vp, 25), 15);
	assert_int_equal(counter(vp, 33), 17);
	assert_int_equal(counter(vp, 39), 3);
}

static void timer_interrupts_keep_them_fresh(void **state)
{
	uint64_t first, second;

	(void)state;
	statistics_tick(); /* nothing mapped: nothing to do */
	assert_int_equal(MAP(0x10002, VP(0), &first), HV_STATUS_SUCCESS);
	assert_int_equal(MAP(0x10002, VP(39), &second), HV_STATUS_SUCCESS);
	clock_now += 1000000000;
	statistics_tick();
	vps[0].hypercalls = 5;
	vps[39].hypercalls = 6;
	clock_now += 4999999; /* too early */
	statistics_tick();
	assert_int_equal(counter(first, 7), 0);
	clock_now += 1;
	statistics_tick();
	assert_int_equal(counter(first, 7), 5);
	assert_int_equal(counter(second, 7), 6);
	assert_int_equal(UNMAP(0x10002, VP(0)), HV_STATUS_SUCCESS);
	vps[0].hypercalls = 50;
	clock_now += 5000000;
	statistics_tick();
	assert_int_equal(counter(first, 7), 5); /* it is somebody else's now */
	assert_true(atomic_load(&statistics_mapped));
	assert_int_equal(UNMAP(0x10002, VP(39)), HV_STATUS_SUCCESS);
	assert_false(atomic_load(&statistics_mapped));
}

static void a_childs_counters(void **state)
{
	uint64_t hypervisor, page, vp_page;
	struct vp *vp;

	(void)state;
	add_child_vp(0);
	vp = add_child_vp(3);
	child_exit_counts[3][0x72] = 11; /* CPUID */
	vp->hypercalls = 12;
	vp->dispatches = 13;
	vp->migrations = 14;
	vp->io_messages = 15;
	vp->memory_messages = 16;
	vp->other_messages = 17;
	child.statistics.gpa_pages = 18;
	child.deposits.used_pages = 19;
	assert_int_equal(MAP(1, HYPERVISOR, &hypervisor), HV_STATUS_SUCCESS);
	assert_int_equal(MAP(0x10001, CHILD, &page), HV_STATUS_SUCCESS);
	assert_int_equal(MAP(0x10002, CHILD_VP(3), &vp_page), HV_STATUS_SUCCESS);
	assert_int_equal(counter(hypervisor, 4), VPS + 2);
	assert_int_equal(counter(page, 1), 2);
	assert_int_equal(counter(page, 5), 19);
	assert_int_equal(counter(page, 6), 18);
	assert_int_equal(counter(page, 26), 7);
	assert_int_equal(counter(page, 46), 0);
	assert_int_equal(counter(vp_page, 1), 5003);
	assert_int_equal(counter(vp_page, 5), 1);
	assert_int_equal(counter(vp_page, 7), 12);
	assert_int_equal(counter(vp_page, 19), 11);
	assert_int_equal(counter(vp_page, 40), 15);
	assert_int_equal(counter(vp_page, 41), 16);
	assert_int_equal(counter(vp_page, 43), 17);
	assert_int_equal(counter(vp_page, 45), 14);
	assert_int_equal(counter(vp_page, 74), 13);
	assert_int_equal(counter(vp_page, 202), 0); /* as above */
	forget_child_vp(0);
	clock_now += 1000000000;
	statistics_tick();
	assert_int_equal(counter(hypervisor, 4), VPS + 1);
	assert_int_equal(counter(page, 1), 1);
}

static void pages_left_mapped_go_back(void **state)
{
	uint64_t page, first, second;

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		add_child_vp(i);
	assert_int_equal(MAP(0x10002, CHILD_VP(0), &first), HV_STATUS_SUCCESS);
	assert_int_equal(MAP(0x10001, CHILD, &page), HV_STATUS_SUCCESS);
	assert_int_equal(MAP(0x10002, CHILD_VP(1), &second), HV_STATUS_SUCCESS);
	assert_int_equal(UNMAP(0x10002, CHILD_VP(1)), HV_STATUS_SUCCESS);
	for (uint32_t i = 0; i < 3; i++)
		forget_child_vp(i);
	assert_true(free_page[first - 100]);
	assert_false(free_page[page - 100]);
	child.vps = NULL;
	clock_now += 1000000000;
	statistics_tick(); /* the VPs are gone */
	statistics_forget_partition(&child, &vps[0]);
	statistics_forget_partition(&child, &vps[0]);
	for (unsigned int i = 0; i < DEPOSITS; i++)
		assert_true(free_page[i] && !shown[i]);
	assert_false(atomic_load(&statistics_mapped));
}

/* With 80 pages a tick can't fill all; each has its turn, whoever comes and goes. */
static void all_take_turns(void **state)
{
	uint64_t pages[2 * VPS];
	unsigned int filled;

	(void)state;
	for (uint32_t i = 0; i < VPS; i++) {
		add_child_vp(i);
		assert_int_equal(MAP(0x10002, VP(i), &pages[i]), HV_STATUS_SUCCESS);
		assert_int_equal(MAP(0x10002, CHILD_VP(i), &pages[VPS + i]), HV_STATUS_SUCCESS);
	}
	for (unsigned int round = 1; round <= 5; round++) {
		for (uint32_t i = 0; i < VPS; i++)
			vps[i].hypercalls = child_vps[i].hypercalls = 1;
		clock_now += 5000000;
		statistics_tick();
		filled = 0;
		for (unsigned int i = 0; i < 2 * VPS; i++)
			filled += counter(pages[i], 7) == 1;
		assert_int_equal(filled, 16 * round);
	}
	/* Whose turn it is goes: the one behind it is next. */
	forget_child_vp(0);
	assert_int_equal(UNMAP(0x10002, VP(0)), HV_STATUS_SUCCESS);
	vps[1].hypercalls = child_vps[VPS - 1].hypercalls = 2;
	for (unsigned int round = 1; round <= 5; round++) {
		clock_now += 5000000;
		statistics_tick();
	}
	assert_int_equal(counter(pages[1], 7), 2);
	assert_int_equal(counter(pages[2 * VPS - 1], 7), 2);
}

/* Linux may look after a second: so many pages must not wait for 16 in 5 ms. */
static void many_pages_are_filled_more_often(void **state)
{
	static struct vp many[16 * 400];
	static uint64_t no_exits[VP_EXIT_COUNTS];
	struct statistics_object *last = &many[ARRAY_SIZE(many) - 1].statistics;
	uint64_t page, left = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		many[i] = (struct vp){ .lp = &lps[0], .partition = &child, .exit_counts = no_exits };
		free_page[i % DEPOSITS] = true; /* several share one */
		shown[i % DEPOSITS] = false;
		assert_int_equal(statistics_map(&vps[0], STATISTICS_VP, &many[i].statistics, &page),
				 HV_STATUS_SUCCESS);
	}
	many[ARRAY_SIZE(many) - 1].hypercalls = 9;
	for (uint64_t end = clock_now + 1100000000; clock_now < end && !left; clock_now += 100000) {
		statistics_tick();
		left = counter(last->page, 7) == 9;
	}
	assert_true(left);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(pages_come_from_the_deposits),
		TEST(without_tables_it_fails_for_good),
		TEST(every_refusal),
		TEST(the_published_slots),
		TEST(the_other_vendors_exits),
		TEST(timer_interrupts_keep_them_fresh),
		TEST(a_childs_counters),
		TEST(pages_left_mapped_go_back),
		TEST(all_take_turns),
		TEST(many_pages_are_filled_more_often),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
