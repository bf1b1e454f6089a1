/* SPDX-License-Identifier: MIT */
/*
 * Which ports and MSRs of the root are intercepted (SDM3 25.6.4, 25.6.9): the least that hides VMX, leads local APIC accesses
 * to the model, makes MTRRs and microcode work as on the bare processor, and keeps from the root what hazards.c is about. One
 * pair of maps for all VPs of the root.
 */
#include "mtrr.h"
#include "switch.h"
#include <errno.h>
#include <string.h>
#include <trivet/apic.h>
#include <trivet/host_memory.h>

#define IO_MAP_ORDER 1 /* bitmaps A and B, one after the other */
#define MSR_MAP_ORDER 0

/* Offset of an MSR's bit for reads; -1: no bits, always intercepted. */
static long msr_bit(uint32_t msr)
{
	if (msr < 0x2000)
		return (long)msr;
	if (msr >= 0xc0000000 && msr < 0xc0002000)
		return 0x400 * 8 + (long)(msr - 0xc0000000);
	return -1;
}

#define MSR_WRITE_MAP 0x800 /* the same once more, for writes */
#define MSR_READ 1u
#define MSR_WRITE 2u

static void intercept_msr(uint32_t msr, unsigned int access)
{
	long bit = msr_bit(msr);
	uint8_t *read = &vmx.msr_map[bit / 8], *write = read + MSR_WRITE_MAP;

	if (access & MSR_READ)
		*read = (uint8_t)(*read | 1u << (bit % 8));
	if (access & MSR_WRITE)
		*write = (uint8_t)(*write | 1u << (bit % 8));
}

static void intercept_msrs(uint32_t first, uint32_t last, unsigned int access)
{
	for (uint32_t msr = first; msr <= last; msr++)
		intercept_msr(msr, access);
}

static void allow_msr(uint8_t *map, uint32_t msr, unsigned int access)
{
	long bit = msr_bit(msr);
	uint8_t *read = &map[bit / 8], *write = read + MSR_WRITE_MAP;

	if (access & MSR_READ)
		*read = (uint8_t)(*read & ~(1u << (bit % 8)));
	if (access & MSR_WRITE)
		*write = (uint8_t)(*write & ~(1u << (bit % 8)));
}

/*
 * Registers that the processor virtualizes in x2APIC mode (SDM3 30.5): those that every APIC has and that read as the page has
 * them. ICR is not kept there, and the others change with time or aren't in every APIC.
 */
static int init_x2apic_map(void)
{
	static const uint16_t read[] = { 0x802, 0x803, 0x80a, 0x80d, 0x80f, 0x828,
					 0x832, 0x835, 0x836, 0x837, 0x838, 0x83e };

	vmx.x2apic_msr_map = page_alloc(&host_pool, MSR_MAP_ORDER);
	if (!vmx.x2apic_msr_map)
		return -ENOMEM;
	memcpy(vmx.x2apic_msr_map, vmx.msr_map, PAGE_SIZE << MSR_MAP_ORDER);
	allow_msr(vmx.x2apic_msr_map, APIC_MSR_TPR, MSR_READ | MSR_WRITE);
	if (!(vmx.apic_controls & PROC2_INTERRUPT_DELIVERY))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(read); i++)
		allow_msr(vmx.x2apic_msr_map, read[i], MSR_READ);
	for (uint32_t msr = APIC_MSR_ISR; msr < APIC_MSR_ISR + 3 * 8; msr++) /* then TMR, IRR */
		allow_msr(vmx.x2apic_msr_map, msr, MSR_READ);
	allow_msr(vmx.x2apic_msr_map, APIC_MSR_EOI, MSR_WRITE);
	allow_msr(vmx.x2apic_msr_map, APIC_MSR_SELF_IPI, MSR_WRITE);
	return 0;
}

bool vmx_child_msr_exits(uint32_t msr, bool is_write)
{
	long bit = msr_bit(msr);

	return bit < 0 || (vmx.child_msr_map[bit / 8 + (is_write ? MSR_WRITE_MAP : 0)] >> (bit % 8) & 1);
}

/*
 * A child's: everything exits but what VM entry and exit or vmx_vp_load() switch. Reading the TSC is no harm either: the offset counts
 * (SDM3 26.3).
 */
static int init_child_map(void)
{
	static const uint32_t own[] = { MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP,
					MSR_PAT,	 MSR_EFER,	   MSR_STAR,
					MSR_LSTAR,	 MSR_CSTAR,	   MSR_SFMASK,
					MSR_FS_BASE,	 MSR_GS_BASE,	   MSR_KERNEL_GS_BASE };

	vmx.child_msr_map = page_alloc(&host_pool, MSR_MAP_ORDER);
	if (!vmx.child_msr_map)
		return -ENOMEM;
	memset(vmx.child_msr_map, 0xff, PAGE_SIZE << MSR_MAP_ORDER);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		allow_msr(vmx.child_msr_map, own[i], MSR_READ | MSR_WRITE);
	allow_msr(vmx.child_msr_map, MSR_TSC, MSR_READ);
	return 0;
}

int vmx_permission_maps_init(void)
{
	int err;

	vmx.io_map = page_alloc(&host_pool, IO_MAP_ORDER);
	vmx.msr_map = page_alloc(&host_pool, MSR_MAP_ORDER);
	if (!vmx.io_map || !vmx.msr_map)
		return -ENOMEM;
	intercept_msr(MSR_FEATURE_CONTROL, MSR_READ | MSR_WRITE);
	intercept_msrs(MSR_VMX_FIRST, MSR_VMX_LAST, MSR_READ | MSR_WRITE);
	/* Alone it would do nothing in the guest, SDM3 26.3. */
	intercept_msr(MSR_BIOS_UPDT_TRIG, MSR_WRITE);
	for (uint32_t msr = MTRR_MSR_FIRST; msr <= MTRR_MSR_LAST; msr++)
		if (vmx_is_mtrr(msr))
			intercept_msr(msr, MSR_WRITE);
	for (uint32_t msr = 0; msr < 0x2000; msr++) {
		if (vmx_msr_is_refused(msr))
			intercept_msr(msr, MSR_READ | MSR_WRITE);
		if (vmx_msr_write_is_checked(msr))
			intercept_msr(msr, MSR_WRITE);
	}
	intercept_msr(MSR_TSC, MSR_WRITE);
	intercept_msr(MSR_TSC_ADJUST, MSR_WRITE);
	intercept_msr(MSR_APIC_BASE, MSR_READ | MSR_WRITE);
	intercept_msr(MSR_TSC_DEADLINE, MSR_READ | MSR_WRITE);
	intercept_msrs(APIC_MSR_X2_FIRST, APIC_MSR_X2_LAST, MSR_READ | MSR_WRITE);
	err = init_child_map();
	if (err)
		return err;
	return vmx.apic_controls & PROC2_X2APIC ? init_x2apic_map() : 0;
}

void vmx_hide_ports(uint16_t port, uint16_t count)
{
	for (uint32_t p = port; p < (uint32_t)port + count; p++)
		vmx.io_map[p / 8] = (uint8_t)(vmx.io_map[p / 8] | 1u << (p % 8));
}

void vmx_allow_ports(uint16_t port, uint16_t count)
{
	for (uint32_t p = port; p < (uint32_t)port + count; p++)
		vmx.io_map[p / 8] = (uint8_t)(vmx.io_map[p / 8] & ~(1u << (p % 8)));
}
