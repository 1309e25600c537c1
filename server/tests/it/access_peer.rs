//! The same files of `--web.config.file` for a real Prometheus and for us: taken or refused alike, and the same answers.

use crate::access::{ALICE, outcomes};
use crate::process::{PATIENCE, free_port, peer, tidegauge};
use crate::tls_client::{Authority, Client, basic};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Files that both take or both refuse.
const SAME: &[&str] = &[
    "",
    "rate_limit: {interval: 1s, burst: 2}",
    "rate_limit: {interval: 1, burst: 2}",
    "rate_limit: {interval: 0}",
    "rate_limit: {interval: 1d}",
    "rate_limit: {interval: -1s, burst: -1}",
    "rate_limit: {interval: 1.5s, burst: 1.5}",
    "rate_limit: {interval: 1h2m3s}",
    "unknown: 1",
    "- a",
    "foo: [",
    "basic_auth_users: {a: x}",
    "basic_auth_users: {a: }",
    "basic_auth_users: []",
    "basic_auth_users: {a: 1, a: 2}",
    "basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
    "basic_auth_users: {'': $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
    "basic_auth_users: {a: $2y$32$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
    "basic_auth_users: {a: $2y$03$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
    "basic_auth_users: {a: $2z$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
    "basic_auth_users: {a: $2$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
    "basic_auth_users: {a: $3y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
    "basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDe!i}",
    "basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSiXXX}",
    "basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeS}",
    "tls_server_config:",
    "tls_server_config: {}",
    "tls_server_config: {cert_file: c.pem}",
    "tls_server_config: {key_file: k.pem}",
    "tls_server_config: {TLS}",
    "tls_server_config: {TLS, cert: x}",
    "tls_server_config: {cert_file: c.pem, key_file: nope.pem}",
    "tls_server_config: {cert_file: k.pem, key_file: k.pem}",
    "tls_server_config: {cert_file: c.pem, key_file: c.pem}",
    "tls_server_config: {cert_file: c.pem, key_file: other.pem}",
    "tls_server_config: {client_auth_type: NoClientCert}",
    "tls_server_config: {min_version: TLS12}",
    "tls_server_config: {min_version: TLS14}",
    "tls_server_config: {client_allowed_sans: [x]}",
    "tls_server_config: {TLS, client_auth_type: x}",
    "tls_server_config: {TLS, client_auth_type: NoClientCert}",
    "tls_server_config: {TLS, client_auth_type: RequestClientCert}",
    "tls_server_config: {TLS, client_auth_type: RequireAnyClientCert}",
    "tls_server_config: {TLS, client_auth_type: RequireClientCert}",
    "tls_server_config: {TLS, client_auth_type: VerifyClientCertIfGiven}",
    "tls_server_config: {TLS, client_auth_type: RequireAndVerifyClientCert}",
    "tls_server_config: {TLS, client_auth_type: RequireAndVerifyClientCert, client_ca_file: c.pem}",
    "tls_server_config: {TLS, client_auth_type: RequireAndVerifyClientCert, client_ca_file: k.pem}",
    "tls_server_config: {TLS, client_auth_type: RequireAndVerifyClientCert, client_ca_file: nope}",
    "tls_server_config: {TLS, client_auth_type: RequireAndVerifyClientCert, client_ca: garbage}",
    "tls_server_config: {TLS, client_ca_file: c.pem}",
    "tls_server_config: {TLS, client_auth_type: NoClientCert, client_allowed_sans: [x]}",
    "tls_server_config: {TLS, client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [x]}",
    "tls_server_config: {TLS, min_version: SSL30}",
    "tls_server_config: {TLS, min_version: TLS10}",
    "tls_server_config: {TLS, min_version: TLS13}",
    "tls_server_config: {TLS, max_version: TLS12}",
    "tls_server_config: {TLS, min_version: ''}",
    "tls_server_config: {TLS, cipher_suites: [TLS_AES_128_GCM_SHA256]}",
    "tls_server_config: {TLS, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}",
    "tls_server_config: {TLS, cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]}",
    "tls_server_config: {TLS, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}",
    "tls_server_config: {TLS, cipher_suites: [x]}",
    "tls_server_config: {TLS, curve_preferences: [X25519, CurveP256, CurveP384]}",
    "tls_server_config: {TLS, curve_preferences: [x]}",
    "tls_server_config: {TLS, prefer_server_cipher_suites: false}",
    "http_server_config: {http2: false}",
    "http_server_config: {http2: no}",
    "http_server_config: {http2: 7}",
    "http_server_config: {headers: {X-Frame-Options: deny}}",
    "http_server_config: {headers: {X-Frame-Options: DENY}}",
    "http_server_config: {headers: {X-Frame-Options: ''}}",
    "http_server_config: {headers: {x-frame-options: deny}}",
    "http_server_config: {headers: {Foo: deny}}",
    "http_server_config: {headers: {X-Content-Type-Options: x}}",
    "http_server_config: {headers: {Strict-Transport-Security: max-age=1, X-XSS-Protection: ä}}",
];

/// Files that Prometheus takes and we refuse, and why.
const STRICTER: &[(&str, &str)] = &[
    (
        "basic_auth_users: {a: $2y$31$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
        "a password that takes hours lets nobody in",
    ),
    (
        "tls_server_config: {TLS, max_version: TLS11}",
        "there is no TLS 1.1 here",
    ),
    (
        "tls_server_config: {TLS, min_version: TLS13, max_version: TLS12}",
        "no connection would ever be made",
    ),
    (
        "tls_server_config: {TLS, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]}",
        "there is no such cipher here",
    ),
    (
        "tls_server_config: {TLS, curve_preferences: [CurveP521]}",
        "there is no such curve here",
    ),
    (
        "http_server_config: {headers: {Content-Security-Policy: \"a\\nb: c\"}}",
        "a line break begins another header",
    ),
];

