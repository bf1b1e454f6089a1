/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"
#include "move.h"
#include "pe.h"

#define IMAGE_BASE 0x200000u
#define HYPERCALL_LENGTH_MAX 15u

void *ram_at(const struct machine *m, uint64_t gpa, uint64_t bytes)
{
	bool low = gpa < HOLE && bytes <= HOLE - gpa;
	bool high = gpa >= FIRMWARE && gpa < m->bytes && bytes <= m->bytes - gpa;

	return low || high ? m->memory + gpa : NULL;
}

/* ---- Making it ---- */

static uint8_t *read_file(const char *path, size_t *bytes)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data;
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET))
		die("%s: %s", path, strerror(errno));
	data = malloc((size_t)size + 1);
	if (!data || fread(data, 1, (size_t)size, file) != (size_t)size)
		die("%s can't be read", path);
	fclose(file);
	*bytes = (size_t)size;
	return data;
}

static uint64_t load_image(struct machine *m, const char *path)
{
	struct pe_image image;
	size_t bytes;
	uint8_t *file = read_file(path, &bytes);
	const char *wrong = pe_measure(file, bytes, &image);

	if (!wrong && image.bytes > m->bytes - IMAGE_BASE)
		wrong = "larger than the guest's memory";
	if (!wrong)
		wrong = pe_load(file, bytes, m->memory + IMAGE_BASE, IMAGE_BASE, &image);
	if (wrong)
		die("%s: %s", path, wrong);
	free(file);
	m->image_base = IMAGE_BASE;
	m->image_bytes = image.bytes;
	return IMAGE_BASE + image.entry;
}

/* Before it is initialized. The privileges that come with the features stay. */
static void set_features(struct machine *m)
{
	uint64_t features = m->plain ? 0 : PARTITION_FEATURES | m->features, mask;
	struct answer a = set_property(m->partition, HV_PROPERTY_SYNTHETIC_PROC_FEATURES, features);

	if (a.error)
		die("vmm: synthetic features %#llx are refused: status %#x", (unsigned long long)features,
		    a.status);
	if (!m->privileges)
		return;
	a = get_property(m->partition, HV_PROPERTY_PRIVILEGE_FLAGS, &mask);
	if (!a.error)
		a = set_property(m->partition, HV_PROPERTY_PRIVILEGE_FLAGS, mask | m->privileges);
	if (a.error)
		fprintf(stderr, "vmm: privileges %#llx are refused: status %#x\n",
			(unsigned long long)m->privileges, a.status);
}

static uint32_t tsc_khz(int partition)
{
	uint64_t hz;

	if (get_property(partition, HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY, &hz).error)
		die("vmm: the TSC's frequency is refused");
	return (uint32_t)(hz / 1000);
}

void machine_create(struct machine *m, int dev)
{
	m->partition = create_partition(dev, PARTITION_FLAGS);
	set_features(m);
	initialize_partition(m->partition);
	m->tsc_khz = tsc_khz(m->partition);
	m->memory = allocate_memory(m->bytes);
	map_memory(m->partition, 0, m->memory, HOLE, MEMORY_ALL);
	map_memory(m->partition, FIRMWARE, m->memory + FIRMWARE, m->bytes - FIRMWARE, MEMORY_ALL);
	for (uint32_t i = 0; i < m->vp_count; i++) {
		struct vp *vp = &m->vp[i];

		vp->machine = m;
		vp->index = i;
		vp->fd = create_vp(m->partition, i);
		if (!m->registers_by_call)
			vp->page = map_state_page(vp->fd, REGISTER_PAGE);
	}
}

void machine_delete(struct machine *m)
{
	for (uint32_t i = 0; i < m->vp_count; i++) {
		if (m->vp[i].page)
			munmap(m->vp[i].page, PAGE);
		close(m->vp[i].fd);
	}
	close(m->partition);
}

void machine_make(struct machine *m, int dev, const char *image_path)
{
	machine_create(m, dev);
	firmware_prepare(m, load_image(m, image_path));
}

/* ---- Registers ---- */

static bool by_page(const struct vp *vp)
{
	return vp->page && vp->page->is_valid;
}

