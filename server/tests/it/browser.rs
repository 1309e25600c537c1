//! The page in a real browser: Chromium without a window, told what to do by its driver (WebDriver over HTTP).

use crate::program::Program;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the page may take to show something.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one page open. Ends when it is dropped.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    fn start(profile: &Path) -> Self {
        let folder = std::env::var("TIDEGAUGE_BROWSER").expect("TIDEGAUGE_BROWSER names the folder of the programs");
        let program = |name: &str| PathBuf::from(&folder).join(name);
        let mut driver = Command::new(program("chromedriver"))
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser's driver starts: see .ci/browser.sh");
        let lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let said = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser = Self {
            driver,
            port: said.expect("the driver says its port"),
            session: String::new(),
        };
        let profile = format!("--user-data-dir={}", profile.display());
        let options = json!({
            "binary": program("chromium"),
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--window-size=1200,900", profile],
        });
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let session = browser.tell("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// One command; its value.
    fn tell(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, mut answer) = self.ask(method, path, body).expect("the driver answers");
        assert!(status.contains(" 200 "), "{method} {path}: {status}: {answer}");
        answer["value"].take()
    }

    /// One request; the first line of its answer, and the JSON. The driver speaks HTTP/1.1 alone.
    fn ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(String, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (body, port) = (body.to_string(), self.port);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut reader = BufReader::new(stream);
        let (mut status, mut length, mut line) = (String::new(), 0, String::new());
        reader.read_line(&mut status)?;
        while reader.read_line(&mut line)? > 2 {
            if let Some(("content-length", value)) = line.to_ascii_lowercase().split_once(':') {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        Ok((status, serde_json::from_slice(&answer).unwrap_or_default()))
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.tell("POST", &format!("/session/{}/{command}", self.session), body)
    }

    fn open(&self, url: &str) {
        self.post("url", &json!({"url": url}));
    }

    /// What a script returns.
    fn eval(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns true.
    fn until(&self, script: &str) {
        let begun = Instant::now();
        while self.eval(script) != json!(true) {
            assert!(
                begun.elapsed() < PATIENCE,
                "never: {script}; the page: {}",
                self.eval("return document.body.innerText")
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("element", &json!({"using": "css selector", "value": selector}));
        let reference = found.as_object().and_then(|found| found.values().next());
        let reference = reference.and_then(Value::as_str);
        reference.unwrap_or_else(|| panic!("no {selector}")).to_owned()
    }

    fn click(&self, selector: &str) {
        self.post(&format!("element/{}/click", self.element(selector)), &json!({}));
    }

    /// Types into an element.
    fn keys(&self, selector: &str, text: &str) {
        self.post(
            &format!("element/{}/value", self.element(selector)),
            &json!({"text": text}),
        );
    }

    /// What the page's console says is wrong: scripts that fail, files that are not there, rules of content broken.
    fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"}));
        let lines = log.as_array().expect("a log").iter();
        let severe = lines.filter(|line| line["level"] == "SEVERE");
        severe.map(Value::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A server of one path: metrics, or a list of targets that fails until it is mended.
fn serve(answer: impl Fn() -> (u16, &'static str, String) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let Ok(reader) = stream.try_clone() else { continue };
            let lines = BufReader::new(reader).lines();
            lines.map_while(Result::ok).find(String::is_empty);
            let (status, kind, body) = answer();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    address
}

#[test]
#[ignore = "needs TIDEGAUGE_BROWSER"]
fn the_page_shows_targets_what_fails_and_what_is_asked() {
    let target = serve(|| (200, "text/plain", "orders_total 3\n".to_owned()));
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let list = serve(move || match is_mended.load(Ordering::Relaxed) {
        true => (200, "application/json", format!(r#"[{{"targets": ["{target}"]}}]"#)),
        false => (500, "text/plain", String::new()),
    });
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("c.yml");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- {{job_name: fixed, static_configs: [{{targets: ['{target}']}}]}}\n\
         - {{job_name: found, http_sd_configs: [{{url: 'http://{list}/', refresh_interval: 1s}}]}}\n"
    );
    std::fs::write(&file, config).expect("written");
    let given = format!("--config.file={}", file.display());
    let quick = "--scrape.discovery-reload-interval=1s";
    let program = Program::serve(&dir.path().join("data"), &[&given, quick]);
    program.ask_until("/api/v1/query?query=count(up%3D%3D1)", "\"1\"");
    program.ask_until("/api/v1/status/discovery", "HTTP status 500");

    let browser = Browser::start(&dir.path().join("profile"));
    browser.open(&format!("http://{}/targets", program.address));
    let notice = "document.querySelector('#pools .notice.error')";
    browser.until(&format!("return {notice} !== null"));
    let told = browser.eval(&format!("return {notice}.innerText"));
    let told = told.as_str().expect("a text");
    assert!(
        told.contains("Discovery by http") && told.contains(&list.to_string()) && told.contains("HTTP status 500"),
        "{told}"
    );
    let shown = "return [...document.querySelectorAll('#pools tbody tr')].map(row => row.innerText)";
    let rows = browser.eval(shown);
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    let row = rows[0].as_str().expect("a text");
    assert!(
        row.contains(&format!("http://{target}/metrics")) && row.contains("job=\"fixed\""),
        "{row}"
    );

    // The page looks again by itself.
    mended.store(true, Ordering::Relaxed);
    browser.until(&format!(
        "return {notice} === null && document.getElementById('target-count').innerText === '2 of 2 up'"
    ));
    assert_eq!(browser.eval(shown).as_array().map(Vec::len), Some(2));
    browser.keys("#filter", "job=\"found\"");
    browser.until("return document.querySelectorAll('#pools tbody tr').length === 1");

    browser.click("nav a[data-page=query]");
    browser.keys("#expr", "orders_total + 1\u{e007}");
    browser.until("return document.querySelectorAll('#result tbody tr').length === 2");
    let row = browser.eval("return document.querySelector('#result tbody tr').innerText");
    let row = row.as_str().expect("a text");
    assert!(row.contains("job=\"fixed\"") && row.trim_end().ends_with('4'), "{row}");
    assert!(
        browser
            .eval("return location.search")
            .to_string()
            .contains("expr=orders_total")
    );
    browser.click("#tab-graph");
    // Times of a graph are whole steps: the samples may be younger than the last of them.
    browser.until(
        "if (document.querySelector('#result svg, #result canvas')) return true;
         if (document.querySelector('#result').innerText.includes('No series'))
           document.querySelector('button[type=submit]').click();
         return false",
    );
    browser.keys("#expr", " +\u{e007}");
    browser.until("return document.querySelector('#notes .notice.error') !== null");
    // The question that was none is all that the console has to tell.
    let complaints = browser.complaints();
    let others: Vec<&String> = complaints
        .iter()
        .filter(|line| !line.contains("/api/v1/query"))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}
