/* SPDX-License-Identifier: MIT */
/* TLFS "HvCallSendSyntheticClusterIpi", "...Ex", "HvCallNotifyLongSpinWait", "HV_VP_SET": with however many processors there are. */
#include "tlfs.h"
#include <hv/flush.h>

#define US 2000000ull

static uint32_t before[MAX_CPUS];
static uint8_t vector = 0x70;

static uint64_t all_cpus(void)
{
	return (1ull << cpu_count) - 1;
}

/* A vector of its own for each check. */
static void expect(void)
{
	vector = (uint8_t)(vector == 0xef ? 0x70 : vector + 1);
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		before[cpu] = vector_count[cpu][vector];
}

/* The processors that got exactly one, as a mask; one that got more counts as none. */
static uint64_t got(uint64_t wanted)
{
	uint64_t mask = 0;

	take_interrupts();
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		if (wanted >> cpu & 1)
			wait_for(&vector_count[cpu][vector], before[cpu] + 1, US);
	delay_us(100); /* for who should not have got one */
	take_interrupts();
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		if (vector_count[cpu][vector] == before[cpu] + 1)
			mask |= 1ull << cpu;
	return mask;
}

static uint64_t send(uint64_t low, uint64_t mask, bool fast)
{
	uint64_t words[2] = { low, mask };

	return fast ? hv_fast(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, low, mask) :
		      call_with(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, words, 2);
}

static uint64_t send_ex(uint64_t low, uint64_t format, uint64_t valid, const uint64_t *banks,
			unsigned int count)
{
	uint64_t *words = fresh_input();

	words[0] = low;
	words[1] = format;
	words[2] = valid;
	memcpy(&words[3], banks, count * 8);
	return hv_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX | (uint64_t)count << HV_CONTROL_VAR_HEADER_SHIFT,
		       (uint64_t)hv_in, 0);
}

static void masks(void)
{
	unsigned int bad = 0;

	for (uint64_t mask = 1; mask <= all_cpus(); mask++) {
		expect();
		bad += send(vector, mask, mask & 1) != HV_STATUS_SUCCESS || got(mask) != mask;
	}
	is(bad, 0, "HvCallSendSyntheticClusterIpi: each mask reaches just its VPs");
	expect();
	ok(send(vector, ~all_cpus(), false) == HV_STATUS_SUCCESS && got(0) == 0,
	   "... VPs that don't exist get none");
	expect();
	ok(send(vector, 0, true) == HV_STATUS_SUCCESS && got(0) == 0,
	   "... nor does an empty mask do anything");
	expect();
	send(vector, ~0ull, true);
	is(got(all_cpus()), all_cpus(), "... all 64 bits");
}

static void refusals(void)
{
	unsigned int bad = 0;
	uint64_t bank = 1;

	for (uint64_t v = 0; v < 16; v++)
		bad += send(v, 1, v & 1) != HV_STATUS_INVALID_PARAMETER ||
		       send_ex(v, 0, 1, &bank, 1) != HV_STATUS_INVALID_PARAMETER;
	is(bad, 0, "HvCallSendSyntheticClusterIpi: vectors must be >= 0x10 ...");
	bad = send(0x100, 1, true) != HV_STATUS_INVALID_PARAMETER;
	bad += send(0x80000070, 1, true) != HV_STATUS_INVALID_PARAMETER;
	bad += send_ex(0x170, 0, 1, &bank, 1) != HV_STATUS_INVALID_PARAMETER;
	is(bad, 0, "... and <= 0xff");
	expect();
	ok(send(vector | 0x10ull << 32, 1, true) == HV_STATUS_SUCCESS && got(1) == 1,
	   "HV_INPUT_VTL: level 0 can be named");
	expect();
	bad = send(vector | 0x11ull << 32, 1, true) != HV_STATUS_INVALID_PARAMETER;
	bad += send(vector | 0x80ull << 32, 1, false) != HV_STATUS_INVALID_PARAMETER;
	bad += send_ex(vector | 0x12ull << 32, 0, 1, &bank, 1) != HV_STATUS_INVALID_PARAMETER;
	ok(!bad && got(0) == 0, "... others, and reserved bits, are refused");
	expect();
	ok(send(vector | 0xffffffull << 40, 1, true) == HV_STATUS_SUCCESS && got(1) == 1,
	   "... padding is ignored");
}

