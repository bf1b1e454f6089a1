/* SPDX-License-Identifier: MIT */
/*
 * The initial RAM disk(s) of a Linux root, offered the way its EFI stub asks for them.
 */
#ifndef TRIVET_BOOT_INITRD_H
#define TRIVET_BOOT_INITRD_H

#include "config.h"
#include "volume.h"

/*
 * Offer the configured initrds until initrd_withdraw(). No initrd configured: nothing to do,
 * success. Says which file is the trouble when it fails. `volume` and `config` must live until
 * then.
 */
EFI_STATUS initrd_offer(const struct boot_config *config, const struct volume *volume);
void initrd_withdraw(void);

#endif
