; SPDX-License-Identifier: MIT
; World switch (APM2 15.5). VMRUN and #VMEXIT swap RAX, RSP, RIP, RFLAGS and the control registers through the VMCB and the
; host save area; this swaps the other general registers and nothing else. FS, GS, TR, LDTR and the system-call
; MSRs stay the guest's while the hypervisor runs.
;
; The global interrupt flag is clear from here to the next VMRUN; RFLAGS.IF is set all the time, so that a physical
; interrupt ends guest mode whatever the guest's own IF is (APM2 15.21.1).

bits 64
default rel

%define VP_GPR 512
%define VP_CONTROL 640
%define VP_CONTROL_HPA 648
%define VP_PENDING 656
%define VMCB_INTERRUPT_SHADOW 0x68
%define VMCB_RAX 0x5f8

%include "trivet/count.inc"

extern svm_handle_exit
extern svm_handle_pending

; An interrupt that was withdrawn between the exit and the window: QEMU then takes vector -1, which is #GP with an error code
; that no processor has. It is nothing; the fix-up goes on behind the window. (Hardware gives the spurious vector.)
%macro NO_INTERRUPT 1
section .extable progbits alloc noexec nowrite align=4
	dd %1 - $
	dd %1 - $
section .text
%endmacro

; The guest's registers, from RDI: vp and RAX: its control block.
%macro LOAD_GUEST 0
	mov rcx, [rdi + VP_GPR]
	mov [rax + VMCB_RAX], rcx
	mov rax, [rdi + VP_CONTROL_HPA]
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

section .text

; svm_run_loop(vp), never returns. [rsp]: vp. Entered with GIF and IF clear.
global svm_run_loop
svm_run_loop:
	push rdi
	sti
	nop			; QEMU 7.2 carries the shadow of STI into the guest
	mov rdi, [rsp]
align 16
.enter:				; RDI: vp
	COUNT_ENTRY
	mov rax, [rdi + VP_CONTROL]
.control:			; RAX: its control block
	LOAD_GUEST
	vmrun
.exited:
	push rdi
	mov rdi, [rsp + 8]
	mov [rdi + VP_GPR + 1 * 8], rcx
	pop rcx
	mov [rdi + VP_GPR + 2 * 8], rdx
	mov [rdi + VP_GPR + 3 * 8], rbx
	mov [rdi + VP_GPR + 5 * 8], rbp
	mov [rdi + VP_GPR + 6 * 8], rsi
	mov [rdi + VP_GPR + 7 * 8], rcx
	mov [rdi + VP_GPR + 8 * 8], r8
	mov [rdi + VP_GPR + 9 * 8], r9
	mov [rdi + VP_GPR + 10 * 8], r10
	mov [rdi + VP_GPR + 11 * 8], r11
	mov [rdi + VP_GPR + 12 * 8], r12
	mov [rdi + VP_GPR + 13 * 8], r13
	mov [rdi + VP_GPR + 14 * 8], r14
	mov [rdi + VP_GPR + 15 * 8], r15
	mov rsi, [rdi + VP_CONTROL]
	mov rax, [rsi + VMCB_RAX]
	mov [rdi + VP_GPR], rax
	COUNT_EXIT
	xor ebp, ebp		; back traces end here
	call svm_handle_exit	; (vp, vmcb)
	mov rdi, [rsp]
	cmp qword [rdi + VP_PENDING], 0
	je .enter
	call svm_handle_pending
	mov rdi, rax		; it may be another one
	mov [rsp], rdi
	COUNT_ENTRY
	mov rax, [rdi + VP_CONTROL]
	test byte [rax + VMCB_INTERRUPT_SHADOW], 1
	je .control
	LOAD_GUEST
	sti			; QEMU forgets the VMCB's shadow, and carries this one into the guest; elsewhere it means nothing
	vmrun
	jmp .exited

; svm_open_window(): lets pending interrupts, NMIs and machine checks in, once. TR is the guest's: no IDT entry may ask for
; a stack of its own (lp_load_window_idt). Called with GIF clear and IF set.
global svm_window_begin
svm_window_begin:
global svm_open_window
svm_open_window:
	stgi
.open:
	nop
.closing:
	clgi
	ret

; svm_halt(): the same, but waits for something to come.
global svm_halt
svm_halt:
	cli
	stgi
	sti
.halting:
	hlt
.woken:
	cli
	clgi
	sti
	nop
	ret
global svm_window_end
svm_window_end:

NO_INTERRUPT svm_open_window.open
NO_INTERRUPT svm_open_window.closing
NO_INTERRUPT svm_halt.halting
NO_INTERRUPT svm_halt.woken

section .note.GNU-stack noalloc noexec nowrite progbits
