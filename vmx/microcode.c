/* SPDX-License-Identifier: MIT */
/*
 * Microcode updates by the root. WRMSR of IA32_BIOS_UPDT_TRIG does nothing in VMX non-root operation (SDM3 26.3), so it is
 * done here in its place. The address in it is a linear one (SDM3 10.11.6): ours is the same memory in the RAM window,
 * where it is in one piece only if the root has it in one piece. The processor itself checks what it loads.
 */
#include "vmx.h"
#include <trivet/guest_walk.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>

/* The update's header lies before the data that the address points to, SDM3 table 10-7. */
#define HEADER_SIZE 48u
#define DATA_SIZE_BACK 20u  /* from the data back to the field "data size": 0 means 2000 */
#define TOTAL_SIZE_BACK 16u /* to "total size", which counts only if data size isn't 0 */
#define OLD_TOTAL_SIZE 2048u
#define TOTAL_SIZE_MAX (4u << 20)
#define DATA_ALIGN 16u

static const char *read_field(const struct vp_context *context, struct vp *vp, uint64_t gva, uint32_t *value)
{
	struct guest_translation at;

	if (guest_walk(&context->paging, vp, GVA(gva), GUEST_READ, &at) ||
	    !guest_phys_read32(vp, at.gpa, value))
		return "its header can't be read";
	return NULL;
}

/* The whole update's place in the RAM window, or NULL and why not. */
static const uint8_t *find_update(const struct vp_context *context, struct vp *vp, uint64_t data,
				  const char **why)
{
	uint64_t start = data - HEADER_SIZE, first_gpa = 0;
	struct guest_translation at;
	uint32_t data_size, size;

	*why = read_field(context, vp, data - DATA_SIZE_BACK, &data_size);
	if (!*why)
		*why = read_field(context, vp, data - TOTAL_SIZE_BACK, &size);
	if (*why)
		return NULL;
	if (!data_size)
		size = OLD_TOTAL_SIZE;
	*why = "its size makes no sense";
	if (size <= HEADER_SIZE || size > TOTAL_SIZE_MAX)
		return NULL;
	for (uint64_t offset = 0; offset < size;
	     offset = ALIGN_DOWN(start + offset, PAGE_SIZE) + PAGE_SIZE - start) {
		*why = "not all of it is mapped";
		if (guest_walk(&context->paging, vp, GVA(start + offset), GUEST_READ, &at))
			return NULL;
		*why = "it is not in one piece of memory";
		if (!offset)
			first_gpa = at.gpa.v;
		else if (at.gpa.v != first_gpa + offset)
			return NULL;
	}
	*why = "it is not in memory";
	return host_ram_window(HPA(first_gpa), size);
}

bool vmx_microcode_write(struct vp *vp, uint64_t value)
{
	static struct log_ratelimit bucket;
	struct vp_context context;
	const uint8_t *update;
	const char *why;
	uint64_t cr2;

	if (!IS_ALIGNED(value, DATA_ALIGN))
		return false;
	backend->get_context(vp, &context);
	/* Reads of guest memory that fail leave an address of ours in CR2, which is the guest's. */
	cr2 = read_cr2();
	update = find_update(&context, vp, value, &why);
	write_cr2(cr2);
	if (!update) {
		log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index,
				   "microcode update at 0x%llx not loaded: %s", (unsigned long long)value,
				   why);
		return true;
	}
	return safe_wrmsr(MSR_BIOS_UPDT_TRIG, (uint64_t)(update + HEADER_SIZE));
}
