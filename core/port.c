/* SPDX-License-Identifier: MIT */
/*
 * Ports and connections: the tables, and the buffers of message ports. One word of a port, `state`, decides about its buffers: which
 * are in use, whether it is deleted, and its generation. Whoever makes it "deleted, none in use" frees them, and only then
 * is the place in the table anybody's again. So a sender that holds a buffer holds the port.
 *
 * Tables and buffers are pages of the partition's whose they are. A shortage of our own memory, which serves the root, is NO_RESOURCES:
 * INSUFFICIENT_MEMORY asks for deposits, which don't go there, and Linux would deposit for ever. For a child they help.
 */
#include <errno.h>
#include <hv/port.h>
#include <hv/status.h>
#include <trivet/page_source.h>
#include <trivet/partition.h>
#include <trivet/port.h>

#define BUFFERS_PER_PAGE (PORT_BUFFERS / PORT_BUFFER_PAGES)
static_assert(sizeof(struct port_buffer) * BUFFERS_PER_PAGE <= PAGE_SIZE, "struct port_buffer");

/* TLFS "HV_CONNECTION_ID", "HV_PORT_ID": the high 8 bits are reserved. */
#define ID_RESERVED 0xff000000u

#define CONNECTION_USED BIT(32)
#define CONNECTION_FREE BIT(33)

/* struct port_target in a word. */
#define TARGET_SINT_SHIFT 3
#define TARGET_BASE_SHIFT 7
#define TARGET_COUNT_SHIFT 18
#define TARGET_VP_SHIFT 32

static uint64_t pack(const struct port_target *target)
{
	return target->type | (uint64_t)target->sint << TARGET_SINT_SHIFT |
	       (uint64_t)target->base_flag << TARGET_BASE_SHIFT |
	       (uint64_t)target->flag_count << TARGET_COUNT_SHIFT |
	       (uint64_t)target->vp_index << TARGET_VP_SHIFT;
}

static struct port_target unpack(uint64_t word)
{
	return (struct port_target){
		.type = word & 7,
		.sint = word >> TARGET_SINT_SHIFT & 15,
		.base_flag = word >> TARGET_BASE_SHIFT & 0x7ff,
		.flag_count = word >> TARGET_COUNT_SHIFT & 0xfff,
		.vp_index = (uint32_t)(word >> TARGET_VP_SHIFT),
	};
}

static void *alloc_page(struct partition *partition)
{
	return partition->pages->alloc(partition->pages);
}

static void free_page(struct partition *partition, void *page)
{
	if (page)
		partition->pages->free(partition->pages, page);
}

static uint16_t no_memory(const struct partition *partition)
{
	return partition_is_root(partition) ? HV_STATUS_NO_RESOURCES : HV_STATUS_INSUFFICIENT_MEMORY;
}

static void free_buffers(struct partition *partition, const struct port_buffers *buffers)
{
	for (unsigned int i = 0; i < PORT_BUFFER_PAGES; i++)
		free_page(partition, buffers->page[i]);
}

void port_space_disconnect(struct partition *partition)
{
	struct port_space *parents = &partition->parent->ports;

	spin_lock(&parents->lock);
	for (unsigned int i = 0; i < CONNECTION_PAGES; i++) {
		struct connection *page =
			atomic_load_explicit(&parents->connection_pages[i], memory_order_relaxed);

		for (unsigned int j = 0; page && j < CONNECTIONS_PER_PAGE; j++) {
			uint64_t key = atomic_load_explicit(&page[j].key, memory_order_relaxed);

			if ((key & CONNECTION_USED) &&
			    atomic_load_explicit(&page[j].port, memory_order_relaxed)->partition == partition)
				atomic_store_explicit(&page[j].key, CONNECTION_FREE, memory_order_release);
		}
	}
	spin_unlock(&parents->lock);
}

void port_space_destroy(struct partition *partition)
{
	struct port_space *space = &partition->ports;

	/* Its parent may still name one of them, to delete it. */
	spin_lock(&space->lock);
	for (unsigned int i = 0; i < PORT_PAGES; i++) {
		struct port *ports = atomic_load_explicit(&space->port_pages[i], memory_order_relaxed);

		if (!ports)
			continue;
		for (unsigned int j = 0; j < PORTS_PER_PAGE; j++)
			if (ports[j].live)
				free_buffers(partition, &ports[j].buffers);
		free_page(partition, ports);
		atomic_store_explicit(&space->port_pages[i], NULL, memory_order_relaxed);
	}
	for (unsigned int i = 0; i < CONNECTION_PAGES; i++) {
		struct connection *page =
			atomic_load_explicit(&space->connection_pages[i], memory_order_relaxed);

		free_page(partition, page);
		atomic_store_explicit(&space->connection_pages[i], NULL, memory_order_relaxed);
	}
	for (unsigned int i = 0; i < DOORBELL_PAGES; i++) {
		free_page(partition, atomic_load_explicit(&space->doorbell_pages[i], memory_order_relaxed));
		atomic_store_explicit(&space->doorbell_pages[i], NULL, memory_order_relaxed);
	}
	spin_unlock(&space->lock);
}

