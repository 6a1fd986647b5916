//! The metrics listener: `/metrics`, `/livez` and `/readyz`, and nothing that changes anything.
//!
//! ```text
//! accept ─(at most 64)→ one request, 5 s to arrive ─→ one answer, 10 s to leave ─→ close
//! ```
//!
//! It has a listener of its own because kubelet and Prometheus come from outside the machine while the admin plane must
//! not be reachable from there. For the same reason it trusts nobody: a connection carries one request, so that slow or
//! idle peers cannot keep the 64 places for longer than ten seconds. The `Host` header is not restricted: nothing here
//! is worth a DNS rebinding.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use crate::metrics;

/// Connections served at once; more wait in the listener's queue. Chosen: a scraper and a few probes need three.
const MAX_CONNECTIONS: usize = 64;
/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last in all: Prometheus' own default scrape timeout.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// All is well.
    Pass,
    /// Something is not.
    Fail {
        /// The failing check, one word: `worker`, `listener`, `draining`, `upstream`.
        check: Cow<'static, str>,
        /// What was found, for people.
        detail: String,
    },
}

impl Check {
    /// A failed check.
    pub fn fail(check: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::Fail {
            check: check.into(),
            detail: detail.into(),
        }
    }
}

/// Whom the listener asks. Called on the control thread; none of these may block.
pub trait Probe: Send + Sync + 'static {
    /// Whether the event loops answered lately. Must not depend on upstream: a restart would not heal that.
    fn live(&self) -> Check;
    /// Whether clients should be sent here: listeners bound, not draining, upstream reachable.
    fn ready(&self) -> Check;
    /// The metrics, as text of [`metrics::CONTENT_TYPE`].
    fn render(&self) -> String;
}

/// Serves the probes, and the metrics at `path`, until the returned future is dropped.
///
/// `path` is compared as it is, without patterns. Connections that were accepted before the drop finish by themselves,
/// within ten seconds.
pub async fn serve(listener: TcpListener, path: String, probe: Arc<dyn Probe>) {
    let path: Arc<str> = path.into();
    let answer = move |request: Request| {
        let response = answer(&request, &path, probe.as_ref());
        async move { response }
    };
    let listener = Limited {
        listener,
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    // Routes are matched by hand: the path comes from a setting, and a router panics on paths it cannot parse.
    // Serving ends only with the future: the listener waits out what it cannot accept.
    let served: io::Result<()> = axum::serve(listener, Router::new().fallback(answer)).await;
    if let Err(error) = served {
        tracing::error!(%error, "the metrics listener ended");
    }
}

fn answer(request: &Request, path: &str, probe: &dyn Probe) -> Response {
    let asked = request.uri().path();
    let known = asked == path || asked == "/livez" || asked == "/readyz";
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = match asked {
        _ if !known => StatusCode::NOT_FOUND.into_response(),
        _ if !readable => (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response(),
        "/livez" => verdict(&probe.live()),
        "/readyz" => verdict(&probe.ready()),
        _ => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], probe.render()).into_response(),
    };
    let every = [
        (CONNECTION, "close"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (every, response).into_response()
}

fn verdict(check: &Check) -> Response {
    match check {
        Check::Pass => axum::Json(serde_json::json!({ "status": "ok" })).into_response(),
        Check::Fail { check, detail } => {
            let body = serde_json::json!({ "status": "failing", "check": check, "detail": detail });
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
        }
    }
}

/// A listener that lets in as many connections as it has places.
struct Limited {
    listener: TcpListener,
    /// A permit is a place; it is given back when its connection is dropped. Never closed.
    places: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Timed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Timed, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        // Retries by itself, with a pause when the process is out of files.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Timed::new(stream, place), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over: five seconds to ask, ten in all.
struct Timed {
    stream: TcpStream,
    /// Polled whenever the socket is not ready, so that its waking ends the wait.
    deadline: Pin<Box<Sleep>>,
    accepted: Instant,
    answering: bool,
    /// Held until the connection is dropped.
    _place: Option<OwnedSemaphorePermit>,
}

impl Timed {
    fn new(stream: TcpStream, place: Option<OwnedSemaphorePermit>) -> Self {
        let deadline = Box::pin(tokio::time::sleep(REQUEST_TIMEOUT));
        let accepted = deadline.deadline() - REQUEST_TIMEOUT;
        Self {
            stream,
            deadline,
            accepted,
            answering: false,
            _place: place,
        }
    }

    /// Passes on what the socket said, or says that it is too late.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, socket: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if socket.is_pending() {
            ready!(self.deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        socket
    }

    /// Asking → answering: the first byte of the answer extends the time.
    fn begin_answer(&mut self) {
        if !self.answering {
            self.answering = true;
            self.deadline.as_mut().reset(self.accepted + CONNECTION_TIMEOUT);
        }
    }
}

impl AsyncRead for Timed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.in_time(cx, read)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.begin_answer();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.in_time(cx, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_answer();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
