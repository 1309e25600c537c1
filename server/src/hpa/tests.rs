//! The whole way from answers of metrics to a decision: scenarios, and what holds for all of them.

use super::behavior::Recorded;
use super::formula::{Reading, Request, Scale};
use super::pods::{Phase, Pod, PodValue, Ready, Status};
use super::quantity::Quantity;
use super::{Decision, History, Hpa, Path, Settings, Situation, decide, manifest};
use proptest::prelude::*;
use serde::Deserialize;
use serde_yaml_ng::Value;
use tidegauge_model::Timestamp;

#[derive(Deserialize)]
struct Scenario {
    says: String,
    spec: Value,
    request: Option<String>,
    looks: Vec<Look>,
}

#[derive(Deserialize)]
struct Look {
    at: i64,
    replicas: i32,
    metrics: Vec<String>,
    desired: i32,
    conditions: String,
}

fn seconds(at: i64) -> Timestamp {
    Timestamp::from_millis(at * 1000)
}

/// An autoscaler of v2 with a spec.
pub(super) fn hpa(spec: &str) -> Hpa {
    let text =
        format!("apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: web}}\nspec: {spec}");
    manifest::read(&text).unwrap().remove(0)
}

fn milli(text: &str) -> i64 {
    text.parse::<Quantity>().unwrap().milli()
}

/// A pod as a word describes it, with its value. It has run for a day.
fn pod(no: usize, word: &str, now: Timestamp) -> (Pod, Option<PodValue>) {
    let began = now.saturating_sub(86_400_000);
    let (status, word) = match word.strip_prefix("unready:") {
        Some(word) => (Status::False, word),
        None => (Status::True, word),
    };
    let phase = match word {
        "pending" => Phase::Pending,
        "failed" => Phase::Failed,
        _ => Phase::Running,
    };
    let pod = Pod {
        name: format!("web-{no}").into(),
        phase,
        deleting: word == "deleting",
        started: Some(began),
        ready: Some(Ready { status, since: began }),
    };
    let value = word.parse::<Quantity>().ok().map(|value| PodValue {
        milli: value.milli(),
        at: now,
        window_ms: 30_000,
    });
    assert!(
        value.is_some() || ["-", "pending", "failed", "deleting"].contains(&word),
        "{word}"
    );
    (pod, value)
}

/// One look of a scenario.
fn look(hpa: &Hpa, settings: &Settings, request: Option<&str>, look: &Look, history: &mut History) -> Decision {
    let now = seconds(look.at);
    let words = |no: usize| look.metrics[no].split(' ').filter(|word| !word.is_empty());
    let of_pods = |no: usize| {
        !matches!(
            hpa.metrics[no].source,
            super::spec::Source::Object { .. } | super::spec::Source::External { .. }
        )
    };
    // Pods are named by the first metric that is of pods; other scenarios have as many ready ones as replicas.
    let named = (0..look.metrics.len()).find(|no| of_pods(*no) && !look.metrics[*no].starts_with('?'));
    let all_ready = vec!["0"; usize::try_from(look.replicas).unwrap()];
    let pods: Vec<Pod> = match named {
        Some(no) => words(no).enumerate().map(|(no, word)| pod(no, word, now).0).collect(),
        None => all_ready
            .iter()
            .enumerate()
            .map(|(no, word)| pod(no, word, now).0)
            .collect(),
    };
    let request = request.map_or(Request::NoContainerRequest("main".into()), |text| {
        Request::Milli(milli(text))
    });
    let requests = vec![request; pods.len()];
    let values: Vec<Vec<Option<PodValue>>> = (0..look.metrics.len())
        .map(|no| match of_pods(no) && !look.metrics[no].starts_with('?') {
            true => words(no).map(|word| pod(0, word, now).1).collect(),
            false => Vec::new(),
        })
        .collect();
    let totals: Vec<Vec<i64>> = (0..look.metrics.len())
        .map(|no| match of_pods(no) || look.metrics[no].starts_with('?') {
            true => Vec::new(),
            false => words(no).map(milli).collect(),
        })
        .collect();
    let readings: Vec<Reading<'_>> = (0..look.metrics.len())
        .map(|no| match look.metrics[no].strip_prefix('?') {
            Some(why) => Reading::Failed(why),
            None if of_pods(no) => Reading::Pods {
                values: &values[no],
                strangers: &[],
                requests: &requests,
            },
            None => Reading::Values(&totals[no]),
        })
        .collect();
    let situation = Situation {
        now,
        scale: Scale {
            spec: look.replicas,
            status: look.replicas,
        },
        pods: &pods,
        readings: &readings,
        barred: None,
    };
    let decision = decide(hpa, settings, &situation, history);
    if decision.is_change() {
        history.changed(hpa.behavior.as_ref(), decision.current, decision.desired, now);
    }
    decision
}

