/* SPDX-License-Identifier: MIT */
/*
 * As much of UEFI as tests/guests/lib calls before it leaves boot services: tables in the guest's memory whose functions are stubs
 * of two instructions, an OUT with the function's number and a return. The work is done here.
 */
#include <stdlib.h>
#include <string.h>

#include <efi.h>

#include "machine.h"

/* The firmware's 256 KiB. */
#define PAGE_TABLES FIRMWARE /* PML4, PDPT, four page directories */
#define GDT_PAGE (FIRMWARE + 0x6000)
#define STUBS (FIRMWARE + 0x7000)
#define TABLES (FIRMWARE + 0x8000)
#define OPTIONS (FIRMWARE + 0x9000)
#define ACPI (FIRMWARE + 0xa000)
#define STACK_TOP (FIRMWARE + 0x30000)

#define STUB_BYTES 8u
#define STUB_EXIT 0u	    /* the application returned */
#define STUB_PROTOCOLS 200u /* functions that are not of the boot services' table */
#define OPTIONS_MAX 512u
#define DESCRIPTOR_BYTES 48u /* more than the structure has, as firmware does it */
#define MAP_KEY 0x5eedu

#define CODE64 0x38u
#define DATA64 0x30u

/* The tables themselves, as the guest sees them from TABLES on. Pointers in them are guest addresses. */
struct tables {
	EFI_SYSTEM_TABLE system;
	EFI_BOOT_SERVICES boot;
	EFI_RUNTIME_SERVICES runtime;
	EFI_CONFIGURATION_TABLE configuration[1];
	EFI_LOADED_IMAGE loaded;
	uint16_t vendor[8];
};

#define IN_TABLES(field) (TABLES + offsetof(struct tables, field))
#define GUEST_POINTER(gpa) ((void *)(uintptr_t)(gpa))

static const EFI_GUID loaded_image = LOADED_IMAGE_PROTOCOL;
static const EFI_GUID acpi20 = ACPI_20_TABLE_GUID;

static void put(struct machine *m, uint64_t gpa, uint64_t value, unsigned int bytes)
{
	memcpy(m->memory + gpa, &value, bytes);
}

/* ---- What the application finds ---- */

/* 4 GiB mapped one to one in 2 MiB pages (UEFI 2.10 2.3.4). */
static void make_page_tables(struct machine *m)
{
	put(m, PAGE_TABLES, PAGE_TABLES + PAGE + 3, 8);
	for (uint64_t i = 0; i < 4; i++) {
		uint64_t directory = PAGE_TABLES + (2 + i) * PAGE;

		put(m, PAGE_TABLES + PAGE + i * 8, directory + 3, 8);
		for (uint64_t k = 0; k < 512; k++)
			put(m, directory + k * 8, i << 30 | k << 21 | 0x83, 8);
	}
}

/* mov $number, %eax; out %eax, $FIRMWARE_PORT; ret */
static void make_stub(struct machine *m, uint32_t number)
{
	uint64_t at = STUBS + number * STUB_BYTES;

	put(m, at, 0xb8, 1);
	put(m, at + 1, number, 4);
	put(m, at + 5, 0xe7 | FIRMWARE_PORT << 8, 2);
	put(m, at + 7, 0xc3, 1);
}

static void make_services(struct machine *m, uint64_t table, size_t bytes, uint32_t first)
{
	for (size_t at = sizeof(EFI_TABLE_HEADER); at < bytes; at += 8) {
		uint32_t number = first + (uint32_t)(at / 8);

		make_stub(m, number);
		put(m, table + at, STUBS + number * STUB_BYTES, 8);
	}
	put(m, table + offsetof(EFI_TABLE_HEADER, HeaderSize), bytes, 4);
}

