/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's log: printf-style lines with level and time, kept in a 64 KiB ring and passed to up to
 * LOG_SINKS_MAX sinks (UART, framebuffer). Callable from every LP and from NMI handlers; a line is never mixed with
 * another. Hot exit paths write no log; a line that a guest can provoke goes through log_ratelimited().
 *
 * A line reads `[    1.234567] info  text`. Formats are integers, strings, characters and pointers only (no floats).
 * Control and non-ASCII bytes come out as '?', so that a guest's strings can't drive a terminal.
 */
#ifndef TRIVET_LOG_H
#define TRIVET_LOG_H

#include <stdarg.h>
#include <trivet/types.h>

#define LOG_RING_SIZE 65536u /* bytes, a power of two */
#define LOG_LINE_MAX 256u /* bytes of one line with its time, level and newline; a longer one ends in "..." */
#define LOG_SINKS_MAX 4u
#define LOG_RATELIMIT_BURST 10u	      /* lines per bucket and interval */
#define LOG_RATELIMIT_INTERVAL_S 5ull /* seconds */

/* The value in struct boot_handoff; a line is kept when its level is <= the threshold. */
enum log_level {
	LOG_ERROR = 0,
	LOG_WARN = 1,
	LOG_INFO = 2,
	LOG_ABI = 3, /* each hypercall and MSR access that is refused */
	LOG_DEBUG = 4,
};

/*
 * A place lines go to. `write` gets whole lines of `length` bytes ending in '\n' (no NUL, no '\r'), one call at a
 * time except in panic mode; it must return in bounded time and must not log. The owner keeps the structure alive
 * while it is added.
 */
struct log_sink {
	void (*write)(struct log_sink *sink, const char *text, size_t length);
};

/* Lines let through per bucket: {0}-initialised, one for each thing a guest can provoke (and each partition or VP). */
struct log_ratelimit {
	uint64_t window_tsc; /* start of the interval */
	uint32_t count;	     /* lines let through in it */
	uint32_t suppressed; /* lines held back since the last report */
};

extern enum log_level log_threshold;

/* Lines above `level` are no longer kept. Values beyond LOG_DEBUG mean LOG_DEBUG. Start value: LOG_INFO. */
void log_set_level(uint32_t level);

/*
 * From now on times are seconds since TSC value `zero_tsc`, at `tsc_hz` ticks per second (0: unknown). Until then a
 * line's time is dashes. A TSC below zero_tsc shows as 0.
 */
void log_set_clock(uint64_t tsc_hz, uint64_t zero_tsc);

/*
 * Adds a sink; with `replay` it first gets all lines still in the ring. -EEXIST: already there, -ENOSPC: LOG_SINKS_MAX
 * reached, -EBUSY: another LP held the log for too long.
 */
int log_add_sink(struct log_sink *sink, bool replay);

/* Removes a sink; after return it is not called any more. -ENOENT: not there, -EBUSY as above. */
int log_remove_sink(struct log_sink *sink);

/* From now on the lock is ignored: for panic, when the LP that holds it may be stopped. No way back. */
void log_enter_panic(void);

/*
 * Writes one line; use the macros below. A trailing newline in the format is not needed and not doubled. It is lost if the lock can't be
 * had in time (another LP is stuck in a sink, or this is an NMI inside the log): the next line that is written says so.
 */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether the bucket lets a line through now; also writes "N lines suppressed" when an interval with losses is over. */
bool log_ratelimit_allow(struct log_ratelimit *bucket);

#define log_at(level, ...)                                        \
	do {                                                      \
		if ((uint32_t)(level) <= (uint32_t)log_threshold) \
			log_write((level), __VA_ARGS__);          \
	} while (0)

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* log_ratelimited(&bucket, LOG_WARN, "format", ...) */
#define log_ratelimited(bucket, level, ...)                                                      \
	do {                                                                                     \
		if ((uint32_t)(level) <= (uint32_t)log_threshold && log_ratelimit_allow(bucket)) \
			log_write((level), __VA_ARGS__);                                         \
	} while (0)

/* A line about a VP: `p1/vp0: text`. `pid` is the partition id, `vpi` the VP index; the format is a string literal. */
#define log_vp_at(level, pid, vpi, format, ...) \
	log_at(level, "p%llu/vp%u: " format, (unsigned long long)(pid), (unsigned int)(vpi), ##__VA_ARGS__)
#define log_vp_error(pid, vpi, ...) log_vp_at(LOG_ERROR, pid, vpi, __VA_ARGS__)
#define log_vp_warn(pid, vpi, ...) log_vp_at(LOG_WARN, pid, vpi, __VA_ARGS__)
#define log_vp_info(pid, vpi, ...) log_vp_at(LOG_INFO, pid, vpi, __VA_ARGS__)
#define log_vp_debug(pid, vpi, ...) log_vp_at(LOG_DEBUG, pid, vpi, __VA_ARGS__)

/* The same for what a guest can provoke. */
#define log_vp_ratelimited(bucket, level, pid, vpi, format, ...)                         \
	log_ratelimited(bucket, level, "p%llu/vp%u: " format, (unsigned long long)(pid), \
			(unsigned int)(vpi), ##__VA_ARGS__)

#endif
