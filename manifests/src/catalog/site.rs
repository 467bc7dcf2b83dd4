//! Where a key says that it is used, of providers that have a host for each region or for each customer.

use std::borrow::Cow;

use super::{Auth, PlaceError, Provider};
use crate::Host;

/// The place that a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// A region (AWS).
    Region(String),
    /// A customer's resource (Azure).
    Resource {
        /// Its base URL.
        endpoint: String,
        /// The version of the API, where the key names one.
        version: Option<String>,
        /// What a model is deployed as, where the key names that: it is asked for in the model's place.
        deployment: Option<String>,
    },
    /// One of the hosts of a provider that hands out tokens for several.
    Host(String),
    /// A project, which is billed (Google).
    Project(String),
}

/// Hosts that a token of Qwen Code may be for. The token names one, and whoever writes that file must not choose another.
const QWEN_HOSTS: [&str; 3] = ["portal.qwen.ai", "dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"];

/// What stands before the version in the paths of Alibaba's own hosts.
const COMPATIBLE: &str = "/compatible-mode";

/// As Google writes them: letters, digits and hyphens, perhaps after the name of a domain.
fn is_project(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
    (4..=63).contains(&text.len()) && text.bytes().all(plain)
}

impl Provider {
    /// This provider at the place that a key names. One that an operator pinned stays where it is.
    ///
    /// # Errors
    /// When the place is none of this provider's; says why, in words for a person and without the key.
    pub fn at(&self, site: &Site) -> Result<Cow<'_, Provider>, String> {
        match site {
            Site::Region(region) => self
                .in_region(region)
                .ok_or_else(|| "its region is no name of a region such as eu-central-1".to_owned()),
            Site::Resource { endpoint, version, deployment } => {
                self.at_resource(endpoint, version.as_deref(), deployment.as_deref())
            }
            Site::Host(host) => self.at_host(host),
            Site::Project(project) => match is_project(project) {
                true => Ok(Cow::Owned(Provider { project: Some(project.clone()), ..self.clone() })),
                false => {
                    Err("its `projectId` is no project of Google Cloud, such as my-project-123".to_owned())
                }
            },
        }
    }

    /// At a customer's resource. What is wrong with it is said without what was written: a key may stand in the wrong field.
    fn at_resource(
        &self,
        endpoint: &str,
        version: Option<&str>,
        deployment: Option<&str>,
    ) -> Result<Cow<'_, Provider>, String> {
        let there = self.at_endpoint(endpoint, version).map_err(|error| match error {
            PlaceError::Malformed(_) => {
                "its `endpoint` is no base URL such as https://RESOURCE.openai.azure.com".to_owned()
            }
            PlaceError::Unsafe(_) => "its `endpoint` is not https:// at port 443, where a key may go".to_owned(),
            PlaceError::Host { provider, hosts, .. } => format!(
                "its `endpoint` is no host of {provider}, which has {hosts}; another host needs the operator's \
                 `providers.{provider}.base_url`"
            ),
            PlaceError::Path { base, .. } => format!(
                "its `endpoint` has a path of no API that is spoken here: leave the path out, or end it with {base}"
            ),
            PlaceError::Version(_) => {
                "its `apiVersion` is no version such as 2024-10-21 or `preview`".to_owned()
            }
        })?;
        match deployment {
            None => Ok(there),
            Some(name) => {
                Ok(Cow::Owned(Provider { deployment: Some(name.to_owned()), ..there.into_owned() }))
            }
        }
    }

    fn at_host(&self, host: &str) -> Result<Cow<'_, Provider>, String> {
        if self.pinned {
            return Ok(Cow::Borrowed(self));
        }
        let known = matches!(&self.auth, Auth::TokenFile(Tool::QwenCode)) && QWEN_HOSTS.contains(&host);
        match host.parse() {
            Ok(name) if known => {
                let mut there = self.clone();
                there.endpoint.host = Host::Name(name);
                if host.starts_with("dashscope") {
                    there.endpoint.base_path.insert_str(0, COMPATIBLE);
                    for inference in &mut there.inference {
                        inference.path.insert_str(0, COMPATIBLE);
                    }
                }
                Ok(Cow::Owned(there))
            }
            _ => Err(format!("it is for another host than {}", QWEN_HOSTS.join(", "))),
        }
    }
}

/// Another tool that signs a person in, and keeps what it gets in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// Qwen Code.
    QwenCode,
    /// Gemini CLI.
    GeminiCli,
    /// Claude Code.
    ClaudeCode,
}

impl Tool {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QwenCode => "Qwen Code",
            Self::GeminiCli => "Gemini CLI",
            Self::ClaudeCode => "Claude Code",
        }
    }

    /// The command that starts it, which signs in again where that is needed.
    pub const fn command(self) -> &'static str {
        match self {
            Self::QwenCode => "qwen",
            Self::GeminiCli => "gemini",
            Self::ClaudeCode => "claude",
        }
    }

    /// Where it keeps its file, below the home folder: the first that is there.
    pub const fn files(self) -> &'static [&'static str] {
        match self {
            Self::QwenCode => &[".qwen/oauth_creds.json"],
            Self::GeminiCli => &[".gemini/oauth_creds.json"],
            Self::ClaudeCode => &[".claude/.credentials.json", ".claude/oauth_creds.json"],
        }
    }

    /// What its provider's terms say of using the file elsewhere; none where nothing is known against it.
    pub const fn forbids(self) -> Option<&'static str> {
        match self {
            Self::ClaudeCode => Some(
                "Anthropic does not permit tokens of Free, Pro and Max subscriptions in other products than its own \
                 (February 2026)",
            ),
            Self::QwenCode | Self::GeminiCli => None,
        }
    }

    /// What a person should know before the file is used; none where there is nothing.
    pub const fn remark(self) -> Option<&'static str> {
        match self {
            Self::QwenCode => Some("Qwen ended the free tier of this sign-in on 2026-04-15"),
            Self::GeminiCli | Self::ClaudeCode => None,
        }
    }
}

impl std::str::FromStr for Tool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "qwen-code" => Ok(Self::QwenCode),
            "gemini-cli" => Ok(Self::GeminiCli),
            "claude-code" => Ok(Self::ClaudeCode),
            other => Err(format!("{other} is no tool whose credential file is known")),
        }
    }
}
