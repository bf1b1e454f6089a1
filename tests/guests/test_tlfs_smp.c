/* SPDX-License-Identifier: MIT */
/* Conformance: what concerns several processors. */
#include "tlfs/tlfs.h"

void test_main(void)
{
	hv_open();
	CHAPTER(root_processors);
	CHAPTER(ipi);
	CHAPTER(flush);
	if (cpu_count == 1)
		return;
	let_others_sleep();
	CHAPTER(synic_others);
	CHAPTER(idle_others);
	CHAPTER(time_others);
	CHAPTER(overlay_race);
	CHAPTER(registers_others);
}
