/* unit: core/intercept.c core/intercept_memory.c core/intercept_pages.c core/decode.c */
/* SPDX-License-Identifier: MIT */
/*
 * Intercepts of a child's VP on a back end that is an array: what the parent finds in the pages and when, how it is told and how often, what of its
 * answer counts, and what is left when the VP goes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/intercept.h>
#include <hv/memory.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <hv/vp_state.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/doorbell.h>
#include <trivet/gpa_space.h>
#include <trivet/guest_walk.h>
#include <trivet/intercept.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

#define REGISTERS_PAGE 0x70u
#define MESSAGE_PAGE 0x71u

static struct partition parent, child;
static struct vp *vp, *root_vps[2];
static struct vp *root_table[2];
static struct vp_child vp_child;
static struct lp lp;
static struct apic_page apic_page;
static union {
	struct hv_vp_register_page page;
	uint8_t bytes[PAGE_SIZE];
} registers_page;
static union {
	struct hv_message message;
	uint8_t bytes[PAGE_SIZE];
} message_page;

static struct {
	union hv_register_value registers[VP_REGISTER_COUNT];
	struct vp_context context;
	bool loaded, listens[2];
	unsigned int posts, notices, drops, borrows, apic_accesses, rings, scans;
	struct vp *posted_to;
	enum gpa_state gpa;
	bool is_ours, is_device; /* what is mapped */
	unsigned int needed;
	bool bell;
	uint8_t code[16];
	size_t code_size;
	/* Deposits: how many there are; those handed out and shown. */
	unsigned int free_pages, shown, hidden;
	bool show_fails, hide_fails;
	uint32_t set_names[64];
	unsigned int set_count;
	uint32_t refused_name;
	struct hv_u128 xmm[6];
} fake;

struct lp *this_lp(void)
{
	return &lp;
}

bool vp_is_loaded_here(const struct vp *of)
{
	assert_ptr_equal(of, vp);
	return fake.loaded;
}

/* Everything is in the pages before the VP is held. */
static void check_pages(void)
{
	if (vp_child.intercepts.message)
		assert_int_not_equal(message_page.message.type, HV_MESSAGE_NONE);
	assert_int_equal(fake.posts, fake.notices);
}

void vp_hold_self(struct vp *of, uint32_t bits)
{
	assert_ptr_equal(of, vp);
	assert_true(fake.loaded);
	check_pages();
	vp->holds |= bits;
}

void vp_hold(struct vp *of, struct vp *self, uint32_t bits)
{
	assert_ptr_equal(of, vp);
	assert_ptr_equal(self, lp.vp);
	assert_false(fake.loaded);
	check_pages();
	vp->holds |= bits;
}

void vp_borrow(struct vp *of, struct vp *self)
{
	assert_ptr_equal(of, vp);
	assert_ptr_equal(self, root_vps[0]);
	fake.borrows++;
	vp->holds |= VP_HOLD_ACCESS;
}

void vp_return(struct vp *of)
{
	of->holds &= ~VP_HOLD_ACCESS;
}

uint16_t synic_takes_messages(const struct vp *of)
{
	return fake.listens[of == root_vps[1]] ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_SYNIC_STATE;
}

void synic_post(struct vp *to, struct vp *sender, struct synic_message *message)
{
	assert_ptr_equal(sender, lp.vp);
	assert_ptr_equal(message, &vp_child.intercepts.link);
	assert_int_equal(message->sint, HV_SINT_INTERCEPTS);
	assert_int_equal(message->sender, SYNIC_INTERCEPT);
	assert_true(vp->holds & VP_HOLD_INTERCEPT);
	fake.posts++;
	fake.notices++;
	fake.posted_to = to;
}

void synic_drop_dead(struct vp *of, struct vp *sender)
{
	assert_ptr_equal(of, fake.posted_to);
	assert_ptr_equal(sender, lp.vp);
	fake.drops++;
}

void synic_handle_pending(struct vp *of)
{
	assert_ptr_equal(of, lp.vp);
	assert_true(intercept_is_dead(&vp_child.intercepts.link));
	intercept_take_message(&vp_child.intercepts.link, NULL);
}

void synic_deliver_queued(struct vp *of)
{
	(void)of;
	fake.scans++;
}

static void get_context(struct vp *of, struct vp_context *context)
{
	assert_ptr_equal(of, vp);
	*context = fake.context;
	vp->gpr[GPR_RSP] = 0x5000;
}

static uint64_t word(enum vp_register which)
{
	return fake.registers[which].reg64;
}

