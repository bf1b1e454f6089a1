/* SPDX-License-Identifier: MIT */
/*
 * What a VP's local APIC model asks of the machine: interrupts to other VPs, the physical timer, and settings that the
 * physical local APIC must follow, because the root's devices address it.
 */
#include <errno.h>
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/emulate.h>
#include <trivet/guest_msrs.h>
#include <trivet/host_memory.h>
#include <trivet/intercept.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

static struct vp *vp_of(struct apic *apic)
{
	return container_of(apic, struct vp, apic);
}

static bool is_roots(const struct vp *vp)
{
	return likely(partition_is_root(vp->partition));
}

uint64_t apic_host_now_tsc(struct apic *apic)
{
	const struct vp *vp = vp_of(apic);

	return is_roots(vp) ? rdtsc() : guest_msrs_tsc(vp);
}

void apic_host_timer_changed(struct apic *apic)
{
	lp_timer_update(vp_of(apic)->lp);
}

void apic_host_level_eoi(struct apic *apic, uint8_t vector)
{
	struct vp *vp = vp_of(apic);

	if (is_roots(vp))
		lp_complete_level(vp->lp, vector);
	else
		intercept_apic_eoi(vp, vector);
	synic_scan(vp, &vp->synic);
}

void apic_host_lvt_changed(struct apic *apic, enum apic_lvt which, uint32_t value)
{
	static const uint16_t reg[APIC_LVT_COUNT] = {
		[APIC_LVT_LINT0] = LAPIC_LVT_LINT0, [APIC_LVT_LINT1] = LAPIC_LVT_LINT1,
		[APIC_LVT_PMC] = LAPIC_LVT_PMC,	    [APIC_LVT_THERMAL] = LAPIC_LVT_THERMAL,
		[APIC_LVT_CMCI] = LAPIC_LVT_CMCI,
	};

	unsigned int mode = value >> 8 & 7;

	if (!is_roots(vp_of(apic)))
		return; /* nothing is wired to it */
	/* An SMI or INIT from a pin of this processor's would be the machine's, or ours. */
	if (mode != APIC_MODE_FIXED && mode != APIC_MODE_NMI && mode != APIC_MODE_EXTINT)
		value |= (uint32_t)APIC_LVT_MASKED;
	if (which == APIC_LVT_LINT0)
		vp_of(apic)->extint_held = false;
	if (reg[which])
		lapic_write(&vp_of(apic)->lp->lapic, reg[which], value);
}

uint8_t vp_extint_take(struct vp *vp)
{
	unsigned int word = 3;
	unsigned int bit;

	while (vp->extint[word] == 0 && word > 0)
		word--;
	bit = 63u - (unsigned int)__builtin_clzll(vp->extint[word]);
	vp->extint[word] &= ~BIT(bit);
	vp->extint_count--;
	return (uint8_t)(word * 64 + bit);
}

void vp_put_back_interrupt(struct vp *vp, uint8_t vector)
{
	uint64_t *word = &vp->extint[vector / 64], bit = BIT(vector % 64);

	if (!apic_put_back(&vp->apic, vector) && !(*word & bit)) {
		*word |= bit;
		vp->extint_count++;
	}
	vp_post_self(vp, VP_PENDING_EVENT);
}

void vp_extint_hold(struct vp *vp)
{
	vp->extint_held = true;
	lapic_write(&vp->lp->lapic, LAPIC_LVT_LINT0,
		    vp->apic.lvt[APIC_LVT_LINT0] | (uint32_t)APIC_LVT_MASKED);
}

void vp_extint_release(struct vp *vp)
{
	apic_host_lvt_changed(&vp->apic, APIC_LVT_LINT0, vp->apic.lvt[APIC_LVT_LINT0]);
}

