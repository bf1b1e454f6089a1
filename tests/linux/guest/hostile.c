/* SPDX-License-Identifier: MIT
 *
 * A guest that does what a guest should not, as long as it is let: its command line names what. It says `HOSTILE name
 * begins` and, where there is an end, `HOSTILE name done` with how much it did, on COM1. */
#include <stdbool.h>
#include <stdint.h>

extern uint64_t resume_rip, faults;
void hostile(const uint32_t *start_info);

static uint64_t random_state = 88172645463325252;

static uint64_t random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint32_t in(uint16_t port, unsigned int bytes)
{
	uint32_t value = 0;
	if (bytes == 1) {
		__asm__ volatile("inb %1, %b0" : "+a"(value) : "d"(port));
	} else if (bytes == 2) {
		__asm__ volatile("inw %1, %w0" : "+a"(value) : "d"(port));
	} else {
		__asm__ volatile("inl %1, %0" : "+a"(value) : "d"(port));
	}
	return value;
}

static void out(uint16_t port, unsigned int bytes, uint32_t value)
{
	if (bytes == 1) {
		__asm__ volatile("outb %b0, %1" : : "a"(value), "d"(port));
	} else if (bytes == 2) {
		__asm__ volatile("outw %w0, %1" : : "a"(value), "d"(port));
	} else {
		__asm__ volatile("outl %0, %1" : : "a"(value), "d"(port));
	}
}

static void say(const char *text)
{
	for (; *text; text++) {
		out(0x3f8, 1, (uint8_t)*text);
	}
}

static void say_number(uint64_t value)
{
	char text[21];
	char *digit = &text[20];
	*digit = '\0';
	do {
		*--digit = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	say(digit);
}

/* One instruction that may fault: then it counts, and what follows goes on. */
#define PROBE(instruction, ...)                                                               \
	__asm__ volatile("leaq 1f(%%rip), %%r11; movq %%r11, resume_rip(%%rip); " instruction \
			 "; 1: movq $0, "                                                     \
			 "resume_rip(%%rip)" __VA_ARGS__)

static uint64_t read_msr(uint32_t msr)
{
	uint32_t low = 0, high = 0;
	PROBE("rdmsr", : "+a"(low), "+d"(high) : "c"(msr) : "r11", "memory");
	return (uint64_t)high << 32 | low;
}

static void write_msr(uint32_t msr, uint64_t value)
{
	PROBE("wrmsr", : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr) : "r11", "memory");
}

static uint64_t spin(void)
{
	for (;;) {
		__asm__ volatile("cli");
	}
	return 0;
}

static uint64_t triple_fault(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) nothing;
	__asm__ volatile("lidt %0; int3" : : "m"(nothing));
	return 0;
}

static uint64_t ports(void)
{
	uint64_t done = 0;
	/* Devices are below; each access takes a round through QEMU. */
	for (uint32_t port = 0; port < 0x10000; port += port < 0xd00 ? 1 : 1 + (uint32_t)(random() % 128)) {
		/* QEMU's 16550 asserts on accesses of more than a byte; SMI and hot-plug registers refuse all but four. */
		if ((port >= 0x3f5 && port < 0x400) || (port >= 0x62d && port < 0x638) ||
		    (port >= 0xcbd && port < 0xce4)) {
			continue;
		}
		/* QEMU ends where these are written: ACPI, resets, PCI configuration, firmware's configuration. */
		bool spared = (port >= 0x600 && port < 0x680) || (port >= 0xcf4 && port < 0xd00) ||
			      port == 0x64 || port == 0x92 || (port >= 0xb0 && port < 0xb8) ||
			      (port >= 0x510 && port < 0x51c);
		/* QEMU of mshv ends at an access that a device refuses for its size, or that reaches into a device. */
		unsigned int bytes = spared ? 1 : 1U << (random() % 3);
		if (port % bytes) {
			bytes = 1;
		}
		in((uint16_t)port, bytes);
		if (!spared && random() % 4 == 0) {
			out((uint16_t)port, bytes, (uint32_t)random());
		}
		done++;
	}
	return done;
}

static uint64_t msrs(void)
{
	static const uint32_t ranges[] = { 0, 0x40000000, 0x40001000, 0xc0000000, 0xc0010000, 0xc0011000 };
	uint64_t done = 0;
	for (unsigned int range = 0; range < sizeof(ranges) / sizeof(ranges[0]); range++) {
		/* Most of them are in the first quarter; each takes a round through QEMU. */
		for (uint32_t at = 0; at < 0x1000; at += at < 0x400 ? 1 : 1 + (uint32_t)(random() % 32)) {
			uint32_t msr = ranges[range] + at;
			uint64_t before;
			if (msr ==
			    0x400000f0) { /* guest idle: sleep until an interrupt comes, and none does */
				continue;
			}
			before = read_msr(msr);
			done++;
			/* Without these nothing after them would run: APIC base, hypercall page, guest crash and reset, EFER, FS and GS */
			if (msr == 0x1b || (msr & ~3U) == 0x40000000 ||
			    (msr >= 0x40000100 && msr < 0x40000106) || (msr >= 0x800 && msr < 0x900) ||
			    msr == 0xc0000080 || (msr & ~3U) == 0xc0000100) {
				continue;
			}
			write_msr(msr, random());
			write_msr(msr, ~0ULL);
			write_msr(msr, before);
		}
	}
	return done;
}

