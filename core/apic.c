/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: the state itself. Vectors that arrive, are taken and are finished; priorities; errors;
 * power-up, INIT and the modes of IA32_APIC_BASE. The highest IRR and ISR bits and PPR are cached, so
 * that an EOI with nothing else pending walks no bit map twice.
 */
#include "apic_internal.h"

#include <errno.h>
#include <string.h>

#define LVT_VECTOR 0x000ffu
#define LVT_MODE 0x00700u
#define LVT_PENDING 0x01000u  /* delivery status, read-only */
#define LVT_LINT_PIN 0x0a000u /* polarity and trigger mode */
#define LVT_REMOTE_IRR 0x04000u
#define LVT_MASK ((uint32_t)APIC_LVT_MASKED)

#define LDR_WRITABLE 0xff000000u
#define DFR_ONES 0x0fffffffu
#define SVR_RESET 0xffu
#define SVR_WRITABLE 0x3ffu

static inline int highest_bit(const uint64_t map[4], int word)
{
	for (; word >= 0; word--) {
		if (map[word])
			return word * 64 + 63 - __builtin_clzll(map[word]);
	}
	return -1;
}

static inline void update_ppr(struct apic *apic)
{
	unsigned int served = apic->isr_top < 0 ? 0 : (unsigned int)apic->isr_top & 0xf0u;

	apic->ppr = (apic->tpr & 0xf0u) >= served ? apic->tpr : (uint8_t)served;
}

void apic_refresh(struct apic *apic)
{
	apic->enabled = (apic->base & APIC_BASE_EN) && (apic->svr & APIC_SVR_ENABLE);
	apic->x2 = (apic->base & APIC_BASE_X2) != 0;
	apic->irr_top = highest_bit(apic->irr, 3);
	apic->isr_top = highest_bit(apic->isr, 3);
	update_ppr(apic);
}

bool apic_accept(struct apic *apic, uint8_t vector, bool level)
{
	unsigned int word = vector / 64u;
	uint64_t bit = BIT(vector % 64u);

	if (unlikely(!apic->enabled))
		return false;
	if (unlikely(vector < APIC_FIRST_VECTOR)) {
		apic_error(apic, APIC_ESR_RECV_ILLEGAL);
		return false;
	}
	apic->irr[word] |= bit;
	if (level)
		apic->tmr[word] |= bit;
	else
		apic->tmr[word] &= ~bit;
	if (vector > apic->irr_top)
		apic->irr_top = vector;
	return true;
}

void apic_take(struct apic *apic, uint8_t vector)
{
	unsigned int word = vector / 64u;
	uint64_t bit = BIT(vector % 64u);

	apic->irr[word] &= ~bit;
	apic->isr[word] |= bit;
	if (vector >= apic->irr_top)
		apic->irr_top = highest_bit(apic->irr, (int)word);
	if (vector > apic->isr_top)
		apic->isr_top = vector;
	update_ppr(apic);
}

void apic_eoi(struct apic *apic)
{
	int vector = apic->isr_top;
	unsigned int word;
	uint64_t bit;

	if (unlikely(vector < 0))
		return;
	word = (unsigned int)vector / 64u;
	bit = BIT((unsigned int)vector % 64u);
	apic->isr[word] &= ~bit;
	apic->isr_top = highest_bit(apic->isr, (int)word);
	update_ppr(apic);
	if (apic->tmr[word] & bit)
		apic_host_level_eoi(apic, (uint8_t)vector);
}

void apic_set_tpr(struct apic *apic, uint8_t tpr)
{
	apic->tpr = tpr;
	update_ppr(apic);
}

/*
 * The poster writes level, then the vector, then the summary; the owner takes them in the opposite order.
 * So a vector that is seen has its level bit, and a vector that is not seen leaves the summary set.
 */
bool apic_post(struct apic *apic, uint8_t vector, bool level)
{
	unsigned int word = vector / 64u;
	uint64_t bit = BIT(vector % 64u);

	if (level)
		atomic_fetch_or_explicit(&apic->posted_level[word], bit, memory_order_relaxed);
	atomic_fetch_or_explicit(&apic->posted[word], bit, memory_order_release);
	return !atomic_exchange_explicit(&apic->posted_any, 1, memory_order_acq_rel);
}

