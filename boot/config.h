/* SPDX-License-Identifier: MIT */
/*
 * What the user wants: the parsed \EFI\trivet\trivet.conf. Pure code, no firmware needed;
 * docs/booting.md describes the file for users.
 */
#ifndef TRIVET_BOOT_CONFIG_H
#define TRIVET_BOOT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_DIR "\\EFI\\trivet\\"
#define CONFIG_PATH CONFIG_DIR "trivet.conf"
#define CONFIG_FILE_SIZE_MAX (64u << 10)

enum {
	CONFIG_PATH_SIZE = 256, /* bytes with the NUL */
	CONFIG_INITRDS_MAX = 8,
	CONFIG_CMDLINE_SIZE = 2048, /* what Linux takes on x86 */
};

enum config_uart {
	CONFIG_UART_AUTO, /* COM2 when there is one, else COM1 */
	CONFIG_UART_NONE,
	CONFIG_UART_COM1,
	CONFIG_UART_COM2,
};

/* What to do when this machine can't run the hypervisor. */
enum config_no_virtualization {
	CONFIG_NO_VIRT_BOOT, /* start the root without Trivet */
	CONFIG_NO_VIRT_HALT,
};

struct boot_config {
	char root[CONFIG_PATH_SIZE]; /* absolute, with backslashes; "" = back to the boot manager */
	char initrd[CONFIG_INITRDS_MAX][CONFIG_PATH_SIZE];
	uint32_t initrd_count;
	char cmdline[CONFIG_CMDLINE_SIZE]; /* valid UTF-8 */
	uint64_t memory_size;		   /* bytes, 0 = default */
	uint32_t log_level;		   /* enum log_level */
	uint32_t root_interface;	   /* enum boot_root_interface */
	enum config_uart uart;
	bool log_framebuffer;
	enum config_no_virtualization no_virtualization;
};

/*
 * Called for each complaint: `line` from 1; `reason` is one line without an end, valid during the
 * call only.
 */
typedef void (*config_report_fn)(void *ctx, unsigned int line, const char *reason);

/* Set every field to what an absent file means. */
void config_defaults(struct boot_config *config);

/*
 * Parse `size` bytes of `text` into `config` (which must hold the defaults). A bad line is reported
 * and left out, the others count. Returns the number of complaints.
 */
unsigned int config_parse(struct boot_config *config, const char *text, size_t size, config_report_fn report,
			  void *ctx);

#endif
