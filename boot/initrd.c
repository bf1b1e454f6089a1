/* SPDX-License-Identifier: MIT */
/*
 * EFI_LOAD_FILE2_PROTOCOL on the vendor media device path that Linux's EFI stub looks for (Linux
 * Documentation/admin-guide/efi-stub.rst, "initrd"). The files are read straight into the kernel's
 * own buffer, one behind the other, each padded to 4 bytes as the initramfs format wants it.
 */
#include "initrd.h"

#include <string.h>

#define INITRD_MEDIA_GUID                                              \
	{                                                              \
		0x5568e427, 0x68fc, 0x4f3d,                            \
		{                                                      \
			0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68 \
		}                                                      \
	}
#define INITRD_ALIGN 4ull

struct initrd_path {
	VENDOR_DEVICE_PATH vendor;
	EFI_DEVICE_PATH end;
} __attribute__((packed));
static_assert(sizeof(struct initrd_path) == 24, "initrd_path");

static struct initrd_path initrd_path = {
	{ { MEDIA_DEVICE_PATH, MEDIA_VENDOR_DP, { sizeof(VENDOR_DEVICE_PATH), 0 } }, INITRD_MEDIA_GUID },
	{ END_DEVICE_PATH_TYPE, END_ENTIRE_DEVICE_PATH_SUBTYPE, { sizeof(EFI_DEVICE_PATH), 0 } },
};

struct initrd_file {
	EFI_FILE_HANDLE handle;
	UINT64 size;
};

static struct {
	struct load_file2 protocol; /* first: the firmware hands its address back */
	const struct boot_config *config;
	struct initrd_file files[CONFIG_INITRDS_MAX];
	uint32_t count;
	UINT64 total_size;
	EFI_HANDLE handle;
} initrd;

static EFI_GUID load_file2_guid = LOAD_FILE2_GUID;
static EFI_GUID device_path_guid = EFI_DEVICE_PATH_PROTOCOL_GUID;

static EFI_STATUS EFIAPI load(struct load_file2 *self, EFI_DEVICE_PATH *path, BOOLEAN boot_policy,
			      UINTN *size, VOID *buffer)
{
	uint8_t *out = buffer;

	(void)path;
	if (self != &initrd.protocol || !size)
		return EFI_INVALID_PARAMETER;
	if (boot_policy)
		return EFI_UNSUPPORTED;
	if (!buffer || *size < initrd.total_size) {
		*size = initrd.total_size;
		return EFI_BUFFER_TOO_SMALL;
	}
	for (uint32_t i = 0; i < initrd.count; i++) {
		struct initrd_file *file = &initrd.files[i];
		UINT64 padded = ALIGN_UP(file->size, INITRD_ALIGN);
		EFI_STATUS status = file->handle->SetPosition(file->handle, 0);

		if (!EFI_ERROR(status))
			status = volume_read(file->handle, out, file->size);
		if (EFI_ERROR(status)) {
			say("Trivet: can't read %s: %s.\n", initrd.config->initrd[i],
			    efi_status_text(status));
			return status;
		}
		memset(out + file->size, 0, padded - file->size);
		out += padded;
	}
	*size = initrd.total_size;
	return EFI_SUCCESS;
}

EFI_STATUS initrd_offer(const struct boot_config *config, const struct volume *volume)
{
	EFI_STATUS status;

	if (!config->initrd_count)
		return EFI_SUCCESS;
	initrd.config = config;
	for (uint32_t i = 0; i < config->initrd_count; i++) {
		struct initrd_file *file = &initrd.files[i];

		status = volume_open_file(volume, config->initrd[i], &file->handle, &file->size);
		if (EFI_ERROR(status)) {
			say("Trivet: can't open initrd %s: %s.\n", config->initrd[i],
			    efi_status_text(status));
			initrd_withdraw();
			return status;
		}
		initrd.count++;
		initrd.total_size += ALIGN_UP(file->size, INITRD_ALIGN);
	}
	initrd.protocol.load = load;
	status = efi_boot->InstallMultipleProtocolInterfaces(&initrd.handle, &device_path_guid, &initrd_path,
							     &load_file2_guid, &initrd.protocol, NULL);
	if (EFI_ERROR(status)) {
		say("Trivet: the firmware refuses the initrd: %s.\n", efi_status_text(status));
		initrd.handle = NULL;
		initrd_withdraw();
	}
	return status;
}

void initrd_withdraw(void)
{
	if (initrd.handle)
		(void)efi_boot->UninstallMultipleProtocolInterfaces(initrd.handle, &device_path_guid,
								    &initrd_path, &load_file2_guid,
								    &initrd.protocol, NULL);
	for (uint32_t i = 0; i < initrd.count; i++)
		initrd.files[i].handle->Close(initrd.files[i].handle);
	memset(&initrd, 0, sizeof(initrd));
}
