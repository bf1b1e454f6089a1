/* unit: vmx/child_exit.c vmx/child_intercepts.c vmx/names.c */
/* SPDX-License-Identifier: MIT */
/* Exits of children's VPs, by a VMCS that is an array: what is told to the parent, what is answered here and how, and that nothing panics. */
#include "vmx/switch.h"
#include "vmcs_fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/exceptions.h>
#include <trivet/guest_msrs.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/log.h>
#include <trivet/partition.h>

#define RIP 0x1000
#define LENGTH 3

struct vmx_machine vmx;
enum log_level log_threshold = LOG_WARN;

static struct vp *vp, *root;
static struct lp lp;
static struct partition partition;
static struct apic_page apic_page;
static struct vmx_vp_page page;
static uint64_t exit_counts[VP_EXIT_COUNTS];
static uint64_t cr2, dr6, cr2_of_reads;

static unsigned int unrecoverable, relaunches, windows, delivered, hypercalls, halts, requeued, switches,
	dr_users;
static unsigned int synthetic;
static int32_t injected; /* vector, -1: none */
static bool injected_has_error, msr_fails, window_has_some, x2apic_takes;
static uint32_t injected_error, accessed_msr;
static uint64_t msr_value;
static struct io_exit io;
static struct memory_exit memory;
static unsigned int ios, memories, woken, held;
static uint32_t handled_vector;
static enum fault_result memory_result;
/* What the parent wants, and what it is told. */
static struct {
	bool more_exits, wants, unknown, takes, open;
	unsigned int cpuids, msrs, exceptions, linear_bits;
	struct cpuid_exit cpuid;
	struct msr_exit msr;
	struct exception_exit exception;
} parents;

uint64_t read_cr2(void)
{
	return cr2;
}

void write_cr2(uint64_t value)
{
	cr2 = value;
}

uint64_t read_dr(unsigned int index)
{
	assert_int_equal(index, 6);
	return dr6;
}

void write_dr(unsigned int index, uint64_t value)
{
	assert_int_equal(index, 6);
	dr6 = value;
}

uint64_t rdtsc(void)
{
	return 0;
}

void panic(const char *format, ...)
{
	fail_msg("panic: %s", format);
	abort();
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	assert_true(strstr(format, "p%llu/vp%u: ") == format);
}

void intercept_io(struct vp *of, const struct io_exit *exit)
{
	assert_ptr_equal(of, vp);
	io = *exit;
	ios++;
}

enum fault_result intercept_memory(struct vp *of, const struct memory_exit *exit)
{
	assert_ptr_equal(of, vp);
	memory = *exit;
	memories++;
	if (cr2_of_reads)
		cr2 = cr2_of_reads;
	return memory_result;
}

bool intercepts_want_more_exits(const struct vp *of, bool (*exits)(uint32_t msr, bool is_write))
{
	assert_ptr_equal(of, vp);
	assert_ptr_equal(exits, vmx_child_msr_exits);
	return parents.more_exits;
}

bool vmx_child_msr_exits(uint32_t msr, bool is_write)
{
	(void)is_write;
	return msr != MSR_LSTAR && msr != MSR_EFER;
}

int vmx_switched_msr(uint32_t msr)
{
	return msr == MSR_SPEC_CTRL ? 0 : -1;
}

bool intercepts_want_cpuid(const struct vp *of, uint32_t leaf)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(leaf, 0x80000001);
	return parents.wants;
}

bool intercepts_want_msr(const struct vp *of, uint32_t msr, bool is_write)
{
	(void)msr;
	(void)is_write;
	assert_ptr_equal(of, vp);
	return parents.wants;
}

bool intercept_wants_unknown_msr(const struct vp *of, uint32_t msr, bool is_write)
{
	(void)msr;
	(void)is_write;
	assert_ptr_equal(of, vp);
	return parents.unknown;
}

void intercept_cpuid(struct vp *of, const struct cpuid_exit *exit)
{
	assert_ptr_equal(of, vp);
	parents.cpuid = *exit;
	parents.cpuids++;
}

void intercept_msr(struct vp *of, const struct msr_exit *exit)
{
	assert_ptr_equal(of, vp);
	parents.msr = *exit;
	parents.msrs++;
}

bool intercept_exception(struct vp *of, const struct exception_exit *exit)
{
	assert_ptr_equal(of, vp);
	parents.exception = *exit;
	parents.exceptions++;
	return !parents.open;
}

bool guest_msr_takes(uint32_t msr, uint64_t value, unsigned int linear_bits)
{
	(void)value;
	assert_int_equal(msr, MSR_LSTAR);
	parents.linear_bits = linear_bits;
	return parents.takes;
}

void vmx_set_guest_efer(uint64_t value)
{
	vmcs[VMCS_GUEST_EFER] = value;
}

void intercept_unrecoverable(struct vp *of)
{
	assert_ptr_equal(of, vp);
	unrecoverable++;
}

