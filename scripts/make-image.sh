#!/bin/bash
# SPDX-License-Identifier: MIT
# Makes a bootable disk image: GPT, one EFI system partition with Trivet as the default boot loader, its configuration,
# a Linux kernel and an initrd. Needs no root: the file system is written by mtools, nothing is mounted.
#
#     make-image.sh OUT.img TRIVET.efi KERNEL [INITRD]
#
# Environment: CMDLINE (the kernel's command line), LOG (log-level in trivet.conf), INTERFACE (root.interface there),
# FIRST (an EFI application to start instead of Trivet, which goes to \EFI\trivet\trivet.efi then)
set -euo pipefail
export PATH=$PATH:/sbin:/usr/sbin MTOOLS_SKIP_CHECK=1

(($# >= 3)) || { echo "usage: make-image.sh OUT.img TRIVET.efi KERNEL [INITRD]" >&2; exit 2; }
out=$1 efi=$2 kernel=$3 initrd=${4:-}
for file in "$efi" "$kernel" ${initrd:+"$initrd"} ${FIRST:+"$FIRST"}; do
	[[ -r $file ]] || { echo "make-image.sh: cannot read $file" >&2; exit 1; }
done

conf=$(mktemp)
new=$(mktemp "$out.XXXXXX")
trap 'rm -f "$conf" "$new"' EXIT
{
	echo '# Trivet: docs/booting.md tells about these keys.'
	echo 'root = \EFI\trivet\vmlinuz'
	[[ -z $initrd ]] || echo 'initrd = \EFI\trivet\initrd'
	echo "cmdline = ${CMDLINE-console=ttyS0}"
	[[ -z ${INTERFACE:-} ]] || echo "root.interface = $INTERFACE"
	[[ -z ${LOG:-} ]] || echo "log-level = $LOG"
} > "$conf"

# Room for the content and some more; FAT32 needs 33 MiB. 1 MiB lies before the partition, 1 MiB behind it.
bytes=$(cat "$efi" "$kernel" ${initrd:+"$initrd"} ${FIRST:+"$FIRST"} | wc -c)
mib=$((bytes / 1048576 + 16))
((mib >= 40)) || mib=40
truncate -s 0 "$new"
# Whole cylinders of 16 heads and 63 sectors, for emulators that know disks by them.
cylinder=$((16 * 63 * 512))
truncate -s "$((((mib + 2) * 1048576 + cylinder - 1) / cylinder * cylinder))" "$new"
sgdisk --clear --new "1:2048:+${mib}M" --typecode 1:ef00 --change-name '1:EFI system partition' "$new" > /dev/null
# It warns that the image is larger than the partition: so it should be.
mkfs.fat -F 32 -n TRIVET --offset 2048 "$new" $((mib * 1024)) > /dev/null 2> >(grep -v 'block count mismatch' >&2)

fat=$new@@1M
mmd -i "$fat" ::/EFI ::/EFI/BOOT ::/EFI/trivet
if [[ -n ${FIRST:-} ]]; then
	mcopy -i "$fat" "$FIRST" ::/EFI/BOOT/BOOTX64.EFI
	mcopy -i "$fat" "$efi" ::/EFI/trivet/trivet.efi
else
	mcopy -i "$fat" "$efi" ::/EFI/BOOT/BOOTX64.EFI
fi
mcopy -i "$fat" "$conf" ::/EFI/trivet/trivet.conf
mcopy -i "$fat" "$kernel" ::/EFI/trivet/vmlinuz
[[ -z $initrd ]] || mcopy -i "$fat" "$initrd" ::/EFI/trivet/initrd
chmod 644 "$new"
mv -f "$new" "$out"
