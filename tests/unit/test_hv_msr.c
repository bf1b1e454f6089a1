/* unit: core/hv_msr.c core/hv_cpuid.c core/abi_log.c */
/* SPDX-License-Identifier: MIT */
/* The tables of synthetic MSRs and CPUID leaves: what CPUID doesn't offer is #GP, what no row has is #GP, all else reaches its row. */
#include <errno.h>
#include <hv/cpuid.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <trivet/backend.h>
#include <trivet/hv_cpuid.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#include <cmocka.h>

static struct vp *vp;
static struct lp *lp;
static struct partition partition;
static unsigned int reads, writes;
static int answer;

/* All rows' functions are these two; some rows share theirs, so the names are set by the assembler. */
int fake_read(struct vp *v, uint32_t msr, uint64_t *value);
int fake_write(struct vp *v, uint32_t msr, uint64_t value);

int fake_read(struct vp *v, uint32_t msr, uint64_t *value)
{
	assert_ptr_equal(v, vp);
	reads++;
	*value = 0x1000000000000 + msr;
	return answer;
}

int fake_write(struct vp *v, uint32_t msr, uint64_t value)
{
	assert_ptr_equal(v, vp);
	assert_int_equal(value, 0x2000000000000 + msr);
	writes++;
	return answer;
}

#define READ(reader) __asm__(".globl " #reader "\n\t.set " #reader ", fake_read");
#define WRITE(writer) __asm__(".globl " #writer "\n\t.set " #writer ", fake_write");
#define HV_MSR(first, count, name, privilege, feature, reader, writer, since) READ(reader) WRITE(writer)
#define HV_MSR_RO(first, count, name, privilege, feature, reader, since) READ(reader)
#define HV_MSR_WO(first, count, name, privilege, feature, writer, since) WRITE(writer)
#include "../../core/hv_msrs.def"
#undef HV_MSR
#undef HV_MSR_RO
#undef HV_MSR_WO

struct test_row {
	uint32_t first, count;
	uint64_t privilege;
	uint32_t feature;
	bool read, write;
};
#define HV_MSR(first, count, name, privilege, feature, reader, writer, since) \
	{ first, count, privilege, feature, true, true },
#define HV_MSR_RO(first, count, name, privilege, feature, reader, since) \
	{ first, count, privilege, feature, true, false },
#define HV_MSR_WO(first, count, name, privilege, feature, writer, since) \
	{ first, count, privilege, feature, false, true },
static const struct test_row rows[] = {
#include "../../core/hv_msrs.def"
};

enum log_level log_threshold = LOG_INFO;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

const char *hypercall_name(uint16_t code)
{
	(void)code;
	return NULL;
}

static unsigned int fake_phys_bits(void)
{
	return 45;
}

static bool page_is_read;

static bool fake_reads_apic_page(void)
{
	return page_is_read;
}

static const struct backend fake = { .phys_bits = fake_phys_bits, .reads_apic_page = fake_reads_apic_page };
const struct backend *backend = &fake;

static int setup(void **state)
{
	(void)state;
	vp = aligned_alloc(4096, ALIGN_UP(sizeof(*vp), PAGE_SIZE));
	lp = calloc(1, sizeof(*lp));
	memset(vp, 0, sizeof(*vp));
	memset(&partition, 0, sizeof(partition));
	partition.hv = true;
	partition.privileges = UINT64_MAX;
	partition.features = UINT32_MAX;
	hv_msr_offer(&partition);
	vp->partition = &partition;
	vp->lp = lp;
	reads = writes = 0;
	answer = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(vp);
	free(lp);
	return 0;
}

static const struct test_row *row_of(uint32_t msr)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (msr >= rows[i].first && msr < rows[i].first + rows[i].count)
			return &rows[i];
	return NULL;
}

