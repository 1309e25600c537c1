//! What is told of a panic: where it was counted, and one line of the log with the request that met it.
//!
//! A panic is a defect. Of the request its method, its path and the parameters that the API knows stand in the log, as far
//! as the URL holds them: enough to ask again. Whatever else a URL may carry is left out, and so are headers and bodies:
//! there may be secrets in them.

use axum::http::{Method, Uri};
use percent_encoding::percent_decode_str;
use std::any::Any;

/// The name and help of the metric.
pub(super) const PANICS: (&str, &str) = (
    "tidegauge_http_panics_total",
    "Panics while a request was answered, each a defect, by place: in a handler, around it, or in the body of an answer.",
);

/// What is logged of a request is cut behind so many characters.
const LOGGED_CHARS: usize = 1000;

/// The parameters that are logged.
const LOGGED: [&str; 9] = [
    "query",
    "match[]",
    "start",
    "end",
    "time",
    "step",
    "limit",
    "timeout",
    "lookback_delta",
];

/// Where a panic was caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a handler or in what it waits for.
    Handler,
    /// Around the handlers: who may ask, or the log of requests.
    Around,
    /// While an answer was written.
    Body,
}

impl Place {
    pub(super) fn labels(self) -> Vec<(&'static str, String)> {
        let place = match self {
            Self::Handler => "handler",
            Self::Around => "around",
            Self::Body => "body",
        };
        vec![("place", place.to_owned())]
    }
}

/// A request, as far as it is told of if it meets a panic.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    method: Method,
    uri: Uri,
}

impl Asked {
    pub(super) fn of<B>(request: &axum::http::Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
        }
    }

    pub(super) fn log(&self, panic: &(dyn Any + Send)) {
        tracing::error!(
            request = self.told(),
            panic = text(panic),
            "answering a request panicked; this is a defect"
        );
    }

    /// Method, path and known parameters, in one line.
    fn told(&self) -> String {
        let mut told = format!("{} {}", self.method, self.uri.path());
        let pairs = self.uri.query().unwrap_or_default().split('&');
        let mut before = '?';
        for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
            if LOGGED.contains(&&*percent_decode_str(name).decode_utf8_lossy()) {
                told.push(before);
                told.push_str(name);
                told.push('=');
                told.push_str(value);
                before = '&';
            }
        }
        match told.char_indices().nth(LOGGED_CHARS) {
            Some((at, _)) => told.get(..at).unwrap_or_default().to_owned() + "...",
            None => told,
        }
    }
}

/// What a panic says.
pub(super) fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    #[test]
    fn what_is_told_of_a_request_holds_no_more_than_serves_to_ask_again() {
        for (uri, told) in [
            (
                "/api/v1/query?query=up&token=hunter2&time=1",
                "GET /api/v1/query?query=up&time=1",
            ),
            (
                "/p/series?match%5B%5D=up&match[]=a&access_token=x",
                "GET /p/series?match%5B%5D=up&match[]=a",
            ),
            ("/metrics?x", "GET /metrics"),
        ] {
            let asked = Asked::of(&Request::get(uri).body(()).unwrap());
            assert_eq!(asked.told(), told);
        }
        let long = format!("/{}", "é".repeat(3000));
        let uri = Uri::try_from(percent_encoding::utf8_percent_encode(&long, percent_encoding::CONTROLS).to_string());
        let asked = Asked::of(&Request::get(uri.unwrap()).body(()).unwrap());
        assert_eq!(asked.told().len(), LOGGED_CHARS + 3);
    }
}
