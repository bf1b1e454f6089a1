/* SPDX-License-Identifier: MIT */
/* Virtual processors: creation, CPUID and MSRs as the root sees them, INIT and start-up. */
#include <errno.h>
#include <stdio.h>
#include <hv/partition.h>
#include <trivet/backend.h>
#include <trivet/count.h>
#include <trivet/extended_state.h>
#include <trivet/flush.h>
#include <trivet/guest_walk_fast.h>
#include <trivet/host_memory.h>
#include <trivet/hv_msr.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>
#include <trivet/x86.h>

#define CR4_KL BIT(19)
/* A root's MWAIT would keep its LP from children while it idles: it is to use HLT. */
#define CPUID_1_ECX_MONITOR BIT(3)
/* Of a child's periodic timer: 200 us, as KVM has it. A guest that asks for less would do nothing but take its interrupts. */
#define CHILD_PERIODS_PER_SECOND_MAX 5000u

static void *take_page(const struct partition *partition)
{
	return partition->pages->alloc(partition->pages);
}

static void give_page(const struct partition *partition, void *page)
{
	if (page)
		partition->pages->free(partition->pages, page);
}

/* The root's may have more extended state than a page holds; a child is offered what does. */
static unsigned int fpu_order(void)
{
	return page_order_for(extended_state_bytes());
}

static bool take_pages(struct vp *vp)
{
	struct partition *partition = vp->partition;
	bool is_root = partition_is_root(partition);

	vp->apic_page = take_page(partition);
	vp->exit_counts = take_page(partition);
	vp->fpu = is_root ? page_alloc(&host_pool, fpu_order()) : take_page(partition);
	if (!is_root)
		vp->child = take_page(partition);
	return vp->apic_page && vp->exit_counts && vp->fpu && (is_root || vp->child);
}

void vp_destroy(struct vp *vp)
{
	struct partition *partition = vp->partition;

	if (vp->control)
		backend->vp_destroy(vp);
	synic_destroy(vp);
	overlay_destroy(&vp->assist.page);
	give_page(partition, vp->exit_counts);
	give_page(partition, vp->apic_page);
	cpuid_overrides_destroy(vp);
	give_page(partition, vp->child);
	if (!partition_is_root(partition))
		give_page(partition, vp->fpu);
	else if (vp->fpu)
		page_free(&host_pool, vp->fpu, fpu_order());
	give_page(partition, vp);
}

bool vp_unmap_overlays(struct vp *vp, struct vp *self)
{
	struct overlay *const overlays[] = { &vp->synic.message_page, &vp->synic.event_page,
					     &vp->synic.ring_page, &vp->assist.page };
	bool gone = true;

	for (size_t i = 0; i < ARRAY_SIZE(overlays); i++)
		if (overlays[i]->content && overlay_reset(vp->partition, self, overlays[i]))
			gone = false;
	return gone;
}

/* A child's local APIC is like the root's, but for who it is. */
static int init_child(struct vp *vp)
{
	struct apic_config config = root_partition.vps[0]->apic.config;

	config.apic_id = vp->index;
	config.bsp = vp->index == 0;
	config.x2apic = vp->partition->properties.creation_flags & HV_CREATE_PARTITION_X2APIC_CAPABLE;
	config.tsc_deadline = true; /* it is all the model's */
	config.page_read = false;
	config.min_period_tsc = lp_tsc_hz() / CHILD_PERIODS_PER_SECOND_MAX;
	/*
	 * The parent's I/O APIC hears of an EOI only if the parent cares for the message about it, and QEMU doesn't. A guest that finds an
	 * interrupt of a level-triggered pin in service as an edge-triggered one writes the I/O APIC's own EOI register (Linux:
	 * ioapic_ack_level()), so that is what it finds; monitors that do care get their message all the same.
	 */
	config.hides_level = true;
	vp->borrow_lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_BORROW);
	vp->tsc_offset = vp->partition->tsc_offset;
	vp->state = config.bsp ? VP_RUNNING : VP_WAIT_SIPI;
	atomic_store(&vp->holds, VP_HOLD_EXPLICIT);
	extended_state_reset(vp);
	guest_msrs_init(vp);
	return apic_init(&vp->apic, &config, vp->apic_page);
}

