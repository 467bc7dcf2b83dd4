//! The store data of one run: what the guest's imports act on.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::egress::Egress;
use super::meter::Growth;
use super::stdio::{Input, Output};
use crate::protocol::RunSpec;

pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    egress: Egress,
    pub(super) growth: Growth,
}

/// A mount that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be mounted: {reason}", .host.display())]
pub(super) struct NoMount {
    host: std::path::PathBuf,
    reason: String,
}

impl Guest {
    pub(super) fn new(
        spec: &RunSpec,
        input: Input,
        (stdout, stderr): (Output, Output),
        egress: Egress,
        growth: Growth,
    ) -> Result<Self, NoMount> {
        let mut wasi = WasiCtxBuilder::new();
        // Everything that is not given here stays at the builder's defaults, which are to deny. The network is said
        // all the same: TCP and UDP would be allowed (to no address).
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        // By convention the first argument is the program's name.
        wasi.arg("agent").args(&spec.args).envs(&spec.env);
        input.connect(&mut wasi);
        wasi.stdout(stdout).stderr(stderr);
        for mount in &spec.mounts {
            let perms = if mount.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            wasi.preopened_dir(&mount.host, &mount.guest, perms)
                .map_err(|error| NoMount { host: mount.host.clone(), reason: format!("{error:#}") })?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(spec.limits.streams as usize);
        Ok(Guest { wasi: wasi.build(), http: WasiHttpCtx::new(), table, egress, growth })
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.egress, table: &mut self.table, ctx: &mut self.http }
    }
}
