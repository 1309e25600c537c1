//! One target's connection and the HTTP/1.1 spoken over it: what nearly every scrape needs, and no more.
//!
//! ```text
//!   connected before? --> write the request --> wait --> head --> body --> kept for the next scrape
//!        | no                    | closed meanwhile: once more, over a new connection
//!        v                       v
//!     connect               connect
//! ```
//!
//! A connection belongs to its target, so that there is no pool, no task beside the scrape's own and no buffer while
//! nothing comes: the body is read to where it is parsed. TLS, HTTP/2 and proxies are the business of the general
//! client; so is a redirect, which is told to the caller and not followed here.
//!
//! # Reference
//! RFC 9112, sections 2 to 9.

use super::chunked::{ChunkError, Chunked};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tidegauge_model::{Lease, OverBudget};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest head of a response.
const MAX_HEAD_BYTES: usize = 64 << 10;
const TOO_LONG_HEAD: &str = "the head of the response is too long";
/// The most header lines of a response.
const MAX_HEADERS: usize = 128;
/// How much room there is at least when the first bytes are read.
const FIRST_BYTES: usize = 8 << 10;
/// How much room is made at least when there is too little.
const STEP_BYTES: usize = 32 << 10;

/// What went wrong on the wire.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// No connection, or no more.
    #[error("{0}")]
    Connection(String),
    #[error("{0}")]
    Response(&'static str),
    #[error("invalid response: {0}")]
    Head(#[from] httparse::Error),
    #[error("invalid chunked body: {0}")]
    Chunked(#[from] ChunkError),
    #[error("body size limit exceeded")]
    TooLong,
    #[error(transparent)]
    Memory(#[from] OverBudget),
}

/// What a response says before its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    /// Whether it sends us elsewhere.
    pub(crate) location: bool,
    framing: Framing,
    keep: bool,
}

/// How the end of a body is told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Framing {
    #[default]
    UntilClosed,
    Length(u64),
    Chunked,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Host {
    fn ip(&self) -> Option<IpAddr> {
        self.name.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// Whether this is an address of this machine's alone.
    pub(crate) fn is_loopback(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_loopback())
    }
}

/// A target's connection, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    idle: Option<TcpStream>,
    /// Whether the other end of the connection made last is on this machine.
    nearby: bool,
}

/// A response whose head has come. Dropped before its body is whole, it takes the connection with it.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    stream: TcpStream,
    /// What came: heads, and what followed.
    raw: Vec<u8>,
    /// Where the body begins in it.
    start: usize,
}

impl Wire {
    /// Sends a request and waits for the head of the response. `buffer` lends an allocation, once something comes.
    ///
    /// # Errors
    /// [`WireError`].
    pub(crate) async fn call(
        &mut self,
        host: &Host,
        request: &[u8],
        buffer: impl Fn() -> Vec<u8>,
    ) -> Result<Response, WireError> {
        if let Some(stream) = self.idle.take() {
            match exchange(stream, request, &buffer).await {
                // Whoever closed it while it was idle will have to be asked over another one.
                Err(Broken::Unanswered(_)) => {}
                Err(Broken::Answered(problem)) => return Err(problem),
                Ok(response) => return Ok(response),
            }
        }
        let stream = connect(host).await?;
        self.nearby = match (stream.peer_addr(), stream.local_addr()) {
            (Ok(peer), Ok(local)) => peer.ip().is_loopback() || peer.ip() == local.ip(),
            _ => false,
        };
        exchange(stream, request, &buffer).await.map_err(|broken| match broken {
            Broken::Unanswered(problem) | Broken::Answered(problem) => problem,
        })
    }

    /// Whether the other end is on this machine, as far as it is known.
    pub(crate) fn is_nearby(&self) -> bool {
        self.nearby
    }

