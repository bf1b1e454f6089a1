/* unit: tests/vmm/machine.c tests/vmm/devices.c tests/vmm/firmware.c tests/vmm/move.c tests/vmm/pe.c */
/* SPDX-License-Identifier: MIT */
/*
 * The machine of tests/vmm without a hypervisor: the driver is faked here, registers are an array, and the messages that a VP gives are
 * a list. What tests/guests/lib does with the firmware's tables is done here too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/vmm/machine.h"

#define RAM (4u << 20)
#define IMAGE 0x200000u
#define ENTRY 0x1010u

/* ---- The driver ---- */

static struct hv_register_assoc registers[64];
static unsigned int register_count;
static struct hv_vp_register_page page;
static bool with_page;
static const struct hv_message *script;
static unsigned int script_length, script_at;
static uint64_t features;

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	_exit(ENDED_MONITOR);
}

static union hv_register_value *value_of(uint32_t name)
{
	for (unsigned int i = 0; i < register_count; i++)
		if (registers[i].name == name)
			return &registers[i].value;
	assert_true(register_count < ARRAY_LEN(registers));
	registers[register_count] = (struct hv_register_assoc){ .name = name };
	return &registers[register_count++].value;
}

struct answer set_registers(int fd, uint32_t vp, const struct hv_register_assoc *list, unsigned int count)
{
	(void)fd;
	(void)vp;
	for (unsigned int i = 0; i < count; i++)
		*value_of(list[i].name) = list[i].value;
	return (struct answer){ .reps = (uint16_t)count };
}

struct answer get_registers(int fd, uint32_t vp, const uint32_t *names, union hv_register_value *values,
			    unsigned int count)
{
	(void)fd;
	(void)vp;
	for (unsigned int i = 0; i < count; i++)
		values[i] = *value_of(names[i]);
	return (struct answer){ .reps = (uint16_t)count };
}

uint64_t get_register(int fd, uint32_t vp, uint32_t name)
{
	(void)fd;
	(void)vp;
	return value_of(name)->reg64;
}

void set_register(int fd, uint32_t vp, uint32_t name, uint64_t value)
{
	(void)fd;
	(void)vp;
	value_of(name)->reg64 = value;
}

bool translate(int fd, uint32_t vp, uint64_t gva, bool write, uint64_t *gpa)
{
	(void)fd;
	(void)vp;
	(void)write;
	*gpa = gva;
	return true;
}

struct answer get_property(int fd, uint32_t code, uint64_t *value)
{
	(void)fd;
	*value = code == HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY ? 2100000999 : 0;
	return (struct answer){ 0 };
}

struct answer set_property(int fd, uint32_t code, uint64_t value)
{
	(void)fd;
	if (code == HV_PROPERTY_SYNTHETIC_PROC_FEATURES)
		features = value;
	return (struct answer){ 0 };
}

int create_partition(int dev, uint64_t flags)
{
	(void)dev;
	(void)flags;
	return 1;
}

void initialize_partition(int partition)
{
	(void)partition;
}

void *allocate_memory(size_t bytes)
{
	return calloc(1, bytes);
}

void map_memory(int partition, uint64_t gpa, void *memory, size_t bytes, uint8_t flags)
{
	(void)partition;
	(void)flags;
	(void)memory;
	assert_true(gpa + bytes <= RAM);
}

int create_vp(int partition, uint32_t index)
{
	(void)partition;
	return (int)index + 10;
}

void *map_state_page(int vp, unsigned int which)
{
	(void)vp;
	(void)which;
	return with_page ? &page : NULL;
}

int run_vp(int vp, struct hv_message *message)
{
	(void)vp;
	if (script_at == script_length)
		_exit(99);
	*message = script[script_at++];
	return 0;
}

const char *message_name(uint32_t type)
{
	(void)type;
	return "a message";
}

/* ---- The image: one section with nothing in it ---- */

static void make_image(const char *path)
{
	static uint8_t file[0x600];
	FILE *out = fopen(path, "wb");
	const struct {
		unsigned int at;
		uint64_t value;
		unsigned int bytes;
	} fields[] = {
		{ 0, 0x5a4d, 2 },	   { 0x3c, 0x40, 4 },	    { 0x40, 0x4550, 4 },
		{ 0x44, 0x8664, 2 },	   { 0x46, 1, 2 },	    { 0x54, 240, 2 },
		{ 0x58, 0x20b, 2 },	   { 0x58 + 16, ENTRY, 4 }, { 0x58 + 56, 0x3000, 4 },
		{ 0x58 + 60, 0x200, 4 },   { 0x58 + 108, 16, 4 },   { 0x148 + 8, 0x1000, 4 },
		{ 0x148 + 12, 0x1000, 4 },
	};

	assert_non_null(out);
	for (unsigned int i = 0; i < ARRAY_LEN(fields); i++)
		memcpy(file + fields[i].at, &fields[i].value, fields[i].bytes);
	assert_int_equal(fwrite(file, 1, sizeof(file), out), sizeof(file));
	fclose(out);
}

