/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: the state itself. Vectors that arrive, are taken and are finished; priorities; errors;
 * power-up, INIT and the modes of IA32_APIC_BASE. The highest IRR and ISR bits and PPR are cached, and which
 * registers of the page may have bits, so that an EOI with nothing else pending walks no bit map.
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

#define APIC_ASSIST_NO_EOI 1u /* of *assist */
#define SVR_RESET 0xffu
#define SVR_WRITABLE 0x3ffu

static inline struct apic_page_register *group_of(const struct apic *apic, enum apic_reg first)
{
	return &apic->page->reg[(unsigned int)first >> 4];
}

static inline unsigned int top_bit(uint32_t bits)
{
	return (unsigned int)__builtin_clz(bits) ^ 31;
}

/* `words` may name registers without bits: these are dropped from it as they are found. */
static inline int highest_bit(const struct apic_page_register *group, uint8_t *words)
{
	unsigned int left = *words;

	while (left) {
		unsigned int word = top_bit(left);
		uint32_t bits = group[word].value;

		if (bits) {
			*words = (uint8_t)left;
			return (int)(word * 32 + top_bit(bits));
		}
		left &= ~(1u << word);
	}
	*words = 0;
	return -1;
}

static inline void update_ppr(struct apic *apic)
{
	unsigned int served = apic->isr_top < 0 ? 0 : (unsigned int)apic->isr_top & 0xf0u;

	apic->ppr = (apic->tpr & 0xf0u) >= served ? apic->tpr : (uint8_t)served;
}

/* The guest's clearing and our taking back are both one locked operation: one of them comes first. */
__attribute__((__noinline__)) void apic_settle_eoi(struct apic *apic)
{
	apic->eoi_offered = false;
	if (!(__atomic_fetch_and(apic->assist, ~APIC_ASSIST_NO_EOI, __ATOMIC_SEQ_CST) & APIC_ASSIST_NO_EOI))
		apic_eoi(apic);
}

void apic_set_assist(struct apic *apic, uint32_t *word)
{
	if (apic->eoi_offered)
		apic_settle_eoi(apic);
	apic->assist = apic->config.page_read ? NULL : word;
	if (apic->assist)
		__atomic_fetch_and(apic->assist, ~APIC_ASSIST_NO_EOI, __ATOMIC_SEQ_CST);
}

/* Recompute everything cached from base, svr, tpr, irr and isr. */
static void refresh(struct apic *apic)
{
	if (apic->eoi_offered)
		apic_settle_eoi(apic);
	apic->enabled = (apic->base & APIC_BASE_EN) && (apic->svr & APIC_SVR_ENABLE);
	apic->x2 = (apic->base & APIC_BASE_X2) != 0;
	apic->irr_words = apic->isr_words = 0xff;
	apic->irr_top = highest_bit(group_of(apic, APIC_REG_IRR), &apic->irr_words);
	apic->isr_top = highest_bit(group_of(apic, APIC_REG_ISR), &apic->isr_words);
	update_ppr(apic);
}

static __attribute__((__noinline__)) bool refuse_vector(struct apic *apic)
{
	apic_error(apic, APIC_ESR_RECV_ILLEGAL);
	return false;
}

#define IRR (APIC_REG_IRR >> 4)
#define ISR (APIC_REG_ISR >> 4)
#define TMR (APIC_REG_TMR >> 4)

bool apic_accept(struct apic *apic, uint8_t vector, bool level)
{
	unsigned int v = vector, word = v / 32;
	uint32_t bit = 1u << v % 32;
	struct apic_page_register *at = &apic->page->reg[word];

	if (unlikely(!apic->enabled))
		return false;
	if (unlikely(v < APIC_FIRST_VECTOR))
		return refuse_vector(apic);
	if (unlikely(apic->eoi_offered))
		apic_settle_eoi(apic);
	at[IRR].value |= bit;
	apic->irr_words = (uint8_t)(apic->irr_words | 1u << word);
	if (unlikely(((at[TMR].value & bit) != 0) != level)) {
		at[TMR].value ^= bit;
		apic->tmr_changed = true;
	}
	if ((int)v > apic->irr_top)
		apic->irr_top = (int)v;
	return true;
}

/* The highest bit of `group` when the one before is gone, that was in register `word`, of which `left` is left. */
static inline int next_highest(const struct apic_page_register *group, uint8_t *words, unsigned int word,
			       uint32_t left)
{
	if (left)
		return (int)(word * 32 + top_bit(left));
	*words = (uint8_t)(*words & ~(1u << word));
	return likely(*words == 0) ? -1 : highest_bit(group, words);
}