static void make_tables(struct machine *m)
{
	struct tables *t = (struct tables *)(void *)(m->memory + TABLES);
	size_t options = strlen(m->load_options);

	_Static_assert(sizeof(struct tables) <= OPTIONS - TABLES, "the tables fill a page");
	_Static_assert(sizeof(EFI_BOOT_SERVICES) / 8 < STUB_PROTOCOLS, "numbers of stubs");
	if (options >= OPTIONS_MAX)
		die("load options longer than %u characters", OPTIONS_MAX);
	make_stub(m, STUB_EXIT);
	make_services(m, IN_TABLES(boot), sizeof(t->boot), 0);
	make_services(m, IN_TABLES(runtime), sizeof(t->runtime), STUB_PROTOCOLS);
	for (size_t i = 0; i <= options; i++)
		put(m, OPTIONS + 2 * i, (uint8_t)m->load_options[i], 2);
	for (unsigned int i = 0; i < 6; i++)
		t->vendor[i] = (uint8_t) "Trivet"[i];
	t->system.Hdr.Signature = EFI_SYSTEM_TABLE_SIGNATURE;
	t->system.Hdr.Revision = 2 << 16 | 100;
	t->system.Hdr.HeaderSize = sizeof(t->system);
	t->boot.Hdr.Signature = EFI_BOOT_SERVICES_SIGNATURE;
	t->runtime.Hdr.Signature = EFI_RUNTIME_SERVICES_SIGNATURE;
	t->system.FirmwareVendor = GUEST_POINTER(IN_TABLES(vendor));
	t->system.BootServices = GUEST_POINTER(IN_TABLES(boot));
	t->system.RuntimeServices = GUEST_POINTER(IN_TABLES(runtime));
	t->system.NumberOfTableEntries = 1;
	t->system.ConfigurationTable = GUEST_POINTER(IN_TABLES(configuration));
	t->configuration[0].VendorGuid = acpi20;
	t->configuration[0].VendorTable = GUEST_POINTER(ACPI);
	t->loaded.Revision = EFI_IMAGE_INFORMATION_REVISION;
	t->loaded.SystemTable = GUEST_POINTER(IN_TABLES(system));
	t->loaded.LoadOptions = GUEST_POINTER(OPTIONS);
	t->loaded.LoadOptionsSize = (UINT32)(2 * (options + 1));
	t->loaded.ImageBase = GUEST_POINTER(m->image_base);
	t->loaded.ImageSize = m->image_bytes;
	t->loaded.ImageCodeType = EfiLoaderCode;
	t->loaded.ImageDataType = EfiLoaderData;
}

/* ---- ACPI 6.5 5.2: RSDP, XSDT and MADT, which has the processors ---- */

#define XSDT (ACPI + 0x40)
#define MADT (ACPI + 0x80)
#define MADT_HEAD 44u
#define LOCAL_APIC_BYTES 8u

static void checksum(struct machine *m, uint64_t table, uint64_t bytes, uint64_t at)
{
	uint8_t sum = 0;

	put(m, table + at, 0, 1);
	for (uint64_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + m->memory[table + i]);
	put(m, table + at, (uint8_t)-sum, 1);
}

static void table_head(struct machine *m, uint64_t table, const char *signature, uint32_t bytes)
{
	memcpy(m->memory + table, signature, 4);
	put(m, table + 4, bytes, 4);
	put(m, table + 8, 1, 1);
	memcpy(m->memory + table + 10, "TRIVETTESTVMM ", 14);
}

static void make_acpi(struct machine *m)
{
	uint32_t madt_bytes = MADT_HEAD + LOCAL_APIC_BYTES * m->vp_count;

	memcpy(m->memory + ACPI, "RSD PTR ", 8);
	memcpy(m->memory + ACPI + 9, "TRIVET", 6);
	put(m, ACPI + 15, 2, 1);
	put(m, ACPI + 20, 36, 4);
	put(m, ACPI + 24, XSDT, 8);
	table_head(m, XSDT, "XSDT", 36 + 8);
	put(m, XSDT + 36, MADT, 8);
	table_head(m, MADT, "APIC", madt_bytes);
	put(m, MADT + 36, 0xfee00000, 4);
	for (uint32_t i = 0; i < m->vp_count; i++) {
		uint64_t at = MADT + MADT_HEAD + (uint64_t)LOCAL_APIC_BYTES * i;

		put(m, at + 1, LOCAL_APIC_BYTES, 1);
		put(m, at + 2, i, 1); /* processor */
		put(m, at + 3, i, 1); /* APIC id: the VP's index */
		put(m, at + 4, 1, 4); /* enabled */
	}
	checksum(m, ACPI, 20, 8);
	checksum(m, ACPI, 36, 32);
	checksum(m, XSDT, 36 + 8, 9);
	checksum(m, MADT, madt_bytes, 9);
}

/* ---- VP 0 at the application's entry ---- */

static struct hv_register_assoc plain(uint32_t name, uint64_t value)
{
	return (struct hv_register_assoc){ .name = name, .value.reg64 = value };
}

