/* unit: drivers/acpi.c */
/* SPDX-License-Identifier: MIT */
/*
 * ACPI parsers against good tables, every kind of malformed one, and random damage. acpi_map() hands out a fresh copy
 * of exactly the bytes asked for, and frees the copy before: any access beyond, or after the next map, is an ASan stop.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <trivet/acpi.h>

#define MEM_BASE 0x7fe0000ull
#define MEM_SIZE 0x20000u
#define RSDP_AT 0x0u
#define RSDT_AT 0x100u
#define XSDT_AT 0x200u
#define MADT_AT 0x1000u
#define FADT_AT 0x400u
#define OTHER_AT 0x300u

static uint8_t mem[MEM_SIZE];
static uint8_t *mapped;
static uint32_t map_calls;

const void *acpi_map(hpa_t hpa, size_t size)
{
	free(mapped);
	mapped = NULL;
	map_calls++;
	if (hpa.v < MEM_BASE || size > MEM_SIZE || hpa.v - MEM_BASE > MEM_SIZE - size)
		return NULL;
	mapped = malloc(size);
	memcpy(mapped, mem + (hpa.v - MEM_BASE), size);
	return mapped;
}

static void put(uint8_t *p, uint64_t value, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		p[i] = (uint8_t)(value >> (8 * i));
}

static void fix_sum(uint8_t *p, size_t size, size_t at)
{
	uint8_t sum = 0;

	p[at] = 0;
	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + p[i]);
	p[at] = (uint8_t)(0 - sum);
}

static void make_header(uint8_t *p, const char *signature, uint32_t size)
{
	memcpy(p, signature, 4);
	put(p + 4, size, 4);
	fix_sum(p, size, 9);
}

static void make_rsdp(uint8_t revision, uint32_t rsdt, uint64_t xsdt)
{
	uint8_t *p = mem + RSDP_AT;

	memset(p, 0, 36);
	memcpy(p, "RSD PTR ", 8);
	p[15] = revision;
	put(p + 16, rsdt, 4);
	fix_sum(p, 20, 8);
	if (revision >= 2) {
		put(p + 20, 36, 4);
		put(p + 24, xsdt, 8);
		fix_sum(p, 36, 32);
	}
}

static size_t madt_size;

static void madt_begin(void)
{
	memset(mem + MADT_AT, 0, 44);
	put(mem + MADT_AT + 36, 0xfee00000, 4);
	put(mem + MADT_AT + 40, 1, 4);
	madt_size = 44;
}

static void madt_add(const uint8_t *entry, size_t size)
{
	memcpy(mem + MADT_AT + madt_size, entry, size);
	madt_size += size;
}

#define MADT_ADD(...) madt_add((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void madt_end(void)
{
	make_header(mem + MADT_AT, "APIC", (uint32_t)madt_size);
}

static void make_fadt(uint32_t size, uint32_t flags)
{
	uint8_t *p = mem + FADT_AT;

	memset(p, 0, 244);
	put(p + 76, 0x608, 4);
	p[91] = 4;
	put(p + 112, flags, 4);
	p[116] = 1; /* I/O space, 8 bits, port cf9h */
	p[117] = 8;
	put(p + 120, 0xcf9, 8);
	p[128] = 0x0f;
	make_header(p, "FACP", size);
}