uint64_t port_space_table_pages(const struct partition *partition)
{
	const struct port_space *space = &partition->ports;
	uint64_t pages = 0;

	for (unsigned int i = 0; i < PORT_PAGES; i++)
		pages += atomic_load_explicit(&space->port_pages[i], memory_order_relaxed) != NULL;
	for (unsigned int i = 0; i < CONNECTION_PAGES; i++)
		pages += atomic_load_explicit(&space->connection_pages[i], memory_order_relaxed) != NULL;
	for (unsigned int i = 0; i < DOORBELL_PAGES; i++)
		pages += atomic_load_explicit(&space->doorbell_pages[i], memory_order_relaxed) != NULL;
	return pages;
}

/* ---- Ports, under the lock ---- */

static unsigned int port_page_of(uint32_t id)
{
	return (unsigned int)(id / PORTS_PER_PAGE % PORT_PAGES);
}

static struct port *find_port(struct port_space *space, uint32_t id)
{
	struct port *page = atomic_load_explicit(&space->port_pages[port_page_of(id)], memory_order_relaxed);

	if (!page)
		return NULL;
	for (unsigned int i = 0; i < PORTS_PER_PAGE; i++)
		if (page[i].live && page[i].id == id)
			return &page[i];
	return NULL;
}

/* Nobody has the port, and no sender a buffer of it. */
static bool is_vacant(const struct port *port)
{
	uint64_t state = atomic_load_explicit(&port->state, memory_order_acquire);

	return !port->live && !(state & PORT_STATE_BUFFERS);
}

static uint16_t take_place(struct partition *partition, uint32_t id, struct port **place)
{
	struct port_space *space = &partition->ports;
	unsigned int index = port_page_of(id);
	struct port *page = atomic_load_explicit(&space->port_pages[index], memory_order_relaxed);

	if (!page) {
		page = alloc_page(partition);
		if (!page)
			return no_memory(partition);
		for (unsigned int i = 0; i < PORTS_PER_PAGE; i++)
			atomic_store_explicit(&page[i].state, PORT_STATE_DELETED, memory_order_relaxed);
		atomic_store_explicit(&space->port_pages[index], page, memory_order_release);
	}
	for (unsigned int i = 0; i < PORTS_PER_PAGE; i++) {
		if (is_vacant(&page[i])) {
			*place = &page[i];
			return HV_STATUS_SUCCESS;
		}
	}
	return HV_STATUS_NO_RESOURCES;
}

static struct port_buffer *buffer_at(const struct port_buffers *buffers, unsigned int index)
{
	return &buffers->page[index / BUFFERS_PER_PAGE][index % BUFFERS_PER_PAGE];
}

static uint16_t make_buffers(struct partition *partition, struct port *port, struct port_buffers *buffers)
{
	for (unsigned int i = 0; i < PORT_BUFFER_PAGES; i++) {
		buffers->page[i] = alloc_page(partition);
		if (!buffers->page[i]) {
			free_buffers(partition, buffers);
			return no_memory(partition);
		}
	}
	for (unsigned int i = 0; i < PORT_BUFFERS; i++) {
		struct port_buffer *buffer = buffer_at(buffers, i);

		buffer->port = port;
		buffer->index = i;
		buffer->all = *buffers;
		buffer->link.sender = SYNIC_PORT;
	}
	return HV_STATUS_SUCCESS;
}

static uint16_t create_locked(struct partition *partition, uint32_t id, const struct port_target *target,
			      uint64_t connection_partition_id)
{
	struct port_space *space = &partition->ports;
	struct port_buffers buffers = { { NULL } };
	struct port *port;
	uint16_t status;

	if (find_port(space, id))
		return HV_STATUS_INVALID_PORT_ID;
	status = take_place(partition, id, &port);
	if (!status && target->type == HV_PORT_TYPE_MESSAGE)
		status = make_buffers(partition, port, &buffers);
	if (status)
		return status;
	port->partition = partition;
	port->buffers = buffers;
	port->connection_partition_id = connection_partition_id;
	port->id = id;
	port->live = true;
	/* The generation before the target: who reads the target of the new port can't take it for the old one's. */
	atomic_store_explicit(&port->state, ++space->generation << PORT_STATE_GENERATION_SHIFT,
			      memory_order_release);
	atomic_store_explicit(&port->target, pack(target), memory_order_release);
	return HV_STATUS_SUCCESS;
}

