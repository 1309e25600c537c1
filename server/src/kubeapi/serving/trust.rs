//! Whose certificates and headers are believed, as the cluster says: the ConfigMap `extension-apiserver-authentication`.
//!
//! A front proxy, which is the API server's aggregator, shows a certificate of the *request header* authority and says in
//! headers who asks. A client that comes by itself shows one of the *client* authority, and is whom it names.

use super::pair::common_name;
use super::user::User;
use axum::http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, RootCertStore};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where the cluster says it.
pub(super) const NAMESPACE: &str = "kube-system";
/// The ConfigMap's name.
pub(super) const NAME: &str = "extension-apiserver-authentication";

/// Whom to believe.
#[derive(Debug, Default)]
pub(super) struct Trust {
    front: Option<Front>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// What a front proxy must show, and how it says who asks.
#[derive(Debug)]
struct Front {
    authorities: Arc<dyn ClientCertVerifier>,
    /// Common names of which a certificate must have one; none: any will do.
    names: BTreeSet<String>,
    users: Vec<HeaderName>,
    uids: Vec<HeaderName>,
    groups: Vec<HeaderName>,
    /// What the names of headers with more begin with, in small letters.
    extras: Vec<String>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// A front proxy; whom the certificate itself names counts if no header does.
    Front(Option<User>),
    /// Somebody for themselves.
    Client(User),
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

impl Trust {
    /// Reads the ConfigMap's JSON.
    ///
    /// # Errors
    /// The key that cannot be used, and why.
    pub(super) fn read(json: &str) -> Result<Self, String> {
        let map: ConfigMap = serde_json::from_str(json).map_err(|e| format!("cannot be read: {e}"))?;
        let authorities = |key: &str| match map.data.get(key) {
            Some(pem) => authorities(pem).map(Some).map_err(|why| format!("{key}: {why}")),
            None => Ok(None),
        };
        let list = |key: &str| match map.data.get(key) {
            Some(json) => serde_json::from_str(json).map_err(|e| format!("{key}: {e}")),
            None => Ok(Vec::<String>::new()),
        };
        let headers = |key: &str| -> Result<Vec<HeaderName>, String> {
            let names = list(key)?;
            let names = names
                .iter()
                .map(|name| name.trim().parse().map_err(|e| format!("{key}: {name:?}: {e}")));
            names.collect()
        };
        let front = match authorities("requestheader-client-ca-file")? {
            Some(authorities) => Some(Front {
                authorities,
                names: list("requestheader-allowed-names")?.into_iter().collect(),
                users: headers("requestheader-username-headers")?,
                uids: headers("requestheader-uid-headers")?,
                groups: headers("requestheader-group-headers")?,
                extras: list("requestheader-extra-headers-prefix")?
                    .iter()
                    .map(|prefix| prefix.trim().to_ascii_lowercase())
                    .filter(|prefix| !prefix.is_empty())
                    .collect(),
            }),
            None => None,
        };
        Ok(Self {
            front,
            clients: authorities("client-ca-file")?,
        })
    }

    /// Whether any certificate would be believed.
    pub(super) fn is_nobody(&self) -> bool {
        self.front.is_none() && self.clients.is_none()
    }

    /// Who shows a chain of certificates, their own first.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn who(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Shown, Error> {
        let (own, between) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let client = match &self.clients {
            Some(clients) => clients.verify_client_cert(own, between, now).and_then(|_| subject(own)),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let Some(front) = &self.front else {
            return client.map(Shown::Client);
        };
        let as_front = front
            .authorities
            .verify_client_cert(own, between, now)
            .and_then(|_| front.admits(own));
        match (as_front, client) {
            (Ok(()), client) => Ok(Shown::Front(client.ok())),
            (Err(_), Ok(client)) => Ok(Shown::Client(client)),
            // What the one or the other says more of than that it does not know the signer.
            (Err(of_front), Err(of_client)) => Err(match of_front {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => of_client,
                other => other,
            }),
        }
    }

