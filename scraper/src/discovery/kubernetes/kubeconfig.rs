//! Kubeconfig files, read by kube's own types: the current context's server and user, as the HTTP client wants them.

use super::server::Access;
use crate::config::{Authorization, BasicAuth, HttpConfig, ProxyConfig, Secret, TlsConfig};
use http::{HeaderMap, HeaderName, HeaderValue};
use kube_client::config::{AuthInfo, Cluster, Kubeconfig};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// A longer file is refused.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a kubeconfig. Blocks.
///
/// # Errors
/// What is wrong with it, or is more than we can do.
pub(super) fn access(path: &Path) -> Result<Access, String> {
    read(path).map_err(|problem| format!("kubeconfig {}: {problem}", path.display()))
}

fn read(path: &Path) -> Result<Access, String> {
    let file = file(path)?;
    let current = file.current_context.as_deref().filter(|name| !name.is_empty());
    let current = current.ok_or("no current-context")?;
    let context = file.contexts.iter().find(|context| context.name == current);
    let context = context.and_then(|context| context.context.as_ref());
    let context = context.ok_or_else(|| format!("no context {current:?}"))?;
    let cluster = file.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.and_then(|cluster| cluster.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| format!("no cluster {:?}", context.cluster))?;
    let nobody = AuthInfo::default();
    let user = match context.user.as_deref().filter(|name| !name.is_empty()) {
        None => &nobody,
        Some(name) => {
            let user = file.auth_infos.iter().find(|user| user.name == name);
            let user = user.ok_or_else(|| format!("no user {name:?}"))?;
            user.auth_info.as_ref().unwrap_or(&nobody)
        }
    };
    refuse_programs(user)?;
    let url = cluster.server.clone().filter(|server| !server.is_empty());
    Ok(Access {
        url: url.ok_or("the cluster has no server")?,
        http: HttpConfig {
            basic_auth: basic_auth(user),
            authorization: authorization(user),
            tls_config: Some(tls(cluster, user)?),
            proxy: ProxyConfig {
                url: cluster.proxy_url.clone().unwrap_or_default(),
                ..ProxyConfig::default()
            },
            follow_redirects: true,
            enable_http2: true,
            ..HttpConfig::default()
        },
        headers: impersonation(user)?,
    })
}

/// What the file says, its paths as seen from its folder. kube's own reading is not used: its errors quote the file
/// around the fault, which may hold secrets, and it brings another YAML library.
fn file(path: &Path) -> Result<Kubeconfig, String> {
    let mut text = String::new();
    let opened = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    opened.map_err(|problem| problem.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("longer than the {MAX_BYTES} bytes allowed"));
    }
    let mut all = Kubeconfig::default();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let one = Option::<Kubeconfig>::deserialize(document).map_err(|problem| match problem.location() {
            Some(at) => format!("not a valid kubeconfig: line {}, column {}", at.line(), at.column()),
            None => "not a valid kubeconfig".to_owned(),
        })?;
        let merged = all.merge(one.unwrap_or_default());
        all = merged.map_err(|_| "its documents contradict each other".to_owned())?;
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let seen = |file: &mut Option<String>| {
        if let Some(file) = file.as_mut().filter(|file| !file.is_empty()) {
            *file = folder.join(&*file).to_string_lossy().into_owned();
        }
    };
    for cluster in all.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        seen(&mut cluster.certificate_authority);
    }
    for user in all.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        seen(&mut user.client_certificate);
        seen(&mut user.client_key);
        seen(&mut user.token_file);
    }
    Ok(all)
}

/// Programs that give credentials are not run: nothing but us is in the container.
fn refuse_programs(user: &AuthInfo) -> Result<(), String> {
    if let Some(exec) = &user.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        return Err(format!(
            "the user's credentials come from a program (exec: {command:?}), which is not run here: use a token, a \
             tokenFile or a client certificate"
        ));
    }
    if let Some(provider) = &user.auth_provider {
        return Err(format!(
            "the user's credentials come from auth-provider {:?}, which Kubernetes has removed: use a token, a \
             tokenFile or a client certificate",
            provider.name
        ));
    }
    Ok(())
}

fn secret(text: Option<&SecretString>) -> Option<Secret> {
    let text = text?.expose_secret();
    (!text.is_empty()).then(|| Secret::new(text))
}

fn basic_auth(user: &AuthInfo) -> Option<BasicAuth> {
    let username = user.username.clone().filter(|name| !name.is_empty())?;
    Some(BasicAuth {
        username,
        password: secret(user.password.as_ref()).unwrap_or_default(),
        ..BasicAuth::default()
    })
}

/// A token file wins over a token, as in Kubernetes' own client.
fn authorization(user: &AuthInfo) -> Option<Authorization> {
    if let Some(file) = user.token_file.as_ref().filter(|file| !file.is_empty()) {
        return Some(Authorization {
            credentials_file: Some(file.into()),
            ..Authorization::default()
        });
    }
    secret(user.token.as_ref()).map(|credentials| Authorization {
        credentials,
        ..Authorization::default()
    })
}

