/* unit: core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: posting from other LPs. Two threads post as fast as they can while the owner syncs; every
 * post must be followed by a delivery of its vector, with its trigger mode, and a kick must never be missing.
 */
#include "apic_fake.h"

#include <pthread.h>
#include <unistd.h>

#define ROUNDS 250000u

static struct apic apic;

/* One poster per thread; a vector is posted again only after the owner has seen the last one. */
static struct poster {
	uint8_t first;
	bool level;
	_Atomic uint32_t sent[32], seen[32];
	_Atomic uint32_t kicks;
	_Atomic bool finished;
} posters[2] = { { .first = 0x40, .level = false }, { .first = 0x60, .level = true } };

static void *post_all(void *arg)
{
	struct poster *p = arg;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned int n = (i * 7) % 32;

		while (atomic_load(&p->seen[n]) != atomic_load(&p->sent[n]))
			sched_yield();
		atomic_fetch_add(&p->sent[n], 1);
		if (apic_post(&apic, (uint8_t)(p->first + n), p->level))
			atomic_fetch_add(&p->kicks, 1);
	}
	atomic_store(&p->finished, true);
	return NULL;
}

static void deliver(int vector)
{
	struct poster *p = &posters[vector >= 0x60];
	unsigned int n = (unsigned int)vector - p->first, level_eois = fake.level_eois;

	assert_in_range(n, 0, 31);
	assert_int_equal(atomic_load(&p->seen[n]) + 1, atomic_load(&p->sent[n]));
	apic_take(&apic, (uint8_t)vector);
	apic_eoi(&apic);
	assert_int_equal(fake.level_eois, level_eois + p->level);
	atomic_fetch_add(&p->seen[n], 1);
}

static void hammered(void **state)
{
	pthread_t threads[2];
	bool last = false;
	uint32_t total = 0;
	int vector;

	(void)state;
	fake_init_enabled(&apic, 0, true);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_all, &posters[i]), 0);
	for (;;) {
		last = atomic_load(&posters[0].finished) && atomic_load(&posters[1].finished);
		apic_sync_posted(&apic);
		while ((vector = apic_next_vector(&apic)) >= 0)
			deliver(vector);
		if (last)
			break;
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		for (int n = 0; n < 32; n++) {
			assert_int_equal(posters[i].sent[n], posters[i].seen[n]);
			total += posters[i].seen[n];
		}
	}
	assert_int_equal(total, 2 * ROUNDS);
	assert_in_range(posters[0].kicks + posters[1].kicks, 1, 2 * ROUNDS);
}

/* The owner looks only when kicked: it must not need anything else. */
static _Atomic bool rung;

static void *post_and_kick(void *arg)
{
	struct poster *p = arg;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned int n = i % 32;

		while (atomic_load(&p->seen[n]) != atomic_load(&p->sent[n]))
			sched_yield();
		atomic_fetch_add(&p->sent[n], 1);
		if (apic_post(&apic, (uint8_t)(p->first + n), p->level))
			atomic_store(&rung, true);
	}
	return NULL;
}

static void kicks_suffice(void **state)
{
	pthread_t threads[2];
	uint32_t total = 0;
	int vector;

	(void)state;
	fake_init_enabled(&apic, 0, true);
	memset(posters[0].sent, 0, sizeof(posters[0].sent));
	memset(posters[1].sent, 0, sizeof(posters[1].sent));
	memset(posters[0].seen, 0, sizeof(posters[0].seen));
	memset(posters[1].seen, 0, sizeof(posters[1].seen));
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_and_kick, &posters[i]), 0);
	alarm(60); /* a lost kick would wait for ever */
	while (total < 2 * ROUNDS) {
		if (!atomic_exchange(&rung, false))
			continue;
		apic_sync_posted(&apic);
		for (; (vector = apic_next_vector(&apic)) >= 0; total++)
			deliver(vector);
	}
	alarm(0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(total, 2 * ROUNDS);
}

static void alone(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 0, false);
	assert_true(apic_post(&apic, 0xff, false));
	assert_true(apic_post(&apic, 0x80, true)); /* a notification of the one before doesn't cover it */
	assert_false(apic_post(&apic, 3, false));  /* illegal: found at the border of the owner */
	assert_int_equal(apic_next_vector(&apic), -1);
	apic_sync_posted(&apic);
	assert_int_equal(apic_next_vector(&apic), 0xff);
	assert_int_equal(apic_vectors(&apic, APIC_REG_TMR, 2), 1);
	assert_int_equal(apic_vectors(&apic, APIC_REG_TMR, 3), 0);
	wr(&apic, APIC_REG_ESR, 0);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0x40);
	assert_true(apic_post(&apic, 0x80, false));
	apic_sync_posted(&apic);
	assert_int_equal(apic_vectors(&apic, APIC_REG_TMR, 2), 0);
	wr(&apic, APIC_REG_SVR, 0xff);
	assert_true(apic_post(&apic, 0x90, false));
	apic_sync_posted(&apic);
	assert_int_equal(rd(&apic, APIC_REG_IRR + 0x40), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alone),
		cmocka_unit_test(hammered),
		cmocka_unit_test(kicks_suffice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
