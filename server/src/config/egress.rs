//! `egress`: what widens the way out, what stands on it, and how long things may take there.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orch_manifests::{EgressWant, Host, HostName, HostPattern};
use orch_proxy::{Pace, ProxyLogin, Resolution, Timeouts, UpstreamProxy};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::read_roots;
use super::timeouts::some_wait;
use crate::home::private;
use crate::permissions::AllowedHost;

/// Largest file with a password, in bytes.
const PASSWORD_LIMIT: u64 = 4096;

/// The section, parsed and checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressConfig {
    /// Certificate authorities beside the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Hosts granted to every agent whose manifest asks for them.
    pub allow: Vec<AllowedHost>,
    /// A policy on trial, for every run: what it would refuse is written down, and nothing else.
    pub trial: Option<Vec<EgressWant>>,
    /// Other addresses to dial for granted origins.
    pub connect_to: Vec<((HostName, u16), SocketAddr)>,
    /// Name servers that are asked instead of the machine's own; none means the machine's own.
    pub name_servers: Vec<SocketAddr>,
    /// A proxy on the way to origins that are reached by their name.
    pub upstream_proxy: Option<Arc<UpstreamProxy>>,
    /// How long things may take.
    pub timeouts: Timeouts,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEgress {
    ca_file: Option<String>,
    allow: Vec<String>,
    /// Read from the text itself, whose places its errors name.
    trial: Option<serde_yaml::Value>,
    connect_to: BTreeMap<String, String>,
    name_servers: Vec<String>,
    upstream_proxy: Option<serde_yaml::Value>,
    timeouts: RawTimeouts,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawTimeouts {
    dns: Option<String>,
    connect: Option<String>,
    tls: Option<String>,
    first_byte: Option<String>,
    idle: Option<String>,
    total: Option<String>,
    min_rate: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUpstreamProxy {
    url: String,
    user: Option<String>,
    password_file: Option<String>,
    #[serde(default)]
    resolve: RawResolve,
    #[serde(default)]
    no_proxy: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum RawResolve {
    #[default]
    Local,
    Remote,
}

impl RawEgress {
    /// Whether a policy is on trial.
    pub(super) fn has_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Reads every field, and the files that they name; an error names the field, below `egress`.
    pub(super) fn parse(self, folder: &Path) -> Result<EgressConfig, (String, String)> {
        let mut egress = EgressConfig::default();
        for (index, host) in self.allow.iter().enumerate() {
            egress.allow.push(host.parse().map_err(|e: String| (format!("allow[{index}]"), e))?);
        }
        for (from, to) in &self.connect_to {
            let wrong = |why| (format!("connect_to.{from:?}"), why);
            let to = to
                .parse()
                .map_err(|_| wrong(format!("{to:?} is not ADDRESS:PORT, such as 127.0.0.1:9443")))?;
            egress.connect_to.push((parse_origin(from).map_err(wrong)?, to));
        }
        for (index, server) in self.name_servers.iter().enumerate() {
            let server = parse_name_server(server).map_err(|why| (format!("name_servers[{index}]"), why))?;
            egress.name_servers.push(server);
        }
        if let Some(file) = self.ca_file {
            egress.extra_roots = read_roots(&folder.join(file)).map_err(|e| ("ca_file".to_owned(), e))?;
        }
        egress.timeouts = self.timeouts.parse()?;
        if let Some(value) = self.upstream_proxy {
            let wrong = |(field, why): (&str, String)| (format!("upstream_proxy{field}"), why);
            egress.upstream_proxy = Some(Arc::new(upstream_proxy(value, folder).map_err(wrong)?));
        }
        Ok(egress)
    }
}

impl RawTimeouts {
    fn parse(&self) -> Result<Timeouts, (String, String)> {
        let default = Timeouts::default();
        let read =
            |name: &str, said: &Option<String>, default: Duration| some_wait(name, said.as_deref(), default);
        let idle = read("idle", &self.idle, default.idle)?;
        // Who may be quiet for longer may fall behind that far.
        let said = self.idle.as_ref().map_or(Duration::ZERO, |_| idle);
        let patience = default.pace.patience.max(said);
        let pace = Pace { rate: self.min_rate.unwrap_or(default.pace.rate), patience };
        Ok(Timeouts {
            dns: read("dns", &self.dns, default.dns)?,
            connect: read("connect", &self.connect, default.connect)?,
            tls: read("tls", &self.tls, default.tls)?,
            first_byte: read("first_byte", &self.first_byte, default.first_byte)?,
            idle,
            total: read("total", &self.total, default.total)?,
            pace,
        })
    }
}

/// `http://[user:password@]host:port`, or the same taken apart, with the password in a file. No message repeats the URL,
/// which may hold a password.
fn upstream_proxy(value: serde_yaml::Value, folder: &Path) -> Result<UpstreamProxy, (&'static str, String)> {
    let raw: RawUpstreamProxy = match value {
        serde_yaml::Value::String(url) => RawUpstreamProxy {
            url,
            user: None,
            password_file: None,
            resolve: RawResolve::Local,
            no_proxy: Vec::new(),
        },
        other => serde_yaml::from_value(other).map_err(|e| ("", e.to_string()))?,
    };
    let (host, port, mut login) = parse_url(&raw.url).map_err(|why| (".url", why))?;
    match (&raw.user, &raw.password_file) {
        (None, None) => {}
        (Some(_), _) | (_, Some(_)) if login.is_some() => {
            return Err((".url", "names a user, and so do the fields beside it".to_owned()));
        }
        (Some(user), Some(file)) => {
            let password = read_password(&folder.join(file)).map_err(|why| (".password_file", why))?;
            let basic = ProxyLogin::basic(user, &password);
            login = Some(basic.map_err(|e| (".user", format!("the login cannot be sent: {e}")))?);
        }
        (Some(_), None) => return Err((".password_file", "is missing: a user has a password".to_owned())),
        (None, Some(_)) => return Err((".user", "is missing: a password is a user's".to_owned())),
    }
    let no_proxy = raw.no_proxy.iter().map(|text| text.parse::<HostPattern>()).collect::<Result<_, _>>();
    Ok(UpstreamProxy {
        host,
        port,
        login,
        resolution: match raw.resolve {
            RawResolve::Local => Resolution::Here,
            RawResolve::Remote => Resolution::Remote,
        },
        no_proxy: no_proxy.map_err(|e| (".no_proxy", e.to_string()))?,
    })
}

fn parse_url(text: &str) -> Result<(Host, u16, Option<ProxyLogin>), String> {
    const FORM: &str = "write it as http://HOST:PORT";
    let url = url::Url::parse(text).map_err(|e| format!("is not a URL ({e}); {FORM}"))?;
    if url.scheme() != "http" {
        return Err(format!("is not http, which is how orch speaks with such a proxy; {FORM}"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("has a path, a query or a fragment; {FORM}"));
    }
    let host = match url.host() {
        Some(url::Host::Domain(name)) => Host::Name(name.parse().map_err(|e| format!("names no host: {e}"))?),
        Some(url::Host::Ipv4(ip)) => Host::Ip(ip.into()),
        Some(url::Host::Ipv6(ip)) => Host::Ip(ip.into()),
        None => return Err(format!("names no host; {FORM}")),
    };
    let port = url.port_or_known_default().ok_or_else(|| format!("names no port; {FORM}"))?;
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => {
            let user = decoded(user)?;
            let password = Zeroizing::new(decoded(password.unwrap_or_default())?);
            Some(
                ProxyLogin::basic(&user, &password)
                    .map_err(|e| format!("has a login that cannot be sent: {e}"))?,
            )
        }
    };
    Ok((host, port, login))
}

fn decoded(text: &str) -> Result<String, String> {
    let bytes = percent_encoding::percent_decode_str(text);
    let text = bytes.decode_utf8().map_err(|_| "has a login that is not UTF-8".to_owned())?;
    Ok(text.into_owned())
}

/// A password's file is its owner's to read and nobody else's.
fn read_password(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = private::read(path, PASSWORD_LIMIT, "the password of the upstream proxy")
        .map_err(|failure| failure.message().to_owned())?
        .ok_or_else(|| format!("{} is not there", path.display()))?;
    let text = Zeroizing::new(text);
    let mode = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("{path} can be read by other users; chmod 600 {path}", path = path.display()));
    }
    let password = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Zeroizing::new(password.strip_suffix('\r').unwrap_or(password).to_owned()))
}

