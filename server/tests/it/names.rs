//! `dns_sd_configs` beside a real Prometheus: both ask the same name server, and find the same targets with the same
//! labels.
//!
//! Prometheus asks whom /etc/resolv.conf names, at port 53. So the server listens there, at an address of loopback that
//! nobody else uses, and each program sees a file of the test's in that place, in a mount namespace of its own.

use crate::process::{Running, free_port, peer, tidegauge};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// What the server knows.
fn records(asked: &str, kind: RecordType) -> Option<Vec<RData>> {
    let srv = |host: &str, port| RData::SRV(SRV::new(1, 2, port, name(host)));
    Some(match (asked, kind) {
        ("web.shop.example.", RecordType::A) => vec![
            RData::A(A::new(127, 0, 0, 1)),
            RData::A(A::new(127, 0, 0, 2)),
            RData::CNAME(CNAME(name("other.example."))),
        ],
        ("web.shop.example.", RecordType::AAAA) => vec![RData::AAAA(AAAA::new(0, 0, 0, 0, 0, 0, 0, 1))],
        ("_http._tcp.shop.example.", RecordType::SRV) => vec![srv("a.example.", 81), srv("b.example.", 82)],
        ("shop.example.", RecordType::MX) => vec![RData::MX(MX::new(10, name("mail.example.")))],
        ("shop.example.", RecordType::NS) => {
            vec![RData::NS(NS(name("ns1.example."))), RData::NS(NS(name("ns2.example.")))]
        }
        // More than fits into a datagram.
        ("many.example.", RecordType::A) => (0..200).map(|n| RData::A(A::new(127, 1, 0, n))).collect(),
        ("empty.example.", _) => vec![],
        _ => return None,
    })
}

fn reply(question: &[u8], datagram: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.recursion_available = true;
    reply.add_query(query.clone());
    match records(&query.name().to_ascii().to_ascii_lowercase(), query.query_type()) {
        None => reply.metadata.response_code = ResponseCode::NXDomain,
        Some(records) if datagram && records.len() > 20 => reply.metadata.truncation = true,
        Some(records) => {
            for data in records {
                reply.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
        }
    }
    reply.to_vec().ok()
}

/// Starts the name server; `None` if this process may not listen at port 53.
fn name_server() -> Option<Ipv4Addr> {
    let (udp, tcp, address) = (0..=u8::MAX).find_map(|n| {
        let address = Ipv4Addr::new(127, 53, (std::process::id() % 256) as u8, n);
        let at = SocketAddr::from((address, 53));
        match UdpSocket::bind(at) {
            Ok(udp) => Some(TcpListener::bind(at).ok().map(|tcp| (udp, tcp, address))),
            Err(problem) if problem.kind() == ErrorKind::PermissionDenied => Some(None),
            Err(_) => None,
        }
    })??;
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            if let Some(reply) = reply(&buffer[..len], true) {
                let _ = udp.send_to(&reply, from);
            }
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut len = [0; 2];
                while stream.read_exact(&mut len).is_ok() {
                    let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
                    if stream.read_exact(&mut question).is_err() {
                        return;
                    }
                    let Some(reply) = reply(&question, false) else { return };
                    let len = u16::try_from(reply.len()).expect("it fits").to_be_bytes();
                    if stream.write_all(&[&len, reply.as_slice()].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Some(address)
}

const CONFIG: &str = "global: {scrape_interval: 1h}
scrape_configs:
- job_name: a
  dns_sd_configs: [{names: [web.shop.example., web, nobody.example.], type: A, port: 80}]
  relabel_configs: [{source_labels: [__meta_dns_name], target_label: name}]
- job_name: aaaa
  dns_sd_configs: [{names: [web.shop.example], type: AAAA, port: 80}]
- job_name: srv
  dns_sd_configs: [{names: [_http._tcp.shop.example]}]
- job_name: mx
  dns_sd_configs: [{names: [shop.example], type: MX, port: 25}]
- job_name: ns
  dns_sd_configs: [{names: [shop.example], type: NS, port: 53}]
- job_name: many
  dns_sd_configs: [{names: [many.example., empty.example.], type: A, port: 80}]
";

/// Starts a program that sees another /etc/resolv.conf.
fn start(program: &Path, what: &str, dir: &Path) -> Running {
    let port = free_port();
    let args = [
        "-m".to_owned(),
        "--propagation=private".to_owned(),
        "sh".to_owned(),
        "-c".to_owned(),
        "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"".to_owned(),
        dir.join("resolv.conf").display().to_string(),
        program.display().to_string(),
        format!("--config.file={}", dir.join("c.yml").display()),
        format!("--storage.tsdb.path={}", dir.join(what).display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let log = dir.join(format!("{what}.log"));
    Running::start(Path::new("unshare"), &args, port, "/-/ready", &log)
}

/// Discovered labels of the targets of each job.
fn discovered(server: &Running) -> BTreeMap<String, BTreeSet<String>> {
    let data = server.api("/api/v1/targets", &[("state", "active")]);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for target in data["activeTargets"].as_array().expect("targets") {
        let pool = target["scrapePool"].as_str().expect("a name").to_owned();
        let labels = target["discoveredLabels"].to_string();
        assert!(target["labels"]["instance"].is_string() && labels.contains("__meta_dns_name"));
        assert!(found.entry(pool).or_default().insert(labels.clone()), "{labels} twice");
    }
    found
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS, and root"]
fn names_lead_to_the_targets_they_lead_prometheus_to() {
    let Some(address) = name_server() else {
        println!("port 53 and another /etc/resolv.conf are root's alone: nothing is compared");
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let resolv = format!("nameserver {address}\nsearch shop.example\noptions ndots:1\n");
    std::fs::write(dir.path().join("resolv.conf"), resolv).expect("written");
    std::fs::write(dir.path().join("c.yml"), CONFIG).expect("written");
    let mut theirs = start(&peer("prometheus"), "prometheus", dir.path());
    let mut ours = start(&tidegauge(), "tidegauge", dir.path());
    for server in [&mut theirs, &mut ours] {
        server.wait_for(|server| discovered(server).len() == 6, "targets of every job");
    }
    let (ours, theirs) = (discovered(&ours), discovered(&theirs));
    for (job, targets) in &theirs {
        assert_eq!(ours.get(job), Some(targets), "{job}");
    }
    let counts: Vec<(&str, usize)> = ours.iter().map(|(job, found)| (job.as_str(), found.len())).collect();
    let expected = [("a", 4), ("aaaa", 1), ("many", 200), ("mx", 1), ("ns", 2), ("srv", 2)];
    assert_eq!(counts, expected);
}