static void every_number(void **state)
{
	(void)state;
	for (uint32_t msr = 0x40000000; msr <= 0x4000ffff; msr++) {
		const struct test_row *row = row_of(msr);
		uint64_t value = 0x55;

		assert_true(hv_msr_is_synthetic(msr));
		reads = writes = 0;
		assert_int_equal(hv_msr_read(vp, msr, &value), row && row->read ? 0 : -EINVAL);
		assert_int_equal(value, row && row->read ? 0x1000000000000 + msr : 0);
		assert_int_equal(hv_msr_write(vp, msr, 0x2000000000000 + msr),
				 row && row->write ? 0 : -EINVAL);
		assert_int_equal(reads, row && row->read);
		assert_int_equal(writes, row && row->write);
		assert_true(!row == !hv_msr_name(msr));
	}
	assert_false(hv_msr_is_synthetic(0x3fffffff));
	assert_false(hv_msr_is_synthetic(0x40010000));
	assert_null(hv_msr_name(0x10));
}

static void rows_do_not_overlap(void **state)
{
	(void)state;
	for (size_t i = 1; i < ARRAY_SIZE(rows); i++)
		assert_true(rows[i - 1].first + rows[i - 1].count <= rows[i].first);
}

static void what_is_not_offered(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t value;

		for (int which = 0; which < 2; which++) {
			if (which ? !rows[i].feature : !rows[i].privilege)
				continue;
			partition.privileges = which ? UINT64_MAX : ~rows[i].privilege;
			partition.features = which ? ~rows[i].feature : UINT32_MAX;
			hv_msr_offer(&partition);
			reads = writes = 0;
			assert_int_equal(hv_msr_read(vp, rows[i].first, &value), -EINVAL);
			assert_int_equal(hv_msr_write(vp, rows[i].first, 0), -EINVAL);
			assert_int_equal(reads + writes, 0);
		}
	}
}

static void refusals_are_noted(void **state)
{
	(void)state;
	hv_msr_note_refusal(vp, false, 0x4000fffe, 5);
	assert_int_equal(lp->abi.entries[0].number, 0x4000fffe);
	assert_int_equal(lp->abi.entries[0].kind, ABI_MSR_READ);
	assert_string_equal(lp->abi.entries[0].rule, "#GP: no such MSR");
	hv_msr_note_refusal(vp, true, HV_MSR_GUEST_OS_ID, 0x123);
	assert_int_equal(lp->abi.entries[1].value, 0x123);
	assert_string_equal(lp->abi.entries[1].rule, "#GP: the MSR's own rule");
	hv_msr_note_refusal(vp, true, HV_MSR_VP_INDEX, 0);
	assert_string_equal(lp->abi.entries[2].rule, "#GP: can't be written");
	partition.privileges = 0;
	hv_msr_offer(&partition);
	hv_msr_note_refusal(vp, false, HV_MSR_VP_INDEX, 0);
	assert_string_equal(lp->abi.entries[3].rule, "#GP: not offered in CPUID");
	for (int i = 0; i < 100; i++)
		hv_msr_note_refusal(vp, false, 0x4000fffe, 5);
	assert_int_equal(lp->abi.next, 104);
}

static void leaf(uint32_t number, uint64_t want[4])
{
	vp->gpr[GPR_RAX] = 0xffffffff00000000 | number;
	vp->gpr[GPR_RBX] = vp->gpr[GPR_RCX] = vp->gpr[GPR_RDX] = UINT64_MAX;
	hv_cpuid_read(vp);
	want[0] = vp->gpr[GPR_RAX];
	want[1] = vp->gpr[GPR_RBX];
	want[2] = vp->gpr[GPR_RCX];
	want[3] = vp->gpr[GPR_RDX];
}

