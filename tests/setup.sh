# What tests/run and topologies/run share: is this machine ready, and what does it lack? Sourced, not run.

# Debian package : a file that it brings.
LAB_PACKAGES="
frr:/usr/lib/frr/bgpd
bird2:/usr/sbin/bird
containernetworking-plugins:/usr/lib/cni/bridge
tcpdump:/usr/bin/tcpdump
iputils-ping:/usr/bin/ping
gobgpd:/usr/bin/gobgpd
iproute2:/usr/bin/ip
nftables:/usr/sbin/nft
util-linux:/usr/bin/nsenter
procps:/usr/sbin/sysctl
gcc:/usr/bin/cc
libc6-dev:/usr/include/stdio.h
hostname:/usr/bin/hostname
"

say() { printf '%s\n' "$*" >&2; }

need_root() {
  [ "$(id -u)" -eq 0 ] && return
  say "This makes network namespaces and kernel routes inside them: run it as root (sudo $0)."
  exit 2
}

need_cargo() {
  command -v cargo >/dev/null && return
  # sudo drops the caller's PATH; rustup puts cargo into the home of whoever installed it.
  local home
  for home in "$HOME" "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)"; do
    if [ -x "$home/.cargo/bin/cargo" ]; then
      export PATH="$home/.cargo/bin:$PATH" CARGO_HOME="${CARGO_HOME:-$home/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
      return
    fi
  done
  say "Rust's cargo is missing. Install it with"
  say "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
  say "and start this again. (Debian 12's own rustc is too old: rust-version in Cargo.toml says what is needed.)"
  exit 2
}

need_packages() {
  local entry missing=()
  for entry in $LAB_PACKAGES; do
    [ -e "${entry#*:}" ] || missing+=("${entry%%:*}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    say "Missing: ${missing[*]}. Only Debian's apt-get is known here: install what corresponds to them and start this again."
    exit 2
  fi
  say "Installing with apt-get: ${missing[*]}"
  # frr and bird2 start their daemons on installation. The lab runs its own inside namespaces: none is wanted on this machine.
  local policy=/usr/sbin/policy-rc.d kept=yes
  if [ ! -e "$policy" ]; then
    say "(their services are not started: $policy forbids it during the installation)"
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    kept=no
  fi
  local status=0
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2 </dev/null || status=$?
  [ "$kept" = yes ] || rm -f "$policy"
  [ "$status" -eq 0 ] || { say "apt-get failed ($status)"; exit 2; }
  if [ -d /run/systemd/system ]; then
    # Not started now, and not at the next boot either: only what this very run has brought.
    for entry in frr:frr bird2:bird; do
      case " ${missing[*]} " in *" ${entry%%:*} "*) systemctl disable --quiet "${entry#*:}.service" >&2 || true ;; esac
    done
  fi
}
