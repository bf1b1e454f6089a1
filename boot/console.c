/* SPDX-License-Identifier: MIT */
/*
 * What the loader says to the user, and small helpers around boot services. Everything goes to the
 * firmware's console, which the firmware already routes to screen and serial port.
 */
#include "efi_api.h"
#include "text.h"

enum { MESSAGE_SIZE = 512 };

EFI_SYSTEM_TABLE *efi_system;
EFI_BOOT_SERVICES *efi_boot;
EFI_HANDLE efi_image;

/*
 * Quoted user text can hold anything: what is not printable or was cut in the middle becomes '?'.
 */
static size_t make_ascii(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)text[i] >= 0x7f || ((uint8_t)text[i] < 0x20 && text[i] != '\n'))
			text[i] = '?';
	}
	return len;
}

void say(const char *fmt, ...)
{
	char text[MESSAGE_SIZE];
	uint16_t units[MESSAGE_SIZE];
	CHAR16 out[2 * MESSAGE_SIZE];
	size_t used = 0;
	va_list ap;
	size_t len;
	long count;

	if (!efi_system->ConOut) /* a Driver#### entry may run before there is a console */
		return;
	va_start(ap, fmt);
	len = text_vformat(text, sizeof(text), fmt, ap);
	va_end(ap);
	count = text_utf8_to_utf16(units, MESSAGE_SIZE, text, len);
	if (count < 0)
		count = text_utf8_to_utf16(units, MESSAGE_SIZE, text, make_ascii(text, len));
	for (long i = 0; i < count; i++) {
		if (units[i] == '\n')
			out[used++] = '\r';
		out[used++] = units[i];
	}
	out[used] = 0;
	efi_system->ConOut->OutputString(efi_system->ConOut, out);
}

/* UEFI 2.10 appendix D */
const char *efi_status_text(EFI_STATUS status)
{
	static const char *const errors[] = {
		[1] = "load error",
		[2] = "invalid parameter",
		[3] = "unsupported",
		[4] = "bad buffer size",
		[5] = "buffer too small",
		[6] = "not ready",
		[7] = "device error",
		[8] = "write protected",
		[9] = "out of resources",
		[10] = "volume corrupted",
		[11] = "volume full",
		[12] = "no media",
		[13] = "media changed",
		[14] = "not found",
		[15] = "access denied",
		[18] = "timeout",
		[19] = "not started",
		[20] = "already started",
		[21] = "aborted",
		[25] = "incompatible version",
		[26] = "security violation (Secure Boot)",
		[27] = "checksum error",
		[28] = "end of media",
		[31] = "end of file",
	};
	UINTN code = status & ~EFI_ERROR_MASK;

	if (!EFI_ERROR(status))
		return status == EFI_SUCCESS ? "success" : "warning";
	return code < ARRAY_SIZE(errors) && errors[code] ? errors[code] : "error";
}

void *pool_alloc(size_t size)
{
	void *memory;

	return EFI_ERROR(efi_boot->AllocatePool(EfiLoaderData, size, &memory)) ? NULL : memory;
}

void pool_free(void *memory)
{
	if (memory)
		efi_boot->FreePool(memory);
}
