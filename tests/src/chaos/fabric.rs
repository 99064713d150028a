//! The fabric: six nodes with two uplinks each, to a ToR that is FRR and to one that is BIRD.
//!
//! As `topologies/dual-homed.clab.yml`, but for three things. Nodes 1 to 3 speak BFD with both, nodes 4 to 6 have the hold time alone. Both
//! ToRs announce 300 prefixes more, so that next-hop objects are in use. And no node has a default route: only what routelet installs
//! leads from pod to pod.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::story::write;

/// How many nodes.
pub const NODES: u8 = 6;
/// How many of them speak BFD, the first ones.
pub const WITH_BFD: u8 = 3;
/// Milliseconds between BFD packets, of which two in a row may be missed.
pub const BFD_EVERY: u64 = 300;
/// Seconds without a message after which a session ends.
pub const HOLD: u64 = 9;
/// How many prefixes each ToR announces besides the pods'.
pub const MORE: u16 = 300;

/// A top-of-rack switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tor {
    /// `tor1`.
    Frr,
    /// `tor2`.
    Bird,
}

impl Tor {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Frr, Self::Bird];

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Frr => 1,
            Self::Bird => 2,
        }
    }

    /// The protocol of its routes in the kernel.
    #[must_use]
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Frr => "bgp",
            Self::Bird => "bird",
        }
    }

    /// Its name in the lab.
    #[must_use]
    pub fn name(self) -> String {
        format!("tor{}", self.number())
    }

    /// The interface of a node towards it.
    #[must_use]
    pub fn uplink(self) -> String {
        format!("eth{}", self.number())
    }

    /// Its address on the link to a node.
    #[must_use]
    pub fn address(self, node: u8, ipv6: bool) -> String {
        let tor = self.number();
        if ipv6 {
            format!("fd00:{tor}:{node}::")
        } else {
            format!("10.{tor}.{node}.0")
        }
    }
}

/// The node of that number.
#[must_use]
pub fn node(number: u8) -> String {
    format!("node{number}")
}

/// The pod CIDR of a node.
#[must_use]
pub fn pods(node: u8, ipv6: bool) -> String {
    if ipv6 {
        format!("fd00:10:244:{node}::/64")
    } else {
        format!("10.244.{node}.0/24")
    }
}

/// One of the prefixes that the ToRs announce besides.
#[must_use]
pub fn more(number: u16) -> String {
    format!("10.99.{}.{}/25", number / 2, number % 2 * 128)
}

