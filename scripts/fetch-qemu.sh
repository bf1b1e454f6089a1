#!/bin/bash
# SPDX-License-Identifier: MIT
# Puts a newer QEMU into a folder of its own, beside the system's: its bugs in emulating SVM are other bugs, and it has
# an x2APIC. Quick when it is there already. How: scripts/fetch-tool.sh.
#
#     fetch-qemu.sh DIR [SUITE]      SUITE: trixie-backports (default) or trixie; makes DIR/bin/qemu-system-x86_64
set -euo pipefail
. "$(dirname "$0")/fetch-tool.sh"

(($# >= 1)) || { echo "usage: fetch-qemu.sh DIR [SUITE]" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
suite=${2:-trixie-backports}
[[ ! -x $dir/bin/qemu-system-x86_64 || $(cat "$dir/suite" 2> /dev/null) != "$suite" ]] || exit 0

fetch_tool "$dir" "$suite" qemu-system-x86
cat > "$dir/bin/qemu-system-x86_64" << END
#!/bin/sh
R=$dir/root
exec "\$R/usr/lib64/ld-linux-x86-64.so.2" --library-path "\$R/usr/lib/x86_64-linux-gnu" \\
	"\$R/usr/bin/qemu-system-x86_64" -L "\$R/usr/share/qemu" -L "\$R/usr/share/seabios" -L "\$R/usr/lib/ipxe/qemu" "\$@"
END
chmod +x "$dir/bin/qemu-system-x86_64"
"$dir/bin/qemu-system-x86_64" --version | head -n 1
echo "$suite" > "$dir/suite"
