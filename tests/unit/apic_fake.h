/* SPDX-License-Identifier: MIT */
/*
 * The surroundings of a local APIC model under test: a clock that stands still until told, and a record of
 * what the model asked for.
 */
#ifndef TRIVET_TESTS_APIC_FAKE_H
#define TRIVET_TESTS_APIC_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <trivet/apic.h>

static struct {
	uint64_t now_tsc;
	unsigned int ipis;
	struct apic_ipi ipi; /* the last one */
	unsigned int level_eois;
	uint8_t level_vector;
	unsigned int timer_changes;
	unsigned int lvt_changes[APIC_LVT_COUNT];
	uint32_t lvt_value[APIC_LVT_COUNT];
	unsigned int mode_changes;
	bool reenter; /* call back into the model from each request */
} fake;

/* Of the one APIC under test. */
static struct apic_page fake_page;

static void fake_reenter(struct apic *apic)
{
	if (!fake.reenter)
		return;
	apic_sync_posted(apic);
	apic_accept(apic, 0x31, true);
}

void apic_host_send_ipi(struct apic *apic, const struct apic_ipi *ipi)
{
	fake.ipis++;
	fake.ipi = *ipi;
	fake_reenter(apic);
}

void apic_host_level_eoi(struct apic *apic, uint8_t vector)
{
	fake.level_eois++;
	fake.level_vector = vector;
	fake_reenter(apic);
}

void apic_host_timer_changed(struct apic *apic)
{
	fake.timer_changes++;
	fake_reenter(apic);
}

void apic_host_lvt_changed(struct apic *apic, enum apic_lvt which, uint32_t value)
{
	fake.lvt_changes[which]++;
	fake.lvt_value[which] = value;
	fake_reenter(apic);
}

void apic_host_mode_changed(struct apic *apic)
{
	fake.mode_changes++;
	fake_reenter(apic);
}

uint64_t apic_host_now_tsc(struct apic *apic)
{
	(void)apic;
	return fake.now_tsc;
}

/* 16 TSC ticks to a timer tick: exact in both directions. */
static inline struct apic_config fake_config(uint32_t id)
{
	struct apic_config config = {
		.apic_id = id,
		.bsp = id == 0,
		.x2apic = true,
		.tsc_deadline = true,
		.version = 0x14,
		.max_lvt = 6,
		.phys_bits = 40,
		.min_period_tsc = 1,
	};

	assert_int_equal(apic_clock_init(&config.clock, 100000000, 1600000000), 0);
	return config;
}

static inline void fake_init(struct apic *apic, uint32_t id)
{
	struct apic_config config = fake_config(id);

	memset(&fake, 0, sizeof(fake));
	fake.now_tsc = 1000000;
	assert_int_equal(apic_init(apic, &config, &fake_page), 0);
}

/* Through power-up, xAPIC, x2APIC, with the APIC enabled by SVR. */
static inline void fake_init_enabled(struct apic *apic, uint32_t id, bool x2)
{
	fake_init(apic, id);
	if (x2)
		assert_int_equal(apic_base_write(apic, apic_base_read(apic) | APIC_BASE_X2), 0);
	if (x2)
		assert_int_equal(apic_msr_write(apic, 0x80f, 0x1ff), 0);
	else
		assert_int_equal(apic_mmio_write(apic, APIC_REG_SVR, 4, 0x1ff), 0);
	fake.mode_changes = 0;
}

static inline uint64_t fake_seed(void)
{
	const char *env = getenv("SEED");

	return env ? strtoull(env, NULL, 0) : 0x7472697665740001ull;
}

static inline uint64_t fake_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline uint64_t rd(struct apic *apic, uint32_t reg)
{
	uint64_t value = 0x5a5a5a5a5a5a5a5aull;

	if (apic->x2)
		assert_int_equal(apic_msr_read(apic, 0x800 + reg / 16, &value), 0);
	else
		assert_int_equal(apic_mmio_read(apic, reg, 4, &value), 0);
	return value;
}

static inline void wr(struct apic *apic, uint32_t reg, uint64_t value)
{
	if (apic->x2)
		assert_int_equal(apic_msr_write(apic, 0x800 + reg / 16, value), 0);
	else
		assert_int_equal(apic_mmio_write(apic, reg, 4, value), 0);
}

#endif
