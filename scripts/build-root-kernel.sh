#!/bin/bash
# SPDX-License-Identifier: MIT
# Builds the kernel of an MSHV root partition: Debian's linux-source, unpatched, with scripts/root-kernel.config. Stock
# kernels lack CONFIG_MSHV_ROOT, and it cannot be added as a module.
#
#     build-root-kernel.sh OUTDIR
#
# makes  OUTDIR/vmlinuz, config, release, package as fetch-kernel.sh does, and System.map, vmlinux (for a debugger),
#        OUTDIR/uapi/linux/mshv.h (the one header that clients of /dev/mshv need and Debian 12 lacks)
# and then make-initramfs.sh OUTDIR adds OUTDIR/initrd.
#
# The first time takes some minutes of all processors and 2 GB of disk. Quick when OUTDIR has the kernel of this
# configuration already. The source archive stays in OUTDIR, so that another configuration needs no download; remove OUTDIR
# for a newer source. Needs no root.
#
# Environment: SUITE=trixie-backports  SOURCE=linux-source-7.2  MIRROR (default: the system's)  JOBS=(processors)
#   KERNEL_CC=gcc (or 'ccache gcc')  KEEP=1 (leave the source and object tree: quicker to try configurations)
set -euo pipefail
export LC_ALL=C
. "$(dirname "$0")/fetch-tool.sh"

suite=${SUITE:-trixie-backports} source=${SOURCE:-linux-source-7.2} cc=${KERNEL_CC:-gcc} jobs=${JOBS:-$(nproc)}
files=1500 # that the compiler makes, about: for the progress shown
say() { echo "build-root-kernel.sh: [$((SECONDS / 60)):$(printf %02d $((SECONDS % 60)))] $*" >&2; }
die() { echo "build-root-kernel.sh: $*" >&2; exit 1; }
(($# == 1)) || die "usage: build-root-kernel.sh OUTDIR"

here=$(cd "$(dirname "$0")" && pwd)
fragment=$here/root-kernel.config
mkdir -p "$1"
out=$(cd "$1" && pwd)
# shellcheck disable=SC2086
stamp="$suite $source $(cat "$0" "$fragment" | sha256sum | cut -c1-16) $($cc -dumpfullversion)"
done_already() { [[ -s $out/vmlinuz && $(cat "$out/stamp" 2> /dev/null) == "$stamp" ]]; }
! done_already || exit 0

exec 9> "$out/.lock"
flock 9 # two callers at once: the second finds the work done
! done_already || exit 0

for tool in gcc make flex bison bc lz4 xz perl; do
	command -v $tool > /dev/null || die "$tool not found: run scripts/setup.sh"
done
[[ -r /usr/include/libelf.h ]] || die "libelf.h not found: run scripts/setup.sh (package libelf-dev)"
free=$(df -Pk "$out" | awk 'NR == 2 { print int($4 / 1024) }')
((free > 2500)) || die "$out: $free MiB of disk left, 2500 are needed: free some, or give another OUT="

# What to do is said where it is known: by the phase that failed.
advice=
finish() {
	local status=$?
	((status == 0)) || [[ -z $advice ]] || echo "build-root-kernel.sh: failed: $advice" >&2
}
trap finish EXIT

archive=$out/source/root/usr/src/$source.tar.xz
tree=$out/tree
log=$out/build.log
if [[ ! -s $archive || $(cat "$out/source/suite" 2> /dev/null) != "$suite" ]]; then
	say "downloading $source of $suite, about 160 MB"
	advice="check the network and /etc/apt/sources.list; MIRROR=http://... names another Debian mirror that has $suite"
	fetch_tool "$out/source" "$suite" "only:$source"
	[[ -s $archive ]] || die "the package $source holds no ${archive##*/}"
	echo "$suite" > "$out/source/suite"
	rm -rf "$tree"
fi
version=$(zcat "$out/source/root/usr/share/doc/$source/changelog.Debian.gz" | sed -n '1s/.*(\(.*\)).*/\1/p') || true

if [[ ! -e $tree/.unpacked ]]; then
	say "unpacking $source ${version:-}"
	advice="remove $out and try again (a damaged archive, or no space left)"
	rm -rf "$tree"
	mkdir -p "$tree"
	# Kconfig reads every directory's Kconfig; the rest of what we don't compile stays in the archive.
	tar -xJf "$archive" -C "$tree" --strip-components=1 --wildcards --wildcards-match-slash \
		--exclude='*/Documentation/*.rst' --exclude='*/Documentation/*.yaml' --exclude='*/Documentation/*.svg' \
		--exclude='*/drivers/gpu/*.[ch]' --exclude='*/drivers/media/*.[ch]' --exclude='*/drivers/staging/*.[ch]' \
		--exclude='*/drivers/net/wireless/*.[ch]' --exclude='*/drivers/infiniband/*.[ch]' \
		--exclude='*/sound/*.[ch]' --exclude='*/tools/testing/*' --exclude='*/tools/perf/*' --exclude='*.dts' \
		--exclude='*.dtsi' --exclude='*/arch/arm*/*.[chS]' --exclude='*/arch/powerpc/*.[chS]' \
		--exclude='*/arch/mips/*.[chS]' --exclude='*/arch/s390/*.[chS]' --exclude='*/arch/sparc/*.[chS]'
	touch "$tree/.unpacked"
fi

obj=$tree/obj
mkdir -p "$obj"
# Nothing of the host gets in: its name, the time, tools that happen to be there, the flags of the make that calls us.
export KBUILD_BUILD_TIMESTAMP=@1 KBUILD_BUILD_USER=trivet KBUILD_BUILD_HOST=trivet KBUILD_BUILD_VERSION=1
kernel_make() {
	env -u MAKEFLAGS -u MFLAGS -u MAKEOVERRIDES -u MAKELEVEL -u CC -u LD -u V -u BUILD \
		make -C "$tree" O="$obj" ARCH=x86_64 CC="$cc" RUSTC=false BINDGEN=false PAHOLE=false -j"$jobs" "$@"
}

say "configuring"
advice="see $log"
kernel_make -s tinyconfig > "$log" 2>&1 || { tail -n 20 "$log"; exit 1; }
"$tree/scripts/kconfig/merge_config.sh" -O "$obj" -m "$obj/.config" "$fragment" >> "$log" 2>&1
kernel_make -s olddefconfig >> "$log" 2>&1 || { tail -n 20 "$log"; exit 1; }
lost=$(sed -n 's/^# \(CONFIG_[A-Za-z0-9_]*\) is not set$/\1=n/p; /^CONFIG_/p' "$fragment" | while IFS= read -r line; do
	case $line in
	*=n) ! grep -q "^${line%=n}=" "$obj/.config" || echo "$line" ;;
	*) grep -qxF "$line" "$obj/.config" || echo "$line" ;;
	esac
done)
if [[ -n $lost ]]; then
	advice="mend scripts/root-kernel.config: Kconfig does not take these lines: ${lost//$'\n'/, }"
	exit 1
