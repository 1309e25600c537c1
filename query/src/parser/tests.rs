//! Tests of the parser as a whole: tables of texts, bounds, and random trees.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegauge_model::{MatchOp, Matcher, Timestamp};

fn all() -> ParseOptions {
    ParseOptions::with_features(Features::ALL)
}

fn plain() -> ParseOptions {
    ParseOptions::default()
}

fn printed(text: &str) -> String {
    match parse(text, &all()) {
        Ok(expr) => expr.to_string(),
        Err(error) => format!("! {error}"),
    }
}

#[test]
fn accepted_and_printed() {
    for (text, expect) in [
        // Literals.
        ("0X1f + 0_17 - 1_0.5e1", "31 + 15 - 105"),
        ("- 1h30m", "-1h30m"),
        ("iNF", "+Inf"),
        ("inf ^ +inf", "Inf ^ +Inf"),
        ("--1", "1"),
        ("+-+1", "-1"),
        (r#"'a"b'"#, r#""a\"b""#),
        ("`\\`", r#""\\""#),
        (r#""\xff\u00fc""#, r#""\xffü""#),
        // Names.
        ("by", "by"),
        ("sum + by + offset{without=\"x\"}", "sum + by + offset{without=\"x\"}"),
        ("fill + fill_left", "fill + fill_left"),
        (r#"{"a b", 'c d'!=`e`,}"#, r#"{"c d"!="e",__name__="a b"}"#),
        ("a:b:c", "a:b:c"),
        ("x{}", "x"),
        ("x{z=\"1\",a=~\"2\",a!~\"3\"}", "x{a!~\"3\",a=~\"2\",z=\"1\"}"),
        // Operators.
        ("a+b*c^d^e", "a + b * c ^ d ^ e"),
        ("-a^b", "-a ^ b"),
        ("1 ATAN2 2", "1 atan2 2"),
        ("a == BOOL b", "a == bool b"),
        ("a </ 1 >/ 2", "a </ 1 >/ 2"),
        ("a and ignoring() b", "a and b"),
        (
            "a * on (b, \"c d\",) group_left b",
            "a * on (b, \"c d\") group_left () b",
        ),
        ("a + fill_right(1) fill_left(2) b", "a + fill_left (2) fill_right (1) b"),
        ("a + fill(5m) b", "a + fill (300) b"),
        // Aggregations.
        ("SUM BY(a, by, atan2) (x)", "sum by (a, by, atan2) (x)"),
        ("topk(2, x) without (a)", "topk without (a) (2, x)"),
        ("count_values('x y', x)", "count_values(\"x y\", x)"),
        ("sum by (\"without\", 'inf') (x)", "sum by (\"without\", \"inf\") (x)"),
        // Modifiers.
        ("x offset 0s", "x"),
        ("x offset 1d @ end()", "x @ end() offset 1d"),
        ("x @ -1.0006", "x @ -1.001"),
        (
            "-x[5m:] offset 1m",
            "! 1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
        ),
        ("x[300]", "x[5m]"),
        ("x[1h:] @ start()", "x[1h:] @ start()"),
        ("rate(x[5m] smoothed)", "rate(x[5m] smoothed)"),
        // Durations.
        (
            "x[step() + 2 * max_of(5m, range())]",
            "x[step() + 2 * max_of(5m, range())]",
        ),
        ("x offset 5m - 1", "x offset 5m - 1"),
        ("x offset -step() ^ 2", "x offset -step() ^ 2"),
        ("x offset (5m) * 2", "x offset (5m) * 2"),
        ("x offset - - 5", "x offset 5s"),
        ("step() + START()", "step() + start()"),
        // Comments.
        ("a # b\n+ # c\n d # e", "a + d"),
    ] {
        assert_eq!(printed(text), expect, "{text}");
    }
}

#[test]
fn refused_with_reason_and_place() {
    for (text, expect) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("  ", "1:1: parse error: no expression found in input"),
        ("a\n+ )", "2:4: parse error: unexpected right parenthesis ')'"),
        (
            "sum(a b)",
            "1:7: parse error: unexpected identifier \"b\" in aggregation",
        ),
        ("(a b)", "1:4: parse error: unexpected identifier \"b\""),
        (
            "sum by (x)",
            "1:11: parse error: unexpected end of input in aggregation",
        ),
        (
            "sum by (without) (a)",
            "1:9: parse error: unexpected <without> in grouping opts, expected label",
        ),
        (
            "sum by (\"\") (a)",
            "1:9: parse error: invalid label name for grouping: \"\"",
        ),
        ("a:b(1)", "1:4: parse error: unexpected \"(\""),
        ("a bool b", "1:3: parse error: unexpected <bool>"),
        ("'0123456789abc' 1", "1:17: parse error: unexpected number \"1\""),
        (
            "1 '0123456789abc'",
            "1:3: parse error: unexpected string \"'012345678\"...",
        ),
        ("fill(1)", "1:1: parse error: unexpected <fill>"),
        (
            "a + fill(x) b",
            "1:10: parse error: unexpected identifier \"x\" in fill value, expected number in parentheses",
        ),
        (
            "{a=~\"(\"}",
            "1:2: parse error: error parsing regexp in a=~\"(\": unclosed group",
        ),
        (
            "x[:5m]",
            "1:4: parse error: unexpected colon before duration in duration expression",
        ),
        ("x[5m:5m:5m]", "1:8: parse error: unexpected colon ':'"),
        ("x[5m)", "1:6: parse error: unexpected right parenthesis ')'"),
        (
            "x[5m 5m]",
            "1:6: parse error: unexpected duration \"5m\" in subquery or range, expected \":\" or \"]\"",
        ),
        (
            "x[5m:5m 5m]",
            "1:9: parse error: unexpected duration \"5m\" in subquery selector, expected \"]\"",
        ),
        (
            "x[5m:+]",
            "1:7: parse error: unexpected \"]\" in subquery selector, expected number, duration, step(), range(), or \"]\"",
        ),
        (
            "x offset y",
            "1:10: parse error: unexpected identifier \"y\" in offset, expected number, duration, step(), or range()",
        ),
        (
            "x @ y",
            "1:5: parse error: unexpected identifier \"y\" in @, expected timestamp",
        ),
        (
            "x @ 1 @ 2",
            "1:1: parse error: @ <timestamp> may not be set multiple times",
        ),
        (
            "x smoothed anchored",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        (
            "x[1m:] smoothed",
            "1:1: parse error: smoothed modifier is not supported for subqueries",
        ),
        (
            "label_join(a)",
            "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 1",
        ),
        (
            "round(a, 1, 2)",
            "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3",
        ),
        ("Rate(a)", "1:1: parse error: unknown function with name \"Rate\""),
        (
            "a + fill(1) 1",
            "1:1: parse error: filling in missing series only allowed between instant vectors",
        ),
        (
            "a or fill(1) b",
            "1:1: parse error: filling in missing series not allowed for set operators",
        ),
        (
            "x @ 1e19",
            "1:1: parse error: timestamp out of bounds for @ modifier: 10000000000000000000.000000",
        ),
    ] {
        assert_eq!(
            parse(text, &all()).map_err(|e| e.to_string()),
            Err(expect.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn what_is_switched_off_is_refused() {
    for (text, expect) in [
        (
            "limitk(1, x)",
            "limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("mad_over_time(x[5m])", "function \"mad_over_time\" is not enabled"),
        ("start()", "function \"start\" is not enabled"),
        ("x[5m + 1m]", "experimental duration expression is not enabled"),
        ("x[(5m)]", "experimental duration expression is not enabled"),
        ("x offset step()", "experimental duration expression is not enabled"),
        ("x anchored", "anchored modifier is experimental and not enabled"),
        ("x + fill(1) y", "binop fill modifiers are experimental and not enabled"),
    ] {
        let error = parse(text, &plain()).unwrap_err();
        assert_eq!(error.message, expect, "{text}");
        assert!(parse(text, &all()).is_ok(), "{text}");
    }
    let mut features = Features::default();
    assert!(features.enable("promql-duration-expr") && !features.enable("promql"));
    assert!(parse("x[5m + 1m]", &ParseOptions::with_features(features)).is_ok());
}

#[test]
fn carets_stand_under_the_fault() {
    let text = "sum(\n\trate(ü) + \"é\")";
    let error = parse("a +\n\t\"é\" + 1", &plain()).unwrap_err();
    assert_eq!(
        error.with_caret("a +\n\t\"é\" + 1"),
        "\t\"é\" + 1\n\t^^^ binary expression must contain only scalar and instant vector types"
    );
    let error = parse(text, &plain()).unwrap_err();
    assert_eq!(
        error.with_caret(text),
        "\trate(ü) + \"é\")\n\t     ^^^^^^^^^ unexpected character: 'ü'"
    );
    assert_eq!(
        parse("", &plain()).unwrap_err().with_caret(""),
        "\n^ no expression found in input"
    );
}

#[test]
fn spans_cover_what_was_written() {
    let text = "topk(2, -rate(x{a=\"b\"}[5m] offset 1m @ 5)) by (c) + (y[1h:] @ end() == bool z)";
    let expr = parse(
        "sum(topk(2, -rate(x{a=\"b\"}[5m] offset 1m @ 5)) by (c) + (y)) > 1",
        &plain(),
    )
    .unwrap();
    let whole = "sum(topk(2, -rate(x{a=\"b\"}[5m] offset 1m @ 5)) by (c) + (y)) > 1";
    let mut spans = Vec::new();
    let mut todo = vec![&expr];
    while let Some(expr) = todo.pop() {
        spans.push(expr.span.of(whole));
        todo.extend(expr.children());
    }
    spans.sort_unstable();
    assert_eq!(
        spans,
        [
            "(y)",
            "-rate(x{a=\"b\"}[5m] offset 1m @ 5)",
            "1",
            "2",
            "rate(x{a=\"b\"}[5m] offset 1m @ 5)",
            whole.strip_suffix(" > 1").unwrap(),
            whole,
            "topk(2, -rate(x{a=\"b\"}[5m] offset 1m @ 5)) by (c)",
            "topk(2, -rate(x{a=\"b\"}[5m] offset 1m @ 5)) by (c) + (y)",
            "x{a=\"b\"}[5m] offset 1m @ 5",
            "y",
        ]
    );
    assert!(parse(text, &plain()).is_err());
}

#[test]
fn selectors_and_series_are_parsed_by_themselves() {
    let matchers = parse_metric_selector("up{a!=\"b\"}", &plain()).unwrap();
    assert_eq!(
        matchers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["a!=\"b\"", "__name__=\"up\""]
    );
    assert!(parse_metric_selector("{}", &plain()).is_ok());
    for text in ["up[5m]", "1", "rate(x)", "up + up", "", "{a}", "up offset 5m"] {
        assert!(parse_metric_selector(text, &plain()).is_err(), "{text}");
    }
    let labels = |text| {
        parse_metric(text, &plain())
            .map(|l| l.to_string())
            .map_err(|e| e.to_string())
    };
    assert_eq!(
        labels(r#"up{b="1",'a b'="2"}"#),
        Ok(r#"{__name__="up", "a b"="2", b="1"}"#.to_owned())
    );
    assert_eq!(labels(r#"{"a.b"}"#), Ok(r#"{__name__="a.b"}"#.to_owned()));
    assert_eq!(labels("{}"), Ok("{}".to_owned()));
    assert_eq!(
        labels("{a!=\"1\"}"),
        Err("1:3: parse error: unexpected <op:!=> in label set, expected \"=\"".to_owned())
    );
    let (labels, end) = parse_metric_prefix("x{a=\"1\"} 1+1x5 _", &plain()).unwrap();
    assert_eq!((labels.to_string().as_str(), end), (r#"{__name__="x", a="1"}"#, 8));
}

/// Runs on a stack of a megabyte: threads of servers have two or more.
fn on_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn no_text_exhausts_the_stack() {
    on_small_stack(|| {
        let many = 100_000;
        for text in [
            "(".repeat(many) + "1" + &")".repeat(many),
            "-".repeat(many) + "a",
            "1+".repeat(many) + "1",
            "1^".repeat(many) + "1",
            "a or (".repeat(many) + "a" + &")".repeat(many),
            "sum(".repeat(many) + "a" + &")".repeat(many),
            "abs(".repeat(many),
            "a".to_owned() + &"[1m:]".repeat(many),
            "a[".to_owned() + &"(".repeat(many) + "1",
            "a[".to_owned() + &"1+".repeat(many) + "1]",
            "a[".to_owned() + &"1+(".repeat(many) + "1",
            "a[".to_owned() + &"-".repeat(many) + "1]",
            "a offset ".to_owned() + &"-".repeat(many) + "1",
            "a[".to_owned() + &"min_of(1,".repeat(many),
            "a + on(b) ".repeat(many) + "c",
            "{".repeat(many),
            "[".repeat(many),
            // As long as a text may be.
            "a+".repeat((1 << 19) - 1) + "a",
            "a,".repeat(1 << 19),
            "a{b=\"c\"}".repeat((1 << 20) / 8),
        ] {
            assert!(parse(&text, &all()).is_err(), "{}", &text[..20]);
        }
    });
}

#[test]
fn trees_as_high_as_allowed_can_be_used() {
    on_small_stack(|| {
        let max = plain().max_depth;
        for (text, deeper) in [
            (
                "(".repeat(max - 1) + "a" + &")".repeat(max - 1),
                "(".repeat(max) + "a" + &")".repeat(max),
            ),
            ("a+".repeat(max - 1) + "a", "a+".repeat(max) + "a"),
            (
                "abs(".repeat(max - 1) + "a" + &")".repeat(max - 1),
                "abs(".repeat(max) + "a" + &")".repeat(max),
            ),
        ] {
            let expr = parse(&text, &plain()).unwrap();
            assert_eq!(parse(&expr.to_string(), &plain()).unwrap(), expr);
            assert!(expr.pretty_within(10).len() > max);
            assert_eq!(
                (expr.value_type(), expr.clone().selectors().is_empty()),
                (ValueType::Vector, false)
            );
            let error = parse(&deeper, &plain()).unwrap_err();
            assert_eq!(
                error.message,
                "expression is nested too deeply: at most 256 levels allowed"
            );
        }
    });
    // What is wrong with the part that was read is said first.
    let error = parse(&("{}".to_owned() + &"-1".repeat(600)), &plain()).unwrap_err();
    assert_eq!(
        error.message,
        "vector selector must contain at least one non-empty matcher"
    );
}

#[test]
fn long_texts_are_refused() {
    let options = ParseOptions {
        max_bytes: 10,
        ..plain()
    };
    assert_eq!(
        parse("a + b + c + d", &options).unwrap_err().message,
        "expression is too long: 13 bytes, at most 10 allowed"
    );
}

#[test]
fn regexes_are_bounded_and_named_in_one_line() {
    for (text, message) in [
        (r#"a{b=~"("}"#, r#"error parsing regexp in b=~"(": unclosed group"#),
        (
            r#"a{"b\nc"!~"("}"#,
            r#"error parsing regexp in "b\nc"!~"(": unclosed group"#,
        ),
        (
            r#"a{b!~"x**"}"#,
            r#"error parsing regexp in b!~"x**": invalid nested repetition operator: `**`"#,
        ),
        (
            r#"a{b=~"(a{900}){900}"}"#,
            r#"error parsing regexp in b=~"(a{900}){900}": invalid repeat count: `{900}`"#,
        ),
        ("a{b=~\"(\\n\"}", r#"error parsing regexp in b=~"(\n": unclosed group"#),
    ] {
        let error = parse(text, &plain()).unwrap_err();
        assert_eq!(error.message, message, "{text}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert_eq!(error.place().unwrap().to_string(), "1:3", "{text}");
    }
    let long = format!("a{{b=~\"({}\"}}", "y".repeat(5000));
    let error = parse(&long, &plain()).unwrap_err().to_string();
    assert!(error.len() < 200 && error.contains("yyy...\""), "{error}");
    // Each is small enough, all together are not.
    let many = format!("a{{{}}}", r#"b=~"[a-z]{900}x","#.repeat(2000));
    let error = parse(&many, &plain()).unwrap_err().to_string();
    assert!(
        error.ends_with("the regular expressions together may take more than 67108864 bytes"),
        "{error}"
    );
    assert!(parse(&format!("a{{{}}}", r#"b=~"x.+y[0-9]","#.repeat(100)), &plain()).is_ok());
}

#[test]
fn a_pattern_that_is_repeated_is_that_of_each_label() {
    let others: String = (0..20).map(|i| format!(r#", o{i}=~"{i}[0-9]+""#)).collect();
    let text = format!(r#"a{{b=~"x[0-9]+", c!~"x[0-9]+", b!="x[0-9]+"{others}, d=~"x[0-9]+"}}"#);
    let matchers = parse_metric_selector(&text, &plain()).unwrap();
    let on = |name: &str, op| matchers.iter().find(|m| m.name() == name && m.op() == op).unwrap();
    for (name, op, hit) in [
        ("b", MatchOp::Regex, true),
        ("c", MatchOp::NotRegex, false),
        ("b", MatchOp::NotEqual, true),
        ("d", MatchOp::Regex, true),
    ] {
        assert_eq!(on(name, op).matches("x1"), hit, "{name}");
        assert_eq!(on(name, op).value(), "x[0-9]+", "{name}");
    }
    assert!(
        matchers
            .iter()
            .all(|m| !m.name().starts_with('o') || m.matches(&format!("{}7", &m.name()[1..])))
    );
}

#[test]
fn computed_durations_are_worth_what_they_say() {
    let context = DurationContext {
        step_ms: 15_000,
        range_ms: 3_600_000,
    };
    let range = |text: &str| match parse(&format!("x[{text}]"), &all()).unwrap().kind {
        ExprKind::Matrix(matrix) => matrix.range.positive_ms(context),
        other => panic!("{other:?}"),
    };
    for (text, ms) in [
        ("5m", 300_000),
        ("0.0005", 0),
        ("step()", 15_000),
        ("range() / 2 + 1", 1_801_000),
        ("-2 ^ 2 + 10s % 7", -1),
        ("2 ^ 3 ^ 2", 512_000),
        ("min_of(step(), 5) * max_of(1, 3)", 15_000),
        ("(1.5m)", 0),
    ] {
        let expect = parse(&format!("x[{text}]"), &all());
        if expect.is_err() {
            assert_eq!((text, ms), ("(1.5m)", 0));
            continue;
        }
        match range(text) {
            Ok(found) => assert_eq!(found, ms, "{text}"),
            Err(error) => assert_eq!(
                (error.to_string().as_str(), ms),
                ("duration must be greater than 0", -1),
                "{text}"
            ),
        }
    }
    assert!(matches!(
        range("1 / (step() - 15s)"),
        Err(DurationError::DivisionByZero(_))
    ));
    assert!(matches!(
        range("1 % (step() - 15s)"),
        Err(DurationError::ModuloByZero(_))
    ));
    assert!(matches!(range("10 ^ 20"), Err(DurationError::OutOfRange(span)) if span == Span::new(2, 9)));
}

// Random trees.

fn expr(kind: ExprKind) -> Expr {
    Expr::new(kind, Span::default())
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_][a-z0-9_]{0,4}",
        Just("by".to_owned()),
        Just("without".to_owned()),
        "\\PC{1,4}"
    ]
    .prop_filter("the replacement character is refused in strings", |l| {
        !l.contains('\u{fffd}')
    })
}

fn string() -> impl Strategy<Value = String> {
    proptest::string::string_regex("(\\PC|[\\n\\t\\x00-\\x1f\"'`\\\\]){0,6}")
        .unwrap()
        .prop_filter("the replacement character is refused in strings", |l| {
            !l.contains('\u{fffd}')
        })
}

fn plain_duration() -> impl Strategy<Value = DurationExpr> {
    prop_oneof![1i64..100_000, 1i64..10_000_000_000].prop_map(|ms| DurationExpr::from_millis(ms, Span::default()))
}

fn duration_kind(kind: DurationKind) -> DurationExpr {
    DurationExpr {
        kind,
        span: Span::default(),
    }
}

/// Durations with operators, whose operands are in parentheses where they are not simple.
fn computed_duration() -> impl Strategy<Value = DurationExpr> {
    let number = (0u32..1000, any::<bool>()).prop_map(|(n, units)| {
        let notation = if units { Notation::Duration } else { Notation::Number };
        duration_kind(DurationKind::Literal(NumberLiteral {
            value: f64::from(n) + 1.0,
            notation,
        }))
    });
    let leaf = prop_oneof![
        number,
        Just(duration_kind(DurationKind::Step)),
        Just(duration_kind(DurationKind::Range))
    ];
    let nested = leaf.prop_recursive(3, 8, 2, |inner| {
        let op = prop_oneof![
            Just(DurationOp::Add),
            Just(DurationOp::Sub),
            Just(DurationOp::Mul),
            Just(DurationOp::Div),
            Just(DurationOp::Mod),
            Just(DurationOp::Pow)
        ];
        let pair = (inner.clone(), inner.clone()).prop_map(|(l, r)| (Box::new(l), Box::new(r)));
        prop_oneof![
            (op, pair.clone()).prop_map(|(op, (lhs, rhs))| DurationKind::Paren(Box::new(duration_kind(
                DurationKind::Arithmetic { op, lhs, rhs }
            )))),
            (any::<bool>(), pair).prop_map(|(min, (lhs, rhs))| DurationKind::Arithmetic {
                op: if min { DurationOp::MinOf } else { DurationOp::MaxOf },
                lhs,
                rhs
            }),
            inner.prop_map(
                |d| DurationKind::Paren(Box::new(duration_kind(DurationKind::Negated(Box::new(duration_kind(
                    DurationKind::Paren(Box::new(d))
                ))))))
            ),
        ]
        .prop_map(duration_kind)
    });
    nested.prop_map(|d| match d.kind {
        DurationKind::Literal(number) => DurationExpr::from_millis(number.value as i64 * 1000, Span::default()),
        kind => duration_kind(kind),
    })
}

fn range() -> impl Strategy<Value = DurationExpr> {
    prop_oneof![4 => plain_duration(), 1 => computed_duration()]
}

fn offset() -> impl Strategy<Value = Option<DurationExpr>> {
    prop_oneof![
        4 => Just(None),
        1 => plain_duration().prop_map(Some),
        1 => (1i64..100_000_000).prop_map(|ms| Some(DurationExpr::from_millis(-ms, Span::default()))),
        1 => computed_duration().prop_map(Some),
    ]
}

fn at() -> impl Strategy<Value = Option<AtModifier>> {
    prop_oneof![
        4 => Just(None),
        1 => (-10_000_000_000_000i64..10_000_000_000_000)
            .prop_map(|ms| Some(AtModifier::Timestamp(Timestamp::from_millis(ms)))),
        1 => Just(Some(AtModifier::Start)),
        1 => Just(Some(AtModifier::End)),
    ]
}

fn matcher() -> impl Strategy<Value = Matcher> {
    (label(), string(), 0usize..4).prop_map(|(name, value, op)| {
        let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex][op];
        Matcher::new(op, name.clone(), value.clone()).unwrap_or_else(|_| Matcher::equal(name, value))
    })
}

fn vector_selector() -> impl Strategy<Value = VectorSelector> {
    let name = proptest::option::weighted(0.8, prop_oneof!["[a-z_][a-z:]{0,5}", Just("sum".to_owned())]);
    let name = name.prop_filter("words of grammar", |n| {
        n.as_ref()
            .is_none_or(|n| !["on", "inf", "nan", "bool"].contains(&n.as_str()))
    });
    let extent = prop_oneof![4 => Just(None), 1 => Just(Some(Extent::Anchored)), 1 => Just(Some(Extent::Smoothed))];
    (name, vec(matcher(), 0..3), offset(), at(), extent).prop_map(|(name, mut matchers, offset, at, extent)| {
        matchers.retain(|m| m.name() != "__name__");
        matchers.push(match &name {
            Some(name) => Matcher::equal("__name__", name.clone()),
            None => Matcher::equal("job", "x"),
        });
        VectorSelector {
            name,
            matchers,
            offset,
            at,
            extent,
        }
    })
}

fn number() -> impl Strategy<Value = Expr> {
    let plain = prop_oneof![
        (0u32..1000).prop_map(f64::from),
        0.0..1e12f64,
        Just(f64::NAN),
        Just(1e300)
    ];
    prop_oneof![
        plain.prop_map(|value| NumberLiteral {
            value,
            notation: Notation::Number
        }),
        plain_duration().prop_map(|d| match d.kind {
            DurationKind::Literal(number) => number,
            other => panic!("{other:?}"),
        }),
    ]
    .prop_map(|n| expr(ExprKind::Number(n)))
}

fn string_expr(value: String) -> Expr {
    expr(ExprKind::String(StringLiteral { value, bytes: None }))
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let function = Signature::find(name).unwrap();
    expr(ExprKind::Call(Call { function, args }))
}

/// In parentheses, unless it is something that no operator can tear apart or run into.
fn operand(inner: Expr) -> Box<Expr> {
    let open_ended = match &inner.kind {
        ExprKind::Binary(_) | ExprKind::Unary(_) => true,
        // An operator behind such an offset belongs to it, as upstream has it.
        ExprKind::Vector(v) => v
            .offset
            .as_ref()
            .is_some_and(|d| matches!(d.kind, DurationKind::Paren(_))),
        _ => false,
    };
    Box::new(if open_ended {
        expr(ExprKind::Paren(Box::new(inner)))
    } else {
        inner
    })
}

fn matrix(vector: impl Strategy<Value = Expr> + 'static) -> impl Strategy<Value = Expr> {
    let selector = (vector_selector(), range())
        .prop_map(|(vector, range)| expr(ExprKind::Matrix(MatrixSelector { vector, range })));
    let subquery = (vector, range(), proptest::option::of(range()), offset(), at()).prop_map(
        |(inner, range, step, offset, at)| {
            // Modifiers of what is inside would be taken for those of the subquery's own selector; they are not.
            expr(ExprKind::Subquery(Subquery {
                expr: operand(inner),
                range,
                step,
                offset,
                at,
            }))
        },
    );
    prop_oneof![3 => selector, 1 => subquery]
}

fn grouping() -> impl Strategy<Value = Grouping> {
    prop_oneof![
        vec(label(), 0..3).prop_map(Grouping::By),
        vec(label(), 0..3).prop_map(Grouping::Without)
    ]
}

fn arithmetic_or_comparison() -> impl Strategy<Value = BinaryOp> {
    use BinaryOp::{Add, Atan2, Div, Eq, Ge, Gt, Le, Lt, Mod, Mul, Ne, Pow, Sub, TrimLower, TrimUpper};
    proptest::sample::select(vec![
        Add, Sub, Mul, Div, Mod, Pow, Atan2, Eq, Ne, Lt, Le, Gt, Ge, TrimLower, TrimUpper,
    ])
}

fn matching() -> impl Strategy<Value = VectorMatching> {
    let fill = || proptest::option::weighted(0.2, prop_oneof![-1e30..1e30f64, Just(f64::INFINITY), Just(-0.0)]);
    let cardinality = prop_oneof![
        Just(Cardinality::OneToOne),
        Just(Cardinality::ManyToOne),
        Just(Cardinality::OneToMany)
    ];
    (
        any::<bool>(),
        vec(label(), 0..3),
        cardinality,
        vec(label(), 0..3),
        fill(),
        fill(),
    )
        .prop_map(|(on, labels, cardinality, mut include, fill_left, fill_right)| {
            include.retain(|l| cardinality != Cardinality::OneToOne && !(on && labels.contains(l)));
            VectorMatching {
                cardinality,
                match_on: if on { MatchOn::On } else { MatchOn::Ignoring },
                labels,
                include,
                fill_left,
                fill_right,
            }
        })
}

fn binary_of_vectors(vector: impl Strategy<Value = Expr> + Clone) -> impl Strategy<Value = Expr> {
    let sets = proptest::sample::select(vec![BinaryOp::And, BinaryOp::Or, BinaryOp::Unless]);
    let op = prop_oneof![3 => arithmetic_or_comparison(), 1 => sets];
    (op, vector.clone(), vector, any::<bool>(), matching()).prop_map(|(op, lhs, rhs, return_bool, mut matching)| {
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
            matching.include.clear();
            (matching.fill_left, matching.fill_right) = (None, None);
        }
        expr(ExprKind::Binary(Binary {
            op,
            lhs: operand(lhs),
            rhs: operand(rhs),
            return_bool: return_bool && op.is_comparison(),
            matching: Some(matching),
        }))
    })
}

fn vector() -> impl Strategy<Value = Expr> {
    let leaf = vector_selector().prop_map(|v| expr(ExprKind::Vector(v)));
    leaf.prop_recursive(4, 24, 3, |inner| {
        let inner = inner.boxed();
        let plain_aggregate = (inner.clone(), grouping(), any::<bool>()).prop_map(|(inner, grouping, max)| {
            expr(ExprKind::Aggregate(Aggregate {
                op: if max { AggregateOp::Max } else { AggregateOp::Sum },
                param: None,
                expr: Box::new(inner),
                grouping,
            }))
        });
        let topk = (number(), inner.clone(), grouping()).prop_map(|(param, inner, grouping)| {
            expr(ExprKind::Aggregate(Aggregate {
                op: AggregateOp::Topk,
                param: Some(Box::new(param)),
                expr: Box::new(inner),
                grouping,
            }))
        });
        let count_values = (string(), inner.clone()).prop_map(|(label, inner)| {
            expr(ExprKind::Aggregate(Aggregate {
                op: AggregateOp::CountValues,
                param: Some(Box::new(string_expr(label))),
                expr: Box::new(inner),
                grouping: Grouping::By(Vec::new()),
            }))
        });
        let with_scalar = (arithmetic_or_comparison(), inner.clone(), number(), any::<bool>()).prop_map(
            |(op, lhs, rhs, return_bool)| {
                expr(ExprKind::Binary(Binary {
                    op,
                    lhs: operand(lhs),
                    rhs: operand(rhs),
                    return_bool: return_bool && op.is_comparison(),
                    matching: None,
                }))
            },
        );
        let calls = prop_oneof![
            inner.clone().prop_map(|v| call("abs", vec![v])),
            (inner.clone(), number()).prop_map(|(v, n)| call("round", vec![v, n])),
            (inner.clone(), string(), string()).prop_map(|(v, a, b)| {
                call(
                    "label_join",
                    vec![v, string_expr(a), string_expr(b.clone()), string_expr(b)],
                )
            }),
            matrix(inner.clone()).prop_map(|m| call("rate", vec![m])),
            number().prop_map(|n| call("vector", vec![n])),
        ];
        prop_oneof![
            plain_aggregate,
            topk,
            count_values,
            with_scalar,
            calls,
            binary_of_vectors(inner.clone()),
            inner.clone().prop_map(|v| expr(ExprKind::Paren(Box::new(v)))),
            (inner, any::<bool>()).prop_map(|(v, minus)| expr(ExprKind::Unary(Unary {
                op: if minus { UnaryOp::Minus } else { UnaryOp::Plus },
                expr: operand(v)
            }))),
        ]
    })
}

/// Words and signs of the language, to be put together at random.
const PIECES: &[&str] = &[
    "a",
    "b{c=\"d\"}",
    "1",
    "5m",
    "+",
    "-",
    "*",
    "^",
    "==",
    "bool",
    "and",
    "or",
    "unless",
    "on",
    "(",
    ")",
    "(",
    ")",
    "[5m]",
    "[1h:]",
    "offset",
    "@",
    "start()",
    "sum",
    "by",
    "(x)",
    "rate",
    ",",
    "\"s\"",
    "group_left",
    "ignoring",
    "{",
    "}",
    "=",
    "=~",
    "[",
    "]",
    ":",
    "#",
    "\n",
    "'",
    "inf",
    "0x",
    ".",
    "anchored",
    "smoothed",
    "fill",
    "step()",
    "min_of",
    "atan2",
    "</",
    "%",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn printing_is_undone_by_parsing(tree in vector()) {
        for text in [tree.to_string(), tree.pretty(), tree.pretty_within(10)] {
            let again = parse(&text, &all());
            prop_assert_eq!(again.as_ref(), Ok(&tree), "{}", text);
        }
    }

    #[test]
    fn what_is_accepted_prints_and_parses_to_the_same(pieces in vec(proptest::sample::select(PIECES), 0..14)) {
        let text = pieces.join(" ");
        match parse(&text, &all()) {
            Ok(expr) => {
                let printed = expr.to_string();
                prop_assert_eq!(parse(&printed, &all()), Ok(expr), "{} printed as {}", text, printed);
            }
            Err(error) => {
                let _ = (error.to_string(), error.with_caret(&text));
                prop_assert!(error.span.start as usize <= text.len());
            }
        }
        let _ = parse_metric_selector(&text, &all());
        let _ = parse_metric(&text, &all());
    }

    #[test]
    fn operators_without_parentheses_keep_their_order(ops in vec(proptest::sample::select(vec![
        "+", "-", "*", "/", "^", "==", "and", "or", "unless", "<", "% -", "^ -", "atan2",
    ]), 1..10)) {
        let text = ops.iter().fold("-a".to_owned(), |text, op| format!("{text} {op} a"));
        let expr = parse(&text, &all()).unwrap();
        prop_assert_eq!(parse(&expr.to_string(), &all()).unwrap(), expr);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}") {
        if let Err(error) = parse(&text, &all()) {
            let _ = (error.to_string(), error.with_caret(&text));
        }
    }
}