    /// Whom a front proxy's headers name.
    pub(super) fn named(&self, headers: &HeaderMap) -> Option<User> {
        let front = self.front.as_ref()?;
        let first = |names: &[HeaderName]| {
            let mut values = names.iter().filter_map(|name| headers.get(name));
            let found = values.find(|value| !value.is_empty())?;
            Some(String::from_utf8_lossy(found.as_bytes()).into_owned())
        };
        let groups = front.groups.iter().flat_map(|name| headers.get_all(name));
        let groups = groups.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let key = front
                .extras
                .iter()
                .find_map(|prefix| name.as_str().strip_prefix(prefix.as_str()));
            if let Some(key) = key {
                let key = percent_decode_str(key).decode_utf8_lossy().to_lowercase();
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                extra.entry(key).or_default().push(value);
            }
        }
        Some(User {
            name: first(&front.users)?,
            uid: first(&front.uids).unwrap_or_default(),
            groups: groups.filter(|group| !group.is_empty()).collect(),
            extra,
        })
    }

    /// Takes out of a request what only a front proxy may say, and the credentials: nobody further in needs either.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        let told = |name: &HeaderName| {
            let of_front = self.front.as_ref().is_some_and(|front| {
                let named = [&front.users, &front.uids, &front.groups];
                named.iter().any(|names| names.contains(name))
                    || front
                        .extras
                        .iter()
                        .any(|prefix| name.as_str().starts_with(prefix.as_str()))
            });
            of_front || name.as_str().starts_with("x-remote-") || name == axum::http::header::AUTHORIZATION
        };
        let named: Vec<HeaderName> = headers.keys().filter(|name| told(name)).cloned().collect();
        for name in named {
            headers.remove(name);
        }
    }
}

