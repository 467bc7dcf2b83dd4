//! The store data of one run: what the guest's imports act on.

use std::any::Any;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::Method;
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::egress::{BODY, Egress};
use super::files::{Files, Preopens};
use super::meter::memory::{Charge, Growth};
use super::meter::{LimitHit, Meter};
use super::stdio::{Input, Output};
use super::wire::STREAM_WINDOW;
use crate::jail::{Folders, NoMount, NoScratch, Quota};
use crate::protocol::{self, RunSpec};

pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    preopens: Preopens,
    quota: Option<Quota>,
    table: ResourceTable,
    egress: Egress,
    pub(super) growth: Growth,
    meter: Arc<Meter>,
    /// For the input.
    _input: Option<Charge>,
}

/// What a resource takes beside what is counted of it, in bytes: its entry, its state, its task.
const RESOURCE: u64 = 512;

/// What a header takes beside its name and value, in bytes.
const HEADER: u64 = 96;

/// The most random bytes that one call may ask for.
const MAX_RANDOM: u64 = 8 << 20;

/// A folder that the run was promised and cannot have.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoFolder {
    #[error(transparent)]
    Mount(#[from] NoMount),
    #[error(transparent)]
    Scratch(#[from] NoScratch),
    #[error("the scratch folders cannot be opened: {0}")]
    Unusable(std::io::Error),
}

impl Guest {
    pub(super) fn new(
        spec: &RunSpec,
        folders: &Folders,
        input: Input,
        (stdout, stderr): (Output, Output),
        egress: Egress,
        meter: &Arc<Meter>,
    ) -> Result<Self, NoFolder> {
        let mut wasi = WasiCtxBuilder::new();
        // Everything that is not given here stays at the builder's defaults, which are to deny. The network is said
        // all the same: TCP and UDP would be allowed (to no address).
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        // By convention the first argument is the program's name.
        wasi.arg("agent").args(&spec.args).envs(&spec.env);
        // The guest's own threads read and write its files, so that its account has what that takes.
        wasi.allow_blocking_current_thread(true).max_random_size(MAX_RANDOM);
        // Too large an input ends the run at its first turn.
        let arrived = match &spec.input {
            protocol::Input::Inline(text) => text.len() as u64,
            // As much of it may be here before the guest reads any.
            protocol::Input::Stream => STREAM_WINDOW.into(),
        };
        let _input = meter.charge(arrived).ok();
        input.connect(&mut wasi);
        wasi.stdout(stdout).stderr(stderr);
        let mut preopens = Preopens::default();
        for mount in &spec.mounts {
            let unusable =
                |error: std::io::Error| NoMount { host: mount.host.clone(), reason: error.to_string() };
            preopens.add(folders.of(mount)?, &mount.guest, mount.writable).map_err(unusable)?;
        }
        let mut quota = None;
        if let Some(space) = folders.take_scratch()? {
            for (guest, folder) in space.folders() {
                preopens.add(folder, guest, true).map_err(NoFolder::Unusable)?;
            }
            quota = Some(space.quota().map_err(NoFolder::Unusable)?);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(spec.limits.resources as usize);
        Ok(Guest {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            preopens,
            quota,
            table,
            egress,
            growth: Growth::new(meter),
            meter: Arc::clone(meter),
            _input,
        })
    }

    /// What its file calls act on.
    pub(super) fn files(&mut self) -> Files<'_> {
        let wasi = WasiFilesystemCtxView { ctx: self.wasi.filesystem(), table: &mut self.table };
        let Guest { preopens, quota, meter, .. } = self;
        Files { wasi, preopens, quota: quota.as_ref(), meter }
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Brings the account up to date with what the guest's handles stand for.
    pub(super) fn count_resources(&mut self) -> Result<(), LimitHit> {
        let held = self.table.iter_mut().map(|resource| RESOURCE + held(resource)).sum();
        self.meter.resources_are(held)
    }
}

/// What the guest can make a resource hold, in bytes.
fn held(resource: &dyn Any) -> u64 {
    if let Some(fields) = resource.downcast_ref() {
        return headers(fields);
    }
    if let Some(request) = resource.downcast_ref::<HostOutgoingRequest>() {
        let method = match &request.method {
            Method::Other(method) => method.len(),
            _ => 0,
        };
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let named = method + text(&request.authority) + text(&request.path_with_query);
        return headers(&request.headers) + named as u64;
    }
    if resource.is::<HostOutgoingBody>() {
        return BODY;
    }
    if let Some(response) = resource.downcast_ref::<HostIncomingResponse>() {
        return headers(&response.headers);
    }
    resource.downcast_ref::<HostOutgoingResponse>().map_or(0, |response| headers(&response.headers))
}

fn headers(fields: &FieldMap) -> u64 {
    fields.iter().map(|(name, value)| HEADER + (name.as_str().len() + value.len()) as u64).sum()
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
