#!/bin/bash
# SPDX-License-Identifier: MIT
# Makes the disk from which the root partition runs its guests: Debian's QEMU with -accel mshv, and guests for it.
#
#     build-vm-disk.sh OUTDIR
#
# makes  OUTDIR/vm.squashfs: bin/qemu-system-x86_64 (a script), lib/ (the program, what it needs, and their loader),
#        share/ (firmware), guests/VERSION/{vmlinuz,initrd,release}: stock kernels, each with our RAM disk
# from Debian packages alone; scripts/initramfs/init mounts it at /vm, and scripts/initramfs/bin/vm uses it. The kernels stay in
# OUTDIR/VERSION, except that of the running release: it is OUTDIR/../cloud, which the tests of the transparent root have too.
#
# Not compressed (zstd is only the name in its header, the one that the root kernel knows): the emulated processor would unpack what the host's disk gives at once (QEMU's start in an emulated root:
# 0.6 s, with zstd 1.6 s). Needs no root. Quick when OUTDIR has all of it; remove OUTDIR for newer packages.
#
# Environment: SUITE=trixie-backports (of QEMU and the newer kernel)  GUEST=7.2 (that kernel)  MIRROR (default: the system's)
set -euo pipefail
export LC_ALL=C PATH=$PATH:/sbin:/usr/sbin
. "$(dirname "$0")/fetch-tool.sh"

suite=${SUITE:-trixie-backports} guest=${GUEST:-7.2}
say() { echo "build-vm-disk.sh: [$((SECONDS / 60)):$(printf %02d $((SECONDS % 60)))] $*" >&2; }
die() { echo "build-vm-disk.sh: $*" >&2; exit 1; }
(($# == 1)) || die "usage: build-vm-disk.sh OUTDIR"

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cloud=$(cd "$out/.." && pwd)/cloud
# What is in it comes from these; the packages' versions are those of the first time.
stamp="$suite $guest $(cat "$0" "$here/make-initramfs.sh" $(find "$here/initramfs" -type f | sort) | sha256sum | cut -c1-16)"
# The kernel of the running release may have been fetched anew meanwhile.
done_already() {
	[[ -s $out/vm.squashfs && $(cat "$out/stamp" 2> /dev/null) == "$stamp" && ! $cloud/package -nt $out/vm.squashfs ]]
}
! done_already || exit 0

exec 9> "$out/.lock"
flock 9 # two callers at once: the second finds the work done
! done_already || exit 0

command -v mksquashfs > /dev/null || die "mksquashfs not found: run scripts/setup.sh (package squashfs-tools)"
free=$(df -Pk "$out" | awk 'NR == 2 { print int($4 / 1024) }')
((free > 700)) || die "$out: $free MiB of disk left, 700 are needed: free some, or give another OUT="

advice= work=
finish() {
	local status=$?
	[[ -z $work ]] || rm -rf "$work"
	((status == 0)) || [[ -z $advice ]] || echo "build-vm-disk.sh: failed: $advice" >&2
}
trap finish EXIT

tools=$out/qemu/root
if [[ $(cat "$out/qemu/done" 2> /dev/null) != "$suite" ]]; then
	say "downloading QEMU of $suite and firmware, about 70 MB"
	advice="check the network and /etc/apt/sources.list; MIRROR=http://... names another Debian mirror that has $suite"
	mkdir -p "$out/qemu"
	rm -f "$out/qemu/done"
	fetch_tool "$out/qemu" "$suite" qemu-system-x86 ovmf
	echo "$suite" > "$out/qemu/done"
fi
say "kernels: Linux $guest of $suite, and the running release's"
advice="what failed is said above"
VERSION=$guest SUITE=$suite "$here/fetch-kernel.sh" "$out/$guest"
"$here/make-initramfs.sh" "$out/$guest"
"$here/fetch-kernel.sh" "$cloud"
"$here/make-initramfs.sh" "$cloud"

work=$(mktemp -d "$out/.disk.XXXXXX")
disk=$work/disk
mkdir -p "$disk"/{bin,lib,share,guests}

libraries=$tools/usr/lib/x86_64-linux-gnu
loader=$tools/usr/lib64/ld-linux-x86-64.so.2
program=$tools/usr/bin/qemu-system-x86_64
advice="the packages are not as expected; SUITE= names another suite, and removing $out fetches them anew"
cp -L "$loader" "$program" "$disk/lib/"
"$loader" --library-path "$libraries" --list "$program" | awk '$2 == "=>" { print $3 }' > "$work/libraries"
xargs -r cp -L -t "$disk/lib" < "$work/libraries"
cat > "$disk/bin/qemu-system-x86_64" << 'END'
#!/bin/sh
# Debian's QEMU with the libraries and the loader of its release, wherever this disk is mounted.
D=${0%/bin/*}
exec "$D/lib/ld-linux-x86-64.so.2" --library-path "$D/lib" "$D/lib/qemu-system-x86_64" -L "$D/share" "$@"
END
chmod 755 "$disk/bin/qemu-system-x86_64"
for file in seabios/bios-256k.bin seabios/bios-microvm.bin qemu/qboot.rom qemu/kvmvapic.bin qemu/linuxboot_dma.bin \
	qemu/multiboot_dma.bin qemu/pvh.bin ovmf/OVMF.fd; do
	[[ -f $tools/usr/share/$file ]] || die "no usr/share/$file in the packages: $advice"
	cp -L "$tools/usr/share/$file" "$disk/share/"
done
for folder in "$cloud" "$out/$guest"; do
	version=$(cut -d. -f1,2 "$folder/release")
	mkdir -p "$disk/guests/$version"
	cp "$folder"/{vmlinuz,initrd,release} "$disk/guests/$version/"
done
# The one that a plain `vm` boots
ln -s "$(cut -d. -f1,2 "$out/$guest/release")" "$disk/guests/default"

# The copy is complete when it runs and has what it is here for.
accelerators=$("$disk/bin/qemu-system-x86_64" -accel help) || die "QEMU of $suite does not run here: $advice"
grep -qx mshv <<< "$accelerators" || die "QEMU of $suite has no accelerator mshv: $advice"

say "packing $(du -sm "$disk" | cut -f1) MiB"
advice="see $out/pack.log"
find "$disk" -exec touch -h -d @1 {} +
SOURCE_DATE_EPOCH=1 mksquashfs "$disk" "$work/vm.squashfs" -comp zstd -noI -noD -noF -noX -no-fragments -b 1M -all-root -no-xattrs \
	-noappend -no-progress -quiet > "$out/pack.log" 2>&1
truncate -s %516096 "$work/vm.squashfs" # whole cylinders, which Bochs' disks have
mv "$work/vm.squashfs" "$out/vm.squashfs"
"$disk/bin/qemu-system-x86_64" --version | head -n 1 > "$out/version"
echo "$stamp" > "$out/stamp" # last: it says that all of it is there
say "$out/vm.squashfs: $(cat "$out/version"), Linux $(cat "$cloud/release") and $(cat "$out/$guest/release")"
