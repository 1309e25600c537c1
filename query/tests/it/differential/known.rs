//! Disagreements that are not ours: what upstream leaves to chance, and what it changed after 3.5.3. Each has a rule
//! that recognises it and a reason; what no rule knows counts against us.
//!
//! A rule looks at the smallest part of a query on which the sides still differ, so it can be narrow: what stands around that
//! part is known to agree.

use super::answer::{Answer, Outcome};
use super::compare::{Difference, Verdict, close};
use std::collections::BTreeMap;
use tidegauge_model::Labels;
use tidegauge_query::ParseError;
use tidegauge_query::parser::{AggregateOp, Call, Expr, ExprKind, Function, Grouping};

/// Annotations that came after 3.5.3.
const NEWER_NOTES: &[&str] = &["sort is ineffective for range queries"];

/// Takes away what 3.5.3 cannot say yet.
pub(super) fn without_newer_notes(mut ours: Answer) -> Answer {
    let is_newer = |text: &String| NEWER_NOTES.iter().any(|note| text.contains(note));
    ours.warnings.retain(|text| !is_newer(text));
    ours.infos.retain(|text| !is_newer(text));
    ours
}

/// Maps in random order: series in the labels of errors, ties, sums.
const NOT_ITSELF: &str = "upstream answers otherwise when it is asked again";

/// The smallest part of a query on which the sides differ, and how.
pub(super) struct Smallest<'a> {
    pub(super) expr: &'a Expr,
    pub(super) ours: &'a Answer,
    pub(super) theirs: &'a Answer,
    /// What they say when they are asked again.
    pub(super) theirs_again: &'a [Answer],
    pub(super) verdict: &'a Verdict,
    /// Whether an operand differs in its last digits.
    pub(super) is_close_below: bool,
    /// Whether it is asked for over time, and what they answer at each of its times by itself is what we answer.
    pub(super) agrees_with_instants: bool,
    /// Whether it is asked for over time.
    pub(super) is_range: bool,
    /// Whether names are dropped at the end only.
    pub(super) is_delayed: bool,
}