static void get_snapshot(struct vp *of, struct vp_snapshot *snapshot)
{
	const struct vp_context *context = &fake.context;

	assert_ptr_equal(of, vp);
	vp->gpr[GPR_RSP] = 0x5000;
	*snapshot = (struct vp_snapshot){
		.rip = context->rip,
		.rflags = context->rflags,
		.cr0 = context->paging.cr0,
		.cr3 = context->paging.cr3,
		.cr4 = context->paging.cr4,
		.cr8 = word(VP_REGISTER_CR8),
		.efer = context->paging.efer,
		.dr7 = word(VP_REGISTER_DR7),
		.pending_interruption = word(VP_REGISTER_PENDING_INTERRUPTION),
		.interrupt_state = word(VP_REGISTER_INTERRUPT_STATE),
		.cpl = context->cpl,
	};
	for (unsigned int i = 0; i < 6; i++)
		snapshot->segment[i] = fake.registers[VP_REGISTER_ES + i].segment;
}

static const struct backend fake_backend = { .get_snapshot = get_snapshot, .get_context = get_context };
const struct backend *backend = &fake_backend;

int live_register_get(struct vp *of, enum live_register which, unsigned int index,
		      union hv_register_value *value)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(which, LIVE_XFEM);
	assert_int_equal(index, 0);
	value->reg64 = 7;
	return 0;
}

void live_xmm_get(struct vp *of, struct hv_u128 *xmm, unsigned int count)
{
	assert_ptr_equal(of, vp);
	memcpy(xmm, fake.xmm, count * sizeof(*xmm));
}

void live_xmm_set(struct vp *of, const struct hv_u128 *xmm, unsigned int count)
{
	assert_ptr_equal(of, vp);
	memcpy(fake.xmm, xmm, count * sizeof(*xmm));
}

uint16_t vp_register_set(struct vp *of, bool self, uint32_t name, const union hv_register_value *value)
{
	assert_ptr_equal(of, vp);
	assert_false(self);
	fake.set_names[fake.set_count++] = name;
	if (name == fake.refused_name)
		return HV_STATUS_INVALID_REGISTER_VALUE;
	if (name == HV_REGISTER_X64_RIP)
		fake.registers[VP_REGISTER_RIP] = *value;
	if (name == HV_REGISTER_X64_RSP)
		fake.registers[VP_REGISTER_RSP] = *value;
	if (name - HV_REGISTER_X64_ES < 6)
		fake.registers[VP_REGISTER_ES + name - HV_REGISTER_X64_ES] = *value;
	return HV_STATUS_SUCCESS;
}

enum log_level log_threshold = LOG_ERROR;

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

enum gpa_state gpa_space_check(struct partition *of, gpa_t gpa, unsigned int access, struct ss_mapping *out)
{
	if (out)
		*out = (struct ss_mapping){ .hpa = HPA(0x700000 + gpa.v), .page_size = PAGE_SIZE };
	assert_ptr_equal(of, &child);
	fake.needed = access;
	return fake.gpa;
}

bool host_memory_is_ours(hpa_t hpa, uint64_t size)
{
	assert_int_equal(hpa.v, 0x708000);
	assert_int_equal(size, PAGE_SIZE);
	return fake.is_ours;
}

const void *host_ram_window(hpa_t hpa, uint64_t size)
{
	assert_int_equal(hpa.v, 0x708000);
	assert_int_equal(size, PAGE_SIZE);
	return fake.is_device ? NULL : &fake;
}

size_t guest_fetch(const struct guest_paging *paging, void *space, gva_t gva, void *buf, size_t size)
{
	assert_int_equal(paging->cr3, 0x3000);
	assert_ptr_equal(space, vp);
	assert_int_equal(gva.v, 0x11234); /* with the base of CS */
	assert_int_equal(size, 15);
	memcpy(buf, fake.code, fake.code_size);
	return fake.code_size;
}

enum fault_result vp_apic_page_access(struct vp *of, gpa_t gpa)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(gpa.v >> 12, 0xfee00);
	fake.apic_accesses++;
	return FAULT_EMULATED;
}

bool doorbell_store(struct vp *of, gpa_t gpa)
{
	(void)of;
	(void)gpa;
	fake.rings++;
	return fake.bell;
}

bool deposit_alloc(struct partition *partition, uint64_t *page)
{
	assert_ptr_equal(partition, &child);
	if (!fake.free_pages)
		return false;
	*page = REGISTERS_PAGE + --fake.free_pages;
	return true;
}

void deposit_free(struct partition *partition, uint64_t page)
{
	assert_ptr_equal(partition, &child);
	assert_true(page == REGISTERS_PAGE || page == MESSAGE_PAGE);
	fake.free_pages++;
}

int deposit_show(struct vp *caller, uint64_t page, bool writable)
{
	(void)page;
	assert_ptr_equal(caller, root_vps[0]);
	assert_true(writable);
	assert_int_equal(vp->holds & VP_HOLD_ACCESS, 0); /* it waits for others */
	if (fake.show_fails)
		return -ENOMEM;
	fake.shown++;
	return 0;
}

int deposit_hide(struct vp *caller, uint64_t page)
{
	(void)page;
	assert_ptr_equal(caller, root_vps[0]);
	assert_int_equal(vp->holds & VP_HOLD_ACCESS, 0);
	if (fake.hide_fails)
		return -ENOMEM;
	fake.hidden++;
	return 0;
}

