use super::*;

const HEAD: &str = "kind: HorizontalPodAutoscaler\nmetadata: {name: web, namespace: shop}\n";

fn one(text: &str) -> Result<Hpa, String> {
    let all = read(text).map_err(|e| e.to_string())?;
    assert_eq!(all.len(), 1);
    Ok(all.into_iter().next().unwrap())
}

fn v2(spec: &str) -> Result<Hpa, String> {
    one(&format!(
        "apiVersion: autoscaling/v2\n{HEAD}spec: {{scaleTargetRef: {{kind: Deployment, name: web}}, maxReplicas: 9, {spec}}}"
    ))
}

#[test]
fn what_is_left_out_has_the_api_servers_defaults() {
    let hpa = v2("").unwrap();
    assert_eq!(
        (hpa.namespace.as_str(), hpa.min_replicas, hpa.behavior.as_ref()),
        ("shop", 1, None)
    );
    assert_eq!(hpa.metrics[0].target, Target::Utilization(80));
    let hpa = v2("behavior: {scaleDown: {policies: [{type: Pods, value: 1, periodSeconds: 60}]}}").unwrap();
    let behavior = hpa.behavior.unwrap();
    assert_eq!(behavior.up, Rules::up());
    assert_eq!(
        (behavior.down.window_seconds, behavior.down.select),
        (None, Select::Max)
    );
    assert_eq!(behavior.down.policies[0].to_string(), "1 pods in 60s");
    assert_eq!(v2("behavior: {}").unwrap().behavior.unwrap().down, Rules::down());
}

#[test]
fn older_versions_say_the_same() {
    let cpu = "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}";
    let pods = "{type: Pods, pods: {metric: {name: rps}, target: {type: AverageValue, averageValue: 20}}}";
    let object = "{type: Object, object: {metric: {name: rps}, describedObject: {kind: Ingress, name: main}, \
                  target: {type: Value, value: 2k}}}";
    let external = "{type: External, external: {metric: {name: q, selector: {matchLabels: {a: b}}}, \
                    target: {type: AverageValue, averageValue: 500m}}}";
    let later = v2(&format!(
        "minReplicas: 2, metrics: [{cpu}, {pods}, {object}, {external}]"
    ))
    .unwrap();
    let older = |version: &str, spec: &str| {
        one(&format!(
            "apiVersion: autoscaling/{version}\n{HEAD}spec: {{scaleTargetRef: {{kind: Deployment, name: web}}, \
             minReplicas: 2, maxReplicas: 9, {spec}}}"
        ))
        .unwrap()
    };
    assert_eq!(
        older("v2beta2", &format!("metrics: [{cpu}, {pods}, {object}, {external}]")),
        later
    );
    let of_beta1 = older(
        "v2beta1",
        "metrics: [{type: Resource, resource: {name: cpu, targetAverageUtilization: 50}}, \
         {type: Pods, pods: {metricName: rps, targetAverageValue: '20'}}, \
         {type: Object, object: {metricName: rps, target: {kind: Ingress, name: main}, targetValue: 2000}}, \
         {type: External, external: {metricName: q, metricSelector: {matchLabels: {a: b}}, targetAverageValue: 0.5}}]",
    );
    assert_eq!(of_beta1, later);
    let of_v1 = older("v1", "targetCPUUtilizationPercentage: 50");
    assert_eq!(of_v1.metrics, later.metrics[..1]);
}

#[test]
fn json_lists_and_several_documents_are_read() {
    let list = r#"{"kind": "HorizontalPodAutoscalerList", "apiVersion": "autoscaling/v2", "items": [
        {"metadata": {"name": "a"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "a"}, "maxReplicas": 2},
         "status": {"currentReplicas": 1}},
        {"metadata": {"name": "b"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "b"}, "maxReplicas": 3}}]}"#;
    let names = |text: &str| read(text).unwrap().into_iter().map(|h| h.name).collect::<Vec<_>>();
    assert_eq!(names(list), ["a", "b"]);
    let spec = "spec: {scaleTargetRef: {kind: Deployment, name: web}, maxReplicas: 9}";
    let two =
        format!("---\napiVersion: autoscaling/v2\n{HEAD}{spec}\n---\napiVersion: autoscaling/v1\n{HEAD}{spec}\n---\n");
    assert_eq!(names(&two), ["web", "web"]);
    assert_eq!(read(&two).unwrap()[1].metrics[0].target, Target::Utilization(80));
}

