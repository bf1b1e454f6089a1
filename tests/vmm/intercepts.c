/* SPDX-License-Identifier: MIT */
/*
 * mshv-intercepts: what a monitor sees of CPUID, MSRs and exceptions once it has asked for it (HvCallInstallIntercept), and how the guest goes on:
 * with an answer, with an exception, or as if nobody had asked. The guest is tiny_probe of tiny.asm: it does one such thing for each command.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tiny.h"

#define MEMORY (64u << 10)
#define TABLES 0x3000u
#define GDT 0x6000u
#define IDT 0x7000u
#define STACK 0x9000u
#define VPS 2u
#define NOWHERE 0x40001234ull /* no page of the guest's is there */

#define R HV_INTERCEPT_ACCESS_MASK_READ
#define W HV_INTERCEPT_ACCESS_MASK_WRITE
#define X HV_INTERCEPT_ACCESS_MASK_EXECUTE

#define MSR_NOBODYS 0x1234u
#define MSR_TSC 0x10u
#define MSR_MICROCODE_LEVEL 0x8bu
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GUEST_OS_ID 0x40000000u
#define NP 11u
#define GP 13u
#define PF 14u
#define RFLAGS_TF 0x100u
#define DR6_BS 0x4000u

enum command {
	CPUID = 1,
	RDMSR,
	WRMSR,
	UNDEFINED,
	LOAD,
	SEGMENT,
	DIVIDE,
	STEP,
	BREAKPOINT,
	SPIN,
	HALT,
};

/* In the guest's memory, as tiny.asm has it. */
struct block {
	uint64_t command, argument, second;
	uint32_t eax, ebx, ecx, edx;
	uint64_t vector, error, cr2, dr6, exceptions;
};

static int dev;
static struct tiny guest;
static int vps[VPS];
static struct hv_message message;
static const struct hv_x64_cpuid_intercept *const cpuid_message = (const void *)message.payload.bytes;
static const struct hv_x64_msr_intercept *const msr_message = (const void *)message.payload.bytes;
static const struct hv_x64_exception_intercept *const exception = (const void *)message.payload.bytes;
static const struct hv_x64_intercept_header *const header = (const void *)message.payload.bytes;

static volatile struct block *block(uint32_t vp)
{
	return (volatile struct block *)(void *)(guest.memory + TINY_DATA + 0x100 * vp);
}

/* ---- The guest ---- */

static struct hv_register_assoc word(uint32_t name, uint64_t value)
{
	return (struct hv_register_assoc){ .name = name, .value.reg64 = value };
}

static struct hv_register_assoc segment(uint32_t name, uint16_t selector, uint16_t attributes)
{
	return (struct hv_register_assoc){
		.name = name,
		.value.segment = { .limit = UINT32_MAX, .selector = selector, .attributes = attributes },
	};
}

static struct hv_register_assoc table(uint32_t name, uint64_t base, uint16_t limit)
{
	return (struct hv_register_assoc){ .name = name, .value.table = { .base = base, .limit = limit } };
}

static void start_in_64_bit_mode(uint32_t vp)
{
	const struct hv_register_assoc list[] = {
		word(HV_REGISTER_X64_EFER, 0xd00),
		word(HV_REGISTER_X64_CR4, 0x20),
		word(HV_REGISTER_X64_CR3, TABLES),
		word(HV_REGISTER_X64_CR0, 0x80000031),
		segment(HV_REGISTER_X64_CS, 8, 0xa09b),
		segment(HV_REGISTER_X64_DS, 16, 0xc093),
		segment(HV_REGISTER_X64_ES, 16, 0xc093),
		segment(HV_REGISTER_X64_SS, 16, 0xc093),
		table(HV_REGISTER_X64_GDTR, GDT, 23),
		table(HV_REGISTER_X64_IDTR, IDT, 32 * 16 - 1),
		word(HV_REGISTER_X64_RIP, TINY),
		word(HV_REGISTER_X64_RSP, STACK),
		word(HV_REGISTER_X64_RFLAGS, 2),
		word(HV_REGISTER_X64_R15, TINY_DATA + 0x100 * vp),
		word(HV_REGISTER_INTERNAL_ACTIVITY_STATE, 0),
	};
	struct answer answer = set_registers(vps[vp], vp, list, ARRAY_LEN(list));

	if (answer.error)
		die("VP %u doesn't take its registers: element %u, status %#x", vp, answer.reps,
		    answer.status);
}

