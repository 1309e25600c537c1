//! The command line, the start, reload and the end, on the real binary.

use crate::program::{Program, texts};
use crate::tls_client::Authority;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tidegauge_server::cli::flags::{self, Effect, FLAGS, FlagKind};

#[test]
fn every_flag_of_prometheus_is_taken_in_every_form() {
    for flag in FLAGS {
        let forms: Vec<Vec<String>> = match flag.kind {
            FlagKind::Switch => vec![vec![format!("--{}", flag.name)], vec![format!("--no-{}", flag.name)]],
            FlagKind::Value | FlagKind::Repeated => vec![
                vec![format!("--{}=1", flag.name)],
                vec![format!("--{}", flag.name), "1".to_owned()],
            ],
        };
        for form in forms {
            let sorted = flags::sort(form.clone()).unwrap_or_else(|e| panic!("{form:?}: {e}"));
            assert_eq!(
                sorted.ignored.contains(&flag.name),
                flag.effect == Effect::None,
                "{form:?}"
            );
        }
    }
}

/// `status/flags` of a recorded Prometheus names every flag it has, hidden ones too.
#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn the_table_holds_exactly_what_prometheus_has() {
    let shared = std::env::var("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the shared folder");
    let text = fs::read_to_string(format!("{shared}/conformance/api/examples.json")).expect("the recordings");
    let examples: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let recorded = examples
        .as_array()
        .expect("a list")
        .iter()
        .find(|e| e["path"] == "/api/v1/status/flags")
        .expect("the flags");
    let mut theirs: Vec<&str> = recorded["body"]["data"]
        .as_object()
        .expect("flags")
        .keys()
        .map(String::as_str)
        .collect();
    let mut ours: Vec<&str> = FLAGS
        .iter()
        .filter(|f| f.effect != Effect::Own)
        .map(|f| f.name)
        .collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, theirs);
}

#[test]
fn an_unknown_flag_is_refused_with_the_nearest() {
    let (code, out, err) = texts(&["--storage.tsdb.retention.tim=1d"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(
        err,
        "tidegauge: unknown flag --storage.tsdb.retention.tim; did you mean --storage.tsdb.retention.time?\n"
    );
    assert_eq!(texts(&["serve", "--query.timeout=soon"]).0, Some(2));
    assert_eq!(texts(&["check"]).0, Some(2));
}

#[test]
fn help_and_version_are_told() {
    let (code, help, _) = texts(&["--help"]);
    assert_eq!(code, Some(0));
    for part in [
        "--config.file",
        "Storage:",
        "[default: 15d]",
        "--rules.alert.resend-delay",
        "check",
        "--memory.limit",
    ] {
        assert!(help.contains(part), "{part}");
    }
    for args in [&["--version"][..], &["version"], &["-V"]] {
        let (code, version, _) = texts(args);
        assert_eq!(code, Some(0));
        assert!(
            version.starts_with(&format!("tidegauge {}", env!("CARGO_PKG_VERSION"))),
            "{version}"
        );
    }
}

#[test]
fn check_config_names_the_place_and_ends_with_1() {
    let dir = tempfile::tempdir().expect("a folder");
    let (good, bad) = (dir.path().join("good.yml"), dir.path().join("bad.yml"));
    fs::write(&good, "rule_files: [x.yml]\nscrape_configs:\n  - job_name: a\n").expect("written");
    fs::write(&bad, "global:\n  scrap_interval: 1s\n").expect("written");
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let (code, out, err) = texts(&["check", "config", &good]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.contains("ok, 1 scrape job") && out.contains("line 1: rule_files"),
        "{out}"
    );
    let (code, out, err) = texts(&["check", "config", &good, &bad]);
    assert_eq!(code, Some(1));
    assert!(out.contains("ok, 1 scrape job"), "{out}");
    assert!(err.contains(&format!("{bad}:2:3: global.scrap_interval: ")), "{err}");
    assert!(err.contains("did you mean scrape_interval?"), "{err}");
}

#[test]
#[cfg(feature = "kubernetes")]
fn check_config_refuses_kubeconfigs_whose_credentials_come_from_programs() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, kubeconfig) = (dir.path().join("a.yml"), dir.path().join("kube.yml"));
    let text = "scrape_configs: [{job_name: pods, kubernetes_sd_configs: [{role: pod, kubeconfig_file: kube.yml}]}]\n";
    fs::write(&file, text).expect("written");
    let file = file.display().to_string();
    let user = |user: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1'}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        )
    };
    let (code, _, err) = texts(&["check", "config", &file]);
    let missing = format!(
        "kubernetes_sd_configs: kubeconfig {}: No such file",
        kubeconfig.display()
    );
    assert!(code == Some(1) && err.contains(&missing), "{err}");
    fs::write(
        &kubeconfig,
        user("{exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, env: [{name: KEY, value: hunter2}]}}"),
    )
    .expect("written");
    let (code, out, err) = texts(&["check", "config", &file]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    let told = format!(
        "tidegauge: {file}: job \"pods\": kubernetes_sd_configs: kubeconfig {}: the user's credentials come from a program \
         (exec: \"aws\"), which is not run here: use a token, a tokenFile or a client certificate\n",
        kubeconfig.display()
    );
    assert!(err.starts_with(&told) && !err.contains("hunter2"), "{err}");
    fs::write(&kubeconfig, user("{token: x}")).expect("written");
    let (code, out, _) = texts(&["check", "config", &file]);
    assert!(code == Some(0) && out.contains("ok, 1 scrape job"), "{out}");
}

