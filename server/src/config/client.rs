//! The file of `--http.config.file`: how a command calls the server that it asks.

use super::error::ConfigError;
use super::file::{MAX_FILE_BYTES, fault_below, read_file};
use super::{Node, de};
use std::path::Path;
use tidegauge_scraper::config::{ClientConfig, HttpConfig};

/// Reads and checks a file. Relative paths in it are seen from its folder.
///
/// # Errors
/// [`ConfigError`]: the first thing that is wrong.
pub(crate) fn client(path: &Path) -> Result<HttpConfig, ConfigError> {
    let text = read_file(path, MAX_FILE_BYTES)?;
    let root = Node::parse(&text).map_err(|fault| ConfigError::at(path, &fault))?;
    let config = match root.is_null() {
        true => ClientConfig::default(),
        false => de::read(&root).map_err(|fault| ConfigError::at(path, &fault))?,
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    config.finish(folder).map_err(|problem| {
        let fault = fault_below(&root, &problem.path, problem.message);
        ConfigError::at(path, &fault)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.yml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            client(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
        };
        assert_eq!(read(""), Ok(ClientConfig::default().http()));
        let basic = read("basic_auth: {username: a, password_file: secret}\n")
            .unwrap()
            .basic_auth;
        assert_eq!(basic.unwrap().password_file.unwrap(), folder.path().join("secret"));
        for (text, told) in [
            ("tls_config:\n  ca_fiel: x\n", "FILE:2:3: tls_config.ca_fiel: "),
            (
                "basic_auth: {username: a}\noauth2: {token_url: b}\n",
                "FILE:1:1: at most one of basic_auth, oauth2 & authorization must be configured",
            ),
            (
                "tls_config: {cert: a}\n",
                "FILE:1:13: tls_config: exactly one of key or key_file must be configured",
            ),
            ("- x\n", "FILE:1:1: "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
