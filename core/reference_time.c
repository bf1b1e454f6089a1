/* SPDX-License-Identifier: MIT */
/*
 * Partition reference time. The formula is the reference TSC page's own, in the page's own numbers, so that MSR and page can't
 * differ (TLFS "Timers"). What is written to its VPs' TSCs is taken out again by how far they are ahead of lp_clock(); while that is the
 * same everywhere it may as well be part of the page's offset.
 */
#include <errno.h>

#include <hv/time.h>
#include <trivet/hv_msr.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/vp.h>

static uint64_t multiply_high(uint64_t a, uint64_t b)
{
	return (uint64_t)((unsigned __int128)a * b >> 64);
}

/* (high << 64) / divisor and what is left, for high < divisor. */
static uint64_t divide(uint64_t high, uint64_t divisor, uint64_t *rest)
{
	uint64_t quotient, remainder;

	__asm__("divq %4" : "=a"(quotient), "=d"(remainder) : "a"(0ull), "d"(high), "r"(divisor) : "cc");
	*rest = remainder;
	return quotient;
}

uint64_t tsc_to_100ns(const struct reference_time *time, uint64_t ticks)
{
	return multiply_high(ticks, time->scale);
}

uint64_t tsc_from_100ns(const struct reference_time *time, uint64_t duration_100ns)
{
	uint64_t ticks, rest;

	if (duration_100ns >= time->scale)
		return UINT64_MAX;
	ticks = divide(duration_100ns, time->scale, &rest);
	return rest && ticks != UINT64_MAX ? ticks + 1 : ticks;
}

static struct hv_reference_tsc_page *page_of(const struct reference_time *time)
{
	return overlay_content(&time->page);
}

/* A guest that reads meanwhile sees sequence 0, and with it that it must ask the MSR. */
static void invalidate_page(const struct reference_time *time)
{
	__atomic_store_n(&page_of(time)->sequence, HV_REFERENCE_TSC_SEQUENCE_INVALID, __ATOMIC_SEQ_CST);
}

static void publish_page(struct reference_time *time)
{
	struct hv_reference_tsc_page *page = page_of(time);

	__atomic_store_n(&page->scale, time->scale, __ATOMIC_RELAXED);
	__atomic_store_n(&page->offset_100ns, (int64_t)atomic_load(&time->offset_100ns), __ATOMIC_RELAXED);
	/* Neither 0 nor the all ones that earlier hypervisors meant by "invalid". */
	if (++time->sequence == UINT32_MAX)
		time->sequence = 1;
	__atomic_store_n(&page->sequence, time->sequence, __ATOMIC_SEQ_CST);
}

int reference_time_init(struct partition *partition, uint64_t tsc_hz, uint64_t tsc, uint64_t moved)
{
	struct reference_time *time = &partition->reference_time;
	uint64_t rest;
	int err;

	if (tsc_hz <= HV_TIME_UNIT_HZ)
		return -EINVAL;
	err = overlay_init(partition, &time->page, OVERLAY_REFERENCE_TSC);
	if (err)
		return err;
	time->scale = divide(HV_TIME_UNIT_HZ, tsc_hz, &rest);
	time->lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_REFERENCE_TIME);
	atomic_store(&time->moved_tsc, moved);
	atomic_store(&time->offset_100ns, 0 - multiply_high(tsc, time->scale));
	publish_page(time);
	return 0;
}

struct clock {
	uint64_t offset_100ns, moved_tsc, frozen_100ns;
	bool frozen;
};

/* The writer holds nobody up: it changes some words. */
static struct clock read_clock(const struct reference_time *time)
{
	struct clock clock;
	uint32_t version;

