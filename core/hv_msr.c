/* SPDX-License-Identifier: MIT */
/* The synthetic MSRs' dispatcher: number to row, what the partition was offered, then the row's function. */
#include <errno.h>
#include <hv/cpuid.h>
#include <trivet/abi_log.h>
#include <trivet/hv_msr.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

struct row {
	int (*read)(struct vp *vp, uint32_t msr, uint64_t *value);
	int (*write)(struct vp *vp, uint32_t msr, uint64_t value);
	uint64_t privilege;
	uint32_t feature;
	uint32_t number;
	const char *name;
};

#define HV_MSR(first, count, name, privilege, feature, reader, writer, since) \
	{ reader, writer, privilege, feature, first, #name },
#define HV_MSR_RO(first, count, name, privilege, feature, reader, since) \
	{ reader, NULL, privilege, feature, first, #name },
#define HV_MSR_WO(first, count, name, privilege, feature, writer, since) \
	{ NULL, writer, privilege, feature, first, #name },
static const struct row rows[] = {
	{ NULL, NULL, 0, 0, 0, NULL },
#include "hv_msrs.def"
};
#undef HV_MSR
#undef HV_MSR_RO
#undef HV_MSR_WO

enum {
	ROW_NONE,
#define HV_MSR(first, count, name, privilege, feature, reader, writer, since) ROW_##name,
#define HV_MSR_RO(first, count, name, privilege, feature, reader, since) ROW_##name,
#define HV_MSR_WO(first, count, name, privilege, feature, writer, since) ROW_##name,
#include "hv_msrs.def"
#undef HV_MSR
#undef HV_MSR_RO
#undef HV_MSR_WO
	ROW_COUNT
};
static_assert(ROW_COUNT <= 64, "partition->hv_msrs");

#define MSRS_MAX 0x200u /* from HV_MSR_FIRST on; none has a higher number */

#define HV_MSR(first, count, name, privilege, feature, reader, writer, since) \
	[(first)-HV_MSR_FIRST...(first) + (count)-1 - HV_MSR_FIRST] = ROW_##name,
#define HV_MSR_RO(first, count, name, privilege, feature, reader, since) HV_MSR(first, count, name, , , , , )
#define HV_MSR_WO(first, count, name, privilege, feature, writer, since) HV_MSR(first, count, name, , , , , )
static const uint8_t row_by_msr[MSRS_MAX] = {
#include "hv_msrs.def"
};
#undef HV_MSR
#undef HV_MSR_RO
#undef HV_MSR_WO

static inline const struct row *find_row(uint32_t msr)
{
	uint32_t offset = msr - HV_MSR_FIRST;

	return &rows[likely(offset < MSRS_MAX) ? row_by_msr[offset] : ROW_NONE];
}

static inline bool is_offered(const struct partition *partition, const struct row *row)
{
	return partition->hv_msrs >> (row - rows) & 1;
}

void hv_msr_offer(struct partition *partition)
{
	partition->hv_msrs = 0;
	for (unsigned int i = 1; i < ROW_COUNT; i++)
		if ((!rows[i].privilege || (partition->privileges & rows[i].privilege)) &&
		    (!rows[i].feature || (partition->features & rows[i].feature)))
			partition->hv_msrs |= BIT(i);
}

bool hv_msr_is_offered(const struct partition *partition, uint32_t msr)
{
	return is_offered(partition, find_row(msr));
}

const char *hv_msr_name(uint32_t msr)
{
	return hv_msr_is_synthetic(msr) ? find_row(msr)->name : NULL;
}

static __attribute__((__noinline__)) const char *rule_of(const struct partition *partition,
							 const struct row *row, bool is_write)
{
	if (!row->name)
		return "#GP: no such MSR";
	if (is_write ? !row->write : !row->read)
		return is_write ? "#GP: can't be written" : "#GP: can't be read";
	return is_offered(partition, row) ? "#GP: the MSR's own rule" : "#GP: not offered in CPUID";
}

void hv_msr_note_refusal(struct vp *vp, bool is_write, uint32_t msr, uint64_t value)
{
	abi_refused(vp, is_write ? ABI_MSR_WRITE : ABI_MSR_READ, msr, is_write ? value : 0, 0,
		    rule_of(vp->partition, find_row(msr), is_write));
}

int hv_msr_read(struct vp *vp, uint32_t msr, uint64_t *value)
{
	const struct row *row = find_row(msr);

	*value = 0;
	if (unlikely(!is_offered(vp->partition, row)) || unlikely(!row->read))
		return -EINVAL;
	return row->read(vp, msr, value);
}

int hv_msr_write(struct vp *vp, uint32_t msr, uint64_t value)
{
	const struct row *row = find_row(msr);

	if (unlikely(!is_offered(vp->partition, row)) || unlikely(!row->write))
		return -EINVAL;
	return row->write(vp, msr, value);
}