static struct machine machine;
static bool plain;

static void make(unsigned int vps)
{
	char path[] = "/tmp/vmm-image-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	make_image(path);
	register_count = 0;
	memset(&page, 0, sizeof(page));
	page.is_valid = with_page;
	machine = (struct machine){ .bytes = RAM,
				    .vp_count = vps,
				    .load_options = "child more",
				    .plain = plain,
				    .serial = tmpfile() };
	machine_make(&machine, 3, path);
	unlink(path);
}

static int teardown(void **state)
{
	(void)state;
	fclose(machine.serial);
	free(machine.memory);
	with_page = false;
	return 0;
}

/* ---- What the guest sees ---- */

static uint64_t get(uint64_t gpa, unsigned int bytes)
{
	uint64_t v = 0;

	assert_non_null(ram_at(&machine, gpa, bytes));
	memcpy(&v, machine.memory + gpa, bytes);
	return v;
}

static struct hv_message port_message(uint16_t port, unsigned int bytes, bool write, uint64_t rax)
{
	struct hv_message message = { .type = HV_MESSAGE_X64_IO_PORT_INTERCEPT };
	struct hv_x64_io_port_intercept io = {
		.header = { .length_and_cr8 = 2,
			    .access_type = write ? HV_INTERCEPT_ACCESS_WRITE : HV_INTERCEPT_ACCESS_READ,
			    .execution_state = HV_EXECUTION_STATE_EFER_LMA,
			    .cs.attributes = 0xa09b,
			    .rip = 0x5000 },
		.port = port,
		.access_info = (uint8_t)bytes,
		.rax = rax,
	};

	memcpy(message.payload.bytes, &io, sizeof(io));
	return message;
}

/* Calls the function in `slot` of the boot services as a program would: to its stub's OUT. */
static uint64_t call(unsigned int slot, const uint64_t arguments[5])
{
	static const uint32_t names[] = { HV_REGISTER_X64_RCX, HV_REGISTER_X64_RDX, HV_REGISTER_X64_R8,
					  HV_REGISTER_X64_R9 };
	uint64_t services = get(value_of(HV_REGISTER_X64_RDX)->reg64 + 96, 8), stub, stack = 0xd8000, rdx;
	struct hv_message message;

	rdx = value_of(HV_REGISTER_X64_RDX)->reg64;
	stub = get(services + slot * 8, 8);
	assert_int_equal(get(stub, 1), 0xb8);
	assert_int_equal(get(stub + 5, 1), 0xe7);
	assert_int_equal(get(stub + 7, 1), 0xc3);
	for (unsigned int i = 0; i < 4; i++)
		value_of(names[i])->reg64 = arguments[i];
	memcpy(machine.memory + stack + 0x28, &arguments[4], 8);
	value_of(HV_REGISTER_X64_RSP)->reg64 = stack;
	message = port_message((uint16_t)get(stub + 6, 1), 4, true, get(stub + 1, 4));
	handle_port(&machine.vp[0], &message);
	assert_int_equal(value_of(HV_REGISTER_X64_RIP)->reg64, 0x5002);
	value_of(HV_REGISTER_X64_RDX)->reg64 = rdx;
	return value_of(HV_REGISTER_X64_RAX)->reg64;
}

static bool sums_to_zero(uint64_t gpa, uint64_t bytes)
{
	uint8_t sum = 0;

	for (uint64_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + get(gpa + i, 1));
	return !sum;
}

static void starts_as_uefi_does(void **state)
{
	uint64_t pml4, pdpt;

	(void)state;
	make(1);
	assert_int_equal(features, PARTITION_FEATURES);
	assert_int_equal(value_of(HV_REGISTER_X64_RIP)->reg64, IMAGE + ENTRY);
	assert_int_equal(value_of(HV_REGISTER_X64_RCX)->reg64, IMAGE);
	assert_int_equal(value_of(HV_REGISTER_X64_RSP)->reg64 % 16, 8);
	assert_int_equal(value_of(HV_REGISTER_X64_CS)->segment.attributes & 0x2000, 0x2000);
	pml4 = value_of(HV_REGISTER_X64_CR3)->reg64;
	pdpt = get(pml4, 8) & ~0xfffull;
	for (uint64_t gib = 0; gib < 4; gib++)
		for (uint64_t i = 0; i < 512; i++)
			assert_int_equal(get((get(pdpt + gib * 8, 8) & ~0xfffull) + i * 8, 8),
					 (gib << 30 | i << 21) + 0x83);
}