void *deposit_page_pointer(uint64_t page)
{
	return page == REGISTERS_PAGE ? (void *)&registers_page : (void *)&message_page;
}

/* ---- ---- */

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	memset(vp, 0, sizeof(*vp));
	memset(&vp_child, 0, sizeof(vp_child));
	memset(&parent, 0, sizeof(parent));
	memset(&child, 0, sizeof(child));
	memset(&registers_page, 0, sizeof(registers_page));
	memset(&message_page, 0, sizeof(message_page));
	memset(&lp, 0, sizeof(lp));
	parent.id = 1;
	parent.vps = root_table;
	parent.vp_count = 2;
	child.id = 9;
	child.parent = &parent;
	child.properties.creation_flags = HV_CREATE_PARTITION_LAPIC;
	for (unsigned int i = 0; i < 2; i++) {
		memset(root_vps[i], 0, sizeof(*root_vps[i]));
		root_vps[i]->partition = &parent;
		root_table[i] = root_vps[i];
		fake.listens[i] = true;
	}
	vp->partition = &child;
	vp->child = &vp_child;
	vp->index = 4;
	vp->apic.base = APIC_BASE_DEFAULT | APIC_BASE_EN;
	lp.vp = vp;
	lp.root_vp = root_vps[1];
	vp_child.intercepts.registers = &registers_page.page;
	vp_child.intercepts.message = &message_page.message;
	vp_child.intercepts.registers_page = REGISTERS_PAGE;
	vp_child.intercepts.message_page = MESSAGE_PAGE;
	fake.loaded = true;
	fake.context = (struct vp_context){
		.rip = 0x1234,
		.rflags = 0x10246,
		.segment_base = { 0, 0x10000, 0, 0, 0, 0 },
		.mode = INSN_MODE_32,
		.cpl = 3,
		.paging = { .cr0 = 0x80050033, .cr3 = 0x3000, .cr4 = 0x6f0, .efer = 0xd01 },
	};
	for (unsigned int i = 0; i < VP_REGISTER_COUNT; i++)
		fake.registers[i].reg128 = (struct hv_u128){ 0x100 + i, 0x200 + i };
	fake.registers[VP_REGISTER_CR8].reg64 = 5;
	fake.registers[VP_REGISTER_DR7].reg64 = 0x400;
	fake.registers[VP_REGISTER_PENDING_INTERRUPTION].reg64 = 0;
	fake.registers[VP_REGISTER_INTERRUPT_STATE].reg64 = 1;
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		vp->gpr[i] = 0x1000 + i;
	for (unsigned int i = 0; i < 6; i++)
		fake.xmm[i] = (struct hv_u128){ i, 0x60 + i };
	memcpy(fake.code, "\xc7\x00\x01\x00\x00\x00\x90", 7);
	fake.code_size = 7;
	return 0;
}

static const void *payload(uint32_t type, size_t bytes)
{
	assert_int_equal(message_page.message.type, type);
	assert_int_equal(message_page.message.payload_bytes, bytes);
	assert_int_equal(message_page.message.sender, 9);
	assert_int_equal(message_page.message.flags, 0);
	assert_int_equal(vp->holds, VP_HOLD_INTERCEPT);
	assert_int_equal(fake.posts, 1);
	assert_ptr_equal(fake.posted_to, root_vps[1]);
	return &message_page.message.payload;
}

static void check_header(const struct hv_x64_intercept_header *header, unsigned int access,
			 unsigned int length)
{
	assert_int_equal(header->vp_index, 4);
	assert_int_equal(header->length_and_cr8, 0x50 | length);
	assert_int_equal(header->access_type, access);
	assert_int_equal(header->execution_state, 3 | BIT(2) | BIT(3) | BIT(4) | BIT(12));
	assert_int_equal(header->cs.base, 0x100 + VP_REGISTER_CS);
	assert_int_equal(header->rip, 0x1234);
	assert_int_equal(header->rflags, 0x10246);
}

static void set_code(const uint8_t *bytes, size_t count)
{
	memcpy(fake.code, bytes, count);
	fake.code_size = count;
}

static void ports(void **state)
{
	const struct io_exit exit = { .port = 0x3f8, .bytes = 2, .length = 2 };
	const struct hv_x64_io_port_intercept *message;

	(void)state;
	intercept_io(vp, &exit);
	message = payload(HV_MESSAGE_X64_IO_PORT_INTERCEPT, 128);
	assert_int_equal(vp->io_messages, 1);
	check_header(&message->header, HV_INTERCEPT_ACCESS_WRITE, 2);
	assert_int_equal(message->port, 0x3f8);
	assert_int_equal(message->access_info, 2);
	assert_int_equal(message->rax, 0x1000);
	assert_int_equal(message->rcx, 0x1001);
	assert_int_equal(message->rsi, 0x1006);
	assert_int_equal(message->rdi, 0x1007);
	assert_int_equal(message->ds.base, 0x100 + VP_REGISTER_DS);
	assert_int_equal(message->es.base, 0x100 + VP_REGISTER_ES);
	assert_int_equal(message->instruction_byte_count, 0);
}

