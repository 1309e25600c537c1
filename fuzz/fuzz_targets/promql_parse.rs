//! Any text: the parser gives a tree or an error, and what it accepts survives printing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegauge_query::parser::{Features, ParseOptions, parse, parse_metric, parse_metric_selector};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let options = ParseOptions::with_features(Features::ALL);
    match parse(&text, &options) {
        Ok(expr) => {
            for printed in [expr.to_string(), expr.pretty(), expr.pretty_within(10)] {
                match parse(&printed, &options) {
                    Ok(again) => assert_eq!(again, expr, "printed as {printed}"),
                    Err(error) => panic!("printed as {printed}: {error}"),
                }
            }
        }
        Err(error) => {
            let _ = (error.to_string(), error.with_caret(&text));
        }
    }
    let _ = parse_metric_selector(&text, &options);
    let _ = parse_metric(&text, &options);
});
