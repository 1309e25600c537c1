//! `deploy/`: the manifests against the program and the preset it runs.
//!
//! That their fields are Kubernetes' own is checked against the published schemas, by `.ci/deploy.sh`.

use crate::program::texts;
use serde::Deserialize;
use serde_yaml_ng::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tidegauge_server::cli::flags::{self, Effect, FLAGS};
use tidegauge_server::preset::{Annotations, Kubernetes};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The objects of a file.
fn read(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let objects = serde_yaml_ng::Deserializer::from_str(&text).map(|one| Value::deserialize(one).expect("YAML"));
    objects.collect()
}

/// The objects of the manifest, by kind.
fn objects() -> BTreeMap<String, Value> {
    let objects = read("kubernetes/tidegauge.yaml").into_iter();
    let by_kind: BTreeMap<String, Value> = objects.map(|one| (string(&one["kind"]), one)).collect();
    assert_eq!(by_kind.len(), 6, "one object of each kind");
    by_kind
}

fn string(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value:?} is no text"))
        .to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_sequence().into_iter().flatten().map(string).collect()
}

fn container() -> Value {
    objects()["StatefulSet"]["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn every_argument_is_a_flag_that_does_something() {
    let args = strings(&container()["args"]);
    assert!(args.iter().any(|arg| arg == "--kubernetes"), "{args:?}");
    let sorted = flags::sort(args.clone()).unwrap_or_else(|e| panic!("{args:?}: {e}"));
    assert!(sorted.ignored.is_empty(), "{:?}", sorted.ignored);
    for name in sorted.given.keys() {
        let flag = FLAGS.iter().find(|flag| flag.name == *name).expect("known");
        assert_ne!(flag.effect, Effect::None, "--{name}");
    }
    // The values are read, too: with `--help` behind them the program does no more than that.
    let all: Vec<&str> = args.iter().map(String::as_str).chain(["--help"]).collect();
    let (code, help, err) = texts(&all);
    assert_eq!(code, Some(0), "{err}");
    assert!(help.contains("--kubernetes.annotations"));
}

/// Which resources each role of discovery lists and watches.
fn watched(role: &str) -> &'static [(&'static str, &'static str)] {
    match role {
        "node" => &[("", "nodes")],
        "pod" => &[("", "pods")],
        "endpointslice" => &[("", "pods"), ("", "services"), ("discovery.k8s.io", "endpointslices")],
        other => panic!("say what role {other} watches"),
    }
}

#[test]
fn the_role_allows_what_the_preset_needs_and_nothing_else() {
    let mut needed = BTreeSet::new();
    for annotations in [Annotations::OptIn, Annotations::OptOut] {
        let preset: Value = serde_yaml_ng::from_str(&Kubernetes::in_a_pod(annotations).yaml()).expect("YAML");
        for job in preset["scrape_configs"].as_sequence().expect("jobs") {
            let discovery = job["kubernetes_sd_configs"].as_sequence().expect("a kind of discovery");
            assert_eq!(discovery.len(), 1);
            assert!(
                discovery[0]["attach_metadata"].is_null(),
                "would watch nodes or namespaces, too"
            );
            for (group, resource) in watched(&string(&discovery[0]["role"])) {
                needed.extend(["list", "watch"].map(|verb| format!("{verb} {group}/{resource}")));
            }
        }
    }
    // What is scraped with the service account's token: kubelets, and the API server.
    needed.insert("get /nodes/metrics".to_owned());
    needed.insert("get /metrics".to_owned());
    // What is looked at of autoscalers.
    let scales = ["deployments", "replicasets", "statefulsets"].map(|kind| format!("get apps/{kind}/scale"));
    needed.extend(scales);
    needed.insert("get /replicationcontrollers/scale".to_owned());
    needed.extend(["list", "watch"].map(|verb| format!("{verb} autoscaling/horizontalpodautoscalers")));

    assert_eq!(allowed(&objects()["ClusterRole"]), needed);
}

