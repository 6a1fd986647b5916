//! `nearhit selftest`: clients of both protocols, writers behind nearhit's back, faults, and a check of every reply.
//!
//! ```text
//! clients ──→ instance 0 ──→ relay 0 ──┐                 all replies are judged as they come, by what is known
//! clients ──→ instance 1 ──→ relay 1 ──┼─→ redis-server  about each key: which versions it had, who knew it, since
//! writers ─────────────────────────────┘                 when (`cell`); one monotonic clock for all
//! ```
//! | file | what it owns |
//! | --- | --- |
//! | `options`, `modes` | what was asked for; what each mode needs for it |
//! | `cell`, `cell::judge`, `story` | one key's versions, the rules a read must keep; a violation in words |
//! | `world`, `findings` | all keys; what was found |
//! | `workload`, `requests`, `replies` | operations, as bytes, and what their replies say |
//! | `keys` | which keys there are, and what they are called |
//! | `client`, `wire`, `batch`, `answers` | one client: its connection, or those to a cluster, its requests, its replies |
//! | `relay`, `servers`, `exchange` | the way to the server; processes; questions of the checker's own |
//! | `topology`, `nodes`, `cluster` | replicas and sentinels, if there are any, or a cluster; who takes whose place |
//! | `faults`, `path_faults`, `server_faults`, `replica_faults`, `cluster_faults` | what is broken on purpose |
//! | `converge`, `proof`, `report` | the comparison at the end, what the instances counted, what is said |
//!
//! Exit status: 0 nothing was violated, 1 something was, 2 the run could not be made or tested too little.

mod answers;
mod batch;
mod cell;
mod client;
mod cluster;
mod cluster_faults;
mod converge;
mod exchange;
mod faults;
mod findings;
mod keys;
mod modes;
mod nodes;
mod options;
mod path_faults;
mod proof;
mod relay;
mod replica_faults;
mod replies;
mod report;
mod requests;
mod run;
mod server_faults;
mod servers;
mod story;
mod topology;
mod wire;
mod workload;
mod world;

pub(super) use options::{BOUND, CLIENTS, INSTANCES, SECONDS, SelftestFlags, VIOLATIONS};

use super::exit;
use options::Options;
use std::process::ExitCode;

/// The run could not be made, or tested too little.
const NOTHING: u8 = 2;

/// Why a run could not be made.
#[derive(Debug)]
struct Failure {
    message: String,
}

impl Failure {
    fn new(message: String) -> Self {
        Self { message }
    }
}

/// Runs the command.
pub(super) fn run(flags: SelftestFlags) -> ExitCode {
    let seed = nearhit::time::unix_micros() % 1_000_000;
    match Options::read(flags, seed).and_then(|options| run::blocking(&options)) {
        Ok(ended) if ended.violated => ExitCode::from(exit::FAILURE),
        Ok(ended) if ended.weak => ExitCode::from(NOTHING),
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("nearhit selftest: {}", failure.message);
            ExitCode::from(NOTHING)
        }
    }
}
