/* unit: core/calls_registers.c core/guest_walk.c core/guest_access.c */
/* SPDX-License-Identifier: MIT */
/*
 * The register hypercalls: who may name whom, where a list stops, and translations through page tables that lie in an array.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/memory.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <trivet/backend.h>
#include <trivet/guest_access.h>
#include <trivet/hypercall.h>
#include <trivet/intercept.h>
#include <trivet/log.h>
#include <trivet/overlay.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

enum log_level log_threshold;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

#define MEMORY 0x8000ull
#define NAMES_MAX 0x100u
#define NO_SUCH_NAME 0x77u
#define BAD_VALUE 0xbadull
#define OWN_HPA 0x5000ull /* where the hypervisor's memory begins in these tests */

static struct partition partition;
static struct vp *vp, *other;
static struct vp *vps[2];
/* Its child 7, with VP 2; `target` is who the call is about. */
static struct partition child;
static struct vp *child_vp, *target;
static struct vp *child_vps[3];
static unsigned int borrows, resumes;
static bool borrowed;
static uint32_t noted[8];
static unsigned int noted_count;

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_ptr_equal(caller, vp);
	*status = HV_STATUS_ACCESS_DENIED;
	if ((partition.privileges & privilege) != privilege)
		return NULL;
	*status = HV_STATUS_SUCCESS;
	if (id == HV_PARTITION_ID_SELF || id == 1)
		return &partition;
	if (id == 7)
		return &child;
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

void vp_borrow(struct vp *of, struct vp *self)
{
	assert_ptr_equal(of, child_vp);
	assert_ptr_equal(self, vp);
	assert_false(borrowed);
	borrowed = true;
	borrows++;
}

void vp_return(struct vp *of)
{
	assert_ptr_equal(of, child_vp);
	assert_true(borrowed);
	borrowed = false;
}

void intercept_resume(struct vp *of)
{
	assert_ptr_equal(of, child_vp);
	assert_true(borrowed);
	assert_int_equal(of->pending & VP_PENDING_RESUME, 0);
	resumes++;
}

void intercept_note_register(struct vp *of, uint32_t name, const union hv_register_value *value)
{
	assert_ptr_equal(of, child_vp);
	assert_true(borrowed);
	(void)value;
	noted[noted_count++] = name;
}
static uint64_t values[NAMES_MAX];
static bool was_self;
static uint64_t memory[MEMORY / 8];
static struct vp_context context;
static uint64_t overlay_gpa, deposited_page;

uint16_t vp_register_get(struct vp *of, bool self, uint32_t name, union hv_register_value *value)
{
	assert_ptr_equal(of, target);
	was_self = self;
	assert_true(self || borrowed || vp_register_is_hold(name));
	value->reg128 = (struct hv_u128){ name < NAMES_MAX ? values[name] : 0, name };
	return name >= NAMES_MAX || name == NO_SUCH_NAME ? HV_STATUS_INVALID_PARAMETER : HV_STATUS_SUCCESS;
}

uint16_t vp_register_set(struct vp *of, bool self, uint32_t name, const union hv_register_value *value)
{
	assert_ptr_equal(of, target);
	was_self = self;
	assert_true(self || borrowed || vp_register_is_hold(name));
	if (name >= NAMES_MAX || name == NO_SUCH_NAME)
		return HV_STATUS_INVALID_PARAMETER;
	if (value->reg64 == BAD_VALUE)
		return HV_STATUS_INVALID_REGISTER_VALUE;
	values[name] = value->reg64;
	return HV_STATUS_SUCCESS;
}

bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value)
{
	assert_ptr_equal(space, target);
	if (gpa.v >= MEMORY)
		return false;
	*value = memory[gpa.v / 8];
	return true;
}

bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value)
{
	(void)space;
	if (gpa.v >= MEMORY)
		return false;
	memcpy(value, (char *)memory + gpa.v, 4);
	return true;
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	(void)space;
	if (gpa.v + size > MEMORY)
		return false;
	memcpy(buf, (char *)memory + gpa.v, size);
	return true;
}

bool guest_phys_write(void *space, gpa_t gpa, const void *buf, size_t size)
{
	(void)space;
	(void)gpa;
	(void)buf;
	(void)size;
	fail_msg("a translation writes no data");
	return false;
}

