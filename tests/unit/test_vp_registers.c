/* unit: core/vp_registers.c core/vp_registers_live.c */
/* SPDX-License-Identifier: MIT */
/*
 * Registers by name on a back end that is an array: every name that a client of the interface uses reads back what was written, and
 * each refusal has its status and changes nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/msr.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/live_registers.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define MSRS 64

static struct {
	union hv_register_value registers[VP_REGISTER_COUNT];
	struct {
		uint32_t number;
		uint64_t value;
	} msrs[MSRS];
	unsigned int msr_count;
	uint32_t missing_msr, stubborn_msr; /* not there; takes no value */
	bool refuses;			    /* set_register says -EINVAL */
	int put_back;			    /* the vector of an interrupt; 0: none */
	unsigned int checks;		    /* calls of can_run */
	uint64_t cr4_that_cannot_run;
	uint64_t dr[8];
	bool has_xcr0;
	uint64_t xcr0, xcr0_mask;
	struct fx_area fx;
	unsigned int fx_loads;
	bool loaded; /* else its live registers are in memory */
	bool resume_at_release;
	bool has_xsave;
} fake;

static struct partition partition;
static struct vp *vp;
static uint8_t fpu[PAGE_SIZE] __attribute__((aligned(64)));

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	(void)subleaf;
	if (leaf == 1)
		return (struct cpuid_regs){ .ecx = fake.has_xsave ? (uint32_t)BIT(26) : 0 };
	return leaf == 0x80000008 ? (struct cpuid_regs){ .eax = 0x3028 } : (struct cpuid_regs){ 0 };
}

uint64_t read_dr(unsigned int index)
{
	return fake.dr[index];
}

void write_dr(unsigned int index, uint64_t value)
{
	fake.dr[index] = value;
}

bool read_xcr0(uint64_t *value)
{
	*value = fake.xcr0;
	return fake.has_xcr0;
}

bool write_xcr0(uint64_t value)
{
	if (!fake.has_xcr0 || (value & ~fake.xcr0_mask))
		return false;
	fake.xcr0 = value;
	return true;
}

void save_fx(struct fx_area *area)
{
	*area = fake.fx;
}

void load_fx(const struct fx_area *area)
{
	assert_int_equal(area->mxcsr & ~(fake.fx.mxcsr_mask ? fake.fx.mxcsr_mask : 0xffbfu), 0);
	fake.fx = *area;
	fake.fx_loads++;
}

void vp_put_back_interrupt(struct vp *of, uint8_t vector)
{
	assert_ptr_equal(of, vp);
	fake.put_back = vector;
}

static void get_register(struct vp *of, enum vp_register which, union hv_register_value *value)
{
	assert_ptr_equal(of, vp);
	assert_true(which < VP_REGISTER_COUNT);
	*value = fake.registers[which];
}

static int set_register(struct vp *of, enum vp_register which, const union hv_register_value *value)
{
	assert_ptr_equal(of, vp);
	assert_true(which < VP_REGISTER_COUNT);
	if (fake.refuses)
		return -EINVAL;
	fake.registers[which] = *value;
	return 0;
}

static uint64_t *fake_msr(uint32_t msr)
{
	for (unsigned int i = 0; i < fake.msr_count; i++)
		if (fake.msrs[i].number == msr)
			return &fake.msrs[i].value;
	assert_true(fake.msr_count < MSRS);
	fake.msrs[fake.msr_count].number = msr;
	return &fake.msrs[fake.msr_count++].value;
}

static int get_msr(struct vp *of, uint32_t msr, uint64_t *value)
{
	assert_ptr_equal(of, vp);
	if (msr == fake.missing_msr)
		return -EINVAL;
	*value = *fake_msr(msr);
	return 0;
}

static int set_msr(struct vp *of, uint32_t msr, uint64_t value)
{
	assert_ptr_equal(of, vp);
	if (msr == fake.missing_msr || msr == fake.stubborn_msr)
		return -EINVAL;
	*fake_msr(msr) = value;
	return 0;
}

static bool can_run(struct vp *of)
{
	assert_ptr_equal(of, vp);
	fake.checks++;
	return !fake.cr4_that_cannot_run || fake.registers[VP_REGISTER_CR4].reg64 != fake.cr4_that_cannot_run;
}

static unsigned int phys_bits(void)
{
	return 40;
}

static const struct backend fake_backend = {
	.phys_bits = phys_bits,
	.get_register = get_register,
	.set_register = set_register,
	.get_msr = get_msr,
	.set_msr = set_msr,
	.can_run = can_run,
};
const struct backend *backend = &fake_backend;

/* ---- Holding: the VP that runs here is another ---- */

static struct vp *runner;
static struct lp lp;

struct lp *this_lp(void)
{
	return &lp;
}

bool vp_is_loaded_here(const struct vp *of)
{
	assert_ptr_equal(of, vp);
	return fake.loaded;
}

void vp_hold(struct vp *of, struct vp *self, uint32_t bits)
{
	assert_ptr_equal(of, vp);
	assert_ptr_equal(self, runner);
	vp->holds |= bits;
}

void vp_release(struct vp *of, uint32_t bits)
{
	assert_ptr_equal(of, vp);
	fake.resume_at_release = vp->pending & VP_PENDING_RESUME;
	vp->holds &= ~bits;
}

void vp_notify(struct vp *of)
{
	(void)of;
}

void schedule_use_debug_registers(struct vp *of)
{
	of->uses_dr = true;
	memcpy(fake.dr, of->dr, sizeof(of->dr));
}

