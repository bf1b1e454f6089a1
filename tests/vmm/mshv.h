/* SPDX-License-Identifier: MIT */
/*
 * /dev/mshv of Linux 7.2 as our small monitors use it: partitions, memory, VPs, and the hypercalls that the driver hands on. What the
 * driver answers wrongly ends the program, unless the function says that it returns an error (a negative errno).
 */
#ifndef VMM_MSHV_H
#define VMM_MSHV_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include <hv/hypercall.h>
#include <hv/intercept.h>
#include <hv/memory.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <hv/synic.h>
#include <hv/vp.h>
#include <hv/vp_state.h>

#define PAGE 4096u
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Ends the program with a line on stderr. */
void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* ---- Hypercalls through a file of /dev/mshv, of a partition or of a VP; the driver fills the partition's id in ---- */

struct answer {
	int error;	 /* 0 or a negative errno: the driver's, or what it made of `status` */
	uint16_t status; /* HV_STATUS_* */
	uint16_t reps;	 /* done */
};

struct answer hypercall(int fd, uint16_t code, uint16_t reps, const void *in, size_t in_bytes, void *out,
			size_t out_bytes);
struct answer get_property(int fd, uint32_t code, uint64_t *value);
struct answer set_property(int fd, uint32_t code, uint64_t value);
struct answer set_registers(int fd, uint32_t vp, const struct hv_register_assoc *registers,
			    unsigned int count);
struct answer get_registers(int fd, uint32_t vp, const uint32_t *names, union hv_register_value *values,
			    unsigned int count);
uint64_t get_register(int fd, uint32_t vp, uint32_t name);
void set_register(int fd, uint32_t vp, uint32_t name, uint64_t value);
/* The guest physical address of `gva`; false: no such translation. */
bool translate(int fd, uint32_t vp, uint64_t gva, bool write, uint64_t *gpa);
struct answer assert_interrupt(int fd, uint32_t type, uint32_t vector, uint64_t apic_id);

/* ---- Partitions ---- */

/* The uapi's MSHV_PT_BIT_*, as masks; its other numbers follow below. mshv.c compares them. */
#define PARTITION_LAPIC (1u << 0)
#define PARTITION_X2APIC (1u << 1)
#define PARTITION_SUPER_PAGES (1u << 2)
#define PARTITION_FLAGS (PARTITION_LAPIC | PARTITION_X2APIC | PARTITION_SUPER_PAGES)

/* What a partition of ours gets, if it has the hypervisor's interface at all (HV_SYNTHETIC_*). */
#define PARTITION_FEATURES                                                                     \
	(HV_SYNTHETIC_HYPERVISOR_PRESENT | HV_SYNTHETIC_HV1 | HV_SYNTHETIC_VP_RUNTIME |        \
	 HV_SYNTHETIC_REFERENCE_COUNTER | HV_SYNTHETIC_SYNIC | HV_SYNTHETIC_SYNTHETIC_TIMERS | \
	 HV_SYNTHETIC_APIC_MSRS | HV_SYNTHETIC_HYPERCALL_MSRS | HV_SYNTHETIC_VP_INDEX |        \
	 HV_SYNTHETIC_REFERENCE_TSC | HV_SYNTHETIC_GUEST_IDLE | HV_SYNTHETIC_FREQUENCY_MSRS |  \
	 HV_SYNTHETIC_DIRECT_TIMERS | HV_SYNTHETIC_EXTENDED_PROCESSOR_MASKS |                  \
	 HV_SYNTHETIC_FLUSH_HYPERCALLS | HV_SYNTHETIC_CLUSTER_IPI | HV_SYNTHETIC_ACCESS_VP_REGISTERS)

int open_mshv(void);
/* A partition that isn't initialized yet. try_: returns an error. */
int create_partition(int dev, uint64_t flags);
int try_create_partition(int dev, uint64_t flags);
void initialize_partition(int partition);
/* Zeroed memory for a guest, aligned to 2 MiB where it is that large. */
void *allocate_memory(size_t bytes);
#define MEMORY_READ 0u
#define MEMORY_WRITE (1u << 0)
#define MEMORY_EXECUTE (1u << 1)
#define MEMORY_ALL (MEMORY_WRITE | MEMORY_EXECUTE)
void map_memory(int partition, uint64_t gpa, void *memory, size_t bytes, uint8_t flags);
int try_map_memory(int partition, uint64_t gpa, void *memory, size_t bytes, uint8_t flags);
int unmap_memory(int partition, uint64_t gpa, void *memory, size_t bytes);
/* A bit for each page from `gpa` on that was written since they were cleared; `clears` does. */
int get_dirty_pages(int partition, uint64_t gpa, size_t bytes, bool clears, void *bitmap);

/* ---- Interrupts and doorbells by event file ---- */

/* Route number `gsi` becomes a message-signalled interrupt of `vector` to `apic_id`; the only route there is. */
void route_interrupt(int partition, uint32_t gsi, uint8_t vector, uint8_t apic_id);
int attach_interrupt(int partition, int event_fd, uint32_t gsi);
/* A store of `bytes` bytes to `gpa` writes to `event_fd`, and the guest goes on. */
int attach_doorbell(int partition, int event_fd, uint64_t gpa, uint32_t bytes);

/* ---- VPs ---- */

int create_vp(int partition, uint32_t index);
int try_create_vp(int partition, uint32_t index);
#define REGISTER_PAGE 0u
#define INTERCEPT_PAGE 1u
/* A page that the hypervisor shares; NULL: this one has none. */
void *map_state_page(int vp, unsigned int which);
/* Runs until the VP needs its monitor: 0 with a message, or an error, -EINTR after a signal. */
int run_vp(int vp, struct hv_message *message);
enum vp_state { STATE_LAPIC, STATE_XSAVE, STATE_SIMP, STATE_SIEFP, STATE_TIMERS, STATES };
/* `buffer` is one page, page-aligned. */
int get_vp_state(int vp, enum vp_state type, void *buffer);
int set_vp_state(int vp, enum vp_state type, void *buffer);
/* Real mode at physical address `entry` (below 64 KiB), all segments with base 0. */
void start_in_real_mode(int vp, uint32_t index, uint16_t entry);

/* Bytes of the intercepted instruction. */
static inline unsigned int instruction_length(const struct hv_x64_intercept_header *header)
{
	return header->length_and_cr8 & 0xf;
}

const char *message_name(uint32_t type);

#endif
