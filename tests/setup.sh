# What tests/run and topologies/run share: is this machine ready, and what does it lack? Sourced, not run.

# Debian package : a file that it brings.
LAB_PACKAGES="
frr:/usr/lib/frr/bgpd
bird2:/usr/sbin/bird
containernetworking-plugins:/usr/lib/cni/bridge
tcpdump:/usr/bin/tcpdump
iputils-ping:/usr/bin/ping
gobgpd:/usr/bin/gobgpd
openbgpd:/usr/sbin/bgpctl
exabgp:/usr/sbin/exabgp
tshark:/usr/bin/tshark
bgpdump:/usr/bin/bgpdump
pmacct:/usr/sbin/pmbmpd
iproute2:/usr/bin/ip
nftables:/usr/sbin/nft
faketime:/usr/bin/faketime
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
  # frr, bird2, openbgpd, exabgp and pmacct start their daemons on installation. The lab runs its own inside namespaces: none is wanted on this machine.
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
    for entry in frr:frr bird2:bird openbgpd:openbgpd exabgp:exabgp pmacct:pmacctd pmacct:nfacctd pmacct:sfacctd pmacct:uacctd; do
      case " ${missing[*]} " in *" ${entry%%:*} "*) systemctl disable --quiet "${entry#*:}.service" >&2 || true ;; esac
    done
  fi
}

# etcd, kube-apiserver, kube-controller-manager and kubectl for the stories told in a cluster: what KUBEBUILDER_ASSETS names, or built
# from the Go modules that tests/kubernetes pins, once for all checkouts of this user. Without them these stories are skipped, and say why.
need_kubernetes() {
  find_kubernetes || say "THE STORIES IN A CLUSTER ARE SKIPPED: $WITHOUT_KUBERNETES"
}

# Sets KUBEBUILDER_ASSETS, or WITHOUT_KUBERNETES to the reason why there is none.
find_kubernetes() {
  [ -z "${KUBEBUILDER_ASSETS:-}" ] || return 0
  local sources=tests/kubernetes key folder version
  key=$(cat $sources/go.mod $sources/go.sum $sources/*.go | sha256sum | cut -c1-16)
  folder=${XDG_CACHE_HOME:-$HOME/.cache}/routelet/kubernetes-$key
  if [ ! -x "$folder/kubernetes" ]; then
    if ! command -v go >/dev/null; then
      export WITHOUT_KUBERNETES="there is no Go here to build the API server with (https://go.dev/dl), and KUBEBUILDER_ASSETS is not set"
      return 1
    fi
    mkdir -p "$folder"
    version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' $sources/go.mod)
    say "Building etcd and Kubernetes $version from their Go modules. Once: it takes a quarter of an hour on two processors and 3 GB in Go's caches."
    if ! build_kubernetes $sources "$folder" "$version"; then
      export WITHOUT_KUBERNETES="the API server could not be built from its Go modules (what go said stands in $folder/log)"
      tail -n 5 "$folder/log" >&2
      return 1
    fi
  fi
  export KUBEBUILDER_ASSETS=$folder
}

# Two checkouts may want it at the same time: the second waits for the first.
build_kubernetes() (
  sources=$1 folder=$2 version=$3
  minor=${version#v1.}
  about=k8s.io/component-base/version
  flock 8
  [ ! -x "$folder/kubernetes" ] || exit 0
  CGO_ENABLED=0 go build -C "$sources" -trimpath -o "$folder/kubernetes.new" \
    -ldflags "-s -w -X $about.gitVersion=$version -X $about.gitMajor=1 -X $about.gitMinor=${minor%%.*}" . >"$folder/log" 2>&1 || exit 1
  for name in etcd kube-apiserver kube-controller-manager kubectl; do
    ln -sfn kubernetes "$folder/$name"
  done
  mv "$folder/kubernetes.new" "$folder/kubernetes"
) 8>"$2/lock"
