/* SPDX-License-Identifier: MIT */
/* Conformance: time, the VP's own pages and registers, overlays, and what a root may ask. */
#include "tlfs/tlfs.h"

void test_main(void)
{
	hv_open();
	CHAPTER(time);
	CHAPTER(assist);
	CHAPTER(overlay);
	CHAPTER(registers);
	CHAPTER(root);
}
