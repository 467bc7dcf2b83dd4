//! Azure's keys as people keep them: `{"endpoint","apiKey","deploymentName"?,"apiVersion"?}`. The endpoint says where the
//! resource is, within the hosts that the catalog knows as Azure's; what travels is the key alone.

use std::sync::Arc;

use orch_manifests::{Auth, Site};
use orch_proxy::Scrubber;
use orch_vault::Secret;
use zeroize::Zeroizing;

use super::fields::{self, Field};

const FIELDS: &[Field] = &[
    Field::required("endpoint"),
    Field::required("apiKey"),
    Field::optional("deploymentName"),
    Field::optional("apiVersion"),
];

/// Of a service that has one version.
const FOUNDRY: &[Field] =
    &[Field::required("endpoint"), Field::required("apiKey"), Field::optional("deploymentName")];

/// A key that names its resource.
pub(crate) struct AzureKey {
    endpoint: String,
    api_key: Zeroizing<String>,
    deployment: Option<String>,
    version: Option<String>,
}

impl AzureKey {
    /// Reads a key; `None` for one that is no JSON, which an operator's pin says the place of.
    ///
    /// # Errors
    /// What begins as JSON is no key, and why, without a value of it.
    pub(crate) fn read(auth: &Auth, secret: &Secret) -> Result<Option<Self>, String> {
        secret.expose(|bytes| {
            if !fields::is_json(bytes) {
                return Ok(None);
            }
            let mut texts = fields::texts(bytes, if *auth == Auth::AzureFoundry { FOUNDRY } else { FIELDS })?;
            let api_key = texts.take("apiKey");
            if !api_key.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
                return Err("its field `apiKey` holds blanks or other characters that no key has".to_owned());
            }
            let plain = |text: Zeroizing<String>| text.as_str().trim().to_owned();
            let deployment = texts.take_some("deploymentName").map(plain);
            let named = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            // Two dots are a way up in a path, and one is none.
            let odd = |name: &str| name.len() > 64 || !name.bytes().all(named) || name.bytes().all(|b| b == b'.');
            if deployment.as_deref().is_some_and(odd) {
                return Err("its field `deploymentName` is no name of a deployment: it has letters, digits, `.`, `_` and `-`"
                    .to_owned());
            }
            Ok(Some(Self {
                endpoint: plain(texts.take("endpoint")),
                api_key,
                deployment,
                version: texts.take_some("apiVersion").map(plain),
            }))
        })
    }

    /// Where it is used.
    pub(crate) fn site(&self) -> Site {
        Site::Resource {
            endpoint: self.endpoint.clone(),
            version: self.version.clone(),
            deployment: self.deployment.clone(),
        }
    }

    /// What travels.
    pub(crate) fn value(&self) -> &[u8] {
        self.api_key.as_bytes()
    }
}

/// Finds what of a key travels that names its resource; none where this is no such key.
pub(crate) fn scrubber(secret: &Secret) -> Option<Arc<Scrubber>> {
    let key = AzureKey::read(&Auth::Azure, secret).ok()??;
    Scrubber::new(key.value()).map(Arc::new)
}
