/* unit: tests/vmm/move.c */
/* SPDX-License-Identifier: MIT */
/* The decoder of tests/vmm against the assembler's idea of each form (bytes from `as`), every cut, and random bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/vmm/move.h"

static const struct {
	const char *text;
	unsigned int mode_bits, count;
	uint8_t code[12];
	struct move want;
} forms[] = {
	{ "mov %al, (%rbx)", 64, 2, { 0x88, 0x03 }, { .length = 2, .bytes = 1, .reg_bytes = 1 } },
	{ "mov %r9d, 0x10(%rcx)", 64, 4, { 0x44, 0x89, 0x49, 0x10 }, { 4, false, 4, 9, 4, false } },
	{ "mov (%rsi), %ax", 64, 3, { 0x66, 0x8b, 0x06 }, { 3, true, 2, 0, 2, false } },
	{ "mov (%rsi), %rax", 64, 3, { 0x48, 0x8b, 0x06 }, { 3, true, 8, 0, 8, false } },
	{ "mov (%rbx), %ah", 64, 2, { 0x8a, 0x23 }, { 2, true, 1, 0, 1, true } },
	{ "mov (%rbx), %spl", 64, 3, { 0x40, 0x8a, 0x23 }, { 3, true, 1, 4, 1, false } },
	{ "mov 0x12345678(%rip), %ecx",
	  64,
	  6,
	  { 0x8b, 0x0d, 0x78, 0x56, 0x34, 0x12 },
	  { 6, true, 4, 1, 4, false } },
	{ "mov 0x8(%rax,%rcx,4), %edx", 64, 4, { 0x8b, 0x54, 0x88, 0x08 }, { 4, true, 4, 2, 4, false } },
	{ "mov 0x0(,%rcx,4), %edx", 64, 7, { 0x8b, 0x14, 0x8d, 0, 0, 0, 0 }, { 7, true, 4, 2, 4, false } },
	{ "movl $1, (%rdi)", 64, 6, { 0xc7, 0x07, 1, 0, 0, 0 }, { .length = 6, .bytes = 4, .reg_bytes = 4 } },
	{ "movw $1, (%rdi)", 64, 5, { 0x66, 0xc7, 0x07, 1, 0 }, { .length = 5, .bytes = 2, .reg_bytes = 2 } },
	{ "movq $1, (%rdi)",
	  64,
	  7,
	  { 0x48, 0xc7, 0x07, 1, 0, 0, 0 },
	  { .length = 7, .bytes = 8, .reg_bytes = 8 } },
	{ "movb $1, 4(%edi)",
	  64,
	  5,
	  { 0x67, 0xc6, 0x47, 4, 1 },
	  { .length = 5, .bytes = 1, .reg_bytes = 1 } },
	{ "movzbl (%r8), %r10d", 64, 4, { 0x45, 0x0f, 0xb6, 0x10 }, { 4, true, 1, 10, 4, false } },
	{ "movzwq (%rax), %rdx", 64, 4, { 0x48, 0x0f, 0xb7, 0x10 }, { 4, true, 2, 2, 8, false } },
	{ "movabs 0x1122334455667788, %eax",
	  64,
	  9,
	  { 0xa1, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11 },
	  { 9, true, 4, 0, 4, false } },
	{ "mov %al, 0x5000 (16)", 16, 3, { 0xa2, 0x00, 0x50 }, { .length = 3, .bytes = 1, .reg_bytes = 1 } },
	{ "mov 0x12(%bx,%si), %cx (16)", 16, 3, { 0x8b, 0x48, 0x12 }, { 3, true, 2, 1, 2, false } },
	{ "mov 0x1234, %ecx (16)", 16, 5, { 0x66, 0x8b, 0x0e, 0x34, 0x12 }, { 5, true, 4, 1, 4, false } },
	{ "mov (%esp), %cx (16)", 16, 4, { 0x67, 0x8b, 0x0c, 0x24 }, { 4, true, 2, 1, 2, false } },
	{ "mov (%bx), %ecx (32)", 32, 3, { 0x67, 0x8b, 0x0f }, { 3, true, 4, 1, 4, false } },
	{ "mov %fs:0x1000, %eax (32)", 32, 6, { 0x64, 0xa1, 0x00, 0x10, 0, 0 }, { 6, true, 4, 0, 4, false } },
};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

static void knows_each_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < FORMS; i++) {
		struct move m = { 0 };
		uint8_t *code = malloc(forms[i].count);

		memcpy(code, forms[i].code, forms[i].count);
		if (!decode_move(code, forms[i].count, forms[i].mode_bits, &m))
			fail_msg("%s: not decoded", forms[i].text);
		if (m.length != forms[i].want.length || m.load != forms[i].want.load ||
		    m.bytes != forms[i].want.bytes || m.reg_bytes != forms[i].want.reg_bytes ||
		    m.high_byte != forms[i].want.high_byte || (m.load && m.reg != forms[i].want.reg))
			fail_msg("%s: length %u load %d bytes %u register %u of %u", forms[i].text, m.length,
				 m.load, m.bytes, m.reg, m.reg_bytes);
		free(code);
	}
}

static void refuses_each_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < FORMS; i++)
		for (unsigned int count = 0; count < forms[i].count; count++) {
			struct move m;
			uint8_t *code = malloc(count ? count : 1);

			memcpy(code, forms[i].code, count);
			if (decode_move(code, count, forms[i].mode_bits, &m))
				fail_msg("%s: decoded with %u bytes", forms[i].text, count);
			free(code);
		}
}

static void refuses_others(void **state)
{
	static const struct {
		unsigned int count;
		uint8_t code[15];
	} others[] = {
		{ 2, { 0x01, 0x03 } },		   /* add */
		{ 2, { 0x8b, 0xc3 } },		   /* between registers */
		{ 6, { 0xc7, 0x0f, 1, 0, 0, 0 } }, /* C7 /1 */
		{ 3, { 0x0f, 0xbe, 0x03 } },	   /* movsx */
		{ 1, { 0xa4 } },		   /* movsb */
		{ 15,
		  { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
		    0x66 } },
	};
	struct move m;

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_false(decode_move(others[i].code, others[i].count, 64, &m));
}