int vmx_check(const struct vmx_machine *machine, char *why, size_t size)
{
	assert_ptr_equal(machine, &vmx);
	assert_true(why && size);
	return -EINVAL;
}

void vmx_relaunch(struct vp *of)
{
	assert_ptr_equal(of, vp);
	relaunches++;
}

void vmx_inject_exception(struct vp *of, uint8_t vector, bool has_error, uint32_t error)
{
	assert_ptr_equal(of, vp);
	injected = vector;
	injected_has_error = has_error;
	injected_error = error;
}

void vmx_requeue_event(struct vp *of, uint32_t event)
{
	assert_ptr_equal(of, vp);
	assert_true(event & EVENT_VALID);
	requeued++;
}

void vmx_handle_nmi(struct vp *of)
{
	assert_ptr_equal(of, vp);
	vp_post(root, VP_PENDING_NMI);
}

void vmx_open_window(void)
{
	windows++;
}

bool lp_handle_interrupts(struct lp *here)
{
	assert_ptr_equal(here, &lp);
	return window_has_some;
}

bool lp_handle_vector(struct lp *here, uint8_t vector)
{
	assert_ptr_equal(here, &lp);
	handled_vector = vector;
	return true;
}

void vmx_deliver_interrupt(struct vp *of)
{
	assert_ptr_equal(of, vp);
	delivered++;
}

void vmx_handle_interrupt_window(struct vp *of)
{
	assert_ptr_equal(of, vp);
	windows++;
}

void vmx_handle_nmi_window(struct vp *of)
{
	assert_ptr_equal(of, vp);
	windows++;
}

void vp_extint_hold(struct vp *of)
{
	assert_ptr_equal(of, root);
	of->extint_held = true;
	held++;
}

void vp_wake_here(struct vp *of)
{
	assert_ptr_equal(of, root);
	woken++;
}

void vp_send_init(struct vp *of)
{
	assert_ptr_equal(of, root);
	woken++;
}

void vp_cpuid(struct vp *of, uint64_t cr4)
{
	assert_int_equal(cr4, 0x20);
	of->gpr[GPR_RAX] = of->gpr[GPR_RBX] = of->gpr[GPR_RCX] = of->gpr[GPR_RDX] = UINT32_MAX;
}

uint64_t vmx_guest_cr4(const struct vp *of)
{
	assert_ptr_equal(of, vp);
	return 0x20;
}

int vmx_get_msr(struct vp *of, uint32_t msr, uint64_t *value)
{
	assert_ptr_equal(of, vp);
	accessed_msr = msr;
	*value = msr_value;
	return msr_fails ? -EINVAL : 0;
}

int vmx_set_msr(struct vp *of, uint32_t msr, uint64_t value)
{
	assert_ptr_equal(of, vp);
	accessed_msr = msr;
	msr_value = value;
	return msr_fails ? -EINVAL : 0;
}

void vmx_handle_synthetic_rdmsr(struct vp *of, uint64_t rip, uint32_t msr)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(rip, RIP);
	assert_int_equal(msr, 0x40000000);
	synthetic++;
}

void vmx_handle_synthetic_wrmsr(struct vp *of, uint64_t rip, uint32_t msr)
{
	vmx_handle_synthetic_rdmsr(of, rip, msr);
}

void vmx_handle_hypercall(struct vp *of, uint64_t rip)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(rip, RIP);
	hypercalls++;
}

void vmx_handle_hlt(struct vp *of, uint64_t rip)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(rip, RIP);
	halts++;
}

void vmx_handle_apic_access(struct vp *of)
{
	assert_ptr_equal(of, vp);
	switches++;
}

void vmx_handle_cr(struct vp *of)
{
	assert_ptr_equal(of, vp);
	switches++;
}

void vmx_handle_task_switch(struct vp *of)
{
	assert_ptr_equal(of, vp);
	switches++;
}

void schedule_use_debug_registers(struct vp *of)
{
	assert_ptr_equal(of, vp);
	dr_users++;
}

bool vmx_complete_traced(struct vp *of, uint64_t rflags)
{
	(void)of;
	(void)rflags;
	return false;
}

uint64_t vmx_wrap_rip(uint64_t rip)
{
	return rip;
}

void vmx_apic_take_over(struct vp *of)
{
	(void)of;
	fail_msg("a child's APIC is the model's");
}

void apic_eoi(struct apic *apic)
{
	assert_ptr_equal(apic, &vp->apic);
	delivered++;
}

int apic_icr_write(struct apic *apic, uint64_t value)
{
	assert_ptr_equal(apic, &vp->apic);
	msr_value = value;
	return x2apic_takes ? 0 : -EINVAL;
}

void apic_set_tpr(struct apic *apic, uint8_t tpr)
{
	apic->tpr = tpr;
}

