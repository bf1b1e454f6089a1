/* SPDX-License-Identifier: MIT */
/* What `make bench` counts: count.h. */
#include <trivet/count.h>

#ifdef TRIVET_COUNT

#include <trivet/io.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define COUNT_LEAF 0x4f000000u

uint64_t count_exit_tsc, count_ticks, count_exits; /* <trivet/count.inc> */
static uint64_t idle_since_tsc, choice_since_tsc, choice_ticks, switch_since_tsc, switches, switch_ticks;

void count_idle_begin(void)
{
	idle_since_tsc = rdtsc();
}

void count_idle_end(void)
{
	uint64_t idle_ticks = rdtsc() - idle_since_tsc;

	count_exit_tsc += idle_ticks;
	choice_since_tsc += idle_ticks;
}

void count_choice_begin(void)
{
	choice_since_tsc = rdtsc();
}

void count_choice_end(bool is_switch)
{
	if (is_switch)
		choice_ticks += rdtsc() - choice_since_tsc;
}

void count_switch_begin(void)
{
	switch_since_tsc = rdtsc();
}

void count_switch_end(void)
{
	switch_ticks += rdtsc() - switch_since_tsc;
	switches++;
}

bool count_cpuid(struct vp *vp)
{
	if ((uint32_t)vp->gpr[GPR_RAX] != COUNT_LEAF)
		return false;
	if ((uint32_t)vp->gpr[GPR_RCX]) {
		vp->gpr[GPR_RAX] = (uint32_t)choice_ticks;
		vp->gpr[GPR_RBX] = (uint32_t)vp->partition->deposits.used_pages;
		vp->gpr[GPR_RCX] = (uint32_t)vp->partition->statistics.gpa_pages;
		return true;
	}
	vp->gpr[GPR_RAX] = (uint32_t)count_exits;
	vp->gpr[GPR_RBX] = (uint32_t)count_ticks;
	vp->gpr[GPR_RCX] = (uint32_t)switches;
	vp->gpr[GPR_RDX] = (uint32_t)switch_ticks;
	return true;
}

#endif
