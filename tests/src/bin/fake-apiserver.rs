//! The stand-in for the servers of a control plane, as a lab starts them.

use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::Server;
use tests::wait::pause;
use tokio::net::{TcpListener, UnixListener};

const USAGE: &str =
    "usage: fake-apiserver serve CERTIFICATES JOURNAL SOCKET | fake-apiserver controllers SOCKET";
/// The API server's.
const PORT: u16 = 6443;
/// Until the API server is asked again where it is away.
const AGAIN: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", certificates, journal, socket] => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(serve(
                Path::new(certificates),
                Path::new(journal),
                Path::new(socket),
            ))
        }
        ["controllers", socket] => loop {
            // Whoever is not there yet, or any more, comes back.
            if let Err(error) = control(Path::new(socket)) {
                eprintln!("{error:#}");
            }
            pause(AGAIN);
        },
        _ => bail!(USAGE),
    }
}

async fn serve(certificates: &Path, journal: &Path, socket: &Path) -> Result<()> {
    let server = Server::with_journal(journal)?;
    if socket.exists() {
        std::fs::remove_file(socket)?;
    }
    let local = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
    let public = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).await?;
    tokio::try_join!(
        server.clone().serve_locally(local),
        server.serve_securely(public, certificates),
    )?;
    Ok(())
}

/// The controllers run in the API server, for as long as this question is not answered.
fn control(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    write!(
        stream,
        "GET /controllers HTTP/1.0\r\nHost: localhost\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(())
}
