/* SPDX-License-Identifier: MIT */
/*
 * Starts the root image through LoadImage and StartImage with a device path (UEFI 2.10 7.4), so
 * that the firmware reads, measures and verifies it as it would for its own boot manager.
 */
#include "root_image.h"
#include "initrd.h"
#include "text.h"

#include <string.h>

static EFI_STATUS load_image(const struct boot_config *config, const struct volume *volume, EFI_HANDLE *image)
{
	EFI_DEVICE_PATH *path = volume_device_path(volume, config->root);
	EFI_STATUS status = EFI_NO_MEDIA;

	*image = NULL;
	if (path) {
		/* The boot manager flag is for boot managers only: FALSE, an exact file. */
		status = efi_boot->LoadImage(FALSE, efi_image, path, NULL, 0, image);
		pool_free(path);
	}
	if (EFI_ERROR(status)) {
		say("Trivet: can't load %s: %s%s.\n", config->root, efi_status_text(status),
		    status == EFI_ACCESS_DENIED ? " (is it signed for Secure Boot?)" : "");
		if (*image) /* a security violation leaves it loaded but unstartable */
			efi_boot->UnloadImage(*image);
	}
	return status;
}

/* The image's load options: the command line in UTF-16. They are the loader's to free. */
static EFI_STATUS set_options(EFI_HANDLE image, const char *cmdline, uint16_t **options)
{
	EFI_GUID guid = EFI_LOADED_IMAGE_PROTOCOL_GUID;
	size_t units = strlen(cmdline) + 1; /* UTF-16 never has more units than UTF-8 has bytes */
	EFI_LOADED_IMAGE *loaded;
	EFI_STATUS status;
	long len;

	*options = NULL;
	if (!cmdline[0])
		return EFI_SUCCESS;
	status = efi_boot->HandleProtocol(image, &guid, (VOID **)&loaded);
	if (EFI_ERROR(status))
		return status;
	*options = pool_alloc(units * sizeof(uint16_t));
	if (!*options)
		return EFI_OUT_OF_RESOURCES;
	len = text_utf8_to_utf16(*options, units, cmdline, units - 1);
	if (len < 0)
		return EFI_INVALID_PARAMETER;
	loaded->LoadOptions = *options;
	loaded->LoadOptionsSize = (UINT32)(((size_t)len + 1) * sizeof(uint16_t));
	return EFI_SUCCESS;
}

static EFI_STATUS start_image(const struct boot_config *config, EFI_HANDLE image)
{
	uint16_t *options;
	EFI_STATUS status = set_options(image, config->cmdline, &options);

	if (EFI_ERROR(status)) {
		say("Trivet: can't pass the command line: %s.\n", efi_status_text(status));
		efi_boot->UnloadImage(image);
	} else {
		status = efi_boot->StartImage(image, NULL, NULL);
		if (EFI_ERROR(status))
			say("Trivet: %s came back: %s.\n", config->root, efi_status_text(status));
	}
	pool_free(options);
	return status;
}

EFI_STATUS root_image_run(const struct boot_config *config, const struct volume *volume)
{
	EFI_HANDLE image;
	EFI_STATUS status = load_image(config, volume, &image);

	if (EFI_ERROR(status))
		return status;
	status = initrd_offer(config, volume);
	if (EFI_ERROR(status)) {
		efi_boot->UnloadImage(image);
		return status;
	}
	status = start_image(config, image);
	initrd_withdraw();
	return status;
}
