#!/bin/bash
# SPDX-License-Identifier: MIT
# Gets a stock Debian kernel of the running release, without installing it.
#
#     fetch-kernel.sh OUTDIR
#
# makes  OUTDIR/vmlinuz              the kernel (an EFI executable by its EFI stub)
#        OUTDIR/modules/lib/modules/RELEASE/...   its modules, with modules.dep
#        OUTDIR/config, OUTDIR/release (`uname -r`), OUTDIR/package (name and version)
# and then make-initramfs.sh OUTDIR adds OUTDIR/initrd.
#
# Environment: META=linux-image-cloud-amd64 (default; no AHCI, no e1000e, no machine checks in it)
#              or META=linux-image-amd64 (the general kernel): use another OUTDIR for each.
# Needs no root as long as apt's lists are there.  apt checks signatures and SHA256 sums.
# Quick when OUTDIR has that kernel already; remove OUTDIR to get a newer one.
set -euo pipefail
export LC_ALL=C

meta=${META:-linux-image-cloud-amd64}
die() { echo "fetch-kernel.sh: $*" >&2; exit 1; }
[ $# -eq 1 ] || die "usage: [META=linux-image-amd64] fetch-kernel.sh OUTDIR"
mkdir -p "$1"
out=$(cd "$1" && pwd)

if [ -s "$out/package" ] && [ -s "$out/vmlinuz" ] && read -r have _ <"$out/package" &&
   [ "$have" = "$meta" ]; then
	exit 0
fi

for tool in apt-get dpkg-deb depmod; do
	PATH=$PATH:/sbin:/usr/sbin command -v $tool >/dev/null || die "$tool not found (packages apt, dpkg, kmod)"
done

exec 9>"$out/.lock"
flock 9	# two callers at once: the second finds the work done
if [ -s "$out/package" ] && read -r have _ <"$out/package" && [ "$have" = "$meta" ]; then
	exit 0
fi

work=$(mktemp -d "$out/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The metapackage depends on the one kernel package that is current.
image_of() {
	apt-cache depends "$meta" 2>/dev/null |
		awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { p = $2 } END { print p }'
}

# apt refuses to sandbox a download into a directory that _apt can't enter; sums are checked all the same
download() {
	image=$(image_of)
	[ -n "$image" ] &&
		(cd "$work" && rm -f ./*.deb && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$image")
}

if ! download; then
	# No lists yet, or lists older than the archive
	if [ "$(id -u)" = 0 ]; then
		apt-get -qq update || true
		download || die "cannot download $meta; check /etc/apt/sources.list"
	else
		die "apt knows no current $meta; run: sudo apt-get update"
	fi
fi

deb=$(echo "$work"/*.deb)
release=${image#linux-image-}
version=$(dpkg-deb -f "$deb" Version)
echo "fetch-kernel.sh: unpacking $image $version" >&2
mkdir -p "$work/root/usr/lib"
ln -s usr/lib "$work/root/lib"	# both layouts, before and after the /usr merge
dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --keep-directory-symlink

rm -rf "$out/modules" "$out/package"
mkdir -p "$out/modules/lib/modules"
mv "$work/root/usr/lib/modules/$release" "$out/modules/lib/modules/"
PATH=$PATH:/sbin:/usr/sbin depmod -b "$out/modules" "$release"
mv "$work/root/boot/vmlinuz-$release" "$out/vmlinuz"
mv "$work/root/boot/config-$release" "$out/config"
echo "$release" >"$out/release"
echo "$meta $image $version" >"$out/package"	# last: it says that all of it is there
