//! A command is a file: its arguments are in `args`, its handler here.

pub(crate) mod budgets;
pub(crate) mod byok;
pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod grants;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod policy;
pub(crate) mod providers;
pub(crate) mod proxy;
pub(crate) mod publish;
pub(crate) mod pull;
pub(crate) mod routes;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod serve;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod vault;