#[test]
#[cfg(not(feature = "kubernetes"))]
fn without_kubernetes_it_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.yml");
    let why = "this program was built without discovery in Kubernetes";
    for (text, place) in [
        (
            "scrape_configs:\n- job_name: pods\n  kubernetes_sd_configs: [{role: pod}]\n",
            "3:26: scrape_configs[0].kubernetes_sd_configs: ",
        ),
        ("tidegauge: {presets: [kubernetes]}\n", "1:12: tidegauge: "),
    ] {
        fs::write(&file, text).expect("written");
        let path = file.display().to_string();
        let (code, _, err) = texts(&["check", "config", &path]);
        assert!(
            code == Some(1) && err.contains(&format!("{path}:{place}")) && err.contains(why),
            "{err}"
        );
    }
    let data = format!("--storage.tsdb.path={}", dir.path().join("data").display());
    let (code, _, err) = texts(&["--kubernetes", "--web.listen-address=127.0.0.1:0", &data]);
    assert!(
        code == Some(1) && err.contains("--kubernetes") && err.contains(why),
        "{err}"
    );
}

#[test]
fn a_file_that_is_no_text_or_has_no_end_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.yml");
    fs::write(&file, b"global:\n  external_labels: {a: \"\xff\"}\n").expect("written");
    let file = file.display().to_string();
    let (code, _, err) = texts(&["check", "config", &file]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains(&format!("{file}:2:25: not valid UTF-8: byte 0xff")),
        "{err}"
    );
    let (code, _, err) = texts(&["check", "config", "/dev/zero"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/dev/zero: the file has more than"), "{err}");
}

#[test]
fn config_show_prints_the_built_in_configuration() {
    let (code, out, _) = texts(&["config", "show"]);
    assert_eq!(code, Some(0));
    for part in [
        "scrape_interval: 5s",
        "job_name: tidegauge",
        "127.0.0.1:9090",
        "job_name: node",
        "127.0.0.1:9100",
    ] {
        assert!(out.contains(part), "{part} in\n{out}");
    }
}

#[test]
fn a_start_that_fails_says_why_in_one_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = format!("--storage.tsdb.path={}", dir.path().join("data").display());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let errors = |args: &[&str]| {
        let (code, out, err) = texts(args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        err.lines()
            .filter(|l| l.starts_with("tidegauge: "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join("\n")
    };

    let err = errors(&[&format!("--web.listen-address={address}"), &data]);
    assert!(
        err.contains(&address.to_string()) && err.contains("--web.listen-address"),
        "{err}"
    );

    fs::write(dir.path().join("file"), "").expect("written");
    let below_a_file = format!("--storage.tsdb.path={}", dir.path().join("file/data").display());
    let err = errors(&["--web.listen-address=127.0.0.1:0", &below_a_file]);
    assert!(
        err.contains("file/data") && err.contains("--storage.tsdb.path"),
        "{err}"
    );

    let err = errors(&["--config.file=/nonexistent.yml", &data]);
    assert!(err.contains("cannot read configuration file /nonexistent.yml"), "{err}");
    assert!(
        !dir.path().join("data").exists(),
        "nothing is touched before the configuration is read"
    );
}

#[test]
fn a_folder_in_use_and_one_of_prometheus_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let ours = dir.path().join("ours");
    let program = Program::serve(&ours, &[]);
    let refused = |folder: &std::path::Path| {
        let data = format!("--storage.tsdb.path={}", folder.display());
        let (code, out, err) = texts(&["--web.listen-address=127.0.0.1:0", &data]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains("choose another folder with --storage.tsdb.path"), "{err}");
        err
    };
    assert!(refused(&ours).contains("locked by another process"));
    assert_eq!(program.ask("GET", "/-/ready").0, 200);

    let theirs = dir.path().join("theirs");
    fs::create_dir_all(theirs.join("chunks_head")).expect("made");
    fs::create_dir_all(theirs.join("wal")).expect("made");
    fs::write(theirs.join("wal/00000000"), "").expect("written");
    assert!(refused(&theirs).contains("Prometheus"));
    let left: Vec<_> = fs::read_dir(&theirs).expect("readable").map_while(Result::ok).collect();
    assert_eq!(left.len(), 2, "nothing is added: {left:?}");
}

#[test]
fn a_target_has_at_most_its_series_and_goes_on_with_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--storage.max-series-per-target=20"]);
    let query = |text: &str| format!("/api/v1/query?query={text}");
    program.ask_until(&query("count(%7Bjob%3D%22tidegauge%22%7D)"), "\"20\"");
    program.ask_until(&query("up%7Bjob%3D%22tidegauge%22%7D"), "\"1\"");
    let told = program.log_until("some samples of this target were refused");
    assert!(
        told.contains("limit max_series_per_timeline of 20 is reached"),
        "{told}"
    );
    let metrics = program.ask("GET", "/metrics").1;
    for name in [
        "tidegauge_tsdb_head_timeline_series_refused_total",
        "tidegauge_scrape_series_refused_total",
    ] {
        let refused = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        assert!(refused.is_some_and(|n| n > 0.0), "{name}: {refused:?}");
    }
    let flags = program.ask("GET", "/api/v1/status/flags").1;
    assert!(flags.contains("\"storage.max-series-per-target\":\"20\""), "{flags}");
}

#[test]
fn a_deletion_of_more_than_may_be_hidden_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--storage.max-tombstones=1", "--web.enable-admin-api"]);
    let own = "%7Bjob%3D%22tidegauge%22%7D";
    program.ask_until(&format!("/api/v1/query?query=up{own}"), "\"1\"");
    let delete = |matched: &str| program.ask("POST", &format!("/api/v1/admin/tsdb/delete_series?match[]={matched}"));
    let (status, told) = delete(own);
    assert!(
        status >= 400 && told.contains("deleted intervals is over the limit of 1"),
        "{status} {told}"
    );
    assert_eq!(delete(&format!("up{own}")), (204, String::new()));
}

