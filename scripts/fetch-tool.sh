#!/bin/bash
# SPDX-License-Identifier: MIT
# What fetch-qemu.sh and fetch-bochs.sh have in common (they source it): programs of another Debian release in a folder
# of their own, beside the system's. They come through apt (signatures checked) and are unpacked, not installed; programs
# run with the C library they were built for, found by its own loader. Needs no root.
#
# Environment: MIRROR (default: the mirror that the system uses)

# fetch_tool DIR SUITE PACKAGE...: what the packages need, unpacked to DIR/root; an empty DIR/bin beside it. A package
# `source:NAME` is the source as its authors released it, unpacked to DIR/source; `only:NAME` comes without what it needs,
# `newest:REGEX` likewise, the highest version of the names that match.
fetch_tool() {
	local dir=$1 suite=$2 base=${2%-backports} apt=$1/apt key=/usr/share/keyrings/debian-archive-keyring.gpg
	local mirror name uri file hash options packages=() sources=() alone=() patterns=()
	shift 2
	for name; do
		case $name in
		source:*) sources+=("${name#source:}") ;;
		only:*) alone+=("${name#only:}") ;;
		newest:*) patterns+=("${name#newest:}") ;;
		*) packages+=("$name") ;;
		esac
	done
	mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2> /dev/null |
		grep -v security | head -n 1)}
	[[ -n $mirror ]] || { echo "${0##*/}: apt names no mirror: set MIRROR=" >&2; return 1; }
	rm -rf "$apt" "$dir/root" "$dir/bin" "$dir/source"
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/etc/parts" "$dir/root" "$dir/bin"
	: > "$apt/status"
	for name in "$base" $([[ $suite == "$base" ]] || echo "$suite"); do
		echo "deb [signed-by=$key] $mirror $name main"
		((${#sources[@]} == 0)) || echo "deb-src [signed-by=$key] $mirror $name main"
	done > "$apt/etc/sources.list"
	options=(-o "Dir::Etc=$apt/etc" -o "Dir::Etc::sourcelist=$apt/etc/sources.list"
		-o "Dir::Etc::sourceparts=$apt/etc/parts" -o "Dir::Etc::preferencesparts=$apt/etc/parts"
		-o "Dir::State=$apt" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
		-o Debug::NoLocking=1 -o APT::Install-Recommends=0 -o APT::Architecture=amd64
		-o "APT::Sandbox::User=$(id -un)")
	echo "${0##*/}: $* of $suite, into $dir" >&2
	apt-get "${options[@]}" -qq update
	for name in "${patterns[@]}"; do
		alone+=("$(apt-cache "${options[@]}" pkgnames | grep -xE "$name" | sort -V | tail -n 1)")
	done
	((${#packages[@]} == 0)) || apt-get "${options[@]}" -qq -y --download-only -t "$suite" install "${packages[@]}"
	((${#alone[@]} == 0)) || (cd "$apt/cache/archives" && apt-get "${options[@]}" -qq -t "$suite" download "${alone[@]}")
	for file in "$apt"/cache/archives/*.deb; do
		dpkg -x "$file" "$dir/root"
	done
	for name in "${sources[@]}"; do
		# Of a source package only the authors' archive is wanted; its checksum comes from the signed index.
		read -r uri file _ hash < <(apt-get "${options[@]}" -qq --print-uris --download-only -t "$suite" source "$name" |
			grep '\.orig\.tar\.[a-z0-9]* ')
		uri=${uri#\'} uri=${uri%\'}
		/usr/lib/apt/apt-helper "${options[@]}" -qq download-file "$uri" "$apt/$file" "$hash"
		mkdir -p "$dir/source"
		tar -xf "$apt/$file" -C "$dir/source" --strip-components=1
	done
	rm -rf "$apt"
}
