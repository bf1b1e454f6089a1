/* unit: core/calls_vp_state.c core/xsave_image.c core/apic_image.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c core/cpuid_policy.c core/cpuid_features.c core/cpuid_overrides.c */
/* SPDX-License-Identifier: MIT */
/*
 * State of a child's VP, saved and restored: what an image looks like, that it comes back the same, and what a hostile one
 * can't do. The caller's memory is two pages at 0x1000.
 */
#include "apic_fake.h"

#include <hv/cpuid.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <hv/vp_state.h>
#include <trivet/backend.h>
#include <trivet/cpuid_policy.h>
#include <trivet/guest_access.h>
#include <trivet/hypercall.h>
#include <trivet/live_registers.h>
#include <trivet/partition.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#define CHILD 5u
#define MEMORY 0x1000ull
#define COMPACTED (1ull << 63)

struct partition root_partition;
static struct partition child;
static struct vp *caller, *vp;
static struct vp *vps[2];
static uint8_t fpu[PAGE_SIZE] __attribute__((aligned(64))), memory[2 * PAGE_SIZE];
static uint8_t sim_page[PAGE_SIZE];
static bool borrowed, has_xsave;
static struct hv_vp_state_timers timers;

static unsigned int phys_bits(void)
{
	return 40;
}

static const struct backend fake_backend = { .phys_bits = phys_bits };
const struct backend *backend = &fake_backend;

/* x87, SSE, AVX, AVX-512, PKRU (here aligned), and AMX's data, which no child gets. */
struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	static const struct cpuid_regs parts[] = {
		[2] = { 256, 576, 0, 0 },   [5] = { 64, 1088, 0, 0 }, [6] = { 512, 1152, 0, 0 },
		[7] = { 1024, 1664, 0, 0 }, [9] = { 8, 2688, 2, 0 },  [18] = { 8192, 2816, 2, 0 },
	};

	if (leaf == 0)
		return (struct cpuid_regs){ 0xd, 0x756e6547, 0, 0 };
	if (leaf == 1)
		return (struct cpuid_regs){ 0, 0, has_xsave ? 1u << 26 | 1u << 28 : 0, 0 };
	if (leaf == 7)
		return (struct cpuid_regs){ 0, 1u << 5 | 1u << 16, 0, 0 };
	if (leaf == 0xd && subleaf == 0)
		return (struct cpuid_regs){ 0x402e7, 0, 0, 0 };
	if (leaf == 0xd && subleaf < ARRAY_SIZE(parts))
		return parts[subleaf];
	return (struct cpuid_regs){ 0 };
}

bool read_xcr0(uint64_t *value)
{
	(void)value;
	return false;
}

void save_fx(struct fx_area *area)
{
	memset(area, 0, sizeof(*area));
	area->mxcsr_mask = 0xffff;
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	assert_ptr_equal(space, caller);
	assert_true(gpa.v % PAGE_SIZE + size <= PAGE_SIZE);
	if (gpa.v < MEMORY || gpa.v + size > MEMORY + sizeof(memory))
		return false;
	memcpy(buf, memory + (gpa.v - MEMORY), size);
	return true;
}

bool guest_phys_write(void *space, gpa_t gpa, const void *buf, size_t size)
{
	assert_ptr_equal(space, caller);
	assert_true(gpa.v % PAGE_SIZE + size <= PAGE_SIZE);
	if (gpa.v < MEMORY || gpa.v + size > MEMORY + sizeof(memory))
		return false;
	memcpy(memory + (gpa.v - MEMORY), buf, size);
	return true;
}

