//! dnf's history, an SQLite database: what was installed by which command, and why.
//!
//! Invariant: the same rows give the same bytes. Whatever was read is written anew, table by table, row by row, into the schema that stands here.
//!
//! # Why SQLite itself
//! A database that scripts left must be read with its log, its overflow pages and whatever else SQLite does, and one must be written
//! that other programs go on with. SQLite is fuzzed with damaged databases by its authors; it sees memory only, no function of a schema
//! runs, and its time is bounded by a check that is linear in the database's size.

use super::log::lay_over;
use super::{PackagePin, RpmPin, installed, is_for_others};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};
use std::fmt::Write;

/// Bytes of a database beyond which it is not read.
pub const MAXIMUM: usize = 256 << 20;
/// Bytes of one text in it.
const MAXIMUM_TEXT: i32 = 1 << 20;

const SCHEMA: &str = include_str!("schema.sql");
const VERSION: &str = "1.2";
/// In the order in which they are written. Lines that scriptlets printed are no part: a log.
const TABLES: [&str; 12] = [
    "config",
    "repo",
    "item",
    "rpm",
    "comps_group",
    "comps_group_package",
    "comps_environment",
    "comps_environment_group",
    "trans",
    "trans_with",
    "trans_item",
    "item_replaced_by",
];
/// All columns of `trans`.
const TRANSACTION: &str =
    "id, min(dt_begin, :latest), min(dt_end, :latest), rpmdb_version_begin, rpmdb_version_end, releasever, -1, cmdline,
    state, comment";

/// Why a history is not one that can be written anew.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("it has more than {MAXIMUM} bytes")]
    Long,
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it is not of schema {VERSION}, the one that is known")]
    Schema,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The history of a root in which one transaction installed everything. `cookie` names the state of rpm's database after it, see [`cookie`].
pub fn first(pin: &RpmPin, cookie: &str) -> Vec<u8> {
    let made = write_first(pin, cookie).expect("SQLite takes what this program writes into an empty database");
    settle(made, &[], pin.date).expect("what was written a moment ago is of the known schema")
}

fn write_first(pin: &RpmPin, cookie: &str) -> Result<Vec<u8>, HistoryError> {
    /// Spec: libdnf, enum `TransactionItemReason`.
    fn number(reason: &str) -> i32 {
        match reason {
            "dependency" => 1,
            "weak" => 4,
            "group" => 5,
            _ => 2,
        }
    }
    let mut connection = empty()?;
    let transaction = connection.transaction()?;
    transaction.execute("INSERT INTO config VALUES ('version', ?1)", [VERSION])?;
    for repository in &pin.repositories {
        transaction.execute("INSERT INTO repo (repoid) VALUES (?1)", [&repository.name])?;
    }
    let asked: Vec<&str> =
        installed(pin).filter(|(_, reason)| !is_for_others(reason)).map(|(package, _)| package.name.as_str()).collect();
    transaction.execute(
        "INSERT INTO trans (dt_begin, dt_end, rpmdb_version_begin, rpmdb_version_end, releasever, user_id, cmdline, state)
         VALUES (?1, ?1, ?2, ?3, ?4, -1, ?5, 1)",
        params![pin.date, hex(&Sha256::digest([])), cookie, pin.os_version, format!("install {}", asked.join(" "))],
    )?;
    for (package, reason) in installed(pin) {
        let (epoch, version, release) = parts(package);
        transaction.execute("INSERT INTO item (item_type) VALUES (0)", [])?;
        let item = transaction.last_insert_rowid();
        transaction.execute(
            "INSERT INTO rpm VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![item, package.name, epoch, version, release, package.arch],
        )?;
        transaction.execute(
            "INSERT INTO trans_item (trans_id, item_id, repo_id, action, reason, state)
             SELECT 1, ?1, id, 1, ?2, 1 FROM repo WHERE repoid = ?3",
            params![item, number(reason), package.repository],
        )?;
    }
    transaction.commit()?;
    Ok(connection.serialize("main")?.to_vec())
}

/// Epoch, version and release.
fn parts(package: &PackagePin) -> (u32, &str, &str) {
    let (epoch, rest) = package.evr.split_once(':').unwrap_or(("0", &package.evr));
    let (version, release) = rest.split_once('-').unwrap_or((rest, ""));
    (epoch.parse().unwrap_or(0), version, release)
}

