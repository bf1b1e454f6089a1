/* SPDX-License-Identifier: MIT */
/*
 * Doorbells: a child's connections of that kind, and its stores that ring them. The table is looked into without a lock, as that of the other
 * connections: by the hash of an address to a page, and in that page from a place on until one that was never used. A connection's key has a
 * serial number, so one that is read whole between two looks at its key is one connection's.
 */
#include <errno.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/doorbell.h>
#include <trivet/emulate.h>
#include <trivet/event_ring.h>
#include <trivet/page_source.h>
#include <trivet/partition.h>
#include <trivet/port.h>
#include <trivet/synic.h>
#include <trivet/vp.h>

#define FLAGS_DEFINED (HV_DOORBELL_SIZE_MASK | HV_DOORBELL_ANY_VALUE)
#define KEY_USED BIT(24) /* bits 23:0: the connection's id */
#define KEY_FREE BIT(25) /* used before */
#define KEY_SERIAL_SHIFT 32
#define ID_MASK HV_CONNECTION_ID_MASK

struct doorbell {
	_Atomic uint64_t key; /* 0: never used */
	_Atomic uint64_t gpa;
	_Atomic uint64_t value, flags;
	_Atomic(struct port *) port;
	_Atomic uint64_t generation; /* the port's */
};

#define PER_PAGE (PAGE_SIZE / sizeof(struct doorbell))

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

/* ---- The table ---- */

static _Atomic(struct doorbell *) *page_of(struct partition *partition, uint64_t gpa)
{
	return &partition->ports.doorbell_pages[gpa * 0x9e3779b97f4a7c15ull >> 60];
}
static_assert(DOORBELL_PAGES == 16, "page_of()");

static unsigned int place_of(uint64_t gpa)
{
	return (unsigned int)((gpa >> 2) % PER_PAGE);
}

static bool is_used(const struct doorbell *bell)
{
	return load(&bell->key) & KEY_USED;
}

static struct doorbell *find_by_id(struct partition *partition, uint32_t id)
{
	for (unsigned int i = 0; i < DOORBELL_PAGES; i++) {
		struct doorbell *page =
			atomic_load_explicit(&partition->ports.doorbell_pages[i], memory_order_relaxed);

		for (unsigned int j = 0; page && j < PER_PAGE; j++)
			if (is_used(&page[j]) && (load(&page[j].key) & ID_MASK) == id)
				return &page[j];
	}
	return NULL;
}

static uint16_t connect_locked(struct partition *partition, uint32_t id,
			       const struct hv_connection_info *info, struct port *port, uint64_t generation)
{
	_Atomic(struct doorbell *) *where = page_of(partition, info->gpa);
	struct doorbell *page = atomic_load_explicit(where, memory_order_relaxed);

	if (find_by_id(partition, id))
		return HV_STATUS_INVALID_CONNECTION_ID;
	if (!page) {
		page = partition->pages->alloc(partition->pages);
		if (!page)
			return partition_is_root(partition) ? HV_STATUS_NO_RESOURCES :
							      HV_STATUS_INSUFFICIENT_MEMORY;
		atomic_store_explicit(where, page, memory_order_release);
	}
	for (unsigned int i = 0; i < PER_PAGE; i++) {
		struct doorbell *bell = &page[(place_of(info->gpa) + i) % PER_PAGE];

		if (is_used(bell))
			continue;
		atomic_store_explicit(&bell->gpa, info->gpa, memory_order_relaxed);
		atomic_store_explicit(&bell->value, info->trigger_value, memory_order_relaxed);
		atomic_store_explicit(&bell->flags, info->flags, memory_order_relaxed);
		atomic_store_explicit(&bell->port, port, memory_order_relaxed);
		atomic_store_explicit(&bell->generation, generation, memory_order_relaxed);
		atomic_store_explicit(&bell->key,
				      (uint64_t)++partition->ports.doorbell_serial << KEY_SERIAL_SHIFT |
					      KEY_USED | id,
				      memory_order_release);
		return HV_STATUS_SUCCESS;
	}
	return HV_STATUS_NO_RESOURCES;
}

uint16_t doorbell_connect(struct partition *partition, uint32_t connection_id, struct partition *owner,
			  uint32_t port_id, const struct hv_connection_info *info)
{
	uint64_t generation = 0;
	struct port *port;
	uint16_t status;

	if (connection_id & ~ID_MASK)
		return HV_STATUS_INVALID_CONNECTION_ID;
	if ((info->flags & ~FLAGS_DEFINED) || (info->flags & HV_DOORBELL_SIZE_MASK) > HV_DOORBELL_SIZE_QWORD)
		return HV_STATUS_INVALID_PARAMETER;
	status = port_find(partition, owner, port_id, HV_PORT_TYPE_DOORBELL, &port, &generation);
	if (status)
		return status;
	spin_lock(&partition->ports.lock);
	status = connect_locked(partition, connection_id, info, port, generation);
	spin_unlock(&partition->ports.lock);
	return status;
}

