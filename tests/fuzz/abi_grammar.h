/* SPDX-License-Identifier: MIT */
/*
 * From the fuzzer's bytes to what a guest may say: the shape of each call's input, so that most get past the first checks, and
 * the values that matter for each MSR. A byte stands for a field; from 0xf0 on it announces the field itself, so anything can be said.
 */
#ifndef TRIVET_TESTS_ABI_GRAMMAR_H
#define TRIVET_TESTS_ABI_GRAMMAR_H

#include <string.h>

#include <hv/cpuid.h>
#include <hv/hypercall.h>
#include <hv/msr.h>
#include <hv/partition.h>
#include <hv/register_names.h>
#include <hv/vp.h>
#include <trivet/types.h>

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

#define CHILDREN_MAX 4u

static struct partition *children[CHILDREN_MAX]; /* that the root has; NULL: none */
static uint64_t child_ids[CHILDREN_MAX];

struct input {
	const uint8_t *data;
	size_t left;
};

static void take(struct input *in, void *to, size_t size)
{
	size_t have = size < in->left ? size : in->left;

	memset(to, 0, size);
	if (!have)
		return;
	memcpy(to, in->data, have);
	in->data += have;
	in->left -= have;
}

static uint8_t take8(struct input *in)
{
	uint8_t value;

	take(in, &value, sizeof(value));
	return value;
}

static uint64_t take64(struct input *in)
{
	uint64_t value;

	take(in, &value, sizeof(value));
	return value;
}

/* ---- Hypercalls ---- */

enum form { FORM_REP = 1, FORM_VAR = 2, SIMPLE = 0, REP = 1, SIMPLE_VAR = 2, REP_VAR = 3 };

struct call_row {
	uint16_t code;
	uint8_t form;
	uint16_t input, rep_input, output, rep_output;
	uint64_t privilege;
};

#define HYPERCALL(code, name, form, batch, input, rep_input, output, rep_output, privilege, since, tlfs, \
		  handler)                                                                               \
	{ code, form, input, rep_input, output, rep_output, privilege },
static const struct call_row call_rows[] = {
#include "../../core/hypercalls.def"
};
#undef HYPERCALL

/*
 * A letter for each field, with the bytes it takes; ',' '.' and ':' are 1, 4 and 8 bytes of zero. Calls without a shape get `b` all over.
 *   p 8 partition id     V 4 VP index          L 4 index or APIC id of an LP    s 4, q 8 small number    b 1, w 2 byte
 *   m 8 set of VPs       F 8 flags             k 8 mask of banks                v 4 vector               Q 8 anything
 *   K 4 property         N 4 register name     R 16 register value              g 8 page of the window   G 8 page of a GVA
 *   c 4 connection       o 4 port              t 4 port or object type          n 4 SINT                 D 8 device
 *   i 1 SINT             x 4 flag              y 4 one                          f 4 flags of a target
 *   C 8 flags of a partition   M 4 flags of a mapping   A 8 GPA   S 4 component of a VP's state
 *   a 4 access mask of an intercept, u 8 its parameter
 *   I 16 identity of an object of statistics   E 16 interrupt entry
 *   P 8 id of a child    l 4 CPUID leaf         X 8 value and mask       d 8, B 8 address and flags of a doorbell
 *   h 1 flag             W 8 flag or small number                     z 4 two flags              2 4 the number
 */
struct shape {
	uint16_t code;
	const char *input;
	const char *element;
};

