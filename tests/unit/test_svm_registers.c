/* unit: svm/registers.c */
/* SPDX-License-Identifier: MIT */
/*
 * Registers by name in a VMCB: where each lies, in which form, and that what the processor holds is fetched and put back around it. The
 * processor's part of VMSAVE and VMLOAD is a second VMCB here.
 */
#include "svm/svm.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/io.h>

struct svm_machine svm;

static struct vmcb vmcb, processor;
static struct vp *vp;
static struct lp lp;
static unsigned int saves, loads;
static uint32_t read_msr, written_msr;
static uint64_t written_value;
static int msr_error;
static uint32_t child_read_msr, child_written_msr;
static bool has_shadow_stacks;

static void copy_loaded(struct vmcb *to, const struct vmcb *from)
{
	to->fs = from->fs;
	to->gs = from->gs;
	to->ldtr = from->ldtr;
	to->tr = from->tr;
	memcpy(&to->star, &from->star, offsetof(struct vmcb, cr2) - offsetof(struct vmcb, star));
}

void svm_vmsave(uint64_t hpa)
{
	assert_int_equal(hpa, 0x1000);
	copy_loaded(&vmcb, &processor);
	saves++;
}

void svm_vmload(uint64_t hpa)
{
	assert_int_equal(hpa, 0x1000);
	copy_loaded(&processor, &vmcb);
	loads++;
}

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	(void)subleaf;
	if (leaf == 0)
		return (struct cpuid_regs){ .eax = 7 };
	if (leaf == 1) /* without VME and PCID */
		return (struct cpuid_regs){ .edx = 0x1783fbffu & ~2u, .ecx = 1u << 26 };
	if (leaf == 7)
		return (struct cpuid_regs){ .ebx = 1u << 7 | 1u << 20,
					    .ecx = has_shadow_stacks ? 1u << 7 : 0 };
	return (struct cpuid_regs){ 0 };
}

int vp_msr_read(struct vp *of, uint32_t msr, uint64_t *value)
{
	assert_ptr_equal(of, vp);
	read_msr = msr;
	*value = 0x1234;
	return msr_error;
}

int vp_msr_write(struct vp *of, uint32_t msr, uint64_t value)
{
	assert_ptr_equal(of, vp);
	written_msr = msr;
	written_value = value;
	return msr_error;
}

/* As core/schedule.c has it. */
bool vp_is_loaded_here(const struct vp *of)
{
	assert_ptr_equal(of, vp);
	return of->lp->vp == of;
}

bool svm_child_rdmsr(struct vp *of, uint32_t msr, uint64_t *value)
{
	assert_ptr_equal(of, vp);
	child_read_msr = msr;
	*value = 0x4321;
	return !msr_error;
}

bool svm_child_wrmsr(struct vp *of, uint32_t msr, uint64_t value)
{
	assert_ptr_equal(of, vp);
	child_written_msr = msr;
	written_value = value;
	return !msr_error;
}

void apic_set_tpr(struct apic *apic, uint8_t tpr)
{
	apic->tpr = tpr;
}

static int setup(void **state)
{
	(void)state;
	memset(&vmcb, 0, sizeof(vmcb));
	memset(&processor, 0, sizeof(processor));
	memset(vp, 0, sizeof(*vp));
	memset(&lp, 0, sizeof(lp));
	svm = (struct svm_machine){ .efer_writable = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE };
	saves = loads = 0;
	read_msr = written_msr = child_read_msr = child_written_msr = 0;
	msr_error = 0;
	has_shadow_stacks = false;
	vp->lp = &lp;
	lp.vp = vp;
	vp->control = &vmcb;
	vp->control_hpa = 0x1000;
	vmcb.efer = EFER_SVME | 0xd01;
	vmcb.cr0 = 0x80050033;
	vmcb.cr4 = 0x6f0;
	return 0;
}

static union hv_register_value get(enum vp_register which)
{
	union hv_register_value value;

	memset(&value, 0xa5, sizeof(value));
	svm_get_register(vp, which, &value);
	return value;
}

static int set(enum vp_register which, uint64_t low)
{
	const union hv_register_value value = { .reg128 = { low, 0 } };

	return svm_set_register(vp, which, &value);
}

static uint64_t pending(void)
{
	return atomic_load(&vp->pending);
}

