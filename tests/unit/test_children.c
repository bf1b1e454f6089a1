/* unit: core/children.c core/gpa_space.c core/overlay.c core/page_use.c core/deposit.c core/second_stage.c core/second_stage_access.c core/page_alloc.c core/page_source.c core/memory_types.c core/guest_memory.c svm/npt.c vmx/ept.c */
/* SPDX-License-Identifier: MIT */
/*
 * The life of children: what each call answers in each state, that too few deposits at any point leave nothing behind, and that every page
 * is back at the end, in whatever steps it came. What a VP is made of, and who runs it, is faked.
 */
#include "gpa_fake.h"

#include <trivet/hypercall_page.h>
#include <trivet/intercept.h>
#include <trivet/lp.h>
#include <trivet/schedule.h>
#include <trivet/statistics.h>

#define ROOT_DEPOSITS 4u
#define ENOUGH 64u
#define VP_PAGES 3u
#define CHILD_FLAGS (HV_CREATE_PARTITION_LAPIC | HV_CREATE_PARTITION_EXO)

static struct partition *published;
static bool publish_fails;
static unsigned int syncs, notified, vps_alive, destroyed_at_sync, letting_go;
static void (*on_synchronize)(void);

/* ---- What core/children.c asks of the others ---- */

uint64_t lp_clock(void)
{
	return 1000;
}

uint64_t lp_tsc_hz(void)
{
	return 1000000000;
}

void lp_kick(struct lp *lp)
{
	(void)lp;
}

bool partition_publish(struct partition *of)
{
	assert_null(published);
	if (publish_fails)
		return false;
	of->id = 0x1234;
	published = of;
	return true;
}

void partition_unpublish(struct partition *of)
{
	assert_ptr_equal(of, published);
	published = NULL;
}

void cpuid_policy_init(struct cpuid_policy *policy, const uint64_t features[2], uint64_t xsave)
{
	(void)policy;
	(void)features;
	(void)xsave;
}

void cpuid_policy_destroy(struct partition *of)
{
	(void)of;
}

void hv_cpuid_assign(struct partition *of, uint64_t synthetic)
{
	(void)synthetic;
	of->hv = true; /* the page for hypercalls is wanted too */
}

int hypercall_page_init(struct partition *of)
{
	return overlay_init(of, &of->hypercall_page, OVERLAY_HYPERCALL);
}

int reference_time_init(struct partition *of, uint64_t hz, uint64_t tsc, uint64_t moved)
{
	(void)hz;
	(void)tsc;
	(void)moved;
	return overlay_init(of, &of->reference_time.page, OVERLAY_REFERENCE_TSC);
}

static unsigned int freezes;

void reference_time_freeze(struct partition *of, bool freeze)
{
	assert_non_null(of->reference_time.page.content);
	freezes += freeze;
}

void reference_time_tsc_moved(struct partition *of)
{
	(void)of;
}

void port_space_disconnect(struct partition *of)
{
	(void)of;
}

uint64_t port_space_table_pages(const struct partition *of)
{
	(void)of;
	return 0;
}

void port_space_destroy(struct partition *of)
{
	(void)of;
	assert_int_equal(vps_alive, 0); /* their queues may have messages of its */
}

void statistics_add_vp(struct vp *vp)
{
	(void)vp;
}

void statistics_forget_vp(struct vp *vp, struct vp *by)
{
	(void)vp;
	assert_ptr_equal(by, &caller);
}

void statistics_forget_partition(struct partition *of, struct vp *by)
{
	(void)of;
	assert_ptr_equal(by, &caller);
}

void schedule_synchronize(struct vp *self)
{
	assert_ptr_equal(self, &caller);
	syncs++;
	if (on_synchronize)
		on_synchronize();
}

/* A VP is three pages. */
int vp_create(struct partition *of, uint32_t index, struct lp *lp, struct vp **out)
{
	void *pages[VP_PAGES];

	assert_null(lp);
	for (unsigned int i = 0; i < VP_PAGES; i++) {
		pages[i] = of->pages->alloc(of->pages);
		if (pages[i])
			continue;
		while (i--)
			of->pages->free(of->pages, pages[i]);
		return -ENOMEM;
	}
	*out = pages[0];
	(*out)->partition = of;
	(*out)->index = index;
	(*out)->lp = &lps[1];
	(*out)->apic_page = pages[1];
	(*out)->exit_counts = pages[2];
	vps_alive++;
	return 0;
}

