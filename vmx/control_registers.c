/* SPDX-License-Identifier: MIT */
/*
 * Writes of control registers that exit: those that change a bit the hypervisor owns (SDM3 26.1.3). They are carried out as MOV
 * to CR does, with all its checks (SDM2 MOV-Control Registers, SDM3 2.5): the processor has made none of them yet.
 */
#include "vmx.h"
#include <trivet/assert.h>
#include <trivet/exceptions.h>
#include <trivet/guest_walk.h>
#include <trivet/io.h>

/* Exit qualification, SDM3 table 28-3 */
#define CR_NUMBER_MASK 0xfull
#define CR_ACCESS_SHIFT 4
#define CR_REGISTER_SHIFT 8
#define CR_LMSW_SHIFT 16
#define CR_ACCESS_MOV_TO 0u
#define CR_ACCESS_LMSW 3u

#define CR0_LMSW 0xfull
#define CR3_PCID 0xfffull
#define CR4_RELOADS_PDPTES (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP) /* SDM3 4.4.1 */

#define PDPTE_PRESENT BIT(0)
#define PDPTE_RESERVED_LOW 0x1e6ull /* bits 2:1 and 8:5, SDM3 4.4.1 */

/* PAE paging keeps its four top entries in registers. */
bool vmx_load_pdptes(struct vp *vp)
{
	uint64_t reserved = PDPTE_RESERVED_LOW | ~(BIT(vmx.phys_bits) - 1);
	uint64_t table = vmread(VMCS_GUEST_CR3) & 0xffffffe0u;
	uint64_t entries[4];

	for (uint32_t i = 0; i < 4; i++)
		if (!guest_phys_read64(vp, GPA(table + i * 8), &entries[i]) ||
		    ((entries[i] & PDPTE_PRESENT) && (entries[i] & reserved)))
			return false;
	for (uint32_t i = 0; i < 4; i++)
		vmwrite(VMCS_GUEST_PDPTE0 + 2 * i, entries[i]);
	return true;
}

static bool cr0_is_legal(const struct vp *vp, uint64_t value, uint64_t old)
{
	uint64_t cr4 = vmx_guest_cr4(vp);
	uint64_t efer = vmread(VMCS_GUEST_EFER);
	bool code_is_long = vmread(VMCS_GUEST_CS_RIGHTS) & RIGHTS_LONG;
	bool tr_is_32bit = (vmread(VMCS_GUEST_TR_RIGHTS) & RIGHTS_TYPE) == 11;

	if (value >> 32)
		return false;
	if ((value & CR0_PG) && !(value & CR0_PE))
		return false;
	if ((value & CR0_NW) && !(value & CR0_CD))
		return false;
	if ((cr4 & CR4_CET) && !(value & CR0_WP))
		return false;
	if ((value & CR0_PG) && !(old & CR0_PG) && (efer & EFER_LME))
		return (cr4 & CR4_PAE) && !code_is_long && tr_is_32bit;
	if (!(value & CR0_PG) && (old & CR0_PG))
		return !(cr4 & CR4_PCIDE) && !((efer & EFER_LMA) && code_is_long);
	return true;
}

static bool write_cr0(struct vp *vp, uint64_t value)
{
	uint64_t old = vmx_guest_cr0(vp);
	uint64_t efer = vmread(VMCS_GUEST_EFER);
	bool pae = (value & CR0_PG) && (vmx_guest_cr4(vp) & CR4_PAE) && !(efer & EFER_LME);

	if (!cr0_is_legal(vp, value, old))
		return false;
	if (pae && ((value ^ old) & (CR0_PG | CR0_CD | CR0_NW)) && !vmx_load_pdptes(vp))
		return false;
	if (efer & EFER_LME)
		vmx_set_guest_efer(value & CR0_PG ? efer | EFER_LMA : efer & ~EFER_LMA);
	vmx_set_guest_cr0(vp, value | CR0_ET);
	vp_post_self(vp, VP_PENDING_FLUSH);
	return true;
}

/* Only a child's CR4 has bits that may be written and are owned all the same. */
static bool write_cr4(struct vp *vp, uint64_t value)
{
	uint64_t old = vmx_guest_cr4(vp), changed = value ^ old;
	uint64_t efer = vmread(VMCS_GUEST_EFER);
	uint64_t hidden = vmread(VMCS_CR4_MASK) & ~CR4_MCE;
	bool pae = (vmx_guest_cr0(vp) & CR0_PG) && (value & CR4_PAE) && !(efer & EFER_LMA);

	if (!vp->child || (changed & hidden))
		return false;
	if ((efer & EFER_LMA) && !(value & CR4_PAE))
		return false;
	if ((changed & value & CR4_PCIDE) && (!(efer & EFER_LMA) || (vmread(VMCS_GUEST_CR3) & CR3_PCID)))
		return false;
	if (pae && (changed & CR4_RELOADS_PDPTES) && !vmx_load_pdptes(vp))
		return false;
	vmx_set_guest_cr4(vp, value);
	vp_post_self(vp, VP_PENDING_FLUSH);
	return true;
}

void vmx_handle_cr(struct vp *vp)
{
	uint64_t info = vmread(VMCS_EXIT_QUALIFICATION);
	unsigned int access = info >> CR_ACCESS_SHIFT & 3;
	unsigned int reg = info >> CR_REGISTER_SHIFT & 15;
	uint64_t value = reg == GPR_RSP ? vmread(VMCS_GUEST_RSP) : vp->gpr[reg];
	bool done = false;

	trace_info(&vp->lp->trace, info);
	if (!vmx_in_64bit_code())
		value = (uint32_t)value;
	if (access == CR_ACCESS_LMSW) {
		uint64_t old = vmx_guest_cr0(vp);

		/* LMSW can't clear PE. */
		value = (old & ~(CR0_LMSW & ~CR0_PE)) | (info >> CR_LMSW_SHIFT & CR0_LMSW);
		done = write_cr0(vp, value);
	} else if (access == CR_ACCESS_MOV_TO && (info & CR_NUMBER_MASK) == 0) {
		done = write_cr0(vp, value);
	} else if (access == CR_ACCESS_MOV_TO && (info & CR_NUMBER_MASK) == 4) {
		done = write_cr4(vp, value);
	}
	/* A root's MOV to CR4 exits only when it sets VMXE or SMXE, which don't exist here. */
	if (!done) {
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	}
	vmx_complete(vp, vmread(VMCS_GUEST_RIP) + (uint32_t)vmread(VMCS_EXIT_INSTRUCTION_LENGTH));
}
