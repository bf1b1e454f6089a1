/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables (ACPI 6.5 5.2). Every access goes through a mapping of exactly the bytes about to be read, or through a
 * view that carries its length; nothing is trusted but what was compared with it. Fields are fetched bytewise, as
 * tables have no alignment.
 */
#include <errno.h>
#include <string.h>
#include <trivet/acpi.h>

#define RSDP_V1_SIZE 20u
#define RSDP_V2_SIZE 36u
#define RSDP_SIZE_MAX 4096u
#define HEADER_SIZE 36u

/* MADT (5.2.12) and its entry types. */
#define MADT_FIXED_SIZE 44u
#define MADT_HAS_8259 BIT(0)
#define MADT_LOCAL_APIC 0
#define MADT_IO_APIC 1
#define MADT_OVERRIDE 2
#define MADT_LAPIC_ADDRESS 5
#define MADT_LOCAL_X2APIC 9

/* FADT (5.2.9): offsets, and bits of its flags. */
#define FADT_SIZE_MIN 116u
#define FADT_PM1A_CNT_BLK 64u
#define FADT_PM1B_CNT_BLK 68u
#define FADT_PM_TMR_BLK 76u
#define FADT_PM_TMR_LEN 91u
#define FADT_FLAGS 112u
#define FADT_RESET_REG 116u
#define FADT_RESET_VALUE 128u
#define FADT_X_PM1A_CNT_BLK 172u
#define FADT_X_PM1B_CNT_BLK 184u
#define FADT_X_PM_TMR_BLK 208u
#define FADT_SLEEP_CONTROL_REG 244u
#define FADT_TMR_VAL_EXT BIT(8)
#define FADT_RESET_REG_SUP BIT(10)
#define FADT_HW_REDUCED_ACPI BIT(20)
#define ACPI_REGISTER_SIZE 12u

static uint32_t get(const uint8_t *p, uint32_t bytes)
{
	uint32_t value = 0;

	for (uint32_t i = 0; i < bytes; i++)
		value |= (uint32_t)p[i] << (8 * i);
	return value;
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get(p + 4, 4) << 32 | get(p, 4);
}

static bool checksum_ok(const uint8_t *p, size_t size)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + p[i]);
	return sum == 0;
}

/* Copies the header, so that the length checked is the length used; then the whole table is mapped and summed. */
static int map_table(hpa_t hpa, const char *signature, struct acpi_table *table)
{
	const uint8_t *p = acpi_map(hpa, HEADER_SIZE);
	uint32_t size;

	if (!p)
		return -EFAULT;
	if (memcmp(p, signature, 4))
		return -ENOENT;
	size = get(p + 4, 4);
	if (size < HEADER_SIZE || size > ACPI_TABLE_SIZE_MAX)
		return -EINVAL;
	p = acpi_map(hpa, size);
	if (!p)
		return -EFAULT;
	if (!checksum_ok(p, size))
		return -EINVAL;
	*table = (struct acpi_table){ .hpa = hpa, .data = p, .size = size };
	return 0;
}

/* 5.2.5.3: finds the root table; the XSDT where there is one. */
static int read_rsdp(hpa_t rsdp, hpa_t *root, bool *is_xsdt)
{
	const uint8_t *p = acpi_map(rsdp, RSDP_V1_SIZE);
	uint32_t size;

	if (!p)
		return -EFAULT;
	if (memcmp(p, "RSD PTR ", 8) || !checksum_ok(p, RSDP_V1_SIZE))
		return -EINVAL;
	*root = HPA(get(p + 16, 4));
	*is_xsdt = false;
	if (p[15] < 2)
		return root->v ? 0 : -EINVAL;

	p = acpi_map(rsdp, RSDP_V2_SIZE);
	if (!p)
		return -EFAULT;
	size = get(p + 20, 4);
	if (size < RSDP_V2_SIZE || size > RSDP_SIZE_MAX)
		return -EINVAL;
	p = acpi_map(rsdp, size);
	if (!p)
		return -EFAULT;
	if (!checksum_ok(p, size))
		return -EINVAL;
	if (get64(p + 24)) {
		*root = HPA(get64(p + 24));
		*is_xsdt = true;
	}
	return root->v ? 0 : -EINVAL;
}

