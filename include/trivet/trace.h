/* SPDX-License-Identifier: MIT */
/*
 * The last VM exits of one LP, in every build: a ring inside the LP's own structure, written only by that LP with
 * about a dozen instructions and no branch, read by panic and diagnostics.
 */
#ifndef TRIVET_TRACE_H
#define TRIVET_TRACE_H

#include <trivet/io.h>
#include <trivet/types.h>

#define TRACE_ENTRIES 64u /* a power of two */

struct trace_entry {
	uint64_t tsc;  /* 0: never written */
	uint64_t rip;  /* of the guest */
	uint64_t info; /* what matters for this code: fault address, MSR number, port */
	uint32_t code; /* the back end's exit code */
	uint32_t vp_index;
};
static_assert(sizeof(struct trace_entry) == 32, "trace_entry");

struct trace_ring {
	uint32_t next;	   /* offset in bytes of the oldest entry, the next one to be overwritten */
	uint32_t vp_index; /* goes into each entry; set by whoever switches VPs */
	struct trace_entry entries[TRACE_ENTRIES];
};

#define TRACE_BYTES (TRACE_ENTRIES * (uint32_t)sizeof(struct trace_entry))

static inline struct trace_entry *trace_at(struct trace_ring *ring, uint32_t offset)
{
	return (struct trace_entry *)((char *)ring->entries + offset);
}

/* Notes one exit. Only the LP that owns the ring calls this. */
static inline __attribute__((always_inline)) void trace_exit(struct trace_ring *ring, uint32_t code,
							     uint64_t rip, uint64_t info)
{
	uint32_t next = ring->next;
	/* volatile: two narrow stores are fewer instructions than what compilers make of merging them */
	volatile struct trace_entry *entry = trace_at(ring, next);

	ring->next = (next + (uint32_t)sizeof(*entry)) & (TRACE_BYTES - 1);
	store_tsc(&entry->tsc);
	entry->rip = rip;
	entry->info = info;
	entry->code = code;
	entry->vp_index = ring->vp_index;
}

/* A better `info` for the exit just noted. */
static inline void trace_info(struct trace_ring *ring, uint64_t info)
{
	trace_at(ring, (ring->next - (uint32_t)sizeof(struct trace_entry)) & (TRACE_BYTES - 1))->info = info;
}

/* Copies the entry that is `age` exits old (0: the newest) to *out. -ENOENT: there was none. */
int trace_recent(const struct trace_ring *ring, uint32_t age, struct trace_entry *out);

/* A short name for an exit code, or NULL for a code it does not know. */
typedef const char *(*trace_name_fn)(uint32_t code);

/* Takes one formatted line, NUL terminated, without newline. */
typedef void (*trace_out_fn)(void *context, const char *line);

/* Formats up to `count` of the newest entries, oldest first, one line each, with TSC relative to the newest. */
void trace_dump(const struct trace_ring *ring, uint32_t count, trace_name_fn name, trace_out_fn out,
		void *context);

#endif