/// Data in the file wins over the names of files, as in Kubernetes' own client.
fn tls(cluster: &Cluster, user: &AuthInfo) -> Result<TlsConfig, String> {
    let data = |what: &str, data: Option<&str>| match data.filter(|data| !data.is_empty()) {
        None => Ok(String::new()),
        Some(data) => base64(data).ok_or_else(|| format!("{what} is not PEM in base 64")),
    };
    let ca = data(
        "certificate-authority-data",
        cluster.certificate_authority_data.as_deref(),
    )?;
    let cert = data("client-certificate-data", user.client_certificate_data.as_deref())?;
    let key = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
    let key = data("client-key-data", key)?;
    let file = |data: &str, file: Option<&String>| {
        let file = file.filter(|file| data.is_empty() && !file.is_empty());
        file.map(Into::into)
    };
    Ok(TlsConfig {
        ca_file: file(&ca, cluster.certificate_authority.as_ref()),
        cert_file: file(&cert, user.client_certificate.as_ref()),
        key_file: file(&key, user.client_key.as_ref()),
        ca,
        cert,
        key: Secret::new(key),
        server_name: cluster.tls_server_name.clone().unwrap_or_default(),
        insecure_skip_verify: cluster.insecure_skip_tls_verify.unwrap_or_default(),
        ..TlsConfig::default()
    })
}

/// The headers that ask to be taken for somebody else.
fn impersonation(user: &AuthInfo) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value).map_err(|_| format!("{name}: {value:?} cannot be sent"))?;
        headers.append(HeaderName::from_static(name), value);
        Ok::<_, String>(())
    };
    for (name, value) in [
        ("impersonate-user", &user.impersonate),
        ("impersonate-uid", &user.impersonate_uid),
    ] {
        if let Some(value) = value {
            add(name, value)?;
        }
    }
    for group in user.impersonate_groups.iter().flatten() {
        add("impersonate-group", group)?;
    }
    if user
        .impersonate_user_extra
        .as_ref()
        .is_some_and(|extra| !extra.is_empty())
    {
        return Err("as-user-extra is not supported".to_owned());
    }
    Ok(headers)
}

/// Text in base 64 (RFC 4648), line breaks within it passed over.
fn base64(data: &str) -> Option<String> {
    let mut out = Vec::with_capacity(data.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0u32);
    let data = data.bytes().filter(|byte| !byte.is_ascii_whitespace());
    for byte in data.take_while(|byte| *byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(bits.checked_shr(count)?.to_le_bytes()[0]);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(yaml: &str) -> Result<Access, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, yaml).unwrap();
        access(&path).map_err(|problem| problem.replace(&path.display().to_string(), "F"))
    }

    fn with_user(user: &str) -> String {
        format!(
            "current-context: here\ncontexts:\n- name: here\n  context: {{cluster: c, user: u}}\nclusters:\n- name: c\n  \
             cluster: {{server: 'https://api:6443/k8s', certificate-authority-data: Q0EtUEVN, tls-server-name: kube}}\n\
             users:\n- name: u\n  user: {user}\n"
        )
    }

    #[test]
    fn the_current_context_says_where_and_who() {
        let access = of(&with_user(
            "{client-certificate-data: Q0VSVA==, client-key-data: S0VZ, as: robot, as-groups: [a, b]}",
        ))
        .unwrap();
        let tls = access.http.tls_config.unwrap();
        assert_eq!(access.url, "https://api:6443/k8s");
        assert_eq!(
            (
                tls.ca.as_str(),
                tls.cert.as_str(),
                tls.key.expose(),
                tls.server_name.as_str()
            ),
            ("CA-PEM", "CERT", "KEY", "kube")
        );
        assert_eq!(access.headers.get_all("impersonate-group").iter().count(), 2);
        let access = of(&with_user("{token: a, tokenFile: sub/token}")).unwrap();
        let file = access.http.authorization.unwrap().credentials_file.unwrap();
        assert!(file.is_absolute() && file.ends_with("sub/token"), "{file:?}");
        let access = of(&with_user("{username: me, password: pw}")).unwrap();
        assert_eq!(access.http.basic_auth.unwrap().password.expose(), "pw");
    }

    #[test]
    fn what_cannot_be_done_is_told_and_no_secret_with_it() {
        for (yaml, problem) in [
            (with_user("{exec: {command: aws}}"), "exec: \"aws\""),
            (with_user("{auth-provider: {name: gcp}}"), "auth-provider \"gcp\""),
            (
                with_user("{client-key-data: '*hunter2*'}"),
                "client-key-data is not PEM in base 64",
            ),
            ("current-context: x".to_owned(), "no context \"x\""),
            (String::new(), "no current-context"),
            (
                "users: [{name: u, user: {token: hunter2, password: [hunter2]}}]".to_owned(),
                "not a valid kubeconfig",
            ),
        ] {
            let told = of(&yaml).map(|access| access.url).unwrap_err();
            assert!(told.starts_with("kubeconfig F: ") && told.contains(problem), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        assert!(
            access(Path::new("/nowhere/config"))
                .unwrap_err()
                .contains("No such file")
        );
    }
}
