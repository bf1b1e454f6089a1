/* unit: vmx/vpid.c */
/* SPDX-License-Identifier: MIT */
/* Tags of translations: each once, never the hypervisor's or the roots', all of them, and again when they came back. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "../../vmx/switch.h"

struct vmx_machine vmx;
static bool taken[65536];

static void each_once(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 65534; i++) {
		uint16_t vpid = vmx_vpid_alloc();

		assert_true(vpid > VPID_ROOT);
		assert_false(taken[vpid]);
		taken[vpid] = true;
	}
	assert_int_equal(vmx_vpid_alloc(), 0);
	assert_int_equal(vmx_vpid_alloc(), 0);
}

static void what_comes_back_is_given_again(void **state)
{
	(void)state;
	vmx_vpid_free(0);
	vmx_vpid_free(VPID_ROOT);
	assert_int_equal(vmx_vpid_alloc(), 0);
	vmx_vpid_free(65535);
	vmx_vpid_free(2);
	assert_int_equal(vmx_vpid_alloc() + vmx_vpid_alloc(), 65535 + 2);
	assert_int_equal(vmx_vpid_alloc(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_once),
		cmocka_unit_test(what_comes_back_is_given_again),
	};

	return cmocka_run_group_tests_name("vmx_vpid", tests, NULL, NULL);
}