/* That it could be taken says that its class is above TPR's and above all in service. */
void apic_take(struct apic *apic, uint8_t vector)
{
	unsigned int v = vector, word = v / 32;
	uint32_t bit = 1u << v % 32;
	struct apic_page_register *at = &apic->page->reg[word];
	uint32_t left = at[IRR].value & ~bit;
	bool alone = apic->isr_top < 0;

	at[IRR].value = left;
	if (unlikely(apic->eoi_automatic[word] & bit)) {
		apic->irr_top = next_highest(group_of(apic, APIC_REG_IRR), &apic->irr_words, word, left);
		if (at[TMR].value & bit) /* a device's, which has it in service in the physical APIC */
			apic_host_level_eoi(apic, vector);
		return;
	}
	at[ISR].value |= bit;
	apic->isr_words = (uint8_t)(apic->isr_words | 1u << word);
	apic->irr_top = next_highest(group_of(apic, APIC_REG_IRR), &apic->irr_words, word, left);
	apic->isr_top = (int)v;
	apic->ppr = (uint8_t)(v & 0xf0);
	if (apic->assist && alone && apic->irr_top < 0 &&
	    !((at[TMR].value | apic->eoi_reported[word]) & bit)) {
		__atomic_fetch_or(apic->assist, APIC_ASSIST_NO_EOI, __ATOMIC_RELAXED);
		apic->eoi_offered = true;
	}
}

bool apic_put_back(struct apic *apic, uint8_t vector)
{
	unsigned int word = vector / 32u;
	uint32_t bit = 1u << vector % 32u;
	struct apic_page_register *at = &apic->page->reg[word];

	if (apic->eoi_offered) /* to a guest that hasn't seen the interrupt */
		apic_settle_eoi(apic);
	if (!((at[ISR].value | apic->eoi_automatic[word]) & bit))
		return false;
	at[ISR].value &= ~bit;
	at[IRR].value |= bit;
	refresh(apic);
	return true;
}

void apic_eoi(struct apic *apic)
{
	unsigned int v, word;
	uint32_t bit, left;
	struct apic_page_register *at;

	if (unlikely(apic->eoi_offered))
		apic_settle_eoi(apic);
	if (unlikely(apic->isr_top < 0))
		return;
	v = (unsigned int)apic->isr_top;
	word = v / 32;
	bit = 1u << v % 32;
	at = &apic->page->reg[word];
	left = at[ISR].value & ~bit;
	at[ISR].value = left;
	apic->isr_top = next_highest(group_of(apic, APIC_REG_ISR), &apic->isr_words, word, left);
	update_ppr(apic);
	if (unlikely((at[TMR].value | apic->eoi_reported[word]) & bit))
		apic_host_level_eoi(apic, (uint8_t)v);
}

void apic_set_eoi_rules(struct apic *apic, const uint32_t automatic[8], const uint32_t reported[8])
{
	bool changed = memcmp(apic->eoi_automatic, automatic, sizeof(apic->eoi_automatic)) != 0;

	if (memcmp(apic->eoi_reported, reported, sizeof(apic->eoi_reported))) {
		if (apic->eoi_offered)
			apic_settle_eoi(apic);
		memcpy(apic->eoi_reported, reported, sizeof(apic->eoi_reported));
		apic->tmr_changed = true;
	}
	if (!changed)
		return;
	memcpy(apic->eoi_automatic, automatic, sizeof(apic->eoi_automatic));
	apic->eoi_automatic_any = false;
	for (unsigned int i = 0; i < 8; i++)
		apic->eoi_automatic_any |= automatic[i] != 0;
	apic_host_mode_changed(apic);
}

void apic_page_ended(struct apic *apic, uint8_t vector)
{
	if (apic_eoi_exits(apic, vector / 64u) >> vector % 64u & 1)
		apic_host_level_eoi(apic, vector);
}

void apic_set_tpr(struct apic *apic, uint8_t tpr)
{
	apic->tpr = tpr;
	group_of(apic, APIC_REG_TPR)->value = tpr;
	update_ppr(apic);
}

/* The registers of IRR or ISR up to the one with `top`. */
static uint8_t words_up_to(uint8_t top)
{
	return (uint8_t)((2u << top / 32u) - 1);
}

void apic_page_ran(struct apic *apic, uint8_t requested, uint8_t serviced)
{
	if (requested && requested > apic->irr_top)
		apic->irr_top = requested;
	apic->irr_words = apic->irr_top < 0 ? 0 : words_up_to((uint8_t)apic->irr_top);
	apic->isr_top = serviced ? serviced : -1;
	apic->isr_words = words_up_to(serviced);
	apic->tpr = (uint8_t)group_of(apic, APIC_REG_TPR)->value;
	update_ppr(apic);
	if (!apic->x2) /* x2APIC mode's is written by software only */
		apic->icr = group_of(apic, APIC_REG_ICR)->value |
			    (uint64_t)group_of(apic, APIC_REG_ICR_HIGH)->value << 32;
}

/*
 * The poster writes the vector, then the summary; the owner, or a processor that takes the edge-triggered ones for it,
 * clears the summary first. So a vector that is not seen leaves the summary set.
 */
