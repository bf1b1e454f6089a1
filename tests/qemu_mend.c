/* SPDX-License-Identifier: MIT */
/*
 * Loaded into QEMU (LD_PRELOAD) by the tests. Its cpu_clear_ignne(), which FXRSTOR, XRSTOR and FLDENV call on any processor, changes a word
 * of the first processor without a lock (7.2, and the source of 2026). When that one is just in VMRUN or #VMEXIT, what it changes
 * there is lost: nested paging stays on in the hypervisor, or off in the guest. The function only serves FPU errors in the way of MS-DOS: here
 * it does nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define X86_RET 0xc3

__attribute__((constructor)) static void mend(void)
{
	uint8_t *function = dlsym(RTLD_DEFAULT, "cpu_clear_ignne");
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	void *start = (void *)((uintptr_t)function & ~(page - 1));

	if (!function || mprotect(start, page, PROT_READ | PROT_WRITE | PROT_EXEC))
		return;
	*function = X86_RET;
	mprotect(start, page, PROT_READ | PROT_EXEC);
}
