/* SPDX-License-Identifier: MIT */
/* TLFS "Hypercall Interface": the page, the forms of a call, and every way to be refused. Other modes: modes.c. */
#include "tlfs.h"
#include <hv/flush.h>
#include <hv/vp.h>

#define VECTOR 0x60

extern HIDDEN uint64_t regs_in[17], regs_out[17];
void tlfs_call(const void *code) HIDDEN;
void tlfs_xmm_load(const uint64_t words[32]) HIDDEN;
void tlfs_xmm_save(uint64_t words[32]) HIDDEN;

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, FLAGS };

static uint8_t *code; /* a page to run instructions from */

static uint64_t page_of(uint32_t msr)
{
	return rdmsr(msr) & ~0xfffull;
}

/* Puts `prefixes` and the instruction into `code`; tlfs_call() runs it. */
static void make_code(const uint8_t *prefixes, unsigned int count)
{
	memcpy(code, prefixes, count);
	code[count] = 0x0f;
	code[count + 1] = 0x01;
	code[count + 2] = is_intel() ? 0xc1 : 0xd9;
	code[count + 3] = 0xc3;
}

/* ---- Where a call faults, the state is what it was: seen in the frame ---- */

static struct trap_frame faulted;
static uint32_t fault_vector;

static void skip_call(struct trap_frame *f)
{
	faulted = *f;
	fault_vector = (uint32_t)f->vector;
	f->rip += 3;
}

static void fill_registers(void)
{
	for (unsigned int i = 0; i < 16; i++)
		regs_in[i] = 0x0101010101010101 * (i + 1) | 0x8000000000000000;
	regs_in[FLAGS] = 0x8d7 & ~0x400; /* the arithmetic flags; no trap, no direction */
}

/* The call with all registers full. Vector of its fault, or NO_FAULT. */
static uint32_t full_call(uint64_t control, uint64_t input, uint64_t output)
{
	fill_registers();
	regs_in[RCX] = control;
	regs_in[RDX] = input;
	regs_in[R8] = output;
	fault_vector = NO_FAULT;
	trap_handlers[UD] = trap_handlers[GP] = skip_call;
	tlfs_call(code);
	trap_handlers[UD] = trap_handlers[GP] = NULL;
	return fault_vector;
}

/* Bits of the registers that the call changed, RAX and RSP left out. */
static uint32_t changed(void)
{
	uint32_t bits = 0;

	for (unsigned int i = 0; i < 17; i++)
		if (i != RAX && i != RSP && regs_out[i] != regs_in[i])
			bits |= 1u << i;
	return bits;
}

static bool faulted_whole(void)
{
	return faulted.rax == regs_in[RAX] && faulted.rcx == regs_in[RCX] && faulted.rdx == regs_in[RDX] &&
	       faulted.rbx == regs_in[RBX] && faulted.rsi == regs_in[RSI] && faulted.rdi == regs_in[RDI] &&
	       faulted.rbp == regs_in[RBP] && faulted.r8 == regs_in[R8] && faulted.r9 == regs_in[R9] &&
	       faulted.r11 == regs_in[R11] && faulted.r15 == regs_in[R15] && faulted.rip == (uint64_t)code;
}

/* ---- The page ---- */