#[test]
fn samples_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let query = "/api/v1/query?query=count_over_time(up%7Bjob%3D%22tidegauge%22%7D%5B1h%5D)";
    let program = Program::serve(dir.path(), &[]);
    program.ask_until(query, "\"value\"");
    program.signal("KILL");
    drop(program);
    let again = Program::serve(dir.path(), &[]);
    assert!(again.ask("GET", query).1.contains("\"value\""));
}

#[test]
fn a_start_tells_what_the_log_gave_back_and_what_is_damaged() {
    let dir = tempfile::tempdir().expect("a folder");
    let query = "/api/v1/query?query=count_over_time(up%7Bjob%3D%22tidegauge%22%7D%5B1h%5D)";
    let program = Program::serve(
        dir.path(),
        &["--storage.wal.fsync=interval", "--storage.encoding=gorilla"],
    );
    program.ask_until(query, "\"value\"");
    program.signal("KILL");
    drop(program);
    let program = Program::serve(dir.path(), &[]);
    let told = program.log_until("store opened, its log replayed");
    assert!(told.contains("level=INFO") && !told.contains("rows=0"), "{told}");
    program.signal("KILL");
    drop(program);

    let mut segments: Vec<_> = fs::read_dir(dir.path().join("wal"))
        .expect("a log")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| fs::metadata(path).is_ok_and(|m| m.len() > 100))
        .collect();
    segments.sort();
    let last = segments.pop().expect("a segment with rows");
    let bytes = fs::read(&last).expect("readable");
    fs::write(&last, &bytes[..bytes.len() - 7]).expect("written");
    let program = Program::serve(dir.path(), &[]);
    // A later start has begun a segment of its own: this end is no longer the log's.
    let place = program.log_until("the log is damaged");
    assert!(
        place.contains(&last.display().to_string()) && place.contains("offset="),
        "{place}"
    );
    let told = program.log_until("as far as it could be read");
    assert!(
        told.contains("level=WARN") && told.contains("damaged_places=1"),
        "{told}"
    );
}

