//! Catches system calls of this process wherever they are made: a seccomp filter turns each into a signal, and
//! the signal's handler answers in the kernel's place. x86-64 alone.

use std::arch::asm;
use std::ffi::{c_int, c_ulong, c_void};
use std::sync::OnceLock;

/// In the sixth argument, which no call that is caught has: this one is ours, and passes.
const OURS: usize = 0x6f72_6368_2f63_616c;

const SIGSYS: c_int = 31;
const SA_SIGINFO: c_int = 4;
const SA_NODEFER: c_int = 0x4000_0000;

static HANDLER: OnceLock<fn(&Raw) -> isize> = OnceLock::new();

/// A system call.
pub(crate) struct Raw {
    pub(crate) number: usize,
    pub(crate) arguments: [usize; 5],
}

impl Raw {
    /// Has the kernel do it. Below zero: an error's number.
    pub(crate) fn perform(&self) -> isize {
        let [a, b, c, d, e] = self.arguments;
        let result: isize;
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") self.number => result,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") OURS,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        result
    }
}

#[repr(C)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// The C library's `struct sigaction`.
#[repr(C)]
struct Action {
    handler: usize,
    mask: [c_ulong; 16],
    flags: c_int,
    restorer: usize,
}

unsafe extern "C" {
    fn sigaction(signal: c_int, action: *const Action, old: *mut Action) -> c_int;
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
}

/// From here on, in every thread, `handler` answers calls of these numbers.
pub(crate) fn install(numbers: &[u32], handler: fn(&Raw) -> isize) {
    HANDLER.set(handler).ok().expect("installed once");
    let action = Action {
        handler: on_signal as *const () as usize,
        mask: [0; 16],
        flags: SA_SIGINFO | SA_NODEFER,
        restorer: 0,
    };
    let program = filter(numbers);
    let program = Program { length: program.len() as u16, instructions: program.leak().as_ptr() };
    unsafe {
        assert_eq!(sigaction(SIGSYS, &action, std::ptr::null_mut()), 0);
        // PR_SET_NO_NEW_PRIVS; PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
        assert_eq!(prctl(38, 1, 0, 0, 0), 0);
        assert_eq!(prctl(22, 2, &raw const program as c_ulong, 0, 0), 0);
    }
}

/// In BPF: of these numbers, without our mark: a signal.
fn filter(numbers: &[u32]) -> Vec<Instruction> {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const X86_64: u32 = 0xc000_003e;
    const ALLOW: u32 = 0x7fff_0000;
    const TRAP: u32 = 0x0003_0000;
    let plain = |code, k| Instruction { code, if_true: 0, if_false: 0, k };
    let equal = |k, if_true, if_false| Instruction { code: JUMP_IF_EQUAL, if_true, if_false, k };
    let count = u8::try_from(numbers.len()).unwrap();
    // Offsets in `struct seccomp_data`: the number at 0, the architecture at 4, the sixth argument at 56.
    let mut program = vec![plain(LOAD, 4), equal(X86_64, 0, count + 1), plain(LOAD, 0)];
    for (left, number) in (0..count).rev().zip(numbers) {
        program.push(equal(*number, left + 1, 0));
    }
    program.push(plain(RETURN, ALLOW));
    program.push(plain(LOAD, 56));
    program.push(equal(OURS as u32, 0, 3));
    program.push(plain(LOAD, 60));
    program.push(equal((OURS >> 32) as u32, 0, 1));
    program.push(plain(RETURN, ALLOW));
    program.push(plain(RETURN, TRAP));
    program
}

/// Registers in the C library's `ucontext_t`, by their index behind its first 40 bytes.
extern "C" fn on_signal(_: c_int, _: *const c_void, context: *mut c_void) {
    const FIRST: usize = 5;
    const R8: usize = 0;
    const R10: usize = 2;
    const RDI: usize = 8;
    const RSI: usize = 9;
    const RDX: usize = 12;
    const RAX: usize = 13;
    let register = |index: usize| unsafe { context.cast::<usize>().add(FIRST + index) };
    let read = |index| unsafe { register(index).read() };
    let call = Raw { number: read(RAX), arguments: [RDI, RSI, RDX, R10, R8].map(read) };
    let result = HANDLER.get().map_or(-38, |handler| handler(&call));
    unsafe { register(RAX).write(result as usize) };
}