#[test]
fn scenarios_come_out_as_they_say() {
    let text = include_str!("../../../testdata/hpa/scenarios.yml");
    let scenarios: Vec<Scenario> = serde_yaml_ng::from_str(text).unwrap();
    for scenario in scenarios {
        let spec = serde_json::to_string(&scenario.spec).unwrap();
        let hpa = hpa(&spec);
        let mut history = History::default();
        for one in &scenario.looks {
            let decision = look(
                &hpa,
                &Settings::default(),
                scenario.request.as_deref(),
                one,
                &mut history,
            );
            let mut reasons: Vec<&str> = ["AbleToScale", "ScalingActive", "ScalingLimited", "ScaledToZero"]
                .iter()
                .filter_map(|kind| decision.conditions.iter().find(|c| c.kind.name() == *kind))
                .map(|c| c.reason)
                .collect();
            reasons.dedup();
            assert_eq!(
                (decision.desired, reasons.join(" ")),
                (one.desired, one.conditions.clone()),
                "{}: at {}: {:?}",
                scenario.says,
                one.at,
                decision.path
            );
        }
    }
}

#[test]
fn messages_are_the_controllers() {
    let hpa = hpa(
        "{scaleTargetRef: {kind: Deployment, name: web}, maxReplicas: 9, metrics: [
        {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}},
        {type: External, external: {metric: {name: q}, target: {type: Value, value: 1}}},
        {type: Object, object: {metric: {name: hits}, describedObject: {kind: Ingress, name: main},
          target: {type: AverageValue, averageValue: 1}}}]}",
    );
    let failed = Look {
        at: 0,
        replicas: 2,
        metrics: ["?down", "", "?down"].map(str::to_owned).into(),
        desired: 2,
        conditions: String::new(),
    };
    let decision = look(&hpa, &Settings::default(), None, &failed, &mut History::default());
    let events: Vec<String> = decision
        .metrics
        .iter()
        .map(|m| m.outcome.as_ref().unwrap_err().to_string())
        .collect();
    assert_eq!(
        events,
        [
            "failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu: \
             down",
            "failed to get q external metric value: failed to get external metric q: unable to get external metric \
             default/q/nil: no metrics returned from external metrics API",
            "failed to get object metric value: failed to get hits object metric: unable to get metric hits: Ingress on \
             default main/down",
        ]
    );
    let Path::Failed { error } = &decision.path else {
        panic!("{:?}", decision.path)
    };
    assert_eq!(
        error,
        &format!("invalid metrics (3 invalid out of 3), first error is: {}", events[0])
    );
    let active = decision
        .conditions
        .iter()
        .find(|c| c.kind.name() == "ScalingActive")
        .unwrap();
    assert_eq!(
        active.message,
        "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource \
         cpu: down"
    );
    let scaled = Look {
        metrics: ["2", "10", "1"].map(str::to_owned).into(),
        ..failed
    };
    let decision = look(&hpa, &Settings::default(), Some("1"), &scaled, &mut History::default());
    assert_eq!(decision.reason, "external metric q(nil) above target");
}

fn plain(target: &str) -> Hpa {
    hpa(&format!(
        "{{scaleTargetRef: {{kind: Deployment, name: web}}, minReplicas: 2, maxReplicas: 50, metrics: [{{type: Resource, \
         resource: {{name: cpu, target: {target}}}}}]}}"
    ))
}

/// What is wanted of pods with these values in thousandths; `None` is a pod without.
fn wanted(hpa: &Hpa, values: &[Option<i64>]) -> Option<i32> {
    let words: Vec<String> = values
        .iter()
        .map(|v| v.map_or("-".to_owned(), |v| format!("{v}m")))
        .collect();
    let one = Look {
        at: 0,
        replicas: i32::try_from(values.len()).unwrap(),
        metrics: vec![words.join(" ")],
        desired: 0,
        conditions: String::new(),
    };
    let decision = look(hpa, &Settings::default(), Some("100m"), &one, &mut History::default());
    decision.metrics.first()?.outcome.clone().ok()
}

fn values() -> impl Strategy<Value = Vec<Option<i64>>> {
    prop::collection::vec(prop::option::weighted(0.8, 0..400i64), 2..20)
}