static void plain_registers(void **state)
{
	static const struct {
		enum vp_register which;
		size_t offset;
		uint64_t value;
		uint64_t posts;
	} plain[] = {
		{ VP_REGISTER_RSP, offsetof(struct vmcb, rsp), 0x1111, 0 },
		{ VP_REGISTER_RIP, offsetof(struct vmcb, rip), 0x2222, 0 },
		{ VP_REGISTER_RFLAGS, offsetof(struct vmcb, rflags), 0x246, VP_PENDING_EVENT },
		{ VP_REGISTER_CR0, offsetof(struct vmcb, cr0), 0x60000010, VP_PENDING_FLUSH },
		{ VP_REGISTER_CR2, offsetof(struct vmcb, cr2), 0x3333, 0 },
		{ VP_REGISTER_CR3, offsetof(struct vmcb, cr3), 0x4444, VP_PENDING_FLUSH },
		{ VP_REGISTER_CR4, offsetof(struct vmcb, cr4), 0x20, VP_PENDING_FLUSH },
		{ VP_REGISTER_DR6, offsetof(struct vmcb, dr6), 0xffff0ff0, 0 },
		{ VP_REGISTER_DR7, offsetof(struct vmcb, dr7), 0x2401, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		setup(NULL);
		assert_int_equal(set(plain[i].which, plain[i].value), 0);
		assert_int_equal(*(uint64_t *)((char *)&vmcb + plain[i].offset), plain[i].value);
		assert_int_equal(get(plain[i].which).reg128.low, plain[i].value);
		assert_int_equal(get(plain[i].which).reg128.high, 0);
		assert_int_equal(pending(), plain[i].posts);
		assert_int_equal(saves + loads, 0);
	}
}

static void bits_that_are_fixed(void **state)
{
	(void)state;
	assert_int_equal(set(VP_REGISTER_CR0, 0), 0);
	assert_int_equal(vmcb.cr0, 0x10);
	assert_int_equal(set(VP_REGISTER_DR6, 0xf), 0);
	assert_int_equal(vmcb.dr6, 0xffff07ff);
	assert_int_equal(set(VP_REGISTER_DR6, 0xffff1ff0), 0);
	assert_int_equal(vmcb.dr6, 0xffff0ff0);
	assert_int_equal(set(VP_REGISTER_DR7, 0xffffffff), 0);
	assert_int_equal(vmcb.dr7, 0xffff2fff);
	assert_int_equal(set(VP_REGISTER_DR7, 0), 0);
	assert_int_equal(vmcb.dr7, 0x400);
}

static void cr4_has_what_the_processor_has(void **state)
{
	(void)state;
	assert_int_equal(set(VP_REGISTER_CR4, 0x3407fc), 0);
	assert_int_equal(set(VP_REGISTER_CR4, 0x1), -EINVAL);	  /* VME */
	assert_int_equal(set(VP_REGISTER_CR4, 0x10000), -EINVAL); /* FSGSBASE */
	assert_int_equal(set(VP_REGISTER_CR4, 0x20000), -EINVAL); /* PCIDE */
	assert_int_equal(set(VP_REGISTER_CR4, 0x2000), -EINVAL);
	assert_int_equal(set(VP_REGISTER_CR4, 1ull << 40), -EINVAL);
	assert_int_equal(vmcb.cr4, 0x3407fc);
}

static void rip_ends_the_shadow(void **state)
{
	(void)state;
	vmcb.interrupt_shadow = INTERRUPT_SHADOW;
	assert_int_equal(set(VP_REGISTER_RIP, 0x1000), 0);
	assert_int_equal(vmcb.interrupt_shadow, 0);
}

/* G D L AVL .... P DPL S type: two bytes in the interface, twelve bits in the VMCB. */
static void segment_attributes(void **state)
{
	static const struct {
		uint16_t interface, packed;
	} pairs[] = {
		{ 0xa09b, 0xa9b }, /* 64-bit code */
		{ 0xc093, 0xc93 }, /* flat data */
		{ 0x008b, 0x08b }, /* busy TSS */
		{ 0x0082, 0x082 }, { 0x00f3, 0x0f3 }, { 0x1000, 0x100 }, { 0x2000, 0x200 },
		{ 0x4000, 0x400 }, { 0x8000, 0x800 }, { 0xf0ff, 0xfff }, { 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		union hv_register_value value = { .segment = { 0x1000, 0xfffff, 0x23, pairs[i].interface } };

		assert_int_equal(svm_set_register(vp, VP_REGISTER_DS, &value), 0);
		assert_int_equal(vmcb.ds.attributes, pairs[i].packed);
		assert_int_equal(vmcb.ds.selector, 0x23);
		assert_int_equal(vmcb.ds.limit, 0xfffff);
		assert_int_equal(vmcb.ds.base, 0x1000);
		assert_int_equal(get(VP_REGISTER_DS).segment.attributes, pairs[i].interface);
	}
	vmcb.es.attributes = 0xf9b; /* the upper four bits of the field are nobody's */
	assert_int_equal(get(VP_REGISTER_ES).segment.attributes, 0xf09b);
	vmcb.es.attributes = 0xff9b;
	assert_int_equal(get(VP_REGISTER_ES).segment.attributes, 0xf09b);
	processor.tr.attributes = 0x089; /* a loaded TSS is busy */
	assert_int_equal(get(VP_REGISTER_TR).segment.attributes, 0x8b);
	processor.tr.attributes = 0;
	assert_int_equal(get(VP_REGISTER_TR).segment.attributes, 0);
}

static void every_segment_has_its_place(void **state)
{
	const struct vmcb_segment *places[] = { &vmcb.es, &vmcb.cs, &vmcb.ss,	&vmcb.ds,
						&vmcb.fs, &vmcb.gs, &vmcb.ldtr, &vmcb.tr };

	(void)state;
	for (uint32_t i = 0; i < 8; i++) {
		union hv_register_value value = { .segment = { 0x100 + i, 0x200 + i, (uint16_t)(8 * i),
							       0x93 } };

		assert_int_equal(svm_set_register(vp, VP_REGISTER_ES + i, &value), 0);
	}
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(places[i]->base, 0x100 + i);
		assert_int_equal(get(VP_REGISTER_ES + i).segment.limit, 0x200 + i);
		assert_int_equal(get(VP_REGISTER_ES + i).segment.selector, 8 * i);
	}
	/* What the processor has of them follows. */
	assert_int_equal(processor.fs.base, 0x104);
	assert_int_equal(processor.tr.base, 0x107);
	processor.gs.base = 0x7777; /* the guest's own MOV, without an exit */
	assert_int_equal(get(VP_REGISTER_GS).segment.base, 0x7777);
	processor.gs.base = 0x8888;
	assert_int_equal(svm_set_register(vp, VP_REGISTER_FS, &(const union hv_register_value){ .reg64 = 1 }),
			 0);
	assert_int_equal(processor.fs.base, 1);
	assert_int_equal(processor.gs.base, 0x8888);
}

static void a_vp_that_is_not_loaded(void **state)
{
	const union hv_register_value value = { .segment = { 0x1000, 0, 0, 0x93 } };
	uint64_t star;

	(void)state;
	lp.vp = NULL;
	processor.gs.base = 0x7777;
	assert_int_equal(svm_set_register(vp, VP_REGISTER_GS, &value), 0);
	assert_int_equal(get(VP_REGISTER_GS).segment.base, 0x1000);
	assert_int_equal(svm_set_msr(vp, 0xc0000081, 5), 0);
	assert_int_equal(svm_get_msr(vp, 0xc0000081, &star), 0);
	assert_int_equal(star, 5);
	assert_int_equal(processor.gs.base, 0x7777);
	assert_int_equal(saves + loads, 0);
}

static void ss_is_the_privilege_level(void **state)
{
	const union hv_register_value user = { .segment = { 0, 0xffffffff, 0x2b, 0xc0f3 } };
	const union hv_register_value kernel = { .segment = { 0, 0xffffffff, 0x18, 0xc093 } };

	(void)state;
	assert_int_equal(svm_set_register(vp, VP_REGISTER_SS, &user), 0);
	assert_int_equal(vmcb.cpl, 3);
	assert_int_equal(svm_set_register(vp, VP_REGISTER_DS, &kernel), 0);
	assert_int_equal(vmcb.cpl, 3);
	assert_int_equal(svm_set_register(vp, VP_REGISTER_SS, &kernel), 0);
	assert_int_equal(vmcb.cpl, 0);
}

/* SYSRET changes CPL and SS.selector, and the processor keeps no G (APM2 15.5.1): a parent that reads and writes back changes nothing. */
static void what_the_processor_does_not_keep(void **state)
{
	static const enum vp_register flat[] = { VP_REGISTER_CS, VP_REGISTER_DS };
	struct vp_snapshot snapshot;
	union hv_register_value ss;

	(void)state;
	vmcb.cpl = 3;
	vmcb.ss = (struct vmcb_segment){ 0x2b, 0xc93, 0xffffffff, 0 };
	ss = get(VP_REGISTER_SS);
	assert_int_equal(ss.segment.attributes, 0xc0f3);
	svm_get_snapshot(vp, &snapshot);
	assert_int_equal(snapshot.segment[INSN_SEG_SS].attributes, 0xc0f3);
	assert_int_equal(svm_set_register(vp, VP_REGISTER_SS, &ss), 0);
	assert_int_equal(vmcb.cpl, 3);
	vmcb.cpl = 0;
	vmcb.ss = (struct vmcb_segment){ 0 };
	assert_int_equal(get(VP_REGISTER_SS).segment.attributes, 0);
	vmcb.cs = (struct vmcb_segment){ 0x33, 0x2fb, 0xffffffff, 0 };
	vmcb.ds = (struct vmcb_segment){ 0, 0x493, 0x100000, 0 };
	for (size_t i = 0; i < ARRAY_SIZE(flat); i++)
		assert_true(get(flat[i]).segment.attributes & HV_SEGMENT_GRANULARITY);
	svm_get_snapshot(vp, &snapshot);
	assert_int_equal(snapshot.segment[INSN_SEG_CS].attributes, 0xa0fb);
	vmcb.ds.limit = 0xfffff;
	assert_int_equal(get(VP_REGISTER_DS).segment.attributes, 0x4093);
}

static void tables(void **state)
{
	const union hv_register_value value = { .table = { { 0 }, 0x7f, 0xfffffe0000001000 } };

	(void)state;
	assert_int_equal(svm_set_register(vp, VP_REGISTER_GDTR, &value), 0);
	assert_int_equal(vmcb.gdtr.limit, 0x7f);
	assert_int_equal(vmcb.gdtr.base, 0xfffffe0000001000);
	assert_int_equal(vmcb.idtr.base, 0);
	assert_int_equal(svm_set_register(vp, VP_REGISTER_IDTR, &value), 0);
	assert_int_equal(vmcb.idtr.limit, 0x7f);
	assert_int_equal(get(VP_REGISTER_IDTR).reg128.low, 0x7full << 48);
	assert_int_equal(get(VP_REGISTER_GDTR).table.base, 0xfffffe0000001000);
}

static void cr8_is_the_apics(void **state)
{
	(void)state;
	vp->apic.tpr = 0x50;
	assert_int_equal(get(VP_REGISTER_CR8).reg64, 5);
	assert_int_equal(set(VP_REGISTER_CR8, 9), 0);
	assert_int_equal(vp->apic.tpr, 0x90);
	assert_int_equal(vmcb.interrupt_control & V_TPR_MASK, 9);
	assert_int_equal(svm_of(vp)->v_tpr, 9);
	assert_int_equal(pending(), VP_PENDING_EVENT);
}

static void msrs_in_the_vmcb(void **state)
{
	static const struct {
		uint32_t msr;
		size_t offset;
		bool loaded;
	} map[] = {
		{ 0xc0000081, offsetof(struct vmcb, star), true },
		{ 0xc0000082, offsetof(struct vmcb, lstar), true },
		{ 0xc0000083, offsetof(struct vmcb, cstar), true },
		{ 0xc0000084, offsetof(struct vmcb, sfmask), true },
		{ 0xc0000102, offsetof(struct vmcb, kernel_gs_base), true },
		{ 0x174, offsetof(struct vmcb, sysenter_cs), true },
		{ 0x175, offsetof(struct vmcb, sysenter_esp), true },
		{ 0x176, offsetof(struct vmcb, sysenter_eip), true },
		{ 0x277, offsetof(struct vmcb, pat), false },
		{ 0x6a2, offsetof(struct vmcb, s_cet), false },
		{ 0x6a8, offsetof(struct vmcb, isst_addr), false },
	};
	uint64_t value;

	(void)state;
	has_shadow_stacks = true;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		uint64_t written = map[i].msr == 0x6a2 ? 3 : 0x4000 + i;

		assert_int_equal(svm_set_msr(vp, map[i].msr, written), 0);
		assert_int_equal(*(uint64_t *)((char *)&vmcb + map[i].offset), written);
		if (map[i].loaded) {
			assert_int_equal(*(uint64_t *)((char *)&processor + map[i].offset), written);
			*(uint64_t *)((char *)&processor + map[i].offset) = 0x5000 + i;
		}
		assert_int_equal(svm_get_msr(vp, map[i].msr, &value), 0);
		assert_int_equal(value, map[i].loaded ? 0x5000 + i : written);
	}
	assert_int_equal(read_msr | written_msr, 0);
	assert_int_equal(svm_set_msr(vp, 0x6a2, 4), -EINVAL); /* branch tracking */
	assert_int_equal(svm_set_msr(vp, 0x6a2, 0x40), -EINVAL);
	assert_int_equal(svm_set_msr(vp, 0x6a2, 1ull << 63), -EINVAL);
	assert_int_equal(vmcb.s_cet, 3);
	has_shadow_stacks = false;
	assert_int_equal(svm_get_msr(vp, 0x6a2, &value), -EINVAL);
	assert_int_equal(svm_set_msr(vp, 0x6a8, 0), -EINVAL);
}