static int setup(void **state)
{
	(void)state;
	memset(vmcs, 0, sizeof(vmcs));
	memset(vp, 0, sizeof(*vp));
	memset(root, 0, sizeof(*root));
	memset(&lp, 0, sizeof(lp));
	memset(&page, 0, sizeof(page));
	memset(&apic_page, 0, sizeof(apic_page));
	memset(exit_counts, 0, sizeof(exit_counts));
	partition = (struct partition){ .id = 2, .hv = true, .cpuid.xsave_states = 7 };
	vp->lp = root->lp = &lp;
	lp.root_vp = root;
	lp.vp = vp;
	vp->partition = root->partition = &partition;
	vp->apic_page = &apic_page;
	vp->exit_counts = exit_counts;
	vp->child = (struct vp_child *)&page; /* there is one: it isn't looked into */
	root->apic.lvt[APIC_LVT_LINT0] = (uint32_t)APIC_LVT_MASKED;
	vmx_of(vp)->page = &page;
	vmx_of(vp)->loaded = true;
	vmx_of(vp)->acknowledges = true;
	vmx_of(vp)->proc = PROC_MOV_DR | PROC_HLT;
	vmx.preemption_ticks = 77;
	vmcs[VMCS_GUEST_RIP] = RIP;
	vmcs[VMCS_EXIT_INSTRUCTION_LENGTH] = LENGTH;
	vmcs[VMCS_GUEST_EFER] = EFER_LMA;
	vmcs[VMCS_GUEST_CS_RIGHTS] = RIGHTS_LONG;
	cr2 = 0x1111;
	cr2_of_reads = 0;
	dr6 = 0xffff0ff0;
	unrecoverable = relaunches = windows = delivered = hypercalls = halts = requeued = switches =
		dr_users = 0;
	synthetic = ios = memories = woken = held = 0;
	injected = -1;
	msr_fails = window_has_some = x2apic_takes = false;
	msr_value = accessed_msr = handled_vector = 0;
	memory_result = FAULT_RETRY;
	memset(&parents, 0, sizeof(parents));
	parents.takes = true;
	return 0;
}

static void leave(uint64_t reason)
{
	vmcs[VMCS_EXIT_REASON] = reason;
	vmx_handle_child_exit(vp);
	assert_int_equal(exit_counts[reason & 0xff], 1);
}

static void leave_again(void)
{
	vmx_handle_child_exit(vp);
}

static bool was_completed(void)
{
	return vmcs[VMCS_GUEST_RIP] == RIP + LENGTH;
}

static void ports(void **state)
{
	(void)state;
	vmcs[VMCS_EXIT_QUALIFICATION] = 0x3f8ull << 16 | IO_IN;
	leave(VMX_EXIT_IO);
	assert_int_equal(ios, 1);
	assert_int_equal(io.port, 0x3f8);
	assert_int_equal(io.bytes, 1);
	assert_int_equal(io.length, LENGTH);
	assert_true(io.in && !io.string && !io.rep);
	setup(NULL);
	vmcs[VMCS_EXIT_QUALIFICATION] = 0xcf8ull << 16 | IO_STRING | IO_REP | 3;
	leave(VMX_EXIT_IO);
	assert_int_equal(io.port, 0xcf8);
	assert_int_equal(io.bytes, 4);
	assert_true(!io.in && io.string && io.rep);
	assert_false(was_completed());
}

static void memory_faults(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_PHYSICAL_ADDRESS] = 0xfee00300;
	vmcs[VMCS_GUEST_LINEAR_ADDRESS] = 0xffff1300;
	vmcs[VMCS_EXIT_QUALIFICATION] = EPT_VIOLATION_WRITE | EPT_VIOLATION_LINEAR | EPT_VIOLATION_TRANSLATED;
	leave(VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(memories, 1);
	assert_int_equal(memory.gpa.v, 0xfee00300);
	assert_int_equal(memory.gva.v, 0xffff1300);
	assert_true(memory.gva_valid && memory.is_write && !memory.is_fetch && !memory.is_walk);
	assert_int_equal(memory.byte_count, 0);
	assert_int_equal(injected, -1);

	setup(NULL);
	vmcs[VMCS_GUEST_CR0] = CR0_PE;
	vmcs[VMCS_EXIT_QUALIFICATION] = EPT_VIOLATION_FETCH | EPT_VIOLATION_LINEAR;
	memory_result = FAULT_REFUSED;
	leave(VMX_EXIT_EPT_VIOLATION);
	assert_true(memory.is_walk && memory.is_fetch && !memory.is_write);
	assert_int_equal(injected, VECTOR_GP);
	assert_true(injected_has_error);
	assert_int_equal(injected_error, 0);
}

