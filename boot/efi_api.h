/* SPDX-License-Identifier: MIT */
/*
 * UEFI as the loader sees it: GNU-EFI's types with the firmware's own calling convention (so that
 * calls are plain calls), the protocols that GNU-EFI does not know, and the few globals and helpers
 * every file needs.
 */
#ifndef TRIVET_BOOT_EFI_API_H
#define TRIVET_BOOT_EFI_API_H

#ifndef GNU_EFI_USE_MS_ABI
#define GNU_EFI_USE_MS_ABI
#endif
#include <efi.h>

#include <trivet/types.h>

#undef ALIGN /* of GNU-EFI; ours are ALIGN_UP and ALIGN_DOWN */

extern EFI_SYSTEM_TABLE *efi_system;
extern EFI_BOOT_SERVICES *efi_boot;
extern EFI_HANDLE efi_image;

/* UEFI 2.10 13.3, same shape as EFI_LOAD_FILE_PROTOCOL. */
#define LOAD_FILE2_GUID                                                \
	{                                                              \
		0x4006c0c1, 0xfcb3, 0x403e,                            \
		{                                                      \
			0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d \
		}                                                      \
	}
struct load_file2 {
	EFI_STATUS(EFIAPI *load)
	(struct load_file2 *self, EFI_DEVICE_PATH *path, BOOLEAN boot_policy, UINTN *size, VOID *buffer);
};

/* PI 1.8 vol. 2, 13.4: only the first two functions are used. */
#define MP_SERVICES_GUID                                               \
	{                                                              \
		0x3fdda605, 0xa76e, 0x4f46,                            \
		{                                                      \
			0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08 \
		}                                                      \
	}
struct processor_information {
	UINT64 id; /* local APIC id */
	UINT32 status;
	UINT32 location[3]; /* package, core, thread */
	UINT32 extended[6];
};
static_assert(sizeof(struct processor_information) == 48, "EFI_PROCESSOR_INFORMATION");
struct mp_services {
	EFI_STATUS(EFIAPI *get_number_of_processors)(struct mp_services *self, UINTN *all, UINTN *enabled);
	EFI_STATUS(EFIAPI *get_processor_info)
	(struct mp_services *self, UINTN number, struct processor_information *info);
};

/* Print on the firmware's console; '\n' ends a line, the text is UTF-8. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* What a status means, for people. */
const char *efi_status_text(EFI_STATUS status);

/* Memory that lives until pool_free(). NULL when there is none. pool_free(NULL) is fine. */
void *pool_alloc(size_t size);
void pool_free(void *memory);

#endif
