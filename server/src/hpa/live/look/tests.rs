use super::*;
use crate::hpa::formula::Scale;
use crate::hpa::live::board::{Board, Id, Options};
use crate::hpa::live::object::Shown;
use crate::hpa::pods::{Phase, Ready, Status};
use crate::hpa::spec::{MetricId, ObjectRef};
use std::collections::BTreeSet;

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

/// An autoscaler with a metric of each type, and a status.
fn object(desired: i32, scaled_at: &str) -> Shown {
    Shown::read(&format!(
        r#"{{"metadata":{{"name":"web","namespace":"shop"}},"spec":{{"maxReplicas":20,
        "scaleTargetRef":{{"kind":"Deployment","name":"web","apiVersion":"apps/v1"}},"metrics":[
        {{"type":"Resource","resource":{{"name":"cpu","target":{{"type":"Utilization","averageUtilization":50}}}}}},
        {{"type":"ContainerResource","containerResource":{{"name":"memory","container":"app",
            "target":{{"type":"AverageValue","averageValue":"64Mi"}}}}}},
        {{"type":"Pods","pods":{{"metric":{{"name":"requests"}},"target":{{"type":"AverageValue","averageValue":"10"}}}}}},
        {{"type":"Object","object":{{"metric":{{"name":"hits"}},"describedObject":{{"kind":"Ingress","name":"main"}},
            "target":{{"type":"Value","value":"100"}}}}}},
        {{"type":"External","external":{{"metric":{{"name":"queue"}},"target":{{"type":"AverageValue","averageValue":"30"}}}}}}]}},
        "status":{{"currentReplicas":2,"desiredReplicas":{desired},"lastScaleTime":"{scaled_at}",
            "currentMetrics":[{{"type":"Resource","resource":{{"name":"cpu","current":{{"averageUtilization":75}}}}}}]}}}}"#
    ))
}

/// Metrics of two pods; what is asked for is noted by the queries.
struct Double {
    cpu: [Option<i64>; 2],
    external: Result<Vec<i64>, String>,
}

impl Metrics for Double {
    fn resource(&self, pods: Which<'_>, resource: &str, container: Option<&str>) -> Answer<Vec<Option<PodValue>>> {
        let values = match resource {
            "cpu" => self.cpu,
            _ => [Some((64 << 20) * 1000); 2],
        };
        let values = pods.names.iter().zip(values);
        Answer {
            query: format!("{resource} of {container:?} in {} by {}", pods.namespace, pods.selector),
            values: Ok(values.map(|(_, milli)| milli.map(value)).collect()),
        }
    }

    fn pods(&self, pods: Which<'_>, metric: &MetricId) -> Answer<Vec<Option<PodValue>>> {
        Answer {
            query: metric.name.clone(),
            values: Ok(pods.names.iter().map(|_| Some(value(10_000))).collect()),
        }
    }

    fn object(&self, _: &str, object: &ObjectRef, metric: &MetricId) -> Answer<i64> {
        Answer {
            query: format!("{} of {}", metric.name, object.name),
            values: Ok(100_000),
        }
    }

    fn external(&self, _: &str, metric: &MetricId) -> Answer<Vec<i64>> {
        Answer {
            query: metric.name.clone(),
            values: self.external.clone(),
        }
    }
}

fn value(milli: i64) -> PodValue {
    PodValue {
        milli,
        at: NOW,
        window_ms: 15_000,
    }
}

fn pod(name: &str, phase: Phase) -> Pod {
    Pod {
        name: name.into(),
        phase,
        deleting: false,
        started: Some(NOW.saturating_sub(3_600_000)),
        ready: Some(Ready {
            status: Status::True,
            since: NOW.saturating_sub(3_590_000),
        }),
    }
}

