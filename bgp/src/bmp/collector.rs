//! The task of one collector: it dials, hands on what the Rib tells, and begins anew whenever the connection ends. What the
//! collector says is ignored: BMP goes one way (RFC 7854 §3.2).

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{count, initiation, termination};
use crate::{
    config::CollectorConfig,
    peer::deadlines::doubled,
    rib::task::{CollectorId, CollectorMessage, Feed, Room, ToRib},
    status::CollectorStatus,
};

/// How long a dial may take.
const DIAL: Duration = Duration::from_secs(10);
/// The first wait before the next one, which doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A connection that lasted this long was a good one.
const LASTED: Duration = Duration::from_secs(60);
/// How long a collector may take nothing while something waits for it.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take over our last words.
const FAREWELL: Duration = Duration::from_secs(1);

/// A collector that is served until this is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    config: CollectorConfig,
    status: Arc<Mutex<CollectorStatus>>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Collector {
    /// Dials once the connection of `before`, which it takes the place of, is over. Must be called inside a tokio runtime.
    pub(crate) fn start(
        name: &str,
        config: CollectorConfig,
        rib: mpsc::Sender<ToRib>,
        before: Option<Self>,
    ) -> Self {
        let status = Arc::new(Mutex::new(CollectorStatus {
            address: config.address,
            connected: false,
            since: SystemTime::now(),
            connections: 0,
            messages: 0,
            octets: 0,
            last_error: None,
        }));
        let (stop, stopped) = oneshot::channel();
        let task = Task {
            name: name.into(),
            config: config.clone(),
            rib,
            status: Arc::clone(&status),
            stopped,
        };
        Self {
            config,
            status,
            stop: Some(stop),
            task: Some(tokio::spawn(async move {
                if let Some(before) = before {
                    before.stop().await;
                }
                task.run().await;
            })),
        }
    }

    pub(crate) fn config(&self) -> &CollectorConfig {
        &self.config
    }

    pub(crate) fn status(&self) -> CollectorStatus {
        locked(&self.status).clone()
    }

    /// Tells it that this is the end, and returns when that is said.
    pub(crate) async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // A task that has ended needs no order.
            let _ = stop.send(());
        }
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn locked(status: &Mutex<CollectorStatus>) -> MutexGuard<'_, CollectorStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    name: String,
    config: CollectorConfig,
    rib: mpsc::Sender<ToRib>,
    status: Arc<Mutex<CollectorStatus>>,
    stopped: oneshot::Receiver<()>,
}

/// Why a connection is over.
enum End {
    /// We were told to stop.
    Stopped,
    /// Something went wrong, in words.
    Lost(String),
}

impl Task {
    #[expect(
        clippy::disallowed_methods,
        reason = "the driver of a collector waits before it dials again"
    )]
    async fn run(mut self) {
        let mut failures: u32 = 0;
        loop {
            let dialled = tokio::select! {
                biased;
                _ = &mut self.stopped => return,
                dialled = dial(&self.config) => dialled,
            };
            let began = Instant::now();
            let end = match dialled {
                Ok(stream) => self.serve(stream).await,
                Err(error) => End::Lost(error.to_string()),
            };
            let End::Lost(reason) = end else { return };
            if began.elapsed() >= LASTED {
                failures = 0;
            }
            self.lost(reason, failures);
            let wait = doubled(FIRST_RETRY, failures, LAST_RETRY);
            failures = failures.saturating_add(1);
            tokio::select! {
                biased;
                _ = &mut self.stopped => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Serves one connection to its end.
    async fn serve(&mut self, stream: TcpStream) -> End {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let id = CollectorId(CONNECTIONS.fetch_add(1, Ordering::Relaxed));
        self.connected();
        let (messages, queue) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        let feed = Feed {
            views: self.config.views,
            statistics: self.config.statistics,
            messages,
            room: Arc::clone(&room),
        };
        if !self.say(id, CollectorMessage::Connected(feed.into())).await {
            return End::Stopped;
        }
        let end = self.speak(id, stream, queue, &room).await;
        self.say(id, CollectorMessage::Gone).await;
        end
    }

    /// Whether the Rib is there to hear it.
    async fn say(&self, id: CollectorId, message: CollectorMessage) -> bool {
        self.rib.send(ToRib::Collector(id, message)).await.is_ok()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the driver of a collector sees how long it takes nothing"
    )]
    async fn speak(
        &mut self,
        id: CollectorId,
        mut stream: TcpStream,
        mut queue: mpsc::UnboundedReceiver<Bytes>,
        room: &Room,
    ) -> End {
        let (mut reader, mut writer) = stream.split();
        let mut sink = [0; 4096];
        let mut first = BytesMut::new();
        initiation(&self.config.system, &self.config.description, &mut first);
        let mut waiting = first.freeze();
        let mut of_rib = 0;
        let mut progress = Instant::now();
        self.count(&waiting);
        let end = loop {
            tokio::select! {
                _ = &mut self.stopped => break End::Stopped,
                read = reader.read(&mut sink) => match read {
                    Ok(0) => break End::Lost("it closed the connection".into()),
                    Ok(_) => {}
                    Err(error) => break End::Lost(error.to_string()),
                },
                written = writer.write_buf(&mut waiting), if !waiting.is_empty() => match written {
                    Ok(_) => {
                        progress = Instant::now();
                        let written = of_rib - waiting.len().min(of_rib);
                        of_rib -= written;
                        if room.subtract(written) {
                            self.say(id, CollectorMessage::Writable).await;
                        }
                    }
                    Err(error) => break End::Lost(error.to_string()),
                },
                next = queue.recv(), if waiting.is_empty() => match next {
                    Some(messages) => {
                        self.count(&messages);
                        progress = Instant::now();
                        of_rib = messages.len();
                        waiting = messages;
                    }
                    None => break End::Lost("it was too far behind and has to begin anew".into()),
                },
                () = sleep_until(progress + PATIENCE), if !waiting.is_empty() => {
                    break End::Lost(format!("it took nothing for {} s", PATIENCE.as_secs()));
                }
            }
        };
        if matches!(end, End::Stopped) {
            let mut last = BytesMut::from(&*waiting);
            termination(&mut last);
            let goodbye = async {
                writer.write_all(&last).await?;
                writer.shutdown().await
            };
            // It may have gone, or be stuck.
            let _ = timeout(FAREWELL, goodbye).await;
        }
        end
    }

    fn count(&self, messages: &[u8]) {
        let mut status = locked(&self.status);
        status.messages = status.messages.saturating_add(count(messages));
        status.octets = status.octets.saturating_add(messages.len() as u64);
    }

    fn connected(&self) {
        let mut status = locked(&self.status);
        status.connected = true;
        status.since = SystemTime::now();
        status.connections = status.connections.saturating_add(1);
        tracing::info!(collector = self.name, address = %self.config.address, "BMP: connected");
    }

    fn lost(&self, reason: String, failures: u32) {
        let mut status = locked(&self.status);
        if status.connected {
            status.connected = false;
            status.since = SystemTime::now();
        }
        let address = self.config.address;
        if failures == 0 || status.last_error.as_ref() != Some(&reason) {
            tracing::warn!(collector = self.name, %address, %reason, "BMP: no connection");
        }
        status.last_error = Some(reason);
    }
}

async fn dial(config: &CollectorConfig) -> io::Result<TcpStream> {
    let stream = timeout(DIAL, TcpStream::connect(config.address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
    stream.set_nodelay(true)?;
    // Where nothing is to be told, this is how a collector that is gone is noticed.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(20))
        .with_retries(3);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}
