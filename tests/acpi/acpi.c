/* SPDX-License-Identifier: MIT */
/*
 * Gives a machine without ACPI tables (Bochs, whose OVMF makes none) a minimal set, and starts the next image: Trivet,
 * or, for comparisons, what else runs on Trivet. On a machine that has tables it only starts that image.
 */
#include "tables.h"

#include <string.h>

#include "boot/efi_api.h"
#include "boot/processors.h"
#include "boot/text.h"
#include "boot/volume.h"

#include "dsdt.hex" /* dsdt_aml_code[], made by iasl -tc */

#define NEXT_FILE "\\EFI\\acpi\\next"
#define NEXT_DEFAULT "\\EFI\\trivet\\trivet.efi"
#define BELOW_4G 0xffffffffull
#define LAPIC_ADDRESS 0xfee00000u
#define IOAPIC_ADDRESS 0xfec00000u
#define PM_BASE_DEFAULT 0xb000u

enum { PROCESSORS_MAX = 64, NEXT_SIZE = 2048 };

/* PIIX (Intel 82371AB datasheet): function 0 is the ISA bridge, function 3 power management. */
enum { ISA_FUNCTION = 0, PM_FUNCTION = 3, PIIX_DEVICE = 1 };
#define ISA_XBCS 0x4c /* bits 16-31: X-Bus chip select */
#define XBCS_IOAPIC BIT(24)
#define PM_PMBA 0x40	  /* base of the PM ports; bit 0 reads as 1 */
#define PM_PMREGMISC 0x80 /* bit 0: the PM ports answer */
#define PM1_CONTROL 4
#define PM1_SCI_ENABLE 0x0001

#define PCI_ADDRESS_PORT 0xcf8
#define PCI_DATA_PORT 0xcfc

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/* Aligned words of the configuration space of the PIIX. */
static uint32_t pci_read(uint32_t function, uint32_t offset)
{
	out32(PCI_ADDRESS_PORT, (uint32_t)BIT(31) | PIIX_DEVICE << 11 | function << 8 | offset);
	return in32(PCI_DATA_PORT);
}

static void pci_write(uint32_t function, uint32_t offset, uint32_t value)
{
	out32(PCI_ADDRESS_PORT, (uint32_t)BIT(31) | PIIX_DEVICE << 11 | function << 8 | offset);
	out32(PCI_DATA_PORT, value);
}

/* The firmware may have left the PM ports off: it has no use for them without ACPI. Returns their base, 0: no PIIX4. */
static uint16_t enable_pm_ports(void)
{
	uint16_t base, control = PM1_SCI_ENABLE;

	if (pci_read(PM_FUNCTION, 0) != 0x71138086)
		return 0;
	base = (uint16_t)(pci_read(PM_FUNCTION, PM_PMBA) & 0xffc0);
	if (!base) {
		base = PM_BASE_DEFAULT;
		pci_write(PM_FUNCTION, PM_PMBA, base | 1);
	}
	pci_write(PM_FUNCTION, PM_PMREGMISC, pci_read(PM_FUNCTION, PM_PMREGMISC) | 1);
	__asm__ volatile("outw %0, %1" ::"a"(control), "d"((uint16_t)(base + PM1_CONTROL)));
	return base;
}

static uint8_t enable_ioapic(void)
{
	volatile uint32_t *ioapic = (volatile uint32_t *)(uintptr_t)IOAPIC_ADDRESS;

	pci_write(ISA_FUNCTION, ISA_XBCS, pci_read(ISA_FUNCTION, ISA_XBCS) | (uint32_t)XBCS_IOAPIC);
	ioapic[0] = 0; /* register select: the id */
	return (uint8_t)(ioapic[4] >> 24 & 0xf);
}

static uint32_t own_apic_id(void)
{
	uint32_t a = 1, b, c, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	return b >> 24;
}

static bool has_tables(void)
{
	EFI_GUID acpi2 = ACPI_20_TABLE_GUID, acpi1 = ACPI_TABLE_GUID;

	for (UINTN i = 0; i < efi_system->NumberOfTableEntries; i++) {
		EFI_GUID *guid = &efi_system->ConfigurationTable[i].VendorGuid;

		if (!memcmp(guid, &acpi2, sizeof(acpi2)) || !memcmp(guid, &acpi1, sizeof(acpi1)))
			return true;
	}
	return false;
}