uint64_t vp_general(struct vp *vp, unsigned int number)
{
	if (by_page(vp))
		return vp->page->gp[number];
	return get_register(vp->fd, vp->index, HV_REGISTER_X64_RAX + number);
}

void vp_set_general(struct vp *vp, unsigned int number, uint64_t value)
{
	if (!by_page(vp)) {
		set_register(vp->fd, vp->index, HV_REGISTER_X64_RAX + number, value);
		return;
	}
	vp->page->gp[number] = value;
	vp->page->dirty |= HV_REGISTER_PAGE_DIRTY_GENERAL;
}

void vp_set_rip(struct vp *vp, uint64_t rip)
{
	if (!by_page(vp)) {
		set_register(vp->fd, vp->index, HV_REGISTER_X64_RIP, rip);
		return;
	}
	vp->page->rip = rip;
	vp->page->dirty |= HV_REGISTER_PAGE_DIRTY_IP;
}

void vp_inject_gp(struct vp *vp)
{
	struct hv_register_assoc event = {
		.name = HV_REGISTER_PENDING_EVENT0,
		.value.pending_exception = {
			.pending_and_type = HV_PENDING_EVENT_PENDING | HV_PENDING_EXCEPTION_HAS_ERROR_CODE,
			.vector = 13,
		},
	};
	struct answer a = set_registers(vp->fd, vp->index, &event, 1);

	if (a.error)
		die("vmm: no #GP can be injected: status %#x", a.status);
}

/* ---- Running ---- */

void machine_end(struct machine *m, int status)
{
	fflush(m->serial);
	fflush(stderr);
	/* Not exit(): other threads are within the driver, which ends with them. */
	_exit(status);
}

static void show_registers(struct vp *vp)
{
	static const struct {
		uint32_t name;
		const char *text;
	} registers[] = {
		{ HV_REGISTER_X64_RIP, "rip" }, { HV_REGISTER_X64_RFLAGS, "rflags" },
		{ HV_REGISTER_X64_RSP, "rsp" }, { HV_REGISTER_X64_RAX, "rax" },
		{ HV_REGISTER_X64_RCX, "rcx" }, { HV_REGISTER_X64_RDX, "rdx" },
		{ HV_REGISTER_X64_RBX, "rbx" }, { HV_REGISTER_X64_CR0, "cr0" },
		{ HV_REGISTER_X64_CR2, "cr2" }, { HV_REGISTER_X64_CR3, "cr3" },
		{ HV_REGISTER_X64_CR4, "cr4" }, { HV_REGISTER_X64_EFER, "efer" },
	};
	uint32_t names[ARRAY_LEN(registers)];
	union hv_register_value values[ARRAY_LEN(registers)];

	for (unsigned int i = 0; i < ARRAY_LEN(registers); i++)
		names[i] = registers[i].name;
	if (get_registers(vp->fd, vp->index, names, values, ARRAY_LEN(names)).error)
		return;
	fprintf(stderr, "vmm: vp %u:", vp->index);
	for (unsigned int i = 0; i < ARRAY_LEN(registers); i++)
		fprintf(stderr, " %s %#llx", registers[i].text, (unsigned long long)values[i].reg64);
	fputc('\n', stderr);
}

static unsigned int mode_bits(const struct hv_x64_intercept_header *header)
{
	if ((header->execution_state & HV_EXECUTION_STATE_EFER_LMA) &&
	    (header->cs.attributes & HV_SEGMENT_LONG))
		return 64;
	return (header->cs.attributes & HV_SEGMENT_DEFAULT_BIG) ? 32 : 16;
}

/* The instruction's bytes: the message's, or read from where RIP leads. */
static unsigned int instruction_bytes(struct vp *vp, const struct hv_x64_memory_intercept *access,
				      uint8_t bytes[16])
{
	uint64_t gva = access->header.cs.base + access->header.rip, gpa;
	unsigned int count = access->instruction_byte_count;
	const uint8_t *at;

	if (count && count <= 16) {
		memcpy(bytes, access->instruction_bytes, count);
		return count;
	}
	if (mode_bits(&access->header) == 64)
		gva = access->header.rip;
	for (count = 0; count < HYPERCALL_LENGTH_MAX; count++) {
		if (!translate(vp->fd, vp->index, gva + count, false, &gpa))
			break;
		at = ram_at(vp->machine, gpa, 1);
		if (!at)
			break;
		bytes[count] = *at;
	}
	return count;
}