#[test]
fn queries_are_answered_and_explained_on_the_command_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &[]);
    program.ask_until("/api/v1/query?query=up%7Bjob%3D%22tidegauge%22%7D", "\"value\"");
    let url = format!("--url=http://{}", program.address);
    for args in [
        &["query", "instant", &url, "count(up) * 0"][..],
        &["query", &url, "count(up) * 0"],
    ] {
        let (code, out, err) = texts(args);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.starts_with("{} 0 @"), "{out}");
    }
    let explain = [
        "query",
        "--explain",
        &url,
        "sum(count_over_time(up{job=\"tidegauge\"}[5m]))",
    ];
    let (code, out, err) = texts(&explain);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for part in [
        "steps    1,",
        "sum ",
        "└─ count_over_time",
        "up{job=\"tidegauge\"}[5m]",
        "1 series on 1 timeline, ",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let range = [&explain[..], &["--start=100", "--end=160", "--step=15"]].concat();
    let (code, out, _) = texts(&range);
    assert!(
        code == Some(0) && out.starts_with("steps    5, first at 100, one every 15s"),
        "{out}"
    );

    let (code, out, err) = texts(&["query", &url, "sum(rate(up))"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("1:10: parse error: expected type range vector"), "{err}");
    assert!(
        err.contains("\nsum(rate(up))\n         ^^ expected type range vector"),
        "{err}"
    );
    assert_eq!(texts(&["query"]).0, Some(2));
}

/// As promtool is told how to call a server.
#[test]
fn a_server_with_tls_and_users_is_asked_as_a_file_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    let authority = Authority::new("ours");
    let (certificate, key) = authority.server();
    write("server.pem", &certificate);
    write("server.key", &key);
    write("ca.pem", authority.pem());
    let users = format!("basic_auth_users: {{alice: {}}}\n", crate::access::ALICE);
    write(
        "web.yml",
        &format!("tls_server_config: {{cert_file: server.pem, key_file: server.key}}\n{users}"),
    );
    write("tokens", "a-token-that-may-read\n");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let flags = [
        format!("--web.config.file={}", path("web.yml")),
        format!("--web.read-token-file={}", path("tokens")),
    ];
    let program = Program::serve(&dir.path().join("data"), &[&flags[0], &flags[1]]);
    let url = format!("--url=https://{}", program.address);
    let ask = |client: &str| {
        write("client.yml", client);
        texts(&["query", &url, "--http.config.file", &path("client.yml"), "1 + 1"])
    };
    write("password", "secret\n");
    let trust = "tls_config: {ca_file: ca.pem}\n";
    for client in [
        format!("{trust}basic_auth: {{username: alice, password: secret}}\n"),
        format!("{trust}basic_auth: {{username: alice, password_file: password}}\n"),
        format!("{trust}authorization: {{credentials: a-token-that-may-read}}\n"),
        "tls_config: {insecure_skip_verify: true}\nbasic_auth: {username: alice, password: secret}\n".to_owned(),
    ] {
        let (code, out, err) = ask(&client);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{client}");
        assert!(out.starts_with("2 @"), "{client}: {out}");
    }
    for (client, told) in [
        (trust.to_owned(), "401 Unauthorized: --http.config.file says who asks"),
        (
            format!("{trust}basic_auth: {{username: alice, password: hunter2}}\n"),
            "401 Unauthorized",
        ),
        (
            "basic_auth: {username: alice, password: hunter2}\n".to_owned(),
            "certificate",
        ),
        (
            format!("{trust}basic_auht: {{password: hunter2}}\n"),
            "client.yml:2:1: basic_auht: ",
        ),
        (
            format!("{trust}basic_auth: {{username: alice, password_file: none}}\n"),
            "none: ",
        ),
    ] {
        let (code, out, err) = ask(&client);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{client}");
        assert!(err.contains(told) && !err.contains("hunter2"), "{client}: {err}");
    }
    let (code, _, err) = texts(&["query", "instant", &url, "--http.config.file=/none/client.yml", "1"]);
    assert!(
        code == Some(1) && err.contains("cannot read configuration file /none/client.yml"),
        "{err}"
    );
}

