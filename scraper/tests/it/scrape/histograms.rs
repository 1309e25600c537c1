//! Native histograms, from a target's protobuf to the store; and what jobs may want of them.

use super::rig::{Reply, Rig, Target, eventually, job};
use crate::protobuf::schema::{
    Bucket, BucketSpan, Exemplar, Histogram, Kind, Metric, MetricFamily, Simple, Time, delimited, family, labels,
};
use tidegauge_model::{
    ColumnBuf, ExemplarQueryable, MatchOp, Matcher, Queryable, ReadContext, SelectHints, TimeRange, Values,
};
use tidegauge_scraper::{Health, ScrapeOptions};

const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

fn body(families: &[MetricFamily]) -> Reply {
    Reply::typed(PROTOBUF, delimited(families))
}

/// Four observations in as many buckets of schema 3, the classic part in one.
fn latency(count: u64) -> Histogram {
    Histogram {
        count: Some(count),
        sum: Some(8.0),
        bucket: vec![Bucket {
            count: Some(count),
            bound: Some(10.0),
            exemplar: Some(Exemplar {
                label: labels(&[("trace_id", "x")]),
                value: Some(2.0),
                at: Some(Time {
                    seconds: 1_700_000_000,
                    nanos: 0,
                }),
            }),
            ..Bucket::default()
        }],
        schema: Some(3),
        zero_threshold: Some(1e-128),
        zero_count: Some(count - 4),
        positive_span: vec![BucketSpan {
            offset: Some(0),
            length: Some(4),
        }],
        positive_delta: vec![1, 0, 0, 0],
        ..Histogram::default()
    }
}

fn families(count: u64) -> Vec<MetricFamily> {
    let gauge = Metric {
        gauge: Some(Simple { value: Some(1.5) }),
        ..Metric::default()
    };
    let histogram = Metric {
        label: labels(&[("path", "/")]),
        histogram: Some(latency(count)),
        ..Metric::default()
    };
    vec![
        family("g", Kind::Gauge, vec![gauge]),
        family("latency", Kind::Histogram, vec![histogram]),
    ]
}

impl Rig {
    /// The histograms of a metric that has one series: count, schema, buckets; nothing for a stale marker.
    fn histograms(&self, metric: &str) -> Vec<Option<(f64, i32, usize)>> {
        let matchers = [Matcher::new(MatchOp::Equal, "__name__", metric).unwrap()];
        let querier = self.store.querier(TimeRange::ALL).unwrap();
        let cx = ReadContext::unlimited();
        let groups = querier
            .select(&matchers, &SelectHints::range(TimeRange::ALL), &cx)
            .unwrap();
        let mut buf = ColumnBuf::default();
        let mut found = Vec::new();
        for group in &groups {
            if let Values::Histogram(values) = group.read(0, &mut buf).unwrap().values {
                let one = |h: &tidegauge_model::Histogram| (!h.is_stale()).then(|| (h.count, h.schema, h.buckets()));
                found.extend(values.iter().map(|h| one(h)));
            }
        }
        found
    }
}

#[tokio::test]
async fn native_histograms_are_kept_whole() {
    let target = Target::start(body(&families(5))).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, "scrape_native_histograms: true"));
    eventually("two histograms", || rig.histograms("latency").len() >= 2).await;
    assert_eq!(rig.histograms("latency")[0], Some((5.0, 3, 4)));
    assert_eq!(
        (rig.last("g"), rig.last("scrape_samples_scraped")),
        (Some(1.5), Some(2.0))
    );
    assert!(rig.series("latency_count").is_empty());
    assert!(rig.metric("tidegauge_scrape_lines_predicted_total") >= 2.0);
    let accept = target.last_request().1["accept"].to_str().unwrap().to_owned();
    assert!(
        accept.starts_with(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
        ),
        "{accept}"
    );
    let (selectors, cx) = ([vec![Matcher::equal("__name__", "latency")]], ReadContext::unlimited());
    let exemplars = rig.store.exemplars(&selectors, TimeRange::ALL, &cx).unwrap();
    assert_eq!((exemplars.len(), exemplars[0].exemplars.len()), (1, 1));

    // It vanishes, and is marked as the histogram it was.
    target.say(body(&families(5)[..1]));
    eventually("staleness", || rig.histograms("latency").last() == Some(&None)).await;
    assert_eq!(rig.histograms("latency").iter().filter(|h| h.is_none()).count(), 1);
    target.say(body(&families(6)));
    eventually("its return", || {
        rig.histograms("latency").last() == Some(&Some((6.0, 3, 4)))
    })
    .await;
}

#[tokio::test]
async fn what_goes_on_under_other_rules_is_not_marked() {
    let target = Target::start(body(&families(5))).await;
    let rig = Rig::new();
    let keys = "scrape_native_histograms: true\ntrack_timestamps_staleness: true\n";
    rig.apply(&job(target.address, keys));
    rig.scrapes(2).await;
    // What was known of the lines is void, and every series is looked up anew.
    rig.apply(&job(target.address, &format!("{keys}honor_labels: true\n")));
    rig.scrapes(3).await;
    assert!(rig.histograms("latency").iter().all(Option::is_some));
    target.say(Reply::text("t 1 1700000000000\n"));
    rig.scrapes(3).await;
    rig.apply(&job(target.address, keys));
    rig.scrapes(3).await;
    assert_eq!(rig.one("t"), [(1_700_000_000_000, 1.0)]);
    assert_eq!(
        rig.histograms("latency").last(),
        Some(&None),
        "it is not there any more"
    );
}