static const struct shape shapes[] = {
	{ HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, "qFm", "" },
	{ HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, "qFm", "q" },
	{ HV_CALL_GET_LOGICAL_PROCESSOR_RUN_TIME, "L", "" },
	{ HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, "v.m", "" },
	{ HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX, "qFqk", "" },
	{ HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX, "qFqk", "q" },
	{ HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX, "v.qk", "" },
	{ HV_CALL_GET_PARTITION_PROPERTY, "pK.", "" },
	{ HV_CALL_SET_PARTITION_PROPERTY, "PK.W", "" },
	{ HV_CALL_DEPOSIT_MEMORY, "p", "g" },
	{ HV_CALL_WITHDRAW_MEMORY, "p:", "" },
	{ HV_CALL_CREATE_VP, "pV.:qq", "" },
	{ HV_CALL_DELETE_VP, "pV.", "" },
	{ HV_CALL_GET_VP_REGISTERS, "pV.", "N" },
	{ HV_CALL_SET_VP_REGISTERS, "pV.", "N.:R" },
	{ HV_CALL_TRANSLATE_VIRTUAL_ADDRESS, "pV.FG", "" },
	{ HV_CALL_DELETE_PORT, "po.", "" },
	{ HV_CALL_DISCONNECT_PORT, "pcx", "" },
	{ HV_CALL_POST_MESSAGE, "c.ssQQ", "" },
	{ HV_CALL_SIGNAL_EVENT, "cw", "" },
	{ HV_CALL_MAP_STATS_PAGE, "t.I", "" },
	{ HV_CALL_UNMAP_STATS_PAGE, "t.I", "" },
	{ HV_CALL_SET_SYSTEM_PROPERTY, "s.sii", "" },
	{ HV_CALL_ADD_LOGICAL_PROCESSOR, "LLq", "" },
	{ HV_CALL_GET_SYSTEM_PROPERTY, "s.q", "" },
	{ HV_CALL_MAP_DEVICE_INTERRUPT, "pD..::.xy.vfm", "" },
	{ HV_CALL_UNMAP_DEVICE_INTERRUPT, "pDE.", "" },
	{ HV_CALL_RETARGET_DEVICE_INTERRUPT, "pDE:vfm", "" },
	{ HV_CALL_ENTER_SLEEP_STATE, "s", "" },
	{ HV_CALL_NOTIFY_PARTITION_EVENT, "s.", "" },
	{ HV_CALL_CREATE_PORT, "po.pt.nVww.", "" },
	{ HV_CALL_CONNECT_PORT, "pc.po.t.dqB", "" },
	{ HV_CALL_GET_VP_INDEX_FROM_APIC_ID, "p:", "L" },
	{ HV_CALL_SIGNAL_EVENT_DIRECT, "pV,iw", "" },
	{ HV_CALL_GET_PARTITION_PROPERTY_EX, "pK.:", "" },
	{ HV_CALL_CREATE_PARTITION, "C:..::::", "" },
	{ HV_CALL_INITIALIZE_PARTITION, "p", "" },
	{ HV_CALL_FINALIZE_PARTITION, "p", "" },
	{ HV_CALL_DELETE_PARTITION, "p", "" },
	{ HV_CALL_MAP_GPA_PAGES, "PgM.", "g" },
	{ HV_CALL_UNMAP_GPA_PAGES, "Pgz.", "" },
	{ HV_CALL_INSTALL_INTERCEPT, "Panu", "" },
	{ HV_CALL_READ_GPA, "PVnAF", "" },
	{ HV_CALL_WRITE_GPA, "PVnAFQQ", "" },
	{ HV_CALL_CLEAR_VIRTUAL_INTERRUPT, "P", "" },
	{ HV_CALL_NOTIFY_PORT_RING_EMPTY, "n.", "" },
	{ HV_CALL_REGISTER_INTERCEPT_RESULT, "PV2lsh,,,XXXX", "" },
	{ HV_CALL_UNREGISTER_INTERCEPT_RESULT, "PV2ls", "" },
	{ HV_CALL_ASSERT_VIRTUAL_INTERRUPT, "Pnzqv.", "" },
	{ HV_CALL_POST_MESSAGE_DIRECT, "PV.nQQ", "" },
	{ HV_CALL_GET_GPA_PAGES_ACCESS_STATES, "PFg", "" },
	{ HV_CALL_MAP_VP_STATE_PAGE, "PVxg", "" },
	{ HV_CALL_UNMAP_VP_STATE_PAGE, "PVx", "" },
	{ HV_CALL_GET_VP_STATE, "PV.S.:F", "" },
	{ HV_CALL_SET_VP_STATE, "PV.S.:F", "" },
	{ HV_CALL_GET_VP_CPUID_VALUES, "PVz..", "lsFF" },
};

