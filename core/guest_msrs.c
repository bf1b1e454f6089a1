/* SPDX-License-Identifier: MIT */
/*
 * The MSRs of children's VPs that no back end keeps. What stock Linux looks for on an EPYC and on a Haswell has a row, with a value that
 * says "nothing special here"; all else is the parent's choice. SDM4 2.1, APM2 A, and the families' own manuals.
 */
#include <errno.h>
#include <trivet/cpuid_policy.h>
#include <trivet/guest_msrs.h>
#include <trivet/intercepts.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/safe_msr.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>
#include <trivet/x86.h>

#define MSR_AMD_DE_CFG 0xc0011029u

#define MTRR_CAP_WC BIT(10)
#define MTRR_DEF_DEFINED 0xcffull /* enable, fixed enable, type */
#define MTRR_BASE_DEFINED (~0xf00ull)
#define MTRR_MASK_DEFINED (~0x7ffull)
#define MISC_FAST_STRINGS BIT(0)
#define MISC_NO_BTS BIT(11)
#define MISC_NO_PEBS BIT(12)
/* Bits that some processor has (SDM4 table 2-2); all but fast strings read as they were. */
#define MISC_DEFINED 0x4400c51889ull
#define FEATURE_CONTROL_LOCKED BIT(0)
#define HWCR_TSC_AT_P0 BIT(24)
#define DE_CFG_LFENCE_SERIALIZES BIT(1)
#define VM_CR_SVM_LOCKED_OFF (BIT(3) | BIT(4))

#define SAME_CLOCK_SECONDS 1u

enum vendor { INTEL = 1, AMD = 2, ANY = 3 };

/* What a write does that has no function. */
enum on_write { FAULTS, IGNORED, ONLY_SAME };

struct row {
	uint32_t first, count;
	uint8_t vendors;
	uint8_t on_write;
	uint64_t value; /* that it reads as, without a function */
	uint64_t (*read)(struct vp *vp, uint32_t msr);
	int (*write)(struct vp *vp, uint32_t msr, uint64_t value);
};

/* What the processor hasn't got either. The guest's own access may be for its parent to answer: so it fails. */
static int unknown(const struct vp *vp, uint32_t wanted)
{
	if (unlikely(vp->wanted & wanted) && vp_is_loaded_here(vp))
		return -EINVAL;
	return vp->partition->properties.ignores_unknown_msrs ? 0 : -EINVAL;
}

/* ---- Time stamp counter ---- */

/* Not by tsc_delta: a VP that its parent fills before it ever ran has none yet, nor is this its LP. */
uint64_t guest_msrs_tsc(const struct vp *vp)
{
	return lp_clock() + vp->tsc_offset;
}

static uint64_t read_tsc(struct vp *vp, uint32_t msr)
{
	(void)msr;
	return guest_msrs_tsc(vp);
}

/* The VP's TSC jumps by `delta`: deadlines in it stay as far away as they were, but for what is set to a moment of the TSC itself. */
static void move_tsc(struct vp *vp, uint64_t delta)
{
	if (!delta)
		return;
	__atomic_store_n(&vp->tsc_offset, vp->tsc_offset + delta, __ATOMIC_RELAXED);
	vp->tsc_delta += delta;
	apic_tsc_adjusted(&vp->apic, (int64_t)delta);
	reference_time_tsc_moved(vp->partition);
	if (vp_is_loaded_here(vp))
		stimers_clock_changed(vp);
	else
		vp_post(vp, VP_PENDING_CLOCK);
}

/*
 * A parent sets the TSC of one VP after the other to what all are to have together. What is within a second of the clock that it set means
 * that clock, as KVM has it; anything else, and its first, starts it anew: a guest that came from elsewhere may be younger than a second.
 */
