/* SPDX-License-Identifier: MIT */
/*
 * Synthetic timers: what a write of CONFIG or COUNT makes of a running timer, and what happens at its expiration. A timer never expires
 * early; periods that nobody could be told of are skipped and the phase is kept, which TLFS "Periodic Timers" allows to
 * ordinary timers and asks of lazy ones. A period of 0 doesn't exist (XSA-504): COUNT 0 is a stopped timer, whatever CONFIG says.
 */
#include <errno.h>
#include <hv/cpuid.h>
#include <trivet/apic.h>
#include <trivet/hv_msr.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/synthetic_timer.h>
#include <trivet/vp.h>

#define NEVER UINT64_MAX

static struct stimer *timer_of(struct vp *vp, uint32_t msr)
{
	return &vp->stimers.timer[(msr - HV_MSR_STIMER0_CONFIG) / 2];
}

static void update_next(struct stimers *stimers)
{
	uint64_t next = stimers->timer[0].deadline_tsc;

	for (unsigned int i = 1; i < HV_STIMER_COUNT; i++)
		if (stimers->timer[i].deadline_tsc < next)
			next = stimers->timer[i].deadline_tsc;
	stimers->next_deadline_tsc = next;
}

#define RATIO_SHIFT 40
#define FAR_100NS BIT(48) /* most of a year: in ticks of a TSC of 100 GHz still far below 2^64 */

/* On the VP's own LP: only there is its TSC. */
static __attribute__((__noinline__)) void learn_clock(struct vp *vp)
{
	struct stimers *stimers = &vp->stimers;

	stimers->base_100ns = reference_time_100ns(vp->partition);
	stimers->base_tsc = reference_time_to_tsc(vp->partition, stimers->base_100ns);
	stimers->tsc_per_2_40 = tsc_from_100ns(&vp->partition->reference_time, BIT(RATIO_SHIFT));
}

/*
 * reference_time_to_tsc() in one multiplication. Everything is rounded up, so it may be some ticks later than that (a
 * microsecond after ten years) and never earlier; what is past is 0.
 */
static inline uint64_t to_tsc(struct vp *vp, uint64_t time_100ns)
{
	struct stimers *stimers = &vp->stimers;
	uint64_t after;
	unsigned __int128 ticks;

	if (unlikely(!stimers->tsc_per_2_40)) {
		if (reference_time_is_frozen(vp->partition))
			return reference_time_to_tsc(vp->partition, time_100ns);
		learn_clock(vp);
	}
	after = time_100ns - stimers->base_100ns;
	if (unlikely(after >= FAR_100NS))
		return time_100ns < stimers->base_100ns ? 0 :
							  reference_time_to_tsc(vp->partition, time_100ns);
	ticks = (unsigned __int128)after * stimers->tsc_per_2_40 + (BIT(RATIO_SHIFT) - 1);
	return stimers->base_tsc + (uint64_t)(ticks >> RATIO_SHIFT);
}