static void other_msrs_go_the_guests_way(void **state)
{
	uint64_t value;

	(void)state;
	assert_int_equal(svm_get_msr(vp, 0x2ff, &value), 0);
	assert_int_equal(read_msr, 0x2ff);
	assert_int_equal(value, 0x1234);
	assert_int_equal(svm_set_msr(vp, 0x1b, 0xfee00900), 0);
	assert_int_equal(written_msr, 0x1b);
	assert_int_equal(written_value, 0xfee00900);
	assert_int_equal(pending(), VP_PENDING_EVENT);
	msr_error = -EINVAL;
	assert_int_equal(svm_get_msr(vp, 0x48, &value), -EINVAL);
	assert_int_equal(svm_set_msr(vp, 0x48, 1), -EINVAL);
}

/* Of a child's VP, no MSR of the machine's. */
static void other_msrs_of_a_child_are_its_own(void **state)
{
	static struct vp_child *const child = (struct vp_child *)0x1000; /* nobody looks into it */
	uint64_t value;

	(void)state;
	vp->child = child;
	assert_int_equal(svm_get_msr(vp, 0x2ff, &value), 0);
	assert_int_equal(child_read_msr, 0x2ff);
	assert_int_equal(value, 0x4321);
	assert_int_equal(svm_set_msr(vp, 0x1b, 0xfee00900), 0);
	assert_int_equal(child_written_msr, 0x1b);
	assert_int_equal(written_value, 0xfee00900);
	assert_int_equal(pending(), VP_PENDING_EVENT);
	msr_error = -EINVAL;
	assert_int_equal(svm_get_msr(vp, 0x48, &value), -EINVAL);
	assert_int_equal(svm_set_msr(vp, 0x48, 1), -EINVAL);
	assert_int_equal(read_msr | written_msr, 0);
}