static void set_partition_tsc(struct vp *vp, uint64_t value)
{
	struct partition *partition = vp->partition;
	uint64_t offset = value - lp_clock();
	uint64_t common = __atomic_load_n(&partition->tsc_offset, __ATOMIC_RELAXED);
	uint64_t second = lp_tsc_hz() * SAME_CLOCK_SECONDS;

	if (!__atomic_exchange_n(&partition->tsc_was_set, true, __ATOMIC_RELAXED) ||
	    offset - common + second > 2 * second) {
		common = offset;
		__atomic_store_n(&partition->tsc_offset, common, __ATOMIC_RELAXED);
	}
	move_tsc(vp, common - vp->tsc_offset);
}

static int write_tsc(struct vp *vp, uint32_t msr, uint64_t value)
{
	uint64_t delta = value - read_tsc(vp, msr);

	if (!vp_is_loaded_here(vp)) {
		set_partition_tsc(vp, value);
		return 0;
	}
	vp->child->msrs.tsc_adjust += delta;
	move_tsc(vp, delta);
	return 0;
}

static uint64_t read_tsc_adjust(struct vp *vp, uint32_t msr)
{
	(void)msr;
	return vp->child->msrs.tsc_adjust;
}

/* The guest's write moves its TSC along (SDM3 18.17.3), its parent's only says what the guest has written before. */
static int write_tsc_adjust(struct vp *vp, uint32_t msr, uint64_t value)
{
	uint64_t delta = value - vp->child->msrs.tsc_adjust;

	(void)msr;
	vp->child->msrs.tsc_adjust = value;
	if (vp_is_loaded_here(vp))
		move_tsc(vp, delta);
	return 0;
}

/* ---- Memory types: kept and shown, nothing more; what caches a child's memory is the second stage's to say ---- */

static bool is_memory_type(uint64_t type)
{
	return type == 0 || type == 1 || (type >= 4 && type <= 6);
}

static bool fits_address(struct vp *vp, uint64_t value)
{
	return !(value >> cpuid_policy_phys_bits(vp));
}

static uint64_t read_mtrr_default(struct vp *vp, uint32_t msr)
{
	(void)msr;
	return vp->child->msrs.mtrr_default;
}

static int write_mtrr_default(struct vp *vp, uint32_t msr, uint64_t value)
{
	(void)msr;
	if ((value & ~MTRR_DEF_DEFINED) || !is_memory_type(value & 0xff))
		return -EINVAL;
	vp->child->msrs.mtrr_default = value;
	return 0;
}

static uint64_t *variable_of(struct vp *vp, uint32_t msr)
{
	unsigned int index = (msr - MSR_MTRR_PHYS_BASE) / 2;

	return msr % 2 ? &vp->child->msrs.mtrr_mask[index] : &vp->child->msrs.mtrr_base[index];
}

static uint64_t read_mtrr_variable(struct vp *vp, uint32_t msr)
{
	return *variable_of(vp, msr);
}

static int write_mtrr_variable(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (!fits_address(vp, value))
		return -EINVAL;
	if (msr % 2 ? (value & ~MTRR_MASK_DEFINED) != 0 :
		      (value & ~MTRR_BASE_DEFINED) || !is_memory_type(value & 0xff))
		return -EINVAL;
	*variable_of(vp, msr) = value;
	return 0;
}

static uint64_t *fixed_of(struct vp *vp, uint32_t msr)
{
	if (msr == MSR_MTRR_FIX_64K)
		return &vp->child->msrs.mtrr_fixed[0];
	if (msr < MSR_MTRR_FIX_4K)
		return &vp->child->msrs.mtrr_fixed[1 + msr - MSR_MTRR_FIX_16K];
	return &vp->child->msrs.mtrr_fixed[3 + msr - MSR_MTRR_FIX_4K];
}

static uint64_t read_mtrr_fixed(struct vp *vp, uint32_t msr)
{
	return *fixed_of(vp, msr);
}

static int write_mtrr_fixed(struct vp *vp, uint32_t msr, uint64_t value)
{
	for (unsigned int i = 0; i < 64; i += 8)
		if (!is_memory_type(value >> i & 0xff))
			return -EINVAL;
	*fixed_of(vp, msr) = value;
	return 0;
}

/* ---- Features ---- */

