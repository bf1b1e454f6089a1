#!/bin/bash
# SPDX-License-Identifier: MIT
# Puts a newer QEMU into a folder of its own, beside the system's: its bugs in emulating SVM are other bugs, and it has
# an x2APIC. The packages come from Debian through apt (signatures checked) and are unpacked, not installed; they run
# with the C library they were built for. Quick when it is there already. Needs no root.
#
#     fetch-qemu.sh DIR [SUITE]      SUITE: trixie-backports (default) or trixie; makes DIR/bin/qemu-system-x86_64
#
# Environment: MIRROR (default: the mirror that the system uses)
set -euo pipefail

(($# >= 1)) || { echo "usage: fetch-qemu.sh DIR [SUITE]" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
suite=${2:-trixie-backports}
[[ ! -x $dir/bin/qemu-system-x86_64 || $(cat "$dir/suite" 2> /dev/null) != "$suite" ]] || exit 0

mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2> /dev/null |
	grep -v security | head -n 1)}
[[ -n $mirror ]] || { echo "fetch-qemu.sh: apt names no mirror: set MIRROR=" >&2; exit 1; }
key=/usr/share/keyrings/debian-archive-keyring.gpg
apt=$dir/apt
rm -rf "$apt" "$dir/root" "$dir/bin"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/etc/parts" "$dir/root" "$dir/bin"
: > "$apt/status"
base=${suite%-backports}
for name in "$base" $([[ $suite == "$base" ]] || echo "$suite"); do
	echo "deb [signed-by=$key] $mirror $name main"
done > "$apt/etc/sources.list"
options=(-o "Dir::Etc=$apt/etc" -o "Dir::Etc::sourcelist=$apt/etc/sources.list" -o "Dir::Etc::sourceparts=$apt/etc/parts"
	-o "Dir::Etc::preferencesparts=$apt/etc/parts" -o "Dir::State=$apt" -o "Dir::State::status=$apt/status"
	-o "Dir::Cache=$apt/cache" -o Debug::NoLocking=1 -o APT::Install-Recommends=0 -o APT::Architecture=amd64
	-o "APT::Sandbox::User=$(id -un)")
echo "fetch-qemu.sh: QEMU of $suite, into $dir" >&2
apt-get "${options[@]}" -qq update
apt-get "${options[@]}" -qq -y --download-only -t "$suite" install qemu-system-x86
for deb in "$apt"/cache/archives/*.deb; do
	dpkg -x "$deb" "$dir/root"
done
rm -rf "$apt"

cat > "$dir/bin/qemu-system-x86_64" << END
#!/bin/sh
R=$dir/root
exec "\$R/usr/lib64/ld-linux-x86-64.so.2" --library-path "\$R/usr/lib/x86_64-linux-gnu" \\
	"\$R/usr/bin/qemu-system-x86_64" -L "\$R/usr/share/qemu" -L "\$R/usr/share/seabios" -L "\$R/usr/lib/ipxe/qemu" "\$@"
END
chmod +x "$dir/bin/qemu-system-x86_64"
"$dir/bin/qemu-system-x86_64" --version | head -n 1
echo "$suite" > "$dir/suite"