/* What its LP doesn't hold is in the VMCB already: nobody else's registers may be read, or overwritten. */
static void a_borrowed_vps_registers_are_in_its_vmcb(void **state)
{
	union hv_register_value value = { .reg64 = 0 };
	uint64_t star;

	(void)state;
	lp.vp = NULL;
	vmcb.star = 0x77;
	vmcb.fs.base = 0x5000;
	assert_int_equal(svm_get_msr(vp, 0xc0000081, &star), 0);
	assert_int_equal(star, 0x77);
	assert_int_equal(svm_set_msr(vp, 0xc0000081, 0x78), 0);
	assert_int_equal(vmcb.star, 0x78);
	svm_get_register(vp, VP_REGISTER_FS, &value);
	assert_int_equal(value.segment.base, 0x5000);
	assert_int_equal(svm_set_register(vp, VP_REGISTER_FS, &value), 0);
	assert_int_equal(saves + loads, 0);
}

/* FFXSR and the like: a processor may have them, CPUID offers them to no child. */
static void efer_of_a_child(void **state)
{
	(void)state;
	svm.efer_writable |= BIT(14);
	assert_int_equal(svm_set_msr(vp, MSR_EFER, BIT(14) | EFER_SCE), 0);
	vp->child = (struct vp_child *)&vmcb; /* there is one */
	assert_int_equal(svm_set_msr(vp, MSR_EFER, BIT(14) | EFER_SCE), -EINVAL);
	assert_int_equal(svm_set_msr(vp, MSR_EFER, EFER_SCE), 0);
}

