/* SPDX-License-Identifier: MIT */
/*
 * Partitions by their number, and who may act on whom: the one place where a partition id of a caller's becomes a partition.
 * A number is never used again.
 */
#include <hv/status.h>
#include <hv/types.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define PARTITIONS_MAX 1024u
#define ROOT_SLOT 1u

/* By id % PARTITIONS_MAX; the root's place stays empty, nobody needs to find it. */
static struct partition *_Atomic table[PARTITIONS_MAX];
static struct spinlock table_lock = SPINLOCK_INIT(LOCK_RANK_PARTITION_TABLE);
static uint64_t ids_used; /* the highest id / PARTITIONS_MAX so far */
static _Atomic uint32_t children;

static struct partition *find(uint64_t id)
{
	struct partition *partition = atomic_load_explicit(&table[id % PARTITIONS_MAX], memory_order_acquire);

	return partition && partition->id == id ? partition : NULL;
}

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	struct partition *own = caller->partition, *child;

	*status = HV_STATUS_SUCCESS;
	if ((own->privileges & privilege) != privilege) {
		*status = HV_STATUS_ACCESS_DENIED;
		return NULL;
	}
	if (id == HV_PARTITION_ID_SELF || id == own->id)
		return own;
	child = find(id);
	if (child && child->parent == own)
		return child;
	/* Whether another's id exists is nobody's business: the same answer for both. */
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

uint32_t partition_count(void)
{
	return 1 + atomic_load_explicit(&children, memory_order_relaxed);
}

bool partition_publish(struct partition *child)
{
	bool found = false;

	spin_lock(&table_lock);
	for (uint32_t slot = 0; slot < PARTITIONS_MAX && !found; slot++) {
		if (slot == ROOT_SLOT || atomic_load_explicit(&table[slot], memory_order_relaxed))
			continue;
		child->id = ++ids_used * PARTITIONS_MAX + slot;
		atomic_store_explicit(&table[slot], child, memory_order_release);
		atomic_fetch_add(&children, 1);
		found = true;
	}
	spin_unlock(&table_lock);
	return found;
}

void partition_unpublish(struct partition *child)
{
	spin_lock(&table_lock);
	atomic_store_explicit(&table[child->id % PARTITIONS_MAX], NULL, memory_order_release);
	atomic_fetch_sub(&children, 1);
	spin_unlock(&table_lock);
}
