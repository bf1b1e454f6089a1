/* SPDX-License-Identifier: MIT */
#include "hv.h"
#include <hv/root.h>
#include <hv/vp.h>

uint8_t *hv_in, *hv_out;
static uint64_t hypercall_page;
static bool uses_vmcall;

bool hv_present(void)
{
	struct cpuid_regs r = cpuid(HV_CPUID_VENDOR, 0);

	return (cpuid(1, 0).ecx & HV_CPUID1_ECX_HYPERVISOR_PRESENT) && r.ebx == HV_VENDOR_EBX &&
	       r.ecx == HV_VENDOR_ECX && r.edx == HV_VENDOR_EDX;
}

uint64_t hv_privileges(void)
{
	struct cpuid_regs r = cpuid(HV_CPUID_FEATURES, 0);

	return r.eax | (uint64_t)r.ebx << 32;
}

uint64_t hv_page(uint32_t msr)
{
	uint64_t v;

	if (try_rdmsr(msr, &v) != NO_FAULT)
		return 0;
	if (!(v >> 12)) {
		v |= alloc_memory(PAGE, PAGE);
		wrmsr(msr, v);
	}
	return v & ~0xfffull;
}

void hv_open(void)
{
	static const uint32_t pages[] = { HV_MSR_REFERENCE_TSC, HV_MSR_VP_ASSIST_PAGE, HV_MSR_SIMP,
					  HV_MSR_SIEFP, HV_MSR_SIRBP };

	if (!hv_present())
		skip_all("no hypervisor interface here");
	hv_in = (uint8_t *)alloc_memory(2 * PAGE, PAGE);
	hv_out = hv_in + PAGE;
	uses_vmcall = is_intel();
	wrmsr(HV_MSR_GUEST_OS_ID, HV_OS_ID);
	hypercall_page = hv_page(HV_MSR_HYPERCALL);
	wrmsr(HV_MSR_HYPERCALL, rdmsr(HV_MSR_HYPERCALL) | HV_PAGE_MSR_ENABLE);
	for (unsigned int i = 0; i < ARRAY_LEN(pages); i++)
		hv_page(pages[i]);
}

uint64_t hv_call(uint64_t control, uint64_t input, uint64_t output)
{
	register uint64_t r8 __asm__("r8") = output;
	uint64_t result;

	if (uses_vmcall)
		__asm__ volatile("vmcall"
				 : "=a"(result), "+c"(control), "+d"(input), "+r"(r8)
				 :
				 : "memory", "cc");
	else
		__asm__ volatile("vmmcall"
				 : "=a"(result), "+c"(control), "+d"(input), "+r"(r8)
				 :
				 : "memory", "cc");
	return result;
}

uint64_t hv_call_by_page(uint64_t control, uint64_t input, uint64_t output)
{
	register uint64_t r8 __asm__("r8") = output;
	uint64_t result;

	__asm__ volatile("callq *%4"
			 : "=a"(result), "+c"(control), "+d"(input), "+r"(r8)
			 : "r"(hypercall_page)
			 : "memory", "cc", "r9", "r10", "r11");
	return result;
}

bool hv_create_processors(void)
{
	for (unsigned int i = 1; i < cpu_count; i++) {
		struct hv_input_add_logical_processor *add = (void *)hv_in;

		memset(hv_in, 0, PAGE);
		add->lp_index = i;
		add->apic_id = cpu_apic_id[i];
		if (hv_simple(HV_CALL_ADD_LOGICAL_PROCESSOR) != HV_STATUS_SUCCESS)
			return false;
	}
	for (unsigned int i = 1; i < cpu_count; i++) {
		struct hv_input_create_vp *create = (void *)hv_in;

		memset(hv_in, 0, PAGE);
		create->partition_id = HV_PARTITION_ID_SELF;
		create->vp_index = i;
		create->flags = i;
		if (hv_simple(HV_CALL_CREATE_VP) != HV_STATUS_SUCCESS)
			return false;
	}
	return true;
}
