#!/bin/bash
# SPDX-License-Identifier: MIT
# Puts a Bochs 3.0 into a folder of its own, beside the system's 2.7 if there is one: it boots three times as fast, and
# it has posted interrupts. Bochs 3.1 is refused: its 64-bit IDIV is wrong. Quick when it is there already.
# How: scripts/fetch-tool.sh.
#
#     fetch-bochs.sh DIR [SUITE]     SUITE: trixie (default); makes DIR/bin/bochs
set -euo pipefail
. "$(dirname "$0")/fetch-tool.sh"

(($# >= 1)) || { echo "usage: fetch-bochs.sh DIR [SUITE]" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
suite=${2:-trixie}
[[ ! -x $dir/bin/bochs || $(cat "$dir/suite" 2> /dev/null) != "$suite" ]] || exit 0

# bochs-term is the smallest of the displays that the package insists on; the headless one is in bochs itself.
fetch_tool "$dir" "$suite" bochs bochs-term bochsbios vgabios
new=$dir/bin/bochs.new
cat > "$new" << END
#!/bin/sh
R=$dir/root
export LTDL_LIBRARY_PATH="\$R/usr/lib/x86_64-linux-gnu/bochs/plugins" BXSHARE="\$R/usr/share/bochs"
exec "\$R/usr/lib64/ld-linux-x86-64.so.2" --library-path "\$R/usr/lib/x86_64-linux-gnu" "\$R/usr/bin/bochs-bin" "\$@"
END
chmod +x "$new"
version=$("$new" --help 2>&1 | sed -n 's/.*Bochs x86 Emulator \([0-9.]*\).*/\1/p' | head -n 1) || true
[[ $version == 3.0* ]] || { echo "fetch-bochs.sh: $suite has Bochs ${version:-?}, 3.0 is wanted" >&2; exit 1; }
mv "$new" "$dir/bin/bochs"
echo "Bochs $version"
echo "$suite" > "$dir/suite"
