//! The scene of the stories about sessions: node1 between FRR (AS 65254) and BIRD (AS 65253), which both have pods to tell of.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::container::Container;
use crate::lab::Lab;
use crate::segment::Segment;
use crate::story::{CONVERGENCE, write};
use crate::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

/// FRR's number on the network.
pub const FRR: u8 = 254;
/// BIRD's.
pub const BIRD: u8 = 253;

/// Which addresses a session runs between. It carries both families either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// 10.0.0.N.
    IPv4,
    /// fd00:10::N.
    IPv6,
}

impl Transport {
    /// The address of station `number`.
    #[must_use]
    pub fn address(self, number: u8) -> String {
        match self {
            Self::IPv4 => format!("10.0.0.{number}"),
            Self::IPv6 => format!("fd00:10::{number}"),
        }
    }
}

/// AS 65001, the peers that are named and no others. `also` is one more line of the spec, or several.
#[must_use]
pub fn configuration(also: &str) -> String {
    format!(
        "apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {{name: default}}
spec:
  asNumber: 65001
  topology: External
  podNetwork: {{clusterCIDRs: [10.244.0.0/16, \"fd00:10:244::/48\"]}}
{also}"
    )
}

/// Timers for stories in which sessions fail and are tried again.
pub const IMPATIENT: &str = "  timers: {connectRetrySeconds: 1, holdSeconds: 9, keepaliveSeconds: 3, idleHoldMaxSeconds: 2}\n";

/// A `BGPPeer` for the station `number`, whose AS is 65000 and its number; lines of its spec may follow.
#[must_use]
pub fn peer(name: &str, number: u8, transport: Transport) -> String {
    let address = transport.address(number);
    let asn = 65_000 + u32::from(number);
    format!(
        "---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {{name: {name}}}
spec:
  peerAddress: \"{address}\"
  peerASN: {asn}
"
    )
}

/// A Secret with one key, `password`.
pub fn secret(lab: &Lab, name: &str, password: &str) -> Result<()> {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{password: {password}}}\n"
    );
    write(&lab.manifests().join("secret.yaml"), &text)
}

const FRR_LOG: &str = "/tmp/frr.log";

/// FRR with the pod CIDRs of three nodes that do not exist: 10.244.54.0/24 to 10.244.56.0/24, and in IPv6 fd00:10:244:54::/64.
#[must_use]
pub fn frr(transport: Transport) -> String {
    let node1 = transport.address(1);
    format!(
        "
log file {FRR_LOG} informational
ip route 10.244.54.0/24 blackhole
ip route 10.244.55.0/24 blackhole
ip route 10.244.56.0/24 blackhole
ipv6 route fd00:10:244:54::/64 blackhole
router bgp 65254
 bgp router-id 10.0.0.254
 bgp log-neighbor-changes
 no bgp ebgp-requires-policy
 neighbor {node1} remote-as 65001
 neighbor {node1} timers connect 1
 neighbor {node1} advertisement-interval 0
 address-family ipv4 unicast
  network 10.244.54.0/24
  network 10.244.55.0/24
  network 10.244.56.0/24
  neighbor {node1} activate
 exit-address-family
 address-family ipv6 unicast
  network fd00:10:244:54::/64
  neighbor {node1} activate
 exit-address-family
exit
"
    )
}

/// BIRD with the pod CIDRs 10.244.51.0/24 to 10.244.53.0/24 and fd00:10:244:53::/64; `also` stands in its BGP protocol.
#[must_use]
pub fn bird(transport: Transport, also: &str) -> String {
    let (own, node1) = (transport.address(BIRD), transport.address(1));
    format!(
        "
protocol static {{ ipv4; route 10.244.51.0/24 blackhole; route 10.244.52.0/24 blackhole; route 10.244.53.0/24 blackhole; }}
protocol static {{ ipv6; route fd00:10:244:53::/64 blackhole; }}
protocol bgp node1 {{
	local {own} as 65253;
	neighbor {node1} as 65001;
	connect delay time 1; error wait time 1, 2;
	ipv4 {{ import all; export where source = RTS_STATIC; next hop address 10.0.0.253; }};
	ipv6 {{ import all; export where source = RTS_STATIC; next hop address fd00:10::253; }};
	{also}
}}
"
    )
}

/// node1 with that manifest, between FRR and BIRD as above.
#[must_use]
pub fn between(name: &str, manifest: &str, transport: Transport) -> Segment {
    Segment::named(name)
        .manifest("bgp.yaml", manifest)
        .routelet(1)
        .frr("frr", FRR, &frr(transport))
        .bird("bird", BIRD, &bird(transport, ""))
}

impl Lab {
    /// Puts another configuration of `bird` in place, and has it taken over.
    pub fn reconfigure_bird(&self, configuration: &str) -> Result<()> {
        self.reconfigure("bird", BIRD, configuration)
    }

    /// The same for the BIRD that is station `number` under this name.
    pub fn reconfigure(&self, name: &str, number: u8, configuration: &str) -> Result<()> {
        write(
            &self.files(name).join("bird.conf"),
            &Segment::bird_file(number, configuration),
        )?;
        self.node(name)?.birdc("configure").map(drop)
    }
}

/// Changes a line of FRR's BGP configuration, and lets it try at once.
pub fn frr_now(frr: &Container, transport: Transport, line: &str) -> Result<()> {
    frr.vtysh_configure(&["router bgp 65254", line])?;
    clear_frr(frr, transport)
}

/// FRR begins its session with node1 anew.
pub fn clear_frr(frr: &Container, transport: Transport) -> Result<()> {
    let command = format!("clear bgp {}", transport.address(1));
    frr.run(&["vtysh", "-c", &command]).map(drop)
}

/// Waits until FRR was sent a NOTIFICATION with all of `words`. Its log keeps what the next attempt overwrites in the session's state.
pub fn frr_was_told(frr: &Container, words: &[&str]) -> Result<()> {
    eventually(SOON, &format!("FRR was told {words:?}"), || {
        let log = std::fs::read_to_string(frr.path(FRR_LOG))?;
        let told = |line: &str| {
            // A hard reset (RFC 8538) is named between the two words.
            line.contains("NOTIFICATION")
                && line.contains(": received")
                && words.iter().all(|word| line.contains(word))
        };
        ensure!(log.lines().any(told), "{log}");
        Ok(())
    })
}

/// Waits until BIRD was sent a NOTIFICATION with those words, as its log keeps them.
pub fn bird_was_told(lab: &Lab, words: &str) -> Result<()> {
    eventually(SOON, &format!("BIRD was told {words}"), || {
        let log = lab.said("bird");
        ensure!(log.contains(&format!("Received: {words}")), "{log}");
        Ok(())
    })
}

/// A switch (FRR, AS 65001) for the nodes of a cluster: a peer of whoever dials. Its log is where [`frr_was_told`] looks.
pub const SWITCH: &str = "
log file /tmp/frr.log informational
router bgp 65001
 bgp router-id 10.0.0.254
 bgp log-neighbor-changes
 no bgp ebgp-requires-policy
 neighbor NODES peer-group
 neighbor NODES remote-as 64512
 neighbor NODES timers 3 9
 neighbor NODES advertisement-interval 0
 bgp listen range 10.0.0.0/16 peer-group NODES
 address-family ipv6 unicast
  neighbor NODES activate
 exit-address-family
exit
";

/// The `BGPPeer` of that switch, for the nodes that bear `rack=r1`.
pub const SWITCH_OF_RACK: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: switch}
spec:
  nodeSelector: {matchLabels: {rack: r1}}
  peerAddress: 10.0.0.254
  peerASN: 65001
