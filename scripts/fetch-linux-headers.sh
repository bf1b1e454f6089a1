#!/bin/bash
# SPDX-License-Identifier: MIT
# Gets Linux's own description of the hypervisor's interface, to compare include/hv with (tests/abi). Only tests read it.
#
#     fetch-linux-headers.sh OUTDIR [ARCHIVE]
#
# makes  OUTDIR/hyperv/*.h                  include/hyperv of Debian's linux-headers-*-common
#        OUTDIR/mshv_debugfs_counters.c     slots of counters, when ARCHIVE (linux-source-*.tar.xz) is there: the package
#                                           of headers lacks them
#        OUTDIR/package                     which package it was
# Signatures are checked by apt. Quick when OUTDIR has it already; remove OUTDIR for newer headers.
# Environment: SUITE=trixie-backports  RELEASE=7.2  MIRROR (default: the system's)
set -euo pipefail
export LC_ALL=C
. "$(dirname "$0")/fetch-tool.sh"

suite=${SUITE:-trixie-backports} release=${RELEASE:-7.2}
(($# == 1 || $# == 2)) || { echo "usage: fetch-linux-headers.sh OUTDIR [ARCHIVE]" >&2; exit 1; }
archive=${2:-}
mkdir -p "$1"
out=$(cd "$1" && pwd)
exec 9> "$out/.lock"
flock 9 # two callers at once: the second finds the work done

if [[ ! -s $out/package || $(cut -d' ' -f1 "$out/package") != "$release" ]]; then
	fetch_tool "$out/fetched" "$suite" "newest:linux-headers-${release//./\\.}\\.[0-9+a-z]*-common"
	found=$(echo "$out"/fetched/root/usr/src/linux-headers-*/include/hyperv)
	[[ -s $found/hvhdk.h ]] || { echo "fetch-linux-headers.sh: no include/hyperv in the package" >&2; exit 1; }
	rm -rf "$out/hyperv"
	mv "$found" "$out/hyperv"
	name=${found%/include/hyperv}
	rm -rf "$out/fetched"
	echo "$release ${name##*/}" > "$out/package" # last: it says that all of it is there
fi
if [[ -n $archive && -s $archive && ! -s $out/mshv_debugfs_counters.c ]]; then
	tar -xJf "$archive" -C "$out" --strip-components=3 --wildcards --occurrence=1 '*/drivers/hv/mshv_debugfs_counters.c'
fi
