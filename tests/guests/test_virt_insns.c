/* SPDX-License-Identifier: MIT */
/*
 * The instructions, control bits and MSRs of SVM, VMX and SMX are not there for root or child, on either vendor: it runs on a
 * processor that never had them. One thing shines through: VMRUN, VMLOAD and VMSAVE check their address operand before
 * the intercept (APM2 15.9), so that a bad one may give #GP instead of #UD.
 */
#include "lib/guest.h"

#define UD 6u
#define GP 13u
#define FEATURE_LOCKED 1u
#define VM_CR_SVMDIS (1ull << 4)

static uint8_t *code;

struct insn {
	const char *name;
	unsigned int len;
	uint8_t bytes[5];
};

/* Memory operands are (%rax). */
static const struct insn insns[] = {
	{ "VMRUN", 3, { 0x0f, 0x01, 0xd8 } },
	{ "VMMCALL", 3, { 0x0f, 0x01, 0xd9 } },
	{ "VMLOAD", 3, { 0x0f, 0x01, 0xda } },
	{ "VMSAVE", 3, { 0x0f, 0x01, 0xdb } },
	{ "STGI", 3, { 0x0f, 0x01, 0xdc } },
	{ "CLGI", 3, { 0x0f, 0x01, 0xdd } },
	{ "SKINIT", 3, { 0x0f, 0x01, 0xde } },
	{ "INVLPGA", 3, { 0x0f, 0x01, 0xdf } },
	{ "VMCALL", 3, { 0x0f, 0x01, 0xc1 } },
	{ "VMLAUNCH", 3, { 0x0f, 0x01, 0xc2 } },
	{ "VMRESUME", 3, { 0x0f, 0x01, 0xc3 } },
	{ "VMXOFF", 3, { 0x0f, 0x01, 0xc4 } },
	{ "VMFUNC", 3, { 0x0f, 0x01, 0xd4 } },
	{ "VMPTRLD", 3, { 0x0f, 0xc7, 0x30 } },
	{ "VMPTRST", 3, { 0x0f, 0xc7, 0x38 } },
	{ "VMCLEAR", 4, { 0x66, 0x0f, 0xc7, 0x30 } },
	{ "VMXON", 4, { 0xf3, 0x0f, 0xc7, 0x30 } },
	{ "INVEPT", 5, { 0x66, 0x0f, 0x38, 0x80, 0x08 } },
	{ "INVVPID", 5, { 0x66, 0x0f, 0x38, 0x81, 0x08 } },
	{ "GETSEC", 2, { 0x0f, 0x37 } },
	{ "UD2", 2, { 0x0f, 0x0b } },
};

/* With 66 or F2 these are other instructions on AMD's processors (SSE4A). */
static const struct insn plain_insns[] = {
	{ "VMREAD", 3, { 0x0f, 0x78, 0x08 } },
	{ "VMREAD to RAX", 3, { 0x0f, 0x78, 0xc8 } },
	{ "VMWRITE", 3, { 0x0f, 0x79, 0x08 } },
	{ "VMWRITE from RAX", 3, { 0x0f, 0x79, 0xc8 } },
};

static const struct {
	const char *name;
	unsigned int len;
	uint8_t bytes[4];
} prefixes[] = {
	{ "", 0, { 0 } },
	{ "67 ", 1, { 0x67 } },
	{ "REX.W ", 1, { 0x48 } },
	{ "REX.B ", 1, { 0x41 } },
	{ "CS: ", 1, { 0x2e } },
	{ "FS: ", 1, { 0x64 } },
	{ "67 GS: REX ", 3, { 0x67, 0x65, 0x40 } },
	{ "66 ", 1, { 0x66 } },
	{ "F2 ", 1, { 0xf2 } },
	{ "F3 ", 1, { 0xf3 } },
};

static bool has_address(const struct insn *in)
{
	return in->len == 3 && in->bytes[1] == 0x01 &&
	       (in->bytes[2] == 0xd8 || in->bytes[2] == 0xda || in->bytes[2] == 0xdb);
}

#define PLAIN_PREFIXES 7u /* the first so many are no 66, F2, F3 */

/* Runs the bytes with RAX, RCX, RDX given; registers must come out as they went in. */
static bool run(const uint8_t *bytes, unsigned int len, uint64_t rax)
{
	uint64_t a = rax, b = 0xb0b0b0b0b0b0b0b0ull, c = 0xcccccccccccc0000ull, d = 0xd1d1d1d1d1d1d1d1ull;

	memcpy(code, bytes, len);
	code[len] = 0xff; /* jmp *%rbp, if the instruction did not fault */
	code[len + 1] = 0xe5;
	__asm__ volatile("pushq %%rbp\n\t"
			 "leaq 771f(%%rip), %%rbp\n\t" TRY("jmp *%4") "popq %%rbp"
			 : "+a"(a), "+b"(b), "+c"(c), "+d"(d)
			 : "r"(code)
			 : "r11", "memory");
	return a == rax && b == 0xb0b0b0b0b0b0b0b0ull && c == 0xcccccccccccc0000ull &&
	       d == 0xd1d1d1d1d1d1d1d1ull;
}

