/* SPDX-License-Identifier: MIT */
/*
 * The instructions that touch the machine: port I/O, MSRs, CPUID, TSC and 32-bit MMIO. In the hypervisor they are
 * inline; in host tests (TRIVET_HOST_TEST) the same names are ordinary functions which each test fakes, so that
 * drivers run against modelled devices.
 */
#ifndef TRIVET_IO_H
#define TRIVET_IO_H

#include <trivet/types.h>

struct cpuid_regs {
	uint32_t eax;
	uint32_t ebx;
	uint32_t ecx;
	uint32_t edx;
};

/* A hint that this is a spin loop. */
static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}

#ifdef TRIVET_HOST_TEST

uint8_t in8(uint16_t port);
uint16_t in16(uint16_t port);
uint32_t in32(uint16_t port);
void out8(uint16_t port, uint8_t value);
void out16(uint16_t port, uint16_t value);
void out32(uint16_t port, uint32_t value);
uint64_t rdmsr(uint32_t msr);
void wrmsr(uint32_t msr, uint64_t value);
uint64_t rdtsc(void);
static inline void store_tsc(volatile uint64_t *to)
{
	*to = rdtsc();
}
uint64_t rdtsc_ordered(void);
struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf);
uint64_t read_cr2(void);
void write_cr2(uint64_t value);
void fxsave(void *area);
uint32_t mmio_read32(const volatile void *address);
void mmio_write32(volatile void *address, uint32_t value);

#else

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t in16(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

/* The MSR must exist: no fault is caught here. */
static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (uint64_t)high << 32 | low;
}

/* The MSR must exist and take the value: no fault is caught here. */
static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline uint64_t read_cr2(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr2, %0" : "=r"(value));
	return value;
}

static inline void write_cr2(uint64_t value)
{
	__asm__ volatile("movq %0, %%cr2" ::"r"(value));
}

/* The TSC into memory: three instructions, without joining the halves in a register first. */
static inline void store_tsc(volatile uint64_t *to)
{
	volatile uint32_t *half = (volatile uint32_t *)to;

	__asm__ volatile("rdtsc\n\tmovl %%eax, %0\n\tmovl %%edx, %1"
			 : "=m"(half[0]), "=m"(half[1])::"rax", "rdx");
}

/* The TSC read neither before earlier instructions have finished nor after later ones have begun (SDM2B RDTSC). */
static inline uint64_t rdtsc_ordered(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
	return (uint64_t)high << 32 | low;
}

static inline struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

/* One 32-bit load or store, never split, merged or repeated. `address` is 4-byte aligned. */
static inline uint32_t mmio_read32(const volatile void *address)
{
	uint32_t value;

	__asm__ volatile("movl %1, %0" : "=r"(value) : "m"(*(const volatile uint32_t *)address) : "memory");
	return value;
}

static inline void mmio_write32(volatile void *address, uint32_t value)
{
	__asm__ volatile("movl %1, %0" : "=m"(*(volatile uint32_t *)address) : "r"(value) : "memory");
}

/* The guest's x87 and XMM registers, which are in the processor at all times, into 512 bytes, 16-byte aligned (SDM1 10.5). */
static inline void fxsave(void *area)
{
	__asm__ volatile("fxsave64 %0" : "=m"(*(uint8_t(*)[512])area));
}

#endif

#endif