impl Front {
    fn admits(&self, cert: &CertificateDer<'_>) -> Result<(), Error> {
        if self.names.is_empty() || self.names.contains(&subject(cert)?.name) {
            return Ok(());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }
}

/// Whom a certificate names: the common name, in the groups of its organizations.
fn subject(cert: &CertificateDer<'_>) -> Result<User, Error> {
    let (_, cert) = X509Certificate::from_der(cert).map_err(|_| CertificateError::BadEncoding)?;
    let groups = cert.subject().iter_organization();
    let groups = groups.filter_map(|group| Some(group.as_str().ok()?.to_owned()));
    let name = common_name(cert.subject());
    if name.is_empty() {
        return Err(CertificateError::ApplicationVerificationFailure.into());
    }
    Ok(User {
        name,
        groups: groups.collect(),
        ..User::default()
    })
}

fn authorities(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let (mut roots, mut problem) = (RootCertStore::empty(), None);
    for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        if let Err(error) = roots.add(cert.map_err(|e| e.to_string())?) {
            problem = Some(error.to_string());
        }
    }
    // One that this library cannot use must not keep the others from being used.
    match problem {
        Some(problem) if roots.is_empty() => return Err(problem),
        Some(problem) => tracing::warn!(problem, "an authority that the cluster names cannot be used"),
        None => {}
    }
    // Go's servers choose by what is shown, not by what they asked for; its clients show nothing to who names others.
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .clear_root_hint_subjects()
        .build()
        .map_err(|_| "there is no certificate in it".to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use serde_json::json;

    /// One that signs certificates of clients.
    pub(in crate::kubeapi::serving) struct Authority {
        pub(in crate::kubeapi::serving) pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        pub(in crate::kubeapi::serving) fn new(name: &str) -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self {
                pem: params.self_signed(&key).unwrap().pem(),
                issuer: Issuer::new(params, key),
            }
        }

        pub(in crate::kubeapi::serving) fn client(&self, name: &str, groups: &[&str]) -> CertificateDer<'static> {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            for group in groups {
                params.distinguished_name.push(DnType::OrganizationName, *group);
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.not_after = rcgen::date_time_ymd(2040, 1, 1);
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &self.issuer).unwrap().der().clone()
        }
    }

    /// The ConfigMap as a cluster has it.
    pub(in crate::kubeapi::serving) fn config_map(front: &Authority, clients: &Authority) -> String {
        json!({"data": {
            "client-ca-file": clients.pem,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-client-ca-file": front.pem,
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        }})
        .to_string()
    }

    fn at(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs((year - 1970) * 31_557_600))
    }

    #[test]
    fn a_certificate_says_who_is_there() {
        let (front, clients, other) = (
            Authority::new("front"),
            Authority::new("clients"),
            Authority::new("other"),
        );
        let trust = Trust::read(&config_map(&front, &clients)).unwrap();
        let who = |cert: CertificateDer<'static>, year| trust.who(&[cert], at(year));
        let alice = User {
            name: "alice".to_owned(),
            groups: vec!["dev".to_owned()],
            ..User::default()
        };
        assert_eq!(
            who(front.client("front-proxy-client", &[]), 2030),
            Ok(Shown::Front(None))
        );
        assert_eq!(who(clients.client("alice", &["dev"]), 2030), Ok(Shown::Client(alice)));
        for (cert, year, why) in [
            (
                front.client("alice", &[]),
                2030,
                CertificateError::ApplicationVerificationFailure,
            ),
            (
                other.client("front-proxy-client", &[]),
                2030,
                CertificateError::UnknownIssuer,
            ),
            (CertificateDer::from(vec![1, 2]), 2030, CertificateError::BadEncoding),
        ] {
            assert_eq!(who(cert, year), Err(why.into()));
        }
        for cert in [front.client("front-proxy-client", &[]), clients.client("alice", &[])] {
            let told = who(cert, 2050).unwrap_err().to_string();
            assert!(told.contains("expired"), "{told}");
        }
        assert_eq!(trust.who(&[], at(2030)), Err(Error::NoCertificatesPresented));
        assert!(Trust::default().who(&[clients.client("alice", &[])], at(2030)).is_err());
    }

    #[test]
    fn without_names_every_certificate_of_the_authority_is_a_front_proxy() {
        let front = Authority::new("front");
        let trust = Trust::read(&json!({"data": {"requestheader-client-ca-file": front.pem}}).to_string()).unwrap();
        assert_eq!(
            trust.who(&[front.client("anyone", &[])], at(2030)),
            Ok(Shown::Front(None))
        );
        // It says who asks in no header: then nobody does.
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", "alice".parse().unwrap());
        assert_eq!(trust.named(&headers), None);
    }

    #[test]
    fn headers_name_a_user_and_are_taken_out() {
        let trust = Trust::read(&config_map(&Authority::new("f"), &Authority::new("c"))).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", ""),
            ("x-remote-group", "a"),
            ("x-remote-group", "b,c"),
            ("x-remote-extra-authentication.kubernetes.io%2fcredential-id", "JTI=1"),
            ("x-remote-uid", "7"),
            ("authorization", "Bearer x"),
            ("accept", "*/*"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        assert_eq!(trust.named(&headers), None, "nobody is named");
        headers.insert("x-remote-user", "system:admin".parse().unwrap());
        let user = trust.named(&headers).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups.as_slice()),
            ("system:admin", &["a".to_owned(), "b,c".to_owned()][..])
        );
        assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=1"]);
        // The ConfigMap names no header for it.
        assert_eq!(user.uid, "");
        trust.strip(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn what_cannot_be_used_is_told_by_key() {
        let pem = Authority::new("f").pem;
        for (data, told) in [
            (json!({"client-ca-file": ""}), "client-ca-file: there is no certificate"),
            (
                json!({"requestheader-client-ca-file": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}),
                "requestheader-client-ca-file",
            ),
            (
                json!({"requestheader-client-ca-file": pem, "requestheader-allowed-names": "front"}),
                "requestheader-allowed-names",
            ),
            (
                json!({"requestheader-client-ca-file": pem, "requestheader-group-headers": "[\"a b\"]"}),
                "requestheader-group-headers",
            ),
        ] {
            let error = Trust::read(&json!({"data": data}).to_string()).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let both = json!({"data": {"client-ca-file": format!("{odd}{pem}")}}).to_string();
        assert!(
            !Trust::read(&both).unwrap().is_nobody(),
            "one that can be used is enough"
        );
        assert!(Trust::read("7").is_err());
        assert!(Trust::read(r#"{"metadata": {}}"#).unwrap().is_nobody());
    }
}
