; SPDX-License-Identifier: MIT
; Leaves 64-bit mode for each of the other modes of the processor, does the same checks in it, and comes back.
; test_modes.c copies this to memory below 1 MiB and calls the entry in the copy; descriptors with base =
; copy make all 16- and 32-bit offsets relative to it. FS is flat with a 4 GiB limit in every mode.

%define D		0x1000
%define D_MODE		D + 0x00
%define D_RSP		D + 0x08
%define D_CR0		D + 0x10
%define D_CR3		D + 0x18
%define D_CR4		D + 0x20
%define D_EFER		D + 0x28
%define D_GDTR_OLD	D + 0x30
%define D_IDTR_OLD	D + 0x40
%define D_GDTR		D + 0x50
%define D_IDTR32	D + 0x60
%define D_IDTR16	D + 0x70
%define D_PAE		D + 0x80
%define D_PSE		D + 0x84
%define D_JMP64		D + 0x88
%define D_REAL		D + 0x90
%define RES		0x1400
%define STACK		0x2ff0
%define O(x)		(x - modes_blob)

%define CODE64		0x08
%define DATA64		0x10
%define CODE32		0x18
%define DATA32		0x20
%define FLAT		0x28
%define CODE16		0x30
%define DATA16		0x38

global modes_blob
global modes_blob_end
global modes_back64
global modes_int32
global modes_int16
global modes_irq32
global modes_irq16
global modes_ud32
global modes_ud16

section .rodata
align 16

; DS = copy, FS = flat. Clobbers all.
%macro CHECKS 0
	mov	esi, 0x51515151
	mov	edi, 0xd1d1d1d1
	mov	ebp, 0xb9b9b9b9
	xor	eax, eax
	xor	ecx, ecx
	cpuid
	mov	[RES + 0x00], eax
	mov	[RES + 0x04], ebx
	mov	[RES + 0x08], ecx
	mov	[RES + 0x0c], edx
	mov	eax, 0x80000001
	cpuid
	mov	[RES + 0x10], eax
	mov	[RES + 0x14], ebx
	mov	[RES + 0x18], ecx
	mov	[RES + 0x1c], edx
	mov	ecx, 0xc0000080
	rdmsr
	mov	[RES + 0x20], eax
	mov	[RES + 0x24], edx
	mov	ecx, 0x1b
	rdmsr
	mov	[RES + 0x28], eax
	mov	[RES + 0x2c], edx
	mov	ebx, 0xfee00000
	mov	eax, [fs:ebx + 0x30]
	mov	[RES + 0x30], eax
	mov	dword [fs:ebx + 0x80], 0x20
	mov	eax, [fs:ebx + 0x80]
	mov	[RES + 0x34], eax
	mov	eax, 0x30
	mov	[fs:ebx + 0x80], eax
	add	dword [fs:ebx + 0x80], 5
	mov	eax, [fs:ebx + 0x80]
	mov	[RES + 0x38], eax
	mov	dword [fs:ebx + 0x80], 0
	int	0x30
	int	0x30
	xor	eax, eax
	db	0x0f, 0x01, 0xd8	; VMRUN
	db	0x0f, 0x01, 0xd9	; VMMCALL
	db	0x0f, 0x01, 0xc2	; VMLAUNCH
	db	0x0f, 0x01, 0xc1	; VMCALL
	mov	dword [fs:ebx + 0x300], 0x44031
	mov	ecx, 100000
%%wait:
	mov	eax, [fs:ebx + 0x210]
	test	eax, 1 << 17
	jnz	%%pending
	dec	ecx
	jnz	%%wait
%%pending:
	sti
	nop
	nop
	cli
	mov	eax, 0x80000000
	stc
	cpuid
	adc	dword [RES + 0x50], 0	; the carry survived the exit
	stc
	std
	mov	ecx, 0x1b
	rdmsr
	adc	dword [RES + 0x50], 0
	pushfd
	pop	eax
	cld
	mov	[RES + 0x54], eax
	cmp	esi, 0x51515151
	jne	%%lost
	cmp	edi, 0xd1d1d1d1
	jne	%%lost
	cmp	ebp, 0xb9b9b9b9
	jne	%%lost
	inc	dword [RES + 0x58]
%%lost:
	mov	eax, cr0
	mov	[RES + 0x5c], eax
	mov	dword [RES + 0x60], 0x600d
%endmacro

bits 64
modes_blob:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	pushfq
	cli
	lea	rbx, [rel modes_blob]
	mov	[rbx + D_MODE], edi
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
	mov	esp, STACK
	mov	eax, FLAT
	mov	fs, eax
	cmp	dword [D_MODE], 0
	jne	.leave
	CHECKS
	jmp	back_compat
.leave:
	mov	eax, cr0
	and	eax, 0x7fffffff
	mov	cr0, eax
	mov	ecx, 0xc0000080
	rdmsr
	and	eax, ~0x100
	wrmsr
	lidt	[D_IDTR32]
	mov	eax, [D_MODE]
	cmp	eax, 2
	je	.pae
	cmp	eax, 3
	je	.pse
	cmp	eax, 4
	je	.real
.checks:
	CHECKS
	mov	eax, cr0
	and	eax, 0x7fffffff
	mov	cr0, eax
	jmp	enter_long
.pae:
	mov	eax, [D_PAE]
	mov	cr3, eax
	jmp	.paging
.pse:
	mov	eax, cr4
	and	eax, ~0x20
	or	eax, 0x10
	mov	cr4, eax
	mov	eax, [D_PSE]
	mov	cr3, eax
.paging:
	mov	eax, cr0
	or	eax, 0x80000000
	mov	cr0, eax
	jmp	.checks
.real:
	lidt	[D_IDTR16]
	jmp	CODE16:O(protected16)

bits 16
protected16:
	mov	ax, DATA16
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	eax, cr0
	and	al, 0xfe
	mov	cr0, eax
	jmp	far [D_REAL]
real:
	mov	ax, cs
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	esp, STACK
	CHECKS
	mov	eax, cr0
	or	al, 1
	mov	cr0, eax
	jmp	dword CODE32:O(enter_long)

bits 32
enter_long:
	mov	eax, DATA32
	mov	ds, eax
	mov	ss, eax
	mov	esp, STACK
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
back_compat:
	jmp	far [D_JMP64]

modes_int32:
	inc	dword [RES + 0x40]
	iretd
modes_irq32:
	inc	dword [RES + 0x44]
	mov	dword [fs:0xfee000b0], 0
	iretd
modes_ud32:
	inc	dword [RES + 0x48]
	add	dword [esp], 3
	iretd

bits 16
modes_int16:
	inc	dword [RES + 0x40]
	iretw
modes_irq16:
	inc	dword [RES + 0x44]
	mov	dword [fs:dword 0xfee000b0], 0
	iretw
modes_ud16:
	inc	dword [RES + 0x48]
	push	bp
	mov	bp, sp
	add	word [bp + 2], 3
	pop	bp
	iretw

bits 64
modes_back64:
	lea	rbx, [rel modes_blob]
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
	popfq
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret

global modes_real
modes_real equ real
modes_blob_end:

%if modes_blob_end - modes_blob > D
%error "code overlaps its data"
%endif

section .note.GNU-stack noalloc noexec nowrite progbits
