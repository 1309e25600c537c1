//! Who may ask and over what, by real sockets and certificates: what `--web.config.file` and token files say.

use crate::program::{Program, texts};
use crate::tls_client::{Answered, Authority, Client, Pair, basic, bearer};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// `secret` for alice, at the least cost there is.
pub(crate) const ALICE: &str = "$2b$04$K1tGWLOjHt4eDxCtMPAPsOrnXUxpxodbhappFlK9pLE35eE1oZbam";
/// `other` for alice.
const ALICE_NEW: &str = "$2b$04$sESM1CKSiVRzm1KO2O76VeuykCgiWiSsHABBLSLk8bHPN7OP1.Q1G";

fn config_flag(dir: &Path) -> String {
    format!("--web.config.file={}", dir.join("web.yml").display())
}

/// Asks until the status is the one that is awaited, since changes of files are seen a moment later.
fn until(what: &str, status: u16, ask: impl Fn() -> u16) {
    let begun = Instant::now();
    loop {
        let got = ask();
        if got == status {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{what}: never {status}, last {got}"
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

#[test]
fn users_are_asked_for_their_passwords_and_changes_need_no_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let web = dir.path().join("web.yml");
    let headers = "http_server_config: {headers: {X-Frame-Options: deny, X-XSS-Protection: \"1; mode=block\"}}\n";
    fs::write(&web, format!("{headers}basic_auth_users: {{alice: {ALICE}}}\n")).expect("written");
    let program = Program::serve(&dir.path().join("data"), &[&config_flag(dir.path())]);
    let client = Client::plain(&program.address);
    let ask = |path: &str, authorization: Option<&str>| client.ask("GET", path, authorization);

    // No path is exempt, and nobody is told what was wrong.
    let wrong = [
        None,
        Some(basic("alice", "wrong")),
        Some(basic("bob", "secret")),
        Some(basic("", "")),
        Some("Basic ???".to_owned()),
        Some("Basic YWxpY2U=".to_owned()),
        Some("Digest username=alice".to_owned()),
        Some(bearer("secret")),
    ];
    for path in [
        "/",
        "/-/healthy",
        "/-/ready",
        "/metrics",
        "/api/v1/query?query=1",
        "/none",
    ] {
        let mut told: Vec<Answered> = Vec::new();
        for authorization in &wrong {
            let answer = ask(path, authorization.as_deref());
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (401, "Unauthorized\n"),
                "{path} {authorization:?}"
            );
            assert_eq!(answer.all("www-authenticate"), ["Basic"]);
            assert_eq!(answer.all("x-frame-options"), ["deny"]);
            told.push(answer);
        }
        let first = told[0].without_date();
        assert!(told.iter().all(|answer| answer.without_date() == first), "{told:?}");
    }
    let alice = basic("alice", "secret");
    for (path, status) in [
        ("/", 200),
        ("/-/healthy", 200),
        ("/api/v1/query?query=1", 200),
        ("/none", 404),
    ] {
        let answer = ask(path, Some(&alice));
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.all("x-xss-protection"), ["1; mode=block"]);
        assert!(answer.all("www-authenticate").is_empty());
    }

    // A hash is computed once for what is asked again, and for a name that is not known as for one that is.
    let computed = || {
        metric(
            &ask("/metrics", Some(&alice)).body,
            "tidegauge_http_passwords_computed_total",
        )
    };
    let before = computed();
    for _ in 0..5 {
        assert_eq!(ask("/", Some(&alice)).status, 200);
    }
    assert_eq!(computed(), before);
    assert_eq!(ask("/", Some(&basic("mallory", "new"))).status, 401);
    assert_eq!(computed(), before + 1.0);
    assert_eq!(ask("/", Some(&basic("alice", "new"))).status, 401);
    assert_eq!(computed(), before + 2.0);
}