static void stop_at(struct vp *vp, const struct hv_x64_memory_intercept *access, const uint8_t *bytes,
		    unsigned int count)
{
	static const char *const kinds[] = { "read", "write", "execute" };

	fprintf(stderr, "vmm: vp %u: unmapped %s of %#llx at rip %#llx, instruction", vp->index,
		kinds[access->header.access_type % 3], (unsigned long long)access->gpa,
		(unsigned long long)access->header.rip);
	for (unsigned int i = 0; i < count; i++)
		fprintf(stderr, " %02x", bytes[i]);
	fputc('\n', stderr);
	show_registers(vp);
	machine_end(vp->machine, ENDED_UNMAPPED);
}

/* Where nothing is, a load finds ones and a store is lost; a hypercall's parameters there are #GP. */
static void handle_unmapped(struct vp *vp, const struct hv_message *message)
{
	const struct hv_x64_memory_intercept *access = (const void *)message->payload.bytes;
	uint8_t bytes[16];
	unsigned int count = instruction_bytes(vp, access, bytes);
	struct move move;

	if (is_hypercall(bytes, count)) {
		vp_inject_gp(vp);
		return;
	}
	if (vp->machine->stop_at_unmapped || access->header.access_type == HV_INTERCEPT_ACCESS_EXECUTE ||
	    !decode_move(bytes, count, mode_bits(&access->header), &move) ||
	    move.load != (access->header.access_type == HV_INTERCEPT_ACCESS_READ)) {
		stop_at(vp, access, bytes, count);
		return;
	}
	if (move.load)
		vp_set_general(vp, move.reg, loaded(&move, vp_general(vp, move.reg), ~0ull));
	vp_set_rip(vp, access->header.rip + move.length);
}

static void handle(struct vp *vp, const struct hv_message *message)
{
	struct machine *m = vp->machine;

	if (m->trace)
		fprintf(stderr, "vmm: vp %u: %s\n", vp->index, message_name(message->type));
	if (m->message && m->message(vp, message))
		return;
	switch (message->type) {
	case HV_MESSAGE_X64_IO_PORT_INTERCEPT:
		handle_port(vp, message);
		break;
	case HV_MESSAGE_UNMAPPED_GPA:
	case HV_MESSAGE_GPA_INTERCEPT:
		handle_unmapped(vp, message);
		break;
	case HV_MESSAGE_UNRECOVERABLE_EXCEPTION:
		fprintf(stderr, "vmm: vp %u: unrecoverable exception (triple fault)\n", vp->index);
		show_registers(vp);
		machine_end(m, ENDED_TRIPLE_FAULT);
	case HV_MESSAGE_X64_APIC_EOI:
		break;
	default:
		fprintf(stderr, "vmm: vp %u: message %#x (%s), which nobody asked for\n", vp->index,
			message->type, message_name(message->type));
		show_registers(vp);
		machine_end(m, ENDED_MONITOR);
	}
}

bool vp_run(struct vp *vp)
{
	struct hv_message message;
	int r = run_vp(vp->fd, &message);

	if (r == -EINTR)
		return false;
	if (r) {
		fprintf(stderr, "vmm: vp %u doesn't run: %s\n", vp->index, strerror(-r));
		machine_end(vp->machine, ENDED_MONITOR);
	}
	handle(vp, &message);
	return true;
}

static void *vp_thread(void *argument)
{
	for (;;)
		vp_run(argument);
	return NULL;
}

void machine_run(struct machine *m)
{
	for (uint32_t i = 1; i < m->vp_count; i++)
		if (pthread_create(&m->vp[i].thread, NULL, vp_thread, &m->vp[i]))
			die("no thread for VP %u", i);
	vp_thread(&m->vp[0]);
	machine_end(m, ENDED_MONITOR);
}
