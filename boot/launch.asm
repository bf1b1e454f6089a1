; SPDX-License-Identifier: MIT
; The one jump from the loader into the hypervisor. It comes back at .resume: as the root partition's
; VP 0, or natively when the hypervisor refused. Either way nothing but RSP and RAX is known there, and
; the boot page tables may still be loaded.

bits 64
default rel

; struct boot_handoff (include/trivet/boot_handoff.h); hypervisor.c asserts them.
%define CONTEXT_RIP 16
%define CONTEXT_RSP 24
%define CONTEXT_CR3 32
%define CONTEXT_RFLAGS 40

section .text

; int64_t launch(struct boot_handoff *handoff, uint64_t boot_cr3, uint64_t entry_virt,
;                uint64_t handoff_virt)
; System V calling convention. Returns 0 or a negative errno. Vector registers are not kept (nor does
; the caller expect it).
global launch:function
launch:
	pushfq
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	mov rax, cr3
	push rax
	mov [rdi + CONTEXT_CR3], rax
	mov [rdi + CONTEXT_RSP], rsp
	lea rax, [.resume]
	mov [rdi + CONTEXT_RIP], rax
	cli			; the hypervisor has no use for the firmware's timer tick
	cld
	pushfq
	pop rax
	mov [rdi + CONTEXT_RFLAGS], rax
	mov cr3, rsi
	mov rdi, rcx
	jmp rdx

.resume:
	; The firmware's page tables: a refusal comes back on the boot page tables, whose memory is
	; about to be freed.
	pop rcx
	mov cr3, rcx
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	popfq			; interrupts on again, if they were
	ret

section .note.GNU-stack noalloc noexec nowrite progbits