static uint64_t read_misc_enable(struct vp *vp, uint32_t msr)
{
	(void)msr;
	return vp->child->msrs.misc_enable;
}

static int write_misc_enable(struct vp *vp, uint32_t msr, uint64_t value)
{
	uint64_t *misc = &vp->child->msrs.misc_enable;

	(void)msr;
	if (value & ~MISC_DEFINED)
		return -EINVAL;
	*misc = (*misc & ~MISC_FAST_STRINGS) | (value & MISC_FAST_STRINGS);
	return 0;
}

/* Whether LFENCE waits is the same for all: the root's to say. */
static uint64_t read_de_cfg(struct vp *vp, uint32_t msr)
{
	uint64_t value;

	(void)vp;
	return safe_rdmsr(msr, &value) ? value & DE_CFG_LFENCE_SERIALIZES : 0;
}

/* A command: the VP's own predictions are forgotten with all others'. */
static int write_pred_cmd(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (value & ~PRED_CMD_IBPB)
		return -EINVAL;
	if (!value || !vp_is_loaded_here(vp))
		return 0;
	return safe_wrmsr(msr, value) ? 0 : unknown(vp, 0);
}

/* ---- The table ---- */

/* clang-format off */
static const struct row rows[] = {
	{ MSR_TSC, 1, ANY, FAULTS, 0, read_tsc, write_tsc },
	{ 0x17, 1, INTEL, FAULTS, 0, NULL, NULL }, /* PLATFORM_ID */
	{ 0x2a, 1, INTEL, ONLY_SAME, 0, NULL, NULL }, /* EBL_CR_POWERON */
	{ 0x3a, 1, INTEL, FAULTS, FEATURE_CONTROL_LOCKED, NULL, NULL }, /* no VMX, no SGX */
	{ MSR_TSC_ADJUST, 1, ANY, FAULTS, 0, read_tsc_adjust, write_tsc_adjust },
	{ MSR_PRED_CMD, 1, ANY, FAULTS, 0, NULL, write_pred_cmd },
	{ MSR_BIOS_UPDT_TRIG, 1, INTEL, IGNORED, 0, NULL, NULL },
	{ MSR_MICROCODE_LEVEL, 1, INTEL, IGNORED, 1ull << 32, NULL, NULL },
	{ MSR_MICROCODE_LEVEL, 1, AMD, IGNORED, 0x01000065, NULL, NULL },
	{ 0xce, 1, INTEL, FAULTS, 0, NULL, NULL }, /* PLATFORM_INFO */
	{ MSR_MTRR_CAP, 1, ANY, FAULTS, GUEST_MTRR_VARIABLE | MTRR_CAP_FIXED | MTRR_CAP_WC, NULL, NULL },
	{ 0x140, 1, INTEL, ONLY_SAME, 0, NULL, NULL }, /* MISC_FEATURES_ENABLES */
	{ 0x179, 1, ANY, FAULTS, 0, NULL, NULL }, /* MCG_CAP: no banks */
	{ MSR_MCG_STATUS, 1, ANY, ONLY_SAME, 0, NULL, NULL },
	{ MSR_MISC_ENABLE, 1, INTEL, FAULTS, 0, read_misc_enable, write_misc_enable },
	{ MSR_MTRR_PHYS_BASE, 2 * GUEST_MTRR_VARIABLE, ANY, FAULTS, 0, read_mtrr_variable, write_mtrr_variable },
	{ MSR_MTRR_FIX_64K, 1, ANY, FAULTS, 0, read_mtrr_fixed, write_mtrr_fixed },
	{ MSR_MTRR_FIX_16K, 2, ANY, FAULTS, 0, read_mtrr_fixed, write_mtrr_fixed },
	{ MSR_MTRR_FIX_4K, 8, ANY, FAULTS, 0, read_mtrr_fixed, write_mtrr_fixed },
	{ MSR_MTRR_DEF_TYPE, 1, ANY, FAULTS, 0, read_mtrr_default, write_mtrr_default },
	{ 0xc0010000, 8, AMD, IGNORED, 0, NULL, NULL }, /* the old performance counters: Linux looks whether they keep a value */
	{ 0xc0010010, 1, AMD, IGNORED, 0, NULL, NULL }, /* SYSCFG */
	{ MSR_HWCR, 1, AMD, IGNORED, HWCR_TSC_AT_P0, NULL, NULL },
	{ 0xc001001a, 1, AMD, IGNORED, 0, NULL, NULL }, /* TOP_MEM */
	{ 0xc001001d, 1, AMD, IGNORED, 0, NULL, NULL }, /* TOP_MEM2 */
	{ 0xc001001f, 1, AMD, IGNORED, 0, NULL, NULL }, /* NB_CFG */
	{ 0xc0010020, 1, AMD, IGNORED, 0, NULL, NULL }, /* microcode patch loader */
	{ 0xc0010055, 1, AMD, IGNORED, 0, NULL, NULL }, /* INT_PENDING: no C1E */
	{ 0xc0010058, 1, AMD, IGNORED, 0, NULL, NULL }, /* MMIO configuration: none */
	{ MSR_VM_CR, 1, AMD, IGNORED, VM_CR_SVM_LOCKED_OFF, NULL, NULL },
	{ 0xc0011020, 4, AMD, IGNORED, 0, NULL, NULL }, /* LS_CFG, IC_CFG, DC_CFG, TW_CFG */
	{ MSR_AMD_DE_CFG, 1, AMD, IGNORED, 0, read_de_cfg, NULL },
	{ 0xc001102a, 1, AMD, IGNORED, 0, NULL, NULL }, /* BU_CFG2 */
	{ 0xc001102e, 1, AMD, IGNORED, 0, NULL, NULL }, /* BP_CFG */
};
/* clang-format on */

