/* SPDX-License-Identifier: MIT */
/* The VMX back end as core/ sees it. */
#include "ept.h"
#include "mtrr.h"
#include "switch.h"
#include <errno.h>
#include <string.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>

static __attribute__((__noreturn__)) void run(struct vp *vp)
{
	vmx_run_next(vp);
}

static void idle(struct lp *lp)
{
	(void)lp;
	vmx_halt();
}

/*
 * A guest that executes from a large page and then changes its own tables can make the processor find the page twice, and stop with a machine check
 * (Intel SA 210, CVE-2018-12207). A root would only stop itself.
 */
static uint64_t ss_flags(bool of_child)
{
	return (of_child && vmx.multihit ? SS_SMALL_PAGES : 0) |
	       (vmx.ept_vpid_cap & EPT_CAP_1G ? SS_1G_PAGES : 0) |
	       (vmx.ept_vpid_cap & EPT_CAP_ACCESSED_DIRTY ? SS_ACCESS_BITS : 0);
}

#define STAY_HZ 500u /* how often the preemption timer ends guest mode */

/*
 * No stay in the guest goes on for ever: a physical interrupt that should have ended it and did not (Bochs, when the
 * guest was entered with IF clear and leaves it so) is late then, not lost. Nothing else needs these exits.
 */
static int init(void)
{
	vmx_find_hazards();
	vmx_mtrr_init();
	if (vmx.pin & PIN_PREEMPTION_TIMER) {
		unsigned int shift = rdmsr(MSR_VMX_MISC) & 31; /* TSC ticks per timer tick, SDM3 A.6 */

		vmx.preemption_ticks = (uint32_t)(lp_tsc_hz() / STAY_HZ >> shift) + 1;
	}
	if (vmx.apic_controls & PROC2_APIC_ACCESSES) {
		vmx.apic_access = page_alloc(&host_pool, 0);
		if (!vmx.apic_access)
			return -ENOMEM;
		memset(vmx.apic_access, 0xff, PAGE_SIZE); /* nobody answers there */
	}
	lp_takes_posted = vmx.posted;
	vmx_find_switched_msrs();
	vmx_child_init();
	return vmx_permission_maps_init();
}

/* Translations to this page are what the processor knows accesses to the local APIC by (SDM3 30.4). */
static hpa_t apic_page(void)
{
	return vmx.apic_access ? hv_virt_to_phys(vmx.apic_access) : HPA(0);
}

const struct backend vmx_backend = {
	.name = "Intel VMX",
	.ss_format = &ss_format_ept,
	.hypercall_code = { 0x0f, 0x01, 0xc1, 0xc3 }, /* VMCALL; RET */
	.ss_flags = ss_flags,
	.phys_bits = vmx_gpa_bits,
	.tr_is_guests = false,
	.window_begin = vmx_window_begin,
	.window_end = vmx_window_end,
	.vp_control_bytes = 2 * PAGE_SIZE,
	.x2apic_has_arbitration = false,
	.apic_page = apic_page,
	.reads_apic_page = vmx_reads_apic_page,
	.apic_mode_changed = vmx_apic_mode_changed,
	.probe = vmx_probe,
	.describe = vmx_describe,
	.init = init,
	.lp_start = vmx_lp_start,
	.vp_create = vmx_vp_create,
	.vp_destroy = vmx_vp_destroy,
	.vp_launch = vmx_vp_launch,
	.vp_reset = vmx_vp_reset,
	.vp_start = vmx_vp_start,
	.vp_unload = vmx_vp_unload,
	.vp_load = vmx_vp_load,
	.vp_borrow = vmx_vp_borrow,
	.vp_return = vmx_vp_return,
	.vp_run = run,
	.lp_idle = idle,
	.get_context = vmx_get_context,
	.set_context = vmx_set_context,
	.get_register = vmx_get_register,
	.get_snapshot = vmx_get_snapshot,
	.set_register = vmx_set_register,
	.get_msr = vmx_get_msr,
	.set_msr = vmx_set_msr,
	.can_run = vmx_can_run,
	.rip = vmx_rip,
	.allow_ports = vmx_allow_ports,
	.hide_ports = vmx_hide_ports,
	.exit_name = vmx_exit_name,
	.exit_category = vmx_exit_category,
	.memory_type = vmx_memory_type,
};
