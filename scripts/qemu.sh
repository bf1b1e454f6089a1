#!/bin/bash
# SPDX-License-Identifier: MIT
# The emulated machine that `make run` starts: q35, an AMD processor with SVM, UEFI firmware, the given disk image,
# a network. COM1 is the console on stdio (Ctrl-A x leaves), COM2 the hypervisor's log.
#
#     qemu.sh DISK.img LOGFILE [more QEMU arguments]
#
# Environment: SMP=2  MEM=1024 (MiB)  CPU=EPYC  QEMU=qemu-system-x86_64  OVMF_CODE, OVMF_VARS (files)
# QEMU_MEND (tests/qemu_mend.c, built)  VM_DISK (of build-vm-disk.sh: the root partition's guests)
set -euo pipefail

(($# >= 2)) || { echo "usage: qemu.sh DISK.img LOGFILE [QEMU arguments]" >&2; exit 2; }
disk=$1 log=$2
shift 2
code=${OVMF_CODE:-/usr/share/OVMF/OVMF_CODE_4M.fd}
vars=${OVMF_VARS:-/usr/share/OVMF/OVMF_VARS_4M.fd}

read -ra qemu <<< "${QEMU:-qemu-system-x86_64}"

# TCG names each feature of the processor model that it lacks, for each processor: of no use here.
exec 2> >(grep -v "TCG doesn't support requested feature" >&2)
exec env LD_PRELOAD="${QEMU_MEND:-}" "${qemu[@]}" -accel tcg -machine q35 -cpu "${CPU:-EPYC}" -smp "${SMP:-2}" -m "${MEM:-1024}" \
	-nodefaults -display none -serial mon:stdio -serial "file:$log" \
	-drive "if=pflash,unit=0,format=raw,readonly=on,file=$code" \
	-drive "if=pflash,unit=1,format=raw,snapshot=on,file=$vars" \
	-drive "if=none,id=disk,format=raw,file=$disk" -device virtio-blk-pci,drive=disk,bootindex=0 \
	-netdev user,id=net -device virtio-net-pci,netdev=net,romfile= \
	${VM_DISK:+-drive "if=none,id=vm,format=raw,readonly=on,file=$VM_DISK" -device virtio-blk-pci,drive=vm,serial=vm} \
	-device virtio-rng-pci "$@"