	do {
		version = atomic_load_explicit(&time->version, memory_order_acquire);
		clock.offset_100ns = atomic_load_explicit(&time->offset_100ns, memory_order_relaxed);
		clock.moved_tsc = atomic_load_explicit(&time->moved_tsc, memory_order_relaxed);
		clock.frozen_100ns = atomic_load_explicit(&time->frozen_100ns, memory_order_relaxed);
		clock.frozen = atomic_load_explicit(&time->frozen, memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
	} while (unlikely((version & 1) ||
			  version != atomic_load_explicit(&time->version, memory_order_relaxed)));
	return clock;
}

uint64_t reference_time_100ns(const struct partition *partition)
{
	const struct reference_time *time = &partition->reference_time;
	struct clock clock = read_clock(time);
	uint64_t moved, tsc;

	if (unlikely(clock.frozen))
		return clock.frozen_100ns;
	tsc = lp_tsc_now(&moved);
	return multiply_high(tsc - (moved - clock.moved_tsc), time->scale) + clock.offset_100ns;
}

uint64_t reference_time_to_tsc(const struct partition *partition, uint64_t time_100ns)
{
	const struct reference_time *time = &partition->reference_time;
	struct clock clock = read_clock(time);
	uint64_t moved, here = lp_tsc_now(&moved);
	uint64_t now = here - (moved - clock.moved_tsc); /* of the clock that the offset is for */
	uint64_t then;

	if (unlikely(clock.frozen))
		return time_100ns <= clock.frozen_100ns ? here : UINT64_MAX;
	/* Times are far below 2^63, and so is the offset either way. */
	if (time_100ns > INT64_MAX)
		return UINT64_MAX;
	if ((int64_t)clock.offset_100ns >= 0 && time_100ns <= clock.offset_100ns)
		then = 0; /* before the TSC's zero, or at it */
	else
		then = tsc_from_100ns(time, time_100ns - clock.offset_100ns);
	if (then == UINT64_MAX)
		return UINT64_MAX;
	if (then <= now)
		return now - then > here ? 0 : here - (now - then);
	return then - now > UINT64_MAX - here ? UINT64_MAX : here + (then - now);
}

/* How far the VP's TSC is ahead of lp_clock(). False: it has none yet. */
static bool moved_by(const struct vp *vp, uint64_t *moved)
{
	if (!vp)
		return false;
	if (!partition_is_root(vp->partition)) {
		*moved = __atomic_load_n(&vp->tsc_offset, __ATOMIC_RELAXED);
		return true;
	}
	*moved = atomic_load(&vp->lp->tsc_moved);
	return atomic_load(&vp->lp->state) == LP_ONLINE;
}

/* Do all VPs that may read it agree on how far the TSC was moved? A child without VPs gets them where the partition is. */
static bool all_moved_alike(const struct partition *partition, uint64_t *moved)
{
	bool found = false;

	for (uint32_t i = 0; i < partition->vp_count; i++) {
		uint64_t its;

		if (!moved_by(partition->vps[i], &its))
			continue;
		if (found && its != *moved)
			return false;
		*moved = its;
		found = true;
	}
	if (!found && !partition_is_root(partition)) {
		*moved = partition->tsc_offset;
		found = true;
	}
	return found;
}

static void set_clock(struct reference_time *time, const struct clock *clock)
{
	atomic_fetch_add(&time->version, 1);
	atomic_store(&time->offset_100ns, clock->offset_100ns);
	atomic_store(&time->moved_tsc, clock->moved_tsc);
	atomic_store(&time->frozen_100ns, clock->frozen_100ns);
	atomic_store(&time->frozen, clock->frozen);
	atomic_fetch_add(&time->version, 1);
}

/* The move becomes part of the offset: rounded down, so that no clock goes back. */
static void rebase(struct reference_time *time, uint64_t moved)
{
	struct clock clock = read_clock(time);
	uint64_t change = moved - clock.moved_tsc;

	if ((int64_t)change >= 0)
		clock.offset_100ns -= multiply_high(change, time->scale);
	else
		clock.offset_100ns += multiply_high(0 - change, time->scale) + 1;
	clock.moved_tsc = moved;
	set_clock(time, &clock);
}

/* Under the lock: the page is what can be said now. */
static void refresh_page(struct partition *partition)
{
	struct reference_time *time = &partition->reference_time;
	uint64_t moved = 0;

	invalidate_page(time);
	if (!all_moved_alike(partition, &moved) || atomic_load(&time->frozen))
		return;
	if (moved != atomic_load(&time->moved_tsc))
		rebase(time, moved);
	publish_page(time);
}

void reference_time_tsc_moved(struct partition *partition)
{
	struct reference_time *time = &partition->reference_time;

	if (!time->scale)
		return;
	spin_lock(&time->lock);
	refresh_page(partition);
	spin_unlock(&time->lock);
}

/* The offset with which it is `time_100ns` now. */
static void set_offset(const struct reference_time *time, struct clock *clock, uint64_t time_100ns)
{
	uint64_t moved, tsc = lp_tsc_now(&moved);

	clock->offset_100ns = time_100ns - multiply_high(tsc - (moved - clock->moved_tsc), time->scale);
}

void reference_time_freeze(struct partition *partition, bool freeze)
{
	struct reference_time *time = &partition->reference_time;
	struct clock clock;

	if (!time->scale)
		return;
	spin_lock(&time->lock);
	clock = read_clock(time);
	if (freeze != clock.frozen) {
		if (freeze)
			clock.frozen_100ns = reference_time_100ns(partition);
		else
			set_offset(time, &clock, clock.frozen_100ns);
		clock.frozen = freeze;
		invalidate_page(time);
		set_clock(time, &clock);
		refresh_page(partition);
	}
	spin_unlock(&time->lock);
}

void reference_time_set(struct partition *partition, uint64_t time_100ns)
{
	struct reference_time *time = &partition->reference_time;
	struct clock clock;

	if (!time->scale)
		return;
	spin_lock(&time->lock);
	clock = read_clock(time);
	if (clock.frozen)
		clock.frozen_100ns = time_100ns;
	else
		set_offset(time, &clock, time_100ns);
	invalidate_page(time);
	set_clock(time, &clock);
	refresh_page(partition);
	spin_unlock(&time->lock);
}

bool reference_time_is_frozen(const struct partition *partition)
{
	return atomic_load_explicit(&partition->reference_time.frozen, memory_order_relaxed);
}

int hv_msr_read_time_ref_count(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = reference_time_100ns(vp->partition);
	return 0;
}

int hv_msr_read_reference_tsc(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = overlay_read_msr(&vp->partition->reference_time.page);
	return 0;
}

int hv_msr_write_reference_tsc(struct vp *vp, uint32_t msr, uint64_t value)
{
	(void)msr;
	return overlay_write_msr(vp->partition, vp, &vp->partition->reference_time.page, value);
}
