//! Providers that have a host for each region, and the names of models that are resources there (AWS).

use std::borrow::Cow;

use super::{Check, CheckPlace, Provider};
use crate::Host;
use crate::host::HostName;

/// What the hosts of a partition end with, by how its regions begin; the first that fits.
const PARTITIONS: [(&str, &str); 8] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("us-iso-", "c2s.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
    ("us-gov-", COMMERCIAL),
    ("", COMMERCIAL),
];

/// The end of the catalog's own hosts.
const COMMERCIAL: &str = "amazonaws.com";

/// Longest name of a region.
const LONGEST: usize = 32;

impl Provider {
    /// This provider as it is reached in a region. One without regions, and one that an operator pinned, stay where they
    /// are. `None` when that is no name of a region.
    pub fn in_region(&self, region: &str) -> Option<Cow<'_, Provider>> {
        if !is_region(region) {
            return None;
        }
        let (Some(own), Host::Name(host), false) = (&self.region, &self.endpoint.host, self.pinned) else {
            return Some(Cow::Borrowed(self));
        };
        if own == region {
            return Some(Cow::Borrowed(self));
        }
        let mut there = self.clone();
        there.endpoint.host = Host::Name(moved(host, own, region)?);
        if let Check::Asks(check) = &mut there.check
            && let CheckPlace::At(endpoint, _) = &mut check.place
            && let Host::Name(host) = &endpoint.host
        {
            endpoint.host = Host::Name(moved(host, own, region)?);
        }
        there.region = Some(region.to_owned());
        Some(Cow::Owned(there))
    }
}

/// A service's host in another region.
fn moved(host: &HostName, own: &str, region: &str) -> Option<HostName> {
    let service = host.as_str().strip_suffix(COMMERCIAL)?.strip_suffix('.')?.strip_suffix(own)?;
    let (_, end) = PARTITIONS.iter().find(|(start, _)| region.starts_with(start))?;
    format!("{service}{region}.{end}").parse().ok()
}

