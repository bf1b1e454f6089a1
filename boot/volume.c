/* SPDX-License-Identifier: MIT */
/*
 * Files of the loader's own volume through EFI_SIMPLE_FILE_SYSTEM_PROTOCOL, and device paths to
 * them (UEFI 2.10 10.3, 13.4, 13.5).
 */
#include "volume.h"
#include "config.h"
#include "text.h"

#include <string.h>

/*
 * Room for the file's name behind EFI_FILE_INFO; the firmware wants to hand it over with the size.
 */
enum { FILE_INFO_SIZE = sizeof(EFI_FILE_INFO) + 2 * CONFIG_PATH_SIZE };

void volume_open(struct volume *volume)
{
	EFI_GUID loaded_image_guid = EFI_LOADED_IMAGE_PROTOCOL_GUID;
	EFI_GUID file_system_guid = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_GUID;
	EFI_FILE_IO_INTERFACE *file_system;
	EFI_LOADED_IMAGE *self;

	volume->device = NULL;
	volume->dir = NULL;
	if (EFI_ERROR(efi_boot->HandleProtocol(efi_image, &loaded_image_guid, (VOID **)&self)) ||
	    !self->DeviceHandle)
		return;
	volume->device = self->DeviceHandle;
	if (EFI_ERROR(efi_boot->HandleProtocol(volume->device, &file_system_guid, (VOID **)&file_system)) ||
	    EFI_ERROR(file_system->OpenVolume(file_system, &volume->dir)))
		volume->dir = NULL;
}

void volume_close(struct volume *volume)
{
	if (volume->dir)
		volume->dir->Close(volume->dir);
	volume->dir = NULL;
}

static EFI_STATUS file_size(EFI_FILE_HANDLE file, UINT64 *size)
{
	EFI_GUID info_guid = EFI_FILE_INFO_ID;
	uint64_t buffer[FILE_INFO_SIZE / sizeof(uint64_t) + 1];
	EFI_FILE_INFO *info = (EFI_FILE_INFO *)(void *)buffer;
	UINTN info_size = sizeof(buffer);
	EFI_STATUS status = file->GetInfo(file, &info_guid, &info_size, info);

	if (EFI_ERROR(status))
		return status;
	if (info->Attribute & EFI_FILE_DIRECTORY)
		return EFI_NOT_FOUND;
	*size = info->FileSize;
	return EFI_SUCCESS;
}

EFI_STATUS volume_open_file(const struct volume *volume, const char *path, EFI_FILE_HANDLE *file,
			    UINT64 *size)
{
	uint16_t name[CONFIG_PATH_SIZE];
	EFI_STATUS status;

	if (!volume->dir)
		return EFI_NO_MEDIA;
	if (text_utf8_to_utf16(name, ARRAY_SIZE(name), path, strlen(path)) < 0)
		return EFI_INVALID_PARAMETER;
	status = volume->dir->Open(volume->dir, file, (CHAR16 *)name, EFI_FILE_MODE_READ, 0);
	if (EFI_ERROR(status))
		return status;
	status = file_size(*file, size);
	if (EFI_ERROR(status))
		(*file)->Close(*file);
	return status;
}

EFI_STATUS volume_read(EFI_FILE_HANDLE file, void *buffer, UINT64 size)
{
	UINTN got = size;
	EFI_STATUS status = file->Read(file, &got, buffer);

	if (EFI_ERROR(status))
		return status;
	return got == size ? EFI_SUCCESS : EFI_END_OF_FILE;
}

/* Bytes up to the end node, without it; 0 for a malformed path. */
static size_t device_path_size(const EFI_DEVICE_PATH *path)
{
	const uint8_t *bytes = (const uint8_t *)path;
	size_t size = 0;

	for (;;) {
		size_t node = bytes[size + 2] | (size_t)bytes[size + 3] << 8;

		if (bytes[size] == END_DEVICE_PATH_TYPE)
			return size;
		if (node < 4 || size > 0x10000)
			return 0;
		size += node;
	}
}

EFI_DEVICE_PATH *volume_device_path(const struct volume *volume, const char *path)
{
	static const uint8_t end_node[4] = { END_DEVICE_PATH_TYPE, END_ENTIRE_DEVICE_PATH_SUBTYPE, 4, 0 };
	EFI_GUID device_path_guid = EFI_DEVICE_PATH_PROTOCOL_GUID;
	EFI_DEVICE_PATH *device;
	uint16_t name[CONFIG_PATH_SIZE];
	long units = text_utf8_to_utf16(name, ARRAY_SIZE(name), path, strlen(path));
	size_t prefix, node;
	uint8_t *out;

	if (units < 0 || !volume->device ||
	    EFI_ERROR(efi_boot->HandleProtocol(volume->device, &device_path_guid, (VOID **)&device)))
		return NULL;
	prefix = device_path_size(device);
	node = 4 + ((size_t)units + 1) * sizeof(name[0]);
	out = pool_alloc(prefix + node + sizeof(end_node));
	if (!out)
		return NULL;
	memcpy(out, device, prefix);
	out[prefix] = MEDIA_DEVICE_PATH;
	out[prefix + 1] = MEDIA_FILEPATH_DP;
	out[prefix + 2] = (uint8_t)node;
	out[prefix + 3] = (uint8_t)(node >> 8);
	memcpy(out + prefix + 4, name, node - 4);
	memcpy(out + prefix + node, end_node, sizeof(end_node));
	return (EFI_DEVICE_PATH *)(void *)out;
}