/// A history, with the log that belongs to it (empty: none), as every run of the same commands gives it: no time is later than `latest`
/// (seconds since 1970), and who ran the commands is not told.
pub fn settle(database: Vec<u8>, log: &[u8], latest: i64) -> Result<Vec<u8>, HistoryError> {
    let mut connection = empty()?;
    open(&mut connection, database, log)?;
    if schema(&connection, "main")? != schema(&connection, "found")? {
        return Err(HistoryError::Schema);
    }
    let transaction = connection.transaction()?;
    for table in TABLES {
        // Not changed afterwards: what rows were before would stay in the gaps.
        let columns = if table == "trans" { TRANSACTION } else { "*" };
        let copy = format!("INSERT INTO main.{table} SELECT {columns} FROM found.{table} ORDER BY rowid");
        transaction.prepare(&copy)?.execute(&[(":latest", &latest)][..if table == "trans" { 1 } else { 0 }])?;
    }
    transaction.commit()?;
    // Of what was written: an index of the found database may lie.
    let version = "SELECT value FROM main.config WHERE key = 'version'";
    if connection.query_row(version, [], |row| row.get::<_, String>(0)).ok().as_deref() != Some(VERSION) {
        return Err(HistoryError::Schema);
    }
    Ok(connection.serialize("main")?.to_vec())
}