    /// Reads the body of a response, and keeps the connection if it may be kept. Gives what came and where the body
    /// begins in it.
    ///
    /// # Errors
    /// [`WireError`], also if the body reaches `limit_bytes`.
    pub(crate) async fn body(
        &mut self,
        response: Response,
        limit_bytes: usize,
        lease: &mut Lease,
    ) -> Result<(Vec<u8>, usize), WireError> {
        let Response {
            head,
            mut stream,
            mut raw,
            start,
        } = response;
        lease.grow(raw.capacity() as u64)?;
        let whole = match head.framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).ok().filter(|length| *length < limit_bytes);
                let length = length.ok_or(WireError::TooLong)?;
                let end = start + length;
                while raw.len() < end {
                    read_more(&mut stream, &mut raw, end, lease).await?;
                }
                let whole = raw.len() == end;
                raw.truncate(end);
                whole
            }
            Framing::Chunked => {
                let mut chunked = Chunked::new(start);
                while !chunked.advance(&mut raw)? {
                    if chunked.decoded() - start >= limit_bytes {
                        return Err(WireError::TooLong);
                    }
                    read_more(&mut stream, &mut raw, usize::MAX, lease).await?;
                }
                let whole = raw.len() == chunked.decoded();
                raw.truncate(chunked.decoded());
                whole
            }
            Framing::UntilClosed => {
                while raw.len() - start < limit_bytes {
                    make_room(&mut raw, usize::MAX, lease)?;
                    if stream.read_buf(&mut raw).await? == 0 {
                        break;
                    }
                }
                false
            }
        };
        if raw.len() - start >= limit_bytes {
            return Err(WireError::TooLong);
        }
        if whole && head.keep {
            self.idle = Some(stream);
        }
        Ok((raw, start))
    }
}

/// Why an exchange ended early, and whether anything had been answered by then.
enum Broken {
    Unanswered(WireError),
    Answered(WireError),
}

async fn exchange(mut stream: TcpStream, request: &[u8], buffer: impl Fn() -> Vec<u8>) -> Result<Response, Broken> {
    let unanswered = |problem| Broken::Unanswered(WireError::from(problem));
    stream.write_all(request).await.map_err(unanswered)?;
    // A target that keeps us waiting is not to hold a buffer meanwhile.
    stream.readable().await.map_err(unanswered)?;
    let mut raw = buffer();
    raw.clear();
    if raw.capacity() < FIRST_BYTES {
        raw.reserve(FIRST_BYTES);
    }
    if stream.read_buf(&mut raw).await.map_err(unanswered)? == 0 {
        return Err(Broken::Unanswered(closed()));
    }
    let mut start = 0;
    loop {
        let head = raw.get(start..).unwrap_or_default();
        match parse_head(head).map_err(Broken::Answered)? {
            Some((head, bytes)) => {
                start += bytes;
                // What only announces the response is followed by it.
                if !(100..200).contains(&head.status) {
                    return Ok(Response {
                        head,
                        stream,
                        raw,
                        start,
                    });
                }
                if start >= MAX_HEAD_BYTES {
                    return Err(Broken::Answered(WireError::Response(TOO_LONG_HEAD)));
                }
                if raw.len() > start {
                    continue;
                }
            }
            None if raw.len() >= MAX_HEAD_BYTES => {
                return Err(Broken::Answered(WireError::Response(TOO_LONG_HEAD)));
            }
            None => {}
        }
        if raw.capacity() - raw.len() < FIRST_BYTES / 2 {
            raw.reserve(FIRST_BYTES);
        }
        let read = stream.read_buf(&mut raw).await;
        if read.map_err(|problem| Broken::Answered(problem.into()))? == 0 {
            return Err(Broken::Answered(closed()));
        }
    }
}