/// One look at two pods, put on the board.
fn turn(board: &Board, id: &Id, at_s: i64, replicas: i32, metrics: &Double, barred: Option<&Barred>) -> String {
    let now = NOW.saturating_add(at_s * 1000);
    let pods = [pod("web-a", Phase::Running), pod("web-b", Phase::Running)];
    let mut begun = board.begin(id).unwrap();
    let hpa = begun.shown.hpa.clone().unwrap();
    let scale = TargetScale {
        replicas: Scale {
            spec: replicas,
            status: replicas,
        },
        selector: "app=web".to_owned(),
    };
    let settings = board.options().settings.clone();
    begun
        .memory
        .replicas(hpa.behavior.as_ref(), &begun.shown.controller, now, replicas);
    let request = |no: usize, _: &str, _: Option<&str>| match no {
        0 => Request::Milli(200),
        _ if metrics.cpu[0] == Some(1) => Request::NoContainerRequest("sidecar".into()),
        _ => Request::Milli(200),
    };
    let sighted = Sighted {
        now,
        hpa: &hpa,
        settings: &settings,
        scale: &scale,
        pods: &pods,
        requests: &request,
        barred,
    };
    let decided = look(&sighted, metrics, &mut begun.memory.history);
    let look = Look {
        at: now,
        hpa,
        settings,
        outcome: Outcome::Decided(Box::new(decided)),
    };
    board.end(id, begun.memory, look);
    board.explain(id).unwrap().text
}

fn made(shown: Shown) -> (Board, Id) {
    let (board, id) = (Board::new(Options::default()), Id::new("shop", "web"));
    assert!(board.show(&id, shown));
    (board, id)
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|l| l.trim().starts_with(line)), "{line:?} in\n{text}");
    }
}

#[test]
fn a_look_asks_for_each_metric_and_says_what_came_of_it() {
    let (board, id) = made(object(3, "2026-11-21T02:55:07Z"));
    let metrics = Double {
        cpu: [Some(200), Some(100)],
        external: Ok(vec![30_000, 30_000]),
    };
    let text = turn(&board, &id, 0, 2, &metrics, None);
    has(
        &text,
        &[
            "shop/web at 2025-10-09T08:53:20Z: Deployment web, 2 -> 3 replicas",
            "query    cpu of None in shop by app=web",
            "value    300m of 400m requested = 75%, should be 50%",
            "asks for 3: ceil(1.5000 x 2)",
            "query    memory of Some(\"app\") in shop by app=web",
            "query    requests",
            "query    hits of main",
            "metric 2   memory resource, container app",
            "query    queue",
            "value    60 / 2 replicas = 30, should be 30",
            "controller 2 -> 3 replicas, by its status",
            "saw      75% of cpu resource utilization (percentage of request)",
        ],
    );
    assert!(!text.contains("differs"), "{text}");
    let json = board.explain(&id).unwrap().json;
    assert_eq!(
        (&json["desiredReplicas"], &json["difference"]),
        (&3.into(), &serde_json::Value::Null)
    );
    assert_eq!(json["decision"]["metrics"][0]["value"]["percent"], 75);
    assert_eq!(json["decision"]["metrics"][1]["value"]["average"], "64Mi");
    assert_eq!(json["decision"]["metrics"][0]["pods"]["counted"], 2);
    assert_eq!(json["decision"]["limited"]["reach"], 4);
    assert_eq!(board.json()["hpas"][0]["metrics"][0]["ratio"], 1.5);
}

#[test]
fn what_is_missing_is_told_by_pod_and_container() {
    let (board, id) = made(object(2, "2026-11-21T02:55:07Z"));
    let metrics = Double {
        cpu: [Some(60), None],
        external: Err("the server could not find the metric queue".to_owned()),
    };
    let text = turn(&board, &id, 0, 2, &metrics, None);
    has(
        &text,
        &[
            "pods     2 match, 1 counted, 1 no value",
            "web-b: no value",
            "assumed  pods without a value use what they should",
            "fails    failed to get queue external metric value: failed to get queue external metric: unable to get \
             external metric shop/queue/nil: the server could not find the metric queue",
            "failed     invalid metrics (1 invalid out of 5)",
        ],
    );
    let missing = &board.explain(&id).unwrap().json["decision"]["metrics"][0]["pods"]["notCounted"][0];
    assert_eq!(missing, &serde_json::json!({"pod": "web-b", "why": "no value"}));
    // Without a request there is no utilization.
    let metrics = Double {
        cpu: [Some(1), Some(1)],
        external: Ok(vec![1000]),
    };
    let text = turn(&board, &id, 15, 2, &metrics, None);
    let blocked = "fails    failed to get cpu resource metric value: failed to get cpu utilization: missing request for cpu in \
        container sidecar of Pod web-b";
    has(&text, &[blocked]);
}