static void string_ports(void **state)
{
	static const uint8_t rep_gs_outsd[] = { 0xf3, 0x65, 0x67, 0x6f, 0x90 };
	const struct io_exit exit = { .port = 0x1f0, .bytes = 4, .string = true, .rep = true };
	const struct hv_x64_io_port_intercept *message;

	(void)state;
	set_code(rep_gs_outsd, sizeof(rep_gs_outsd));
	intercept_io(vp, &exit);
	message = payload(HV_MESSAGE_X64_IO_PORT_INTERCEPT, 128);
	check_header(&message->header, HV_INTERCEPT_ACCESS_WRITE, 4);
	assert_int_equal(message->access_info, 4 | 8 | 16);
	assert_int_equal(message->instruction_byte_count, sizeof(rep_gs_outsd));
	assert_memory_equal(message->instruction_bytes, rep_gs_outsd, sizeof(rep_gs_outsd));
	assert_int_equal(message->ds.base, 0x100 + VP_REGISTER_GS);
}

static void input_of_unknown_length(void **state)
{
	static const uint8_t fs_in[] = { 0x64, 0xe4, 0x60 };
	const struct io_exit exit = { .port = 0x60, .bytes = 1, .in = true };
	const struct hv_x64_io_port_intercept *message;

	(void)state;
	set_code(fs_in, sizeof(fs_in));
	intercept_io(vp, &exit);
	message = payload(HV_MESSAGE_X64_IO_PORT_INTERCEPT, 128);
	check_header(&message->header, HV_INTERCEPT_ACCESS_READ, 3);
	assert_int_equal(message->ds.base, 0x100 + VP_REGISTER_DS);
}

static void the_register_page(void **state)
{
	const struct hv_vp_register_page *page = &registers_page.page;

	(void)state;
	registers_page.page.dirty = 0x1f;
	intercept_unrecoverable(vp);
	check_header(payload(HV_MESSAGE_UNRECOVERABLE_EXCEPTION, 40), HV_INTERCEPT_ACCESS_EXECUTE, 0);
	assert_int_equal(page->version, 1);
	assert_int_equal(page->is_valid, 1);
	assert_int_equal(page->dirty, 0);
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		assert_int_equal(page->gp[i], i == GPR_RSP ? 0x5000 : 0x1000 + i);
	assert_int_equal(page->rip, 0x1234);
	assert_int_equal(page->rflags, 0x10246);
	for (unsigned int i = 0; i < 6; i++) {
		assert_int_equal(page->xmm[i].high, 0x60 + i);
		assert_int_equal(page->segment[i].base, 0x100 + VP_REGISTER_ES + i);
	}
	assert_int_equal(page->cr0, 0x80050033);
	assert_int_equal(page->cr3, 0x3000);
	assert_int_equal(page->cr4, 0x6f0);
	assert_int_equal(page->cr8, 5);
	assert_int_equal(page->efer, 0xd01);
	assert_int_equal(page->dr7, 0x400);
	assert_int_equal(page->pending_interruption, 0);
	assert_int_equal(page->interrupt_state, 1);
	assert_int_equal(page->xfem, 7);
}

static void without_pages_it_stops_all_the_same(void **state)
{
	(void)state;
	vp_child.intercepts.registers = NULL;
	vp_child.intercepts.message = NULL;
	intercept_unrecoverable(vp);
	assert_int_equal(vp->holds, VP_HOLD_INTERCEPT);
	assert_int_equal(fake.posts, 1);
	assert_int_equal(message_page.message.type, 0);
	intercept_resume(vp);
}

/* ---- Memory ---- */

static const struct hv_x64_memory_intercept *memory_message(uint32_t type, const struct memory_exit *exit)
{
	assert_int_equal(intercept_memory(vp, exit), FAULT_EMULATED);
	return payload(type, 80);
}

static void unmapped(void **state)
{
	const struct memory_exit exit = { .gpa = GPA(0xfebf1004), .is_write = true };
	const struct hv_x64_memory_intercept *message;

	(void)state;
	fake.gpa = GPA_UNMAPPED;
	message = memory_message(HV_MESSAGE_UNMAPPED_GPA, &exit);
	assert_int_equal(vp->memory_messages, 1);
	assert_int_equal(vp->io_messages + vp->other_messages, 0);
	check_header(&message->header, HV_INTERCEPT_ACCESS_WRITE, 0);
	assert_int_equal(fake.needed, SS_READ | SS_WRITE);
	assert_int_equal(fake.rings, 1);
	assert_int_equal(message->gpa, 0xfebf1004);
	assert_int_equal(message->access_info, 0);
	assert_int_equal(message->tpr_priority, 5);
	assert_int_equal(message->instruction_byte_count, 7);
	assert_memory_equal(message->instruction_bytes, fake.code, 7);
}

