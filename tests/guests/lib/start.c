/* SPDX-License-Identifier: MIT */
/*
 * From the firmware's call to test_main(): keeps what only the firmware knows (memory map, processors,
 * load options), leaves boot services and takes the processor over.
 */
#ifndef GNU_EFI_USE_MS_ABI
#define GNU_EFI_USE_MS_ABI
#endif
#include <efi.h>

#include "guest.h"

bool under_trivet;
bool in_child;
bool in_plain_child;
bool bare_bochs;
uint64_t start_tsc;
struct memory_range memory_map[512];
unsigned int memory_map_len;
uint64_t low_memory;
unsigned int cpu_count;
uint32_t cpu_apic_id[MAX_CPUS];

static uint8_t map_buffer[64 * 1024] __attribute__((aligned(16)));

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *st);

/* UEFI 2.10 9.1: LoadOptions are UTF-16, ended by a zero when they are text. */
static bool options_contain(const CHAR16 *text, UINTN bytes, const char *word)
{
	UINTN len = bytes / 2;

	for (UINTN i = 0; i < len; i++) {
		UINTN k = 0;

		while (word[k] && i + k < len && text[i + k] == (CHAR16)word[k])
			k++;
		if (!word[k])
			return true;
	}
	return false;
}

static void read_options(EFI_HANDLE image, EFI_BOOT_SERVICES *bs)
{
	EFI_GUID guid = LOADED_IMAGE_PROTOCOL;
	EFI_LOADED_IMAGE *loaded;

	if (bs->HandleProtocol(image, &guid, (void **)&loaded) != EFI_SUCCESS || !loaded->LoadOptions)
		return;
	under_trivet = options_contain(loaded->LoadOptions, loaded->LoadOptionsSize, "trivet");
	in_child = options_contain(loaded->LoadOptions, loaded->LoadOptionsSize, "child");
	in_plain_child = in_child && options_contain(loaded->LoadOptions, loaded->LoadOptionsSize, "plain");
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* ACPI 6.5 5.2.12: entries of type 0 (local APIC) and 9 (local x2APIC) that are enabled. */
static void read_madt(const uint8_t *madt)
{
	uint32_t len = get32(madt + 4);

	for (uint32_t off = 44; off + 2 <= len && madt[off + 1] >= 2; off += madt[off + 1]) {
		uint32_t id, flags;

		if (madt[off] == 0) {
			id = madt[off + 3];
			flags = get32(madt + off + 4);
		} else if (madt[off] == 9) {
			id = get32(madt + off + 4);
			flags = get32(madt + off + 8);
		} else {
			continue;
		}
		if ((flags & 1) && id != cpu_apic_id[0] && cpu_count < MAX_CPUS)
			cpu_apic_id[cpu_count++] = id;
	}
}

static bool same_guid(const EFI_GUID *a, const EFI_GUID *b)
{
	const uint64_t *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* PI 1.8 II-13.4: the two functions that count here, and the start of what they tell about a processor. */
struct mp_services {
	EFI_STATUS(EFIAPI *get_number)(struct mp_services *mp, UINTN *all, UINTN *enabled);
	EFI_STATUS(EFIAPI *get_info)(struct mp_services *mp, UINTN index, void *info);
};

struct mp_info {
	uint64_t apic_id;
	uint32_t flags; /* bit 1: enabled */
	uint32_t rest[21];
};

/* Firmware without ACPI tables, as Bochs has it, still knows its processors. */
static void ask_mp_services(EFI_BOOT_SERVICES *bs)
{
	EFI_GUID guid = { 0x3fdda605, 0xa76e, 0x4f46, { 0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08 } };
	struct mp_services *mp;
	UINTN all, enabled;

	if (bs->LocateProtocol(&guid, NULL, (void **)&mp) != EFI_SUCCESS ||
	    mp->get_number(mp, &all, &enabled) != EFI_SUCCESS)
		return;
	for (UINTN i = 0; i < all && cpu_count < MAX_CPUS; i++) {
		struct mp_info info;

		if (mp->get_info(mp, i, &info) == EFI_SUCCESS && (info.flags & 2) &&
		    info.apic_id != cpu_apic_id[0])
			cpu_apic_id[cpu_count++] = (uint32_t)info.apic_id;
	}
}

static void find_processors(EFI_SYSTEM_TABLE *st)
{
	EFI_GUID acpi20 = { 0x8868e871, 0xe4f1, 0x11d3, { 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81 } };
	bool madt = false;

	cpu_apic_id[0] = cpuid(1, 0).ebx >> 24;
	cpu_count = 1;
	for (UINTN i = 0; i < st->NumberOfTableEntries; i++) {
		const uint8_t *rsdp, *xsdt;

		if (!same_guid(&st->ConfigurationTable[i].VendorGuid, &acpi20))
			continue;
		rsdp = st->ConfigurationTable[i].VendorTable;
		xsdt = (const uint8_t *)get64(rsdp + 24);
		for (uint32_t off = 36; off + 8 <= get32(xsdt + 4); off += 8) {
			const uint8_t *table = (const uint8_t *)get64(xsdt + off);

			if (get32(table) == 0x43495041) { /* "APIC" */
				read_madt(table);
				madt = true;
			}
		}
	}
	if (!madt)
		ask_mp_services(st->BootServices);
}

static bool leave_boot_services(EFI_HANDLE image, EFI_BOOT_SERVICES *bs)
{
	for (int tries = 0; tries < 4; tries++) {
		UINTN size = sizeof(map_buffer), key, desc_size;
		UINT32 version;

		if (bs->GetMemoryMap(&size, (void *)map_buffer, &key, &desc_size, &version) != EFI_SUCCESS)
			return false;
		memory_map_len = 0;
		for (UINTN off = 0; off + desc_size <= size && memory_map_len < ARRAY_LEN(memory_map);
		     off += desc_size) {
			const EFI_MEMORY_DESCRIPTOR *d = (const void *)(map_buffer + off);
			struct memory_range *r = &memory_map[memory_map_len++];

			r->base = d->PhysicalStart;
			r->size = d->NumberOfPages * PAGE;
			r->type = d->Type;
		}
		if (bs->ExitBootServices(image, key) == EFI_SUCCESS)
			return true;
	}
	return false;
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *st)
{
	EFI_BOOT_SERVICES *bs = st->BootServices;
	EFI_PHYSICAL_ADDRESS low = 0x9ffff;

	start_tsc = rdtsc();
	serial_init();
	print("\n# guest starts\n");
	read_options(image, bs);
	/* The host bridge of Bochs' machine is an i440FX, that of our QEMU machine is not. */
	outl(0xcf8, 0x80000000);
	bare_bochs = !on_trivet() && inl(0xcfc) == 0x12378086;
	find_processors(st);
	/* An interrupt to processors that are not up is lost, and must not keep later ones from them: "all but self". */
	*(volatile uint32_t *)0xfee00310 = 0;
	*(volatile uint32_t *)0xfee00300 = 0xc4060;
	if (bs->AllocatePages(AllocateMaxAddress, EfiLoaderData, LOW_PAGES, &low) == EFI_SUCCESS)
		low_memory = low;
	else
		note("no %u pages below 640 KiB", LOW_PAGES);
	if (!leave_boot_services(image, bs))
		bail_out("ExitBootServices failed");
	irq_off();
	/* The legacy interrupt controllers stay masked unless a test wants them. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	paging_init();
	trap_init_cpu(0);
	time_init();
	apic_init();
	note("%u processors, TSC %llu kHz, %s", cpu_count, (unsigned long long)tsc_khz,
	     in_plain_child ? "in a child without the interface" :
	     in_child	    ? "in a child" :
	     under_trivet   ? "under Trivet" :
			      "bare");
	test_main();
	finish();
}