/// Words and, behind them, a number, as AWS names its regions. Nothing looser: other services have names of their own in the
/// place of a region (`s3-us-west-2`), where a host may be anybody's.
fn is_region(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else { return false };
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    text.len() <= LONGEST
        && words.contains('-')
        && words.split('-').all(word)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// A model's name or that of a resource (an ARN), as one segment of a path; `None` for what is neither.
pub(super) fn escaped_model(model: &str) -> Option<String> {
    let named = |b: u8| b.is_ascii_alphanumeric() || b"._-:/".contains(&b);
    let climbs = model.split('/').any(|part| matches!(part, "" | "." | ".."));
    if model.len() > 2048 || climbs || !model.bytes().all(named) {
        return None;
    }
    // A resource of the account: a model, or a way to one. A stored prompt is none.
    if let Some(resource) = model.strip_prefix("arn:") {
        let mut parts = resource.splitn(5, ':').skip(1);
        let (service, what) = (parts.next(), parts.nth(2));
        if service != Some("bedrock") || what.is_none_or(|what| what.starts_with("prompt/")) {
            return None;
        }
    }
    Some(model.replace(':', "%3A").replace('/', "%2F"))
}

#[cfg(test)]
mod tests {
    use crate::{Catalog, Endpoint};

    #[test]
    fn a_region_picks_the_host_and_nothing_else_does() {
        let catalog = Catalog::builtin();
        let aws = catalog.provider("aws").unwrap();
        for (region, host) in [
            ("us-east-1", "bedrock-runtime.us-east-1.amazonaws.com"),
            ("eu-central-1", "bedrock-runtime.eu-central-1.amazonaws.com"),
            ("us-gov-west-1", "bedrock-runtime.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", "bedrock-runtime.cn-north-1.amazonaws.com.cn"),
            ("us-iso-east-1", "bedrock-runtime.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", "bedrock-runtime.us-isob-east-1.sc2s.sgov.gov"),
            ("eusc-de-east-1", "bedrock-runtime.eusc-de-east-1.amazonaws.eu"),
        ] {
            let there = aws.in_region(region).unwrap();
            assert_eq!(there.endpoint.host.to_string(), host);
            assert_eq!((there.region.as_deref(), &there.inference), (Some(region), &aws.inference));
            // From there, every other region is to be had as well, or at least its own.
            assert_eq!(there.in_region(region).unwrap().endpoint, there.endpoint);
        }
        for bad in [
            "",
            "x",
            "us_east_1",
            "US-EAST-1",
            "us-east-1.evil.example",
            "us-east-1/",
            "-a",
            "a-",
            "us-é-1",
            "us-east",
            "us--1",
            "us-east-1-2",
            "s3-us-west-2",
            "us-east-1a",
        ] {
            assert!(aws.in_region(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn what_has_no_regions_or_is_pinned_stays_where_it_is() {
        let catalog = Catalog::builtin();
        let openai = catalog.provider("openai").unwrap();
        assert_eq!(openai.in_region("eu-west-1").unwrap().as_ref(), openai);
        let mut pinned = catalog.provider("aws").unwrap().clone();
        pinned.pinned = true;
        pinned.endpoint = "https://127.0.0.1:8443".parse::<Endpoint>().unwrap();
        assert_eq!(pinned.in_region("eu-west-1").unwrap().as_ref(), &pinned);
    }

    #[test]
    fn vectors_are_asked_for_by_any_name_and_guests_by_those_that_are_listed() {
        let catalog = Catalog::builtin();
        let aws = catalog.provider("aws").unwrap();
        let invoke = aws.embeddings_path(aws.dialect, true).unwrap();
        let arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/x";
        assert_eq!(
            invoke.for_model(arn).as_deref(),
            Some(
                "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fx/invoke"
            )
        );
        let patterns = invoke.patterns();
        for path in
            ["/model/amazon.titan-embed-text-v2:0/invoke", "/model/amazon.titan-embed-text-v2%3A0/invoke"]
        {
            assert_eq!(patterns.iter().filter(|pattern| *pattern == path).count(), 1, "{patterns:?}");
        }
        assert!(
            patterns.iter().all(|pattern| !pattern.contains('*') && invoke.covers(pattern)),
            "{patterns:?}"
        );
        assert_eq!(aws.inference_path(false).unwrap().patterns(), ["/model/*/converse"]);
    }

    #[test]
    fn names_of_models_are_one_segment_of_the_path() {
        let catalog = Catalog::builtin();
        let aws = catalog.provider("aws").unwrap();
        let path = |stream: bool, model: &str| aws.inference_path(stream).unwrap().for_model(model);
        assert_eq!(
            path(false, "anthropic.claude-3-haiku-20240307-v1:0").as_deref(),
            Some("/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse")
        );
        assert_eq!(
            path(true, "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0")
                .as_deref(),
            Some(
                "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.amazon.nova-lite-v1%3A0/converse-stream"
            )
        );
        for bad in ["", "a b", "a?b", "a/../b", "a//b", "é", "a%2Fb", "*", "/a"] {
            assert_eq!(path(false, bad), None, "{bad:?}");
        }
        let covered = |path: &str| aws.inference.iter().any(|inference| inference.covers(path));
        for path in [
            "/model/a.b-v1%3A0/converse",
            "/model/a.b-v1:0/converse-stream",
            "/model/amazon.titan-embed-text-v2%3A0/invoke",
            "/model/amazon.titan-embed-text-v2:0/invoke",
            "/model/cohere.embed-english-v3/invoke",
        ] {
            assert!(covered(path), "{path}");
        }
        for path in [
            "/model//converse",
            "/model/a/invoke",
            // A model that makes no vectors, and one that is not listed.
            "/model/amazon.nova-lite-v1:0/invoke",
            "/model/amazon.titan-embed-image-v1/invoke",
            "/model/*/invoke",
            "/model/amazon.titan-embed-text-v2:0/invoke-with-response-stream",
            "/model/a%2Fb/converse",
            "/model/a/b/converse",
            "/model/a/converse/",
            "/model/a%20b/converse",
            "/async-invoke",
        ] {
            assert!(!covered(path), "{path}");
        }
    }
}