static void without_the_right(void **state)
{
	const struct memory_exit exit = { .gpa = GPA(0x5000),
					  .gva = GVA(0xc0005000),
					  .gva_valid = true,
					  .byte_count = 3,
					  .bytes = { 1, 2, 3 } };
	const struct hv_x64_memory_intercept *message;

	(void)state;
	fake.gpa = GPA_REFUSED;
	message = memory_message(HV_MESSAGE_GPA_INTERCEPT, &exit);
	check_header(&message->header, HV_INTERCEPT_ACCESS_READ, 0);
	assert_int_equal(fake.needed, SS_READ);
	assert_int_equal(message->access_info, 3);
	assert_int_equal(message->gva, 0xc0005000);
	assert_int_equal(message->instruction_byte_count, 3); /* the processor's */
	assert_int_equal(message->instruction_bytes[2], 3);
	assert_int_equal(message->cache_type, HV_CACHE_TYPE_WRITE_BACK);
}

static void fetches_and_walks(void **state)
{
	struct memory_exit exit = { .gpa = GPA(0x5000), .is_fetch = true };
	const struct hv_x64_memory_intercept *message;

	(void)state;
	fake.gpa = GPA_REFUSED;
	message = memory_message(HV_MESSAGE_GPA_INTERCEPT, &exit);
	check_header(&message->header, HV_INTERCEPT_ACCESS_EXECUTE, 0);
	assert_int_equal(fake.needed, SS_READ | SS_EXEC);
	assert_int_equal(message->instruction_byte_count, 0);
	setup(state);
	fake.gpa = GPA_UNMAPPED;
	exit = (struct memory_exit){
		.gpa = GPA(0x5000), .gva = GVA(0x77), .gva_valid = true, .is_walk = true, .is_write = true
	};
	message = memory_message(HV_MESSAGE_UNMAPPED_GPA, &exit);
	assert_int_equal(message->access_info, 1); /* not the address of that page */
	assert_int_equal(fake.rings, 0);
}

static void what_needs_no_parent(void **state)
{
	const struct memory_exit ram = { .gpa = GPA(0x5000), .is_write = true };
	struct memory_exit apic = { .gpa = GPA(0xfee000b0), .is_write = true };

	(void)state;
	fake.gpa = GPA_ACCESSIBLE;
	assert_int_equal(intercept_memory(vp, &ram), FAULT_RETRY);
	fake.gpa = GPA_COVERED;
	assert_int_equal(intercept_memory(vp, &ram), FAULT_REFUSED);
	assert_int_equal(intercept_parameters(vp, ram.gpa, true), FAULT_REFUSED);
	fake.gpa = GPA_UNMAPPED;
	fake.bell = true;
	assert_int_equal(intercept_memory(vp, &ram), FAULT_EMULATED);
	assert_int_equal(fake.rings, 1);
	assert_int_equal(intercept_memory(vp, &apic), FAULT_EMULATED);
	assert_int_equal(fake.apic_accesses, 1);
	apic.is_fetch = true;
	assert_int_equal(intercept_memory(vp, &apic), FAULT_REFUSED);
	assert_int_equal(vp->holds, 0);
	assert_int_equal(fake.posts, 0);
}

/* Then there is nothing of ours at that address. */
static void no_local_apic(void **state)
{
	const struct memory_exit exit = { .gpa = GPA(0xfee000b0) };

	for (unsigned int i = 0; i < 3; i++) {
		setup(state);
		fake.gpa = GPA_UNMAPPED;
		if (i == 0)
			vp->apic.x2 = true;
		else if (i == 1)
			vp->apic.base &= ~APIC_BASE_EN;
		else
			child.properties.creation_flags = 0;
		memory_message(HV_MESSAGE_UNMAPPED_GPA, &exit);
		assert_int_equal(fake.apic_accesses, 0);
	}
}

static void code_that_cannot_be_read_is_run_again_once(void **state)
{
	const struct memory_exit exit = { .gpa = GPA(0x5000) };

	(void)state;
	fake.gpa = GPA_UNMAPPED;
	fake.code_size = 0;
	assert_int_equal(intercept_memory(vp, &exit), FAULT_RETRY);
	assert_int_equal(vp->holds, 0);
	assert_int_equal(memory_message(HV_MESSAGE_UNMAPPED_GPA, &exit)->instruction_byte_count, 0);
	fake.context.rip += 4; /* and at another instruction again */
	fake.context.segment_base[INSN_SEG_CS] -= 4;
	assert_int_equal(intercept_memory(vp, &exit), FAULT_RETRY);
}

static void parameters_of_hypercalls(void **state)
{
	(void)state;
	fake.gpa = GPA_ACCESSIBLE;
	assert_int_equal(intercept_parameters(vp, GPA(0x8010), true), FAULT_RETRY);
	/* Mapped, but nobody will ever read them there. */
	fake.is_device = true;
	assert_int_equal(intercept_parameters(vp, GPA(0x8010), true), FAULT_REFUSED);
	fake.is_device = false;
	fake.is_ours = true;
	assert_int_equal(intercept_parameters(vp, GPA(0x8010), true), FAULT_REFUSED);
	fake.gpa = GPA_UNMAPPED;
	assert_int_equal(intercept_parameters(vp, GPA(0x8000), true), FAULT_REFUSED);
	assert_int_equal(fake.rings, 0);
	assert_int_equal(vp->holds, 0);
	fake.gpa = GPA_REFUSED;
	assert_int_equal(intercept_parameters(vp, GPA(0x8000), true), FAULT_EMULATED);
	payload(HV_MESSAGE_GPA_INTERCEPT, 80);
}

