//! Opening the database: whose it is, which version, and how it is used.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::problem::{Problem, damaged};
use crate::failure::{Failure, Kind};

/// `PRAGMA application_id` of these databases: "orch".
const APPLICATION: i32 = 0x6f72_6368;

/// What brings a database from each version to the next; the version is how many of them it has seen.
const MIGRATIONS: [&str; 7] = [
    include_str!("schema.sql"),
    include_str!("schema/calls_of_runs.sql"),
    include_str!("schema/spend.sql"),
    include_str!("schema/routing.sql"),
    include_str!("schema/requests.sql"),
    include_str!("schema/byok.sql"),
    include_str!("schema/records.sql"),
];

/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 64;

/// How often, and at what distance, a writer asks whether another process is done: five seconds in all. Often, so
/// that a short-lived process finds the gap between two transactions of a busy server.
const BUSY_ATTEMPTS: i32 = 5000;
const BUSY_PAUSE: Duration = Duration::from_millis(1);
/// How often where others are kept waiting.
const BRIEF_ATTEMPTS: i32 = 100;

/// Opens the database for the one writer of this handle, and brings it to this program's version.
pub(super) fn open_writer(path: &Path, wait: Wait) -> Result<Connection, Failure> {
    prepare(path, wait).map_err(|problem| match problem {
        // Something that SQLite takes for no database at all.
        Problem::Sqlite(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            foreign(path)
        }
        problem => problem.told(path),
    })
}

/// Opens it once more for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Problem> {
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, patiently)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

/// Brings all of the write-ahead log into the database, and cuts it to nothing.
pub(super) fn empty_log(path: &Path) -> Result<(), Failure> {
    let empty = || -> Result<bool, Problem> {
        let db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, briefly)?;
        db.pragma_update(None, "synchronous", "full")?;
        let checkpoint = |how| db.query_row(how, [], |row| row.get::<_, bool>(0));
        // Most of it while others go on; they are held up for the rest alone.
        checkpoint("PRAGMA wal_checkpoint(PASSIVE)")?;
        Ok(checkpoint("PRAGMA wal_checkpoint(TRUNCATE)")?)
    };
    match empty() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::new(
            Kind::Server,
            "store_busy",
            format!("{} is being used too much for its log to be emptied", path.display()),
        )),
        Err(problem) => Err(problem.told(path)),
    }
}

/// What is done while another process writes: it is told how often it was asked before, and says whether to try again.
pub(super) type Wait = fn(i32) -> bool;

/// Waits for another process, but not for ever.
pub(super) fn patiently(attempt: i32) -> bool {
    thread::sleep(BUSY_PAUSE);
    attempt < BUSY_ATTEMPTS
}

/// Waits for a moment: who writes must not be held up meanwhile.
fn briefly(attempt: i32) -> bool {
    thread::sleep(BUSY_PAUSE);
    attempt < BRIEF_ATTEMPTS
}

fn connect(path: &Path, access: OpenFlags, wait: Wait) -> Result<Connection, Problem> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_handler(Some(wait))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // The file may have been edited: nothing in its schema may do more than hold rows.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(db)
}

fn prepare(path: &Path, wait: Wait) -> Result<Connection, Problem> {
    let mut db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
    // Before anything is written: a file of somebody else's stays as it is.
    version(&db, path)?;
    // Both are of the connection: every commit is on disk when it returns.
    let mode = write_ahead(&db, wait)?;
    if mode != "wal" {
        return Err(Problem::Refused(
            Failure::new(
                Kind::Server,
                "store_unusable",
                format!("{} cannot have a write-ahead log (it stays in mode {mode})", path.display()),
            )
            .hint("set ORCH_HOME to a folder on a local disk; network file systems have no shared memory"),
        ));
    }
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "foreign_keys", true)?;
    // What a row held before is overwritten, and not only forgotten.
    db.pragma_update(None, "secure_delete", true)?;
    db.pragma_update(None, "wal_autocheckpoint", 4000)?;
    db.pragma_update(None, "journal_size_limit", 64 << 20)?;
    db.pragma_update(None, "cache_size", -16_384)?;
    migrate(&mut db, path)?;
    Ok(db)
}

/// Asks for a write-ahead log, and returns the mode that the database has then.
///
/// SQLite does not wait for others by itself here: it has a lock already when it finds that it needs a stronger one.
fn write_ahead(db: &Connection, wait: Wait) -> rusqlite::Result<String> {
    let mut attempt = 0;
    loop {
        match db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)) {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) && wait(attempt) =>
            {
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// The version of the database, of one moment: another process may be filling it.
fn version(db: &Connection, path: &Path) -> Result<usize, Problem> {
    recognise(&*db.unchecked_transaction()?, path)
}

/// The version of the database; 0 is an empty one. Reads more than once, so it has to be asked in a transaction.
fn recognise(db: &Connection, path: &Path) -> Result<usize, Problem> {
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    if (application, version) == (0, 0) {
        let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        return if tables == 0 { Ok(0) } else { Err(foreign(path).into()) };
    }
    if application != APPLICATION {
        return Err(foreign(path).into());
    }
    match usize::try_from(version) {
        Ok(version @ 1..) if version <= MIGRATIONS.len() => Ok(version),
        Ok(1..) => Err(Problem::Refused(
            Failure::new(
                Kind::Server,
                "store_version",
                format!(
                    "{} has version {version}, and this orch knows versions up to {}",
                    path.display(),
                    MIGRATIONS.len()
                ),
            )
            .hint("use the orch that wrote it, or a newer one"),
        )),
        _ => Err(Problem::Refused(damaged(path, &format!("version {version} has never been written")))),
    }
}

fn migrate(db: &mut Connection, path: &Path) -> Result<(), Problem> {
    if version(db, path)? == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been quicker.
    let from = recognise(&transaction, path)?;
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(from) {
        transaction.execute_batch(migration).map_err(|error| {
            let why = format!("it is not what version {version} was, and stays as it is ({error})");
            // The statements are right for what this program wrote; a full disk is another matter.
            let problem = Problem::from(error);
            if problem.is_own() { Problem::Refused(damaged(path, &why)) } else { problem }
        })?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()?;
    Ok(())
}

fn foreign(path: &Path) -> Failure {
    Failure::new(Kind::Server, "store_unusable", format!("{} is not a database of orch", path.display()))
        .hint("move it away, or set ORCH_HOME to another folder; it was not changed")
}
