//! A certificate made here, and its key.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use ring::digest;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::time::Duration;
use tidegauge_model::Timestamp;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// What a serving certificate is called. Whom it is for stands elsewhere, where there is room for long names.
const SERVING: &str = "tidegauge-kubernetes-api";
const DAY: i64 = 24 * 3600;
/// How long an authority is good for.
const AUTHORITY_SECONDS: i64 = 3650 * DAY;
/// How long a serving certificate is good for.
pub(super) const SERVING_SECONDS: i64 = 365 * DAY;
/// A certificate is good from so long before it is made: clocks differ.
const EARLIER_SECONDS: i64 = 3600;

/// A certificate with its key.
pub(super) struct Pair {
    cert: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    /// Unix seconds, both included.
    from: i64,
    until: i64,
    /// The names it is for.
    pub(super) names: Vec<String>,
    subject: String,
    pub(super) issuer: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject, from, until, ..
        } = self;
        write!(f, "Pair({subject:?}, {from} to {until}, <key>)")
    }
}

impl Pair {
    /// Makes an authority, which signs for itself.
    pub(super) fn authority(now: Timestamp) -> Result<Self, String> {
        let key = new_key()?;
        // Each has a name of its own: by it one knows what it signed.
        let print: String = digest::digest(&digest::SHA256, key.public_key_raw())
            .as_ref()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let params = authority_params(&format!("tidegauge-kubernetes-api-ca-{print}"), now)?;
        let cert = params.self_signed(&key).map_err(|e| e.to_string())?;
        Self::new(cert.der().clone(), &key)
    }

    /// Makes a certificate for the listener, signed by this authority.
    pub(super) fn sign(&self, names: &[String], now: Timestamp) -> Result<Self, String> {
        let own = KeyPair::try_from(&self.key).map_err(|e| e.to_string())?;
        let issuer = Issuer::new(authority_params(&self.subject, now)?, own);
        let mut params = CertificateParams::new(names).map_err(|e| format!("{names:?}: {e}"))?;
        params.distinguished_name = named(SERVING);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        good_for(&mut params, now, SERVING_SECONDS);
        let key = new_key()?;
        let cert = params.signed_by(&key, &issuer).map_err(|e| e.to_string())?;
        Self::new(cert.der().clone(), &key)
    }

    fn new(cert: CertificateDer<'static>, key: &KeyPair) -> Result<Self, String> {
        Self::of(cert, PrivatePkcs8KeyDer::from(key.serialize_der()))
    }

    fn of(cert: CertificateDer<'static>, key: PrivatePkcs8KeyDer<'static>) -> Result<Self, String> {
        let Read {
            from,
            until,
            names,
            subject,
            issuer,
        } = Read::new(&cert)?;
        Ok(Self {
            cert,
            key,
            from,
            until,
            names,
            subject,
            issuer,
        })
    }

    /// Reads what [`Pair::pem`] wrote, any number of times.
    pub(super) fn read(pem: &[u8]) -> Result<Vec<Self>, String> {
        let (mut pairs, mut key) = (Vec::new(), None);
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            match section.map_err(|e| e.to_string())? {
                (SectionKind::PrivateKey, der) => key = Some(PrivatePkcs8KeyDer::from(der)),
                (SectionKind::Certificate, der) => {
                    let key = key.take().ok_or("there is a certificate without its key")?;
                    // A key that is none must not come to light only when something is to be signed.
                    KeyPair::try_from(&key).map_err(|_| "there is a key that cannot be used")?;
                    pairs.push(Self::of(CertificateDer::from(der), key)?);
                }
                _ => return Err("there is something that is neither a certificate nor its key".to_owned()),
            }
        }
        Ok(pairs)
    }

    /// The key and the certificate, in PEM.
    pub(super) fn pem(&self) -> String {
        let key = pem("PRIVATE KEY", self.key.secret_pkcs8_der());
        key + &self.cert_pem()
    }

    /// The certificate alone.
    pub(super) fn cert_pem(&self) -> String {
        pem("CERTIFICATE", &self.cert)
    }

    /// What TLS needs.
    pub(super) fn parts(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (self.cert.clone(), PrivateKeyDer::Pkcs8(self.key.clone_key()))
    }

    /// Whether it is good now.
    pub(super) fn is_good(&self, now: Timestamp) -> bool {
        (self.from..=self.until).contains(&seconds(now))
    }

    /// Whether it is time for the next one: two thirds of its life are over.
    pub(super) fn is_ageing(&self, now: Timestamp) -> bool {
        let life = self.until.saturating_sub(self.from);
        seconds(now) >= self.from.saturating_add(life / 3 * 2)
    }

    /// The last second in which it is good.
    pub(super) fn until(&self) -> i64 {
        self.until
    }

    /// Whether it is an authority's whose name this is.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.subject == name
    }
}