/* ---- Hypercalls, ends of interrupts, free slots ---- */

static void hypercalls(void **state)
{
	const struct hv_x64_hypercall_intercept *message;

	(void)state;
	intercept_hypercall(vp);
	message = payload(HV_MESSAGE_HYPERCALL_INTERCEPT, 196);
	assert_int_equal(message->header.length_and_cr8 & 15, 3);
	assert_int_equal(message->rax, 0x1000);
	assert_int_equal(message->rbx, 0x1003);
	assert_int_equal(message->rcx, 0x1001);
	assert_int_equal(message->rdx, 0x1002);
	assert_int_equal(message->r8, 0x1008);
	assert_int_equal(message->rsi, 0x1006);
	assert_int_equal(message->rdi, 0x1007);
	assert_int_equal(message->xmm[5].high, 0x65);
	assert_int_equal(message->flags, 0);
}

static void ends_of_interrupts(void **state)
{
	const struct hv_apic_eoi_message *message;

	(void)state;
	registers_page.page.is_valid = 1;
	vp->apic.page = &apic_page;
	intercept_apic_eoi(vp, 0x41); /* edge-triggered */
	assert_int_equal(vp->holds, 0);
	apic_page.reg[(APIC_REG_TMR >> 4) + 2].value = 6; /* 41h and 42h */
	intercept_apic_eoi(vp, 0x40);
	assert_int_equal(vp->holds, 0);
	intercept_apic_eoi(vp, 0x41);
	message = payload(HV_MESSAGE_X64_APIC_EOI, 8);
	assert_int_equal(message->vp_index, 4);
	assert_int_equal(message->vector, 0x41);
	assert_int_equal(registers_page.page.is_valid, 0); /* the instruction isn't done yet */
	intercept_apic_eoi(vp, 0x42);			   /* by the parent, which looks at the first */
	assert_int_equal(message->vector, 0x41);
	assert_int_equal(fake.posts, 1);
}

static void free_slots(void **state)
{
	const struct hv_x64_sint_deliverable *message;

	(void)state;
	fake.loaded = false; /* the parent asked just now */
	lp.vp = root_vps[1];
	assert_true(intercept_sint_deliverable(vp, 0x24));
	message = payload(HV_MESSAGE_SYNIC_SINT_DELIVERABLE, 48);
	check_header(&message->header, HV_INTERCEPT_ACCESS_READ, 0);
	assert_int_equal(message->deliverable_sints, 0x24);
	assert_false(intercept_sint_deliverable(vp, 8));
	assert_int_equal(message->deliverable_sints, 0x24);
	vp->holds = VP_HOLD_DEAD;
	assert_false(intercept_sint_deliverable(vp, 8));
}

/* ---- How the parent is told ---- */

static void who_is_told(void **state)
{
	(void)state;
	fake.listens[1] = false;
	intercept_unrecoverable(vp);
	assert_ptr_equal(fake.posted_to, root_vps[0]);
	setup(state);
	fake.listens[0] = fake.listens[1] = false;
	intercept_unrecoverable(vp);
	assert_ptr_equal(fake.posted_to, root_vps[0]); /* it waits there */
}

/* The parent took the suspend back before it was told. */
static void told_once_at_a_time(void **state)
{
	struct hv_message content;

	(void)state;
	intercept_unrecoverable(vp);
	vp->holds = 0;
	intercept_unrecoverable(vp);
	assert_int_equal(vp->holds, VP_HOLD_INTERCEPT);
	assert_int_equal(fake.posts, 1);
	intercept_take_message(&vp_child.intercepts.link, &content);
	assert_int_equal(content.type, HV_MESSAGE_OPAQUE_INTERCEPT);
	assert_int_equal(content.sender, 9);
	assert_int_equal(content.payload_bytes, 4);
	assert_int_equal(content.payload.bytes[0], 4);
	vp->holds = 0;
	intercept_unrecoverable(vp);
	assert_int_equal(fake.posts, 2);
}

/* ---- The answer ---- */

static void answer(uint32_t dirty)
{
	struct hv_vp_register_page *page = &registers_page.page;

	memset(page, 0x33, sizeof(*page));
	page->dirty = dirty;
	page->is_valid = 1;
	fake.set_count = 0;
	intercept_resume(vp);
	assert_int_equal(page->is_valid, 0);
	assert_int_equal(page->dirty, 0);
}