/* Devices address the physical APIC: its mode and logical id follow the model's; it is never disabled. */
static void follow_mode(struct vp *vp)
{
	const struct apic *apic = &vp->apic;
	struct lapic *lapic = &vp->lp->lapic;

	if (!(apic->base & APIC_BASE_EN))
		lp_abandon_level(vp->lp);
	if (apic->x2 && !lapic->x2apic) {
		wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2);
		lapic->x2apic = true;
	} else if (!apic->x2 && lapic->x2apic) {
		/* Back to xAPIC only through disabled, which loses the registers (SDM3 11.12.5). */
		uint64_t base = rdmsr(MSR_APIC_BASE) & ~(APIC_BASE_X2 | APIC_BASE_EN);

		wrmsr(MSR_APIC_BASE, base);
		wrmsr(MSR_APIC_BASE, base | APIC_BASE_EN);
		lapic->x2apic = false;
		lp_local_apic_restart(vp->lp);
	}
	if (!lapic->x2apic) {
		lapic_write(lapic, LAPIC_DFR, apic->dfr);
		lapic_write(lapic, LAPIC_LDR, apic->ldr);
	}
	if (apic->enabled)
		lp_unpark_level(vp->lp);
}

void apic_host_mode_changed(struct apic *apic)
{
	struct vp *vp = vp_of(apic);

	if (is_roots(vp) && (apic->base & ~0xfffull) != APIC_BASE_DEFAULT) {
		static struct log_ratelimit bucket;

		log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index,
				   "local APIC moved to 0x%llx: only 0x%llx is emulated",
				   (unsigned long long)(apic->base & ~0xfffull), APIC_BASE_DEFAULT);
	}
	if (is_roots(vp))
		follow_mode(vp);
	backend->apic_mode_changed(vp);
}

/* Something was posted to the target's APIC. */
static void notify(struct vp *target)
{
	if (lp_takes_posted) {
		/* Unloaded meanwhile, it still is the one that its LP takes the notification for. */
		if (is_roots(target) && atomic_load_explicit(&target->loaded, memory_order_seq_cst) &&
		    lp_notify_posted(target->lp))
			return;
		apic_post_for_software(&target->apic);
	}
	vp_post(target, VP_PENDING_EVENT);
	vp_notify(target);
}

void vp_send_fixed(struct vp *target, struct vp *sender, uint8_t vector)
{
	if (target == sender) {
		if (apic_accept(&target->apic, vector, false))
			vp_post_self(target, VP_PENDING_EVENT);
	} else if (apic_post(&target->apic, vector, false)) {
		notify(target);
	}
}

static void deliver_to(struct vp *target, struct vp *sender, const struct apic_ipi *ipi)
{
	switch (ipi->mode) {
	case APIC_MODE_FIXED:
	case APIC_MODE_LOWEST:
		vp_send_fixed(target, sender, ipi->vector);
		return;
	case APIC_MODE_NMI:
		vp_post(target, VP_PENDING_NMI);
		vp_notify(target);
		return;
	case APIC_MODE_INIT:
		vp_send_init(target);
		return;
	case APIC_MODE_SIPI:
		vp_send_sipi(target, ipi->vector);
		return;
	case APIC_MODE_SMI:
		/* System management is the machine's own: pass it on. A child has none. */
		if (is_roots(sender))
			lapic_icr(&sender->lp->lapic, target->lp->apic_id, LAPIC_ICR_SMI | LAPIC_ICR_ASSERT);
		return;
	default:
		return;
	}
}

struct vp *vp_by_apic_id(const struct partition *partition, uint32_t apic_id)
{
	struct lp *lp;

	if (!partition_is_root(partition)) /* children's are numbered so */
		return apic_id < partition->vp_count ? partition->vps[apic_id] : NULL;
	lp = lp_by_apic_id(apic_id);
	return lp ? lp->root_vp : NULL;
}

void apic_host_send_ipi(struct apic *apic, const struct apic_ipi *ipi)
{
	struct vp *sender = vp_of(apic);
	struct partition *partition = sender->partition;
	bool all = ipi->dest == (ipi->from_x2apic ? UINT32_MAX : 0xffu);

	/* One destination by id: the usual case, without a walk over all VPs. */
	if (ipi->shorthand == APIC_DEST_FIELD && !ipi->logical && !all) {
		struct vp *target = vp_by_apic_id(partition, ipi->dest);

		if (target && (target->apic.base & APIC_BASE_EN))
			deliver_to(target, sender, ipi);
		return;
	}
	for (uint32_t i = 0; i < partition->vp_count; i++) {
		struct vp *target = partition->vps[i];

		if (!target || (target == sender && ipi->shorthand == APIC_DEST_OTHERS))
			continue;
		if (ipi->shorthand == APIC_DEST_FIELD &&
		    !apic_matches(&target->apic, ipi->dest, ipi->logical, ipi->from_x2apic))
			continue;
		if (ipi->mode == APIC_MODE_LOWEST && !target->apic.enabled)
			continue;
		deliver_to(target, sender, ipi);
		if (ipi->mode == APIC_MODE_LOWEST)
			return;
	}
}

