//! What it costs to let a request in.

use super::{ALICE, Running, is, until};
use crate::aggregation::cluster::Cluster;
use crate::tls_client::Authority;
use std::time::Instant;

/// Requests of a kind.
const COUNT: usize = 2000;

#[test]
#[ignore = "prints figures; for a build with optimizations"]
fn measure_what_letting_a_request_in_costs() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cluster, front) = (Cluster::start(), Authority::new("front"));
    cluster.trust(&[&front], &front);
    cluster.readers(&["alice"]);
    let running = Running::start(dir.path(), &cluster, &[]);
    let proxy = running.caller(Some(&front.user("front-proxy-client", &[])));
    until("trusted", || proxy.try_ask("GET", "/apis", ALICE), is(200));
    let remembered = |_: usize| "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/none".to_owned();
    let asked = |i: usize| format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/none-{i}");
    let path: [(&str, &dyn Fn(usize) -> String); 3] = [
        ("discovery, nothing is asked", &|_| {
            "/apis/metrics.k8s.io/v1beta1".to_owned()
        }),
        ("a review that is remembered", &remembered),
        ("a review for each", &asked),
    ];
    for (what, path) in path {
        let (begun, cpu) = (Instant::now(), running.program.cpu_seconds());
        let mut took: Vec<f64> = (0..COUNT)
            .map(|i| {
                let begun = Instant::now();
                assert!(proxy.get(&path(i), ALICE).status != 401);
                begun.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        took.sort_by(f64::total_cmp);
        let cpu = (running.program.cpu_seconds() - cpu) * 1e6 / COUNT as f64;
        println!(
            "{what}: {:.2} s, p50 {:.2} ms, p99 {:.2} ms, {cpu:.0} us of the processor each",
            begun.elapsed().as_secs_f64(),
            took[COUNT / 2],
            took[COUNT * 99 / 100],
        );
    }
    println!("reviews: {}", cluster.count_reviews());
}
