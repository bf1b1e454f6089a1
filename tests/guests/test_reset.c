/* SPDX-License-Identifier: MIT */
/*
 * Reset by the chip set's port 0xcf9, as systems do it: the machine resets, with the hypervisor gone too.
 * There is no TAP-END: reaching it is the failure.
 */
#include "lib/guest.h"

void test_main(void)
{
	note("reset now");
	delay_us(10000);
	outb(0xcf9, 0x02);
	outb(0xcf9, 0x06);
	delay_us(1000000);
	ok(false, "the processor went on");
}