static bool is_running(const struct stimer *timer)
{
	return (timer->config & HV_STIMER_ENABLE) && timer->count;
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

/* To the first expiration after now. Looked at no more often than the APIC's timer: a period of 100 ns must not hold up its LP. */
static void next_period(struct vp *vp, struct stimer *timer, uint64_t now_tsc)
{
	uint64_t now = reference_time_100ns(vp->partition);
	uint64_t soonest = add_saturating(now_tsc, vp->apic.config.min_period_tsc);
	uint64_t late = now - timer->expiration_100ns;

	if (now >= timer->expiration_100ns)
		timer->expiration_100ns = add_saturating(now, timer->count - late % timer->count);
	timer->deadline_tsc = to_tsc(vp, timer->expiration_100ns);
	if (timer->deadline_tsc < soonest)
		timer->deadline_tsc = soonest;
}

static __attribute__((__noinline__)) void send_message(struct vp *vp, struct stimer *timer,
						       uint64_t expiration_100ns)
{
	if (timer->message.queued)
		return;
	timer->message_expiration_100ns = expiration_100ns;
	timer->message.sender = SYNIC_TIMER;
	timer->message.sint = (uint8_t)((timer->config & HV_STIMER_SINT_MASK) >> HV_STIMER_SINT_SHIFT);
	synic_queue(vp, &timer->message);
}

static void expire(struct vp *vp, struct stimer *timer, uint64_t now_tsc)
{
	uint64_t expiration = timer->expiration_100ns;

	if (timer->config & HV_STIMER_PERIODIC) {
		next_period(vp, timer, now_tsc);
	} else {
		timer->config &= ~HV_STIMER_ENABLE;
		timer->deadline_tsc = NEVER;
	}
	if (timer->config & HV_STIMER_DIRECT) {
		apic_accept(&vp->apic,
			    (uint8_t)((timer->config & HV_STIMER_VECTOR_MASK) >> HV_STIMER_VECTOR_SHIFT),
			    false);
		vp_post_self(vp, VP_PENDING_EVENT);
	} else {
		send_message(vp, timer, expiration);
	}
}

/*
 * After CONFIG or COUNT was written: starts anew, or stops. A message of before that the guest hasn't got is of a timer that
 * is no more. The first period begins now; a one-shot time that has passed expires at once.
 */
static void restart(struct vp *vp, struct stimer *timer)
{
	bool here = vp_is_loaded_here(vp);
	uint64_t now_tsc;

	if (unlikely(timer->message.queued))
		synic_unqueue(vp, &timer->message);
	if (!is_running(timer)) {
		timer->deadline_tsc = NEVER;
	} else {
		timer->expiration_100ns = timer->count;
		if (timer->config & HV_STIMER_PERIODIC)
			timer->expiration_100ns =
				add_saturating(reference_time_100ns(vp->partition), timer->count);
		if (unlikely(!here)) { /* by its parent: deadlines are its LP's to find */
			vp_post(vp, VP_PENDING_CLOCK);
			return;
		}
		timer->deadline_tsc = to_tsc(vp, timer->expiration_100ns);
		now_tsc = rdtsc();
		if (unlikely(timer->deadline_tsc <= now_tsc))
			expire(vp, timer, now_tsc);
	}
	update_next(&vp->stimers);
	if (likely(here))
		lp_timer_update(vp->lp);
}

/* ---- MSRs ---- */

int stimer_read_config(struct vp *vp, uint32_t msr, uint64_t *value)
{
	*value = timer_of(vp, msr)->config;
	return 0;
}

int stimer_read_count(struct vp *vp, uint32_t msr, uint64_t *value)
{
	*value = timer_of(vp, msr)->count;
	return 0;
}

static bool config_is_valid(const struct vp *vp, uint64_t value)
{
	uint64_t reserved = HV_STIMER_RESERVED;

	if (!(vp->partition->features & HV_FEATURE_DIRECT_TIMERS))
		reserved |= HV_STIMER_DIRECT | HV_STIMER_VECTOR_MASK;
	return !(value & reserved);
}

/* A timer with a message for SINT 0 isn't enabled (TLFS "Synthetic Timer Configuration Register"). */
static uint64_t settled_config(uint64_t value)
{
	return value & (HV_STIMER_DIRECT | HV_STIMER_SINT_MASK) ? value : value & ~HV_STIMER_ENABLE;
}

int stimer_write_config(struct vp *vp, uint32_t msr, uint64_t value)
{
	struct stimer *timer = timer_of(vp, msr);

	if (!config_is_valid(vp, value))
		return -EINVAL;
	timer->config = settled_config(value);
	restart(vp, timer);
	return 0;
}

int stimer_write_count(struct vp *vp, uint32_t msr, uint64_t value)
{
	struct stimer *timer = timer_of(vp, msr);

	timer->count = value;
	if (value == 0)
		timer->config &= ~HV_STIMER_ENABLE;
	else if ((timer->config & HV_STIMER_AUTO_ENABLE) &&
		 (timer->config & (HV_STIMER_DIRECT | HV_STIMER_SINT_MASK)))
		timer->config |= HV_STIMER_ENABLE;
	restart(vp, timer);
	return 0;
}

/* ---- Events ---- */

void stimers_expired(struct vp *vp, uint64_t now_tsc)
{
	struct stimers *stimers = &vp->stimers;

	for (unsigned int i = 0; i < HV_STIMER_COUNT; i++)
		if (stimers->timer[i].deadline_tsc <= now_tsc)
			expire(vp, &stimers->timer[i], now_tsc);
	update_next(stimers);
}

void stimers_clock_changed(struct vp *vp)
{
	struct stimers *stimers = &vp->stimers;

	stimers->tsc_per_2_40 = 0;
	for (unsigned int i = 0; i < HV_STIMER_COUNT; i++) {
		struct stimer *timer = &stimers->timer[i];

		timer->deadline_tsc = is_running(timer) ? to_tsc(vp, timer->expiration_100ns) : NEVER;
	}
	update_next(stimers);
	lp_timer_update(vp->lp);
}

/* ---- Saved and restored by the VP's parent ---- */

void stimers_save(const struct vp *vp, struct hv_vp_state_timers *image)
{
	*image = (struct hv_vp_state_timers){ 0 };
	for (unsigned int i = 0; i < HV_STIMER_COUNT; i++) {
		const struct stimer *timer = &vp->stimers.timer[i];
		struct hv_vp_state_timer *saved = &image->timer[i];

		saved->config = timer->config;
		saved->count = timer->count;
		if (is_running(timer) && (timer->config & HV_STIMER_PERIODIC))
			saved->adjustment = timer->expiration_100ns;
		if (timer->message.queued) {
			saved->flags = HV_VP_STATE_TIMER_UNDELIVERED_MESSAGE;
			saved->undelivered_expiration_time = timer->message_expiration_100ns;
		}
	}
}

static bool image_is_valid(const struct vp *vp, const struct hv_vp_state_timers *image)
{
	for (unsigned int i = 0; i < HV_STIMER_COUNT; i++)
		if (!config_is_valid(vp, image->timer[i].config) ||
		    (image->timer[i].flags & ~HV_VP_STATE_TIMER_UNDELIVERED_MESSAGE) ||
		    image->timer[i].reserved)
			return false;
	return true;
}

static void load(struct vp *vp, struct stimer *timer, const struct hv_vp_state_timer *saved)
{
	if (timer->message.queued)
		synic_unqueue(vp, &timer->message);
	timer->config = settled_config(saved->config);
	timer->count = saved->count;
	timer->deadline_tsc = NEVER; /* until its LP has looked */
	timer->expiration_100ns = saved->count;
	if (timer->config & HV_STIMER_PERIODIC)
		timer->expiration_100ns =
			saved->adjustment ? saved->adjustment :
					    add_saturating(reference_time_100ns(vp->partition), saved->count);
	if ((saved->flags & HV_VP_STATE_TIMER_UNDELIVERED_MESSAGE) && (timer->config & HV_STIMER_SINT_MASK) &&
	    !(timer->config & HV_STIMER_DIRECT))
		send_message(vp, timer, saved->undelivered_expiration_time);
}

int stimers_load(struct vp *vp, const struct hv_vp_state_timers *image)
{
	if (!image_is_valid(vp, image))
		return -EINVAL;
	for (unsigned int i = 0; i < HV_STIMER_COUNT; i++)
		load(vp, &vp->stimers.timer[i], &image->timer[i]);
	update_next(&vp->stimers);
	vp_post(vp, VP_PENDING_CLOCK);
	return 0;
}

void stimer_fill_message(struct vp *vp, const struct synic_message *link, struct hv_message *message)
{
	const struct stimer *timer = container_of(link, const struct stimer, message);
	struct hv_timer_message payload = {
		.timer_index = (uint32_t)(timer - vp->stimers.timer),
		.expiration_time_100ns = timer->message_expiration_100ns,
		.delivery_time_100ns = reference_time_100ns(vp->partition),
	};

	message->type = HV_MESSAGE_TIMER_EXPIRED;
	message->payload_bytes = sizeof(payload);
	message->sender = 0;
	__builtin_memcpy(&message->payload, &payload, sizeof(payload));
}

void stimers_init(struct vp *vp)
{
	struct stimers *stimers = &vp->stimers;

	for (unsigned int i = 0; i < HV_STIMER_COUNT; i++)
		stimers->timer[i] = (struct stimer){ .deadline_tsc = NEVER };
	update_next(stimers);
}
