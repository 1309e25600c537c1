//! Accepts connections and serves each until it ends, up to a number of them.
//!
//! ```text
//!   accept -> place (all taken: the longest idle goes) -> TLS, if there is -> HTTP/1.1 or 2 -> requests
//! ```
//!
//! Nobody can hold a place by being slow: a head must come within the read timeout, a body within the same from then on,
//! TLS within [`HANDSHAKE`] or the read timeout if that is shorter, and a client that takes nothing of its answer is cut after the write timeout.

use super::body::{Answering, Timely};
use super::edge::text;
use super::panics::{self, Asked};
use super::peer::{Caller, Connection, Peer};
use super::places::{Held, Place, Places};
use super::secure::{Presented, Secure};
use super::traffic::{Cut, Traffic};
use axum::body::Body;
use axum::http::{Request, StatusCode, Version};
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// Bounds on connections, and who may have one.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Connections at a time (`--web.max-connections`). When all are taken, one that is idle makes room; if none is,
    /// further ones wait in the system's queue.
    pub max_connections: usize,
    /// Bytes that a request's head may have, read buffer included; at least [`ServeOptions::MIN_HEAD_BYTES`]
    /// (`--web.max-head-size`).
    pub max_head_bytes: usize,
    /// Time a client has to send a request's head, counted also while a kept connection is idle, and again for its body
    /// (`--web.read-timeout`).
    pub read_timeout: Duration,
    /// Time a client has to take the next part of an answer (`--web.write-timeout`).
    pub write_timeout: Duration,
    /// Time that running requests have to end once shutdown is asked for.
    pub grace: Duration,
    /// TLS, and what may be spoken; `None`: plain, either version of HTTP.
    pub secure: Option<Arc<dyn Secure>>,
    /// Counts connections.
    pub traffic: Arc<Traffic>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 512,
            max_head_bytes: 128 << 10,
            read_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(8),
            secure: None,
            traffic: Arc::default(),
        }
    }
}

impl ServeOptions {
    /// What the HTTP library needs to read a head at all.
    pub const MIN_HEAD_BYTES: usize = 8 << 10;
}

/// Requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// Streams of HTTP/2 that a client may have opened and given up again before we have looked at them: beyond it the
/// connection ends. What is called *rapid reset* is nothing else.
const MAX_RESET_STREAMS: usize = 20;
/// The same for streams that were ended here for what the client did wrong.
const MAX_WRONG_STREAMS: usize = 256;
/// Wait after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves a listener until `shutdown` is cancelled, then lets running requests end, for [`ServeOptions::grace`] at most.
///
/// # Errors
/// Only if the listener itself is unusable; failures of single connections are logged at debug level.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    listener.local_addr()?;
    let places = Places::new(options.max_connections);
    let cut = CancellationToken::new();
    let tasks = TaskTracker::new();
    let grace = options.grace;
    let server = Arc::new(Server {
        http: protocols(&options),
        options,
        shutdown: shutdown.clone(),
        cut: cut.clone(),
    });
    loop {
        let coming = async {
            let stream = accept(&listener).await;
            let held = places.take(|| server.options.traffic.cut(Cut::Room)).await;
            (stream, held)
        };
        let (stream, held) = tokio::select! {
            () = shutdown.cancelled() => break,
            coming = coming => coming,
        };
        tasks.spawn(Arc::clone(&server).connection(stream, held, service.clone()));
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!(?grace, "requests still running at shutdown were cut");
        cut.cancel();
    }
    Ok(())
}

fn protocols(options: &ServeOptions) -> auto::Builder<TokioExecutor> {
    let head = options.max_head_bytes.max(ServeOptions::MIN_HEAD_BYTES);
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.read_timeout)
        .max_buf_size(head);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_WRONG_STREAMS)
        .keep_alive_interval(options.read_timeout)
        .keep_alive_timeout(options.write_timeout);
    server
}

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole: waiting for more to send would only add delay.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What all connections of a listener share.
struct Server {
    http: auto::Builder<TokioExecutor>,
    options: ServeOptions,
    shutdown: CancellationToken,
    /// Ends what is left after the grace.
    cut: CancellationToken,
}

