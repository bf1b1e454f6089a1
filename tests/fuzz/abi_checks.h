/* SPDX-License-Identifier: MIT */
/*
 * What must hold after anything a guest does: the caches agree with what they cache, every list is as long as it may be, every
 * page has an owner, and nothing of the hypervisor's is in the guest's space but what is meant to be.
 */
#ifndef TRIVET_TESTS_ABI_CHECKS_H
#define TRIVET_TESTS_ABI_CHECKS_H

#include "abi_grammar.h"
#include "abi_machine.h"

#include <hv/cpuid.h>
#include <hv/msr.h>
#include <hv/port.h>
#include <trivet/vp_child.h>

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

#define OVERLAYS_OF_VP 4u
#define MESSAGES_MAX (PORT_PAGES * PORTS_PER_PAGE * PORT_BUFFERS + HV_STIMER_COUNT)

/* ---- Local APIC and timers ---- */

static int apic_top(const struct apic *apic, enum apic_reg group)
{
	uint64_t bits[4];

	for (unsigned int i = 0; i < 4; i++)
		bits[i] = apic_vectors(apic, group, i);
	return highest(bits);
}

static void check_apic(const struct apic *apic)
{
	int isr = apic_top(apic, APIC_REG_ISR), next = apic_next_vector(apic);
	unsigned int served = isr < 0 ? 0 : (unsigned int)isr & 0xf0;

	CHECK(apic->irr_top == apic_top(apic, APIC_REG_IRR) && apic->isr_top == isr);
	CHECK(apic->ppr == ((apic->tpr & 0xf0u) >= served ? apic->tpr : served));
	CHECK(!(apic_vectors(apic, APIC_REG_IRR, 0) & 0xffff) &&
	      !(apic_vectors(apic, APIC_REG_ISR, 0) & 0xffff));
	CHECK(next < 0 || (next >> 4) > (apic->ppr >> 4));
	CHECK(apic->enabled == ((apic->base & APIC_BASE_EN) && (apic->svr & APIC_SVR_ENABLE)));
	CHECK(!apic->eoi_offered || (apic->assist && apic->isr_top >= 0));
}

static void check_own_timers(const struct stimers *stimers)
{
	uint64_t next = UINT64_MAX;

	for (unsigned int i = 0; i < HV_STIMER_COUNT; i++) {
		const struct stimer *timer = &stimers->timer[i];

		if (timer->deadline_tsc < next)
			next = timer->deadline_tsc;
		CHECK((timer->deadline_tsc == UINT64_MAX) ||
		      ((timer->config & HV_STIMER_ENABLE) && timer->count));
		CHECK(!timer->message.queued ||
		      (timer->message.sender == SYNIC_TIMER && timer->message.sint < HV_SINT_COUNT));
		CHECK(!(timer->config & HV_STIMER_RESERVED));
	}
	CHECK(stimers->next_deadline_tsc == next);
}

static void check_timers(const struct vp *vp)
{
	const struct machine_lp *at = machine_of(vp->lp);
	uint64_t next = vp->stimers.next_deadline_tsc;

	check_own_timers(&vp->stimers);
	if (atomic_load(&vp->lp->state) != LP_ONLINE)
		return;
	if (apic_timer_deadline(&vp->apic) < next)
		next = apic_timer_deadline(&vp->apic);
	CHECK(vp->lp->timer_deadline_tsc <= next); /* no deadline is forgotten */
	if (vp->lp->timer_deadline_tsc != UINT64_MAX && (at->apic_base & APIC_BASE_EN))
		CHECK(at->timer_tsc || (at->irr[3] & BIT(HV_VECTOR_TIMER % 64)) ||
		      (at->isr[3] & BIT(HV_VECTOR_TIMER % 64)));
}

/* ---- SynIC ---- */

static void check_queue(const struct synic *synic, unsigned int sint)
{
	const struct synic_message *previous = NULL, *at = synic->queue[sint].first;
	size_t length = 0;

	CHECK((synic->queued >> sint & 1) == (at != NULL));
	for (; at; previous = at, at = at->next) {
		CHECK(at->sint == sint && at->queued && at->previous == previous);
		CHECK(++length <= MESSAGES_MAX);
	}
	CHECK(synic->queue[sint].last == previous);
}

