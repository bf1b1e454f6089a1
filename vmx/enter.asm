; SPDX-License-Identifier: MIT
; World switch (SDM3 27, 28). VM entry and VM exit swap RSP, RIP, RFLAGS, segments, descriptor tables, control registers
; and the MSRs that have a field; this swaps the general registers and nothing else. CR2, DR0-DR3, DR6 and the
; system-call MSRs stay the guest's while the hypervisor runs; another VP's come by vmx_vp_load().
;
; RFLAGS.IF is clear in the hypervisor: VM exits clear it.

bits 64
default rel

%define VP_GPR 512
%define VP_PENDING 656
%define LP_AREA_SIZE 0x10000
%define LP_STACK_TOP 0x8000
%define SELECTOR_CODE 0x08
%define SELECTOR_DATA 0x10

%include "trivet/count.inc"

extern vmx_handle_exit
extern vmx_handle_child_exit
extern vmx_handle_pending
extern vmx_entry_refused

%macro LOAD_REGISTERS 0		; RDI: vp
	mov rax, [rdi + VP_GPR]
	mov rcx, [rdi + VP_GPR + 1 * 8]
	mov rdx, [rdi + VP_GPR + 2 * 8]
	mov rbx, [rdi + VP_GPR + 3 * 8]
	mov rbp, [rdi + VP_GPR + 5 * 8]
	mov rsi, [rdi + VP_GPR + 6 * 8]
	mov r8, [rdi + VP_GPR + 8 * 8]
	mov r9, [rdi + VP_GPR + 9 * 8]
	mov r10, [rdi + VP_GPR + 10 * 8]
	mov r11, [rdi + VP_GPR + 11 * 8]
	mov r12, [rdi + VP_GPR + 12 * 8]
	mov r13, [rdi + VP_GPR + 13 * 8]
	mov r14, [rdi + VP_GPR + 14 * 8]
	mov r15, [rdi + VP_GPR + 15 * 8]
	mov rdi, [rdi + VP_GPR + 7 * 8]
%endmacro

%macro STORE_REGISTERS 0		; [rsp]: vp; RDI: vp afterwards
	push rdi
	mov rdi, [rsp + 8]
	mov [rdi + VP_GPR], rax
	mov [rdi + VP_GPR + 1 * 8], rcx
	mov [rdi + VP_GPR + 2 * 8], rdx
	mov [rdi + VP_GPR + 3 * 8], rbx
	mov [rdi + VP_GPR + 5 * 8], rbp
	mov [rdi + VP_GPR + 6 * 8], rsi
	pop qword [rdi + VP_GPR + 7 * 8]
	mov [rdi + VP_GPR + 8 * 8], r8
	mov [rdi + VP_GPR + 9 * 8], r9
	mov [rdi + VP_GPR + 10 * 8], r10
	mov [rdi + VP_GPR + 11 * 8], r11
	mov [rdi + VP_GPR + 12 * 8], r12
	mov [rdi + VP_GPR + 13 * 8], r13
	mov [rdi + VP_GPR + 14 * 8], r14
	mov [rdi + VP_GPR + 15 * 8], r15
%endmacro

section .text

; vmx_enter(vp, launch), never returns: the LP's stack begins anew, with [rsp]: vp, at every VM exit again (VMX_HOST_RSP). The VP's VMCS
; is current; launch: it is clear.
global vmx_enter
vmx_enter:
	mov rax, rsp
	and rax, -LP_AREA_SIZE
	lea rsp, [rax + LP_STACK_TOP - 16]
	mov [rsp], rdi
	test sil, sil
	jz .resume
	COUNT_ENTRY
	LOAD_REGISTERS
	vmlaunch
	jmp .refused
align 16
.resume:			; RDI: vp
	COUNT_ENTRY
	LOAD_REGISTERS
	vmresume
.refused:
	mov rdi, [rsp]
	xor ebp, ebp
	call vmx_entry_refused
	ud2

; Where VM exits end: of a root's VP, and of a child's.
align 16
global vmx_exit
vmx_exit:
	STORE_REGISTERS
	COUNT_EXIT
	xor ebp, ebp		; back traces end here
	call vmx_handle_exit	; (vp)
handled:
	mov rdi, [rsp]
	cmp qword [rdi + VP_PENDING], 0
	je vmx_enter.resume
	call vmx_handle_pending
	mov rdi, [rsp]
	jmp vmx_enter.resume

align 16
global vmx_child_exit
vmx_child_exit:
	STORE_REGISTERS
	COUNT_EXIT
	xor ebp, ebp
	call vmx_handle_child_exit
	jmp handled

; vmx_open_window(): lets pending interrupts in, once.
global vmx_window_begin
vmx_window_begin:
global vmx_open_window
vmx_open_window:
	sti
	nop			; the shadow of STI
	cli
	ret

; vmx_halt(): the same, but waits for something to come.
global vmx_halt
vmx_halt:
	sti
	hlt
	cli
	ret
global vmx_window_end
vmx_window_end:

; vmx_unblock_nmis(): an exit for an NMI blocks further ones until IRET (SDM3 28.5.5).
global vmx_unblock_nmis
vmx_unblock_nmis:
	mov rax, rsp
	push SELECTOR_DATA
	push rax
	pushfq
	push SELECTOR_CODE
	lea rcx, [.done]
	push rcx
	iretq
.done:
	ret

section .note.GNU-stack noalloc noexec nowrite progbits