/// `name:port`.
fn parse_origin(text: &str) -> Result<(HostName, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} is not HOST:PORT"))?;
    let host = host.parse().map_err(|e| format!("{host:?} is not a host name: {e}"))?;
    let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
    Ok((host, port))
}

/// An address with or without a port; name servers listen on 53.
fn parse_name_server(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
        .map_err(|_| format!("{text:?} is not ADDRESS or ADDRESS:PORT, such as 10.0.0.2 or 127.0.0.1:5353"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, folder: &Path) -> Result<EgressConfig, String> {
        let raw: RawEgress = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
        raw.parse(folder).map_err(|(field, why)| format!("{field}: {why}"))
    }

    fn proxy(text: &str) -> Result<UpstreamProxy, String> {
        let egress = parse(&format!("upstream_proxy: {text}"), Path::new("/nowhere"))?;
        Ok(Arc::into_inner(egress.upstream_proxy.expect("one")).expect("nobody else's"))
    }

    fn login(user: &str, password: &str) -> Option<ProxyLogin> {
        ProxyLogin::basic(user, password).ok()
    }

    #[test]
    fn an_upstream_proxy_is_a_url_or_its_parts() {
        let plain = proxy("http://proxy.corp.example:3128").expect("fine");
        assert_eq!(
            (plain.to_string().as_str(), plain.resolution),
            ("proxy.corp.example:3128", Resolution::Here)
        );
        assert!(plain.login.is_none() && plain.no_proxy.is_empty());
        let with = proxy("\"http://me:s%40cret%3A@10.0.0.1:8080/\"").expect("fine");
        assert_eq!((with.to_string().as_str(), with.port), ("10.0.0.1:8080", 8080));
        assert!(with.login == login("me", "s@cret:"));
        let parts =
            "{ url: \"http://[fd00::1]:3128\", resolve: remote, no_proxy: [a.example, \"*.b.example\"] }";
        let parts = proxy(parts).expect("fine");
        assert_eq!((parts.resolution, parts.no_proxy.len()), (Resolution::Remote, 2));
        assert!(parse("upstream_proxy: null", Path::new("/")).expect("fine").upstream_proxy.is_none());
    }

    #[test]
    fn what_is_wrong_with_it_is_said_without_its_password() {
        for (text, part) in [
            ("\"https://me:hunter2@p:1\"", ".url: is not http"),
            ("\"socks5://me:hunter2@p:1\"", ".url: is not http"),
            ("\"http://me:hunter2@p:1/path\"", ".url: has a path"),
            ("\"http://me:hunter2@p:99999\"", ".url: is not a URL"),
            ("\"http://me:%ff@p:1\"", ".url: has a login that is not UTF-8"),
            ("\"http://me:hunter2%0d%0aX@p:1\"", ".url: has a login that cannot be sent"),
            ("proxy:3128", ".url: is not http"),
            ("{ user: me }", "upstream_proxy: missing field `url`"),
            ("{ url: \"http://p:1\", user: me }", ".password_file: is missing"),
            ("{ url: \"http://p:1\", password_file: f }", ".user: is missing"),
            ("{ url: \"http://a:hunter2@p:1\", user: me, password_file: f }", ".url: names a user"),
            ("{ url: \"http://p:1\", user: me, password_file: absent }", "/nowhere/absent is not there"),
            ("{ url: \"http://p:1\", resolve: maybe }", "unknown variant `maybe`"),
            ("{ url: \"http://p:1\", no_proxy: [\"*\"] }", ".no_proxy: "),
            ("{ url: \"http://p:1\", pasword: hunter2 }", "unknown field `pasword`"),
            ("[1]", "upstream_proxy: "),
        ] {
            let error = proxy(text).expect_err(text);
            assert!(error.contains(part), "{error:?} does not say {part:?}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_of_its_owner_s() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("password");
        fs::write(&file, "hunter2\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("closed");
        let text = "upstream_proxy: { url: \"http://p:1\", user: me, password_file: password }";
        let egress = parse(text, dir.path()).expect("fine");
        assert!(egress.upstream_proxy.expect("one").login == login("me", "hunter2"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("opened");
        let error = parse(text, dir.path()).expect_err("refused");
        assert!(error.contains("can be read by other users") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn timeouts_are_durations_that_leave_time() {
        let text =
            "timeouts: { dns: 1s, connect: 2s, tls: 3s, first_byte: 4m, idle: 5s, total: 1h, min_rate: 0 }";
        let timeouts = parse(text, Path::new("/")).expect("fine").timeouts;
        assert_eq!((timeouts.dns.as_secs(), timeouts.first_byte.as_secs(), timeouts.pace.rate), (1, 240, 0));
        let patient = parse("timeouts: { idle: 10m }", Path::new("/")).expect("fine").timeouts;
        assert_eq!((patient.pace.patience.as_secs(), patient.pace.rate), (600, 256));
        assert_eq!(parse("{}", Path::new("/")).expect("fine").timeouts, Timeouts::default());
        for (text, part) in [
            ("timeouts: { idle: 0s }", "timeouts.idle: is zero"),
            ("timeouts: { idle: \"5\" }", "timeouts.idle: `5` is not a duration"),
            ("timeouts: { min_rate: -1 }", "min_rate"),
            ("timeouts: { read: 1s }", "unknown field `read`"),
        ] {
            let error = parse(text, Path::new("/")).expect_err(text);
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }
}