/* A machine with an XSDT {hole, OTHR, FACP, APIC}, an RSDT {FACP, APIC} and 2 processors. */
static int setup(void **state)
{
	(void)state;
	memset(mem, 0, sizeof(mem));
	make_rsdp(2, MEM_BASE + RSDT_AT, MEM_BASE + XSDT_AT);
	put(mem + XSDT_AT + 36, 0, 8);
	put(mem + XSDT_AT + 44, MEM_BASE + OTHER_AT, 8);
	put(mem + XSDT_AT + 52, MEM_BASE + FADT_AT, 8);
	put(mem + XSDT_AT + 60, MEM_BASE + MADT_AT, 8);
	make_header(mem + XSDT_AT, "XSDT", 68);
	put(mem + RSDT_AT + 36, MEM_BASE + FADT_AT, 4);
	put(mem + RSDT_AT + 40, MEM_BASE + MADT_AT, 4);
	make_header(mem + RSDT_AT, "RSDT", 44);
	make_header(mem + OTHER_AT, "OTHR", 36);
	make_fadt(244, BIT(8) | BIT(10));
	madt_begin();
	MADT_ADD(0, 8, 7, 0, 1, 0, 0, 0);
	MADT_ADD(0, 8, 8, 1, 1, 0, 0, 0);
	madt_end();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(mapped);
	mapped = NULL;
	return 0;
}

static int find(const char *signature, struct acpi_table *table)
{
	memset(table, 0, sizeof(*table));
	return acpi_find_table(HPA(MEM_BASE + RSDP_AT), signature, table);
}

static void test_find_by_xsdt(void **state)
{
	struct acpi_table t;

	(void)state;
	put(mem + RSDT_AT, 0, 4); /* must not be looked at */
	assert_int_equal(find("APIC", &t), 0);
	assert_int_equal(t.hpa.v, MEM_BASE + MADT_AT);
	assert_int_equal(t.size, 60);
	assert_memory_equal(t.data, mem + MADT_AT, 60);
	assert_int_equal(find("FACP", &t), 0);
	assert_int_equal(t.hpa.v, MEM_BASE + FADT_AT);
	assert_int_equal(t.size, 244);
	assert_int_equal(find("NONE", &t), -ENOENT);
}

static void test_find_by_rsdt(void **state)
{
	struct acpi_table t;

	(void)state;
	put(mem + XSDT_AT, 0, 4);
	make_rsdp(0, MEM_BASE + RSDT_AT, 0);
	assert_int_equal(find("APIC", &t), 0);
	assert_int_equal(t.size, 60);
	make_rsdp(2, MEM_BASE + RSDT_AT, 0); /* v2 without an XSDT */
	assert_int_equal(find("FACP", &t), 0);
	assert_int_equal(find("OTHR", &t), -ENOENT); /* only in the XSDT */
}

static void test_bad_rsdp(void **state)
{
	struct acpi_table t;

	(void)state;
	assert_int_equal(acpi_find_table(HPA(0x10), "APIC", &t), -EFAULT);
	mem[RSDP_AT]++;
	assert_int_equal(find("APIC", &t), -EINVAL);
	make_rsdp(2, MEM_BASE + RSDT_AT, MEM_BASE + XSDT_AT);
	mem[RSDP_AT + 10]++; /* first checksum */
	assert_int_equal(find("APIC", &t), -EINVAL);
	make_rsdp(2, MEM_BASE + RSDT_AT, MEM_BASE + XSDT_AT);
	mem[RSDP_AT + 33]++; /* extended checksum only */
	assert_int_equal(find("APIC", &t), -EINVAL);
	make_rsdp(0, 0, 0);
	assert_int_equal(find("APIC", &t), -EINVAL);
	make_rsdp(2, 0, 0);
	assert_int_equal(find("APIC", &t), -EINVAL);
	make_rsdp(2, MEM_BASE + RSDT_AT, MEM_BASE + XSDT_AT);
	put(mem + RSDP_AT + 20, 35, 4);
	assert_int_equal(find("APIC", &t), -EINVAL);
	put(mem + RSDP_AT + 20, 0xffffffff, 4);
	assert_int_equal(find("APIC", &t), -EINVAL);
}