static void sets(void)
{
	uint64_t banks[64] = { all_cpus(), 5 }, others = all_cpus() & ~1ull;
	unsigned int bad = 0;

	expect();
	ok(send_ex(vector, HV_VP_SET_SPARSE_4K, 1, banks, 1) == 0 && got(all_cpus()) == all_cpus(),
	   "HvCallSendSyntheticClusterIpiEx: bank 0");
	banks[0] = others;
	expect();
	ok(send_ex(vector, HV_VP_SET_SPARSE_4K, 3, banks, 2) == 0 && got(others) == others,
	   "HV_VP_SET: two banks, of which one has no VPs");
	expect();
	ok(send_ex(vector, HV_VP_SET_ALL, 0, banks, 0) == 0 && got(all_cpus()) == all_cpus(),
	   "HV_VP_SET: format 1, all");
	expect();
	ok(send_ex(vector, HV_VP_SET_SPARSE_4K, 0, banks, 0) == 0 && got(0) == 0,
	   "HV_VP_SET: no bank, no VP");
	banks[0] = 0;
	banks[1] = 1;
	expect();
	ok(send_ex(vector, HV_VP_SET_SPARSE_4K, 1ull << 5 | 1ull << 63, banks, 2) == 0 && got(0) == 0,
	   "HV_VP_SET: banks are in the order of the mask's bits");
	memset(banks, 0xff, sizeof(banks));
	expect();
	ok(send_ex(vector, HV_VP_SET_SPARSE_4K, ~0ull, banks, 64) == 0 && got(all_cpus()) == all_cpus(),
	   "HV_VP_SET: all 64 banks");
	expect();
	bad += send_ex(vector, 2, 1, banks, 1) != HV_STATUS_INVALID_PARAMETER;
	bad += send_ex(vector, ~0ull, 1, banks, 1) != HV_STATUS_INVALID_PARAMETER;
	ok(!bad && got(0) == 0, "HV_VP_SET: other formats are refused");
	/* As many elements as the mask has bits: neither more nor fewer may be there. */
	expect();
	for (unsigned int count = 0; count <= 10; count++) {
		if (count == 3)
			continue;
		bad += send_ex(vector, HV_VP_SET_SPARSE_4K, 7, banks, count) != HV_STATUS_INVALID_PARAMETER;
	}
	bad += send_ex(vector, HV_VP_SET_SPARSE_4K, ~0ull, banks, 63) != HV_STATUS_INVALID_PARAMETER;
	ok(!bad && got(0) == 0,
	   "XSA-475: the variable header has one element for each bank, or the call is refused");
	expect();
	bad += status_of(hv_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX | HV_CONTROL_VAR_HEADER_MASK,
				 (uint64_t)hv_in, 0)) != HV_STATUS_INVALID_ALIGNMENT;
	ok(!bad && got(0) == 0, "XSA-475: the longest header that can be named spans pages");
}

static void spin_wait(void)
{
	IS_STATUS(hv_fast(HV_CALL_NOTIFY_LONG_SPIN_WAIT, 100, 0), HV_STATUS_SUCCESS,
		  "HvCallNotifyLongSpinWait, fast");
	IS_STATUS(hv_fast(HV_CALL_NOTIFY_LONG_SPIN_WAIT, ~0ull, ~0ull), HV_STATUS_SUCCESS,
		  "... there is no error status: it is advice");
	fresh_input();
	IS_STATUS(hv_simple(HV_CALL_NOTIFY_LONG_SPIN_WAIT), HV_STATUS_SUCCESS,
		  "... with its input in memory");
}

/* A processor that sends to all, itself among them. */
static void send_to_all(unsigned int cpu)
{
	(void)cpu;
	hv_fast(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, vector, ~0ull);
	take_interrupts();
}

void tlfs_ipi(void)
{
	masks();
	refusals();
	sets();
	spin_wait();
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++) {
		expect();
		run_on(cpu, send_to_all);
		is(got(all_cpus()), all_cpus(), "HvCallSendSyntheticClusterIpi: from VP %u to all", cpu);
	}
}
