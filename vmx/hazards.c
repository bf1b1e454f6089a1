/* SPDX-License-Identifier: MIT */
/*
 * What a processor would do for the root behind the hypervisor's back: write trace, tables and debug records to addresses that
 * EPT doesn't check, or go on doing so after a VM exit; and switches that the hypervisor itself stands on. Each is refused,
 * narrowed or, as the performance counters, stopped by the processor at every exit. CPUID says what is left.
 */
#include "switch.h"
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>

/* IA32_MISC_ENABLE, SDM4 table 2-2: with these the hypervisor's tables have a reserved bit set, and its CPUID leaves end at 2. */
#define MISC_ENABLE_LIMIT_CPUID BIT(22)
#define MISC_ENABLE_XD_DISABLE BIT(34)
#define MISC_ENABLE_OURS (MISC_ENABLE_LIMIT_CPUID | MISC_ENABLE_XD_DISABLE)
/* IA32_XSS: XRSTORS loads the trace MSRs (SDM1 13.5.6), past the MSR bitmap. */
#define XSS_TRACE_COMPONENT 8u
#define XSS_TRACE BIT(XSS_TRACE_COMPONENT)
#define RTIT_CTL_TRACE BIT(0)
#define HW_FEEDBACK_ADDRESS (~(uint64_t)(PAGE_SIZE - 1))
/* IA32_TME_ACTIVATE */
#define TME_ENABLED BIT(1)
#define TME_KEYID_BITS(value) ((unsigned int)((value) >> 32 & 15))

#define CPUID_7_EBX_TRACE BIT(25)
#define CPUID_7_ECX_TME BIT(13)
#define CPUID_7_1_EAX_MSRLIST BIT(27)
#define CPUID_6_EAX_FEEDBACK BIT(19)
#define CPUID_PERF 0xau
#define CPUID_TRACE 0x14u

/* MSR_TEST_CTRL, SDM4 table 2-2: #AC for split locks, of all that run on the core */
#define TEST_CTRL_SPLIT_LOCK_AC BIT(29)

/* Addresses that differ only in these bits are the same memory. */
static unsigned int keyid_bits(void)
{
	uint64_t activate = rdmsr(MSR_TME_ACTIVATE);

	return activate & TME_ENABLED ? TME_KEYID_BITS(activate) : 0;
}

void vmx_find_hazards(void)
{
	uint32_t leaves = cpuid(0, 0).eax;
	uint32_t perf_version = leaves >= CPUID_PERF ? cpuid(CPUID_PERF, 0).eax & 0xff : 0;
	struct cpuid_regs power = cpuid(6, 0);

	vmx.has_trace = leaves >= 7 && (cpuid(7, 0).ebx & CPUID_7_EBX_TRACE);
	vmx.has_tme = leaves >= 7 && (cpuid(7, 0).ecx & CPUID_7_ECX_TME);
	vmx.stops_counters = perf_version > 1;
	vmx.refuses_pebs = perf_version == 1; /* nothing stops all counters at once */
	vmx.feedback_bytes = power.eax & CPUID_6_EAX_FEEDBACK ? ((power.edx >> 8 & 15) + 1) * PAGE_SIZE : 0;
	vmx.gpa_bits = vmx.phys_bits - (vmx.has_tme ? keyid_bits() : 0);
}

unsigned int vmx_gpa_bits(void)
{
	return vmx.gpa_bits;
}

/*
 * Is there IA32_PERF_GLOBAL_CTRL, and with what in it? Left at 0. Bochs has the CPUID leaf without the register, and would log
 * each of the accesses at exits and entries.
 */
static bool has_global_control(uint64_t *old)
{
	uint64_t value = 0;

	if (!safe_rdmsr(MSR_PERF_GLOBAL_CTRL, old))
		return false;
	if (!*old &&
	    (!safe_wrmsr(MSR_PERF_GLOBAL_CTRL, 1) || !safe_rdmsr(MSR_PERF_GLOBAL_CTRL, &value) || !value))
		return false;
	return safe_wrmsr(MSR_PERF_GLOBAL_CTRL, 0);
}

/*
 * A counter that overflows with PEBS on writes a record through the linear address in IA32_DS_AREA (SDM3 20.6.2): in the
 * hypervisor that would be an address of the hypervisor's. With all counters off there is no overflow. The VMCS field that
 * VM entry can load the register from would have to follow the processor, which clears the register itself when it freezes
 * counters at a PMI (SDM3 18.4.7); so the exit stores what it finds, in the very place that the entry loads
 * (SDM3 25.7.2, 25.8.2), and RDMSR and WRMSR in the guest need no exit.
 */