struct partition *partition_authority(struct vp *who, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_int_equal(privilege, 0);
	*status = HV_STATUS_SUCCESS;
	if (id == HV_PARTITION_ID_SELF)
		return who->partition;
	if (id == CHILD)
		return &child;
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

void vp_borrow(struct vp *whom, struct vp *self)
{
	assert_ptr_equal(whom, vp);
	assert_ptr_equal(self, caller);
	assert_false(borrowed);
	borrowed = true;
}

void vp_return(struct vp *whom)
{
	assert_ptr_equal(whom, vp);
	assert_true(borrowed);
	borrowed = false;
}

void stimers_save(const struct vp *of, struct hv_vp_state_timers *image)
{
	assert_ptr_equal(of, vp);
	assert_true(borrowed);
	*image = timers;
}

int stimers_load(struct vp *of, const struct hv_vp_state_timers *image)
{
	assert_ptr_equal(of, vp);
	assert_true(borrowed);
	timers = *image;
	return timers.timer[0].reserved ? -EINVAL : 0;
}

static void policy(bool xsave, uint64_t disabled_xsave)
{
	static const uint64_t nothing[2];

	has_xsave = xsave;
	cpuid_policy_init(&child.cpuid, nothing, disabled_xsave);
}

static int setup(void **state)
{
	(void)state;
	memset(&child, 0, sizeof(child));
	memset(memory, 0, sizeof(memory));
	memset(fpu, 0, sizeof(fpu));
	memset(sim_page, 0x5a, sizeof(sim_page));
	child.parent = &root_partition;
	caller = aligned_alloc(64, sizeof(*caller));
	vp = aligned_alloc(64, sizeof(*vp));
	memset(caller, 0, sizeof(*caller));
	memset(vp, 0, sizeof(*vp));
	caller->partition = &root_partition;
	vp->partition = &child;
	vp->fpu = (struct fx_area *)(void *)fpu;
	vp->synic.message_page.content = sim_page;
	vps[0] = vp;
	vps[1] = NULL;
	child.vps = vps;
	child.vp_count = 2;
	fake_init_enabled(&vp->apic, 3, false);
	policy(true, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(caller);
	free(vp);
	return 0;
}

struct packet {
	struct hv_input_vp_state in;
	uint64_t behind[25];
};

static struct packet packet_for(uint32_t type)
{
	return (struct packet){
		.in = { .partition_id = CHILD, .type = type, .xsave_states = UINT64_MAX },
		.behind = { MEMORY >> PAGE_SHIFT },
	};
}

static uint16_t get(const struct packet *packet, uint16_t qwords, struct hv_vp_state_timers *out)
{
	struct hypercall call = { .vp = caller,
				  .partition = &root_partition,
				  .input = packet,
				  .output = out,
				  .var_header_qwords = qwords };
	uint16_t status = hypercall_get_vp_state(&call);

	assert_false(borrowed);
	return status;
}

static uint16_t set(const struct packet *packet, uint16_t qwords)
{
	struct hypercall call = {
		.vp = caller, .partition = &root_partition, .input = packet, .var_header_qwords = qwords
	};
	uint16_t status = hypercall_set_vp_state(&call);

	assert_false(borrowed);
	return status;
}

static uint16_t get_type(uint32_t type)
{
	const struct packet packet = packet_for(type);

	return get(&packet, 1, NULL);
}

static uint16_t set_type(uint32_t type)
{
	const struct packet packet = packet_for(type);

	return set(&packet, 1);
}

/* ---- Calls ---- */

static void refusals(void **state)
{
	struct packet packet;

	(void)state;
#define REFUSED(change, status)                                  \
	do {                                                     \
		packet = packet_for(HV_VP_STATE_LAPIC);          \
		change;                                          \
		assert_int_equal(get(&packet, 1, NULL), status); \
		assert_int_equal(set(&packet, 1), status);       \
	} while (0)
	REFUSED(packet.in.partition_id = 77, HV_STATUS_INVALID_PARTITION_ID);
	REFUSED(packet.in.partition_id = HV_PARTITION_ID_SELF, HV_STATUS_ACCESS_DENIED);
	REFUSED(packet.in.vp_index = 1, HV_STATUS_INVALID_VP_INDEX);
	REFUSED(packet.in.vp_index = 2, HV_STATUS_INVALID_VP_INDEX);
	REFUSED(packet.in.vp_index = HV_VP_INDEX_SELF, HV_STATUS_INVALID_VP_INDEX);
	REFUSED(packet.in.input_vtl = 1, HV_STATUS_INVALID_PARAMETER);
	REFUSED(packet.in.reserved1 = 1, HV_STATUS_INVALID_PARAMETER);
	REFUSED(packet.in.reserved0[2] = 1, HV_STATUS_INVALID_PARAMETER);
	REFUSED(packet.in.type = 0x80000004, HV_STATUS_INVALID_PARAMETER);
	REFUSED(packet.in.type = 5, HV_STATUS_INVALID_PARAMETER);
	REFUSED(packet.behind[0] = 0, HV_STATUS_INVALID_PARAMETER);
	REFUSED(packet.behind[0] = UINT64_MAX, HV_STATUS_INVALID_PARAMETER);
	packet = packet_for(HV_VP_STATE_XSAVE);
	packet.in.xsave_flags = 1;
	assert_int_equal(get(&packet, 1, NULL), HV_STATUS_INVALID_PARAMETER);
	for (uint32_t type = 0x80000000; type < 0x80000004; type++) {
		packet = packet_for(type);
		assert_int_equal(get(&packet, 0, NULL), HV_STATUS_INVALID_HYPERCALL_INPUT);
		assert_int_equal(set(&packet, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	}
	packet = packet_for(HV_VP_STATE_SYNTHETIC_TIMERS);
	assert_int_equal(set(&packet, 24), HV_STATUS_INVALID_HYPERCALL_INPUT);
}

static void synthetic_timers(void **state)
{
	struct packet packet = packet_for(HV_VP_STATE_SYNTHETIC_TIMERS);
	struct hv_vp_state_timers out;

	(void)state;
	packet.behind[0] = 0;
	packet.behind[2] = 77;
	assert_int_equal(set(&packet, 25), HV_STATUS_SUCCESS);
	assert_int_equal(timers.timer[0].count, 77);
	assert_int_equal(get(&packet, 0, &out), HV_STATUS_SUCCESS);
	assert_memory_equal(&out, &packet.behind, sizeof(out));
	packet.behind[0] = 1ull << 32;
	assert_int_equal(set(&packet, 25), HV_STATUS_INVALID_SAVE_RESTORE_STATE);
}

static void synic_pages(void **state)
{
	(void)state;
	assert_int_equal(get_type(HV_VP_STATE_SIM_PAGE), HV_STATUS_SUCCESS);
	assert_memory_equal(memory, sim_page, PAGE_SIZE);
	assert_int_equal(memory[PAGE_SIZE], 0);
	memset(memory, 0x17, PAGE_SIZE);
	assert_int_equal(set_type(HV_VP_STATE_SIM_PAGE), HV_STATUS_SUCCESS);
	assert_int_equal(sim_page[PAGE_SIZE - 1], 0x17);
	assert_int_equal(get_type(HV_VP_STATE_SIEF_PAGE), HV_STATUS_FEATURE_UNAVAILABLE);
}

/* ---- Local APIC ---- */

static struct hv_vp_state_lapic *lapic(void)
{
	return (struct hv_vp_state_lapic *)(void *)memory;
}

static void lapic_image(void **state)
{
	struct apic *apic = &vp->apic;

	(void)state;
	assert_int_equal(apic_mmio_write(apic, APIC_REG_LDR, 4, 0x02000000), 0);
	assert_int_equal(apic_mmio_write(apic, APIC_REG_LVT_LINT0, 4, 0x700), 0);
	assert_int_equal(apic_mmio_write(apic, APIC_REG_LVT_TIMER, 4, 0x200ee), 0);
	assert_int_equal(apic_mmio_write(apic, APIC_REG_TIMER_DIVIDE, 4, 0xb), 0);
	assert_int_equal(apic_mmio_write(apic, APIC_REG_TIMER_INITIAL, 4, 1000), 0);
	assert_int_equal(apic_mmio_write(apic, APIC_REG_ICR_HIGH, 4, 0x05000000), 0);
	apic_set_tpr(apic, 0x30);
	apic_accept(apic, 0x51, false);
	apic_take(apic, 0x51);
	apic_post(apic, 0x62, true);
	fake.now_tsc += 16 * 100;
	assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_int_equal(lapic()->id, 3u << 24);
	assert_int_equal(lapic()->version, 0x60014);
	assert_int_equal(lapic()->ldr, 0x02000000);
	assert_int_equal(lapic()->spurious, 0x1ff);
	assert_int_equal(lapic()->isr[2], 1 << 0x11);
	assert_int_equal(lapic()->irr[3], 1 << 2);
	assert_int_equal(lapic()->tmr[3], 1 << 2);
	assert_int_equal(lapic()->icr_high, 0x05000000);
	assert_int_equal(lapic()->lvt_lint0, 0x700);
	assert_int_equal(lapic()->lvt_timer, 0x200ee);
	assert_int_equal(lapic()->initial_count, 1000);
	assert_int_equal(lapic()->current_count, 900);
	assert_int_equal(lapic()->divide_configuration, 0xb);
}

/* An NMI is a bit of IRR that no interrupt can have: it comes along, there and back, and goes where it isn't. */
static void lapic_has_a_pending_nmi(void **state)
{
	(void)state;
	apic_accept(&vp->apic, 0x51, false);
	assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_int_equal(lapic()->irr[0], 0);
	lapic()->irr[0] = 0xffff;
	assert_int_equal(set_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_true(atomic_load(&vp->pending) & VP_PENDING_NMI);
	memset(memory, 0, PAGE_SIZE);
	assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_int_equal(lapic()->irr[0], 1 << 2);
	assert_int_equal(lapic()->irr[2], 1 << 0x11);
	lapic()->irr[0] = 0xfffb;
	assert_int_equal(set_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_false(atomic_load(&vp->pending) & VP_PENDING_NMI);
	assert_int_equal(vp->apic.irr_top, 0x51);
}

/* As QEMU 11.1 sets the LINT pins: all else stays, what is pending too. */
static void lapic_round_trip(void **state)
{
	struct hv_vp_state_lapic before;
	struct apic *apic = &vp->apic;

	for (unsigned int x2 = 0; x2 < 2; x2++) {
		uint64_t base;

		teardown(state);
		setup(state);
		apic = &vp->apic;
		if (x2)
			fake_init_enabled(apic, 3, true);
		base = apic->base;
		apic_set_tpr(apic, 0x45);
		apic_accept(apic, 0x51, false);
		apic_accept(apic, 0x61, true);
		apic->esr_pending = 0x40;
		assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
		lapic()->lvt_lint0 = 0x700;
		lapic()->lvt_lint1 = 0x400;
		before = *lapic();
		vp_clear_pending(vp, UINT64_MAX);
		assert_int_equal(set_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
		assert_int_equal(vp->pending & VP_PENDING_EVENT, VP_PENDING_EVENT);
		assert_int_equal(apic->tpr, 0x45);
		assert_int_equal(apic->base, base);
		assert_int_equal(apic->config.apic_id, 3);
		assert_int_equal(apic_next_vector(apic), 0x61);
		memset(memory, 0, sizeof(memory));
		assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
		assert_memory_equal(lapic(), &before, sizeof(before));
	}
}

/* It ended while the VP was stopped: nobody else would ever tell the guest. */
static void lapic_timer_is_due(void **state)
{
	struct apic *apic = &vp->apic;

	for (unsigned int periodic = 0; periodic < 2; periodic++) {
		teardown(state);
		setup(state);
		apic = &vp->apic;
		assert_int_equal(apic_mmio_write(apic, APIC_REG_LVT_TIMER, 4, periodic ? 0x200ee : 0xee), 0);
		assert_int_equal(apic_mmio_write(apic, APIC_REG_TIMER_DIVIDE, 4, 0xb), 0);
		assert_int_equal(apic_mmio_write(apic, APIC_REG_TIMER_INITIAL, 4, 1000), 0);
		fake.now_tsc += 16 * 1100;
		vp_clear_pending(vp, UINT64_MAX);
		assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
		assert_int_equal(lapic()->irr[7], 1 << 0xe);
		assert_int_equal(lapic()->current_count, periodic ? 900 : 0);
		assert_int_equal(vp->pending & VP_PENDING_EVENT, VP_PENDING_EVENT);
	}
}

/* Its register has it until it is an interrupt, so that it is in one of both, whichever is read first. */
static void lapic_deadline_is_due(void **state)
{
	struct apic *apic = &vp->apic;
	uint64_t deadline = fake.now_tsc + 500;

	(void)state;
	assert_int_equal(apic_tsc_deadline_armed(apic), 0);
	assert_int_equal(apic_mmio_write(apic, APIC_REG_LVT_TIMER, 4, 0x400ee), 0);
	assert_int_equal(apic_tsc_deadline_armed(apic), 0);
	assert_int_equal(apic_tsc_deadline_write(apic, deadline), 0);
	fake.now_tsc += 1000;
	assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_int_equal(lapic()->irr[7], 0);
	assert_int_equal(apic_tsc_deadline_armed(apic), deadline);
	apic_timer_expired(apic, fake.now_tsc);
	assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_int_equal(lapic()->irr[7], 1 << 0xe);
	assert_int_equal(apic_tsc_deadline_armed(apic), 0);
}

static void lapic_deadline_stays(void **state)
{
	struct apic *apic = &vp->apic;

	(void)state;
	assert_int_equal(apic_mmio_write(apic, APIC_REG_LVT_TIMER, 4, 0x400ee), 0);
	assert_int_equal(apic_tsc_deadline_write(apic, fake.now_tsc + 500), 0);
	assert_int_equal(get_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_int_equal(set_type(HV_VP_STATE_LAPIC), HV_STATUS_SUCCESS);
	assert_int_equal(apic->timer.deadline_tsc, fake.now_tsc + 500);
}

static void hostile_lapic(void **state)
{
	uint64_t seed = fake_seed();
	struct apic *apic = &vp->apic;

	(void)state;
	for (unsigned int i = 0; i < 2000; i++) {
		for (unsigned int word = 0; word < sizeof(*lapic()) / 4; word++)
			((uint32_t *)(void *)memory)[word] = (uint32_t)fake_random(&seed);
		if ((lapic()->lvt_timer >> 17 & 3) == 3)
			continue;
		(void)set_type(HV_VP_STATE_LAPIC);
		assert_int_equal(apic->config.apic_id, 3);
		assert_int_equal(apic->page->reg[APIC_REG_IRR >> 4].value & 0xffff, 0);
		assert_int_equal(apic->svr & ~0x3ffu, 0);
		assert_int_equal(apic->esr & ~0xefu, 0);
		assert_true(apic_next_vector(apic) < 256);
		fake.now_tsc += 1000000;
		apic_timer_expired(apic, fake.now_tsc);
		for (unsigned int eois = 0; eois < 300; eois++)
			apic_eoi(apic);
		assert_int_equal(apic->isr_top, -1);
	}
	memset(memory, 0, sizeof(memory));
	lapic()->lvt_timer = 3 << 17;
	assert_int_equal(set_type(HV_VP_STATE_LAPIC), HV_STATUS_INVALID_SAVE_RESTORE_STATE);
}

/* ---- Extended state ---- */

static uint64_t *qword(uint8_t *of, uint32_t offset)
{
	return (uint64_t *)(void *)(of + offset);
}

static uint32_t *mxcsr_of(uint8_t *of)
{
	return (uint32_t *)(void *)(of + 24);
}

static void fill_fpu(uint64_t xstate_bv)
{
	for (unsigned int i = 0; i < PAGE_SIZE; i++)
		fpu[i] = (uint8_t)(i * 7 + i / 256);
	*mxcsr_of(fpu) = 0x1fa0;
	memset(fpu + 512, 0, 64);
	*qword(fpu, 512) = xstate_bv;
}

static void xsave_layout(void **state)
{
	(void)state;
	fill_fpu(0x2e7);
	memset(memory, 0xee, sizeof(memory));
	assert_int_equal(get_type(HV_VP_STATE_XSAVE), HV_STATUS_SUCCESS);
	assert_int_equal(*qword(memory, 512), 0x2e7);
	assert_int_equal(*qword(memory, 520), COMPACTED | 0x2e7);
	for (uint32_t i = 528; i < 576; i += 8)
		assert_int_equal(*qword(memory, i), 0);
	assert_memory_equal(memory, fpu, 24);
	assert_int_equal(*mxcsr_of(memory), 0x1fa0);
	assert_memory_equal(memory + 32, fpu + 32, 416 - 32);
	assert_memory_equal(memory + 576, fpu + 576, 256);
	assert_memory_equal(memory + 832, fpu + 1088, 64);
	assert_memory_equal(memory + 896, fpu + 1152, 512);
	assert_memory_equal(memory + 1408, fpu + 1664, 1024);
	assert_memory_equal(memory + 2432, fpu + 2688, 8);
	assert_int_equal(memory[2440], 0xee);
	assert_int_equal(xsave_bytes(0x2e7, true), 2440);
}

/* Fewer components lie closer together, aligned where they must be. */
static void xsave_part(void **state)
{
	struct packet packet = packet_for(HV_VP_STATE_XSAVE);

	(void)state;
	fill_fpu(0x2e7);
	packet.in.xsave_states = 1ull << 5 | 1ull << 9;
	assert_int_equal(get(&packet, 1, NULL), HV_STATUS_SUCCESS);
	assert_int_equal(*qword(memory, 512), 0x223);
	assert_int_equal(*qword(memory, 520), COMPACTED | 0x223);
	assert_memory_equal(memory + 576, fpu + 1088, 64);
	assert_memory_equal(memory + 640, fpu + 2688, 8);
	packet.in.xsave_states = 0;
	assert_int_equal(get(&packet, 1, NULL), HV_STATUS_SUCCESS);
	assert_int_equal(*qword(memory, 520), COMPACTED | 3);
}

/* What is in its initial state is that, whatever lies in memory. */
static void xsave_initial_state(void **state)
{
	(void)state;
	fill_fpu(0);
	assert_int_equal(get_type(HV_VP_STATE_XSAVE), HV_STATUS_SUCCESS);
	assert_int_equal(*qword(memory, 512), 3);
	assert_int_equal(*qword(memory, 520), COMPACTED | 0x2e7);
	assert_int_equal(*qword(memory, 0), 0x37f);
	assert_int_equal(*mxcsr_of(memory), 0x1fa0); /* of its own, always loaded */
	for (uint32_t i = 32; i < 416; i += 8)
		assert_int_equal(*qword(memory, i), 0);
	/* And the other way. */
	memset(memory, 0x99, sizeof(memory));
	memset(memory + 512, 0, 64);
	*qword(memory, 520) = COMPACTED | 7;
	fill_fpu(0x2e7);
	assert_int_equal(set_type(HV_VP_STATE_XSAVE), HV_STATUS_SUCCESS);
	assert_int_equal(*qword(fpu, 512), 3);
	assert_int_equal(*qword(fpu, 520), 0);
	assert_int_equal(*qword(fpu, 0), 0x37f);
	assert_int_equal(*mxcsr_of(fpu), 0x1f80);
	for (uint32_t i = 32; i < 416; i += 8)
		assert_int_equal(*qword(fpu, i), 0);
}

static void xsave_round_trip(void **state)
{
	static const uint64_t states[] = { 3, 7, 0x27, 0x2e7, 0x203, 0xe7 };
	uint8_t before[PAGE_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		fill_fpu(states[i]);
		memcpy(before, fpu, sizeof(fpu));
		assert_int_equal(get_type(HV_VP_STATE_XSAVE), HV_STATUS_SUCCESS);
		fill_fpu(0);
		memset(fpu + 576, 0x66, sizeof(fpu) - 576);
		assert_int_equal(set_type(HV_VP_STATE_XSAVE), HV_STATUS_SUCCESS);
		assert_int_equal(*qword(fpu, 512), states[i]);
		assert_memory_equal(fpu, before, 28);
		assert_memory_equal(fpu + 32, before + 32, 416 - 32);
		for (unsigned int c = 2; c < 10; c++) {
			struct xsave_component part = xsave_component(c);

			if (states[i] >> c & 1)
				assert_memory_equal(fpu + part.offset, before + part.offset, part.bytes);
			else if (part.bytes)
				assert_int_equal(fpu[part.offset], 0x66);
		}
	}
}

static void image_begins(uint64_t xstate_bv, uint64_t xcomp_bv)
{
	memset(memory, 0, sizeof(memory));
	*mxcsr_of(memory) = 0x1f80;
	*qword(memory, 512) = xstate_bv;
	*qword(memory, 520) = xcomp_bv;
}

static void hostile_xsave(void **state)
{
	uint8_t before[PAGE_SIZE];

	(void)state;
	fill_fpu(7);
	memcpy(before, fpu, sizeof(fpu));
#define HOSTILE(xstate_bv, xcomp_bv, change)                                                         \
	do {                                                                                         \
		image_begins(xstate_bv, xcomp_bv);                                                   \
		change;                                                                              \
		assert_int_equal(set_type(HV_VP_STATE_XSAVE), HV_STATUS_INVALID_SAVE_RESTORE_STATE); \
		assert_memory_equal(fpu, before, sizeof(fpu));                                       \
	} while (0)
	HOSTILE(3, 3, );				 /* not compacted */
	HOSTILE(7, COMPACTED | 3, );			 /* not in the layout */
	HOSTILE(3 | BIT(18), COMPACTED | 3 | BIT(18), ); /* not offered, and too large */
	HOSTILE(0xb, COMPACTED | 0xb, );		 /* no such component */
	HOSTILE(3, COMPACTED | 0xb, );
	HOSTILE(3, COMPACTED | 3 | BIT(18), ); /* only in the layout, but too large */
	HOSTILE(3 | BIT(62), COMPACTED | 3 | BIT(62), );
	HOSTILE(COMPACTED | 3, COMPACTED | 3, );
	HOSTILE(3, COMPACTED | 3, *qword(memory, 528) = 1);
	HOSTILE(3, COMPACTED | 3, *qword(memory, 568) = 1);
	HOSTILE(3, COMPACTED | 3, *mxcsr_of(memory) = 0x10000);
	/* A reserved bit where MXCSR isn't loaded from; and a component that is skipped. */
	policy(true, 1ull << 2);
	image_begins(1, COMPACTED | 7);
	*mxcsr_of(memory) = 0x10000;
	assert_int_equal(set_type(HV_VP_STATE_XSAVE), HV_STATUS_SUCCESS);
	assert_int_equal(*mxcsr_of(fpu), 0x1f80);
	assert_int_equal(*qword(fpu, 512), 3);
	memcpy(before, fpu, sizeof(fpu));
	HOSTILE(7, COMPACTED | 7, ); /* AVX, which this child hasn't */
}

/* A machine or a child without XSAVE: the same image, of x87 and SSE. */
static void without_xsave(void **state)
{
	(void)state;
	policy(false, 0);
	fill_fpu(0);
	assert_int_equal(get_type(HV_VP_STATE_XSAVE), HV_STATUS_SUCCESS);
	assert_int_equal(*qword(memory, 512), 3);
	assert_int_equal(*qword(memory, 520), COMPACTED | 3);
	assert_memory_equal(memory + 32, fpu + 32, 416 - 32);
	memory[33] ^= 1;
	assert_int_equal(set_type(HV_VP_STATE_XSAVE), HV_STATUS_SUCCESS);
	assert_int_equal(fpu[33], memory[33]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(refusals),
		T(synthetic_timers),
		T(synic_pages),
		T(lapic_image),
		T(lapic_has_a_pending_nmi),
		T(lapic_round_trip),
		T(lapic_deadline_stays),
		T(hostile_lapic),
		T(xsave_layout),
		T(xsave_part),
		T(xsave_initial_state),
		T(xsave_round_trip),
		T(hostile_xsave),
		T(without_xsave),
		T(lapic_timer_is_due),
		T(lapic_deadline_is_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