static const struct row *find_row(uint32_t msr)
{
	enum vendor vendor = cpuid(0, 0).ebx == CPUID_VENDOR_INTEL_EBX ? INTEL : AMD;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (msr - rows[i].first < rows[i].count && (rows[i].vendors & vendor))
			return &rows[i];
	return NULL;
}

bool guest_msr_exists(uint32_t msr)
{
	return find_row(msr) != NULL;
}

bool guest_msr_takes(uint32_t msr, uint64_t value, unsigned int linear_bits)
{
	unsigned int unused = 64 - linear_bits;

	switch (msr) {
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
		return (uint64_t)((int64_t)(value << unused) >> unused) == value;
	case MSR_SYSENTER_CS:
	case MSR_SFMASK:
		return !(value >> 32);
	case MSR_PAT:
		return pat_is_valid(value);
	default:
		return true;
	}
}

static uint64_t value_of(struct vp *vp, const struct row *row, uint32_t msr)
{
	return row->read ? row->read(vp, msr) : row->value;
}

int guest_msr_read(struct vp *vp, uint32_t msr, uint64_t *value)
{
	const struct row *row = find_row(msr);

	*value = 0;
	if (!row)
		return unknown(vp, VP_WANTED_UNKNOWN_MSR_READ);
	if (msr == MSR_PRED_CMD)
		return -EINVAL; /* write-only */
	*value = value_of(vp, row, msr);
	return 0;
}

int guest_msr_write(struct vp *vp, uint32_t msr, uint64_t value)
{
	const struct row *row = find_row(msr);

	if (!row)
		return unknown(vp, VP_WANTED_UNKNOWN_MSR_WRITE);
	if (row->write)
		return row->write(vp, msr, value);
	switch ((enum on_write)row->on_write) {
	case IGNORED:
		return 0;
	case ONLY_SAME:
		return value == value_of(vp, row, msr) ? 0 : -EINVAL;
	case FAULTS:
		break;
	}
	return -EINVAL;
}

void guest_msrs_init(struct vp *vp)
{
	vp->child->msrs = (struct guest_msrs){
		.misc_enable = MISC_FAST_STRINGS | MISC_NO_BTS | MISC_NO_PEBS,
	};
}
