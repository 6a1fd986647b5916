//! The parts of the throughput benchmark.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `options` | the command line |
//! | `workload` | the rows of the table: which requests, which way, against which baseline |
//! | `stage` | the servers: two redis-servers, and one nearhit for each configuration |
//! | `script` | requests and the replies they must get, made beforehand |
//! | `load` | the connections that send the requests, and the check of every reply |
//! | `cpu` | CPU time of another process |
//! | `measure` | one cell: warm up, measure, prove that it measured what its name says |
//! | `machine` | which machine, which versions |
//! | `statistics` | medians, ranges, percentiles |
//! | `report` | samples into rows, Markdown and JSON |

pub(crate) mod cpu;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod options;
pub(crate) mod report;
pub(crate) mod script;
pub(crate) mod stage;
pub(crate) mod statistics;
pub(crate) mod workload;
