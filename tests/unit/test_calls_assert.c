/* unit: core/calls_assert.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/* Interrupts that a parent asserts, in three VPs' real local APICs: whom each kind and address reaches, and each refusal. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/apic.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define VPS 3u

static struct partition root = { .id = 1 }, child;
static struct vp *caller, *vps[VPS];
static unsigned int notices[VPS], inits[VPS], sipis[VPS];
static struct vp *borrowed;
static unsigned int borrows;

struct partition *partition_authority(struct vp *by, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_ptr_equal(by, caller);
	assert_int_equal(privilege, 0);
	*status = HV_STATUS_SUCCESS;
	if (id == 1 || id == HV_PARTITION_ID_SELF)
		return &root;
	if (id == 7)
		return &child;
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

struct vp *vp_by_apic_id(const struct partition *partition, uint32_t apic_id)
{
	assert_ptr_equal(partition, &child);
	return apic_id < VPS ? vps[apic_id] : NULL;
}

void vp_notify(struct vp *vp)
{
	notices[vp->index]++;
}

void vp_send_fixed(struct vp *target, struct vp *sender, uint8_t vector)
{
	assert_ptr_equal(sender, caller);
	if (apic_post(&target->apic, vector, false))
		vp_notify(target);
}

void vp_send_init(struct vp *vp)
{
	inits[vp->index]++;
}

void vp_send_sipi(struct vp *vp, uint8_t vector)
{
	sipis[vp->index] = vector;
}

void vp_borrow(struct vp *vp, struct vp *self)
{
	assert_ptr_equal(self, caller);
	assert_null(borrowed);
	borrowed = vp;
	borrows++;
}

void vp_return(struct vp *vp)
{
	assert_ptr_equal(vp, borrowed);
	borrowed = NULL;
}

void apic_host_send_ipi(struct apic *apic, const struct apic_ipi *ipi)
{
	(void)apic;
	(void)ipi;
}

void apic_host_level_eoi(struct apic *apic, uint8_t vector)
{
	(void)apic;
	(void)vector;
}

void apic_host_timer_changed(struct apic *apic)
{
	(void)apic;
}

void apic_host_lvt_changed(struct apic *apic, enum apic_lvt which, uint32_t value)
{
	(void)apic;
	(void)which;
	(void)value;
}

void apic_host_mode_changed(struct apic *apic)
{
	(void)apic;
}

uint64_t apic_host_now_tsc(struct apic *apic)
{
	(void)apic;
	return 0;
}

/* ---- ---- */

static uint16_t assert_interrupt(struct hv_input_assert_virtual_interrupt input)
{
	struct hypercall call = { .vp = caller, .partition = &root, .input = &input };
	uint16_t status;

	input.partition_id = 7;
	status = hypercall_assert_virtual_interrupt(&call);
	assert_null(borrowed);
	return status;
}

static void send(uint32_t type, uint32_t control, uint64_t destination, uint32_t vector)
{
	assert_int_equal(assert_interrupt((struct hv_input_assert_virtual_interrupt){
				 .interrupt_type = type,
				 .control_flags = control,
				 .destination = destination,
				 .vector = vector,
			 }),
			 0);
}

/* What the VP's local APIC offers next, -1: nothing; it is ended. */
static int next(unsigned int vp)
{
	int vector;

	apic_sync_posted(&vps[vp]->apic);
	vector = apic_next_vector(&vps[vp]->apic);
	if (vector >= 0) {
		apic_take(&vps[vp]->apic, (uint8_t)vector);
		apic_eoi(&vps[vp]->apic);
	}
	return vector;
}

static int setup(void **state)
{
	(void)state;
	memset(&child, 0, sizeof(child));
	child.id = 7;
	child.parent = &root;
	child.vps = vps;
	child.vp_count = VPS;
	child.state = PARTITION_ACTIVE;
	memset(notices, 0, sizeof(notices));
	memset(inits, 0, sizeof(inits));
	memset(sipis, 0, sizeof(sipis));
	for (uint32_t i = 0; i < VPS; i++) {
		const struct apic_config config = {
			.apic_id = i,
			.x2apic = true,
			.version = 0x14,
			.max_lvt = 6,
			.phys_bits = 40,
			.min_period_tsc = 1000,
			.clock = { .to_tsc = { .mult = 1 }, .to_ticks = { .mult = 1 } },
		};
		struct apic_page *page = vps[i]->apic_page;

		memset(vps[i], 0, sizeof(*vps[i]));
		memset(page, 0, PAGE_SIZE);
		vps[i]->apic_page = page;
		vps[i]->partition = &child;
		vps[i]->index = i;
		assert_int_equal(apic_init(&vps[i]->apic, &config, page), 0);
		assert_int_equal(apic_mmio_write(&vps[i]->apic, APIC_REG_SVR, 4, 0x1ff), 0);
		assert_int_equal(apic_mmio_write(&vps[i]->apic, APIC_REG_LDR, 4, 1ull << (24 + i)), 0);
	}
	return 0;
}

