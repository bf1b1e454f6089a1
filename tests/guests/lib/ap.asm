; SPDX-License-Identifier: MIT
; Start-up code of an AP: copied by smp.c to a page below 1 MiB, works at any. The first
; instructions save the registers as INIT left them (struct ap_record in guest.h, at offset 0x800), then
; the AP goes through 32-bit protected mode to 64-bit mode and calls the C function it was given.
; Segment descriptors with base = page address make all 16- and 32-bit offsets relative to the page.

%define REC	0x800
%define PARAM	0xc00
%define P_GDTR	PARAM + 0x00		; 10 bytes: limit, base
%define P_JMP64	PARAM + 0x10		; offset32, selector16: far pointer to ap_64
%define P_CR3	PARAM + 0x18
%define P_FUNC	PARAM + 0x20		; void (*)(unsigned int cpu, struct ap_record *)
%define P_STACK	PARAM + 0x28
%define P_CPU	PARAM + 0x30
%define P_GDT	PARAM + 0x40		; null, code32 (base), data32 (base), flat data, code64

global ap_blob
global ap_blob_end
global ap_blob_64

section .rodata

align 16
bits 16
ap_blob:
	mov	[cs:REC + 0x00], eax
	mov	[cs:REC + 0x04], ebx
	mov	[cs:REC + 0x08], ecx
	mov	[cs:REC + 0x0c], edx
	mov	[cs:REC + 0x10], esi
	mov	[cs:REC + 0x14], edi
	mov	[cs:REC + 0x18], ebp
	mov	[cs:REC + 0x1c], esp
	mov	[cs:REC + 0x54], ss
	mov	ax, cs
	mov	ss, ax
	mov	sp, 0x0ffc
	pushfd
	pop	eax
	mov	[cs:REC + 0x20], eax
	mov	eax, cr0
	mov	[cs:REC + 0x24], eax
	mov	eax, cr2
	mov	[cs:REC + 0x28], eax
	mov	eax, cr3
	mov	[cs:REC + 0x2c], eax
	mov	eax, cr4
	mov	[cs:REC + 0x30], eax
	mov	eax, dr6
	mov	[cs:REC + 0x34], eax
	mov	eax, dr7
	mov	[cs:REC + 0x38], eax
	call	.here
.here:
	pop	ax
	sub	ax, .here - ap_blob
	movzx	eax, ax
	mov	[cs:REC + 0x3c], eax
	mov	[cs:REC + 0x40], cs
	mov	[cs:REC + 0x44], ds
	mov	[cs:REC + 0x48], es
	mov	[cs:REC + 0x4c], fs
	mov	[cs:REC + 0x50], gs
	sgdt	[cs:REC + 0x70]
	sidt	[cs:REC + 0x76]
	mov	ebp, 0xfeed0001
	mov	ecx, 0xc0000080
	rdmsr
	mov	[cs:REC + 0x58], eax
	mov	[cs:REC + 0x5c], edx
	mov	ecx, 0x1b
	rdmsr
	mov	[cs:REC + 0x60], eax
	mov	[cs:REC + 0x64], edx
	mov	eax, [ds:0x600]		; DS base after INIT is 0
	mov	[cs:REC + 0x68], eax
	mov	eax, 1
	cpuid
	mov	[cs:REC + 0x6c], ebx
	mov	dword [cs:REC + 0x90], 1
	o32 lgdt [cs:P_GDTR]
	mov	eax, cr0
	and	eax, 0x9fffffff		; caches on: CD and NW are set after INIT
	or	al, 1
	mov	cr0, eax
	jmp	dword 0x08:(ap_32 - ap_blob)

bits 32
ap_32:
	mov	ax, 0x10
	mov	ds, ax
	mov	ss, ax
	mov	esp, 0xffc
	mov	ax, 0x18
	mov	es, ax
	mov	fs, ax
	mov	gs, ax
	mov	eax, 1
	cpuid
	mov	[REC + 0x80], eax
	mov	eax, [es:0xfee00030]	; the APIC's version register
	mov	[REC + 0x84], eax
	mov	ecx, 0xc0000080
	rdmsr
	mov	[REC + 0x88], eax
	mov	[REC + 0x8c], ebp
	mov	dword [REC + 0x90], 2
	mov	eax, cr4
	or	eax, 0x620		; PAE, OSFXSR, OSXMMEXCPT
	mov	cr4, eax
	mov	eax, [P_CR3]
	mov	cr3, eax
	mov	ecx, 0xc0000080
	rdmsr
	or	eax, 0x900		; LME, NXE
	wrmsr
	mov	eax, cr0
	or	eax, 0x80010000		; PG, WP
	mov	cr0, eax
	jmp	far [P_JMP64]

bits 64
ap_blob_64:
	mov	eax, 0x18
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	lea	rbx, [rel ap_blob]
	mov	dword [rbx + REC + 0x90], 3
	mov	rsp, [rbx + P_STACK]
	mov	edi, [rbx + P_CPU]
	lea	rsi, [rbx + REC]
	cld
	call	[rbx + P_FUNC]
.halt:
	cli
	hlt
	jmp	.halt
ap_blob_end:

%if ap_blob_end - ap_blob > REC
%error "start-up code overlaps its record"
%endif

section .note.GNU-stack noalloc noexec nowrite progbits