/// The head at the start of these bytes and its length, once it is whole.
fn parse_head(raw: &[u8]) -> Result<Option<(Head, usize)>, WireError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = response.parse(raw)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let mut head = Head {
        status,
        keep: response.version == Some(1),
        ..Head::default()
    };
    let (mut length, mut coded) = (None, false);
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let (name, value) = (header.name, value.trim());
        if name.eq_ignore_ascii_case("content-length") {
            let bytes: u64 = value
                .parse()
                .map_err(|_| WireError::Response("invalid Content-Length"))?;
            if length.replace(bytes).is_some_and(|before| before != bytes) {
                return Err(WireError::Response("Content-Length is given twice"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            coded = true;
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(WireError::Response("unsupported Transfer-Encoding"));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(',') {
                match option.trim() {
                    word if word.eq_ignore_ascii_case("close") => head.keep = false,
                    word if word.eq_ignore_ascii_case("keep-alive") => head.keep = true,
                    _ => {}
                }
            }
        } else if name.eq_ignore_ascii_case("content-type") {
            head.content_type.get_or_insert_with(|| value.to_owned());
        } else if name.eq_ignore_ascii_case("content-encoding") {
            head.content_encoding.get_or_insert_with(|| value.to_owned());
        } else if name.eq_ignore_ascii_case("location") {
            head.location = true;
        }
    }
    head.framing = match (status, coded, length) {
        (204 | 304, ..) => Framing::Length(0),
        (_, true, None) => Framing::Chunked,
        // Somebody on the way may have understood this otherwise than we do.
        (_, true, Some(_)) => {
            head.keep = false;
            Framing::Chunked
        }
        (_, false, Some(bytes)) => Framing::Length(bytes),
        (_, false, None) => Framing::UntilClosed,
    };
    Ok(Some((head, bytes)))
}

/// Reads what there is to the end of the buffer, which will hold `most` at most.
async fn read_more(stream: &mut TcpStream, raw: &mut Vec<u8>, most: usize, lease: &mut Lease) -> Result<(), WireError> {
    make_room(raw, most, lease)?;
    match stream.read_buf(raw).await? {
        0 => Err(WireError::Connection("unexpected EOF".to_owned())),
        _ => Ok(()),
    }
}

/// Makes room for what comes next. It grows with what has come, so that nobody gets room by promising much.
fn make_room(raw: &mut Vec<u8>, most: usize, lease: &mut Lease) -> Result<(), WireError> {
    let wanted = (most - raw.len().min(most)).clamp(1, STEP_BYTES / 2);
    if raw.capacity() - raw.len() >= wanted {
        return Ok(());
    }
    let step = raw.len().max(STEP_BYTES).min(most - raw.len().min(most)).max(1);
    // Asked before it is taken.
    lease.grow(step as u64)?;
    let before = raw.capacity();
    raw.reserve_exact(step);
    let more = (raw.capacity() - before) as u64;
    if more > step as u64 {
        lease.grow(more - step as u64)?;
    }
    Ok(())
}

async fn connect(host: &Host) -> Result<TcpStream, WireError> {
    let dial = format!("dial tcp {}:{}", host.name, host.port);
    let failed = |problem: &io::Error| WireError::Connection(format!("{dial}: connect: {}", plain(problem)));
    if let Some(ip) = host.ip() {
        let stream = TcpStream::connect(SocketAddr::new(ip, host.port)).await;
        return stream.and_then(ready).map_err(|problem| failed(&problem));
    }
    let name = host.name.as_str();
    let found = tokio::net::lookup_host((name, host.port)).await;
    let found = found.map_err(|problem| WireError::Connection(format!("{dial}: lookup {name}: {problem}")))?;
    let mut last = WireError::Connection(format!("{dial}: lookup {name}: no address"));
    for address in found {
        match TcpStream::connect(address).await.and_then(ready) {
            Ok(stream) => return Ok(stream),
            Err(problem) => last = failed(&problem),
        }
    }
    Err(last)
}

fn ready(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl From<io::Error> for WireError {
    fn from(problem: io::Error) -> Self {
        Self::Connection(plain(&problem))
    }
}

/// What the system says, without its number.
fn plain(problem: &io::Error) -> String {
    let text = problem.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn closed() -> WireError {
    WireError::Connection("the connection was closed before a response came".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tidegauge_model::Meter;
    use tokio::net::TcpListener;

    /// What a server does with the connections it takes, one after another.
    #[derive(Clone, Copy)]
    enum Act {
        /// Waits for a request, then sends this.
        Say(&'static str),
        /// Sends byte by byte.
        Drip(&'static str),
        Close,
    }
    use Act::{Close, Drip, Say};

    /// A server that plays one script per connection; gives its address.
    async fn serve(scripts: &'static [&'static [Act]]) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for script in scripts {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                for act in *script {
                    let mut request = [0; 4096];
                    match act {
                        Close => break,
                        Say(text) => {
                            let _ = stream.read(&mut request).await;
                            let _ = stream.write_all(text.as_bytes()).await;
                        }
                        Drip(text) => {
                            let _ = stream.read(&mut request).await;
                            for byte in text.as_bytes() {
                                let _ = stream.write_all(&[*byte]).await;
                                tokio::task::yield_now().await;
                            }
                        }
                    }
                }
            }
        });
        Host {
            name: "127.0.0.1".to_owned(),
            port,
        }
    }

    async fn get(wire: &mut Wire, host: &Host) -> Result<(u16, String), String> {
        let meter = Meter::new("bodies", 1 << 20);
        let once = async {
            let mut lease = meter.lease(0)?;
            let response = wire.call(host, b"GET / HTTP/1.1\r\n\r\n", Vec::new).await?;
            let status = response.head.status;
            let (raw, start) = wire.body(response, 1000, &mut lease).await?;
            Ok::<_, WireError>((status, String::from_utf8(raw[start..].to_vec()).unwrap()))
        };
        let done = tokio::time::timeout(Duration::from_secs(20), once).await.unwrap();
        assert_eq!(meter.used(), 0);
        done.map_err(|problem| problem.to_string())
    }

    #[tokio::test]
    async fn every_framing_is_read() {
        const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n";
        let scripts: &[&[Act]] = &[
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n"), Close],
            &[Drip("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n"), Close],
            &[
                Drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\na 1\n\r\n4\r\nb 2\n\r\n0\r\n\r\n"),
                Close,
            ],
            &[Say("HTTP/1.0 200 OK\r\n\r\na 1\n"), Close],
            &[
                Drip("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\ncontent-length:  1 \r\n\r\na"),
                Close,
            ],
            &[Say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), Close],
            &[Say("HTTP/1.1 204 No Content\r\n\r\n"), Close],
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na 1\n"), Close],
            &[
                Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1"),
                Close,
            ],
            &[
                Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
                Close,
            ],
            &[
                Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
                Close,
            ],
            &[
                Say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
                Close,
            ],
            &[Say(LONG), Close],
            &[Say("SSH-2.0-nothing\r\n"), Close],
            &[Close],
        ];
        let host = serve(scripts).await;
        for expected in [
            Ok((200, "a 1\n")),
            Ok((200, "a 1\n")),
            Ok((200, "a 1\nb 2\n")),
            Ok((200, "a 1\n")),
            Ok((200, "a")),
            Ok((404, "")),
            Ok((204, "")),
            Err("unexpected eof"),
            Err("unexpected eof"),
            Err("invalid chunked body: invalid chunk size"),
            Err("unsupported Transfer-Encoding"),
            Err("Content-Length is given twice"),
            Err("body size limit exceeded"),
            Err("invalid response: invalid HTTP version"),
            // Closed, or reset, as the request was not read.
            Err(""),
        ] {
            let found = get(&mut Wire::default(), &host).await;
            match (&found, expected) {
                (Ok((status, body)), Ok((want, text))) => assert_eq!((*status, body.as_str()), (want, text)),
                (Err(problem), Err(want)) => {
                    assert!(problem.to_lowercase().contains(&want.to_lowercase()), "{problem}");
                }
                _ => panic!("{found:?} {expected:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_made_anew_where_it_was_closed() {
        const SHORT: Act = Say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
        let scripts: &[&[Act]] = &[
            &[SHORT, SHORT, Close],
            &[
                Say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nb"),
                SHORT,
                Close,
            ],
            &[
                Say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc and more"),
                SHORT,
                Close,
            ],
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nd"), Close],
        ];
        let (host, mut wire) = (serve(scripts).await, Wire::default());
        for body in ["a", "a", "b", "c", "d"] {
            assert_eq!(get(&mut wire, &host).await, Ok((200, body.to_owned())));
        }
        let refused = get(&mut wire, &host).await.unwrap_err();
        assert!(
            refused.contains("connection refused") || refused.contains("closed") || refused.contains("reset"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn heads_have_an_end() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD_BYTES));
        let host = serve(Vec::leak(vec![&*Vec::leak(vec![Say(long.leak()), Close])])).await;
        let problem = get(&mut Wire::default(), &host).await.unwrap_err();
        assert!(problem.contains("too long"), "{problem}");

        let announced = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD_BYTES / 25 + 1);
        let host = serve(Vec::leak(vec![&*Vec::leak(vec![Say(announced.leak()), Close])])).await;
        let problem = get(&mut Wire::default(), &host).await.unwrap_err();
        assert!(problem.contains("too long"), "{problem}");
    }

    #[test]
    fn what_both_framings_claim_is_not_trusted_twice() {
        let head =
            parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nLocation: /x\r\n\r\n");
        let (head, _) = head.unwrap().unwrap();
        assert_eq!(
            (head.framing, head.keep, head.location),
            (Framing::Chunked, false, true)
        );
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nContent-").unwrap(), None);
    }
}
