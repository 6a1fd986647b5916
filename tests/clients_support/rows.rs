//! The client matrix: one row for everything that is run directly against redis-server and through nearhit. The README's
//! table and the summary of `make test-clients` come from here.

/// What a program needs on the machine; `deploy/need-clients.sh` brings it or writes down why it could not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Comes with redis-server, or is a crate.
    Nothing,
    /// `target/clients/python`
    Python,
    /// `target/clients/node`
    Node,
    /// The system's packages of that language.
    Ruby,
    Php,
    Perl,
    C,
}

impl Needs {
    /// The word `deploy/need-clients.sh` uses for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Python => "python",
            Self::Node => "node",
            Self::Ruby => "ruby",
            Self::Php => "php",
            Self::Perl => "perl",
            Self::C => "c",
        }
    }
}

/// One client or application.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    /// The version the results are about. Of system packages: the one of Debian 12.
    pub version: &'static str,
    pub needs: Needs,
    /// What is exercised, for the README.
    pub what: &'static str,
}

const LIBRARY: &str = "everything above";

const fn row(name: &'static str, version: &'static str, needs: Needs, what: &'static str) -> Row {
    Row {
        name,
        version,
        needs,
        what,
    }
}

/// All of them, libraries first.
pub const ROWS: &[Row] = &[
    row(
        "redis-cli",
        "7.0.15",
        Needs::Nothing,
        "RESP2 and RESP3, every mode but `--rdb` and `--replica`, TCP and Unix socket",
    ),
    row(
        "redis-benchmark",
        "7.0.15",
        Needs::Nothing,
        "all its tests, pipelined and not, RESP2 and RESP3, threads",
    ),
    row(
        "redis-py",
        "8.1.0",
        Needs::Python,
        "everything above in RESP2 and RESP3, threads, its own cache",
    ),
    row(
        "redis-py asyncio",
        "8.1.0",
        Needs::Python,
        "everything above in RESP2 and RESP3, 1,000 tasks, cancellation",
    ),
    row(
        "ioredis",
        "6.0.0",
        Needs::Node,
        "everything above in RESP2 and RESP3, 1,000 tasks, automatic pipelines, `MONITOR`",
    ),
    row(
        "node-redis",
        "6.3.1",
        Needs::Node,
        "everything above in RESP2 and RESP3, 1,000 tasks, pool, its own cache, `MONITOR`",
    ),
    row(
        "redis-rs",
        "1.8.1",
        Needs::Nothing,
        "everything above in RESP2 and RESP3, 1,000 tasks on one connection, connection manager, its own cache",
    ),
    row("hiredis", "0.14.1", Needs::C, LIBRARY),
    row(
        "phpredis",
        "5.3.7",
        Needs::Php,
        "everything above, PHP's sessions with locking",
    ),
    row("redis-rb", "4.8.0", Needs::Ruby, "everything above, threads"),
    row("perl Redis", "2.000", Needs::Perl, LIBRARY),
    row(
        "Celery",
        "5.7.0",
        Needs::Python,
        "broker and results: retries, ETA, groups, chains, chords, remote control, worker through a restart",
    ),
    row(
        "RQ",
        "2.12.0",
        Needs::Python,
        "bursts, failures, retries, dependencies, schedules, forked workers, worker through a restart",
    ),
    row(
        "BullMQ",
        "6.7.0",
        Needs::Node,
        "RESP2 and RESP3: events, retries, delays, priorities, flows, schedulers, rate limits, worker through a restart",
    ),
    row(
        "Sidekiq",
        "6.4.1",
        Needs::Ruby,
        "jobs, bulk, retries, schedules, dead jobs, its API, worker through a restart",
    ),
    row(
        "django-redis",
        "7.0.0",
        Needs::Python,
        "Django's cache with versions, patterns, locks and compression, and its sessions",
    ),
    row(
        "Redlock",
        "5.0.0-beta.2",
        Needs::Node,
        "RESP2 and RESP3: exclusion (half of the contenders past nearhit), extension, release by time, theft",
    ),
    row(
        "redis-py Lock",
        "8.1.0",
        Needs::Python,
        "RESP2 and RESP3: exclusion (half of the contenders past nearhit), extension, release by time, theft",
    ),
];

/// The README's table.
pub fn markdown() -> String {
    let row = |row: &Row| format!("| {} | {} | {} |\n", row.name, row.version, row.what);
    let rows: String = ROWS.iter().map(row).collect();
    format!("| client | version | what |\n| --- | --- | --- |\n{rows}")
}

/// The row called `name`.
#[track_caller]
pub fn named(name: &str) -> &'static Row {
    ROWS.iter()
        .find(|row| row.name == name)
        .unwrap_or_else(|| panic!("{name} has no row"))
}