static void page(void)
{
	const uint8_t *bytes = (const uint8_t *)page_of(HV_MSR_HYPERCALL);
	uint64_t result = 0;

	ok(bytes[0] == 0x0f && bytes[1] == 0x01 && bytes[2] == (is_intel() ? 0xc1 : 0xd9) && bytes[3] == 0xc3,
	   "Establishing the Hypercall Interface: the page is the opcode and a return, nothing else");
	IS_STATUS(hv_call_by_page(0x7fff, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE, "... and can be called");
	memcpy(code, bytes, PAGE);
	fill_registers();
	regs_in[RCX] = 0x7fff;
	tlfs_call(code);
	result = regs_out[RAX];
	is(result, HV_STATUS_INVALID_HYPERCALL_CODE,
	   "... a copy elsewhere works too (it may; a root needs it)");
	is(try_store((uint64_t)bytes), GP, "... writing to it is #GP");
	ok(bytes[0] == 0x0f, "... and changes nothing");
}

/* ---- Forms ---- */

static void simple_forms(void)
{
	uint64_t *out = (uint64_t *)hv_out, id;
	unsigned int bad = 0;

	memset(hv_out, 0xa5, PAGE);
	IS_STATUS(hv_simple(HV_CALL_GET_PARTITION_ID), HV_STATUS_SUCCESS,
		  "a simple call with output: HvCallGetPartitionId");
	id = out[0];
	ok(id && id != ~0ull && id != 0xa5a5a5a5a5a5a5a5, "... the id is %llx", (unsigned long long)id);
	for (unsigned int i = 1; i < 512; i++)
		bad += out[i] != 0xa5a5a5a5a5a5a5a5;
	is(bad, 0, "... and no byte behind the output is written");
	IS_STATUS(hv_call(HV_CALL_GET_PARTITION_ID, ~0ull, (uint64_t)hv_out), HV_STATUS_SUCCESS,
		  "Alignment Requirements: without input parameters the input GPA is ignored");
	IS_STATUS(hv_call(HV_CALL_GET_PARTITION_ID, 0, (uint64_t)hv_out + PAGE - 8), HV_STATUS_SUCCESS,
		  "... output may end with its page");
	is(out[511], id, "... and is there");
	IS_STATUS(hv_call(HV_CALL_GET_PARTITION_ID, 0, (uint64_t)hv_in), HV_STATUS_SUCCESS,
		  "... the input page is as good");
	out = fresh_input();
	out[0] = VECTOR;
	out[1] = 1;
	IS_STATUS(hv_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, (uint64_t)hv_in, ~0ull), HV_STATUS_SUCCESS,
		  "without output parameters the output GPA is ignored");
	is(came(VECTOR), 1, "... a call with its input in memory");
	out[510] = VECTOR;
	out[511] = 1;
	IS_STATUS(hv_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, (uint64_t)&out[510], 0), HV_STATUS_SUCCESS,
		  "... which may end with its page");
	is(came(VECTOR), 1, "... and is read there");
	IS_STATUS(hv_fast(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, VECTOR, 1), HV_STATUS_SUCCESS, "a fast call");
	is(came(VECTOR), 1, "... with its input in RDX and R8");
}

/* 24 bytes and one qword for each of `banks`: more than 16, so it needs XMM registers. */
static uint64_t xmm_ipi(unsigned int banks, uint64_t words[32])
{
	memset(words, 0, 32 * 8);
	words[0] = (1ull << banks) - 1;
	words[1] = 1;
	for (unsigned int i = 12; i < 32; i++)
		words[i] = 0x1234567890abcdef + i;
	tlfs_xmm_load(words);
	return hv_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX | HV_CONTROL_FAST |
			       (uint64_t)banks << HV_CONTROL_VAR_HEADER_SHIFT,
		       VECTOR, HV_VP_SET_SPARSE_4K);
}

static void xmm_forms(void)
{
	static uint64_t before[32], after[32];
	unsigned int bad = 0;

	if (!(cpuid(HV_CPUID_FEATURES, 0).edx & HV_FEATURE_XMM_INPUT)) {
		is(try_load((uint64_t)code), NO_FAULT, "XMM input is not offered");
		return;
	}
	IS_STATUS(xmm_ipi(1, before), HV_STATUS_SUCCESS, "XMM Fast Hypercall Input: 32 bytes");
	is(came(VECTOR), 1, "... read from XMM0");
	tlfs_xmm_save(after);
	for (unsigned int i = 0; i < 32; i++)
		bad += before[i] != after[i];
	is(bad, 0, "Volatile Registers: XMM0 to XMM15 remain unmodified");
	IS_STATUS(xmm_ipi(11, before), HV_STATUS_SUCCESS, "... 112 bytes, all six registers");
	is(came(VECTOR), 1, "... and it did what it says");
	IS_STATUS(xmm_ipi(12, before), HV_STATUS_INVALID_HYPERCALL_INPUT, "... 120 bytes are too many");
	is(came(VECTOR), 0, "... and do nothing");
	before[0] = 1; /* processor mask */
	tlfs_xmm_load(before);
	IS_STATUS(hv_call(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST | HV_CONTROL_FAST |
				  1ull << HV_CONTROL_REP_COUNT_SHIFT,
			  read_cr3(), 0),
		  HV_STATUS_SUCCESS, "... a rep call with its list in XMM registers");
}

/* ---- The control word ---- */