static void only_what_is_dirty_counts(void **state)
{
	(void)state;
	answer(0);
	assert_int_equal(fake.set_count, 0);
	assert_int_equal(vp->gpr[GPR_RAX], 0x1000);
	assert_int_equal(fake.xmm[0].low, 0);
	answer(HV_REGISTER_PAGE_DIRTY_GENERAL);
	assert_int_equal(vp->gpr[GPR_RAX], 0x3333333333333333);
	assert_int_equal(vp->gpr[GPR_R15], 0x3333333333333333);
	assert_int_equal(fake.set_count, 1);
	assert_int_equal(fake.set_names[0], HV_REGISTER_X64_RSP);
	assert_int_equal(fake.registers[VP_REGISTER_RSP].reg128.high, 0);
	answer(HV_REGISTER_PAGE_DIRTY_IP | HV_REGISTER_PAGE_DIRTY_FLAGS);
	assert_int_equal(fake.set_count, 2);
	assert_int_equal(fake.set_names[0], HV_REGISTER_X64_RIP);
	assert_int_equal(fake.set_names[1], HV_REGISTER_X64_RFLAGS);
	answer(HV_REGISTER_PAGE_DIRTY_XMM);
	assert_int_equal(fake.xmm[5].high, 0x3333333333333333);
	assert_int_equal(fake.set_count, 0);
	answer(HV_REGISTER_PAGE_DIRTY_SEGMENT);
	assert_int_equal(fake.set_count, 6);
	assert_int_equal(fake.set_names[0], HV_REGISTER_X64_ES);
	assert_int_equal(fake.set_names[5], HV_REGISTER_X64_GS);
	assert_int_equal(fake.registers[VP_REGISTER_GS].segment.selector, 0x3333);
}

static void a_value_that_cannot_be_is_not_taken(void **state)
{
	(void)state;
	fake.refused_name = HV_REGISTER_X64_RIP;
	answer(HV_REGISTER_PAGE_DIRTY_IP | HV_REGISTER_PAGE_DIRTY_FLAGS);
	assert_int_equal(fake.set_count, 2);
	assert_int_equal(fake.registers[VP_REGISTER_RIP].reg64, 0x100 + VP_REGISTER_RIP);
}

static void what_waited_comes_after_the_answer(void **state)
{
	(void)state;
	answer(0);
	assert_int_equal(fake.scans, 0);
	vp->synic.wanted = 4;
	answer(0);
	assert_int_equal(fake.scans, 1);
}

static void registers_set_by_name_show(void **state)
{
	const union hv_register_value value = { .reg64 = 0x77 };
	struct hv_vp_register_page *page = &registers_page.page;

	(void)state;
	page->is_valid = 1;
	intercept_note_register(vp, HV_REGISTER_X64_RIP, &value);
	intercept_note_register(vp, HV_REGISTER_X64_RAX + GPR_RDI, &value);
	intercept_note_register(vp, HV_REGISTER_X64_RFLAGS, &value);
	assert_int_equal(page->rip, 0x77);
	assert_int_equal(page->rflags, 0x77);
	assert_int_equal(page->gp[GPR_RDI], 0x77);
	assert_int_equal(page->is_valid, 1);
	intercept_note_register(vp, HV_REGISTER_X64_CR3, &value);
	assert_int_equal(page->is_valid, 0);
}

/* ---- Pages and the end ---- */

static void no_pages(void)
{
	memset(&vp_child, 0, sizeof(vp_child));
	lp.vp = root_vps[0];
	fake.loaded = false;
	fake.free_pages = 2;
}

