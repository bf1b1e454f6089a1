; SPDX-License-Identifier: MIT
; Entry of hostile.c: a PVH kernel (32-bit entry by an ELF note, RBX: the start info), into long mode with 4 GiB mapped to
; themselves, and an interrupt table whose every vector resumes where the probe under way says.
bits 32
section .note alloc noexec nowrite note align=4
	align 4
	dd 4, 4, 18			; "Xen", XEN_ELFNOTE_PHYS32_ENTRY
	db "Xen", 0
	dd start

section .bss
	align 4096
tables:	resb 6 * 4096			; PML4, PDPT, four page directories
idt:	resb 256 * 16
	resb 16384
stack:

section .data
	align 8
gdt:	dq 0
	dq 0x00af9a000000ffff		; 64-bit code
	dq 0x00cf92000000ffff		; data
gdt_end:
gdt_pointer:
	dw gdt_end - gdt - 1
	dd gdt
	dd 0
idt_pointer:
	dw 256 * 16 - 1
	dq idt

section .text
global start
start:	cli
	mov esp, stack
	mov dword [tables], tables + 4096 + 3
	mov edi, tables + 4096
	mov eax, tables + 2 * 4096 + 3
	mov ecx, 4
.directory:
	mov [edi], eax
	add edi, 8
	add eax, 4096
	loop .directory
	mov edi, tables + 2 * 4096
	mov eax, 0x83			; present, writable, 2 MiB
	mov ecx, 2048
.page:	mov [edi], eax
	add edi, 8
	add eax, 1 << 21
	loop .page
	mov eax, tables
	mov cr3, eax
	mov eax, cr4
	or eax, 1 << 5			; PAE
	mov cr4, eax
	mov ecx, 0xc0000080		; EFER.LME
	rdmsr
	or eax, 1 << 8
	wrmsr
	mov eax, cr0
	or eax, 1 << 31
	mov cr0, eax
	lgdt [gdt_pointer]
	jmp 8:long_mode

bits 64
default rel
long_mode:
	mov eax, 16
	mov ds, eax
	mov es, eax
	mov ss, eax
	lea rdi, [idt]
	lea rax, [vectors]
	mov ecx, 256
.gate:	mov rdx, rax
	mov [rdi], dx
	mov word [rdi + 2], 8
	mov word [rdi + 4], 0x8e00
	shr rdx, 16
	mov [rdi + 6], dx
	add rdi, 16
	add rax, vector_bytes
	loop .gate
	lidt [idt_pointer]
	mov edi, ebx
	extern hostile
	call hostile
.halt:	cli
	hlt
	jmp .halt

; Where to go on after a fault: a probe leaves it here. 0: an interrupt, which needs nothing.
global resume_rip
global faults
section .data
resume_rip: dq 0
faults:	dq 0
section .text

vector_bytes equ 16
	align 16
vectors:
%assign n 0
%rep 256
	align 16
%if n == 8 || (n >= 10 && n <= 14) || n == 17 || n == 21 || n == 29 || n == 30
	add rsp, 8			; the error code
%endif
%if n < 32
	jmp exception
%else
	iretq
%endif
%assign n n + 1
%endrep

exception:
	push rax
	mov rax, [resume_rip]
	test rax, rax
	jz .lost
	mov [rsp + 8], rax
	inc qword [faults]
	pop rax
	iretq
.lost:	mov al, '!'
	mov dx, 0x3f8
	out dx, al
	cli
	hlt
	jmp .lost

section .note.GNU-stack noalloc noexec nowrite progbits
