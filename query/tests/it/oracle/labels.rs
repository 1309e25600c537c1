//! What calls do to labels.

use super::walk::{Walk, only_once};
use super::{Item, Outcome, refused};
use regex::{Captures, Regex};
use tidegauge_model::{Labels, LabelsBuilder, MatchOp, Matcher, from_re2};
use tidegauge_query::parser::{Call, Expr, ExprKind, Function};

/// What a label becomes, if it does.
type NewValue<'a> = dyn Fn(&Labels) -> Option<String> + 'a;

/// A text argument.
pub(super) fn text(arg: Option<&Expr>) -> &str {
    match arg.map(|a| &a.unparenthesised().kind) {
        Some(ExprKind::String(text)) => &text.value,
        _ => "",
    }
}

/// The parser has put U+FFFD where a text was no UTF-8.
pub(super) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('\u{fffd}')
}

/// A label set with one label more, or another value, or (empty) less.
pub(super) fn with(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut builder = LabelsBuilder::from_labels(labels);
    builder.set(name, value);
    builder.build()
}

impl Walk<'_> {
    /// `label_replace` and `label_join`.
    pub(super) fn relabelled(&self, call: &Call, at: i64) -> Outcome<Vec<Item>> {
        let arg = |index: usize| text(call.args.get(index));
        let target = arg(1);
        let mut items = self.vector(&call.args[0], at)?;
        if !is_label_name(target) {
            return refused("invalid destination label name");
        }
        let value: Box<NewValue<'_>> = if call.function.function == Function::LabelReplace {
            let (template, source) = (arg(2), arg(3));
            let pattern = from_re2(arg(4))
                .ok()
                .and_then(|p| Regex::new(&format!("^(?s:{p})$")).ok());
            let Some(pattern) = pattern else {
                return refused("invalid regular expression");
            };
            Box::new(move |labels| {
                pattern
                    .captures(labels.value(source))
                    .map(|found| filled(template, &found))
            })
        } else {
            let sources: Vec<&str> = (3..call.args.len()).map(arg).collect();
            if sources.iter().any(|s| !is_label_name(s)) {
                return refused("invalid source label name");
            }
            let separator = arg(2);
            Box::new(move |labels| {
                let values: Vec<&str> = sources.iter().map(|s| labels.value(s)).collect();
                Some(values.join(separator))
            })
        };
        for item in &mut items {
            if let Some(value) = value(&item.labels) {
                item.labels = with(&item.labels, target, &value);
                if target == "__name__" {
                    item.drop_name = false;
                }
            }
        }
        only_once(items.iter().map(|i| &i.labels))?;
        Ok(items)
    }

    /// One series where there is none, with the labels that a selector asks for.
    pub(super) fn absence(&self, arg: &Expr, nothing: bool) -> Vec<Item> {
        let matchers: &[Matcher] = match &arg.unparenthesised().kind {
            ExprKind::Vector(selector) => &selector.matchers,
            ExprKind::Matrix(selector) => &selector.vector.matchers,
            _ => &[],
        };
        let mut labels = LabelsBuilder::new();
        let mut seen: Vec<&str> = Vec::new();
        for matcher in matchers.iter().filter(|m| m.name() != "__name__") {
            // A label that is asked for twice is not known.
            if matcher.op() == MatchOp::Equal && !seen.contains(&matcher.name()) {
                labels.set(matcher.name(), matcher.value());
                seen.push(matcher.name());
            } else {
                labels.remove(matcher.name());
            }
        }
        let item = Item {
            labels: labels.build(),
            value: 1.0,
            drop_name: false,
        };
        if nothing { vec![item] } else { Vec::new() }
    }
}

/// A template of Go's: `$1`, `${1}`, `$name`, `$$`; what is malformed stays as it is.
fn filled(template: &str, found: &Captures<'_>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (in_braces, body) = match rest.strip_prefix('{') {
            Some(body) => (true, body),
            None => (false, rest),
        };
        let end = body
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(body.len());
        let (name, after) = body.split_at(end);
        let after = if in_braces {
            after.strip_prefix('}')
        } else {
            Some(after)
        };
        let Some(after) = after.filter(|_| !name.is_empty()) else {
            out.push('$');
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(number) if name.bytes().all(|b| b.is_ascii_digit()) => found.get(number),
            _ => found.name(name),
        };
        out.push_str(group.map_or("", |m| m.as_str()));
        rest = after;
    }
    out + rest
}
