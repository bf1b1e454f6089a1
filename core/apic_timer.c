/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: the timer. Nothing ticks: a counting timer is the moment its count was full, and every
 * answer (current count, next deadline, missed periods) is arithmetic on that. SDM3 11.5.4, APM2 16.4.1.
 */
#include "apic_internal.h"

#include <errno.h>

#define HZ_MIN 1000000ull
#define HZ_MAX 100000000000ull
#define NEVER UINT64_MAX
#define RE_ANCHOR_TSC BIT(44)

/*
 * numerator / denominator as mult / 2^shift with 62 significant bits, by long division. Rounded up in both
 * directions of a clock: ticks -> TSC -> ticks never loses one.
 */
static struct apic_ratio ratio(uint64_t numerator, uint64_t denominator)
{
	struct apic_ratio r = { .mult = numerator / denominator, .shift = 0 };
	uint64_t rest = numerator % denominator;

	while (!(r.mult >> 61)) {
		rest <<= 1;
		r.mult = r.mult << 1 | (rest >= denominator);
		if (rest >= denominator)
			rest -= denominator;
		r.shift++;
	}
	if (rest)
		r.mult++;
	return r;
}

int apic_clock_init(struct apic_clock *clock, uint64_t timer_hz, uint64_t tsc_hz)
{
	if (timer_hz < HZ_MIN || timer_hz > HZ_MAX || tsc_hz < HZ_MIN || tsc_hz > HZ_MAX)
		return -EINVAL;
	clock->to_tsc = ratio(tsc_hz, timer_hz);
	clock->to_ticks = ratio(timer_hz, tsc_hz);
	return 0;
}

static uint64_t saturate(unsigned __int128 v)
{
	return v >> 64 ? UINT64_MAX : (uint64_t)v;
}

/* Up, so that at the TSC value returned the ticks have passed. */
static uint64_t ticks_to_tsc(const struct apic *apic, uint64_t ticks)
{
	struct apic_ratio r = apic->config.clock.to_tsc;
	unsigned __int128 product = (unsigned __int128)ticks * r.mult;

	return saturate((product + (((unsigned __int128)1 << r.shift) - 1)) >> r.shift);
}

static uint64_t tsc_to_ticks(const struct apic *apic, uint64_t tsc)
{
	struct apic_ratio r = apic->config.clock.to_ticks;

	return saturate((unsigned __int128)tsc * r.mult >> r.shift);
}

/* Input ticks since the count was full. A TSC that was set back counts as no time passed. */
static uint64_t elapsed_ticks(const struct apic *apic, uint64_t now_tsc)
{
	uint64_t tsc = now_tsc - apic->timer.start_tsc;

	return (int64_t)tsc < 0 ? 0 : tsc_to_ticks(apic, tsc);
}

static uint64_t deadline_after(const struct apic *apic, uint64_t ticks)
{
	return apic->timer.start_tsc + ticks_to_tsc(apic, ticks);
}

/* The first end of a period after `now_tsc`, and not before the minimum distance when periods are short. */
static uint64_t next_period_end(const struct apic *apic, uint64_t now_tsc)
{
	uint64_t period = apic->timer.period_ticks, min = apic->config.min_period_tsc;
	uint64_t horizon = ticks_to_tsc(apic, period) < min ? now_tsc + min : now_tsc;

	return deadline_after(apic, (elapsed_ticks(apic, horizon) / period + 1) * period);
}

/*
 * Move the start of a periodic timer forward by whole periods before products of it can overflow. Each move
 * rounds by less than one TSC tick. A TSC that jumped out of all proportion begins a period now.
 */
static void re_anchor(struct apic *apic, uint64_t now_tsc)
{
	struct apic_timer *timer = &apic->timer;
	uint64_t elapsed;

	if (now_tsc - timer->start_tsc < RE_ANCHOR_TSC)
		return;
	elapsed = elapsed_ticks(apic, now_tsc);
	timer->start_tsc += ticks_to_tsc(apic, elapsed - elapsed % timer->period_ticks);
	if (now_tsc - timer->start_tsc > ticks_to_tsc(apic, timer->period_ticks))
		timer->start_tsc = now_tsc;
}

