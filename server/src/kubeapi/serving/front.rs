//! What every request of the metrics APIs comes to first: who asks, whether they may, then the routes.
//!
//! ```text
//!   listener -> front: path -> who (front proxy, certificate, token; else 401) -> may they (review; else 403)
//!                        -> GET alone -> the path as it was understood -> routes
//! ```
//!
//! What only a front proxy may say is taken out of each request before anything else sees it.

use super::attributes::{Attributes, Path, Resource};
use super::discovery;
use super::groups::Group;
use super::metrics::Metrics;
use super::remembered::{Remembered, Tagger};
use super::reviews::{Decision, Reviews};
use super::trust::{NAME, NAMESPACE, Shown};
use super::trusted::Trusted;
use super::user::User;
use crate::http::Presented;
use crate::kubeapi::status::Failure;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Uri, header, uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::UnixTime;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tidegauge_model::Clock;
use tower::{Service, ServiceExt};

/// What a segment of a path may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'*')
    .remove(b':');
/// For how long a certificate that was looked at counts as good.
const CERTIFICATE_COUNTS: Duration = Duration::from_secs(10);
/// How many certificates are remembered.
const CERTIFICATES: usize = 256;

/// Lets requests through to the routes.
#[derive(Debug, Clone)]
pub(super) struct Front(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trusted: Arc<Trusted>,
    reviews: Arc<Reviews>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    uri_bytes: usize,
    /// Who showed a certificate, by its hash and the version of what is believed.
    shown: Remembered<Result<Shown, Arc<str>>>,
    tagger: Tagger,
    routes: Router,
}

impl Front {
    /// Before these routes. A URL may have so many bytes.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub(super) fn new(
        trusted: Arc<Trusted>,
        reviews: Arc<Reviews>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        uri_bytes: usize,
        routes: Router,
    ) -> Result<Self, String> {
        Ok(Self(Arc::new(Inner {
            trusted,
            reviews,
            clock,
            metrics,
            uri_bytes,
            shown: Remembered::new(CERTIFICATES, CERTIFICATE_COUNTS),
            tagger: Tagger::new()?,
            routes,
        })))
    }
}

impl Inner {
    async fn answer(&self, request: Request) -> Response {
        let begun = Instant::now();
        let group = Group::of_path(request.uri().path());
        let answered = AssertUnwindSafe(self.admit(request)).catch_unwind().await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => failure.into_response(),
            Err(_) => {
                tracing::error!("answering a request of the Kubernetes metrics APIs panicked; this is a defect");
                Failure::internal("unexpected error: the handler failed; see tidegauge's log").into_response()
            }
        };
        self.metrics.observe(group, response.status().as_u16(), begun.elapsed());
        response
    }

    async fn admit(&self, mut request: Request) -> Result<Response, Failure> {
        let uri = request.uri();
        if uri.path_and_query().map_or(0, |uri| uri.as_str().len()) > self.uri_bytes {
            let most = self.uri_bytes;
            return Err(Failure::bad_request(format!(
                "path and query have more than {most} bytes (--web.max-url-size)"
            )));
        }
        let path = Path::read(uri.path()).map_err(Failure::bad_request)?;
        let wanted = Attributes::of(request.method(), &path, uri.query());
        if !discovery::is_open(&path) {
            let presented = request.extensions().get::<Presented>();
            let user = self.who(presented, request.headers()).await?;
            self.may(&user, &path, &wanted).await?;
        }
        if *request.method() != Method::GET {
            return Err(Failure::method_not_allowed());
        }
        if let Ok(trust) = self.trusted.now() {
            trust.strip(request.headers_mut());
        }
        *request.uri_mut() = understood(&path, request.uri())?;
        let routes = self.routes.clone();
        Ok(routes.oneshot(request).await.unwrap_or_else(|never| match never {}))
    }

    /// Who asks.
    async fn who(&self, presented: Option<&Presented>, headers: &HeaderMap) -> Result<User, Failure> {
        let shown = match presented {
            Some(presented) => Some(self.certificate(presented).await),
            None => None,
        };
        let user = match &shown {
            Some(Ok(Shown::Front(own))) => {
                let named = self.trusted.now().ok().and_then(|trust| trust.named(headers));
                named.or_else(|| own.clone())
            }
            Some(Ok(Shown::Client(user))) => Some(user.clone()),
            Some(Err(Unbelieved::Refused(why))) => {
                tracing::debug!(%why, "a certificate is not believed any more");
                None
            }
            Some(Err(Unbelieved::Unknown(_))) | None => None,
        };
        let user = match (user, bearer(headers)) {
            (None, Some(token)) => self.reviews.whose(token).await.map_err(Failure::internal)?,
            (user, _) => user,
        };
        match (user, shown) {
            (Some(user), _) => Ok(user.authenticated()),
            (None, Some(Err(Unbelieved::Unknown(why)))) => Err(Failure::unavailable(why)),
            (None, _) => Err(Failure::unauthorized()),
        }
    }

    /// Who has shown a certificate.
    async fn certificate(&self, presented: &Presented) -> Result<Shown, Unbelieved> {
        let version = self.trusted.version();
        let trust = self.trusted.now().map_err(|why| {
            Unbelieved::Unknown(format!(
                "tidegauge does not know whose certificates to believe: {why}; it needs the Role \
                 \"extension-apiserver-authentication-reader\" in namespace \"{NAMESPACE}\" to read the ConfigMap {NAME:?}"
            ))
        })?;
        let version = version.to_le_bytes();
        let texts = std::iter::once(&version[..]).chain(presented.0.iter().map(|cert| &**cert));
        let looked = async {
            let now = u64::try_from(self.clock.now().millis() / 1000).unwrap_or_default();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            let who = trust.who(&presented.0, now).map_err(|why| why.to_string().into());
            Ok::<_, Infallible>(who)
        };
        let looked = self.shown.or_ask(self.tagger.tag(texts), looked).await;
        looked
            .unwrap_or_else(|never| match never {})
            .map_err(Unbelieved::Refused)
    }

    /// Whether they may.
    async fn may(&self, user: &User, path: &Path, wanted: &Attributes) -> Result<(), Failure> {
        if discovery::is_for_everyone(path, wanted) {
            return Ok(());
        }
        match self.reviews.may(user, wanted).await {
            Ok(Decision::Allowed) => Ok(()),
            Ok(Decision::Denied(why)) => Err(Failure::forbidden(refusal(user, wanted, &why))),
            Err(why) => Err(Failure::internal(why)),
        }
    }
}

