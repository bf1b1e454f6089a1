// SPDX-License-Identifier: MIT
//
// The devices of a PC with an i440FX and a PIIX, as Bochs has them, that an operating system can't find by itself: the
// PCI root with its windows and interrupt wiring, the ISA devices, and how to power off.
DefinitionBlock ("dsdt.aml", "DSDT", 2, "TRIVET", "TESTBED", 1)
{
	Name (MODE, 0)          // 0: 8259, 1: I/O APIC
	Method (_PIC, 1)
	{
		MODE = Arg0
	}

	// SLP_TYP of Bochs' PIIX4: 0 is off (1 would be suspend to RAM).
	Name (_S5, Package (4) { 0, 0, 0, 0 })

	Scope (_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_BBN, 0)

			// Bochs has no RAM at 80000000h and above; its OVMF puts PCI memory there.
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0x0000, 0x00ff, 0, 0x0100)
				IO (Decode16, 0x0cf8, 0x0cf8, 1, 8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0x0000, 0x0cf7, 0, 0x0cf8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0x0d00, 0xffff, 0, 0xf300)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
					0, 0x000a0000, 0x000bffff, 0, 0x00020000)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
					0, 0x80000000, 0xfebfffff, 0, 0x7ec00000)
			})

			// Pin p of device d is PIRQ (d + p - 1) mod 4: a link of the PIIX, and I/O APIC pin 16 and up.
			Method (_PRT, 0, Serialized)
			{
				Local0 = Package (128) {}
				Local1 = 0
				While (Local1 < 128)
				{
					Local2 = ((Local1 >> 2) + Local1 + 3) & 3
					If (MODE)
					{
						Local3 = Package (4) { 0, 0, 0, 0 }
						Local3 [3] = 16 + Local2
					}
					ElseIf (Local2 == 0) { Local3 = Package (4) { 0, 0, ^ISA.LNKA, 0 } }
					ElseIf (Local2 == 1) { Local3 = Package (4) { 0, 0, ^ISA.LNKB, 0 } }
					ElseIf (Local2 == 2) { Local3 = Package (4) { 0, 0, ^ISA.LNKC, 0 } }
					Else { Local3 = Package (4) { 0, 0, ^ISA.LNKD, 0 } }
					Local3 [0] = ((Local1 >> 2) << 16) | 0xffff
					Local3 [1] = Local1 & 3
					Local0 [Local1] = Local3
					Local1++
				}
				Return (Local0)
			}

			Device (ISA)
			{
				Name (_ADR, 0x00010000)

				OperationRegion (ROUT, PCI_Config, 0x60, 4)
				Field (ROUT, ByteAcc, NoLock, Preserve)
				{
					RTA, 8,
					RTB, 8,
					RTC, 8,
					RTD, 8
				}

				Name (IRQS, ResourceTemplate ()
				{
					IRQ (Level, ActiveLow, Shared) { 5, 10, 11 }
				})

				// The current setting of a route register, bit 7 of which means "not routed".
				Name (CURR, ResourceTemplate ()
				{
					IRQ (Level, ActiveLow, Shared) {}
				})
				Method (GETR, 1, Serialized)
				{
					CreateWordField (CURR, 1, MASK)
					MASK = 0
					If (!(Arg0 & 0x80)) { MASK = 1 << (Arg0 & 15) }
					Return (CURR)
				}

				// The route register for a resource that was chosen from IRQS.
				Method (SETR, 1, Serialized)
				{
					CreateWordField (Arg0, 1, MASK)
					FindSetRightBit (MASK, Local0)
					Return (Local0 - 1)
				}

				Device (LNKA)
				{
					Name (_HID, EisaId ("PNP0C0F"))
					Name (_UID, 1)
					Method (_STA) { Return (0x0b) }
					Method (_PRS) { Return (IRQS) }
					Method (_CRS) { Return (GETR (RTA)) }
					Method (_DIS) { RTA = 0x80 }
					Method (_SRS, 1) { RTA = SETR (Arg0) }
				}
				Device (LNKB)
				{
					Name (_HID, EisaId ("PNP0C0F"))
					Name (_UID, 2)
					Method (_STA) { Return (0x0b) }
					Method (_PRS) { Return (IRQS) }
					Method (_CRS) { Return (GETR (RTB)) }
					Method (_DIS) { RTB = 0x80 }
					Method (_SRS, 1) { RTB = SETR (Arg0) }
				}
				Device (LNKC)
				{
					Name (_HID, EisaId ("PNP0C0F"))
					Name (_UID, 3)
					Method (_STA) { Return (0x0b) }
					Method (_PRS) { Return (IRQS) }
					Method (_CRS) { Return (GETR (RTC)) }
					Method (_DIS) { RTC = 0x80 }
					Method (_SRS, 1) { RTC = SETR (Arg0) }
				}
				Device (LNKD)
				{
					Name (_HID, EisaId ("PNP0C0F"))
					Name (_UID, 4)
					Method (_STA) { Return (0x0b) }
					Method (_PRS) { Return (IRQS) }
					Method (_CRS) { Return (GETR (RTD)) }
					Method (_DIS) { RTD = 0x80 }
					Method (_SRS, 1) { RTD = SETR (Arg0) }
				}

				Device (CMOS)
				{
					Name (_HID, EisaId ("PNP0B00"))
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x0070, 0x0070, 0, 2)
						IRQNoFlags () { 8 }
					})
				}
				Device (KBD)
				{
					Name (_HID, EisaId ("PNP0303"))
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x0060, 0x0060, 0, 1)
						IO (Decode16, 0x0064, 0x0064, 0, 1)
						IRQNoFlags () { 1 }
					})
				}
				Device (MOU)
				{
					Name (_HID, EisaId ("PNP0F13"))
					Name (_CRS, ResourceTemplate ()
					{
						IRQNoFlags () { 12 }
					})
				}
				Device (COM1)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 1)
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x03f8, 0x03f8, 0, 8)
						IRQNoFlags () { 4 }
					})
				}
				Device (COM2)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 2)
					OperationRegion (REGS, SystemIO, 0x02f8, 8)
					Field (REGS, ByteAcc, NoLock, Preserve)
					{
						Offset (5),
						LSR, 8
					}
					// Nothing answers: the line status of a UART never has bit 7 with all the others.
					Method (_STA)
					{
						If (LSR == 0xff) { Return (0) }
						Return (0x0f)
					}
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x02f8, 0x02f8, 0, 8)
						IRQNoFlags () { 3 }
					})
				}
			}
		}
	}
}