#[test]
fn limits_of_queries_are_set_by_flags() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = [
        "--query.timeout=300ms",
        "--query.lookback-delta=7s",
        "--query.max-samples=400000",
        "--memory.limit=100MB",
    ];
    let program = Program::serve(dir.path(), &flags);
    let ask = |query: &str| program.ask("GET", &format!("/api/v1/query?query={query}"));
    let (status, body) = ask("quantile_over_time(0.5,quantile_over_time(0.5,vector(time())[1d:1s])[1d:1s])");
    assert_eq!(status, 503, "{body}");
    assert!(
        body.contains(r#""errorType":"timeout","error":"query timed out in expression evaluation""#),
        "{body}"
    );
    let (status, body) = ask("count_over_time(vector(1)[1h:10ms])");
    assert_eq!(status, 422, "{body}");
    assert!(
        body.contains(r#""errorType":"execution","error":"query processing would load too many samples into memory"#),
        "{body}"
    );
    let (status, body) = ask("absent_over_time(nothing[1h:12ms])");
    assert_eq!(status, 422, "{body}");
    assert!(
        body.contains("query needs more memory than it may have: ") && body.contains("allowed for queries"),
        "{body}"
    );
    let (_, body) = program.ask("GET", "/api/v1/explain?query=up");
    assert!(body.contains(r#""lookbackMilliseconds":7000"#), "{body}");
}

/// A query goes on for hours unless somebody stops it.
#[test]
fn a_query_stops_when_its_client_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--query.timeout=1h"]);
    let query = "quantile_over_time(0.5,quantile_over_time(0.5,vector(time())[1d:1s])[1d:1s])";
    let mut client = TcpStream::connect(&program.address).expect("it listens");
    write!(
        client,
        "GET /api/v1/query?query={query} HTTP/1.1\r\nHost: {}\r\n\r\n",
        program.address
    )
    .expect("it reads");
    program.ask_until("/metrics", "\ntidegauge_query_running 1\n");
    drop(client);
    program.ask_until("/metrics", "tidegauge_query_refused_total{reason=\"canceled\"} 1\n");
    program.ask_until("/metrics", "\ntidegauge_query_running 0\n");
}

#[test]
fn it_greets_answers_and_stops() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--web.page-title=x"]);
    assert!(program.greeting[1].contains(&format!("curl 'http://{}/api/v1/query?query=up'", program.address)));
    assert!(
        program.greeting[2].contains(&dir.path().display().to_string()),
        "{:?}",
        program.greeting
    );
    assert_eq!(program.ask("GET", "/-/healthy").0, 200);
    assert_eq!(program.ask("GET", "/-/ready").0, 200);
    program.log_until("web.page-title");
    program.signal("TERM");
    let (code, took, log) = program.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_prefix_moves_every_route() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = Program::serve(dir.path(), &["--web.external-url=http://example.org/prom/"]);
    assert_eq!(program.ask("GET", "/prom/-/ready").0, 200);
    assert!(program.greeting[0].ends_with("/prom/"), "{:?}", program.greeting);
}

#[test]
fn a_reload_takes_a_good_file_and_keeps_the_old_one_for_a_bad_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("c.yml");
    let write = |text: &str| fs::write(&file, text).expect("written");
    write("scrape_configs:\n  - job_name: first\n");
    let config = format!("--config.file={}", file.display());
    let program = Program::serve(&dir.path().join("data"), &[&config, "--web.enable-lifecycle"]);
    assert!(
        program
            .ask("GET", "/api/v1/status/config")
            .1
            .contains("job_name: first")
    );

    write("scrape_configs:\n  - job_nam: second\n");
    let (status, body) = program.ask("POST", "/-/reload");
    assert_eq!(status, 500);
    assert!(
        body.contains("c.yml:2:5") && body.contains("did you mean job_name?"),
        "{body}"
    );
    assert!(program.log_until("configuration not loaded").contains("job_nam"));
    assert!(
        program
            .ask("GET", "/api/v1/status/config")
            .1
            .contains("job_name: first")
    );
    for name in [
        "tidegauge_config_last_reload_successful 0",
        "prometheus_config_last_reload_successful 0",
    ] {
        assert!(program.ask("GET", "/metrics").1.contains(name), "{name}");
    }

    write("rule_files: [a.yml]\nscrape_configs:\n  - job_name: second\n");
    program.signal("HUP");
    program.ask_until("/api/v1/status/config", "job_name: second");
    let metrics = program.ask_until("/metrics", "tidegauge_config_last_reload_successful 1");
    assert!(
        metrics.contains("tidegauge_config_unsupported{section=\"rule_files\"} 1"),
        "{metrics}"
    );
    program.log_until("HAS NO EFFECT");

    assert_eq!(program.ask("POST", "/-/quit").0, 200);
    assert_eq!(program.wait().0, Some(0));
}