/* The first 2 MiB, of which there are 64 KiB; a handler for each vector. */
static void make_tables(void)
{
	uint64_t *tables = (uint64_t *)(void *)(guest.memory + TABLES);
	uint64_t *gdt = (uint64_t *)(void *)(guest.memory + GDT);
	uint64_t *idt = (uint64_t *)(void *)(guest.memory + IDT);
	uint64_t handler = TINY + (uint64_t)(tiny_probe_vectors - tiny_probe);

	tables[0] = (TABLES + PAGE) | 3;
	tables[512] = (TABLES + 2 * PAGE) | 3;
	tables[1024] = 0x83;
	gdt[1] = 0x00af9b000000ffff;
	gdt[2] = 0x00cf93000000ffff;
	for (unsigned int i = 0; i < 32; i++, handler += 8)
		idt[2 * i] = (handler & 0xffff) | 8ull << 16 | 0x8eull << 40 | (handler >> 16) << 48;
}

/* The next message. */
static uint32_t run(void)
{
	int r;

	do {
		r = run_vp(guest.vp, &message);
	} while (r == -EINTR);
	if (r)
		die("the VP doesn't run: %s", strerror(-r));
	return message.type;
}

static void make_guest(void)
{
	tiny_make(&guest, dev, MEMORY, tiny_probe, tiny_probe_end);
	make_tables();
	vps[0] = guest.vp;
	vps[1] = create_vp(guest.partition, 1);
	for (uint32_t i = 0; i < VPS; i++)
		start_in_64_bit_mode(i);
	if (run() != HV_MESSAGE_X64_IO_PORT_INTERCEPT)
		die("message %#x (%s) instead of the port's", message.type, message_name(message.type));
}

/* Behind the instruction that the message is about, however long it says that is. */
static void step_over(void)
{
	set_register(guest.vp, 0, HV_REGISTER_X64_RIP, header->rip + instruction_length(header));
}

/* VP 0 stands at its OUT. What is its first message about it? */
static uint32_t give(enum command command, uint64_t argument, uint64_t second)
{
	volatile struct block *b = block(0);

	b->command = command;
	b->argument = argument;
	b->second = second;
	b->eax = b->ebx = b->ecx = b->edx = 0;
	b->exceptions = 0;
	b->vector = UINT64_MAX;
	step_over();
	return run();
}

static bool is_done(uint32_t type)
{
	const struct hv_x64_io_port_intercept *io = (const void *)message.payload.bytes;

	return type == HV_MESSAGE_X64_IO_PORT_INTERCEPT && io->port == TINY_PORT;
}

static bool was_raised(uint32_t type, uint64_t vector)
{
	return is_done(type) && block(0)->exceptions == 1 && block(0)->vector == vector;
}

static bool goes_on(void)
{
	return is_done(run());
}

/* ---- Intercepts ---- */

static uint16_t try_install(uint32_t type, uint32_t access, uint64_t parameter)
{
	const struct hv_input_install_intercept in = { .access_mask = access,
						       .intercept_type = type,
						       .parameter = parameter };

	return hypercall(guest.partition, HV_CALL_INSTALL_INTERCEPT, 0, &in, sizeof(in), NULL, 0).status;
}

static void install(uint32_t type, uint32_t access, uint64_t parameter)
{
	uint16_t status = try_install(type, access, parameter);

	if (status)
		die("intercept %#x of %#llx, access %u: status %#x", type, (unsigned long long)parameter,
		    access, status);
}

