//! The parts of the throughput benchmark. The load itself is the library's, `nearhit::load`.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `options` | the command line |
//! | `work` | which requests, which way |
//! | `cell` | a kind of work, a way, connections and pace; what it gave in a round |
//! | `rows` | the rows of the table: a cell beside its baseline, and what is aimed at |
//! | `stage`, `peer`, `inprocess` | the servers: redis-servers, nearhits, other proxies, a proxy in this process |
//! | `cpu` | CPU time of another process, or of some threads |
//! | `measure` | one cell: warm up, measure, prove that it measured what its name says |
//! | `fairness` | what a near-cache costs the server |
//! | `scaling` | what reading from replicas takes off the master |
//! | `machine` | which machine, which versions |
//! | `statistics` | medians, ranges |
//! | `report`, `markdown`, `plot` | samples into rows; tables; pictures |

pub(crate) mod cell;
pub(crate) mod cpu;
pub(crate) mod fairness;
pub(crate) mod inprocess;
pub(crate) mod machine;
pub(crate) mod markdown;
pub(crate) mod measure;
pub(crate) mod options;
pub(crate) mod peer;
pub(crate) mod plot;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod scaling;
pub(crate) mod stage;
pub(crate) mod statistics;
pub(crate) mod work;
