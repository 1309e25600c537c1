//! Secrets stay secret: a word that stands wherever a secret can is looked for wherever something is told.

use crate::program::{Program, texts};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use tidegauge_server::config;

/// The secret. Its base 64 is looked for as well, since headers are made of it.
const CANARY: &str = "canary-5e11er";

/// Every page that tells something, and what is listed where.
const PAGES: [&str; 22] = [
    "/",
    "/metrics",
    "/config",
    "/targets",
    "/federate?match[]={__name__!=%22%22}",
    "/api/v1/status/config",
    "/api/v1/status/flags",
    "/api/v1/status/buildinfo",
    "/api/v1/status/runtimeinfo",
    "/api/v1/status/tsdb",
    "/api/v1/targets",
    "/api/v1/targets?state=dropped",
    "/api/v1/targets/metadata",
    "/api/v1/targets/relabel_steps",
    "/api/v1/scrape_pools",
    "/api/v1/metadata",
    "/api/v1/labels",
    "/api/v1/rules",
    "/api/v1/alerts",
    "/api/v1/query?query=up",
    "/api/v1/series?match[]={__name__!=%22%22}",
    "/api/v1/label/instance/values",
];

fn hides(what: &str, text: &str) {
    // `canary-5e11er`, alone and at the three places where it can stand in groups of three bytes.
    for form in [CANARY, "Y2FuYXJ5LTVlMTFl", "NhbmFyeS01ZTExZX", "jYW5hcnktNWUxMWVy"] {
        assert!(!text.contains(form), "{what} tells {form}: {text}");
    }
}

/// A file with the canary in every place for a secret. Nothing listens where its targets are.
fn everywhere(folder: &Path) -> String {
    let file = folder.join("secret");
    fs::write(&file, format!("{CANARY}\n")).unwrap();
    let file = file.display();
    let tls = format!("tls_config: {{cert: public, key: {CANARY}}}");
    let clients = [
        format!("basic_auth: {{username: u, password: {CANARY}}}"),
        format!("basic_auth: {{username_file: '{file}', password_file: '{file}'}}"),
        format!("authorization: {{credentials: {CANARY}}}"),
        format!("authorization: {{type: Own, credentials_file: '{file}'}}"),
        format!("bearer_token: {CANARY}"),
        format!("bearer_token_file: '{file}'"),
        format!("http_headers: {{X-A: {{secrets: [{CANARY}]}}, X-B: {{files: ['{file}']}}}}"),
        format!("proxy_url: http://u:{CANARY}@127.0.0.1:1\n    proxy_connect_header: {{X-A: [{CANARY}]}}"),
        format!("oauth2: {{client_id: u, client_secret: {CANARY}, token_url: 'http://127.0.0.1:1/'}}"),
        format!(
            "oauth2: {{client_id: u, client_secret_file: '{file}', token_url: 'http://u:{CANARY}@127.0.0.1:1/', {tls}}}"
        ),
        format!(
            "oauth2: {{client_id: u, client_secret: {CANARY}, token_url: 'https://127.0.0.1:1/', proxy_url: \
             'http://u:{CANARY}@127.0.0.1:1', proxy_connect_header: {{X-A: [{CANARY}]}}}}"
        ),
        tls,
    ];
    let log = folder.join("failed.log").display().to_string();
    let mut yaml = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, scrape_failure_log_file: '{log}'}}\nscrape_configs:\n"
    );
    for (i, client) in clients.iter().enumerate() {
        for scheme in ["http", "https"] {
            let _ = writeln!(
                yaml,
                "  - job_name: {scheme}{i}\n    scheme: {scheme}\n    static_configs: [{{targets: ['127.0.0.1:1']}}]\n    {client}"
            );
        }
        let _ = writeln!(
            yaml,
            "  - job_name: sd{i}\n    http_sd_configs:\n      - url: http://u:{CANARY}@127.0.0.1:1/sd\n        refresh_interval: \
             1s\n        {}",
            client.replace("\n    ", "\n        ")
        );
    }
    yaml.push_str("remote_write:\n");
    for (i, client) in clients.iter().enumerate() {
        let _ = writeln!(yaml, "  - url: http://u:{CANARY}@127.0.0.1:1/w{i}\n    {client}");
    }
    let _ = writeln!(
        yaml,
        "  - url: http://127.0.0.1:1/aws\n    sigv4: {{access_key: {CANARY}, secret_key: {CANARY}}}\n  - url: http://127.0.0.1:1/az\n    \
         azuread: {{oauth: {{client_id: a, client_secret: {CANARY}, tenant_id: b}}}}\nalerting:\n  alertmanagers:\n    - \
         basic_auth: {{username: u, password: {CANARY}}}\n      static_configs: [{{targets: ['127.0.0.1:1']}}]"
    );
    yaml
}

