/* unit: core/calls_state_page.c */
/* SPDX-License-Identifier: MIT */
/* Hypercalls that map and unmap a VP's state pages: who may, for which VP, and each field that must be zero. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/status.h>
#include <hv/vp_state.h>
#include <trivet/hypercall.h>
#include <trivet/intercept.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

static struct partition root = { .id = 1 }, child = { .id = 7, .parent = &root, .vp_count = 3 };
static struct vp *caller, *child_vp, *vps[3];
static uint32_t mapped_type, unmapped_type;

struct partition *partition_authority(struct vp *by, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_ptr_equal(by, caller);
	assert_int_equal(privilege, 0); /* the call's row has it */
	*status = HV_STATUS_SUCCESS;
	if (id == 1 || id == HV_PARTITION_ID_SELF)
		return &root;
	if (id == 7)
		return &child;
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

uint16_t intercept_map_page(struct vp *vp, struct vp *by, uint32_t type, uint64_t *page)
{
	assert_ptr_equal(vp, child_vp);
	assert_ptr_equal(by, caller);
	mapped_type = type;
	*page = 0x1234;
	return type == HV_VP_STATE_PAGE_GHCB ? HV_STATUS_INVALID_PARAMETER : HV_STATUS_SUCCESS;
}

uint16_t intercept_unmap_page(struct vp *vp, struct vp *by, uint32_t type)
{
	assert_ptr_equal(vp, child_vp);
	assert_ptr_equal(by, caller);
	unmapped_type = type;
	return HV_STATUS_SUCCESS;
}

static uint16_t map(struct hv_input_map_vp_state_page input, uint64_t *page)
{
	struct hv_output_map_vp_state_page output = { 0 };
	struct hypercall call = { .vp = caller, .partition = &root, .input = &input, .output = &output };
	uint16_t status = hypercall_map_vp_state_page(&call);

	*page = output.map_gpn;
	return status;
}

static uint16_t unmap(struct hv_input_unmap_vp_state_page input)
{
	struct hypercall call = { .vp = caller, .partition = &root, .input = &input };

	return hypercall_unmap_vp_state_page(&call);
}

#define MAP(id, vp, kind, vtl, flag)                                                                        \
	{                                                                                                   \
		.partition_id = (id), .vp_index = (vp), .type = (kind), .input_vtl = (vtl), .flags = (flag) \
	}

static void maps(void **state)
{
	uint64_t page;

	(void)state;
	assert_int_equal(map((struct hv_input_map_vp_state_page)MAP(7, 2, 1, 0, 0), &page), 0);
	assert_int_equal(page, 0x1234);
	assert_int_equal(mapped_type, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE);
	assert_int_equal(map((struct hv_input_map_vp_state_page)MAP(7, 2, 2, 0, 0), &page),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(unmap((struct hv_input_unmap_vp_state_page){ .partition_id = 7, .vp_index = 2 }), 0);
	assert_int_equal(unmapped_type, HV_VP_STATE_PAGE_REGISTERS);
	assert_int_equal(unmap((struct hv_input_unmap_vp_state_page){
				 .partition_id = 7, .vp_index = 2, .input_vtl = 0x10 }),
			 0);
}

static void refusals(void **state)
{
	static const struct {
		struct hv_input_map_vp_state_page input;
		uint16_t status;
	} maps[] = {
		{ MAP(8, 2, 1, 0, 0), HV_STATUS_INVALID_PARTITION_ID },
		{ MAP(1, 2, 1, 0, 0), HV_STATUS_ACCESS_DENIED },
		{ MAP(HV_PARTITION_ID_SELF, 2, 1, 0, 0), HV_STATUS_ACCESS_DENIED },
		{ MAP(7, 1, 1, 0, 0), HV_STATUS_INVALID_VP_INDEX },
		{ MAP(7, 3, 1, 0, 0), HV_STATUS_INVALID_VP_INDEX },
		{ MAP(7, UINT32_MAX, 1, 0, 0), HV_STATUS_INVALID_VP_INDEX },
		{ MAP(7, 2, 1, 1, 0), HV_STATUS_INVALID_PARAMETER },
		{ MAP(7, 2, 1, 0x20, 0), HV_STATUS_INVALID_PARAMETER },
		{ MAP(7, 2, 1, 0, HV_VP_STATE_PAGE_LOCATION_PROVIDED), HV_STATUS_INVALID_PARAMETER },
		{ MAP(7, 2, 1, 0, 0x80), HV_STATUS_INVALID_PARAMETER },
	};
	uint64_t page;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		const struct hv_input_map_vp_state_page *in = &maps[i].input;

		assert_int_equal(map(*in, &page), maps[i].status);
		assert_int_equal(unmap((struct hv_input_unmap_vp_state_page){
					 .partition_id = in->partition_id,
					 .vp_index = in->vp_index,
					 .type = in->type,
					 .input_vtl = in->input_vtl,
					 .reserved = in->flags,
				 }),
				 maps[i].status);
	}
}

static void a_finalized_child_gets_none(void **state)
{
	uint64_t page;

	(void)state;
	child.state = PARTITION_FINALIZED;
	assert_int_equal(map((struct hv_input_map_vp_state_page)MAP(7, 2, 1, 0, 0), &page),
			 HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(unmap((struct hv_input_unmap_vp_state_page){ .partition_id = 7, .vp_index = 2 }), 0);
	child.state = PARTITION_CREATED;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps),
		cmocka_unit_test(refusals),
		cmocka_unit_test(a_finalized_child_gets_none),
	};
	size_t size = ALIGN_UP(sizeof(struct vp), PAGE_SIZE);
	int failed;

	caller = aligned_alloc(PAGE_SIZE, size);
	caller->partition = &root;
	child_vp = aligned_alloc(PAGE_SIZE, size);
	memset(child_vp, 0, size);
	child_vp->partition = &child;
	vps[2] = child_vp;
	child.vps = vps;
	failed = cmocka_run_group_tests_name("state page hypercalls", tests, NULL, NULL);
	free(caller);
	free(child_vp);
	return failed;
}
