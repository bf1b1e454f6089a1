; SPDX-License-Identifier: MIT
; Ways into the hypervisor that C can't express: from the loader, from the trampoline of a started processor, and
; through the IDT. VM exits come in through the back end's own enter.asm.

bits 64
default rel

%define LP_AREA_MASK -0x10000
%define LP_ACKED 8

extern hv_main
extern ap_main
extern trap_handler
extern interrupt_window ; core/lp.c: address and length

section .bss align=16
boot_stack: resb 16384
boot_stack_top:
global boot_cr3
boot_cr3: resq 1

section .text

; From the loader, on its stack and the boot page tables. RDI: struct boot_handoff, in the hypervisor's map.
global hv_entry
hv_entry:
	cld
	mov rax, cr3
	mov [boot_cr3], rax
	lea rsp, [boot_stack_top]
	xor ebp, ebp
	call hv_main
	ud2

; hv_back_to_loader(rip, rsp, status, efer): the hypervisor refuses. The boot page tables hold both worlds; NXE may go
; only when they are loaded.
global hv_back_to_loader
hv_back_to_loader:
	mov rax, [boot_cr3]
	mov cr3, rax
	mov rsp, rsi
	mov r8, rdx
	mov rax, rcx
	mov rdx, rcx
	shr rdx, 32
	mov ecx, 0xc0000080
	wrmsr
	mov rax, r8
	jmp rdi

; lp_run_on_own_stack(lp, stack_top, function): never returns.
global lp_run_on_own_stack
lp_run_on_own_stack:
	mov rsp, rsi
	xor ebp, ebp
	call rdx
	ud2

; From the trampoline, on no stack at all. Finds this processor's LP area by its local APIC id.
extern lp_start_ids
extern lp_start_areas
extern lp_count
global ap_entry
ap_entry:
	xor eax, eax
	cpuid
	cmp eax, 0xb
	jb .xapic_id
	mov eax, 0xb
	xor ecx, ecx
	cpuid
	test ebx, ebx		; leaf present but empty: SDM2 CPUID
	jz .xapic_id
	jmp .search
.xapic_id:
	mov eax, 1
	cpuid
	shr ebx, 24
	mov edx, ebx
.search:
	mov rsi, [lp_start_ids]
	mov rdi, [lp_start_areas]
	mov ecx, [lp_count]
	xor eax, eax
.next:
	cmp [rsi + rax * 4], edx
	je .found
	inc eax
	cmp eax, ecx
	jb .next
.lost:				; no table names this processor: leave it parked
	cli
	hlt
	jmp .lost
.found:
	mov rdi, [rdi + rax * 8]
	lea rsp, [rdi + 0x8000]	; LP_STACK_TOP
	xor ebp, ebp
	call ap_main
	ud2

; The IDT. Exceptions build a struct trap_frame and call C. An interrupt only leaves its number in the LP: it is taken in
; the short window that the exit loop opens for it, and sorted there.
%macro NOTE_VECTOR 1
	push rax
	mov rax, rsp
	and rax, LP_AREA_MASK
	bts dword [rax + LP_ACKED + (%1 / 32) * 4], %1 % 32
	jmp noted
%endmacro

; In front of the HLT of an LP that has nothing to do: then it has now, and goes on behind it. Asleep it would never hear of this one, nor of
; any below, which is in service. The shadow of STI should keep interrupts out there. The IRET of an NMI that came there ends it, and
; Bochs 3.0 with more than one processor doesn't always heed it.
OPCODE_HLT equ 0xf4
align 16
noted:
	mov rax, [rsp + 8]
	cmp byte [rax], OPCODE_HLT
	jne .back
	inc qword [rsp + 8]
.back:
	pop rax
	iretq

; The root chooses its own vectors, below 32 too, and then an interrupt comes in where an exception would, without an error code.
; Nothing in the window can fault, so a return address there tells: on entry [rsp] is RIP for an interrupt, and RIP
; or an error code for an exception.
%macro EXCEPTION_STUB 1
align 16
trap_%1:
%if %1 != 1 && %1 != 2 && %1 != 18
	push rax
	mov rax, [rsp + 8]
	sub rax, [interrupt_window]
	cmp rax, [interrupt_window + 8]
	pop rax
	jb interrupt_%1
%endif
%if %1 != 8 && %1 != 10 && %1 != 11 && %1 != 12 && %1 != 13 && %1 != 14 && %1 != 17 && %1 != 21 && %1 != 29 && %1 != 30
	push 0
%endif
	push %1
	jmp trap_common
interrupt_%1:
	NOTE_VECTOR %1
%endmacro

%macro INTERRUPT_STUB 1
align 16
trap_%1:
	NOTE_VECTOR %1
%endmacro

%assign v 0
%rep 32
EXCEPTION_STUB v
%assign v v + 1
%endrep
%rep 224
INTERRUPT_STUB v
%assign v v + 1
%endrep

trap_common:
	push rax
	push rcx
	push rdx
	push rbx
	push rbp
	push rsi
	push rdi
	push r8
	push r9
	push r10
	push r11
	push r12
	push r13
	push r14
	push r15
	cld
	mov rdi, rsp
	call trap_handler
	pop r15
	pop r14
	pop r13
	pop r12
	pop r11
	pop r10
	pop r9
	pop r8
	pop rdi
	pop rsi
	pop rbp
	pop rbx
	pop rdx
	pop rcx
	pop rax
	add rsp, 16
	iretq

section .data.rel.ro progbits alloc noexec write align=8
global trap_stubs
trap_stubs:
%assign v 0
%rep 256
	dq trap_%[v]
%assign v v + 1
%endrep

section .note.GNU-stack noalloc noexec nowrite progbits