#[test]
fn no_page_no_log_and_no_error_tells_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prometheus.yml");
    let good = everywhere(folder.path());
    fs::write(&path, &good).unwrap();
    let flag = format!("--config.file={}", path.display());
    let data = folder.path().join("data");
    let program = Program::serve(&data, &[&flag, "--log.level=debug", "--web.enable-lifecycle"]);
    program.ask_until("/api/v1/targets", "\"scrapePool\":\"https11\"");
    program.ask_until("/api/v1/targets", "\"lastError\":\"Get");
    program.ask_until("/metrics", "tidegauge_sd_");
    let shown = program.ask_until("/api/v1/status/config", "client_secret: \\u003csecret\\u003e");
    for key in [
        "password: \\u003csecret\\u003e",
        "credentials: \\u003csecret\\u003e",
        "secret_key: \\u003csecret\\u003e",
    ] {
        assert!(shown.contains(key), "{key}: {shown}");
    }
    for page in PAGES {
        hides(page, &program.ask("GET", page).1);
    }
    // A file that no longer loads: what is wrong with it is told without it.
    fs::write(
        &path,
        good.replace("password: canary", "password: [canary")
            .replace("client_id: u", "client_idd: u"),
    )
    .unwrap();
    let (status, body) = program.ask("POST", "/-/reload");
    assert_eq!(status, 500, "{body}");
    hides("/-/reload", &body);
    hides("/api/v1/status/config", &program.ask("GET", "/api/v1/status/config").1);

    fs::write(&path, &good).unwrap();
    let (code, out, err) = texts(&["config", "show", &path.display().to_string()]);
    hides("config show", &format!("{out}{err}"));
    let check = texts(&["check", "config", &path.display().to_string()]);
    hides("check config", &format!("{check:?}"));
    assert_eq!((code, check.0), (Some(0), Some(0)), "{err}");
    let log = fs::read_to_string(folder.path().join("failed.log")).unwrap();
    assert!(log.contains("connection refused"));
    hides("failed.log", &log);
    program.signal("TERM");
    let said = program.wait().2;
    assert!(said.contains("DEBUG") || said.contains("debug"), "{said}");
    hides("the log", &said);
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prometheus.yml");
    for wrong in [
        "basic_auth: CANARY",
        "basic_auth: [CANARY]",
        "basic_auth: {password: [CANARY]}",
        "basic_auth: {password: {a: CANARY}}",
        "basic_auth: {password: CANARY, password_file: x}",
        "basic_auth: {password: 'CANARY",
        "basic_auth: {password: CANARY",
        "authorization: CANARY",
        "authorization: {type: Basic, credentials: CANARY}",
        "{bearer_token: CANARY, bearer_token_file: x}",
        "bearer_token: [CANARY]",
        "http_headers: {a: CANARY}",
        "http_headers: {a: {secrets: CANARY}}",
        "http_headers: {a: {secrets: {a: CANARY}}}",
        "proxy_connect_header: {a: CANARY}",
        "proxy_connect_header: {a: [CANARY]}",
        "proxy_url: {a: CANARY}",
        "oauth2: CANARY",
        "oauth2: {client_secret: CANARY}",
        "oauth2: {client_id: a, client_secret: [CANARY], token_url: b}",
        "tls_config: CANARY",
        "tls_config: {key: CANARY}",
        "tls_config: {key: [CANARY]}",
        "http_sd_configs: [{url: 'ftp://u:CANARY@x'}]",
        "http_sd_configs: [{url: 'http://u:CANARY@x:port'}]",
        "http_sd_configs: [{url: 'http://x', basic_auth: CANARY}]",
    ] {
        let wrong = wrong.replace("CANARY", CANARY);
        fs::write(&path, format!("scrape_configs:\n  - job_name: a\n    {wrong}\n")).unwrap();
        let error = config::load(&path).expect_err(&wrong).to_string();
        assert!(error.contains("prometheus.yml"), "{error}");
        hides(&wrong, &error);
    }
}
