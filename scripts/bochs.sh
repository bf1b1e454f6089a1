#!/bin/bash
# SPDX-License-Identifier: MIT
# The emulated machine that `make run CPU=intel` starts: an Intel processor with VMX, UEFI firmware, the given image as
# first ATA disk. COM1 is the console on stdio (Ctrl-A x leaves), COM2 the hypervisor's log. Ends with 0 when the guest
# switched the machine off. Bochs interprets each instruction: Linux takes about 40 s to its shell.
#
#     bochs.sh DISK.img LOGFILE [more lines of Bochs' configuration]
#
# Environment: SMP=1  MEM=512 (MiB, at most 2048)  CPU=corei7_haswell_4770 (any of `bochs --help cpu`)
#   BOCHS=bochs (2.7 or 3.0)  OVMF (a file of 2 MiB; 4 MiB with Bochs 3.0)  BOCHS_LOG (default: bochs.log beside LOGFILE)
#   DISK2= (image of a second disk; images are whole cylinders of 16 heads and 63 sectors)
#   VM_DISK= (of build-vm-disk.sh: the root partition's guests, as second disk)
#   TIME0=utc (the clock at power-on; a number of seconds makes every run the same to the instruction)
set -euo pipefail

(($# >= 2)) || { echo "usage: bochs.sh DISK.img LOGFILE [configuration lines]" >&2; exit 2; }
disk=$(realpath "$1") log=$(realpath "$2")
shift 2
rom=${OVMF:-/usr/share/ovmf/OVMF.fd}
here=$(cd "$(dirname "$0")" && pwd)

read -ra bochs <<< "${BOCHS:-bochs}"
version=$("${bochs[@]}" --help 2>&1 | sed -n 's/.*Bochs x86 Emulator \([0-9.]*\).*/\1/p' | head -n 1) || true
case $version in
2.7* | 3.0*) ;;
'') echo "bochs.sh: cannot run ${bochs[*]}: set BOCHS= (scripts/fetch-bochs.sh gets one)" >&2; exit 1 ;;
*) echo "bochs.sh: Bochs $version: 2.7 or 3.0 is wanted (3.1 divides wrongly)" >&2; exit 1 ;;
esac
[[ -r $rom ]] || { echo "bochs.sh: cannot read $rom: set OVMF=" >&2; exit 1; }

# A guest in a loop of complaints would fill the host's disk with them: no file grows beyond a GiB.
ulimit -f 1048576

# All that Bochs leaves behind, the lock of the disk too, goes into a folder of its own, which bochs-console.py removes.
run=$(mktemp -d "${TMPDIR:-/tmp}/trivet-bochs.XXXXXX")
ln -s "$disk" "$run/disk"
cat > "$run/bochsrc" << END
cpu: model=${CPU:-corei7_haswell_4770}, count=${SMP:-1}, ips=100000000, reset_on_triple_fault=0
memory: guest=${MEM:-512}, host=${MEM:-512}
romimage: file=$rom, address=$(printf '0x%x' $((0x100000000 - $(stat -L -c %s "$rom"))))
vgaromimage: file=\$BXSHARE/VGABIOS-lgpl-latest
display_library: rfb, options="timeout=0"
com1: enabled=1, mode=term, dev=$run/com1
com2: enabled=1, mode=file, dev=$log
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path=$run/disk, mode=flat, cylinders=0
boot: disk
clock: sync=none, time0=${TIME0:-utc}
speaker: enabled=0
log: ${BOCHS_LOG:-$(dirname "$log")/bochs.log}
panic: action=fatal
error: action=report, devices=ignore
info: action=report
debug: action=ignore
END
if [[ -n ${DISK2:-}${VM_DISK:-} ]]; then
	ln -s "$(realpath "${DISK2:-$VM_DISK}")" "$run/disk2"
	# The model is by what /init knows the disk of guests.
	echo "ata0-slave: type=disk, path=$run/disk2, mode=flat, cylinders=0${VM_DISK:+, model=vm}" >> "$run/bochsrc"
fi
printf '%s\n' "$@" >> "$run/bochsrc"
# 2.7 is built with its debugger, which asks what to do first.
echo c > "$run/continue"
[[ $version != 2.7* ]] || bochs+=(-rc "$run/continue")
exec "${PYTHON:-/usr/bin/python3}" "$here/bochs-console.py" "$run" "${bochs[@]}" -q -f "$run/bochsrc"