static void by_id(void **state)
{
	(void)state;
	send(HV_INTERRUPT_FIXED, 0, 1, 0x41);
	assert_int_equal(notices[1], 1);
	assert_int_equal(next(0), -1);
	assert_int_equal(next(1), 0x41);
	send(HV_INTERRUPT_LOWEST_PRIORITY, 0, 2, 0x42);
	assert_int_equal(next(2), 0x42);
	send(HV_INTERRUPT_FIXED, 0, 3, 0x41); /* no such APIC: lost on the bus */
	vps[1]->apic.base &= ~APIC_BASE_EN;
	send(HV_INTERRUPT_FIXED, 0, 1, 0x41);
	send(HV_INTERRUPT_NMI, 0, 1, 0);
	assert_int_equal(vps[1]->pending, 0);
}

static void level(void **state)
{
	(void)state;
	send(HV_INTERRUPT_FIXED, HV_INTERRUPT_CONTROL_LEVEL, 0, 0x51);
	assert_int_equal(notices[0], 1);
	assert_int_equal(vps[0]->pending, VP_PENDING_EVENT);
	apic_sync_posted(&vps[0]->apic);
	assert_int_equal(apic_next_vector(&vps[0]->apic), 0x51);
	apic_take(&vps[0]->apic, 0x51);
	assert_int_equal(apic_vectors(&vps[0]->apic, APIC_REG_TMR, 1), BIT(0x51 - 64));
}

static void logical(void **state)
{
	(void)state;
	send(HV_INTERRUPT_FIXED, HV_INTERRUPT_CONTROL_LOGICAL, 6, 0x61);
	assert_int_equal(next(0), -1);
	assert_int_equal(next(1), 0x61);
	assert_int_equal(next(2), 0x61);
	send(HV_INTERRUPT_LOWEST_PRIORITY, HV_INTERRUPT_CONTROL_LOGICAL, 7, 0x62);
	assert_int_equal((next(0) == 0x62) + (next(1) == 0x62) + (next(2) == 0x62), 1);
	vps[0]->apic.enabled = false;
	send(HV_INTERRUPT_LOWEST_PRIORITY, HV_INTERRUPT_CONTROL_LOGICAL, 3, 0x63);
	assert_int_equal(next(1), 0x63);
}

static void everybody(void **state)
{
	(void)state;
	send(HV_INTERRUPT_FIXED, 0, 0xff, 0x71);
	for (unsigned int i = 0; i < VPS; i++)
		assert_int_equal(next(i), 0x71);
	send(HV_INTERRUPT_NMI, 0, 0xffffffff, 0);
	for (unsigned int i = 0; i < VPS; i++)
		assert_int_equal(vps[i]->pending & VP_PENDING_NMI, VP_PENDING_NMI);
}

static void init_and_startup(void **state)
{
	(void)state;
	send(HV_INTERRUPT_INIT, 0, 2, 0);
	send(HV_INTERRUPT_SIPI, 0, 2, 0x9a);
	assert_int_equal(inits[2], 1);
	assert_int_equal(sipis[2], 0x9a);
	assert_int_equal(inits[0] + inits[1] + sipis[0] + sipis[1], 0);
}

static void clear(void)
{
	const struct hv_input_partition_id input = { .partition_id = 7 };
	struct hypercall call = { .vp = caller, .partition = &root, .input = &input };

	assert_int_equal(hypercall_clear_virtual_interrupt(&call), 0);
	assert_null(borrowed);
}

static void of_an_8259(void **state)
{
	(void)state;
	send(HV_INTERRUPT_EXTINT, 0, 0, 8);
	send(HV_INTERRUPT_EXTINT, 0, 0, 8);
	send(HV_INTERRUPT_EXTINT, 0, 0, 0x70);
	assert_int_equal(vps[0]->extint_count, 2);
	assert_int_equal(vps[0]->extint[0], BIT(8));
	assert_int_equal(vps[0]->extint[1], BIT(0x30));
	assert_int_equal(vps[0]->pending, VP_PENDING_EVENT);
	borrows = 0;
	clear();
	assert_int_equal(borrows, 1); /* who has none goes on */
	assert_int_equal(vps[0]->extint_count, 0);
	assert_int_equal(vps[0]->extint[0] | vps[0]->extint[1], 0);
}

