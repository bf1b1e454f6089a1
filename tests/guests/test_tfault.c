/* SPDX-License-Identifier: MIT */
/*
 * A triple fault: the machine resets (QEMU ends with -no-reboot), and Trivet says why in its log first.
 * There is no TAP-END: reaching it is the failure.
 */
#include "lib/guest.h"

void test_main(void)
{
	note("triple fault now");
	delay_us(10000);
	load_idt(NULL, 0);
	__asm__ volatile("int3");
	ok(false, "the processor went on");
}