static void leaves(void **state)
{
	uint64_t r[4];

	(void)state;
	hv_cpuid_init(&partition);
	leaf(0x40000000, r);
	assert_int_equal(r[0], 0x4000000c);
	assert_int_equal(r[1], 0x7263694d);
	assert_int_equal(r[2], 0x666f736f);
	assert_int_equal(r[3], 0x76482074);
	leaf(0x40000001, r);
	assert_int_equal(r[0], 0x31237648);
	assert_int_equal(r[1] | r[2] | r[3], 0);
	leaf(0x40000003, r);
	assert_int_equal(r[0] | r[1] << 32, partition.privileges);
	assert_int_equal(r[3], partition.features);
	/* What makes Linux a root, and what would make it something else (CPUID 0x40000003). */
	assert_true((r[1] & BIT(0)) && (r[1] & BIT(12)) && !(r[1] & BIT(22)) && !(r[0] & BIT(15)));
	assert_true((r[0] & 0x60) == 0x60);
	leaf(0x40000004, r);
	assert_int_equal(r[0], partition.hints);
	assert_true(!(r[0] & BIT(12)) && !(r[0] & BIT(3)));
	assert_int_equal(r[0] & HV_HINT_NO_AUTO_EOI, 0);
	page_is_read = true;
	hv_cpuid_init(&partition);
	page_is_read = false;
	assert_int_equal(partition.hints, r[0] | HV_HINT_NO_AUTO_EOI);
	assert_int_equal(r[2], 45);
	for (uint32_t number = 0x4000000d; number < 0x40000100; number++) {
		leaf(number, r);
		assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
	}
}

/* ---- Children ---- */

enum { PRIVILEGE, FEATURE, HINT };
enum { ROOT = 1, CHILD = 2, GIVEN = 4 };

static const struct {
	uint64_t bit;
	int word, roles;
} offers[] = {
#define HV_OFFER(word, name, roles, since) { HV_##word##_##name, word, roles },
#define HV_ASSIGNABLE(synthetic, word, name)
#include "../../core/hv_cpuid.def"
#undef HV_OFFER
#undef HV_ASSIGNABLE
};

static uint64_t word_of(int word)
{
	return word == PRIVILEGE ? partition.privileges :
	       word == FEATURE	 ? partition.features :
				   partition.hints;
}

/* The two tables agree: with everything assigned a child has what the document says that children have, and nothing else. */
static void a_child_with_everything(void **state)
{
	uint64_t left[3];

	(void)state;
	partition.parent = &partition;
	hv_cpuid_assign(&partition, UINT64_MAX);
	assert_int_equal(partition.synthetic, hv_cpuid_assignable());
	assert_int_equal(hv_cpuid_synthetic(&partition), hv_cpuid_assignable());
	for (int word = 0; word < 3; word++)
		left[word] = word_of(word);
	for (size_t i = 0; i < ARRAY_SIZE(offers); i++) {
		assert_int_equal(!!(word_of(offers[i].word) & offers[i].bit), !!(offers[i].roles & CHILD));
		left[offers[i].word] &= ~offers[i].bit;
	}
	assert_int_equal(left[0] | left[1] | left[2], 0);
	assert_int_equal(partition.privileges &
				 (HV_PRIVILEGE_CREATE_PARTITIONS | HV_PRIVILEGE_CPU_MANAGEMENT |
				  HV_PRIVILEGE_ISOLATION | HV_PRIVILEGE_ACCESS_MEMORY_POOL |
				  HV_PRIVILEGE_CREATE_PORT | HV_PRIVILEGE_CONNECT_PORT |
				  HV_PRIVILEGE_ACCESS_STATS | HV_PRIVILEGE_RESET),
			 0);
	assert_int_equal(partition.hv_leaves[7].eax, 0);
	assert_int_equal(partition.hv_leaves[4].ebx, 4095);
	page_is_read = true;
	hv_cpuid_assign(&partition, UINT64_MAX);
	assert_int_equal(partition.hints & HV_HINT_APIC_MSRS, 0);
	page_is_read = false;
}

