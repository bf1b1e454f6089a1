/* unit: core/calls_cpuid.c core/cpuid_overrides.c */
/* SPDX-License-Identifier: MIT */
/* Hypercalls about a child's CPUID: who may name whom, where a result goes, and what a query is made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <trivet/backend.h>
#include <trivet/hypercall.h>
#include <trivet/page_source.h>
#include <trivet/partition.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

#define CHILD 5u

struct partition root_partition;
static struct partition child;
static struct vp *root_vp, *vps[2];
static size_t pages_left;
static struct vp *borrowed;
static struct cpuid_query asked;

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_int_equal(privilege, 0); /* the call's row has it */
	*status = HV_STATUS_SUCCESS;
	if (id == HV_PARTITION_ID_SELF)
		return caller->partition;
	if (id == CHILD)
		return &child;
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

void vp_borrow(struct vp *vp, struct vp *self)
{
	assert_ptr_equal(self, root_vp);
	assert_null(borrowed);
	borrowed = vp;
}

void vp_return(struct vp *vp)
{
	assert_ptr_equal(vp, borrowed);
	borrowed = NULL;
}

struct cpuid_regs cpuid_policy_query(const struct vp *vp, const struct cpuid_query *query)
{
	assert_ptr_equal(vp, borrowed);
	asked = *query;
	return (struct cpuid_regs){ query->leaf, query->subleaf, 3, 4 };
}

static void get_register(struct vp *vp, enum vp_register which, union hv_register_value *value)
{
	assert_ptr_equal(vp, borrowed);
	assert_int_equal(which, VP_REGISTER_CR4);
	value->reg64 = 0x40000;
}

static const struct backend fake = { .get_register = get_register };
const struct backend *backend = &fake;

static void *take(struct page_source *source)
{
	(void)source;
	return pages_left && pages_left-- ? calloc(1, PAGE_SIZE) : NULL;
}

static void give(struct page_source *source, void *page)
{
	(void)source;
	free(page);
}

static struct page_source source = { .alloc = take, .free = give };

static int setup(void **state)
{
	(void)state;
	memset(&child, 0, sizeof(child));
	child.parent = &root_partition;
	child.pages = &source;
	child.vps = vps;
	child.vp_count = 2;
	root_vp = calloc(1, sizeof(*root_vp));
	root_vp->partition = &root_partition;
	vps[0] = calloc(1, sizeof(*vps[0]));
	vps[0]->child = calloc(1, sizeof(struct vp_child));
	vps[0]->partition = &child;
	vps[0]->xcr0 = 7;
	vps[1] = NULL;
	pages_left = 10;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cpuid_overrides_destroy(vps[0]);
	cpuid_policy_destroy(&child);
	free(vps[0]->child);
	free(vps[0]);
	free(root_vp);
	return 0;
}

static struct hv_input_register_intercept_result input;

static uint16_t put(uint64_t id, uint32_t vp_index)
{
	struct hypercall call = { .vp = root_vp, .partition = &root_partition, .input = &input };

	input.partition_id = id;
	input.vp_index = vp_index;
	return hypercall_register_intercept_result(&call);
}

static uint16_t take_back(uint32_t vp_index, uint32_t type, uint32_t leaf, uint32_t subleaf)
{
	const struct hv_input_unregister_intercept_result in = { CHILD, vp_index, type, leaf, subleaf };
	struct hypercall call = { .vp = root_vp, .partition = &root_partition, .input = &in };

	return hypercall_unregister_intercept_result(&call);
}