static void pins(void **state)
{
	(void)state;
	send(HV_INTERRUPT_LOCALINT0, 0, 1, 0x33); /* masked after reset */
	assert_int_equal(vps[1]->pending, 0);
	vps[1]->apic.lvt[APIC_LVT_LINT0] = APIC_MODE_EXTINT << 8;
	vps[1]->apic.lvt[APIC_LVT_LINT1] = APIC_MODE_NMI << 8;
	send(HV_INTERRUPT_LOCALINT0, 0, 1, 0x33);
	assert_int_equal(vps[1]->extint[0], BIT(0x33));
	send(HV_INTERRUPT_LOCALINT1, 0, 1, 0);
	assert_int_equal(vps[1]->pending, VP_PENDING_EVENT | VP_PENDING_NMI);
	vps[1]->apic.lvt[APIC_LVT_LINT0] = 0x44;
	send(HV_INTERRUPT_LOCALINT0, 0, 1, 0x33);
	assert_int_equal(next(1), 0x44);
	vps[1]->apic.lvt[APIC_LVT_LINT0] = 0x4; /* no vector */
	send(HV_INTERRUPT_LOCALINT0, 0, 1, 0x33);
	assert_int_equal(next(1), -1);
	vps[1]->apic.lvt[APIC_LVT_LINT0] = APIC_MODE_INIT << 8;
	send(HV_INTERRUPT_LOCALINT0, 0, 1, 0);
	assert_int_equal(inits[1], 1);
}

static void refusals(void **state)
{
	static const struct hv_input_assert_virtual_interrupt bad[] = {
		{ .interrupt_type = HV_INTERRUPT_SMI, .vector = 0x41 },
		{ .interrupt_type = HV_INTERRUPT_REMOTE_READ, .vector = 0x41 },
		{ .interrupt_type = 10, .vector = 0x41 },
		{ .control_flags = 4, .vector = 0x41 },
		{ .destination = 1ull << 32, .vector = 0x41 },
		{ .target_vtl = 1, .vector = 0x41 },
		{ .reserved = { 1 }, .vector = 0x41 },
		{ .reserved = { 0, 0, 1 }, .vector = 0x41 },
		{ .vector = 0 },
		{ .vector = 15 },
		{ .vector = 0x141 },
	};
	static const struct {
		uint64_t id;
		uint16_t status;
	} ids[] = { { 1, HV_STATUS_ACCESS_DENIED },
		    { HV_PARTITION_ID_SELF, HV_STATUS_ACCESS_DENIED },
		    { 8, HV_STATUS_INVALID_PARTITION_ID } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(assert_interrupt(bad[i]), HV_STATUS_INVALID_PARAMETER);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct hv_input_assert_virtual_interrupt input = { .partition_id = ids[i].id,
								   .vector = 0x41 };
		struct hypercall call = { .vp = caller, .partition = &root, .input = &input };

		assert_int_equal(hypercall_assert_virtual_interrupt(&call), ids[i].status);
		assert_int_equal(hypercall_clear_virtual_interrupt(&call), ids[i].status);
	}
	child.state = PARTITION_FINALIZED;
	assert_int_equal(assert_interrupt((struct hv_input_assert_virtual_interrupt){ .vector = 0x41 }),
			 HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(notices[0], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(by_id, setup),
		cmocka_unit_test_setup(level, setup),
		cmocka_unit_test_setup(logical, setup),
		cmocka_unit_test_setup(everybody, setup),
		cmocka_unit_test_setup(init_and_startup, setup),
		cmocka_unit_test_setup(of_an_8259, setup),
		cmocka_unit_test_setup(pins, setup),
		cmocka_unit_test_setup(refusals, setup),
	};
	size_t size = ALIGN_UP(sizeof(struct vp), PAGE_SIZE);
	int failed;

	caller = aligned_alloc(PAGE_SIZE, size);
	caller->partition = &root;
	for (unsigned int i = 0; i < VPS; i++) {
		vps[i] = aligned_alloc(PAGE_SIZE, size);
		vps[i]->apic_page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	}
	failed = cmocka_run_group_tests_name("interrupts from a parent", tests, NULL, NULL);
	for (unsigned int i = 0; i < VPS; i++) {
		free(vps[i]->apic_page);
		free(vps[i]);
	}
	free(caller);
	return failed;
}
