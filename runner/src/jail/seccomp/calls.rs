//! What system calls a jailed process may make, with what arguments.
#![allow(clippy::unnecessary_cast, reason = "the constants have other types on other targets")]

/// A call that is allowed when all of its tests hold. A call that is listed twice is allowed when either entry holds.
pub(super) struct Call {
    pub(super) number: i64,
    pub(super) tests: &'static [Argument],
}

/// The test of the argument with this index.
pub(super) struct Argument(pub(super) u8, pub(super) Test);

#[derive(Clone, Copy)]
pub(super) enum Test {
    /// It is this number of 32 bits.
    Is(u64),
    /// It is a null pointer.
    IsNull,
    /// It is this process's id.
    IsThisProcess,
    /// None of these bits is set.
    Without(u64),
    /// It is the second number, whatever the bits of the first are.
    OnlyBesides(u64, u64),
}

/// A call that fails instead of ending the process.
pub(super) struct Refused {
    pub(super) number: i64,
    pub(super) error: i32,
}

const fn any(number: i64) -> Call {
    Call { number, tests: &[] }
}

const fn with(number: i64, tests: &'static [Argument]) -> Call {
    Call { number, tests }
}

/// From `linux/prctl.h`; libc has no name for it.
const PR_GET_AUXV: u64 = 0x4155_5856;

const NOT_EXECUTABLE: &[Argument] = &[Argument(2, Test::Without(libc::PROT_EXEC as u64))];

/// What starts a thread, and nothing else: everything shared, no namespace of its own. The bit that is left open
/// (`CLONE_DETACHED`) means nothing and is set by musl.
const THREAD: &[Argument] = &[Argument(
    0,
    Test::OnlyBesides(
        0x0040_0000,
        (libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID) as u64,
    ),
)];

/// What every jailed process needs: memory, threads, clocks, and the descriptors that it has.
pub(super) const ALWAYS: &[Call] = &[
    // Memory, never to be executed. What was mapped executable before is.
    with(libc::SYS_mmap, NOT_EXECUTABLE),
    with(libc::SYS_mprotect, NOT_EXECUTABLE),
    any(libc::SYS_munmap),
    any(libc::SYS_mremap),
    any(libc::SYS_madvise),
    any(libc::SYS_brk),
    // Threads.
    with(libc::SYS_clone, THREAD),
    any(libc::SYS_set_robust_list),
    any(libc::SYS_rseq),
    any(libc::SYS_futex),
    any(libc::SYS_sched_yield),
    any(libc::SYS_sched_getaffinity),
    // A thread may make way for others, and lets no other process do so.
    with(
        libc::SYS_sched_setscheduler,
        &[Argument(0, Test::Is(0)), Argument(1, Test::Is(libc::SCHED_IDLE as u64))],
    ),
    with(
        libc::SYS_setpriority,
        &[Argument(0, Test::Is(libc::PRIO_PROCESS as u64)), Argument(1, Test::Is(0))],
    ),
    any(libc::SYS_gettid),
    any(libc::SYS_getpid),
    any(libc::SYS_exit),
    any(libc::SYS_exit_group),
    with(libc::SYS_prctl, &[Argument(0, Test::Is(libc::PR_SET_NAME as u64))]),
    with(libc::SYS_prctl, &[Argument(0, Test::Is(libc::PR_SET_VMA as u64))]),
    // What the process was started with, such as the size of a page.
    with(libc::SYS_prctl, &[Argument(0, Test::Is(PR_GET_AUXV))]),
    // Its limits may be read, its own alone.
    with(libc::SYS_prlimit64, &[Argument(0, Test::Is(0)), Argument(2, Test::IsNull)]),
    any(libc::SYS_getrusage),
    // Signals: wasmtime's handlers, and to abort.
    any(libc::SYS_rt_sigaction),
    any(libc::SYS_rt_sigprocmask),
    any(libc::SYS_rt_sigreturn),
    any(libc::SYS_sigaltstack),
    any(libc::SYS_restart_syscall),
    with(libc::SYS_tgkill, &[Argument(0, Test::IsThisProcess)]),
    // Clocks, where they are not read without the kernel.
    any(libc::SYS_clock_gettime),
    any(libc::SYS_clock_getres),
    any(libc::SYS_clock_nanosleep),
    any(libc::SYS_nanosleep),
    any(libc::SYS_gettimeofday),
    any(libc::SYS_getrandom),
    // The descriptors that it has.
    any(libc::SYS_read),
    any(libc::SYS_readv),
    any(libc::SYS_write),
    any(libc::SYS_writev),
    any(libc::SYS_recvfrom),
    with(libc::SYS_sendto, &[Argument(4, Test::IsNull)]),
    any(libc::SYS_shutdown),
    any(libc::SYS_getsockopt),
    any(libc::SYS_close),
    any(libc::SYS_lseek),
    any(libc::SYS_fstat),
    any(libc::SYS_epoll_ctl),
    any(libc::SYS_epoll_pwait),
    any(libc::SYS_ppoll),
    with(libc::SYS_fcntl, &[Argument(1, Test::Is(libc::F_GETFD as u64))]),
    with(libc::SYS_fcntl, &[Argument(1, Test::Is(libc::F_SETFD as u64))]),
    with(libc::SYS_fcntl, &[Argument(1, Test::Is(libc::F_GETFL as u64))]),
    with(libc::SYS_fcntl, &[Argument(1, Test::Is(libc::F_SETFL as u64))]),
    with(libc::SYS_fcntl, &[Argument(1, Test::Is(libc::F_DUPFD_CLOEXEC as u64))]),
    with(libc::SYS_ioctl, &[Argument(1, Test::Is(libc::FIONBIO as u64))]),
    with(libc::SYS_ioctl, &[Argument(1, Test::Is(libc::FIOCLEX as u64))]),
    // Whether something is a terminal.
    with(libc::SYS_ioctl, &[Argument(1, Test::Is(libc::TCGETS as u64))]),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_epoll_wait),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_poll),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_time),
];