static void check_synic(const struct vp *vp)
{
	const struct synic *synic = &vp->synic;
	const struct synic_message *waiting = atomic_load(&synic->inbox);
	uint32_t ready = 0;
	size_t length = 0;

	for (unsigned int i = 0; i < HV_SINT_COUNT; i++) {
		check_queue(synic, i);
		CHECK((synic->sint[i] & HV_SINT_MASKED) ||
		      (synic->sint[i] & HV_SINT_VECTOR_MASK) >= HV_SINT_FIRST_VALID_VECTOR);
	}
	for (; waiting; waiting = waiting->next)
		CHECK(++length <= MESSAGES_MAX && !waiting->queued);
	CHECK(!length || (atomic_load(&vp->pending) & VP_PENDING_SYNIC));
	ready |= synic->control & HV_SCONTROL_ENABLE ? SYNIC_READY_ENABLED : 0;
	ready |= overlay_enabled(&synic->message_page) ? SYNIC_READY_MESSAGES : 0;
	ready |= overlay_enabled(&synic->event_page) ? SYNIC_READY_EVENTS : 0;
	CHECK(atomic_load(&synic->ready) == ready);
}

/* Nobody has written over the head of a port's buffer, nor of the one behind it. */
static void check_buffers(void)
{
	const struct port_space *space = &root_partition.ports;

	for (unsigned int i = 0; i < PORT_PAGES; i++) {
		const struct port *ports = atomic_load(&space->port_pages[i]);

		for (unsigned int j = 0; ports && j < PORTS_PER_PAGE; j++)
			for (unsigned int k = 0;
			     ports[j].live && ports[j].buffers.page[0] && k < PORT_BUFFERS; k++) {
				const unsigned int in_page = PORT_BUFFERS / PORT_BUFFER_PAGES;
				const struct port_buffer *buffer =
					&ports[j].buffers.page[k / in_page][k % in_page];

				CHECK(buffer->port == &ports[j] && buffer->index == k &&
				      buffer->link.sender == SYNIC_PORT);
				CHECK(buffer->message.payload_bytes <= HV_MESSAGE_PAYLOAD_BYTES);
			}
	}
}

/* ---- Overlays and the guest's space ---- */

static const struct overlay *overlay_number(unsigned int i)
{
	const struct vp *vp;

	if (i < 2)
		return i ? &root_partition.reference_time.page : &root_partition.hypercall_page;
	vp = root_partition.vps[(i - 2) / OVERLAYS_OF_VP];
	switch ((i - 2) % OVERLAYS_OF_VP) {
	case 0:
		return &vp->assist.page;
	case 1:
		return &vp->synic.message_page;
	case 2:
		return &vp->synic.event_page;
	default:
		return &vp->synic.ring_page;
	}
}

static unsigned int overlay_count(void)
{
	return 2 + OVERLAYS_OF_VP * root_partition.vp_count;
}

static unsigned int rights_of(const struct overlay *overlay)
{
	switch (overlay->kind) {
	case OVERLAY_HYPERCALL:
		return SS_READ | SS_EXEC;
	case OVERLAY_REFERENCE_TSC:
		return SS_READ;
	default:
		return SS_READ | SS_WRITE;
	}
}

static void check_overlays(void)
{
	const struct overlay_space *space = &root_partition.overlays;
	unsigned int mapped = 0, linked = 0, displaced = 0;
	struct ss_mapping mapping;

	for (unsigned int i = 0; i < overlay_count(); i++) {
		const struct overlay *overlay = overlay_number(i);

		CHECK(overlay->mapped == overlay_enabled(overlay));
		if (!overlay->mapped)
			continue;
		mapped++;
		CHECK(overlay->gpn == overlay_read_msr(overlay) >> OVERLAY_MSR_PAGE_SHIFT);
		displaced += overlay->gpn != hv_virt_to_phys(overlay->content).v >> PAGE_SHIFT;
	}
	for (unsigned int i = 0; i < OVERLAY_BUCKETS; i++)
		for (const struct overlay *at = space->bucket[i]; at; at = at->next) {
			CHECK(at->mapped && at->gpn % OVERLAY_BUCKETS == i && ++linked <= mapped);
			if (at->gpn == APIC_BASE_DEFAULT >> PAGE_SHIFT ||
			    !ss_lookup(&root_partition.space, GPA(at->gpn << PAGE_SHIFT), &mapping))
				continue;
			CHECK(host_memory_is_ours(mapping.hpa, 1));
		}
	CHECK(linked == mapped && atomic_load(&space->displaced) == displaced);
}