static void efer_hides_svm(void **state)
{
	uint64_t value;

	(void)state;
	assert_int_equal(svm_get_msr(vp, MSR_EFER, &value), 0);
	assert_int_equal(value, 0xd01);
	assert_int_equal(svm_set_msr(vp, MSR_EFER, 0x500), 0);
	assert_int_equal(vmcb.efer, EFER_SVME | 0x500);
	assert_int_equal(pending(), VP_PENDING_FLUSH);
	assert_int_equal(svm_set_msr(vp, MSR_EFER, 0x1500), -EINVAL);
	assert_int_equal(svm_set_msr(vp, MSR_EFER, 1ull << 63), -EINVAL);
	assert_int_equal(vmcb.efer, EFER_SVME | 0x500);
}

static void pending_interruptions(void **state)
{
	static const struct {
		uint64_t interface, vmcb, back;
	} map[] = {
		{ 0x300001, 0x80000030, 0x300001 },	   /* interrupt 30h */
		{ 0x5000e0017, 0x580000b0e, 0x5000e0017 }, /* page fault, error code 5 */
		{ 0x60007, 0x80000306, 0x60007 },	   /* #UD */
		{ 0x800049, 0x80000480, 0x800049 },	   /* INT 80h, two bytes */
		{ 0x3002d, 0x80000303, 0x3002d },	   /* INT3: an exception */
		{ 0x1002b, 0x80000301, 0x10007 },	   /* INT1 */
		{ 0xffffffff00000010, 0, 0 },		   /* nothing */
	};

	(void)state;
	vmcb.rip = 0x1000;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, map[i].interface), 0);
		assert_int_equal(vmcb.event_injection, map[i].vmcb);
		assert_int_equal(get(VP_REGISTER_PENDING_INTERRUPTION).reg64, map[i].back);
	}
	assert_false(svm_of(vp)->nmi_masked);
	assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, 0x5002d), -EINVAL); /* BOUND, in 64-bit mode */
	vmcb.efer &= ~EFER_LMA;
	assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, 0x4002d), 0);
}

