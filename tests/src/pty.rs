//! A terminal, for what only happens when somebody sits at one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::ioctl::{Getter, Setter, ioctl, opcode};
use rustix::termios::LocalModes;

use crate::upstream::PATIENCE;

/// The number of the other end (`TIOCGPTN` of ioctl_tty(2)).
const NUMBER: rustix::ioctl::Opcode = opcode::read::<u32>(b'T', 0x30);
/// Whether the other end is locked (`TIOCSPTLCK`).
const LOCK: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 0x31);

/// The end that a program sees as its terminal, and what appears on it.
pub struct Terminal {
    program: File,
    screen: File,
}

/// What somebody at the terminal can do.
pub struct Keyboard(File);

/// A new terminal. Typing can begin before anybody reads.
#[track_caller]
pub fn open() -> (Terminal, Keyboard) {
    let screen = device("/dev/ptmx");
    // A number is there and the end behind it can be opened, or there is no such terminal.
    let number = number_of(&screen).expect("a terminal of the kernel's");
    let program = device(&format!("/dev/pts/{number}"));
    let keyboard = screen.try_clone().expect("a descriptor");
    (Terminal { program, screen }, Keyboard(keyboard))
}

impl Terminal {
    /// The program's standard input or error.
    pub(crate) fn end(&self) -> Stdio {
        self.program.try_clone().expect("a descriptor").into()
    }

    /// What appears, until no program has the terminal any more.
    pub(crate) fn screen(self) -> File {
        self.screen
    }
}

impl Keyboard {
    /// Types this, and return, once what is typed is not shown any more.
    #[track_caller]
    pub fn answers_unseen(&mut self, text: &str) {
        let begun = Instant::now();
        while self.is_echoed() {
            assert!(begun.elapsed() < PATIENCE, "what is typed would be shown");
            thread::yield_now();
        }
        self.answers(text);
    }

    #[track_caller]
    fn is_echoed(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.0).expect("a terminal has modes").local_modes;
        modes.contains(LocalModes::ECHO)
    }

    /// Types this, and return.
    #[track_caller]
    pub fn answers(&mut self, text: &str) {
        self.0.write_all(format!("{text}\n").as_bytes()).expect("a terminal takes a line");
    }
}

/// Opened so that it does not become this process's own terminal.
fn device(path: &str) -> File {
    let flags = OFlags::NOCTTY.bits().cast_signed();
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    opened.unwrap_or_else(|e| panic!("cannot open {path}: {e}"))
}

fn number_of(screen: impl AsFd) -> rustix::io::Result<u32> {
    // SAFETY: both calls are what ioctl_tty(2) says of a descriptor of /dev/ptmx: one reads an int through its pointer, the
    // other writes an unsigned int.
    #[allow(unsafe_code)]
    unsafe {
        ioctl(&screen, Setter::<LOCK, i32>::new(0))?;
        ioctl(&screen, Getter::<NUMBER, u32>::new())
    }
}

#[cfg(test)]
mod tests {
    use crate::home::Home;
    use crate::orch::Orch;

    #[test]
    fn a_program_finds_a_terminal_and_reads_what_is_typed() {
        let home = Home::new();
        let (terminal, mut keyboard) = super::open();
        let script = "test -t 0 && test -t 2 && echo ready >&2; read line; echo \"got $line\"";
        let running = Orch::new("/bin/sh", &home).args(["-c", script]).start_on(terminal);
        running.wait_says("ready");
        keyboard.answers("yes");
        let outcome = running.finish().expect(0);
        assert_eq!(outcome.stdout(), "got yes\n");
    }
}
