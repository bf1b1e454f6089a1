/* SPDX-License-Identifier: MIT */
/*
 * mshv-isolation: what a monitor in the root may not do to others, or to nobody. The driver writes the partition's id into each call
 * itself, so what is left to name wrongly are VPs, registers, memory, interrupts and calls. Afterwards a second partition, which was
 * there all the time, must be what it was.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tiny.h"

#define MEMORY (64u << 10)
#define MARK 0x5ec2e75ec2e75ec2ull

static int dev;
static struct tiny victim, own;

static bool status_is(struct answer a, uint16_t status)
{
	if (a.error && a.status == status)
		return true;
	tap_note("error %d, status %#x, %u done", a.error, a.status, a.reps);
	return false;
}

static void wrong_vps(void)
{
	static const uint32_t indexes[] = { 1, 77, 255, 256, 2048, 0x7fffffff, HV_VP_INDEX_ANY };
	const uint32_t name = HV_REGISTER_X64_RIP;
	union hv_register_value value;
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(indexes); i++) {
		struct hv_register_assoc set = { .name = HV_REGISTER_X64_RAX, .value.reg64 = MARK };
		uint64_t gpa;

		bad += !status_is(get_registers(own.partition, indexes[i], &name, &value, 1),
				  HV_STATUS_INVALID_VP_INDEX);
		bad += !status_is(set_registers(own.partition, indexes[i], &set, 1),
				  HV_STATUS_INVALID_VP_INDEX);
		bad += translate(own.partition, indexes[i], 0, false, &gpa);
	}
	tap_ok(!bad, "VPs that the partition hasn't: INVALID_VP_INDEX");
	bad = 0;
	bad += try_create_vp(own.partition, 0) >= 0;
	bad += try_create_vp(own.partition, 256) >= 0;
	bad += try_create_vp(own.partition, ~0u) >= 0;
	tap_ok(!bad, "no VP twice, and none beyond the driver's 256");
}

static void wrong_registers(void)
{
	static const uint32_t names[] = { 0x12345678, 0xffffffff, 0x0fffffff };
	struct hv_register_assoc wrong = { .name = HV_REGISTER_X64_CR2, .value.reg128 = { 0, 1 } };
	union hv_register_value value;
	unsigned int bad = 0;
	struct answer a;

	for (unsigned int i = 0; i < ARRAY_LEN(names); i++) {
		a = get_registers(own.vp, 0, &names[i], &value, 1);
		bad += !a.error || a.reps;
	}
	tap_ok(!bad, "unknown names of registers are refused");
	tap_ok(status_is(set_registers(own.vp, 0, &wrong, 1), HV_STATUS_INVALID_REGISTER_VALUE),
	       "bits beyond the register: INVALID_REGISTER_VALUE");
}

static void wrong_calls(void)
{
	/* Not on the driver's list: nothing gets to the hypervisor. */
	static const uint16_t codes[] = {
		HV_CALL_CREATE_PARTITION, HV_CALL_DELETE_PARTITION, HV_CALL_FINALIZE_PARTITION,
		HV_CALL_DEPOSIT_MEMORY,	  HV_CALL_WITHDRAW_MEMORY,  HV_CALL_MAP_GPA_PAGES,
		HV_CALL_CREATE_VP,	  HV_CALL_CREATE_PORT,	    HV_CALL_CONNECT_PORT,
		HV_CALL_DISPATCH_VP,	  HV_CALL_MAP_STATS_PAGE,   HV_CALL_DISABLE_HYPERVISOR_EX,
	};
	uint64_t in[8] = { 1 }, out[8], value;
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(codes); i++) {
		bad += hypercall(own.partition, codes[i], 0, in, sizeof(in), out, sizeof(out)).error !=
		       -EINVAL;
		bad += hypercall(dev, codes[i], 0, in, sizeof(in), out, sizeof(out)).error != -EINVAL;
	}
	tap_ok(!bad, "calls that are the driver's own: EINVAL");
	tap_ok(set_property(dev, HV_PROPERTY_PRIVILEGE_FLAGS, ~0ull).error == -EINVAL,
	       "properties of the root can't be set through /dev/mshv");
	tap_ok(status_is(get_property(own.partition, 0x777, &value), HV_STATUS_UNKNOWN_PROPERTY),
	       "unknown properties: UNKNOWN_PROPERTY");
	tap_ok(set_property(own.partition, HV_PROPERTY_PRIVILEGE_FLAGS, ~0ull).error,
	       "no new privileges for a partition that is initialized");
	tap_ok(set_property(own.partition, HV_PROPERTY_SYNTHETIC_PROC_FEATURES, ~0ull).error,
	       "nor new features");
}