/* At an instruction of these bytes. */
static bool header_is(uint8_t access, unsigned int length, const char *bytes, size_t count)
{
	bool good = header->vp_index == 0 && header->access_type == access &&
		    instruction_length(header) == length && header->cs.selector == 8 &&
		    header->execution_state == (HV_EXECUTION_STATE_CR0_PE | HV_EXECUTION_STATE_EFER_LMA) &&
		    header->rip < MEMORY && !memcmp(guest.memory + header->rip, bytes, count);

	if (!good)
		tap_note("VP %u, access %u, length %u, CS %#x, state %#x, rip %#llx", header->vp_index,
			 header->access_type, instruction_length(header), header->cs.selector,
			 header->execution_state, (unsigned long long)header->rip);
	return good;
}

static void refusals(void)
{
	static const struct {
		uint32_t type, access;
		uint64_t parameter;
		uint16_t status;
	} cases[] = {
		{ HV_INTERCEPT_X64_IO_PORT, 0, 0x80, HV_STATUS_OPERATION_DENIED },
		{ HV_INTERCEPT_X64_IO_PORT, R, 0x80, HV_STATUS_INVALID_PARAMETER },
		{ HV_INTERCEPT_X64_IO_PORT, R | W, 0x10000, HV_STATUS_INVALID_PARAMETER },
		{ HV_INTERCEPT_X64_CPUID, R, 1, HV_STATUS_INVALID_PARAMETER },
		{ HV_INTERCEPT_X64_CPUID, X, 1ull << 32, HV_STATUS_INVALID_PARAMETER },
		{ HV_INTERCEPT_X64_MSR, R | W, 0x10, HV_STATUS_INVALID_PARAMETER },
		{ HV_INTERCEPT_EXCEPTION, X, 32, HV_STATUS_INVALID_PARAMETER },
		{ HV_INTERCEPT_EXCEPTION, X, 18, HV_STATUS_INVALID_PARAMETER },
		{ HV_INTERCEPT_X64_APIC_WRITE, W, 0, HV_STATUS_INVALID_PARAMETER },
		{ 4, X, 0, HV_STATUS_INVALID_PARAMETER },
		{ 99, X, 0, HV_STATUS_INVALID_PARAMETER },
		{ HV_INTERCEPT_X64_IO_PORT, R | W, 0x80, HV_STATUS_SUCCESS },
	};
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(cases); i++) {
		uint16_t status = try_install(cases[i].type, cases[i].access, cases[i].parameter);

		if (status != cases[i].status) {
			tap_note("type %#x, access %u, parameter %#llx: status %#x", cases[i].type,
				 cases[i].access, (unsigned long long)cases[i].parameter, status);
			bad++;
		}
	}
	tap_ok(!bad, "what can't be installed has its status");
}

static void full_table(void)
{
	unsigned int count = 0;
	uint16_t status;

	while (!(status = try_install(HV_INTERCEPT_X64_MSR_INDEX, R, 0x10000 + count)))
		count++;
	tap_ok(status == HV_STATUS_NO_RESOURCES && count == 64, "there is room for 64: %u, then status %#x",
	       count, status);
	for (unsigned int i = 0; i < count; i++)
		install(HV_INTERCEPT_X64_MSR_INDEX, 0, 0x10000 + i);
}

/* ---- CPUID ---- */

static void answer_cpuid(uint32_t value)
{
	for (uint32_t i = 0; i < 4; i++) /* RAX, RCX, RDX, RBX */
		set_register(guest.vp, 0, HV_REGISTER_X64_RAX + i, value + i);
	step_over();
}

static bool defaults_are(const struct block *want)
{
	return cpuid_message->default_rax == want->eax && cpuid_message->default_rbx == want->ebx &&
	       cpuid_message->default_rcx == want->ecx && cpuid_message->default_rdx == want->edx;
}