int vp_create(struct partition *partition, uint32_t index, struct lp *lp, struct vp **out)
{
	struct vp *vp = take_page(partition);
	int err = 0;

	if (!vp)
		return -ENOMEM;
	vp->partition = partition;
	vp->index = index;
	vp->lp = lp;
	vp->state = VP_WAIT_SIPI;
	if (!take_pages(vp))
		err = -ENOMEM;
	atomic_init(&vp->idle, true);  /* until its LP comes in */
	vp_post(vp, VP_PENDING_FLUSH); /* whatever this LP's TLB holds under our tag is not ours */
	stimers_init(vp);
	if (!err)
		err = partition->hv ? synic_init(vp) : 0;
	if (!err)
		err = partition->hv ? vp_assist_init(vp) : 0;
	if (!err && vp->child)
		err = init_child(vp);
	if (!err)
		err = backend->vp_create(vp);
	if (err) {
		vp_destroy(vp);
		return err;
	}
	if (vp->child) {
		vp_place(vp);
	} else {
		lp->root_vp = vp;
		lp->trace.vp_index = index;
	}
	*out = vp;
	return 0;
}

uint64_t vp_memory_bytes(void)
{
	/* Of a root's; overlays besides. */
	return 3 * PAGE_SIZE + (PAGE_SIZE << fpu_order()) + backend->vp_control_bytes;
}

#define EXIT_COUNTS_INTERVAL BIT(32) /* TSC ticks: one to two seconds */

void vp_log_exit_counts(struct vp *vp)
{
	uint64_t now = rdtsc();
	char text[160] = "";
	size_t used = 0;

	if (now - vp->exit_counts_logged_tsc < EXIT_COUNTS_INTERVAL)
		return;
	vp->exit_counts_logged_tsc = now;
	for (uint32_t i = 0; i < VP_EXIT_COUNTS && used < sizeof(text); i++)
		if (vp->exit_counts[i])
			used += (size_t)snprintf(text + used, sizeof(text) - used, " %s=%llu",
						 backend->exit_name(i),
						 (unsigned long long)vp->exit_counts[i]);
	log_vp_debug(vp->partition->id, vp->index, "exit statistics%s flushes=%llu", text,
		     (unsigned long long)vp->flushes);
}

/* A parent that saves a VP is told of a deadline for as long as its interrupt hasn't been made, also when it is past. */
static __attribute__((__noinline__)) int read_tsc_deadline(struct vp *vp, uint64_t *value)
{
	if (!vp->child || vp_is_loaded_here(vp))
		return apic_tsc_deadline_read(&vp->apic, value);
	*value = apic_tsc_deadline_armed(&vp->apic);
	return 0;
}

int vp_msr_read(struct vp *vp, uint32_t msr, uint64_t *value)
{
	if (hv_msr_is_synthetic(msr) && vp->partition->hv)
		return hv_msr_read(vp, msr, value);
	if (msr >= APIC_MSR_X2_FIRST && msr <= APIC_MSR_X2_LAST)
		return apic_msr_read(&vp->apic, msr, value);
	if (msr == MSR_APIC_BASE) {
		*value = apic_base_read(&vp->apic);
		return 0;
	}
	if (msr == MSR_TSC_DEADLINE)
		return read_tsc_deadline(vp, value);
	if (vp->child)
		return guest_msr_read(vp, msr, value);
	return safe_rdmsr(msr, value) ? 0 : -EINVAL;
}

