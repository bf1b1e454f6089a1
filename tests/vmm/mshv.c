/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/mshv.h>

#include "mshv.h"

_Static_assert(PARTITION_LAPIC == 1u << MSHV_PT_BIT_LAPIC && PARTITION_X2APIC == 1u << MSHV_PT_BIT_X2APIC &&
		       PARTITION_SUPER_PAGES == 1u << MSHV_PT_BIT_GPA_SUPER_PAGES,
	       "flags of partitions");
_Static_assert(MEMORY_WRITE == 1u << MSHV_SET_MEM_BIT_WRITABLE &&
		       MEMORY_EXECUTE == 1u << MSHV_SET_MEM_BIT_EXECUTABLE,
	       "flags of memory");
_Static_assert(REGISTER_PAGE == MSHV_VP_MMAP_OFFSET_REGISTERS &&
		       INTERCEPT_PAGE == MSHV_VP_MMAP_OFFSET_INTERCEPT_MESSAGE,
	       "state pages");
_Static_assert((int)STATE_LAPIC == MSHV_VP_STATE_LAPIC && (int)STATE_XSAVE == MSHV_VP_STATE_XSAVE &&
		       (int)STATE_SIMP == MSHV_VP_STATE_SIMP && (int)STATE_SIEFP == MSHV_VP_STATE_SIEFP &&
		       (int)STATE_TIMERS == MSHV_VP_STATE_SYNTHETIC_TIMERS &&
		       (int)STATES == MSHV_VP_STATE_COUNT,
	       "states of VPs");

#define LARGE_PAGE (2u << 20)
#define REGISTERS_MAX 64u /* in one call */

void die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(103);
}

/* ---- Hypercalls ---- */

struct answer hypercall(int fd, uint16_t code, uint16_t reps, const void *in, size_t in_bytes, void *out,
			size_t out_bytes)
{
	struct mshv_root_hvcall args = {
		.code = code,
		.reps = reps,
		.in_sz = (uint16_t)in_bytes,
		.out_sz = (uint16_t)out_bytes,
		.in_ptr = (uintptr_t)in,
		.out_ptr = (uintptr_t)out,
	};
	struct answer answer = { 0 };

	if (ioctl(fd, MSHV_ROOT_HVCALL, &args) < 0)
		answer.error = -errno;
	answer.status = args.status;
	answer.reps = args.reps;
	return answer;
}

struct answer get_property(int fd, uint32_t code, uint64_t *value)
{
	struct hv_input_get_partition_property in = { .property_code = code };

	*value = 0;
	return hypercall(fd, HV_CALL_GET_PARTITION_PROPERTY, 0, &in, sizeof(in), value, sizeof(*value));
}

struct answer set_property(int fd, uint32_t code, uint64_t value)
{
	struct hv_input_set_partition_property in = { .property_code = code, .value = value };

	return hypercall(fd, HV_CALL_SET_PARTITION_PROPERTY, 0, &in, sizeof(in), NULL, 0);
}

struct answer set_registers(int fd, uint32_t vp, const struct hv_register_assoc *registers,
			    unsigned int count)
{
	struct {
		struct hv_input_vp_registers head;
		struct hv_register_assoc list[REGISTERS_MAX];
	} in = { .head.vp_index = vp };

	if (count > REGISTERS_MAX)
		die("%u registers at once", count);
	memcpy(in.list, registers, count * sizeof(in.list[0]));
	return hypercall(fd, HV_CALL_SET_VP_REGISTERS, (uint16_t)count, &in,
			 sizeof(in.head) + count * sizeof(in.list[0]), NULL, 0);
}

struct answer get_registers(int fd, uint32_t vp, const uint32_t *names, union hv_register_value *values,
			    unsigned int count)
{
	struct {
		struct hv_input_vp_registers head;
		uint32_t list[REGISTERS_MAX];
	} in = { .head.vp_index = vp };

	if (count > REGISTERS_MAX)
		die("%u registers at once", count);
	memcpy(in.list, names, count * sizeof(in.list[0]));
	return hypercall(fd, HV_CALL_GET_VP_REGISTERS, (uint16_t)count, &in,
			 sizeof(in.head) + count * sizeof(in.list[0]), values, count * sizeof(values[0]));
}

uint64_t get_register(int fd, uint32_t vp, uint32_t name)
{
	union hv_register_value value;
	struct answer answer = get_registers(fd, vp, &name, &value, 1);

	if (answer.error)
		die("register %#x can't be read: status %#x, %s", name, answer.status,
		    strerror(-answer.error));
	return value.reg64;
}

void set_register(int fd, uint32_t vp, uint32_t name, uint64_t value)
{
	struct hv_register_assoc one = { .name = name, .value.reg64 = value };
	struct answer answer = set_registers(fd, vp, &one, 1);

	if (answer.error)
		die("register %#x can't be set to %#llx: status %#x, %s", name, (unsigned long long)value,
		    answer.status, strerror(-answer.error));
}

