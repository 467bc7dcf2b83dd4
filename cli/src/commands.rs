//! A command is a file: its arguments are in `args`, its handler here.

pub(crate) mod doctor;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod serve;