void vp_destroy(struct vp *vp)
{
	struct partition *of = vp->partition;

	assert_true(vp->forgotten && !vp->wake_queued && (vp->holds & VP_HOLD_DEAD));
	destroyed_at_sync = syncs;
	vps_alive--;
	of->pages->free(of->pages, vp->apic_page);
	of->pages->free(of->pages, vp->exit_counts);
	of->pages->free(of->pages, vp);
}

bool vp_unmap_overlays(struct vp *vp, struct vp *self)
{
	(void)vp;
	(void)self;
	return true;
}

void vp_hold(struct vp *vp, struct vp *self, uint32_t bits)
{
	assert_ptr_equal(self, &caller);
	atomic_fetch_or(&vp->holds, bits);
}

/* Its LP takes a while. */
void vp_notify(struct vp *vp)
{
	assert_true(vp->holds & VP_HOLD_DEAD);
	if (++notified % 2 == 0)
		atomic_store(&vp->forgotten, true);
}

bool intercept_destroy(struct vp *vp)
{
	assert_true(vp->forgotten);
	return !letting_go || !--letting_go;
}

static unsigned int phys_bits(void)
{
	return GPA_BITS;
}

/* ---- The tests' own ---- */

static void deposit_to(struct partition *to, uint64_t first, uint32_t count)
{
	uint64_t list[ENOUGH];

	for (uint32_t i = 0; i < count; i++)
		list[i] = first + i;
	assert_int_equal(deposit_pages(to, &caller, list, count), HV_STATUS_SUCCESS);
}

static int setup(void **state)
{
	(void)state;
	fake.phys_bits = phys_bits;
	begin(false, 20);
	root.deposits.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_DEPOSIT);
	published = NULL;
	publish_fails = false;
	syncs = notified = vps_alive = destroyed_at_sync = letting_go = 0;
	on_synchronize = NULL;
	return 0;
}

/* All of the root's deposits are free, and come back; the other child has what it had. */
static int teardown(void **state)
{
	uint64_t out[ENOUGH];

	(void)state;
	assert_null(published);
	assert_int_equal(vps_alive, 0);
	assert_int_equal(root.deposits.used_pages, 0);
	while (deposit_withdraw(&root, &caller, out, ENOUGH))
		;
	end();
	return 0;
}

static struct partition *create(void)
{
	const struct hv_input_create_partition in = { .flags = CHILD_FLAGS };
	uint64_t id;

	deposit_to(&root, RAM_FIRST, ROOT_DEPOSITS);
	assert_int_equal(partition_create(&caller, &in, &id), HV_STATUS_SUCCESS);
	assert_int_equal(id, 0x1234);
	assert_int_equal(root.deposits.used_pages, 1);
	return published;
}

static struct partition *create_active(void)
{
	struct partition *made = create();

	deposit_to(made, RAM_FIRST + 16, ENOUGH);
	assert_int_equal(partition_initialize(made, &caller), HV_STATUS_SUCCESS);
	return made;
}

static uint16_t until_done(uint16_t (*end_it)(struct partition *, struct vp *), struct partition *of)
{
	uint16_t status;

	for (unsigned int i = 0; (status = end_it(of, &caller)) == HYPERCALL_RESTART; i++)
		assert_true(i < 50);
	return status;
}

static void delete (struct partition *of)
{
	assert_int_equal(until_done(partition_delete, of), HV_STATUS_SUCCESS);
	assert_null(published);
}

static void map_some(struct partition *of)
{
	spin_lock(&of->space_lock);
	assert_int_equal(page_use_map(RAM_FIRST + 512, 512), 0);
	assert_int_equal(ss_map(&of->space, GPA(0x200000), HPA((RAM_FIRST + 512) << PAGE_SHIFT),
				512 * PAGE_SIZE, SS_RWX, 0),
			 0);
	spin_unlock(&of->space_lock);
}