fi

say "compiling with $jobs jobs, log in $log"
advice="see $log; JOBS=1 takes less memory"
# On a terminal the counter stays in its line, in a log it is a line each tenth.
tty=0
[[ ! -t 2 ]] || tty=1
kernel_make bzImage 2>&1 | tee -a "$log" | awk -v of=$files -v tty=$tty -v start=$SECONDS '
	function show(n) {
		percent = int(n * 100 / of)
		if (percent > 99) percent = 99
		if (tty) printf "\r  %d files, about %d %%", n, percent > "/dev/stderr"
		else if (int(percent / 10) > tenth) {
			tenth = int(percent / 10)
			printf "  %d files, about %d %%\n", n, percent > "/dev/stderr"
		}
		fflush("/dev/stderr")
	}
	$1 == "CC" || $1 == "AS" { if (++n % 10 == 0) show(n) }
	END { if (tty) printf "\r%40s\r", "" > "/dev/stderr" }' || { grep -B5 -A5 -m3 -E 'error:|Error [0-9]|\*\*\*' "$log" >&2; exit 1; }

advice="see $log"
kernel_make -s scripts_unifdef >> "$log" 2>&1
mkdir -p "$out/uapi/linux"
(cd "$obj" && sh "$tree/scripts/headers_install.sh" "$tree/include/uapi/linux/mshv.h" "$out/uapi/linux/mshv.h")
cp "$obj/arch/x86/boot/bzImage" "$out/vmlinuz"
cp "$obj/vmlinux" "$obj/System.map" "$out/"
cp "$obj/.config" "$out/config"
cat "$obj/include/config/kernel.release" > "$out/release"
echo "$source ${version:-unknown} of $suite" > "$out/package"
[[ -n ${KEEP:-} ]] || rm -rf "$tree"
echo "$stamp" > "$out/stamp" # last: it says that all of it is there
say "$(cat "$out/release"): $out/vmlinuz, $(($(stat -c %s "$out/vmlinuz") >> 10)) KiB"
