//! A classic histogram: values counted by upper bounds.

/// Counts values by bounds that are known from the start.
#[derive(Debug)]
pub(super) struct Histogram {
    /// In ascending order; `+Inf` follows.
    bounds: &'static [f64],
    /// By bound, the last for what is beyond them; not cumulative.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    pub(super) fn observe(&mut self, value: f64) {
        let at = self.bounds.iter().position(|bound| value <= *bound);
        if let Some(count) = self.counts.get_mut(at.unwrap_or(self.bounds.len())) {
            *count += 1;
        }
        self.sum += value;
    }

    /// The samples for `/metrics`: buckets, and the two others with the end of their name in a label without one.
    pub(super) fn samples(&self, labels: &[(&'static str, String)]) -> Vec<(Vec<(&'static str, String)>, f64)> {
        let with = |name: &'static str, value: String| {
            let mut labels = labels.to_vec();
            labels.push((name, value));
            labels
        };
        let mut samples = Vec::with_capacity(self.counts.len() + 2);
        let mut total = 0;
        let bounds = self.bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            total += count;
            samples.push((with("le", bound), total as f64));
        }
        samples.push((with("", "_sum".to_owned()), self.sum));
        samples.push((with("", "_count".to_owned()), total as f64));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::new(&[1.0, 10.0]);
        for value in [0.5, 1.0, 2.0, 11.0] {
            histogram.observe(value);
        }
        let values: Vec<f64> = histogram.samples(&[]).iter().map(|(_, value)| *value).collect();
        assert_eq!(values, [2.0, 3.0, 4.0, 14.5, 4.0]);
    }
}
