/* SPDX-License-Identifier: MIT */
/*
 * Which LP a VP of a child's runs on. It moves when it wakes, if another LP has less to do, and while it waits, when an LP that has nothing to
 * do, or less, asks for one. The choice is the policy's (sched_place, sched_steal); only a VP's own LP gives it away, so nothing here
 * takes a lock. The root's VPs stay where they are.
 */
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#define CANDIDATES 3u
#define ASK_HZ 20u /* how often a busy LP looks whether another one has more to do */

/* xorshift64; which LP is asked needs no better. */
static uint64_t draw(struct lp *lp)
{
	uint64_t x = lp->random ? lp->random : 0x9e3779b97f4a7c15ull + lp->index;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	lp->random = x;
	return x;
}

/* Another LP, which is up; NULL: the one that was drawn isn't. */
static struct lp *draw_other(struct lp *lp)
{
	uint32_t index = (lp->index + 1 + (uint32_t)(draw(lp) % (lp_count - 1))) % lp_count;
	struct lp *other = lp_table[index];

	return atomic_load_explicit(&other->state, memory_order_relaxed) == LP_ONLINE ? other : NULL;
}

struct lp *vp_choose_lp(struct vp *vp)
{
	struct lp *lp = vp->lp, *candidates[CANDIDATES];
	uint64_t loads[CANDIDATES];
	unsigned int count = 0;
	int choice;

	if (lp_count == 1 || vp->sched.pinned)
		return lp;
	for (unsigned int i = 0; i < CANDIDATES; i++) {
		struct lp *other = draw_other(lp);

		if (other) {
			candidates[count] = other;
			loads[count++] = sched_load(&other->sched);
		}
	}
	choice = count ? sched_place(&vp->sched, sched_load(&lp->sched), loads, count) : -1;
	return choice < 0 ? lp : candidates[choice];
}

void placement_ask(struct lp *lp)
{
	uint64_t clock = lp_clock();
	struct lp *other;

	if (lp_count == 1 || clock < lp->ask_at_clock)
		return;
	lp->ask_at_clock = clock + lp_tsc_hz() / ASK_HZ;
	other = draw_other(lp);
	if (!other || sched_load(&other->sched) <= sched_load(&lp->sched))
		return;
	atomic_store_explicit(&other->asked_by, lp, memory_order_release);
	lp_kick(other);
}

struct vp *placement_answer(struct lp *lp, struct lp **thief)
{
	struct sched_vp *given = NULL;

	*thief = atomic_exchange_explicit(&lp->asked_by, NULL, memory_order_acquire);
	if (*thief)
		given = sched_steal(&lp->sched, sched_load(&(*thief)->sched), lp_clock());
	return given ? container_of(given, struct vp, sched) : NULL;
}

/* Where there is least to do, of the LPs that are up. */
void vp_place(struct vp *vp)
{
	struct lp *best = this_lp();
	const struct sched_params params = { .weight = SCHED_WEIGHT_DEFAULT };

	for (uint32_t i = 0; i < lp_count; i++)
		if (atomic_load(&lp_table[i]->state) == LP_ONLINE &&
		    sched_load(&lp_table[i]->sched) < sched_load(&best->sched))
			best = lp_table[i];
	sched_vp_init(&vp->sched, &params);
	vp->lp = best;
}