static void test_bad_root(void **state)
{
	struct acpi_table t;

	(void)state;
	make_rsdp(2, 0, 0x123456789abcull);
	assert_int_equal(find("APIC", &t), -EFAULT);
	make_rsdp(2, 0, MEM_BASE + RSDT_AT); /* an RSDT where an XSDT should be */
	assert_int_equal(find("APIC", &t), -EINVAL);
	make_rsdp(2, 0, MEM_BASE + XSDT_AT);
	mem[XSDT_AT + 60]++; /* sum */
	assert_int_equal(find("APIC", &t), -EINVAL);
	make_header(mem + XSDT_AT, "XSDT", 35);
	assert_int_equal(find("APIC", &t), -EINVAL);
	put(mem + XSDT_AT + 4, ACPI_TABLE_SIZE_MAX + 1, 4);
	assert_int_equal(find("APIC", &t), -EINVAL);
	put(mem + XSDT_AT + 4, MEM_SIZE, 4); /* reaches beyond memory */
	assert_int_equal(find("APIC", &t), -EFAULT);
	setup(NULL);
	make_header(mem + XSDT_AT, "XSDT", 67); /* the last entry is not whole: it does not count */
	assert_int_equal(find("APIC", &t), -ENOENT);
	assert_int_equal(find("FACP", &t), 0);
}

static void test_bad_table(void **state)
{
	struct acpi_table t;

	(void)state;
	mem[MADT_AT + 44]++;
	assert_int_equal(find("APIC", &t), -EINVAL);
	assert_int_equal(find("FACP", &t), 0);
	setup(NULL);
	put(mem + MADT_AT + 4, 35, 4);
	assert_int_equal(find("APIC", &t), -EINVAL);
	put(mem + MADT_AT + 4, 0xfffffff0u, 4);
	assert_int_equal(find("APIC", &t), -EINVAL);
	put(mem + MADT_AT + 4, MEM_SIZE, 4);
	assert_int_equal(find("APIC", &t), -EFAULT);
	/* An unreadable stranger does not hide the others, but is told when the table is not found. */
	setup(NULL);
	put(mem + XSDT_AT + 44, 0xffffffffffffff00ull, 8);
	make_header(mem + XSDT_AT, "XSDT", 68);
	assert_int_equal(find("APIC", &t), 0);
	assert_int_equal(find("NONE", &t), -EFAULT);
}

static struct acpi_processor cpus[8];
static struct acpi_ioapic ioapics[2];
static struct acpi_override overrides[2];
static struct acpi_madt madt;

static int parse_madt(void)
{
	uint8_t *copy = malloc(madt_size ? madt_size : 1);
	int ret;

	memcpy(copy, mem + MADT_AT, madt_size);
	madt = (struct acpi_madt){ .processors = cpus,
				   .processor_capacity = ARRAY_SIZE(cpus),
				   .ioapics = ioapics,
				   .ioapic_capacity = ARRAY_SIZE(ioapics),
				   .overrides = overrides,
				   .override_capacity = ARRAY_SIZE(overrides) };
	ret = acpi_parse_madt(copy, madt_size, &madt);
	free(copy);
	return ret;
}

static void assert_cpu(uint32_t i, uint32_t apic_id, uint32_t uid, uint32_t flags)
{
	assert_int_equal(cpus[i].apic_id, apic_id);
	assert_int_equal(cpus[i].uid, uid);
	assert_int_equal(cpus[i].flags, flags);
}