static void map_and_unmap(void **state)
{
	uint64_t page = 0;

	(void)state;
	no_pages();
	assert_int_equal(intercept_map_page(vp, root_vps[0], HV_VP_STATE_PAGE_GHCB, &page),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(intercept_map_page(vp, root_vps[0], HV_VP_STATE_PAGE_INTERCEPT_MESSAGE, &page), 0);
	assert_int_equal(page, MESSAGE_PAGE);
	assert_ptr_equal(vp_child.intercepts.message, &message_page);
	assert_null(vp_child.intercepts.registers);
	assert_int_equal(intercept_map_page(vp, root_vps[0], HV_VP_STATE_PAGE_INTERCEPT_MESSAGE, &page),
			 HV_STATUS_OBJECT_IN_USE);
	assert_int_equal(fake.free_pages, 1);
	assert_int_equal(intercept_map_page(vp, root_vps[0], HV_VP_STATE_PAGE_REGISTERS, &page), 0);
	assert_int_equal(page, REGISTERS_PAGE);
	assert_ptr_equal(vp_child.intercepts.registers, &registers_page);
	assert_int_equal(intercept_unmap_page(vp, root_vps[0], HV_VP_STATE_PAGE_REGISTERS), 0);
	assert_null(vp_child.intercepts.registers);
	assert_int_equal(intercept_unmap_page(vp, root_vps[0], HV_VP_STATE_PAGE_REGISTERS),
			 HV_STATUS_NOT_FOUND);
	assert_int_equal(intercept_unmap_page(vp, root_vps[0], 2), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(intercept_unmap_page(vp, root_vps[0], HV_VP_STATE_PAGE_INTERCEPT_MESSAGE), 0);
	assert_int_equal(fake.free_pages, 2);
	assert_int_equal(fake.shown, fake.hidden);
}

static void no_page_to_map(void **state)
{
	uint64_t page;

	(void)state;
	no_pages();
	fake.free_pages = 0;
	assert_int_equal(intercept_map_page(vp, root_vps[0], HV_VP_STATE_PAGE_REGISTERS, &page),
			 HV_STATUS_INSUFFICIENT_MEMORY);
	fake.free_pages = 1;
	fake.show_fails = true;
	assert_int_equal(intercept_map_page(vp, root_vps[0], HV_VP_STATE_PAGE_REGISTERS, &page),
			 HV_STATUS_OPERATION_FAILED);
	assert_int_equal(fake.free_pages, 1);
	assert_null(vp_child.intercepts.registers);
}

static void destroyed_with_pages(void **state)
{
	(void)state;
	lp.vp = root_vps[0];
	fake.loaded = false;
	assert_true(intercept_destroy(vp));
	assert_int_equal(fake.hidden, 2);
	assert_int_equal(fake.free_pages, 2);
	assert_true(intercept_destroy(vp));
	assert_int_equal(fake.hidden, 2);
	assert_int_equal(fake.drops, 0);
}

static void destroyed_while_its_message_is_under_way(void **state)
{
	(void)state;
	intercept_unrecoverable(vp);
	lp.vp = root_vps[0];
	fake.loaded = false;
	assert_false(intercept_destroy(vp));
	assert_int_equal(fake.drops, 1);
	assert_int_equal(fake.hidden, 0);
	assert_true(intercept_is_dead(&vp_child.intercepts.link));
	assert_false(intercept_destroy(vp));
	intercept_take_message(&vp_child.intercepts.link, NULL); /* its LP came by */
	assert_true(intercept_destroy(vp));
	assert_int_equal(fake.hidden, 2);
}

static void destroyed_on_the_lp_that_has_the_message(void **state)
{
	(void)state;
	intercept_unrecoverable(vp);
	lp.vp = root_vps[0];
	fake.posted_to = vp_child.intercepts.link_target = root_vps[0];
	fake.loaded = false;
	assert_true(intercept_destroy(vp));
}

static void a_page_that_cannot_be_taken_back(void **state)
{
	(void)state;
	lp.vp = root_vps[0];
	fake.loaded = false;
	fake.hide_fails = true;
	assert_false(intercept_destroy(vp));
	assert_int_equal(fake.free_pages, 0);
	fake.hide_fails = false;
	assert_true(intercept_destroy(vp));
	assert_int_equal(fake.free_pages, 2);
}

static struct vp *new_vp(void)
{
	return aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(struct vp), PAGE_SIZE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(ports, setup),
		cmocka_unit_test_setup(string_ports, setup),
		cmocka_unit_test_setup(input_of_unknown_length, setup),
		cmocka_unit_test_setup(the_register_page, setup),
		cmocka_unit_test_setup(without_pages_it_stops_all_the_same, setup),
		cmocka_unit_test_setup(unmapped, setup),
		cmocka_unit_test_setup(without_the_right, setup),
		cmocka_unit_test_setup(fetches_and_walks, setup),
		cmocka_unit_test_setup(what_needs_no_parent, setup),
		cmocka_unit_test_setup(no_local_apic, setup),
		cmocka_unit_test_setup(code_that_cannot_be_read_is_run_again_once, setup),
		cmocka_unit_test_setup(parameters_of_hypercalls, setup),
		cmocka_unit_test_setup(hypercalls, setup),
		cmocka_unit_test_setup(ends_of_interrupts, setup),
		cmocka_unit_test_setup(free_slots, setup),
		cmocka_unit_test_setup(who_is_told, setup),
		cmocka_unit_test_setup(told_once_at_a_time, setup),
		cmocka_unit_test_setup(only_what_is_dirty_counts, setup),
		cmocka_unit_test_setup(a_value_that_cannot_be_is_not_taken, setup),
		cmocka_unit_test_setup(what_waited_comes_after_the_answer, setup),
		cmocka_unit_test_setup(registers_set_by_name_show, setup),
		cmocka_unit_test_setup(map_and_unmap, setup),
		cmocka_unit_test_setup(no_page_to_map, setup),
		cmocka_unit_test_setup(destroyed_with_pages, setup),
		cmocka_unit_test_setup(destroyed_while_its_message_is_under_way, setup),
		cmocka_unit_test_setup(destroyed_on_the_lp_that_has_the_message, setup),
		cmocka_unit_test_setup(a_page_that_cannot_be_taken_back, setup),
	};
	int failed;

	vp = new_vp();
	root_vps[0] = new_vp();
	root_vps[1] = new_vp();
	failed = cmocka_run_group_tests_name("intercepts", tests, NULL, NULL);
	free(vp);
	free(root_vps[0]);
	free(root_vps[1]);
	return failed;
}