static void control_word(void)
{
	uint64_t good = HV_CALL_GET_PARTITION_ID;
	static const uint64_t rep = HV_CALL_GET_VP_INDEX_FROM_APIC_ID;
	unsigned int bad = 0;

	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!((0xfull << 27 | 1ull << 31 | 0xfull << 44 | 0xfull << 60) >> bit & 1))
			continue;
		bad += status_of(hv_call(good | 1ull << bit, 0, (uint64_t)hv_out)) !=
		       HV_STATUS_INVALID_HYPERCALL_INPUT;
	}
	is(bad, 0, "Hypercall Inputs: RsvdZ 31:27, 47:44, 63:60 are INVALID_HYPERCALL_INPUT");
	for (unsigned int bit = 17; bit < 27; bit++)
		bad += status_of(hv_call(good | 1ull << bit, 0, (uint64_t)hv_out)) !=
		       HV_STATUS_INVALID_HYPERCALL_INPUT;
	is(bad, 0, "Variable Sized Hypercall Input Headers: illegal for a call without");
	for (unsigned int bit = 32; bit < 60; bit++)
		if (bit < 44 || bit >= 48)
			bad += status_of(hv_call(good | 1ull << bit, 0, (uint64_t)hv_out)) !=
			       HV_STATUS_INVALID_HYPERCALL_INPUT;
	is(bad, 0, "Hypercall Inputs: rep count and start index must be 0 for a simple call");
	IS_STATUS(hv_call(rep, (uint64_t)hv_in, (uint64_t)hv_out), HV_STATUS_INVALID_HYPERCALL_INPUT,
		  "... rep count 0 for a rep call");
	IS_STATUS(hv_call(rep | 3ull << 32 | 3ull << 48, (uint64_t)hv_in, (uint64_t)hv_out),
		  HV_STATUS_INVALID_HYPERCALL_INPUT, "... start index equal to the count");
	IS_STATUS(hv_call(rep | 3ull << 32 | 0xfffull << 48, (uint64_t)hv_in, (uint64_t)hv_out),
		  HV_STATUS_INVALID_HYPERCALL_INPUT, "... start index above it");
	is(hv_call(good | HV_CONTROL_FAST, 0, (uint64_t)hv_out) == HV_STATUS_SUCCESS, false,
	   "XMM Fast Hypercall Output isn't offered: a fast call with output is refused");
	/* The largest list that the word can name is far larger than a page. */
	IS_STATUS(hv_call(rep | 0xfffull << 32, (uint64_t)hv_in, (uint64_t)hv_out),
		  HV_STATUS_INVALID_ALIGNMENT, "... a list of 4095 spans pages");
}

static void unknown_codes(void)
{
	static const uint16_t gaps[] = { 0x0000, 0x0005, 0x0007, 0x0017, 0x003f, 0x0055, 0x0057,
					 0x0059, 0x0093, 0x009f, 0x00ab, 0x00ce, 0x00ff, 0x013f };
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(gaps); i++)
		bad += hv_call(gaps[i], 0, 0) != HV_STATUS_INVALID_HYPERCALL_CODE;
	/* The code decides before the rest of the word. */
	for (uint64_t c = 0x200; c < 0x10000; c += c >= 0x8010 || c < 0x7f00 ? 17 : 1)
		bad += (c < 0x8000 || c >= 0x8010) &&
		       status_of(hv_call(c, 0, 0)) != HV_STATUS_INVALID_HYPERCALL_CODE;
	is(bad, 0, "Common Hypercall Status Codes: INVALID_HYPERCALL_CODE for what isn't a call");
	IS_STATUS(hv_call(0x7fff | HV_CONTROL_FAST | 5ull << 32, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE,
		  "... in every form");
}

/* ---- Addresses ---- */

