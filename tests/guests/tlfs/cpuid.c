/* SPDX-License-Identifier: MIT */
/* TLFS "Feature and Interface Discovery": the leaves, what they claim about each other, and that unknown ones are empty. */
#include "tlfs.h"

static bool empty(uint32_t leaf)
{
	struct cpuid_regs r = cpuid(leaf, 0);

	return !r.eax && !r.ebx && !r.ecx && !r.edx;
}

static void identity(void)
{
	struct cpuid_regs r = cpuid(HV_CPUID_VENDOR, 0);

	ok(cpuid(1, 0).ecx >> 31 & 1, "Hypervisor Discovery: CPUID.1 ECX[31]");
	ok(r.eax >= 0x40000005 && r.eax <= 0x400000ff, "leaf 0x40000000: EAX is at least 0x40000005 (%x)",
	   r.eax);
	ok(r.ebx == 0x7263694d && r.ecx == 0x666f736f && r.edx == 0x76482074,
	   "leaf 0x40000000: Microsoft Hv");
	r = cpuid(HV_CPUID_INTERFACE, 0);
	is(r.eax, 0x31237648, "leaf 0x40000001: EAX is Hv#1");
	ok(!r.ebx && !r.ecx && !r.edx, "leaf 0x40000001: the others are reserved");
	r = cpuid(HV_CPUID_VERSION, 0);
	ok(r.eax && r.ebx, "leaf 0x40000002: build and version");
}

static void features(void)
{
	struct cpuid_regs f = cpuid(HV_CPUID_FEATURES, 0);
	uint64_t privileges = f.eax | (uint64_t)f.ebx << 32;
	struct cpuid_regs h = cpuid(HV_CPUID_HINTS, 0);

	ok((privileges & HV_PRIVILEGE_HYPERCALL_MSRS) && (privileges & HV_PRIVILEGE_VP_INDEX),
	   "leaf 0x40000001: Hv#1 implies the hypercall MSRs and VP_INDEX");
	ok(!(privileges & HV_PRIVILEGE_GUEST_IDLE) == !(f.edx & HV_FEATURE_GUEST_IDLE_STATE),
	   "leaf 0x40000003: EAX[10] and EDX[5] both or neither: guest idle");
	ok(!(privileges & HV_PRIVILEGE_FREQUENCY_MSRS) == !(f.edx & HV_FEATURE_FREQUENCY_MSRS),
	   "leaf 0x40000003: EAX[11] and EDX[8] both or neither: frequencies");
	ok(!(f.edx & HV_FEATURE_DIRECT_TIMERS) || (privileges & HV_PRIVILEGE_SYNTHETIC_TIMERS),
	   "leaf 0x40000003: no direct timers without timers");
	ok(!(privileges & HV_PRIVILEGE_CREATE_PARTITIONS) || !(privileges & HV_PRIVILEGE_TSC_INVARIANT),
	   "leaf 0x40000003: a root has no TSC invariant control");
	ok(!(f.edx & 1), "leaf 0x40000003: EDX[0] is deprecated");
	ok(!(h.eax & HV_HINT_NESTED), "leaf 0x40000004: not nested");
	ok(!(h.eax & HV_HINT_EX_PROCESSOR_MASKS) || (h.eax & (HV_HINT_REMOTE_FLUSH | HV_HINT_CLUSTER_IPI)),
	   "leaf 0x40000004: sparse masks are for flushes and IPIs");
	is(h.ecx & 0x7f, cpuid(0x80000008, 0).eax & 0xff,
	   "leaf 0x40000004: ECX[6:0] is the processor's width");
	is(h.ecx >> 7, 0, "leaf 0x40000004: ECX[31:7] is reserved");
	is(h.edx, 0, "leaf 0x40000004: EDX is reserved");
}