void vp_cpuid(struct vp *vp, uint64_t cr4)
{
	uint32_t leaf = (uint32_t)vp->gpr[GPR_RAX];
	uint32_t subleaf = (uint32_t)vp->gpr[GPR_RCX];
	bool apic_enabled = vp->apic.base & APIC_BASE_EN;

	if (count_cpuid(vp))
		return;
	if (vp->child) {
		cpuid_policy_read(vp, cr4);
		return;
	}
	if (vp->partition->hv && hv_cpuid_is_hypervisor_leaf(leaf)) {
		hv_cpuid_read(vp);
		return;
	}
	vp_cpuid_native(vp);
	if (leaf == 1 && vp->partition->hv)
		vp->gpr[GPR_RCX] = (vp->gpr[GPR_RCX] | CPUID_1_ECX_HYPERVISOR) & ~CPUID_1_ECX_MONITOR;
	if (leaf == 1)
		vp->gpr[GPR_RCX] = (vp->gpr[GPR_RCX] & ~BIT(27)) | (cr4 >> 18 & 1) << 27;
	if (leaf == 7 && subleaf == 0)
		vp->gpr[GPR_RCX] = (vp->gpr[GPR_RCX] & ~BIT(4)) | (cr4 >> 22 & 1) << 4;
	if (leaf == 0x19 && (cr4 & CR4_KL)) /* the hypervisor's is clear */
		vp->gpr[GPR_RBX] |= BIT(0);
	if ((leaf == 1 || leaf == 0x80000001) && !apic_enabled)
		vp->gpr[GPR_RDX] &= ~BIT(9);
}

/* Most code is 64-bit and most instructions lie within a page. */
static bool fetch_quickly(struct vp *vp, const struct vp_context *context, uint8_t bytes[INSN_LENGTH_MAX])
{
	const struct guest_paging *paging = &context->paging;
	uint64_t gpa;

	return !vp->child && context->mode == INSN_MODE_64 && !(paging->cr4 & CR4_LA57) &&
	       (context->rip & (PAGE_SIZE - 1)) <= PAGE_SIZE - INSN_LENGTH_MAX &&
	       guest_walk_fast64(guest_window(), paging->cr3, context->rip, &gpa) &&
	       guest_phys_read(vp, GPA(gpa), bytes, INSN_LENGTH_MAX);
}

int vp_decode_current(struct vp *vp, struct vp_context *context, struct insn *insn)
{
	uint8_t bytes[INSN_LENGTH_MAX];
	size_t count = INSN_LENGTH_MAX;

	backend->get_context(vp, context);
	if (!fetch_quickly(vp, context, bytes))
		count = guest_fetch(&context->paging, vp,
				    GVA(context->rip + context->segment_base[INSN_SEG_CS]), bytes,
				    sizeof(bytes));
	return insn_decode(bytes, count, (enum insn_mode)context->mode, insn);
}

/* The TSC is the machine's and the root's; the timers that count in it move along. */
static int write_tsc(struct vp *vp, uint32_t msr, uint64_t value)
{
	int64_t delta;

	if (lp_tsc_write(msr, value, &delta))
		return -EINVAL;
	schedule_tsc_moved(vp->lp); /* the end of a slice, and the timers of those that aren't loaded */
	apic_tsc_adjusted(&vp->apic, delta);
	reference_time_tsc_moved(vp->partition);
	stimers_clock_changed(vp);
	return 0;
}

int vp_msr_write(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (hv_msr_is_synthetic(msr) && vp->partition->hv)
		return hv_msr_write(vp, msr, value);
	if (msr >= APIC_MSR_X2_FIRST && msr <= APIC_MSR_X2_LAST)
		return apic_msr_write(&vp->apic, msr, value);
	if (msr == MSR_APIC_BASE)
		return apic_base_write(&vp->apic, value);
	if (msr == MSR_TSC_DEADLINE)
		return apic_tsc_deadline_write(&vp->apic, value);
	if (vp->child)
		return guest_msr_write(vp, msr, value);
	if (msr == MSR_TSC || msr == MSR_TSC_ADJUST)
		return write_tsc(vp, msr, value);
	return safe_wrmsr(msr, value) ? 0 : -EINVAL;
}

