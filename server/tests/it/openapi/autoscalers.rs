//! Autoscalers to be asked for: one that nobody has looked at, one that has been looked at, one that could not be.

use tidegauge_model::Timestamp;
use tidegauge_server::hpa::formula::{Request, Scale};
use tidegauge_server::hpa::live::scale::TargetScale;
use tidegauge_server::hpa::live::{Answer, Autoscalers, Id, Look, Metrics, Outcome, Shown, Sighted, Which, look};
use tidegauge_server::hpa::pods::{Phase, Pod, PodValue, Ready, Status};
use tidegauge_server::hpa::spec::{MetricId, ObjectRef};

const NOW: Timestamp = Timestamp::from_millis(crate::site::NOW_MS);

fn shown(name: &str) -> Shown {
    Shown::read(&format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop"}},"spec":{{"maxReplicas":3,"behavior":{{"scaleUp":{{}}}},
        "scaleTargetRef":{{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}},"metrics":[
        {{"type":"Resource","resource":{{"name":"cpu","target":{{"type":"Utilization","averageUtilization":50}}}}}},
        {{"type":"Pods","pods":{{"metric":{{"name":"a"}},"target":{{"type":"AverageValue","averageValue":"10"}}}}}},
        {{"type":"Object","object":{{"metric":{{"name":"b"}},"describedObject":{{"kind":"Ingress","name":"main"}},
            "target":{{"type":"Value","value":"100"}}}}}},
        {{"type":"External","external":{{"metric":{{"name":"c"}},"target":{{"type":"AverageValue","averageValue":"30"}}}}}}]}},
        "status":{{"currentReplicas":1,"desiredReplicas":3,"lastScaleTime":"2026-11-21T01:00:00Z",
            "currentMetrics":[{{"type":"Resource","resource":{{"name":"cpu","current":{{"averageUtilization":75}}}}}}],
            "conditions":[{{"type":"AbleToScale","status":"True","lastTransitionTime":"2026-11-21T01:00:00Z","reason":"a","message":"b"}}]}}}}"#
    ))
}

struct Double;

impl Metrics for Double {
    fn resource(&self, pods: Which<'_>, _: &str, _: Option<&str>) -> Answer<Vec<Option<PodValue>>> {
        let value = PodValue {
            milli: 40,
            at: NOW,
            window_ms: 15_000,
        };
        let mut values = vec![Some(value); pods.names.len()];
        values[0] = None;
        Answer {
            query: "cpu".to_owned(),
            values: Ok(values),
        }
    }

    fn pods(&self, _: Which<'_>, _: &MetricId) -> Answer<Vec<Option<PodValue>>> {
        Answer {
            query: String::new(),
            values: Err("nobody knows".to_owned()),
        }
    }

    fn object(&self, _: &str, _: &ObjectRef, _: &MetricId) -> Answer<i64> {
        Answer {
            query: "b".to_owned(),
            values: Ok(400_000),
        }
    }

    fn external(&self, _: &str, _: &MetricId) -> Answer<Vec<i64>> {
        Answer {
            query: "c".to_owned(),
            values: Ok(vec![1, 2]),
        }
    }
}

fn pod(no: usize) -> Pod {
    Pod {
        name: format!("web-{no}").into(),
        phase: Phase::Running,
        deleting: no == 2,
        started: Some(NOW.saturating_sub(3_600_000)),
        ready: Some(Ready {
            status: Status::True,
            since: NOW.saturating_sub(3_590_000),
        }),
    }
}

pub(super) fn all() -> Autoscalers {
    let all = Autoscalers::default();
    for name in ["job", "code", "no"] {
        let id = Id::new("shop", name);
        assert!(all.board.show(&id, shown(name)));
        let mut turn = all.board.begin(&id).expect("it is there");
        let hpa = turn.shown.hpa.expect("it can be read");
        let settings = all.board.options().settings.clone();
        let outcome = match name {
            "no" => Outcome::Blocked("it is not for you".to_owned()),
            "code" => {
                let pods: Vec<Pod> = (0..3).map(pod).collect();
                let scale = TargetScale {
                    replicas: Scale { spec: 1, status: 1 },
                    selector: "app=web".to_owned(),
                };
                let sighted = Sighted {
                    now: NOW,
                    hpa: &hpa,
                    settings: &settings,
                    scale: &scale,
                    pods: &pods,
                    requests: &|_, _, _| Request::Milli(200),
                    barred: None,
                };
                Outcome::Decided(Box::new(look(&sighted, &Double, &mut turn.memory.history)))
            }
            _ => continue,
        };
        let look = Look {
            at: NOW,
            hpa,
            settings,
            outcome,
        };
        all.board.end(&id, turn.memory, look);
    }
    all
}