static void wrong_memory(void)
{
	uint8_t *page = allocate_memory(PAGE);
	unsigned int bad = 0;

	bad += !try_map_memory(own.partition, 0, page, PAGE, MEMORY_ALL);
	bad += !try_map_memory(own.partition, MEMORY - PAGE, page, PAGE, MEMORY_ALL);
	tap_ok(!bad, "memory over memory is refused");
	bad += !try_map_memory(own.partition, 1ull << 62, page, PAGE, MEMORY_ALL);
	bad += !try_map_memory(own.partition, ~0ull << 12, page, PAGE, MEMORY_ALL);
	tap_ok(!bad, "... beyond the guest's address space too");
	bad += !try_map_memory(own.partition, 16 * MEMORY, (void *)(1ull << 62), PAGE, MEMORY_ALL);
	bad += !try_map_memory(own.partition, 16 * MEMORY, (void *)~0xfffull, PAGE, MEMORY_ALL);
	bad += !try_map_memory(own.partition, 16 * MEMORY, page, 0, MEMORY_ALL);
	bad += !try_map_memory(own.partition, 16 * MEMORY, page, 100, MEMORY_ALL);
	tap_ok(!bad, "... and what isn't the monitor's");
	bad += !unmap_memory(own.partition, 16 * MEMORY, page, PAGE);
	bad += !unmap_memory(own.partition, 0, page, PAGE);
	tap_ok(!bad, "only what was mapped can be unmapped");
	munmap(page, PAGE);
}

static void wrong_interrupts(void)
{
	unsigned int bad = 0;

	bad += !assert_interrupt(own.partition, HV_INTERRUPT_FIXED, 5, 0).error;
	bad += !assert_interrupt(own.partition, HV_INTERRUPT_FIXED, 256, 0).error;
	bad += !assert_interrupt(own.partition, 99, 0x40, 0).error;
	tap_ok(!bad, "vectors below 16 and above 255, and unknown types of interrupts, are refused");
	assert_interrupt(own.partition, HV_INTERRUPT_FIXED, 0x40, 0x77);
	assert_interrupt(own.partition, HV_INTERRUPT_FIXED, 0x40, ~0ull >> 32);
	tap_ok(true, "interrupts to APIC ids that nobody has reach nobody");
}

static void wrong_states(void)
{
	uint8_t *page = allocate_memory(PAGE);
	unsigned int bad = 0;

	memset(page, 0xff, PAGE);
	bad += !set_vp_state(own.vp, STATE_XSAVE, page);
	tap_ok(!bad, "an XSAVE image of ones is refused");
	bad += !get_vp_state(own.vp, STATES, page);
	tap_ok(!bad, "states that aren't there too");
	munmap(page, PAGE);
}

static void after_the_end(void)
{
	struct tiny gone;
	int vp;

	tiny_make(&gone, dev, MEMORY, tiny_out, tiny_out_end);
	vp = dup(gone.vp);
	tiny_end(&gone);
	/* The VP's file holds the partition: its memory is gone from the monitor, and reading ones is all right, but nobody else's. */
	tap_ok(get_register(vp, 0, HV_REGISTER_X64_RIP) == TINY,
	       "a VP whose partition's file is closed has its registers");
	close(vp);
}

static void not_initialized(void)
{
	int partition = create_partition(dev, PARTITION_FLAGS);
	uint8_t *page = allocate_memory(PAGE);

	tap_ok(try_create_vp(partition, 0) < 0, "no VP in a partition that isn't initialized");
	close(partition);
	munmap(page, PAGE);
	tap_ok(try_create_partition(dev, ~0ull) == -EINVAL, "unknown flags of a partition: EINVAL");
}

static void victim_is_untouched(void)
{
	bool whole = true;

	for (size_t i = MEMORY / 2; i < MEMORY; i += 8)
		whole = whole && *(uint64_t *)(void *)(victim.memory + i) == MARK;
	tap_ok(whole, "the other partition's memory is what it was");
	tap_ok(get_register(victim.vp, 0, HV_REGISTER_X64_RBX) == MARK, "... and its registers");
	tiny_run_to_port(&victim);
	tap_ok(true, "... and it runs");
}

int main(void)
{
	dev = open_mshv();
	tiny_make(&victim, dev, MEMORY, tiny_out, tiny_out_end);
	for (size_t i = MEMORY / 2; i < MEMORY; i += 8)
		*(uint64_t *)(void *)(victim.memory + i) = MARK;
	set_register(victim.vp, 0, HV_REGISTER_X64_RBX, MARK);
	tiny_make(&own, dev, MEMORY, tiny_out, tiny_out_end);
	wrong_vps();
	wrong_registers();
	wrong_calls();
	wrong_memory();
	wrong_interrupts();
	wrong_states();
	after_the_end();
	not_initialized();
	tiny_run_to_port(&own);
	tap_ok(true, "after all that the partition runs");
	victim_is_untouched();
	tiny_end(&own);
	tiny_end(&victim);
	return tap_end();
}