fn takes(program: &Path, file: &Path) -> bool {
    let run = Command::new(program).args(["check", "web-config"]).arg(file).output();
    run.expect("it runs").status.success()
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn files_are_taken_and_refused_as_by_prometheus() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ours, others) = (Authority::new("ours").server(), Authority::new("others").server());
    for (name, text) in [("c.pem", &ours.0), ("k.pem", &ours.1), ("other.pem", &others.1)] {
        fs::write(dir.path().join(name), text).expect("written");
    }
    let file = dir.path().join("web.yml");
    let (promtool, program) = (peer("promtool"), tidegauge());
    let mut wrong = Vec::new();
    let strict = STRICTER.iter().map(|(text, _)| (text, Some(false)));
    for (text, expected) in SAME.iter().map(|text| (text, None)).chain(strict) {
        fs::write(
            &file,
            text.replace("TLS,", "cert_file: c.pem, key_file: k.pem,")
                .replace("{TLS}", "{cert_file: c.pem, key_file: k.pem}"),
        )
        .expect("written");
        let (theirs, ours) = (takes(&promtool, &file), takes(&program, &file));
        if expected.map_or(theirs != ours, |expected| ours != expected || !theirs) {
            wrong.push(format!("{text}: theirs {theirs}, ours {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A server with a file, until it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(program: &Path, dir: &Path, name: &str) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        fs::write(dir.join("prometheus.yml"), "global: {scrape_interval: 1h}\n").expect("written");
        let child = Command::new(program)
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--web.config.file={}", dir.join("web.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join(name).display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let began = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(began.elapsed() < PATIENCE, "{name} does not listen");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn requests_are_let_in_and_refused_as_by_prometheus() {
    let dir = tempfile::tempdir().expect("a folder");
    let headers = "http_server_config: {headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=7}}\n";
    fs::write(
        dir.path().join("web.yml"),
        format!("{headers}basic_auth_users: {{alice: {ALICE}}}\n"),
    )
    .expect("written");
    let servers = [("theirs", peer("prometheus")), ("ours", tidegauge())];
    let servers = servers.map(|(name, program)| Server::start(&program, dir.path(), name));
    let credentials = [
        None,
        Some(basic("alice", "secret")),
        Some(basic("alice", "wrong")),
        Some(basic("bob", "secret")),
        Some(basic("alice", "secret").replacen("Basic", "bAsIc", 1)),
        Some("Basic YWxpY2U=".to_owned()),
        Some("Bearer x".to_owned()),
    ];
    for (method, path) in [
        ("GET", "/-/healthy"),
        ("GET", "/-/ready"),
        ("POST", "/-/reload"),
        ("POST", "/-/quit"),
        ("GET", "/-/quit"),
        ("GET", "/none"),
        ("GET", "/api/v1/labels"),
        ("POST", "/api/v1/admin/tsdb/clean_tombstones"),
        ("POST", "/api/v1/write"),
    ] {
        for shown in &credentials {
            let [theirs, ours] = [&servers[0], &servers[1]].map(|server| {
                let client = Client::plain(&server.address);
                // A start may not be over yet.
                let began = Instant::now();
                let mut answer = client.ask(method, path, shown.as_deref());
                while answer.status == 503 && began.elapsed() < PATIENCE {
                    answer = client.ask(method, path, shown.as_deref());
                }
                let of = |name: &str| answer.all(name).join(",");
                (
                    answer.status,
                    of("www-authenticate"),
                    of("x-frame-options"),
                    of("strict-transport-security"),
                )
            });
            assert_eq!(theirs, ours, "{method} {path} {shown:?}");
        }
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn certificates_of_clients_are_taken_as_by_prometheus() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (good, foreign) = (ours.client(&["client.example"]), theirs.client(&["client.example"]));
    let selfsigned = Authority::selfsigned("client.example");
    let (cert, key) = ours.server();
    fs::write(dir.path().join("cert.pem"), cert).expect("written");
    fs::write(dir.path().join("key.pem"), key).expect("written");
    fs::write(dir.path().join("ca.pem"), format!("{}{}", ours.pem(), selfsigned.pem)).expect("written");
    for asked in [
        "RequestClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven, client_ca_file: ca.pem",
        "RequireAndVerifyClientCert, client_ca_file: ca.pem",
        "RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: [client.example]",
        "RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: [other.example]",
        "RequestClientCert, client_allowed_sans: [client.example]",
        "RequireAndVerifyClientCert, client_ca: nothing",
    ] {
        let section =
            format!("tls_server_config: {{cert_file: cert.pem, key_file: key.pem, client_auth_type: {asked}}}\n");
        fs::write(dir.path().join("web.yml"), section).expect("written");
        let both = [("theirs", peer("prometheus")), ("ours", tidegauge())].map(|(name, program)| {
            let server = Server::start(&program, dir.path(), name);
            outcomes(
                &server.address,
                &ours,
                [None, Some(&good), Some(&foreign), Some(&selfsigned)],
            )
        });
        assert_eq!(both[0], both[1], "{asked}");
    }
}