static void test_madt(void **state)
{
	(void)state;
	madt_begin();
	MADT_ADD(0, 8, 10, 0, 1, 0, 0, 0);	       /* enabled */
	MADT_ADD(0, 8, 11, 2, 0xfe, 0xff, 0xff, 0xff); /* online capable, reserved bits */
	MADT_ADD(0, 8, 12, 0xff, 0, 0, 0, 0);	       /* not a processor */
	MADT_ADD(9, 16, 0, 0, 0x45, 0x23, 1, 0, 1, 0, 0, 0, 0x99, 0, 0, 1);    /* x2APIC */
	MADT_ADD(9, 16, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0, 0, 0); /* not a processor */
	MADT_ADD(1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 24, 1, 0, 0);
	MADT_ADD(2, 10, 0, 9, 9, 1, 0, 0, 0x0d, 0);
	MADT_ADD(0x7f, 3, 0xaa);       /* unknown */
	MADT_ADD(4, 6, 0xff, 0, 0, 1); /* NMI: not used */
	MADT_ADD(5, 12, 0, 0, 0, 0, 0xe0, 0xfe, 0x34, 0x12, 0, 0);
	madt_end();
	assert_int_equal(parse_madt(), 0);
	assert_int_equal(madt.processor_count, 3);
	assert_cpu(0, 0, 10, ACPI_PROCESSOR_ENABLED);
	assert_cpu(1, 2, 11, ACPI_PROCESSOR_ONLINE_CAPABLE);
	assert_cpu(2, 0x12345, 0x01000099, ACPI_PROCESSOR_ENABLED);
	assert_int_equal(madt.ioapic_count, 1);
	assert_int_equal(ioapics[0].id, 3);
	assert_int_equal(ioapics[0].hpa, 0xfec00000);
	assert_int_equal(ioapics[0].gsi_base, 0x118);
	assert_int_equal(madt.override_count, 1);
	assert_int_equal(overrides[0].isa_irq, 9);
	assert_int_equal(overrides[0].gsi, 0x109);
	assert_int_equal(overrides[0].flags, 0x0d);
	assert_int_equal(madt.lapic_hpa, 0x1234fee00000ull);
	assert_true(madt.has_8259);
	put(mem + MADT_AT + 40, 0xfffffffe, 4);
	assert_int_equal(parse_madt(), 0);
	assert_false(madt.has_8259);
}

static void test_madt_duplicates(void **state)
{
	(void)state;
	madt_begin();
	MADT_ADD(0, 8, 1, 0, 0, 0, 0, 0); /* unused slot with id 0 ... */
	MADT_ADD(0, 8, 2, 0, 1, 0, 0, 0); /* ... and the real one */
	MADT_ADD(0, 8, 3, 1, 1, 0, 0, 0);
	MADT_ADD(9, 16, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0); /* id 1 again */
	MADT_ADD(0, 8, 5, 1, 0, 0, 0, 0);			   /* and unused */
	madt_end();
	assert_int_equal(parse_madt(), 0);
	assert_int_equal(madt.processor_count, 2);
	assert_cpu(0, 0, 2, 1);
	assert_cpu(1, 1, 3, 1);
}

static void test_madt_capacity(void **state)
{
	struct acpi_madt none = { 0 };

	(void)state;
	madt_begin();
	for (uint8_t i = 0; i < 9; i++)
		MADT_ADD(0, 8, i, i, 1, 0, 0, 0);
	for (uint8_t i = 0; i < 3; i++)
		MADT_ADD(1, 12, i, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0);
	for (uint8_t i = 0; i < 3; i++)
		MADT_ADD(2, 10, 0, i, 0, 0, 0, 0, 0, 0);
	madt_end();
	assert_int_equal(parse_madt(), -ENOSPC);
	assert_int_equal(madt.processor_count, 9);
	assert_int_equal(madt.ioapic_count, 3);
	assert_int_equal(madt.override_count, 3);
	assert_cpu(7, 7, 7, 1);
	assert_int_equal(acpi_parse_madt(mem + MADT_AT, madt_size, &none), 0);
	assert_int_equal(none.processor_count, 9);
}

static void test_madt_4096(void **state)
{
	static struct acpi_processor many[4096];
	struct acpi_madt m = { .processors = many, .processor_capacity = 4096 };

	(void)state;
	madt_begin();
	for (uint32_t i = 0; i < 4096; i++) {
		uint8_t e[16] = { 9, 16 };

		put(e + 4, i * 2, 4);
		put(e + 8, 1, 4);
		put(e + 12, i, 4);
		madt_add(e, sizeof(e));
	}
	madt_end();
	assert_int_equal(acpi_parse_madt(mem + MADT_AT, madt_size, &m), 0);
	assert_int_equal(m.processor_count, 4096);
	assert_int_equal(many[4095].apic_id, 8190);
	assert_int_equal(many[4095].uid, 4095);
}