static void set_deadline(struct apic *apic, uint64_t now_tsc)
{
	struct apic_timer *timer = &apic->timer;

	if (!timer->counting) {
		timer->deadline_tsc = NEVER;
	} else if (apic_timer_mode(apic) == APIC_TIMER_PERIODIC) {
		re_anchor(apic, now_tsc);
		timer->deadline_tsc = next_period_end(apic, now_tsc);
		/* Behind the end of a TSC that its guest has set to there: as often as may be, until it has begun anew. */
		if (unlikely(timer->deadline_tsc <= now_tsc))
			timer->deadline_tsc = now_tsc + apic->config.min_period_tsc;
	} else {
		timer->deadline_tsc = deadline_after(apic, timer->period_ticks);
	}
}

static void set_period(struct apic_timer *timer)
{
	timer->period_ticks = (uint64_t)timer->initial << timer->divide_shift;
}

/* Ticks gone of the present cycle: 0..period_ticks - 1 while counting. */
static uint64_t cycle_ticks(const struct apic *apic, uint64_t now_tsc)
{
	uint64_t elapsed = elapsed_ticks(apic, now_tsc);
	uint64_t period = apic->timer.period_ticks;

	if (apic_timer_mode(apic) == APIC_TIMER_PERIODIC)
		return elapsed % period;
	return elapsed < period ? elapsed : period;
}

uint32_t apic_timer_current(const struct apic *apic, uint64_t now_tsc)
{
	const struct apic_timer *timer = &apic->timer;

	if (!timer->counting)
		return 0;
	return timer->initial - (uint32_t)(cycle_ticks(apic, now_tsc) >> timer->divide_shift);
}

void apic_timer_expired(struct apic *apic, uint64_t now_tsc)
{
	struct apic_timer *timer = &apic->timer;

	if (now_tsc < timer->deadline_tsc || timer->deadline_tsc == NEVER)
		return;
	if (apic_timer_mode(apic) != APIC_TIMER_PERIODIC)
		timer->counting = false;
	set_deadline(apic, now_tsc);
	apic_lvt_fire(apic, APIC_LVT_TIMER);
}

static void report_if_moved(struct apic *apic, uint64_t old_deadline)
{
	if (apic->timer.deadline_tsc != old_deadline)
		apic_host_timer_changed(apic);
}

void apic_timer_reset(struct apic *apic)
{
	/* divide register 0 means by 2 */
	apic->timer = (struct apic_timer){ .deadline_tsc = NEVER, .divide_shift = 1 };
}

/* Bits 3, 1 and 0 are one number: 0..6 divide by 2..128, 7 by 1 (SDM3 fig. 11-10). */
static uint8_t divide_shift(uint32_t divide)
{
	return (uint8_t)(((divide & 3) + ((divide >> 1) & 4) + 1) & 7);
}

/* Every change below first delivers what was due before it: late is the emulation, not the guest. */
void apic_timer_write_initial(struct apic *apic, uint32_t count)
{
	struct apic_timer *timer = &apic->timer;
	uint64_t now, old = timer->deadline_tsc;

	if (apic_timer_mode(apic) >= APIC_TIMER_DEADLINE)
		return;
	now = apic_host_now_tsc(apic);
	apic_timer_expired(apic, now);
	timer->initial = count;
	timer->start_tsc = now;
	timer->counting = count != 0;
	set_period(timer);
	set_deadline(apic, now);
	report_if_moved(apic, old);
}

/* The count goes on from where it is at the new pace; the prescaler starts anew. */
void apic_timer_write_divide(struct apic *apic, uint32_t divide)
{
	struct apic_timer *timer = &apic->timer;
	uint8_t shift = divide_shift(divide);
	uint64_t now, counts, old = timer->deadline_tsc;

	timer->divide = divide & 0xb;
	if (shift == timer->divide_shift)
		return;
	if (timer->counting) {
		now = apic_host_now_tsc(apic);
		apic_timer_expired(apic, now);
		counts = timer->counting ? cycle_ticks(apic, now) >> timer->divide_shift : 0;
		timer->divide_shift = shift;
		set_period(timer);
		timer->start_tsc = now - ticks_to_tsc(apic, counts << shift);
		set_deadline(apic, now);
	}
	timer->divide_shift = shift;
	set_period(timer);
	report_if_moved(apic, old);
}

/*
 * To or from TSC-deadline mode disarms. One-shot and periodic share the count: the cycle under way is kept,
 * and the mode at its end decides what follows.
 */
