/* SPDX-License-Identifier: MIT */
/*
 * The SVM instructions are undefined for the root, with any prefix: it runs on a processor without SVM.
 * One thing shines through: VMRUN, VMLOAD and VMSAVE check their address operand before the intercept
 * (APM2 15.9), so that a bad one may give #GP instead of #UD.
 */
#include "lib/guest.h"

#define UD 6u
#define GP 13u

static uint8_t *code;

struct insn {
	const char *name;
	uint8_t bytes[3];
};

static const struct insn insns[] = {
	{ "VMRUN", { 0x0f, 0x01, 0xd8 } },    { "VMMCALL", { 0x0f, 0x01, 0xd9 } },
	{ "VMLOAD", { 0x0f, 0x01, 0xda } },   { "VMSAVE", { 0x0f, 0x01, 0xdb } },
	{ "STGI", { 0x0f, 0x01, 0xdc } },     { "CLGI", { 0x0f, 0x01, 0xdd } },
	{ "SKINIT", { 0x0f, 0x01, 0xde } },   { "INVLPGA", { 0x0f, 0x01, 0xdf } },
	{ "VMCALL", { 0x0f, 0x01, 0xc1 } },   { "VMLAUNCH", { 0x0f, 0x01, 0xc2 } },
	{ "VMRESUME", { 0x0f, 0x01, 0xc3 } }, { "VMXOFF", { 0x0f, 0x01, 0xc4 } },
	{ "UD2", { 0x0f, 0x0b, 0x90 } },
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
	return in->bytes[1] == 0x01 && (in->bytes[2] == 0xd8 || in->bytes[2] == 0xda || in->bytes[2] == 0xdb);
}

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

static void check(const struct insn *in)
{
	bool kept = true;
	const char *bad = "";
	uint32_t got = UD;
	uint64_t rip_off = 0;

	for (unsigned int p = 0; p < ARRAY_LEN(prefixes); p++) {
		static const uint64_t values[] = { 0, 0x1000, 0x7fffff000ull, 0x1001, ~0ull };

		for (unsigned int v = 0; v < ARRAY_LEN(values); v++) {
			uint8_t bytes[8];

			memcpy(bytes, prefixes[p].bytes, prefixes[p].len);
			memcpy(bytes + prefixes[p].len, in->bytes, 3);
			if (!run(bytes, prefixes[p].len + 3, values[v]))
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

void test_main(void)
{
	code = (uint8_t *)alloc_memory(PAGE, PAGE);
	for (unsigned int i = 0; i < ARRAY_LEN(insns); i++)
		check(&insns[i]);
	/* Interrupts still come: a CLGI that worked would hold them for ever. */
	irq_on();
	apic_icr(0, ICR_SELF | ICR_ASSERT | 0x40);
	ok(wait_for(&vector_count[0][0x40], 1, 1000000), "interrupts still come");
	irq_off();
}