static struct hv_register_assoc segment(uint32_t name, uint16_t selector, uint16_t attributes)
{
	return (struct hv_register_assoc){
		.name = name,
		.value.segment = { .limit = 0xffffffff, .selector = selector, .attributes = attributes },
	};
}

static struct hv_register_assoc table(uint32_t name, uint64_t base, uint16_t limit)
{
	return (struct hv_register_assoc){ .name = name, .value.table = { .limit = limit, .base = base } };
}

/* 64-bit mode, the arguments in RCX and RDX, a return address on the stack (UEFI 2.10 2.3.4.2). */
static void set_entry(struct machine *m, uint64_t entry)
{
	const struct hv_register_assoc list[] = {
		plain(HV_REGISTER_X64_CR4, 0x668),
		plain(HV_REGISTER_X64_CR3, PAGE_TABLES),
		plain(HV_REGISTER_X64_EFER, 0xd00),
		plain(HV_REGISTER_X64_CR0, 0x80010033),
		segment(HV_REGISTER_X64_CS, CODE64, 0xa09b),
		segment(HV_REGISTER_X64_SS, DATA64, 0xc093),
		segment(HV_REGISTER_X64_DS, DATA64, 0xc093),
		segment(HV_REGISTER_X64_ES, DATA64, 0xc093),
		segment(HV_REGISTER_X64_FS, DATA64, 0xc093),
		segment(HV_REGISTER_X64_GS, DATA64, 0xc093),
		table(HV_REGISTER_X64_GDTR, GDT_PAGE, CODE64 + 7),
		table(HV_REGISTER_X64_IDTR, 0, 0),
		plain(HV_REGISTER_X64_RIP, entry),
		plain(HV_REGISTER_X64_RFLAGS, 2),
		plain(HV_REGISTER_X64_RSP, STACK_TOP - 0x28),
		plain(HV_REGISTER_X64_RCX, m->image_base),
		plain(HV_REGISTER_X64_RDX, IN_TABLES(system)),
	};
	struct answer a;

	put(m, GDT_PAGE + DATA64, 0x00cf93000000ffff, 8);
	put(m, GDT_PAGE + CODE64, 0x00af9b000000ffff, 8);
	put(m, STACK_TOP - 0x28, STUBS + STUB_EXIT * STUB_BYTES, 8);
	a = set_registers(m->vp[0].fd, 0, list, ARRAY_LEN(list));
	if (a.error)
		die("vmm: VP 0 doesn't take register %#x: status %#x",
		    a.reps < ARRAY_LEN(list) ? list[a.reps].name : 0, a.status);
}

void firmware_prepare(struct machine *m, uint64_t entry)
{
	m->low_end = HOLE;
	make_page_tables(m);
	make_tables(m);
	make_acpi(m);
	set_entry(m, entry);
}

/* ---- Calls ---- */

/* The arguments, of the first four registers and of the stack behind their home space. */
struct call {
	struct vp *vp;
	uint64_t argument[5];
};

static bool read_call(struct vp *vp, struct call *c)
{
	const uint8_t *stack = ram_at(vp->machine, vp_general(vp, 4), 0x30);

	if (!stack)
		return false;
	c->vp = vp;
	c->argument[0] = vp_general(vp, 1);
	c->argument[1] = vp_general(vp, 2);
	c->argument[2] = vp_general(vp, 8);
	c->argument[3] = vp_general(vp, 9);
	memcpy(&c->argument[4], stack + 0x28, 8);
	return true;
}

/* What an argument points to. */
static bool take(const struct call *c, unsigned int argument, void *to, size_t bytes)
{
	const void *at = ram_at(c->vp->machine, c->argument[argument], bytes);

	if (at)
		memcpy(to, at, bytes);
	return at;
}

static bool give(const struct call *c, unsigned int argument, const void *from, size_t bytes)
{
	void *at = ram_at(c->vp->machine, c->argument[argument], bytes);

	if (at)
		memcpy(at, from, bytes);
	return at;
}