/* The event goes in again, and the parent can't take the address for the instruction's. */
static void memory_fault_of_a_delivery(void **state)
{
	(void)state;
	vmcs[VMCS_VECTORING_EVENT] = EVENT_VALID | 0x41;
	vmcs[VMCS_EXIT_QUALIFICATION] = EPT_VIOLATION_WRITE | EPT_VIOLATION_LINEAR |
					EPT_VIOLATION_TRANSLATED | EPT_VIOLATION_IRET_UNBLOCKED_NMI;
	leave(VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(requeued, 1);
	assert_true(memory.is_walk);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], 0);
	setup(NULL);
	vmcs[VMCS_EXIT_QUALIFICATION] = EPT_VIOLATION_LINEAR | EPT_VIOLATION_IRET_UNBLOCKED_NMI;
	leave(VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
}

static void cr2_is_the_guests(void **state)
{
	(void)state;
	cr2_of_reads = 0x2222;
	leave(VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(cr2, 0x1111);
}

static void failed_entry(void **state)
{
	(void)state;
	vmcs[VMCS_ENTRY_EVENT] = EVENT_VALID | 0x30;
	leave(VMX_EXIT_ENTRY_FAILED | VMX_EXIT_BAD_GUEST_STATE);
	assert_int_equal(unrecoverable, 1);
	assert_int_equal(relaunches, 1);
	assert_int_equal(vmx_of(vp)->event, EVENT_VALID | 0x30); /* not taken: it waits still */
}

static void what_is_not_there(void **state)
{
	static const uint32_t reasons[] = {
		VMX_EXIT_GETSEC,
		VMX_EXIT_VMCLEAR,
		VMX_EXIT_VMLAUNCH,
		VMX_EXIT_VMPTRLD,
		VMX_EXIT_VMPTRST,
		VMX_EXIT_VMREAD,
		VMX_EXIT_VMRESUME,
		VMX_EXIT_VMWRITE,
		VMX_EXIT_VMXOFF,
		VMX_EXIT_VMXON,
		VMX_EXIT_MWAIT,
		VMX_EXIT_MONITOR,
		VMX_EXIT_INVEPT,
		VMX_EXIT_INVVPID,
		VMX_EXIT_VMFUNC,
		VMX_EXIT_ENCLS,
		VMX_EXIT_XSAVES,
		VMX_EXIT_XRSTORS,
		VMX_EXIT_UMWAIT,
		VMX_EXIT_TPAUSE,
		/* and what came after us */
		VMX_EXIT_LAST_KNOWN + 1,
		77,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		setup(NULL);
		leave(reasons[i]);
		assert_int_equal(injected, VECTOR_UD);
		assert_false(injected_has_error);
		assert_int_equal(unrecoverable, 0);
	}
	setup(NULL);
	leave(VMX_EXIT_RDPMC);
	assert_int_equal(injected, VECTOR_GP);
}

/* Whatever the reason is, there is an answer. */
static void every_reason(void **state)
{
	static const uint32_t stops[] = { VMX_EXIT_TRIPLE_FAULT, VMX_EXIT_EPT_MISCONFIG, VMX_EXIT_APIC_WRITE,
					  VMX_EXIT_SIPI, VMX_EXIT_PML_FULL };

	(void)state;
	for (uint32_t reason = 0; reason < 256; reason++) {
		setup(NULL);
		leave(reason);
	}
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++) {
		setup(NULL);
		leave(stops[i]);
		assert_int_equal(unrecoverable, 1);
	}
}

static void no_harm_to_caches(void **state)
{
	(void)state;
	leave(VMX_EXIT_WBINVD);
	assert_true(was_completed());
	setup(NULL);
	leave(VMX_EXIT_INVD);
	assert_true(was_completed());
}

static void cpuid_knows_syscall_in_64_bit_code(void **state)
{
	(void)state;
	vp->gpr[GPR_RAX] = 0x80000001;
	leave(VMX_EXIT_CPUID);
	assert_true(was_completed());
	assert_int_equal(vp->gpr[GPR_RDX], UINT32_MAX);
	setup(NULL);
	vp->gpr[GPR_RAX] = 0x80000001;
	vmcs[VMCS_GUEST_CS_RIGHTS] = 0;
	leave(VMX_EXIT_CPUID);
	assert_int_equal(vp->gpr[GPR_RDX], UINT32_MAX & ~(1u << 11));
}

static void msrs(void **state)
{
	(void)state;
	vp->gpr[GPR_RCX] = 0x2ff;
	msr_value = 0x123456789abc;
	leave(VMX_EXIT_RDMSR);
	assert_int_equal(accessed_msr, 0x2ff);
	assert_int_equal(vp->gpr[GPR_RAX], 0x56789abc);
	assert_int_equal(vp->gpr[GPR_RDX], 0x1234);
	assert_true(was_completed());

	setup(NULL);
	vp->gpr[GPR_RCX] = 0x2ff;
	vp->gpr[GPR_RAX] = ~0ull << 32 | 6;
	vp->gpr[GPR_RDX] = 1;
	leave(VMX_EXIT_WRMSR);
	assert_int_equal(msr_value, 0x100000006);
	assert_true(was_completed());

	for (uint32_t reason = VMX_EXIT_RDMSR; reason <= VMX_EXIT_WRMSR; reason++) {
		setup(NULL);
		msr_fails = true;
		leave(reason);
		assert_int_equal(injected, VECTOR_GP);
		assert_false(was_completed());
		setup(NULL);
		vp->gpr[GPR_RCX] = 0x40000000;
		leave(reason);
		assert_int_equal(synthetic, 1);
		setup(NULL);
		vp->gpr[GPR_RCX] = 0x40000000;
		partition.hv = false;
		leave(reason);
		assert_int_equal(synthetic, 0);
		assert_int_equal(accessed_msr, 0x40000000);
	}
}

