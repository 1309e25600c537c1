//! TLS for connections that come in, as `tls_server_config` says. What the library cannot do is refused by name.

use super::client_certs::{Chain, ClientCerts};
use super::file::TlsWanted;
use crate::config::Fault;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    NamedGroup, ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};
use std::sync::Arc;

/// The texts that `cert_file` and its kin name.
#[derive(Default)]
pub(super) struct Pems {
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

/// Sets TLS up.
///
/// # Errors
/// At the key that is wrong.
pub(super) fn set_up(wanted: &TlsWanted, pems: &Pems, http2: bool) -> Result<Arc<ServerConfig>, Fault> {
    let cert_key = wanted.key_of("cert", "cert_file");
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pems.cert)
        .collect::<Result<_, _>>()
        .map_err(|e| wanted.fault(cert_key, format!("failed to load X509KeyPair: {e}")))?;
    if chain.is_empty() {
        let message = "failed to load X509KeyPair: there is no certificate in PEM";
        return Err(wanted.fault(cert_key, message));
    }
    // What the library says of a key might repeat it.
    let key = PrivateKeyDer::from_pem_slice(&pems.key).map_err(|_| {
        let message = "failed to load X509KeyPair: there is no private key in PEM";
        wanted.fault(wanted.key_of("key", "key_file"), message)
    })?;
    let suites = suites(wanted)?;
    let versions = versions(wanted, &suites)?;
    let provider = Arc::new(CryptoProvider {
        cipher_suites: suites,
        kx_groups: groups(wanted)?,
        ..ring::default_provider()
    });
    let clients = clients(wanted, pems.client_ca.as_deref(), &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|e| wanted.fault("cipher_suites", e.to_string()))?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| wanted.fault(cert_key, format!("failed to load X509KeyPair: {e}")))?;
    config.ignore_client_order = wanted.section.prefer_server_cipher_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(Arc::new(config))
}

fn is_new(version: ProtocolVersion) -> bool {
    version == ProtocolVersion::TLSv1_3
}

/// Suites by the names that Go gives them. As in Go, those of TLS 1.3 are always there: the list is for older versions.
fn suites(wanted: &TlsWanted) -> Result<Vec<SupportedCipherSuite>, Fault> {
    /// What Go knows and this library does not.
    const OTHERS: [&str; 4] = [
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    ];
    let all = ring::default_provider().cipher_suites;
    let listed = &wanted.section.cipher_suites;
    if listed.is_empty() {
        return Ok(all);
    }
    let (new, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|suite| is_new(suite.version().version));
    let mut chosen = new.clone();
    for name in listed {
        // The library writes `TLS13_AES_128_GCM_SHA256` for what Go calls `TLS_AES_128_GCM_SHA256`.
        let called = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_") == *name;
        if new.iter().any(called) {
            continue;
        }
        match old.iter().find(|suite| called(suite)) {
            Some(suite) => chosen.push(*suite),
            None if OTHERS.contains(&name.as_str()) => {
                let message =
                    format!("the cipher {name} is not supported here: it is of those without authenticated encryption");
                return Err(wanted.fault("cipher_suites", message));
            }
            None => return Err(wanted.fault("cipher_suites", format!("unknown cipher: {name}"))),
        }
    }
    Ok(chosen)
}

/// The versions between the least and the newest that is wanted, of those that have a suite.
fn versions(
    wanted: &TlsWanted,
    suites: &[SupportedCipherSuite],
) -> Result<Vec<&'static SupportedProtocolVersion>, Fault> {
    let (least, newest) = (&wanted.section.min_version, &wanted.section.max_version);
    let is_old = |version: &str| matches!(version, "TLS10" | "TLS11");
    if is_old(newest) {
        let message = format!("{newest} is not supported here; TLS12 and TLS13 are");
        return Err(wanted.fault("max_version", message));
    }
    if is_old(least) {
        tracing::warn!(
            min_version = least,
            "nothing older than TLS 1.2 is built in: it is the least"
        );
    }
    let versions: Vec<_> = rustls::ALL_VERSIONS
        .iter()
        .copied()
        .filter(|version| match is_new(version.version) {
            true => newest == "TLS13",
            false => least != "TLS13",
        })
        .filter(|version| suites.iter().any(|suite| suite.version() == *version))
        .collect();
    if versions.is_empty() {
        let message = "no version of TLS is left with these bounds and ciphers";
        return Err(wanted.fault("max_version", message));
    }
    Ok(versions)
}

fn groups(wanted: &TlsWanted) -> Result<Vec<&'static dyn rustls::crypto::SupportedKxGroup>, Fault> {
    let all = ring::default_provider().kx_groups;
    let listed = &wanted.section.curve_preferences;
    if listed.is_empty() {
        return Ok(all);
    }
    let fail = |message: String| Err(wanted.fault("curve_preferences", message));
    let mut chosen = Vec::new();
    for name in listed {
        let group = match name.as_str() {
            "X25519" => NamedGroup::X25519,
            "CurveP256" => NamedGroup::secp256r1,
            "CurveP384" => NamedGroup::secp384r1,
            "CurveP521" => return fail(format!("the curve {name} is not supported here")),
            other => return fail(format!("unknown curve: {other}")),
        };
        chosen.extend(all.iter().copied().find(|known| known.name() == group));
    }
    Ok(chosen)
}

/// Who checks certificates of clients; nobody if none is asked for.
fn clients(
    wanted: &TlsWanted,
    ca: Option<&[u8]>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<ClientCerts>, Fault> {
    let section = &wanted.section;
    let (required, trusted) = match section.client_auth_type.as_str() {
        "" | "NoClientCert" if ca.is_some() => {
            let message = "client CA's have been configured without a Client Auth Policy";
            return Err(wanted.fault(wanted.key_of("client_ca", "client_ca_file"), message));
        }
        "" | "NoClientCert" => return Ok(None),
        "RequestClientCert" => (false, false),
        "RequireAnyClientCert" | "RequireClientCert" => (true, false),
        "VerifyClientCertIfGiven" => (false, true),
        "RequireAndVerifyClientCert" => (true, true),
        other => return Err(wanted.fault("client_auth_type", format!("invalid ClientAuth: {other}"))),
    };
    let names = section.client_allowed_sans.as_ref();
    Ok(Some(ClientCerts {
        // Who shows none has no name that is allowed.
        required: required || names.is_some(),
        chain: if trusted { chain(ca, provider) } else { Chain::Any },
        names: names.map(|names| names.iter().cloned().collect()),
        algorithms: provider.signature_verification_algorithms,
    }))
}

/// The authorities of a text, or the system's without one. A text without any lets nobody in, as upstream.
fn chain(ca: Option<&[u8]>, provider: &Arc<CryptoProvider>) -> Chain {
    let given: Vec<CertificateDer<'static>> = match ca {
        // As upstream, what is not a certificate is passed over.
        Some(text) => CertificateDer::pem_slice_iter(text).filter_map(Result::ok).collect(),
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(given.iter().cloned());
    if added == 0 {
        tracing::warn!("there is no authority for certificates of clients: none will be taken");
    }
    let authorities = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Chain::Trusted {
        authorities: authorities.ok(),
        given: if ca.is_some() { given } else { Vec::new() },
    }
}