uint16_t doorbell_disconnect(struct partition *partition, uint32_t connection_id)
{
	struct doorbell *bell;

	spin_lock(&partition->ports.lock);
	bell = find_by_id(partition, connection_id);
	if (bell)
		atomic_store_explicit(&bell->key, KEY_FREE, memory_order_release);
	spin_unlock(&partition->ports.lock);
	return bell ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_CONNECTION_ID;
}

/* ---- Ringing ---- */

/* Of any VP: one that is run where the child's is, then the first that takes it. */
static struct vp *find_target(const struct partition *owner, const struct port_target *target)
{
	struct vp *here = this_lp()->root_vp;

	if (target->vp_index != HV_VP_INDEX_ANY) {
		struct vp *vp = target->vp_index < owner->vp_count ? owner->vps[target->vp_index] : NULL;

		return vp && event_ring_is_ready(vp) ? vp : NULL;
	}
	if (here && here->partition == owner && event_ring_is_ready(here))
		return here;
	for (uint32_t i = 0; i < owner->vp_count; i++)
		if (owner->vps[i] && event_ring_is_ready(owner->vps[i]))
			return owner->vps[i];
	return NULL;
}

/* False: nobody hears it. One that rang and isn't in the ring yet has rung. */
static bool ring(struct vp *vp, struct port *port, uint64_t generation)
{
	struct port_target target;
	struct vp *to;

	if (!port_target_now(port, generation, &target))
		return false;
	to = find_target(port->partition, &target);
	if (!to)
		return false;
	if (port_bell_get(port, generation)) {
		port->link.sint = target.sint;
		port->link.sender = SYNIC_DOORBELL;
		synic_post(to, vp, &port->link);
	}
	return true;
}

struct store {
	struct vp *vp;
	const struct doorbell *page;
	uint64_t gpa;
};

static bool answers(const struct doorbell *bell, uint64_t gpa, unsigned int size, uint64_t value)
{
	uint64_t flags = load(&bell->flags);
	uint64_t wanted = flags & HV_DOORBELL_SIZE_MASK;
	uint64_t mask = size >= 8 ? UINT64_MAX : BIT(8 * size) - 1;

	return load(&bell->gpa) == gpa && (wanted == HV_DOORBELL_SIZE_ANY || BIT(wanted - 1) == size) &&
	       ((flags & HV_DOORBELL_ANY_VALUE) || (load(&bell->value) & mask) == (value & mask));
}

/* -ENOENT: none that answers to this store; nothing was done. */
static int on_write(void *ctx, unsigned int size, uint64_t value)
{
	const struct store *store = ctx;

	for (unsigned int i = 0; i < PER_PAGE; i++) {
		const struct doorbell *bell = &store->page[(place_of(store->gpa) + i) % PER_PAGE];
		uint64_t key = load(&bell->key);
		struct port *port;
		uint64_t generation;

		if (!key)
			break;
		if (!(key & KEY_USED) || !answers(bell, store->gpa, size, value))
			continue;
		port = atomic_load_explicit(&bell->port, memory_order_acquire);
		generation = load(&bell->generation);
		if (load(&bell->key) == key && ring(store->vp, port, generation))
			return 0;
	}
	return -ENOENT;
}

static int on_read(void *ctx, unsigned int size, uint64_t *value)
{
	(void)ctx;
	(void)size;
	*value = 0;
	return -ENOTSUP;
}

static bool has_any(const struct doorbell *page, uint64_t gpa)
{
	for (unsigned int i = 0; i < PER_PAGE; i++) {
		const struct doorbell *bell = &page[(place_of(gpa) + i) % PER_PAGE];
		uint64_t key = load(&bell->key);

		if (!key)
			return false;
		if ((key & KEY_USED) && load(&bell->gpa) == gpa)
			return true;
	}
	return false;
}

bool doorbell_store(struct vp *vp, gpa_t gpa)
{
	struct doorbell *page = atomic_load_explicit(page_of(vp->partition, gpa.v), memory_order_acquire);
	struct store store = { .vp = vp, .page = page, .gpa = gpa.v };
	struct mmio_access io = { .ctx = &store, .read = on_read, .write = on_write, .device_is_dest = true };
	struct vp_context context;
	struct insn insn;
	int err;

	if (!page || !has_any(page, gpa.v))
		return false;
	err = vp_decode_current(vp, &context, &insn);
	if (!err)
		err = emulate_mmio(&insn, vp->gpr, &context.rflags, &io);
	if (err < 0)
		return false;
	if (err == EMULATE_DONE)
		context.rip += insn.length;
	backend->set_context(vp, &context);
	return true;
}