static bool is_page_of_overlay(uint64_t hpa, uint64_t gpa, unsigned int rights)
{
	for (unsigned int i = 0; i < overlay_count(); i++) {
		const struct overlay *overlay = overlay_number(i);

		if (overlay->mapped && hv_virt_to_phys(overlay->content).v == hpa &&
		    overlay->gpn == gpa >> PAGE_SHIFT)
			return rights == rights_of(overlay);
	}
	return false;
}

/* A child's register or message page: its parent's to write too. */
static bool is_state_page(uint64_t page)
{
	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		for (uint32_t j = 0; children[i] && j < children[i]->vp_count; j++) {
			const struct vp *vp = children[i]->vps[j];

			if (vp && page &&
			    (vp->child->intercepts.registers_page == page ||
			     vp->child->intercepts.message_page == page))
				return true;
		}
	return false;
}

static bool is_content(const struct overlay *overlay, uint64_t page)
{
	return overlay->content && hv_virt_to_phys(overlay->content).v >> PAGE_SHIFT == page;
}

/* A deposit in which a child finds what its VPs' overlays show. */
static bool is_overlay_page(uint64_t page)
{
	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		for (uint32_t j = 0; children[i] && j < children[i]->vp_count; j++) {
			const struct vp *vp = children[i]->vps[j];

			if (vp && (is_content(&vp->assist.page, page) ||
				   is_content(&vp->synic.message_page, page) ||
				   is_content(&vp->synic.event_page, page) ||
				   is_content(&vp->synic.ring_page, page)))
				return true;
		}
	return false;
}

/* A leaf of the second stage: the guest's own memory, a device, a statistics page, an overlay, or the page for the local APIC. */
static void check_leaf(uint64_t gpa, uint64_t hpa, uint64_t size, uint64_t entry)
{
	const struct ss_format *format = root_partition.space.format;
	unsigned int rights = 0;

	while (rights < 8 &&
	       (!format->perm_bits[rights] || format->perm_bits[rights] != (entry & format->perm_mask)))
		rights++;
	CHECK(rights < 8);
	if (host_memory_is_ours(HPA(hpa), size)) {
		CHECK(size == PAGE_SIZE);
		CHECK(is_page_of_overlay(hpa, gpa, rights) ||
		      (gpa == APIC_BASE_DEFAULT && options.apic_page));
		return;
	}
	CHECK(gpa == hpa);
	for (uint64_t page = hpa >> PAGE_SHIFT; page < RAM_PAGES && page < (hpa + size) >> PAGE_SHIFT; page++)
		CHECK(!deposit_holds(page) || rights == SS_READ ||
		      (rights == (SS_READ | SS_WRITE) && is_state_page(page)));
	CHECK(rights == SS_RWX || (size == PAGE_SIZE && deposit_holds(hpa >> PAGE_SHIFT)));
}

/* The usual leaf, of which there are thousands: a device's memory, or memory of which there is none. */
static inline bool is_plain(uint64_t gpa, uint64_t size, uint64_t entry)
{
	const struct ss_format *format = root_partition.space.format;

	return (entry & (format->addr_mask | format->perm_mask)) == (gpa | format->perm_bits[SS_RWX]) &&
	       gpa >= sizeof(window) && (gpa >= BLOCK_HPA + sizeof(block) || gpa + size <= BLOCK_HPA);
}

static __attribute__((no_sanitize("address", "undefined"))) void
check_table(const uint64_t *table, unsigned int level, uint64_t gpa, size_t *tables)
{
	const struct ss_format *format = root_partition.space.format;
	unsigned int shift = PAGE_SHIFT + 9 * level;

	++*tables;
	for (uint64_t i = 0; i < 512; i++, gpa += BIT(shift)) {
		uint64_t entry = table[i];

		if (!(entry & format->present_mask))
			continue;
		if (level && !(entry & format->large_bit))
			check_table(hv_phys_to_virt(HPA(entry & format->addr_mask)), level - 1, gpa, tables);
		else if (!is_plain(gpa, BIT(shift), entry))
			check_leaf(gpa, entry & format->addr_mask, BIT(shift), entry);
	}
}

static void check_space(void)
{
	size_t tables = 0;

	check_table(root_partition.space.root, 3, 0, &tables);
	CHECK(tables == root_partition.space.table_pages);
}

/* ---- Pages ---- */

static size_t pages_at_start;
static uint64_t leaves_at_start; /* page_use.h: made once, kept; one for each 8 MiB that served a child */