#[test]
fn a_selector_that_others_share_bars_metrics() {
    let (board, id) = made(object(2, "2026-11-21T02:55:07Z"));
    let metrics = Double {
        cpu: [Some(200), Some(200)],
        external: Ok(vec![1000]),
    };
    let barred = ambiguous("app=web", ["shop/web", "shop/web2"]);
    let text = turn(&board, &id, 0, 2, &metrics, Some(&barred));
    has(
        &text,
        &[
            "no change: pods by selector app=web are controlled by multiple HPAs: [shop/web shop/web2]",
            "ScalingActive  False AmbiguousSelector: pods by selector",
        ],
    );
    let text = turn(&board, &id, 15, 2, &metrics, Some(&invalid_selector(None)));
    has(&text, &["no change: the HPA target's scale is missing a selector"]);
    // Where no metric is looked at, it is no hindrance.
    let text = turn(&board, &id, 30, 40, &metrics, Some(&barred));
    has(&text, &["above maxReplicas, 20: metrics are not looked at"]);
}

#[test]
fn changes_are_learnt_from_what_the_scale_becomes() {
    let told = jiff::Timestamp::from_millisecond(NOW.millis() + 10_000).unwrap();
    let shown = object(4, &told.to_string());
    let mut memory = crate::hpa::live::board::Memory::default();
    let behavior = crate::hpa::spec::Behavior {
        up: crate::hpa::spec::Rules::up(),
        down: crate::hpa::spec::Rules::down(),
    };
    let at = |s: i64| NOW.saturating_add(s * 1000);
    for (s, replicas) in [(0, 2), (15, 4), (30, 4), (45, 3)] {
        memory.replicas(Some(&behavior), &shown.controller, at(s), replicas);
    }
    let told = format!("{:?}", memory.history);
    // Up when the controller says so, down when it was seen, since the status says nothing of it.
    for change in [
        format!("added: [Recorded {{ at: {:?}, replicas: 2 }}]", at(10)),
        format!("at: {:?}, replicas: 1", at(45)),
    ] {
        assert!(told.contains(&change), "{change} in {told}");
    }
}

#[test]
fn a_difference_to_the_controller_is_told_with_what_may_be_behind_it() {
    let (board, id) = made(object(7, "2026-11-21T02:55:07Z"));
    let metrics = Double {
        cpu: [Some(100), Some(100)],
        external: Ok(vec![60_000]),
    };
    let text = turn(&board, &id, 0, 2, &metrics, None);
    has(
        &text,
        &[
            "differs    the controller wants 7, here it is 2; it is watched for 0s, and 300s count; it may have looked some seconds",
        ],
    );
    let text = turn(&board, &id, 315, 2, &metrics, None);
    has(
        &text,
        &["differs    the controller wants 7, here it is 2, for 315s now"],
    );
    board.show(&id, object(2, "2026-11-21T02:55:07Z"));
    let text = turn(&board, &id, 330, 2, &metrics, None);
    assert!(!text.contains("differs"), "{text}");
    let listed = board.list();
    let of = |name: &str| &listed.iter().find(|one| one.0 == name).unwrap().3;
    assert_eq!(of("tidegauge_hpa_desired_replicas")[0].1, 2.0);
    assert_eq!(of("tidegauge_hpa_metric_ratio").len(), 5);
    assert_eq!(of("tidegauge_hpa_looks_total")[0].1, 3.0);
}

#[test]
fn the_board_is_bounded_and_forgets() {
    let board = Board::new(Options {
        max_autoscalers: 1,
        ..Options::default()
    });
    let (a, b) = (Id::new("shop", "a"), Id::new("shop", "b"));
    assert!(board.show(&a, object(1, "")) && board.show(&a, object(2, "")) && !board.show(&b, object(1, "")));
    board.keep(&BTreeSet::from([b.clone()]), 0);
    assert!(board.is_empty() && board.show(&b, object(1, "")));
    assert!(board.explain(&a).is_none());
    has(&board.explain(&b).unwrap().text, &["shop/b: not looked at yet"]);
}