#[test]
fn a_changed_password_is_taken_and_a_broken_file_keeps_the_last() {
    let dir = tempfile::tempdir().expect("a folder");
    let web = dir.path().join("web.yml");
    fs::write(&web, format!("basic_auth_users: {{alice: {ALICE}}}\n")).expect("written");
    let program = Program::serve(&dir.path().join("data"), &[&config_flag(dir.path())]);
    let client = Client::plain(&program.address);
    let status = |password: &str| client.ask("GET", "/", Some(&basic("alice", password))).status;
    assert_eq!((status("secret"), status("other")), (200, 401));

    fs::write(&web, format!("basic_auth_users: {{alice: {ALICE_NEW}}}\n")).expect("written");
    until("the new password", 200, || status("other"));
    assert_eq!(status("secret"), 401);

    fs::write(&web, "basic_auth_users: {alice: not-a-hash}\n").expect("written");
    let metrics = || client.ask("GET", "/metrics", Some(&basic("alice", "other"))).body;
    let begun = Instant::now();
    while metric(&metrics(), "tidegauge_web_config_last_reload_successful") != 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    assert_eq!((status("secret"), status("other")), (401, 200));
    let told = program.log_until("web configuration not loaded");
    assert!(
        told.contains("web.yml:1:27: basic_auth_users.alice: the hash is too short"),
        "{told}"
    );
    assert!(!told.contains("not-a-hash"), "{told}");
    assert_eq!(metric(&metrics(), "tidegauge_web_config_reload_failures_total"), 1.0);

    fs::write(&web, format!("basic_auth_users: {{alice: {ALICE}}}\n")).expect("written");
    until("the first password again", 200, || status("secret"));
    assert_eq!(status("other"), 401);
}

#[test]
fn tokens_have_two_roles() {
    let dir = tempfile::tempdir().expect("a folder");
    let (read, write) = (dir.path().join("read"), dir.path().join("write"));
    fs::write(&read, "# dashboards\nreader-0123456789\n").expect("written");
    fs::write(&write, "writer-0123456789\n").expect("written");
    let program = Program::serve(
        &dir.path().join("data"),
        &[
            &format!("--web.read-token-file={}", read.display()),
            &format!("--web.write-token-file={}", write.display()),
            "--web.enable-lifecycle",
            "--web.enable-admin-api",
            "--web.enable-remote-write-receiver",
        ],
    );
    let client = Client::plain(&program.address);
    let (reader, writer) = (bearer("reader-0123456789"), bearer("writer-0123456789"));
    let (nobody, lower) = (bearer("reader-012345678"), reader.replacen("Bearer", "bearer", 1));
    for (method, path, by_reader, by_writer) in [
        ("GET", "/", 200, 200),
        ("GET", "/metrics", 200, 200),
        ("GET", "/-/ready", 200, 200),
        ("GET", "/api/v1/query?query=1", 200, 200),
        ("POST", "/api/v1/query?query=1", 200, 200),
        ("POST", "/api/v1/labels", 200, 200),
        ("OPTIONS", "/api/v1/query", 204, 204),
        ("POST", "/api/v1/write", 403, 400),
        ("POST", "/api/v1/admin/tsdb/clean_tombstones", 403, 204),
        ("PUT", "/api/v1/admin/tsdb/snapshot", 403, 200),
        ("POST", "/-/reload", 403, 200),
        ("GET", "/-/reload", 403, 405),
        ("POST", "/api/v1/unknown", 403, 404),
        ("GET", "/api/v1/unknown", 404, 404),
    ] {
        let status = |authorization: Option<&str>| client.ask(method, path, authorization).status;
        assert_eq!(status(None), 401, "{method} {path}");
        assert_eq!(status(Some(&nobody)), 401, "{method} {path}");
        assert_eq!(status(Some(&reader)), by_reader, "{method} {path}");
        assert_eq!(status(Some(&lower)), by_reader, "{method} {path}");
        assert_eq!(status(Some(&writer)), by_writer, "{method} {path}");
    }
    let answer = client.ask("GET", "/", None);
    assert_eq!(answer.all("www-authenticate"), ["Bearer"]);
    let answer = client.ask("POST", "/-/quit", Some(&reader));
    assert_eq!((answer.status, answer.body.as_str()), (403, "Forbidden\n"));
    assert_eq!(answer.all("www-authenticate"), ["Bearer error=\"insufficient_scope\""]);

    // Nothing that can be read shows a token.
    for path in [
        "/api/v1/status/flags",
        "/api/v1/status/config",
        "/metrics",
        "/api/v1/status/runtimeinfo",
    ] {
        let body = client.ask("GET", path, Some(&writer)).body;
        assert!(!body.contains("0123456789"), "{path}");
    }
    // A token that was taken out is none any more.
    fs::write(&write, "another-0123456789\n").expect("written");
    until("the token that was taken out", 401, || {
        client.ask("GET", "/", Some(&writer)).status
    });
    assert_eq!(client.ask("GET", "/", Some(&bearer("another-0123456789"))).status, 200);
}

