/* SPDX-License-Identifier: MIT */
/*
 * Asks the firmware what the machine has. Nothing here may be slow (every call counts against the
 * boot) or disturb a device that the firmware uses: the UARTs are probed through their scratch
 * register only.
 */
#include "machine.h"
#include "processors.h"

#include <string.h>

enum { COM1_PORT = 0x3f8, COM2_PORT = 0x2f8, UART_LINE_STATUS = 5, UART_SCRATCH = 7 };

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/*
 * A 16550 has a scratch register without any effect; an empty bus reads as ones (or as the last
 * value driven).
 */
static bool uart_answers(uint16_t port)
{
	uint16_t scratch = (uint16_t)(port + UART_SCRATCH);
	uint8_t saved = in8(scratch);
	bool ok = true;

	for (unsigned int i = 0; i < 2; i++) {
		uint8_t pattern = i ? 0xa5 : 0x5a;

		out8(scratch, pattern);
		(void)in8((uint16_t)(port + UART_LINE_STATUS)); /* another value on the bus */
		ok = ok && in8(scratch) == pattern;
	}
	out8(scratch, saved);
	return ok;
}

static void choose_log_port(struct machine *machine, enum config_uart uart)
{
	bool want_com2 = uart == CONFIG_UART_AUTO || uart == CONFIG_UART_COM2;
	bool want_com1 = uart == CONFIG_UART_AUTO || uart == CONFIG_UART_COM1;

	if (want_com2 && uart_answers(COM2_PORT)) {
		machine->log_port = COM2_PORT;
	} else if (want_com1 && uart_answers(COM1_PORT)) {
		machine->log_port = COM1_PORT;
		machine->log_port_shared = 1;
	} else if (uart == CONFIG_UART_COM1 || uart == CONFIG_UART_COM2) {
		say("Trivet: no UART answers at %s; the log stays in memory.\n",
		    uart == CONFIG_UART_COM1 ? "COM1" : "COM2");
	}
}

static uint64_t find_rsdp(void)
{
	EFI_GUID acpi2 = ACPI_20_TABLE_GUID, acpi1 = ACPI_TABLE_GUID;
	uint64_t old = 0;

	for (UINTN i = 0; i < efi_system->NumberOfTableEntries; i++) {
		EFI_CONFIGURATION_TABLE *entry = &efi_system->ConfigurationTable[i];

		if (memcmp(&entry->VendorGuid, &acpi2, sizeof(acpi2)) == 0)
			return (uint64_t)entry->VendorTable;
		if (memcmp(&entry->VendorGuid, &acpi1, sizeof(acpi1)) == 0)
			old = (uint64_t)entry->VendorTable;
	}
	return old;
}

static void find_framebuffer(struct boot_framebuffer *out)
{
	EFI_GUID guid = EFI_GRAPHICS_OUTPUT_PROTOCOL_GUID;
	EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *info;
	EFI_GRAPHICS_OUTPUT_PROTOCOL *gop;

	if (EFI_ERROR(efi_boot->LocateProtocol(&guid, NULL, (VOID **)&gop)) || !gop->Mode || !gop->Mode->Info)
		return;
	info = gop->Mode->Info;
	if (info->PixelFormat != PixelRedGreenBlueReserved8BitPerColor &&
	    info->PixelFormat != PixelBlueGreenRedReserved8BitPerColor)
		return;
	out->base_hpa = gop->Mode->FrameBufferBase;
	out->size = gop->Mode->FrameBufferSize;
	out->width = info->HorizontalResolution;
	out->height = info->VerticalResolution;
	out->pixels_per_line = info->PixelsPerScanLine;
	out->blue_first = info->PixelFormat == PixelBlueGreenRedReserved8BitPerColor;
}

void machine_collect(struct machine *machine, const struct boot_config *config)
{
	memset(machine, 0, sizeof(*machine));
	machine->rsdp_hpa = find_rsdp();
	machine->processor_count = processors_count();
	find_framebuffer(&machine->framebuffer);
	if (config->uart != CONFIG_UART_NONE)
		choose_log_port(machine, config->uart);
}
