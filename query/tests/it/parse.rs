//! The parser against upstream's own cases: verdicts, errors and printed forms; and against real dashboards.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use serde_json::Value;
use std::path::PathBuf;
use tidegauge_model::MatchOp;
use tidegauge_query::parser::{Features, ParseOptions, parse};

/// A file of the shared folder.
fn shared(path: &str) -> Vec<Value> {
    let folder = std::env::var_os("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the folder of shared data");
    let path = PathBuf::from(folder).join(path);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    match serde_json::from_slice(&text).unwrap() {
        Value::Array(cases) => cases,
        other => panic!("{}: a list is expected, not {other}", path.display()),
    }
}

fn text<'v>(case: &'v Value, key: &str) -> &'v str {
    case.get(key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {key} in {case}"))
}

/// The input of a case; bytes that are no UTF-8 arrive as the replacement character, as over HTTP.
fn input(case: &Value) -> String {
    match case.get("input_hex").and_then(Value::as_str) {
        None => text(case, "input").to_owned(),
        Some(hex) => {
            let bytes: Vec<u8> = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

fn all_features() -> ParseOptions {
    ParseOptions::with_features(Features::ALL)
}

/// Collects what disagrees and fails at the end with all of it.
#[derive(Default)]
struct Report {
    cases: usize,
    failures: Vec<String>,
}

impl Report {
    fn case(&mut self, input: &str, outcome: Result<(), String>) {
        self.cases += 1;
        if let Err(why) = outcome {
            let short: String = input.chars().take(200).collect();
            self.failures.push(format!("{short}\n    {why}"));
        }
    }

    fn finish(self, at_least: usize) {
        assert!(self.cases >= at_least, "only {} cases", self.cases);
        assert!(
            self.failures.is_empty(),
            "{} of {} cases disagree:\n{}",
            self.failures.len(),
            self.cases,
            self.failures.join("\n")
        );
    }
}

fn same(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("found\n{found}\n    expected\n{expected}"))
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn verdicts_and_errors_are_upstreams() {
    let options = ParseOptions::with_features(Features {
        fill_modifiers: false,
        ..Features::ALL
    });
    let mut report = Report::default();
    for case in shared("conformance/promql-parse/expressions.json") {
        let input = input(&case);
        let outcome = match (parse(&input, &options), case["ok"].as_bool().unwrap()) {
            (Ok(_), true) => Ok(()),
            (Ok(expr), false) => Err(format!("accepted as {expr}, should be {}", text(&case, "error"))),
            (Err(error), true) => Err(format!("refused: {error}")),
            (Err(error), false) => same(&error.to_string(), text(&case, "error")),
        };
        report.case(&input, outcome);
    }
    report.finish(357);
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn canonical_form_is_upstreams() {
    let mut report = Report::default();
    for case in shared("conformance/promql-parse/printer.json") {
        let input = input(&case);
        let outcome = match parse(&input, &all_features()) {
            Ok(expr) => same(&expr.to_string(), text(&case, "output")),
            Err(error) => Err(format!("refused: {error}")),
        };
        report.case(&input, outcome);
    }
    report.finish(92);
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn pretty_form_is_upstreams() {
    let mut report = Report::default();
    for case in shared("conformance/promql-parse/prettier.json") {
        let input = input(&case);
        let width = case["max_characters_per_line"].as_u64().unwrap() as usize;
        let outcome = match parse(&input, &all_features()) {
            Ok(expr) => same(&expr.pretty_within(width), text(&case, "output")),
            Err(error) => Err(format!("refused: {error}")),
        };
        report.case(&input, outcome);
    }
    report.finish(62);
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn pretty_form_is_that_of_the_recorded_server() {
    let mut report = Report::default();
    for case in shared("conformance/promql-parse/format-live.json") {
        let input = input(&case);
        let outcome = match parse(&input, &all_features()) {
            Ok(expr) => same(&expr.pretty(), text(&case, "output")),
            Err(error) => Err(format!("refused: {error}")),
        };
        report.case(&input, outcome);
    }
    report.finish(1549);
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn selectors_are_found() {
    let mut report = Report::default();
    for case in shared("conformance/promql-parse/extract-selectors.json") {
        let input = input(&case);
        let outcome = match parse(&input, &all_features()) {
            Ok(expr) => {
                let found: Vec<String> = expr
                    .selectors()
                    .iter()
                    .map(|s| {
                        let matchers: Vec<String> = s.matchers.iter().map(ToString::to_string).collect();
                        format!("{{{}}}", matchers.join(", "))
                    })
                    .collect();
                let expected: Vec<&str> = case["selectors"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|s| s.as_str().unwrap())
                    .collect();
                same(&found.join("\n"), &expected.join("\n"))
            }
            Err(error) => Err(format!("refused: {error}")),
        };
        report.case(&input, outcome);
    }
    report.finish(5);
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn trees_hold_what_the_recorded_server_shows() {
    let mut report = Report::default();
    for case in shared("conformance/promql-parse/ast-live.json") {
        let input = input(&case);
        let outcome = match parse(&input, &all_features()) {
            Ok(expr) => ast::compare(&expr, &case["ast"]),
            Err(error) => Err(format!("refused: {error}")),
        };
        report.case(&input, outcome);
    }
    report.finish(192);
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn expressions_of_scripts_parse_and_print() {
    let mut report = Report::default();
    for case in shared("conformance/promql/index.json") {
        let input = text(&case, "expr");
        // The notation of histograms belongs to the scripts, not to the language.
        let outcome = match parse(input, &all_features()) {
            Ok(expr) => {
                let printed = expr.to_string();
                match (parse(&printed, &all_features()), parse(&expr.pretty(), &all_features())) {
                    (Ok(again), Ok(pretty)) if again == expr && pretty == expr => Ok(()),
                    (again, pretty) => Err(format!("printed as {printed}: {again:?} {pretty:?}")),
                }
            }
            Err(_) if case.get("fail").is_some() => Ok(()),
            Err(error) => Err(format!("refused: {error}")),
        };
        report.case(input, outcome);
    }
    report.finish(2214);
}

#[test]
#[ignore = "needs TIDEGAUGE_SHARED"]
fn expressions_of_dashboards_parse_and_print() {
    let mut report = Report::default();
    for case in shared("dashboards/exprs.json") {
        let input = text(&case, "expr");
        let outcome = match parse(input, &ParseOptions::default()) {
            Ok(expr) => same(&expr.pretty(), text(&case, "canonical")),
            Err(error) => Err(format!("refused: {error}")),
        };
        report.case(input, outcome);
    }
    report.finish(1060);
}

/// Compares a tree with its recorded JSON, node by node.
mod ast {
    use super::{MatchOp, Value};
    use serde_json::json;
    use tidegauge_query::parser::{
        AtModifier, DurationExpr, Expr, ExprKind, Grouping, MatchOn, Signature, VectorMatching, VectorSelector,
    };

    pub(super) fn compare(expr: &Expr, expected: &Value) -> Result<(), String> {
        let found = node(expr);
        if found == *expected {
            return Ok(());
        }
        Err(format!("found    {found}\n    expected {expected}"))
    }

    /// The recording has 0 for computed durations.
    fn ms(duration: Option<&DurationExpr>) -> i64 {
        duration.and_then(DurationExpr::plain_ms).unwrap_or(0)
    }

    fn at(at: Option<AtModifier>) -> (Value, Value) {
        match at {
            None => (Value::Null, Value::Null),
            Some(AtModifier::Timestamp(t)) => (json!(t.millis()), Value::Null),
            Some(AtModifier::Start) => (Value::Null, json!("start")),
            Some(AtModifier::End) => (Value::Null, json!("end")),
        }
    }

    fn selector(selector: &VectorSelector) -> Value {
        let matchers: Vec<Value> = selector
            .matchers
            .iter()
            .map(|m| {
                let op = match m.op() {
                    MatchOp::Equal => "=",
                    MatchOp::NotEqual => "!=",
                    MatchOp::Regex => "=~",
                    MatchOp::NotRegex => "!~",
                };
                json!({"name": m.name(), "type": op, "value": m.value()})
            })
            .collect();
        let (timestamp, start_or_end) = at(selector.at);
        json!({
            "type": "vectorSelector", "name": selector.name.as_deref().unwrap_or(""), "matchers": matchers,
            "offset": ms(selector.offset.as_ref()), "timestamp": timestamp, "startOrEnd": start_or_end,
        })
    }

    fn matching(matching: &VectorMatching) -> Value {
        json!({
            "card": matching.cardinality.as_str(), "labels": matching.labels,
            "on": matching.match_on == MatchOn::On, "include": matching.include,
        })
    }

    fn function(function: &Signature) -> Value {
        let args: Vec<&str> = function.args.iter().map(|t| t.as_str()).collect();
        json!({
            "name": function.name, "argTypes": args, "variadic": function.variadic.code(),
            "returnType": function.returns.as_str(),
        })
    }

    fn node(expr: &Expr) -> Value {
        match &expr.kind {
            ExprKind::Number(_) => {
                // The recording has durations as plain numbers.
                let mut number = expr.clone();
                if let ExprKind::Number(n) = &mut number.kind {
                    n.notation = tidegauge_query::parser::Notation::Number;
                }
                json!({"type": "numberLiteral", "val": number.to_string()})
            }
            ExprKind::String(s) => json!({"type": "stringLiteral", "val": s.value}),
            ExprKind::Vector(v) => selector(v),
            ExprKind::Matrix(m) => {
                let mut value = selector(&m.vector);
                value["type"] = json!("matrixSelector");
                value["range"] = json!(ms(Some(&m.range)));
                value
            }
            ExprKind::Subquery(s) => {
                let (timestamp, start_or_end) = at(s.at);
                json!({
                    "type": "subquery", "expr": node(&s.expr), "range": ms(Some(&s.range)), "step": ms(s.step.as_ref()),
                    "offset": ms(s.offset.as_ref()), "timestamp": timestamp, "startOrEnd": start_or_end,
                })
            }
            ExprKind::Aggregate(a) => json!({
                "type": "aggregation", "op": a.op.as_str(), "expr": node(&a.expr),
                "param": a.param.as_deref().map(node), "grouping": a.grouping.labels(),
                "without": matches!(a.grouping, Grouping::Without(_)),
            }),
            ExprKind::Binary(b) => json!({
                "type": "binaryExpr", "op": b.op.as_str(), "lhs": node(&b.lhs), "rhs": node(&b.rhs),
                "bool": b.return_bool, "matching": b.matching.as_ref().map(matching),
            }),
            ExprKind::Unary(u) => json!({"type": "unaryExpr", "op": u.op.as_str(), "expr": node(&u.expr)}),
            ExprKind::Call(c) => json!({
                "type": "call", "func": function(c.function), "args": c.args.iter().map(node).collect::<Vec<_>>(),
            }),
            ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": node(inner)}),
        }
    }
}
