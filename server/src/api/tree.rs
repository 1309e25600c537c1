//! The tree of an expression as JSON (`parse_query`), for editors that explain a query.
//!
//! Keys stand in alphabetical order, as upstream's encoder has them.

use super::json::Json;
use super::number;
use tidegauge_model::Matcher;
use tidegauge_query::parser::{
    Aggregate, AtModifier, Binary, Call, DurationExpr, Expr, ExprKind, Grouping, MatchOn, MatrixSelector, Subquery,
    VectorSelector,
};

/// Writes an expression. The parser bounds its height.
pub(crate) fn push(json: &mut Json, expr: &Expr) {
    match &expr.kind {
        ExprKind::Number(number) => literal(json, "numberLiteral", &plain(number.value)),
        ExprKind::String(text) => literal(json, "stringLiteral", &text.value),
        ExprKind::Vector(selector) => vector(json, selector),
        ExprKind::Matrix(selector) => matrix(json, selector),
        ExprKind::Subquery(subquery) => self::subquery(json, subquery),
        ExprKind::Aggregate(aggregate) => self::aggregate(json, aggregate),
        ExprKind::Binary(binary) => self::binary(json, binary),
        ExprKind::Unary(unary) => {
            json.object(|o| {
                push(o.key("expr"), &unary.expr);
                o.key("op").string(unary.op.as_str());
                o.key("type").string("unaryExpr");
            });
        }
        ExprKind::Call(call) => self::call(json, call),
        ExprKind::Paren(inner) => {
            json.object(|o| {
                push(o.key("expr"), inner);
                o.key("type").string("parenExpr");
            });
        }
    }
}

fn literal(json: &mut Json, kind: &str, value: &str) {
    json.object(|o| {
        o.key("type").string(kind);
        o.key("val").string(value);
    });
}

fn plain(value: f64) -> String {
    let mut out = Vec::new();
    number::push_plain(&mut out, value);
    String::from_utf8_lossy(&out).into_owned()
}

fn vector(json: &mut Json, selector: &VectorSelector) {
    json.object(|o| {
        matchers(o, &selector.matchers);
        o.key("name").string(selector.name.as_deref().unwrap_or_default());
        offset(o, selector.offset.as_ref());
        at(o, selector.at);
        o.key("type").string("vectorSelector");
    });
}

fn matrix(json: &mut Json, selector: &MatrixSelector) {
    let vector = &selector.vector;
    json.object(|o| {
        matchers(o, &vector.matchers);
        o.key("name").string(vector.name.as_deref().unwrap_or_default());
        offset(o, vector.offset.as_ref());
        o.key("range").integer(selector.range.plain_ms().unwrap_or(0));
        at(o, vector.at);
        o.key("type").string("matrixSelector");
    });
}

fn subquery(json: &mut Json, subquery: &Subquery) {
    json.object(|o| {
        push(o.key("expr"), &subquery.expr);
        offset(o, subquery.offset.as_ref());
        o.key("range").integer(subquery.range.plain_ms().unwrap_or(0));
        start_or_end(o, subquery.at);
        o.key("step")
            .integer(subquery.step.as_ref().and_then(DurationExpr::plain_ms).unwrap_or(0));
        timestamp(o, subquery.at);
        o.key("type").string("subquery");
    });
}

fn aggregate(json: &mut Json, aggregate: &Aggregate) {
    json.object(|o| {
        push(o.key("expr"), &aggregate.expr);
        strings(o, "grouping", aggregate.grouping.labels());
        o.key("op").string(aggregate.op.as_str());
        match &aggregate.param {
            Some(param) => push(o.key("param"), param),
            None => {
                o.key("param").null();
            }
        }
        o.key("type").string("aggregation");
        o.key("without")
            .boolean(matches!(aggregate.grouping, Grouping::Without(_)));
    });
}

fn binary(json: &mut Json, binary: &Binary) {
    json.object(|o| {
        o.key("bool").boolean(binary.return_bool);
        push(o.key("lhs"), &binary.lhs);
        match &binary.matching {
            Some(matching) => {
                o.key("matching").object(|m| {
                    m.key("card").string(matching.cardinality.as_str());
                    strings(m, "include", &matching.include);
                    strings(m, "labels", &matching.labels);
                    m.key("on").boolean(matching.match_on == MatchOn::On);
                });
            }
            None => {
                o.key("matching").null();
            }
        }
        o.key("op").string(binary.op.as_str());
        push(o.key("rhs"), &binary.rhs);
        o.key("type").string("binaryExpr");
    });
}

fn call(json: &mut Json, call: &Call) {
    let function = call.function;
    json.object(|o| {
        o.key("args").array(|a| {
            for arg in &call.args {
                push(a, arg);
            }
        });
        o.key("func").object(|f| {
            f.key("argTypes").array(|a| {
                for arg in function.args {
                    a.string(arg.as_str());
                }
            });
            f.key("name").string(function.name);
            f.key("returnType").string(function.returns.as_str());
            f.key("variadic").integer(function.variadic.code().into());
        });
        o.key("type").string("call");
    });
}

fn matchers(json: &mut Json, matchers: &[Matcher]) {
    json.key("matchers").array(|a| {
        for matcher in matchers {
            a.object(|m| {
                m.key("name").string(matcher.name());
                m.key("type").string(matcher.op().as_str());
                m.key("value").string(matcher.value());
            });
        }
    });
}

fn strings(json: &mut Json, key: &str, list: &[String]) {
    json.key(key).array(|a| {
        for text in list {
            a.string(text);
        }
    });
}

fn offset(json: &mut Json, offset: Option<&DurationExpr>) {
    json.key("offset")
        .integer(offset.and_then(DurationExpr::plain_ms).unwrap_or(0));
}

fn at(json: &mut Json, at: Option<AtModifier>) {
    start_or_end(json, at);
    timestamp(json, at);
}

fn start_or_end(json: &mut Json, at: Option<AtModifier>) {
    json.key("startOrEnd");
    match at {
        Some(AtModifier::Start) => json.string("start"),
        Some(AtModifier::End) => json.string("end"),
        Some(AtModifier::Timestamp(_)) | None => json.null(),
    };
}

fn timestamp(json: &mut Json, at: Option<AtModifier>) {
    json.key("timestamp");
    match at {
        Some(AtModifier::Timestamp(at)) => json.integer(at.millis()),
        Some(AtModifier::Start | AtModifier::End) | None => json.null(),
    };
}
