/* unit: vmx/permission_maps.c */
/* SPDX-License-Identifier: MIT */
/* Every bit of the VMX back end's permission maps, by the layout of SDM3 25.6.9, against the list of what is intercepted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/host_memory.h>

#include "../../vmx/mtrr.h"
#include "../../vmx/switch.h"

struct vmx_machine vmx;
struct page_pool host_pool;
static unsigned int fail_at, allocations;

void *page_alloc(struct page_pool *pool, unsigned int order)
{
	assert_ptr_equal(pool, &host_pool);
	return ++allocations == fail_at ? NULL : calloc(1, PAGE_SIZE << order);
}

bool vmx_is_mtrr(uint32_t msr)
{
	return msr == 0x200 || msr == 0x2ff;
}

bool vmx_msr_is_refused(uint32_t msr)
{
	return msr == 0x560;
}

bool vmx_msr_write_is_checked(uint32_t msr)
{
	return msr == 0x1a0 || msr == 0x1fff;
}

static bool bit(const uint8_t *map, uint32_t index)
{
	return map[index / 8] >> (index % 8) & 1;
}

static bool read_exits(uint32_t msr)
{
	return msr == 0x1b || msr == 0x3a || msr == 0x6e0 || (msr >= 0x480 && msr <= 0x493) || msr == 0x560 ||
	       (msr >= 0x800 && msr <= 0x8ff);
}

static bool write_exits(uint32_t msr)
{
	return read_exits(msr) || msr == 0x10 || msr == 0x3b || msr == 0x79 || msr == 0x200 || msr == 0x2ff ||
	       msr == 0x1a0 || msr == 0x1fff;
}

static bool x2apic_read_passes(uint32_t msr)
{
	return msr == 0x802 || msr == 0x803 || msr == 0x808 || msr == 0x80a || msr == 0x80d || msr == 0x80f ||
	       (msr >= 0x810 && msr <= 0x828) || msr == 0x832 || (msr >= 0x835 && msr <= 0x838) ||
	       msr == 0x83e;
}

static bool x2apic_write_passes(uint32_t msr)
{
	return msr == 0x808 || msr == 0x80b || msr == 0x83f;
}

static void check_x2apic_map(uint32_t controls, bool only_tpr)
{
	fail_at = 0;
	vmx.apic_controls = controls;
	assert_int_equal(vmx_permission_maps_init(), 0);
	for (uint32_t i = 0; i < 0x2000; i++) {
		bool reads = only_tpr ? i == 0x808 : x2apic_read_passes(i);
		bool writes = only_tpr ? i == 0x808 : x2apic_write_passes(i);

		if (bit(vmx.x2apic_msr_map, i) != (read_exits(i) && !reads) ||
		    bit(vmx.x2apic_msr_map + 0x800, i) != (write_exits(i) && !writes))
			fail_msg("MSR 0x%x", i);
		if (bit(vmx.msr_map, i) != read_exits(i) || bit(vmx.msr_map + 0x800, i) != write_exits(i))
			fail_msg("MSR 0x%x of the usual map", i);
	}
	free(vmx.io_map);
	free(vmx.msr_map);
	free(vmx.child_msr_map);
	free(vmx.x2apic_msr_map);
	vmx.apic_controls = 0;
}

static void x2apic_msrs(void **state)
{
	(void)state;
	check_x2apic_map(PROC2_X2APIC, true);
	check_x2apic_map(PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY, false);
}

static void msrs(void **state)
{
	(void)state;
	fail_at = 0;
	assert_int_equal(vmx_permission_maps_init(), 0);
	for (uint32_t i = 0; i < 0x2000; i++) {
		if (bit(vmx.msr_map, i) != read_exits(i) || bit(vmx.msr_map + 0x800, i) != write_exits(i))
			fail_msg("MSR 0x%x", i);
		if (bit(vmx.msr_map + 0x400, i) || bit(vmx.msr_map + 0xc00, i))
			fail_msg("MSR 0x%x", 0xc0000000 + i);
	}
	free(vmx.io_map);
	free(vmx.msr_map);
	free(vmx.child_msr_map);
}

static bool child_access_passes(uint32_t msr, bool is_write)
{
	static const uint32_t own[] = { 0x174,	    0x175,	0x176,	    0x277,
					0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083,
					0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102 };

	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (msr == own[i])
			return true;
	return msr == 0x10 && !is_write;
}

static void child_msrs(void **state)
{
	(void)state;
	fail_at = 0;
	assert_int_equal(vmx_permission_maps_init(), 0);
	for (uint32_t i = 0; i < 0x4000; i++) {
		uint32_t msr = i < 0x2000 ? i : 0xc0000000 + i - 0x2000;

		if (bit(vmx.child_msr_map, i) == child_access_passes(msr, false) ||
		    bit(vmx.child_msr_map + 0x800, i) == child_access_passes(msr, true))
			fail_msg("MSR 0x%x", msr);
		if (vmx_child_msr_exits(msr, false) == child_access_passes(msr, false) ||
		    vmx_child_msr_exits(msr, true) == child_access_passes(msr, true))
			fail_msg("exit of MSR 0x%x", msr);
	}
	/* Those that no map has. */
	assert_true(vmx_child_msr_exits(0x2000, false) && vmx_child_msr_exits(0x40000000, true));
	assert_true(vmx_child_msr_exits(0xc0010015, false) && vmx_child_msr_exits(0xffffffff, true));
	free(vmx.io_map);
	free(vmx.msr_map);
	free(vmx.child_msr_map);
}

static void ports(void **state)
{
	(void)state;
	fail_at = 0;
	assert_int_equal(vmx_permission_maps_init(), 0);
	vmx_hide_ports(0x2f8, 8);
	vmx_hide_ports(0x7fff, 2); /* the last of bitmap A, the first of B */
	vmx_hide_ports(0xffff, 1);
	for (uint32_t p = 0; p < 0x10000; p++)
		assert_int_equal(bit(vmx.io_map, p),
				 (p >= 0x2f8 && p < 0x300) || p == 0x7fff || p == 0x8000 || p == 0xffff);
	vmx_allow_ports(0x2f9, 6);
	vmx_allow_ports(0x8000, 0x8000);
	for (uint32_t p = 0; p < 0x10000; p++)
		assert_int_equal(bit(vmx.io_map, p), p == 0x2f8 || p == 0x2ff || p == 0x7fff);
	free(vmx.io_map);
	free(vmx.msr_map);
	free(vmx.child_msr_map);
}

static void out_of_pages(void **state)
{
	(void)state;
	for (fail_at = 1; fail_at <= 3; fail_at++) {
		allocations = 0;
		vmx.child_msr_map = NULL;
		assert_int_equal(vmx_permission_maps_init(), -ENOMEM);
		free(vmx.io_map);
		free(vmx.msr_map);
		free(vmx.child_msr_map);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(msrs),	 cmocka_unit_test(child_msrs),	 cmocka_unit_test(x2apic_msrs),
		cmocka_unit_test(ports), cmocka_unit_test(out_of_pages),
	};

	return cmocka_run_group_tests_name("vmx_permission_maps", tests, NULL, NULL);
}