static uint8_t hypercall_page[4096] __attribute__((aligned(4096)));
static uint8_t input_page[4096] __attribute__((aligned(4096)));
static uint8_t output_page[4096] __attribute__((aligned(4096)));

static uint64_t hypercall(uint64_t control, uint64_t input, uint64_t output)
{
	uint64_t status = 0;
	register uint64_t r8 __asm__("r8") = output;
	/* A fault in the page leaves the return address on the stack. */
	__asm__ volatile(
		"movq %%rsp, %%r12; leaq 1f(%%rip), %%r11; movq %%r11, resume_rip(%%rip); callq *%4; "
		"1: movq %%r12, %%rsp; movq $0, resume_rip(%%rip)"
		: "=a"(status), "+c"(control), "+d"(input), "+r"(r8)
		: "r"((uint64_t)hypercall_page)
		: "r9", "r10", "r11", "r12", "memory");
	return status;
}

static uint64_t hypercalls(void)
{
	uint64_t done = 0;
	write_msr(0x40000000, 0x8100000000000000);
	write_msr(0x40000001, (uint64_t)hypercall_page | 1);
	for (uint64_t code = 0; code < 0x10000; code = code < 0x200 ? code + 1 : code + 1 + random() % 64) {
		for (unsigned int variant = 0; variant < 6; variant++) {
			for (unsigned int i = 0; i < sizeof(input_page); i += 8) {
				*(uint64_t *)&input_page[i] = random() % 3 ? random() % 4 : random();
			}
			uint64_t repeats = random() % 2 ? random() % 16 : 0;
			uint64_t start = random() % 8 ? 0 : random() % 16;
			uint64_t control = code | (uint64_t)(variant & 1) << 16 |
					   (random() % 4 ? 0 : random() % 512) << 17 | repeats << 32 |
					   start << 48;
			/* Own pages; then pages anywhere, which must not be reached */
			bool own = variant < 4;
			uint64_t top = own ? 0 : random() & 0xfffffffffff8;
			hypercall(control,
				  variant & 1 ? random() % 8 :
				  own	      ? (uint64_t)input_page :
						top,
				  own ? (uint64_t)output_page : random() & 0xfffffffffff8);
			done++;
		}
	}
	return done;
}

/* Accesses where no memory is, and no device that could end us */
static uint64_t memory(void)
{
	uint64_t done = 0;
	for (; done < 4000; done++) {
		volatile uint8_t *at = (volatile uint8_t *)(0x40000000 + (random() % 0x70000000 & ~7ULL));
		switch (random() % 6) {
		case 0:
			(void)*at;
			break;
		case 1:
			(void)*(volatile uint16_t *)at;
			break;
		case 2:
			(void)*(volatile uint64_t *)at;
			break;
		case 3:
			*at = 0xff;
			break;
		case 4:
			*(volatile uint32_t *)at = 0xffffffff;
			break;
		default:
			*(volatile uint64_t *)at = 0;
			break;
		}
	}
	return done;
}

static uint64_t execute(void)
{
	void (*nowhere)(void) = (void (*)(void))0x50000000;
	nowhere();
	return 0;
}

static const struct {
	const char *name;
	uint64_t (*run)(void);
} deeds[] = { { "spin", spin },	    { "triple", triple_fault },	  { "ports", ports },	 { "msrs", msrs },
	      { "memory", memory }, { "hypercalls", hypercalls }, { "execute", execute } };

static bool has_word(const char *text, const char *word)
{
	for (; *text; text++) {
		unsigned int n = 0;
		while (word[n] && text[n] == word[n]) {
			n++;
		}
		if (!word[n]) {
			return true;
		}
	}
	return false;
}

void hostile(const uint32_t *start_info)
{
	/* hvm_start_info: magic, version, flags, modules (number, 64-bit address), 64-bit address of the command line */
	const char *line = (const char *)(uintptr_t)start_info[6];
	for (unsigned int i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
		if (!has_word(line, deeds[i].name)) {
			continue;
		}
		say("HOSTILE ");
		say(deeds[i].name);
		say(" begins\r\n");
		uint64_t done = deeds[i].run();
		say("HOSTILE ");
		say(deeds[i].name);
		say(" done ");
		say_number(done);
		say(", faults ");
		say_number(faults);
		say("\r\n");
	}
}
