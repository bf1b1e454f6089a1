/* unit: drivers/tsc.c drivers/lapic.c */
/* SPDX-License-Identifier: MIT */
/*
 * Calibration on a modelled machine: one true time in picoseconds moves with every access, and TSC, PM timer, PIT and
 * APIC timer are read off it. The machine can lose time between any two accesses (as under a busy emulator), and each
 * clock can be absent, stuck or wrap.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <trivet/tsc.h>

#define PM_PORT 0x608
#define SECOND_PS 1000000000000ull

static struct {
	uint64_t ps;
	uint64_t access_ps; /* cost of an I/O access */
	uint64_t tsc_hz, apic_hz;
	bool pm_present, pm_stuck, pit_present;
	uint32_t pm_mask;
	uint64_t pm_offset_ticks;
	uint32_t steal_one_in; /* accesses; 0: never */
	uint64_t steal_ps;
	uint8_t port_61;
	uint32_t cpuid_max, c15_eax, c15_ebx, c15_ecx, c16_eax;
	uint64_t pit_start_ps;
	uint32_t pit_latched, pit_reads;
	uint32_t lvt, divide, initial;
	uint64_t apic_start_ps;
	uint64_t accesses;
} m;

/* Ticks of a clock of `hz` in `ps`: without overflow for hours. */
static uint64_t ticks(uint64_t ps, uint64_t hz)
{
	return (uint64_t)((unsigned __int128)ps * hz / SECOND_PS);
}

static void pass(uint64_t ps)
{
	m.ps += ps;
	m.accesses++;
	assert_true(m.accesses < 60000000);
	if (m.steal_one_in && (uint32_t)rand() % m.steal_one_in == 0)
		m.ps += m.steal_ps;
}

uint64_t rdtsc(void)
{
	pass(8000);
	return 12345 + ticks(m.ps, m.tsc_hz);
}

uint64_t rdtsc_ordered(void)
{
	return rdtsc();
}

uint32_t in32(uint16_t port)
{
	uint64_t now;

	assert_int_equal(port, PM_PORT);
	pass(m.access_ps / 2);
	now = m.pm_offset_ticks + ticks(m.ps, 3579545);
	pass(m.access_ps / 2);
	if (!m.pm_present)
		return UINT32_MAX;
	return m.pm_stuck ? 0x123456 : (uint32_t)now & m.pm_mask;
}

uint8_t in8(uint16_t port)
{
	pass(m.access_ps);
	if (!m.pit_present)
		return 0xff;
	if (port == 0x61) {
		bool out = ticks(m.ps - m.pit_start_ps, 1193182) >= 65536;

		return (uint8_t)(m.port_61 | (out ? 0x20 : 0));
	}
	assert_int_equal(port, 0x42);
	return (uint8_t)(m.pit_latched >> (8 * (m.pit_reads++ & 1)));
}

void out8(uint16_t port, uint8_t value)
{
	pass(m.access_ps);
	if (port == 0x61) {
		m.port_61 = value & 0x0f;
	} else if (port == 0x43 && value == 0x80) {
		m.pit_latched = (uint32_t)(0 - ticks(m.ps - m.pit_start_ps, 1193182)) & 0xffff;
		m.pit_reads = 0;
	} else if (port == 0x43) {
		assert_int_equal(value, 0xb0);
		assert_int_equal(m.port_61 & 3, 1); /* gate on, speaker off */
	} else {
		assert_int_equal(port, 0x42);
		assert_int_equal(value, 0);
		m.pit_start_ps = m.ps;
	}
}

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	assert_int_equal(subleaf, 0);
	if (leaf == 0)
		return (struct cpuid_regs){ .eax = m.cpuid_max };
	assert_in_range(leaf, 0x15, m.cpuid_max);
	if (leaf == 0x15)
		return (struct cpuid_regs){ m.c15_eax, m.c15_ebx, m.c15_ecx, 0 };
	return (struct cpuid_regs){ .eax = m.c16_eax };
}

static uint8_t page[4096];

uint32_t mmio_read32(const volatile void *address)
{
	uint64_t passed;

	pass(m.access_ps / 2);
	switch ((const volatile uint8_t *)address - page) {
	case LAPIC_LVT_TIMER:
		return m.lvt;
	case LAPIC_TIMER_DIVIDE:
		return m.divide;
	case LAPIC_TIMER_INITIAL:
		return m.initial;
	case LAPIC_TIMER_CURRENT:
		assert_int_equal(m.divide, LAPIC_DIVIDE_BY_1);
		assert_true(m.lvt & LAPIC_LVT_MASKED);
		passed = ticks(m.ps - m.apic_start_ps, m.apic_hz);
		return passed > m.initial ? 0 : (uint32_t)(m.initial - passed);
	default:
		fail();
		return 0;
	}
}

