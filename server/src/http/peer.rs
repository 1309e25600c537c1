//! A connection that others than its own task can look at.
//!
//! A short read is answered on the thread that read the request (see [`crate::api`]'s `shared`): nobody polls the
//! connection meanwhile, so whether the client is still there has to be asked of the socket.

use parking_lot::Mutex;
use rustix::net::RecvFlags;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection for the task that serves it.
///
/// The lock is free but while somebody looks whether the client is there. Without it (through `try_read`, which takes a
/// shared stream) the runtime would not see that a read that fills less than its buffer has emptied the socket, and
/// each request would end with a read that finds nothing.
#[derive(Debug)]
pub(super) struct Connection(Arc<Mutex<TcpStream>>);

/// The other end of a connection, as handlers see it among a request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Weak<Mutex<TcpStream>>);

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut TcpStream>) -> T) -> T {
        act(Pin::new(&mut self.0.lock()))
    }

    pub(super) fn peer(&self) -> Peer {
        Peer(Arc::downgrade(&self.0))
    }
}

impl Peer {
    /// Whether the client has closed the connection. One that has sent more before it closed counts as there.
    pub(crate) fn has_gone(&self) -> bool {
        let Some(stream) = self.0.upgrade() else {
            return true;
        };
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(&*stream.lock(), &mut [0u8; 1][..], flags) {
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

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write_vectored(cx, bytes))
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
        (Connection::new(stream), client)
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
        let peer = ours.peer();
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
}
