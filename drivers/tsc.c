/* SPDX-License-Identifier: MIT */
/*
 * Measuring the TSC and the local APIC timer. A window of 10 ms lies between two samples; a sample reads
 * the reference clock and the APIC timer between TSC reads, so its width bounds its error. Every wait ends: by clock, by
 * TSC ticks, or because the reference does not move.
 */
#include <errno.h>
#include <trivet/io.h>
#include <trivet/tsc.h>

#define PM_TIMER_HZ 3579545u /* ACPI 6.5 4.8.3.3 */
#define PIT_HZ 1193182u
#define PIT_COUNTER2 0x42
#define PIT_COMMAND 0x43
#define PIT_LATCH_2 0x80
#define PIT_2_MODE_0 0xb0 /* both bytes, count down once */
#define PORT_61 0x61
#define PORT_61_GATE 0x01
#define PORT_61_SPEAKER 0x02
#define PORT_61_OUT 0x20 /* counter 2 has run out */

#define WINDOWS_PER_SECOND 100u
#define ATTEMPTS 5u
#define GOOD_ATTEMPTS 2u
#define SAMPLE_TRIES 16u
#define GOOD_ERROR_PPM 1000u
#define STUCK_READS 1000u
#define POLLS_MAX 10000000u
/* More TSC ticks than any window may take, stolen time included: a reference counter could have wrapped. */
#define WINDOW_TICKS_MAX BIT(30)
#define TSC_HZ_MIN 1000000ull
#define TSC_HZ_MAX 100000000000ull

/* The clock to compare with; without one (CPUID told the frequency) the TSC itself measures the window. */
struct reference {
	uint32_t source;
	uint32_t mask;
	uint64_t hz;
	uint16_t port;
};

struct sample {
	uint64_t reference_tsc; /* the TSC when `reference` was read, and so on */
	uint64_t apic_tsc;
	uint64_t width; /* TSC ticks from before to after */
	uint32_t reference;
	uint32_t apic;
};

static uint32_t reference_read(const struct reference *r)
{
	uint32_t low, high;

	switch (r->source) {
	case TSC_SOURCE_PM_TIMER:
		return in32(r->port) & r->mask;
	case TSC_SOURCE_PIT:
		out8(PIT_COMMAND, PIT_LATCH_2);
		low = in8(PIT_COUNTER2);
		high = in8(PIT_COUNTER2);
		return (0u - (high << 8 | low)) & r->mask; /* it counts down */
	default:
		return 0;
	}
}

static struct sample sample_once(const struct reference *r, const struct lapic *l)
{
	uint64_t before, between, after;
	struct sample s = { 0 };

	before = rdtsc_ordered();
	s.reference = reference_read(r);
	between = rdtsc_ordered();
	if (l)
		s.apic = lapic_read(l, LAPIC_TIMER_CURRENT);
	after = rdtsc_ordered();
	s.reference_tsc = before + (between - before) / 2;
	s.apic_tsc = between + (after - between) / 2;
	s.width = after - before;
	return s;
}

static struct sample sample_best(const struct reference *r, const struct lapic *l)
{
	struct sample best = sample_once(r, l);

	for (uint32_t i = 1; i < SAMPLE_TRIES; i++) {
		struct sample s = sample_once(r, l);

		if (s.width < best.width)
			best = s;
	}
	return best;
}

static int wait_window(const struct reference *r, const struct sample *start)
{
	uint64_t ticks = r->hz / WINDOWS_PER_SECOND;
	uint32_t last = start->reference, same = 0;

	for (uint32_t i = 0; i < POLLS_MAX; i++) {
		uint64_t passed = rdtsc_ordered() - start->reference_tsc;
		uint32_t now;

		if (r->source == TSC_SOURCE_CPUID) {
			if (passed >= ticks)
				return 0;
			cpu_relax();
			continue;
		}
		now = reference_read(r);
		if (((now - start->reference) & r->mask) >= ticks)
			return 0;
		same = now == last ? same + 1 : 0;
		last = now;
		if (same >= STUCK_READS || passed > WINDOW_TICKS_MAX)
			return -ENODEV;
	}
	return -ENODEV;
}

/* Counter 2 of the PIT, speaker off, counting down from 65,536 once: 55 ms. Returns port 61h as it was. */
static uint8_t pit_start(void)
{
	uint8_t before = in8(PORT_61);

	out8(PORT_61, (uint8_t)((before & ~PORT_61_SPEAKER) | PORT_61_GATE));
	out8(PIT_COMMAND, PIT_2_MODE_0);
	out8(PIT_COUNTER2, 0);
	out8(PIT_COUNTER2, 0);
	/* The counter takes its value with its next clock, within a microsecond. */
	for (uint32_t i = 0; i < 4; i++)
		(void)in8(PORT_61);
	return before;
}

