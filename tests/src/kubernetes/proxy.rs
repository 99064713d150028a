//! The API server's HTTP on a socket: that of a `kubectl proxy`, so that a question costs no kubectl of its own; the stand-in has one itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::identity::FOLDER;
use super::server::Make;
use crate::container::Container;
use crate::shell::Background;

/// As its node sees it.
pub(super) const SOCKET: &str = "/run/api.sock";
/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to the socket. Dropping it ends the proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    socket: PathBuf,
    _program: Option<Background>,
}

/// What the API server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// The body.
    pub body: String,
}

impl Proxy {
    /// Starts it on the node of the API server, which need not run yet.
    pub(super) fn start(make: Make, host: &Container, log: &Path) -> Result<Self> {
        let words = [
            "kubectl".to_owned(),
            format!("--kubeconfig={FOLDER}/admin.conf"),
            "proxy".into(),
            format!("--unix-socket={SOCKET}"),
        ];
        let program = match make {
            Make::Real => Some(Background::logged(&mut host.tool(&words), log)?),
            Make::Fake => None,
        };
        Ok(Self {
            socket: host.path(SOCKET),
            _program: program,
        })
    }

    /// One request, whose body is of that media type, and its answer.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        media_type: &str,
        body: &str,
    ) -> Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket).context(SOCKET)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // In HTTP/1.0 an answer ends with its connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| text.clone())?;
        let code = head
            .split_whitespace()
            .nth(1)
            .with_context(|| text.clone())?;
        Ok(Answer {
            code: code.parse().with_context(|| text.clone())?,
            body: body.to_owned(),
        })
    }
}
