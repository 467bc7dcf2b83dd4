//! `records:` of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use orch_manifests::{ByteSize, Slug, format_duration, parse_duration};
use serde::Deserialize;

/// How long bodies are kept where nothing is said, and at most.
const KEEP: Duration = Duration::from_secs(7 * 86_400);
const LONGEST: Duration = Duration::from_secs(90 * 86_400);
/// How much of each body is kept where nothing is said, and at most, in bytes.
const SIZE: usize = 64 << 10;
const LARGEST: usize = 1 << 20;

/// What is recorded beside what always is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RecordsConfig {
    /// The workspaces that keep what is asked and answered.
    pub(crate) bodies: BTreeMap<String, BodiesKept>,
}

/// How a workspace keeps what is asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodiesKept {
    /// For so long.
    pub(crate) keep: Duration,
    /// So many bytes of a request, and of an answer.
    pub(crate) size: usize,
}

impl BodiesKept {
    /// What people are told where it is so.
    pub(crate) fn said(&self) -> String {
        let (keep, size) = (format_duration(self.keep), self.size.div_ceil(1024));
        format!("what models are asked and answer is kept for {keep}, up to {size} KiB of each")
    }
}

/// The section as it stands in the file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRecords {
    bodies: BTreeMap<String, RawBodies>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawBodies {
    keep: Option<String>,
    size: Option<Size>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

impl RawRecords {
    /// Reads it.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(crate) fn parse(self) -> Result<RecordsConfig, (String, String)> {
        let mut config = RecordsConfig::default();
        for (workspace, raw) in self.bodies {
            let at = |field: &str| format!("bodies.{workspace}.{field}");
            // Who asks for it and misspells it would find out when it is too late.
            workspace.parse::<Slug>().map_err(|e| (format!("bodies.{workspace}"), e.to_string()))?;
            let keep = match &raw.keep {
                None => KEEP,
                Some(text) => parse_duration(text).map_err(|e| (at("keep"), e.to_string()))?,
            };
            if keep.is_zero() || keep > LONGEST {
                return Err((at("keep"), "is more than nothing and at most 90d".to_owned()));
            }
            let size = match &raw.size {
                None => SIZE as u64,
                Some(Size::Bytes(bytes)) => *bytes,
                Some(Size::Text(text)) => {
                    text.parse::<ByteSize>().map_err(|e| (at("size"), e.to_string()))?.0
                }
            };
            let size = usize::try_from(size).ok().filter(|size| (1..=LARGEST).contains(size));
            let size = size.ok_or_else(|| (at("size"), "is from 1 byte to 1MiB".to_owned()))?;
            config.bodies.insert(workspace, BodiesKept { keep, size });
        }
        Ok(config)
    }
}