int acpi_find_table(hpa_t rsdp, const char *signature, struct acpi_table *table)
{
	struct acpi_table root;
	uint32_t width, count;
	bool is_xsdt;
	hpa_t root_hpa;
	int ret, result = -ENOENT;

	ret = read_rsdp(rsdp, &root_hpa, &is_xsdt);
	if (!ret)
		ret = map_table(root_hpa, is_xsdt ? "XSDT" : "RSDT", &root);
	if (ret)
		return ret == -ENOENT ? -EINVAL : ret;

	/* Each step maps anew, as a mapping may end with the next one. `count` stays what the checked length says. */
	width = is_xsdt ? 8 : 4;
	count = (root.size - HEADER_SIZE) / width;
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = acpi_map(HPA(root_hpa.v + HEADER_SIZE + (uint64_t)i * width), width);
		uint64_t entry;

		if (!p)
			return -EFAULT;
		entry = is_xsdt ? get64(p) : get(p, 4);
		if (!entry) /* real firmware leaves holes */
			continue;
		ret = map_table(HPA(entry), signature, table);
		if (!ret || ret == -EINVAL)
			return ret;
		if (ret == -EFAULT) /* perhaps not the one that is wanted */
			result = ret;
	}
	return result;
}

/* Which APIC ids below 256 were listed; only these can come twice, as type 0 and type 9. */
struct id_set {
	uint64_t bits[4];
};

static struct acpi_processor *find_processor(struct acpi_madt *madt, uint32_t apic_id)
{
	for (uint32_t i = 0; i < madt->processor_count && i < madt->processor_capacity; i++) {
		if (madt->processors[i].apic_id == apic_id)
			return &madt->processors[i];
	}
	return NULL;
}

static void add_processor(struct acpi_madt *madt, struct id_set *seen, const struct acpi_processor *processor)
{
	uint32_t id = processor->apic_id;

	if (id < 256) {
		uint64_t bit = BIT(id % 64);

		if (seen->bits[id / 64] & bit) {
			struct acpi_processor *known = find_processor(madt, id);

			/* Unused entries often carry id 0: the usable one of the two counts. */
			if (known && !(known->flags & ACPI_PROCESSOR_ENABLED) && processor->flags)
				*known = *processor;
			return;
		}
		seen->bits[id / 64] |= bit;
	}
	if (madt->processor_count < madt->processor_capacity)
		madt->processors[madt->processor_count] = *processor;
	madt->processor_count++;
}

static void add_ioapic(struct acpi_madt *madt, const uint8_t *e)
{
	if (madt->ioapic_count < madt->ioapic_capacity) {
		madt->ioapics[madt->ioapic_count] = (struct acpi_ioapic){
			.id = e[2],
			.hpa = get(e + 4, 4),
			.gsi_base = get(e + 8, 4),
		};
	}
	madt->ioapic_count++;
}

static void add_override(struct acpi_madt *madt, const uint8_t *e)
{
	if (madt->override_count < madt->override_capacity) {
		madt->overrides[madt->override_count] = (struct acpi_override){
			.isa_irq = e[3],
			.gsi = get(e + 4, 4),
			.flags = (uint16_t)get(e + 8, 2),
		};
	}
	madt->override_count++;
}

/* One entry of `length` bytes, all inside the table. Lengths below the type's own are malformed. */
static int parse_madt_entry(struct acpi_madt *madt, struct id_set *seen, const uint8_t *e, uint32_t length)
{
	static const uint8_t least[] = {
		[MADT_LOCAL_APIC] = 8,	   [MADT_IO_APIC] = 12,	     [MADT_OVERRIDE] = 10,
		[MADT_LAPIC_ADDRESS] = 12, [MADT_LOCAL_X2APIC] = 16,
	};

	if (e[0] < ARRAY_SIZE(least) && length < least[e[0]])
		return -EINVAL;
	switch (e[0]) {
	case MADT_LOCAL_APIC:
		if (e[3] != 0xff) {
			add_processor(madt, seen,
				      &(struct acpi_processor){
					      .uid = e[2], .apic_id = e[3], .flags = get(e + 4, 4) & 3 });
		}
		break;
	case MADT_LOCAL_X2APIC:
		if (get(e + 4, 4) != UINT32_MAX) {
			add_processor(madt, seen,
				      &(struct acpi_processor){ .apic_id = get(e + 4, 4),
								.flags = get(e + 8, 4) & 3,
								.uid = get(e + 12, 4) });
		}
		break;
	case MADT_IO_APIC:
		add_ioapic(madt, e);
		break;
	case MADT_OVERRIDE:
		add_override(madt, e);
		break;
	case MADT_LAPIC_ADDRESS:
		madt->lapic_hpa = get64(e + 4);
		break;
	default:
		break;
	}
	return 0;
}

