/* unit: vmx/microcode.c */
/* SPDX-License-Identifier: MIT */
/* The root's microcode updates: what is read where, and what WRMSR gets; the page walk and the window are fakes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/host_memory.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>

#include "../../vmx/vmx.h"

#define GVA_BASE 0xffff888000400000ull
#define GPA_BASE 0x400000ull
#define PAGES 16u
#define DATA (GVA_BASE + 0x30)

static uint8_t memory[PAGES * PAGE_SIZE];
static uint64_t page_gpa[PAGES]; /* 0: not mapped */
static uint64_t written, window_size, ram_end, lines;
static unsigned int writes, walks;
static bool faults;
static struct partition partition = { .id = 1 };
static struct vp vp = { .partition = &partition };
enum log_level log_threshold = LOG_INFO;

void log_write(enum log_level level, const char *format, ...)
{
	assert_int_equal(level, LOG_WARN);
	assert_non_null(format);
	lines++;
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

static uint64_t cr2;

uint64_t read_cr2(void)
{
	return cr2;
}

void write_cr2(uint64_t value)
{
	cr2 = value;
}

static void get_context(struct vp *of, struct vp_context *context)
{
	assert_ptr_equal(of, &vp);
	*context = (struct vp_context){ .paging.cr3 = 0x1000 };
}

static const struct backend fake = { .get_context = get_context };
const struct backend *backend = &fake;

int guest_walk(const struct guest_paging *paging, void *space, gva_t gva, unsigned access,
	       struct guest_translation *out)
{
	uint64_t page = (gva.v - GVA_BASE) / PAGE_SIZE;

	assert_int_equal(paging->cr3, 0x1000);
	assert_ptr_equal(space, &vp);
	assert_int_equal(access, GUEST_READ);
	walks++;
	if (page >= PAGES || !page_gpa[page])
		return -EFAULT;
	out->gpa = GPA(page_gpa[page] + gva.v % PAGE_SIZE);
	return 0;
}

bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value)
{
	(void)space;
	assert_true(IS_ALIGNED(gpa.v, 4));
	cr2 = gpa.v; /* as if the read had faulted */
	if (gpa.v - GPA_BASE >= sizeof(memory))
		return false;
	memcpy(value, memory + (gpa.v - GPA_BASE), 4);
	return true;
}

const void *host_ram_window(hpa_t hpa, uint64_t size)
{
	window_size = size;
	return hpa.v + size <= ram_end ? memory + (hpa.v - GPA_BASE) : NULL;
}

bool safe_wrmsr(uint32_t msr, uint64_t value)
{
	assert_int_equal(msr, 0x79);
	written = value;
	writes++;
	return !faults;
}

static void put(uint64_t gva, uint32_t data_size, uint32_t total_size)
{
	memcpy(memory + (gva - GVA_BASE) - 48 + 28, &data_size, 4);
	memcpy(memory + (gva - GVA_BASE) - 48 + 32, &total_size, 4);
}

static void begin(void)
{
	cr2 = 0x1234;
	memset(memory, 0xee, sizeof(memory));
	for (unsigned int i = 0; i < PAGES; i++)
		page_gpa[i] = GPA_BASE + i * PAGE_SIZE;
	writes = 0;
	lines = 0;
	window_size = 0;
	faults = false;
	ram_end = GPA_BASE + sizeof(memory);
}

static void loaded(uint64_t gva, uint64_t size)
{
	assert_true(vmx_microcode_write(&vp, gva));
	assert_int_equal(writes, 1);
	assert_int_equal(written, (uint64_t)(memory + (gva - GVA_BASE)));
	assert_int_equal(window_size, size);
	assert_int_equal(lines, 0);
	assert_int_equal(cr2, 0x1234);
}

static void not_loaded(uint64_t gva)
{
	assert_true(vmx_microcode_write(&vp, gva));
	assert_int_equal(writes, 0);
	assert_int_equal(lines, 1);
	assert_int_equal(cr2, 0x1234);
	lines = 0;
}

static void sizes(void **state)
{
	(void)state;
	begin();
	put(DATA, 0, 0x4000);
	loaded(DATA, 2048);
	begin();
	put(DATA, 3024, 0x1000);
	loaded(DATA, 0x1000);
	begin(); /* the header before a page boundary, the data behind it */
	put(GVA_BASE + 0x1000, 8000, 0x2000);
	loaded(GVA_BASE + 0x1000, 0x2000);
	begin(); /* up to the last byte */
	put(DATA, 1, sizeof(memory));
	loaded(DATA, sizeof(memory));
	begin();
	put(DATA, 1, 48);
	not_loaded(DATA);
	put(DATA, 1, 0);
	not_loaded(DATA);
	put(DATA, 1, (4u << 20) + 1);
	not_loaded(DATA);
	put(DATA, 1, UINT32_MAX);
	walks = 0;
	not_loaded(DATA);
	assert_int_equal(walks, 2); /* the header alone */
}

static void where_it_lies(void **state)
{
	(void)state;
	begin(); /* every page counts, the last one, too */
	put(DATA, 1, 3 * PAGE_SIZE);
	page_gpa[3] = 0;
	loaded(DATA, 3 * PAGE_SIZE);
	begin();
	put(DATA, 1, 3 * PAGE_SIZE + 1);
	page_gpa[3] = 0;
	not_loaded(DATA);
	page_gpa[3] = GPA_BASE + 4 * PAGE_SIZE;
	not_loaded(DATA);
	page_gpa[3] = GPA_BASE + 3 * PAGE_SIZE;
	page_gpa[1] = GPA_BASE;
	not_loaded(DATA);
	begin(); /* in one piece, but not memory */
	put(DATA, 1, 0x2000);
	ram_end = GPA_BASE + 0x1fff;
	not_loaded(DATA);
	begin();
	page_gpa[0] = 0; /* no header */
	not_loaded(DATA);
	page_gpa[0] = 0xfee00000; /* nothing that can be read */
	not_loaded(DATA);
	not_loaded(0);
	not_loaded(UINT64_MAX - 15);
}

static void faults_reach_the_root(void **state)
{
	(void)state;
	begin();
	put(DATA, 0, 0);
	faults = true;
	assert_false(vmx_microcode_write(&vp, DATA));
	assert_int_equal(writes, 1);
	assert_false(vmx_microcode_write(&vp, DATA + 8)); /* must be 16-byte aligned */
	assert_int_equal(writes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(where_it_lies),
		cmocka_unit_test(faults_reach_the_root),
	};

	return cmocka_run_group_tests_name("microcode", tests, NULL, NULL);
}
