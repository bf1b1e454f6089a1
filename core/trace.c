/* SPDX-License-Identifier: MIT */
/*
 * Reading an LP's ring of recent exits. The ring may belong to an LP that still runs or was stopped in the middle of a
 * write; an entry may then be torn, which diagnostics can live with.
 */
#include <errno.h>
#include <stdio.h>
#include <trivet/trace.h>

int trace_recent(const struct trace_ring *ring, uint32_t age, struct trace_entry *out)
{
	if (age >= TRACE_ENTRIES)
		return -ENOENT;
	*out = ring->entries[(ring->next / sizeof(*out) - 1 - age) % TRACE_ENTRIES];
	return out->tsc ? 0 : -ENOENT;
}

static void dump_one(const struct trace_entry *e, uint64_t newest_tsc, trace_name_fn name, trace_out_fn out,
		     void *context)
{
	const char *word = name ? name(e->code) : NULL;
	char line[128], number[16];

	if (!word) {
		snprintf(number, sizeof(number), "code %x", (unsigned int)e->code);
		word = number;
	}
	snprintf(line, sizeof(line), "%12lld vp%-4u %-14s rip %016llx info %016llx",
		 (long long)(e->tsc - newest_tsc), (unsigned int)e->vp_index, word,
		 (unsigned long long)e->rip, (unsigned long long)e->info);
	out(context, line);
}

void trace_dump(const struct trace_ring *ring, uint32_t count, trace_name_fn name, trace_out_fn out,
		void *context)
{
	struct trace_entry entry;
	uint64_t newest_tsc;

	if (trace_recent(ring, 0, &entry))
		return;
	newest_tsc = entry.tsc;
	for (uint32_t age = count < TRACE_ENTRIES ? count : TRACE_ENTRIES; age-- > 0;) {
		if (!trace_recent(ring, age, &entry))
			dump_one(&entry, newest_tsc, name, out, context);
	}
}
