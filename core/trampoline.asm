; SPDX-License-Identifier: MIT
; Where a started processor begins: real mode, at the first byte of a page below 1 MiB that this code is copied to.
; It goes to long mode in one step (APM2 14.7) and jumps to ap_entry. trampoline_data is filled in by core/lp.c.
; Several processors may be in here at once, so nothing is written and no stack is used.

%define CR4_PAE 0x20
%define CR0_START 0x80010033	; PG, WP, NE, ET, MP, PE
%define EFER 0xc0000080
%define EFER_LME_NXE 0x900

section .rodata progbits alloc noexec nowrite align=16

bits 16
global trampoline_start
trampoline_start:
	cli
	cld
	mov ax, cs
	mov ds, ax
	mov eax, CR4_PAE
	mov cr4, eax
	mov eax, [trampoline_data.cr3 - trampoline_start]
	mov cr3, eax
	mov ecx, EFER
	rdmsr
	or eax, EFER_LME_NXE
	wrmsr
	o32 lgdt [trampoline_data.gdtr - trampoline_start]
	mov eax, CR0_START
	mov cr0, eax
	jmp far dword [trampoline_data.target - trampoline_start]

bits 64
align 8
global trampoline_long_mode
trampoline_long_mode:
	lea rbx, [rel trampoline_data]
	mov eax, 0x10
	mov ds, eax
	mov es, eax
	mov ss, eax
	xor eax, eax
	mov fs, eax
	mov gs, eax
	mov rax, [rbx + trampoline_data.entry - trampoline_data]
	jmp rax

align 8
global trampoline_data
trampoline_data:		; struct trampoline_data in core/lp.c
.gdt:
	dq 0
	dq 0x00af9b000000ffff	; 0x08: code, 64 bits
	dq 0x00cf93000000ffff	; 0x10: data
.entry:
	dq 0
.cr3:
	dd 0
.target:
	dd 0			; physical address of trampoline_long_mode
	dw 0x08
.gdtr:
	dw 23
	dd 0			; physical address of .gdt
global trampoline_end
trampoline_end:

section .note.GNU-stack noalloc noexec nowrite progbits
