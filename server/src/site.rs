//! Where the server is reached: its listeners, and its addresses as others see them.

use crate::app::AppOptions;
use anyhow::{Context, anyhow};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::TcpListener;
use url::Url;

/// Opens the listeners that a flag names.
///
/// # Errors
/// A sentence that says what to do.
pub(crate) async fn bind(flag: &str, addresses: &[String]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        // Go's way to say "every address".
        let full = match address.strip_prefix(':') {
            Some(port) => format!("0.0.0.0:{port}"),
            None => address.clone(),
        };
        let listener = TcpListener::bind(&full).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => anyhow!(
                "cannot listen on {address}: another process does; stop it or choose another address with --{flag}"
            ),
            _ => anyhow!("cannot listen on {address}: {error}; choose another address with --{flag}"),
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The addresses of this process as others see them.
pub(crate) struct Site {
    /// `host:port` for connections from this machine.
    pub(crate) local: SocketAddr,
    /// Prefix of all routes, without a slash at its end.
    pub(crate) prefix: String,
    /// What users know.
    pub(crate) external: Url,
    /// Where a browser on this machine finds the page.
    pub(crate) page: Url,
}

impl Site {
    /// From the addresses that are listened on and what the command line says about them.
    pub(crate) fn new(options: &AppOptions, addresses: &[SocketAddr], tls: bool) -> anyhow::Result<Self> {
        let scheme = if tls { "https" } else { "http" };
        let first = *addresses.first().context("no address to listen on")?;
        let local = SocketAddr::new(
            match first.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            },
            first.port(),
        );
        let mut external = match options.external_url.as_deref().filter(|u| !u.is_empty()) {
            Some(given) => Url::parse(given).with_context(|| format!("--web.external-url {given:?} is not a URL"))?,
            None => {
                let host = if first.ip().is_unspecified() { host_name() } else { None };
                let host = host.map_or_else(|| local.to_string(), |name| format!("{name}:{}", local.port()));
                Url::parse(&format!("{scheme}://{host}/"))?
            }
        };
        if let Some(prefix) = &options.route_prefix {
            external.set_path(prefix);
        }
        let prefix = external.path().trim_end_matches('/').to_owned();
        external.set_path(&format!("{prefix}/"));
        let page = Url::parse(&format!("{scheme}://{local}{prefix}/"))?;
        Ok(Self {
            local,
            prefix,
            external,
            page,
        })
    }
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|n| !n.is_empty())
}
