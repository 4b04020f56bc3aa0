//! dnf's history, an SQLite database: what was installed by which command, and why.
//!
//! Invariant: the same rows give the same bytes. Whatever was read is written anew, table by table, row by row, into the schema that stands here.
//!
//! # Why SQLite itself
//! A database that scripts left must be read with its log, its overflow pages and whatever else SQLite does, and one must be written
//! that other programs go on with. SQLite is fuzzed with damaged databases by its authors, and sees memory only. Its time is bounded:
//! first the schema is read, in a limited number of steps, and must be the known one, so that no expression of the database's own is
//! ever evaluated; then a check that is linear in the database's size finds damaged trees.

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

/// Bytes of one statement of its schema.
const MAXIMUM_STATEMENT: i32 = 4096;
/// Instructions of SQLite in which a schema is read: of thousands of objects; the known ones have less than a hundred.
const SCHEMA_STEPS: i32 = 20_000;

const SCHEMA: &str = include_str!("schema.sql");
const VERSION: &str = "1.2";
/// Spec: rpm, `lib/backend/sqlite.c`, `init_index`.
const NAME_TABLE: &str = "CREATE TABLE 'Name' (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL, \
    FOREIGN KEY (hnum) REFERENCES 'Packages'(hnum))";
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
    #[error("its schema is not the one that is known")]
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
    check(&mut connection, "1")?;
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
    // SQLite takes the same name in another case for the same.
    let named = schema(&connection, "found")?.into_iter().filter(|object| object.name.eq_ignore_ascii_case("Name"));
    if !named.map(|object| object.statement).eq([bare(NAME_TABLE)]) {
        return Err(HistoryError::Schema);
    }
    check(&mut connection, "Name")?;
    // An index may be of anything.
    let query = "SELECT key, hnum FROM found.Name NOT INDEXED ORDER BY key, hnum, idx";
    let mut statement = connection.prepare(query)?;
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
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, MAXIMUM_STATEMENT)?;
    // Invariant: until `check`. Pages that are in a tree more than once would make a query take for ever, that of the schema too.
    connection.progress_handler(SCHEMA_STEPS, Some(|| true))?;
    connection.deserialize_read_exact("found", database.as_slice(), database.len(), true)?;
    Ok(())
}

/// Whether the trees are whole: of one table, or all (`1`). Invariant: after the statements of what is checked were found to be the
/// known ones, since their expressions are evaluated, and before their rows are read.
fn check(connection: &mut Connection, what: &str) -> Result<(), HistoryError> {
    connection.progress_handler(0, None::<fn() -> bool>)?;
    let judgement: String = connection.query_row(&format!("PRAGMA found.quick_check({what})"), [], |row| row.get(0))?;
    if judgement == "ok" { Ok(()) } else { Err(HistoryError::Damaged(judgement)) }
}

/// A table, an index, a view or a trigger.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    kind: String,
    name: String,
    /// See [`bare`].
    statement: String,
}

/// Everything in a database that has a statement, sorted. Evaluates nothing.
fn schema(connection: &Connection, name: &str) -> Result<Vec<Object>, HistoryError> {
    let query = format!("SELECT type, name, sql FROM {name}.sqlite_schema WHERE sql IS NOT NULL");
    let mut statement = connection.prepare(&query)?;
    let objects = statement.query_map([], |row| {
        Ok(Object { kind: row.get(0)?, name: row.get(1)?, statement: bare(&row.get::<_, String>(2)?) })
    })?;
    let mut objects = objects.collect::<Result<Vec<_>, _>>()?;
    objects.sort();
    Ok(objects)
}

