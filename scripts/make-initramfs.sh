#!/bin/bash
# SPDX-License-Identifier: MIT
# Makes the small initial RAM disk that `make run` and tests/linux boot to.
#
#     make-initramfs.sh OUTDIR [DIR...]
#
# OUTDIR is one that fetch-kernel.sh or build-root-kernel.sh (no modules) filled; the result is OUTDIR/initrd (a cpio archive, not
# compressed: that is the quickest under emulation).  It holds busybox, scripts/initramfs/init and
# bin/, the kernel modules listed below in load order, kexec with its libraries, and a copy of each DIR.
# Environment: MODULES="kvm" (more groups of modules).
# Quick when nothing changed.  Needs busybox-static, cpio, kmod, kexec-tools; needs no root
# (the /dev/console node comes with the kernel's own built-in archive).
#
# Kernel command line keys of its /init:
#     mods=virtio,ata,net,fs   module groups to load (default: all; `none`: no modules)
#     run=/path                run that, print `TRIVET-EXIT rc`; otherwise a shell on the console
#     end=poweroff|reboot|shell   what follows (default poweroff)
# When user space is up it prints the line `TRIVET-READY cpus=N release=R up=SECONDS`, and `mshv=yes` in it with /dev/mshv.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/sbin:/usr/sbin

die() { echo "make-initramfs.sh: $*" >&2; exit 1; }
[ $# -ge 1 ] || die "usage: make-initramfs.sh OUTDIR [DIR...]"
[ -s "$1/package" ] || die "$1 has no kernel; run fetch-kernel.sh $1 or build-root-kernel.sh $1 first"
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$1" && pwd)
shift
release=$(cat "$out/release")
initrd=$out/initrd

# Modules by group; a name that this kernel has built in, or does not have, is left out.
groups="virtio ata net fs ${MODULES:-}"
virtio="virtio_pci virtio_blk virtio_net virtio_rng"
ata="ahci ata_piix sd_mod nvme"
net="e1000e"
fs="vfat nls_cp437 nls_ascii nls_utf8 ext4 efivarfs"
kvm="squashfs kvm-amd kvm-intel"	# for the disk of build-vm-disk.sh, and to compare with KVM

[ $# -gt 0 ] || { [ -s "$initrd" ] &&
	[ -z "$(find "$here/make-initramfs.sh" "$here/initramfs" "$out/package" -newer "$initrd")" ] && exit 0; }

busybox=$(command -v busybox) || die "busybox not found (package busybox-static)"
if LC_ALL=C grep -qa 'ld-linux' <(head -c 4096 "$busybox"); then die "$busybox is not static (package busybox-static)"; fi
kexec=$(command -v kexec) || die "kexec not found (package kexec-tools)"
command -v modprobe >/dev/null || die "modprobe not found (package kmod)"
command -v cpio >/dev/null || die "cpio not found (package cpio)"

work=$(mktemp -d "$out/.initrd.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,etc,lib/modules,lib64,mnt,proc,root,run,sys,tmp,usr}
ln -s bin "$root/sbin"
ln -s ../bin "$root/usr/bin"
ln -s ../bin "$root/usr/sbin"
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done

# kexec, and the loader and libraries that it names
cp "$kexec" "$root/bin/kexec"
ldd "$kexec" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' | while read -r lib; do
	mkdir -p "$root$(dirname "$lib")"
	cp -L "$lib" "$root$lib"
done

# DIR/GROUP lists a group's module files in load order
module_tree=$out/modules
for group in $groups; do
	for module in ${!group}; do
		modprobe -d "$module_tree" -S "$release" --show-depends "$module" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$work/list"
	: >"$root/lib/modules/$group"
	while read -r file; do
		cp "$file" "$root/lib/modules/"
		echo "${file##*/}" >>"$root/lib/modules/$group"
	done <"$work/list"
done

cp "$here/initramfs/init" "$root/init"
cp "$here"/initramfs/bin/* "$root/bin/"
chmod 755 "$root/init" "$root"/bin/*
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
for dir; do
	cp -a "$dir/." "$root/"
done

find "$root" -exec touch -h -d @1 {} +
(cd "$root" && find . -mindepth 1 -print0 | sort -z |
	cpio -0 -o -H newc --reproducible -R 0:0 --quiet) >"$work/initrd"
mv "$work/initrd" "$initrd"
