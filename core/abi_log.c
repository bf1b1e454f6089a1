/* SPDX-License-Identifier: MIT */
/* The ring of refused hypercalls and MSR accesses: each LP writes its own, so that a guest's mistakes cost others nothing. */
#include <trivet/abi_log.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

static const char *name_of(const struct abi_refusal *entry)
{
	const char *name = entry->kind == ABI_HYPERCALL ? hypercall_name((uint16_t)entry->number) :
							  hv_msr_name(entry->number);

	return name ? name : "unknown";
}

static void log_entry(enum log_level level, const struct abi_refusal *entry)
{
	static const char *const kinds[] = { "hypercall", "read of MSR", "write of MSR" };

	log_vp_at(level, entry->partition_id, entry->vp_index, "%s 0x%x (%s) 0x%llx: status 0x%x, %s",
		  kinds[entry->kind], entry->number, name_of(entry), (unsigned long long)entry->value,
		  entry->status, entry->rule);
}

static __attribute__((__noinline__)) void log_if_wanted(struct abi_ring *ring,
							const struct abi_refusal *entry)
{
	if (log_ratelimit_allow(&ring->lines))
		log_entry(LOG_ABI, entry);
}

void abi_refused(struct vp *vp, enum abi_kind kind, uint32_t number, uint64_t value, uint16_t status,
		 const char *rule)
{
	struct abi_ring *ring = &vp->lp->abi;
	struct abi_refusal *entry = &ring->entries[ring->next++ & (ABI_LOG_ENTRIES - 1)];

	*entry = (struct abi_refusal){
		.rule = rule,
		.value = value,
		.partition_id = vp->partition->id,
		.vp_index = vp->index,
		.number = number,
		.kind = (uint16_t)kind,
		.status = status,
	};
	if (unlikely(log_threshold >= LOG_ABI))
		log_if_wanted(ring, entry);
}

void abi_log_dump(const struct lp *lp)
{
	for (uint32_t i = 0; i < ABI_LOG_ENTRIES; i++) {
		const struct abi_refusal *entry =
			&lp->abi.entries[(lp->abi.next + i) & (ABI_LOG_ENTRIES - 1)];

		if (entry->rule)
			log_entry(LOG_ERROR, entry);
	}
}
