#!/bin/bash
# SPDX-License-Identifier: MIT
# Gets a stock Debian kernel of the running release, or a newer one, without installing it.
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
#              VERSION=7.2: the cloud kernel of SUITE=trixie-backports, the newest of that version; MIRROR (default: the system's)
# Needs no root as long as apt's lists are there.  apt checks signatures and SHA256 sums.
# Quick when OUTDIR has that kernel already; remove OUTDIR to get a newer one.
set -euo pipefail
export LC_ALL=C

meta=${META:-linux-image-cloud-amd64} suite=${SUITE:-trixie-backports}
[ -z "${VERSION:-}" ] || meta=linux-$VERSION-cloud-amd64
die() { echo "fetch-kernel.sh: $*" >&2; exit 1; }
[ $# -eq 1 ] || die "usage: [META=linux-image-amd64 | VERSION=7.2] fetch-kernel.sh OUTDIR"
. "$(dirname "$0")/fetch-tool.sh"
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
advice=
finish() {
	local status=$?
	rm -rf "$work"
	[ $status = 0 ] || [ -z "$advice" ] || echo "fetch-kernel.sh: failed: $advice" >&2
}
trap finish EXIT

# Of the running release: by the system's own lists. Sets release and version, leaves the files in $work/root.
fetch_own() {
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
	mkdir -p "$work/root/usr/lib"
	ln -s usr/lib "$work/root/lib"	# both layouts, before and after the /usr merge
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --keep-directory-symlink
}

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

# Of another release. Since 7.x Debian's linux-image is empty: vmlinuz and modules have packages of their own, and the
# base package has modules.builtin, which depmod and modprobe want.
fetch_other() {
	local name="-${VERSION//./\\.}\.[0-9]+\+deb[0-9]+-cloud-amd64"
	advice="check the network; MIRROR=http://... names another Debian mirror that has Linux $VERSION in $suite"
	fetch_tool "$work" "$suite" "newest:linux-binary$name" "newest:linux-modules$name" "newest:linux-base$name"
	advice=
	[ -d "$work/root/lib" ] || ln -s usr/lib "$work/root/lib"
	release=$(cd "$work/root/usr/lib/modules" && echo *)
	image=linux-binary-$release
	version=$(zcat "$work/root/usr/share/doc/$image"/changelog*.gz 2>/dev/null | sed -n '1s/.*(\(.*\)).*/\1/p') || true
	mkdir -p "$work/root/boot"
	find "$work/root/usr/lib/modules" -name '*.ko.xz' -print0 | xargs -0r -n 50 xz -d
	for file in "$work/root/usr/lib/modules/$release"/{vmlinuz,config}; do
		[ ! -f "$file" ] || mv "$file" "$work/root/boot/${file##*/}-$release"
	done
}

if [ -n "${VERSION:-}" ]; then fetch_other; else fetch_own; fi
echo "fetch-kernel.sh: $release ${version:-}" >&2

rm -rf "$out/modules" "$out/package"
mkdir -p "$out/modules/lib/modules"
mv "$work/root/usr/lib/modules/$release" "$out/modules/lib/modules/"
PATH=$PATH:/sbin:/usr/sbin depmod -b "$out/modules" "$release"
mv "$work/root/boot/vmlinuz-$release" "$out/vmlinuz"
mv "$work/root/boot/config-$release" "$out/config"
echo "$release" >"$out/release"
echo "$meta $image ${version:-unknown}" >"$out/package"	# last: it says that all of it is there