#[test]
fn tls_is_spoken_and_a_new_certificate_is_shown_without_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let show = |authority: &Authority| {
        let (cert, key) = authority.server();
        fs::write(dir.path().join("cert.pem"), cert).expect("written");
        fs::write(dir.path().join("key.pem"), key).expect("written");
    };
    show(&first);
    let section = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n";
    fs::write(dir.path().join("web.yml"), section).expect("written");
    let program = Program::serve(&dir.path().join("data"), &[&config_flag(dir.path())]);
    assert!(
        program.greeting[0].contains("https://127.0.0.1:"),
        "{:?}",
        program.greeting
    );
    let of = |authority: &Authority| Client::tls(&program.address, authority, None, &[]);
    let answer = of(&first).ask("GET", "/api/v1/query?query=1", None);
    assert_eq!(answer.status, 200);
    assert!(of(&second).try_ask("GET", "/", None).is_err());
    // Who does not speak TLS is not understood.
    assert!(Client::plain(&program.address).try_ask("GET", "/", None).is_err());

    // HTTP/2 is agreed on where the client knows it.
    let alpn = |protocols: &[&str]| Client::tls(&program.address, &first, None, protocols).agreed();
    assert_eq!(alpn(&["h2", "http/1.1"]).as_deref(), Some("h2"));
    assert_eq!(alpn(&["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(
        first.over_http2(&program.address, "/-/ready"),
        (200, "HTTP/2.0".to_owned())
    );

    show(&second);
    until("the new certificate", 200, || {
        of(&second).try_ask("GET", "/", None).map_or(0, |answer| answer.status)
    });
    assert!(of(&first).try_ask("GET", "/", None).is_err());

    let off = format!("{section}http_server_config: {{http2: false}}\n");
    fs::write(dir.path().join("web.yml"), off).expect("written");
    let agreed = || Client::tls(&program.address, &second, None, &["h2", "http/1.1"]).agreed();
    until("HTTP/2 switched off", 1, || {
        u16::from(agreed().as_deref() == Some("http/1.1"))
    });

    // To leave TLS out needs a restart: by mistake nobody does.
    fs::write(dir.path().join("web.yml"), "").expect("written");
    let told = program.log_until_while("whether TLS is used cannot change", || {
        drop(of(&second).try_ask("GET", "/", None));
    });
    assert!(told.contains("level=ERROR"), "{told}");
    assert_eq!(of(&second).ask("GET", "/", None).status, 200);
}

/// Who is answered, of clients with these certificates.
pub(crate) fn outcomes(address: &str, trusted: &Authority, shown: [Option<&Pair>; 4]) -> [bool; 4] {
    shown.map(|shown| {
        let client = Client::tls(address, trusted, shown, &[]);
        client
            .try_ask("GET", "/-/healthy", None)
            .is_ok_and(|answer| answer.status == 200)
    })
}

#[test]
fn certificates_of_clients_are_asked_for_as_the_file_says() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = ours.client(&["client.example"]);
    let foreign = theirs.client(&["client.example"]);
    let selfsigned = Authority::selfsigned("client.example");
    let certificates = [None, Some(&good), Some(&foreign), Some(&selfsigned)];
    // By policy: without a certificate, ours, of a stranger, and one that is given itself.
    for (policy, more, taken) in [
        ("NoClientCert", "", [true, true, true, true]),
        ("RequestClientCert", "", [true, true, true, true]),
        ("RequireAnyClientCert", "", [false, true, true, true]),
        ("RequireClientCert", "", [false, true, true, true]),
        (
            "VerifyClientCertIfGiven",
            ", client_ca_file: ca.pem",
            [true, true, false, true],
        ),
        (
            "RequireAndVerifyClientCert",
            ", client_ca_file: ca.pem",
            [false, true, false, true],
        ),
        (
            "RequireAndVerifyClientCert",
            ", client_ca_file: ca.pem, client_allowed_sans: [client.example]",
            [false, true, false, true],
        ),
        (
            "RequireAndVerifyClientCert",
            ", client_ca_file: ca.pem, client_allowed_sans: [other.example]",
            [false, false, false, false],
        ),
        (
            "RequestClientCert",
            ", client_allowed_sans: [client.example]",
            [false, true, true, true],
        ),
        (
            "RequireAndVerifyClientCert",
            ", client_ca: nothing",
            [false, false, false, false],
        ),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let (cert, key) = ours.server();
        fs::write(dir.path().join("cert.pem"), cert).expect("written");
        fs::write(dir.path().join("key.pem"), key).expect("written");
        fs::write(dir.path().join("ca.pem"), format!("{}{}", ours.pem(), selfsigned.pem)).expect("written");
        let section = format!(
            "tls_server_config: {{cert_file: cert.pem, key_file: key.pem, client_auth_type: {policy}{more}}}\n"
        );
        fs::write(dir.path().join("web.yml"), section).expect("written");
        let program = Program::serve(&dir.path().join("data"), &[&config_flag(dir.path())]);
        assert_eq!(outcomes(&program.address, &ours, certificates), taken, "{policy}{more}");
    }
}