impl Server {
    async fn connection<S>(self: Arc<Self>, stream: TcpStream, held: Held, service: S)
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    {
        let _open = self.options.traffic.open();
        let stream = Connection::new(stream, self.options.write_timeout);
        let terms = match &self.options.secure {
            Some(secure) => Some((secure, Arc::clone(secure).terms().await)),
            None => None,
        };
        let only_http1 = terms.as_ref().is_some_and(|(_, terms)| !terms.http2);
        let tls = terms.and_then(|(secure, terms)| Some((secure, terms.tls?)));
        let mut service = Requests {
            service,
            place: Arc::clone(&held.place),
            peer: stream.peer(tls.is_some()),
            presented: None,
            within: self.options.read_timeout,
            traffic: Arc::clone(&self.options.traffic),
        };
        let Some((secure, config)) = tls else {
            let http2 = only_http1.then_some(false);
            return self.drive(stream, &held.place, service, http2).await;
        };
        let agreed = TlsAcceptor::from(config).accept(stream);
        let agreed = tokio::select! {
            () = held.place.leave.cancelled() => return,
            () = self.shutdown.cancelled() => return,
            agreed = tokio::time::timeout(HANDSHAKE.min(self.options.read_timeout), agreed) => agreed,
        };
        match agreed {
            Ok(Ok(stream)) => {
                let agreed = stream.get_ref().1;
                let http2 = agreed.alpn_protocol() == Some(b"h2");
                service.presented = agreed.peer_certificates().map(|shown| Presented(shown.into()));
                self.drive(stream, &held.place, service, Some(http2)).await;
            }
            Ok(Err(error)) => {
                secure.handshake_failed(Some(&error));
                tracing::debug!(%error, "no agreement on TLS");
            }
            Err(_) => secure.handshake_failed(None),
        }
    }

    /// Serves a connection to its end: by its client, by the timeouts, for the room it takes, or at shutdown. `http2` says
    /// what was agreed on; without TLS the client's first words do.
    async fn drive<I, S>(&self, stream: I, place: &Place, service: Requests<S>, http2: Option<bool>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    {
        let http = match http2 {
            Some(true) => self.http.clone().http2_only(),
            Some(false) => self.http.clone().http1_only(),
            None => self.http.clone(),
        };
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).into_owned());
        let limit = self.options.read_timeout;
        let mut idle = pin!(tokio::time::sleep(limit));
        let (mut leaving, mut asked) = (false, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        self.options.traffic.ended(&*error);
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                () = self.cut.cancelled() => return,
                () = self.shutdown.cancelled(), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = place.leave.cancelled(), if !asked => {
                    if place.is_idle() {
                        return;
                    }
                    // A request came first; it is answered.
                    asked = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = idle.as_mut() => {
                    let left = limit.saturating_sub(place.idle());
                    if left.is_zero() {
                        self.options.traffic.cut(Cut::Idle);
                        return;
                    }
                    idle.as_mut().reset(tokio::time::Instant::now() + left);
                }
            }
        }
    }
}

/// Hands a connection's requests on.
#[derive(Clone)]
struct Requests<S> {
    service: S,
    place: Arc<Place>,
    peer: Peer,
    presented: Option<Presented>,
    /// Time for a body.
    within: Duration,
    traffic: Arc<Traffic>,
}

