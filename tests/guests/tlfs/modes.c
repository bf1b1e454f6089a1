/* SPDX-License-Identifier: MIT */
/* TLFS "Legal Hypercall Environments", "Hypercall Inputs": calls from every mode of the processor, and from user mode. */
#include "tlfs.h"

#define VECTOR 0x60
/* As in calls.asm: where the copy has its data. */
#define DATA 0x800u
#define GDT 0xa00u
#define IVT 0xb00u
#define IDT 0xc00u

enum mode { COMPATIBILITY, PROTECTED, REAL };

struct regs32 {
	uint64_t eax, ecx, edx, ebx, esi, edi;
};

extern HIDDEN const uint8_t tlfs_blob[], tlfs_blob_end[], tlfs_blob_back[], tlfs_blob_real[],
	tlfs_blob_ud32[], tlfs_blob_ud16[];
extern HIDDEN const uint32_t tlfs_blob_insn[3];

static void put(uint64_t at, uint64_t v, unsigned int bytes)
{
	memcpy((void *)(low_memory + at), &v, bytes);
}

static uint64_t offset(const uint8_t *label)
{
	return (uint64_t)(label - tlfs_blob);
}

static void prepare(void)
{
	uint64_t base = (low_memory & 0xffffff) << 16;
	const uint64_t gdt[] = { 0,
				 0x00af9b000000ffff,
				 0x00cf93000000ffff,
				 0x00cf9b000000ffff | base,
				 0x00cf93000000ffff | base,
				 0x00009b000000ffff | base,
				 0x000093000000ffff | base };

	memset((void *)low_memory, 0, PAGE);
	memcpy((void *)low_memory, tlfs_blob, (size_t)(tlfs_blob_end - tlfs_blob));
	for (unsigned int i = 0; i < 3; i++)
		put(tlfs_blob_insn[i], is_intel() ? 0xc1010f : 0xd9010f, 3);
	memcpy((void *)(low_memory + GDT), gdt, sizeof(gdt));
	put(DATA + 0x80, sizeof(gdt) - 1, 2);
	put(DATA + 0x82, low_memory + GDT, 8);
	put(DATA + 0x90, 7 * 8 - 1, 2);
	put(DATA + 0x92, low_memory + IDT, 4);
	put(DATA + 0xa0, 7 * 4 - 1, 2);
	put(DATA + 0xa2, low_memory + IVT, 4);
	put(DATA + 0xb0, low_memory + offset(tlfs_blob_back), 4);
	put(DATA + 0xb4, SEL_CODE64, 2);
	put(DATA + 0xb8, offset(tlfs_blob_real), 2);
	put(DATA + 0xba, low_memory >> 4, 2);
	put(IDT + 6 * 8, offset(tlfs_blob_ud32) | 0x18u << 16 | 0x8eull << 40, 8);
	put(IVT + 6 * 4, offset(tlfs_blob_ud16) | low_memory >> 4 << 16, 4);
}

static void skip_three(struct trap_frame *f)
{
	f->rip += 3;
}

/* Runs the instruction there. The registers come back as they are behind it; returns the number of #UD. */
static uint32_t call_in(enum mode mode, struct regs32 *regs)
{
	void (*entry)(unsigned int) = (void (*)(unsigned int))low_memory;
	volatile uint32_t *uds = (volatile uint32_t *)(low_memory + DATA + 0xc4);
	uint32_t before = vector_count[0][UD];

	memcpy((void *)(low_memory + DATA), regs, sizeof(*regs));
	*uds = 0;
	trap_handlers[UD] = skip_three;
	entry(mode);
	trap_handlers[UD] = NULL;
	memcpy(regs, (const void *)(low_memory + DATA), sizeof(*regs));
	return *uds + vector_count[0][UD] - before;
}

static struct regs32 regs_for(uint64_t control, uint64_t input, uint64_t output, uint64_t dirt)
{
	return (struct regs32){
		.eax = (uint32_t)control | dirt,
		.edx = control >> 32 | dirt,
		.ecx = (uint32_t)input | dirt,
		.ebx = input >> 32 | dirt,
		.esi = (uint32_t)output | dirt,
		.edi = output >> 32 | dirt,
	};
}

static void calls_of_32_bits(enum mode mode, const char *name, uint64_t dirt)
{
	struct regs32 r = regs_for(0x7fff, 0, 0, dirt), before;
	uint64_t *words;

	is(call_in(mode, &r), 0, "%s: a call is no #UD", name);
	ok((uint32_t)r.eax == HV_STATUS_INVALID_HYPERCALL_CODE && (uint32_t)r.edx == 0,
	   "... status in EAX, EDX 0");
	memset(hv_out, 0, PAGE);
	r = before = regs_for(HV_CALL_GET_PARTITION_ID, (uint64_t)hv_in, (uint64_t)hv_out, dirt);
	call_in(mode, &r);
	ok((uint32_t)r.eax == 0 && *(uint64_t *)hv_out != 0,
	   "... EDX:EAX the control word, EDI:ESI the output");
	ok((uint32_t)r.ecx == (uint32_t)before.ecx && (uint32_t)r.ebx == (uint32_t)before.ebx &&
		   (uint32_t)r.esi == (uint32_t)before.esi && (uint32_t)r.edi == (uint32_t)before.edi,
	   "... which are kept");
	words = fresh_input();
	words[0] = VECTOR;
	words[1] = 1;
	r = regs_for(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, (uint64_t)hv_in, 0, dirt);
	call_in(mode, &r);
	ok((uint32_t)r.eax == 0 && came(VECTOR) == 1, "... EBX:ECX the input");
	r = regs_for(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST, VECTOR, 1, dirt);
	call_in(mode, &r);
	ok((uint32_t)r.eax == 0 && came(VECTOR) == 1, "... fast: EBX:ECX and EDI:ESI");
	r = regs_for(HV_CALL_GET_PARTITION_ID | 1ull << 44, 0, (uint64_t)hv_out, dirt);
	call_in(mode, &r);
	ok((uint32_t)r.eax == HV_STATUS_INVALID_HYPERCALL_INPUT, "... reserved bits in EDX are refused");
	*(uint64_t *)fresh_input() = HV_PARTITION_ID_SELF;
	((uint32_t *)hv_in)[4] = ((uint32_t *)hv_in)[5] = apic_id();
	memset(hv_out, 0xa5, PAGE);
	r = regs_for(HV_CALL_GET_VP_INDEX_FROM_APIC_ID | 2ull << 32, (uint64_t)hv_in, (uint64_t)hv_out, dirt);
	call_in(mode, &r);
	ok((uint32_t)r.eax == 0 && (uint32_t)r.edx == 2 && *(uint64_t *)hv_out == 0,
	   "... a rep call: EDX is the reps");
}