static void *take_pages(size_t size, EFI_MEMORY_TYPE type)
{
	UINTN pages = (size + PAGE_SIZE - 1) / PAGE_SIZE;
	EFI_PHYSICAL_ADDRESS at = BELOW_4G;

	if (EFI_ERROR(efi_boot->AllocatePages(AllocateMaxAddress, type, pages, &at)))
		return NULL;
	memset((void *)at, 0, pages * PAGE_SIZE);
	return (void *)at;
}

static EFI_STATUS install_tables(void)
{
	static uint32_t apic_ids[PROCESSORS_MAX];
	EFI_GUID acpi2 = ACPI_20_TABLE_GUID;
	struct acpi_machine machine = {
		.apic_ids = apic_ids,
		.processor_count = processors_list(apic_ids, PROCESSORS_MAX),
		.lapic_address = LAPIC_ADDRESS,
		.ioapic_address = IOAPIC_ADDRESS,
		.pm_base = enable_pm_ports(),
		.dsdt = dsdt_aml_code,
		.dsdt_size = sizeof(dsdt_aml_code),
	};
	void *block, *facs;

	if (!machine.pm_base) {
		say("acpi: no PIIX4, no tables for this machine\n");
		return EFI_UNSUPPORTED;
	}
	if (!machine.processor_count) /* no MP services: this one */
		apic_ids[machine.processor_count++] = own_apic_id();
	machine.ioapic_id = enable_ioapic();
	block = take_pages(acpi_tables_size(&machine), EfiACPIReclaimMemory);
	facs = take_pages(ACPI_FACS_SIZE, EfiACPIMemoryNVS);
	if (!block || !facs)
		return EFI_OUT_OF_RESOURCES;
	acpi_tables_build(&machine, block, (uint32_t)(uintptr_t)block, facs, (uint32_t)(uintptr_t)facs);
	say("acpi: tables for %u processors, I/O APIC id %u, PM ports at 0x%x\n", machine.processor_count,
	    machine.ioapic_id, machine.pm_base);
	return efi_boot->InstallConfigurationTable(&acpi2, block);
}

/* The first line of NEXT_FILE: a path, and load options behind a blank. */
static void read_next(const struct volume *volume, char *line)
{
	EFI_FILE_HANDLE file;
	UINT64 size;

	if (!EFI_ERROR(volume_open_file(volume, NEXT_FILE, &file, &size))) {
		size = size < NEXT_SIZE ? size : NEXT_SIZE - 1;
		if (EFI_ERROR(volume_read(file, line, size)))
			size = 0;
		file->Close(file);
		line[size] = '\0';
		for (size_t i = 0; i < size; i++)
			if (line[i] == '\r' || line[i] == '\n')
				line[i] = '\0';
	}
	if (!line[0])
		memcpy(line, NEXT_DEFAULT, sizeof(NEXT_DEFAULT));
}

static EFI_STATUS start(const struct volume *volume, const char *path, const char *options)
{
	static uint16_t units[NEXT_SIZE];
	EFI_GUID guid = EFI_LOADED_IMAGE_PROTOCOL_GUID;
	EFI_DEVICE_PATH *device_path = volume_device_path(volume, path);
	EFI_LOADED_IMAGE *loaded;
	EFI_HANDLE image = NULL;
	EFI_STATUS status = EFI_NOT_FOUND;
	long len = text_utf8_to_utf16(units, NEXT_SIZE, options, strlen(options));

	if (device_path && len >= 0)
		status = efi_boot->LoadImage(FALSE, efi_image, device_path, NULL, 0, &image);
	if (!EFI_ERROR(status))
		status = efi_boot->HandleProtocol(image, &guid, (VOID **)&loaded);
	if (!EFI_ERROR(status)) {
		loaded->LoadOptions = len ? units : NULL;
		loaded->LoadOptionsSize = len ? (UINT32)(((size_t)len + 1) * sizeof(uint16_t)) : 0;
		status = efi_boot->StartImage(image, NULL, NULL);
	}
	if (EFI_ERROR(status))
		say("acpi: %s: %s\n", path, efi_status_text(status));
	return status;
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system);

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
	static char next[NEXT_SIZE];
	struct volume volume;
	EFI_STATUS status;
	char *options;

	efi_image = image;
	efi_system = system;
	efi_boot = system->BootServices;
	if (has_tables()) {
		say("acpi: the firmware has tables\n");
	} else {
		status = install_tables();
		if (EFI_ERROR(status))
			say("acpi: no tables installed: %s\n", efi_status_text(status));
	}
	volume_open(&volume);
	read_next(&volume, next);
	options = strchr(next, ' ');
	if (options)
		*options++ = '\0';
	return start(&volume, next, options ? options : "");
}
