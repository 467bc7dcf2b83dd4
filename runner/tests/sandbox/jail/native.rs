//! Deeds of native code, each of them a system call or two. What came of it is said on standard error, and the process ends.
#![allow(unsafe_code, reason = "what escaped from a sandbox does not ask for safety")]

use std::ffi::CString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::ptr;

use orch_runner::RunSpec;

type Deed = fn(&str) -> io::Result<()>;

/// What no jailed process may even try. `exec`, `fork` and the like are here as well as what reaches into other processes.
pub(crate) const FORBIDDEN: &[&str] = &[
    "socket",
    "socket-unix",
    "connect",
    "exec",
    "fork",
    "ptrace",
    "read-broker",
    "write-broker",
    "pidfd",
    "kill-broker",
    "keyctl",
    "add-key",
    "io-uring",
    "memfd",
    "unshare",
    "mount",
    "bpf",
    "perf",
    "userfault",
    "map-code",
    "make-code",
    "dumpable",
    "personality",
    "steal-descriptor",
    "pass-descriptor",
    "starve-broker",
    "raise-limit",
    "seccomp",
];

/// Every deed by its name.
const DEEDS: &[(&str, Deed)] = &[
    ("socket", |_| done(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) })),
    ("socket-unix", |_| done(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) })),
    ("connect", |_| {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 80_u16.to_be(),
            sin_addr: libc::in_addr { s_addr: 0x0100_007f },
            sin_zero: [0; 8],
        };
        done(unsafe { libc::connect(0, (&raw const address).cast(), size_of_val(&address) as u32) })
    }),
    ("exec", |path| {
        let path = CString::new(if path.is_empty() { "/bin/true" } else { path })?;
        let arguments = [path.as_ptr(), ptr::null()];
        done(unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), [ptr::null()].as_ptr()) })
    }),
    ("fork", |_| match unsafe { libc::fork() } {
        0 => unsafe { libc::_exit(0) },
        child => done(child),
    }),
    ("ptrace", |_| {
        done(unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, libc::getppid(), ptr::null_mut::<u8>(), ptr::null_mut::<u8>())
        })
    }),
    ("read-broker", |_| broker_memory(libc::SYS_process_vm_readv)),
    ("write-broker", |_| broker_memory(libc::SYS_process_vm_writev)),
    ("pidfd", |_| done(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getppid(), 0) })),
    ("kill-broker", |_| done(unsafe { libc::kill(libc::getppid(), 0) })),
    ("keyctl", |_| done(unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0, 0, 0) })),
    ("add-key", |_| {
        let (kind, name) = (c"user", c"orch-test");
        done(unsafe { libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), name.as_ptr(), 4, -2) })
    }),
    ("io-uring", |_| {
        let mut parameters = [0_u8; 120];
        done(unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) })
    }),
    ("memfd", |_| done(unsafe { libc::memfd_create(c"code".as_ptr(), 0) })),
    ("unshare", |_| done(unsafe { libc::unshare(libc::CLONE_NEWUSER) })),
    ("mount", |_| {
        done(unsafe {
            libc::mount(ptr::null(), c"/nonexistent".as_ptr(), ptr::null(), libc::MS_BIND, ptr::null())
        })
    }),
    ("bpf", |_| done(unsafe { libc::syscall(libc::SYS_bpf, 0, ptr::null::<u8>(), 0) })),
    ("perf", |_| done(unsafe { libc::syscall(libc::SYS_perf_event_open, ptr::null::<u8>(), 0, -1, -1, 0) })),
    ("userfault", |_| done(unsafe { libc::syscall(libc::SYS_userfaultfd, 0) })),
    ("map-code", |_| match map(libc::PROT_READ | libc::PROT_EXEC) {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }),
    ("make-code", |_| {
        let page = map(libc::PROT_READ | libc::PROT_WRITE);
        done(unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) })
    }),
    ("dumpable", |_| done(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })),
    ("personality", |_| done(unsafe { libc::personality(0x0040_0000) })),
    ("steal-descriptor", |_| done(unsafe { libc::syscall(libc::SYS_pidfd_getfd, 0, 0, 0) })),
    ("pass-descriptor", |_| {
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        done(unsafe { libc::sendmsg(0, &message, 0) } as i64)
    }),
    ("starve-broker", |_| done(unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::getppid() as u32, 0) })),
    ("raise-limit", |_| {
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        done(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) })
    }),
    ("seccomp", |_| done(unsafe { libc::syscall(libc::SYS_seccomp, 2, 0, ptr::null::<u8>()) })),
    ("open", |path| {
        let path = CString::new(path)?;
        done(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })
    }),
    ("write", |path| {
        let path = CString::new(path)?;
        let flags = libc::O_WRONLY | libc::O_TRUNC | libc::O_CREAT | libc::O_CLOEXEC;
        let file = unsafe { libc::open(path.as_ptr(), flags, 0o600) };
        done(file)?;
        let text = "changed";
        done(unsafe { libc::write(file, text.as_ptr().cast(), text.len()) } as i64)
    }),
    ("stat", |path| {
        let path = CString::new(path)?;
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        done(unsafe { libc::fstatat(libc::AT_FDCWD, path.as_ptr(), &mut status, 0) })
    }),
    ("touch", |path| {
        let path = CString::new(path)?;
        done(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), ptr::null(), 0) })
    }),
    ("chmod", |path| {
        let path = CString::new(path)?;
        done(unsafe { libc::fchmodat(libc::AT_FDCWD, path.as_ptr(), 0o777, 0) })
    }),
    ("mknod", |path| {
        let path = CString::new(format!("{path}-device"))?;
        done(unsafe { libc::mknodat(libc::AT_FDCWD, path.as_ptr(), libc::S_IFIFO | 0o600, 0) })
    }),
    ("clone3", |_| {
        let mut arguments = [0_u64; 8];
        done(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), size_of_val(&arguments)) })
    }),
    ("thread", |_| std::thread::Builder::new().spawn(|| ()).map(drop)),
    // Everything in this process stands still from here on.
    ("stop", |_| {
        done(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGSTOP) })
    }),
];

fn map(protection: i32) -> *mut libc::c_void {
    unsafe { libc::mmap(ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) }
}

fn broker_memory(call: libc::c_long) -> io::Result<()> {
    let mut byte = 0_u8;
    let here = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // Without a jail nothing of the process over there shall be harmed.
    let there = libc::iovec { iov_base: ptr::null_mut(), iov_len: 1 };
    done(unsafe { libc::syscall(call, libc::getppid(), &raw const here, 1, &raw const there, 1, 0) })
}

fn done(result: impl Into<i64> + Copy) -> io::Result<()> {
    if result.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Does what the run's first argument names, if it names a deed.
pub(crate) fn on_run(spec: &RunSpec) {
    let [name, argument] = spec.args.as_slice() else { return };
    carry_out(name, argument);
    // At once: nothing of this process shall have a say in how it ends.
    unsafe { libc::_exit(0) }
}

/// Does it without any jail.
pub(crate) fn outside(name: &str) -> ExitCode {
    carry_out(name, "");
    ExitCode::SUCCESS
}

fn carry_out(name: &str, argument: &str) {
    let deed = DEEDS.iter().find(|(deed, _)| *deed == name);
    let (_, deed) = deed.unwrap_or_else(|| panic!("there is no deed {name}"));
    let came_of_it = match deed(argument) {
        Ok(()) => "succeeded".to_owned(),
        Err(error) => format!("errno {}", error.raw_os_error().unwrap_or(0)),
    };
    let _ = writeln!(io::stderr(), "{came_of_it}");
}