int guest_phys_exchange(void *space, gpa_t gpa, uint32_t bytes, uint64_t old, uint64_t value)
{
	(void)space;
	assert_int_equal(bytes, 8);
	assert_int_equal(memory[gpa.v / 8], old);
	memory[gpa.v / 8] = value;
	return 0;
}

bool host_memory_is_ours(hpa_t hpa, uint64_t size)
{
	assert_int_equal(size, PAGE_SIZE);
	return hpa.v >= OWN_HPA && hpa.v < OWN_HPA + PAGE_SIZE;
}

bool deposit_holds(uint64_t page)
{
	return page == deposited_page;
}

void *overlay_at(const struct partition *of, gpa_t gpa, bool write)
{
	assert_ptr_equal(of, target->partition);
	assert_false(write);
	return overlay_gpa && (gpa.v & ~0xfffull) == overlay_gpa ? memory : NULL;
}

static void get_context(struct vp *of, struct vp_context *to)
{
	assert_ptr_equal(of, target);
	*to = context;
}

static const struct backend fake_backend = { .get_context = get_context };
const struct backend *backend = &fake_backend;

/* Four levels: 0x1000 to 0x4000. Page n of the first 2 MiB by the entry in memory[0x4000 / 8 + n]. */
static void make_tables(void)
{
	memset(memory, 0, sizeof(memory));
	memory[0x1000 / 8] = 0x2007;
	memory[0x2000 / 8] = 0x3007;
	memory[0x3000 / 8] = 0x4007;
	memory[0x4000 / 8 + 0] = 0x7007;	   /* anybody, writable */
	memory[0x4000 / 8 + 1] = 0x6003;	   /* supervisor, writable */
	memory[0x4000 / 8 + 2] = 0x6005;	   /* user, read-only */
	memory[0x4000 / 8 + 3] = 0x6005 | BIT(63); /* and not executable */
	memory[0x4000 / 8 + 4] = 0x7007 | BIT(51); /* beyond physical memory */
	memory[0x4000 / 8 + 5] = OWN_HPA | 7;
	memory[0x4000 / 8 + 6] = 0xffffe007; /* a device */
	memory[0x1000 / 8 + 1] = 0x100007;   /* a table where nothing is */
}

static int setup(void **state)
{
	(void)state;
	memset(vp, 0, sizeof(*vp));
	memset(other, 0, sizeof(*other));
	memset(&partition, 0, sizeof(partition));
	memset(values, 0, sizeof(values));
	vps[0] = other;
	vps[1] = vp;
	partition.id = 1;
	partition.vp_count = 2;
	partition.vps = vps;
	partition.privileges = HV_PRIVILEGE_ACCESS_VP_REGISTERS;
	vp->partition = other->partition = &partition;
	vp->index = 1;
	memset(child_vp, 0, sizeof(*child_vp));
	memset(&child, 0, sizeof(child));
	child.id = 7;
	child.parent = &partition;
	child.vp_count = 3;
	child.vps = child_vps;
	child_vps[2] = child_vp;
	child_vp->partition = &child;
	child_vp->index = 2;
	target = vp;
	borrows = resumes = noted_count = 0;
	borrowed = false;
	make_tables();
	overlay_gpa = 0;
	deposited_page = UINT64_MAX;
	context = (struct vp_context){
		.paging = { .cr0 = 0x80010001, .cr3 = 0x1000, .cr4 = 0x20, .efer = 0xd00, .maxphyaddr = 40 },
	};
	return 0;
}

static union {
	struct hv_input_vp_registers registers;
	struct hv_input_translate_virtual_address translate;
	uint64_t words[512];
} in;
static union {
	union hv_register_value values[256];
	struct hv_output_translate_virtual_address translate;
} out;

static struct hypercall make_call(uint16_t start, uint16_t count)
{
	return (struct hypercall){
		.vp = vp,
		.partition = &partition,
		.rep_start = start,
		.rep_count = count,
		.reps_done = start,
		.input = &in,
		.rep_input = (char *)&in + sizeof(in.registers),
		.output = &out,
		.rep_output = &out,
	};
}

static void head(uint64_t id, uint32_t index)
{
	memset(&in, 0, sizeof(in));
	memset(&out, 0, sizeof(out));
	in.registers.partition_id = id;
	in.registers.vp_index = index;
}