static void addresses(void)
{
	uint64_t in = (uint64_t)hv_in, out = (uint64_t)hv_out,
		 beyond = 1ull << (cpuid(0x80000008, 0).eax & 0xff);
	uint64_t *words = fresh_input();
	unsigned int bad = 0;

	words[0] = VECTOR;
	for (unsigned int i = 1; i < 8; i++) {
		bad += status_of(hv_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, in + i, 0)) !=
		       HV_STATUS_INVALID_ALIGNMENT;
		bad += status_of(hv_call(HV_CALL_GET_PARTITION_ID, 0, out + i)) !=
		       HV_STATUS_INVALID_ALIGNMENT;
	}
	is(bad, 0, "Alignment Requirements: GPAs must be aligned to 8 bytes");
	IS_STATUS(hv_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, in + PAGE - 8, 0), HV_STATUS_INVALID_ALIGNMENT,
		  "... input must not cross a page");
	IS_STATUS(hv_call(HV_CALL_GET_PARTITION_PROPERTY_EX, in, in + 32), HV_STATUS_INVALID_ALIGNMENT,
		  "... output must not cross a page");
	IS_STATUS(hv_call(HV_CALL_GET_VP_INDEX_FROM_APIC_ID | 4ull << 32, in + PAGE - 24, out),
		  HV_STATUS_INVALID_ALIGNMENT, "... nor a list of input");
	IS_STATUS(hv_call(HV_CALL_GET_VP_INDEX_FROM_APIC_ID | 4ull << 32, in, out + PAGE - 8),
		  HV_STATUS_INVALID_ALIGNMENT, "... nor a list of output");
	for (unsigned int i = 0; i < 2; i++, beyond = 1ull << 63) {
		is(full_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, beyond, 0) == NO_FAULT ?
			   status_of(regs_out[RAX]) :
			   ~0u,
		   HV_STATUS_INVALID_ALIGNMENT,
		   "Common Hypercall Status Codes: input beyond the GPA space is INVALID_ALIGNMENT");
		is(full_call(HV_CALL_GET_PARTITION_ID, 0, beyond) == NO_FAULT ? status_of(regs_out[RAX]) :
										~0u,
		   HV_STATUS_INVALID_ALIGNMENT, "... output too");
	}
}

/*
 * A root has nobody to ask, so it faults. For a child the parent gets an intercept, and ours (tests/vmm) answers with the
 * same fault.
 */
static void absent_memory(void)
{
	/* The page that a root's SIMP names is the hypervisor's, and not there while it is disabled. */
	uint64_t ours = in_child ? 0xc0000000 : page_of(HV_MSR_SIMP);
	const uint64_t absent[] = { ours, 0x3000000000 };

	for (unsigned int i = 0; i < ARRAY_LEN(absent); i++) {
		is(full_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, absent[i], 0), GP,
		   "Alignment Requirements: input %s: #GP",
		   i	    ? "where nothing is" :
		   in_child ? "behind its RAM" :
			      "in the hypervisor's memory");
		ok(faulted_whole(), "... and every register is what it was");
		is(full_call(HV_CALL_GET_PARTITION_ID, 0, absent[i]), GP, "... output: #GP");
		ok(faulted_whole(), "... and every register is what it was");
	}
	is(full_call(HV_CALL_GET_PARTITION_ID, 0, page_of(HV_MSR_HYPERCALL)), GP,
	   "... output to a page that can't be written: #GP");
	ok(*(uint8_t *)page_of(HV_MSR_HYPERCALL) == 0x0f, "... which isn't written");
}

/* ---- Registers ---- */

static void registers(void)
{
	static const uint8_t prefixes[][3] = {
		{ 0x2e }, { 0x3e }, { 0x64 }, { 0x65 }, { 0x48 }, { 0x41 }, { 0x2e, 0x2e, 0x4f }
	};
	unsigned int bad = 0;

	make_code(NULL, 0);
	is(full_call(HV_CALL_GET_PARTITION_ID, (uint64_t)hv_in, (uint64_t)hv_out), NO_FAULT,
	   "all registers full");
	ok(regs_out[RAX] == 0 && changed() == 0,
	   "Volatile Registers: a simple call changes RAX and nothing else (%x)", changed());
	full_call(0x7fff, ~0ull, ~0ull);
	ok(regs_out[RAX] == HV_STATUS_INVALID_HYPERCALL_CODE && changed() == 0, "... a refused one too (%x)",
	   changed());
	full_call(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST, VECTOR, 0);
	ok(regs_out[RAX] == 0 && changed() == 0, "... a fast one too (%x)", changed());
	for (unsigned int i = 0; i < ARRAY_LEN(prefixes); i++) {
		unsigned int count = prefixes[i][1] ? 3 : 1;

		make_code(prefixes[i], count);
		if (full_call(0x7fff, 0, 0) != NO_FAULT ||
		    regs_out[RAX] != HV_STATUS_INVALID_HYPERCALL_CODE) {
			note("prefix %x: vector %x, rax %llx", prefixes[i][0], fault_vector,
			     (unsigned long long)regs_out[RAX]);
			bad++;
		}
	}
	make_code(NULL, 0);
	is(bad, 0, "prefixes before the instruction: it is a call, and RIP goes on behind it");
}