static void a_whole_life(void **state)
{
	struct partition *made = create_active();

	(void)state;
	assert_int_equal(partition_create_vp(made, 0), HV_STATUS_SUCCESS);
	assert_int_equal(partition_create_vp(made, 7), HV_STATUS_SUCCESS);
	assert_int_equal(made->vp_count, 8);
	map_some(made);
	assert_int_equal(page_use_mappings(RAM_FIRST + 600), 1);
	assert_int_equal(until_done(partition_finalize, made), HV_STATUS_SUCCESS);
	assert_int_equal(vps_alive, 0);
	assert_int_equal(made->vp_count, 0); /* no call finds one */
	assert_int_equal(made->deposits.used_pages, 0);
	assert_int_equal(made->deposits.free_pages, ENOUGH);
	assert_int_equal(page_use_mappings(RAM_FIRST + 600), 0);
	assert_int_equal(partition_finalize(made, &caller), HV_STATUS_SUCCESS);
	delete (made);
}

static void what_is_refused_in_which_state(void **state)
{
	struct partition *made = create();

	(void)state;
	assert_int_equal(partition_create_vp(made, 0), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(partition_delete_vp(made, &caller, 0), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(partition_finalize(made, &caller), HV_STATUS_INVALID_PARTITION_STATE);
	deposit_to(made, RAM_FIRST + 16, ENOUGH);
	assert_int_equal(partition_initialize(made, &caller), HV_STATUS_SUCCESS);
	assert_int_equal(partition_initialize(made, &caller), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(partition_delete(made, &caller), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(partition_create_vp(made, 512), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(partition_create_vp(made, UINT32_MAX), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(partition_create_vp(made, 2), HV_STATUS_SUCCESS);
	assert_int_equal(partition_create_vp(made, 2), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(partition_delete_vp(made, &caller, 1), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(partition_delete_vp(made, &caller, 3), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(partition_delete_vp(made, &caller, UINT32_MAX), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(until_done(partition_finalize, made), HV_STATUS_SUCCESS);
	assert_int_equal(partition_initialize(made, &caller), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(partition_create_vp(made, 0), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(partition_delete_vp(made, &caller, 2), HV_STATUS_INVALID_PARTITION_STATE);
	delete (made);
}

/* HV_PROPERTY_TIME_FREEZE can be set before there is a clock. */
static void one_whose_time_is_to_stand_still(void **state)
{
	struct partition *made = create();

	(void)state;
	made->properties.time_frozen = true;
	deposit_to(made, RAM_FIRST + 16, ENOUGH);
	freezes = 0;
	assert_int_equal(partition_initialize(made, &caller), HV_STATUS_SUCCESS);
	assert_int_equal(freezes, 1);
	assert_int_equal(until_done(partition_finalize, made), HV_STATUS_SUCCESS);
	delete (made);
}

static void one_that_was_never_initialized(void **state)
{
	struct partition *made = create();

	(void)state;
	deposit_to(made, RAM_FIRST + 16, 5);
	delete (made);
}

static void creation_takes_a_page_of_the_parents(void **state)
{
	const struct hv_input_create_partition in = { .flags = CHILD_FLAGS };
	uint64_t id;

	(void)state;
	assert_int_equal(partition_create(&caller, &in, &id), HV_STATUS_INSUFFICIENT_MEMORY);
	deposit_to(&root, RAM_FIRST, 1);
	publish_fails = true;
	assert_int_equal(partition_create(&caller, &in, &id), HV_STATUS_NO_RESOURCES);
	assert_int_equal(root.deposits.used_pages, 0);
	assert_int_equal(root.deposits.free_pages, 1);
	publish_fails = false;
	assert_int_equal(partition_create(&caller, &in, &id), HV_STATUS_SUCCESS);
	delete (published);
}

/* As Linux deposits: one page more until it is enough. */
static void too_few_deposits_leave_nothing_behind(void **state)
{
	struct partition *made = create();
	uint32_t pages = 0;
	uint16_t status;

	(void)state;
	while ((status = partition_initialize(made, &caller)) == HV_STATUS_INSUFFICIENT_MEMORY) {
		assert_int_equal(made->deposits.used_pages, 0);
		assert_int_equal(made->deposits.free_pages, pages);
		assert_int_equal(made->state, PARTITION_CREATED);
		assert_true(pages < 12);
		deposit_to(made, RAM_FIRST + 16 + pages++, 1);
	}
	assert_int_equal(status, HV_STATUS_SUCCESS);
	assert_true(pages >= 4); /* a root of tables, the table of VPs, two overlays */
	assert_int_equal(made->deposits.used_pages, pages);
	for (uint32_t i = 0; i < VP_PAGES; i++) {
		assert_int_equal(partition_create_vp(made, 0), HV_STATUS_INSUFFICIENT_MEMORY);
		assert_int_equal(made->deposits.used_pages, pages);
		assert_int_equal(made->vp_count, 0);
		deposit_to(made, RAM_FIRST + 16 + pages + i, 1);
	}
	assert_int_equal(partition_create_vp(made, 0), HV_STATUS_SUCCESS);
	assert_int_equal(until_done(partition_finalize, made), HV_STATUS_SUCCESS);
	delete (made);
}

static uint16_t delete_vp_2(struct partition *of, struct vp *by)
{
	return partition_delete_vp(of, by, 2);
}

/* Its LP has to let go first, then the parent's of its message, then all others of their pointers. */
static void a_vp_goes_when_nobody_has_it(void **state)
{
	struct partition *made = create_active();
	uint64_t used = made->deposits.used_pages;
	struct vp *vp;

	(void)state;
	assert_int_equal(partition_create_vp(made, 2), HV_STATUS_SUCCESS);
	vp = made->vps[2];
	assert_int_equal(delete_vp_2(made, &caller), HYPERCALL_RESTART);
	assert_int_equal(notified, 1);
	assert_int_equal(delete_vp_2(made, &caller), HYPERCALL_RESTART);
	assert_true(vp->forgotten);
	atomic_store(&vp->wake_queued, true); /* in the list of some LP */
	assert_int_equal(delete_vp_2(made, &caller), HYPERCALL_RESTART);
	atomic_store(&vp->wake_queued, false);
	letting_go = 2;
	assert_int_equal(delete_vp_2(made, &caller), HYPERCALL_RESTART);
	assert_int_equal(vps_alive, 1);
	assert_int_equal(delete_vp_2(made, &caller), HV_STATUS_SUCCESS);
	assert_int_equal(vps_alive, 0);
	assert_true(destroyed_at_sync >= 1);
	assert_int_equal(made->deposits.used_pages, used);
	assert_int_equal(delete_vp_2(made, &caller), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(partition_create_vp(made, 2), HV_STATUS_SUCCESS); /* another of that number */
	assert_int_equal(until_done(partition_finalize, made), HV_STATUS_SUCCESS);
	delete (made);
}

static void one_that_holds_on_delays_the_end(void **state)
{
	struct partition *made = create_active();

	(void)state;
	assert_int_equal(partition_create_vp(made, 0), HV_STATUS_SUCCESS);
	map_some(made);
	letting_go = 5;
	assert_int_equal(partition_finalize(made, &caller), HYPERCALL_RESTART);
	assert_int_equal(made->state, PARTITION_FINALIZED);
	assert_int_equal(vps_alive, 1);
	assert_int_equal(partition_create_vp(made, 1), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(until_done(partition_delete, made),
			 HV_STATUS_SUCCESS); /* goes on where that stopped */
	assert_int_equal(letting_go, 0);
}

static struct partition *in_the_midst;
static uint16_t second_status;

static void another_ends_it_too(void)
{
	on_synchronize = NULL;
	second_status = partition_finalize(in_the_midst, &caller);
}

static void one_at_a_time(void **state)
{
	(void)state;
	in_the_midst = create_active();
	assert_int_equal(partition_create_vp(in_the_midst, 0), HV_STATUS_SUCCESS);
	on_synchronize = another_ends_it_too;
	assert_int_equal(until_done(partition_finalize, in_the_midst), HV_STATUS_SUCCESS);
	assert_int_equal(second_status, HYPERCALL_RESTART);
	delete (in_the_midst);
}

static void another_deposits_late(void)
{
	if (published)
		return;
	on_synchronize = NULL;
	deposit_to(in_the_midst, RAM_FIRST + 1024, 3);
}

/* A call that found the partition just before its number was gone. */
static void deposits_that_come_late_go_back(void **state)
{
	(void)state;
	in_the_midst = create_active();
	assert_int_equal(until_done(partition_finalize, in_the_midst), HV_STATUS_SUCCESS);
	on_synchronize = another_deposits_late;
	delete (in_the_midst);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_whole_life),
		TEST(what_is_refused_in_which_state),
		TEST(one_whose_time_is_to_stand_still),
		TEST(one_that_was_never_initialized),
		TEST(creation_takes_a_page_of_the_parents),
		TEST(too_few_deposits_leave_nothing_behind),
		TEST(a_vp_goes_when_nobody_has_it),
		TEST(one_that_holds_on_delays_the_end),
		TEST(one_at_a_time),
		TEST(deposits_that_come_late_go_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