static struct hv_register_assoc *elements(void)
{
	return (struct hv_register_assoc *)((char *)&in + sizeof(in.registers));
}

static uint32_t *names(void)
{
	return (uint32_t *)((char *)&in + sizeof(in.registers));
}

static void gets_a_list(void **state)
{
	struct hypercall call = make_call(0, 3);

	(void)state;
	head(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF);
	for (uint32_t i = 0; i < 3; i++) {
		names()[i] = 10 + i;
		values[10 + i] = 0x100 + i;
	}
	assert_int_equal(hypercall_get_vp_registers(&call), HV_STATUS_SUCCESS);
	assert_int_equal(call.reps_done, 3);
	assert_true(was_self);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(out.values[i].reg128.low, 0x100 + i);
		assert_int_equal(out.values[i].reg128.high, 10 + i);
	}
}

/* A list that begins in the middle (TLFS "Hypercall Continuation") leaves the elements before it alone. */
static void starts_where_it_is_told(void **state)
{
	struct hypercall call = make_call(2, 3);

	(void)state;
	head(1, 1);
	names()[2] = 12;
	values[12] = 5;
	assert_int_equal(hypercall_get_vp_registers(&call), HV_STATUS_SUCCESS);
	assert_int_equal(call.reps_done, 3);
	assert_int_equal(out.values[0].reg128.low | out.values[1].reg128.low, 0);
	assert_int_equal(out.values[2].reg64, 5);
	head(1, 1);
	elements()[2] = (struct hv_register_assoc){ .name = 13, .value.reg64 = 6 };
	call = make_call(2, 3);
	assert_int_equal(hypercall_set_vp_registers(&call), HV_STATUS_SUCCESS);
	assert_int_equal(values[13], 6);
	assert_int_equal(values[0], 0);
}