static void environments(void)
{
	uint64_t hypercall = rdmsr(HV_MSR_HYPERCALL);

	wrmsr(HV_MSR_GUEST_OS_ID, 0);
	is(full_call(HV_CALL_GET_PARTITION_ID, (uint64_t)hv_in, (uint64_t)hv_out), UD,
	   "Reporting the Guest OS Identity: no calls without one: #UD");
	ok(faulted_whole(), "... and every register is what it was");
	is(full_call(0x7fff, 0, 0), UD, "... unknown calls too");
	wrmsr(HV_MSR_GUEST_OS_ID, HV_OS_ID);
	wrmsr(HV_MSR_HYPERCALL, hypercall);
	is(full_call(0x7fff, 0, 0), NO_FAULT, "... with one again, they work");
}

/* ---- Rep calls ---- */

#define REPS 300u /* more than Trivet does in one pass */

static uint32_t *make_list(uint32_t count)
{
	struct hv_input_get_vp_index_from_apic_id *in = fresh_input();
	uint32_t *ids = (uint32_t *)(in + 1);

	in->partition_id = HV_PARTITION_ID_SELF;
	for (uint32_t i = 0; i < count; i++)
		ids[i] = apic_id();
	memset(hv_out, 0xa5, PAGE);
	return ids;
}

static unsigned int wrong_results(uint32_t from, uint32_t to)
{
	const uint32_t *out = (const uint32_t *)hv_out;
	unsigned int bad = 0;

	for (uint32_t i = 0; i < REPS + 10; i++)
		bad += out[i] != (i >= from && i < to ? 0 : 0xa5a5a5a5);
	return bad;
}

static void rep_calls(void)
{
	const uint64_t control = HV_CALL_GET_VP_INDEX_FROM_APIC_ID | (uint64_t)REPS
									     << HV_CONTROL_REP_COUNT_SHIFT;
	uint64_t result;
	uint32_t *ids;

	make_list(REPS);
	is(hv_call(control, (uint64_t)hv_in, (uint64_t)hv_out), (uint64_t)REPS << 32,
	   "Hypercall Continuation: %u elements, all done", REPS);
	is(wrong_results(0, REPS), 0, "... each has its result, and nothing behind them is written");
	make_list(REPS);
	is(hv_call(control | 100ull << 48, (uint64_t)hv_in, (uint64_t)hv_out), (uint64_t)REPS << 32,
	   "Hypercall Outputs: from element 100 on; reps completed is the total");
	is(wrong_results(100, REPS), 0, "... and the first 100 are left alone");
	ids = make_list(REPS);
	ids[5] = 0xfefe;
	result = hv_call(control, (uint64_t)hv_in, (uint64_t)hv_out);
	ok(status_of(result) == HV_STATUS_INVALID_PARAMETER && reps_of(result) == 5,
	   "Hypercall Classes: an error in element 5 leaves 5 completed (%llx)", (unsigned long long)result);
	ids = make_list(REPS);
	ids[REPS - 1] = 0xfefe;
	result = hv_call(control, (uint64_t)hv_in, (uint64_t)hv_out);
	ok(status_of(result) == HV_STATUS_INVALID_PARAMETER && reps_of(result) == REPS - 1,
	   "... in the last, all but one (%llx)", (unsigned long long)result);
	make_list(REPS);
	full_call(control, (uint64_t)hv_in, (uint64_t)hv_out);
	ok((regs_out[RCX] ^ control) << 16 == 0 && (changed() & ~(1u << RCX)) == 0,
	   "Volatile Registers: of RCX a rep call changes the start index, and nothing else (%x)", changed());
}

void tlfs_hypercall(void)
{
	if (child_lacks(HV_PRIVILEGE_ACCESS_PARTITION_ID, "Hypercall Interface"))
		return;
	code = (uint8_t *)alloc_memory(PAGE, PAGE);
	page();
	make_code(NULL, 0);
	simple_forms();
	xmm_forms();
	control_word();
	unknown_codes();
	addresses();
	absent_memory();
	registers();
	environments();
	rep_calls();
}
