/* SPDX-License-Identifier: MIT */
/*
 * A machine for one bare-metal guest in a child partition: RAM from address 0, VPs with a thread each, the firmware that
 * tests/guests/lib expects, a serial port, the exit port, and nothing else. The guest's address space is identity mapped while the
 * firmware is called (UEFI 2.10 2.3.4).
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <pthread.h>
#include <stdio.h>

#include "mshv.h"

#define VPS_MAX 16u

/* The hole between RAM below 640 KiB and the firmware's 256 KiB, which end at 1 MiB. */
#define HOLE 0xa0000u
#define FIRMWARE 0xc0000u
#define RAM_HIGH 0x100000u

/* How a run ended that the guest didn't end itself; else its exit code. */
#define ENDED_TRIPLE_FAULT 101
#define ENDED_UNMAPPED 102
#define ENDED_MONITOR 103
#define ENDED_RESET 104
#define ENDED_USAGE 64

struct machine;

struct vp {
	struct machine *machine;
	uint32_t index;
	int fd;
	struct hv_vp_register_page *page; /* NULL: registers only by hypercall */
	pthread_t thread;
};

/* A port or address of whoever uses the machine. True: it was his. Reads set *value. */
typedef bool (*port_handler)(struct vp *vp, uint16_t port, unsigned int bytes, bool write, uint32_t *value);

/* A message of a kind that the machine itself has no answer to. */
typedef bool (*message_handler)(struct vp *vp, const struct hv_message *message);

struct machine {
	size_t bytes; /* of RAM, from address 0 to its end, the hole included */
	unsigned int vp_count;
	const char *load_options;
	uint64_t privileges;	 /* HV_PRIVILEGE_*: property PRIVILEGE_FLAGS; 0: the hypervisor's choice */
	bool registers_by_call;	 /* don't use the register page */
	bool plain;		 /* nothing of the hypervisor's interface */
	bool trace;		 /* each message on stderr */
	bool stop_at_unmapped;	 /* also where the instruction is understood */
	port_handler port;	 /* NULL: none */
	message_handler message; /* NULL: none */
	uint64_t features;	 /* HV_SYNTHETIC_*, besides PARTITION_FEATURES */
	FILE *serial;

	int partition;
	uint8_t *memory;
	struct vp vp[VPS_MAX];

	uint32_t tsc_khz, counter;
	uint64_t image_base, image_bytes;
	uint64_t low_end; /* of free memory below 640 KiB */
	uint8_t line_control;
};

/* Makes partition, memory and VPs, loads the application and leaves VP 0 at its entry. Ends the program where it can't. */
void machine_make(struct machine *machine, int dev, const char *image_path);
/* Its partition with zeroed memory and VPs alone, nothing loaded; and their end, which leaves the memory to the caller. */
void machine_create(struct machine *machine, int dev);
void machine_delete(struct machine *machine);
/* Runs a VP until it needs its monitor, and does what it needs; false: a signal came instead. */
bool vp_run(struct vp *vp);
/* Runs all VPs; ends the program with the guest's exit code. */
void machine_run(struct machine *machine) __attribute__((noreturn));
/* Ends the program from any thread, with all that was printed. */
void machine_end(struct machine *machine, int status) __attribute__((noreturn));

/* `bytes` of RAM at `gpa`, or NULL where that isn't all RAM. */
void *ram_at(const struct machine *machine, uint64_t gpa, uint64_t bytes);

/* ---- Registers while a message is handled: by the page where there is one ---- */

uint64_t vp_general(struct vp *vp, unsigned int number); /* 0 RAX, 1 RCX, 2 RDX, ... as in instructions */
void vp_set_general(struct vp *vp, unsigned int number, uint64_t value);
void vp_set_rip(struct vp *vp, uint64_t rip);
void vp_inject_gp(struct vp *vp);

/* ---- save.c ---- */

/*
 * Runs all VPs. The guest goes on in another partition when VP 0 writes 0 to SAVE_PORT, or so often as it writes, at any moment. It reads
 * how often it was so far. Ends the program as machine_run().
 */
#define SAVE_PORT 0xe8u
void machine_run_moving(struct machine *machine, int dev) __attribute__((noreturn));

/* ---- devices.c ---- */

void handle_port(struct vp *vp, const struct hv_message *message);

/* ---- firmware.c ---- */

#define FIRMWARE_PORT 0xb2u /* OUT of AX with a number in it: a call of the firmware's tables */

/* Tables, page tables, stack; the application's arguments and the registers of VP 0. */
void firmware_prepare(struct machine *machine, uint64_t entry);
void firmware_call(struct vp *vp, uint32_t number);

#endif