";

/// Who tells FRR of `prefix`: the addresses of its peers.
pub fn told_by(frr: &Container, prefix: &str) -> Result<BTreeSet<String>> {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let table = frr.vtysh(&format!("show bgp {family} unicast json"))?;
    let routes = table.get("routes").and_then(|routes| routes.get(prefix));
    let paths = routes.and_then(Value::as_array).into_iter().flatten();
    let peer = |path: &Value| Some(path.get("peerId")?.as_str()?.to_owned());
    Ok(paths.filter_map(peer).collect())
}

/// Waits until FRR leads packets for `prefix` to `nodeN` for each of these numbers, and to nobody else.
pub fn is_led_to(frr: &Container, prefix: &str, nodes: &[u8]) -> Result<()> {
    let expected: BTreeSet<String> = nodes.iter().map(|node| format!("10.0.0.{node}")).collect();
    let what = format!("the switch leads {prefix} to {expected:?}");
    eventually(CONVERGENCE, &what, || {
        let shown = frr.vtysh(&format!("show bgp ipv4 unicast {prefix} json"))?;
        let paths = shown.get("paths").and_then(Value::as_array);
        let is = |path: &Value, pointer| path.pointer(pointer) == Some(&true.into());
        let used = paths
            .into_iter()
            .flatten()
            .filter(|path| is(path, "/bestpath/overall") || is(path, "/multipath"))
            .filter_map(|path| Some(path.pointer("/peer/peerId")?.as_str()?.to_owned()));
        let used: BTreeSet<String> = used.collect();
        ensure!(used == expected, "it is led to {used:?}: {shown}");
        Ok(())
    })
}

/// Waits until FRR is told of `prefix` by `nodeN` for each of these numbers, and by nobody else.
pub fn is_told_by(frr: &Container, prefix: &str, nodes: &[u8]) -> Result<()> {
    let expected: BTreeSet<String> = nodes.iter().map(|node| format!("10.0.0.{node}")).collect();
    let what = format!("the switch is told of {prefix} by {expected:?}");
    eventually(CONVERGENCE, &what, || {
        let told = told_by(frr, prefix)?;
        ensure!(told == expected, "it is told by {told:?}");
        Ok(())
    })
}