void mmio_write32(volatile void *address, uint32_t value)
{
	pass(m.access_ps / 2);
	switch ((volatile uint8_t *)address - page) {
	case LAPIC_LVT_TIMER:
		m.lvt = value;
		break;
	case LAPIC_TIMER_DIVIDE:
		m.divide = value;
		break;
	case LAPIC_TIMER_INITIAL:
		m.initial = value;
		m.apic_start_ps = m.ps;
		break;
	default:
		fail();
	}
}

uint64_t rdmsr(uint32_t msr)
{
	assert_int_equal(msr, MSR_APIC_BASE);
	return 0xfee00000 | APIC_BASE_EN;
}

void wrmsr(uint32_t msr, uint64_t value)
{
	fail_msg("wrmsr %x %llx", msr, (unsigned long long)value);
}

static struct lapic lapic;
static uint64_t elapsed_ps;

static int setup(void **state)
{
	const char *env = getenv("SEED");
	unsigned int seed = env ? (unsigned int)strtoul(env, NULL, 0) : 20262u;

	(void)state;
	memset(&m, 0, sizeof(m));
	m.access_ps = 1000000; /* 1 us */
	m.tsc_hz = 2994374000ull;
	m.apic_hz = 99812345;
	m.pm_present = true;
	m.pit_present = true;
	m.pm_mask = 0xffffff;
	m.cpuid_max = 0xd;
	m.port_61 = 0x0c;
	m.lvt = 0x20055;
	m.divide = 3;
	m.initial = 777;
	print_message("SEED=%u\n", seed);
	srand(seed);
	return lapic_init(&lapic, page);
}

static void assert_near(uint64_t got, uint64_t want, uint64_t ppm)
{
	uint64_t off = got > want ? got - want : want - got;

	if (off * 1000000 > want * ppm)
		fail_msg("%llu is not within %llu ppm of %llu", (unsigned long long)got,
			 (unsigned long long)ppm, (unsigned long long)want);
}

static void calibrate(struct tsc_info *info, uint32_t source, uint64_t ppm)
{
	uint64_t start = m.ps;

	assert_int_equal(tsc_calibrate(&lapic, PM_PORT, m.pm_mask == UINT32_MAX, info), 0);
	assert_int_equal(info->source, source);
	assert_near(info->tsc_hz, m.tsc_hz, ppm);
	assert_near(info->apic_timer_hz, m.apic_hz, ppm);
	elapsed_ps = m.ps - start;
	if (!m.steal_one_in)
		assert_true(elapsed_ps < SECOND_PS / 40); /* 25 ms */
	assert_int_equal(m.lvt, 0x20055);
	assert_int_equal(m.divide, 3);
	assert_int_equal(m.initial, 777);
	assert_int_equal(m.port_61, 0x0c);
}

static void test_pm_timer(void **state)
{
	struct tsc_info info;

	(void)state;
	calibrate(&info, TSC_SOURCE_PM_TIMER, 100);
	assert_in_range(info.error_ppm, 1, 400);
	m.pm_mask = UINT32_MAX;
	calibrate(&info, TSC_SOURCE_PM_TIMER, 100);
	m.access_ps = 20000; /* an emulator that counts instructions: everything is quick */
	m.tsc_hz = m.apic_hz = 1000000000;
	calibrate(&info, TSC_SOURCE_PM_TIMER, 60);
	m.tsc_hz = 30000000; /* and a slow one */
	calibrate(&info, TSC_SOURCE_PM_TIMER, 100);
}

static void test_pm_timer_wraps(void **state)
{
	struct tsc_info info;

	(void)state;
	for (uint32_t back = 0; back < 40000; back += 1777) {
		m.pm_mask = 0xffffff;
		m.pm_offset_ticks = 0x1000000 - back - ticks(m.ps, 3579545) % 0x1000000;
		calibrate(&info, TSC_SOURCE_PM_TIMER, 100);
		assert_in_range(elapsed_ps, SECOND_PS / 100, SECOND_PS / 80); /* one whole window */
		m.pm_mask = UINT32_MAX;
		m.pm_offset_ticks = 0x100000000ull - back - ticks(m.ps, 3579545);
		calibrate(&info, TSC_SOURCE_PM_TIMER, 100);
	}
}

