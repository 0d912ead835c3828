#!/bin/sh
# Installs pushd for this user: chooses the program for this system, checks its sum, and puts it in place.
#
#   PUSHD_RELEASES=https://example.org/pushd/0.1.0 sh install.sh
#
# PUSHD_RELEASES  the address that has the programs and SHA256SUMS; a release's own script knows it
# PUSHD_DIR       where the program goes; ~/.local/bin
set -eu

releases=${PUSHD_RELEASES:-@RELEASES@}
dir=${PUSHD_DIR:-${HOME:-}/.local/bin}

fail() {
  echo "install: $*" >&2
  exit 1
}

fetch() { # address file
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --retry 2 -o "$2" "$1"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -O "$2" "$1"
  else
    fail "neither curl nor wget is there; install one of them"
  fi
}

sum_of() { # file
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum <"$1"
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 <"$1"
  elif command -v openssl >/dev/null 2>&1; then
    openssl dgst -sha256 -r <"$1"
  else
    fail "nothing here works out a SHA-256: sha256sum, shasum or openssl"
  fi | cut -d ' ' -f 1
}

case $releases in
  @*) fail "say where the programs are: PUSHD_RELEASES=https://…" ;;
esac
[ "$dir" != /.local/bin ] || fail "there is no HOME; say where the program goes: PUSHD_DIR=…"

system=$(uname -s)
machine=$(uname -m)
case $system-$machine in
  Linux-x86_64 | Linux-amd64) name=pushd.linux ;;
  Linux-aarch64 | Linux-arm64) name=pushd.linux-arm64 ;;
  Darwin-arm64) name=pushd.mac ;;
  Darwin-x86_64) name=pushd.mac-x64 ;;
  *) fail "there is no program for $system on $machine; \`deno task start\` runs it from source" ;;
esac
if [ "$system" = Linux ] && ldd --version 2>&1 | grep -q musl; then
  fail "this system has musl; the program needs glibc"
fi

mkdir -p "$dir"
# Beside its place, so that it is moved there at once, and by nobody else's hands.
work=$(mktemp -d "$dir/.pushd-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

fetch "$releases/SHA256SUMS" "$work/SHA256SUMS" || fail "$releases/SHA256SUMS cannot be had"
want=$(awk -v name="$name" '{ sub(/^\*/, "", $2) } $2 == name { print $1 }' "$work/SHA256SUMS")
[ -n "$want" ] || fail "$releases/SHA256SUMS has no sum for $name"
echo "$releases/$name"
fetch "$releases/$name" "$work/pushd" || fail "$releases/$name cannot be had"
got=$(sum_of "$work/pushd")
[ "$got" = "$want" ] || fail "$name is not what SHA256SUMS says: $got instead of $want; nothing was installed"
chmod 755 "$work/pushd"
version=$("$work/pushd" --version) || fail "$name does not run on this system; nothing was installed"
mv -f "$work/pushd" "$dir/pushd"
echo "$version"
echo "installed: $dir/pushd"
case :${PATH:-}: in
  *:"$dir":*) ;;
  *) echo "$dir is not in PATH" ;;
esac