/* What the processor pushes for INT n, #BP and #OF, whatever the exit before left there (APM2 15.7.1, 15.20). */
static void next_rips(void **state)
{
	static const struct {
		uint64_t pending;
		unsigned int length;
	} map[] = {
		{ 0x800049, 2 }, { 0x3002d, 1 }, { 0x4002d, 1 }, { 0x30007, 0 }, { 0x40007, 0 },
	};
	union hv_register_value rip = { .reg64 = 0x2000 };

	(void)state;
	vmcb.efer &= ~EFER_LMA;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		vmcb.rip = 0x1000;
		vmcb.next_rip = 0;
		assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, map[i].pending), 0);
		assert_int_equal(vmcb.next_rip, 0x1000 + map[i].length);
		/* The parent sets registers in any order. */
		assert_int_equal(svm_set_register(vp, VP_REGISTER_RIP, &rip), 0);
		assert_int_equal(vmcb.next_rip, 0x2000 + map[i].length);
		assert_int_equal(get(VP_REGISTER_PENDING_INTERRUPTION).reg64, map[i].pending);
	}
	vmcb.next_rip = 0x55;
	assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, 0x60007), 0);
	assert_int_equal(svm_set_register(vp, VP_REGISTER_RIP, &rip), 0);
	assert_int_equal(vmcb.next_rip, 0x55);
}