/// Why a certificate says nothing of who asks.
#[derive(Debug)]
enum Unbelieved {
    /// It is not to be believed.
    Refused(Arc<str>),
    /// Nobody knows whom to believe.
    Unknown(String),
}

/// The token that a request shows.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The URI of a path as it was understood, so that the routes understand the same.
fn understood(path: &Path, of: &Uri) -> Result<Uri, Failure> {
    let segments = path.segments();
    let mut text: String = segments
        .iter()
        .flat_map(|segment| ["/".to_owned(), utf8_percent_encode(segment, PLAIN).to_string()])
        .collect();
    if text.is_empty() {
        text.push('/');
    }
    if let Some(query) = of.query() {
        text = format!("{text}?{query}");
    }
    let path = uri::PathAndQuery::try_from(text).map_err(|e| Failure::bad_request(e.to_string()))?;
    Ok(Uri::from(path))
}

/// In the API server's words.
fn refusal(user: &User, wanted: &Attributes, why: &str) -> String {
    let name = &user.name;
    let mut told = match wanted {
        Attributes::Path { verb, path } => format!("forbidden: User {name:?} cannot {verb} path {path:?}"),
        Attributes::Resource(wanted) => {
            let Resource {
                verb,
                group,
                resource,
                subresource,
                namespace,
                name: object,
                ..
            } = wanted;
            let of = if group.is_empty() { "" } else { "." };
            let object = if object.is_empty() {
                String::new()
            } else {
                format!(" {object:?}")
            };
            let sub = if subresource.is_empty() {
                String::new()
            } else {
                format!("/{subresource}")
            };
            let place = match namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            format!(
                "{resource}{of}{group}{object} is forbidden: User {name:?} cannot {verb} resource \"{resource}{sub}\" in API \
                 group {group:?} {place}"
            )
        }
    };
    if !why.is_empty() {
        told.push_str(": ");
        told.push_str(why);
    }
    told
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { Ok(inner.answer(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::reviews::tests::Told;
    use super::super::trust::Trust;
    use super::super::trust::tests::{Authority, config_map};
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::extract::Path as Segments;
    use axum::http::StatusCode;
    use axum::routing::get;
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use serde_json::{Value, json};
    use tidegauge_model::Timestamp;
    use tidegauge_model::testing::HandClock;

    /// One whose only route tells what of the request has come to it.
    fn front(trusted: &Arc<Trusted>, told: &Told) -> Front {
        let seen = async |Segments(of): Segments<Vec<String>>, headers: HeaderMap| format!("{of:?} {}", headers.len());
        let routes = Router::new()
            .route(
                "/apis/{group}/{version}/namespaces/{namespace}/pods/{name}/{metric}",
                get(seen),
            )
            .route("/apis/broken/v1/x", get(async || -> String { panic!("on purpose") }))
            .fallback(discovery::elsewhere);
        let reviews = Arc::new(Reviews::new(Box::new(told.clone()), 8).unwrap());
        let clock = Arc::new(HandClock::at(Timestamp::from_millis(1_800_000_000_000)));
        Front::new(Arc::clone(trusted), reviews, clock, Arc::default(), 1000, routes).unwrap()
    }

    async fn ask(
        front: &Front,
        uri: &str,
        shown: Option<&CertificateDer<'static>>,
        headers: &[(&str, &str)],
    ) -> (StatusCode, String) {
        let mut request = Request::get(uri).body(Body::empty()).unwrap();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        if let Some(shown) = shown {
            request.extensions_mut().insert(Presented(vec![shown.clone()].into()));
        }
        let answer = front.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    const METRIC: &str = "/apis/custom.metrics.k8s.io/v1beta2//namespaces/shop/pods/%2A/a%20b?labelSelector=x";
    const ALICE: &[(&str, &str)] = &[("x-remote-user", "alice"), ("x-remote-extra-a", "b"), ("accept", "*/*")];

    #[tokio::test]
    async fn what_is_asked_about_and_what_is_answered_are_one_and_the_same() {
        let (proxies, trusted, told) = (Authority::new("f"), Arc::<Trusted>::default(), Told::default());
        trusted.set(Trust::read(&config_map(&proxies, &Authority::new("c"))));
        let (front, shown) = (front(&trusted, &told), proxies.client("front-proxy-client", &[]));
        told.answer(201, json!({"status": {"allowed": true}}));
        let (status, text) = ask(&front, METRIC, Some(&shown), ALICE).await;
        let seen = r#"["custom.metrics.k8s.io", "v1beta2", "shop", "*", "a b"] 1"#;
        assert_eq!(
            (status, &*text),
            (StatusCode::OK, seen),
            "and of the headers one is left"
        );
        let asked = &told.asked()[0]["spec"]["resourceAttributes"];
        assert_eq!((&asked["name"], &asked["subresource"]), (&"*".into(), &"a b".into()));
        for uri in [
            "/apis/a%2Fb/v1/x",
            "/apis/g/v1/namespaces/%2e%2e/pods",
            &format!("/{}", "x".repeat(1001)),
        ] {
            assert_eq!(
                ask(&front, uri, Some(&shown), ALICE).await.0,
                StatusCode::BAD_REQUEST,
                "{uri}"
            );
        }
        assert_eq!(told.asked().len(), 1);
    }

    #[tokio::test]
    async fn nobody_is_let_in_where_nobody_can_tell() {
        let (proxies, trusted, told) = (Authority::new("f"), Arc::<Trusted>::default(), Told::default());
        let (front, shown) = (front(&trusted, &told), proxies.client("front-proxy-client", &[]));
        let asked = async |shown: Option<&CertificateDer<'static>>| ask(&front, METRIC, shown, ALICE).await;
        let (status, text) = asked(Some(&shown)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("extension-apiserver-authentication-reader"), "{text}");
        assert_eq!(asked(None).await.0, StatusCode::UNAUTHORIZED);
        trusted.set(Trust::read(&config_map(&proxies, &Authority::new("c"))));
        let (status, text) = asked(Some(&shown)).await;
        assert_eq!(
            (status, text.contains("nobody is there")),
            (StatusCode::INTERNAL_SERVER_ERROR, true),
            "{text}"
        );
        // The same certificate, when another authority is to be believed.
        told.answer(201, json!({"status": {"allowed": true}}));
        assert_eq!(asked(Some(&shown)).await.0, StatusCode::OK);
        trusted.set(Trust::read(&config_map(&Authority::new("f"), &Authority::new("c"))));
        assert_eq!(asked(Some(&shown)).await.0, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_in_the_words_of_kubernetes() {
        let (proxies, trusted, told) = (Authority::new("f"), Arc::<Trusted>::default(), Told::default());
        trusted.set(Trust::read(&config_map(&proxies, &Authority::new("c"))));
        told.answer(201, json!({"status": {"allowed": true}}));
        let shown = proxies.client("front-proxy-client", &[]);
        let (status, text) = ask(&front(&trusted, &told), "/apis/broken/v1/x", Some(&shown), ALICE).await;
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status.as_u16(), &told["kind"]), (500, &"Status".into()));
    }

    proptest! {
        #[test]
        fn a_path_is_understood_as_it_was_read(segments in prop::collection::vec("[a-c*.:~%/ \u{e9}\0]{0,4}", 0..6)) {
            let encoded = segments.iter().map(|one| utf8_percent_encode(one, PLAIN).to_string());
            let text = format!("/{}", encoded.collect::<Vec<_>>().join("/"));
            let odd = |one: &String| one.contains(['/', '\0']) || matches!(one.as_str(), "." | "..");
            match Path::read(&text) {
                Ok(path) => {
                    prop_assert!(!segments.iter().any(odd), "{}", text);
                    let again = understood(&path, &Uri::from_static("/x?a=b")).map_err(|_| TestCaseError::fail(text))?;
                    prop_assert_eq!(Path::read(again.path()), Ok(path));
                    prop_assert_eq!(again.query(), Some("a=b"));
                }
                Err(_) => prop_assert!(segments.iter().any(odd), "{}", text),
            }
        }
    }

    #[test]
    fn a_token_is_found_and_nothing_else() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer(&headers), token, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
