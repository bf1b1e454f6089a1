/* SPDX-License-Identifier: MIT */
/* Crash MSRs (TLFS "Guest Crash Enlightenment"): stored as written; the notification goes to the log, with the guest's text. */
#include <stdio.h>

#include <hv/msr.h>
#include <trivet/guest_access.h>
#include <trivet/guest_crash.h>
#include <trivet/hv_msr.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define LINE_CHARS 160u /* of the text, escapes included; with its head the line fits LOG_LINE_MAX */
#define CHUNK 64u

struct line {
	const struct vp *vp;
	char text[LINE_CHARS + 1];
	size_t used;
};

int hv_msr_read_crash_parameter(struct vp *vp, uint32_t msr, uint64_t *value)
{
	*value = atomic_load_explicit(&vp->partition->crash.parameters[msr - HV_MSR_CRASH_P0],
				      memory_order_relaxed);
	return 0;
}

int hv_msr_write_crash_parameter(struct vp *vp, uint32_t msr, uint64_t value)
{
	atomic_store_explicit(&vp->partition->crash.parameters[msr - HV_MSR_CRASH_P0], value,
			      memory_order_relaxed);
	return 0;
}

/* What can be asked for. */
int hv_msr_read_crash_control(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)vp;
	(void)msr;
	*value = HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE;
	return 0;
}

/* The root's end is the machine's; a child's matters to its parent. */
static enum log_level level_of(const struct vp *vp)
{
	return partition_is_root(vp->partition) ? LOG_ERROR : LOG_INFO;
}

static void end_line(struct line *line)
{
	if (!line->used)
		return;
	line->text[line->used] = 0;
	log_vp_at(level_of(line->vp), line->vp->partition->id, line->vp->index, "guest: %s", line->text);
	line->used = 0;
}

static void add_byte(struct line *line, uint8_t byte)
{
	if (byte == '\n') {
		end_line(line);
		return;
	}
	if (line->used > LINE_CHARS - 4)
		end_line(line);
	if (byte >= 0x20 && byte < 0x7f && byte != '\\')
		line->text[line->used++] = (char)byte;
	else
		line->used += (size_t)snprintf(line->text + line->used, 5, "\\x%02x", byte);
}

/* The guest names any bytes it likes: as many as we show, read once, as far as there is memory. */
static void log_text(struct vp *vp, uint64_t gpa, uint64_t bytes)
{
	struct line line = { .vp = vp };
	uint8_t chunk[CHUNK];

	if (bytes > GUEST_CRASH_TEXT_MAX)
		bytes = GUEST_CRASH_TEXT_MAX;
	while (bytes) {
		uint64_t count = CHUNK - gpa % CHUNK; /* never across a page */

		if (count > bytes)
			count = bytes;
		if (!guest_phys_read(vp, GPA(gpa), chunk, count))
			break;
		for (uint64_t i = 0; i < count; i++)
			add_byte(&line, chunk[i]);
		gpa += count;
		bytes -= count;
	}
	end_line(&line);
}

int hv_msr_write_crash_control(struct vp *vp, uint32_t msr, uint64_t value)
{
	uint64_t p[GUEST_CRASH_PARAMETERS];

	(void)msr;
	if (!(value & HV_CRASH_CTL_NOTIFY) || !log_ratelimit_allow(&vp->partition->crash.bucket))
		return 0;
	for (uint32_t i = 0; i < GUEST_CRASH_PARAMETERS; i++)
		p[i] = atomic_load_explicit(&vp->partition->crash.parameters[i], memory_order_relaxed);
	log_vp_at(level_of(vp), vp->partition->id, vp->index,
		  "the guest reports a crash: 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx", (unsigned long long)p[0],
		  (unsigned long long)p[1], (unsigned long long)p[2], (unsigned long long)p[3],
		  (unsigned long long)p[4]);
	if (value & HV_CRASH_CTL_MESSAGE)
		log_text(vp, p[3], p[4]);
	return 0;
}