static void what_a_child_was_assigned(void **state)
{
	/* What QEMU 11.1 asks for. */
	const uint64_t wanted = BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) |
				BIT(9) | BIT(10) | BIT(11) | BIT(22) | BIT(25) | BIT(26);
	uint64_t r[4], value;

	(void)state;
	partition.parent = &partition;
	hv_cpuid_assign(&partition, wanted);
	assert_int_equal(hv_cpuid_synthetic(&partition), wanted);
	leaf(0x40000000, r);
	assert_int_equal(r[0], 0x4000000c);
	leaf(0x40000003, r);
	assert_int_equal(r[0], 0xe7e);
	assert_int_equal(r[1], BIT(4)); /* messages; no events, of which it wasn't asked */
	assert_int_equal(r[3], partition.features);
	assert_true(r[3] & HV_FEATURE_DIRECT_TIMERS);
	leaf(0x40000004, r);
	assert_int_equal(r[0], HV_HINT_REMOTE_FLUSH | HV_HINT_APIC_MSRS | HV_HINT_RELAXED_TIMING |
				       HV_HINT_NO_AUTO_EOI | HV_HINT_CLUSTER_IPI);
	assert_int_equal(r[1], UINT32_MAX);
	assert_int_equal(hv_msr_read(vp, HV_MSR_VP_INDEX, &value), 0);
	assert_int_equal(hv_msr_read(vp, HV_MSR_VP_RUNTIME, &value), -EINVAL);
	assert_int_equal(hv_msr_read(vp, HV_MSR_RESET, &value), -EINVAL);
}

static void a_child_without_the_interface(void **state)
{
	uint64_t r[4];

	(void)state;
	partition.parent = &partition;
	hv_cpuid_assign(&partition, UINT64_MAX & ~BIT(1));
	assert_false(partition.hv);
	assert_int_equal(hv_cpuid_synthetic(&partition), 1);
	assert_int_equal(partition.privileges | partition.features | partition.hints, 0);
	for (uint32_t number = 0x40000000; number < 0x40000010; number++) {
		leaf(number, r);
		assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
	}
	assert_int_equal(hv_cpuid_set_privileges(&partition, HV_PRIVILEGE_VP_INDEX), -EINVAL);
}

static void privileges_of_a_child(void **state)
{
	const uint64_t more = HV_PRIVILEGE_ACCESS_PARTITION_ID | HV_PRIVILEGE_POST_MESSAGES |
			      HV_PRIVILEGE_SIGNAL_EVENTS | HV_PRIVILEGE_CREATE_PORT |
			      HV_PRIVILEGE_CONNECT_PORT | HV_PRIVILEGE_ACCESS_VP_REGISTERS |
			      HV_PRIVILEGE_EXTENDED_HYPERCALLS;
	static const uint64_t parents[] = { HV_PRIVILEGE_CREATE_PARTITIONS, HV_PRIVILEGE_ACCESS_MEMORY_POOL,
					    HV_PRIVILEGE_ACCESS_STATS, HV_PRIVILEGE_CPU_MANAGEMENT,
					    1ull << 63 };
	uint64_t r[4];

	(void)state;
	partition.parent = &partition;
	hv_cpuid_assign(&partition, UINT64_MAX);
	assert_int_equal(
		hv_cpuid_set_privileges(&partition, HV_PRIVILEGE_VP_INDEX | HV_PRIVILEGE_CREATE_PARTITIONS),
		-EINVAL);
	assert_int_equal(hv_cpuid_set_privileges(&partition, HV_PRIVILEGE_VP_INDEX), 0);
	leaf(0x40000003, r);
	assert_int_equal(r[0], HV_PRIVILEGE_VP_INDEX);
	assert_int_equal(r[1], 0);
	assert_int_equal(hv_cpuid_set_privileges(&partition, more), 0);
	assert_int_equal(partition.privileges, more);
	for (unsigned int i = 0; i < ARRAY_SIZE(parents); i++)
		assert_int_equal(hv_cpuid_set_privileges(&partition, more | parents[i]), -EINVAL);
	assert_int_equal(partition.privileges, more);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(every_number),
		TEST(rows_do_not_overlap),
		TEST(what_is_not_offered),
		TEST(refusals_are_noted),
		TEST(leaves),
		TEST(a_child_with_everything),
		TEST(what_a_child_was_assigned),
		TEST(a_child_without_the_interface),
		TEST(privileges_of_a_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