/// The `BGPAdvertisement` by which a node announces a prefix more.
#[must_use]
pub fn advertisement(node: u8) -> String {
    format!(
        "apiVersion: routelet.dev/v1alpha1
kind: BGPAdvertisement
metadata: {{name: more{node}}}
spec:
  nodeSelector: {{matchLabels: {{number: \"{node}\"}}}}
  prefixes: [10.98.{node}.0/24]
"
    )
}

/// The name of the `BGPPeer` for one session.
#[must_use]
pub fn peer_name(node: u8, tor: Tor, ipv6: bool) -> String {
    let family = if ipv6 { 6 } else { 4 };
    format!("node{node}-{}-v{family}", tor.name())
}

/// Whatever comes is taken.
pub const IMPORT: &str = "import: {rules: [{action: Accept}]}";

/// The `BGPPeer` of one session; lines of its spec may follow.
#[must_use]
pub fn peer(node: u8, tor: Tor, ipv6: bool, also: &str) -> String {
    let (name, address) = (peer_name(node, tor, ipv6), tor.address(node, ipv6));
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    let mut text = format!(
        "apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {{name: {name}}}
spec:
  node: node{node}
  peerAddress: \"{address}\"
  peerASN: 6510{}
  families: [{family}]
  {IMPORT}
",
        tor.number()
    );
    if node <= WITH_BFD {
        let _ = writeln!(
            text,
            "  bfd: {{minRxMs: {BFD_EVERY}, minTxMs: {BFD_EVERY}, multiplier: 3}}"
        );
    }
    text + also
}

/// The `BGPConfiguration` with that hold time.
#[must_use]
pub fn configuration(hold: u64) -> String {
    format!(
        "apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {{name: default}}
spec:
  topology: External
  listenMode: All
  timers: {{connectRetrySeconds: 1, holdSeconds: {hold}, keepaliveSeconds: 3, idleHoldMaxSeconds: 2}}
  podNetwork: {{clusterCIDRs: [10.244.0.0/16, \"fd00:10:244::/48\"]}}
  kernel: {{allowedPrefixes: [{{cidr: 10.98.0.0/15, maxLength: 32}}]}}
"
    )
}

fn node_manifest(number: u8) -> String {
    format!(
        "apiVersion: v1
kind: Node
metadata: {{name: node{number}, labels: {{number: \"{number}\"}}}}
spec: {{podCIDRs: [{}, \"{}\"]}}
status: {{addresses: [{{type: InternalIP, address: 10.0.0.{number}}}, {{type: InternalIP, address: \"fd00:10::{number}\"}}]}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPNode
metadata: {{name: node{number}}}
spec: {{asNumber: 6500{number}}}
",
        pods(number, false),
        pods(number, true)
    )
}

/// The fabric, running.
#[derive(Debug, Clone, Copy)]
pub struct Fabric<'lab> {
    /// The lab it stands in.
    pub lab: &'lab Lab,
}

impl<'lab> Fabric<'lab> {
    /// Brings up the lab for it.
    pub fn lab() -> Result<Lab> {
        Lab::written("chaos", draw)
    }

    /// The fabric in its lab.
    pub fn of(lab: &'lab Lab) -> Result<Self> {
        // What watches over FRR would start a killed daemon at a time of its own.
        let watch = "kill -9 $(cat /run/frr/watchfrr.pid)";
        lab.node(&Tor::Frr.name())?.sh(watch)?;
        Ok(Self { lab })
    }

    /// The file of a manifest.
    #[must_use]
    pub fn manifest(&self, name: &str) -> PathBuf {
        self.lab.manifests().join(format!("{name}.yaml"))
    }

    /// Writes a manifest.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        write(&self.manifest(name), text)
    }

    /// Takes a manifest away.
    pub fn remove(&self, name: &str) -> Result<()> {
        let file = self.manifest(name);
        std::fs::remove_file(&file).with_context(|| file.display().to_string())
    }
}

/// The library through which a daemon sees a wall clock that the story can set. The machine's own is not the story's to change, and a
/// time namespace has none.
fn faketime() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib")?;
    let found = folders
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|path| path.exists());
    found.context("no libfaketimeMT.so.1 under /usr/lib: apt-get install faketime")
}

/// Where a node's offset from the true time stands.
pub const CLOCK: &str = "/run/clock";

fn draw(files: &Path) -> Result<()> {
    let own = files.join("chaos");
    for folder in ["manifests", "tor1", "tor2"] {
        std::fs::create_dir_all(own.join(folder))?;
    }
    let put = |file: &str, text: &str| {
        std::fs::write(own.join(file), text).with_context(|| file.to_owned())
    };
    put("manifests/configuration.yaml", &configuration(HOLD))?;
    for number in 1..=NODES {
        put(
            &format!("manifests/node{number}.yaml"),
            &node_manifest(number),
        )?;
        for (tor, ipv6) in sessions() {
            let file = format!("manifests/{}.yaml", peer_name(number, tor, ipv6));
            put(&file, &peer(number, tor, ipv6, ""))?;
        }
    }
    put("tor1/daemons", crate::segment::DAEMONS)?;
    put("tor1/vtysh.conf", "service integrated-vtysh-config\n")?;
    put("tor1/frr.conf", &frr()?)?;
    put("tor2/bird.conf", &bird()?)?;
    std::fs::write(files.join("chaos.clab.yml"), clab(&faketime()?)?)?;
    Ok(())
}

/// The sessions of a node.
pub fn sessions() -> impl Iterator<Item = (Tor, bool)> {
    Tor::ALL
        .into_iter()
        .flat_map(|tor| [(tor, false), (tor, true)])
}

fn clab(faketime: &Path) -> Result<String> {
    let mut text = format!(
        "name: chaos\n{}",
        crate::segment::HEAD.replace(
            "  nodes:\n",
            "        net.ipv4.fib_multipath_hash_policy: 1\n        net.ipv6.fib_multipath_hash_policy: 1\n  nodes:\n"
        )
    );
    text += "    tor1:\n      kind: linux\n      image: quay.io/frrouting/frr\n      binds: [\"chaos/tor1/daemons:/etc/frr/daemons\", \"chaos/tor1/frr.conf:/etc/frr/frr.conf\", \"chaos/tor1/vtysh.conf:/etc/frr/vtysh.conf\"]\n      exec:\n";
    text += &tor_addresses(Tor::Frr)?;
    text += "    tor2:\n      kind: linux\n      image: ghcr.io/srl-labs/bird\n      binds: [\"chaos/tor2/bird.conf:/etc/bird.conf\"]\n      exec:\n";
    text += &tor_addresses(Tor::Bird)?;
    let environment = format!(
        "LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={CLOCK} FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1",
        faketime.display()
    );
    for number in 1..=NODES {
        // The library keeps what it shares between processes in /dev/shm, and leaves it there when killed.
        write!(
            text,
            "    node{number}:
      kind: linux
      image: ghcr.io/routelet/routelet
      binds: [\"chaos/manifests:/etc/routelet\"]
      entrypoint: >-
        sh -c '[ -e {CLOCK} ] || {{ mount -t tmpfs shm /dev/shm; echo +0 >{CLOCK}; }}; exec env {environment} routelet \"$@\"' sh
      cmd: run --node node{number} --config /etc/routelet
      exec:
        - ip address add fd00:10::{number}/128 dev lo
        - ip address add 10.0.0.{number}/32 dev lo
"
        )?;
        for tor in [1, 2] {
            write!(
                text,
                "        - ip address add fd00:{tor}:{number}::1/127 dev eth{tor}\n        - ip address add 10.{tor}.{number}.1/31 dev eth{tor}\n"
            )?;
        }
    }
    text += "  links:\n";
    for number in 1..=NODES {
        for tor in [1, 2] {
            writeln!(
                text,
                "    - endpoints: [\"tor{tor}:eth{number}\", \"node{number}:eth{tor}\"]"
            )?;
        }
    }
    text += "    - endpoints: [\"tor1:eth9\", \"tor2:eth9\"]\n";
    Ok(text)
}

fn tor_addresses(tor: Tor) -> Result<String> {
    let (mut text, tor) = (String::new(), tor.number());
    for node in 1..=NODES {
        write!(
            text,
            "        - ip address add fd00:{tor}:{node}::/127 dev eth{node}\n        - ip address add 10.{tor}.{node}.0/31 dev eth{node}\n"
        )?;
    }
    write!(
        text,
        "        - ip address add fd00:255::{}/127 dev eth9\n        - ip address add 10.255.0.{}/31 dev eth9\n",
        tor - 1,
        tor - 1
    )?;
    Ok(text)
}

fn frr() -> Result<String> {
    let mut text = "frr defaults traditional
hostname tor1
log file /tmp/frr.log informational
service integrated-vtysh-config
no zebra nexthop kernel enable
bfd
 profile fast
"
    .to_owned();
    write!(
        text,
        "  detect-multiplier 3\n  receive-interval {BFD_EVERY}\n  transmit-interval {BFD_EVERY}\n exit\nexit\n"
    )?;
    for number in 0..MORE {
        writeln!(text, "ip route {} blackhole", more(number))?;
    }
    text += "ip prefix-list PODS seq 5 permit 10.244.0.0/16 le 32
ip prefix-list PODS seq 10 permit 10.98.0.0/16 le 32
ipv6 prefix-list PODS seq 5 permit fd00:10:244::/48 le 128
ip prefix-list TOLD seq 5 permit 10.244.0.0/16 le 32
ip prefix-list TOLD seq 10 permit 10.98.0.0/15 le 32
router bgp 65101
 bgp router-id 10.255.0.101
 bgp log-neighbor-changes
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp graceful-restart notification
";
    writeln!(text, " timers bgp 3 {HOLD}")?;
    for group in ["NODES4", "NODES6", "TOR4", "TOR6"] {
        write!(
            text,
            " neighbor {group} peer-group\n neighbor {group} timers connect 1\n neighbor {group} advertisement-interval 0\n"
        )?;
    }
    for number in 1..=NODES {
        for (address, group) in [
            (format!("10.1.{number}.1"), "NODES4"),
            (format!("fd00:1:{number}::1"), "NODES6"),
        ] {
            write!(
                text,
                " neighbor {address} remote-as 6500{number}\n neighbor {address} peer-group {group}\n"
            )?;
            if number <= WITH_BFD {
                write!(
                    text,
                    " neighbor {address} bfd\n neighbor {address} bfd profile fast\n"
                )?;
            }
        }
    }
    text += " neighbor 10.255.0.1 remote-as 65102
 neighbor 10.255.0.1 peer-group TOR4
 neighbor fd00:255::1 remote-as 65102
 neighbor fd00:255::1 peer-group TOR6
 address-family ipv4 unicast
NETWORKS  neighbor TOR4 activate
  neighbor TOR4 prefix-list PODS in
  neighbor TOR4 prefix-list PODS out
  neighbor NODES4 activate
  neighbor NODES4 prefix-list PODS in
  neighbor NODES4 prefix-list TOLD out
 exit-address-family
 address-family ipv6 unicast
  neighbor TOR6 activate
  neighbor TOR6 prefix-list PODS in
  neighbor TOR6 prefix-list PODS out
  neighbor NODES6 activate
  neighbor NODES6 prefix-list PODS in
  neighbor NODES6 prefix-list PODS out
 exit-address-family
exit
";
    // Not redistributed: the origin is to be what BIRD says of its own, or they are no equal paths.
    let networks = (0..MORE).map(|number| format!("  network {}\n", more(number)));
    Ok(text.replace("NETWORKS", &networks.collect::<String>()))
}

fn bird() -> Result<String> {
    let mut text = format!(
        "log stderr all;
router id 10.255.0.102;
graceful restart wait 30;
protocol device {{ scan time 2; }}
protocol direct {{ ipv4; ipv6; }}
protocol kernel kernel4 {{ persist yes; merge paths on; graceful restart on; ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol kernel kernel6 {{ persist yes; merge paths on; graceful restart on; ipv6 {{ import none; export where source = RTS_BGP; }}; }}
protocol bfd {{ interface \"*\" {{ min rx interval {BFD_EVERY} ms; min tx interval {BFD_EVERY} ms; multiplier 3; }}; }}
function pods() {{
	case net.type {{
		NET_IP4: return net ~ [ 10.244.0.0/16+, 10.98.0.0/16+ ];
		NET_IP6: return net ~ [ fd00:10:244::/48+ ];
	}}
	return false;
}}
protocol static more {{
	ipv4;
"
    );
    for number in 0..MORE {
        writeln!(text, "\troute {} blackhole;", more(number))?;
    }
    text += "}\n";
    let timers = format!(
        "local as 65102;\n\thold time {HOLD};\n\tkeepalive time 3;\n\tconnect delay time 1;\n\tconnect retry time 1;\n\terror wait time 1, 5;\n\tgraceful restart on;"
    );
    let told = "import where pods(); export where (source = RTS_BGP && pods()) || proto = \"more\"";
    write!(
        text,
        "template bgp node4 {{\n\t{timers}\n\tipv4 {{ {told}; }};\n}}\n\
         template bgp node6 {{\n\t{timers}\n\tipv6 {{ import where pods(); export where source = RTS_BGP && pods(); }};\n}}\n"
    )?;
    for number in 1..=NODES {
        let bfd = if number <= WITH_BFD {
            " bfd graceful;"
        } else {
            ""
        };
        write!(
            text,
            "protocol bgp node{number}_ipv4 from node4 {{ neighbor 10.2.{number}.1 as 6500{number};{bfd} }}\n\
             protocol bgp node{number}_ipv6 from node6 {{ neighbor fd00:2:{number}::1 as 6500{number};{bfd} }}\n"
        )?;
    }
    for (name, neighbor, channel) in [
        ("tor1_ipv4", "10.255.0.0", "ipv4"),
        ("tor1_ipv6", "fd00:255::", "ipv6"),
    ] {
        write!(
            text,
            "protocol bgp {name} {{\n\t{timers}\n\tneighbor {neighbor} as 65101;\n\t{channel} {{ import where pods(); export where source = RTS_BGP && pods(); }};\n}}\n"
        )?;
    }
    Ok(text)
}