static const uint32_t register_names[] = {
#define NAME(name) HV_REGISTER_##name,
	NAME(EXPLICIT_SUSPEND) NAME(INTERNAL_ACTIVITY_STATE) NAME(HYPERVISOR_VERSION) NAME(
		PRIVILEGES_AND_FEATURES_INFO) NAME(GUEST_CRASH_P0) NAME(PROCESSOR_CLOCK_FREQUENCY)
		NAME(X64_PENDING_INTERRUPTION) NAME(X64_INTERRUPT_STATE) NAME(PENDING_EVENT0) NAME(X64_RAX) NAME(
			X64_RSP) NAME(X64_R15) NAME(X64_RIP) NAME(X64_RFLAGS) NAME(X64_XMM0) NAME(X64_FP_MMX0)
			NAME(X64_FP_CONTROL_STATUS) NAME(X64_XMM_CONTROL_STATUS) NAME(X64_CR0) NAME(X64_CR2) NAME(
				X64_CR3) NAME(X64_CR4) NAME(X64_CR8) NAME(X64_XFEM) NAME(X64_DR0) NAME(X64_DR6)
				NAME(X64_DR7) NAME(X64_ES) NAME(X64_CS) NAME(X64_TR) NAME(X64_IDTR) NAME(
					X64_GDTR) NAME(X64_TSC) NAME(X64_EFER) NAME(X64_KERNEL_GS_BASE)
					NAME(X64_APIC_BASE) NAME(X64_PAT) NAME(X64_STAR) NAME(X64_LSTAR) NAME(
						X64_INITIAL_APIC_ID) NAME(X64_APIC_ID) NAME(X64_MTRR_PHYS_BASE0)
						NAME(X64_TSC_DEADLINE) NAME(X64_TSC_ADJUST) NAME(VP_RUNTIME) NAME(
							X64_HYPERCALL) NAME(GUEST_OS_ID) NAME(VP_INDEX)
							NAME(TIME_REF_COUNT) NAME(X64_EOI) NAME(X64_ICR) NAME(
								VP_ASSIST_PAGE) NAME(VP_ROOT_SIGNAL_COUNT)
								NAME(REFERENCE_TSC) NAME(SINT0) NAME(SCONTROL) NAME(
									SIEFP) NAME(SIMP) NAME(EOM) NAME(SIRBP)
									NAME(STIMER0_CONFIG) NAME(STIMER0_COUNT) NAME(
										DELIVERABILITY_NOTIFICATIONS)
										NAME(INTERCEPT_SUSPEND) NAME(
											DISPATCH_SUSPEND)
											NAME(PENDING_EVENT1) NAME(
												INSTRUCTION_EMULATION_HINTS)
#undef NAME
};

static const uint32_t property_codes[] = {
	HV_PROPERTY_PRIVILEGE_FLAGS,
	HV_PROPERTY_SYNTHETIC_PROC_FEATURES,
	HV_PROPERTY_SUSPEND,
	HV_PROPERTY_REFERENCE_TIME,
	HV_PROPERTY_IMPLEMENTED_PHYSICAL_ADDRESS_BITS,
	HV_PROPERTY_PROCESSOR_VENDOR,
	HV_PROPERTY_PROCESSOR_CL_FLUSH_SIZE,
	HV_PROPERTY_COMPATIBILITY_VERSION,
	HV_PROPERTY_XSAVE_STATES,
	HV_PROPERTY_MAX_XSAVE_DATA_SIZE,
	HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY,
	HV_PROPERTY_GUEST_OS_ID,
	HV_PROPERTY_VMM_CAPABILITIES,
	HV_PROPERTY_CPU_CAP,
	HV_PROPERTY_PROCESSOR_FEATURES0,
	HV_PROPERTY_PROCESSOR_FEATURES1,
	HV_PROPERTY_PROCESSOR_XSAVE_FEATURES,
	HV_PROPERTY_ASSIGNABLE_SYNTHETIC_PROC_FEATURES,
	HV_PROPERTY_TIME_FREEZE,
	HV_PROPERTY_ISOLATION_STATE,
	HV_PROPERTY_CPU_RESERVE,
	HV_PROPERTY_CPU_WEIGHT,
	HV_PROPERTY_PROCESSORS_PER_SOCKET,
	HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING,
	HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION,
};