proptest! {
    #[test]
    fn more_load_never_wants_fewer_replicas(values in values(), more in 0..300i64, which: prop::sample::Index, utilization: bool) {
        let target = if utilization { "{type: Utilization, averageUtilization: 70}" } else { "{type: AverageValue, averageValue: 70m}" };
        let hpa = plain(target);
        let mut raised = values.clone();
        let place = which.index(raised.len());
        raised[place] = raised[place].map(|v| v + more);
        prop_assert!(wanted(&hpa, &values) <= wanted(&hpa, &raised), "{values:?} {raised:?}");
    }

    #[test]
    fn nothing_is_done_within_the_tolerance(each in 63..=77i64, count in 2usize..40) {
        let all = vec![Some(each); count];
        prop_assert_eq!(wanted(&plain("{type: AverageValue, averageValue: 70m}"), &all), i32::try_from(count).ok());
    }

    #[test]
    fn what_is_missing_only_holds_it_up(values in values()) {
        let hpa = plain("{type: AverageValue, averageValue: 70m}");
        let known: Vec<_> = values.iter().filter(|v| v.is_some()).copied().collect();
        let count = i32::try_from(values.len()).unwrap();
        if let Some(with_gaps) = wanted(&hpa, &values) {
            let ratio = known.iter().flatten().sum::<i64>() / i64::try_from(known.len()).unwrap();
            if known.len() < values.len() {
                // Never beyond what it would be, were all as those that are known.
                let full = vec![Some(ratio); values.len()];
                let full = wanted(&hpa, &full).unwrap();
                prop_assert!((count.min(full)..=count.max(full)).contains(&with_gaps), "{values:?} {with_gaps} {full}");
            }
        }
    }

    #[test]
    fn limits_hold_whatever_is_measured(loads in prop::collection::vec(0..5000i64, 1..60), start in 0..80i32, old: bool) {
        let behavior = if old { "" } else { "behavior: {scaleUp: {policies: [{type: Pods, value: 3, periodSeconds: 60}]}, scaleDown: \
            {stabilizationWindowSeconds: 30, policies: [{type: Pods, value: 2, periodSeconds: 45}]}}," };
        let hpa = hpa(&format!("{{scaleTargetRef: {{kind: Deployment, name: web}}, minReplicas: 2, maxReplicas: 50, {behavior} \
            metrics: [{{type: External, external: {{metric: {{name: q}}, target: {{type: AverageValue, averageValue: 1}}}}}}]}}"));
        let mut history = History::default();
        let mut counts = vec![start];
        for (no, load) in loads.iter().enumerate() {
            let replicas = *counts.last().unwrap();
            let one = Look {
                at: i64::try_from(no).unwrap() * 15,
                replicas,
                metrics: vec![(load / 100).to_string()],
                desired: 0,
                conditions: String::new(),
            };
            let decision = look(&hpa, &Settings::default(), None, &one, &mut history);
            let desired = decision.desired;
            match decision.path {
                Path::Disabled => prop_assert_eq!((replicas, desired), (0, 0)),
                _ => prop_assert!((2..=50).contains(&desired), "{desired}"),
            }
            // Coming back into the bounds is not held up by policies; otherwise a change begins from what there was a period ago.
            let period_ago = |syncs: usize| counts[counts.len().saturating_sub(syncs)];
            if matches!(decision.path, Path::Metrics { .. }) && !old && counts.iter().all(|c| (2..=50).contains(c)) {
                prop_assert!(desired <= replicas || desired <= period_ago(4) + 3, "{counts:?} {desired}");
                prop_assert!(desired >= replicas || desired >= period_ago(3) - 2, "{counts:?} {desired}");
            }
            if matches!(decision.path, Path::Metrics { .. }) && old {
                prop_assert!(desired <= (2 * replicas).max(4));
            }
            counts.push(desired);
        }
    }

    #[test]
    fn a_recommendation_holds_for_its_window(earlier in prop::collection::vec((0..600i64, 1..50i32), 0..20), wanted in 1..50i32) {
        let mut earlier: Vec<Recorded> = earlier.iter().map(|(ago, replicas)| Recorded { at: seconds(1000 - ago), replicas: *replicas }).collect();
        earlier.sort_by_key(|r| r.at);
        let highest = earlier.iter().filter(|r| r.at >= seconds(700)).map(|r| r.replicas).fold(wanted, i32::max);
        let got = super::behavior::stabilize_by_default(wanted, &earlier, seconds(1000), &Settings::default());
        prop_assert_eq!(got.replicas, highest);
    }
}
