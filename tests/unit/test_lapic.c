/* unit: drivers/lapic.c */
/* SPDX-License-Identifier: MIT */
/*
 * The physical local APIC driver in both modes, against registers modelled here. Every access
 * of the wrong kind (MMIO in x2APIC mode, an MSR in xAPIC mode, a register x2APIC lacks) fails the test.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <trivet/lapic.h>

static uint8_t page[4096];
static uint32_t regs[0x400 / 16]; /* by offset / 16 */
static uint64_t base_msr, deadline_msr, icr_msr;
static uint32_t icr_busy; /* reads until idle */
static uint32_t cpuid_1_ecx;
static uint32_t order[8], order_count; /* registers written */

static void note_write(uint32_t reg)
{
	if (order_count < ARRAY_SIZE(order))
		order[order_count++] = reg;
}

uint32_t mmio_read32(const volatile void *address)
{
	uint32_t reg;

	reg = (uint32_t)((const volatile uint8_t *)address - page);
	assert_false(base_msr & APIC_BASE_X2);
	assert_in_range(reg, 0x20, 0x3f0);
	assert_int_equal(reg % 16, 0);
	if (reg == LAPIC_ICR_LOW && icr_busy) {
		icr_busy -= icr_busy != UINT32_MAX;
		return regs[reg / 16] | LAPIC_ICR_BUSY;
	}
	return regs[reg / 16];
}

void mmio_write32(volatile void *address, uint32_t value)
{
	uint32_t reg;

	reg = (uint32_t)((volatile uint8_t *)address - page);
	assert_false(base_msr & APIC_BASE_X2);
	assert_in_range(reg, 0x20, 0x3f0);
	assert_int_equal(reg % 16, 0);
	regs[reg / 16] = value;
	note_write(reg);
}

uint64_t rdmsr(uint32_t msr)
{
	if (msr == MSR_APIC_BASE)
		return base_msr;
	assert_true(base_msr & APIC_BASE_X2);
	assert_in_range(msr, 0x802, 0x83e);
	assert_int_not_equal(msr, 0x80e);
	assert_int_not_equal(msr, 0x831);
	return regs[msr - 0x800];
}

void wrmsr(uint32_t msr, uint64_t value)
{
	if (msr == MSR_TSC_DEADLINE) {
		assert_true(regs[LAPIC_LVT_TIMER / 16] & LAPIC_LVT_DEADLINE);
		deadline_msr = value;
		return;
	}
	assert_true(base_msr & APIC_BASE_X2);
	if (msr == 0x830) {
		icr_msr = value;
		return;
	}
	assert_in_range(msr, 0x808, 0x83e);
	assert_int_equal(value >> 32, 0);
	regs[msr - 0x800] = (uint32_t)value;
	note_write((msr - 0x800) * 16);
}

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	assert_int_equal(leaf, 1);
	(void)subleaf;
	return (struct cpuid_regs){ .ecx = cpuid_1_ecx };
}

static int setup(void **state)
{
	(void)state;
	memset(regs, 0, sizeof(regs));
	base_msr = 0xfee00000 | APIC_BASE_EN | APIC_BASE_BSP;
	deadline_msr = 0x5555;
	icr_msr = 0;
	icr_busy = 0;
	cpuid_1_ecx = 0;
	order_count = 0;
	return 0;
}

static struct lapic xapic(void)
{
	struct lapic l;

	assert_int_equal(lapic_init(&l, page), 0);
	assert_false(l.x2apic);
	return l;
}

static struct lapic x2apic(void)
{
	struct lapic l;

	base_msr |= APIC_BASE_X2;
	assert_int_equal(lapic_init(&l, NULL), 0);
	assert_true(l.x2apic);
	return l;
}

static void test_init(void **state)
{
	struct lapic l;

	(void)state;
	xapic();
	assert_int_equal(lapic_init(&l, NULL), -EINVAL);
	x2apic();
	base_msr = 0xfee00000;
	assert_int_equal(lapic_init(&l, page), -ENODEV);
}

static void check_common(const struct lapic *l)
{
	regs[0x080 / 16] = 0x20;
	regs[0x280 / 16] = 4;
	lapic_enable(l, 0xff);
	assert_int_equal(regs[0x0f0 / 16], 0x1ff);
	assert_int_equal(regs[0x370 / 16] & LAPIC_LVT_MASKED, LAPIC_LVT_MASKED);
	assert_int_equal(regs[0x280 / 16], 0);
	assert_int_equal(regs[0x080 / 16], 0);
	assert_int_equal(order[0], LAPIC_SVR);

	regs[0x0b0 / 16] = 99;
	lapic_eoi(l);
	assert_int_equal(regs[0x0b0 / 16], 0);

	for (uint32_t v = 0; v < 256; v++) {
		memset(regs, 0, sizeof(regs));
		assert_false(lapic_is_in_service(l, (uint8_t)v));
		assert_false(lapic_is_level(l, (uint8_t)v));
		regs[0x100 / 16 + v / 32] = 1u << (v % 32);
		regs[0x180 / 16 + v / 32] = ~(1u << (v % 32));
		assert_true(lapic_is_in_service(l, (uint8_t)v));
		assert_false(lapic_is_level(l, (uint8_t)v));
		regs[0x180 / 16 + v / 32] = 1u << (v % 32);
		assert_true(lapic_is_level(l, (uint8_t)v));
	}
}