static void test_pit(void **state)
{
	struct tsc_info info;

	(void)state;
	m.pm_present = false;
	calibrate(&info, TSC_SOURCE_PIT, 200);
	m.pm_present = true;
	m.pm_stuck = true;
	calibrate(&info, TSC_SOURCE_PIT, 200);
	m.pm_stuck = false;
	assert_int_equal(tsc_calibrate(&lapic, 0, false, &info), 0);
	assert_int_equal(info.source, TSC_SOURCE_PIT);
	assert_near(info.tsc_hz, m.tsc_hz, 200);
}

static void test_nothing_works(void **state)
{
	struct tsc_info info;

	(void)state;
	m.pm_stuck = true;
	m.pit_present = false;
	assert_int_equal(tsc_calibrate(&lapic, PM_PORT, false, &info), -ENODEV);
	assert_true(m.ps < SECOND_PS / 40);
	assert_int_equal(m.lvt, 0x20055);
	assert_int_equal(m.initial, 777);
	m.tsc_hz = 0; /* the TSC stands still */
	m.pm_stuck = false;
	m.pit_present = true;
	assert_int_equal(tsc_calibrate(&lapic, PM_PORT, false, &info), -ENODEV);
}

/* Half of all samples lose 1 ms: the narrowest of 16 is still good. */
static void test_stolen_time(void **state)
{
	struct tsc_info info;

	(void)state;
	for (int i = 0; i < 200; i++) {
		m.steal_one_in = 6;
		m.steal_ps = SECOND_PS / 1000;
		calibrate(&info, TSC_SOURCE_PM_TIMER, 200);
	}
	for (int i = 0; i < 200; i++) { /* now and then a long stop, longer than the PIT counts */
		m.steal_one_in = 200000;
		m.steal_ps = SECOND_PS / 10;
		m.pm_present = false;
		calibrate(&info, TSC_SOURCE_PIT, 300);
	}
}

static void test_cpuid(void **state)
{
	struct tsc_info info;

	(void)state;
	m.cpuid_max = 0x16;
	m.c15_eax = 2;
	m.c15_ebx = 250;
	m.c15_ecx = 24000000;
	m.tsc_hz = 3000000000;
	m.apic_hz = 24000000;
	calibrate(&info, TSC_SOURCE_CPUID, 200);
	assert_true(info.tsc_hz == 3000000000);
	m.c15_ecx = 0;
	m.c16_eax = 3000;
	calibrate(&info, TSC_SOURCE_CPUID, 200);
	m.cpuid_max = 0x15; /* no crystal frequency and no 0x16 */
	calibrate(&info, TSC_SOURCE_PM_TIMER, 100);
	m.cpuid_max = 0x16;
	m.c15_ebx = 0;
	calibrate(&info, TSC_SOURCE_PM_TIMER, 100);
	m.c15_ebx = UINT32_MAX; /* nonsense */
	m.c15_ecx = UINT32_MAX;
	calibrate(&info, TSC_SOURCE_PM_TIMER, 100);
}

static void test_without_apic(void **state)
{
	struct tsc_info info;

	(void)state;
	assert_int_equal(tsc_calibrate(NULL, PM_PORT, false, &info), 0);
	assert_near(info.tsc_hz, m.tsc_hz, 100);
	assert_int_equal(info.apic_timer_hz, 0);
	m.cpuid_max = 0x15;
	m.c15_eax = 1;
	m.c15_ebx = 100;
	m.c15_ecx = 25000000;
	assert_int_equal(tsc_calibrate(NULL, PM_PORT, false, &info), 0);
	assert_true(info.tsc_hz == 2500000000ull);
	assert_int_equal(m.initial, 777);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(tsc_source_name(TSC_SOURCE_CPUID), "cpuid");
	assert_string_equal(tsc_source_name(TSC_SOURCE_PM_TIMER), "pm timer");
	assert_string_equal(tsc_source_name(TSC_SOURCE_PIT), "pit");
	assert_string_equal(tsc_source_name(0), "none");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_pm_timer, setup),
		cmocka_unit_test_setup(test_pm_timer_wraps, setup),
		cmocka_unit_test_setup(test_pit, setup),
		cmocka_unit_test_setup(test_nothing_works, setup),
		cmocka_unit_test_setup(test_stolen_time, setup),
		cmocka_unit_test_setup(test_cpuid, setup),
		cmocka_unit_test_setup(test_without_apic, setup),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
