//! A file of its own that says how one server is called, as promtool's `--http.config.file`.

use super::http::http_section;
use super::{HttpConfig, Problem};
use serde::{Deserialize, Serialize};
use std::path::Path;

http_section! {
    /// The keys of a client alone.
    #[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct ClientConfig {
        before {}
        after {}
        defaults {}
    }
}

impl ClientConfig {
    /// Checks the keys; relative paths among them are seen from `folder`.
    ///
    /// # Errors
    /// Keys that contradict each other, in upstream's words.
    pub fn finish(mut self, folder: &Path) -> Result<HttpConfig, Problem> {
        self.check_http()?;
        self.settle_http();
        self.set_http_directory(folder);
        Ok(self.http())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_checked_and_its_paths_are_seen_from_its_folder() {
        let read = |text: &str| serde_yaml_ng::from_str::<ClientConfig>(text).map_err(|e| e.to_string());
        let http = read("{bearer_token: x, tls_config: {ca_file: ca.pem}}").unwrap();
        let http = http.finish(Path::new("/etc/x")).unwrap();
        assert_eq!(http.authorization.unwrap().credentials.expose(), "x");
        assert_eq!(http.tls_config.unwrap().ca_file.unwrap(), Path::new("/etc/x/ca.pem"));
        let both = read("{bearer_token: x, basic_auth: {username: a}}").unwrap();
        let problem = both.finish(Path::new("")).unwrap_err();
        assert!(problem.message.starts_with("at most one of basic_auth"), "{problem}");
        assert!(read("{basic_auht: {}}").unwrap_err().contains("basic_auht"));
    }
}