static void handle_init(struct vp *vp)
{
	/* The processor that firmware started first goes to the reset vector, the others wait (SDM3 9.4.4). */
	vp->state = vp->apic.base & APIC_BASE_BSP ? VP_RUNNING : VP_WAIT_SIPI;
	vp->halted = false;
	if (partition_is_root(vp->partition))
		lp_abandon_level(vp->lp);
	for (int i = 0; i < 4; i++)
		vp->extint[i] = 0;
	vp->extint_count = 0;
	vp_clear_pending(vp, VP_PENDING_NMI);
	apic_reset_init(&vp->apic);
	debug_registers_reset(vp);
	backend->vp_reset(vp);
	log_vp_debug(vp->partition->id, vp->index, "INIT");
}

static void handle_sipi(struct vp *vp)
{
	if (vp->state != VP_WAIT_SIPI)
		return;
	vp->state = VP_RUNNING;
	vp->halted = false;		      /* its parent may have said both */
	vp_clear_pending(vp, VP_PENDING_NMI); /* a waiting processor takes none */
	backend->vp_start(vp, vp->sipi_vector);
	log_vp_debug(vp->partition->id, vp->index, "starts at 0x%05x", vp->sipi_vector << 12);
}

static bool has_work(struct vp *vp)
{
	uint64_t pending = atomic_load_explicit(&vp->pending, memory_order_acquire);

	if (pending & (VP_PENDING_INIT | VP_PENDING_SHUTDOWN))
		return true;
	if (unlikely(pending & VP_PENDING_SYNIC))
		synic_handle_pending(vp);
	if ((pending & VP_PENDING_NMI) && vp->halted_nmis_on)
		return true;
	if (!vp->halted_interrupts_on)
		return false;
	if (lp_takes_posted)
		apic_sync_left_to_software(&vp->apic); /* for the others a notification is on its way */
	else
		apic_sync_posted(&vp->apic);
	return vp->extint_count || vp->extint_held || apic_next_vector(&vp->apic) >= 0 ||
	       (vp->halted_until_pending && apic_pending_vector(&vp->apic) >= 0);
}

bool vp_sleeps(struct vp *vp)
{
	if (!vp->halted)
		return false;
	if (!has_work(vp))
		return true;
	vp->halted = false;
	vp_post_self(vp, VP_PENDING_EVENT);
	return false;
}

static void halt(struct vp *vp, bool interrupts_on, bool nmis_on, bool until_pending)
{
	vp->halted = true;
	vp->halted_interrupts_on = interrupts_on;
	vp->halted_nmis_on = nmis_on;
	vp->halted_until_pending = until_pending;
	if (vp_sleeps(vp))
		vp_post_self(vp, VP_PENDING_SCHEDULE);
}

void vp_halt(struct vp *vp, bool interrupts_on, bool nmis_on)
{
	halt(vp, interrupts_on, nmis_on, false);
}

void vp_halt_until_pending(struct vp *vp)
{
	halt(vp, true, true, true);
}

void vp_handle_startup(struct vp *vp)
{
	uint64_t pending = atomic_load_explicit(&vp->pending, memory_order_acquire);

	/* An INIT has withdrawn the start-up IPIs of before: one that stands beside it belongs behind it, also when both come just now. */
	while (pending & (VP_PENDING_INIT | VP_PENDING_SIPI)) {
		if (pending & VP_PENDING_INIT) {
			vp_clear_pending(vp, VP_PENDING_INIT);
			handle_init(vp);
			pending = atomic_load_explicit(&vp->pending, memory_order_acquire);
		} else if (atomic_compare_exchange_weak_explicit(
				   &vp->pending, &pending, pending & ~VP_PENDING_SIPI, memory_order_acq_rel,
				   memory_order_acquire)) {
			handle_sipi(vp);
			return;
		}
	}
}