uint16_t port_create(struct partition *partition, uint32_t id, const struct port_target *target,
		     uint64_t connection_partition_id)
{
	uint16_t status;

	if (id & ID_RESERVED)
		return HV_STATUS_INVALID_PORT_ID;
	spin_lock(&partition->ports.lock);
	status = create_locked(partition, id, target, connection_partition_id);
	spin_unlock(&partition->ports.lock);
	return status;
}

uint16_t port_delete(struct partition *partition, uint32_t id)
{
	struct port_buffers unused = { { NULL } };
	struct port *port;

	spin_lock(&partition->ports.lock);
	port = find_port(&partition->ports, id);
	if (port) {
		struct port_buffers buffers = port->buffers;

		port->live = false;
		atomic_store_explicit(&port->target, 0, memory_order_release);
		if (!(atomic_fetch_or_explicit(&port->state, PORT_STATE_DELETED, memory_order_acq_rel) &
		      PORT_STATE_BUFFERS))
			unused = buffers;
	}
	spin_unlock(&partition->ports.lock);
	free_buffers(partition, &unused);
	return port ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PORT_ID;
}

/* ---- Connections ---- */

/*
 * The slots of an id's page are searched from the id's own on until one that was never used. `vacant`, if wanted: the first
 * that can be.
 */
static struct connection *find_connection(struct connection *page, uint32_t id, struct connection **vacant)
{
	for (unsigned int i = 0; i < CONNECTIONS_PER_PAGE; i++) {
		struct connection *at = &page[(id + i) % CONNECTIONS_PER_PAGE];
		uint64_t key = atomic_load_explicit(&at->key, memory_order_acquire);

		if (likely(key == (CONNECTION_USED | id)))
			return at;
		if (vacant && !*vacant && !(key & CONNECTION_USED))
			*vacant = at;
		if (key == 0)
			return NULL;
	}
	return NULL;
}

static _Atomic(struct connection *) *connection_page_of(struct partition *partition, uint32_t id)
{
	return &partition->ports.connection_pages[id / CONNECTIONS_PER_PAGE % CONNECTION_PAGES];
}

static uint16_t connect_locked(struct partition *partition, uint32_t id, struct port *port,
			       uint64_t generation)
{
	_Atomic(struct connection *) *where = connection_page_of(partition, id);
	struct connection *page = atomic_load_explicit(where, memory_order_relaxed);
	struct connection *at = NULL;

	if (!page) {
		page = alloc_page(partition);
		if (!page)
			return no_memory(partition);
		atomic_store_explicit(where, page, memory_order_release);
	}
	if (find_connection(page, id, &at))
		return HV_STATUS_INVALID_CONNECTION_ID;
	if (!at)
		return HV_STATUS_NO_RESOURCES;
	atomic_store_explicit(&at->port, port, memory_order_relaxed);
	atomic_store_explicit(&at->generation, generation, memory_order_relaxed);
	atomic_store_explicit(&at->key, CONNECTION_USED | id, memory_order_release);
	return HV_STATUS_SUCCESS;
}

uint16_t port_find(struct partition *partition, struct partition *owner, uint32_t port_id, uint8_t type,
		   struct port **port, uint64_t *generation)
{
	uint16_t status = HV_STATUS_SUCCESS;

	spin_lock(&owner->ports.lock);
	*port = find_port(&owner->ports, port_id);
	if (!*port || ((*port)->connection_partition_id && (*port)->connection_partition_id != partition->id))
		status = HV_STATUS_INVALID_PORT_ID;
	else if (unpack(atomic_load_explicit(&(*port)->target, memory_order_relaxed)).type != type)
		status = HV_STATUS_INVALID_PARAMETER;
	else
		*generation = atomic_load_explicit(&(*port)->state, memory_order_relaxed) >>
			      PORT_STATE_GENERATION_SHIFT;
	spin_unlock(&owner->ports.lock);
	return status;
}

uint16_t port_connect(struct partition *partition, uint32_t connection_id, struct partition *owner,
		      uint32_t port_id, uint8_t type)
{
	uint64_t generation = 0;
	struct port *port;
	uint16_t status;

	if (connection_id & ID_RESERVED)
		return HV_STATUS_INVALID_CONNECTION_ID;
	status = port_find(partition, owner, port_id, type, &port, &generation);
	if (status)
		return status;
	spin_lock(&partition->ports.lock);
	status = connect_locked(partition, connection_id, port, generation);
	spin_unlock(&partition->ports.lock);
	return status;
}

