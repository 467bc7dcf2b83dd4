//! File rights below the mounts only; no TCP, no signals to other processes, no abstract sockets.

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};

use super::mounts::Folders;
use super::report::Layer;

/// The newest version whose rights are all taken away; of an older kernel's as many as it has.
const ABI_IN_FULL: ABI = ABI::V6;
/// The newest version that is known, whose rights beyond are taken away where there are any.
const ABI_KNOWN: ABI = ABI::V10;

pub(super) struct Landlock<'a> {
    pub(super) folders: &'a Folders,
}

impl Landlock<'_> {
    pub(super) fn apply(&self) -> Layer {
        match self.restrict() {
            Ok(layer) => layer,
            Err(error) => Layer::missing(error.to_string()),
        }
    }

    fn restrict(&self) -> Result<Layer, RulesetError> {
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(ABI_KNOWN))?
            .handle_access(AccessNet::from_all(ABI_KNOWN))?
            .scope(Scope::from_all(ABI_KNOWN))?
            .create()?;
        for (folder, writable) in self.folders.rights() {
            rules = rules.add_rule(PathBeneath::new(folder, rights(writable)))?;
        }
        let status = rules.restrict_self()?;
        if status.ruleset == RulesetStatus::NotEnforced {
            return Ok(Layer::missing(match status.landlock {
                LandlockStatus::NotEnabled => {
                    "it is switched off at boot (add landlock to the `lsm=` of the kernel)"
                }
                _ => "the kernel does not have it; Linux does from 5.13 on",
            }));
        }
        Ok(match status.landlock {
            LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI_IN_FULL => Layer::Active,
            LandlockStatus::Available { effective_abi, .. } => Layer::partial(format!(
                "this kernel's version {} has no rules for {}",
                effective_abi as i32,
                lacking(effective_abi)
            )),
            _ => Layer::partial("the kernel does not say which version of it holds"),
        })
    }
}

/// What may be done below a mount. Never to execute, and never anything with devices, pipes or sockets.
fn rights(writable: bool) -> BitFlags<AccessFs> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = make_bitflags!(AccessFs::{
        WriteFile | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSym | Refer | Truncate
    });
    if writable { read | write } else { read }
}

/// What older versions leave open.
fn lacking(abi: ABI) -> String {
    let since = [
        (ABI::V2, "moving files between folders"),
        (ABI::V3, "truncating files"),
        (ABI::V4, "TCP"),
        (ABI::V5, "devices"),
        (ABI::V6, "signals and abstract sockets"),
    ];
    let lacking: Vec<&str> =
        since.into_iter().filter(|(version, _)| abi < *version).map(|(_, what)| what).collect();
    lacking.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{fs, io, thread};

    use super::*;
    use crate::protocol::Mount;

    #[test]
    fn a_read_only_mount_gives_no_right_to_change_anything() {
        assert!((rights(false) & AccessFs::from_write(ABI_KNOWN)).is_empty());
        for never in [AccessFs::Execute, AccessFs::MakeChar, AccessFs::MakeBlock, AccessFs::MakeSock] {
            assert!(!rights(true).contains(never), "{never:?}");
        }
    }

    /// The layer by itself, on a thread of its own: without the others around it, it has to do.
    #[test]
    fn nothing_but_the_mounts_can_be_opened() {
        let (read, written, outside) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&read, &written, &outside] {
            fs::write(folder.path().join("file"), "as it was").unwrap();
        }
        let mount = |folder: &tempfile::TempDir, writable| Mount {
            host: folder.path().canonicalize().unwrap(),
            guest: "/data".to_owned(),
            writable,
        };
        let mounts = [mount(&read, false), mount(&written, true)];
        let refused = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        let jailed = || {
            let folders = Folders::open(&mounts);
            let layer = Landlock { folders: &folders }.apply();
            assert_eq!(layer, Layer::Active, "this needs Linux 6.12");
            let file = |folder: &tempfile::TempDir| folder.path().join("file");
            assert_eq!(fs::read_to_string(file(&read)).unwrap(), "as it was");
            assert!(refused(fs::write(file(&read), "changed").unwrap_err()));
            assert!(refused(fs::remove_file(file(&read)).unwrap_err()));
            fs::write(file(&written), "changed").unwrap();
            assert!(refused(fs::read(file(&outside)).unwrap_err()));
            assert!(refused(fs::read("/proc/self/mem").unwrap_err()));
            assert!(refused(std::os::unix::net::UnixListener::bind(written.path().join("s")).unwrap_err()));
            assert!(refused(std::net::TcpListener::bind("127.0.0.1:0").unwrap_err()));
            assert!(refused(std::process::Command::new("/bin/true").status().unwrap_err()));
        };
        thread::scope(|scope| scope.spawn(jailed).join()).unwrap();
        assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "as it was");
    }

    #[test]
    fn older_kernels_lack_what_came_later() {
        assert_eq!(lacking(ABI::V5), "signals and abstract sockets");
        assert!(lacking(ABI::V1).starts_with("moving files"));
        assert_eq!(lacking(ABI_IN_FULL), "");
    }
}