static void stops_at_the_element_that_fails(void **state)
{
	struct hypercall call = make_call(0, 4);

	(void)state;
	head(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF);
	for (uint32_t i = 0; i < 4; i++)
		elements()[i] = (struct hv_register_assoc){ .name = 20 + i, .value.reg64 = 1 + i };
	elements()[2].value.reg64 = BAD_VALUE;
	assert_int_equal(hypercall_set_vp_registers(&call), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(call.reps_done, 2);
	assert_int_equal(values[20], 1);
	assert_int_equal(values[21], 2);
	assert_int_equal(values[22] | values[23], 0);
	names()[0] = 20;
	names()[1] = NO_SUCH_NAME;
	call = make_call(0, 4);
	assert_int_equal(hypercall_get_vp_registers(&call), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(call.reps_done, 1);
}

static void reserved_fields_are_zero(void **state)
{
	struct hypercall call = make_call(0, 1);

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		head(1, 1);
		in.registers.reserved[i] = 1;
		assert_int_equal(hypercall_get_vp_registers(&call), HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(hypercall_set_vp_registers(&call), HV_STATUS_INVALID_PARAMETER);
	}
	head(1, 1);
	elements()[0].reserved1 = 1;
	assert_int_equal(hypercall_set_vp_registers(&call), HV_STATUS_INVALID_PARAMETER);
	head(1, 1);
	elements()[0].reserved2 = 1ull << 63;
	assert_int_equal(hypercall_set_vp_registers(&call), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(call.reps_done, 0);
}

static void only_trust_level_0(void **state)
{
	static const struct {
		hv_input_vtl vtl;
		uint16_t status;
	} levels[] = { { 0, 0 }, { 0x10, 0 }, { 2, 0 }, { 0x11, 5 }, { 0x20, 5 }, { 0x80, 5 }, { 0xff, 5 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		struct hypercall call = make_call(0, 1);

		head(1, 1);
		in.registers.input_vtl = levels[i].vtl;
		assert_int_equal(hypercall_get_vp_registers(&call), levels[i].status);
	}
}

static void who_may_name_whom(void **state)
{
	static const struct {
		uint64_t id;
		uint32_t index;
		uint16_t status;
	} targets[] = {
		{ HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, HV_STATUS_SUCCESS },
		{ HV_PARTITION_ID_SELF, 1, HV_STATUS_SUCCESS },
		{ 1, HV_VP_INDEX_SELF, HV_STATUS_SUCCESS },
		{ 1, 0, HV_STATUS_INVALID_VP_STATE }, /* it may run */
		{ 1, 2, HV_STATUS_INVALID_VP_INDEX },
		{ 1, HV_VP_INDEX_ANY, HV_STATUS_INVALID_VP_INDEX },
		{ 2, HV_VP_INDEX_SELF, HV_STATUS_INVALID_PARTITION_ID },
		{ 0, 1, HV_STATUS_INVALID_PARTITION_ID },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		struct hypercall call = make_call(0, 1);

		head(targets[i].id, targets[i].index);
		assert_int_equal(hypercall_get_vp_registers(&call), targets[i].status);
		assert_int_equal(hypercall_set_vp_registers(&call), targets[i].status);
		assert_int_equal(hypercall_translate_virtual_address(&call), targets[i].status);
	}
	partition.privileges = ~HV_PRIVILEGE_ACCESS_VP_REGISTERS;
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		struct hypercall call = make_call(0, 1);

		head(targets[i].id, targets[i].index);
		assert_int_equal(hypercall_get_vp_registers(&call), HV_STATUS_ACCESS_DENIED);
		assert_int_equal(hypercall_set_vp_registers(&call), HV_STATUS_ACCESS_DENIED);
		assert_int_equal(hypercall_translate_virtual_address(&call), HV_STATUS_ACCESS_DENIED);
	}
}

static uint32_t translated(uint64_t page, uint64_t flags)
{
	struct hypercall call = make_call(0, 0);

	head(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF);
	in.translate.control_flags = flags;
	in.translate.gva_page = page;
	assert_int_equal(hypercall_translate_virtual_address(&call), HV_STATUS_SUCCESS);
	if (out.translate.result_code)
		assert_int_equal(out.translate.gpn | out.translate.cache_type_and_overlay, 0);
	return out.translate.result_code;
}

static void translations(void **state)
{
	static const struct {
		uint64_t page, flags;
		uint32_t result;
		uint64_t gpn;
	} cases[] = {
		{ 0, 0, 0, 7 },
		{ 0, 7, 0, 7 },	   /* read, write, execute */
		{ 1, 3, 0, 6 },	   /* supervisor's, by a supervisor */
		{ 1, 0x81, 2, 0 }, /* by a user */
		{ 1, 0x80, 0, 6 }, /* nothing to be checked */
		{ 1, 0x89, 0, 6 }, /* and not this way either */
		{ 2, 0x81, 0, 6 },
		{ 2, 0x82, 2, 0 }, /* read-only, CR0.WP is set */
		{ 2, 4, 0, 6 },
		{ 3, 4, 2, 0 }, /* not executable */
		{ 3, 1, 0, 6 },
		{ 4, 0, 3, 0 },		  /* reserved bit */
		{ 5, 1, 4, 0 },		  /* the hypervisor's memory */
		{ 6, 3, 0, 0xffffe },	  /* a device is no memory, but mapped */
		{ 7, 0, 1, 0 },		  /* not present */
		{ 0x8000000, 0, 4, 0 },	  /* the table isn't there */
		{ 0x800000000, 0, 1, 0 }, /* not canonical */
		{ 0xfffffffffffff, 0, 1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t result = translated(cases[i].page, cases[i].flags);

		if (result != cases[i].result)
			fail_msg("page %llxh, flags %llxh: %u", (unsigned long long)cases[i].page,
				 (unsigned long long)cases[i].flags, result);
		assert_int_equal(out.translate.gpn, cases[i].gpn);
		if (!result)
			assert_int_equal(out.translate.cache_type_and_overlay, HV_CACHE_TYPE_WRITE_BACK);
	}
	/* Nothing of this set an accessed bit. */
	assert_int_equal(memory[0x1000 / 8], 0x2007);
	assert_int_equal(memory[0x4000 / 8], 0x7007);
}

static void the_callers_level_counts(void **state)
{
	(void)state;
	context.cpl = 3;
	assert_int_equal(translated(1, 1), 2);
	assert_int_equal(translated(1, 0x41), 0);
	assert_int_equal(translated(1, 0x9), 0);
}

static void smap(void **state)
{
	(void)state;
	context.paging.cr4 |= BIT(21);
	assert_int_equal(translated(2, 1), 2);
	assert_int_equal(translated(2, 0x201), 0);
	context.paging.rflags = BIT(18);
	assert_int_equal(translated(2, 1), 0);
	assert_int_equal(translated(2, 0x101), 2);
}

static void sets_accessed_and_dirty_bits(void **state)
{
	(void)state;
	assert_int_equal(translated(0, 0x11), 0);
	assert_int_equal(memory[0x1000 / 8], 0x2027);
	assert_int_equal(memory[0x4000 / 8], 0x7027);
	assert_int_equal(translated(0, 0x12), 0);
	assert_int_equal(memory[0x4000 / 8], 0x7067);
	assert_int_equal(translated(6, 0x11), 0); /* a device: marked, and not read */
	assert_int_equal(memory[0x4000 / 8 + 6], 0xffffe027);
	assert_int_equal(translated(1, 0x91), 2); /* what isn't allowed leaves no trace */
	assert_int_equal(memory[0x4000 / 8 + 1], 0x6003);
}

static void overlays(void **state)
{
	(void)state;
	overlay_gpa = OWN_HPA;
	assert_int_equal(translated(5, 1), 0);
	assert_int_equal(out.translate.cache_type_and_overlay, 6 | 0x100);
	assert_int_equal(out.translate.gpn, OWN_HPA >> 12);
	assert_int_equal(translated(0, 1), 0);
	assert_int_equal(out.translate.cache_type_and_overlay, 6);
}

static void what_was_deposited_is_not_there(void **state)
{
	(void)state;
	deposited_page = 7;
	assert_int_equal(translated(0, 1), HV_TRANSLATE_GPA_UNMAPPED);
	assert_int_equal(out.translate.gpn, 0);
	assert_int_equal(translated(1, 1), 0);
}

static void flags_that_make_no_sense(void **state)
{
	static const uint64_t bad[] = {
		0x20, 0x400, 0x800, 0xc0, 0x300, 0x1100000000000000, 0x2000000000000000, 0x80000000000000
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct hypercall call = make_call(0, 0);

		head(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF);
		in.translate.control_flags = bad[i];
		assert_int_equal(hypercall_translate_virtual_address(&call), HV_STATUS_INVALID_PARAMETER);
		head(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF);
		in.translate.gva_page = 1ull << 52;
		assert_int_equal(hypercall_translate_virtual_address(&call), HV_STATUS_INVALID_PARAMETER);
		head(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF);
		in.translate.padding = 1;
		assert_int_equal(hypercall_translate_virtual_address(&call), HV_STATUS_INVALID_PARAMETER);
	}
	assert_int_equal(translated(0, 0x1000000000000000), 0); /* level 0, by name */
}

static uint16_t about_child(hypercall_handler handler, uint16_t count, uint16_t *done)
{
	struct hypercall call = make_call(0, count);
	uint16_t status = handler(&call);

	*done = call.reps_done;
	assert_false(borrowed);
	return status;
}

static void a_child_is_borrowed_once(void **state)
{
	uint16_t done;

	(void)state;
	target = child_vp;
	head(7, 2);
	for (uint32_t i = 0; i < 3; i++)
		names()[i] = 20 + i;
	values[21] = 5;
	assert_int_equal(about_child(hypercall_get_vp_registers, 3, &done), 0);
	assert_int_equal(done, 3);
	assert_int_equal(out.values[1].reg64, 5);
	assert_int_equal(borrows, 1);
	names()[1] = NO_SUCH_NAME;
	assert_int_equal(about_child(hypercall_get_vp_registers, 3, &done), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(done, 1);
	assert_int_equal(borrows, 2);
	assert_int_equal(resumes, 0);
}

/* What Linux does most: these stop the VP and let it go by themselves. */
static void suspend_registers_are_not_borrowed_for(void **state)
{
	uint16_t done;

	(void)state;
	target = child_vp;
	child_vp->pending = VP_PENDING_RESUME;
	head(7, 2);
	elements()[0].name = HV_REGISTER_INTERCEPT_SUSPEND;
	elements()[1].name = HV_REGISTER_EXPLICIT_SUSPEND;
	elements()[1].value.reg64 = 1;
	assert_int_equal(about_child(hypercall_set_vp_registers, 2, &done), 0);
	assert_int_equal(done, 2);
	assert_int_equal(values[HV_REGISTER_EXPLICIT_SUSPEND], 1);
	assert_false(was_self);
	assert_int_equal(borrows, 0);
	assert_int_equal(noted_count, 0);
	/* The next one finds what the parent had answered done. */
	elements()[1].name = 30;
	assert_int_equal(about_child(hypercall_set_vp_registers, 2, &done), 0);
	assert_int_equal(borrows, 1);
	assert_int_equal(resumes, 1);
	assert_int_equal(noted_count, 1);
	assert_int_equal(noted[0], 30);
	elements()[1].value.reg64 = BAD_VALUE;
	assert_int_equal(about_child(hypercall_set_vp_registers, 2, &done), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(done, 1);
	assert_int_equal(noted_count, 1);
	assert_int_equal(resumes, 1);
}

static void which_vps_a_child_has(void **state)
{
	static const struct {
		uint32_t index;
		uint16_t status;
	} targets[] = { { 2, 0 },
			{ 0, HV_STATUS_INVALID_VP_INDEX }, /* not made */
			{ 3, HV_STATUS_INVALID_VP_INDEX },
			{ HV_VP_INDEX_SELF, HV_STATUS_INVALID_VP_INDEX },
			{ HV_VP_INDEX_ANY, HV_STATUS_INVALID_VP_INDEX } };
	uint16_t done;

	(void)state;
	target = child_vp;
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		head(7, targets[i].index);
		names()[0] = 10;
		assert_int_equal(about_child(hypercall_get_vp_registers, 1, &done), targets[i].status);
	}
	head(7, 2);
	partition.privileges = 0;
	assert_int_equal(about_child(hypercall_get_vp_registers, 1, &done), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(borrows, 1);
}

/* Devices included: it is for the parent to know what is there. */
static void translations_for_a_child(void **state)
{
	static const struct {
		uint64_t page, gpn;
		uint32_t result;
	} pages[] = { { 1, 6, HV_TRANSLATE_SUCCESS },
		      { 5, 5, HV_TRANSLATE_SUCCESS }, /* no memory of the hypervisor's in its space */
		      { 6, 0xffffe, HV_TRANSLATE_SUCCESS },
		      { 7, 0, HV_TRANSLATE_PAGE_NOT_PRESENT } };
	uint16_t done;

	(void)state;
	target = child_vp;
	deposited_page = 6;
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		head(7, 2);
		in.translate.control_flags = HV_TRANSLATE_VALIDATE_READ;
		in.translate.gva_page = pages[i].page;
		assert_int_equal(about_child(hypercall_translate_virtual_address, 0, &done), 0);
		assert_int_equal(out.translate.result_code, pages[i].result);
		assert_int_equal(out.translate.gpn, pages[i].gpn);
	}
	assert_int_equal(borrows, ARRAY_SIZE(pages));
}

static struct vp *new_vp(void)
{
	return aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(struct vp), PAGE_SIZE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(gets_a_list, setup),
		cmocka_unit_test_setup(starts_where_it_is_told, setup),
		cmocka_unit_test_setup(stops_at_the_element_that_fails, setup),
		cmocka_unit_test_setup(reserved_fields_are_zero, setup),
		cmocka_unit_test_setup(only_trust_level_0, setup),
		cmocka_unit_test_setup(who_may_name_whom, setup),
		cmocka_unit_test_setup(translations, setup),
		cmocka_unit_test_setup(the_callers_level_counts, setup),
		cmocka_unit_test_setup(smap, setup),
		cmocka_unit_test_setup(sets_accessed_and_dirty_bits, setup),
		cmocka_unit_test_setup(overlays, setup),
		cmocka_unit_test_setup(what_was_deposited_is_not_there, setup),
		cmocka_unit_test_setup(flags_that_make_no_sense, setup),
		cmocka_unit_test_setup(a_child_is_borrowed_once, setup),
		cmocka_unit_test_setup(suspend_registers_are_not_borrowed_for, setup),
		cmocka_unit_test_setup(which_vps_a_child_has, setup),
		cmocka_unit_test_setup(translations_for_a_child, setup),
	};
	int failed;

	vp = new_vp();
	other = new_vp();
	child_vp = new_vp();
	failed = cmocka_run_group_tests_name("register hypercalls", tests, NULL, NULL);
	free(vp);
	free(other);
	free(child_vp);
	return failed;
}
