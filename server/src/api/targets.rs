//! `targets`, `targets/metadata`, `targets/relabel_steps`, `scrape_pools`, `metadata`: what is scraped, what it says of
//! itself, how it came to its labels; and our own `status/discovery`: whether it can be found.

use super::error::ApiError;
use super::json::Json;
use super::params::Params;
use super::query::parse_options;
use super::render::Reply;
use super::shared::Shared;
use super::status::{ZERO_TIME, hostname, rfc3339};
use super::values::parse_int;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegauge_model::{Labels, LabelsBuilder, Matcher, Metadata};
use tidegauge_query::parser::parse_metric_selector;
use tidegauge_scraper::relabel::RelabelConfig;
use tidegauge_scraper::{DroppedTarget, ProviderStatus, TargetStatus};
use url::Url;

/// `GET /api/v1/targets`
pub(crate) async fn targets(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    let params = shared.params(request).await?;
    let state = params.text("state")?.to_ascii_lowercase();
    let pool = params.text("scrapePool")?;
    let shows = |kind: &str| matches!(state.as_str(), "" | "any") || state == kind;
    let wanted = |name: &str| pool.is_empty() || name == pool;
    let snapshot = shared.api.scraper.targets();
    let site = Site::new(&shared.api.external_url, &shared.api.flags);
    Ok(Reply::json(|json| {
        json.object(|o| {
            o.key("activeTargets").array(|a| {
                for target in snapshot
                    .active
                    .iter()
                    .filter(|t| shows("active") && wanted(&t.scrape_pool))
                {
                    push_active(a, target, &site);
                }
            });
            o.key("droppedTargets").array(|a| {
                for target in snapshot
                    .dropped
                    .iter()
                    .filter(|t| shows("dropped") && wanted(&t.scrape_pool))
                {
                    push_dropped(a, target);
                }
            });
            o.key("droppedTargetCounts");
            if shows("dropped") {
                o.object(|c| {
                    for (pool, count) in &snapshot.dropped_counts {
                        c.key(pool).count(*count as u64);
                    }
                });
            } else {
                o.null();
            }
        });
    }))
}

fn push_active(json: &mut Json, target: &TargetStatus, site: &Site) {
    let last_scrape = target.last_scrape.map_or_else(|| ZERO_TIME.to_owned(), rfc3339);
    json.object(|o| {
        o.key("discoveredLabels").labels(&target.discovered_labels);
        o.key("labels").labels(&target.labels);
        o.key("scrapePool").string(&target.scrape_pool);
        o.key("scrapeUrl").string(&target.scrape_url);
        o.key("globalUrl").string(&site.global_url(&target.scrape_url));
        o.key("lastError").string(&target.last_error);
        o.key("lastScrape").string(&last_scrape);
        o.key("lastScrapeDuration").float(target.last_duration.as_secs_f64());
        o.key("health").string(target.health.as_str());
        o.key("scrapeInterval").string(&duration(target.interval));
        o.key("scrapeTimeout").string(&duration(target.timeout));
    });
}

fn push_dropped(json: &mut Json, target: &DroppedTarget) {
    json.object(|o| {
        o.key("discoveredLabels").labels(&target.discovered_labels);
        o.key("scrapePool").string(&target.scrape_pool);
    });
}

/// Where this server is, to show targets on its own machine as others can reach them.
struct Site {
    external: Url,
    own_port: Option<u16>,
}

impl Site {
    fn new(external: &Url, flags: &BTreeMap<String, String>) -> Self {
        let listen = flags
            .get("web.listen-address")
            .and_then(|address| address.rsplit(':').next());
        let mut external = external.clone();
        // Upstream's default external URL names the machine.
        if external.host_str().is_none_or(is_local) {
            let _ = external.set_host(Some(&hostname()));
        }
        Self {
            external,
            own_port: listen.and_then(|port| port.parse().ok()),
        }
    }

    /// A URL as it is, but with a local host replaced; scheme and port too if it is this server itself.
    fn global_url(&self, scrape_url: &str) -> String {
        let Ok(mut url) = Url::parse(scrape_url) else {
            return scrape_url.to_owned();
        };
        if !url.host_str().is_some_and(is_local) {
            return scrape_url.to_owned();
        }
        let host = self.external.host_str();
        if url.port_or_known_default() == self.own_port {
            let _ = url.set_scheme(self.external.scheme());
            let _ = url.set_port(self.external.port());
        }
        let _ = url.set_host(host);
        url.into()
    }
}

fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]" | "::1")
}

/// A duration in the configuration's notation: `1m30s`, `500ms`.
fn duration(span: Duration) -> String {
    let mut ms = span.as_millis();
    if ms == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, unit_ms) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if ms >= unit_ms {
            text.push_str(&format!("{}{unit}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    text
}

/// `GET /api/v1/scrape_pools`
pub(crate) async fn pools(State(shared): State<Shared>) -> Reply {
    let pools = shared.api.scraper.pools();
    Reply::json(|json| {
        json.object(|o| {
            o.key("scrapePools").array(|a| {
                for pool in &pools {
                    a.string(pool);
                }
            });
        });
    })
}

/// `GET /api/v1/targets/relabel_steps`: what each rule of a job makes of labels.
///
/// # Reference
/// Prometheus 3.8, whose page for service discovery asks this.
pub(crate) async fn relabel_steps(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    let params = shared.params(request).await?;
    let (pool, labels) = (params.text("scrapePool")?, params.text("labels")?);
    for (name, text) in [("scrapePool", pool), ("labels", labels)] {
        if text.is_empty() {
            return Err(ApiError::bad_data(format!("no {name} parameter provided")));
        }
    }
    let pairs: BTreeMap<String, String> =
        serde_json::from_str(labels).map_err(|error| ApiError::bad_data(format!("error parsing labels: {error}")))?;
    let mut labels = LabelsBuilder::new();
    for (name, value) in pairs.iter().filter(|(name, _)| !name.is_empty()) {
        labels.set(name, value);
    }
    let Some(steps) = shared.api.scraper.relabel_steps(pool, labels.build()) else {
        let problem = format!("error retrieving scrape config: scrape pool {pool:?} not found");
        return Err(ApiError::bad_data(problem));
    };
    Ok(Reply::json(|json| {
        json.object(|o| {
            o.key("steps").array(|a| {
                for step in &steps {
                    a.object(|s| {
                        push_rule(s.key("rule"), &step.rule);
                        s.key("output").labels(&step.output);
                        s.key("keep").boolean(step.keep);
                    });
                }
            });
        });
    }))
}

/// What a rule has, under upstream's names for JSON; what is empty is left out.
fn push_rule(json: &mut Json, rule: &RelabelConfig) {
    json.object(|o| {
        if !rule.source_labels().is_empty() {
            o.key("sourceLabels").array(|a| {
                for label in rule.source_labels() {
                    a.string(label);
                }
            });
        }
        let mut text = |key: &str, text: &str| {
            if !text.is_empty() {
                o.key(key).string(text);
            }
        };
        text("separator", rule.separator());
        text("regex", rule.regex());
        if rule.modulus() > 0 {
            o.key("modulus").count(rule.modulus());
        }
        let mut text = |key: &str, text: &str| {
            if !text.is_empty() {
                o.key(key).string(text);
            }
        };
        text("targetLabel", rule.target_label());
        text("replacement", rule.replacement());
        text("action", rule.action().as_str());
    });
}

/// `GET /api/v1/status/discovery`: how each section of discovery fares. Ours; Prometheus tells it in metrics alone.
pub(crate) async fn discovery(State(shared): State<Shared>) -> Reply {
    let providers = shared.api.scraper.discovery();
    Reply::json(|json| {
        json.object(|o| {
            o.key("providers").array(|a| {
                for provider in &providers {
                    push_provider(a, provider);
                }
            });
        });
    })
}

fn push_provider(json: &mut Json, provider: &ProviderStatus) {
    let health = match (provider.last_error.is_empty(), provider.last_success) {
        (false, _) => "down",
        (true, Some(_)) => "up",
        (true, None) => "unknown",
    };
    let last_success = provider.last_success.map_or_else(|| ZERO_TIME.to_owned(), rfc3339);
    json.object(|o| {
        o.key("scrapePool").string(&provider.scrape_pool);
        o.key("mechanism").string(provider.mechanism);
        o.key("place").string(&provider.place);
        o.key("health").string(health);
        o.key("lastError").string(&provider.last_error);
        o.key("lastSuccess").string(&last_success);
        o.key("groups").count(provider.groups as u64);
        o.key("targets").count(provider.targets as u64);
    });
}

/// `GET /api/v1/targets/metadata`
pub(crate) async fn target_metadata(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    let params = shared.params(request).await?;
    let limit = optional_number(&params, "limit")?;
    let selector = params.text("match_target")?;
    let matchers = match selector {
        "" => Vec::new(),
        text => parse_metric_selector(text, &parse_options(&shared.api))
            .map_err(|error| ApiError::parameter("match_target", error))?,
    };
    let metric = params.text("metric")?;
    let all = shared
        .api
        .scraper
        .metadata(Some(metric).filter(|metric| !metric.is_empty()));
    Ok(Reply::json(|json| {
        json.array(|a| {
            let (mut written, mut last): (usize, Option<&Labels>) = (0, None);
            for found in &all {
                // The limit is looked at between targets: as upstream, all of a target or none.
                if last != Some(&found.target) && limit.is_some_and(|limit| written >= limit) {
                    break;
                }
                last = Some(&found.target);
                if !matches(&matchers, &found.target) {
                    continue;
                }
                written += 1;
                a.object(|o| {
                    o.key("target").labels(&found.target);
                    if metric.is_empty() {
                        o.key("metric").string(&found.metric);
                    }
                    o.key("type").string(found.metadata.kind.as_str());
                    o.key("help").string(&found.metadata.help);
                    o.key("unit").string(&found.metadata.unit);
                });
            }
        });
    }))
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers
        .iter()
        .all(|matcher| matcher.matches(labels.value(matcher.name())))
}

/// `GET /api/v1/metadata`
pub(crate) async fn metadata(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    let params = shared.params(request).await?;
    let limit = optional_number(&params, "limit")?.unwrap_or(usize::MAX);
    let per_metric = optional_number(&params, "limit_per_metric")?
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX);
    let metric = params.text("metric")?;
    let all = shared
        .api
        .scraper
        .metadata(Some(metric).filter(|metric| !metric.is_empty()));
    let mut by_metric: BTreeMap<&str, Vec<&Metadata>> = BTreeMap::new();
    // What senders of remote write say comes behind what targets say.
    let told = shared
        .receiver
        .declared()
        .list(Some(metric).filter(|metric| !metric.is_empty()));
    let scraped = all.iter().map(|found| (&*found.metric, &*found.metadata));
    for (metric, metadata) in scraped.chain(told.iter().map(|(metric, metadata)| (metric.as_str(), &**metadata))) {
        let declared = by_metric.entry(metric).or_default();
        if declared.len() < per_metric && !declared.contains(&metadata) {
            declared.push(metadata);
        }
    }
    Ok(Reply::json(|json| {
        json.object(|o| {
            for (name, declared) in by_metric.into_iter().take(limit) {
                o.key(name).array(|a| {
                    for metadata in declared {
                        a.object(|m| {
                            m.key("type").string(metadata.kind.as_str());
                            m.key("unit").string(&metadata.unit);
                            m.key("help").string(&metadata.help);
                        });
                    }
                });
            }
        });
    }))
}

/// A count that may be left out; as upstream, a negative one is as if it were.
fn optional_number(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    let text = params.text(name)?;
    if text.is_empty() {
        return Ok(None);
    }
    let number = parse_int(text).map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_in_the_notation_of_the_configuration() {
        for (ms, text) in [
            (0, "0s"),
            (2000, "2s"),
            (90_000, "1m30s"),
            (3_600_000, "1h"),
            (1500, "1s500ms"),
            (93_600_000, "1d2h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn local_targets_are_shown_with_the_outside_name() {
        let flags = BTreeMap::from([("web.listen-address".to_owned(), "0.0.0.0:9090".to_owned())]);
        let site = Site::new(&Url::parse("https://mon.example/p").unwrap(), &flags);
        for (url, global) in [
            ("http://127.0.0.1:9100/metrics", "http://mon.example:9100/metrics"),
            ("http://localhost:9090/metrics?x=1", "https://mon.example/metrics?x=1"),
            ("http://[::1]:9100/", "http://mon.example:9100/"),
            ("http://10.0.0.7:9100/metrics", "http://10.0.0.7:9100/metrics"),
            ("not a url", "not a url"),
        ] {
            assert_eq!(site.global_url(url), global);
        }
    }
}
