/* SPDX-License-Identifier: MIT */
/*
 * A guest goes on in another partition: all that its VP has is read through the driver, the partition is deleted, and a new one gets it,
 * with its time frozen meanwhile. The order is that of the large monitors: registers, then the components of state, then time.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "machine.h"

#define STORM_US 3000
#define PARKED_US 200
#define PAUSE_US 2000 /* in which a frozen partition's time stands still */

/* In the order in which they are set: what one needs comes before it. `or_not`: not every processor has it. */
static const struct {
	uint32_t first, count;
	bool or_not;
} registers[] = {
	{ HV_REGISTER_X64_RAX, 18, false }, /* to RFLAGS */
	{ HV_REGISTER_X64_EFER, 1, false },
	{ HV_REGISTER_X64_APIC_BASE, 1, false },
	{ HV_REGISTER_X64_CR0, 1, false },
	{ HV_REGISTER_X64_CR2, 1, false },
	{ HV_REGISTER_X64_CR3, 1, false },
	{ HV_REGISTER_X64_CR4, 1, false },
	{ HV_REGISTER_X64_CR8, 1, false },
	{ HV_REGISTER_X64_XFEM, 1, true },
	{ HV_REGISTER_X64_ES, 8, false },
	{ HV_REGISTER_X64_IDTR, 2, false },
	{ HV_REGISTER_X64_DR0, 6, false },
	{ HV_REGISTER_X64_KERNEL_GS_BASE, 1, false },
	{ HV_REGISTER_X64_PAT, 1, false },
	{ HV_REGISTER_X64_SYSENTER_CS, 3, false },
	{ HV_REGISTER_X64_STAR, 4, false }, /* to SFMASK */
	{ HV_REGISTER_X64_MTRR_DEF_TYPE, 1, false },
	{ HV_REGISTER_X64_MTRR_PHYS_BASE0, 8, false },
	{ HV_REGISTER_X64_MTRR_PHYS_MASK0, 8, false },
	{ HV_REGISTER_X64_MTRR_FIX64K00000, 11, false },
	{ HV_REGISTER_X64_TSC_AUX, 1, true },
	{ HV_REGISTER_X64_SPEC_CTRL, 1, true },
	{ HV_REGISTER_GUEST_OS_ID, 1, false },
	{ HV_REGISTER_X64_HYPERCALL, 1, false },
	{ HV_REGISTER_REFERENCE_TSC, 1, false },
	{ HV_REGISTER_VP_ASSIST_PAGE, 1, false },
	{ HV_REGISTER_SINT0, 16, false },
	{ HV_REGISTER_SCONTROL, 1, false },
	{ HV_REGISTER_SIEFP, 2, false }, /* and SIMP */
	{ HV_REGISTER_X64_TSC, 1, false },
	{ HV_REGISTER_X64_TSC_ADJUST, 1, true },
	{ HV_REGISTER_X64_PENDING_INTERRUPTION, 2, false }, /* and the interrupt state */
	{ HV_REGISTER_PENDING_EVENT0, 1, false },
	{ HV_REGISTER_INTERNAL_ACTIVITY_STATE, 1, false },
};

/* The local APIC's image comes before it, for the timer's mode. */
static const uint32_t late = HV_REGISTER_X64_TSC_DEADLINE;

#define NAMES_MAX 128u

struct saved_vp {
	struct hv_register_assoc list[NAMES_MAX];
	unsigned int count;
	bool has_deadline;
	union hv_register_value deadline;
	uint8_t *state[STATES];
};

static struct saved_vp saved_vps[VPS_MAX];
static uint8_t *saved_memory;
static uint64_t saved_time_100ns;
static volatile sig_atomic_t wanted;
static uint32_t moves, planned;

static void on_signal(int signal)
{
	(void)signal;
}

/* The next of those at any moment, after as much time again as the guest needs to get on; or none. A signal may miss RUN_VP. */
static void plan(bool next)
{
	const suseconds_t us = next ? STORM_US * (1 + moves % 3) : 0;
	const struct itimerval time = { .it_value.tv_usec = us, .it_interval.tv_usec = us };

	if (setitimer(ITIMER_REAL, &time, NULL))
		die("save: no timer: %s", strerror(errno));
}

static bool on_port(struct vp *vp, uint16_t port, unsigned int bytes, bool write, uint32_t *value)
{
	(void)vp;
	if (port != SAVE_PORT || bytes != 4)
		return false;
	if (!write)
		*value = moves;
	else if (*value)
		planned = *value;
	else
		wanted = true;
	if (write && planned)
		plan(true);
	return true;
}

/* ---- Saving ---- */

static bool read_one(struct vp *vp, uint32_t name, union hv_register_value *value)
{
	return !get_registers(vp->fd, vp->index, &name, value, 1).error;
}

static void save_registers(struct vp *vp, struct saved_vp *saved)
{
	saved->count = 0;
	for (unsigned int i = 0; i < ARRAY_LEN(registers); i++) {
		for (uint32_t j = 0; j < registers[i].count; j++) {
			struct hv_register_assoc *one = &saved->list[saved->count];

			*one = (struct hv_register_assoc){ .name = registers[i].first + j };
			if (read_one(vp, one->name, &one->value))
				saved->count++;
			else if (!registers[i].or_not)
				die("save: register %#x can't be read", one->name);
		}
	}
	saved->has_deadline = read_one(vp, late, &saved->deadline);
}

