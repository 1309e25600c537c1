//! What promtool asks of a server: it says the same of a real Prometheus and of us, over the same samples.

use crate::access::ALICE;
use crate::pair::Pair;
use crate::process::{Running, peer, tidegauge};
use crate::tls_client::basic;
use std::process::Command;

const CONFIG: &str = "global: {}\n";

/// Exit code and both outputs, the lines in order: that of series is not defined. The server's address stands for itself.
fn said(server: &Running, args: &[String]) -> (Option<i32>, Vec<String>, String) {
    let url = format!("http://127.0.0.1:{}", server.port);
    let args = args.iter().map(|arg| arg.replace("URL", &url));
    let output = Command::new(peer("promtool")).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&url, "URL");
    let mut lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    (output.status.code(), lines, text(&output.stderr))
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn promtool_says_the_same_of_both() {
    let pair = Pair::start(CONFIG, &[]);
    let [start, end, at] = [300, 900, 1200].map(|seconds| pair.at(seconds));
    let range = ["--start", &start, "--end", &end, "--step=60s"];
    let over = ["--start", &start, "--end", &end];
    let instant = |query: &'static str| vec!["query", "instant", "--time", &at, "URL", query];
    let ranged = |query: &'static str| [&["query", "range"], &range[..], &["URL", query]].concat();
    let analyze = |matching: &'static str, duration: &'static str| {
        vec![
            "query",
            "analyze",
            "--server=URL",
            "--type=histogram",
            "--time",
            &at,
            duration,
            matching,
        ]
    };
    // What is asked, and a text that a good answer to it has.
    let asked: Vec<(Vec<&str>, &str)> = vec![
        (
            instant("m_total{job=\"a\"}"),
            "m_total{instance=\"host-3:9100\", job=\"a\"} => 480 @",
        ),
        (instant("sum(rate(m_total[5m]))"), "{} => "),
        (
            instant("m_total{job=\"a\"}[1m]"),
            "m_total{instance=\"host-3:9100\", job=\"a\"} =>",
        ),
        (instant("scalar(vector(1))"), "scalar: 1 @"),
        (instant("\"text\""), ""),
        (instant("none"), ""),
        (instant("sum("), ""),
        (instant("rate(gauge[5m])"), "host-1:9100"),
        (ranged("sum by (job) (m_total)"), "{job=\"a\"} =>"),
        (ranged("rate(m_total[1m])"), "{instance=\"host-1:9100\", job=\"b\"} =>"),
        (ranged("m_total[1m]"), ""),
        (
            [&["query", "range", "-o", "json"], &range[..], &["URL", "sum(m_total)"]].concat(),
            "\"values\"",
        ),
        (
            [
                &["query", "instant", "-o", "json", "--time", &at][..],
                &["URL", "sum(m_total)"],
            ]
            .concat(),
            "\"value\"",
        ),
        (
            [
                &["query", "series"],
                &over[..],
                &["--match=m_total", "--match=gauge", "URL"],
            ]
            .concat(),
            "{__name__=\"gauge\", instance=\"host-1:9100\"}",
        ),
        (vec!["query", "series", "--match={", "URL"], ""),
        (
            [&["query", "labels"], &over[..], &["URL", "instance"]].concat(),
            "host-1:9100",
        ),
        (
            [&["query", "labels", "--match=gauge"], &over[..], &["URL", "__name__"]].concat(),
            "gauge",
        ),
        (vec!["query", "labels", "URL", "no-label"], ""),
        (
            analyze("--match=h_bucket", "--duration=20m"),
            "Bucket stats for each histogram series",
        ),
        (
            analyze("--match=h_bucket{job=\"a\"}", "--duration=2m"),
            "Bucket stats for each histogram series",
        ),
        (analyze("--match=none", "--duration=20m"), ""),
        (vec!["check", "healthy", "--url=URL"], "SUCCESS"),
        (vec!["check", "ready", "--url=URL"], "SUCCESS"),
        (vec!["check", "healthy", "--url=URL/none"], ""),
    ];
    for (args, part) in asked {
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let (theirs, ours) = (said(&pair.theirs, &args), said(&pair.ours, &args));
        assert_eq!(theirs, ours, "{args:?}");
        let told = format!("{}\n{}", theirs.1.join("\n"), theirs.2);
        assert!(
            told.contains(part) && (theirs.0 == Some(0) || part.is_empty()),
            "{args:?}: {theirs:?}"
        );
    }
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn promtool_shows_its_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let web = file("web.yml", &format!("basic_auth_users: {{alice: {ALICE}}}\n"));
    let client = file("client.yml", "basic_auth: {username: alice, password: secret}\n");
    let wrong = file("wrong.yml", "basic_auth: {username: alice, password: wrong}\n");
    let flag = format!("--web.config.file={web}");
    let alice = basic("alice", "secret");
    let servers = [("theirs", peer("prometheus")), ("ours", tidegauge())].map(|(name, program)| {
        let headers = [("Authorization", alice.as_str())];
        Running::serve_to(&program, name, dir.path(), CONFIG, &[&flag], &headers)
    });
    for (what, code) in [(None, 1), (Some(&client), 0), (Some(&wrong), 1)] {
        for command in [
            &["check", "ready", "--url=URL"][..],
            &["check", "healthy", "--url=URL"],
            &["query", "instant", "URL", "scalar(vector(3))"],
            &["query", "labels", "URL", "job"],
        ] {
            let mut args: Vec<String> = command.iter().map(|arg| (*arg).to_owned()).collect();
            args.extend(what.map(|file| format!("--http.config.file={file}")));
            let said = servers.each_ref().map(|server| {
                let (code, lines, errors) = said(server, &args);
                // When it was asked is told, too.
                let lines: Vec<String> = lines
                    .iter()
                    .map(|line| line.split(" @").next().unwrap().to_owned())
                    .collect();
                (code, lines, errors)
            });
            assert_eq!(said[0], said[1], "{args:?}");
            assert_eq!(said[0].0, Some(code), "{args:?}: {:?}", said[0]);
        }
    }
}