static void test_common(void **state)
{
	struct lapic l = xapic();

	(void)state;
	check_common(&l);
	setup(NULL);
	l = x2apic();
	check_common(&l);
}

static void test_icr(void **state)
{
	struct lapic l = xapic();

	(void)state;
	icr_busy = 5;
	assert_int_equal(lapic_icr(&l, 3, LAPIC_ICR_INIT | LAPIC_ICR_ASSERT | LAPIC_ICR_LEVEL), 0);
	assert_int_equal(icr_busy, 0);
	assert_int_equal(regs[0x310 / 16], 0x03000000);
	assert_int_equal(regs[0x300 / 16], 0xc500);
	assert_int_equal(order_count, 2);
	assert_int_equal(order[0], LAPIC_ICR_HIGH);
	assert_int_equal(order[1], LAPIC_ICR_LOW);
	icr_busy = UINT32_MAX; /* stuck */
	order_count = 0;
	assert_int_equal(lapic_icr(&l, 1, LAPIC_ICR_NMI), -ETIMEDOUT);
	assert_int_equal(order_count, 0);

	l = x2apic();
	assert_int_equal(lapic_icr(&l, 0x12345, LAPIC_ICR_SIPI | LAPIC_ICR_ASSERT | 0x9a), 0);
	assert_true(icr_msr == 0x000123450000469aull);
}

static void test_timer_oneshot(void **state)
{
	struct lapic l = xapic();

	(void)state;
	assert_int_equal(lapic_timer_init(&l, 0xec, 3000000000ull, 1000000000ull), 0);
	assert_false(l.tsc_deadline);
	assert_int_equal(regs[0x320 / 16], 0xec);
	assert_int_equal(regs[0x3e0 / 16], 0xb);
	assert_int_equal(regs[0x380 / 16], 0);
	lapic_timer_arm(&l, 777, 3000000);
	assert_in_range(regs[0x380 / 16], 999998, 1000000);
	lapic_timer_arm(&l, 777, 0);
	assert_int_equal(regs[0x380 / 16], 1);
	lapic_timer_arm(&l, 777, 1);
	assert_int_equal(regs[0x380 / 16], 1);
	lapic_timer_arm(&l, 777, 3ull * 0x1000000000);
	assert_int_equal(regs[0x380 / 16], UINT32_MAX);
	for (uint32_t shift = 36; shift < 64; shift++) {
		lapic_timer_arm(&l, 777, 1ull << shift);
		assert_int_equal(regs[0x380 / 16], UINT32_MAX);
	}
	lapic_timer_arm(&l, 777, UINT64_MAX);
	assert_int_equal(regs[0x380 / 16], UINT32_MAX);
	lapic_timer_disarm(&l);
	assert_int_equal(regs[0x380 / 16], 0);
	assert_int_equal(deadline_msr, 0x5555);

	/* A timer faster than the TSC, as under an emulator; and figures that can't be. */
	assert_int_equal(lapic_timer_init(&l, 0xec, 30000000, 1000000000), 0);
	lapic_timer_arm(&l, 0, 3000);
	assert_in_range(regs[0x380 / 16], 99999, 100000);
	assert_int_equal(lapic_timer_init(&l, 0xec, 1000000, 64000000), 0);
	lapic_timer_arm(&l, 0, 1ull << 58); /* the product is 2^64 ticks */
	assert_int_equal(regs[0x380 / 16], UINT32_MAX);
	assert_int_equal(lapic_timer_init(&l, 0xec, 0, 1000000000), -EINVAL);
	assert_int_equal(lapic_timer_init(&l, 0xec, 1000000000, 0), -EINVAL);
	assert_int_equal(lapic_timer_init(&l, 0xec, 1000000000, 1ull << 32), -EINVAL);
	assert_int_equal(lapic_timer_init(&l, 0xec, 1000, 4294967295u), -EINVAL);
	assert_int_equal(l.timer_mult, 0);
}

static void test_timer_deadline(void **state)
{
	struct lapic l = x2apic();

	(void)state;
	cpuid_1_ecx = 1u << 24;
	assert_int_equal(lapic_timer_init(&l, 0xec, 0, 0), 0);
	assert_true(l.tsc_deadline);
	assert_int_equal(regs[0x320 / 16], 0x400ec);
	assert_int_equal(deadline_msr, 0);
	lapic_timer_arm(&l, 1000, 234);
	assert_int_equal(deadline_msr, 1234);
	lapic_timer_arm(&l, 1000, UINT64_MAX - 5);
	assert_true(deadline_msr == UINT64_MAX);
	lapic_timer_disarm(&l);
	assert_int_equal(deadline_msr, 0);
	assert_int_equal(regs[0x380 / 16], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_init, setup),
		cmocka_unit_test_setup(test_common, setup),
		cmocka_unit_test_setup(test_icr, setup),
		cmocka_unit_test_setup(test_timer_oneshot, setup),
		cmocka_unit_test_setup(test_timer_deadline, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