static void cpuid_leaves(void)
{
	struct block plain;

	tap_ok(is_done(give(CPUID, 1, 0)), "CPUID without an intercept is the hypervisor's");
	plain = *(struct block *)(void *)(guest.memory + TINY_DATA);
	install(HV_INTERCEPT_X64_CPUID, X, 1);
	tap_ok(give(CPUID, 1, 7) == HV_MESSAGE_X64_CPUID_INTERCEPT, "a leaf that is installed is a message");
	tap_ok(header_is(HV_INTERCEPT_ACCESS_EXECUTE, 2, "\x0f\xa2", 2), "... with RIP at it");
	tap_ok(cpuid_message->rax == 1 && cpuid_message->rcx == 7, "... the registers");
	tap_ok(defaults_are(&plain), "... and what it would have been");
	answer_cpuid(0xa0);
	tap_ok(goes_on() && block(0)->eax == 0xa0 && block(0)->ecx == 0xa1 && block(0)->edx == 0xa2 &&
		       block(0)->ebx == 0xa3,
	       "the guest reads the monitor's answer");
	tap_ok(is_done(give(CPUID, 0, 0)) && is_done(give(CPUID, 0x80000001, 0)) && block(0)->edx,
	       "other leaves are not");
	give(CPUID, 1, 0);
	install(HV_INTERCEPT_X64_CPUID, 0, 1);
	tap_ok(goes_on() && block(0)->eax == plain.eax && block(0)->edx == plain.edx,
	       "uninstalled meanwhile, the instruction runs");
	install(HV_INTERCEPT_X64_GLOBAL_CPUID, X, 0);
	tap_ok(give(CPUID, 0x80000000, 0) == HV_MESSAGE_X64_CPUID_INTERCEPT &&
		       cpuid_message->rax == 0x80000000,
	       "all leaves at once");
	install(HV_INTERCEPT_X64_GLOBAL_CPUID, 0, 0);
	tap_ok(goes_on() && is_done(give(CPUID, 1, 0)), "... and none");
}

/* ---- MSRs ---- */

static bool msr_is(uint32_t msr, uint8_t access)
{
	bool is_write = access == HV_INTERCEPT_ACCESS_WRITE;

	return message.type == HV_MESSAGE_X64_MSR_INTERCEPT && msr_message->msr == msr &&
	       header_is(access, 2, is_write ? "\x0f\x30" : "\x0f\x32", 2);
}

static bool reads_back(uint32_t msr, uint64_t value)
{
	return is_done(give(WRMSR, msr, value)) && is_done(give(RDMSR, msr, 0)) && !block(0)->exceptions &&
	       block(0)->eax == (uint32_t)value && block(0)->edx == value >> 32;
}

