/* SPDX-License-Identifier: MIT */
/*
 * Run times. They cost nothing but at the edges of a wait: what runs on an LP besides the VP that is loaded is the hypervisor on that VP's
 * behalf, and a switch the next one's.
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

static void start(struct run_time *run, uint64_t now_clock)
{
	if (!get(&run->started_tsc))
		set(&run->started_tsc, now_clock);
}

static void idle_begin(struct run_time *run, uint64_t now_clock)
{
	set(&run->idle_since_tsc, now_clock);
}

static void idle_end(struct run_time *run, uint64_t now_clock)
{
	uint64_t since = get(&run->idle_since_tsc);

	if (unlikely(!since)) {
		start(run, now_clock);
		return;
	}
	set(&run->idle_tsc, get(&run->idle_tsc) + (now_clock - since));
	set(&run->idle_since_tsc, 0);
	set(&run->waits, get(&run->waits) + 1);
}

static uint64_t run_tsc(const struct run_time *run)
{
	uint64_t since = get(&run->idle_since_tsc);
	uint64_t until = since ? since : lp_clock();
	uint64_t before = get(&run->started_tsc) + get(&run->idle_tsc);

	/* Read between the two stores that end a wait, a moment may be missing. */
	return get(&run->started_tsc) && until > before ? until - before : 0;
}

void vp_run_time_start(struct vp *vp)
{
	start(&vp->run_time, lp_clock());
}

void vp_run_time_idle_begin(struct vp *vp, uint64_t now_clock)
{
	idle_begin(&vp->run_time, now_clock);
}

void vp_run_time_idle_end(struct vp *vp, uint64_t now_clock)
{
	idle_end(&vp->run_time, now_clock);
}

uint64_t vp_run_time_tsc(const struct vp *vp)
{
	return run_tsc(&vp->run_time);
}

void lp_run_time_start(struct lp *lp)
{
	start(&lp->run_time, lp_clock());
}

void lp_run_time_idle_begin(struct lp *lp, uint64_t now_clock)
{
	idle_begin(&lp->run_time, now_clock);
}

void lp_run_time_idle_end(struct lp *lp, uint64_t now_clock)
{
	idle_end(&lp->run_time, now_clock);
}

uint64_t lp_run_time_tsc(const struct lp *lp)
{
	return run_tsc(&lp->run_time);
}

uint64_t lp_idle_time_tsc(const struct lp *lp)
{
	uint64_t since = get(&lp->run_time.idle_since_tsc), now = lp_clock();

	return get(&lp->run_time.idle_tsc) + (since && now > since ? now - since : 0);
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
