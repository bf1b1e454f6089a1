/* SPDX-License-Identifier: MIT */
/* What a guest asks of mshv-vmbus: a 32-bit OUT to VMBUS_PORT of a command in 31:24 and its argument below; IN has the answer. */
#ifndef VMM_VMBUS_H
#define VMM_VMBUS_H

#define VMBUS_PORT 0xecu
#define VMBUS_COMMAND_SHIFT 24

enum vmbus_command {
	VMBUS_INSTALL = 1, /* the three intercepts, or (0) not; answer: status */
	VMBUS_POST,	   /* a message with this payload to SINT VMBUS_SINT of VP 0; answer: status */
	VMBUS_SIGNAL,	   /* the event flag; answer: status, newly signaled in bit 16 */
	VMBUS_WANT,	   /* to be told which of these SINTs can take a message; answer: status */
	VMBUS_TOLD,	   /* answer: SINTs that it was told of since, how often above bit 16 */
	VMBUS_LINE,	   /* writes to the event file of the interrupt VMBUS_LINE_VECTOR */
	VMBUS_RUNG,	   /* answer: doorbells that rang since */
	VMBUS_WRONG,	   /* answer: what the monitor found wrong so far */
	VMBUS_ASSERT,	   /* type in 19:16, VMBUS_LEVEL, vector in 7:0; answer: status */
	VMBUS_CLEAR,	   /* what is asserted of an 8259; answer: status */
	VMBUS_ENDED,	   /* answer: the last vector whose end it was told of, how often above bit 16 */
	VMBUS_FREEZE,	   /* the partition's time, or (0) let it go on; answer: status */
	VMBUS_TIME,	   /* the reference time, in milliseconds; answer: status */
	VMBUS_TRACK,	   /* which pages are written, or (0) not; answer: status */
	VMBUS_DIRTY,	   /* of all RAM, which is cleared; answer: how many pages */
	VMBUS_IS_DIRTY,	   /* was this page, when it was asked for all; answer: 1 or 0 */
	VMBUS_PAGES, /* answer: a byte for each of four pages from this one (HV_ACCESS_STATE_*), which are cleared */
};

#define VMBUS_LATER (1u << 23) /* of an argument: while the VP runs or sleeps */
#define VMBUS_SINT 2u
#define VMBUS_LEVEL (1u << 20)
#define VMBUS_LINE_VECTOR 0xb1u
/* Nothing is mapped there. Each has VMBUS_DOORBELL_BYTES. */
#define VMBUS_DOORBELLS 0xa8000u
#define VMBUS_DOORBELL_COUNT 80u
#define VMBUS_DOORBELL_BYTES 4u

/* The server's side of the wire */
#define VMBUS_CONNECTION 0x10001u /* of its messages */
#define VMBUS_EVENTS 0x10002u	  /* of its events */
#define VMBUS_ECHO 7u		  /* of such a message: the payload's first word is sent back, and one more */
#define VMBUS_DEVICE 0x2000000012345678ull
#define VMBUS_CODE 0x3ff7u /* of a call that nobody knows; the server adds these to RCX */
#define VMBUS_CODE_RESULT 0x70000000ull

#endif
