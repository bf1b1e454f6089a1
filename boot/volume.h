/* SPDX-License-Identifier: MIT */
/*
 * The volume that the loader came from: configuration, root image and initrds are looked up there.
 */
#ifndef TRIVET_BOOT_VOLUME_H
#define TRIVET_BOOT_VOLUME_H

#include "efi_api.h"

struct volume {
	EFI_HANDLE device;   /* NULL: the loader came from no device (network, memory) */
	EFI_FILE_HANDLE dir; /* root folder, NULL: no file system */
};

/* Find the loader's own volume. Never fails; a volume without a file system has no files. */
void volume_open(struct volume *volume);
void volume_close(struct volume *volume);

/* Open `path` (UTF-8, absolute, backslashes) for reading and tell its size in bytes. */
EFI_STATUS volume_open_file(const struct volume *volume, const char *path, EFI_FILE_HANDLE *file,
			    UINT64 *size);

/* Read exactly `size` bytes from the start of an opened file. */
EFI_STATUS volume_read(EFI_FILE_HANDLE file, void *buffer, UINT64 size);

/*
 * The device path of `path` on the volume, from the pool; NULL: no memory, or the volume has no
 * device path.
 */
EFI_DEVICE_PATH *volume_device_path(const struct volume *volume, const char *path);

#endif
