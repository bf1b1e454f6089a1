; SPDX-License-Identifier: MIT
; Runs a list of writes to control registers in 32-bit protected mode and notes after each what the registers read, which
; fault came and where a probe address leads now. test_cr.c copies this to memory below 1 MiB, as modes.asm is, and
; calls the entry in the copy. A fault is survived as long as long mode is not active: the IDT is a 32-bit one.

%define D		0x1000
%define D_RSP		D + 0x08
%define D_CR0		D + 0x10
%define D_CR3		D + 0x18
%define D_CR4		D + 0x20
%define D_EFER		D + 0x28
%define D_GDTR_OLD	D + 0x30
%define D_IDTR_OLD	D + 0x40
%define D_GDTR		D + 0x50
%define D_IDTR32	D + 0x60
%define D_PROBE		D + 0x70
%define D_JMP64		D + 0x78
%define STEPS		0x2000
%define STACK		0x1ff0
%define O(x)		(x - cr_blob)

%define CODE32		0x18
%define DATA32		0x20
%define FLAT		0x28
%define DATA64		0x10

%define S_OP		0
%define S_VALUE		4
%define S_VECTOR	8
%define S_ERROR		12
%define S_CR0		16
%define S_CR3		20
%define S_CR4		24
%define S_EFER		28
%define S_PROBE		32
%define S_SMSW		36
%define S_SIZE		40

global cr_blob
global cr_blob_end
global cr_back64
global cr_gp
global cr_ud
global cr_pf

section .rodata
align 16

bits 64
cr_blob:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	pushfq
	cli
	lea	rbx, [rel cr_blob]
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
	mov	eax, 0x11
	mov	cr0, eax		; no paging, no long mode
	mov	ecx, 0xc0000080
	xor	eax, eax
	xor	edx, edx
	wrmsr
	mov	cr4, eax
	lidt	[D_IDTR32]
	mov	ebp, STEPS
next:
	mov	dword [ebp + S_VECTOR], 0xffff
	mov	dword [ebp + S_ERROR], 0
	mov	ebx, [ebp + S_VALUE]
	mov	eax, [ebp + S_OP]
	cmp	eax, 1
	jb	leave
	je	.cr0
	cmp	eax, 3
	jb	.cr3
	je	.cr4
	cmp	eax, 5
	jb	.efer
	je	.lmsw
	clts
	jmp	done
.cr0:
	mov	cr0, ebx
	jmp	done
.cr3:
	mov	cr3, ebx
	jmp	done
.cr4:
	mov	cr4, ebx
	jmp	done
.efer:
	mov	ecx, 0xc0000080
	mov	eax, ebx
	xor	edx, edx
	wrmsr
	jmp	done
.lmsw:
	lmsw	bx
done:
	mov	eax, cr0
	mov	[ebp + S_CR0], eax
	mov	eax, cr3
	mov	[ebp + S_CR3], eax
	mov	eax, cr4
	mov	[ebp + S_CR4], eax
	mov	ecx, 0xc0000080
	rdmsr
	mov	[ebp + S_EFER], eax
	mov	ecx, [D_PROBE]
	mov	eax, [fs:ecx]
	mov	[ebp + S_PROBE], eax
	xor	eax, eax
	smsw	ax
	mov	[ebp + S_SMSW], eax
	add	ebp, S_SIZE
	jmp	next

leave:
	mov	eax, 0x11
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

cr_gp:
	mov	ecx, 13
	jmp	with_error
cr_pf:
	mov	ecx, 14
with_error:
	pop	eax
	mov	[ebp + S_ERROR], eax
	jmp	faulted
cr_ud:
	mov	ecx, 6
faulted:
	mov	[ebp + S_VECTOR], ecx
	mov	esp, STACK
	jmp	done

bits 64
cr_back64:
	lea	rbx, [rel cr_blob]
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
cr_blob_end:

%if cr_blob_end - cr_blob > D
%error "code overlaps its data"
%endif

section .note.GNU-stack noalloc noexec nowrite progbits
