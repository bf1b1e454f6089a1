/* SPDX-License-Identifier: MIT */
/* Conformance: messages, event flags, synthetic timers. */
#include "tlfs/tlfs.h"

void test_main(void)
{
	hv_open();
	CHAPTER(synic);
	CHAPTER(timer);
}