static const uint32_t cpuid_leaves[] = {
	0,	    1,		2,	    4,		6,	    7,		0xb,
	0xd,	    0x15,	0x1f,	    0x80000000, 0x80000001, 0x80000004, 0x80000007,
	0x80000008, 0x8000001d, 0x8000001e, 0x80000021, 0x40000000, 0x40000003, 0x40000010,
};

#define DOORBELL_GPA 0x30000ull

static const uint32_t apic_ids_of_machine[] = { 0, 2, 5, 300 };

static size_t size_of_field(char letter)
{
	if (strchr("bih,", letter))
		return 1;
	if (strchr("w", letter))
		return 2;
	if (strchr("VLsvKNcotnxyfMSalz2.", letter))
		return 4;
	return strchr("RIE", letter) ? 16 : 8;
}

/* One that there is, if there is any. */
static uint64_t some_child(uint8_t byte)
{
	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		if (children[(byte + i) % CHILDREN_MAX])
			return child_ids[(byte + i) % CHILDREN_MAX];
	return HV_PARTITION_ID_SELF;
}

/* Fields that are a number, mostly a small one: `byte & mask` for bytes below a bound; from there on one bit of 64, or the byte itself. */
static const struct number_field {
	char letter;
	bool bits;
	uint16_t below;
	uint8_t mask;
} number_fields[] = {
	{ 's', false, 0xf0, 31 }, { 'i', false, 0xf0, 15 },  { 'n', false, 0xf0, 15 },
	{ 'W', false, 0x80, 1 },  { 'h', false, 0xf0, 1 },   { 'x', false, 0xf0, 1 },
	{ 'z', false, 0xf0, 3 },  { 'c', false, 0x100, 15 }, { 'o', false, 0x100, 15 },
	{ 'g', true, 0xf0, 63 },  { 'k', true, 0x80, 15 },
};

static bool number_of_field(char letter, uint8_t byte, uint64_t *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(number_fields); i++) {
		const struct number_field *field = &number_fields[i];

		if (field->letter != letter)
			continue;
		*value = byte < field->below ? byte & field->mask : field->bits ? 1ull << (byte & 63) : byte;
		return true;
	}
	return false;
}

/* Fields that name something which there is, or may be. */
static bool name_of_field(char letter, uint8_t byte, uint64_t *value)
{
	static const uint32_t msrs_of_intercepts[] = { 0x1b, 0x80f, 0x40000000, 0xc0000082 };

	switch (letter) {
	case 'p':
		*value = byte < 0x80 ? HV_PARTITION_ID_SELF : byte < 0xf0 ? some_child(byte) : byte & 3;
		return true;
	case 'P':
		*value = byte < 0xf0 ? some_child(byte) : HV_PARTITION_ID_SELF;
		return true;
	case 'V':
		*value = byte < 0x80 ? byte & 3 :
			 byte < 0xc0 ? HV_VP_INDEX_SELF :
			 byte < 0xe0 ? HV_VP_INDEX_ANY :
				       byte;
		return true;
	case 'L':
		*value = byte < 0x80 ? byte & 3 : apic_ids_of_machine[byte & 3];
		return true;
	case 'K':
		*value = property_codes[byte % ARRAY_SIZE(property_codes)];
		return true;
	case 'N':
		*value = register_names[byte % ARRAY_SIZE(register_names)] + (byte >= 0xc0 ? byte & 15 : 0);
		return true;
	case 'u': /* leaves that children ask for, which are vectors too; MSRs; none */
		*value = byte < 0x80 ? byte & 31 :
			 byte < 0xa0 ? 0x40000000u + (byte & 31u) :
			 byte < 0xc0 ? msrs_of_intercepts[byte & 3] :
				       0;
		return true;
	case 'l':
		*value = byte < 0xf0 ? cpuid_leaves[byte % ARRAY_SIZE(cpuid_leaves)] : byte;
		return true;
	case 'M':
		*value = byte < 0xc0 ? byte & 15 : byte < 0xe0 ? 0x10000 : 0x80000000 | (byte & 15);
		return true;
	case 't': /* the few that there are */
		*value = byte < 0x40 ? 1 :
			 byte < 0x70 ? 2 :
			 byte < 0x80 ? 4 :
			 byte < 0xa0 ? 0x10001 :
			 byte < 0xc0 ? 0x10002 :
				       byte & 7;
		return true;
	case 'd':
		*value = DOORBELL_GPA + (byte & 3) * 4u;
		return true;
	default:
		return false;
	}
}

