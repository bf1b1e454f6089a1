/* SPDX-License-Identifier: MIT */
/*
 * What the hypervisor's interface costs, as bench_exits.c measures: ticks of the instruction that exits, loop taken off. There is
 * no bare machine to compare with; the exit is all there is. The other processors sleep, so their share is theirs.
 */
#include "../guests/lib/hv.h"
#include <hv/synic.h>
#include <hv/time.h>

#define TRIES 50u
#define VECTOR 0x60

static void metric(const char *name, uint64_t value)
{
	print("METRIC %s %llu ticks\n", name, (unsigned long long)value);
}

/* The least of TRIES: interrupts and the others' work come in some of them. */
#define LEAST(setup, measured)                                \
	({                                                    \
		uint64_t least_ = ~0ull;                      \
		for (unsigned int i_ = 0; i_ < TRIES; i_++) { \
			uint64_t start_;                      \
			setup;                                \
			start_ = rdtsc();                     \
			measured;                             \
			start_ = rdtsc() - start_;            \
			if (start_ < least_)                  \
				least_ = start_;              \
		}                                             \
		least_;                                       \
	})

/* The instruction alone, without a call and a return around it. */
#define CALL(control, a, b)                                                              \
	({                                                                               \
		register uint64_t r8_ __asm__("r8") = (b);                               \
		uint64_t rax_, rcx_ = (control), rdx_ = (a);                             \
		if (intel)                                                               \
			__asm__ volatile("vmcall"                                        \
					 : "=a"(rax_), "+c"(rcx_), "+d"(rdx_), "+r"(r8_) \
					 :                                               \
					 : "memory");                                    \
		else                                                                     \
			__asm__ volatile("vmmcall"                                       \
					 : "=a"(rax_), "+c"(rcx_), "+d"(rdx_), "+r"(r8_) \
					 :                                               \
					 : "memory");                                    \
		rax_;                                                                    \
	})

static bool intel;
static uint64_t empty_ticks;

static void report(const char *name, uint64_t ticks)
{
	metric(name, ticks - empty_ticks);
}

static void got_it(struct trap_frame *f)
{
	(void)f;
	apic_write(APIC_EOI, 0);
}

static void settle(void)
{
	delay_us(200);
}

static uint64_t targets(void)
{
	return cpu_count > 8 ? 0x1feull : 0;
}

static void with_others(void)
{
	uint64_t mask = targets();
	uint64_t *in = (uint64_t *)hv_in;

	if (!mask)
		return;
	report("hypercall.ipi_8vp",
	       LEAST(settle(), CALL(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST, VECTOR, mask)));
	in[0] = 0;
	in[1] = 3; /* all processors, all address spaces */
	in[2] = 0;
	report("hypercall.flush_8vp",
	       LEAST(settle(), CALL(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, (uint64_t)hv_in, 0)));
}

void test_main(void)
{
	uint64_t far;

	hv_open();
	intel = is_intel();
	trap_handlers[VECTOR] = got_it;
	if (cpu_count > 8) {
		ok(hv_create_processors(), "the root's processors");
		ok(ap_start_all_idle(), "all started");
		settle();
	}
	empty_ticks = LEAST(, );
	report("hypercall.null", LEAST(, CALL(0x7fff, 0, 0)));
	report("hypercall.null_page", LEAST(, hv_call_by_page(0x7fff, 0, 0)));
	report("hypercall.get_partition_id", LEAST(, CALL(HV_CALL_GET_PARTITION_ID, 0, (uint64_t)hv_out)));
	report("hypercall.ipi_self",
	       LEAST(, CALL(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST, VECTOR, 1)));
	irq_on();
	delay_us(10);
	irq_off();
	wrmsr(HV_MSR_STIMER0_CONFIG,
	      HV_STIMER_DIRECT | HV_STIMER_AUTO_ENABLE | (uint64_t)VECTOR << HV_STIMER_VECTOR_SHIFT);
	far = rdmsr(HV_MSR_TIME_REF_COUNT) + 100000000;
	report("hv_msr.stimer_count", LEAST(far += 1000, wrmsr(HV_MSR_STIMER0_COUNT, far)));
	wrmsr(HV_MSR_STIMER0_COUNT, 0);
	report("hv_msr.time_ref_count", LEAST(, rdmsr(HV_MSR_TIME_REF_COUNT)));
	report("hv_msr.eoi", LEAST(, wrmsr(HV_MSR_EOI, 0)));
	report("hv_msr.vp_index", LEAST(, rdmsr(HV_MSR_VP_INDEX)));
	with_others();
	ok(true, "measured");
}
