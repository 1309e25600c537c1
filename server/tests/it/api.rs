//! `/api/v1` and what lies beside it, by the answers.

use crate::site::{Answer, NOW_MS, Site, Switches, escape};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tidegauge_model::Meter;
use tidegauge_query::{EngineOptions, Features};
use tidegauge_server::api::{ApiLimits, Readiness};

const SEC: i64 = 1000;

/// Two counters, a gauge with odd values, and labels beyond the old scheme.
fn stored() -> Site {
    stored_with(EngineOptions::default())
}

fn stored_with(engine: EngineOptions) -> Site {
    let site = Site::with(Switches {
        engine,
        ..Switches::default()
    });
    let at = |back: i64| NOW_MS - 500 - back * SEC;
    for (code, value) in [("200", 120.0), ("500", 3.0)] {
        let labels = [("__name__", "requests_total"), ("code", code), ("job", "demo")];
        site.store(&labels, &[(at(4), value), (at(2), value), (at(0), value)]);
    }
    for (room, value) in [("attic", f64::NAN), ("kitchen", 21.5), ("oven", f64::INFINITY)] {
        site.store(
            &[("__name__", "temperature_celsius"), ("job", "demo"), ("room", room)],
            &[(at(2), value)],
        );
    }
    site.store(
        &[("__name__", "dots"), ("my.label", "x"), ("región", "y")],
        &[(at(2), 1e21)],
    );
    site
}

fn now() -> String {
    format!("{}", (NOW_MS - 500) / 1000)
}

fn error(answer: &Answer) -> (u16, String, String) {
    let json = answer.json();
    assert_eq!(json["status"], "error", "{json}");
    assert_eq!(answer.header("content-type"), "application/json");
    let text = |key: &str| json[key].as_str().unwrap().to_owned();
    (answer.status.as_u16(), text("errorType"), text("error"))
}

/// The order of checks and the words, as recorded or observed.
#[tokio::test]
async fn bad_parameters_are_named_in_the_order_of_upstream() {
    let site = Site::new();
    let time = |text: &str, name: &str| {
        format!(
            "invalid parameter \"{name}\": invalid time value for '{name}': cannot parse \"{text}\" to a valid timestamp"
        )
    };
    let plain =
        |text: &str, name: &str| format!("invalid parameter \"{name}\": cannot parse \"{text}\" to a valid timestamp");
    let duration =
        |text: &str, name: &str| format!("invalid parameter \"{name}\": cannot parse \"{text}\" to a valid duration");
    let limit = "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax".to_owned();
    let negative = "invalid parameter \"limit\": limit must be non-negative".to_owned();
    let no_expression = "invalid parameter \"query\": unknown position: parse error: no expression found in input";
    let brace = "1:2: parse error: unexpected end of input inside braces";
    for (path, expected) in [
        ("query", no_expression.into()),
        ("query?query=foo%7B", "invalid parameter \"query\": 1:5: parse error: unexpected end of input inside braces".into()),
        ("query?limit=x&time=x&timeout=x&query=(", limit.clone()),
        ("query?query=1&limit=-1", negative.clone()),
        ("query?time=x&timeout=x&query=(", time("x", "time")),
        ("query?timeout=x&lookback_delta=x&query=(", duration("x", "timeout")),
        ("query?timeout=1e30&query=1", "invalid parameter \"timeout\": cannot parse \"1e30\" to a valid duration. It overflows int64".into()),
        ("query?lookback_delta=x&query=(", "error parsing lookback delta duration: cannot parse \"x\" to a valid duration".into()),
        ("query?query=rate(foo)", "invalid parameter \"query\": 1:6: parse error: expected type range vector in call to function \"rate\", got instant vector".into()),
        ("query?query=%ff", "invalid parameter \"query\": not valid UTF-8".into()),
        ("query_range", plain("", "start")),
        ("query_range?limit=x", limit.clone()),
        ("query_range?query=1&start=5", plain("", "end")),
        ("query_range?query=1&start=5&end=4", "invalid parameter \"end\": end timestamp must not be before start time".into()),
        ("query_range?query=1&start=5&end=6", duration("", "step")),
        ("query_range?query=1&start=5&end=6&step=x", duration("x", "step")),
        ("query_range?query=1&start=5&end=6&step=0", "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer".into()),
        ("query_range?query=1&start=5&end=6&step=-1", "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer".into()),
        ("query_range?query=1&start=5&end=6&step=0.0001", "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer".into()),
        ("query_range?query=(&start=0&end=20000&step=1&timeout=x", "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)".into()),
        ("query_range?query=(&start=0&end=10&step=1&timeout=x", duration("x", "timeout")),
        ("query_range?query=(&start=0&end=10&step=1", "invalid parameter \"query\": 1:2: parse error: unclosed left parenthesis".into()),
        ("query_range?query=%22x%22&start=0&end=10&step=1", "invalid parameter \"query\": invalid expression type \"string\" for range query, must be Scalar or instant Vector".into()),
        ("query_range?query=up[5m]&start=0&end=10&step=1", "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector".into()),
        ("series", "no match[] parameter provided".into()),
        ("series?start=x", "no match[] parameter provided".into()),
        ("series?match[]=%7B&start=x&limit=x", limit.clone()),
        ("series?match[]=%7B&start=x", time("x", "start")),
        ("series?match[]=%7B", format!("invalid parameter \"match[]\": {brace}")),
        ("series?match[]=%7B%7D", "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher".into()),
        ("series?match[]=up&start=%zz", "error parsing form values: invalid URL escape \"%zz\"".into()),
        ("labels?match[]=%7B&start=x&limit=x", limit.clone()),
        ("labels?match[]=%7B&end=x", time("x", "end")),
        ("labels?match[]=%7B", brace.into()),
        ("labels?match[]=%7B%7D", "match[] must contain at least one non-empty matcher".into()),
        ("label/%ff/values?limit=x", "invalid label name: \"\\xff\"".into()),
        ("label/job/values?match[]=%7B&start=x&limit=x", limit),
        ("label/job/values?limit=-1", negative),
        ("label/job/values?start=x", time("x", "start")),
        ("targets/metadata?limit=x", "limit must be a number".into()),
        ("targets/metadata?match_target=%7B", format!("invalid parameter \"match_target\": {brace}")),
        ("metadata?limit=x", "limit must be a number".into()),
        ("metadata?limit_per_metric=x", "limit_per_metric must be a number".into()),
        ("rules?type=x", "invalid parameter \"type\": not supported value \"x\"".into()),
        ("rules?group_limit=x", "invalid parameter \"group_limit\": group_limit needs to be a valid number: strconv.ParseInt: parsing \"x\": invalid syntax".into()),
        ("status/tsdb?limit=x", "limit must be a positive number".into()),
        ("status/tsdb?limit=0", "limit must be a positive number".into()),
        ("query_exemplars?query=%7B", brace.into()),
        ("query_exemplars?query=up&start=x", time("x", "start")),
        ("query_exemplars?query=up&start=5&end=1", "end timestamp must not be before start timestamp".into()),
        ("format_query?query=(", "invalid parameter \"query\": 1:2: parse error: unclosed left parenthesis".into()),
        ("parse_query?query=(", "invalid parameter \"query\": 1:2: parse error: unclosed left parenthesis".into()),
    ] {
        let answer = site.get(&format!("/api/v1/{path}")).await;
        assert_eq!(error(&answer), (400, "bad_data".into(), expected), "{path}");
    }
}