/// What a guest's file operations need, where there are mounts.
pub(super) const FILES: &[Call] = &[
    any(libc::SYS_openat),
    any(libc::SYS_openat2),
    any(libc::SYS_newfstatat),
    any(libc::SYS_statx),
    any(libc::SYS_fstatfs),
    any(libc::SYS_faccessat),
    any(libc::SYS_faccessat2),
    any(libc::SYS_getdents64),
    any(libc::SYS_readlinkat),
    any(libc::SYS_mkdirat),
    any(libc::SYS_unlinkat),
    any(libc::SYS_renameat),
    any(libc::SYS_renameat2),
    any(libc::SYS_linkat),
    any(libc::SYS_symlinkat),
    any(libc::SYS_utimensat),
    any(libc::SYS_pread64),
    any(libc::SYS_preadv),
    any(libc::SYS_preadv2),
    any(libc::SYS_pwrite64),
    any(libc::SYS_pwritev),
    any(libc::SYS_pwritev2),
    any(libc::SYS_ftruncate),
    any(libc::SYS_fallocate),
    any(libc::SYS_fadvise64),
    any(libc::SYS_fsync),
    any(libc::SYS_fdatasync),
];

/// What libraries try in good faith, and do without.
pub(super) const REFUSED: &[Refused] = &[
    // Its flags are out of a filter's sight. The C library starts threads with `clone` then.
    Refused { number: libc::SYS_clone3, error: libc::ENOSYS },
    // Looking up settings of the machine, where there are no files.
    Refused { number: libc::SYS_openat, error: libc::EACCES },
    Refused { number: libc::SYS_openat2, error: libc::EACCES },
    Refused { number: libc::SYS_newfstatat, error: libc::EACCES },
    Refused { number: libc::SYS_statx, error: libc::EACCES },
    Refused { number: libc::SYS_readlinkat, error: libc::EACCES },
    #[cfg(target_arch = "x86_64")]
    Refused { number: libc::SYS_open, error: libc::EACCES },
    #[cfg(target_arch = "x86_64")]
    Refused { number: libc::SYS_stat, error: libc::EACCES },
    #[cfg(target_arch = "x86_64")]
    Refused { number: libc::SYS_readlink, error: libc::EACCES },
    #[cfg(target_arch = "x86_64")]
    Refused { number: libc::SYS_access, error: libc::EACCES },
];