static void test_madt_malformed(void **state)
{
	static const struct {
		uint8_t type, least;
	} types[] = { { 0, 8 }, { 1, 12 }, { 2, 10 }, { 5, 12 }, { 9, 16 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		for (uint8_t length = 0; length <= types[i].least; length++) {
			const uint8_t e[16] = { types[i].type, length };

			madt_begin();
			madt_add(e, length < 2 ? 2 : length);
			madt_end();
			assert_int_equal(parse_madt(), length < types[i].least ? -EINVAL : 0);
		}
	}
	madt_begin();
	MADT_ADD(0, 8, 1, 1, 1, 0, 0, 0);
	for (size_t cut = 1; cut < 8; cut++) { /* the last entry reaches out of the table */
		madt_size = 52 - cut;
		assert_int_equal(parse_madt(), -EINVAL);
	}
	for (madt_size = 0; madt_size < 44; madt_size++)
		assert_int_equal(parse_madt(), -EINVAL);
	madt_size = 44;
	make_header(mem + MADT_AT, "APIC", 44);
	assert_int_equal(parse_madt(), 0);
	mem[MADT_AT] = 'B';
	assert_int_equal(parse_madt(), -EINVAL);
}

static int parse_fadt(uint32_t size, struct acpi_fadt *fadt)
{
	uint8_t *copy = malloc(size ? size : 1);
	int ret;

	memcpy(copy, mem + FADT_AT, size);
	ret = acpi_parse_fadt(copy, size, fadt);
	free(copy);
	return ret;
}

static void test_fadt_sleep_registers(void **state)
{
	struct acpi_fadt f;

	(void)state;
	put(mem + FADT_AT + 64, 0x604, 4);
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm1a_control.address, 0x604);
	assert_int_equal(f.pm1a_control.space, ACPI_SPACE_IO);
	assert_int_equal(f.pm1b_control.address, 0);
	assert_int_equal(f.sleep_control.address, 0);
	put(mem + FADT_AT + 68, 0x704, 4);
	put(mem + FADT_AT + 172, 0x1001, 4); /* extended: I/O, 16 bits */
	put(mem + FADT_AT + 176, 0x1804, 8);
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm1a_control.address, 0x1804);
	assert_int_equal(f.pm1b_control.address, 0x704);
	assert_int_equal(parse_fadt(183, &f), 0); /* the table ends within it */
	assert_int_equal(f.pm1a_control.address, 0x604);
	assert_int_equal(parse_fadt(116, &f), 0);
	assert_int_equal(f.pm1a_control.address, 0x604);
	put(mem + FADT_AT + 176, 0x11804, 8); /* no such port */
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm1a_control.address, 0);
	mem[FADT_AT + 172] = ACPI_SPACE_MEMORY;
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm1a_control.address, 0x11804);

	/* Hardware-reduced: another register, and none of these. */
	put(mem + FADT_AT + 112, BIT(20), 4);
	put(mem + FADT_AT + 244, 0x0801, 4);
	put(mem + FADT_AT + 248, 0x3000, 8);
	assert_int_equal(parse_fadt(256, &f), 0);
	assert_int_equal(f.pm1a_control.address, 0);
	assert_int_equal(f.pm1b_control.address, 0);
	assert_int_equal(f.sleep_control.address, 0x3000);
	assert_int_equal(parse_fadt(255, &f), 0);
	assert_int_equal(f.sleep_control.address, 0);
}