/// Without what dnf's versions write in other ways: `/* … */`, white space beside brackets and commas, and how much of it there is
/// elsewhere. What is quoted stays.
fn bare(sql: &str) -> String {
    const ALONE: [char; 3] = ['(', ')', ','];
    let (mut text, mut rest, mut is_apart) = (String::new(), sql, false);
    while let Some(character) = rest.chars().next() {
        let quoted = |end: char| rest[1..].find(end).map_or(rest.len(), |at| at + 2);
        let (length, is_layout) = match character {
            // Spec: sqlite.org, "SQL Comment Syntax": the end of the input ends it too.
            '/' if rest.starts_with("/*") => (rest[2..].find("*/").map_or(rest.len(), |at| at + 4), true),
            '\'' | '"' | '`' => (quoted(character), false),
            '[' => (quoted(']'), false),
            _ => (character.len_utf8(), character.is_ascii_whitespace()),
        };
        if !is_layout {
            if is_apart && !text.ends_with(ALONE) && !ALONE.contains(&character) {
                text.push(' ');
            }
            text += &rest[..length];
        }
        is_apart = is_layout;
        rest = &rest[length..];
    }
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
        // Statements count, but for what dnf's versions write in other ways.
        let rewritten = |from: &str, to: &str| {
            let update = format!("UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}')");
            changed(&format!("PRAGMA writable_schema = ON; {update}"))
        };
        assert!(rewritten("releasever TEXT NOT", "/* a ''b'' */ releasever\n TEXT  NOT").is_ok());
        let hidden = rewritten("DEFAULT ''''", "DEFAULT ''/*'' CHECK (length(comment) < 9 OR ''*/'' = comment)");
        assert!(matches!(hidden, Err(HistoryError::Schema)));
        assert!(matches!(rewritten("DEFAULT ''''", "DEFAULT '' ''"), Err(HistoryError::Schema)));
    }

    #[test]
    fn no_expression_of_a_found_database_is_evaluated() {
        let slow = |name: &str| {
            let checks: String = (0..40).map(|at| format!(" CHECK (length(hex(zeroblob(500000))) > {at})")).collect();
            let mut connection = Connection::open_in_memory().unwrap();
            let table = format!("CREATE TABLE {name} (key, hnum, idx{checks})");
            let rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 99999)";
            let fill = format!("{rows} INSERT INTO {name} SELECT x, x, x FROM n");
            connection.execute_batch(&format!("PRAGMA ignore_check_constraints = ON; {table}; {fill}")).unwrap();
            connection.serialize("main").unwrap().to_vec()
        };
        assert!(matches!(settle(slow("evil"), &[], DATE), Err(HistoryError::Schema)));
        assert!(matches!(cookie(slow("nAME")), Err(HistoryError::Schema)));
        assert!(matches!(cookie(slow("evil")), Err(HistoryError::Schema)));
    }

    #[test]
    fn the_cookie_is_of_rpms_own_table_whatever_is_beside_it() {
        let made = |table: &str| {
            let mut connection = Connection::open_in_memory().unwrap();
            let beside = "CREATE TABLE beside (x CHECK (x > 9)); INSERT INTO beside VALUES (1)";
            let rows = "INSERT INTO Name VALUES ('b', 2, 0), ('a', 3, 0), ('a', 1, 0)";
            let settings = "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON";
            connection.execute_batch(&format!("{settings}; {table}; {beside}; {rows}")).unwrap();
            cookie(connection.serialize("main").unwrap().to_vec())
        };
        let [one, two, three] = [1u32, 2, 3].map(u32::to_ne_bytes);
        let expected = Sha256::digest([b"a", &one[..], &three, b"b", &two].concat());
        assert_eq!(made(NAME_TABLE).unwrap(), hex(&expected));
        let other = NAME_TABLE.replace("idx INTEGER", "idx INTEGER CHECK (idx < 9)");
        assert!(matches!(made(&other), Err(HistoryError::Schema)));
    }

    #[test]
    fn a_schema_that_has_a_page_more_than_once_is_not_read_for_ever() {
        const SIZE: usize = 512;
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA page_size = 512; CREATE TABLE t (a UNIQUE)").unwrap();
        let mut bytes = connection.serialize("main").unwrap().to_vec();
        // Spec: "Database File Format", section 1.6. The head of a page, the places of its cells, and, at its end, these.
        let page = |start: usize, kind: u8, last: &[u8], cells: &[Vec<u8>]| {
            let (mut page, mut end, mut places) = (vec![0; SIZE], SIZE, Vec::new());
            for cell in cells {
                end -= cell.len();
                page[end..end + cell.len()].copy_from_slice(cell);
                places.extend((end as u16).to_be_bytes());
            }
            let [count, end] = [cells.len(), end].map(|number| (number as u16).to_be_bytes());
            let head = [&[kind, 0, 0][..], &count, &end, &[0], last, &places].concat();
            page[start..start + head.len()].copy_from_slice(&head);
            page
        };
        let leaf = |cell: Vec<u8>| page(0, 13, &[], &[cell]);
        let inner = |start: usize, children: &[u32], last: u32| {
            let cell = |child: &u32| [&child.to_be_bytes()[..], &[1]].concat();
            page(start, 5, &last.to_be_bytes(), &children.iter().map(cell).collect::<Vec<_>>())
        };
        let old = |place: usize| {
            let start = u16::from_be_bytes([bytes[place], bytes[place + 1]]) as usize;
            bytes[start..start + 2 + bytes[start] as usize].to_vec()
        };
        let first = (bytes.len() / SIZE) as u32 + 1;
        let (table, index, levels) = (leaf(old(108)), leaf(old(110)), first + 2..first + 14);
        let mut root = inner(100, &[first], levels.start);
        root[..100].copy_from_slice(&bytes[..100]);
        root[28..32].copy_from_slice(&(levels.end - 1).to_be_bytes());
        bytes[..SIZE].copy_from_slice(&root);
        bytes.extend([table, index].concat());
        for number in levels.clone() {
            let below = if number + 1 == levels.end { first + 1 } else { number + 1 };
            bytes.extend(inner(0, &[below; 60], below));
        }
        let error = settle(bytes, &[], DATE).unwrap_err();
        assert!(error.to_string().contains("interrupt"), "{error}");
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