static void save_vp(struct vp *vp, struct saved_vp *saved)
{
	save_registers(vp, saved);
	for (unsigned int i = 0; i < STATES; i++) {
		int r = get_vp_state(vp->fd, (enum vp_state)i, saved->state[i]);

		if (r)
			die("save: state %u can't be read: %s", i, strerror(-r));
	}
}

static uint64_t reference_time(int partition)
{
	uint64_t time;
	struct answer a = get_property(partition, HV_PROPERTY_REFERENCE_TIME, &time);

	if (a.error)
		die("save: no reference time: status %#x", a.status);
	return time;
}

static void set(int partition, uint32_t property, uint64_t value)
{
	struct answer a = set_property(partition, property, value);

	if (a.error)
		die("save: property %#x = %llu: status %#x", property, (unsigned long long)value, a.status);
}

static void stands_still(int partition, uint64_t time)
{
	uint64_t now;

	usleep(PAUSE_US);
	now = reference_time(partition);
	if (now != time)
		die("save: frozen at %llu, the reference time is %llu", (unsigned long long)time,
		    (unsigned long long)now);
}

static void save(struct machine *m)
{
	set(m->partition, HV_PROPERTY_TIME_FREEZE, 1);
	saved_time_100ns = reference_time(m->partition);
	stands_still(m->partition, saved_time_100ns); /* and other timers come to their end */
	for (uint32_t i = 0; i < m->vp_count; i++)
		save_vp(&m->vp[i], &saved_vps[i]);
	saved_memory = m->memory;
	machine_delete(m);
}

/* ---- Restoring ---- */

/* What the guest never touched isn't there. */
static void restore_memory(struct machine *m)
{
	size_t pages = m->bytes / PAGE;
	uint8_t *there = malloc(pages);

	if (!there || mincore(saved_memory, m->bytes, there))
		die("save: no list of pages: %s", strerror(errno));
	for (size_t i = 0; i < pages; i++)
		if (there[i] & 1)
			memcpy(m->memory + i * PAGE, saved_memory + i * PAGE, PAGE);
	free(there);
	munmap(saved_memory, m->bytes);
}

static void restore_registers(struct vp *vp, const struct saved_vp *saved)
{
	for (unsigned int i = 0; i < saved->count; i++) {
		struct answer a = set_registers(vp->fd, vp->index, &saved->list[i], 1);

		if (a.error)
			die("save: register %#x can't be set to %#llx: status %#x", saved->list[i].name,
			    (unsigned long long)saved->list[i].value.reg64, a.status);
	}
}

static void restore_vp(struct vp *vp, struct saved_vp *saved)
{
	restore_registers(vp, saved);
	for (unsigned int i = 0; i < STATES; i++) {
		int r = set_vp_state(vp->fd, (enum vp_state)i, saved->state[i]);

		if (r)
			die("save: state %u can't be set: %s", i, strerror(-r));
	}
	if (saved->has_deadline)
		set_register(vp->fd, vp->index, late, saved->deadline.reg64);
}

static void restore(struct machine *m, int dev)
{
	machine_create(m, dev);
	set(m->partition, HV_PROPERTY_TIME_FREEZE, 1);
	restore_memory(m);
	for (uint32_t i = 0; i < m->vp_count; i++)
		restore_vp(&m->vp[i], &saved_vps[i]);
	set(m->partition, HV_PROPERTY_REFERENCE_TIME, saved_time_100ns);
	stands_still(m->partition, saved_time_100ns);
	set(m->partition, HV_PROPERTY_TIME_FREEZE, 0);
}

/* ---- All VPs ---- */

static atomic_bool parking;
static atomic_uint parked;

static void *other_vp(void *argument)
{
	for (;;) {
		if (atomic_load(&parking)) {
			atomic_fetch_add(&parked, 1);
			while (atomic_load(&parking))
				usleep(PARKED_US);
			atomic_fetch_sub(&parked, 1);
		}
		vp_run(argument);
	}
	return NULL;
}

static void begin_others(struct machine *m)
{
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM); /* for VP 0 */
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	for (uint32_t i = 1; i < m->vp_count; i++)
		if (pthread_create(&m->vp[i].thread, NULL, other_vp, &m->vp[i]))
			die("save: no thread");
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
}

static void park_others(struct machine *m)
{
	atomic_store(&parking, true);
	while (atomic_load(&parked) < m->vp_count - 1) {
		for (uint32_t i = 1; i < m->vp_count; i++)
			pthread_kill(m->vp[i].thread, SIGUSR1);
		usleep(PARKED_US);
	}
}

static void go_on(void)
{
	atomic_store(&parking, false);
	while (atomic_load(&parked))
		usleep(PARKED_US);
}

void machine_run_moving(struct machine *m, int dev)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	m->port = on_port;
	for (uint32_t vp = 0; vp < m->vp_count; vp++)
		for (unsigned int i = 0; i < STATES; i++)
			saved_vps[vp].state[i] = allocate_memory(PAGE);
	begin_others(m);
	for (;;) {
		if (vp_run(&m->vp[0]) && !wanted)
			continue;
		wanted = false;
		plan(false);
		park_others(m);
		save(m);
		restore(m, dev);
		go_on();
		moves++;
		if (planned && --planned)
			plan(true);
	}
}