static void may_have_no_interface(void **state)
{
	(void)state;
	plain = true;
	make(1);
	plain = false;
	assert_int_equal(features, 0);
}

/* As find_processors() and read_madt() in tests/guests/lib/start.c. */
static void has_its_processors_in_acpi(void **state)
{
	static const uint8_t acpi20[16] = { 0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
					    0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81 };
	uint64_t system, configuration, rsdp, xsdt, madt, bytes;
	unsigned int processors = 0;

	(void)state;
	make(3);
	system = value_of(HV_REGISTER_X64_RDX)->reg64;
	assert_int_equal(get(system + 104, 8), 1);
	configuration = get(system + 112, 8);
	assert_memory_equal(machine.memory + configuration, acpi20, 16);
	rsdp = get(configuration + 16, 8);
	assert_true(sums_to_zero(rsdp, 20) && sums_to_zero(rsdp, 36));
	xsdt = get(rsdp + 24, 8);
	assert_int_equal(get(xsdt + 4, 4), 44);
	assert_true(sums_to_zero(xsdt, 44));
	madt = get(xsdt + 36, 8);
	bytes = get(madt + 4, 4);
	assert_memory_equal(machine.memory + madt, "APIC", 4);
	assert_true(sums_to_zero(madt, bytes));
	for (uint64_t at = madt + 44; at < madt + bytes; at += get(at + 1, 1)) {
		assert_int_equal(get(at, 1), 0);
		assert_int_equal(get(at + 3, 1), processors);
		assert_int_equal(get(at + 4, 4) & 1, 1);
		processors++;
	}
	assert_int_equal(processors, 3);
}

#define OUT 0x100000u /* where the program has its variables */
#define GET_MEMORY_MAP 7
#define ALLOCATE_PAGES 5
#define HANDLE_PROTOCOL 19
#define EXIT_BOOT_SERVICES 29

static void check_map(uint64_t low_end)
{
	const uint64_t arguments[5] = { OUT, OUT + 0x100, OUT + 8, OUT + 16, OUT + 24 };
	uint64_t end = 0, conventional = 0, size = 0x1000, bytes;

	memcpy(machine.memory + OUT, &size, 8);
	assert_int_equal(call(GET_MEMORY_MAP, arguments), 0);
	bytes = get(OUT + 16, 8);
	for (uint64_t at = OUT + 0x100; at < OUT + 0x100 + get(OUT, 8); at += bytes) {
		uint64_t base = get(at + 8, 8), pages = get(at + 24, 8);

		assert_true(base >= end && pages);
		end = base + pages * PAGE;
		if (get(at, 4) != 7)
			continue;
		conventional += pages;
		assert_true(end <= low_end || base >= 0x100000);
		assert_true(end <= IMAGE || base >= IMAGE + 0x3000);
	}
	assert_int_equal(end, RAM);
	assert_int_equal(conventional, (low_end - PAGE) / PAGE + (RAM - 0x100000 - 0x3000) / PAGE);
}

static void answers_as_firmware(void **state)
{
	static const uint8_t loaded_image[16] = { 0xa1, 0x31, 0x1b, 0x5b, 0x62, 0x95, 0xd2, 0x11,
						  0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b };
	const uint64_t protocol[5] = { IMAGE, OUT + 0x40, OUT }, pages[5] = { 1, 2, 16, OUT };
	uint64_t limit = 0x9ffff, loaded, options;

	(void)state;
	make(1);
	memcpy(machine.memory + OUT + 0x40, loaded_image, 16);
	assert_int_equal(call(HANDLE_PROTOCOL, protocol), 0);
	loaded = get(OUT, 8);
	options = get(loaded + 56, 8);
	assert_int_equal(get(loaded + 48, 4), 2 * sizeof("child more"));
	for (unsigned int i = 0; i < sizeof("child more"); i++)
		assert_int_equal(get(options + 2 * i, 2), "child more"[i]);
	check_map(0xa0000);
	memcpy(machine.memory + OUT, &limit, 8);
	assert_int_equal(call(ALLOCATE_PAGES, pages), 0);
	assert_int_equal(get(OUT, 8), 0x90000);
	check_map(0x90000);
	assert_int_not_equal(call(EXIT_BOOT_SERVICES, (uint64_t[5]){ IMAGE, 1 }), 0);
	assert_int_equal(call(EXIT_BOOT_SERVICES, (uint64_t[5]){ IMAGE, get(OUT + 8, 8) }), 0);
}

