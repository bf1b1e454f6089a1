; SPDX-License-Identifier: MIT
; Guests of a few instructions for real mode, to be copied to address TINY (tiny.h) of a guest whose segments have base 0.

%define TINY	0x1000
%define DATA	0x2000

section .rodata

; An OUT, then HLT for ever. The monitor may also send it an NMI: there is no IDT, and whatever comes of that is caught.
global tiny_out
global tiny_out_end
tiny_out:
bits 16
	mov	al, 0x41
	out	0x80, al
.sleep:
	hlt
	jmp	.sleep
tiny_out_end:

; Counts for ever, in the quadword at DATA.
global tiny_count
global tiny_count_end
tiny_count:
	add	dword [DATA], 1
	adc	dword [DATA + 4], 0
	jmp	tiny_count
tiny_count_end:

; An OUT to port 0x80, for ever.
global tiny_loop
global tiny_loop_end
tiny_loop:
	out	0x80, al
	jmp	tiny_loop
tiny_loop_end:

; Copies all that a guest without page tables can see of its registers to DATA, and says so by an OUT: general registers, then
; XMM0 to XMM7 and the x87's state (FXSAVE at DATA + 0x200).
global tiny_show
global tiny_show_end
tiny_show:
	mov	[DATA + 0x00], eax
	mov	[DATA + 0x04], ecx
	mov	[DATA + 0x08], edx
	mov	[DATA + 0x0c], ebx
	mov	[DATA + 0x10], esp
	mov	[DATA + 0x14], ebp
	mov	[DATA + 0x18], esi
	mov	[DATA + 0x1c], edi
	mov	eax, dr0
	mov	[DATA + 0x20], eax
	mov	eax, dr1
	mov	[DATA + 0x24], eax
	mov	eax, dr2
	mov	[DATA + 0x28], eax
	mov	eax, dr3
	mov	[DATA + 0x2c], eax
	mov	eax, cr2
	mov	[DATA + 0x30], eax
	mov	eax, cr4
	or	eax, 0x200		; OSFXSR: with the vector registers
	mov	cr4, eax
	mov	eax, cr0
	and	eax, ~0xc		; no EM, no TS
	mov	cr0, eax
	fxsave	[DATA + 0x200]
	out	0x80, al
.sleep:
	hlt
	jmp	.sleep
tiny_show_end:

section .note.GNU-stack noalloc noexec nowrite progbits