/* One that the VP has to itself otherwise, so all the others of that kind come by the hypervisor now. */
static void msr_by_number(void)
{
	uint64_t efer = get_register(guest.vp, 0, HV_REGISTER_X64_EFER);

	install(HV_INTERCEPT_X64_MSR_INDEX, R | W, MSR_LSTAR);
	give(WRMSR, MSR_LSTAR, 0xffff800012345678);
	tap_ok(msr_is(MSR_LSTAR, HV_INTERCEPT_ACCESS_WRITE), "a write of LSTAR is a message");
	tap_ok((uint32_t)msr_message->rax == 0x12345678 && (uint32_t)msr_message->rdx == 0xffff8000,
	       "... with the value");
	step_over();
	tap_ok(goes_on() && get_register(guest.vp, 0, HV_REGISTER_X64_LSTAR) == 0, "... which isn't written");
	give(RDMSR, MSR_LSTAR, 0);
	tap_ok(msr_is(MSR_LSTAR, HV_INTERCEPT_ACCESS_READ), "a read too");
	set_register(guest.vp, 0, HV_REGISTER_X64_RAX, 0x55);
	set_register(guest.vp, 0, HV_REGISTER_X64_RDX, 0x66);
	step_over();
	tap_ok(goes_on() && block(0)->eax == 0x55 && block(0)->edx == 0x66, "... and is answered");
	tap_ok(reads_back(MSR_STAR, 0x0013000800000000), "STAR is the guest's own");
	tap_ok(reads_back(MSR_CSTAR, 0xffffffff81000000), "CSTAR too");
	tap_ok(reads_back(MSR_FS_BASE, 0x00007fff00000000), "FS base too");
	tap_ok(was_raised(give(WRMSR, MSR_FS_BASE, 1ull << 62), GP), "... with its rules");
	tap_ok(is_done(give(RDMSR, MSR_EFER, 0)) && block(0)->eax == efer, "EFER is what it was");
	tap_ok(reads_back(MSR_EFER, efer | 1), "... and can be written");
	tap_ok(was_raised(give(WRMSR, MSR_EFER, efer ^ 0x100), GP), "... but not LME with paging on");
	install(HV_INTERCEPT_X64_MSR_INDEX, R, MSR_LSTAR);
	tap_ok(is_done(give(WRMSR, MSR_LSTAR, 0x1234)) &&
		       get_register(guest.vp, 0, HV_REGISTER_X64_LSTAR) == 0x1234,
	       "with reads alone installed writes go through");
	install(HV_INTERCEPT_X64_MSR_INDEX, 0, MSR_LSTAR);
	tap_ok(reads_back(MSR_LSTAR, 0x4321), "uninstalled, LSTAR is the guest's own");
	install(HV_INTERCEPT_MICROCODE_LEVEL_MSR_READ, R, 0);
	give(RDMSR, MSR_MICROCODE_LEVEL, 0);
	tap_ok(msr_is(MSR_MICROCODE_LEVEL, HV_INTERCEPT_ACCESS_READ), "the microcode level is a message");
	install(HV_INTERCEPT_MICROCODE_LEVEL_MSR_READ, 0, 0);
	tap_ok(goes_on() && !block(0)->exceptions, "... or not");
}

static void msrs_that_nobody_has(void)
{
	tap_ok(was_raised(give(RDMSR, MSR_NOBODYS, 0), GP), "an MSR that nobody has is #GP");
	install(HV_INTERCEPT_X64_MSR, R, 0);
	give(RDMSR, MSR_NOBODYS, 0);
	tap_ok(msr_is(MSR_NOBODYS, HV_INTERCEPT_ACCESS_READ), "... or a message");
	set_register(guest.vp, 0, HV_REGISTER_X64_RAX, 0x77);
	set_register(guest.vp, 0, HV_REGISTER_X64_RDX, 0);
	step_over();
	tap_ok(goes_on() && block(0)->eax == 0x77 && !block(0)->exceptions, "... that is answered");
	tap_ok(was_raised(give(WRMSR, MSR_NOBODYS, 1), GP), "a write, which wasn't asked for, is #GP");
	install(HV_INTERCEPT_X64_MSR, R | W, 0);
	give(WRMSR, MSR_GUEST_OS_ID, 1);
	tap_ok(msr_is(MSR_GUEST_OS_ID, HV_INTERCEPT_ACCESS_WRITE),
	       "an MSR of the interface, which isn't offered, is a message");
	step_over();
	tap_ok(goes_on(), "... and is skipped");
	tap_ok(is_done(give(RDMSR, MSR_TSC, 0)) && !block(0)->exceptions, "the TSC is not");
	tap_ok(was_raised(give(WRMSR, MSR_MTRR_DEF_TYPE, 0xffff), GP), "a wrong value stays #GP");
	install(HV_INTERCEPT_X64_MSR, 0, 0);
	tap_ok(was_raised(give(RDMSR, MSR_NOBODYS, 0), GP), "uninstalled, it is #GP again");
}

/* ---- Exceptions ---- */