/// Why a query is answered otherwise, if that is known.
pub(super) fn reason(case: &Smallest<'_>) -> Option<&'static str> {
    let Verdict::Different(what, _) = case.verdict else {
        // It was different when it was asked for the first time.
        return Some(NOT_ITSELF);
    };
    if case.agrees_with_instants {
        return Some("upstream's instant answers are ours, but its answer over time is none of them");
    }
    if case.theirs_again.iter().any(|again| !same(again, case.theirs)) {
        return Some(NOT_ITSELF);
    }
    if let Some(reason) = of_names(case) {
        return Some(reason);
    }
    let by_kind = match &case.expr.unparenthesised().kind {
        ExprKind::Call(call) => of_call(case, call, *what),
        ExprKind::Aggregate(aggregate) => of_aggregate(case, aggregate.op, &aggregate.grouping, *what),
        ExprKind::Binary(_) if only_dropped_pairs_match(case) => {
            Some("pairs that a comparison drops are matches too in later versions; the scripts settle it")
        }
        ExprKind::Matrix(_) => of_matrix(case),
        _ => None,
    };
    by_kind.or_else(|| {
        let is_about_values = matches!(what, Difference::Values | Difference::Series | Difference::Times);
        (is_about_values && case.is_close_below)
            .then_some("an operand differs in its last digits, and this makes more of it")
    })
}

/// What later versions do otherwise with names that are dropped at the end.
fn of_names(case: &Smallest<'_>) -> Option<&'static str> {
    let refused = case.theirs.result.as_ref().err();
    if case.is_delayed && case.is_range && refused.is_some_and(|r| r.text.ends_with("metrics with the same labelset")) {
        return Some("series that become one at the end are joined if they do not overlap; the scripts settle it");
    }
    let only_we_refuse = case.theirs.result.is_ok()
        && case
            .ours
            .result
            .as_ref()
            .is_err_and(|r| r.text.ends_with("metrics with the same labelset"));
    let nameless = |answer: &Answer| -> Option<BTreeMap<(Labels, i64), u64>> {
        let all = points(answer)?.into_iter();
        Some(
            all.map(|((labels, at), value)| ((labels.without_name(), at), value.to_bits()))
                .collect(),
        )
    };
    let is_about_names = match &case.expr.unparenthesised().kind {
        ExprKind::Call(call) => matches!(call.function.function, Function::Info | Function::LastOverTime),
        _ => false,
    };
    (case.is_delayed && is_about_names && (only_we_refuse || nameless(case.ours) == nameless(case.theirs)))
        .then_some("info, last_over_time: 3.5.3 forgets that a name is to be dropped; the scripts settle it")
}

fn of_call(case: &Smallest<'_>, call: &Call, what: Difference) -> Option<&'static str> {
    let values = || different_values(case.ours, case.theirs);
    match (call.function.function, what) {
        (Function::Info, _) if info_changed(case, call) => {
            Some("info(): 3.5.3 treats info series and matchers on their name otherwise; the scripts settle it")
        }
        (Function::MadOverTime, Difference::Values) if values().iter().all(|(ours, _)| ours.is_nan()) => {
            Some("mad_over_time: 3.5.3 passes over NaN; the scripts settle it")
        }
        (Function::HistogramFraction, Difference::Values) if values().iter().all(|(_, theirs)| theirs.is_nan()) => {
            Some("histogram_fraction: 3.5.3 gives NaN for a bound within a bucket that has no lower end")
        }
        (Function::Cosh | Function::Sinh, Difference::Values)
            if values()
                .iter()
                .all(|(ours, theirs)| ours.abs() > 1e307 && theirs.is_infinite()) =>
        {
            Some("cosh, sinh: Go's overflow early")
        }
        (Function::Ln | Function::Log10 | Function::Log2, Difference::Values) if is_of_subnormal(case) => {
            Some("ln: Go is wrong about subnormal numbers on x86")
        }
        (Function::Timestamp, _) if is_pinned_and_shifted(call) => {
            Some("timestamp: 3.5.3 forgets the offset of a selector that is pinned by @")
        }
        (Function::TsOfLastOverTime, Difference::Values) if values().iter().all(|(a, b)| *a < 0.0 && *b == 0.0) => {
            Some("ts_of_last_over_time: 3.5.3 takes times before 1970 for none")
        }
        (Function::SortByLabel | Function::SortByLabelDesc, Difference::Order)
            if same_but_for_zeros(case) || lacks_a_label(case, call) =>
        {
            Some(
                "sort_by_label: upstream's order goes both ways where numbers differ in leading zeros, or a label is not there",
            )
        }
        _ => None,
    }
}

/// What later versions of `info` do otherwise: `__name__` is no data label, info series stay as they are, of two info
/// series the newer counts, and they are looked up when the series are.
fn info_changed(case: &Smallest<'_>, call: &Call) -> bool {
    let names_metrics = |arg: &Expr| {
        arg.selectors()
            .iter()
            .any(|s| s.matchers.iter().any(|m| m.name() == "__name__"))
    };
    let asks_for_names = call.args.get(1).is_some_and(names_metrics);
    let of_info_series = call.args.first().is_some_and(|arg| arg.to_string().contains("_info"));
    let duplicate = case
        .theirs
        .result
        .as_ref()
        .is_err_and(|refusal| refusal.text.contains("found duplicate series for info metric"));
    let is_moved = call.args.first().is_some_and(|arg| {
        let text = arg.to_string();
        text.contains(" @ ") || text.contains(" offset ")
    });
    asks_for_names || of_info_series || duplicate || is_moved
}

fn of_aggregate(case: &Smallest<'_>, op: AggregateOp, grouping: &Grouping, what: Difference) -> Option<&'static str> {
    use AggregateOp as Op;
    let takes_some = matches!(op, Op::Topk | Op::Bottomk | Op::Limitk | Op::LimitRatio);
    if what == Difference::Refusal && takes_some && refuses_parameter(case.ours) {
        return Some(
            "a parameter that is NaN or endless is refused even where there are no series; the scripts settle it",
        );
    }
    if !matches!(what, Difference::Series | Difference::Times | Difference::Values) {
        return None;
    }
    let same_values = || {
        let all = |answer| by_group_and_time(answer, grouping, op);
        let close_all = |a: &Vec<f64>, b: &Vec<f64>| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| close(*x, *y));
        let (ours, theirs) = (all(case.ours).unwrap_or_default(), all(case.theirs).unwrap_or_default());
        ours.keys().eq(theirs.keys()) && ours.values().zip(theirs.values()).all(|(a, b)| close_all(a, b))
    };
    match op {
        Op::Topk | Op::Bottomk if same_values() => Some("topk: which of equal values is kept is left open"),
        Op::Limitk if same_values() => Some("limitk: which series are kept is left open"),
        Op::Stddev | Op::Stdvar
            if different_values(case.ours, case.theirs)
                .iter()
                .all(|(a, b)| nearly(*a, *b)) =>
        {
            Some("stddev: the order of series decides the last digits, and distances from a large mean lose the first")
        }
        Op::Sum | Op::Avg
            if different_values(case.ours, case.theirs)
                .iter()
                .all(|(a, b)| !(a.is_finite() && b.is_finite())) =>
        {
            Some("sum: the order of series decides whether it overflows on the way")
        }
        Op::CountValues if what == Difference::Series && case.is_close_below => {
            Some("count_values: the label shows the last digits")
        }
        _ => None,
    }
}

/// Upstream finds no samples where a range vector in parentheses is pinned by `@`.
fn of_matrix(case: &Smallest<'_>) -> Option<&'static str> {
    let refusal = case.theirs.result.as_ref().err()?;
    (refusal.text == "unexpected number of samples")
        .then_some("upstream trips over a pinned range vector in parentheses")
}

fn refuses_parameter(answer: &Answer) -> bool {
    let texts = [
        "Parameter value is NaN",
        "Ratio value is NaN",
        "overflows int64",
        "underflows int64",
    ];
    answer
        .result
        .as_ref()
        .is_err_and(|refusal| texts.iter().any(|text| refusal.text.contains(text)))
}

/// Alike in the first digits, or next to nothing.
fn nearly(a: f64, b: f64) -> bool {
    let (distance, size) = ((a - b).abs(), a.abs().max(b.abs()));
    a == b || a.is_nan() && b.is_nan() || distance <= 1e-4 * size || size < 1e-15
}

/// Whether two answers of upstream are the same but for the order of series.
fn same(a: &Answer, b: &Answer) -> bool {
    match (&a.result, &b.result) {
        (Ok(_), Ok(_)) => {
            let bits = |answer| {
                points(answer).map(|all| all.into_iter().map(|(key, v)| (key, v.to_bits())).collect::<Vec<_>>())
            };
            bits(a) == bits(b)
        }
        (a, b) => a.as_ref().err() == b.as_ref().err(),
    }
}

/// The pairs of values that differ.
fn different_values(ours: &Answer, theirs: &Answer) -> Vec<(f64, f64)> {
    let (Some(a), Some(b)) = (points(ours), points(theirs)) else {
        return Vec::new();
    };
    let pairs = a.iter().filter_map(|(key, x)| b.get(key).map(|y| (*x, *y)));
    pairs.filter(|(x, y)| !close(*x, *y)).collect()
}

/// All values by series and time.
fn points(answer: &Answer) -> Option<BTreeMap<(Labels, i64), f64>> {
    let series = answer.result.as_ref().ok()?.by_series()?;
    let all = series
        .into_iter()
        .flat_map(|(labels, points)| points.into_iter().map(move |(at, value)| ((labels.clone(), at), value)));
    Some(all.collect())
}

/// The values by group and time, in order; of `limitk` only how many there are.
fn by_group_and_time(
    answer: &Answer,
    grouping: &Grouping,
    op: AggregateOp,
) -> Option<BTreeMap<(Labels, i64), Vec<f64>>> {
    let mut groups: BTreeMap<(Labels, i64), Vec<f64>> = BTreeMap::new();
    for ((labels, at), value) in points(answer)? {
        let group = match grouping {
            Grouping::By(names) => {
                let mut names = names.clone();
                names.sort_unstable();
                labels.keep(&names)
            }
            Grouping::Without(names) => {
                let mut names = names.clone();
                names.push("__name__".to_owned());
                names.sort_unstable();
                labels.without(&names)
            }
        };
        let seen = match op {
            AggregateOp::Limitk => 0.0,
            _ if value.is_nan() => f64::NAN,
            _ => value,
        };
        groups.entry((group, at)).or_default().push(seen);
    }
    groups.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
    Some(groups)
}

/// Whether the argument is so small that it is stored with fewer digits.
fn is_of_subnormal(case: &Smallest<'_>) -> bool {
    // The logarithms of the smallest normal number are -708.4 and -307.7.
    different_values(case.ours, case.theirs)
        .iter()
        .all(|(ours, _)| *ours < -307.6)
}

fn is_pinned_and_shifted(call: &Call) -> bool {
    let Some(ExprKind::Vector(selector)) = call.args.first().map(|arg| &arg.unparenthesised().kind) else {
        return false;
    };
    selector.at.is_some() && selector.offset.is_some()
}

/// Whether the order is the same once zeros at the start of numbers are cut.
fn same_but_for_zeros(case: &Smallest<'_>) -> bool {
    let order = |answer: &Answer| match &answer.result {
        Ok(Outcome::Vector(samples)) => samples
            .iter()
            .map(|(labels, _, _)| without_leading_zeros(&labels.to_string()))
            .collect(),
        _ => Vec::new(),
    };
    order(case.ours) == order(case.theirs)
}

/// Whether some series lack a label that is sorted by.
fn lacks_a_label(case: &Smallest<'_>, call: &Call) -> bool {
    let Ok(Outcome::Vector(samples)) = &case.ours.result else {
        return false;
    };
    call.args.iter().skip(1).any(|arg| match &arg.kind {
        ExprKind::String(name) => samples.iter().any(|(labels, _, _)| labels.get(&name.value).is_none()),
        _ => false,
    })
}

fn without_leading_zeros(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let in_number = out.ends_with(|last: char| last.is_ascii_digit());
        if c != '0' || in_number {
            out.push(c);
        }
    }
    out
}

/// Whether we refuse a comparison because of pairs of series, more than one of which match.
fn only_dropped_pairs_match(case: &Smallest<'_>) -> bool {
    let ours = case.ours.result.as_ref();
    case.theirs.result.is_ok() && ours.is_err_and(|refusal| refusal.text.starts_with("multiple matches for labels"))
}

/// Why a text is judged otherwise, if that is known. `newer` are functions that 3.5.3 does not have.
pub(super) fn parse_reason(
    text: &str,
    ours: Option<&ParseError>,
    theirs: Option<&str>,
    newer: &[&str],
) -> Option<&'static str> {
    let ours = ours.map(ToString::to_string);
    match (ours, theirs) {
        (Some(ours), None) if ours.contains("unexpected character: '") && ours.ends_with("', expected ':'") => {
            Some("3.5.3 takes a stray letter within brackets for a colon")
        }
        (Some(ours), None) if ours.ends_with("no @ modifiers allowed before range") => {
            Some("3.5.3 lets `@ start()` stand before a range")
        }
        (None, Some(theirs)) if theirs.ends_with("duration must be greater than 0") => Some(
            "a duration below zero in parentheses or behind signs is refused when it is evaluated in later versions",
        ),
        (None, Some(_)) if newer.iter().any(|name| text.contains(&format!("{name}("))) => {
            Some("a function that is newer than 3.5.3")
        }
        _ => None,
    }
}