int acpi_parse_madt(const void *table, size_t size, struct acpi_madt *madt)
{
	const uint8_t *p = table;
	struct id_set seen = { 0 };

	madt->processor_count = 0;
	madt->ioapic_count = 0;
	madt->override_count = 0;
	if (size < MADT_FIXED_SIZE || size > ACPI_TABLE_SIZE_MAX || memcmp(p, "APIC", 4))
		return -EINVAL;
	madt->lapic_hpa = get(p + 36, 4);
	madt->has_8259 = (get(p + 40, 4) & MADT_HAS_8259) != 0;

	for (size_t at = MADT_FIXED_SIZE; at < size;) {
		uint32_t length;
		int ret;

		if (size - at < 2)
			return -EINVAL;
		length = p[at + 1];
		if (length < 2 || length > size - at)
			return -EINVAL;
		ret = parse_madt_entry(madt, &seen, p + at, length);
		if (ret)
			return ret;
		at += length;
	}
	if ((madt->processors && madt->processor_count > madt->processor_capacity) ||
	    (madt->ioapics && madt->ioapic_count > madt->ioapic_capacity) ||
	    (madt->overrides && madt->override_count > madt->override_capacity))
		return -ENOSPC;
	return 0;
}

static struct acpi_register get_register(const uint8_t *p)
{
	return (struct acpi_register){ .space = p[0], .bit_width = p[1], .address = get64(p + 4) };
}

/* The extended form counts where it is there and says something (5.2.9, "X_PM1a_CNT_BLK"). */
static struct acpi_register get_block(const uint8_t *p, size_t size, uint32_t offset, uint32_t extended)
{
	struct acpi_register reg = { .space = ACPI_SPACE_IO, .bit_width = 16, .address = get(p + offset, 4) };

	if (size >= extended + ACPI_REGISTER_SIZE && get_register(p + extended).address)
		reg = get_register(p + extended);
	if (reg.space == ACPI_SPACE_IO && reg.address > UINT16_MAX)
		reg.address = 0;
	return reg;
}

static void get_sleep_registers(const uint8_t *p, size_t size, uint32_t flags, struct acpi_fadt *fadt)
{
	if (!(flags & FADT_HW_REDUCED_ACPI)) {
		fadt->pm1a_control = get_block(p, size, FADT_PM1A_CNT_BLK, FADT_X_PM1A_CNT_BLK);
		fadt->pm1b_control = get_block(p, size, FADT_PM1B_CNT_BLK, FADT_X_PM1B_CNT_BLK);
	} else if (size >= FADT_SLEEP_CONTROL_REG + ACPI_REGISTER_SIZE) {
		fadt->sleep_control = get_register(p + FADT_SLEEP_CONTROL_REG);
	}
}

int acpi_parse_fadt(const void *table, size_t size, struct acpi_fadt *fadt)
{
	const uint8_t *p = table;
	uint32_t flags, port = 0;

	*fadt = (struct acpi_fadt){ 0 };
	if (size < FADT_SIZE_MIN || size > ACPI_TABLE_SIZE_MAX || memcmp(p, "FACP", 4))
		return -EINVAL;
	flags = get(p + FADT_FLAGS, 4);
	if (p[FADT_PM_TMR_LEN] == 4)
		port = get(p + FADT_PM_TMR_BLK, 4);
	if (size >= FADT_X_PM_TMR_BLK + ACPI_REGISTER_SIZE) {
		struct acpi_register timer = get_register(p + FADT_X_PM_TMR_BLK);

		if (timer.address && timer.space == ACPI_SPACE_IO)
			port = timer.address > UINT16_MAX ? 0 : (uint32_t)timer.address;
	}
	if (port <= UINT16_MAX)
		fadt->pm_timer_port = (uint16_t)port;
	fadt->pm_timer_32bit = (flags & FADT_TMR_VAL_EXT) != 0;

	if ((flags & FADT_RESET_REG_SUP) && size > FADT_RESET_VALUE) {
		fadt->reset = get_register(p + FADT_RESET_REG);
		fadt->reset_value = p[FADT_RESET_VALUE];
	}
	get_sleep_registers(p, size, flags, fadt);
	return 0;
}