static void raise_exception(uint32_t vector, bool has_error, uint32_t error, uint64_t parameter)
{
	struct hv_register_assoc event = { .name = HV_REGISTER_PENDING_EVENT0 };
	struct answer answer;

	event.value.pending_exception = (struct hv_x64_pending_exception_event){
		.pending_and_type = (uint16_t)(HV_PENDING_EVENT_PENDING |
					       (has_error ? HV_PENDING_EXCEPTION_HAS_ERROR_CODE : 0)),
		.vector = (uint16_t)vector,
		.error_code = error,
		.parameter = parameter,
	};
	answer = set_registers(guest.vp, 0, &event, 1);
	if (answer.error)
		die("no exception %u: status %#x", vector, answer.status);
}

static bool exception_is(uint32_t vector, bool has_error, uint32_t error, uint64_t parameter)
{
	bool good = message.type == HV_MESSAGE_X64_EXCEPTION_INTERCEPT && exception->vector == vector &&
		    exception->exception_info == (has_error ? HV_EXCEPTION_INFO_ERROR_CODE_VALID : 0) &&
		    exception->error_code == error && exception->exception_parameter == parameter &&
		    exception->ss.selector == 16 && exception->gp[15] == TINY_DATA;

	if (!good)
		tap_note("message %#x, vector %u, info %#x, error %#x, parameter %#llx", message.type,
			 exception->vector, exception->exception_info, exception->error_code,
			 (unsigned long long)exception->exception_parameter);
	return good;
}

static void undefined(void)
{
	tap_ok(was_raised(give(UNDEFINED, 0, 0), 6), "#UD without an intercept is the guest's");
	install(HV_INTERCEPT_EXCEPTION, X, 6);
	give(UNDEFINED, 0, 0);
	tap_ok(exception_is(6, false, 0, 0), "#UD is a message");
	tap_ok(header_is(HV_INTERCEPT_ACCESS_EXECUTE, 0, "\x0f\x0b", 2), "... with RIP at the instruction");
	tap_ok(exception->instruction_byte_count >= 2 && !memcmp(exception->instruction_bytes, "\x0f\x0b", 2),
	       "... and its bytes");
	raise_exception(6, false, 0, 0);
	tap_ok(was_raised(run(), 6), "the monitor raises it after all");
	give(UNDEFINED, 0, 0);
	set_register(guest.vp, 0, HV_REGISTER_X64_RIP, header->rip + 2);
	tap_ok(goes_on() && !block(0)->exceptions, "or has done what it was for");
	install(HV_INTERCEPT_EXCEPTION, 0, 6);
	tap_ok(was_raised(give(UNDEFINED, 0, 0), 6), "uninstalled, it is the guest's again");
}

static void page_fault(void)
{
	set_register(guest.vp, 0, HV_REGISTER_X64_CR2, 0x5555);
	install(HV_INTERCEPT_EXCEPTION, X, PF);
	give(LOAD, NOWHERE, 0);
	tap_ok(exception_is(PF, true, 0, NOWHERE), "a page fault has its error code and address");
	tap_ok(header_is(HV_INTERCEPT_ACCESS_EXECUTE, 0, "\x8b\x01", 2), "... and RIP at the load");
	tap_ok(get_register(guest.vp, 0, HV_REGISTER_X64_CR2) == 0x5555, "CR2 is what it was");
	tap_ok(run() == HV_MESSAGE_X64_EXCEPTION_INTERCEPT && exception_is(PF, true, 0, NOWHERE),
	       "run again, it faults again");
	raise_exception(PF, true, 0, NOWHERE);
	tap_ok(was_raised(run(), PF) && block(0)->cr2 == NOWHERE && block(0)->error == 0,
	       "raised, the guest has address and error code");
	install(HV_INTERCEPT_EXCEPTION, 0, PF);
	tap_ok(was_raised(give(LOAD, NOWHERE + 8, 0), PF) && block(0)->cr2 == NOWHERE + 8,
	       "uninstalled, it is the guest's");
}

