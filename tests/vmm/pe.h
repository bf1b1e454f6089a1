/* SPDX-License-Identifier: MIT */
/* Loading a UEFI application (PE32+ for x86-64, Microsoft's "PE Format") into a guest's memory. */
#ifndef VMM_PE_H
#define VMM_PE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pe_image {
	uint64_t bytes; /* of memory that it takes, whole pages */
	uint64_t entry; /* from its start */
};

/* Reads the headers alone. NULL, or what is wrong with the file. */
const char *pe_measure(const uint8_t *file, size_t file_bytes, struct pe_image *image);

/* Puts the image into `memory`, zeroed and of image->bytes, relocated for address `base`. NULL, or what is wrong. */
const char *pe_load(const uint8_t *file, size_t file_bytes, uint8_t *memory, uint64_t base,
		    const struct pe_image *image);

#endif