static void stop_counters(struct vmx_vp_page *own)
{
	uint64_t value = 0;

	if (!has_global_control(&value))
		return;
	own->guest_counters.msr = own->host_counters.msr = MSR_PERF_GLOBAL_CTRL;
	own->guest_counters.value = value;
	own->host_counters.value = 0;
	vmwrite(VMCS_EXIT_MSR_STORE, hv_virt_to_phys(&own->guest_counters).v);
	vmwrite(VMCS_ENTRY_MSR_LOAD, hv_virt_to_phys(&own->guest_counters).v);
	vmwrite(VMCS_EXIT_MSR_LOAD, hv_virt_to_phys(&own->host_counters).v);
	vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 1);
	vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
	vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 1);
}

void vmx_stop_hazards(struct vp *vp)
{
	uint64_t value;

	if (vmx.stops_counters)
		stop_counters(vmx_page_of(vp));
	if (!vmx.has_trace)
		return;
	/* What firmware may have left on. The bit goes first: the others mustn't change while it is set (SDM3 33.2.8). */
	value = rdmsr(MSR_RTIT_CTL);
	if (value & RTIT_CTL_TRACE)
		wrmsr(MSR_RTIT_CTL, value & ~RTIT_CTL_TRACE);
	if (safe_rdmsr(MSR_XSS, &value) && (value & XSS_TRACE))
		wrmsr(MSR_XSS, value & ~XSS_TRACE);
}

/* Trace output goes to host-physical addresses unless EPT is asked for it, which few processors can (SDM3 26.5.4). */
static bool is_trace_msr(uint32_t msr)
{
	return msr == MSR_RTIT_OUTPUT || msr == MSR_RTIT_OUTPUT + 1 ||
	       (msr >= MSR_RTIT_CTL && msr <= MSR_RTIT_CTL + 2) ||
	       (msr >= MSR_RTIT_ADDRESS && msr < MSR_RTIT_ADDRESS + 8);
}

bool vmx_msr_is_refused(uint32_t msr)
{
	return (vmx.has_trace && is_trace_msr(msr)) ||
	       (vmx.refuses_pebs && (msr == MSR_PEBS_ENABLE || msr == MSR_DS_AREA));
}

bool vmx_msr_write_is_checked(uint32_t msr)
{
	return msr == MSR_MISC_ENABLE || msr == MSR_TEST_CTRL || (msr == MSR_XSS && vmx.has_trace) ||
	       (msr == MSR_HW_FEEDBACK_PTR && vmx.feedback_bytes) || (msr == MSR_TME_ACTIVATE && vmx.has_tme);
}

/* Firmware does the same when it takes no notice of the bits: they stay as they are. */
static bool write_misc_enable(uint64_t value)
{
	uint64_t old;

	return safe_rdmsr(MSR_MISC_ENABLE, &old) &&
	       safe_wrmsr(MSR_MISC_ENABLE, (value & ~MISC_ENABLE_OURS) | (old & MISC_ENABLE_OURS));
}

/*
 * A child would get an #AC that it can't know of. The register is the core's (SDM4): switched with the VP, it would still be what the VP on the other
 * thread has, and a value read back wouldn't be the one written. So a root that can have children can't have that trap.
 */
static bool write_test_ctrl(uint64_t value)
{
	return !(root_partition.hv && (value & TEST_CTRL_SPLIT_LOCK_AC)) && safe_wrmsr(MSR_TEST_CTRL, value);
}

bool vmx_checked_msr_write(uint32_t msr, uint64_t value)
{
	switch (msr) {
	case MSR_MISC_ENABLE:
		return write_misc_enable(value);
	case MSR_TEST_CTRL:
		return write_test_ctrl(value);
	case MSR_XSS:
		return !(value & XSS_TRACE) && safe_wrmsr(msr, value);
	case MSR_HW_FEEDBACK_PTR: /* the processor writes its table there (SDM3 15.6) */
		return !host_memory_is_ours(HPA(value & HW_FEEDBACK_ADDRESS), vmx.feedback_bytes) &&
		       safe_wrmsr(msr, value);
	default: /* IA32_TME_ACTIVATE: its key identifiers count already. As if it were locked. */
		return false;
	}
}

void vmx_hide_hazards(struct vp *vp, uint32_t leaf, uint32_t subleaf)
{
	if (leaf == 7 && subleaf == 1) /* both need VM-execution controls that aren't used */
		vp->gpr[GPR_RAX] &= ~(CPUID_7_1_EAX_FRED | CPUID_7_1_EAX_MSRLIST);
	if (!vmx.has_trace)
		return;
	if (leaf == 7 && subleaf == 0)
		vp->gpr[GPR_RBX] &= ~CPUID_7_EBX_TRACE;
	else if (leaf == CPUID_XSTATE && subleaf == 1)
		vp->gpr[GPR_RCX] &= ~XSS_TRACE;
	else if (leaf == CPUID_TRACE || (leaf == CPUID_XSTATE && subleaf == XSS_TRACE_COMPONENT))
		vp->gpr[GPR_RAX] = vp->gpr[GPR_RBX] = vp->gpr[GPR_RCX] = vp->gpr[GPR_RDX] = 0;
}