bool translate(int fd, uint32_t vp, uint64_t gva, bool write, uint64_t *gpa)
{
	struct hv_input_translate_virtual_address in = {
		.vp_index = vp,
		.control_flags = write ? HV_TRANSLATE_VALIDATE_WRITE : HV_TRANSLATE_VALIDATE_READ,
		.gva_page = gva / PAGE,
	};
	struct hv_output_translate_virtual_address out = { 0 };
	struct answer answer =
		hypercall(fd, HV_CALL_TRANSLATE_VIRTUAL_ADDRESS, 0, &in, sizeof(in), &out, sizeof(out));

	if (answer.error || out.result_code != HV_TRANSLATE_SUCCESS)
		return false;
	*gpa = out.gpn * PAGE + gva % PAGE;
	return true;
}

struct answer assert_interrupt(int fd, uint32_t type, uint32_t vector, uint64_t apic_id)
{
	struct hv_input_assert_virtual_interrupt in = { .interrupt_type = type,
							.destination = apic_id,
							.vector = vector };

	return hypercall(fd, HV_CALL_ASSERT_VIRTUAL_INTERRUPT, 0, &in, sizeof(in), NULL, 0);
}

/* ---- Partitions ---- */

int open_mshv(void)
{
	int dev = open("/dev/mshv", O_RDWR | O_CLOEXEC);

	if (dev < 0)
		die("/dev/mshv: %s", strerror(errno));
	return dev;
}

static int result(int r)
{
	return r < 0 ? -errno : r;
}

int try_create_partition(int dev, uint64_t flags)
{
	struct mshv_create_partition args = { .pt_flags = flags, .pt_isolation = MSHV_PT_ISOLATION_NONE };

	return result(ioctl(dev, MSHV_CREATE_PARTITION, &args));
}

int create_partition(int dev, uint64_t flags)
{
	int partition = try_create_partition(dev, flags);

	if (partition < 0)
		die("no partition: %s", strerror(-partition));
	return partition;
}

void initialize_partition(int partition)
{
	int r = result(ioctl(partition, MSHV_INITIALIZE_PARTITION));

	if (r)
		die("the partition can't be initialized: %s", strerror(-r));
}

void *allocate_memory(size_t bytes)
{
	size_t align = bytes >= LARGE_PAGE ? LARGE_PAGE : PAGE;
	uint8_t *memory = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (memory == MAP_FAILED)
		die("no %zu bytes of memory: %s", bytes, strerror(errno));
	before = (align - (uintptr_t)memory % align) % align;
	if (before)
		munmap(memory, before);
	if (align > before)
		munmap(memory + before + bytes, align - before);
	return memory + before;
}

static int set_memory(int partition, uint64_t gpa, void *memory, size_t bytes, uint8_t flags)
{
	struct mshv_user_mem_region region = {
		.size = bytes,
		.guest_pfn = gpa / PAGE,
		.userspace_addr = (uintptr_t)memory,
		.flags = flags,
	};

	return result(ioctl(partition, MSHV_SET_GUEST_MEMORY, &region));
}

int try_map_memory(int partition, uint64_t gpa, void *memory, size_t bytes, uint8_t flags)
{
	return set_memory(partition, gpa, memory, bytes, flags);
}

void map_memory(int partition, uint64_t gpa, void *memory, size_t bytes, uint8_t flags)
{
	int r = set_memory(partition, gpa, memory, bytes, flags);

	if (r)
		die("%zu bytes can't be mapped at %#llx: %s", bytes, (unsigned long long)gpa, strerror(-r));
}

int unmap_memory(int partition, uint64_t gpa, void *memory, size_t bytes)
{
	return set_memory(partition, gpa, memory, bytes, 1u << MSHV_SET_MEM_BIT_UNMAP);
}

int get_dirty_pages(int partition, uint64_t gpa, size_t bytes, bool clears, void *bitmap)
{
	struct mshv_gpap_access_bitmap args = {
		.access_type = MSHV_GPAP_ACCESS_TYPE_DIRTY,
		.access_op = clears ? MSHV_GPAP_ACCESS_OP_CLEAR : MSHV_GPAP_ACCESS_OP_NOOP,
		.page_count = bytes / PAGE,
		.gpap_base = gpa / PAGE,
		.bitmap_ptr = (uintptr_t)bitmap,
	};

	return result(ioctl(partition, MSHV_GET_GPAP_ACCESS_BITMAP, &args));
}

/* ---- Interrupts and doorbells ---- */

void route_interrupt(int partition, uint32_t gsi, uint8_t vector, uint8_t apic_id)
{
	union {
		struct mshv_user_irq_table table;
		uint8_t bytes[sizeof(struct mshv_user_irq_table) + sizeof(struct mshv_user_irq_entry)];
	} routes = { .table.nr = 1 };
	struct mshv_user_irq_entry entry = {
		.gsi = gsi,
		.address_lo = 0xfee00000u | (uint32_t)apic_id << 12,
		.data = vector,
	};

	memcpy(routes.bytes + sizeof(routes.table), &entry, sizeof(entry));
	if (ioctl(partition, MSHV_SET_MSI_ROUTING, &routes) < 0)
		die("no interrupt route: %s", strerror(errno));
}