#[tokio::test]
async fn queries_answer_each_kind_of_value() {
    let site = stored();
    let (t, labels) = (
        (NOW_MS - 500) / 1000,
        r#""__name__":"requests_total","code":"200","job":"demo""#,
    );
    for (query, data) in [
        (
            "1 + 1".to_owned(),
            format!(r#"{{"resultType":"scalar","result":[{t},"2"]}}"#),
        ),
        (
            "\"text\"".into(),
            format!(r#"{{"resultType":"string","result":[{t},"text"]}}"#),
        ),
        (
            "1e21".into(),
            format!(r#"{{"resultType":"scalar","result":[{t},"1000000000000000000000"]}}"#),
        ),
        ("-0".into(), format!(r#"{{"resultType":"scalar","result":[{t},"-0"]}}"#)),
        ("nothing".into(), r#"{"resultType":"vector","result":[]}"#.into()),
        (
            "requests_total{code=\"200\"}".into(),
            format!(r#"{{"resultType":"vector","result":[{{"metric":{{{labels}}},"value":[{t},"120"]}}]}}"#),
        ),
        (
            "requests_total{code=\"200\"}[3s]".into(),
            format!(
                r#"{{"resultType":"matrix","result":[{{"metric":{{{labels}}},"values":[[{},"120"],[{t},"120"]]}}]}}"#,
                t - 2
            ),
        ),
        (
            "dots".into(),
            format!(
                r#"{{"resultType":"vector","result":[{{"metric":{{"__name__":"dots","my.label":"x","región":"y"}},"value":[{t},"1e+21"]}}]}}"#
            ),
        ),
    ] {
        let answer = site
            .get(&format!("/api/v1/query?query={}&time={t}", escape(&query)))
            .await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (StatusCode::OK, "application/json")
        );
        assert_eq!(
            answer.text,
            format!("{{\"status\":\"success\",\"data\":{data}}}"),
            "{query}"
        );
    }
}

#[tokio::test]
async fn range_queries_answer_a_matrix() {
    let site = stored();
    let end = (NOW_MS - 500) / 1000;
    let start = end - 4;
    for step in ["2", "2s", "2.0"] {
        let path = format!("/api/v1/query_range?query=sum(requests_total)&start={start}&end={end}&step={step}");
        let expected = json!([{"metric": {}, "values": [[start, "123"], [start + 2, "123"], [end, "123"]]}]);
        assert_eq!(site.get(&path).await.json()["data"]["result"], expected, "{step}");
    }
    let path = format!("/api/v1/query_range?query=1&start={start}.25&end={end}&step=1m0s");
    let expected = json!([{"metric": {}, "values": [[start as f64 + 0.25, "1"]]}]);
    assert_eq!(site.get(&path).await.json()["data"]["result"], expected);
}

#[tokio::test]
async fn forms_and_urls_are_merged_and_the_form_comes_first() {
    let site = Site::new();
    let result = |answer: Answer| answer.json()["data"]["result"].clone();
    assert_eq!(
        result(site.post_form("/api/v1/query", "query=1%2B1&time=4").await),
        json!([4, "2"])
    );
    assert_eq!(
        result(site.post_form("/api/v1/query?time=4&query=1", "query=3").await),
        json!([4, "3"])
    );
    assert_eq!(
        result(site.get("/api/v1/query?query=1&query=2&time=4").await),
        json!([4, "1"])
    );
    assert_eq!(
        result(site.post_form("/api/v1/query", "query=3&time=%zz").await),
        json!([NOW_MS as f64 / 1000.0, "3"])
    );
    let not_a_form = Request::post("/api/v1/query?time=4")
        .header("content-type", "application/json")
        .body(Body::from("query=1"))
        .unwrap();
    assert_eq!(error(&site.send(not_a_form).await).0, 400);
}

#[tokio::test]
async fn limits_cut_and_say_so() {
    let site = stored();
    let warned = json!(["results truncated due to limit"]);
    for (path, key, count) in [
        (
            format!("query?query=requests_total&limit=1&time={}", now()),
            "/data/result",
            1,
        ),
        (
            format!(
                "query_range?query=requests_total&limit=1&start={0}&end={0}&step=1",
                now()
            ),
            "/data/result",
            1,
        ),
        ("series?match[]=requests_total&limit=1".into(), "/data", 1),
        ("labels?limit=2".into(), "/data", 2),
        ("label/__name__/values?limit=1".into(), "/data", 1),
    ] {
        let json = site.get(&format!("/api/v1/{path}")).await.json();
        assert_eq!(
            json.pointer(key).unwrap().as_array().unwrap().len(),
            count,
            "{path}: {json}"
        );
        assert_eq!(json["warnings"], warned, "{path}");
        let enough = site
            .get(&format!(
                "/api/v1/{}",
                path.replace("limit=1", "limit=50").replace("limit=2", "limit=0")
            ))
            .await;
        assert!(enough.json().get("warnings").is_none(), "{path}");
    }
}

#[tokio::test]
async fn statistics_come_when_asked_for() {
    let site = stored();
    let json = site
        .get(&format!("/api/v1/query?query=requests_total&stats=all&time={}", now()))
        .await
        .json();
    assert_eq!(
        json["data"]["stats"]["samples"],
        json!({"totalQueryableSamples": 2, "peakSamples": 2})
    );
    assert!(json["data"]["stats"]["timings"]["execTotalTime"].is_number());
}

#[tokio::test]
async fn statistics_have_steps_with_the_feature_and_all() {
    let site = stored_with(EngineOptions {
        features: Features {
            per_step_stats: true,
            ..Features::default()
        },
        ..EngineOptions::default()
    });
    let of = |stats: &str| format!("/api/v1/query?query=requests_total&stats={stats}&time={}", now());
    let all = site.get(&of("all")).await.json();
    assert_eq!(
        all["data"]["stats"]["samples"]["totalQueryableSamplesPerStep"],
        json!([[NOW_MS / 1000, 2]])
    );
    let some = site.get(&of("yes")).await.json();
    assert_eq!(
        some["data"]["stats"]["samples"],
        json!({"totalQueryableSamples": 2, "peakSamples": 2})
    );
    assert!(site.get(&of("")).await.json()["data"].get("stats").is_none());
}

#[tokio::test]
async fn a_query_is_explained() {
    let site = stored();
    let query = escape("sum(rate(requests_total[1m]))");
    let instant = site.get(&format!("/api/v1/explain?query={query}&time={}", now())).await;
    let data = instant.json()["data"].clone();
    assert_eq!(
        (&data["steps"], &data["plan"]["what"]),
        (&json!(1), &json!("sum")),
        "{data}"
    );
    let selector = &data["plan"]["parts"][0]["parts"][0];
    assert_eq!(selector["what"], "requests_total[1m]");
    assert_eq!(selector["selection"]["series"], 2);
    assert!(data["text"].as_str().unwrap().contains("└─ rate"), "{data}");
    let (start, end) = (NOW_MS / 1000 - 60, NOW_MS / 1000);
    let range = format!("/api/v1/explain?query={query}&start={start}&end={end}&step=15");
    assert_eq!(site.get(&range).await.json()["data"]["steps"], 5);
    for (params, why) in [
        ("query=rate(x)", "expected type range vector"),
        ("query=x[1m]&start=1&end=2&step=1", "invalid expression type"),
        (
            "query=x&start=2&end=1&step=1",
            "end timestamp must not be before start time",
        ),
    ] {
        let answer = site.get(&format!("/api/v1/explain?{params}")).await;
        let (status, kind, text) = error(&answer);
        assert_eq!(
            (status, kind.as_str(), text.contains(why)),
            (400, "bad_data", true),
            "{text}"
        );
    }
}

#[tokio::test]
async fn labels_values_and_series_are_listed() {
    let site = stored();
    for (path, expected) in [
        (
            "labels",
            json!(["__name__", "code", "job", "my.label", "región", "room"]),
        ),
        (
            "labels?match[]=dots&match[]=requests_total",
            json!(["__name__", "code", "job", "my.label", "región"]),
        ),
        ("label/job/values", json!(["demo"])),
        ("label/nope/values", json!([])),
        ("label/U__my_2e_label/values", json!(["x"])),
        ("label/my.label/values", json!(["x"])),
        ("label/regi%C3%B3n/values", json!(["y"])),
        ("label/U__regi_f3_n/values", json!(["y"])),
        (
            "label/code/values?match[]=requests_total%7Bcode%3D~%225..%22%7D",
            json!(["500"]),
        ),
        (
            "label/__name__/values?match[]=dots&match[]=temperature_celsius",
            json!(["dots", "temperature_celsius"]),
        ),
        (
            "series?match[]=dots",
            json!([{"__name__": "dots", "my.label": "x", "región": "y"}]),
        ),
        ("series?match[]=nothing", json!([])),
    ] {
        let answer = site.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.json(), json!({"status": "success", "data": expected}), "{path}");
    }
    let (later, earlier) = (now(), (NOW_MS / 1000 - 60).to_string());
    let turned = site
        .get(&format!("/api/v1/series?match[]=dots&start={later}&end={earlier}"))
        .await;
    assert_eq!(
        turned.json()["data"].as_array().unwrap().len(),
        1,
        "end before start is no error"
    );
    let posted = site
        .post_form("/api/v1/series", "match%5B%5D=dots&match%5B%5D=requests_total")
        .await;
    assert_eq!(posted.json()["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn run_time_errors_have_their_classes() {
    let site = stored();
    let query = |text: &str| format!("/api/v1/query?time={}&query={}", now(), escape(text));
    let duplicate = site
        .get(&query(
            "label_replace(requests_total, \"code\", \"\", \"code\", \".*\")",
        ))
        .await;
    assert_eq!(
        error(&duplicate),
        (
            422,
            "execution".into(),
            "vector cannot contain metrics with the same labelset".into()
        )
    );
    let late = site.get(&(query("requests_total") + "&timeout=-5")).await;
    assert_eq!((error(&late).0, error(&late).1.as_str()), (503, "timeout"));
    let many = site.get(&query("requests_total * on (job) requests_total")).await;
    let (status, kind, text) = error(&many);
    assert_eq!((status, kind.as_str()), (422, "execution"));
    assert!(
        text.contains("many-to-many matching not allowed: matching labels must be unique on one side"),
        "{text}"
    );
}

/// What cannot be read is named in one line, with its place.
#[tokio::test]
async fn unreadable_queries_are_refused_in_one_line_with_the_place() {
    let site = Site::new();
    let deep = "(".repeat(2000);
    for (text, expected) in [
        ("up{", "1:4: parse error: unexpected end of input inside braces"),
        (
            "a +\n  b{c=~\"(\"}",
            "2:5: parse error: error parsing regexp in c=~\"(\": unclosed group",
        ),
        (
            "up{a=~\"(x{900}){900}\"}",
            "1:4: parse error: error parsing regexp in a=~\"(x{900}){900}\": invalid repeat count: `{900}`",
        ),
        (
            "rate(up)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        (
            "up offset step()",
            "1:11: parse error: unexpected \"step\" in offset, expected number, duration, step(), or range()",
        ),
        (
            deep.as_str(),
            "parse error: expression is nested too deeply: at most 256 levels allowed",
        ),
    ] {
        let answer = site
            .post_form("/api/v1/query", &format!("query={}", escape(text)))
            .await;
        let (status, kind, found) = error(&answer);
        assert_eq!((status, kind.as_str()), (400, "bad_data"), "{text}");
        assert!(
            found.starts_with("invalid parameter \"query\": ") && !found.contains('\n'),
            "{found}"
        );
        if !text.contains("step()") {
            assert!(found.ends_with(expected), "{found}");
        }
    }
}

/// Each limit has its error, and the server goes on.
#[tokio::test]
async fn limits_of_queries_are_named() {
    let at = now();
    let ask = |text: &str| format!("/api/v1/query?time={at}&query={}", escape(text));
    let few = stored_with(EngineOptions {
        max_samples: 3,
        ..EngineOptions::default()
    });
    assert_eq!(
        error(&few.get(&ask("requests_total * 2")).await),
        (
            422,
            "execution".into(),
            "query processing would load too many samples into memory in query execution".into()
        )
    );
    let small = stored_with(EngineOptions {
        memory: Meter::new("queries", 4096),
        ..EngineOptions::default()
    });
    let (status, kind, text) = error(&small.get(&ask("count_over_time(vector(1)[1h:1s])")).await);
    assert_eq!((status, kind.as_str()), (422, "execution"));
    assert!(
        text.starts_with("query needs more memory than it may have: ") && text.contains("4096 allowed for queries"),
        "{text}"
    );
    assert_eq!(small.get(&ask("1")).await.status.as_u16(), 200);
}

#[tokio::test]
async fn what_is_not_a_route_is_plain_text() {
    let site = Site::new();
    for path in [
        "/api/v1/nope",
        "/api/v1/",
        "/nope",
        "/api/v1/features",
        "/api/v1/label/x",
        "/ui/...main.rs",
    ] {
        let answer = site.get(path).await;
        let (status, kind) = (answer.status, answer.header("content-type").to_owned());
        assert_eq!(
            (status, kind.as_str()),
            (StatusCode::NOT_FOUND, "text/plain; charset=utf-8"),
            "{path}"
        );
        assert_eq!(answer.text, "404 page not found\n");
    }
    for (method, path, allow) in [
        (Method::DELETE, "/api/v1/query", "GET, OPTIONS, POST"),
        (Method::POST, "/api/v1/status/buildinfo", "GET, OPTIONS"),
        (Method::POST, "/api/v1/rules", "GET, OPTIONS"),
        (Method::GET, "/api/v1/admin/tsdb/snapshot", "OPTIONS, POST, PUT"),
        (Method::PUT, "/-/ready", "GET, HEAD, OPTIONS"),
        (Method::DELETE, "/-/reload", "GET, OPTIONS, POST, PUT"),
        (Method::PUT, "/version", "GET, OPTIONS"),
    ] {
        let answer = site.call(method, path).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, allow), "{path}");
        assert_eq!(
            (answer.text.as_str(), answer.header("vary")),
            ("Method Not Allowed\n", "")
        );
    }
}

#[tokio::test]
async fn origins_are_answered_as_upstream_does() {
    let site = Site::new();
    let ask = |method: Method, origin: Option<&str>| {
        let mut request = Request::builder()
            .method(method)
            .uri("/api/v1/query?query=1")
            .header("accept-encoding", "gzip");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        site.send(request.body(Body::empty()).unwrap())
    };
    let plain = ask(Method::GET, None).await;
    assert_eq!(
        (plain.header("vary"), plain.header("access-control-allow-origin")),
        ("Origin", "")
    );
    assert_eq!(
        (
            plain.header("content-encoding"),
            plain.headers.get_all("vary").iter().count()
        ),
        ("gzip", 1)
    );
    let crossed = ask(Method::GET, Some("http://example.org")).await;
    assert_eq!(crossed.header("access-control-allow-origin"), "http://example.org");
    assert_eq!(crossed.header("access-control-allow-methods"), "GET, POST, OPTIONS");
    let options = ask(Method::OPTIONS, None).await;
    assert_eq!(
        (options.status, options.text.as_str(), options.header("vary")),
        (StatusCode::NO_CONTENT, "", "Origin")
    );
}

#[tokio::test]
async fn origins_that_do_not_match_are_not_named() {
    let site = Site::with(Switches {
        cors_origin: r"https?://(.*\.)?page\.example",
        ..Switches::default()
    });
    for (origin, allowed) in [
        ("https://a.page.example", "https://a.page.example"),
        ("https://page.example.evil", ""),
    ] {
        for path in ["query?query=1", "status/buildinfo"] {
            let request = Request::get(format!("/api/v1/{path}")).header("origin", origin);
            let answer = site.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{path}");
            assert_eq!(answer.header("access-control-expose-headers"), "Date");
            assert_eq!(answer.header("vary"), "Origin");
        }
    }
}

#[tokio::test]
async fn methods_that_ask_about_a_path_are_answered_as_upstream_does() {
    let site = Site::new();
    for (method, path, status, allow) in [
        (Method::HEAD, "/api/v1/query?query=1", 405, "GET, OPTIONS, POST"),
        (Method::HEAD, "/api/v1/labels", 405, "GET, OPTIONS, POST"),
        (Method::HEAD, "/metrics", 405, "GET, OPTIONS"),
        (Method::HEAD, "/-/healthy", 200, ""),
        (Method::OPTIONS, "/-/healthy", 200, "GET, HEAD, OPTIONS"),
        (Method::OPTIONS, "/api/v1/query", 204, ""),
        (Method::OPTIONS, "/api/v1/write", 204, ""),
        (Method::OPTIONS, "/api/v1/none", 204, ""),
        (Method::OPTIONS, "/none", 404, ""),
    ] {
        let answer = site.call(method.clone(), path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("allow")),
            (status, allow),
            "{method} {path}"
        );
        let vary = if status == 204 { "Origin" } else { "" };
        assert_eq!(answer.header("vary"), vary, "{method} {path}");
    }
    let moved = site.get("/api/v1//x/../query?query=1").await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (301, "/api/v1/query?query=1")
    );
    let version = site.get("/version").await;
    assert!(version.text.starts_with("{\"version\":\"3.5.0\","), "{}", version.text);
}

#[tokio::test]
async fn overlong_requests_are_refused() {
    let limits = ApiLimits {
        form_bytes: 1000,
        uri_bytes: 2000,
        ..ApiLimits::default()
    };
    let site = Site::with(Switches {
        limits,
        ..Switches::default()
    });
    let long = "1".repeat(3000);
    assert_eq!(
        site.get(&format!("/api/v1/query?query={long}")).await.status,
        StatusCode::URI_TOO_LONG
    );
    let answer = site.post_form("/api/v1/query", &format!("query={long}")).await;
    assert_eq!((error(&answer).0, error(&answer).1.as_str()), (413, "bad_data"));
}

#[tokio::test]
async fn a_server_that_is_not_ready_says_why() {
    let ready = Readiness::not_ready("opening the store");
    let site = Site::with(Switches {
        ready: ready.clone(),
        ..Switches::default()
    });
    assert_eq!(site.get("/-/healthy").await.status, StatusCode::OK);
    let answer = site.get("/-/ready").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text.contains("opening the store"));
    assert_eq!(error(&site.get("/api/v1/query?query=1").await).0, 503);
    ready.set_ready();
    assert_eq!(site.get("/-/ready").await.text, "Prometheus Server is Ready.\n");
}

#[tokio::test]
async fn lifecycle_needs_post_and_its_flag() {
    let mut site = Site::new();
    for path in ["/-/reload", "/-/quit"] {
        let answer = site.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (405, "Only POST or PUT requests allowed")
        );
    }
    for (reply, status) in [(Ok(()), 200), (Err("bad key".to_owned()), 500)] {
        let mut reloads = std::mem::replace(&mut site.reloads, tokio::sync::mpsc::channel(1).1);
        let serve = async {
            let _ = reloads.recv().await.unwrap().send(reply);
        };
        let (answer, ()) = tokio::join!(site.call(Method::POST, "/-/reload"), serve);
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        assert_eq!(answer.text.contains("bad key"), status == 500);
        site.reloads = reloads;
    }
    assert_eq!(site.call(Method::PUT, "/-/quit").await.status, StatusCode::OK);
    assert!(site.quit.is_cancelled());
    let off = Site::with(Switches {
        lifecycle: false,
        ..Switches::default()
    });
    assert_eq!(
        off.call(Method::POST, "/-/quit").await.text,
        "Lifecycle API is not enabled."
    );
    assert!(!off.quit.is_cancelled());
}

#[tokio::test]
async fn the_admin_api_is_off_unless_asked_for() {
    let off = Site::with(Switches {
        admin_api: false,
        ..Switches::default()
    });
    for path in ["snapshot", "delete_series", "clean_tombstones"] {
        let answer = off.call(Method::POST, &format!("/api/v1/admin/tsdb/{path}")).await;
        assert_eq!(
            error(&answer),
            (500, "unavailable".into(), "admin APIs disabled".into())
        );
    }
    let site = stored();
    let bad = site.call(Method::POST, "/api/v1/admin/tsdb/snapshot?skip_head=x").await;
    assert_eq!(
        error(&bad).2,
        "invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"x\": invalid syntax"
    );
    assert_eq!(
        error(&site.call(Method::PUT, "/api/v1/admin/tsdb/delete_series").await).2,
        "no match[] parameter provided"
    );
    let answer = site.call(Method::POST, "/api/v1/admin/tsdb/snapshot").await.json();
    let name = answer["data"]["name"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(site.dir.path().join("snapshots").join(name).is_dir(), "{name}");
}

#[tokio::test]
async fn series_are_deleted_at_once_and_cleaned_up() {
    let site = stored();
    let at = |back: i64| (NOW_MS - 500 - back * SEC) as f64 / 1000.0;
    for (query, status, why) in [
        ("match[]=%7Bjob%3D", 400, "invalid parameter \"match[]\": "),
        ("match[]=up&start=x", 400, "invalid parameter \"start\": "),
        ("match[]=up&end=x", 400, "invalid parameter \"end\": "),
        (
            "match[]=requests_total&match[]=up%7B",
            400,
            "invalid parameter \"match[]\": ",
        ),
        ("match[]=%7B%7D", 400, "match[] must contain at least one matcher"),
        ("x=%zz&match[]=up", 400, "error parsing form values: "),
    ] {
        let path = format!("/api/v1/admin/tsdb/delete_series?{query}");
        let (code, kind, text) = error(&site.call(Method::POST, &path).await);
        assert_eq!((code, kind.as_str()), (status, "bad_data"), "{query}");
        assert!(text.starts_with(why), "{query}: {text}");
    }
    let requests = || async {
        let answer = site
            .get(&format!("/api/v1/query?query=requests_total[1m]&time={}", now()))
            .await;
        let result = answer.json()["data"]["result"].clone();
        let result = result.as_array().cloned().unwrap_or_default();
        let counts = result.iter().map(|s| s["values"].as_array().map_or(0, Vec::len));
        counts.collect::<Vec<_>>()
    };
    assert_eq!(requests().await, [3, 3], "nothing was deleted by what was refused");
    let path = format!(
        "/api/v1/admin/tsdb/delete_series?match[]=requests_total%7Bcode!~%225..%22%7D&match[]=dots&start={}&end={}",
        at(3),
        at(1)
    );
    let answer = site.call(Method::PUT, &path).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(requests().await, [2, 3]);
    let path = "/api/v1/admin/tsdb/delete_series?match[]=requests_total";
    assert_eq!(site.call(Method::POST, path).await.status, StatusCode::NO_CONTENT);
    assert!(requests().await.is_empty());
    let left = site
        .get("/api/v1/series?match[]=%7Bjob!=%22%22%7D&match[]=dots")
        .await
        .json();
    assert_eq!(left["data"].as_array().map(Vec::len), Some(3), "{left}");
    let answer = site.call(Method::POST, "/api/v1/admin/tsdb/clean_tombstones").await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NO_CONTENT, ""));
}

