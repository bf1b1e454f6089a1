/* SPDX-License-Identifier: MIT */
/*
 * Registers of the guest that neither VM entry nor exit switches, and that the hypervisor doesn't use: in the processor they are those of the
 * VP that runs here, or ran last. Host tests fake these, as those of io.h.
 */
#ifndef TRIVET_LIVE_REGISTERS_H
#define TRIVET_LIVE_REGISTERS_H

#include <hv/types.h>
#include <trivet/io.h>
#include <trivet/safe_msr.h>

/* What FXSAVE64 writes (SDM1 table 10-2, 64-bit mode with REX.W). */
struct fx_area {
	uint16_t fcw, fsw;
	uint8_t ftw; /* a bit per register: not empty */
	uint8_t reserved;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	struct hv_u128 st[8], xmm[16];
	uint8_t rest[96];
} __attribute__((aligned(16)));
static_assert(sizeof(struct fx_area) == 512, "SDM1 10.5.1");
static_assert(offsetof(struct fx_area, xmm) == 160, "SDM1 table 10-2");

/*
 * The one place that changes the guest's x87 and SSE state (scripts/check-image.py knows it by its name). The reserved bits of `area->mxcsr`
 * are clear: otherwise this faults. In vp_registers_live.c.
 */
void load_fx(const struct fx_area *area);

#ifdef TRIVET_HOST_TEST

uint64_t read_dr(unsigned int index);
void write_dr(unsigned int index, uint64_t value);
bool read_xcr0(uint64_t *value);
bool write_xcr0(uint64_t value);
void save_fx(struct fx_area *area);
uint64_t get_xcr0(void);
void set_xcr0(uint64_t value);
void save_extended(struct fx_area *area, uint64_t mask);
void load_extended(const struct fx_area *area, uint64_t mask);
void forget_x87_pointers(void);

#else

/* DR0 to DR3 and DR6. */
static inline uint64_t read_dr(unsigned int index)
{
	uint64_t value;

	switch (index) {
	case 0:
		__asm__ volatile("movq %%dr0, %0" : "=r"(value));
		return value;
	case 1:
		__asm__ volatile("movq %%dr1, %0" : "=r"(value));
		return value;
	case 2:
		__asm__ volatile("movq %%dr2, %0" : "=r"(value));
		return value;
	case 3:
		__asm__ volatile("movq %%dr3, %0" : "=r"(value));
		return value;
	default:
		__asm__ volatile("movq %%dr6, %0" : "=r"(value));
		return value;
	}
}

/* No breakpoint is on: DR7 is the hypervisor's after a VM exit. */
static inline void write_dr(unsigned int index, uint64_t value)
{
	switch (index) {
	case 0:
		__asm__ volatile("movq %0, %%dr0" ::"r"(value));
		return;
	case 1:
		__asm__ volatile("movq %0, %%dr1" ::"r"(value));
		return;
	case 2:
		__asm__ volatile("movq %0, %%dr2" ::"r"(value));
		return;
	case 3:
		__asm__ volatile("movq %0, %%dr3" ::"r"(value));
		return;
	default:
		__asm__ volatile("movq %0, %%dr6" ::"r"(value));
		return;
	}
}

#define LIVE_CR4_OSXSAVE BIT(18)

/* XCR0 can be reached while this is set, in the hypervisor's own CR4; returns that as it was. */
static inline uint64_t xcr0_open(void)
{
	uint64_t cr4;

	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	if (!(cr4 & LIVE_CR4_OSXSAVE))
		__asm__ volatile("movq %0, %%cr4" ::"r"(cr4 | LIVE_CR4_OSXSAVE) : "memory");
	return cr4;
}

static inline void xcr0_close(uint64_t cr4)
{
	if (!(cr4 & LIVE_CR4_OSXSAVE))
		__asm__ volatile("movq %0, %%cr4" ::"r"(cr4) : "memory");
}

/* False: the processor has no XCR0. */
static inline bool read_xcr0(uint64_t *value)
{
	uint32_t low, high;
	uint64_t cr4;

	if (!(cpuid(1, 0).ecx & BIT(26)))
		return false;
	cr4 = xcr0_open();
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	xcr0_close(cr4);
	*value = (uint64_t)high << 32 | low;
	return true;
}

/* False: there is none, or it doesn't take the value. */
static inline bool write_xcr0(uint64_t value)
{
	uint64_t cr4;
	bool done;

	if (!(cpuid(1, 0).ecx & BIT(26)))
		return false;
	cr4 = xcr0_open();
	done = safe_xsetbv(0, value);
	xcr0_close(cr4);
	return done;
}

/* lp_set_control_registers() has set CR0 and CR4 up for this. */
static inline void save_fx(struct fx_area *area)
{
	__asm__ volatile("fxsave64 %0" : "=m"(*area));
}

/* XCR0 when VPs are switched: there is one, it can be reached, and it takes the value. */
static inline uint64_t get_xcr0(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low | (uint64_t)high << 32;
}

static inline void set_xcr0(uint64_t value)
{
	__asm__ volatile("xsetbv" ::"c"(0), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

/* The components of `mask` into an XSAVE area in its standard form, and out of it. XCR0 has their bits. */
static inline void save_extended(struct fx_area *area, uint64_t mask)
{
	__asm__ volatile("xsave64 (%0)" ::"r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
			 : "memory");
}

static inline void load_extended(const struct fx_area *area, uint64_t mask)
{
	__asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
			 : "memory");
}

/*
 * Some AMD processors load x87's last pointers only with an exception pending. A load of anything sets them to something of ours; all
 * else of x87 is lost.
 */
static inline void forget_x87_pointers(void)
{
	static const int32_t nothing;

	__asm__ volatile("fnclex\n\temms\n\tfildl %0" ::"m"(nothing));
}

#endif

#endif
