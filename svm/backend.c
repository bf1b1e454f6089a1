/* SPDX-License-Identifier: MIT */
/* The SVM back end as core/ sees it. */
#include "npt.h"
#include "svm.h"

static __attribute__((__noreturn__)) void run(struct vp *vp)
{
	__asm__ volatile("vmload" ::"a"(vp->control_hpa) : "memory");
	svm_run_loop(svm_handle_pending(vp));
}

static void idle(struct lp *lp)
{
	(void)lp;
	svm_halt();
}

static uint64_t rip(const struct vp *vp)
{
	return vmcb_of(vp)->rip;
}

/* The processor takes the MTRRs' types itself (APM2 15.25.8). */
/* NOLINTNEXTLINE(readability-non-const-parameter): the type of struct backend's function */
static unsigned int memory_type(uint64_t start, uint64_t *end)
{
	(void)start;
	(void)end;
	return 0;
}

static uint64_t ss_flags(bool of_child)
{
	(void)of_child;
	return SS_ACCESS_BITS | (svm.gbpages ? SS_1G_PAGES : 0);
}

/* AVIC is not used: the model does everything. */
static hpa_t apic_page(void)
{
	return HPA(0);
}

static bool reads_apic_page(void)
{
	return false;
}

static void apic_mode_changed(struct vp *vp)
{
	(void)vp;
}

static unsigned int phys_bits(void)
{
	return svm.phys_bits;
}

const struct backend svm_backend = {
	.name = "AMD SVM",
	.ss_format = &ss_format_npt,
	.hypercall_code = { 0x0f, 0x01, 0xd9, 0xc3 }, /* VMMCALL; RET */
	.ss_flags = ss_flags,
	.phys_bits = phys_bits,
	.tr_is_guests = true,
	.window_begin = svm_window_begin,
	.window_end = svm_window_end,
	.vp_control_bytes = PAGE_SIZE,
	.x2apic_has_arbitration = true,
	.apic_page = apic_page,
	.reads_apic_page = reads_apic_page,
	.apic_mode_changed = apic_mode_changed,
	.probe = svm_probe,
	.describe = svm_describe,
	.init = svm_permission_maps_init,
	.lp_start = svm_lp_start,
	.vp_create = svm_vp_create,
	.vp_launch = svm_vp_launch,
	.vp_reset = svm_vp_reset,
	.vp_start = svm_vp_start,
	.vp_destroy = svm_vp_destroy,
	.vp_unload = svm_vp_unload,
	.vp_load = svm_vp_load,
	.vp_borrow = svm_vp_borrow,
	.vp_return = svm_vp_return,
	.vp_run = run,
	.lp_idle = idle,
	.get_context = svm_get_context,
	.set_context = svm_set_context,
	.get_register = svm_get_register,
	.get_snapshot = svm_get_snapshot,
	.set_register = svm_set_register,
	.get_msr = svm_get_msr,
	.set_msr = svm_set_msr,
	.can_run = svm_can_run,
	.rip = rip,
	.allow_ports = svm_allow_ports,
	.hide_ports = svm_hide_ports,
	.exit_name = svm_exit_name,
	.exit_category = svm_exit_category,
	.memory_type = memory_type,
};
