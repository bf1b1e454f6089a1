/* SPDX-License-Identifier: MIT */
/*
 * The TSCs of the LPs, which the root may write, and the clock underneath that it can't. IA32_TSC_ADJUST counts what was
 * written, firmware's writes included (SDM3 18.17.3), so TSC minus that is alike on all LPs. Where there is none, we
 * count, and take the TSCs to have been alike when we came.
 */
#include <errno.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/safe_msr.h>
#include <trivet/vp.h>
#include <trivet/x86.h>

#define CPUID_7_EBX_TSC_ADJUST BIT(1)
#define WRITE_US 1u /* at least as long as a WRMSR takes */

static bool has_adjust(void)
{
	return cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx & CPUID_7_EBX_TSC_ADJUST);
}

uint64_t lp_tsc_now(uint64_t *moved)
{
	*moved = atomic_load_explicit(&this_lp()->tsc_moved, memory_order_relaxed);
	return rdtsc();
}

uint64_t lp_clock(void)
{
	uint64_t moved, tsc = lp_tsc_now(&moved);

	return tsc - moved;
}

void lp_tsc_start(struct lp *lp)
{
	uint64_t adjust;

	if (has_adjust() && safe_rdmsr(MSR_TSC_ADJUST, &adjust))
		atomic_store(&lp->tsc_moved, adjust);
}

int lp_tsc_write(uint32_t msr, uint64_t value, int64_t *delta)
{
	struct lp *lp = this_lp();
	uint64_t before = rdtsc(), after, adjust;

	if (!safe_wrmsr(msr, value))
		return -EINVAL;
	after = rdtsc();
	*delta = (int64_t)(after - before);
	if (has_adjust() && safe_rdmsr(MSR_TSC_ADJUST, &adjust))
		atomic_store(&lp->tsc_moved, adjust);
	else /* a little less than measured, so that the clock doesn't go back */
		atomic_fetch_add(&lp->tsc_moved, after - before - lp_tsc_hz() / 1000000 * WRITE_US);
	return 0;
}
