; SPDX-License-Identifier: MIT
; Runs one instruction with all general registers and flags loaded from regs_in, and saves them all
; to regs_out right behind it. Everything is addressed relative to RIP, so that no register is spared.
; Order in memory: RAX RCX RDX RBX (RSP) RBP RSI RDI R8..R15 RFLAGS.

bits 64
default rel

global regs_in
global regs_out
global regs_run

section .data
align 16
regs_in:	times 17 dq 0
regs_out:	times 17 dq 0
saved_rsp:	dq 0
saved_flags:	dq 0
target:		dq 0

section .text

%macro LOAD 0
	push	qword [regs_in + 16 * 8]
	popfq
	mov	rax, [regs_in + 0 * 8]
	mov	rcx, [regs_in + 1 * 8]
	mov	rdx, [regs_in + 2 * 8]
	mov	rbx, [regs_in + 3 * 8]
	mov	rbp, [regs_in + 5 * 8]
	mov	rsi, [regs_in + 6 * 8]
	mov	rdi, [regs_in + 7 * 8]
	mov	r8, [regs_in + 8 * 8]
	mov	r9, [regs_in + 9 * 8]
	mov	r10, [regs_in + 10 * 8]
	mov	r11, [regs_in + 11 * 8]
	mov	r12, [regs_in + 12 * 8]
	mov	r13, [regs_in + 13 * 8]
	mov	r14, [regs_in + 14 * 8]
	mov	r15, [regs_in + 15 * 8]
%endmacro

; void regs_run(unsigned int kind): see .table, and enum kind in test_exits.c
regs_run:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	pushfq
	pop	qword [saved_flags]
	mov	[saved_rsp], rsp
	lea	rax, [.table]
	movsxd	rdx, dword [rax + rdi * 4]
	add	rax, rdx
	mov	[target], rax
	LOAD
	jmp	[target]

.cpuid:
	cpuid
	jmp	.save
.rdmsr:
	rdmsr
	jmp	.save
.wrmsr:
	wrmsr
	jmp	.save
.apic_load:
	mov	r9d, [rsi]
	jmp	.save
.apic_store:
	mov	[rsi], r10d
	jmp	.save
.apic_load_rax:
	mov	eax, [rsi + rdi * 4]
	jmp	.save
.out:
	out	dx, eax
.save:
	mov	[regs_out + 0 * 8], rax
	mov	[regs_out + 1 * 8], rcx
	mov	[regs_out + 2 * 8], rdx
	mov	[regs_out + 3 * 8], rbx
	mov	[regs_out + 4 * 8], rsp
	mov	[regs_out + 5 * 8], rbp
	mov	[regs_out + 6 * 8], rsi
	mov	[regs_out + 7 * 8], rdi
	mov	[regs_out + 8 * 8], r8
	mov	[regs_out + 9 * 8], r9
	mov	[regs_out + 10 * 8], r10
	mov	[regs_out + 11 * 8], r11
	mov	[regs_out + 12 * 8], r12
	mov	[regs_out + 13 * 8], r13
	mov	[regs_out + 14 * 8], r14
	mov	[regs_out + 15 * 8], r15
	pushfq
	pop	qword [regs_out + 16 * 8]
	mov	rax, [saved_rsp]
	mov	[regs_in + 4 * 8], rax
	mov	rsp, rax
	push	qword [saved_flags]
	popfq
	cld
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret

align 4
.table:
	dd	.cpuid - .table
	dd	.rdmsr - .table
	dd	.wrmsr - .table
	dd	.apic_load - .table
	dd	.apic_store - .table
	dd	.apic_load_rax - .table
	dd	.out - .table

section .note.GNU-stack noalloc noexec nowrite progbits
