/* SPDX-License-Identifier: MIT */
/*
 * Spinlocks, and the one list of their ranks. A processor takes locks in rising rank only; debug builds check it.
 * Nothing on the exit path takes one: they are for set-up, second-stage changes and the log.
 */
#ifndef TRIVET_LOCK_H
#define TRIVET_LOCK_H

#include <stdatomic.h>
#include <trivet/types.h>

enum lock_rank {
	LOCK_RANK_PARTITIONS = 1, /* the life of children */
	LOCK_RANK_BORROW = 2,	  /* a VP that its parent looks at; held while its LP stops it */
	LOCK_RANK_PARTITION = 3,  /* a partition's GPA space */
	LOCK_RANK_HOST_PAGING = 4,
	LOCK_RANK_PARTITION_TABLE = 4,	 /* partitions by number */
	LOCK_RANK_DEVICE_INTERRUPTS = 4, /* a partition's device interrupts */
	LOCK_RANK_PORTS = 4,		 /* a partition's ports and connections */
	LOCK_RANK_REFERENCE_TIME = 4,	 /* a partition's clock: two words and its page */
	LOCK_RANK_STATISTICS = 4,	 /* pages of counters: which are mapped, while they are filled */
	LOCK_RANK_CPUID = 4,		 /* CPUID results registered for a partition */
	LOCK_RANK_INTERCEPTS = 4,	 /* what its parent wants to see of a partition */
	LOCK_RANK_POOL = 5,		 /* page pools; nothing but the log below it */
	LOCK_RANK_DEPOSIT = 5,		 /* the same of what was deposited for a partition */
};

struct spinlock {
	atomic_flag held;
	uint8_t rank; /* enum lock_rank */
};

#define SPINLOCK_INIT(r)                              \
	{                                             \
		.held = ATOMIC_FLAG_INIT, .rank = (r) \
	}

#ifdef TRIVET_DEBUG
/* Panics when the caller already holds a lock of this or a higher rank. */
void lock_rank_enter(enum lock_rank rank);
void lock_rank_leave(enum lock_rank rank);
#else
static inline void lock_rank_enter(enum lock_rank rank)
{
	(void)rank;
}
static inline void lock_rank_leave(enum lock_rank rank)
{
	(void)rank;
}
#endif

static inline void spin_lock(struct spinlock *lock)
{
	lock_rank_enter((enum lock_rank)lock->rank);
	while (atomic_flag_test_and_set_explicit(&lock->held, memory_order_acquire))
		__builtin_ia32_pause();
}

/* False: somebody holds it. */
static inline bool spin_trylock(struct spinlock *lock)
{
	if (atomic_flag_test_and_set_explicit(&lock->held, memory_order_acquire))
		return false;
	lock_rank_enter((enum lock_rank)lock->rank);
	return true;
}

static inline void spin_unlock(struct spinlock *lock)
{
	atomic_flag_clear_explicit(&lock->held, memory_order_release);
	lock_rank_leave((enum lock_rank)lock->rank);
}

#endif
