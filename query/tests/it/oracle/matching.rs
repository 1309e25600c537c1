//! Binary operators.

use super::walk::{METADATA, Walk};
use super::{Answer, Failure, Item, Outcome, refused};
use tidegauge_model::{Labels, LabelsBuilder};
use tidegauge_query::parser::{Binary, BinaryOp, Cardinality, MatchOn, VectorMatching};

impl Walk<'_> {
    pub(super) fn binary(&self, binary: &Binary, at: i64) -> Outcome<Answer> {
        let (op, as_bool) = (binary.op, binary.return_bool);
        if matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
            return Err(Failure::Unsupported("an operator of native histograms"));
        }
        let (lhs, rhs) = (self.value(&binary.lhs, at)?, self.value(&binary.rhs, at)?);
        Ok(match (lhs, rhs) {
            (Answer::Scalar(l), Answer::Scalar(r)) => Answer::Scalar(match compared(op, l, r) {
                Some(holds) => f64::from(holds),
                None => computed(op, l, r),
            }),
            (Answer::Vector(items), Answer::Scalar(r)) => {
                Answer::Vector(self.with_scalar(binary, items, |value| (value, r))?)
            }
            (Answer::Scalar(l), Answer::Vector(items)) => {
                Answer::Vector(self.with_scalar(binary, items, |value| (l, value))?)
            }
            (Answer::Vector(l), Answer::Vector(r)) => {
                let matching = binary.matching.as_ref();
                let key = |labels: &Labels| key(matching, labels);
                let in_both = |l: &Item| r.iter().any(|r| key(&r.labels) == key(&l.labels));
                Answer::Vector(match op {
                    BinaryOp::And => l.iter().filter(|l| in_both(l)).cloned().collect(),
                    BinaryOp::Unless => l.iter().filter(|l| !in_both(l)).cloned().collect(),
                    BinaryOp::Or => {
                        let is_new = |r: &&Item| !l.iter().any(|l| key(&l.labels) == key(&r.labels));
                        let more: Vec<Item> = r.iter().filter(is_new).cloned().collect();
                        self.distinct([l, more].concat())?
                    }
                    _ => self.matched(op, as_bool, matching, l, r)?,
                })
            }
            _ => return refused("operands must be scalars or instant vectors"),
        })
    }

    fn with_scalar(&self, binary: &Binary, items: Vec<Item>, sides: impl Fn(f64) -> (f64, f64)) -> Outcome<Vec<Item>> {
        let op = binary.op;
        let mut out = Vec::new();
        for item in items {
            let (l, r) = sides(item.value);
            match compared(op, l, r) {
                // A comparison keeps or drops the sample as it is.
                Some(true) if !binary.return_bool => out.push(item),
                Some(false) if !binary.return_bool => {}
                Some(holds) => out.push(Item {
                    value: f64::from(holds),
                    ..self.nameless(item)
                }),
                None => out.push(Item {
                    value: computed(op, l, r),
                    ..self.nameless(item)
                }),
            }
        }
        self.distinct(out)
    }

    /// One-to-one and many-to-one matching. The side of which many may match is called many, also if one matches one.
    fn matched(
        &self,
        op: BinaryOp,
        as_bool: bool,
        matching: Option<&VectorMatching>,
        lhs: Vec<Item>,
        rhs: Vec<Item>,
    ) -> Outcome<Vec<Item>> {
        let cardinality = matching.map_or(Cardinality::OneToOne, |m| m.cardinality);
        // As upstream, fills stay where they are when the sides are swapped.
        let (fill_many, fill_one) = matching.map_or((None, None), |m| (m.fill_left, m.fill_right));
        let nothing = lhs.is_empty() && rhs.is_empty();
        if nothing || (lhs.is_empty() || rhs.is_empty()) && fill_many.is_none() && fill_one.is_none() {
            return Ok(Vec::new());
        }
        let swapped = cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let key = |labels: &Labels| key(matching, labels);
        for (i, item) in one.iter().enumerate() {
            if one[..i].iter().any(|other| key(&other.labels) == key(&item.labels)) {
                return refused("found duplicate series for the match group");
            }
        }
        // The pairs: each of the many with its one, or with a fill; each one that none of the many has with a fill.
        let filler = |value: f64, other: &Item| Item {
            labels: key(&other.labels),
            value,
            drop_name: false,
        };
        let mut pairs: Vec<(Item, Item)> = Vec::new();
        for item in &many {
            let found = one.iter().find(|o| key(&o.labels) == key(&item.labels)).cloned();
            if let Some(other) = found.or_else(|| fill_one.map(|value| filler(value, item))) {
                pairs.push((item.clone(), other));
            }
        }
        for item in &one {
            let taken = many.iter().any(|m| key(&m.labels) == key(&item.labels));
            if let Some(value) = fill_many.filter(|_| !taken) {
                pairs.push((filler(value, item), item.clone()));
            }
        }
        let mut out = Vec::new();
        let mut seen: Vec<(Labels, Labels)> = Vec::new();
        for (many, one) in pairs {
            let group = key(&many.labels);
            let mut labels = result_labels(op, matching, &many.labels, &one.labels);
            if as_bool && !self.oracle.delayed_names {
                labels = labels.without(&METADATA);
            }
            let twice =
                |(g, l): &(Labels, Labels)| *g == group && (cardinality == Cardinality::OneToOne || *l == labels);
            if seen.iter().any(twice) {
                return refused("multiple matches for labels");
            }
            seen.push((group, labels.clone()));
            let (l, r) = if swapped {
                (one.value, many.value)
            } else {
                (many.value, one.value)
            };
            let value = match compared(op, l, r) {
                Some(holds) if as_bool => f64::from(holds),
                Some(false) => continue,
                Some(true) => l,
                None => computed(op, l, r),
            };
            out.push(Item {
                labels,
                value,
                drop_name: as_bool,
            });
        }
        self.distinct(out)
    }
}