static size_t port_pages(void)
{
	struct port_space *space = &root_partition.ports;
	size_t pages = 0;

	for (unsigned int i = 0; i < PORT_PAGES; i++) {
		const struct port *ports = atomic_load(&space->port_pages[i]);

		for (unsigned int j = 0; ports && j < PORTS_PER_PAGE; j++)
			if (ports[j].buffers.page[0] &&
			    (ports[j].live || (atomic_load(&ports[j].state) & PORT_STATE_BUFFERS)))
				pages += PORT_BUFFER_PAGES;
		pages += ports != NULL;
	}
	for (unsigned int i = 0; i < CONNECTION_PAGES; i++)
		pages += atomic_load(&space->connection_pages[i]) != NULL;
	for (unsigned int i = 0; i < DOORBELL_PAGES; i++)
		pages += atomic_load(&space->doorbell_pages[i]) != NULL;
	return pages;
}

/* Pages that come and go, by their owners' own count. */
static size_t owned_pages(void)
{
	const struct second_stage *space = &root_partition.space;

	return space->table_pages + space->retired_pages + port_pages();
}

static size_t used_pages(void)
{
	return page_pool_total_pages(&host_pool) - page_pool_free_pages(&host_pool);
}

static uint64_t leaves_made_since(void)
{
	return page_use_table_pages() - leaves_at_start;
}

static void check_pages(void)
{
	CHECK(used_pages() == pages_at_start + owned_pages() + leaves_made_since());
}

static void check_deposits(void)
{
	const struct deposit_pool *pool = &root_partition.deposits;
	uint64_t held = 0, counted = pool->free_pages + pool->used_pages;

	for (uint64_t page = 0; page < RAM_PAGES; page++)
		held += deposit_holds(page);
	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		if (children[i])
			counted += children[i]->deposits.free_pages + children[i]->deposits.used_pages;
	CHECK(held == counted);
}

/* ---- All of it ---- */

/*
 * The partition's time goes on and on; without TSC_ADJUST, where core/lp_tsc.c has to guess, on each processor by itself. A guest
 * that writes a TSC to just before its end, or back beyond its beginning, has broken its own clock.
 */
static uint64_t last_time_100ns, last_time_on[MACHINE_LPS];
static bool tsc_wrapped;

static void check_time(void)
{
	uint64_t time = reference_time_100ns(&root_partition);
	uint64_t *last = options.tsc_adjust ? &last_time_100ns : &last_time_on[current_lp->index];

	for (uint32_t i = 0; i < lp_count; i++)
		tsc_wrapped |= (now_tsc + machine[i].tsc_offset) >> 62 != 0;
	CHECK(tsc_wrapped || (int64_t)(time - *last) >= 0);
	*last = last_time_100ns = time;
}

static void check_vp(const struct vp *vp)
{
	if (vp->apic.page)
		check_apic(&vp->apic);
	check_timers(vp);
	check_synic(vp);
}

/* After each step; what `vp` did concerns it most. */
static void check_step(const struct vp *vp)
{
	const struct second_stage *space = &root_partition.space;

	check_vp(vp);
	for (uint32_t i = 0; i < root_partition.vp_count; i++)
		CHECK(root_partition.vps[i]->index == i && root_partition.vps[i]->lp->lock_ranks == 0);
	/* Whatever changed translations has flushed them, on every processor that may run guest code. */
	for (uint32_t i = 0; i < root_partition.vp_count; i++)
		CHECK(atomic_load(&root_partition.vps[i]->idle) ||
		      machine_of(root_partition.vps[i]->lp)->tlb_generation >= space->flushed_generation);
	CHECK(space->generation == space->flushed_generation && space->retired_pages == 0);
	check_time();
}

static void check_children(void); /* abi_children.h */

static void check_all(void)
{
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		CHECK(root_partition.vps[i]->lp->root_vp == root_partition.vps[i]);
		check_vp(root_partition.vps[i]);
		check_step(root_partition.vps[i]);
	}
	check_children();
	check_buffers();
	check_deposits();
	check_overlays();
	check_space();
	check_pages();
	page_pool_check(&host_pool);
}

static void checks_start(void)
{
	pages_at_start = used_pages() - owned_pages();
	leaves_at_start = page_use_table_pages();
	last_time_100ns = 0;
	tsc_wrapped = false;
	memset(last_time_on, 0, sizeof(last_time_on));
	check_step(root_partition.vps[0]);
}

#pragma clang attribute pop

#endif