static void x2apic_msrs(void **state)
{
	(void)state;
	vp->apic.x2 = true;
	vp->apic.irr_top = -1;
	vp->gpr[GPR_RCX] = APIC_MSR_EOI;
	leave(VMX_EXIT_WRMSR);
	assert_int_equal(delivered, 1);
	assert_int_equal(accessed_msr, 0);
	assert_int_equal(atomic_load(&vp->pending), 0);
	setup(NULL);
	vp->apic.x2 = x2apic_takes = true;
	vp->apic.irr_top = 0x51;
	vp->gpr[GPR_RCX] = APIC_MSR_ICR;
	vp->gpr[GPR_RAX] = 0x4051;
	vp->gpr[GPR_RDX] = 2;
	leave(VMX_EXIT_WRMSR);
	assert_int_equal(msr_value, 0x200004051);
	assert_int_equal(atomic_load(&vp->pending), VP_PENDING_EVENT);
	/* What isn't in order, and any other, the slow way. */
	setup(NULL);
	vp->apic.x2 = true;
	vp->gpr[GPR_RCX] = APIC_MSR_EOI;
	vp->gpr[GPR_RAX] = 1;
	leave(VMX_EXIT_WRMSR);
	assert_int_equal(accessed_msr, APIC_MSR_EOI);
}

static void debug_registers_are_switched_once_used(void **state)
{
	(void)state;
	leave(VMX_EXIT_DR);
	assert_int_equal(dr_users, 1);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS], PROC_HLT);
	assert_int_equal(vmx_of(vp)->proc, PROC_HLT);
	assert_false(was_completed());
}

static void xsetbv(void **state)
{
	static const struct {
		uint64_t ecx, eax;
	} refused[] = { { 1, 7 }, { 0, 6 }, { 0, 0xf } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		setup(NULL);
		vp->gpr[GPR_RCX] = refused[i].ecx;
		vp->gpr[GPR_RAX] = refused[i].eax;
		leave(VMX_EXIT_XSETBV);
		assert_int_equal(injected, VECTOR_GP);
		assert_false(was_completed());
	}
}

/* ---- Exceptions ---- */

static void raise_exception(uint32_t event)
{
	vmcs[VMCS_EXIT_EVENT] = (uint32_t)EVENT_VALID | event;
	leave(VMX_EXIT_EXCEPTION);
}

static void alignment_check(void **state)
{
	(void)state;
	raise_exception((uint32_t)(EVENT_TYPE_EXCEPTION | EVENT_ERROR_VALID | VECTOR_AC));
	assert_int_equal(injected, VECTOR_AC);
	assert_true(injected_has_error);
	setup(NULL);
	raise_exception(
		(uint32_t)(EVENT_TYPE_EXCEPTION | EVENT_IRET_UNBLOCKED_NMI | EVENT_ERROR_VALID | VECTOR_AC));
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
}

static void debug_exception(void **state)
{
	(void)state;
	dr6 = 0xffff0ff8;
	vmcs[VMCS_GUEST_DR7] = 0x2401;
	vmcs[VMCS_GUEST_DEBUGCTL] = 3;
	vmcs[VMCS_EXIT_QUALIFICATION] = DR6_BS | 1;
	raise_exception(EVENT_TYPE_EXCEPTION | VECTOR_DB);
	assert_int_equal(injected, VECTOR_DB);
	assert_false(injected_has_error);
	assert_int_equal(dr6, 0xffff4ff1);
	assert_int_equal(vmcs[VMCS_GUEST_DR7], 0x401);
	assert_int_equal(vmcs[VMCS_GUEST_DEBUGCTL], 0); /* BTF too (SDM3 18.4.3) */
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], 0);
	/* BD adds to what was there; the two that are clear when they happened. */
	setup(NULL);
	dr6 = 0xffff4ff0;
	vmcs[VMCS_EXIT_QUALIFICATION] = BIT(13) | BIT(16) | DR6_BLD;
	raise_exception(EVENT_TYPE_EXCEPTION | VECTOR_DB);
	assert_int_equal(dr6, 0xfffe67f0);
}

static void debug_exception_in_a_shadow(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_MOV_SS;
	vmcs[VMCS_GUEST_RFLAGS] = RFLAGS_TF;
	raise_exception(EVENT_TYPE_EXCEPTION | VECTOR_DB);
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], DR6_BS);
}