#[tokio::test]
async fn everything_lies_below_the_prefix() {
    let site = Site::with(Switches {
        external_url: "https://mon.example/tide/gauge/",
        ..Switches::default()
    });
    assert_eq!(
        site.get("/tide/gauge/api/v1/query?query=1").await.status,
        StatusCode::OK
    );
    assert_eq!(
        site.get("/tide/gauge/api/v1/label/job/values").await.status,
        StatusCode::OK
    );
    assert_eq!(site.get("/tide/gauge/-/ready").await.status, StatusCode::OK);
    assert_eq!(site.get("/api/v1/query?query=1").await.status, StatusCode::NOT_FOUND);
    for path in ["/", "/tide/gauge"] {
        let answer = site.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (302, "/tide/gauge/"),
            "{path}"
        );
    }
    assert!(site.get("/tide/gauge/").await.text.contains("<title>tidegauge</title>"));
    let metrics = site.get("/tide/gauge/metrics").await.text;
    assert!(
        metrics.contains("tidegauge_http_requests_total{handler=\"/api/v1/query\",code=\"200\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_files() {
    let site = Site::new();
    let page = site.get("/").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    for attribute in ["src=\"", "href=\""] {
        for link in page
            .text
            .split(attribute)
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
        {
            assert!(
                !link.starts_with('/') && !link.contains("://"),
                "{link} would not work below a prefix"
            );
            if !link.starts_with('#') {
                assert_eq!(site.get(&format!("/{link}")).await.status, StatusCode::OK, "{link}");
            }
        }
    }
    for script in ["main", "api", "query", "graph", "targets"] {
        let answer = site.get(&format!("/ui/{script}.js")).await;
        assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
        for danger in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!answer.text.contains(danger), "{script} uses {danger}");
        }
    }
    for page in ["/query", "/graph", "/targets"] {
        assert_eq!(site.get(page).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn metrics_are_text_that_a_scraper_reads() {
    let site = stored();
    site.get("/api/v1/query?query=1").await;
    site.get("/nope").await;
    let answer = site.get("/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    for line in [
        "tidegauge_http_requests_total{handler=\"/api/v1/query\",code=\"200\"} 1",
        "tidegauge_http_requests_total{handler=\"other\",code=\"404\"} 1",
        "tidegauge_http_request_duration_seconds_count{handler=\"/api/v1/query\"} 1",
        "# TYPE tidegauge_http_request_duration_seconds histogram",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE tidegauge_tsdb_head_series gauge",
        "prometheus_build_info{version=\"3.5.0\"",
        "tidegauge_build_info{version=",
    ] {
        assert!(answer.text.contains(line), "{line} is missing in\n{}", answer.text);
    }
}

#[tokio::test]
async fn status_pages_have_their_shapes() {
    let site = stored();
    for (path, keys) in [
        (
            "status/buildinfo",
            vec!["version", "revision", "branch", "buildUser", "buildDate", "goVersion"],
        ),
        (
            "status/runtimeinfo",
            vec![
                "startTime",
                "CWD",
                "hostname",
                "serverTime",
                "reloadConfigSuccess",
                "lastConfigTime",
                "corruptionCount",
                "goroutineCount",
                "GOMAXPROCS",
                "GOMEMLIMIT",
                "GOGC",
                "GODEBUG",
                "storageRetention",
            ],
        ),
        ("status/walreplay", vec!["min", "max", "current"]),
        ("status/config", vec!["yaml"]),
        (
            "targets",
            vec!["activeTargets", "droppedTargets", "droppedTargetCounts"],
        ),
        ("scrape_pools", vec!["scrapePools"]),
        ("rules", vec!["groups"]),
        ("alerts", vec!["alerts"]),
        ("alertmanagers", vec!["activeAlertmanagers", "droppedAlertmanagers"]),
    ] {
        let json = site.get(&format!("/api/v1/{path}")).await.json();
        let found: Vec<&String> = json["data"].as_object().unwrap().keys().collect();
        let (mut found, mut keys): (Vec<&str>, _) = (found.into_iter().map(String::as_str).collect(), keys);
        found.sort_unstable();
        keys.sort_unstable();
        assert_eq!(found, keys, "{path}");
    }
    let config = site.get("/api/v1/status/config").await.json();
    assert!(config["warnings"][0].as_str().unwrap().ends_with("rule_files"));
    let tsdb = site.get("/api/v1/status/tsdb?limit=1").await.json();
    assert_eq!(tsdb["data"]["headStats"]["numSeries"], 6);
    assert_eq!(
        tsdb["data"]["seriesCountByMetricName"],
        json!([{"name": "temperature_celsius", "value": 3}])
    );
}

/// Grafana asks with milliseconds where seconds are meant.
#[tokio::test]
async fn the_exemplar_probe_is_answered_with_nothing() {
    let site = Site::new();
    let path = "/api/v1/query_exemplars?query=test&start=1795225116000&end=1795225176000";
    assert_eq!(site.get(path).await.text, "{\"status\":\"success\",\"data\":[]}");
}

#[tokio::test]
async fn queries_are_printed_and_taken_apart() {
    let site = Site::new();
    let formatted = site
        .get(&format!(
            "/api/v1/format_query?query={}",
            escape("sum by(a)(rate(foo[5m]))")
        ))
        .await;
    assert_eq!(formatted.json()["data"], "sum by (a) (rate(foo[5m]))");
    let tree = site
        .get(&format!(
            "/api/v1/parse_query?query={}",
            escape("a + on(x) -b{c=\"d\"}[1h:5m] offset 1m")
        ))
        .await;
    assert_eq!(tree.status, StatusCode::BAD_REQUEST, "{}", tree.text);
    let tree = site
        .get(&format!(
            "/api/v1/parse_query?query={}",
            escape("topk(2, a) > bool (1)")
        ))
        .await
        .json();
    assert_eq!(
        tree["data"],
        json!({
            "type": "binaryExpr", "op": ">", "bool": true, "matching": null,
            "lhs": {
                "type": "aggregation", "op": "topk", "grouping": [], "without": false,
                "param": {"type": "numberLiteral", "val": "2"},
                "expr": {
                    "type": "vectorSelector", "name": "a", "offset": 0, "startOrEnd": null, "timestamp": null,
                    "matchers": [{"name": "__name__", "type": "=", "value": "a"}],
                },
            },
            "rhs": {"type": "parenExpr", "expr": {"type": "numberLiteral", "val": "1"}},
        })
    );
}

/// Keys in order, as the recorded answers have them.
#[tokio::test]
async fn targets_have_their_shape() {
    const CONFIG: &str = r#"
scrape_configs:
- job_name: gone
  scrape_interval: 1m
  static_configs:
  - targets: ['127.0.0.1:1']
    labels: {env: test}
- job_name: none
  static_configs:
  - targets: ['127.0.0.1:2']
  relabel_configs:
  - {action: drop, source_labels: [__address__], regex: '.*'}
"#;
    let site = Site::new();
    let file = site.dir.path().join("prometheus.yml");
    std::fs::write(&file, CONFIG).unwrap();
    let config = tidegauge_server::config::load(&file).unwrap();
    site.scraper
        .apply(config.jobs().to_vec(), config.external_labels())
        .unwrap();
    let path = "/api/v1/targets";
    let mut answer = site.get(path).await;
    // Discovery tells of its targets in its own time.
    while answer.json()["data"]["activeTargets"] == json!([]) || answer.json()["data"]["droppedTargets"] == json!([]) {
        tokio::task::yield_now().await;
        answer = site.get(path).await;
    }
    let keys = [
        "activeTargets",
        "discoveredLabels",
        "__address__",
        "__metrics_path__",
        "__scheme__",
        "__scrape_interval__",
        "__scrape_timeout__",
        "\"env\"",
        "\"labels\"",
        "instance",
        "scrapePool",
        "scrapeUrl",
        "globalUrl",
        "lastError",
        "lastScrape",
        "lastScrapeDuration",
        "health",
        "scrapeInterval",
        "scrapeTimeout",
        "droppedTargets",
        "droppedTargetCounts",
    ];
    let mut rest = answer.text.as_str();
    for key in keys {
        let at = rest
            .find(key)
            .unwrap_or_else(|| panic!("{key} is missing or out of order: {}", answer.text));
        rest = &rest[at + key.len()..];
    }
    let data = &answer.json()["data"];
    let target = &data["activeTargets"][0];
    assert_eq!(
        target["labels"],
        json!({"env": "test", "instance": "127.0.0.1:1", "job": "gone"})
    );
    assert_eq!(target["globalUrl"], "http://example-host:1/metrics");
    assert_eq!(
        (&target["scrapeInterval"], &target["scrapeTimeout"]),
        (&json!("1m"), &json!("10s"))
    );
    assert_eq!(data["droppedTargets"][0]["scrapePool"], "none");
    assert_eq!(data["droppedTargetCounts"], json!({"gone": 0, "none": 1}));
    let of = async |query: &str| site.get(&format!("{path}?{query}")).await.json()["data"].clone();
    assert_eq!(of("state=active").await["droppedTargets"], json!([]));
    assert_eq!(of("state=active").await["droppedTargetCounts"], json!(null));
    assert_eq!(of("state=dropped").await["activeTargets"], json!([]));
    assert_eq!(of("state=x").await["activeTargets"], json!([]));
    assert_eq!(of("scrapePool=none").await["activeTargets"], json!([]));
    assert_eq!(
        site.get("/api/v1/scrape_pools").await.json()["data"]["scrapePools"],
        json!(["gone", "none"])
    );
    assert_eq!(site.get("/api/v1/metadata").await.json()["data"], json!({}));
    site.scraper.stop().await;
}

/// As upstream's page for service discovery asks and reads it.
#[tokio::test]
async fn relabelling_is_shown_rule_by_rule() {
    const CONFIG: &str = r#"
scrape_configs:
- job_name: rules
  relabel_configs:
  - {source_labels: [__address__, zone], regex: '(.*):.*;(.*)', target_label: host, replacement: '$1-$2'}
  - {regex: tmp_.*, action: labeldrop}
  - {source_labels: [host], modulus: 4, target_label: shard, action: hashmod}
  - {source_labels: [zone], regex: b, action: drop}
  - {target_label: never, replacement: reached}
- job_name: none
  static_configs: [{targets: ['127.0.0.1:1']}]
"#;
    let site = Site::new();
    let file = site.dir.path().join("prometheus.yml");
    std::fs::write(&file, CONFIG).unwrap();
    let config = tidegauge_server::config::load(&file).unwrap();
    let apply = site.scraper.apply(config.jobs().to_vec(), config.external_labels());
    apply.unwrap();
    let ask = async |pool: &str, labels: &str| {
        let query = crate::process::form(&[("scrapePool", pool), ("labels", labels)]);
        site.get(&format!("/api/v1/targets/relabel_steps?{query}")).await
    };
    let answer = ask("rules", r#"{"__address__": "h:1", "zone": "a", "tmp_x": "y"}"#).await;
    let steps = &answer.json()["data"]["steps"];
    assert_eq!(steps.as_array().unwrap().len(), 5);
    assert_eq!(
        steps[0],
        json!({
            "rule": {
                "sourceLabels": ["__address__", "zone"], "separator": ";", "regex": "(.*):.*;(.*)",
                "targetLabel": "host", "replacement": "$1-$2", "action": "replace",
            },
            "output": {"__address__": "h:1", "host": "h-a", "tmp_x": "y", "zone": "a"},
            "keep": true,
        })
    );
    assert_eq!(
        steps[1]["output"],
        json!({"__address__": "h:1", "host": "h-a", "zone": "a"})
    );
    assert_eq!(steps[2]["rule"]["modulus"], 4);
    assert_eq!(steps[4]["output"]["never"], "reached");
    let answer = ask("rules", r#"{"__address__": "h:1", "zone": "b"}"#).await;
    let kept: Vec<Value> = (0..5)
        .map(|at| answer.json()["data"]["steps"][at]["keep"].clone())
        .collect();
    assert_eq!(kept, [true, true, true, false, false]);
    assert_eq!(answer.json()["data"]["steps"][4]["output"], json!({}));
    assert_eq!(ask("none", "{}").await.json()["data"], json!({"steps": []}));
    for (pool, labels, problem) in [
        ("", "{}", "no scrapePool parameter provided"),
        ("rules", "", "no labels parameter provided"),
        ("rules", "[", "error parsing labels: "),
        ("rules", r#"{"a": 1}"#, "error parsing labels: "),
        (
            "nobody",
            "{}",
            "error retrieving scrape config: scrape pool \"nobody\" not found",
        ),
    ] {
        let (status, kind, text) = error(&ask(pool, labels).await);
        assert!(
            status == 400 && kind == "bad_data" && text.starts_with(problem),
            "{text}"
        );
    }
    assert_eq!(
        site.get("/api/v1/status/discovery").await.json()["data"],
        json!({"providers": []})
    );
    site.scraper.stop().await;
}
