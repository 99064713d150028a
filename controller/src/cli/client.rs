//! Asks the daemon over its control socket.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, Response, body::Incoming, header::ACCEPT};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{Asking, Output, UNHEALTHY};
use crate::control::{HEALTHY, query::Query};

impl Asking {
    /// Shows the answer to `GET path`; the exit code says whether it is healthy.
    pub(super) fn show(&self, path: &str, query: &Query) -> anyhow::Result<ExitCode> {
        self.ask(Method::GET, path, query)
    }

    /// Has it done and shows what was.
    pub(super) fn order(&self, path: &str) -> anyhow::Result<ExitCode> {
        self.order_with(path, &Query::default())
    }

    /// The same with parameters.
    pub(super) fn order_with(&self, path: &str, query: &Query) -> anyhow::Result<ExitCode> {
        self.ask(Method::POST, path, query)
    }

    /// Writes the answer to `GET path` to a file, which is there once it is complete.
    pub(super) fn save(&self, path: &str, file: &Path) -> anyhow::Result<ExitCode> {
        let mut partial = file.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let written = File::create(&partial)
            .with_context(|| partial.display().to_string())
            .and_then(|mut out| {
                self.ask_into(Method::GET, path, &Query::default(), &mut out)?;
                out.sync_all()?;
                Ok(fs::rename(&partial, file)?)
            });
        if written.is_err() {
            // It may never have been there.
            let _ = fs::remove_file(&partial);
        }
        written.map(|()| ExitCode::SUCCESS)
    }

    fn ask(&self, method: Method, path: &str, query: &Query) -> anyhow::Result<ExitCode> {
        self.ask_into(method, path, query, &mut io::stdout().lock())
    }

    fn ask_into(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        out: &mut impl Write,
    ) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        runtime.block_on(async {
            let response = self.send(method, &query.on(path)).await?;
            let ok = response.status().is_success();
            let healthy = response
                .headers()
                .get(HEALTHY)
                .is_some_and(|value| value == "true");
            if !ok {
                let body = response.into_body().collect().await?.to_bytes();
                bail!("{}", String::from_utf8_lossy(&body).trim_end());
            }
            copy(response.into_body(), out).await?;
            Ok(if healthy {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(UNHEALTHY)
            })
        })
    }

    async fn send(&self, method: Method, uri: &str) -> anyhow::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| no_daemon(&self.socket, &error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let accept = match self.output {
            Output::Text => "text/plain",
            Output::Json => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "routelet")
            .header(ACCEPT, accept)
            .body(Empty::<Bytes>::new())?;
        sender
            .send_request(request)
            .await
            .context("the daemon did not answer")
    }
}

fn no_daemon(socket: &Path, error: &io::Error) -> anyhow::Error {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no daemon answers at {socket}: is `routelet run` alive on this node? (another place: --socket or ROUTELET_SOCKET)"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!(
                "no permission to use {socket}: run this as root, or as a member of the socket's group"
            )
        }
        _ => anyhow::anyhow!("{socket}: {error}"),
    }
}

/// Writes the answer out as it comes. A reader that closes the pipe (`| head`) has seen enough.
async fn copy(mut body: Incoming, out: &mut impl Write) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the daemon went away in the middle of its answer")?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let written = out.write_all(data).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}