static void survives_random_bytes(void **state)
{
	static const unsigned int modes[] = { 16, 32, 64 };
	uint64_t seed = 0x9e3779b97f4a7c15;

	(void)state;
	for (unsigned int i = 0; i < 300000; i++) {
		uint8_t *code = malloc(16);
		struct move m = { 0 };
		unsigned int count;

		for (unsigned int k = 0; k < 16; k++) {
			seed = seed * 6364136223846793005 + 1442695040888963407;
			code[k] = (uint8_t)(seed >> 56);
		}
		count = code[15] & 15;
		if (decode_move(code, count, modes[i % 3], &m)) {
			assert_in_range(m.length, 1, count);
			assert_in_range(m.reg, 0, 15);
			assert_true(m.bytes == 1 || m.bytes == 2 || m.bytes == 4 || m.bytes == 8);
		}
		is_hypercall(code, count);
		free(code);
	}
}

static void knows_hypercalls(void **state)
{
	static const uint8_t vmmcall[] = { 0x0f, 0x01, 0xd9 }, vmcall[] = { 0x2e, 0x48, 0x0f, 0x01, 0xc1 };
	static const uint8_t vmrun[] = { 0x0f, 0x01, 0xd8 };

	(void)state;
	assert_true(is_hypercall(vmmcall, 3));
	assert_true(is_hypercall(vmcall, 5));
	assert_false(is_hypercall(vmcall, 4));
	assert_false(is_hypercall(vmrun, 3));
}

static void writes_as_the_processor_does(void **state)
{
	const uint64_t old = 0x1122334455667788;

	(void)state;
	assert_int_equal(loaded(&(struct move){ .bytes = 1, .reg_bytes = 1 }, old, ~0ull),
			 0x11223344556677ff);
	assert_int_equal(loaded(&(struct move){ .bytes = 1, .reg_bytes = 1, .high_byte = true }, old, ~0ull),
			 0x112233445566ff88);
	assert_int_equal(loaded(&(struct move){ .bytes = 2, .reg_bytes = 2 }, old, ~0ull),
			 0x112233445566ffff);
	assert_int_equal(loaded(&(struct move){ .bytes = 4, .reg_bytes = 4 }, old, ~0ull), 0xffffffff);
	assert_int_equal(loaded(&(struct move){ .bytes = 1, .reg_bytes = 4 }, old, ~0ull), 0xff);
	assert_int_equal(loaded(&(struct move){ .bytes = 8, .reg_bytes = 8 }, old, ~0ull), ~0ull);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_each_form),  cmocka_unit_test(refuses_each_cut),
		cmocka_unit_test(refuses_others),   cmocka_unit_test(survives_random_bytes),
		cmocka_unit_test(knows_hypercalls), cmocka_unit_test(writes_as_the_processor_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