/* ---- User mode ---- */

static uint64_t kernel_rsp;
static uint32_t user_faults;
static uint64_t user_rip;

/* Back to where to_user() went down. */
static void from_user(struct trap_frame *f)
{
	extern HIDDEN char tlfs_user_back[];

	user_faults = (uint32_t)f->vector;
	user_rip = f->rip;
	f->rip = (uint64_t)tlfs_user_back;
	f->cs = SEL_CODE64;
	f->ss = SEL_DATA;
	f->rsp = kernel_rsp;
	f->rflags = 2;
}

static __attribute__((noinline)) void to_user(uint64_t rip, uint64_t control)
{
	__asm__ volatile(
		"pushq %%rbp\n\tpushq %%rbx\n\tpushq %%r12\n\tpushq %%r13\n\tpushq %%r14\n\tpushq %%r15\n\t"
		"movq %%rsp, %2\n\t"
		"pushq $0x2b\n\tpushq %%rsp\n\tpushq $2\n\tpushq $0x23\n\tpushq %0\n\tiretq\n"
		"tlfs_user_back:\n\t"
		"popq %%r15\n\tpopq %%r14\n\tpopq %%r13\n\tpopq %%r12\n\tpopq %%rbx\n\tpopq %%rbp"
		: "+D"(rip), "+c"(control), "=m"(kernel_rsp)
		:
		: "rax", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
}

static void open_to_user(uint64_t address)
{
	uint64_t *pte = paging_pte(address);

	page_pml4[0] |= PTE_U;
	page_pdpt[address >> 30 & 3] |= PTE_U;
	page_pd[address >> 30 & 3][address >> 21 & 511] |= PTE_U;
	*pte |= PTE_U;
	write_cr3(read_cr3());
}

static void user_mode(void)
{
	static uint8_t stack[PAGE] __attribute__((aligned(16)));
	struct table_register gdtr;
	uint8_t *code = (uint8_t *)alloc_memory(PAGE, PAGE);
	uint64_t top = (uint64_t)stack + sizeof(stack);

	__asm__ volatile("sgdt %0" : "=m"(gdtr));
	((uint64_t *)gdtr.base)[4] = 0x00affb000000ffff; /* selectors 0x23, 0x2b */
	((uint64_t *)gdtr.base)[5] = 0x00cff3000000ffff;
	tss_of(0)->rsp[0] = (uint32_t)top;
	tss_of(0)->rsp[1] = (uint32_t)(top >> 32);
	open_to_user((uint64_t)code);
	code[0] = 0x0f;
	code[1] = 0x01;
	code[2] = is_intel() ? 0xc1 : 0xd9;
	code[3] = 0x0f;
	code[4] = 0x0b; /* UD2 */
	trap_handlers[UD] = trap_handlers[GP] = trap_handlers[PF] = from_user;
	to_user((uint64_t)code, 0x7fff);
	ok(user_faults == UD && user_rip == (uint64_t)code,
	   "Legal Hypercall Environments: CPL 3 is #UD (vector %u at +%llu)", user_faults,
	   (unsigned long long)(user_rip - (uint64_t)code));
	/* The page itself is for who may read and execute it; the rule is the privilege level. */
	open_to_user(rdmsr(HV_MSR_HYPERCALL) & ~0xfffull);
	to_user(rdmsr(HV_MSR_HYPERCALL) & ~0xfffull, 0x7fff);
	ok(user_faults == UD && user_rip == (rdmsr(HV_MSR_HYPERCALL) & ~0xfffull),
	   "... through the page too");
	trap_handlers[UD] = trap_handlers[GP] = trap_handlers[PF] = NULL;
}

void tlfs_modes(void)
{
	struct regs32 r;

	if (!low_memory)
		bail_out("no memory below 640 KiB");
	if (child_lacks(HV_PRIVILEGE_ACCESS_PARTITION_ID, "Legal Hypercall Environments"))
		return;
	prepare();
	calls_of_32_bits(COMPATIBILITY, "Hypercall Inputs: compatibility mode", 0);
	calls_of_32_bits(COMPATIBILITY, "XSA-454: compatibility mode, dirty upper halves",
			 0xdeadbeef00000000);
	calls_of_32_bits(PROTECTED, "Hypercall Inputs: protected mode without paging", 0);
	r = regs_for(0x7fff, 0, 0, 0);
	is(call_in(REAL, &r), 1, "Legal Hypercall Environments: real mode is #UD");
	is((uint32_t)r.eax, 0x7fff, "... and EAX is what it was");
	user_mode();
}
