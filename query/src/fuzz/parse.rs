//! Any text: the parser gives a tree or an error, and what it accepts survives printing.

use crate::parser::{Features, ParseOptions, parse, parse_metric, parse_metric_selector};

/// Parses a text in every way there is.
pub(super) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let options = ParseOptions::with_features(Features::ALL);
    match parse(&text, &options) {
        Ok(expr) => {
            for printed in [expr.to_string(), expr.pretty(), expr.pretty_within(10)] {
                let again = parse(&printed, &options).map_err(|error| error.to_string());
                assert_eq!(again, Ok(expr.clone()), "printed as {printed}");
            }
        }
        Err(error) => {
            let _texts = (error.to_string(), error.with_caret(&text));
        }
    }
    let _selector = parse_metric_selector(&text, &options);
    let _metric = parse_metric(&text, &options);
}

/// Every part of the language.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "up{job=\"node\", instance!~'a.*|', x=``} offset -5m @ 1609746000.5",
        "{\"my.metric\", \"label.x\"=\"y\\n\\xff\"}[5m:30s] @ end() offset 1h",
        "sum by (job) (rate(http_requests_total[5m])) / ignoring (code) group_left (a, b) count(up) > bool 0x1F",
        "topk(3, -a ^ 2 ^ b) # comment\n unless on () (c or d and e atan2 f)",
        "histogram_quantile(0.9, sum without (pod) (increase(x_bucket[1h30m])))",
        "label_replace(up, \"dst\", \"$1-${n}\", \"src\", \"(?P<n>.*)\")",
        "count_values(\"v\", limit_ratio(-0.5, x)) + 1e3_0 - Inf * NaN % .5",
        "rate(x[5m] smoothed) + delta(x[step() * 2 + min_of(1m, range())] anchored) </ 5",
        "a + fill_left (0) fill_right (-1) b == on (x) group_right () c",
        "quantile_over_time(0.5, (a - b)[1d:] offset -(-7m))",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