int attach_interrupt(int partition, int event_fd, uint32_t gsi)
{
	struct mshv_user_irqfd args = { .fd = event_fd, .resamplefd = -1, .gsi = gsi };

	return result(ioctl(partition, MSHV_IRQFD, &args));
}

int attach_doorbell(int partition, int event_fd, uint64_t gpa, uint32_t bytes)
{
	struct mshv_user_ioeventfd args = { .addr = gpa, .len = bytes, .fd = event_fd };

	return result(ioctl(partition, MSHV_IOEVENTFD, &args));
}

/* ---- VPs ---- */

int try_create_vp(int partition, uint32_t index)
{
	struct mshv_create_vp args = { .vp_index = index };

	return result(ioctl(partition, MSHV_CREATE_VP, &args));
}

int create_vp(int partition, uint32_t index)
{
	int vp = try_create_vp(partition, index);

	if (vp < 0)
		die("no VP %u: %s", index, strerror(-vp));
	return vp;
}

void *map_state_page(int vp, unsigned int which)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, vp, (off_t)which * PAGE);

	return page == MAP_FAILED ? NULL : page;
}

int run_vp(int vp, struct hv_message *message)
{
	_Static_assert(sizeof(struct hv_message) == sizeof(struct mshv_run_vp), "a message fills the buffer");
	return result(ioctl(vp, MSHV_RUN_VP, message));
}

static int vp_state(int vp, unsigned long request, enum vp_state type, void *buffer)
{
	struct mshv_get_set_vp_state args = { .type = (uint8_t)type,
					      .buf_sz = PAGE,
					      .buf_ptr = (uintptr_t)buffer };

	return result(ioctl(vp, request, &args));
}

int get_vp_state(int vp, enum vp_state type, void *buffer)
{
	return vp_state(vp, MSHV_GET_VP_STATE, type, buffer);
}

int set_vp_state(int vp, enum vp_state type, void *buffer)
{
	return vp_state(vp, MSHV_SET_VP_STATE, type, buffer);
}

void start_in_real_mode(int vp, uint32_t index, uint16_t entry)
{
	static const uint32_t data[] = { HV_REGISTER_X64_DS, HV_REGISTER_X64_ES, HV_REGISTER_X64_SS,
					 HV_REGISTER_X64_FS, HV_REGISTER_X64_GS };
	struct hv_register_assoc list[ARRAY_LEN(data) + 4] = { 0 };
	struct answer answer;
	unsigned int n = 0;

	for (; n < ARRAY_LEN(data); n++) {
		list[n].name = data[n];
		list[n].value.segment =
			(struct hv_x64_segment_register){ .limit = 0xffff, .attributes = 0x93 };
	}
	list[n].name = HV_REGISTER_X64_CS;
	list[n++].value.segment = (struct hv_x64_segment_register){ .limit = 0xffff, .attributes = 0x9b };
	list[n].name = HV_REGISTER_X64_RIP;
	list[n++].value.reg64 = entry;
	list[n].name = HV_REGISTER_X64_RSP;
	list[n++].value.reg64 = 0x1000;
	list[n].name = HV_REGISTER_X64_RFLAGS;
	list[n++].value.reg64 = 2;
	answer = set_registers(vp, index, list, n);
	if (answer.error)
		die("VP %u doesn't take its registers: element %u, status %#x", index, answer.reps,
		    answer.status);
}

const char *message_name(uint32_t type)
{
	static const struct {
		uint32_t type;
		const char *name;
	} names[] = {
		{ HV_MESSAGE_UNMAPPED_GPA, "unmapped GPA" },
		{ HV_MESSAGE_GPA_INTERCEPT, "GPA intercept" },
		{ HV_MESSAGE_INVALID_VP_REGISTER_VALUE, "invalid VP register value" },
		{ HV_MESSAGE_UNRECOVERABLE_EXCEPTION, "unrecoverable exception" },
		{ HV_MESSAGE_UNSUPPORTED_FEATURE, "unsupported feature" },
		{ HV_MESSAGE_HYPERCALL_INTERCEPT, "hypercall intercept" },
		{ HV_MESSAGE_SYNIC_SINT_DELIVERABLE, "SINT deliverable" },
		{ HV_MESSAGE_X64_IO_PORT_INTERCEPT, "I/O port intercept" },
		{ HV_MESSAGE_X64_MSR_INTERCEPT, "MSR intercept" },
		{ HV_MESSAGE_X64_CPUID_INTERCEPT, "CPUID intercept" },
		{ HV_MESSAGE_X64_EXCEPTION_INTERCEPT, "exception intercept" },
		{ HV_MESSAGE_X64_APIC_EOI, "APIC EOI" },
		{ HV_MESSAGE_X64_HALT, "HLT" },
		{ HV_MESSAGE_X64_INTERRUPTION_DELIVERABLE, "interruption deliverable" },
		{ HV_MESSAGE_X64_SIPI_INTERCEPT, "SIPI" },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].type == type)
			return names[i].name;
	return "unknown message";
}