static void refuses_bad_pointers(void **state)
{
	static const uint64_t bad[] = { HOLE, HOLE - 4, RAM, RAM - 4, ~0ull, ~0ull - 3, 1ull << 40 };

	(void)state;
	make(1);
	for (unsigned int i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_not_equal(call(GET_MEMORY_MAP, (uint64_t[5]){ bad[i], OUT, OUT, OUT, OUT }), 0);
		assert_int_not_equal(call(HANDLE_PROTOCOL, (uint64_t[5]){ IMAGE, bad[i], OUT }), 0);
		assert_int_not_equal(call(ALLOCATE_PAGES, (uint64_t[5]){ 1, 2, 16, bad[i] }), 0);
		assert_null(ram_at(&machine, bad[i], 8));
	}
	for (unsigned int slot = 3; slot < 40; slot++)
		if (slot != EXIT_BOOT_SERVICES)
			assert_int_not_equal(call(slot, (uint64_t[5]){ ~0ull, ~0ull, ~0ull, ~0ull, ~0ull }),
					     0);
}

/* ---- Ports ---- */

static const char *printed(void)
{
	static char text[256];
	size_t n;

	fflush(machine.serial);
	rewind(machine.serial);
	n = fread(text, 1, sizeof(text) - 1, machine.serial);
	text[n] = 0;
	return text;
}

static void prints(void **state)
{
	static const struct {
		uint16_t port;
		uint8_t value;
	} init[] = { { 0x3f9, 0 }, { 0x3fb, 0x80 }, { 0x3f8, 1 },  { 0x3f9, 0 },
		     { 0x3fb, 3 }, { 0x3f8, 'o' },  { 0x3f8, 'k' } };
	struct hv_message message = port_message(0x3fd, 1, false, 0x1122334455667788);

	(void)state;
	make(1);
	for (unsigned int i = 0; i < ARRAY_LEN(init); i++) {
		struct hv_message out = port_message(init[i].port, 1, true, init[i].value | 0xff00);

		handle_port(&machine.vp[0], &out);
	}
	handle_port(&machine.vp[0], &message);
	assert_int_equal(value_of(HV_REGISTER_X64_RAX)->reg64, 0x1122334455667760);
	message = port_message(0xcfc, 4, false, 0x1122334455667788);
	handle_port(&machine.vp[0], &message);
	assert_int_equal(value_of(HV_REGISTER_X64_RAX)->reg64, 0xffffffff);
	message = port_message(0xb4, 4, false, 0);
	handle_port(&machine.vp[0], &message);
	assert_int_equal(value_of(HV_REGISTER_X64_RAX)->reg64, 2100000);
	assert_string_equal(printed(), "ok");
}

static void prints_strings(void **state)
{
	struct hv_message message = port_message(0x3f8, 1, true, 0);
	struct hv_x64_io_port_intercept *io = (void *)message.payload.bytes;

	(void)state;
	with_page = true;
	make(1);
	io->access_info |= HV_IO_ACCESS_STRING | HV_IO_ACCESS_REP;
	io->rcx = 6;
	io->rsi = OUT;
	io->ds.base = 0x77000; /* 64-bit mode: none */
	memcpy(machine.memory + OUT, "hello\n", 6);
	handle_port(&machine.vp[0], &message);
	assert_string_equal(printed(), "hello\n");
	assert_int_equal(page.gp[6], OUT + 6);
	assert_int_equal(page.gp[1], 0);
	assert_int_equal(page.rip, 0x5002);
	assert_int_equal(page.dirty, HV_REGISTER_PAGE_DIRTY_GENERAL | HV_REGISTER_PAGE_DIRTY_IP);
	/* 16 bits: a segment, and registers whose upper halves stay. */
	io->header.execution_state = 0;
	io->header.cs.attributes = 0x9b;
	io->ds.base = OUT;
	io->rsi = 0xabcd0002;
	io->rcx = 0x10003;
	handle_port(&machine.vp[0], &message);
	assert_string_equal(printed(), "hello\nllo");
	assert_int_equal(page.gp[6], 0xabcd0005);
	assert_int_equal(page.gp[1], 0x10000);
}

