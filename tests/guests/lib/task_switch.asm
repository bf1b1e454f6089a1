; SPDX-License-Identifier: MIT
; Tasks of 32-bit protected mode that switch to each other by every way there is, and note what they find. test_task_switch.c
; copies this to memory below 1 MiB, as modes.asm is, fills in descriptors, TSSs and page tables, and calls the entry in the
; copy with the way and the paging. Task A is the caller, B its target, C sits behind the task gates.

%define D		0x1000
%define D_PAGING	D + 0x00
%define D_OP		D + 0x04
%define D_RSP		D + 0x08
%define D_CR0		D + 0x10
%define D_CR3		D + 0x18
%define D_CR4		D + 0x20
%define D_EFER		D + 0x28
%define D_GDTR_OLD	D + 0x30
%define D_IDTR_OLD	D + 0x40
%define D_GDTR		D + 0x50
%define D_IDTR32	D + 0x60
%define D_CR3_A		D + 0x68
%define D_CR4_A		D + 0x6c
%define D_PROBE		D + 0x70
%define D_SKIP		D + 0x74	; what C adds to A's EIP
%define D_HAS_ERROR	D + 0x78	; C takes an error code from its stack
%define D_ESCAPE	D + 0x7c	; C goes to A whoever it came from
%define D_JMP64		D + 0x80
%define D_NMIS		D + 0x88	; how many there are to be
%define R_A		0x1400
%define R_B		0x1480
%define R_C		0x1500
%define R_VECTOR	0x1580
%define R_ERROR		0x1584
%define R_EIP		0x1588
%define R_CR2		0x158c
%define R_TR		0x1590
%define R_DR6		0x1594
%define R_TASK_ERROR	0x1598
%define R_COUNT		0x159c		; times C ran
%define R_NESTED	0x15a0		; ... by the end of its first time
%define R_DONE		0x15a4
%define R_8086		0x15a8
%define R_CARRY		0x15ac
%define STACK_A		0x2ff0
%define TSS_A		0x1b00
%define GDT		0x1100
%define O(x)		(x - task_blob)

%define DATA64		0x10
%define CODE32		0x18
%define DATA32		0x20
%define FLAT		0x28
%define SEL_A		0x30
%define SEL_B		0x38
%define SEL_C		0x40
%define SEL_16		0x48
%define SEL_ABSENT	0x50
%define SEL_SHORT	0x58
%define SEL_BEYOND	0xff8
%define SEL_TSS64	0x40
%define BAD_DATA	0x1230

%define APIC_EOI	0xfee000b0
%define APIC_ICR	0xfee00300

global task_blob
global task_blob_end
global task_back64
global task_a
global task_b
global task_c
global task_16
global task_8086
global task_faults

section .rodata
align 16

; %1: where. DS = copy, FS = flat or null.
%macro RECORD 1
	mov	[%1 + 0x00], eax
	mov	[%1 + 0x04], ecx
	mov	[%1 + 0x08], edx
	mov	[%1 + 0x0c], ebx
	mov	[%1 + 0x10], esp
	mov	[%1 + 0x14], ebp
	mov	[%1 + 0x18], esi
	mov	[%1 + 0x1c], edi
	pushfd
	pop	dword [%1 + 0x20]
	xor	eax, eax
	str	ax
	mov	[%1 + 0x24], eax
	sldt	ax
	mov	[%1 + 0x28], eax
	mov	eax, cr0
	mov	[%1 + 0x2c], eax
	mov	eax, cr3
	mov	[%1 + 0x30], eax
	mov	eax, dr7
	mov	[%1 + 0x34], eax
	xor	eax, eax
	mov	ax, gs
	mov	[%1 + 0x38], eax
	test	eax, eax
	jz	%%no_gs
	mov	eax, [gs:0]
	mov	[%1 + 0x3c], eax
%%no_gs:
	xor	eax, eax
	mov	ax, fs
	mov	[%1 + 0x40], eax
	test	eax, eax
	jz	%%no_fs
	mov	ebx, [D_PROBE]
	mov	eax, [fs:ebx]
	mov	[%1 + 0x44], eax
%%no_fs:
	inc	dword [%1 + 0x48]
