//! Providers that have a host for each customer, which the customer's key names (Azure).

use std::borrow::Cow;

use super::Provider;
use crate::endpoint::{Endpoint, EndpointError, Host, Scheme};
use crate::text::quote;

/// Longest version of an API that a key may name.
const LONGEST_VERSION: usize = 40;

/// Why the endpoint that a key names is not one of the provider's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Not a base URL at all.
    #[error("`endpoint`: {0}")]
    Malformed(#[from] EndpointError),
    /// Not HTTPS at its own port, where a key may be sent.
    #[error("`endpoint`: {} is not https:// at port 443, which is where a key may go", quote(.0))]
    Unsafe(String),
    /// A host that is not known to be the provider's.
    #[error(
        "`endpoint`: {} is no host of {provider}, which has {hosts}; another host needs the operator's \
         `providers.{provider}.base_url`", quote(.host)
    )]
    Host {
        /// Which provider.
        provider: String,
        /// The host.
        host: String,
        /// The patterns of the provider's hosts.
        hosts: String,
    },
    /// A path that is none of an API that is spoken here.
    #[error("`endpoint`: {} is not the path of an API that is spoken here: leave it out, or end it with {base}", quote(.path))]
    Path {
        /// The path.
        path: String,
        /// What it would be.
        base: String,
    },
    /// Not a version.
    #[error("`apiVersion`: {} is not a version such as 2024-10-21 or `preview`", quote(.0))]
    Version(String),
}

impl Provider {
    /// This provider where a key says that it is: at its customer's host, in the version of the API that the key names. One
    /// whose keys name no endpoint, and one that an operator pinned, stay where they are.
    ///
    /// `endpoint` is what people copy from the provider's console: the host alone, or with the path of the API.
    ///
    /// # Errors
    /// When that is no base URL below the hosts that the catalog knows as the provider's.
    pub fn at_endpoint(
        &self,
        endpoint: &str,
        version: Option<&str>,
    ) -> Result<Cow<'_, Provider>, PlaceError> {
        if self.hosts.is_empty() || self.pinned {
            return Ok(Cow::Borrowed(self));
        }
        let named: Endpoint = endpoint.trim().parse()?;
        if named.scheme != Scheme::Https || named.port != Scheme::Https.default_port() {
            return Err(PlaceError::Unsafe(named.to_string()));
        }
        if !self.hosts.iter().any(|pattern| matches!(&named.host, Host::Name(name) if pattern.matches(name)))
        {
            let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
            return Err(PlaceError::Host {
                provider: self.slug.to_string(),
                host: named.host.to_string(),
                hosts: hosts.join(", "),
            });
        }
        let above = self.above(&named.base_path)?.to_owned();
        let dated = version.map(Version::read).transpose()?;
        let mut there = self.clone();
        for inference in &mut there.inference {
            if let (Some(Version::Dated(_)), Some(path)) = (dated, &inference.dated) {
                inference.path.clone_from(path);
            }
            inference.path.insert_str(0, &above);
        }
        there.query = dated.and_then(Version::query);
        there.endpoint = Endpoint { base_path: format!("{above}{}", self.endpoint.base_path), ..named };
        Ok(Cow::Owned(there))
    }

    /// Whether no request can be made before a key has named an endpoint.
    pub fn needs_endpoint(&self) -> bool {
        let known =
            |host: &Host| matches!(host, Host::Name(name) if self.hosts.iter().any(|h| h.matches(name)));
        !self.hosts.is_empty() && !self.pinned && !known(&self.endpoint.host)
    }

    /// What stands before the provider's own base path in that of an endpoint, such as a project's.
    fn above<'a>(&self, path: &'a str) -> Result<&'a str, PlaceError> {
        let base = self.endpoint.base_path.as_str();
        let whole = |end: &str| path.strip_suffix(end);
        // The whole of it, or as much as the console shows: `/openai` of `/openai/v1`.
        let parts = base.match_indices('/').map(|(at, _)| &base[..at]).chain([base]);
        let above = parts.rev().find_map(whole).unwrap_or(path);
        let named = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let project = above.strip_prefix("/api/projects/");
        let is_name = |name: &str| name.bytes().all(named) && !name.bytes().all(|b| b == b'.');
        match above.is_empty() || project.is_some_and(is_name) {
            true => Ok(above),
            false => Err(PlaceError::Path { path: path.to_owned(), base: base.to_owned() }),
        }
    }
}