void synic_want_deliverable(struct vp *of, uint16_t sints)
{
	of->synic.wanted = sints;
}

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	memset(vp, 0, sizeof(*vp));
	memset(&partition, 0, sizeof(partition));
	fake.has_xcr0 = true;
	fake.xcr0_mask = 0xe7;
	fake.fx.mxcsr_mask = 0xffff;
	vp->partition = &partition;
	vp->apic.config.apic_id = 6;
	fake.loaded = true;
	lp.vp = runner;
	memset(fpu, 0, sizeof(fpu));
	vp->fpu = (struct fx_area *)fpu;
	return 0;
}

static uint16_t set(uint32_t name, uint64_t low, uint64_t high)
{
	const union hv_register_value value = { .reg128 = { low, high } };

	return vp_register_set(vp, true, name, &value);
}

static uint16_t get(uint32_t name, union hv_register_value *value)
{
	memset(value, 0xa5, sizeof(*value));
	return vp_register_get(vp, true, name, value);
}

static void reads(uint32_t name, uint64_t low, uint64_t high)
{
	union hv_register_value value;

	assert_int_equal(get(name, &value), HV_STATUS_SUCCESS);
	assert_int_equal(value.reg128.low, low);
	assert_int_equal(value.reg128.high, high);
}

static void round_trip(uint32_t name, uint64_t low, uint64_t high)
{
	uint16_t status = set(name, low, high);

	if (status != HV_STATUS_SUCCESS)
		fail_msg("register %xh: set says %xh", name, status);
	reads(name, low, high);
}

/* The names that QEMU, Cloud Hypervisor and OpenVMM write and read back, and more. Each gets a value of its own. */
static void names_round_trip(void **state)
{
	static const struct {
		uint32_t first, last;
		uint64_t value;
	} plain[] = {
		{ 0x210, 0x215, 0x1234567890abcd00 },
		{ 0x10003, 0x10003, 3 },
		{ 0x20000, 0x20004, 0x8877665544332211 },
		{ 0x20005, 0x2000f, 0x1122334455667788 },
		{ 0x20010, 0x20010, 0xffffffff81000000 },
		{ 0x20011, 0x20011, 0x246 },
		{ 0x40000, 0x40000, 0x80050033 },
		{ 0x40001, 0x40001, 0xfedcba9876543210 },
		{ 0x40002, 0x40002, 0xfffffff018 },
		{ 0x40003, 0x40003, 0x6f0 },
		{ 0x40004, 0x40004, 9 },
		{ 0x40005, 0x40005, 7 },
		{ 0x41000, 0x41000, 0x60000010 },
		{ 0x41002, 0x41002, 0x7000 },
		{ 0x41003, 0x41003, 0xa0 },
		{ 0x41004, 0x41004, 5 },
		{ 0x50000, 0x50003, 0xffff800000001000 },
		{ 0x50004, 0x50004, 0xffff0ff0 },
		{ 0x50005, 0x50005, 0x400 },
		{ 0x80000, 0x80001, 0xd01 },
		{ 0x80002, 0x80002, 0xffff888000000000 },
		{ 0x80003, 0x80003, 0xfee00900 },
		{ 0x80004, 0x80004, 0x0407050600070106 },
		{ 0x80005, 0x80005, 0x10 },
		{ 0x80006, 0x80007, 0xffffffff81001000 },
		{ 0x80008, 0x80008, 0x23001000000000 },
		{ 0x80009, 0x8000a, 0xffffffff81002000 },
		{ 0x8000b, 0x8000b, 0x47700 },
		{ 0x8000c, 0x8000c, 6 },
		{ 0x8000e, 0x8000e, 0xc06 },
		{ 0x80010, 0x8001f, 0x80000006 },
		{ 0x80040, 0x8004f, 0xff80000800 },
		{ 0x80070, 0x8007a, 0x0606060606060606 },
		{ 0x8007b, 0x8007f, 2 },
		{ 0x80084, 0x80084, 1 },
		{ 0x80088, 0x80088, 1 },
		{ 0x8008b, 0x8008d, 0x100 },
		{ 0x8008f, 0x80093, 0xffff800000002000 },
		{ 0x80095, 0x80096, 0x123456789 },
		{ 0x80098, 0x8009a, 4 },
		{ 0x800a0, 0x800a0, 0x850089 },
		{ 0x84802, 0x84802, 6 },
		{ 0x90001, 0x90002, 0x8100000000000001 },
		{ 0x90011, 0x90013, 0x5001 },
		{ 0x90017, 0x90017, 0x6001 },
		{ 0xa0000, 0xa000f, 0x10000 },
		{ 0xa0010, 0xa0010, 1 },
		{ 0xa0012, 0xa0013, 0x7001 },
		{ 0xa0015, 0xa0015, 0x8001 },
		{ 0xb0000, 0xb0007, 0x21 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		for (uint32_t name = plain[i].first; name <= plain[i].last; name++) {
			setup(NULL);
			round_trip(name, plain[i].value, 0);
		}
}

/* Registers of one row go to places of their own. */
static void neighbours_are_apart(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(set(0x20000 + i, 0x100 + i, 0), 0);
		assert_int_equal(set(0x30000 + i, 0x200 + i, 0x300 + i), 0);
		assert_int_equal(set(0x80010 + i, 0x400 + i, 0), 0);
		assert_int_equal(set(0x80040 + i, 0x500 + i, 0), 0);
	}
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(set(0x30010 + i, 0x600 + i, i), 0);
		assert_int_equal(set(0x60000 + i, 0x700 + i, (uint64_t)i << 32 | 0xff), 0);
	}
	for (uint32_t i = 0; i < 16; i++) {
		reads(0x20000 + i, 0x100 + i, 0);
		reads(0x30000 + i, 0x200 + i, 0x300 + i);
		reads(0x80010 + i, 0x400 + i, 0);
		reads(0x80040 + i, 0x500 + i, 0);
		if (i != GPR_RSP)
			assert_int_equal(vp->gpr[i], 0x100 + i);
		assert_int_equal(*fake_msr(0x200 + 2 * i), 0x400 + i);
		assert_int_equal(*fake_msr(0x201 + 2 * i), 0x500 + i);
	}
	assert_int_equal(fake.registers[VP_REGISTER_RSP].reg64, 0x104);
	assert_int_equal(vp->gpr[GPR_RSP], 0);
	for (uint32_t i = 0; i < 8; i++) {
		reads(0x30010 + i, 0x600 + i, i);
		assert_int_equal(fake.registers[VP_REGISTER_ES + i].segment.base, 0x700 + i);
	}
}