#[test]
fn what_kubernetes_would_not_take_is_refused_by_name() {
    let resource = |target: &str| format!("metrics: [{{type: Resource, resource: {{name: cpu, target: {target}}}}}]");
    for (spec, why) in [
        ("minReplicas: 0".to_owned(), "spec.minReplicas: 0"),
        (
            "minReplicas: 10".to_owned(),
            "spec.maxReplicas: 9 is below minReplicas, 10",
        ),
        ("minReplica: 1".to_owned(), "unknown field `minReplica`"),
        (
            "metrics: [{type: Cpu}]".to_owned(),
            "unknown metric source type \"Cpu\"",
        ),
        (
            "metrics: [{type: Resource}]".to_owned(),
            "a metric of type Resource does not describe its source",
        ),
        (
            resource("{type: Value, value: 1}"),
            "target of type \"Value\" does not fit",
        ),
        (resource("{type: AverageValue, averageUtilization: 1}"), "does not fit"),
        (
            resource("{type: Utilization, averageUtilization: 0}"),
            "averageUtilization: 0 is not above zero",
        ),
        (
            resource("{type: AverageValue, averageValue: 0}"),
            "averageValue: 0 is not above zero",
        ),
        (
            resource("{type: AverageValue, averageValue: 1x}"),
            "target.averageValue: \"1x\" is not a quantity",
        ),
        (
            "behavior: {scaleUp: {policies: []}}".to_owned(),
            "behavior.scaleUp: policies: at least one",
        ),
        (
            "behavior: {scaleUp: {selectPolicy: Most}}".to_owned(),
            "\"Most\" is not one of",
        ),
        (
            "behavior: {scaleUp: {tolerance: -0.1}}".to_owned(),
            "tolerance: is below zero",
        ),
        (
            "behavior: {scaleDown: {stabilizationWindowSeconds: 3601}}".to_owned(),
            "3601 is not within",
        ),
        (
            "behavior: {scaleUp: {policies: [{type: Pods, value: 1, periodSeconds: 0}]}}".to_owned(),
            "periodSeconds: 0 is not within",
        ),
    ] {
        let error = v2(&spec).unwrap_err();
        assert!(error.starts_with("web: ") && error.contains(why), "{spec}: {error}");
    }
}

#[test]
fn what_is_no_autoscaler_is_refused_by_name() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {}\n";
    let kept = "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: web, annotations: \
                {autoscaling.alpha.kubernetes.io/metrics: '[]'}}\nspec: {scaleTargetRef: {kind: Deployment, name: web}, \
                maxReplicas: 9}";
    for (text, why) in [
        ("", "there is no HorizontalPodAutoscaler in it"),
        ("--- \n---\n", "there is no HorizontalPodAutoscaler in it"),
        ("a: [", "document 1 is not YAML"),
        (
            "just words",
            "document 1 is without a kind, not a HorizontalPodAutoscaler",
        ),
        (
            deployment,
            "document 1 is a Deployment of apps/v1, not a HorizontalPodAutoscaler",
        ),
        (
            &format!("apiVersion: autoscaling/v3\n{HEAD}"),
            "web is of autoscaling/v3: known are autoscaling/v2, v2beta2, v2beta1 and v1",
        ),
        (HEAD, "web is of no apiVersion"),
        (
            kept,
            "web: the annotation autoscaling.alpha.kubernetes.io/metrics holds what",
        ),
        (&"#".repeat(MAX_BYTES + 1), "more than 1048576 bytes"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