static void int1(void **state)
{
	(void)state;
	raise_exception(EVENT_TYPE_PRIVILEGED | VECTOR_DB);
	assert_int_equal(injected, -1);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT], EVENT_VALID | EVENT_TYPE_PRIVILEGED | VECTOR_DB);
	assert_int_equal(vmx_of(vp)->event, vmcs[VMCS_ENTRY_EVENT]);
	assert_int_equal(vmcs[VMCS_ENTRY_INSTRUCTION_LENGTH], LENGTH);
}

/* ---- What the parent has asked for ---- */

static void what_the_processor_knows(void **state)
{
	(void)state;
	vmx_of(vp)->proc = PROC_HLT | PROC_INTERRUPT_WINDOW | PROC_MSR_BITMAPS;
	vp->wanted_exceptions = BIT(VECTOR_PF) | BIT(VECTOR_UD);
	vmx_follow_intercepts(vp);
	assert_int_equal(vmcs[VMCS_EXCEPTION_BITMAP],
			 BIT(VECTOR_PF) | BIT(VECTOR_UD) | BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC));
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS], PROC_HLT | PROC_INTERRUPT_WINDOW | PROC_MSR_BITMAPS);
	parents.more_exits = true;
	vp->wanted_exceptions = 0;
	vmx_follow_intercepts(vp);
	assert_int_equal(vmcs[VMCS_EXCEPTION_BITMAP], BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC));
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS], PROC_HLT | PROC_INTERRUPT_WINDOW);
	assert_int_equal(vmx_of(vp)->proc, PROC_HLT | PROC_INTERRUPT_WINDOW);
}

static void wanted_cpuid(void **state)
{
	(void)state;
	vp->gpr[GPR_RAX] = 0x80000001;
	vp->wanted = VP_WANTED_CPUID;
	leave(VMX_EXIT_CPUID); /* another leaf is */
	assert_true(was_completed());
	setup(NULL);
	vp->gpr[GPR_RAX] = 0x80000001;
	vp->wanted = VP_WANTED_CPUID;
	parents.wants = true;
	vmcs[VMCS_GUEST_CS_RIGHTS] = 0;
	leave(VMX_EXIT_CPUID);
	assert_int_equal(parents.cpuids, 1);
	assert_int_equal(parents.cpuid.length, LENGTH);
	assert_int_equal(parents.cpuid.cr4, 0x20);
	assert_int_equal(parents.cpuid.hidden_edx, 1u << 11);
	assert_false(was_completed());
	assert_int_equal(vp->gpr[GPR_RAX], 0x80000001);
}

static void wanted_msrs(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		bool is_write = i & 1;

		setup(NULL);
		vp->wanted = VP_WANTED_MSR;
		vp->gpr[GPR_RCX] = i & 2 ? 0x40000000 : 0x2ff;
		parents.wants = true;
		leave(is_write ? VMX_EXIT_WRMSR : VMX_EXIT_RDMSR);
		assert_int_equal(parents.msrs, 1);
		assert_int_equal(parents.msr.msr, vp->gpr[GPR_RCX]);
		assert_int_equal(parents.msr.is_write, is_write);
		assert_int_equal(parents.msr.length, LENGTH);
		assert_false(was_completed());
		assert_int_equal(synthetic, 0);
		assert_int_equal(accessed_msr, 0);
		parents.wants = false;
		leave_again();
		assert_int_equal(parents.msrs, 1);
		assert_true(synthetic || was_completed());
	}
}

static void msrs_that_nobody_has(void **state)
{
	static const uint32_t own[] = { MSR_DEBUGCTL, MSR_SPEC_CTRL, MSR_LSTAR };

	(void)state;
	for (uint32_t reason = VMX_EXIT_RDMSR; reason <= VMX_EXIT_WRMSR; reason++) {
		setup(NULL);
		vp->wanted = VP_WANTED_UNKNOWN_MSR_READ | VP_WANTED_UNKNOWN_MSR_WRITE;
		vp->gpr[GPR_RCX] = 0x1234;
		msr_fails = parents.unknown = true;
		leave(reason);
		assert_int_equal(parents.msrs, 1);
		assert_int_equal(parents.msr.msr, 0x1234);
		assert_int_equal(parents.msr.is_write, reason == VMX_EXIT_WRMSR);
		assert_int_equal(injected, -1);
		assert_false(was_completed());
		for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
			vp->gpr[GPR_RCX] = own[i];
			leave_again();
			assert_int_equal(injected, VECTOR_GP);
			assert_int_equal(parents.msrs, 1);
			injected = -1;
		}
		vp->gpr[GPR_RCX] = 0x1234;
		parents.unknown = false;
		leave_again();
		assert_int_equal(injected, VECTOR_GP);
	}
}

