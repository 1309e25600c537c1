//! Which certificates of clients are taken: `client_auth_type`, `client_ca_file`, `client_allowed_sans`.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// What a certificate must be.
#[derive(Debug)]
pub(super) enum Chain {
    /// Anything whose key the client has.
    Any,
    /// Signed by an authority, or one of the given themselves.
    Trusted {
        /// `None` if nothing that was given can be an authority.
        authorities: Option<Arc<dyn ClientCertVerifier>>,
        given: Vec<CertificateDer<'static>>,
    },
}

/// Checks certificates of clients as Go's `ClientAuth` has it.
#[derive(Debug)]
pub(super) struct ClientCerts {
    /// Whether a client must show one.
    pub(super) required: bool,
    pub(super) chain: Chain,
    /// The names of which a certificate must have one.
    pub(super) names: Option<BTreeSet<String>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientCerts {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.chain {
            Chain::Trusted {
                authorities: Some(authorities),
                ..
            } => authorities.root_hint_subjects(),
            _ => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Chain::Trusted { authorities, given } = &self.chain {
            if given.iter().any(|given| given == end_entity) {
                // The library knows authorities alone; Go takes a certificate that is given itself.
                stands_by_itself(end_entity, now)?;
            } else {
                let authorities = authorities.as_ref().ok_or(CertificateError::UnknownIssuer)?;
                authorities.verify_client_cert(end_entity, intermediates, now)?;
            }
        }
        if let Some(allowed) = &self.names
            && !names(end_entity)?.iter().any(|name| allowed.contains(name))
        {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse<'c>(cert: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, Error> {
    match X509Certificate::from_der(cert) {
        Ok((_, cert)) => Ok(cert),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

/// Whether a given certificate is good now, and for clients.
fn stands_by_itself(cert: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let cert = parse(cert)?;
    let at = i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .ok_or(CertificateError::BadEncoding)?;
    if at < cert.validity().not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if at > cert.validity().not_after {
        return Err(CertificateError::Expired.into());
    }
    let usage = cert.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    if usage.is_some_and(|usage| !usage.value.client_auth && !usage.value.any) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    Ok(())
}

/// The names a certificate is for, as Go writes them.
fn names(cert: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let cert = parse(cert)?;
    let found = cert
        .subject_alternative_name()
        .map_err(|_| CertificateError::BadEncoding)?;
    let names = found.map_or(&[][..], |found| &found.value.general_names);
    Ok(names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
                Some((*text).to_owned())
            }
            GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
            _ => None,
        })
        .collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_name_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned(), "10.1.2.3".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(rcgen::SanType::Rfc822Name("me@a.example".try_into().unwrap()));
        params
            .subject_alt_names
            .push(rcgen::SanType::URI("spiffe://a/b".try_into().unwrap()));
        params
            .subject_alt_names
            .push(rcgen::SanType::IpAddress("fe80::1".parse().unwrap()));
        let cert = params.self_signed(&key).unwrap();
        assert_eq!(
            names(cert.der()).unwrap(),
            ["a.example", "10.1.2.3", "me@a.example", "spiffe://a/b", "fe80::1"]
        );
        assert!(names(&CertificateDer::from(vec![1, 2, 3])).is_err());
    }
}
