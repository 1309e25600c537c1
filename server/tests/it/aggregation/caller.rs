//! Those who ask for metrics, over connections that they keep.

use crate::tls_client::{Pair, config};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Keeps its connections.
pub(super) struct Caller {
    client: reqwest::Client,
    base: String,
    runtime: Runtime,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Caller {
    /// One who asks `name` at an address, believes these authorities, and shows a certificate if it has one.
    pub(super) fn new(name: &str, address: SocketAddr, believed: &str, shown: Option<&Pair>) -> Self {
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(config(believed, shown, &["h2", "http/1.1"]))
            .resolve(name, address)
            .timeout(Duration::from_secs(30));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self {
            client: client.build().expect("a client"),
            base: format!("https://{name}:{}", address.port()),
            runtime: runtime.expect("a runtime"),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// If there is no agreement on a connection.
    pub(super) fn try_ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let method = method.parse().expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.map_err(|e| format!("{e:?}"))?;
            let kind = answer.headers().get("content-type");
            Ok(Answer {
                status: answer.status().as_u16(),
                kind: kind.map_or(String::new(), |kind| kind.to_str().expect("a text").to_owned()),
                text: answer.text().await.map_err(|e| format!("{e:?}"))?,
            })
        })
    }

    pub(super) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_ask("GET", path, headers).expect("an answer")
    }
}
