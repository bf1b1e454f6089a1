; SPDX-License-Identifier: MIT
; Entry points of all 256 vectors: each leaves the same struct trap_frame (guest.h) on the stack
; and calls trap_dispatch(frame). isr_table holds 16 bytes of code per vector.

bits 64
default rel

global isr_table
global load_segments
extern trap_dispatch

section .text

align 16
isr_table:
%assign v 0
%rep 256
	align 16
%if v = 8 || (v >= 10 && v <= 14) || v = 17 || v = 21 || v = 29 || v = 30
	nop
	nop
%else
	push	byte 0		; where the processor pushes no error code
%endif
	push	dword v
	jmp	near isr_common
%assign v v+1
%endrep

align 16
isr_common:
	push	rax
	push	rbx
	push	rcx
	push	rdx
	push	rbp
	push	rsi
	push	rdi
	push	r8
	push	r9
	push	r10
	push	r11
	push	r12
	push	r13
	push	r14
	push	r15
	mov	rdi, rsp
	mov	rbx, rsp
	and	rsp, -16
	cld
	call	trap_dispatch
	mov	rsp, rbx
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	r11
	pop	r10
	pop	r9
	pop	r8
	pop	rdi
	pop	rsi
	pop	rbp
	pop	rdx
	pop	rcx
	pop	rbx
	pop	rax
	add	rsp, 16
	iretq

; void load_segments(const struct table_register *gdtr, uint16_t tss)
load_segments:
	lgdt	[rdi]
	lea	rax, [.reload]
	push	qword 0x08
	push	rax
	retfq
.reload:
	mov	eax, 0x10
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	xor	eax, eax
	mov	fs, eax
	mov	gs, eax
	ltr	si
	ret

section .note.GNU-stack noalloc noexec nowrite progbits
