/* SPDX-License-Identifier: MIT */
/*
 * The loader's story: read the configuration, start the hypervisor underneath, go on as its root
 * partition and start what the user wants to run. docs/booting.md tells it from the user's side.
 */
#include "config.h"
#include "hypervisor.h"
#include "machine.h"
#include "root_image.h"
#include "volume.h"

#ifndef TRIVET_VERSION
#define TRIVET_VERSION "unversioned"
#endif

enum { WHY_SIZE = 160 };

static uint64_t read_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static void report_line(void *ctx, unsigned int line, const char *reason)
{
	(void)ctx;
	say(CONFIG_PATH ":%u: %s\n", line, reason);
}

static void read_config(const struct volume *volume, struct boot_config *config)
{
	EFI_FILE_HANDLE file;
	EFI_STATUS status;
	UINT64 size;
	char *text;

	config_defaults(config);
	status = volume_open_file(volume, CONFIG_PATH, &file, &size);
	if (status == EFI_NOT_FOUND || status == EFI_NO_MEDIA)
		return; /* no file: the defaults, or a loader without a volume */
	if (EFI_ERROR(status)) {
		say(CONFIG_PATH ": %s\n", efi_status_text(status));
		return;
	}
	text = size <= CONFIG_FILE_SIZE_MAX ? pool_alloc(size + 1) : NULL;
	status = text ? volume_read(file, text, size) : EFI_BAD_BUFFER_SIZE;
	if (!text)
		say(CONFIG_PATH ": the file is longer than %u KiB\n", CONFIG_FILE_SIZE_MAX >> 10);
	else if (EFI_ERROR(status))
		say(CONFIG_PATH ": %s\n", efi_status_text(status));
	else
		config_parse(config, text, size, report_line, NULL);
	pool_free(text);
	file->Close(file);
}

static void halt(void)
{
	say("Trivet: halted (no-virtualization = halt).\n");
	/* Or the boot manager's watchdog resets the machine. */
	(void)efi_boot->SetWatchdogTimer(0, 0, 0, NULL);
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void start_hypervisor(const struct boot_config *config, uint64_t tsc_at_entry)
{
	struct machine machine;
	char why[WHY_SIZE];

	if (hypervisor_is_running()) {
		say("Trivet: already running.\n");
		return;
	}
	machine_collect(&machine, config);
	if (!hypervisor_start(config, &machine, tsc_at_entry, why, sizeof(why)))
		return;
	say("Trivet can't run here: %s\n", why);
	if (config->no_virtualization == CONFIG_NO_VIRT_HALT)
		halt();
}

/* Called by GNU-EFI's start code. */
EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system);

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
	static struct boot_config config; /* large for a stack */
	uint64_t tsc_at_entry = read_tsc();
	struct volume volume;
	EFI_STATUS status = EFI_SUCCESS;

	efi_image = image;
	efi_system = system;
	efi_boot = system->BootServices;
	say("Trivet " TRIVET_VERSION "\n");
	volume_open(&volume);
	read_config(&volume, &config);
	start_hypervisor(&config, tsc_at_entry);
	if (config.root[0])
		status = root_image_run(&config, &volume);
	volume_close(&volume);
	return status;
}
