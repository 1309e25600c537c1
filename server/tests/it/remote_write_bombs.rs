//! Remote-write bodies that unfold: each is answered, and the process takes no more than its shares of memory.

use crate::process::{Running, free_port, request, tidegauge};
use crate::remote_write::packed;
use crate::remote_write_v2::CONTENT_TYPE;

/// Bytes after decompression: the most that is taken.
const DECODED: usize = 32 << 20;
/// What all requests under way may take together: a tenth of the limit.
const SHARE: u64 = 100 << 20;
/// What may be resident on top: the log's record, threads, and what the allocator keeps for a while of a request that another
/// thread has done with. Memory that nobody pays for would be several times as much: these bodies unfold eightfold and more.
const SLACK: u64 = SHARE + (60 << 20);

/// A field of bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut to = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut to);
    to.extend_from_slice(content);
    to
}

/// One piece again and again, as much as may come.
fn again(piece: &[u8], room: usize) -> Vec<u8> {
    piece.repeat(room / piece.len().max(1))
}

/// Messages of 1.0 and 2.0, by what they have too much of.
fn bombs() -> Vec<(&'static str, bool, Vec<u8>)> {
    let room = DECODED - 200;
    let name = [field(4, b""), field(4, b"__name__"), field(4, b"m")].concat();
    let v1_name = field(1, &[field(1, b"__name__"), field(2, b"m")].concat());
    let named = |rest: &[u8]| [name.clone(), field(5, &[&field(1, &[1, 2]), rest].concat())].concat();
    let v1_named = |rest: &[u8]| field(1, &[&v1_name, rest].concat());
    let histogram = |rest: &[u8]| field(3, rest);
    let exemplar = field(4, &field(1, &[1, 2].repeat(20)));
    let small_histogram = histogram(&[4 << 3, 2]);
    vec![
        ("symbols", true, again(&field(4, b""), room)),
        ("series", true, again(&field(5, b""), room)),
        ("references", true, named(&field(1, &again(&[1, 2], room)))),
        ("references one by one", true, named(&again(&[1 << 3, 1], room))),
        ("samples", true, named(&again(&field(2, b""), room))),
        ("samples with times", true, named(&again(&field(2, &[2 << 3, 1]), room))),
        (
            "series with a sample",
            true,
            [
                name.clone(),
                again(&field(5, &[field(1, &[1, 2]), field(2, b"")].concat()), room),
            ]
            .concat(),
        ),
        ("histograms", true, named(&again(&small_histogram, room))),
        ("spans", true, named(&histogram(&again(&field(11, b""), room)))),
        ("deltas", true, named(&histogram(&field(12, &again(&[2], room))))),
        (
            "deltas of many",
            true,
            named(&again(&histogram(&field(12, &[2; 1000])), room)),
        ),
        (
            "bounds",
            true,
            named(&histogram(&again(&[0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0], room))),
        ),
        ("exemplars", true, named(&again(&exemplar, room))),
        ("metadata", true, named(&again(&field(5, &[1 << 3, 1]), room))),
        ("samples of 1.0", false, v1_named(&again(&field(2, b""), room))),
        (
            "labels of 1.0",
            false,
            field(1, &[again(&field(1, b""), room), field(2, b"")].concat()),
        ),
        ("exemplars of 1.0", false, v1_named(&again(&field(3, b""), room))),
        (
            "metadata of 1.0",
            false,
            again(&field(3, &[&[1 << 3, 1][..], &field(2, b"m")].concat()), room),
        ),
        ("a long symbol in all series", true, {
            let long = field(4, &vec![b'x'; 1 << 20]);
            let one = field(5, &[field(1, &[1, 2, 2, 3]), field(2, b"")].concat());
            [name.clone(), long, again(&one, room / 2)].concat()
        }),
    ]
}

#[test]
fn bodies_that_unfold_stay_within_their_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, "global: {}\n").unwrap();
    let port = free_port();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
        format!("--memory.limit={}MB", 10 * (SHARE >> 20)),
    ];
    let running = Running::start(&tidegauge(), &args, port, "/-/ready", &dir.path().join("log"));
    let before = running.most_resident_bytes();
    for (what, is_v2, message) in bombs() {
        assert!(message.len() <= DECODED, "{what}: {}", message.len());
        let content_type = if is_v2 { CONTENT_TYPE } else { "application/x-protobuf" };
        let headers = [("Content-Type", content_type), ("Content-Encoding", "snappy")];
        let answer = request(port, "POST", "/api/v1/write", &headers, &packed(&message));
        let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
        println!(
            "{what}: {} after {} MiB",
            answer.status,
            running.most_resident_bytes() >> 20
        );
        assert!(
            matches!(answer.status, 204 | 400 | 413 | 503) && answer.body.len() < 80 << 10,
            "{what}: {} {}",
            answer.status,
            answer.body
        );
        let taken = running.most_resident_bytes().saturating_sub(before);
        assert!(
            taken < SHARE + SLACK,
            "{what}: {taken} bytes after {} {}",
            answer.status,
            answer.body
        );
    }
    // One that claims more than is taken is refused before it is decoded.
    let headers = [("Content-Type", CONTENT_TYPE), ("Content-Encoding", "snappy")];
    let answer = request(port, "POST", "/api/v1/write", &headers, &packed(&vec![0; DECODED + 1])).unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (400, "snappy: decoded length 33554433 exceeds limit 33554432\n")
    );
    let metrics = running.get("/metrics").unwrap().body;
    let used = "tidegauge_memory_share_used_bytes{share=\"scrape bodies\"} ";
    let held: f64 = metrics
        .lines()
        .find_map(|line| line.strip_prefix(used))
        .unwrap()
        .parse()
        .unwrap();
    // What is left is the metadata that was told.
    assert!(held < 1000.0, "{held} bytes are not given back");
}
