/* SPDX-License-Identifier: MIT */
/*
 * What runs next: the configured EFI application or Linux kernel.
 */
#ifndef TRIVET_BOOT_ROOT_IMAGE_H
#define TRIVET_BOOT_ROOT_IMAGE_H

#include "config.h"
#include "volume.h"

/*
 * Load and start config->root (not empty) with its command line and initrds. Returns the image's
 * own status when it returns, or why it could not be started, after telling the user.
 */
EFI_STATUS root_image_run(const struct boot_config *config, const struct volume *volume);

#endif
