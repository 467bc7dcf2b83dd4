//! What the kernel says of a process.

use std::fs;

use crate::{Failed, Result};

/// One look at a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    /// Its proportional set size, in KiB: each of its pages, divided by how many share it.
    pub(crate) pss: u64,
    pub(crate) mappings: usize,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
}

impl Look {
    pub(crate) fn at(pid: u32) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let count =
            |name: &str| Ok::<_, std::io::Error>(fs::read_dir(format!("/proc/{pid}/{name}"))?.count());
        let rollup = read("smaps_rollup")?;
        let pss = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
        Ok(Self {
            pss: pss.ok_or_else(|| Failed("smaps_rollup has no Pss".into()))?,
            mappings: read("maps")?.lines().count(),
            descriptors: count("fd")?,
            threads: count("task")?,
        })
    }
}

/// Processor time of a process so far, in seconds.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold anything; user and system time are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let each_second = rustix::param::clock_ticks_per_second();
    #[expect(clippy::cast_precision_loss, reason = "hours are few ticks")]
    Ok(ticks as f64 / each_second as f64)
}
