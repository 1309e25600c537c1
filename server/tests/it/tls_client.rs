//! A client as simple as can be, with or without TLS, and the certificates it needs.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) pem: String,
    pub(crate) key: String,
}

/// One that signs certificates.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// For a server by this name.
    pub(crate) fn server_called(&self, name: &str) -> Pair {
        self.signed(&[name], ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn signed(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(CertificateParams::new(names).expect("names"), usage)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().expect("a key");
        params.extended_key_usages = vec![usage];
        Pair {
            pem: params.signed_by(&key, &self.issuer).expect("signed").pem(),
            key: key.serialize_pem(),
        }
    }

    /// For a server on this machine.
    pub(crate) fn server(&self) -> (String, String) {
        let pair = self.signed(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
        (pair.pem, pair.key)
    }

    pub(crate) fn client(&self, names: &[&str]) -> Pair {
        self.signed(names, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// For a client that Kubernetes knows by its common name, and its groups by its organizations.
    pub(crate) fn user(&self, name: &str, groups: &[&str]) -> Pair {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, *group);
        }
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The same, years ago.
    pub(crate) fn expired_user(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate that nobody else signed.
    pub(crate) fn selfsigned(name: &str) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        Pair {
            pem: params.self_signed(&key).expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }

    /// Status and version of an answer to a client that prefers HTTP/2.
    pub(crate) fn over_http2(&self, address: &str, path: &str) -> (u16, String) {
        let config = config(&self.pem, None, &["h2", "http/1.1"]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let client = reqwest::Client::builder()
                .use_preconfigured_tls(config)
                .build()
                .expect("a client");
            let answer = client
                .get(format!("https://{address}{path}"))
                .send()
                .await
                .expect("an answer");
            (answer.status().as_u16(), format!("{:?}", answer.version()))
        })
    }
}

/// `trusted` holds the certificates of authorities, in PEM.
pub(crate) fn config(trusted: &str, shown: Option<&Pair>, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(root.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let cert = CertificateDer::from_pem_slice(pair.pem.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(vec![cert], key).expect("a pair")
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Asks one request a connection.
pub(crate) struct Client {
    address: String,
    /// What the server's certificate must be for.
    name: String,
    tls: Option<Arc<ClientConfig>>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    head: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answered {
    /// The values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let of = self.head.iter().filter(|(known, _)| known == name);
        of.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn without_date(&self) -> Self {
        let mut copy = self.clone();
        copy.head.retain(|(name, _)| name != "date");
        copy
    }
}

impl Client {
    pub(crate) fn plain(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            name: String::new(),
            tls: None,
        }
    }

    /// One that trusts an authority, and shows a certificate if it has one.
    pub(crate) fn tls(address: &str, trusted: &Authority, shown: Option<&Pair>, protocols: &[&str]) -> Self {
        Self {
            address: address.to_owned(),
            name: "127.0.0.1".to_owned(),
            tls: Some(Arc::new(config(&trusted.pem, shown, protocols))),
        }
    }

    /// One that knows its server by another name than its address, and trusts these authorities.
    pub(crate) fn named(address: &str, name: &str, trusted: &str, shown: Option<&Pair>) -> Self {
        Self {
            address: address.to_owned(),
            name: name.to_owned(),
            tls: Some(Arc::new(config(trusted, shown, &["http/1.1"]))),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn secure(&self, config: &Arc<ClientConfig>) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let name = ServerName::try_from(self.name.clone()).expect("a name");
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, self.connect()?))
    }

    /// The protocol that a handshake agrees on.
    pub(crate) fn agreed(&self) -> Option<String> {
        let mut stream = self.secure(self.tls.as_ref()?).ok()?;
        let (connection, socket) = (&mut stream.conn, &mut stream.sock);
        connection.complete_io(socket).ok()?;
        let protocol = connection.alpn_protocol()?.to_vec();
        String::from_utf8(protocol).ok()
    }

    pub(crate) fn ask(&self, method: &str, path: &str, authorization: Option<&str>) -> Answered {
        self.try_ask(method, path, authorization).expect("an answer")
    }

    pub(crate) fn try_ask(&self, method: &str, path: &str, authorization: Option<&str>) -> io::Result<Answered> {
        let headers: Vec<(&str, &str)> = authorization
            .map(|value| ("Authorization", value))
            .into_iter()
            .collect();
        self.try_ask_with(method, path, &headers)
    }

    /// The same with these headers.
    pub(crate) fn try_ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answered> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut answer = Vec::new();
        let read = match &self.tls {
            None => talk(&mut self.connect()?, &request, &mut answer),
            Some(config) => talk(&mut self.secure(config)?, &request, &mut answer),
        };
        parse(&answer).ok_or_else(|| read.err().unwrap_or_else(|| io::Error::other("no answer")))
    }
}

fn talk(stream: &mut (impl Read + Write), request: &str, answer: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(request.as_bytes())?;
    stream.read_to_end(answer).map(drop)
}

fn parse(answer: &[u8]) -> Option<Answered> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let head = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Some(Answered {
        status,
        head,
        body: body.to_owned(),
    })
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    let pair = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
