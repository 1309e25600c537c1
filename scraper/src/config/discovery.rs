//! The sections that find targets over the network: `http_sd_configs`, `dns_sd_configs`; and what all such sections
//! have in common.

use super::PromDuration;
use super::http::http_section;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// A section that says where targets come from.
pub(crate) trait Section {
    /// The key of the list it stands in.
    const KEY: &'static str;

    /// What is wrong with it, in upstream's words.
    fn check(&self) -> Result<(), String>;

    /// Turns older keys into newer ones, once the section has been checked.
    fn settle(&mut self) {}

    /// Takes relative paths as seen from the folder of the file.
    fn set_directory(&mut self, _folder: &Path) {}
}

/// Reads a list of sections, each checked where it stands so that its errors have a place.
pub(super) fn sections<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: Section + Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Checked<T>(T);

    impl<'de, T: Section + Deserialize<'de>> Deserialize<'de> for Checked<T> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let mut section = T::deserialize(from)?;
            section.check().map_err(serde::de::Error::custom)?;
            section.settle();
            Ok(Self(section))
        }
    }

    Option::<Vec<Option<Checked<T>>>>::deserialize(from)?
        .unwrap_or_default()
        .into_iter()
        .map(|item| match item {
            Some(Checked(section)) => Ok(section),
            None => Err(serde::de::Error::custom(format_args!(
                "empty or null section in {}",
                T::KEY
            ))),
        })
        .collect()
}

http_section! {
    /// One of `http_sd_configs`: a URL that answers with target groups in JSON.
    #[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct HttpSdConfig {
        before {}
        after {
            /// How often it is asked.
            pub refresh_interval: PromDuration,
            /// What is asked.
            #[serde(serialize_with = "super::http::url_without_password")]
            pub url: String,
        }
        defaults {
            refresh_interval: PromDuration::from_secs(60),
            url: String::new(),
        }
    }
}

impl Section for HttpSdConfig {
    const KEY: &'static str = "http_sd_configs";

    fn check(&self) -> Result<(), String> {
        if self.url.is_empty() {
            return Err("URL is missing".to_owned());
        }
        // As upstream's library reads a URL: what has no scheme is a path.
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return Err("URL scheme must be 'http' or 'https'".to_owned());
        };
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err("URL scheme must be 'http' or 'https'".to_owned());
        }
        if rest.split(['/', '?', '#']).next().is_none_or(str::is_empty) {
            return Err("host is missing in URL".to_owned());
        }
        // The URL is not repeated: there may be a password in it.
        url::Url::parse(&self.url).map_err(|problem| format!("URL: {problem}"))?;
        if self.refresh_interval.is_zero() {
            return Err("refresh_interval must be greater than 0".to_owned());
        }
        self.check_http().map_err(|problem| problem.message)
    }

    fn settle(&mut self) {
        self.settle_http();
    }

    fn set_directory(&mut self, folder: &Path) {
        self.set_http_directory(folder);
    }
}

/// The records that `dns_sd_configs` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsKind {
    /// Hosts with ports.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Mail servers.
    Mx,
    /// Name servers.
    Ns,
}

/// One of `dns_sd_configs`: names whose records are targets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsSdConfig {
    /// What is looked up.
    pub names: Vec<String>,
    /// How often.
    pub refresh_interval: PromDuration,
    /// The type of the records, in any case.
    #[serde(rename = "type")]
    pub kind: String,
    /// The port of targets whose record has none.
    pub port: u16,
}

impl Default for DnsSdConfig {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            refresh_interval: PromDuration::from_secs(30),
            kind: "SRV".to_owned(),
            port: 0,
        }
    }
}

impl DnsSdConfig {
    /// The type of the records; none if there is no such type.
    pub fn records(&self) -> Option<DnsKind> {
        Some(match self.kind.to_ascii_uppercase().as_str() {
            "SRV" => DnsKind::Srv,
            "A" => DnsKind::A,
            "AAAA" => DnsKind::Aaaa,
            "MX" => DnsKind::Mx,
            "NS" => DnsKind::Ns,
            _ => return None,
        })
    }
}

impl Section for DnsSdConfig {
    const KEY: &'static str = "dns_sd_configs";