void apic_sync_posted_slow(struct apic *apic)
{
	if (!atomic_exchange_explicit(&apic->posted_any, 0, memory_order_acq_rel))
		return;
	for (unsigned int word = 0; word < 4; word++) {
		uint64_t level = 0, bits = 0;

		if (atomic_load_explicit(&apic->posted[word], memory_order_relaxed))
			bits = atomic_exchange_explicit(&apic->posted[word], 0, memory_order_acquire);
		if (atomic_load_explicit(&apic->posted_level[word], memory_order_relaxed) & bits)
			level = atomic_fetch_and_explicit(&apic->posted_level[word], ~bits,
							  memory_order_relaxed);
		while (bits) {
			unsigned int n = (unsigned int)__builtin_ctzll(bits);

			bits &= bits - 1;
			apic_accept(apic, (uint8_t)(word * 64 + n), (level >> n) & 1);
		}
	}
}

static void drop_posted(struct apic *apic)
{
	atomic_exchange_explicit(&apic->posted_any, 0, memory_order_acq_rel);
	for (unsigned int word = 0; word < 4; word++) {
		atomic_exchange_explicit(&apic->posted[word], 0, memory_order_acquire);
		atomic_exchange_explicit(&apic->posted_level[word], 0, memory_order_relaxed);
	}
}

void apic_error(struct apic *apic, uint32_t esr_bits)
{
	bool armed = !apic->esr_pending;
	uint32_t lvt = apic->lvt[APIC_LVT_ERROR];

	apic->esr_pending |= esr_bits;
	if (!armed || !apic->enabled || (lvt & LVT_MASK))
		return;
	/* An illegal vector in LVT error is one more error of which nobody can be told. */
	if ((lvt & LVT_VECTOR) < APIC_FIRST_VECTOR)
		apic->esr_pending |= APIC_ESR_RECV_ILLEGAL;
	else
		apic_accept(apic, (uint8_t)(lvt & LVT_VECTOR), false);
}

void apic_lvt_fire(struct apic *apic, enum apic_lvt which)
{
	uint32_t lvt = apic->lvt[which];

	if (!(lvt & LVT_MASK))
		apic_accept(apic, (uint8_t)(lvt & LVT_VECTOR), false);
}

uint32_t apic_lvt_writable(const struct apic *apic, enum apic_lvt which)
{
	switch (which) {
	case APIC_LVT_TIMER:
		return LVT_VECTOR | LVT_MASK |
		       (apic->config.tsc_deadline ? 3u : 1u) << APIC_LVT_TIMER_MODE_SHIFT;
	case APIC_LVT_LINT0:
	case APIC_LVT_LINT1:
		return LVT_VECTOR | LVT_MASK | LVT_MODE | LVT_LINT_PIN;
	case APIC_LVT_ERROR:
		return LVT_VECTOR | LVT_MASK;
	default:
		return LVT_VECTOR | LVT_MASK | LVT_MODE;
	}
}

uint32_t apic_lvt_defined(const struct apic *apic, enum apic_lvt which)
{
	uint32_t lint = which == APIC_LVT_LINT0 || which == APIC_LVT_LINT1 ? LVT_REMOTE_IRR : 0;

	return apic_lvt_writable(apic, which) | LVT_PENDING | lint;
}

/* The entries that live in the physical APIC too. */
static void report_lvts(struct apic *apic)
{
	static const enum apic_lvt mirrored[] = { APIC_LVT_LINT0, APIC_LVT_LINT1, APIC_LVT_PMC,
						  APIC_LVT_THERMAL, APIC_LVT_CMCI };

	for (size_t i = 0; i < ARRAY_SIZE(mirrored); i++) {
		if (apic_lvt_exists(apic, mirrored[i]))
			apic_host_lvt_changed(apic, mirrored[i], apic->lvt[mirrored[i]]);
	}
}

void apic_svr_write(struct apic *apic, uint32_t svr)
{
	bool was_enabled = apic->svr & APIC_SVR_ENABLE;

	apic->svr = svr & SVR_WRITABLE;
	apic_refresh(apic);
	if (was_enabled && !(apic->svr & APIC_SVR_ENABLE)) {
		for (int i = 0; i < APIC_LVT_COUNT; i++)
			apic->lvt[i] |= LVT_MASK;
		report_lvts(apic);
	}
	apic_host_mode_changed(apic);
}

/* Power-up state of everything but base, config and posted. */
static void reset_state(struct apic *apic)
{
	apic->tpr = 0;
	apic->svr = SVR_RESET;
	memset(apic->irr, 0, sizeof(apic->irr));
	memset(apic->isr, 0, sizeof(apic->isr));
	memset(apic->tmr, 0, sizeof(apic->tmr));
	apic->icr = 0;
	__atomic_store_n(&apic->ldr, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&apic->dfr, UINT32_MAX, __ATOMIC_RELAXED);
	apic->esr = 0;
	apic->esr_pending = 0;
	for (int i = 0; i < APIC_LVT_COUNT; i++)
		apic->lvt[i] = LVT_MASK;
	apic_timer_reset(apic);
	apic_refresh(apic);
}

