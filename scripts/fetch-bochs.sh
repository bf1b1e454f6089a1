#!/bin/bash
# SPDX-License-Identifier: MIT
# Builds Bochs 3.0 from Debian's source with scripts/bochs-3.0.patch (which says what it mends) in a folder of its own:
# quick when it is there already, else one or two minutes. The system's Bochs 2.7 takes three times as long for a boot, and
# 3.1 divides wrongly.
#
#     fetch-bochs.sh DIR [SUITE]     SUITE: trixie (default); makes DIR/bin/bochs
set -euo pipefail
. "$(dirname "$0")/fetch-tool.sh"

(($# >= 1)) || { echo "usage: fetch-bochs.sh DIR [SUITE]" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
suite=${2:-trixie}
patch=$(cd "$(dirname "$0")" && pwd)/bochs-3.0.patch
stamp="$suite $(cat "$0" "$patch" | cksum)"
[[ ! -x $dir/bin/bochs || $(cat "$dir/stamp" 2> /dev/null) != "$stamp" ]] || exit 0

fetch_tool "$dir" "$suite" source:bochs bochsbios vgabios
ln -s ../vgabios/vgabios.bin "$dir/root/usr/share/bochs/VGABIOS-lgpl-latest"
cd "$dir/source"
patch -s -p1 < "$patch"
echo "fetch-bochs.sh: building, log in $dir/build.log" >&2
{
	./configure --enable-cpu-level=6 --enable-x86-64 --enable-smp --enable-vmx=2 --enable-svm --enable-avx \
		--enable-evex --enable-all-optimizations --enable-pci --disable-plugins --disable-docbook \
		--with-rfb --without-x --without-term CFLAGS='-O2 -w' CXXFLAGS='-O2 -w' &&
		env -u MAKEFLAGS -u MFLAGS -u MAKEOVERRIDES make -j"$(nproc)" # our own make's flags are not for it
} > "$dir/build.log" 2>&1 || { tail -n 20 "$dir/build.log"; echo "fetch-bochs.sh: see $dir/build.log" >&2; exit 1; }
new=$dir/bin/bochs.new
cp bochs "$dir/bin/bochs-bin"
cat > "$new" << END
#!/bin/sh
BXSHARE=$dir/root/usr/share/bochs exec $dir/bin/bochs-bin "\$@"
END
chmod +x "$new"
version=$("$new" --help 2>&1 | sed -n 's/.*Bochs x86 Emulator \([0-9.]*\).*/\1/p' | head -n 1) || true
[[ $version == 3.0* ]] || { echo "fetch-bochs.sh: $suite has Bochs ${version:-?}, 3.0 is wanted" >&2; exit 1; }
rm -rf "$dir/source"
mv "$new" "$dir/bin/bochs"
echo "Bochs $version"
echo "$stamp" > "$dir/stamp"