static void rest(void)
{
	uint32_t last = cpuid(HV_CPUID_VENDOR, 0).eax;
	struct cpuid_regs r = cpuid(HV_CPUID_LIMITS, 0);
	unsigned int bad = 0;

	ok(r.eax == 0 || r.eax >= cpu_count, "leaf 0x40000005: EAX, virtual processors: 0 or enough");
	ok(r.ebx == 0 || r.ebx >= cpu_count, "leaf 0x40000005: EBX, logical processors: 0 or enough");
	is(r.edx, 0, "leaf 0x40000005: EDX is reserved");
	r = cpuid(HV_CPUID_HARDWARE, 0);
	ok(last < HV_CPUID_HARDWARE || (r.eax & HV_HARDWARE_SECOND_LEVEL_TRANSLATION),
	   "leaf 0x40000006: EAX[3], second-level translation is in use");
	is(r.eax >> HV_HARDWARE_LEVEL_SHIFT & 0xf, 0, "leaf 0x40000006: EAX[13:10], this is the top level");
	ok(!r.ebx && !r.ecx && !r.edx, "leaf 0x40000006: the others are reserved");
	for (uint32_t leaf = last + 1; leaf < 0x40000100; leaf++)
		bad += !empty(leaf);
	is(bad, 0, "Standard Hypervisor CPUID Leaves: nothing behind the last, up to 0x400000ff");
	ok(empty(0x40000100) && empty(0x4000ffff) && empty(0x4fffffff),
	   "no other interface at 0x40000100, and no echo of another leaf");
	r = cpuid(HV_CPUID_FEATURES, 0);
	ok(cpuid(HV_CPUID_FEATURES, 5).eax == r.eax && cpuid(HV_CPUID_FEATURES, ~0u).edx == r.edx,
	   "the leaves have no subleaves");
}

/* What a leaf promises exists; that what it doesn't promise doesn't is tested in msr.c. */
static void promises(void)
{
	struct cpuid_regs f = cpuid(HV_CPUID_FEATURES, 0);
	static const struct {
		uint32_t bit, msr;
	} eax[] = {
		{ 0, HV_MSR_VP_RUNTIME },
		{ 1, HV_MSR_TIME_REF_COUNT },
		{ 2, HV_MSR_SCONTROL },
		{ 3, HV_MSR_STIMER0_CONFIG },
		{ 4, HV_MSR_TPR },
		{ 5, HV_MSR_GUEST_OS_ID },
		{ 6, HV_MSR_VP_INDEX },
		{ 7, HV_MSR_RESET },
		{ 9, HV_MSR_REFERENCE_TSC },
		{ 11, HV_MSR_TSC_FREQUENCY },
		{ 15, HV_MSR_TSC_INVARIANT_CONTROL },
	};
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(eax); i++) {
		if (read_faults(eax[i].msr) == !(f.eax >> eax[i].bit & 1))
			continue;
		note("EAX[%u] and MSR %x do not agree", eax[i].bit, eax[i].msr);
		bad++;
	}
	is(bad, 0, "leaf 0x40000003: each bit of EAX, and its MSR is there or #GP");
	ok(read_faults(HV_MSR_CRASH_CTL) == !(f.edx & HV_FEATURE_CRASH_MSRS),
	   "leaf 0x40000003: EDX[10], and the crash MSRs");
	ok(read_faults(HV_MSR_NPIEP_CONFIG) == !(f.edx & HV_FEATURE_NPIEP),
	   "leaf 0x40000003: EDX[12], and NPIEP");
	ok(read_faults(HV_MSR_STIME_UNHALTED_TIMER_CONFIG) == !(f.edx & HV_FEATURE_TIME_UNHALTED_TIMER),
	   "leaf 0x40000003: EDX[23], and the time-unhalted timer");
}

/* Call, and the privilege (EBX bit, or EAX's) that TLFS asks for it. */
static void privileges(void)
{
	static const struct {
		uint16_t code;
		uint8_t ebx_bit;
	} calls[] = {
		{ HV_CALL_GET_PARTITION_ID, 1 }, { HV_CALL_DEPOSIT_MEMORY, 2 },
		{ HV_CALL_POST_MESSAGE, 4 },	 { HV_CALL_SIGNAL_EVENT, 5 },
		{ HV_CALL_CREATE_PORT, 6 },	 { HV_CALL_CONNECT_PORT, 7 },
		{ HV_CALL_MAP_STATS_PAGE, 8 },	 { HV_CALL_ENTER_SLEEP_STATE, 12 },
	};
	uint32_t ebx = cpuid(HV_CPUID_FEATURES, 0).ebx;
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(calls); i++) {
		uint64_t control = calls[i].code;
		uint16_t status;

		if (calls[i].code == HV_CALL_DEPOSIT_MEMORY)
			control |= 1ull << HV_CONTROL_REP_COUNT_SHIFT;
		fresh_input(); /* zeros: refused for another reason by who may */
		status = status_of(hv_call(control, (uint64_t)hv_in, (uint64_t)hv_out));
		if ((status == HV_STATUS_ACCESS_DENIED) == !(ebx >> calls[i].ebx_bit & 1))
			continue;
		note("call %x, EBX[%u]: status %x", calls[i].code, calls[i].ebx_bit, status);
		bad++;
	}
	is(bad, 0,
	   "HV_PARTITION_PRIVILEGE_MASK: ACCESS_DENIED from those calls whose bit is clear, and no others");
}

void tlfs_cpuid(void)
{
	identity();
	features();
	rest();
	promises();
	privileges();
}
