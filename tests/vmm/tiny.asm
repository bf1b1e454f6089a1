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

; Counts in EBX and at DATA + 16, for ever; each time the count goes out and must come back by port 0x80, and is stored where no memory
; is. DATA + 20 counts what came back wrong.
global tiny_turns
global tiny_turns_end
tiny_turns:
	inc	ebx
	mov	[DATA + 16], ebx
	mov	eax, ebx
	out	0x80, eax
	xor	eax, eax
	in	eax, 0x80
	cmp	eax, ebx
	je	.same
	inc	dword [DATA + 20]
.same:
	mov	[0x8000], ebx
	jmp	tiny_turns
tiny_turns_end:

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

; In 64-bit mode: says by an OUT that it waits for a command, and does it. R15 points to the VP's block: command, two arguments, four
; results (eax, ebx, ecx, edx), then what the last exception was: vector, error code (or RIP), CR2, DR6, and how many there were.
%define STACK	0x9000
global tiny_probe
global tiny_probe_end
global tiny_probe_vectors
tiny_probe:
bits 64
	out	0x80, al
	mov	eax, [r15]
	mov	ecx, [r15 + 8]
	cmp	eax, 1
	je	.cpuid
	cmp	eax, 2
	je	.rdmsr
	cmp	eax, 3
	je	.wrmsr
	cmp	eax, 4
	je	.undefined
	cmp	eax, 5
	je	.load
	cmp	eax, 6
	je	.segment
	cmp	eax, 7
	je	.divide
	cmp	eax, 8
	je	.step
	cmp	eax, 9
	je	.breakpoint
	cmp	eax, 10
	je	.spin
	hlt
	jmp	tiny_probe
.cpuid:
	mov	eax, ecx
	mov	ecx, [r15 + 16]
	cpuid
.results:
	mov	[r15 + 24], eax
	mov	[r15 + 28], ebx
	mov	[r15 + 32], ecx
	mov	[r15 + 36], edx
	jmp	tiny_probe
.rdmsr:
	xor	ebx, ebx
	rdmsr
	jmp	.results
.wrmsr:
	mov	eax, [r15 + 16]
	mov	edx, [r15 + 20]
	wrmsr
	jmp	tiny_probe
.undefined:
	ud2
	jmp	tiny_probe
.load:
	mov	rcx, [r15 + 8]
	mov	eax, [rcx]
	jmp	tiny_probe
.segment:
	mov	ds, ecx
	jmp	tiny_probe
.divide:
	xor	edx, edx
	mov	eax, 1
	div	edx
	jmp	tiny_probe
.step:
	pushfq
	or	dword [rsp], 0x100
	popfq
	nop
	nop
	cpuid
	jmp	tiny_probe
.breakpoint:
	int3
	jmp	tiny_probe
.spin:				; CPUID until the second argument isn't 0 any more
	mov	eax, [r15 + 8]
	xor	ecx, ecx
	cpuid
	inc	dword [r15 + 24]
	cmp	dword [r15 + 16], 0
	je	.spin
	jmp	tiny_probe

; Of vectors 0 to 31, eight bytes each.
align 8
tiny_probe_vectors:
%assign vector 0
%rep 32
align 8
	push	vector
	jmp	near .common
%assign vector vector + 1
%endrep
.common:
	pop	rax
	mov	[r15 + 40], rax
	pop	rax
	mov	[r15 + 48], rax
	mov	rax, cr2
	mov	[r15 + 56], rax
	mov	rax, dr6
	mov	[r15 + 64], rax
	inc	qword [r15 + 72]
	mov	rsp, STACK
	jmp	tiny_probe
tiny_probe_end:

section .note.GNU-stack noalloc noexec nowrite progbits
