/* SPDX-License-Identifier: MIT */
/*
 * A VP's run time. Two clock readings per wait are all it costs: what runs on an LP besides its VP is the hypervisor on that VP's
 * behalf.
 */
#include <trivet/hv_msr.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/run_time.h>
#include <trivet/vp.h>

static uint64_t get(const _Atomic uint64_t *ticks)
{
	return atomic_load_explicit(ticks, memory_order_relaxed);
}

static void set(_Atomic uint64_t *ticks, uint64_t value)
{
	atomic_store_explicit(ticks, value, memory_order_relaxed);
}

void vp_run_time_start(struct vp *vp)
{
	if (!get(&vp->run_time.started_tsc))
		set(&vp->run_time.started_tsc, lp_clock());
}

void vp_run_time_idle_begin(struct vp *vp)
{
	set(&vp->run_time.idle_since_tsc, lp_clock());
}

void vp_run_time_idle_end(struct vp *vp)
{
	struct vp_run_time *run = &vp->run_time;

	set(&run->idle_tsc, get(&run->idle_tsc) + (lp_clock() - get(&run->idle_since_tsc)));
	set(&run->idle_since_tsc, 0);
}

uint64_t vp_run_time_tsc(const struct vp *vp)
{
	const struct vp_run_time *run = &vp->run_time;
	uint64_t since = get(&run->idle_since_tsc);
	uint64_t until = since ? since : lp_clock();
	uint64_t before = get(&run->started_tsc) + get(&run->idle_tsc);

	/* Read between the two stores that end a wait, a moment may be missing. */
	return get(&run->started_tsc) && until > before ? until - before : 0;
}

uint64_t vp_run_time_100ns(const struct vp *vp)
{
	return tsc_to_100ns(&vp->partition->reference_time, vp_run_time_tsc(vp));
}

int hv_msr_read_vp_runtime(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = vp_run_time_100ns(vp);
	return 0;
}