static void check(const struct insn *in, unsigned int prefix_count)
{
	bool kept = true;
	const char *bad = "";
	uint32_t got = UD;
	uint64_t rip_off = 0;

	for (unsigned int p = 0; p < prefix_count; p++) {
		static const uint64_t values[] = { 0, 0x1000, 0x7fffff000ull, 0x1001, ~0ull };

		for (unsigned int v = 0; v < ARRAY_LEN(values); v++) {
			uint8_t bytes[8];

			memcpy(bytes, prefixes[p].bytes, prefixes[p].len);
			memcpy(bytes + prefixes[p].len, in->bytes, in->len);
			if (!run(bytes, prefixes[p].len + in->len, values[v]))
				kept = false;
			if (has_address(in) && values[v] & 1 && last_fault.vector == GP)
				continue;
			if (last_fault.vector != UD || last_fault.rip != (uint64_t)code) {
				bad = prefixes[p].name;
				got = last_fault.vector;
				rip_off = last_fault.rip - (uint64_t)code;
			}
		}
	}
	ok(got == UD && !rip_off, "%s%s: #UD at the instruction, all prefixes (vector %u, off %llu)", bad,
	   in->name, got, (unsigned long long)rip_off);
	ok(kept, "%s: registers are kept", in->name);
}

/* On the bare machine each of these is as this processor has it: only told. */
static void check_absent(const char *name, uint32_t msr)
{
	uint64_t v = 0;
	uint32_t read = try_rdmsr(msr, &v), wrote = try_wrmsr(msr, 0);

	if (on_trivet()) {
		is(read, GP, "reading %s (%x): #GP", name, msr);
		is(wrote, GP, "writing %s: #GP", name);
	} else {
		note("%s bare: read vector %u value %llx, write vector %u", name, read, (unsigned long long)v,
		     wrote);
	}
}

/* Without SVM in CPUID it need not be there; where it is (as in KVM's guests), it says that SVM is disabled, and keeps nothing. */
static void check_vm_cr(void)
{
	uint64_t before = 0;

	if (!in_child || try_rdmsr(MSR_VM_CR, &before) == GP) {
		check_absent("VM_CR", MSR_VM_CR);
		return;
	}
	ok(before & VM_CR_SVMDIS, "VM_CR (%llx) has SVM disabled", (unsigned long long)before);
	try_wrmsr(MSR_VM_CR, 0);
	is(rdmsr(MSR_VM_CR), before, "... whatever is written");
}

static void check_svm(void)
{
	check_vm_cr();
	check_absent("VM_HSAVE_PA", MSR_VM_HSAVE_PA);
	check_absent("SVM_KEY", 0xc0010118);
}

static void check_cr4_bit(const char *name, uint64_t bit)
{
	uint64_t cr4 = read_cr4();

	is(cr4 & bit, 0, "CR4.%s reads 0", name);
	is(try_write_cr(4, cr4 | bit), GP, "setting CR4.%s: #GP", name);
	is(last_fault.error, 0, "... with error code 0");
	is(read_cr4(), cr4, "... and CR4 is as it was");
}

/*
 * IA32_FEATURE_CONTROL is locked with VMX and SMX off, as firmware leaves it that was told so (SDM3 24.7). Without VMX and
 * SMX in CPUID it need not be there (SDM4 2.1), and a child may not have it.
 */
static void check_feature_control(void)
{
	uint64_t v = ~0ull;

	if (in_child && try_rdmsr(MSR_FEATURE_CONTROL, &v) == GP) {
		is(try_wrmsr(MSR_FEATURE_CONTROL, 5), GP, "FEATURE_CONTROL isn't there: no write either");
		return;
	}
	if (!on_trivet()) {
		note("FEATURE_CONTROL bare: vector %u", try_rdmsr(MSR_FEATURE_CONTROL, &v));
		return;
	}
	is(try_rdmsr(MSR_FEATURE_CONTROL, &v), NO_FAULT, "FEATURE_CONTROL can be read");
	is(v & 0xff07, FEATURE_LOCKED, "... is locked with VMX and SMX off");
	is(try_wrmsr(MSR_FEATURE_CONTROL, v), GP, "writing FEATURE_CONTROL as read: #GP");
	is(try_wrmsr(MSR_FEATURE_CONTROL, 5), GP, "writing FEATURE_CONTROL with VMX on: #GP");
	is(rdmsr(MSR_FEATURE_CONTROL), v, "... changes nothing");
}

static void check_vmx(void)
{
	for (uint32_t msr = MSR_VMX_FIRST; msr <= MSR_VMX_LAST; msr++)
		check_absent("a VMX capability", msr);
	check_cr4_bit("VMXE", CR4_VMXE);
	check_cr4_bit("SMXE", CR4_SMXE);
	check_feature_control();
}

void test_main(void)
{
	code = (uint8_t *)alloc_memory(PAGE, PAGE);
	for (unsigned int i = 0; i < ARRAY_LEN(insns); i++)
		check(&insns[i], ARRAY_LEN(prefixes));
	for (unsigned int i = 0; i < ARRAY_LEN(plain_insns); i++)
		check(&plain_insns[i], PLAIN_PREFIXES);
	if (is_intel())
		check_vmx();
	else
		check_svm();
	/* Interrupts still come: a CLGI that worked would hold them for ever. */
	irq_on();
	apic_icr(0, ICR_SELF | ICR_ASSERT | 0x40);
	ok(wait_for(&vector_count[0][0x40], 1, 1000000), "interrupts still come");
	irq_off();
}