/* One window. -EAGAIN: it was disturbed and says nothing. */
static int measure_window(const struct reference *r, const struct lapic *l, struct tsc_info *info)
{
	struct sample start = sample_best(r, l), end;
	uint64_t ticks, apic_ticks;
	int ret = wait_window(r, &start);

	if (ret)
		return ret;
	end = sample_best(r, l);
	ticks = end.reference_tsc - start.reference_tsc;
	if (r->source == TSC_SOURCE_CPUID) {
		info->tsc_hz = r->hz;
	} else {
		uint32_t passed = (end.reference - start.reference) & r->mask;

		if (!ticks || ticks > WINDOW_TICKS_MAX || !passed)
			return -EAGAIN;
		if (r->source == TSC_SOURCE_PIT && (in8(PORT_61) & PORT_61_OUT))
			return -EAGAIN;
		info->tsc_hz = ticks * r->hz / passed;
		if (info->tsc_hz < TSC_HZ_MIN || info->tsc_hz > TSC_HZ_MAX)
			return -EAGAIN;
	}
	/* Each sample is wrong by at most half its width. */
	info->error_ppm = ticks ? (uint32_t)((start.width + end.width) * 500000 / ticks) : 0;
	info->source = r->source;
	apic_ticks = end.apic_tsc - start.apic_tsc;
	/* 32 bits of timer ticks by 36 of frequency would not fit: both lose what is below a few parts per million. */
	info->apic_timer_hz = l && apic_ticks >> 4 ? (uint64_t)(start.apic - end.apic) * (info->tsc_hz >> 4) /
							     (apic_ticks >> 4) :
						     0;
	return 0;
}

/* Two windows if the first is poor; up to five if they are disturbed, when it was the host that took the time. */
static int measure(const struct reference *r, const struct lapic *l, struct tsc_info *info)
{
	int result = -ENODEV;
	uint32_t good = 0;

	for (uint32_t i = 0; i < ATTEMPTS && good < GOOD_ATTEMPTS; i++) {
		struct tsc_info found;
		uint8_t port_61 = 0;
		int ret;

		if (r->source == TSC_SOURCE_PIT)
			port_61 = pit_start();
		ret = measure_window(r, l, &found);
		if (r->source == TSC_SOURCE_PIT)
			out8(PORT_61, port_61);
		if (ret == -ENODEV)
			break;
		if (ret)
			continue;
		if (result || found.error_ppm < info->error_ppm)
			*info = found;
		result = 0;
		good++;
		if (info->error_ppm <= GOOD_ERROR_PPM)
			break;
	}
	return result;
}

/* SDM3 19.7.3. 0: the CPU does not say. */
static uint64_t cpuid_tsc_hz(void)
{
	uint32_t leaves = cpuid(0, 0).eax;
	struct cpuid_regs r;
	uint64_t hz;

	if (leaves < 0x15)
		return 0;
	r = cpuid(0x15, 0);
	if (!r.eax || !r.ebx)
		return 0;
	if (r.ecx)
		hz = (uint64_t)r.ecx * r.ebx / r.eax;
	else
		hz = leaves >= 0x16 ? (uint64_t)(cpuid(0x16, 0).eax & 0xffff) * 1000000 : 0;
	return hz < TSC_HZ_MIN || hz > TSC_HZ_MAX ? 0 : hz;
}

/* Tries the references, best first. The APIC timer counts down from the top, masked, meanwhile. */
static int measure_any(const struct lapic *l, uint16_t pm_timer_port, bool pm_timer_32bit,
		       struct tsc_info *info)
{
	struct reference r = { .source = TSC_SOURCE_CPUID, .hz = cpuid_tsc_hz() };

	if (r.hz) {
		*info = (struct tsc_info){ .tsc_hz = r.hz, .source = r.source };
		return l ? measure(&r, l, info) : 0;
	}
	if (pm_timer_port) {
		r = (struct reference){ .source = TSC_SOURCE_PM_TIMER,
					.hz = PM_TIMER_HZ,
					.mask = pm_timer_32bit ? UINT32_MAX : 0xffffff,
					.port = pm_timer_port };
		if (!measure(&r, l, info))
			return 0;
	}
	r = (struct reference){ .source = TSC_SOURCE_PIT, .hz = PIT_HZ, .mask = 0xffff };
	return measure(&r, l, info);
}

int tsc_calibrate(const struct lapic *l, uint16_t pm_timer_port, bool pm_timer_32bit, struct tsc_info *info)
{
	uint32_t lvt = 0, divide = 0, initial = 0;
	int ret;

	*info = (struct tsc_info){ 0 };
	if (l) {
		lvt = lapic_read(l, LAPIC_LVT_TIMER);
		divide = lapic_read(l, LAPIC_TIMER_DIVIDE);
		initial = lapic_read(l, LAPIC_TIMER_INITIAL);
		lapic_write(l, LAPIC_LVT_TIMER, LAPIC_LVT_MASKED | (lvt & 0xff));
		lapic_write(l, LAPIC_TIMER_DIVIDE, LAPIC_DIVIDE_BY_1);
		lapic_write(l, LAPIC_TIMER_INITIAL, UINT32_MAX);
	}
	ret = measure_any(l, pm_timer_port, pm_timer_32bit, info);
	if (l) {
		/* Stop first: with the old mode and divisor back, it must not fire from our count. */
		lapic_write(l, LAPIC_TIMER_INITIAL, 0);
		lapic_write(l, LAPIC_TIMER_DIVIDE, divide);
		lapic_write(l, LAPIC_LVT_TIMER, lvt);
		if (!(lvt & LAPIC_LVT_DEADLINE))
			lapic_write(l, LAPIC_TIMER_INITIAL, initial);
	}
	return ret;
}

const char *tsc_source_name(uint32_t source)
{
	switch (source) {
	case TSC_SOURCE_CPUID:
		return "cpuid";
	case TSC_SOURCE_PM_TIMER:
		return "pm timer";
	case TSC_SOURCE_PIT:
		return "pit";
	default:
		return "none";
	}
}
