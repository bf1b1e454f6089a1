#!/bin/bash
# SPDX-License-Identifier: MIT
# Makes sure that the packages of scripts/packages.txt are there: installs what is missing when it runs
# as root, else prints the command that does it and fails. Arguments: sections (default: all of them).
set -euo pipefail

list=$(dirname "$0")/packages.txt
sections=" ${*:-build test} "
wanted=()
section=
while read -r line; do
	line=${line%%#*}
	line=${line//[[:space:]]/}
	case $line in
	'') ;;
	'['*']') section=${line:1:-1} ;;
	*) [[ $sections != *" $section "* ]] || wanted+=("$line") ;;
	esac
done < "$list"

if ! command -v dpkg-query > /dev/null; then
	echo "setup: not a Debian system; make sure that these are installed: ${wanted[*]}" >&2
	exit 0
fi
# dpkg-query fails for packages it never heard of, and still lists the rest.
have=" $(dpkg-query -W -f='${db:Status-Status}:${Package} ' "${wanted[@]}" 2> /dev/null || true) "
missing=()
for package in "${wanted[@]}"; do
	[[ $have == *" installed:$package "* ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

if [[ $(id -u) != 0 ]]; then
	echo "setup: packages are missing; install them with:" >&2
	echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install -y -q --no-install-recommends "${missing[@]}")
"${install[@]}" || { apt-get update -q && "${install[@]}"; }