/* The memory as it is: what was allocated below 640 KiB, the hole, ourselves, and around the image. */
static unsigned int memory_map(const struct machine *m, EFI_MEMORY_DESCRIPTOR map[8])
{
	const struct {
		UINT32 type;
		uint64_t from, to;
	} ranges[] = {
		{ EfiBootServicesData, 0, PAGE },
		{ EfiConventionalMemory, PAGE, m->low_end },
		{ EfiLoaderData, m->low_end, HOLE },
		{ EfiRuntimeServicesData, FIRMWARE, RAM_HIGH },
		{ EfiConventionalMemory, RAM_HIGH, m->image_base },
		{ EfiLoaderCode, m->image_base, m->image_base + m->image_bytes },
		{ EfiConventionalMemory, m->image_base + m->image_bytes, m->bytes },
	};
	unsigned int count = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(ranges); i++) {
		if (ranges[i].to == ranges[i].from)
			continue;
		memset(&map[count], 0, sizeof(map[count]));
		map[count].Type = ranges[i].type;
		map[count].PhysicalStart = ranges[i].from;
		map[count].NumberOfPages = (ranges[i].to - ranges[i].from) / PAGE;
		map[count++].Attribute = EFI_MEMORY_WB;
	}
	return count;
}

static EFI_STATUS get_memory_map(const struct call *c)
{
	EFI_MEMORY_DESCRIPTOR map[8];
	unsigned int count = memory_map(c->vp->machine, map);
	uint64_t room, need = (uint64_t)count * DESCRIPTOR_BYTES, key = MAP_KEY, bytes = DESCRIPTOR_BYTES;
	uint32_t version = 1;

	if (!take(c, 0, &room, 8) || !give(c, 0, &need, 8) || !give(c, 3, &bytes, 8))
		return EFI_INVALID_PARAMETER;
	if (room < need)
		return EFI_BUFFER_TOO_SMALL;
	for (unsigned int i = 0; i < count; i++) {
		void *at = ram_at(c->vp->machine, c->argument[1] + (uint64_t)i * DESCRIPTOR_BYTES,
				  DESCRIPTOR_BYTES);

		if (!at)
			return EFI_INVALID_PARAMETER;
		memset(at, 0, DESCRIPTOR_BYTES);
		memcpy(at, &map[i], sizeof(map[i]));
	}
	return give(c, 2, &key, 8) && give(c, 4, &version, 4) ? EFI_SUCCESS : EFI_INVALID_PARAMETER;
}

/* Below a limit, of the memory below 640 KiB: all that a guest asks for. */
static EFI_STATUS allocate_pages(const struct call *c)
{
	struct machine *m = c->vp->machine;
	uint64_t limit, bytes = c->argument[2] * PAGE, at;

	if (c->argument[0] != AllocateMaxAddress || !take(c, 3, &limit, 8) || c->argument[2] > HOLE / PAGE)
		return EFI_UNSUPPORTED;
	if (limit + 1 < m->low_end || m->low_end < bytes + PAGE)
		return EFI_OUT_OF_RESOURCES;
	at = m->low_end - bytes;
	if (!give(c, 3, &at, 8))
		return EFI_INVALID_PARAMETER;
	m->low_end = at;
	return EFI_SUCCESS;
}

static EFI_STATUS handle_protocol(const struct call *c)
{
	uint64_t address = IN_TABLES(loaded);
	EFI_GUID guid;

	if (!take(c, 1, &guid, sizeof(guid)))
		return EFI_INVALID_PARAMETER;
	if (c->argument[0] != c->vp->machine->image_base || memcmp(&guid, &loaded_image, sizeof(guid)) != 0)
		return EFI_UNSUPPORTED;
	return give(c, 2, &address, 8) ? EFI_SUCCESS : EFI_INVALID_PARAMETER;
}

#define SLOT(function) (offsetof(EFI_BOOT_SERVICES, function) / 8)

void firmware_call(struct vp *vp, uint32_t number)
{
	EFI_STATUS status = EFI_UNSUPPORTED;
	struct call c;

	if (!read_call(vp, &c))
		status = EFI_INVALID_PARAMETER;
	else if (number == SLOT(GetMemoryMap))
		status = get_memory_map(&c);
	else if (number == SLOT(AllocatePages))
		status = allocate_pages(&c);
	else if (number == SLOT(HandleProtocol))
		status = handle_protocol(&c);
	else if (number == SLOT(LocateProtocol))
		status = EFI_NOT_FOUND;
	else if (number == SLOT(ExitBootServices))
		status = c.argument[1] == MAP_KEY ? EFI_SUCCESS : EFI_INVALID_PARAMETER;
	else if (number == STUB_EXIT)
		die("vmm: the application returned");
	else
		fprintf(stderr, "vmm: there is no firmware function %u\n", number);
	vp_set_general(vp, 0, status);
}