/// What a role allows, as `verb group/resource` and `verb path`.
fn allowed(role: &Value) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for rule in role["rules"].as_sequence().expect("rules") {
        for verb in strings(&rule["verbs"]) {
            for path in strings(&rule["nonResourceURLs"]) {
                allowed.insert(format!("{verb} {path}"));
            }
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    allowed.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    allowed
}

/// The paths of the API server that the role allows to list and watch for discovery.
#[cfg(feature = "kubernetes")]
pub(crate) fn watchable_paths() -> BTreeSet<String> {
    let rules = objects()["ClusterRole"]["rules"].clone();
    let mut paths = BTreeSet::new();
    for rule in rules.as_sequence().expect("rules") {
        if !strings(&rule["verbs"]).iter().any(|verb| verb == "watch") {
            continue;
        }
        for group in strings(&rule["apiGroups"]) {
            let base = match group.as_str() {
                "" => "/api/v1".to_owned(),
                "autoscaling" => continue,
                group => format!("/apis/{group}/v1"),
            };
            paths.extend(
                strings(&rule["resources"])
                    .iter()
                    .map(|resource| format!("{base}/{resource}")),
            );
        }
    }
    paths
}

#[test]
fn the_objects_belong_together() {
    let objects = objects();
    let set = &objects["StatefulSet"];
    let pod = &set["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&objects["Service"]["spec"]["selector"], labels);
    assert_eq!(set["spec"]["serviceName"], objects["Service"]["metadata"]["name"]);
    let account = &objects["ServiceAccount"]["metadata"];
    assert_eq!(pod["spec"]["serviceAccountName"], account["name"]);
    let subject = &objects["ClusterRoleBinding"]["subjects"][0];
    assert_eq!(
        (&subject["name"], &subject["namespace"]),
        (&account["name"], &account["namespace"])
    );
    assert_eq!(
        objects["ClusterRoleBinding"]["roleRef"]["name"],
        objects["ClusterRole"]["metadata"]["name"]
    );
    for kind in ["ServiceAccount", "Service", "StatefulSet"] {
        assert_eq!(
            objects[kind]["metadata"]["namespace"], objects["Namespace"]["metadata"]["name"],
            "{kind}"
        );
    }
    let container = &pod["spec"]["containers"][0];
    let version = format!("tidegauge:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(string(&container["image"]), version);
    let kustomization = std::fs::read_to_string(folder().join("kubernetes/kustomization.yaml")).expect("a file");
    let kustomization: Value = serde_yaml_ng::from_str(&kustomization).expect("YAML");
    assert_eq!(string(&kustomization["images"][0]["newTag"]), env!("CARGO_PKG_VERSION"));
    assert_eq!(strings(&kustomization["resources"]), ["tidegauge.yaml"]);

    // Where it writes is the volume, and it listens on the port it names.
    let sorted = flags::sort(strings(&container["args"])).expect("flags");
    let mount = &container["volumeMounts"][0];
    assert_eq!(sorted.given["storage.tsdb.path"], string(&mount["mountPath"]));
    assert_eq!(
        set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"],
        mount["name"]
    );
    let port = container["ports"][0]["containerPort"].as_u64().expect("a port");
    assert_eq!(sorted.given["web.listen-address"], format!("0.0.0.0:{port}"));
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"]);
    }
}

#[test]
fn it_runs_without_rights_and_within_its_means() {
    let container = container();
    let pod = objects()["StatefulSet"]["spec"]["template"]["spec"].clone();
    let (security, own) = (&pod["securityContext"], &container["securityContext"]);
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(own["readOnlyRootFilesystem"], true);
    assert_eq!(own["allowPrivilegeEscalation"], false);
    assert_eq!(strings(&own["capabilities"]["drop"]), ["ALL"]);
    let dockerfile = std::fs::read_to_string(folder().join("Dockerfile")).expect("a file");
    let user = security["runAsUser"].as_u64().expect("a number");
    assert!(dockerfile.contains(&format!("\nUSER {user}:")), "the image's own user");

    let resources = &container["resources"];
    assert_eq!(string(&resources["requests"]["cpu"]), "50m");
    assert_eq!(string(&resources["requests"]["memory"]), "64Mi");
    // The program takes its share of the container's limit by itself, unless a flag says otherwise.
    assert!(resources["limits"]["memory"].is_string());
    assert!(
        !strings(&container["args"])
            .iter()
            .any(|arg| arg.starts_with("--memory.limit"))
    );
}

#[cfg(feature = "kubernetes")]
mod metrics_apis {
    use super::*;
    use tidegauge_server::kubeapi::serving::{Group, Service, manifests};

    /// The arguments that a component adds.
    fn arguments(component: &str) -> Vec<String> {
        let kustomization = read(&format!("metrics-apis/{component}/kustomization.yaml")).remove(0);
        assert_eq!(strings(&kustomization["resources"]), [format!("{component}.yaml")]);
        let patch: Value =
            serde_yaml_ng::from_str(kustomization["patches"][0]["patch"].as_str().expect("a patch")).expect("YAML");
        let added = patch.as_sequence().expect("a list").iter();
        let added = added.filter(|one| one["path"].as_str().is_some_and(|path| path.contains("/args/")));
        added.map(|one| string(&one["value"])).collect()
    }

    #[test]
    fn each_group_is_a_component_that_says_what_the_program_says() {
        let sorted = flags::sort(arguments("listener")).expect("flags");
        assert!(sorted.ignored.is_empty() && sorted.given.contains_key("kubernetes.api.register"));
        assert_eq!(sorted.given["kubernetes.api.listen-address"], "0.0.0.0:6443");
        let all = read("metrics-apis/kustomization.yaml").remove(0);
        let components: Vec<String> = ["listener"]
            .into_iter()
            .chain(Group::ALL.map(Group::word))
            .map(str::to_owned)
            .collect();
        assert_eq!(strings(&all["components"]), components);
        for group in Group::ALL {
            let word = group.word();
            assert_eq!(arguments(word), [format!("--kubernetes.api.groups={word}")]);
            let objects = read(&format!("metrics-apis/{word}/{word}.yaml"));
            let of = |kind: &str| -> Vec<Value> {
                let found = objects.iter().filter(|one| one["kind"] == kind);
                found.cloned().collect()
            };
            let roles = of("ClusterRole");
            let told = manifests(&Service::usual("tidegauge"), &[group], None);
            let told: Vec<Value> = told
                .iter()
                .map(|one| serde_yaml_ng::to_value(one).expect("YAML"))
                .collect();
            assert_eq!(of("APIService"), told);
            let allowed = allowed(&roles[0]);
            assert!(allowed.iter().all(|right| right.contains(group.name())), "{allowed:?}");
            assert!(allowed.iter().any(|right| right.starts_with("list ")));
            let labels = &roles[0]["metadata"]["labels"];
            assert_eq!(labels["rbac.authorization.k8s.io/aggregate-to-view"], "true");
            // What the program itself may: to look which objects a selector means.
            let own = &roles[1..];
            assert_eq!(own.len(), usize::from(group == Group::Custom));
            for (role, binding) in own.iter().zip(of("ClusterRoleBinding")) {
                assert!(super::allowed(role).iter().all(|right| right.starts_with("list ")));
                assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
                let account = &super::objects()["ServiceAccount"]["metadata"];
                let subject = &binding["subjects"][0];
                assert_eq!(
                    (&subject["name"], &subject["namespace"]),
                    (&account["name"], &account["namespace"])
                );
            }
        }
    }

    #[test]
    fn the_listener_is_reached_and_may_ask_what_it_asks() {
        let listener = read("metrics-apis/listener/listener.yaml");
        let of = |kind: &str, name: &str| {
            let mut found = listener
                .iter()
                .filter(|one| one["kind"] == kind && one["metadata"]["name"] == name);
            found
                .next()
                .unwrap_or_else(|| panic!("there is no {kind} {name}"))
                .clone()
        };
        let usual = Service::usual("tidegauge");
        let service = of("Service", &usual.name);
        assert_eq!(service["metadata"]["namespace"], usual.namespace.as_str());
        assert_eq!(service["spec"]["selector"], objects()["Service"]["spec"]["selector"]);
        assert_eq!(service["spec"]["ports"][0]["port"], 443);
        assert_eq!(service["spec"]["ports"][0]["targetPort"], "metrics-apis");
        let account = &objects()["ServiceAccount"]["metadata"];
        for binding in listener.iter().filter(|one| string(&one["kind"]).ends_with("Binding")) {
            let subject = &binding["subjects"][0];
            assert_eq!(
                (&subject["name"], &subject["namespace"]),
                (&account["name"], &account["namespace"])
            );
        }
        // These two come with every cluster.
        let delegator = of("ClusterRoleBinding", "tidegauge:auth-delegator");
        assert_eq!(delegator["roleRef"]["name"], "system:auth-delegator");
        let reader = of("RoleBinding", "tidegauge:extension-apiserver-authentication-reader");
        assert_eq!(reader["metadata"]["namespace"], "kube-system");
        assert_eq!(reader["roleRef"]["kind"], "Role");
        let role = of("ClusterRole", "tidegauge:metrics-apis");
        assert_eq!(
            of("ClusterRoleBinding", "tidegauge:metrics-apis")["roleRef"]["name"],
            role["metadata"]["name"]
        );
        let needed = [
            "get apiregistration.k8s.io/apiservices",
            "patch apiregistration.k8s.io/apiservices",
        ];
        assert_eq!(allowed(&role), needed.map(str::to_owned).into());
        let named = role["rules"]
            .as_sequence()
            .expect("rules")
            .iter()
            .flat_map(|rule| strings(&rule["resourceNames"]));
        let told = manifests(&usual, &Group::ALL, None);
        let told: BTreeSet<String> = told
            .iter()
            .filter_map(|one| Some(one["metadata"]["name"].as_str()?.to_owned()))
            .collect();
        assert_eq!(named.collect::<BTreeSet<String>>(), told);
    }
}
