/* SPDX-License-Identifier: MIT */
/*
 * A VP's own registers by name (TLFS "HvCallGetVpRegisters", "HvCallSetVpRegisters", "HvCallTranslateVirtualAddress"): each is what
 * the processor says it is, each that is set is so afterwards, and nothing that is set stops the machine.
 */
#include "lib/hv.h"
#include <hv/memory.h>
#include <hv/vp.h>

#define UD 6u
#define PF 14u
#define LIST_MAX 127u

static uint64_t last_result;

static void head(void)
{
	struct hv_input_vp_registers *in = (void *)hv_in;

	memset(hv_in, 0, PAGE);
	in->partition_id = HV_PARTITION_ID_SELF;
	in->vp_index = HV_VP_INDEX_SELF;
}

static struct hv_register_assoc *element(unsigned int i)
{
	return (struct hv_register_assoc *)(hv_in + sizeof(struct hv_input_vp_registers)) + i;
}

static uint16_t status(void)
{
	return (uint16_t)last_result;
}

static unsigned int reps(void)
{
	return (unsigned int)((last_result & HV_RESULT_REPS_DONE_MASK) >> HV_RESULT_REPS_DONE_SHIFT);
}

static union hv_register_value get(uint32_t name)
{
	head();
	memset(hv_out, 0xa5, sizeof(union hv_register_value));
	*(uint32_t *)(hv_in + sizeof(struct hv_input_vp_registers)) = name;
	last_result = hv_reps(HV_CALL_GET_VP_REGISTERS, 1);
	return *(union hv_register_value *)hv_out;
}

static uint16_t set128(uint32_t name, uint64_t low, uint64_t high)
{
	head();
	*element(0) = (struct hv_register_assoc){ .name = name, .value.reg128 = { low, high } };
	last_result = hv_reps(HV_CALL_SET_VP_REGISTERS, 1);
	return status();
}

static uint16_t set(uint32_t name, uint64_t value)
{
	return set128(name, value, 0);
}

static void reads(uint32_t name, uint64_t want, const char *what)
{
	union hv_register_value value = get(name);

	if (status() != HV_STATUS_SUCCESS)
		is(status(), HV_STATUS_SUCCESS, "TLFS HvCallGetVpRegisters: %s can be read", what);
	else
		is(value.reg64, want, "TLFS HvCallGetVpRegisters: %s", what);
}

