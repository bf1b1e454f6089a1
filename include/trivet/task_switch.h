/* SPDX-License-Identifier: MIT */
/*
 * A hardware task switch in software (SDM3 chapter 8, APM2 chapter 12): saves the old task in its TSS, loads the new one.
 * For processors that leave it to the hypervisor. Only outside IA-32e mode, so everything has 32 bits. Pure logic: memory
 * and CR3 are the caller's, who turns `struct task_state` from and into its control block.
 */
#ifndef TRIVET_TASK_SWITCH_H
#define TRIVET_TASK_SWITCH_H

#include <trivet/types.h>

enum task_source { TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE }; /* the last: an event through the IDT */

struct task_segment {
	uint16_t selector;
	uint16_t rights; /* descriptor bits 47:40 at 7:0, 55:52 at 15:12 */
	uint32_t limit;	 /* in bytes */
	uint32_t base;
	bool unusable;
};

struct task_state {
	uint32_t gpr[8]; /* by their numbers in an instruction */
	uint32_t eip;	 /* where the old task goes on: behind the instruction, if one switches */
	uint32_t eflags, cr0, cr3, dr7;
	struct task_segment segment[6]; /* ES CS SS DS FS GS */
	struct task_segment ldtr, tr;
	uint32_t gdt_base;
	uint16_t gdt_limit;
	bool switched;	 /* out: this is the new task; else nothing here has changed */
	bool debug_trap; /* out: the new TSS asks for #DB with DR6.BT */
};

struct task_switch {
	uint16_t selector; /* of the new TSS */
	enum task_source source;
	bool external; /* the event was no instruction of the guest: EXT in error codes */
	bool has_error;
	uint32_t error; /* goes to the new task's stack */
};

/* The guest gets this exception; `cr2` for #PF. */
struct task_fault {
	uint8_t vector;
	uint32_t error;
	uint32_t cr2;
};

/* Guest memory by linear address. 0, or -EFAULT with `fault` filled; other errors are handed through. */
struct task_memory {
	void *space;
	int (*read)(void *space, uint32_t linear, void *buf, uint32_t size, struct task_fault *fault);
	/* `user`: by the new task itself, else a supervisor's */
	int (*write)(void *space, uint32_t linear, const void *buf, uint32_t size, bool user,
		     struct task_fault *fault);
	/* Could write() of a supervisor do it? */
	int (*may_write)(void *space, uint32_t linear, uint32_t size, struct task_fault *fault);
	/* From now on `linear` goes through this CR3. -EINVAL: its PDPTEs are bad. */
	int (*load_cr3)(void *space, uint32_t cr3);
};

/*
 * 0: the new task runs. -EFAULT: the guest gets `fault`, in the old task when nothing happened yet, else in the new one;
 * either way `state` is what it gets it in. The privilege checks before the TSS is looked at (SDM3 26.4.2) are the processor's.
 */
int task_switch(struct task_state *state, const struct task_switch *request, const struct task_memory *memory,
		struct task_fault *fault);

#endif