static void other_exceptions(void)
{
	install(HV_INTERCEPT_EXCEPTION, X, GP);
	give(SEGMENT, 0x1230, 0);
	tap_ok(exception_is(GP, true, 0x1230, 0), "#GP has its error code");
	raise_exception(GP, true, 0x1230, 0);
	tap_ok(was_raised(run(), GP) && block(0)->error == 0x1230, "... raised too");
	give(RDMSR, MSR_NOBODYS, 0);
	tap_ok(exception_is(GP, true, 0, 0) && !memcmp(guest.memory + header->rip, "\x0f\x32", 2),
	       "the hypervisor's own #GP too, before the instruction");
	raise_exception(GP, true, 0, 0);
	tap_ok(was_raised(run(), GP), "... raised, it is the guest's");
	install(HV_INTERCEPT_EXCEPTION, 0, GP);
	install(HV_INTERCEPT_EXCEPTION, X, 0);
	give(DIVIDE, 0, 0);
	tap_ok(exception_is(0, false, 0, 0), "#DE");
	install(HV_INTERCEPT_EXCEPTION, 0, 0);
	tap_ok(was_raised(run(), 0), "... uninstalled meanwhile, it comes");
}

/* Before the two become a double fault: the parent mends what the second one was about, and the first is delivered. */
static void nested(void)
{
	uint64_t *gate = (uint64_t *)(void *)(guest.memory + IDT) + 2 * 6;
	const uint64_t whole = *gate;

	install(HV_INTERCEPT_EXCEPTION, X, NP);
	*gate &= ~(1ull << 47); /* not present */
	give(UNDEFINED, 0, 0);
	tap_ok(message.type == HV_MESSAGE_X64_EXCEPTION_INTERCEPT && exception->vector == NP &&
		       (exception->error_code & 2) && /* of the IDT, whose gates QEMU counts by two */
		       !memcmp(guest.memory + header->rip, "\x0f\x0b", 2),
	       "#NP in the delivery of #UD");
	tap_ok(header->execution_state & HV_EXECUTION_STATE_INTERRUPTION_PENDING, "... which is pending");
	*gate = whole;
	tap_ok(was_raised(run(), 6), "... and is delivered afterwards");
	install(HV_INTERCEPT_EXCEPTION, 0, NP);
}

static void single_step(void)
{
	uint64_t after;

	install(HV_INTERCEPT_EXCEPTION, X, 1);
	give(STEP, 0, 0);
	after = header->rip;
	tap_ok(message.type == HV_MESSAGE_X64_EXCEPTION_INTERCEPT && exception->vector == 1 &&
		       (exception->exception_parameter & DR6_BS) && guest.memory[after] == 0x90,
	       "a step is #DB with DR6, behind the instruction");
	tap_ok(run() == HV_MESSAGE_X64_EXCEPTION_INTERCEPT && header->rip == after + 1, "the next one too");
	tap_ok(run() == HV_MESSAGE_X64_EXCEPTION_INTERCEPT && header->rip == after + 3 &&
		       (exception->exception_parameter & DR6_BS),
	       "and one that the hypervisor carried out");
	set_register(guest.vp, 0, HV_REGISTER_X64_RFLAGS, header->rflags & ~(uint64_t)RFLAGS_TF);
	tap_ok(goes_on() && !block(0)->exceptions, "without TF the guest goes on, and saw none of it");
	install(HV_INTERCEPT_EXCEPTION, 0, 1);
}

/* QEMU's emulation of SVM doesn't intercept INT3: there it stays the guest's. */
static void breakpoint(void)
{
	uint32_t type;

	install(HV_INTERCEPT_EXCEPTION, X, 3);
	type = give(BREAKPOINT, 0, 0);
	if (was_raised(type, 3)) {
		tap_note("the processor doesn't intercept INT3");
		return;
	}
	tap_ok(type == HV_MESSAGE_X64_EXCEPTION_INTERCEPT && exception->vector == 3 &&
		       exception->exception_info == HV_EXCEPTION_INFO_SOFTWARE &&
		       header_is(HV_INTERCEPT_ACCESS_EXECUTE, 1, "\xcc", 1),
	       "INT3 is a message, with its length");
	step_over();
	tap_ok(goes_on() && !block(0)->exceptions, "... and is stepped over");
	install(HV_INTERCEPT_EXCEPTION, 0, 3);
}