static void reads_strings(void **state)
{
	struct hv_message message = port_message(0xb8, 4, true, 0x1fe);
	struct hv_x64_io_port_intercept *io = (void *)message.payload.bytes;

	(void)state;
	with_page = true;
	make(1);
	handle_port(&machine.vp[0], &message);
	message = port_message(0xb8, 2, false, 0);
	io->access_info |= HV_IO_ACCESS_STRING | HV_IO_ACCESS_REP;
	io->header.rflags = 0x400;
	io->rcx = 3;
	io->rdi = OUT + 4;
	handle_port(&machine.vp[0], &message);
	assert_int_equal(get(OUT, 8), 0x01fe01ff0200);
	assert_int_equal(page.gp[7], OUT - 2);
	assert_int_equal(page.gp[1], 0);
}

/* ---- A run, in a process of its own because it ends with it ---- */

static int run(const struct hv_message *messages, unsigned int count)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		script = messages;
		script_length = count;
		script_at = 0;
		machine.serial = stdout;
		if (!freopen("/dev/null", "w", stderr))
			_exit(98);
		machine_run(&machine);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static struct hv_message unmapped(uint8_t access, const char *code, unsigned int bytes)
{
	struct hv_message message = { .type = HV_MESSAGE_UNMAPPED_GPA };
	struct hv_x64_memory_intercept m = {
		.header = { .access_type = access,
			    .execution_state = HV_EXECUTION_STATE_EFER_LMA,
			    .cs.attributes = 0xa09b,
			    .rip = 0x6000 },
		.instruction_byte_count = (uint8_t)bytes,
		.gpa = 0xd0000000,
	};

	memcpy(m.instruction_bytes, code, bytes);
	memcpy(message.payload.bytes, &m, sizeof(m));
	return message;
}

static void ends_with_the_guests_code(void **state)
{
	struct hv_message messages[4];

	(void)state;
	make(1);
	messages[0] = port_message(0xf4, 4, true, 1);
	assert_int_equal(run(messages, 1), 1);
	messages[0] = unmapped(HV_INTERCEPT_ACCESS_WRITE, "\x88\x03", 2);
	messages[1] = unmapped(HV_INTERCEPT_ACCESS_READ, "\x8b\x03", 2);
	messages[2] = unmapped(HV_INTERCEPT_ACCESS_READ, "\x0f\x01\xd9", 3);
	messages[3] = port_message(0xf4, 4, true, 0);
	assert_int_equal(run(messages, 4), 0);
}

static void stops_where_it_must(void **state)
{
	struct hv_message message = { .type = HV_MESSAGE_UNRECOVERABLE_EXCEPTION };

	(void)state;
	make(1);
	assert_int_equal(run(&message, 1), ENDED_TRIPLE_FAULT);
	message = unmapped(HV_INTERCEPT_ACCESS_READ, "\x01\x03", 2);
	assert_int_equal(run(&message, 1), ENDED_UNMAPPED);
	message = unmapped(HV_INTERCEPT_ACCESS_EXECUTE, "\x8b\x03", 2);
	assert_int_equal(run(&message, 1), ENDED_UNMAPPED);
	message = unmapped(HV_INTERCEPT_ACCESS_WRITE, "\x8b\x03",
			   2); /* a load that writes: its bytes are stale */
	assert_int_equal(run(&message, 1), ENDED_UNMAPPED);
	message = port_message(0xcf9, 1, true, 6);
	assert_int_equal(run(&message, 1), ENDED_RESET);
	message.type = HV_MESSAGE_X64_CPUID_INTERCEPT;
	assert_int_equal(run(&message, 1), ENDED_MONITOR);
	message.type = HV_MESSAGE_X64_APIC_EOI;
	assert_int_equal(run(&message, 1), 99); /* went on */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(starts_as_uefi_does, teardown),
		cmocka_unit_test_teardown(may_have_no_interface, teardown),
		cmocka_unit_test_teardown(has_its_processors_in_acpi, teardown),
		cmocka_unit_test_teardown(answers_as_firmware, teardown),
		cmocka_unit_test_teardown(refuses_bad_pointers, teardown),
		cmocka_unit_test_teardown(prints, teardown),
		cmocka_unit_test_teardown(prints_strings, teardown),
		cmocka_unit_test_teardown(reads_strings, teardown),
		cmocka_unit_test_teardown(ends_with_the_guests_code, teardown),
		cmocka_unit_test_teardown(stops_where_it_must, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
