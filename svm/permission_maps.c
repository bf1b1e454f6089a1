/* SPDX-License-Identifier: MIT */
/*
 * Which ports and MSRs of the root are intercepted (APM2 15.10, 15.11): the least that hides SVM, keeps EFER.SVME set and
 * leads local APIC accesses to the model. One pair of maps for all VPs of the root,
 * and one for all of children.
 */
#include "svm.h"
#include <errno.h>
#include <string.h>
#include <trivet/apic.h>
#include <trivet/host_memory.h>

#define IO_MAP_ORDER 2 /* three pages are needed */
#define MSR_MAP_ORDER 1

/* Offset of an MSR's two bits, read and write; -1: no bits, always intercepted. */
static long msr_bit(uint32_t msr)
{
	if (msr < 0x2000)
		return (long)msr * 2;
	if (msr >= 0xc0000000 && msr < 0xc0002000)
		return 0x800 * 8 + (long)(msr - 0xc0000000) * 2;
	if (msr >= 0xc0010000 && msr < 0xc0012000)
		return 0x1000 * 8 + (long)(msr - 0xc0010000) * 2;
	return -1;
}

#define MSR_READ 1u
#define MSR_WRITE 2u

bool svm_child_msr_exits(uint32_t msr, bool is_write)
{
	long bit = msr_bit(msr);

	return bit < 0 || (svm.child_msr_map[bit / 8] >> (bit % 8) & (is_write ? MSR_WRITE : MSR_READ));
}

/* What VMRUN, VMLOAD and VMSAVE switch: a child may have it to itself. */
static void allow_children_msr(uint32_t msr)
{
	long bit = msr_bit(msr);

	svm.child_msr_map[bit / 8] =
		(uint8_t)(svm.child_msr_map[bit / 8] & ~((MSR_READ | MSR_WRITE) << (bit % 8)));
}

static int make_child_maps(void)
{
	static const uint32_t switched[] = { MSR_SYSENTER_CS,	MSR_SYSENTER_ESP, MSR_SYSENTER_EIP,
					     MSR_STAR,		MSR_LSTAR,	  MSR_CSTAR,
					     MSR_SFMASK,	MSR_FS_BASE,	  MSR_GS_BASE,
					     MSR_KERNEL_GS_BASE };

	svm.child_io_map = page_alloc(&host_pool, IO_MAP_ORDER);
	svm.child_msr_map = page_alloc(&host_pool, MSR_MAP_ORDER);
	svm.shut_msr_map = page_alloc(&host_pool, MSR_MAP_ORDER);
	if (!svm.child_io_map || !svm.child_msr_map || !svm.shut_msr_map)
		return -ENOMEM;
	memset(svm.child_io_map, 0xff, PAGE_SIZE << IO_MAP_ORDER);
	memset(svm.child_msr_map, 0xff, PAGE_SIZE << MSR_MAP_ORDER);
	memset(svm.shut_msr_map, 0xff, PAGE_SIZE << MSR_MAP_ORDER);
	for (size_t i = 0; i < ARRAY_SIZE(switched); i++)
		allow_children_msr(switched[i]);
	return 0;
}

static void intercept_msr(uint32_t msr, unsigned int access)
{
	long bit = msr_bit(msr);

	svm.msr_map[bit / 8] = (uint8_t)(svm.msr_map[bit / 8] | access << (bit % 8));
}

int svm_permission_maps_init(void)
{
	static const uint32_t own[] = { MSR_EFER, MSR_VM_CR, MSR_SMM_CTL, MSR_VM_HSAVE_PA, MSR_SVM_KEY };

	svm.io_map = page_alloc(&host_pool, IO_MAP_ORDER);
	svm.msr_map = page_alloc(&host_pool, MSR_MAP_ORDER);
	if (!svm.io_map || !svm.msr_map)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		intercept_msr(own[i], MSR_READ | MSR_WRITE);
	intercept_msr(MSR_TSC, MSR_WRITE);
	intercept_msr(MSR_TSC_ADJUST, MSR_WRITE);
	intercept_msr(MSR_APIC_BASE, MSR_READ | MSR_WRITE);
	intercept_msr(MSR_TSC_DEADLINE, MSR_READ | MSR_WRITE);
	for (uint32_t msr = APIC_MSR_X2_FIRST; msr <= APIC_MSR_X2_LAST; msr++)
		intercept_msr(msr, MSR_READ | MSR_WRITE);
	svm_find_switched_msrs();
	return make_child_maps();
}

void svm_hide_ports(uint16_t port, uint16_t count)
{
	for (uint32_t p = port; p < (uint32_t)port + count; p++)
		svm.io_map[p / 8] = (uint8_t)(svm.io_map[p / 8] | 1u << (p % 8));
}

void svm_allow_ports(uint16_t port, uint16_t count)
{
	for (uint32_t p = port; p < (uint32_t)port + count; p++)
		svm.io_map[p / 8] = (uint8_t)(svm.io_map[p / 8] & ~(1u << (p % 8)));
}