/* ---- VPs that run meanwhile ---- */

struct runner {
	pthread_t thread;
	uint32_t vp;
	atomic_bool done;
	int result;
	struct hv_message message;
};

static void *run_alone(void *argument)
{
	struct runner *runner = argument;

	runner->result = run_vp(vps[runner->vp], &runner->message);
	atomic_store(&runner->done, true);
	return NULL;
}

static void begin(struct runner *runner, uint32_t vp)
{
	*runner = (struct runner){ .vp = vp };
	if (pthread_create(&runner->thread, NULL, run_alone, runner))
		die("no thread");
}

static void pause_ms(long ms)
{
	const struct timespec time = { .tv_nsec = ms * 1000000 };

	nanosleep(&time, NULL);
}

static void wait_for_turns(uint32_t vp)
{
	uint32_t before = block(vp)->eax;

	for (unsigned int i = 0; i < 1000 && block(vp)->eax - before < 100; i++)
		pause_ms(5);
}

static void running_vps(void)
{
	struct runner runners[VPS];
	bool all = true, still = true;

	for (uint32_t i = 0; i < VPS; i++) {
		block(i)->command = SPIN;
		block(i)->argument = 1;
		block(i)->second = 0;
		/* VP 0 stands at its OUT; the other one has never run, and passes it. */
		set_register(vps[i], i, HV_REGISTER_X64_RIP, TINY + 2);
		begin(&runners[i], i);
	}
	for (uint32_t i = 0; i < VPS; i++) {
		wait_for_turns(i);
		still = still && !atomic_load(&runners[i].done);
	}
	tap_ok(still, "two VPs run");
	install(HV_INTERCEPT_X64_CPUID, X, 1);
	for (uint32_t i = 0; i < VPS; i++) {
		pthread_join(runners[i].thread, NULL);
		all = all && !runners[i].result && runners[i].message.type == HV_MESSAGE_X64_CPUID_INTERCEPT;
	}
	tap_ok(all, "an intercept that is installed meanwhile stops both");
	install(HV_INTERCEPT_X64_CPUID, 0, 1);
	for (uint32_t i = 0; i < VPS; i++) {
		begin(&runners[i], i);
		wait_for_turns(i);
		block(i)->second = 1;
		pthread_join(runners[i].thread, NULL);
		all = all && !runners[i].result &&
		      runners[i].message.type == HV_MESSAGE_X64_IO_PORT_INTERCEPT;
	}
	tap_ok(all, "... and uninstalled lets both go on");
	message = runners[0].message;
}

static void ignore(int signal)
{
	(void)signal;
}

/* There is no way to ask for it (docs/abi.md). */
static void halt(void)
{
	struct sigaction action = { .sa_handler = ignore };
	struct runner runner;

	sigaction(SIGUSR1, &action, NULL);
	block(0)->command = HALT;
	step_over();
	begin(&runner, 0);
	pause_ms(200);
	tap_ok(!atomic_load(&runner.done), "HLT is no message");
	while (!atomic_load(&runner.done)) {
		pthread_kill(runner.thread, SIGUSR1);
		pause_ms(20);
	}
	pthread_join(runner.thread, NULL);
	tap_ok(runner.result == -EINTR, "the VP sleeps until its monitor is interrupted");
}

int main(void)
{
	dev = open_mshv();
	make_guest();
	refusals();
	full_table();
	cpuid_leaves();
	msr_by_number();
	msrs_that_nobody_has();
	undefined();
	page_fault();
	other_exceptions();
	nested();
	single_step();
	breakpoint();
	running_vps();
	halt();
	close(vps[1]);
	tiny_end(&guest);
	return tap_end();
}