#[test]
fn a_rate_bounds_requests_of_everyone() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("web.yml"), "rate_limit: {interval: 1h, burst: 3}\n").expect("written");
    let program = Program::serve(&dir.path().join("data"), &[&config_flag(dir.path())]);
    let client = Client::plain(&program.address);
    // The server's own scrape may have taken one.
    let statuses: Vec<u16> = (0..5).map(|_| client.ask("GET", "/-/ready", None).status).collect();
    assert_eq!(statuses[3..], [429, 429], "{statuses:?}");
    assert_eq!(statuses[0], 200, "{statuses:?}");
    let answer = client.ask("GET", "/-/ready", None);
    assert_eq!(answer.body, "Too Many Requests\n");
}

#[test]
fn a_start_with_files_that_cannot_be_used_says_where_and_touches_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    fs::write(
        dir.path().join("web.yml"),
        "http_server_config: {headers: {Server: mine}}\n",
    )
    .expect("written");
    fs::write(dir.path().join("tokens"), "0123456789abcdef\nshort\n").expect("written");
    let tokens = dir.path().join("tokens").display().to_string();
    for (flag, told) in [
        (
            config_flag(dir.path()),
            "web.yml:1:40: http_server_config.headers.Server: HTTP header \"Server\" can not be",
        ),
        (
            format!("--web.read-token-file={tokens}"),
            "tokens:2:1: a token has at least 16 characters",
        ),
        ("--web.config.file=/nonexistent.yml".to_owned(), "/nonexistent.yml"),
    ] {
        let data = format!("--storage.tsdb.path={}", data.display());
        let (code, out, err) = texts(&["--web.listen-address=127.0.0.1:0", &data, &flag]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains(told) && !err.contains("short\n"), "{err}");
    }
    assert!(!data.exists());
    // And `check` says the same.
    let file = dir.path().join("web.yml").display().to_string();
    let (code, _, err) = texts(&["check", "web-config", &file]);
    assert!(code == Some(1) && err.contains("web.yml:1:40: "), "{err}");
    fs::write(&file, "").expect("written");
    assert_eq!(
        texts(&["check", "web-config", &file]),
        (Some(0), format!("{file}: ok\n"), String::new())
    );
}

#[test]
fn who_listens_to_all_without_asking_who_comes_is_warned() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let program = Program::serve(&data, &["--web.listen-address=0.0.0.0:0"]);
    let told = program.log_until("anyone who reaches this address may ask");
    assert!(
        told.contains("address=0.0.0.0:") && told.contains("level=WARN"),
        "{told}"
    );
    program.signal("TERM");
    let (_, _, log) = program.wait();
    assert!(!log.contains("127.0.0.1:0 may ask"));
}