uint16_t port_disconnect(struct partition *partition, uint32_t connection_id)
{
	struct connection *page, *at = NULL;

	spin_lock(&partition->ports.lock);
	page = atomic_load_explicit(connection_page_of(partition, connection_id), memory_order_relaxed);
	if (page)
		at = find_connection(page, connection_id, NULL);
	if (at)
		atomic_store_explicit(&at->key, CONNECTION_FREE, memory_order_release);
	spin_unlock(&partition->ports.lock);
	return at ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_CONNECTION_ID;
}

/* ---- What senders use, without lock ---- */

uint16_t port_lookup(struct partition *partition, uint32_t connection_id, uint8_t type, struct port **port,
		     struct port_target *target, uint64_t *generation)
{
	struct connection *page =
		atomic_load_explicit(connection_page_of(partition, connection_id), memory_order_acquire);
	struct connection *at = likely(page) ? find_connection(page, connection_id, NULL) : NULL;
	uint64_t state;

	if (unlikely(!at))
		return HV_STATUS_INVALID_CONNECTION_ID;
	*port = atomic_load_explicit(&at->port, memory_order_acquire);
	*generation = atomic_load_explicit(&at->generation, memory_order_acquire);
	/* The slot may have become another connection's meanwhile. */
	if (unlikely(atomic_load_explicit(&at->key, memory_order_acquire) !=
		     (CONNECTION_USED | connection_id)))
		return HV_STATUS_INVALID_CONNECTION_ID;
	*target = unpack(atomic_load_explicit(&(*port)->target, memory_order_acquire));
	state = atomic_load_explicit(&(*port)->state, memory_order_acquire);
	if (unlikely(state >> PORT_STATE_GENERATION_SHIFT != *generation || (state & PORT_STATE_DELETED) ||
		     target->type != type))
		return HV_STATUS_INVALID_PORT_ID;
	return HV_STATUS_SUCCESS;
}

uint16_t port_buffer_get(struct port *port, uint64_t generation, struct port_buffer **buffer)
{
	uint64_t state = atomic_load_explicit(&port->state, memory_order_acquire);
	uint64_t mine;

	do {
		uint64_t unused = ~state & PORT_STATE_BUFFERS;

		if (state >> PORT_STATE_GENERATION_SHIFT != generation || (state & PORT_STATE_DELETED))
			return HV_STATUS_INVALID_PORT_ID;
		if (!unused)
			return HV_STATUS_INSUFFICIENT_BUFFERS;
		mine = unused & -unused;
	} while (!atomic_compare_exchange_weak_explicit(&port->state, &state, state | mine,
							memory_order_acq_rel, memory_order_acquire));
	*buffer = buffer_at(&port->buffers, (unsigned int)__builtin_ctzll(mine));
	return HV_STATUS_SUCCESS;
}

bool port_target_now(const struct port *port, uint64_t generation, struct port_target *target)
{
	uint64_t state;

	*target = unpack(atomic_load_explicit(&port->target, memory_order_acquire));
	state = atomic_load_explicit(&port->state, memory_order_acquire);
	return state >> PORT_STATE_GENERATION_SHIFT == generation && !(state & PORT_STATE_DELETED);
}

bool port_bell_get(struct port *port, uint64_t generation)
{
	uint64_t state = atomic_load_explicit(&port->state, memory_order_acquire);

	do {
		if (state >> PORT_STATE_GENERATION_SHIFT != generation ||
		    (state & (PORT_STATE_DELETED | PORT_STATE_BELL)))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&port->state, &state, state | PORT_STATE_BELL,
							memory_order_acq_rel, memory_order_acquire));
	return true;
}

uint32_t port_bell_put(struct port *port)
{
	uint32_t id = port->id;
	uint64_t state = atomic_fetch_and_explicit(&port->state, ~PORT_STATE_BELL, memory_order_acq_rel);

	return state & PORT_STATE_DELETED ? 0 : id;
}

void port_buffer_put(struct port_buffer *buffer)
{
	struct port_buffers all = buffer->all;
	struct partition *partition = buffer->port->partition;
	uint64_t bit = BIT(buffer->index);
	uint64_t state = atomic_fetch_and_explicit(&buffer->port->state, ~bit, memory_order_acq_rel) & ~bit;

	if (unlikely((state & (PORT_STATE_DELETED | PORT_STATE_BUFFERS)) == PORT_STATE_DELETED))
		free_buffers(partition, &all);
}
