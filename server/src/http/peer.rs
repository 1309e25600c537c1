//! A connection that others than its own task can look at.
//!
//! A short read is answered on the thread that read the request (see [`crate::api`]'s `shared`): nobody polls the
//! connection meanwhile, so whether the client is still there has to be asked of the socket.

use axum::http::Extensions;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A connection for the task that serves it. A write that makes no headway for a time fails: the client reads nothing.
///
/// The lock is free but while somebody looks whether the client is there. Without it (through `try_read`, which takes a
/// shared stream) the runtime would not see that a read that fills less than its buffer has emptied the socket, and
/// each request would end with a read that finds nothing.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Arc<Mutex<TcpStream>>,
    write_timeout: Duration,
    /// Made when a write first has to wait.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// The other end of a connection, as handlers see it among a request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    stream: Weak<Mutex<TcpStream>>,
    /// Where it is, as the system says.
    pub(crate) address: Option<SocketAddr>,
    /// With TLS, the end of a connection comes behind a message that says so.
    tls: bool,
}

/// Where a request comes from, for requests that have no [`Peer`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(super) Option<SocketAddr>);

impl Caller {
    /// The address of who sent a request, where the system knows it.
    pub(crate) fn ip(of: &Extensions) -> Option<IpAddr> {
        let peer = of.get::<Peer>().and_then(|peer| peer.address);
        peer.or_else(|| of.get::<Self>()?.0).map(|address| address.ip())
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        Self {
            stream: Arc::new(Mutex::new(stream)),
            write_timeout,
            stalled: None,
        }
    }

    pub(super) fn peer(&self, tls: bool) -> Peer {
        Peer {
            stream: Arc::downgrade(&self.stream),
            address: self.stream.lock().peer_addr().ok(),
            tls,
        }
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut TcpStream>) -> T) -> T {
        act(Pin::new(&mut self.stream.lock()))
    }
}

impl Peer {
    /// Whether the client has closed the connection. One that has sent more before it closed counts as there, unless it
    /// speaks TLS.
    pub(crate) fn has_gone(&self) -> bool {
        let Some(stream) = self.stream.upgrade() else {
            return true;
        };
        let stream = stream.lock();
        if self.tls {
            let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
            let mut fds = [PollFd::new(&*stream, ended)];
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            return match rustix::event::poll(&mut fds, Some(&at_once)) {
                Ok(_) => fds.iter().any(|fd| fd.revents().intersects(ended)),
                Err(_) => false,
            };
        }
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(&*stream, &mut [0u8; 1][..], flags) {
            Ok((_, read)) => read == 0,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Err(_) => true,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buf))
    }
}

impl Connection {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        send: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(sent) = self.with(|stream| send(stream, cx)) {
            self.stalled = None;
            return Poll::Ready(sent);
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        let why = "the client takes nothing of what is sent to it";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |stream, cx| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Connection::new(stream, Duration::from_millis(200)), client)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways() {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        ours.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        // More than a socket takes at once.
        let long = vec![7; 8 << 20];
        let copy = long.clone();
        let sending = tokio::spawn(async move {
            ours.write_all(&copy).await.unwrap();
            ours.shutdown().await.unwrap();
            ours
        });
        let mut back = Vec::new();
        theirs.read_to_end(&mut back).await.unwrap();
        assert!(back == long);
        drop(sending.await.unwrap());
    }

    #[tokio::test]
    async fn who_closes_has_gone_and_who_waits_has_not() {
        let (mut ours, mut theirs) = pair().await;
        let peer = ours.peer(false);
        assert!(!peer.has_gone());
        theirs.write_all(b"x").await.unwrap();
        assert!(!peer.has_gone());
        let mut byte = [0];
        ours.read_exact(&mut byte).await.unwrap();
        drop(theirs);
        // The end of the stream is here once a read finds it.
        assert_eq!(ours.read(&mut byte).await.unwrap(), 0);
        assert!(peer.has_gone());
        drop(ours);
        assert!(peer.has_gone());
    }
    #[tokio::test]
    async fn with_tls_who_closes_has_gone_though_its_last_words_are_not_read() {
        let (ours, mut theirs) = pair().await;
        let (plain, tls) = (ours.peer(false), ours.peer(true));
        assert!(!tls.has_gone());
        theirs.write_all(b"goodbye").await.unwrap();
        theirs.shutdown().await.unwrap();
        drop(theirs);
        // The end follows the words, which are here.
        std::future::poll_fn(|cx| ours.with(|stream| stream.poll_read_ready(cx)))
            .await
            .unwrap();
        while !tls.has_gone() {
            tokio::task::yield_now().await;
        }
        assert!(!plain.has_gone());
    }

    #[tokio::test]
    async fn who_reads_nothing_fails_the_write() {
        let (mut ours, theirs) = pair().await;
        let long = vec![7; 64 << 20];
        let error = ours.write_all(&long).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