/// The name of the state that rpm's database, in SQLite's form, is in.
///
/// Spec: rpm, `rpmdbCookie`: the SHA-256 of all names, sorted, each followed by the numbers of its headers in the host's order.
pub fn cookie(database: Vec<u8>) -> Result<String, HistoryError> {
    let mut connection = Connection::open_in_memory()?;
    open(&mut connection, database, &[])?;
    let mut statement = connection.prepare("SELECT key, hnum FROM found.Name ORDER BY key, hnum, idx")?;
    let mut rows = statement.query([])?;
    let (mut hasher, mut last) = (Sha256::new(), None);
    while let Some(row) = rows.next()? {
        let (name, number): (String, u32) = (row.get(0)?, row.get(1)?);
        if last.as_ref() != Some(&name) {
            hasher.update(&name);
        }
        hasher.update(number.to_ne_bytes());
        last = Some(name);
    }
    Ok(hex(&hasher.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A database in memory with the known schema and no rows.
fn empty() -> Result<Connection, HistoryError> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// Opens bytes that anybody may have written as `found`, beside what the connection has.
fn open(connection: &mut Connection, database: Vec<u8>, log: &[u8]) -> Result<(), HistoryError> {
    if database.len() > MAXIMUM {
        return Err(HistoryError::Long);
    }
    let database = lay_over(database, log, MAXIMUM).ok_or(HistoryError::Long)?;
    connection.execute_batch("PRAGMA foreign_keys = OFF; ATTACH ':memory:' AS found")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    for part in [
        DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
    ] {
        connection.set_db_config(part, false)?;
    }
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAXIMUM_TEXT)?;
    connection.deserialize_read_exact("found", database.as_slice(), database.len(), true)?;
    // Invariant: before any query. Pages that are in the tree more than once would make one take for ever.
    let judgement: String = connection.query_row("PRAGMA found.quick_check(1)", [], |row| row.get(0))?;
    if judgement == "ok" { Ok(()) } else { Err(HistoryError::Damaged(judgement)) }
}

/// Kind, name and statement of everything in a database, but for SQLite's own tables; without comments and layout.
fn schema(connection: &Connection, name: &str) -> Result<Vec<String>, HistoryError> {
    let query = format!("SELECT type || ' ' || name || ' ' || sql FROM {name}.sqlite_schema WHERE sql IS NOT NULL");
    let mut statement = connection.prepare(&query)?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut found = texts.map(|text| text.map(|text| bare(&text))).collect::<Result<Vec<_>, _>>()?;
    found.sort();
    Ok(found)
}

/// Without `/* … */` and white space.
fn bare(sql: &str) -> String {
    let mut text = String::new();
    let mut rest = sql;
    while let Some((before, behind)) = rest.split_once("/*") {
        text += before;
        rest = behind.split_once("*/").map_or("", |(_, after)| after);
    }
    text += rest;
    text.retain(|character| !character.is_whitespace());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpm::pin::tests::sample;
    use proptest::prelude::*;

    const DATE: i64 = 1_700_000_000;

    fn query(bytes: &[u8], sql: &str) -> Vec<String> {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.deserialize_read_exact("main", bytes, bytes.len(), true).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// What a program that never closes its database leaves: the database and its log.
    fn left_open(sql: &str) -> (Vec<u8>, Vec<u8>) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("history.sqlite");
        std::fs::write(&path, first(&sample(), "c0")).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.execute_batch(sql).unwrap();
        let read = |name: &str| std::fs::read(place.path().join(name)).unwrap();
        (read("history.sqlite"), read("history.sqlite-wal"))
    }

    const LATER: &str =
        "INSERT INTO trans VALUES (2, 1800000000, 1800000009, 'c0', 'c1', '9', 1000, 'install jq', 1, '');
        INSERT INTO console_output VALUES (1, 2, 1, 'a line');
        INSERT INTO item VALUES (2, 0); INSERT INTO rpm VALUES (2, 'jq', 0, '1', '1', 'x86_64');
        INSERT INTO trans_item VALUES (2, 2, 2, 1, 1, 2, 1)";

    #[test]
    fn a_base_is_one_transaction_with_the_reason_of_each_package() {
        let bytes = first(&sample(), "c0");
        assert_eq!(query(&bytes, "PRAGMA integrity_check"), ["ok"]);
        let items =
            "SELECT name||' '||epoch||' '||version||' '||release||' '||arch||' '||repoid||' '||reason||' '||action
            FROM rpm NATURAL JOIN trans_item JOIN repo ON repo.id = repo_id";
        assert_eq!(query(&bytes, items), ["bash 1 2.0 3 x86_64 base 2 1"], "rpm itself is no part of the root");
        let trans =
            "SELECT dt_begin||' '||dt_end||' '||rpmdb_version_end||' '||user_id||' '||cmdline||' '||state FROM trans";
        assert_eq!(query(&bytes, trans), ["1700000000 1700000000 c0 -1 install bash 1"]);
        assert_eq!(query(&bytes, "SELECT value FROM config"), ["1.2"]);
        assert!(first(&sample(), "c0") == bytes && settle(bytes.clone(), &[], DATE).unwrap() == bytes);
    }

    #[test]
    fn what_a_program_left_in_the_log_is_settled_and_tells_no_time_and_no_user() {
        let (database, log) = left_open(LATER);
        let settled = settle(database.clone(), &log, DATE).unwrap();
        assert_eq!(
            query(&settled, "SELECT dt_begin||' '||dt_end||' '||user_id FROM trans WHERE id = 2"),
            ["1700000000 1700000000 -1"]
        );
        assert_eq!(query(&settled, "SELECT name FROM rpm ORDER BY 1"), ["bash", "jq"]);
        assert_eq!(query(&settled, "SELECT line FROM console_output"), Vec::<String>::new());
        let later = LATER.replace("1800000000", "1900000000").replace("1000,", "0,").replace("a line", "another");
        let (other, other_log) = left_open(&(later + "; CREATE TABLE x (y); DROP TABLE x"));
        assert!(settle(other, &other_log, DATE).unwrap() == settled, "another day, user and way of writing");
        // A transaction whose end is missing never happened.
        let cut = &log[..log.len() - 1];
        assert_ne!(settle(database, cut, DATE).unwrap(), settled);
    }

    #[test]
    fn what_is_not_the_known_schema_is_refused() {
        let changed = |sql: &str| {
            let (database, log) = left_open(sql);
            settle(database, &log, DATE)
        };
        assert!(matches!(changed("CREATE VIEW v AS SELECT 1"), Err(HistoryError::Schema)));
        assert!(matches!(changed("ALTER TABLE trans ADD more TEXT"), Err(HistoryError::Schema)));
        assert!(matches!(changed("UPDATE config SET value = '9.9'"), Err(HistoryError::Schema)));
        assert!(settle(b"no database at all".to_vec(), &[], DATE).is_err());
        assert!(settle(Vec::new(), &[], DATE).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn damaged_databases_and_logs_never_panic(at in 0usize..90_000, byte: u8, in_log: bool) {
            static LEFT: std::sync::LazyLock<(Vec<u8>, Vec<u8>)> = std::sync::LazyLock::new(|| left_open(LATER));
            let (mut database, mut log) = LEFT.clone();
            let bytes = if in_log { &mut log } else { &mut database };
            let length = bytes.len();
            bytes[at % length] ^= byte;
            let _ = settle(database.clone(), &log, DATE);
            let _ = cookie(database);
        }
    }
}
