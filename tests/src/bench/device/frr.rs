//! FRR as a device: bgpd alone, or with zebra where the kernel takes part.

use std::{
    fmt::Write,
    fs,
    os::unix::fs::chown,
    path::Path,
    process::{Child, Command},
};

use anyhow::{Context, Result};
use nix::unistd::User;

use super::{ASN, Setup, output};
use crate::bench::{
    arena::{Arena, DEVICE},
    table::{Table, prefix6},
};

pub(super) fn start(arena: &Arena, setup: &Setup, dir: &Path) -> Result<Vec<Child>> {
    let file = dir.join("frr.conf");
    fs::write(&file, configuration(setup)?)?;
    // The daemons go over to the user frr before they make their sockets.
    let user = User::from_name("frr")?.context("no user frr: FRR is not installed")?;
    chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    let mut processes = Vec::new();
    if setup.kernel {
        let empty = dir.join("zebra.conf");
        fs::write(&empty, "")?;
        processes.push(arena.spawn(daemon("zebra", dir, &empty)?.arg("-s").arg("1048576"))?);
    }
    let mut bgpd = daemon("bgpd", dir, &file)?;
    if !setup.kernel {
        bgpd.arg("--no_zebra").arg("--no_kernel");
    }
    processes.push(arena.spawn(&mut bgpd)?);
    Ok(processes)
}

fn daemon(name: &str, dir: &Path, file: &Path) -> Result<Command> {
    let mut command = Command::new(format!("/usr/lib/frr/{name}"));
    command
        .arg("-f")
        .arg(file)
        .arg("-i")
        .arg(dir.join(format!("{name}.pid")));
    command
        .arg("-z")
        .arg(dir.join("zserv.api"))
        .arg("--vty_socket")
        .arg(dir)
        .arg("-P")
        .arg("0");
    command
        .stdout(output(dir, &format!("{name}.out"))?)
        .stderr(output(dir, &format!("{name}.err"))?);
    Ok(command)
}

fn configuration(setup: &Setup) -> Result<String> {
    let mut text = format!(
        "frr defaults traditional\nrouter bgp {ASN}\n bgp router-id {DEVICE}\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n no bgp default ipv4-unicast\n"
    );
    let (mut ipv4, mut ipv6) = (String::new(), String::new());
    for peer in &setup.peers {
        let address = peer.address;
        writeln!(text, " neighbor {address} remote-as {}", peer.asn)?;
        writeln!(
            text,
            " neighbor {address} passive\n neighbor {address} timers 30 90"
        )?;
        for family in [Some(&mut ipv4), peer.dual.then_some(&mut ipv6)]
            .into_iter()
            .flatten()
        {
            writeln!(family, "  neighbor {address} activate")?;
            if peer.client {
                writeln!(family, "  neighbor {address} route-reflector-client")?;
            }
        }
    }
    if let Some(node) = setup.originate {
        if let Some(prefix) = Table::pods(node + 1).prefixes.last() {
            writeln!(
                ipv4,
                "  network {}/{}",
                std::net::Ipv4Addr::from(prefix.address),
                prefix.length
            )?;
        }
        writeln!(ipv6, "  network {}/64", prefix6(node))?;
    }
    write!(
        text,
        " address-family ipv4 unicast\n{ipv4} exit-address-family\n"
    )?;
    write!(
        text,
        " address-family ipv6 unicast\n{ipv6} exit-address-family\n"
    )?;
    Ok(text)
}