static void test_fadt(void **state)
{
	struct acpi_fadt f;

	(void)state;
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm_timer_port, 0x608);
	assert_true(f.pm_timer_32bit);
	assert_int_equal(f.reset.space, ACPI_SPACE_IO);
	assert_int_equal(f.reset.bit_width, 8);
	assert_int_equal(f.reset.address, 0xcf9);
	assert_int_equal(f.reset_value, 0x0f);

	put(mem + FADT_AT + 208, 0x2001, 4); /* the extended block wins: I/O, 32 bits */
	put(mem + FADT_AT + 212, 0x1808, 8);
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm_timer_port, 0x1808);
	mem[FADT_AT + 208] = ACPI_SPACE_MEMORY; /* not reachable by I/O: the old one stays */
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm_timer_port, 0x608);
	mem[FADT_AT + 208] = ACPI_SPACE_IO;
	put(mem + FADT_AT + 212, 0x11808, 8);
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm_timer_port, 0);

	assert_int_equal(parse_fadt(116, &f), 0); /* ACPI 1.0 */
	assert_int_equal(f.pm_timer_port, 0x608);
	assert_int_equal(f.reset.address, 0);
	assert_int_equal(parse_fadt(129, &f), 0);
	assert_int_equal(f.reset.address, 0xcf9);
	assert_int_equal(parse_fadt(128, &f), 0);
	assert_int_equal(f.reset.address, 0);

	make_fadt(244, 0);
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_false(f.pm_timer_32bit);
	assert_int_equal(f.reset.address, 0);
	assert_int_equal(f.reset_value, 0);
	mem[FADT_AT + 91] = 0; /* no PM timer */
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm_timer_port, 0);
	mem[FADT_AT + 91] = 4;
	put(mem + FADT_AT + 76, 0x10608, 4);
	assert_int_equal(parse_fadt(244, &f), 0);
	assert_int_equal(f.pm_timer_port, 0);

	for (uint32_t size = 0; size < 116; size++)
		assert_int_equal(parse_fadt(size, &f), -EINVAL);
	mem[FADT_AT + 3] = 'Q';
	assert_int_equal(parse_fadt(244, &f), -EINVAL);
}

/* Random bytes changed, checksums put right half of the time: no outcome is wanted but that ASan stays quiet. */
static void test_random_damage(void **state)
{
	const char *env = getenv("SEED");
	unsigned int seed = env ? (unsigned int)strtoul(env, NULL, 0) : 20261u;
	uint32_t found = 0;

	(void)state;
	print_message("SEED=%u\n", seed);
	srand(seed);
	for (uint32_t round = 0; round < 20000; round++) {
		struct acpi_table t;
		struct acpi_fadt f;

		setup(NULL);
		for (int n = rand() % 4; n >= 0; n--) {
			static const uint32_t at[] = { RSDP_AT, RSDT_AT, XSDT_AT, MADT_AT, FADT_AT };
			static const uint8_t nasty[] = { 0, 1, 0x7f, 0x80, 0xff };

			mem[at[rand() % 5] + (uint32_t)rand() % 70] =
				rand() % 2 ? nasty[rand() % 5] : (uint8_t)rand();
		}
		if (rand() % 2) {
			fix_sum(mem + RSDP_AT, 20, 8);
			fix_sum(mem + RSDP_AT, 36, 32);
			fix_sum(mem + XSDT_AT, 68, 9);
			fix_sum(mem + MADT_AT, 60, 9);
		}
		map_calls = 0;
		if (!find("APIC", &t)) {
			madt = (struct acpi_madt){ .processors = cpus,
						   .processor_capacity = ARRAY_SIZE(cpus) };
			found += acpi_parse_madt(t.data, t.size, &madt) == 0;
		}
		if (!find("FACP", &t))
			(void)acpi_parse_fadt(t.data, t.size, &f);
		assert_in_range(map_calls, 1, 2 * MEM_SIZE); /* bounded by what a root table can list */
	}
	assert_in_range(found, 2000, 19000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_find_by_xsdt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_find_by_rsdt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_rsdp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_madt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_madt_duplicates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_madt_capacity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_madt_4096, setup, teardown),
		cmocka_unit_test_setup_teardown(test_madt_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fadt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fadt_sleep_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_damage, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