/// A version of a provider's API.
#[derive(Debug, Clone, Copy)]
enum Version<'a> {
    /// The one that has no date and is asked for by nothing.
    Plain,
    /// The coming one of those without a date.
    Preview,
    /// One with a date, which has paths of its own.
    Dated(&'a str),
}

impl<'a> Version<'a> {
    fn read(text: &'a str) -> Result<Self, PlaceError> {
        let text = text.trim();
        let dated = |text: &str| {
            let mut bytes = text.bytes();
            let date = "dddd-dd-dd".bytes().all(|want| match (want, bytes.next()) {
                (b'd', Some(b)) => b.is_ascii_digit(),
                (_, got) => got == Some(want),
            });
            date && text.len() <= LONGEST_VERSION && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match text {
            "" | "v1" | "latest" => Ok(Self::Plain),
            "preview" => Ok(Self::Preview),
            text if dated(text) => Ok(Self::Dated(text)),
            _ => Err(PlaceError::Version(text.to_owned())),
        }
    }

    fn query(self) -> Option<String> {
        match self {
            Self::Plain => None,
            Self::Preview => Some("api-version=preview".to_owned()),
            Self::Dated(date) => Some(format!("api-version={date}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::PlaceError;
    use crate::{Catalog, Dialect, Provider};

    fn azure() -> Provider {
        Catalog::builtin().provider("azure").unwrap().clone()
    }

    fn url(provider: &Provider, dialect: Dialect, model: &str) -> String {
        let path = provider.inference_path_in(dialect, false).unwrap().for_model(model).unwrap();
        let query = provider.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}://{}{path}{query}", provider.endpoint.scheme, provider.endpoint.authority())
    }

    #[test]
    fn what_people_copy_from_the_console_is_understood() {
        let azure = azure();
        for endpoint in [
            "https://acme.openai.azure.com",
            "https://acme.openai.azure.com/",
            " https://ACME.openai.azure.com/openai\n",
            "https://acme.openai.azure.com/openai/v1/",
            "https://acme.openai.azure.com:443/openai/v1",
        ] {
            for version in [None, Some("v1"), Some("")] {
                let there = azure.at_endpoint(endpoint, version).unwrap();
                assert!(!there.needs_endpoint());
                assert_eq!(
                    url(&there, Dialect::OpenAiChat, "gpt-4o"),
                    "https://acme.openai.azure.com/openai/v1/chat/completions",
                    "{endpoint}"
                );
                assert_eq!(
                    url(&there, Dialect::OpenAiResponses, "gpt-4o"),
                    "https://acme.openai.azure.com/openai/v1/responses"
                );
            }
        }
        for host in ["acme.services.ai.azure.com", "acme.cognitiveservices.azure.com"] {
            let there = azure.at_endpoint(&format!("https://{host}"), None).unwrap();
            assert_eq!(there.endpoint.host.to_string(), host);
        }
        let project = "https://acme.services.ai.azure.com/api/projects/p1";
        let there = azure.at_endpoint(project, Some("preview")).unwrap();
        assert_eq!(
            url(&there, Dialect::OpenAiChat, "gpt-4o"),
            format!("{project}/openai/v1/chat/completions?api-version=preview")
        );
    }

    #[test]
    fn a_dated_version_has_the_deployment_in_its_path() {
        let there = azure();
        let there = there.at_endpoint("https://acme.openai.azure.com", Some("2024-10-21")).unwrap();
        assert_eq!(
            url(&there, Dialect::OpenAiChat, "my-gpt_4.1"),
            "https://acme.openai.azure.com/openai/deployments/my-gpt_4.1/chat/completions?api-version=2024-10-21"
        );
        assert_eq!(
            url(&there, Dialect::OpenAiResponses, "my-gpt"),
            "https://acme.openai.azure.com/openai/responses?api-version=2024-10-21"
        );
        let covered = |path: &str| there.inference.iter().any(|inference| inference.covers(path));
        assert!(covered("/openai/deployments/x/chat/completions") && !covered("/openai/v1/chat/completions"));
        assert!(!covered("/openai/deployments/x/extensions/chat/completions"));
        assert!(!covered("/openai/deployments"));
    }

    #[test]
    fn claude_on_foundry_is_below_its_own_path() {
        let catalog = Catalog::builtin();
        let foundry = catalog.provider("azure-anthropic-foundry").unwrap();
        assert!(foundry.needs_endpoint());
        for endpoint in
            ["https://acme.services.ai.azure.com", "https://acme.services.ai.azure.com/anthropic/"]
        {
            let there = foundry.at_endpoint(endpoint, None).unwrap();
            assert_eq!(
                url(&there, Dialect::AnthropicMessages, "claude-sonnet-4-5"),
                "https://acme.services.ai.azure.com/anthropic/v1/messages"
            );
        }
    }

    #[test]
    fn a_key_cannot_name_any_other_place() {
        let azure = azure();
        let why = |endpoint: &str| azure.at_endpoint(endpoint, None).unwrap_err();
        for endpoint in [
            "https://openai.azure.com",
            "https://acme.openai.azure.com.evil.example",
            "https://evilopenai.azure.com",
            "https://evil.example/acme.openai.azure.com",
            "https://10.0.0.5",
            "https://azure.invalid",
        ] {
            assert!(matches!(why(endpoint), PlaceError::Host { .. }), "{endpoint}: {}", why(endpoint));
        }
        for endpoint in ["http://acme.openai.azure.com", "https://acme.openai.azure.com:8443"] {
            assert!(matches!(why(endpoint), PlaceError::Unsafe(_)), "{endpoint}");
        }
        for endpoint in [
            "",
            "acme.openai.azure.com",
            "https://user:pw@acme.openai.azure.com",
            "https://acme.openai.azure.com/openai/deployments/x/chat/completions?api-version=2024-10-21",
        ] {
            assert!(matches!(why(endpoint), PlaceError::Malformed(_)), "{endpoint}");
        }
        for endpoint in
            ["https://acme.openai.azure.com/models", "https://acme.openai.azure.com/openai/deployments/x"]
        {
            assert!(matches!(why(endpoint), PlaceError::Path { .. }), "{endpoint}");
        }
        for project in ["", ".", "..", "a/b"] {
            let endpoint = format!("https://acme.services.ai.azure.com/api/projects/{project}");
            assert!(azure.at_endpoint(&endpoint, None).is_err(), "{endpoint}");
        }
        for version in ["2024", "2024-10-21&x=y", "2024-10-21 ", "vX", "2024-10-21/../x", "2024-1-2"] {
            let read = azure.at_endpoint("https://acme.openai.azure.com", Some(version));
            assert_eq!(read.is_ok(), version.trim() == "2024-10-21", "{version}");
        }
        let shown = why("https://evil.example").to_string();
        assert!(
            shown.contains("*.openai.azure.com") && shown.contains("providers.azure.base_url"),
            "{shown}"
        );
    }

    #[test]
    fn what_has_no_customers_hosts_or_is_pinned_stays_where_it_is() {
        let catalog = Catalog::builtin();
        let openai = catalog.provider("openai").unwrap();
        assert!(!openai.needs_endpoint());
        assert!(matches!(openai.at_endpoint("https://evil.example", None), Ok(Cow::Borrowed(_))));
        let mut pinned = azure();
        assert!(pinned.needs_endpoint());
        pinned.pinned = true;
        pinned.endpoint = "https://127.0.0.1:8443/openai/v1".parse().unwrap();
        assert!(!pinned.needs_endpoint());
        assert_eq!(pinned.at_endpoint("https://evil.example", None).unwrap().as_ref(), &pinned);
    }
}