/* ---- Start-up of processors ---- */

/*
 * The first INIT and start-up IPIs for a processor go to the processor itself, with our trampoline for the root's start
 * address; so the root's own delays and repetitions are the ones the hardware needs. Once it runs the hypervisor
 * they concern the VP alone.
 */
void vp_send_init(struct vp *vp)
{
	struct lp *lp = vp->lp;

	vp_clear_pending(vp, VP_PENDING_SIPI); /* one sent before this INIT found a running processor */
	if (atomic_load_explicit(&lp->state, memory_order_seq_cst) != LP_OFFLINE) {
		vp_post(vp, VP_PENDING_INIT);
		vp_notify(vp);
		return;
	}
	lapic_icr(&this_lp()->lapic, lp->apic_id, LAPIC_ICR_INIT | LAPIC_ICR_ASSERT | LAPIC_ICR_LEVEL);
	lapic_icr(&this_lp()->lapic, lp->apic_id, LAPIC_ICR_INIT | LAPIC_ICR_LEVEL);
}

void vp_send_sipi(struct vp *vp, uint8_t vector)
{
	struct lp *lp = vp->lp;

	/* A repeated start-up IPI must not change the address under a VP that is already on its way. */
	if (!(atomic_load_explicit(&vp->pending, memory_order_acquire) & VP_PENDING_SIPI))
		vp->sipi_vector = vector;
	vp_post(vp, VP_PENDING_SIPI);
	if (atomic_load_explicit(&lp->state, memory_order_seq_cst) != LP_OFFLINE) {
		vp_notify(vp);
	} else if (lp_trampoline_vector()) {
		lapic_icr(&this_lp()->lapic, lp->apic_id,
			  LAPIC_ICR_SIPI | LAPIC_ICR_ASSERT | lp_trampoline_vector());
	}
}

/* ---- The xAPIC page ---- */

struct page_access {
	struct vp *vp;
	uint32_t offset;
};

static int page_read(void *ctx, unsigned int size, uint64_t *value)
{
	struct page_access *access = ctx;
	int err = apic_mmio_read(&access->vp->apic, access->offset, size, value);

	if (err == -ENODEV) {
		*value = UINT64_MAX; /* nobody answers there */
		return 0;
	}
	return err;
}

static int page_write(void *ctx, unsigned int size, uint64_t value)
{
	struct page_access *access = ctx;
	int err = apic_mmio_write(&access->vp->apic, access->offset, size, value);

	return err == -ENODEV ? 0 : err;
}

enum fault_result vp_apic_page_access(struct vp *vp, gpa_t gpa)
{
	struct page_access access = { .vp = vp, .offset = (uint32_t)(gpa.v & (PAGE_SIZE - 1)) };
	struct mmio_access io = { .ctx = &access, .read = page_read, .write = page_write };
	struct vp_context context;
	struct insn insn;
	int err;

	err = vp_decode_current(vp, &context, &insn);
	if (!err && access.offset + insn.mem_size > PAGE_SIZE)
		err = -ENOTSUP;
	if (!err)
		err = emulate_mmio(&insn, vp->gpr, &context.rflags, &io);
	if (err < 0) {
		static struct log_ratelimit bucket;

		log_vp_ratelimited(
			&bucket, LOG_WARN, vp->partition->id, vp->index,
			"rip 0x%llx: access to the local APIC page at 0x%x not understood (%d): #GP",
			(unsigned long long)context.rip, access.offset, err);
		return FAULT_REFUSED;
	}
	if (err == EMULATE_DONE)
		context.rip += insn.length;
	backend->set_context(vp, &context);
	vp_post_self(vp, VP_PENDING_EVENT);
	return FAULT_EMULATED;
}