static void registered(void **state)
{
	struct cpuid_override entry;

	(void)state;
	memset(&input, 0, sizeof(input));
	input.intercept_type = HV_INTERCEPT_X64_CPUID;
	input.parameters.cpuid =
		(struct hv_cpuid_result_parameters){ 7, 3, 1, 1, 0, 11, 12, 13, 14, 15, 16, 17, 18 };
	assert_int_equal(put(CHILD, 0), HV_STATUS_SUCCESS);
	assert_true(cpuid_overrides_find(&vps[0]->child->overrides, 7, 3, &entry));
	assert_false(cpuid_overrides_find(&vps[0]->child->overrides, 7, 0, &entry));
	assert_int_equal(entry.value[0], 11);
	assert_int_equal(entry.mask[0], 12);
	assert_int_equal(entry.value[2], 15);
	assert_int_equal(entry.mask[3], 18);
	input.parameters.cpuid.subleaf_specific = 0;
	assert_int_equal(put(CHILD, HV_VP_INDEX_ANY), HV_STATUS_SUCCESS);
	assert_true(cpuid_overrides_find(&child.cpuid.overrides, 7, 99, &entry));
	assert_int_equal(put(CHILD, 1), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(put(CHILD, 2), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(put(CHILD, HV_VP_INDEX_SELF), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(put(HV_PARTITION_ID_SELF, 0), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(put(77, 0), HV_STATUS_INVALID_PARTITION_ID);
	atomic_store(&child.state, PARTITION_FINALIZED); /* nobody would give the table's page back */
	assert_int_equal(put(CHILD, HV_VP_INDEX_ANY), HV_STATUS_INVALID_PARTITION_STATE);
	atomic_store(&child.state, PARTITION_ACTIVE);
	input.intercept_type = HV_INTERCEPT_X64_MSR;
	assert_int_equal(put(CHILD, 0), HV_STATUS_INVALID_PARAMETER);

	assert_int_equal(take_back(0, HV_INTERCEPT_X64_CPUID, 7, 3), HV_STATUS_SUCCESS);
	assert_int_equal(take_back(0, HV_INTERCEPT_X64_CPUID, 7, 3), HV_STATUS_NOT_FOUND);
	assert_int_equal(take_back(HV_VP_INDEX_ANY, HV_INTERCEPT_X64_CPUID, 7, 3), HV_STATUS_SUCCESS);
	assert_false(cpuid_overrides_find(&child.cpuid.overrides, 7, 99, &entry));
	assert_int_equal(take_back(0, HV_INTERCEPT_X64_MSR, 7, 3), HV_STATUS_INVALID_PARAMETER);
}

/* Without pages the caller deposits and comes again; a table that is full is full. */
static void memory(void **state)
{
	(void)state;
	memset(&input, 0, sizeof(input));
	input.intercept_type = HV_INTERCEPT_X64_CPUID;
	pages_left = 0;
	assert_int_equal(put(CHILD, 0), HV_STATUS_INSUFFICIENT_MEMORY);
	pages_left = CPUID_OVERRIDE_PAGES;
	for (uint32_t i = 0; i < CPUID_OVERRIDES_MAX; i++) {
		input.parameters.cpuid.input_eax = i;
		assert_int_equal(put(CHILD, 0), HV_STATUS_SUCCESS);
	}
	input.parameters.cpuid.input_eax = CPUID_OVERRIDES_MAX;
	assert_int_equal(put(CHILD, 0), HV_STATUS_NO_RESOURCES);
}

static uint16_t query(uint64_t id, uint32_t vp_index, uint32_t flags)
{
	const struct hv_input_get_vp_cpuid_values in = { .partition_id = id,
							 .vp_index = vp_index,
							 .flags = flags };
	const struct hv_cpuid_leaf leaves[2] = { { 1, 0, 3, 0 }, { 0xd, 1, 5, 9 } };
	struct hv_cpuid_values values[2] = { 0 };
	struct hypercall call = { .vp = root_vp,
				  .partition = &root_partition,
				  .input = &in,
				  .rep_input = leaves,
				  .rep_output = values,
				  .rep_count = 2 };
	uint16_t status = hypercall_get_vp_cpuid_values(&call);

	assert_int_equal(call.reps_done, status == HV_STATUS_SUCCESS ? 2 : 0);
	assert_null(borrowed);
	if (status == HV_STATUS_SUCCESS) {
		assert_int_equal(values[1].eax, 0xd);
		assert_int_equal(values[1].ebx, 1);
		assert_int_equal(values[0].edx, 4);
	}
	return status;
}

static void values(void **state)
{
	(void)state;
	assert_int_equal(query(CHILD, 0, 0), HV_STATUS_SUCCESS);
	assert_int_equal(asked.xcr0, 5);
	assert_int_equal(asked.xss, 9);
	assert_int_equal(asked.cr4, 0x40000);
	assert_true(asked.defaults);
	assert_int_equal(query(CHILD, 0, 3), HV_STATUS_SUCCESS);
	assert_int_equal(asked.xcr0, 7);
	assert_int_equal(asked.xss, 0);
	assert_false(asked.defaults);
	assert_int_equal(query(CHILD, 0, 4), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(query(CHILD, 1, 0), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(query(HV_PARTITION_ID_SELF, 0, 0), HV_STATUS_ACCESS_DENIED);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = { T(registered), T(memory), T(values) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
