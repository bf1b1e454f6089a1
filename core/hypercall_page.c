/* SPDX-License-Identifier: MIT */
/*
 * The hypercall page and the guest's identity. Both MSRs belong to the partition and any VP may write them, so their rules
 * about each other hold under the lock.
 */
#include <errno.h>
#include <string.h>

#include <hv/cpuid.h>
#include <hv/msr.h>
#include <trivet/backend.h>
#include <trivet/flush.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall_page.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

/* Opcode and return and nothing else: guests copy the page, or leave it alone and use the instruction. The rest are INT3. */
#define FILLER 0xcc

int hypercall_page_init(struct partition *partition)
{
	uint8_t *code;
	int err = overlay_init(partition, &partition->hypercall_page, OVERLAY_HYPERCALL);

	if (err)
		return err;
	code = overlay_content(&partition->hypercall_page);
	memset(code, FILLER, PAGE_SIZE);
	memcpy(code, backend->hypercall_code, sizeof(backend->hypercall_code));
	return 0;
}

static bool is_locked(const struct partition *partition)
{
	return (partition->features & HV_FEATURE_HYPERCALL_MSR_LOCK) &&
	       (overlay_read_msr(&partition->hypercall_page) & HV_HYPERCALL_MSR_LOCKED);
}

int hv_msr_read_guest_os_id(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = __atomic_load_n(&vp->partition->guest_os_id, __ATOMIC_RELAXED);
	return 0;
}

/* Without an identity the page goes; a locked one stays where it is, but makes no calls. */
int hv_msr_write_guest_os_id(struct vp *vp, uint32_t msr, uint64_t value)
{
	struct partition *partition = vp->partition;
	struct overlay *page = &partition->hypercall_page;
	bool changes;
	int err = 0;

	(void)msr;
	spin_lock(&partition->space_lock);
	changes = value != partition->guest_os_id;
	if (!value && !is_locked(partition))
		err = overlay_change(partition, vp, page, overlay_read_msr(page) & ~HV_HYPERCALL_MSR_ENABLE);
	if (!err)
		__atomic_store_n(&partition->guest_os_id, value, __ATOMIC_RELAXED);
	spin_unlock(&partition->space_lock);
	if (!value)
		flush_and_reclaim(partition, vp);
	if (!err && changes)
		device_interrupts_reset(partition); /* one system's mappings are nothing to the next */
	return err;
}

int hv_msr_read_hypercall(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = overlay_read_msr(&vp->partition->hypercall_page);
	return 0;
}

/* While the guest has no identity, the enable bit stays 0 whatever is written. */
int hv_msr_write_hypercall(struct vp *vp, uint32_t msr, uint64_t value)
{
	struct partition *partition = vp->partition;
	int err = -EINVAL;

	(void)msr;
	spin_lock(&partition->space_lock);
	if (!partition->guest_os_id)
		value &= ~HV_HYPERCALL_MSR_ENABLE;
	if (!is_locked(partition))
		err = overlay_change(partition, vp, &partition->hypercall_page, value);
	spin_unlock(&partition->space_lock);
	flush_and_reclaim(partition, vp);
	return err;
}