%endmacro

bits 64
task_blob:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	pushfq
	cli
	lea	rbx, [rel task_blob]
	mov	[rbx + D_PAGING], edi
	mov	[rbx + D_OP], esi
	mov	[rbx + D_RSP], rsp
	mov	rax, cr0
	mov	[rbx + D_CR0], rax
	mov	rax, cr3
	mov	[rbx + D_CR3], rax
	mov	rax, cr4
	mov	[rbx + D_CR4], rax
	mov	ecx, 0xc0000080
	rdmsr
	and	eax, ~0x400		; LMA comes by itself
	mov	[rbx + D_EFER], eax
	mov	[rbx + D_EFER + 4], edx
	sgdt	[rbx + D_GDTR_OLD]
	sidt	[rbx + D_IDTR_OLD]
	lgdt	[rbx + D_GDTR]
	push	qword CODE32
	push	qword O(compat)
	retfq

bits 32
compat:
	mov	eax, DATA32
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	mov	esp, STACK_A
	mov	eax, FLAT
	mov	fs, eax
	xor	eax, eax
	mov	gs, eax
	lldt	ax
	mov	eax, 0x11
	mov	cr0, eax		; no paging, no long mode
	mov	ecx, 0xc0000080
	xor	eax, eax
	xor	edx, edx
	wrmsr
	mov	eax, [D_CR4_A]
	mov	cr4, eax
	mov	eax, [D_CR3_A]
	mov	cr3, eax
	lidt	[D_IDTR32]
	cmp	dword [D_PAGING], 0
	je	.paged
	mov	eax, 0x80010011
	mov	cr0, eax
.paged:
	mov	eax, SEL_A
	ltr	ax
	mov	eax, 0x703		; L0 and LE go with the task, G0 and GE stay
	mov	dr7, eax
	mov	eax, [D_OP]
	mov	eax, [cs:O(ops) + eax * 4]
	push	eax
	mov	eax, 0xa0a00000 + BAD_DATA
	mov	ecx, 0xa0a00001
	mov	edx, 0xa0a00002
	mov	ebx, 0xa0a00003
	mov	ebp, 0xa0a00005
	mov	esi, 0xa0a00006
	mov	edi, 0xa0a00007
	ret

ops:
	dd	O(op_jump), O(op_call), O(op_int), O(op_gp), O(op_irq), O(op_nmi), O(op_jump16)
	dd	O(op_absent), O(op_short), O(op_busy), O(op_beyond), O(op_int_absent), O(op_bad_link)
op_jump:
	jmp	SEL_B:0
task_a:
	jmp	done
op_call:
	stc
	call	SEL_B:0
	adc	dword [R_CARRY], 0
	jmp	done
op_int:
	int	0x40
	jmp	done
op_gp:
	mov	gs, eax			; 2 bytes, C goes over them
	jmp	done
op_irq:
	mov	dword [fs:APIC_ICR], 0x44031
	mov	ecx, 1000000
	sti
.wait:
	cmp	dword [R_COUNT], 0
	jne	.came
	dec	ecx
	jnz	.wait
.came:
	cli
	jmp	done
op_nmi:
	mov	dword [fs:APIC_ICR], 0x4400
	mov	ecx, 1000000
.wait:
	mov	eax, [R_COUNT]
	cmp	eax, [D_NMIS]
	jae	.all
	dec	ecx
	jnz	.wait
.all:
	mov	eax, 0xa0a00000 + BAD_DATA
	jmp	done
op_jump16:
	jmp	SEL_16:0
	jmp	done
; The offset of an instruction that must fault is in R_A's first word then.
%macro FAULTING 1
	mov	dword [R_A], O(%%at)
%%at:
	%1
	jmp	done
%endmacro
op_absent:
	FAULTING jmp SEL_ABSENT:0
op_short:
	FAULTING call SEL_SHORT:0
op_busy:
	FAULTING call SEL_A:0
op_beyond:
	FAULTING jmp SEL_BEYOND:0
op_int_absent:
	FAULTING int 0x41
op_bad_link:
	pushfd
	or	dword [esp], 0x4000
	popfd
	FAULTING iretd