/* VMRUN ends with VMEXIT_INVALID, and Trivet with it, for a vector that no exception has. */
static void vectors_that_are_no_exceptions(void **state)
{
	static const uint8_t none[] = { 2, 9, 15, 20, 21, 22, 27, 28, 29, 30, 31, 32, 255 };

	(void)state;
	vmcb.efer &= ~EFER_LMA;
	for (uint64_t vector = 0; vector < 20; vector++)
		assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, vector << 16 | 7),
				 vector == 2 || vector == 9 || vector == 15 ? -EINVAL : 0);
	vmcb.event_injection = 0;
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, (uint64_t)none[i] << 16 | 7), -EINVAL);
	assert_int_equal(vmcb.event_injection, 0);
	has_shadow_stacks = true;
	assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, 21 << 16 | 7), 0);
}

static void a_pending_nmi_masks_others(void **state)
{
	(void)state;
	assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, 0x20005), 0);
	assert_int_equal(vmcb.event_injection, 0x80000202);
	assert_true(svm_of(vp)->nmi_masked);
	assert_true(vmcb.intercepts1 & INTERCEPT1_IRET);
	assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, 0), 0);
	assert_int_equal(get(VP_REGISTER_INTERRUPT_STATE).reg64, 0);
	assert_false(vmcb.intercepts1 & INTERCEPT1_IRET);
}

/* That the handler's IRET is over shows by RIP alone, until another NMI waits. */
static void nmis_open_behind_iret(void **state)
{
	(void)state;
	assert_int_equal(set(VP_REGISTER_INTERRUPT_STATE, 2), 0);
	svm_of(vp)->nmi_iret_seen = true;
	svm_of(vp)->iret_rip = vmcb.rip = 0x1000;
	vmcb.intercepts1 &= ~(uint32_t)INTERCEPT1_IRET;
	assert_int_equal(get(VP_REGISTER_INTERRUPT_STATE).reg64, 2);
	vmcb.rip = 0x2000;
	assert_int_equal(get(VP_REGISTER_INTERRUPT_STATE).reg64, 0);
	assert_int_equal(set(VP_REGISTER_INTERRUPT_STATE, 2), 0);
	assert_int_equal(get(VP_REGISTER_INTERRUPT_STATE).reg64, 2);
	assert_true(vmcb.intercepts1 & INTERCEPT1_IRET);
}

/* The step over that IRET is nobody's business. */
static void our_step_is_hidden(void **state)
{
	(void)state;
	svm_of(vp)->nmi_step = true;
	vmcb.rflags = 2 | RFLAGS_TF;
	assert_int_equal(get(VP_REGISTER_RFLAGS).reg64, 2);
	svm_of(vp)->nmi_step_tf = true;
	assert_int_equal(get(VP_REGISTER_RFLAGS).reg64, 2 | RFLAGS_TF);
	svm_of(vp)->nmi_step_tf = false;
	assert_int_equal(set(VP_REGISTER_RFLAGS, 2 | RFLAGS_TF), 0);
	assert_int_equal(get(VP_REGISTER_RFLAGS).reg64, 2 | RFLAGS_TF);
}

static void interrupt_state(void **state)
{
	(void)state;
	assert_int_equal(set(VP_REGISTER_INTERRUPT_STATE, 3), 0);
	assert_int_equal(vmcb.interrupt_shadow, 1);
	assert_true(svm_of(vp)->nmi_masked);
	assert_true(vmcb.intercepts1 & INTERCEPT1_IRET);
	assert_int_equal(get(VP_REGISTER_INTERRUPT_STATE).reg64, 3);
	svm_of(vp)->nmi_iret_seen = true;
	assert_int_equal(set(VP_REGISTER_INTERRUPT_STATE, 0), 0);
	assert_int_equal(vmcb.interrupt_shadow, 0);
	assert_false(svm_of(vp)->nmi_masked || svm_of(vp)->nmi_iret_seen);
	assert_false(vmcb.intercepts1 & INTERCEPT1_IRET);
	assert_int_equal(get(VP_REGISTER_INTERRUPT_STATE).reg64, 0);
	assert_int_equal(pending(), VP_PENDING_EVENT);
}

