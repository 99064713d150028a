#!/bin/bash
# Two pods on this node, made by the CNI plugins from the conflist that routelet wrote. Runs inside a node of a containerlab lab.
set -euo pipefail
shopt -s nullglob
lists=(/etc/cni/net.d/*.conflist)
[ ${#lists[@]} -gt 0 ] || { echo "routelet has written no conflist yet"; exit 1; }
list=${lists[0]}
for pod in pod1 pod2; do
  ip netns add "$pod"
  ip -n "$pod" link set lo up
  result=null
  for ((i = 0; i < $(jq '.plugins | length' "$list"); i++)); do
    # A plugin's configuration is its part of the list, with the list's name and version, and what came before.
    config=$(jq -c --argjson i "$i" --argjson previous "$result" '. as $list | .plugins[$i] | del(.capabilities)
      | .name = $list.name | .cniVersion = $list.cniVersion | if $previous then .prevResult = $previous else . end' "$list")
    plugin=$(jq -r .type <<<"$config")
    interface=eth0
    [ "$plugin" != loopback ] || interface=lo
    answer=$(CNI_COMMAND=ADD CNI_CONTAINERID=$pod CNI_NETNS=/run/netns/$pod CNI_IFNAME=$interface CNI_PATH=/usr/lib/cni "/usr/lib/cni/$plugin" <<<"$config") ||
      { echo "$plugin: $answer"; exit 1; }
    [ -z "$answer" ] || result=$answer
  done
  echo "$pod: $(jq -r '[.ips[].address] | join(", ")' <<<"$result")"
done
