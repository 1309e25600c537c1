//! `series`, `labels`, `label/<name>/values`.

use super::error::ApiError;
use super::params::Params;
use super::query::parse_options;
use super::render::{Data, Reply};
use super::shared::Shared;
use super::state::ApiState;
use crate::quoted::quoted;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Uri};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tidegauge_model::{Limited, Matcher, Queryable, SelectError, TimeRange};
use tidegauge_query::parser::parse_metric_selector;

/// `GET|POST /api/v1/series`
pub(crate) async fn series(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let params = shared.params(request).await?;
    params.well_formed()?;
    let texts = params.all("match[]")?;
    if texts.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = params.limit()?;
    let range = forwards(params.range()?);
    let selectors = selectors(&shared.api, &texts).map_err(|why| ApiError::parameter("match[]", why))?;
    let context = shared.clone();
    shared
        .read_for(&params, None, move |api, cancel| {
            let querier = api.db.querier(range)?;
            let cx = context.context(cancel);
            let found = match &*selectors {
                [matchers] => querier.series_table(matchers, limit, &cx)?,
                _ => {
                    let found = union(&selectors, limit, |matchers, limit| {
                        querier.series(matchers, limit, &cx)
                    })?;
                    Limited {
                        items: found.items.into_iter().collect(),
                        truncated: found.truncated,
                    }
                }
            };
            Ok(Reply::new(Data::Series(found.items))
                .truncated_if(found.truncated)
                .into_response())
        })
        .await
}

/// `GET|POST /api/v1/labels`
pub(crate) async fn names(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let params = shared.params(request).await?;
    let (limit, range, selectors) = narrowed(&shared.api, &params)?;
    let context = shared.clone();
    shared
        .read_for(&params, None, move |api, cancel| {
            let querier = api.db.querier(range)?;
            let cx = context.context(cancel);
            let found = union(&selectors, limit, |matchers, limit| {
                querier.label_names(matchers, limit, &cx)
            })?;
            Ok(Reply::new(Data::Strings(found.items))
                .truncated_if(found.truncated)
                .into_response())
        })
        .await
}

/// `GET /api/v1/label/<name>/values`
pub(crate) async fn values(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let name = label_name(request.uri())?;
    let params = shared.params(request).await?;
    let (limit, range, selectors) = narrowed(&shared.api, &params)?;
    let context = shared.clone();
    shared
        .read_for(&params, None, move |api, cancel| {
            let querier = api.db.querier(range)?;
            let cx = context.context(cancel);
            let found = union(&selectors, limit, |matchers, limit| {
                querier.label_values(&name, matchers, limit, &cx)
            })?;
            Ok(Reply::new(Data::Strings(found.items))
                .truncated_if(found.truncated)
                .into_response())
        })
        .await
}

/// What `labels` and values may be narrowed by, checked in upstream's order.
fn narrowed(api: &ApiState, params: &Params) -> Result<(usize, TimeRange, Vec<Vec<Matcher>>), ApiError> {
    let limit = params.limit()?;
    let range = forwards(params.range()?);
    let mut selectors = selectors(api, &params.all("match[]")?).map_err(ApiError::bad_data)?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    Ok((limit, range, selectors))
}

/// Upstream answers `end` before `start` as if it held data.
fn forwards(range: TimeRange) -> TimeRange {
    TimeRange::new(range.start.min(range.end), range.start.max(range.end))
}