/* 64 bits of a field, by its byte. */
static uint64_t value_of_field(struct input *in, char letter, uint8_t byte)
{
	static const uint64_t flags[] = {
		0, 1, 2, 3, 4, 7, 8, 9, 16, 17, 23, 0x41, 0x83, 0x111, 0x202, 0x400
	};
	static const uint8_t accesses[] = { 0, 1, 2, 3, 3, 4, 4, 4 };
	uint64_t value;

	if (byte >= 0xf8)
		return take64(in);
	if (number_of_field(letter, byte, &value) || name_of_field(letter, byte, &value))
		return value;
	switch (letter) {
	case 'F':
		return byte < 0xf0 ? flags[byte & 15] : 1ull << (byte & 63);
	case 'G':
		return byte < 0xc0 ? byte & 63 : (uint64_t)(byte & 63) << 9 | (uint64_t)(byte & 7) << 18;
	case 'v': /* few, so that they meet again */
		return byte < 0x80 ? 0x30 | (byte & 3) : byte;
	case 'a':
		return byte < 0xf0 ? accesses[byte & 7] : byte;
	case 'y':
		return byte < 0xe0 ? 1 : byte & 3;
	case 'f':
		return byte < 0x80 ? 0 : byte < 0xf0 ? 2 : byte;
	case 'C':
		return byte < 0xc0 ? 0x482100 : 0x482100 ^ 1ull << (byte & 31);
	case 'A':
		return byte < 0xc0 ? (uint64_t)(byte & 31) << PAGE_SHIFT | (byte & 0xe0) :
				     1ull << (byte & 63);
	case 'S':
		return byte < 0xf0 ? (byte & 4 ? 4 : 0x80000000 | (byte & 3)) : byte;
	case 'X':
		return byte < 0x80 ? (uint64_t)UINT32_MAX << 32 | byte * 0x2040811u :
				     (uint64_t)byte << 56 | (uint64_t)byte * 0x1000001u;
	case 'B': /* sizes, and any value */
		return (byte & 7) | (byte & 8 ? 0x80000000 : 0);
	case '2':
		return byte < 0xf0 ? 2 : byte & 15;
	case 'D':
		return (uint64_t)(byte & 3) << 62 | (byte >> 2 & 7);
	case 'w':
		return byte < 0x80 ? byte : byte * 16u;
	default:
		return byte;
	}
}

/* Values that registers may have, the better part of them. */
static const uint64_t register_values[][2] = {
	{ 0x202, 0 },
	{ 0x80050033, 0 }, /* CR0, then with CD and NW */
	{ 0xe0050033, 0 },
	{ 0x20, 0 },
	{ 0xd01, 0 },
	{ 0x0007040600070406, 0 }, /* PAT */
	{ 0x1000, 0 },
	{ 0x400, 0 },
	{ 0, 0xc09b000800000fffull }, /* segments: a limit of pages, a small one, an unusable one */
	{ 0, 0xa09300100000ffffull },
	{ 0x10000, 0x008b0018000fffffull },
	{ 0, 0 },
	{ 0x0fffull << 48, 0x5000 }, /* tables */
	{ 0x1f80ull << 32, 0 },	     /* MXCSR */
	{ 0x37f, 0 },
	{ 7, 0 }, /* XCR0 */
	{ 0xe7, 0 },
	{ 0xffffffffffffffff, 0xffffffffffffffff },
};