/// The labels by which series match.
fn key(matching: Option<&VectorMatching>, labels: &Labels) -> Labels {
    let listed = |name: &str| matching.is_some_and(|m| m.labels.iter().any(|l| l == name));
    let on = matching.is_some_and(|m| m.match_on == MatchOn::On);
    let counts = |name: &str| {
        if on {
            listed(name)
        } else {
            !listed(name) && name != "__name__"
        }
    };
    Labels::from_sorted(labels.iter().filter(|(name, _)| counts(name)))
}

fn result_labels(op: BinaryOp, matching: Option<&VectorMatching>, many: &Labels, one: &Labels) -> Labels {
    let mut builder = LabelsBuilder::from_labels(many);
    if !op.is_comparison() {
        METADATA.iter().for_each(|name| {
            builder.remove(name);
        });
    }
    let Some(matching) = matching else {
        return builder.build();
    };
    if matching.cardinality == Cardinality::OneToOne {
        let on = matching.match_on == MatchOn::On;
        builder.retain(|name, _| on == matching.labels.iter().any(|l| l == name));
    }
    for name in &matching.include {
        builder.set(name, one.value(name));
    }
    builder.build()
}

/// What a comparison says; `None` for other operators.
fn compared(op: BinaryOp, l: f64, r: f64) -> Option<bool> {
    Some(match op {
        BinaryOp::Eq => l == r,
        BinaryOp::Ne => l != r,
        BinaryOp::Lt => l < r,
        BinaryOp::Le => l <= r,
        BinaryOp::Gt => l > r,
        BinaryOp::Ge => l >= r,
        _ => return None,
    })
}

fn computed(op: BinaryOp, l: f64, r: f64) -> f64 {
    match op {
        BinaryOp::Add => l + r,
        BinaryOp::Sub => l - r,
        BinaryOp::Mul => l * r,
        BinaryOp::Div => l / r,
        BinaryOp::Mod => l % r,
        BinaryOp::Pow => l.powf(r),
        BinaryOp::Atan2 => l.atan2(r),
        _ => unreachable!("{op:?} computes nothing"),
    }
}