/// What is read of a certificate.
pub(super) struct Read {
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) names: Vec<String>,
    /// The common names of whom it is for, and of who signed it.
    pub(super) subject: String,
    pub(super) issuer: String,
}

impl Read {
    pub(super) fn new(cert: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, cert) = X509Certificate::from_der(cert).map_err(|_| "there is a certificate that cannot be read")?;
        let names = cert.subject_alternative_name().ok().flatten();
        let names = names.map_or(&[][..], |found| &found.value.general_names);
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Ok(Self {
            from: cert.validity().not_before.timestamp(),
            until: cert.validity().not_after.timestamp(),
            names: names.collect(),
            subject: common_name(cert.subject()),
            issuer: common_name(cert.issuer()),
        })
    }
}

/// The last common name of a subject or issuer, empty if there is none.
pub(super) fn common_name(name: &X509Name<'_>) -> String {
    let names = name.iter_common_name().filter_map(|name| name.as_str().ok());
    names.last().unwrap_or_default().to_owned()
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate().map_err(|e| format!("cannot make a key: {e}"))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn authority_params(name: &str, now: Timestamp) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::new(Vec::new()).map_err(|e| e.to_string())?;
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    good_for(&mut params, now, AUTHORITY_SECONDS);
    Ok(params)
}

fn good_for(params: &mut CertificateParams, now: Timestamp, life: i64) {
    let begin = date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| begin + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    params.not_before = at(seconds(now) - EARLIER_SECONDS);
    params.not_after = at(seconds(now) + life);
}

pub(super) fn seconds(at: Timestamp) -> i64 {
    at.millis().div_euclid(1000)
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {kind}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + &format!("-----END {kind}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_pair_comes_back_as_it_was_written() {
        let authority = Pair::authority(at(NOW)).unwrap();
        let names = ["a.b.svc".to_owned(), "localhost".to_owned()];
        let serving = authority.sign(&names, at(NOW)).unwrap();
        let text = authority.pem() + &serving.pem();
        let [one, two]: [Pair; 2] = Pair::read(text.as_bytes()).unwrap().try_into().unwrap();
        assert_eq!(one.pem() + &two.pem(), text);
        assert_eq!((two.names.as_slice(), &two.issuer), (&names[..], &one.subject));
        assert!(two.is_called(SERVING) && !format!("{two:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        let pair = Pair::authority(at(NOW)).unwrap();
        let (key, cert) = (pem("PRIVATE KEY", b"none"), pair.cert_pem());
        for (text, why) in [
            (cert.clone(), "without its key"),
            (key.clone() + &cert, "key that cannot be used"),
            (pair.pem().replace("PRIVATE KEY", "PUBLIC KEY"), "neither"),
            (cert.replace('M', "!"), ""),
        ] {
            let told = Pair::read(text.as_bytes()).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        assert!(Pair::read(b"").unwrap().is_empty());
    }

    #[test]
    fn a_certificate_ages_at_two_thirds_of_its_life() {
        let pair = Pair::authority(at(NOW))
            .unwrap()
            .sign(&["x".to_owned()], at(NOW))
            .unwrap();
        let (from, until) = (NOW - EARLIER_SECONDS, NOW + SERVING_SECONDS);
        for (seconds, good, ageing) in [
            (from - 1, false, false),
            (from, true, false),
            (NOW + 243 * DAY, true, false),
            (NOW + 244 * DAY, true, true),
            (until, true, true),
            (until + 1, false, true),
        ] {
            let now = at(seconds);
            assert_eq!((pair.is_good(now), pair.is_ageing(now)), (good, ageing), "{seconds}");
        }
    }
}