/* Of an interruption that is pending: type and vector; or an exception that is to be raised. */
static void fill_event(struct input *in, uint8_t byte, uint64_t to[2])
{
	uint64_t vector = take8(in);

	if (byte & 0x20) {
		to[0] = HV_PENDING_EVENT_PENDING | ((byte & 7) == 7 ? 1u << HV_PENDING_EVENT_TYPE_SHIFT : 0) |
			(byte & 8 ? HV_PENDING_EXCEPTION_HAS_ERROR_CODE : 0) | vector % 34 << 16;
		to[1] = byte & 16 ? 0x1000 : UINT64_MAX;
	} else {
		to[0] = HV_PENDING_INTERRUPTION_PENDING |
			(uint64_t)(byte & 7) << HV_PENDING_INTERRUPTION_TYPE_SHIFT |
			vector << HV_PENDING_INTERRUPTION_VECTOR_SHIFT |
			(byte & 8 ? HV_PENDING_INTERRUPTION_HAS_ERROR_CODE : 0);
	}
}

static void fill_wide(struct input *in, char letter, uint8_t byte, uint64_t to[2])
{
	to[0] = to[1] = 0;
	if (byte >= 0xf0) {
		take(in, to, 16);
	} else if (letter == 'I') { /* an index, or partition and index */
		if (byte < 0x40)
			to[0] = byte & 3;
		else
			to[0] = HV_PARTITION_ID_SELF;
		if (byte >= 0x80)
			to[1] = byte & 3;
	} else if (letter == 'E') { /* as HvCallMapDeviceInterrupt gives them */
		to[0] = byte < 0x80 ? 1 : 2;
		to[1] = value_of_field(in, 'v', take8(in)) & 0xff;
		if (byte < 0x80)
			to[1] = to[1] << 32 | 0xfee00000 | (uint64_t)apic_ids_of_machine[byte & 3] << 12;
		else
			to[1] |= (uint64_t)apic_ids_of_machine[byte & 3] << 56 | (byte & 4 ? 1 << 15 : 0);
	} else if (byte < 0x40) {
		memcpy(to, register_values[byte % ARRAY_SIZE(register_values)], 16);
		to[0] ^= byte >> 4;
	} else if (byte < 0x80) {
		fill_event(in, byte, to);
	} else if (byte < 0xc0) {
		to[0] = take64(in);
	} else {
		to[0] = 1ull << (byte & 63);
	}
}

/* One after another into `to`, of `size` bytes; what is left becomes bytes of the input's, or zero. */
static void fill_fields(struct input *in, const char *fields, uint8_t *to, size_t size)
{
	size_t at = 0;

	for (; *fields && at < size; fields++) {
		uint64_t value[2] = { 0, 0 };
		size_t bytes;

		bytes = size_of_field(*fields);
		if (bytes == 16)
			fill_wide(in, *fields, take8(in), value);
		else if (!strchr(".:,", *fields))
			value[0] = value_of_field(in, *fields, take8(in));
		if (bytes > size - at)
			bytes = size - at;
		memcpy(to + at, value, bytes);
		at += bytes;
	}
}

/* By a byte of its code, or any: so that an old corpus keeps its meaning when there are more calls. */
static const struct call_row *take_call(struct input *in)
{
	uint8_t byte = take8(in);

	for (size_t i = 0; i < ARRAY_SIZE(call_rows); i++)
		if ((uint8_t)(call_rows[i].code ^ call_rows[i].code >> 8) == byte)
			return &call_rows[i];
	return &call_rows[byte % ARRAY_SIZE(call_rows)];
}

static const struct shape *shape_of(uint16_t code)
{
	static const struct shape unknown = { 0, "bbbbbbbbbbbbbbbb", "bbbbbbbb" };

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		if (shapes[i].code == code)
			return &shapes[i];
	return &unknown;
}

/* ---- MSRs ---- */

struct msr_row {
	uint32_t first, count;
};