/* All accesses exit, for one that is wanted: the others are carried out here, with WRMSR's checks. */
static void msrs_of_its_own(void **state)
{
	(void)state;
	vp->wanted = VP_WANTED_MSR;
	vp->gpr[GPR_RCX] = MSR_LSTAR;
	vp->gpr[GPR_RAX] = 0x5555;
	leave(VMX_EXIT_WRMSR);
	assert_int_equal(msr_value, 0x5555);
	assert_int_equal(parents.linear_bits, 48);
	assert_true(was_completed());
	setup(NULL);
	vp->wanted = VP_WANTED_MSR;
	vp->gpr[GPR_RCX] = MSR_LSTAR;
	parents.takes = false;
	leave(VMX_EXIT_WRMSR);
	assert_int_equal(injected, VECTOR_GP);
	assert_int_equal(accessed_msr, 0);
}

static void efer(void **state)
{
	static const struct {
		uint64_t cr0, before, value;
		int64_t after; /* -1: #GP */
	} cases[] = {
		{ CR0_PG, 0xd00, 0xd01, 0xd01 }, { CR0_PG, 0xd00, 0x901, 0xd01 }, /* LMA is the processor's */
		{ CR0_PG, 0xd00, 0xc01, -1 },	 { 0, 0, 0x100, 0x100 },
		{ 0, 0, 0x500, 0x100 },		 { 0, 0, 0x1000, -1 },
		{ CR0_PG, 0x800, 0x900, -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		setup(NULL);
		vp->wanted = VP_WANTED_MSR;
		vp->gpr[GPR_RCX] = MSR_EFER;
		vp->gpr[GPR_RAX] = cases[i].value;
		vmcs[VMCS_GUEST_CR0] = cases[i].cr0;
		vmcs[VMCS_GUEST_EFER] = cases[i].before;
		leave(VMX_EXIT_WRMSR);
		assert_int_equal(injected, cases[i].after < 0 ? VECTOR_GP : -1);
		assert_int_equal(vmcs[VMCS_GUEST_EFER],
				 cases[i].after < 0 ? cases[i].before : (uint64_t)cases[i].after);
		assert_int_equal(atomic_load(&vp->pending) & VP_PENDING_FLUSH,
				 cases[i].after < 0 ? 0 : VP_PENDING_FLUSH);
	}
}

static void wanted_exceptions(void **state)
{
	(void)state;
	vp->wanted_exceptions = BIT(VECTOR_PF) | BIT(VECTOR_DB) | BIT(3);
	vmcs[VMCS_EXIT_QUALIFICATION] = 0xdead000;
	vmcs[VMCS_EXIT_EVENT_ERROR] = 0x17;
	raise_exception(
		(uint32_t)(EVENT_TYPE_EXCEPTION | EVENT_ERROR_VALID | EVENT_IRET_UNBLOCKED_NMI | VECTOR_PF));
	assert_int_equal(parents.exceptions, 1);
	assert_int_equal(parents.exception.vector, VECTOR_PF);
	assert_true(parents.exception.has_error);
	assert_int_equal(parents.exception.error, 0x17);
	assert_int_equal(parents.exception.parameter, 0xdead000);
	assert_false(parents.exception.is_software);
	assert_int_equal(injected, -1);
	assert_int_equal(cr2, 0x1111);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
	vmcs[VMCS_EXIT_QUALIFICATION] = DR6_BS;
	vmcs[VMCS_EXIT_EVENT] = (uint32_t)EVENT_VALID | EVENT_TYPE_EXCEPTION | VECTOR_DB;
	leave_again();
	assert_int_equal(parents.exception.parameter, 0xffff4ff0);
	assert_int_equal(dr6, 0xffff4ff0);
	assert_false(parents.exception.has_error);
	vmcs[VMCS_EXIT_EVENT] = (uint32_t)EVENT_VALID | EVENT_TYPE_SOFT_EXCEPTION | 3;
	leave_again();
	assert_true(parents.exception.is_software);
	assert_int_equal(parents.exceptions, 3);
	/* INT1 is an instruction, not an exception; and those that nobody asked for go on. */
	vmcs[VMCS_EXIT_EVENT] = (uint32_t)EVENT_VALID | EVENT_TYPE_PRIVILEGED | VECTOR_DB;
	leave_again();
	vmcs[VMCS_EXIT_EVENT] =
		(uint32_t)EVENT_VALID | EVENT_TYPE_EXCEPTION | (uint32_t)EVENT_ERROR_VALID | VECTOR_AC;
	leave_again();
	assert_int_equal(parents.exceptions, 3);
	assert_int_equal(injected, VECTOR_AC);
}

static void exceptions_of_the_hypervisors(void **state)
{
	(void)state;
	vp->wanted_exceptions = BIT(VECTOR_GP) | BIT(VECTOR_DB);
	vmcs[VMCS_GUEST_CR0] = CR0_PE;
	vmcs[VMCS_EXIT_EVENT_ERROR] = 0x17;
	dr6 = 0xffff4ff0;
	vmx_raise_exception(vp, VECTOR_UD, false, 0);
	assert_int_equal(injected, VECTOR_UD);
	assert_int_equal(parents.exceptions, 0);
	vmx_raise_exception(vp, VECTOR_GP, true, 0);
	assert_int_equal(injected, VECTOR_UD);
	assert_int_equal(parents.exception.vector, VECTOR_GP);
	assert_true(parents.exception.has_error);
	assert_int_equal(parents.exception.error, 0);
	assert_int_equal(parents.exception.parameter, 0);
	vmx_raise_exception(vp, VECTOR_DB, false, 0);
	assert_int_equal(parents.exception.parameter, 0xffff4ff0);
	assert_int_equal(parents.exceptions, 2);
	/* The parent is just being told of something else: the fault comes again, the trap would not. */
	parents.open = true;
	vmx_raise_exception(vp, VECTOR_GP, true, 0);
	assert_int_equal(injected, VECTOR_UD);
	vmx_raise_exception(vp, VECTOR_DB, false, 0);
	assert_int_equal(injected, VECTOR_DB);
	assert_false(injected_has_error);
}

/* ---- What is the root's ---- */

static void the_machines_events(void **state)
{
	(void)state;
	raise_exception(EVENT_TYPE_NMI | VECTOR_NMI);
	assert_int_equal(atomic_load(&root->pending), VP_PENDING_NMI);
	assert_int_equal(atomic_load(&vp->pending), 0);
	setup(NULL);
	leave(VMX_EXIT_INIT);
	assert_int_equal(woken, 1);
	setup(NULL);
	vmcs[VMCS_EXIT_EVENT] = EVENT_VALID | 0x45;
	leave(VMX_EXIT_INTR);
	assert_int_equal(handled_vector, 0x45);
	assert_int_equal(windows, 0);
}

static void interrupts_of_an_8259_wait_for_the_root(void **state)
{
	(void)state;
	vmx_of(vp)->acknowledges = false;
	root->apic.lvt[APIC_LVT_LINT0] = APIC_MODE_EXTINT << 8;
	leave(VMX_EXIT_INTR);
	assert_int_equal(held, 1);
	assert_int_equal(woken, 1);
	assert_int_equal(windows, 1);
	assert_int_equal(atomic_load(&root->pending), VP_PENDING_EVENT);
	vmcs[VMCS_EXIT_REASON] = VMX_EXIT_PREEMPTION_TIMER;
	vmx_handle_child_exit(vp);
	assert_int_equal(held, 1); /* it is held already */
	assert_int_equal(windows, 2);
	assert_int_equal(vmcs[VMCS_PREEMPTION_TIMER], 77);
}

static void cr8_is_seen(void **state)
{
	(void)state;
	apic_page.reg[APIC_REG_TPR >> 4].value = 0x50;
	leave(VMX_EXIT_HLT);
	assert_int_equal(vp->apic.tpr, 0x50);
	assert_int_equal(halts, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(ports, setup),
		cmocka_unit_test_setup(memory_faults, setup),
		cmocka_unit_test_setup(memory_fault_of_a_delivery, setup),
		cmocka_unit_test_setup(cr2_is_the_guests, setup),
		cmocka_unit_test_setup(failed_entry, setup),
		cmocka_unit_test_setup(what_is_not_there, setup),
		cmocka_unit_test_setup(every_reason, setup),
		cmocka_unit_test_setup(no_harm_to_caches, setup),
		cmocka_unit_test_setup(cpuid_knows_syscall_in_64_bit_code, setup),
		cmocka_unit_test_setup(msrs, setup),
		cmocka_unit_test_setup(x2apic_msrs, setup),
		cmocka_unit_test_setup(debug_registers_are_switched_once_used, setup),
		cmocka_unit_test_setup(xsetbv, setup),
		cmocka_unit_test_setup(what_the_processor_knows, setup),
		cmocka_unit_test_setup(wanted_cpuid, setup),
		cmocka_unit_test_setup(wanted_msrs, setup),
		cmocka_unit_test_setup(msrs_that_nobody_has, setup),
		cmocka_unit_test_setup(msrs_of_its_own, setup),
		cmocka_unit_test_setup(efer, setup),
		cmocka_unit_test_setup(wanted_exceptions, setup),
		cmocka_unit_test_setup(exceptions_of_the_hypervisors, setup),
		cmocka_unit_test_setup(alignment_check, setup),
		cmocka_unit_test_setup(debug_exception, setup),
		cmocka_unit_test_setup(debug_exception_in_a_shadow, setup),
		cmocka_unit_test_setup(int1, setup),
		cmocka_unit_test_setup(the_machines_events, setup),
		cmocka_unit_test_setup(interrupts_of_an_8259_wait_for_the_root, setup),
		cmocka_unit_test_setup(cr8_is_seen, setup),
	};

	vp = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	root = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	return cmocka_run_group_tests_name("vmx_child_exit", tests, NULL, NULL);
}