static void change_mode(struct apic *apic, uint32_t lvt, uint64_t now_tsc)
{
	struct apic_timer *timer = &apic->timer;
	unsigned int from = apic_timer_mode(apic);
	unsigned int to = (lvt >> APIC_LVT_TIMER_MODE_SHIFT) & 3;

	if (from >= APIC_TIMER_DEADLINE || to >= APIC_TIMER_DEADLINE) {
		timer->initial = 0;
		timer->counting = false;
		set_period(timer);
	} else if (timer->counting) {
		uint64_t elapsed = elapsed_ticks(apic, now_tsc);

		timer->start_tsc += ticks_to_tsc(apic, elapsed - cycle_ticks(apic, now_tsc));
	}
	apic->lvt[APIC_LVT_TIMER] = lvt;
	set_deadline(apic, now_tsc);
}

void apic_timer_write_lvt(struct apic *apic, uint32_t lvt)
{
	uint64_t now, old = apic->timer.deadline_tsc;

	if (old == NEVER && !((lvt ^ apic->lvt[APIC_LVT_TIMER]) >> APIC_LVT_TIMER_MODE_SHIFT)) {
		apic->lvt[APIC_LVT_TIMER] = lvt;
		return;
	}
	now = apic_host_now_tsc(apic);
	apic_timer_expired(apic, now);
	if ((lvt ^ apic->lvt[APIC_LVT_TIMER]) >> APIC_LVT_TIMER_MODE_SHIFT)
		change_mode(apic, lvt, now);
	else
		apic->lvt[APIC_LVT_TIMER] = lvt;
	report_if_moved(apic, old);
}

int apic_tsc_deadline_read(struct apic *apic, uint64_t *value)
{
	if (!apic->config.tsc_deadline)
		return -EINVAL;
	*value = 0;
	if (apic_timer_mode(apic) != APIC_TIMER_DEADLINE || apic->timer.deadline_tsc == NEVER)
		return 0;
	/* what is due but not yet processed has, for the guest, gone off */
	if (apic->timer.deadline_tsc > apic_host_now_tsc(apic))
		*value = apic->timer.deadline_tsc;
	return 0;
}

uint64_t apic_tsc_deadline_armed(const struct apic *apic)
{
	if (apic_timer_mode(apic) != APIC_TIMER_DEADLINE || apic->timer.deadline_tsc == NEVER)
		return 0;
	return apic->timer.deadline_tsc;
}

int apic_tsc_deadline_write(struct apic *apic, uint64_t value)
{
	uint64_t now, old = apic->timer.deadline_tsc;

	if (!apic->config.tsc_deadline)
		return -EINVAL;
	if (apic_timer_mode(apic) != APIC_TIMER_DEADLINE)
		return 0;
	now = apic_host_now_tsc(apic);
	apic_timer_expired(apic, now);
	apic->timer.deadline_tsc = value ? value : NEVER;
	apic_timer_expired(apic, now);
	report_if_moved(apic, old);
	return 0;
}

void apic_tsc_adjusted(struct apic *apic, int64_t delta)
{
	struct apic_timer *timer = &apic->timer;
	uint64_t old = timer->deadline_tsc;

	if (!timer->counting)
		return;
	timer->start_tsc += (uint64_t)delta;
	timer->deadline_tsc += (uint64_t)delta;
	report_if_moved(apic, old);
}

void apic_timer_load(struct apic *apic, const struct apic_image *image, uint64_t now_tsc)
{
	struct apic_timer *timer = &apic->timer;
	uint32_t current = image->timer_current;

	timer->divide = image->timer_divide & 0xb;
	timer->divide_shift = divide_shift(timer->divide);
	if (apic_timer_mode(apic) >= APIC_TIMER_DEADLINE) {
		if (apic_timer_mode(apic) == APIC_TIMER_DEADLINE && image->tsc_deadline)
			timer->deadline_tsc = image->tsc_deadline;
		return;
	}
	timer->initial = image->timer_initial;
	set_period(timer);
	if (current > timer->initial)
		current = timer->initial;
	timer->counting = apic_timer_mode(apic) == APIC_TIMER_PERIODIC ? timer->initial != 0 : current != 0;
	if (!timer->counting)
		return;
	timer->start_tsc =
		now_tsc - ticks_to_tsc(apic, (uint64_t)(timer->initial - current) << timer->divide_shift);
	set_deadline(apic, now_tsc);
}