#[tokio::test]
async fn jobs_choose_what_histograms_become() {
    let target = Target::start(body(&families(5))).await;
    for (keys, native, classic) in [
        ("", None, true),
        ("scrape_native_histograms: true", Some((3, 4)), false),
        (
            "scrape_native_histograms: true\nalways_scrape_classic_histograms: true",
            Some((3, 4)),
            true,
        ),
        (
            "scrape_native_histograms: true\nnative_histogram_bucket_limit: 2",
            Some((1, 2)),
            false,
        ),
        (
            "scrape_native_histograms: true\nnative_histogram_min_bucket_factor: 2",
            Some((0, 2)),
            false,
        ),
        ("convert_classic_histograms_to_nhcb: true", Some((-53, 1)), false),
        (
            "convert_classic_histograms_to_nhcb: true\nalways_scrape_classic_histograms: true",
            Some((-53, 1)),
            true,
        ),
        (
            "scrape_native_histograms: true\nconvert_classic_histograms_to_nhcb: true",
            Some((3, 4)),
            false,
        ),
    ] {
        let rig = Rig::new();
        rig.apply(&job(target.address, keys));
        rig.scrapes(2).await;
        let found = rig.histograms("latency").first().copied().flatten();
        assert_eq!(found.map(|(_, schema, buckets)| (schema, buckets)), native, "{keys}");
        assert_eq!(rig.last("latency_count").is_some(), classic, "{keys}");
        assert_eq!(
            rig.series("latency_bucket").len(),
            if classic { 2 } else { 0 },
            "{keys}"
        );
        assert_eq!(rig.target().last_error, "", "{keys}");
    }
}

#[tokio::test]
async fn classic_histograms_of_text_are_collected() {
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.5\nh_count 3\n\
                # TYPE broken histogram\nbroken_bucket{le=\"1\"} 5\nbroken_bucket{le=\"+Inf\"} 3\nx 1\n";
    let target = Target::start(Reply::text(text)).await;
    let rig = Rig::new();
    rig.apply(&job(target.address, "convert_classic_histograms_to_nhcb: true"));
    eventually("three scrapes", || rig.one("x").len() >= 3).await;
    assert_eq!(rig.histograms("h")[..2], [Some((3.0, -53, 2)); 2]);
    assert_eq!(rig.histograms("broken"), []);
    assert!(rig.series("h_count").is_empty() && rig.series("broken_bucket").is_empty());
    assert_eq!(rig.last("scrape_samples_scraped"), Some(2.0));
    assert!(rig.metric("tidegauge_scrape_lines_predicted_total") >= 4.0);
    target.say(Reply::text("x 1\n"));
    eventually("staleness", || rig.histograms("h").last() == Some(&None)).await;
}

#[tokio::test]
async fn limits_and_lies_fail_the_scrape() {
    let target = Target::start(body(&families(5))).await;
    let rig = Rig::new();
    rig.apply(&job(
        target.address,
        "convert_classic_histograms_to_nhcb: true\nnative_histogram_bucket_limit: 1",
    ));
    rig.scrapes(1).await;
    assert_eq!(rig.target().health, Health::Up, "one bucket is within the limit");
    let mut coarse = families(5);
    let histogram = coarse[1].metric[0].histogram.as_mut().unwrap();
    histogram.schema = Some(-4);
    target.say(body(&coarse));
    rig.apply(&job(
        target.address,
        "scrape_native_histograms: true\nnative_histogram_bucket_limit: 1",
    ));
    assert_eq!(rig.error().await, "histogram bucket limit exceeded");
    assert_eq!(rig.last("up"), Some(0.0));
    assert!(rig.metric("tidegauge_scrape_over_bucket_limit_total") >= 1.0);

    let histogram = coarse[1].metric[0].histogram.as_mut().unwrap();
    histogram.count = Some(9);
    target.say(body(&coarse));
    rig.apply(&job(target.address, "scrape_native_histograms: true"));
    eventually("another error", || {
        rig.target().last_error.contains("observation count should equal")
    })
    .await;
    assert_eq!(
        rig.target().last_error,
        "5 observations found in buckets, but the Count field is 9: histogram's observation count \
         should equal the number of observations found in the buckets"
    );

    // The store takes 8192 buckets; a histogram with more is left out, and the rest goes on.
    let mut many = families(10_004);
    let histogram = many[1].metric[0].histogram.as_mut().unwrap();
    histogram.zero_count = Some(4);
    histogram.positive_span[0].length = Some(10_000);
    histogram.positive_delta = (0..10_000).map(|n| i64::from(n == 0)).collect();
    target.say(body(&many));
    eventually("a scrape", || rig.target().health == Health::Up).await;
    rig.scrapes(1).await;
    assert!(rig.metric("tidegauge_scrape_histograms_refused_total") >= 1.0);
    assert_eq!(rig.last("g"), Some(1.5));
}

#[tokio::test]
async fn bad_bodies_are_told_with_their_place() {
    let mut broken = delimited(&families(5));
    let at = broken.len();
    broken.extend(b"\x02\x22\x00");
    let target = Target::start(Reply::typed(PROTOBUF, broken)).await;
    let rig = Rig::with(ScrapeOptions::default());
    rig.apply(&job(target.address, ""));
    assert_eq!(
        rig.error().await,
        format!("invalid metric name: \"\" (metric family at byte {at} of the body)")
    );
    target.say(Reply::text("a 1\nb 2\nc\n"));
    eventually("another error", || {
        rig.target().last_error.contains("line 3 of the body")
    })
    .await;
}