done:
	cmp	dword [R_VECTOR], 0
	jne	.faulted
	RECORD	R_A
.faulted:
	push	dword 2
	popfd
	mov	dword [R_DONE], 0x600d
	clts
	mov	eax, 0x400
	mov	dr7, eax
	mov	eax, cr0
	and	eax, 0x7fffffff
	mov	cr0, eax
	mov	eax, [D_CR4]
	mov	cr4, eax
	mov	eax, [D_CR3]
	mov	cr3, eax
	mov	eax, [D_EFER]
	mov	edx, [D_EFER + 4]
	mov	ecx, 0xc0000080
	wrmsr
	mov	eax, [D_CR0]
	mov	cr0, eax
	jmp	far [D_JMP64]

task_b:
	RECORD	R_B
	test	dword [R_B + 0x20], 0x4000
	jz	.jump
	iretd
	jmp	task_b
.jump:
	jmp	SEL_A:0
	jmp	task_b

; In the first 64 KiB of the copy, so that 16 bits of EIP do. FS and GS are null here.
task_16:
	RECORD	R_B
	jmp	SEL_A:0

task_c:
	cmp	dword [D_HAS_ERROR], 0
	je	.no_error
	RECORD	R_C
	pop	dword [R_TASK_ERROR]
	jmp	.recorded
.no_error:
	RECORD	R_C
.recorded:
	inc	dword [R_COUNT]
	mov	eax, [D_SKIP]
	add	[TSS_A + 0x20], eax
	cmp	dword [D_ESCAPE], 0
	jne	.escape
	cmp	dword [D_OP], 5
	je	.nmi
	mov	dword [fs:APIC_EOI], 0
	iretd
	jmp	task_c
.nmi:
	mov	eax, [R_COUNT]
	cmp	eax, [D_NMIS]
	jae	.nmi_done
	mov	dword [fs:APIC_ICR], 0x4400	; waits until this task has made its IRET
	mov	ecx, 10000
.nmi_wait:
	dec	ecx
	jnz	.nmi_wait
	mov	eax, [R_COUNT]
	mov	[R_NESTED], eax
.nmi_done:
	iretd
	jmp	task_c
.escape:
	and	byte [GDT + SEL_A + 5], ~2
	jmp	SEL_A:0

; 16 bytes for each vector below 32, through interrupt gates.
align 16
task_faults:
%assign v 0
%rep 32
	%if v == 8 || (v >= 10 && v <= 14) || v == 17
	push	dword v
	jmp	near faulted
	%else
	push	dword 0
	push	dword v
	jmp	near faulted
	%endif
	align	16, nop
%assign v v + 1
%endrep

faulted:
	mov	eax, DATA32
	mov	ds, eax
	mov	eax, FLAT
	mov	fs, eax
	pop	dword [R_VECTOR]
	pop	dword [R_ERROR]
	pop	dword [R_EIP]
	mov	eax, cr2
	mov	[R_CR2], eax
	mov	eax, dr6
	mov	[R_DR6], eax
	mov	eax, 0xffff0ff0
	mov	dr6, eax
	xor	eax, eax
	str	ax
	mov	[R_TR], eax
	cmp	eax, SEL_A
	je	.in_a
	jmp	SEL_A:0
.in_a:
	mov	esp, STACK_A
	jmp	done

bits 16
task_8086:
	mov	[R_8086], ds
	mov	[R_8086 + 2], sp
	hlt

bits 64
task_back64:
	lea	rbx, [rel task_blob]
	mov	rsp, [rbx + D_RSP]
	lgdt	[rbx + D_GDTR_OLD]
	lidt	[rbx + D_IDTR_OLD]
	mov	eax, DATA64
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	xor	eax, eax
	mov	fs, eax
	mov	gs, eax
	lldt	ax
	mov	rdx, [rbx + D_GDTR_OLD + 2]
	and	byte [rdx + SEL_TSS64 + 5], ~2	; it was busy when we left it
	mov	eax, SEL_TSS64
	ltr	ax
	popfq
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret
task_blob_end:

%if task_blob_end - task_blob > D
%error "code overlaps its data"
%endif

section .note.GNU-stack noalloc noexec nowrite progbits