    fn check(&self) -> Result<(), String> {
        if self.names.is_empty() {
            return Err("DNS-SD config must contain at least one SRV record name".to_owned());
        }
        match self.records() {
            None => return Err(format!("invalid DNS-SD records type {}", self.kind)),
            Some(DnsKind::Srv) => {}
            Some(_) if self.port == 0 => {
                return Err("a port is required in DNS-SD configs for all record types except SRV".to_owned());
            }
            Some(_) => {}
        }
        if self.refresh_interval.is_zero() {
            return Err("refresh_interval must be greater than 0".to_owned());
        }
        Ok(())
    }
}

impl Section for super::FileSdConfig {
    const KEY: &'static str = "file_sd_configs";

    fn check(&self) -> Result<(), String> {
        if self.files.is_empty() {
            return Err("file service discovery config must contain at least one path name".to_owned());
        }
        match self.files.iter().find(|path| !names_target_files(path)) {
            Some(path) => Err(format!("path name {path:?} is not valid for file discovery")),
            None if self.refresh_interval.is_zero() => Err("refresh_interval must be greater than 0".to_owned()),
            None => Ok(()),
        }
    }

    fn set_directory(&mut self, folder: &Path) {
        for path in &mut self.files {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
    }
}

/// Whether a path ends as files of targets do, with at most one star, and that in the last part.
fn names_target_files(path: &str) -> bool {
    let Some((stem, end)) = path.rsplit_once('.') else {
        return false;
    };
    let known = matches!(end, "json" | "yml" | "yaml" | "JSON" | "YML" | "YAML");
    let star = match stem.split_once('*') {
        None => true,
        Some((_, behind)) => !behind.contains('/'),
    };
    known && star
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileSdConfig;

    fn problem<T: Section + for<'de> Deserialize<'de>>(yaml: &str) -> String {
        let section: T = serde_yaml_ng::from_str(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"));
        section.check().err().unwrap_or_default()
    }

    #[test]
    fn sections_of_http_are_checked_as_upstream_does() {
        for (yaml, expected) in [
            ("{}", "URL is missing"),
            ("url: localhost:80/x", "URL scheme must be 'http' or 'https'"),
            ("url: ftp://host/", "URL scheme must be 'http' or 'https'"),
            ("url: 'http://'", "host is missing in URL"),
            (
                "{url: 'http://h/', bearer_token: a, bearer_token_file: b}",
                "at most one of bearer_token & bearer_token_file must be configured",
            ),
            (
                "{url: 'http://h/', refresh_interval: 0s}",
                "refresh_interval must be greater than 0",
            ),
            ("{url: 'http://h/', authorization: {credentials: x}}", ""),
        ] {
            assert_eq!(problem::<HttpSdConfig>(yaml), expected, "{yaml}");
        }
        assert!(serde_yaml_ng::from_str::<HttpSdConfig>("{url: 'http://h/', nonsense: 1}").is_err());
    }

    #[test]
    fn sections_of_dns_are_checked_as_upstream_does() {
        for (yaml, expected) in [
            ("{}", "DNS-SD config must contain at least one SRV record name"),
            (
                "{names: [a], type: A}",
                "a port is required in DNS-SD configs for all record types except SRV",
            ),
            ("{names: [a], type: TXT}", "invalid DNS-SD records type TXT"),
            ("{names: [a], type: mx, port: 25}", ""),
            ("{names: [a]}", ""),
        ] {
            assert_eq!(problem::<DnsSdConfig>(yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn paths_of_files_have_one_star_and_a_known_end() {
        for (yaml, good) in [
            ("files: [a.json]", true),
            ("files: ['/x/*.yml', 'y/a*b*.YAML']", true),
            ("files: ['/x/*/a.yml']", false),
            ("files: [a.txt]", false),
            ("files: [json]", false),
            ("files: []", false),
        ] {
            assert_eq!(problem::<FileSdConfig>(yaml).is_empty(), good, "{yaml}");
        }
    }

    #[test]
    fn passwords_in_urls_are_not_shown() {
        let config: HttpSdConfig = serde_yaml_ng::from_str("url: http://me:hunter2@host/x").unwrap();
        let shown = serde_yaml_ng::to_string(&config).unwrap();
        assert!(!shown.contains("hunter2") && shown.contains("host/x"), "{shown}");
    }
}
