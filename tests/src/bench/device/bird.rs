//! BIRD as a device.

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::{Child, Command},
};

use anyhow::Result;

use super::{ASN, Setup, output};
use crate::bench::{
    arena::{Arena, DEVICE},
    table::{Table, prefix6},
};

pub(super) fn start(arena: &Arena, setup: &Setup, dir: &Path) -> Result<Vec<Child>> {
    let file = dir.join("bird.conf");
    fs::write(&file, configuration(setup)?)?;
    let mut command = Command::new("bird");
    command
        .arg("-f")
        .arg("-c")
        .arg(&file)
        .arg("-s")
        .arg(dir.join("bird.ctl"));
    command
        .stdout(output(dir, "bird.out")?)
        .stderr(output(dir, "bird.err")?);
    Ok(vec![arena.spawn(&mut command)?])
}

fn configuration(setup: &Setup) -> Result<String> {
    let mut text =
        format!("router id {DEVICE};\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n");
    if setup.kernel {
        text += "protocol kernel { merge paths on; ipv4 { import none; export where source = RTS_BGP; }; }\n";
        text += "protocol kernel { merge paths on; ipv6 { import none; export where source = RTS_BGP; }; }\n";
    }
    if let Some(node) = setup.originate {
        let own = Table::pods(node + 1);
        if let Some(prefix) = own.prefixes.last() {
            let address = std::net::Ipv4Addr::from(prefix.address);
            writeln!(
                text,
                "protocol static {{ ipv4; route {address}/{} blackhole; }}",
                prefix.length
            )?;
        }
        writeln!(
            text,
            "protocol static {{ ipv6; route {}/64 blackhole; }}",
            prefix6(node)
        )?;
    }
    // What the device's own link has is nobody's business.
    let export = "import all; export where source ~ [RTS_BGP, RTS_STATIC];";
    for (number, peer) in setup.peers.iter().enumerate() {
        writeln!(
            text,
            "protocol bgp p{number} {{ local {DEVICE} as {ASN}; neighbor {} as {}; direct; passive; hold time 90; {} ipv4 {{ {export} }}; {} }}",
            peer.address,
            peer.asn,
            if peer.client { "rr client;" } else { "" },
            if peer.dual {
                format!("ipv6 {{ {export} }};")
            } else {
                String::new()
            },
        )?;
    }
    Ok(text)
}
