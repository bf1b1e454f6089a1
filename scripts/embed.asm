; SPDX-License-Identifier: MIT
; The hypervisor's ELF image as data of the loader, so that one signature on trivet.efi covers both.
; FILE is given by the Makefile.

section .rodata align=4096
global hv_elf_start:data hidden
global hv_elf_end:data hidden

hv_elf_start:
	incbin FILE
hv_elf_end:

section .note.GNU-stack noalloc noexec nowrite progbits
