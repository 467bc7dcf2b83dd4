//! Compiled code straight from a file's mapping.
//!
//! A component has no open-file form of deserialisation, and a path would stop working inside the jail. So the
//! artifact is mapped privately and read-only, handed to wasmtime in its raw form, and its text made executable
//! by [`PublishMapped`]. Workers of one agent share the pages, and nothing is copied.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect};
use rustix::param::page_size;
use wasmtime::component::Component;
use wasmtime::{CustomCodeMemory, Engine};

/// The first bytes of a file, mapped for the rest of the process's life.
///
/// There is no unmapping: wasmtime keeps pointers into it for as long as anything of the component lives, and a
/// worker loads one artifact, once.
#[derive(Clone, Copy)]
pub(crate) struct Mapped(NonNull<[u8]>);

impl Mapped {
    /// Maps the first `length` bytes of `file`, which must stay as they are.
    pub(crate) fn new(file: impl AsFd, length: usize) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0) }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapped(NonNull::slice_from_raw_parts(base, length)))
    }

    /// Loads the component whose serialised form is mapped, into an engine made by
    /// [`engine_for_mapped_code`](super::engine_for_mapped_code).
    ///
    /// # Safety
    /// The bytes must be what the compile jail returned: wasmtime trusts them.
    pub(crate) unsafe fn load(self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the mapping is never unmapped, never written to and private; the contents are the caller's duty.
        unsafe { Component::deserialize_raw(engine, self.0) }
    }
}

/// Makes mapped text executable. The pages were never writable.
pub(crate) struct PublishMapped;

impl CustomCodeMemory for PublishMapped {
    fn required_alignment(&self) -> usize {
        page_size()
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        protect(start, length, MprotectFlags::READ | MprotectFlags::EXEC)
    }

    fn unpublish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        protect(start, length, MprotectFlags::READ)
    }
}

/// Leaves text as it is, for a process that may have no executable memory and runs none of it.
pub(crate) struct NeverExecuted;

impl CustomCodeMemory for NeverExecuted {
    fn required_alignment(&self) -> usize {
        page_size()
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

fn protect(start: *const u8, length: usize, flags: MprotectFlags) -> wasmtime::Result<()> {
    let length = length.next_multiple_of(page_size());
    // SAFETY: wasmtime passes the page-aligned text of a `Mapped` that it was given and that is never unmapped;
    // taking writability away or adding executability cannot invalidate a reference.
    unsafe { mprotect(start.cast_mut().cast::<c_void>(), length, flags) }?;
    Ok(())
}