bool apic_post(struct apic *apic, uint8_t vector, bool level)
{
	unsigned int word = vector / 64u;
	uint64_t bit = BIT(vector % 64u);

	if (unlikely(level)) {
		atomic_fetch_or_explicit(&apic->posted_level[word], bit, memory_order_release);
		return !(atomic_fetch_or_explicit(&apic->posted_any, APIC_POSTED_FOR_SOFTWARE,
						  memory_order_acq_rel) &
			 APIC_POSTED_FOR_SOFTWARE);
	}
	atomic_fetch_or_explicit(&apic->posted[word], bit, memory_order_release);
	return !(atomic_fetch_or_explicit(&apic->posted_any, APIC_POSTED, memory_order_acq_rel) &
		 APIC_POSTED);
}

void apic_post_for_software(struct apic *apic)
{
	atomic_fetch_or_explicit(&apic->posted_any, APIC_POSTED_FOR_SOFTWARE, memory_order_release);
}

static void accept_all(struct apic *apic, unsigned int first, uint64_t bits, bool level)
{
	while (bits) {
		unsigned int n = (unsigned int)__builtin_ctzll(bits);

		bits &= bits - 1;
		apic_accept(apic, (uint8_t)(first + n), level);
	}
}

void apic_sync_posted_slow(struct apic *apic)
{
	if (!atomic_exchange_explicit(&apic->posted_any, 0, memory_order_acq_rel))
		return;
	for (unsigned int word = 0; word < 4; word++) {
		if (atomic_load_explicit(&apic->posted[word], memory_order_relaxed))
			accept_all(apic, word * 64,
				   atomic_exchange_explicit(&apic->posted[word], 0, memory_order_acquire),
				   false);
		if (unlikely(atomic_load_explicit(&apic->posted_level[word], memory_order_relaxed)))
			accept_all(
				apic, word * 64,
				atomic_exchange_explicit(&apic->posted_level[word], 0, memory_order_acquire),
				true);
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
	refresh(apic);
	if (was_enabled && !(apic->svr & APIC_SVR_ENABLE)) {
		for (int i = 0; i < APIC_LVT_COUNT; i++)
			apic->lvt[i] |= LVT_MASK;
		report_lvts(apic);
	}
	apic_publish(apic);
	apic_host_mode_changed(apic);
}

/* Power-up state of everything but base, config and posted. */
static void reset_state(struct apic *apic)
{
	if (apic->eoi_offered)
		apic_settle_eoi(apic);
	memset(apic->page, 0, sizeof(*apic->page));
	apic->tmr_changed = true;
	apic->tpr = 0;
	apic->svr = SVR_RESET;
	apic->icr = 0;
	__atomic_store_n(&apic->ldr, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&apic->dfr, UINT32_MAX, __ATOMIC_RELAXED);
	apic->esr = 0;
	apic->esr_pending = 0;
	for (int i = 0; i < APIC_LVT_COUNT; i++)
		apic->lvt[i] = LVT_MASK;
	apic_timer_reset(apic);
	refresh(apic);
	apic_publish(apic);
}

static void reset_and_report(struct apic *apic)
{
	drop_posted(apic);
	reset_state(apic);
	report_lvts(apic);
	apic_host_mode_changed(apic);
	apic_host_timer_changed(apic);
}

int apic_init(struct apic *apic, const struct apic_config *config, struct apic_page *page)
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
	apic->page = page;
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
	refresh(apic);
	apic_publish(apic);
	apic_host_mode_changed(apic);
	return 0;
}

static void load_group(struct apic *apic, enum apic_reg first, const uint32_t image[8])
{
	struct apic_page_register *group = group_of(apic, first);

	for (unsigned int i = 0; i < 8; i++)
		group[i].value = image[i];
	group[0].value &= ~((1u << APIC_FIRST_VECTOR) - 1);
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

	apic_set_tpr(apic, (uint8_t)image->tpr);
	apic->svr = image->svr & SVR_WRITABLE;
	forced = apic->svr & APIC_SVR_ENABLE ? 0 : LVT_MASK;
	for (unsigned int i = 0; i <= apic->config.max_lvt; i++)
		apic->lvt[i] = (image->lvt[i] & apic_lvt_writable(apic, (enum apic_lvt)i)) | forced;
	load_group(apic, APIC_REG_IRR, image->irr);
	load_group(apic, APIC_REG_ISR, image->isr);
	load_group(apic, APIC_REG_TMR, image->tmr);
	refresh(apic);
	if (apic->x2) {
		apic->icr = image->icr & 0xffffffff000ccfffull;
	} else {
		apic->icr = image->icr & 0xff000000000ccfffull;
		apic->ldr = image->ldr & LDR_WRITABLE;
		apic->dfr = image->dfr | DFR_ONES;
	}
	apic_timer_load(apic, image, now_tsc);
	apic_publish(apic);
	return 0;
}