static void msrs_have_their_numbers(void **state)
{
	static const struct {
		uint32_t name, msr;
	} map[] = {
		{ 0x80000, 0x10 },
		{ 0x80001, 0xc0000080 },
		{ 0x80002, 0xc0000102 },
		{ 0x80003, 0x1b },
		{ 0x80004, 0x277 },
		{ 0x80005, 0x174 },
		{ 0x80006, 0x176 },
		{ 0x80007, 0x175 },
		{ 0x80008, 0xc0000081 },
		{ 0x80009, 0xc0000082 },
		{ 0x8000a, 0xc0000083 },
		{ 0x8000b, 0xc0000084 },
		{ 0x8000d, 0xfe },
		{ 0x8000e, 0x2ff },
		{ 0x80017, 0x20e },
		{ 0x80047, 0x20f },
		{ 0x80070, 0x250 },
		{ 0x80072, 0x259 },
		{ 0x80073, 0x268 },
		{ 0x8007a, 0x26f },
		{ 0x8007b, 0xc0000103 },
		{ 0x8007d, 0x1d9 },
		{ 0x80084, 0x48 },
		{ 0x8008b, 0xda0 },
		{ 0x8008c, 0x6a0 },
		{ 0x8008d, 0x6a2 },
		{ 0x8008f, 0x6a4 },
		{ 0x80092, 0x6a7 },
		{ 0x80093, 0x6a8 },
		{ 0x80096, 0x3b },
		{ 0x800a0, 0x1a0 },
		{ 0x210, HV_MSR_CRASH_P0 },
		{ 0x215, HV_MSR_CRASH_CTL },
		{ 0x240, HV_MSR_TSC_FREQUENCY },
		{ 0x241, HV_MSR_APIC_FREQUENCY },
		{ 0x90000, HV_MSR_VP_RUNTIME },
		{ 0x90001, HV_MSR_HYPERCALL },
		{ 0x90002, HV_MSR_GUEST_OS_ID },
		{ 0x90003, HV_MSR_VP_INDEX },
		{ 0x90004, HV_MSR_TIME_REF_COUNT },
		{ 0x90011, HV_MSR_ICR },
		{ 0x90012, HV_MSR_TPR },
		{ 0x90013, HV_MSR_VP_ASSIST_PAGE },
		{ 0x90017, HV_MSR_REFERENCE_TSC },
		{ 0xa000f, HV_MSR_SINT15 },
		{ 0xa0010, HV_MSR_SCONTROL },
		{ 0xa0011, HV_MSR_SVERSION },
		{ 0xa0012, HV_MSR_SIEFP },
		{ 0xa0013, HV_MSR_SIMP },
		{ 0xa0015, HV_MSR_SIRBP },
		{ 0xb0000, HV_MSR_STIMER0_CONFIG },
		{ 0xb0007, HV_MSR_STIMER3_COUNT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		setup(NULL);
		*fake_msr(map[i].msr) = 0x1000 + i;
		reads(map[i].name, 0x1000 + i, 0);
	}
}

static void segments_and_tables_round_trip(void **state)
{
	union hv_register_value value = { .segment = { 0xffff800000001000, 0xffffffff, 0x10, 0xa09b } };

	(void)state;
	for (uint32_t name = 0x60000; name <= 0x60007; name++)
		round_trip(name, value.reg128.low, value.reg128.high);
	value = (union hv_register_value){ .table = { { 0 }, 0x7f, 0xfffffe0000001000 } };
	assert_int_equal(value.reg128.low, 0x7full << 48); /* TLFS "HV_X64_TABLE_REGISTER" */
	round_trip(0x70000, value.reg128.low, value.reg128.high);
	round_trip(0x70001, value.reg128.low, value.reg128.high);
	assert_int_equal(fake.registers[VP_REGISTER_IDTR].table.limit, 0x7f);
	assert_int_equal(fake.registers[VP_REGISTER_GDTR].table.base, 0xfffffe0000001000);
}

static void unknown_names_are_refused(void **state)
{
	static const uint32_t names[] = { 5,	   0xff,    0x101,   0x20a,   0x250,	  0x10007,
					  0x20012, 0x3001a, 0x40006, 0x41001, 0x50006,	  0x60008,
					  0x70002, 0x80020, 0x8006f, 0x80085, 0x8008e,	  0x90018,
					  0xa0016, 0xa1000, 0xb0008, 0xd0003, 0x7fffffff, 0xffffffff };
	union hv_register_value value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(get(names[i], &value), HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(value.reg128.low | value.reg128.high, 0);
		assert_int_equal(set(names[i], 0, 0), HV_STATUS_INVALID_PARAMETER);
	}
}

static void read_only_registers(void **state)
{
	static const uint32_t names[] = { 2,	   0x100,   0x200,   0x208,   0x209,   0x240,	0x241,
					  0x8000d, 0x80089, 0x90000, 0x90003, 0x90004, 0x90014, 0xa0011 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(set(names[i], 1, 0), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(fake.msr_count, 0);
	/* Given once: the same value is no change. */
	assert_int_equal(set(0x8000c, 7, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(0x84802, 7, 0), HV_STATUS_INVALID_REGISTER_VALUE);
}

static void write_only_registers_read_as_0(void **state)
{
	(void)state;
	fake.missing_msr = HV_MSR_EOM; /* as hv_msr_read() has it */
	reads(0xa0014, 0, 0);
	fake.missing_msr = HV_MSR_EOI;
	reads(0x90010, 0, 0);
	assert_int_equal(set(0xa0014, 0, 0), HV_STATUS_SUCCESS);
	fake.stubborn_msr = HV_MSR_EOM;
	assert_int_equal(set(0xa0014, 1, 0), HV_STATUS_INVALID_REGISTER_VALUE);
}

static void leaves_are_registers(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < HV_CPUID_LEAVES; i++)
		partition.hv_leaves[i] = (struct cpuid_regs){ 0x10 + i, 0x20 + i, 0x30 + i, 0x40 + i };
	reads(0x100, 0x2200000012, 0x4200000032);
	for (uint32_t i = 0; i < 10; i++)
		reads(0x200 + i, (uint64_t)(0x23 + i) << 32 | (0x13 + i),
		      (uint64_t)(0x43 + i) << 32 | (0x33 + i));
}

static void bad_values_are_refused(void **state)
{
	static const struct {
		uint32_t name;
		uint64_t low, high;
	} bad[] = {
		{ 0x20000, 0, 1 },		/* beyond 64 bits */
		{ 0x20010, 0x800000000000, 0 }, /* not canonical */
		{ 0x20011, 0x244, 0 },		/* bit 1 is always 1 */
		{ 0x20011, 0x20a, 0 },		/* bit 3 never */
		{ 0x20011, 0x400002, 0 },	/* nor bit 22 */
		{ 0x40000, 0x100000031, 0 },	/* CR0 has 32 bits */
		{ 0x40000, 0x20031, 0 },	/* and no bit 17 */
		{ 0x40000, 0x80000030, 0 },	/* PG without PE */
		{ 0x40000, 0x20000031, 0 },	/* NW without CD */
		{ 0x40002, 1ull << 40, 0 },	/* beyond physical memory */
		{ 0x40004, 16, 0 },		/* CR8 has four bits */
		{ 0x40005, 0x100, 0 },		/* a component that isn't there */
		{ 0x50004, 1ull << 32, 0 },
		{ 0x50005, 1ull << 32, 0 },
		{ 0x60001, 0, 0x019bull << 48 },	      /* reserved attributes */
		{ 0x60001, 0x800000000000, 0x009bull << 48 }, /* base not canonical */
		{ 0x60001, 0, 0x809bull << 48 | 0xffffe },    /* limit not of whole pages */
		{ 0x60001, 0, 0x009bull << 48 | 0x100000 },   /* limit over 20 bits */
		{ 0x70000, 1, 0 },			      /* padding */
		{ 0x70001, 0, 0x800000000000 },
		{ 0x80002, 0x800000000000, 0 },
		{ 0x80004, 2, 0 }, /* no memory type */
		{ 0x80009, 0x8000000000000000, 0 },
		{ 0x10003, 4, 0 },
		{ 0x10005, 1, 0 },
		{ 4, 1, 0 }, /* it runs: it doesn't wait for a start-up IPI */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const union hv_register_value zero[VP_REGISTER_COUNT] = { 0 };

		setup(NULL);
		if (set(bad[i].name, bad[i].low, bad[i].high) != HV_STATUS_INVALID_REGISTER_VALUE)
			fail_msg("register %xh took %llxh", bad[i].name, (unsigned long long)bad[i].low);
		assert_memory_equal(fake.registers, zero, sizeof(zero));
		assert_int_equal(vp->gpr[0], 0);
	}
}

static void limits_that_are_right(void **state)
{
	(void)state;
	round_trip(0x60001, 0, 0x809bull << 48 | 0xfffff);
	round_trip(0x60001, 0, 0x009bull << 48 | 0xfffff);
	round_trip(0x60003, 0, 0x8013ull << 48 | 0x12345); /* a null segment's limit doesn't count */
}

static void msrs_that_fault(void **state)
{
	union hv_register_value value;

	(void)state;
	fake.missing_msr = 0x48;
	assert_int_equal(get(0x80084, &value), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(set(0x80084, 0, 0), HV_STATUS_INVALID_PARAMETER);
	fake.stubborn_msr = 0x2ff;
	assert_int_equal(set(0x8000e, 0x1000, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	/* What the partition isn't offered is there, but not for it. */
	fake.missing_msr = HV_MSR_SINT0;
	assert_int_equal(get(0xa0000, &value), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(set(0xa0000, 0x10000, 0), HV_STATUS_ACCESS_DENIED);
	fake.stubborn_msr = HV_MSR_SCONTROL;
	assert_int_equal(set(0xa0010, 2, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	fake.missing_msr = 0xc0000080; /* and one that is checked against others */
	assert_int_equal(set(0x80001, 0, 0), HV_STATUS_INVALID_PARAMETER);
}

static void what_only_a_parent_may_touch(void **state)
{
	static const struct {
		uint32_t name;
		uint64_t good, bad;
	} parents[] = { { 0, 1, 2 }, { 1, 1, 4 }, { 3, 1, 2 }, { 0x10006, 0x8001000000000000, 0x40 } };
	union hv_register_value value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(parents); i++) {
		assert_int_equal(set(parents[i].name, 0, 0), HV_STATUS_ACCESS_DENIED);
		assert_int_equal(get(parents[i].name, &value), HV_STATUS_ACCESS_DENIED);
		value = (union hv_register_value){ .reg128 = { parents[i].good, 0 } };
		assert_int_equal(vp_register_set(vp, false, parents[i].name, &value), 0);
		value.reg64 = parents[i].bad;
		assert_int_equal(vp_register_set(vp, false, parents[i].name, &value),
				 HV_STATUS_INVALID_REGISTER_VALUE);
		value.reg64 = 0;
		assert_int_equal(vp_register_get(vp, false, parents[i].name, &value), 0);
		assert_int_equal(value.reg64, parents[i].good);
	}
	assert_int_equal(vp->holds, VP_HOLD_EXPLICIT | VP_HOLD_INTERCEPT | VP_HOLD_DISPATCH);
	assert_int_equal(vp->synic.wanted, 0x8001);
	vp->parent_registers.signal_count = 5;
	assert_int_equal(vp_register_get(vp, false, 0x90014, &value), 0);
	assert_int_equal(value.reg64, 5);
}

/* The mark first: who is let go looks at it before it runs. */
static void the_answer_to_an_intercept(void **state)
{
	const union hv_register_value zero = { .reg128 = { 0, 0 } };

	(void)state;
	assert_int_equal(vp_register_set(vp, false, 1, &zero), 0);
	assert_int_equal(vp->pending, 0); /* there was none */
	vp->holds = VP_HOLD_INTERCEPT | VP_HOLD_EXPLICIT;
	assert_int_equal(vp_register_set(vp, false, 1, &zero), 0);
	assert_true(fake.resume_at_release);
	assert_int_equal(vp->holds, VP_HOLD_EXPLICIT);
	assert_int_equal(vp->pending, VP_PENDING_RESUME);
	vp->pending = 0;
	assert_int_equal(vp_register_set(vp, false, 0, &zero), 0);
	assert_int_equal(vp->holds, 0);
	assert_int_equal(vp->pending, 0);
}

static void set_parent(uint32_t name, uint64_t low, uint64_t high, uint16_t status)
{
	const union hv_register_value value = { .reg128 = { low, high } };

	assert_int_equal(vp_register_set(vp, false, name, &value), status);
}

static union hv_register_value get_parent(uint32_t name)
{
	union hv_register_value value;

	assert_int_equal(vp_register_get(vp, false, name, &value), 0);
	return value;
}

#define XSTATE_BV (*(uint64_t *)(fpu + 512))

/* What the processor has is another VP's. */
static void live_registers_in_memory(void **state)
{
	(void)state;
	fake.loaded = false;
	fake.has_xsave = true;
	vp->xcr0 = 1;
	partition.cpuid.xsave_states = 7;
	memset(fpu, 0xee, 512); /* in the initial state: what lies there means nothing */
	vp->fpu->mxcsr = 0x1f80;
	vp->fpu->mxcsr_mask = 0xffff;
	assert_int_equal(get_parent(0x30003).reg128.low, 0);
	assert_int_equal(get_parent(0x30011).reg128.high, 0);
	assert_int_equal(get_parent(0x30018).fp_control_status.fp_control, 0x37f);
	assert_int_equal(get_parent(0x30018).fp_control_status.last_fp_rip, 0);
	assert_int_equal(get_parent(0x30019).xmm_control_status.xmm_status_control, 0x1f80);
	set_parent(0x30003, 0x1122, 0x3344, 0);
	assert_int_equal(XSTATE_BV, 3);
	assert_int_equal(vp->fpu->xmm[3].low, 0x1122);
	assert_int_equal(vp->fpu->xmm[3].high, 0x3344);
	assert_int_equal(vp->fpu->xmm[4].low, 0);
	assert_int_equal(vp->fpu->fcw, 0x37f);
	set_parent(0x30019, 0, 0x1f80 | BIT(16), HV_STATUS_INVALID_REGISTER_VALUE);
	set_parent(0x40005, 3, 0, 0);
	assert_int_equal(vp->xcr0, 3);
	set_parent(0x40005, 2, 0, HV_STATUS_INVALID_REGISTER_VALUE);
	set_parent(0x40005, 5, 0, HV_STATUS_INVALID_REGISTER_VALUE);
	set_parent(0x40005, 15, 0, HV_STATUS_INVALID_REGISTER_VALUE);
	set_parent(0x40005, 7, 0, 0);
	assert_int_equal(get_parent(0x40005).reg64, 7);
	partition.cpuid.xsave_states = 0xe7;
	set_parent(0x40005, 0x27, 0,
		   HV_STATUS_INVALID_REGISTER_VALUE); /* AVX-512 is three components or none */
	set_parent(0x40005, 0xc7, 0, HV_STATUS_INVALID_REGISTER_VALUE);
	set_parent(0x40005, 0xe7, 0, 0);
	set_parent(0x50005, 0x400, 0, 0);
	assert_false(vp->uses_dr);
	set_parent(0x50005, 0x402, 0, 0); /* else it would break at another's addresses */
	assert_true(vp->uses_dr);
	vp->uses_dr = false;
	set_parent(0x50002, 0xabc, 0, 0);
	assert_int_equal(vp->dr[2], 0xabc);
	assert_true(vp->uses_dr);
	assert_int_equal(get_parent(0x50002).reg64, 0xabc);
	assert_int_equal(fake.fx_loads, 0);
	assert_int_equal(fake.dr[2], 0);
}

/* Without XSAVE nothing says what is in use: all is. */
static void live_registers_in_memory_without_xsave(void **state)
{
	(void)state;
	fake.loaded = false;
	vp->fpu->xmm[0].low = 5;
	vp->fpu->fcw = 0x27f;
	assert_int_equal(get_parent(0x30000).reg64, 5);
	assert_int_equal(get_parent(0x30018).fp_control_status.fp_control, 0x27f);
	assert_int_equal(get_parent(0x40005).reg64, 1);
	set_parent(0x40005, 3, 0, HV_STATUS_INVALID_REGISTER_VALUE);
	set_parent(0x40005, 1, 0, 0);
	set_parent(0x30000, 6, 0, 0);
	assert_int_equal(vp->fpu->xmm[0].low, 6);
	assert_int_equal(XSTATE_BV, 0);
}

/* A VP that never used them has another's in the processor. */
static void debug_registers_of_its_own(void **state)
{
	(void)state;
	fake.dr[1] = 0x99;
	vp->dr[1] = 0x11;
	vp->dr[2] = 0x22;
	reads(0x50001, 0x11, 0);
	assert_int_equal(set(0x50001, 0x33, 0), 0);
	assert_int_equal(fake.dr[1], 0x33);
	assert_int_equal(fake.dr[2], 0x22);
	reads(0x50001, 0x33, 0);
}

static void activity_of_a_child(void **state)
{
	(void)state;
	fake.registers[VP_REGISTER_RFLAGS].reg64 = 0x202;
	set_parent(4, 2, 0, 0);
	assert_true(vp->halted);
	assert_true(vp->halted_interrupts_on);
	assert_true(vp->halted_nmis_on);
	assert_false(vp->halted_until_pending);
	assert_int_equal(get_parent(4).reg64, 2);
	fake.registers[VP_REGISTER_RFLAGS].reg64 = 2;
	fake.registers[VP_REGISTER_INTERRUPT_STATE].reg64 = 2;
	set_parent(4, 2, 0, 0);
	assert_false(vp->halted_interrupts_on);
	assert_false(vp->halted_nmis_on);
	set_parent(4, 4, 0, 0); /* idle: whatever its flags */
	assert_true(vp->halted_interrupts_on);
	assert_true(vp->halted_nmis_on);
	assert_int_equal(get_parent(4).reg64, 4);
	set_parent(4, 1, 0, 0);
	assert_int_equal(vp->state, VP_WAIT_SIPI);
	assert_false(vp->halted);
	set_parent(4, 0, 0, 0);
	assert_int_equal(vp->state, VP_RUNNING);
	set_parent(4, 8, 0, HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(4, 1, 0), HV_STATUS_INVALID_REGISTER_VALUE);
}

/* A parent that restores them has its own order. */
static void flags_of_a_halted_child(void **state)
{
	(void)state;
	fake.registers[VP_REGISTER_RFLAGS].reg64 = 2;
	set_parent(4, 2, 0, 0);
	assert_false(vp->halted_interrupts_on);
	assert_true(vp->halted_nmis_on);
	set_parent(0x20011, 0x202, 0, 0);
	assert_true(vp->halted && vp->halted_interrupts_on);
	set_parent(0x10003, 2, 0, 0);
	assert_true(vp->halted && !vp->halted_nmis_on);
	set_parent(0x10002, 0x300001, 0, 0);
	assert_false(vp->halted);
	/* The other way round, and as an exception. */
	set_parent(4, 2, 0, 0);
	assert_false(vp->halted);
	set_parent(0x10002, 0, 0, 0);
	set_parent(4, 2, 0, 0);
	assert_true(vp->halted);
	set_parent(0x10004, 0x060001, 0, 0);
	assert_false(vp->halted);
}

static void activity(void **state)
{
	(void)state;
	reads(4, 0, 0);
	vp->state = VP_WAIT_SIPI;
	reads(4, 1, 0);
	assert_int_equal(set(4, 1, 0), 0);
}

static void pending_interruption_is_checked(void **state)
{
	static const uint64_t good[] = {
		0,	     0xffffffff00000000, /* nothing is pending: the rest doesn't count */
		0x300001,			 /* interrupt 30h */
		0x20005,			 /* NMI */
		0xd0017,			 /* #GP(0) */
		0x5000e0017,			 /* page fault, error code 5 */
		0x800049,			 /* INT 80h, two bytes long */
		0x3002d,			 /* INT3 */
		0x1002b,			 /* INT1 */
	};
	static const uint64_t bad[] = {
		0x1000001, /* vector 256 */
		0x300201,  /* nested */
		0x308001,  /* reserved */
		0x300003,  /* type 1 */
		0x30000f,  /* type 7 */
		0x30005,   /* an NMI has vector 2 */
		0x20007,   /* and isn't an exception */
		0x1f0007,  /* exceptions end at 30 */
		0x300011,  /* an interrupt has no error code */
		0x5002d,   /* only INT3 and INTO */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(set(0x10002, good[i], 0), HV_STATUS_SUCCESS);
		assert_int_equal(fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64, good[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (set(0x10002, bad[i], 0) != HV_STATUS_INVALID_REGISTER_VALUE)
			fail_msg("pending interruption %llxh was taken", (unsigned long long)bad[i]);
}

static void events_become_interruptions(void **state)
{
	(void)state;
	reads(0x10004, 0, 0);
	assert_int_equal(set(0x10004, 0, 0), 0);
	assert_int_equal(set(0x10004, 0x5000e0101, 0xdeadbeef000), 0); /* page fault */
	assert_int_equal(fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64, 0x5000e0017);
	assert_int_equal(fake.registers[VP_REGISTER_CR2].reg64, 0xdeadbeef000);
	assert_int_equal(set(0x10004, 0x10001, 0xffff4ff0), 0); /* #DB */
	assert_int_equal(fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64, 0x10007);
	assert_int_equal(fake.registers[VP_REGISTER_DR6].reg64, 0xffff4ff0);
	/* An upper half of DR6 ends the hypervisor: VMRUN refuses it, and so does MOV to DR6. */
	assert_int_equal(set(0x10004, 0x10001, 0x1ffff4ff0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(0x10004, 0x10001, 1ull << 63), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(fake.registers[VP_REGISTER_DR6].reg64, 0xffff4ff0);
	assert_int_equal(set(0x10004, 0x6000b, 0),
			 HV_STATUS_INVALID_REGISTER_VALUE); /* an external interrupt */
	assert_int_equal(set(0x10004, 0x20001, 0), HV_STATUS_INVALID_REGISTER_VALUE); /* NMI */
	assert_int_equal(set(0x10004, 0x1f0001, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(0x10004, 0, 1), HV_STATUS_INVALID_REGISTER_VALUE);
	fake.refuses = true;
	assert_int_equal(set(0x10004, 0x5000e0101, 0x1000), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(fake.registers[VP_REGISTER_CR2].reg64, 0xdeadbeef000);
}

/* What a parent raises goes before what was being delivered, but doesn't do away with it. */
static void an_event_puts_an_interrupt_back(void **state)
{
	(void)state;
	fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64 = 0x510001;
	assert_int_equal(set(0x10004, 0x5000e0101, 0x1000), 0); /* a root's own */
	assert_int_equal(fake.put_back, 0);
	vp->child = (struct vp_child *)&fake; /* there is one: it isn't looked into */
	fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64 = 0x510001;
	fake.refuses = true;
	assert_int_equal(set(0x10004, 0x5000e0101, 0x1000), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(fake.put_back, 0);
	fake.refuses = false;
	assert_int_equal(set(0x10004, 0x5000e0101, 0x1000), 0);
	assert_int_equal(fake.put_back, 0x51);
	assert_int_equal(fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64, 0x5000e0017);
	/* An exception comes again by itself. */
	fake.put_back = 0;
	assert_int_equal(set(0x10004, 0x5000e0101, 0x1000), 0);
	assert_int_equal(fake.put_back, 0);
	assert_int_equal(atomic_load(&vp->pending) & VP_PENDING_NMI, 0);
	fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64 = 0x20005; /* an NMI */
	fake.registers[VP_REGISTER_INTERRUPT_STATE].reg64 = HV_INTERRUPT_STATE_NMI_MASKED;
	assert_int_equal(set(0x10004, 0x5000e0101, 0x1000), 0);
	assert_int_equal(atomic_load(&vp->pending) & VP_PENDING_NMI, VP_PENDING_NMI);
	assert_int_equal(fake.registers[VP_REGISTER_INTERRUPT_STATE].reg64, 0);
}

static void floating_point(void **state)
{
	(void)state;
	round_trip(0x3000f, 0x1111, 0x2222);
	assert_int_equal(fake.fx.xmm[15].low, 0x1111);
	assert_int_equal(fake.fx.xmm[15].high, 0x2222);
	round_trip(0x30017, 0x8000000000000000, 0xbfff);
	assert_int_equal(fake.fx.st[7].high, 0xbfff);
	round_trip(0x30018, 0x07d8009a3800037f, 0x401000);
	assert_int_equal(fake.fx.fcw, 0x037f);
	assert_int_equal(fake.fx.fsw, 0x3800);
	assert_int_equal(fake.fx.ftw, 0x9a);
	assert_int_equal(fake.fx.fop, 0x07d8);
	assert_int_equal(fake.fx.fip, 0x401000);
	round_trip(0x30019, 0x402000, 0x0000ffff00001f80);
	assert_int_equal(fake.fx.fdp, 0x402000);
	assert_int_equal(fake.fx.mxcsr, 0x1f80);
	assert_int_equal(fake.fx_loads, 4);
	assert_int_equal(set(0x30010, 0, 0x10000), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(0x30018, 1ull << 40, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(set(0x30019, 0, 0x10000), HV_STATUS_INVALID_REGISTER_VALUE);
	fake.fx.mxcsr_mask = 0; /* an old processor: bit 6 doesn't exist */
	assert_int_equal(set(0x30019, 0, 0x40), HV_STATUS_INVALID_REGISTER_VALUE);
	reads(0x30019, 0x402000, 0x0000ffbf00001f80);
	assert_int_equal(fake.fx_loads, 4);
}

static void without_xsave(void **state)
{
	(void)state;
	fake.has_xcr0 = false;
	reads(0x40005, 1, 0);
	assert_int_equal(set(0x40005, 1, 0), 0);
	assert_int_equal(set(0x40005, 3, 0), HV_STATUS_INVALID_REGISTER_VALUE);
}

/* Of a VP that goes on right away the whole must fit together; one that is stopped is put together in any order. */
static void a_state_that_cannot_run_is_undone(void **state)
{
	const union hv_register_value value = { .reg128 = { 0x20, 0 } };

	(void)state;
	fake.registers[VP_REGISTER_CR4].reg64 = 0x6f0;
	fake.cr4_that_cannot_run = 0x20;
	assert_int_equal(set(0x40003, 0x20, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(fake.registers[VP_REGISTER_CR4].reg64, 0x6f0);
	assert_int_equal(fake.checks, 2);
	assert_int_equal(vp_register_set(vp, false, 0x40003, &value), HV_STATUS_SUCCESS);
	assert_int_equal(fake.registers[VP_REGISTER_CR4].reg64, 0x20);
	assert_int_equal(fake.checks, 2);
	/* From then on everything that the check looks at is refused, an MSR and an event too, and nothing else. */
	*fake_msr(0xc0000080) = 0x500;
	assert_int_equal(set(0x80001, 0xd01, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(*fake_msr(0xc0000080), 0x500);
	fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64 = 0x20005;
	assert_int_equal(set(0x10004, 0x5000e0101, 0x1000), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_int_equal(fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64, 0x20005);
	assert_int_equal(fake.registers[VP_REGISTER_CR2].reg64, 0);
	assert_int_equal(set(0x20010, 0x1000, 0), HV_STATUS_INVALID_REGISTER_VALUE);
	assert_false(vp->rip_moved);
	assert_int_equal(set(0x20000, 1, 0), HV_STATUS_SUCCESS);
	assert_int_equal(set(0x40001, 1, 0), HV_STATUS_SUCCESS);
}

/* The hypercall's own instruction must not step over what it set. */
static void rip_of_the_caller_moves(void **state)
{
	const union hv_register_value value = { .reg128 = { 0x2000, 0 } };

	(void)state;
	assert_int_equal(vp_register_set(vp, false, 0x20010, &value), 0);
	assert_false(vp->rip_moved);
	assert_int_equal(set(0x20010, 0x1000, 0), 0);
	assert_true(vp->rip_moved);
	assert_int_equal(fake.registers[VP_REGISTER_RIP].reg64, 0x1000);
}

/* The binary search over the rows, at every edge: a name is known or not, and nothing reads outside the table. */
static void every_name_has_one_answer(void **state)
{
	unsigned int known = 0;

	(void)state;
	for (uint32_t name = 0; name < 0x100000; name++) {
		union hv_register_value value;

		known += vp_register_get(vp, false, name, &value) == HV_STATUS_SUCCESS;
		fake.msr_count = 0;
	}
	assert_int_equal(known, 5 + 1 + 10 + 6 + 2 + 5 + 18 + 26 + 6 + 4 + 6 + 8 + 2 + 15 + 16 + 16 + 11 + 5 +
					1 + 2 + 3 + 5 + 2 + 3 + 1 + 1 + 5 + 5 + 1 + 22 + 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(names_round_trip, setup),
		cmocka_unit_test_setup(neighbours_are_apart, setup),
		cmocka_unit_test_setup(msrs_have_their_numbers, setup),
		cmocka_unit_test_setup(segments_and_tables_round_trip, setup),
		cmocka_unit_test_setup(unknown_names_are_refused, setup),
		cmocka_unit_test_setup(read_only_registers, setup),
		cmocka_unit_test_setup(write_only_registers_read_as_0, setup),
		cmocka_unit_test_setup(leaves_are_registers, setup),
		cmocka_unit_test_setup(bad_values_are_refused, setup),
		cmocka_unit_test_setup(limits_that_are_right, setup),
		cmocka_unit_test_setup(msrs_that_fault, setup),
		cmocka_unit_test_setup(what_only_a_parent_may_touch, setup),
		cmocka_unit_test_setup(activity, setup),
		cmocka_unit_test_setup(pending_interruption_is_checked, setup),
		cmocka_unit_test_setup(events_become_interruptions, setup),
		cmocka_unit_test_setup(an_event_puts_an_interrupt_back, setup),
		cmocka_unit_test_setup(floating_point, setup),
		cmocka_unit_test_setup(without_xsave, setup),
		cmocka_unit_test_setup(a_state_that_cannot_run_is_undone, setup),
		cmocka_unit_test_setup(rip_of_the_caller_moves, setup),
		cmocka_unit_test_setup(every_name_has_one_answer, setup),
		cmocka_unit_test_setup(the_answer_to_an_intercept, setup),
		cmocka_unit_test_setup(live_registers_in_memory, setup),
		cmocka_unit_test_setup(live_registers_in_memory_without_xsave, setup),
		cmocka_unit_test_setup(debug_registers_of_its_own, setup),
		cmocka_unit_test_setup(activity_of_a_child, setup),
		cmocka_unit_test_setup(flags_of_a_halted_child, setup),
	};
	int failed;

	vp = aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(*vp), PAGE_SIZE));
	runner = aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(*vp), PAGE_SIZE));
	failed = cmocka_run_group_tests_name("VP registers by name", tests, NULL, NULL);
	free(vp);
	free(runner);
	return failed;
}