static void reset_and_report(struct apic *apic)
{
	drop_posted(apic);
	reset_state(apic);
	report_lvts(apic);
	apic_host_mode_changed(apic);
	apic_host_timer_changed(apic);
}

int apic_init(struct apic *apic, const struct apic_config *config)
{
	if (config->max_lvt < APIC_LVT_ERROR || config->max_lvt >= APIC_LVT_COUNT || config->phys_bits < 36 ||
	    config->phys_bits > 52 || !config->min_period_tsc || !config->clock.to_tsc.mult ||
	    !config->clock.to_ticks.mult || config->clock.to_tsc.shift > 127 ||
	    config->clock.to_ticks.shift > 127)
		return -EINVAL;
	if (config->apic_id == UINT32_MAX || (!config->x2apic && config->apic_id >= 0xff))
		return -EINVAL;
	memset(apic, 0, sizeof(*apic));
	apic->config = *config;
	apic->base = APIC_BASE_DEFAULT | APIC_BASE_EN | (config->bsp ? APIC_BASE_BSP : 0);
	reset_state(apic);
	return 0;
}

void apic_reset_init(struct apic *apic)
{
	reset_and_report(apic);
}

static uint64_t base_reserved(const struct apic *apic)
{
	uint64_t address = (BIT(apic->config.phys_bits) - 1) & ~(PAGE_SIZE - 1);

	return ~(address | APIC_BASE_BSP | APIC_BASE_EN | (apic->config.x2apic ? APIC_BASE_X2 : 0));
}

static bool base_legal(const struct apic *apic, uint64_t value)
{
	if (value & base_reserved(apic))
		return false;
	return !(value & APIC_BASE_X2) || (value & APIC_BASE_EN);
}

int apic_base_write(struct apic *apic, uint64_t value)
{
	const uint64_t modes = APIC_BASE_EN | APIC_BASE_X2;
	uint64_t from = apic->base & modes, to = value & modes;

	if (!base_legal(apic, value))
		return -EINVAL;
	if ((from == 0 && to == modes) || (from == modes && to == APIC_BASE_EN))
		return -EINVAL;

	value = (value & ~APIC_BASE_BSP) | (apic->base & APIC_BASE_BSP);
	if (value == apic->base)
		return 0;
	__atomic_store_n(&apic->base, value, __ATOMIC_RELAXED);
	if (from && !to) {
		reset_and_report(apic);
		return 0;
	}
	if (from == APIC_BASE_EN && to == modes) {
		/* LDR is derived from the id from now on; nothing of the 8-bit destination survives. */
		apic->icr &= UINT32_MAX;
		__atomic_store_n(&apic->ldr, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&apic->dfr, UINT32_MAX, __ATOMIC_RELAXED);
	}
	apic_refresh(apic);
	apic_host_mode_changed(apic);
	return 0;
}

static void load_map(uint64_t map[4], const uint32_t image[8])
{
	for (unsigned int i = 0; i < 4; i++)
		map[i] = image[2 * i] | (uint64_t)image[2 * i + 1] << 32;
	map[0] &= ~(BIT(APIC_FIRST_VECTOR) - 1);
}

int apic_load(struct apic *apic, const struct apic_image *image, uint64_t now_tsc)
{
	uint32_t forced;

	if (!base_legal(apic, image->base))
		return -EINVAL;
	drop_posted(apic);
	apic->base = image->base;
	reset_state(apic);
	if (!(image->base & APIC_BASE_EN))
		return 0;

	apic->tpr = (uint8_t)image->tpr;
	apic->svr = image->svr & SVR_WRITABLE;
	forced = apic->svr & APIC_SVR_ENABLE ? 0 : LVT_MASK;
	for (unsigned int i = 0; i <= apic->config.max_lvt; i++)
		apic->lvt[i] = (image->lvt[i] & apic_lvt_writable(apic, (enum apic_lvt)i)) | forced;
	load_map(apic->irr, image->irr);
	load_map(apic->isr, image->isr);
	load_map(apic->tmr, image->tmr);
	apic_refresh(apic);
	if (apic->x2) {
		apic->icr = image->icr & 0xffffffff000ccfffull;
	} else {
		apic->icr = image->icr & 0xff000000000ccfffull;
		apic->ldr = image->ldr & LDR_WRITABLE;
		apic->dfr = image->dfr | DFR_ONES;
	}
	apic_timer_load(apic, image, now_tsc);
	return 0;
}
