/* SPDX-License-Identifier: MIT */
/*
 * The physical local APIC changes hands: what it held becomes the VP's model, and it is set up for the hypervisor. Its
 * LINT pins, logical id and mode stay as the root's firmware had them: the machine's devices rely on them.
 */
#include <errno.h>
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>
#include <trivet/x86.h>

#define PERIODS_PER_SECOND_MAX 50000u /* of a periodic timer: below 20 us it would only burn the LP */

static uint64_t tsc_hz, apic_timer_hz;
static volatile void *apic_page;

void lp_set_timer_frequencies(uint64_t tsc, uint64_t apic_timer)
{
	tsc_hz = tsc;
	apic_timer_hz = apic_timer;
}

uint64_t lp_tsc_hz(void)
{
	return tsc_hz;
}

uint64_t lp_apic_timer_hz(void)
{
	return apic_timer_hz;
}

int lp_apic_find(struct lp *lp)
{
	if (!apic_page)
		apic_page = host_map_mmio(HPA(APIC_BASE_DEFAULT), PAGE_SIZE);
	if ((rdmsr(MSR_APIC_BASE) & LAPIC_BASE_ADDRESS) != APIC_BASE_DEFAULT)
		return -ENODEV;
	return lapic_init(&lp->lapic, apic_page);
}

void lp_local_apic_start(struct lp *lp)
{
	int err;

	lapic_enable(&lp->lapic, HV_VECTOR_SPURIOUS);
	err = lapic_timer_init(&lp->lapic, HV_VECTOR_TIMER, tsc_hz, apic_timer_hz);
	if (err)
		panic("lp%u: no usable local APIC timer (%d)", lp->index, err);
}

void lp_local_apic_restart(struct lp *lp)
{
	struct apic *apic = &lp->root_vp->apic;

	lp_local_apic_start(lp);
	for (unsigned int i = 0; i < 4; i++)
		lp->in_service[i] = lp->eoi_wanted[i] = 0;
	lp->in_service_count = 0;
	lp->level_parked = false;
	lp->timer_stale = false;
	lp->timer_deadline_tsc = UINT64_MAX;
	lp_timer_update(lp);
	/* A kick may have been lost; what else it was for stands in vp->pending, which this exit still looks at. */
	atomic_store_explicit(&lp->kicked, 0, memory_order_seq_cst);
	schedule_kicked(lp);
	for (unsigned int i = 0; i <= apic->config.max_lvt; i++)
		apic_host_lvt_changed(apic, (enum apic_lvt)i, apic->lvt[i]);
}

static struct apic_config make_config(const struct lp *lp)
{
	uint32_t features = cpuid(1, 0).ecx;
	uint32_t version = lapic_read(&lp->lapic, LAPIC_VERSION);
	struct apic_config config = {
		.apic_id = lp->apic_id,
		.bsp = rdmsr(MSR_APIC_BASE) & APIC_BASE_BSP,
		.x2apic = features & CPUID_1_ECX_X2APIC,
		.tsc_deadline = features & CPUID_1_ECX_TSC_DEADLINE,
		.page_read = backend->reads_apic_page(),
		.arb_regs = backend->x2apic_has_arbitration,
		.version = (uint8_t)version,
		.max_lvt = (uint8_t)(version >> 16),
		.phys_bits = (uint8_t)cpuid(0x80000008, 0).eax,
		.min_period_tsc = tsc_hz / PERIODS_PER_SECOND_MAX,
	};

	if (config.max_lvt > APIC_LVT_COUNT - 1)
		config.max_lvt = APIC_LVT_COUNT - 1;
	if (apic_clock_init(&config.clock, apic_timer_hz, tsc_hz))
		panic("lp%u: timer at %llu Hz, TSC at %llu Hz", lp->index, (unsigned long long)apic_timer_hz,
		      (unsigned long long)tsc_hz);
	return config;
}

static void read_registers(const struct lapic *lapic, const struct apic_config *config,
			   struct apic_image *image)
{
	static const uint16_t lvt[APIC_LVT_COUNT] = {
		[APIC_LVT_TIMER] = LAPIC_LVT_TIMER, [APIC_LVT_LINT0] = LAPIC_LVT_LINT0,
		[APIC_LVT_LINT1] = LAPIC_LVT_LINT1, [APIC_LVT_ERROR] = LAPIC_LVT_ERROR,
		[APIC_LVT_PMC] = LAPIC_LVT_PMC,	    [APIC_LVT_THERMAL] = LAPIC_LVT_THERMAL,
		[APIC_LVT_CMCI] = LAPIC_LVT_CMCI,
	};

	*image = (struct apic_image){
		.base = rdmsr(MSR_APIC_BASE),
		.tpr = lapic_read(lapic, LAPIC_TPR),
		.svr = lapic_read(lapic, LAPIC_SVR),
		.timer_initial = lapic_read(lapic, LAPIC_TIMER_INITIAL),
		.timer_current = lapic_read(lapic, LAPIC_TIMER_CURRENT),
		.timer_divide = lapic_read(lapic, LAPIC_TIMER_DIVIDE),
		.tsc_deadline = config->tsc_deadline ? rdmsr(MSR_TSC_DEADLINE) : 0,
	};
	if (!lapic->x2apic) {
		image->ldr = lapic_read(lapic, LAPIC_LDR);
		image->dfr = lapic_read(lapic, LAPIC_DFR);
	}
	for (unsigned int i = 0; i <= config->max_lvt; i++)
		image->lvt[i] = lapic_read(lapic, lvt[i]);
	for (unsigned int i = 0; i < 8; i++) {
		image->isr[i] = lapic_read(lapic, LAPIC_ISR + i * 16);
		image->tmr[i] = lapic_read(lapic, LAPIC_TMR + i * 16);
	}
	/* What is only pending stays pending in the hardware and arrives as an interrupt. */
}

static bool anything_in_service(const struct lapic *lapic)
{
	for (unsigned int i = 0; i < 8; i++)
		if (lapic_read(lapic, LAPIC_ISR + i * 16))
			return true;
	return false;
}

void lp_apic_adopt(struct lp *lp)
{
	struct apic_config config = make_config(lp);
	struct apic_image image;
	int err;

	read_registers(&lp->lapic, &config, &image);
	err = apic_init(&lp->root_vp->apic, &config, lp->root_vp->apic_page);
	if (!err)
		err = apic_load(&lp->root_vp->apic, &image, rdtsc());
	if (err)
		panic("lp%u: local APIC state not understood (%d)", lp->index, err);
	/* What was in service is in service in the model now. */
	for (unsigned int i = 0; i < 256 && anything_in_service(&lp->lapic); i++)
		lapic_eoi(&lp->lapic);
	lp_local_apic_start(lp);
	lp->timer_deadline_tsc = UINT64_MAX;
	lp_timer_update(lp);
}