static void what_vmrun_refuses(void **state)
{
	static const struct {
		uint64_t cr0, cr4, efer, rflags;
		uint16_t cs;
		bool runs;
	} cases[] = {
		{ 0x80050033, 0x6f0, 0xd01, 2, 0x29b, true },	     /* 64-bit */
		{ 0x80050033, 0x6f0, 0xd01, 2, 0xc9b, true },	     /* compatibility mode */
		{ 0x80050033, 0x6f0, 0xd01, 2, 0x69b, false },	     /* L and D */
		{ 0x80050033, 0x6d0, 0xd01, 2, 0x29b, false },	     /* no PAE */
		{ 0x80050033, 0x6f0, 0x901, 2, 0x29b, false },	     /* LME, paging, not LMA */
		{ 0x80050033, 0x6f0, 0xc01, 2, 0x29b, false },	     /* LMA, not LME */
		{ 0x00050033, 0x6f0, 0xd01, 2, 0x29b, false },	     /* LMA, no paging */
		{ 0x00050033, 0x6f0, 0x901, 2, 0xc9b, true },	     /* on the way there */
		{ 0x80000010, 0x0, 0, 2, 0x09b, false },	     /* PG, no PE */
		{ 0x00000010, 0x0, 0, 2, 0x09b, true },		     /* real mode */
		{ 0x20000010, 0x0, 0, 2, 0x09b, false },	     /* NW, no CD */
		{ 0x60000010, 0x0, 0, 2, 0x09b, true },		     /* out of reset */
		{ 0x80050033, 0x206f0, 0xd01, 2, 0x29b, true },	     /* PCIDE */
		{ 0x80050033, 0x20690, 0, 2, 0xc9b, false },	     /* not without long mode */
		{ 0x80050033, 0x8006f0, 0xd01, 2, 0x29b, true },     /* CET */
		{ 0x80040033, 0x8006f0, 0xd01, 2, 0x29b, false },    /* needs WP */
		{ 0x80050033, 0x690, 0, 0x20002, 0x0f3, true },	     /* virtual 8086 mode */
		{ 0x80050033, 0x6f0, 0xd01, 0x20002, 0x29b, false }, /* not in long mode */
		{ 0x00000010, 0, 0, 0x20002, 0x09b, false },	     /* nor in real mode */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		vmcb.cr0 = cases[i].cr0;
		vmcb.cr4 = cases[i].cr4;
		vmcb.efer = cases[i].efer | EFER_SVME;
		vmcb.rflags = cases[i].rflags;
		vmcb.cs.attributes = cases[i].cs;
		if (svm_can_run(vp) != cases[i].runs)
			fail_msg("case %zu", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(plain_registers, setup),
		cmocka_unit_test_setup(bits_that_are_fixed, setup),
		cmocka_unit_test_setup(cr4_has_what_the_processor_has, setup),
		cmocka_unit_test_setup(rip_ends_the_shadow, setup),
		cmocka_unit_test_setup(segment_attributes, setup),
		cmocka_unit_test_setup(every_segment_has_its_place, setup),
		cmocka_unit_test_setup(what_the_processor_does_not_keep, setup),
		cmocka_unit_test_setup(a_vp_that_is_not_loaded, setup),
		cmocka_unit_test_setup(ss_is_the_privilege_level, setup),
		cmocka_unit_test_setup(tables, setup),
		cmocka_unit_test_setup(cr8_is_the_apics, setup),
		cmocka_unit_test_setup(msrs_in_the_vmcb, setup),
		cmocka_unit_test_setup(other_msrs_go_the_guests_way, setup),
		cmocka_unit_test_setup(other_msrs_of_a_child_are_its_own, setup),
		cmocka_unit_test_setup(a_borrowed_vps_registers_are_in_its_vmcb, setup),
		cmocka_unit_test_setup(efer_hides_svm, setup),
		cmocka_unit_test_setup(efer_of_a_child, setup),
		cmocka_unit_test_setup(pending_interruptions, setup),
		cmocka_unit_test_setup(next_rips, setup),
		cmocka_unit_test_setup(vectors_that_are_no_exceptions, setup),
		cmocka_unit_test_setup(a_pending_nmi_masks_others, setup),
		cmocka_unit_test_setup(nmis_open_behind_iret, setup),
		cmocka_unit_test_setup(our_step_is_hidden, setup),
		cmocka_unit_test_setup(interrupt_state, setup),
		cmocka_unit_test_setup(what_vmrun_refuses, setup),
	};
	int failed;

	vp = aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(*vp), PAGE_SIZE));
	failed = cmocka_run_group_tests_name("SVM registers by name", tests, NULL, NULL);
	free(vp);
	return failed;
}
