; SPDX-License-Identifier: MIT
; A hypercall with every register given and every register taken: from 64-bit mode (tlfs_call), and from a copy below 1 MiB in
; compatibility, protected and real mode (tlfs_blob). Only assembly can say what the registers hold.

bits 64
default rel

%define D		0x800
%define D_REGS		D + 0x00	; EAX ECX EDX EBX ESI EDI, a qword each
%define D_RSP		D + 0x40
%define D_CR0		D + 0x48
%define D_CR3		D + 0x50
%define D_EFER		D + 0x58
%define D_GDTR_OLD	D + 0x60
%define D_IDTR_OLD	D + 0x70
%define D_GDTR		D + 0x80
%define D_IDTR32	D + 0x90
%define D_IDTR16	D + 0xa0
%define D_JMP64		D + 0xb0
%define D_REAL		D + 0xb8
%define D_MODE		D + 0xc0
%define D_UDS		D + 0xc4
%define STACK		0xff0
%define O(x)		(x - tlfs_blob)

%define CODE64		0x08
%define DATA64		0x10
%define CODE32		0x18
%define DATA32		0x20
%define CODE16		0x28
%define DATA16		0x30

global tlfs_call
global tlfs_xmm_load
global tlfs_xmm_save
global tlfs_blob
global tlfs_blob_end
global tlfs_blob_insn
global tlfs_blob_insn16
global tlfs_blob_real
global tlfs_blob_ud32
global tlfs_blob_ud16
global tlfs_blob_back
extern regs_in
extern regs_out

section .data
align 16
target:		dq 0
saved_rsp:	dq 0
saved_flags:	dq 0

section .text

; void tlfs_call(const void *code): `code` ends with RET. regs_in and regs_out are the library's (regs.asm).
tlfs_call:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	pushfq
	pop	qword [saved_flags]
	mov	[target], rdi
	mov	[saved_rsp], rsp
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
	call	[target]
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

; void tlfs_xmm_load(const uint64_t words[32]), void tlfs_xmm_save(uint64_t words[32]): XMM0 to XMM15
tlfs_xmm_load:
%assign i 0
%rep 16
	movups	xmm%+i, [rdi + i * 16]
%assign i i+1
%endrep
	ret

tlfs_xmm_save:
%assign i 0
%rep 16
	movups	[rdi + i * 16], xmm%+i
%assign i i+1
%endrep
	ret

; The copy is called with the mode in EDI: 0 compatibility, 1 protected without paging, 2 real.
section .rodata
align 16

%macro LOAD 0
	mov	eax, [D_REGS + 0x00]
	mov	ecx, [D_REGS + 0x08]
	mov	edx, [D_REGS + 0x10]
	mov	ebx, [D_REGS + 0x18]
	mov	esi, [D_REGS + 0x20]
	mov	edi, [D_REGS + 0x28]
%endmacro

%macro SAVE 0
	mov	[D_REGS + 0x00], eax
	mov	[D_REGS + 0x08], ecx
	mov	[D_REGS + 0x10], edx
	mov	[D_REGS + 0x18], ebx
	mov	[D_REGS + 0x20], esi
	mov	[D_REGS + 0x28], edi
%endmacro

tlfs_blob:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	pushfq
	cli
	lea	rbx, [rel tlfs_blob]
	mov	[rbx + D_MODE], edi
	mov	[rbx + D_RSP], rsp
	mov	rax, cr0
	mov	[rbx + D_CR0], rax
	mov	rax, cr3
	mov	[rbx + D_CR3], rax
	mov	ecx, 0xc0000080
	rdmsr
	and	eax, ~0x400		; LMA comes by itself
	mov	[rbx + D_EFER], eax
	mov	[rbx + D_EFER + 4], edx
	sgdt	[rbx + D_GDTR_OLD]
	sidt	[rbx + D_IDTR_OLD]
	lgdt	[rbx + D_GDTR]
	test	edi, edi
	jnz	.descend
	; The upper halves stay as they are here, over the far return.
	push	qword CODE32
	push	qword O(dirty)
	mov	rax, [rbx + D_REGS + 0x00]
	mov	rcx, [rbx + D_REGS + 0x08]
	mov	rdx, [rbx + D_REGS + 0x10]
	mov	rsi, [rbx + D_REGS + 0x20]
	mov	rdi, [rbx + D_REGS + 0x28]
	mov	rbx, [rbx + D_REGS + 0x18]
	retfq
.descend:
	push	qword CODE32
	push	qword O(compat)
	retfq

bits 32
dirty:
call_insn:
	times 3 nop
	push	eax
	mov	eax, DATA32
	mov	ds, eax
	pop	eax
	SAVE
	jmp	far [D_JMP64]

compat:
	mov	eax, DATA32
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	mov	esp, STACK
	mov	eax, cr0
	and	eax, 0x7fffffff
	mov	cr0, eax
	mov	ecx, 0xc0000080
	rdmsr
	and	eax, ~0x100
	wrmsr
	lidt	[D_IDTR32]
	cmp	dword [D_MODE], 2
	je	.real
	LOAD
	call	call_insn_only
	SAVE
	jmp	enter_long
.real:
	lidt	[D_IDTR16]
	jmp	CODE16:O(protected16)

call_insn_only:
call_insn32:
	times 3 nop
	ret

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
tlfs_blob_real:
	mov	ax, cs
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	esp, STACK
	LOAD
tlfs_blob_insn16:
	times 3 nop
	SAVE
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
	mov	eax, [D_CR3]
	mov	cr3, eax
	mov	eax, [D_EFER]
	mov	edx, [D_EFER + 4]
	mov	ecx, 0xc0000080
	wrmsr
	mov	eax, [D_CR0]
	mov	cr0, eax
	jmp	far [D_JMP64]

tlfs_blob_ud32:
	inc	dword [D_UDS]
	add	dword [esp], 3
	iretd

bits 16
tlfs_blob_ud16:
	inc	dword [D_UDS]
	push	bp
	mov	bp, sp
	add	word [bp + 2], 3
	pop	bp
	iretw

bits 64
tlfs_blob_back:
	lea	rbx, [rel tlfs_blob]
	mov	rsp, [rbx + D_RSP]
	lgdt	[rbx + D_GDTR_OLD]
	lidt	[rbx + D_IDTR_OLD]
	mov	eax, DATA64
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	popfq
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret

; Where the vendor's instruction goes: offsets in the copy.
tlfs_blob_insn:
	dd	O(call_insn), O(call_insn32), O(tlfs_blob_insn16)
tlfs_blob_end:

%if tlfs_blob_end - tlfs_blob > D
%error "code overlaps its data"
%endif

section .note.GNU-stack noalloc noexec nowrite progbits