#define DR(n)                                                                  \
	static uint64_t read_dr##n(void)                                       \
	{                                                                      \
		uint64_t v;                                                    \
		__asm__ volatile("mov %%dr" #n ", %0" : "=r"(v) : : "memory"); \
		return v;                                                      \
	}
DR(0)
DR(3)
DR(6)
DR(7)

static void get_what_the_processor_says(void)
{
	static const struct {
		uint32_t name, msr;
		const char *what;
	} msrs[] = {
		{ HV_REGISTER_X64_EFER, MSR_EFER, "EFER" },
		{ HV_REGISTER_X64_PAT, MSR_PAT, "PAT" },
		{ HV_REGISTER_X64_APIC_BASE, MSR_APIC_BASE, "APIC base" },
		{ HV_REGISTER_X64_STAR, MSR_STAR, "STAR" },
		{ HV_REGISTER_X64_LSTAR, MSR_LSTAR, "LSTAR" },
		{ HV_REGISTER_X64_KERNEL_GS_BASE, MSR_KERNEL_GS_BASE, "KERNEL_GS_BASE" },
		{ HV_REGISTER_X64_SYSENTER_EIP, 0x176, "SYSENTER_EIP" },
		{ HV_REGISTER_X64_MTRR_DEF_TYPE, 0x2ff, "MTRR default type" },
		{ HV_REGISTER_X64_MTRR_PHYS_BASE0, 0x200, "MTRR base 0" },
		{ HV_REGISTER_X64_MTRR_FIX4KF8000, 0x26f, "MTRR fix 4K F8000" },
		{ HV_REGISTER_VP_INDEX, HV_MSR_VP_INDEX, "VP index" },
		{ HV_REGISTER_GUEST_OS_ID, HV_MSR_GUEST_OS_ID, "guest OS id" },
		{ HV_REGISTER_X64_HYPERCALL, HV_MSR_HYPERCALL, "hypercall page" },
		{ HV_REGISTER_SVERSION, HV_MSR_SVERSION, "SVERSION" },
		{ HV_REGISTER_SINT0 + 15, HV_MSR_SINT15, "SINT15" },
	};
	struct table_register table;

	for (unsigned int i = 0; i < ARRAY_LEN(msrs); i++)
		reads(msrs[i].name, rdmsr(msrs[i].msr), msrs[i].what);
	reads(HV_REGISTER_X64_CR0, read_cr0(), "CR0");
	reads(HV_REGISTER_X64_CR2, read_cr2(), "CR2");
	reads(HV_REGISTER_X64_CR3, read_cr3(), "CR3");
	reads(HV_REGISTER_X64_CR4, read_cr4(), "CR4");
	reads(HV_REGISTER_X64_CR8, read_cr8(), "CR8");
	reads(HV_REGISTER_X64_DR6, read_dr6(), "DR6");
	reads(HV_REGISTER_X64_DR7, read_dr7(), "DR7");
	__asm__ volatile("sgdt %0" : "=m"(table));
	is(get(HV_REGISTER_X64_GDTR).table.base, table.base, "TLFS HV_X64_TABLE_REGISTER: GDTR base");
	is(get(HV_REGISTER_X64_GDTR).table.limit, table.limit, "TLFS HV_X64_TABLE_REGISTER: GDTR limit");
	__asm__ volatile("sidt %0" : "=m"(table));
	is(get(HV_REGISTER_X64_IDTR).table.base, table.base, "TLFS HV_X64_TABLE_REGISTER: IDTR base");
	is(get(HV_REGISTER_X64_CS).segment.attributes & ~1u, 0xa09a,
	   "TLFS HV_X64_SEGMENT_REGISTER: CS is 64-bit code");
	is(get(HV_REGISTER_X64_CS).segment.selector, SEL_CODE64,
	   "TLFS HV_X64_SEGMENT_REGISTER: its selector");
	is(get(HV_REGISTER_X64_TR).segment.attributes, 0x8b,
	   "TLFS HV_X64_SEGMENT_REGISTER: TR is a busy TSS");
	is(get(HV_REGISTER_X64_TR).segment.base, (uint64_t)tss_of(0),
	   "TLFS HV_X64_SEGMENT_REGISTER: its base");
	is(get(HV_REGISTER_HYPERVISOR_VERSION).reg32, cpuid(0x40000002, 0).eax,
	   "TLFS HV_REGISTER_NAME: the version is CPUID 0x40000002");
	is(get(HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO).reg128.high >> 32, cpuid(0x40000003, 0).edx,
	   "TLFS HV_REGISTER_NAME: privileges and features are CPUID 0x40000003");
}

static void set_general_registers(void)
{
	uint64_t rbx = 1, r12 = 2, result;
	register uint64_t r8 __asm__("r8") = 0;
	uint64_t control = HV_CALL_SET_VP_REGISTERS | 2ull << HV_CONTROL_REP_COUNT_SHIFT;
	uint64_t input = (uint64_t)hv_in;

	head();
	*element(0) =
		(struct hv_register_assoc){ .name = HV_REGISTER_X64_RBX, .value.reg64 = 0x1111222233334444 };
	*element(1) =
		(struct hv_register_assoc){ .name = HV_REGISTER_X64_R12, .value.reg64 = 0x5555666677778888 };
	if (is_intel())
		__asm__ volatile("vmcall\n\tmovq %%r12, %1"
				 : "=a"(result), "=d"(r12), "=b"(rbx), "+c"(control), "+r"(r8)
				 : "d"(input)
				 : "r12", "memory");
	else
		__asm__ volatile("vmmcall\n\tmovq %%r12, %1"
				 : "=a"(result), "=d"(r12), "=b"(rbx), "+c"(control), "+r"(r8)
				 : "d"(input)
				 : "r12", "memory");
	is(result, 2ull << HV_RESULT_REPS_DONE_SHIFT, "TLFS HvCallSetVpRegisters: two general registers");
	is(rbx, 0x1111222233334444, "TLFS HvCallSetVpRegisters: RBX");
	is(r12, 0x5555666677778888, "TLFS HvCallSetVpRegisters: R12");
}

/* The call goes on where it says, with its result, and with all elements behind RIP done. */
static void set_rip(void)
{
	uint64_t result, control = HV_CALL_SET_VP_REGISTERS | 3ull << HV_CONTROL_REP_COUNT_SHIFT;
	uint64_t input = (uint64_t)hv_in, came = 0;
	register uint64_t r8 __asm__("r8") = 0;

	head();
	*element(0) = (struct hv_register_assoc){ .name = HV_REGISTER_X64_DR0, .value.reg64 = 0x1000 };
	*element(1) = (struct hv_register_assoc){ .name = HV_REGISTER_X64_RIP };
	*element(2) = (struct hv_register_assoc){ .name = HV_REGISTER_X64_DR3, .value.reg64 = 0x3000 };
	__asm__ volatile("leaq 1f(%%rip), %%r9\n\t"
			 "movq %%r9, (%[rip])\n\t"
			 "xorl %%ebx, %%ebx\n\t"
			 "testl %[intel], %[intel]\n\t"
			 "jz 2f\n\t"
			 "vmcall\n\t"
			 "jmp 3f\n"
			 "2:\tvmmcall\n\t"
			 "jmp 3f\n"
			 "1:\tmovl $7, %%ebx\n"
			 "3:"
			 : "=a"(result), "=&b"(came), "+c"(control), "+r"(r8)
			 : "d"(input), [rip] "r"(&element(1)->value.reg64), [intel] "r"((uint32_t)is_intel())
			 : "r9", "memory", "cc");
	is(result, 3ull << HV_RESULT_REPS_DONE_SHIFT, "TLFS HvCallSetVpRegisters: RIP of the caller");
	is(came, 7, "TLFS HvCallSetVpRegisters: goes on where RIP was set to");
	is(read_dr0(), 0x1000, "TLFS HvCallSetVpRegisters: DR0, before RIP in the list");
	is(read_dr3(), 0x3000, "TLFS HvCallSetVpRegisters: DR3, behind RIP in the list");
	reads(HV_REGISTER_X64_DR3, 0x3000, "DR3");
}

static void set_system_registers(void)
{
	uint64_t cr4 = read_cr4(), gs = rdmsr(MSR_KERNEL_GS_BASE), star = rdmsr(MSR_STAR),
		 pat = rdmsr(MSR_PAT);
	struct hv_x64_segment_register fs = get(HV_REGISTER_X64_FS).segment;
	union hv_register_value value = { .segment = fs };

	is(set(HV_REGISTER_X64_CR4, cr4 ^ 4), 0, "TLFS HvCallSetVpRegisters: CR4");
	is(read_cr4(), cr4 ^ 4, "TLFS HvCallSetVpRegisters: CR4 has it");
	write_cr4(cr4);
	is(set(HV_REGISTER_X64_CR2, 0xdead000), 0, "TLFS HvCallSetVpRegisters: CR2");
	is(read_cr2(), 0xdead000, "TLFS HvCallSetVpRegisters: CR2 has it");
	is(set(HV_REGISTER_X64_CR8, 5), 0, "TLFS HvCallSetVpRegisters: CR8");
	is(read_cr8(), 5, "TLFS HvCallSetVpRegisters: CR8 has it");
	reads(HV_REGISTER_X64_CR8, 5, "CR8");
	write_cr8(0);
	is(set(HV_REGISTER_X64_CR3, read_cr3()), 0, "TLFS HvCallSetVpRegisters: CR3");
	is(set(HV_REGISTER_X64_KERNEL_GS_BASE, 0xffff888000001000), 0,
	   "TLFS HvCallSetVpRegisters: KERNEL_GS_BASE");
	is(rdmsr(MSR_KERNEL_GS_BASE), 0xffff888000001000, "TLFS HvCallSetVpRegisters: KERNEL_GS_BASE has it");
	wrmsr(MSR_KERNEL_GS_BASE, gs);
	is(set(HV_REGISTER_X64_STAR, 0x23001000000000), 0, "TLFS HvCallSetVpRegisters: STAR");
	is(rdmsr(MSR_STAR), 0x23001000000000, "TLFS HvCallSetVpRegisters: STAR has it");
	wrmsr(MSR_STAR, star);
	is(set(HV_REGISTER_X64_PAT, 0x0007040600070406), 0, "TLFS HvCallSetVpRegisters: PAT");
	is(rdmsr(MSR_PAT), 0x0007040600070406, "TLFS HvCallSetVpRegisters: PAT has it");
	wrmsr(MSR_PAT, pat);
	is(set(HV_REGISTER_X64_SYSENTER_ESP, 0x7000), 0, "TLFS HvCallSetVpRegisters: SYSENTER_ESP");
	is(rdmsr(0x175), 0x7000, "TLFS HvCallSetVpRegisters: SYSENTER_ESP has it");
	is(set(HV_REGISTER_X64_DR6, 0xffff0ff1), 0, "TLFS HvCallSetVpRegisters: DR6");
	is(read_dr6(), 0xffff0ff1, "TLFS HvCallSetVpRegisters: DR6 has it");
	value.segment.base = 0x123456000;
	is(set128(HV_REGISTER_X64_FS, value.reg128.low, value.reg128.high), 0,
	   "TLFS HvCallSetVpRegisters: FS");
	is(rdmsr(MSR_FS_BASE), 0x123456000, "TLFS HV_X64_SEGMENT_REGISTER: IA32_FS_BASE is its base");
	wrmsr(MSR_FS_BASE, fs.base);
	is(get(HV_REGISTER_X64_FS).segment.base, fs.base, "TLFS HV_X64_SEGMENT_REGISTER: and follows");
	is(set(HV_REGISTER_SCONTROL, 1), 0, "TLFS HvCallSetVpRegisters: SCONTROL");
	is(rdmsr(HV_MSR_SCONTROL), 1, "TLFS HvCallSetVpRegisters: SCONTROL has it");
	wrmsr(HV_MSR_SCONTROL, 0);
}

static void set_vector_registers(void)
{
	uint64_t cr4 = read_cr4(), low, high;
	union hv_register_value fp;
	uint16_t control;

	write_cr4(cr4 | 1u << 9);
	__asm__ volatile("fninit\n\tmovq %0, %%xmm5\n\tmovq %0, %%xmm6"
			 :
			 : "r"(0x1122334455667788ull)
			 : "memory");
	reads(HV_REGISTER_X64_XMM0 + 5, 0x1122334455667788, "XMM5");
	is(set128(HV_REGISTER_X64_XMM0 + 6, 0xaaaabbbbccccdddd, 0x9999888877776666), 0,
	   "TLFS HvCallSetVpRegisters: XMM6");
	__asm__ volatile("movq %%xmm6, %0\n\tpsrldq $8, %%xmm6\n\tmovq %%xmm6, %1" : "=r"(low), "=r"(high));
	is(low, 0xaaaabbbbccccdddd, "TLFS HvCallSetVpRegisters: XMM6 has it");
	is(high, 0x9999888877776666, "TLFS HvCallSetVpRegisters: all of it");
	__asm__ volatile("movq %%xmm5, %0" : "=r"(low));
	is(low, 0x1122334455667788, "TLFS HvCallSetVpRegisters: XMM5 is as it was");
	fp = get(HV_REGISTER_X64_FP_CONTROL_STATUS);
	is(fp.fp_control_status.fp_control, 0x37f, "TLFS HV_X64_FP_CONTROL_STATUS_REGISTER: control word");
	is(set128(HV_REGISTER_X64_FP_CONTROL_STATUS, (fp.reg128.low & ~0xffffull) | 0x27f, fp.reg128.high), 0,
	   "TLFS HvCallSetVpRegisters: floating-point control");
	__asm__ volatile("fnstcw %0" : "=m"(control));
	is(control, 0x27f, "TLFS HvCallSetVpRegisters: floating-point control has it");
	is(set128(HV_REGISTER_X64_XMM_CONTROL_STATUS, 0, 0x80000000), HV_STATUS_INVALID_REGISTER_VALUE,
	   "TLFS HvCallSetVpRegisters: reserved bits of MXCSR");
	write_cr4(cr4);
}

static void refusals(void)
{
	uint64_t cr0 = read_cr0(), cr4 = read_cr4(), efer = rdmsr(MSR_EFER);
	union hv_register_value cs = get(HV_REGISTER_X64_CS);

	is(set(HV_REGISTER_X64_CR0, cr0 & ~CR0_PG), 0x50,
	   "TLFS HvCallSetVpRegisters: no paging in long mode");
	is(read_cr0(), cr0, "TLFS HvCallSetVpRegisters: CR0 is as it was");
	is(set(HV_REGISTER_X64_CR4, cr4 & ~CR4_PAE), 0x50, "TLFS HvCallSetVpRegisters: no PAE in long mode");
	is(read_cr4(), cr4, "TLFS HvCallSetVpRegisters: CR4 is as it was");
	is(set(HV_REGISTER_X64_EFER, efer & ~(uint64_t)EFER_LMA), 0x50,
	   "TLFS HvCallSetVpRegisters: LMA is clear");
	is(rdmsr(MSR_EFER), efer, "TLFS HvCallSetVpRegisters: EFER is as it was");
	cs.segment.attributes |= HV_SEGMENT_DEFAULT_BIG;
	is(set128(HV_REGISTER_X64_CS, cs.reg128.low, cs.reg128.high), 0x50,
	   "TLFS HvCallSetVpRegisters: L and D");
	is(set(HV_REGISTER_X64_CR0, cr0 | 1ull << 40), 0x50,
	   "TLFS HvCallSetVpRegisters: reserved bits of CR0");
	is(set(HV_REGISTER_X64_CR4, cr4 | 1ull << 40), 0x50,
	   "TLFS HvCallSetVpRegisters: reserved bits of CR4");
	is(set(HV_REGISTER_X64_EFER, efer | EFER_SVME), 0x50, "TLFS HvCallSetVpRegisters: SVME");
	is(set(HV_REGISTER_X64_CR4, cr4 | CR4_VMXE), 0x50, "TLFS HvCallSetVpRegisters: VMXE");
	is(set(HV_REGISTER_X64_RFLAGS, 0), 0x50, "TLFS HvCallSetVpRegisters: bit 1 of RFLAGS");
	is(set(HV_REGISTER_X64_RIP, 1ull << 62), 0x50, "TLFS HvCallSetVpRegisters: RIP isn't canonical");
	is(set(HV_REGISTER_X64_LSTAR, 1ull << 62), 0x50, "TLFS HvCallSetVpRegisters: LSTAR isn't canonical");
	is(set(HV_REGISTER_X64_PAT, 0x02), 0x50, "TLFS HvCallSetVpRegisters: no memory type");
	is(set128(HV_REGISTER_X64_CR2, 0, 1), 0x50, "TLFS HvCallSetVpRegisters: beyond the register's size");
	is(set(HV_REGISTER_VP_INDEX, 0), HV_STATUS_ACCESS_DENIED,
	   "TLFS HvCallSetVpRegisters: VP index is read-only");
	is(set(HV_REGISTER_EXPLICIT_SUSPEND, 1), HV_STATUS_ACCESS_DENIED,
	   "TLFS HvCallSetVpRegisters: nobody suspends himself");
	is(set(0x12345678, 0), HV_STATUS_INVALID_PARAMETER, "TLFS HvCallSetVpRegisters: unknown name");
	get(0x12345678);
	is(status(), HV_STATUS_INVALID_PARAMETER, "TLFS HvCallGetVpRegisters: unknown name");
}

static void lists(void)
{
	uint64_t limit = LIST_MAX;

	head();
	for (unsigned int i = 0; i < LIST_MAX; i++)
		*element(i) =
			(struct hv_register_assoc){ .name = HV_REGISTER_X64_CR2, .value.reg64 = 0x1000 + i };
	last_result = hv_reps(HV_CALL_SET_VP_REGISTERS, limit);
	is(last_result, limit << HV_RESULT_REPS_DONE_SHIFT,
	   "TLFS HvCallSetVpRegisters: a list that fills the page");
	is(read_cr2(), 0x1000 + LIST_MAX - 1, "TLFS HvCallSetVpRegisters: in its order");
	element(3)->value.reg128.high = 1;
	last_result = hv_reps(HV_CALL_SET_VP_REGISTERS, 8);
	is(status(), 0x50, "TLFS HvCallSetVpRegisters: the fourth element is wrong");
	is(reps(), 3, "TLFS Hypercall Interface: three are done");
	is(read_cr2(), 0x1002, "TLFS HvCallSetVpRegisters: and had their effect");
	element(3)->value.reg128.high = 0;
	element(0)->reserved1 = 1;
	last_result = hv_reps(HV_CALL_SET_VP_REGISTERS, 8);
	is(status(), HV_STATUS_INVALID_PARAMETER, "TLFS HvCallSetVpRegisters: reserved field");
	head();
	((struct hv_input_vp_registers *)hv_in)->vp_index = 1000;
	last_result = hv_reps(HV_CALL_GET_VP_REGISTERS, 1);
	is(status(), HV_STATUS_INVALID_VP_INDEX, "TLFS HvCallGetVpRegisters: no such VP");
	head();
	((struct hv_input_vp_registers *)hv_in)->partition_id = 77;
	last_result = hv_reps(HV_CALL_GET_VP_REGISTERS, 1);
	is(status(), HV_STATUS_INVALID_PARTITION_ID, "TLFS HvCallGetVpRegisters: no such partition");
	head();
	((struct hv_input_vp_registers *)hv_in)->input_vtl = HV_INPUT_VTL_USE_TARGET | 1;
	last_result = hv_reps(HV_CALL_GET_VP_REGISTERS, 1);
	is(status(), HV_STATUS_INVALID_PARAMETER, "TLFS HvCallGetVpRegisters: no trust level 1");
}

static uint32_t event_vector;
static uint64_t event_error, event_cr2;

static void note_event(struct trap_frame *f)
{
	event_vector = (uint32_t)f->vector;
	event_error = f->error;
	event_cr2 = read_cr2();
}

static void events(void)
{
	trap_handlers[UD] = note_event;
	trap_handlers[PF] = note_event;
	is(set(HV_REGISTER_PENDING_EVENT0, 1 | UD << 16), 0, "TLFS HV_X64_PENDING_EXCEPTION_EVENT: #UD");
	is(event_vector, UD, "TLFS HV_X64_PENDING_EXCEPTION_EVENT: came");
	is(set128(HV_REGISTER_PENDING_EVENT0, 0x101 | PF << 16 | 4ull << 32, 0xcafe000), 0,
	   "TLFS HV_X64_PENDING_EXCEPTION_EVENT: page fault");
	is(event_vector, PF, "TLFS HV_X64_PENDING_EXCEPTION_EVENT: came");
	is(event_error, 4, "TLFS HV_X64_PENDING_EXCEPTION_EVENT: with its error code");
	is(event_cr2, 0xcafe000, "TLFS HV_X64_PENDING_EXCEPTION_EVENT: and its address");
	reads(HV_REGISTER_PENDING_EVENT0, 0, "no event is pending");
	reads(HV_REGISTER_X64_PENDING_INTERRUPTION, 0, "no interruption is pending");
	is(set(HV_REGISTER_X64_PENDING_INTERRUPTION, 0x1000001), 0x50,
	   "TLFS HV_X64_PENDING_INTERRUPTION_REGISTER: vector 256");
	trap_handlers[UD] = trap_handlers[PF] = NULL;
}

static void translate(void)
{
	struct hv_input_translate_virtual_address *in = (void *)hv_in;
	struct hv_output_translate_virtual_address *out = (void *)hv_out;
	uint64_t page = alloc_memory(PAGE, PAGE);
	uint64_t *pte = paging_pte(page);

	head();
	in->control_flags = HV_TRANSLATE_VALIDATE_READ | HV_TRANSLATE_VALIDATE_WRITE;
	in->gva_page = page >> 12;
	is(hv_simple(HV_CALL_TRANSLATE_VIRTUAL_ADDRESS), 0, "TLFS HvCallTranslateVirtualAddress");
	is(out->result_code, HV_TRANSLATE_SUCCESS, "TLFS HV_TRANSLATE_GVA_RESULT: success");
	is(out->gpn, page >> 12, "TLFS HvCallTranslateVirtualAddress: where the tables say");
	*pte &= ~PTE_W;
	flush_page(page);
	hv_simple(HV_CALL_TRANSLATE_VIRTUAL_ADDRESS);
	is(out->result_code, HV_TRANSLATE_PRIVILEGE_VIOLATION, "TLFS HV_TRANSLATE_GVA_RESULT: read-only");
	*pte &= ~PTE_P;
	flush_page(page);
	hv_simple(HV_CALL_TRANSLATE_VIRTUAL_ADDRESS);
	is(out->result_code, HV_TRANSLATE_PAGE_NOT_PRESENT, "TLFS HV_TRANSLATE_GVA_RESULT: not present");
	*pte |= PTE_P | PTE_W;
	flush_page(page);
}

void test_main(void)
{
	hv_open();
	if (in_child && !(hv_privileges() & HV_PRIVILEGE_ACCESS_VP_REGISTERS))
		skip_all("this child hasn't the privilege");
	get_what_the_processor_says();
	set_general_registers();
	set_rip();
	set_system_registers();
	set_vector_registers();
	refusals();
	lists();
	events();
	translate();
}