/// Parses selectors, each of which must ask for something; the error is without a prefix.
pub(crate) fn selectors(api: &ApiState, texts: &[&str]) -> Result<Vec<Vec<Matcher>>, String> {
    let options = parse_options(api);
    let selectors = texts
        .iter()
        .map(|text| parse_metric_selector(text, &options).map_err(|error| error.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    if selectors
        .iter()
        .any(|matchers| matchers.iter().all(Matcher::matches_empty))
    {
        return Err("match[] must contain at least one non-empty matcher".into());
    }
    Ok(selectors)
}

/// What any of the selectors finds, sorted and unique, cut at `limit` (0: not).
fn union<T: Ord>(
    selectors: &[Vec<Matcher>],
    limit: usize,
    mut find: impl FnMut(&[Matcher], usize) -> Result<Limited<Vec<T>>, SelectError>,
) -> Result<Limited<Vec<T>>, SelectError> {
    let mut all = Limited {
        items: Vec::new(),
        truncated: false,
    };
    for matchers in selectors {
        let found = find(matchers, limit)?;
        all.items.extend(found.items);
        all.truncated |= found.truncated;
    }
    if selectors.len() > 1 {
        all.items.sort_unstable();
        all.items.dedup();
    }
    if limit > 0 && all.items.len() > limit {
        all.items.truncate(limit);
        all.truncated = true;
    }
    Ok(all)
}

/// The label asked for: percent-encoded, and perhaps in the `U__` escaping of names beyond the old scheme.
fn label_name(uri: &Uri) -> Result<String, ApiError> {
    let path = uri.path().strip_suffix("/values").unwrap_or(uri.path());
    let segment = path.rsplit('/').next().unwrap_or_default();
    let bytes: Vec<u8> = percent_decode_str(segment).collect();
    let invalid = |name: &[u8]| ApiError::bad_data(format!("invalid label name: {}", quoted(name)));
    let name = String::from_utf8(bytes).map_err(|error| invalid(error.as_bytes()))?;
    let name = unescape_name(&name).unwrap_or(name);
    match name.is_empty() {
        true => Err(invalid(b"")),
        false => Ok(name),
    }
}

/// Reads `U__` escaping: `__` is an underscore, `_HEX_` a character. `None` if it is not that.
///
/// # Reference
/// Prometheus `common/model`, `UnescapeName` with value encoding.
fn unescape_name(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut out = String::new();
    while let Some(at) = rest.find('_') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let (code, after) = after.strip_prefix('_')?.split_once('_')?;
        if code.is_empty() {
            out.push('_');
        } else {
            // At most five digits are read, as upstream does; `from_str_radix` alone would take a sign.
            if code.len() > 5 || !code.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            out.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unescaped() {
        for (escaped, name) in [
            ("U__regi_f3_n", "región"),
            ("U__my_2e_label", "my.label"),
            ("U____name__", "_name_"),
            ("U__a__b", "a_b"),
            ("U__a", "a"),
            ("U__", ""),
            ("U___1F600_", "😀"),
        ] {
            assert_eq!(unescape_name(escaped).as_deref(), Some(name), "{escaped}");
        }
        for bad in [
            "plain",
            "U__a_",
            "U__a_2",
            "U__a_xyz_",
            "U__a_d800_",
            "U__a_+41_",
            "U__a_1234567_",
        ] {
            assert_eq!(unescape_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn label_names_are_read_from_the_path() {
        let of = |path: &str| label_name(&path.parse().unwrap()).map_err(|e| e.to_string());
        assert_eq!(of("/p/api/v1/label/job/values"), Ok("job".into()));
        assert_eq!(of("/api/v1/label/a%2Fb%20c/values?x=/values"), Ok("a/b c".into()));
        assert_eq!(of("/api/v1/label/U__a_2e_b/values"), Ok("a.b".into()));
        assert_eq!(of("/api/v1/label/U__a_2/values"), Ok("U__a_2".into()));
        for (path, shown) in [("%ff", "\\xff"), ("", ""), ("U__", "")] {
            assert_eq!(
                of(&format!("/api/v1/label/{path}/values")),
                Err(format!("invalid label name: \"{shown}\""))
            );
        }
    }

    #[test]
    fn unions_are_sorted_unique_and_cut() {
        let selectors = vec![vec![], vec![]];
        let mut answers = vec![vec!["c", "d"], vec!["a", "c"]];
        let mut find = |_: &[Matcher], _| {
            Ok(Limited {
                items: answers.pop().unwrap(),
                truncated: false,
            })
        };
        assert_eq!(
            union(&selectors, 2, &mut find).unwrap(),
            Limited {
                items: vec!["a", "c"],
                truncated: true
            }
        );
    }
}