impl<S> hyper::service::Service<Request<Incoming>> for Requests<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = self.place.begin();
        let mut request = request.map(|body| Timely::body(body, self.within));
        // One connection of HTTP/2 carries many requests, and each can end without it.
        if request.version() < Version::HTTP_2 {
            request.extensions_mut().insert(self.peer.clone());
        } else {
            request.extensions_mut().insert(Caller(self.peer.address));
        }
        if let Some(presented) = &self.presented {
            request.extensions_mut().insert(presented.clone());
        }
        let (asked, traffic) = (Asked::of(&request), Arc::clone(&self.traffic));
        let mut service = self.service.clone();
        Box::pin(async move {
            // Handlers' panics are caught nearer to them, see the edge. What is around them must not end other requests
            // of the connection either.
            let answered = AssertUnwindSafe(async move { service.call(request).await }).catch_unwind();
            let response = match answered.await {
                Ok(response) => response?,
                Err(panic) => {
                    traffic.panicked(panics::Place::Around);
                    asked.log(&*panic);
                    text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
                }
            };
            Ok(response.map(|body| {
                Body::new(Answering {
                    body,
                    asked,
                    traffic,
                    _busy: busy,
                })
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    struct Running {
        address: std::net::SocketAddr,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn start(router: Router, options: ServeOptions) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, options, shutdown.clone()));
        Running {
            address,
            shutdown,
            task,
        }
    }

    async fn connect(running: &Running, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn shutdown_lets_a_running_request_end() {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (b, g) = (begun.clone(), go_on.clone());
        let slow = move || async move {
            b.notify_one();
            g.notified().await;
            "done"
        };
        let running = start(Router::new().route("/", get(slow)), ServeOptions::default()).await;
        let stream = connect(&running, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        begun.notified().await;
        running.shutdown.cancel();
        go_on.notify_one();
        assert!(rest(stream).await.ends_with("done"));
        running.task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_goes_away_ends_the_handler() {
        struct Dropped(Arc<Notify>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (b, d) = (begun.clone(), dropped.clone());
        let endless = move || async move {
            let _dropped = Dropped(d);
            b.notify_one();
            std::future::pending::<()>().await;
        };
        let running = start(Router::new().route("/", get(endless)), ServeOptions::default()).await;
        let stream = connect(&running, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        begun.notified().await;
        drop(stream);
        dropped.notified().await;
        running.shutdown.cancel();
        running.task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_in_time_fails_its_reader() {
        let options = ServeOptions {
            read_timeout: Duration::from_millis(100),
            ..ServeOptions::default()
        };
        let read = |body: Body| async {
            match axum::body::to_bytes(body, 100).await {
                Ok(bytes) => format!("read {}", bytes.len()),
                Err(error) => format!("failed: {error}"),
            }
        };
        let running = start(Router::new().route("/", axum::routing::post(read)), options).await;
        let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";
        let whole = connect(&running, &format!("{head}abc")).await;
        let cut = connect(&running, &format!("{head}a")).await;
        assert!(rest(whole).await.ends_with("read 3"));
        let cut = rest(cut).await;
        assert!(cut.contains("did not come in time"), "{cut}");
        running.shutdown.cancel();
        running.task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_says_nothing_makes_room_for_who_comes() {
        let options = ServeOptions {
            max_connections: 2,
            ..ServeOptions::default()
        };
        let traffic = Arc::clone(&options.traffic);
        let running = start(Router::new().route("/", get(|| async { "hello" })), options).await;
        let silent = [connect(&running, "").await, connect(&running, "GET / HT").await];
        let coming = connect(&running, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(rest(coming).await.ends_with("hello"));
        let listings = traffic.list();
        let cut = listings.iter().find(|l| l.0 == "tidegauge_http_connections_cut_total");
        assert_eq!(cut.unwrap().3[0], (vec![("reason", "room".to_owned())], 1.0));
        drop(silent);
        running.shutdown.cancel();
        running.task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_ends_the_connection_and_frees_its_place() {
        let options = ServeOptions {
            max_connections: 1,
            read_timeout: Duration::from_millis(100),
            ..ServeOptions::default()
        };
        let running = start(Router::new().route("/", get(|| async { "hello" })), options).await;
        for sent in ["", "GET / HT", "PRI * HTTP/2.0"] {
            let slow = connect(&running, sent).await;
            assert!(!rest(slow).await.contains("hello"));
        }
        let next = connect(&running, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(rest(next).await.ends_with("hello"));
        running.shutdown.cancel();
        running.task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_panics_ends_its_request_alone_and_is_counted() {
        use futures_util::{StreamExt, stream};

        let large = || async {
            let pieces = stream::iter(0..3).map(|i| {
                assert!(i < 2, "on purpose");
                Ok::<_, Infallible>("piece")
            });
            Response::new(Body::from_stream(pieces))
        };
        let router = Router::new()
            .route("/large", get(large))
            .route("/", get(|| async { "hello" }));
        // As what stands around the handlers.
        let service = tower::service_fn(move |request: Request<Body>| {
            let router = router.clone();
            async move {
                assert!(request.uri().path() != "/broken", "on purpose");
                tower::ServiceExt::oneshot(router, request).await
            }
        });
        let options = ServeOptions::default();
        let traffic = Arc::clone(&options.traffic);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, service, options, shutdown.clone()));
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            rest(stream).await
        };
        assert!(ask("/broken").await.starts_with("HTTP/1.1 500 "));
        // The last chunk is missing: the client sees that it has not all.
        let cut = ask("/large").await;
        assert!(!cut.ends_with("0\r\n\r\n"), "{cut}");
        assert!(ask("/").await.ends_with("hello"));
        let listings = traffic.list();
        let panics = listings.iter().find(|l| l.0 == "tidegauge_http_panics_total").unwrap();
        let counts: Vec<(&str, f64)> = panics.3.iter().map(|(labels, n)| (labels[0].1.as_str(), *n)).collect();
        assert_eq!(counts, [("around", 1.0), ("body", 1.0)]);
        shutdown.cancel();
        task.await.unwrap().unwrap();
    }
}
