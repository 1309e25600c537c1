//! A certificate as a test needs one: signed by itself, and its own authority.

/// A certificate and its key, in PEM.
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) key: String,
}

impl Certificate {
    /// Makes one for a name.
    pub(crate) fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        Self {
            pem: params.self_signed(&key).expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }
}