#define HV_MSR(first, count, name, privilege, feature, reader, writer, since) { first, count },
#define HV_MSR_RO(first, count, name, privilege, feature, reader, since) { first, count },
#define HV_MSR_WO(first, count, name, privilege, feature, writer, since) { first, count },
static const struct msr_row msr_rows[] = {
#include "../../core/hv_msrs.def"
	{ 0x10, 1 }, { 0x1b, 1 }, { 0x3b, 1 }, { 0x200, 2 }, { 0x6e0, 1 }, { 0x802, 0x3e },
};
#undef HV_MSR
#undef HV_MSR_RO
#undef HV_MSR_WO

static bool has_msr(uint32_t msr)
{
	for (size_t i = 0; i < ARRAY_SIZE(msr_rows); i++)
		if (msr - msr_rows[i].first < msr_rows[i].count)
			return true;
	return false;
}

/* 12 bits of the number and 4 that say whether it is a synthetic one; another for most that aren't there. */
static uint32_t take_msr(struct input *in)
{
	uint32_t number = take8(in), msr;
	const struct msr_row *row;

	number |= (uint32_t)take8(in) << 8;
	msr = (number & 0xfff) + (number & 0x1000 ? 0 : HV_MSR_FIRST);
	row = &msr_rows[number % ARRAY_SIZE(msr_rows)];
	return has_msr(msr) || number >> 12 >= 0xe ? msr : row->first + number % row->count;
}

static bool is_page_msr(uint32_t msr)
{
	return msr == HV_MSR_HYPERCALL || msr == HV_MSR_REFERENCE_TSC || msr == HV_MSR_VP_ASSIST_PAGE ||
	       msr == HV_MSR_SIEFP || msr == HV_MSR_SIMP || msr == HV_MSR_SIRBP;
}

/* A value for an MSR that has `old` and a time of now. */
static uint64_t take_msr_value(struct input *in, uint32_t msr, uint64_t old, uint64_t time_100ns)
{
	uint8_t byte = take8(in), more;

	if (byte >= 0xf0)
		return take64(in);
	if (is_page_msr(msr)) {
		/* Where it is; a page of the window; the local APIC's; anywhere. With bit 0, or without. */
		if (byte < 0x60)
			return (old & ~1ull) | (byte & 1);
		if (byte < 0xc0)
			return (uint64_t)(byte >> 1 & 31) << 12 | (byte & 1);
		return (byte & 2 ? 0xfee00000ull : (uint64_t)take8(in) << 32) | (byte & 1);
	}
	if (msr >= HV_MSR_SINT0 && msr <= HV_MSR_SINT15)
		return take8(in) | (uint64_t)(byte & 0x1f) << 16;
	if (msr >= HV_MSR_STIMER0_CONFIG && msr <= HV_MSR_STIMER3_COUNT) {
		more = take8(in);
		if (msr & 1) /* a time in a moment, or a period */
			return byte < 0x40 ? time_100ns + (uint64_t)byte * more :
					     (uint64_t)more << (byte & 31);
		return (byte & 15) | (uint64_t)more << (byte & 0x10 ? 4 : 16) |
		       (byte & 0x10 ? HV_STIMER_DIRECT : 0);
	}
	switch (msr) {
	case 0x10:
	case 0x3b:
		return old + (uint64_t)((int8_t)byte * ((int64_t)1 << (take8(in) & 31)));
	case 0x1b:
		return 0xfee00000 | (uint64_t)(byte & 7) << 9 | (byte & 8 ? 0x100 : 0);
	case 0x830:
	case HV_MSR_ICR:
		more = take8(in);
		return more | (uint64_t)(byte & 7) << 8 | (byte & 8 ? 0x800 : 0) | 0x4000 |
		       (uint64_t)(byte >> 4 & 3) << 18 |
		       (uint64_t)apic_ids_of_machine[byte >> 6] << (msr == 0x830 ? 32 : 56);
	case HV_MSR_CRASH_CTL:
		return (uint64_t)byte << 56;
	case HV_MSR_CRASH_P0 + 3: /* a GPA and its bytes */
		return (uint64_t)byte << 8;
	default:
		return byte;
	}
}

#pragma clang attribute pop

#endif
