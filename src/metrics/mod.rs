//! Metrics: what is counted, how long requests took, and the text Prometheus reads.
//!
//! ```text
//!  worker 1 ─ WorkerRecorder ┐ written by one thread each,
//!  worker 2 ─ WorkerRecorder ┼ no locked instruction ──→ CommandMetrics ─ fold ─┬─→ totals, last minute (INFO, dashboard)
//!  worker N ─ WorkerRecorder ┘                                                  │
//!  everything else ─ Counter, Gauge, Family: one row each in `rows` ────────────┴─→ Metrics::render ─→ /metrics
//! ```
//!
//! What happens at every request goes to the worker's recorder; what happens now and then is a shared counter.
//! Everything hangs on one [`Metrics`] value and nothing is global.

mod commands;
mod family;
mod hot_keys;
mod label;
mod latency;
mod node;
mod process;
mod render;
mod rows;
mod shadow;
mod text;
mod window;
mod worker;

pub use commands::{CommandMetrics, CommandTotals, MAX_COMMAND_LABELS, OTHER_NAME};
pub use family::{Counter, Counters, Family, Gauge, Gauges, Histogram, Info, Instrument, Row, RowType};
pub use hot_keys::{HotKey, HotKeys, SAMPLED, Sampler};
pub use label::{
    Bypass, CacheResult, CanaryFailure, ChannelOp, ChannelOutcome, ConnectResult, Direction, Disconnect, ErrorKind,
    Evicted, FenceReason, FenceResult, FlushReason, InvalidationEffect, InvalidationKind, InvalidationSource, Label,
    Labels, Lost, Origin, Outcome, Pool, Refusal, Rejected, Retry, RouteReason, RouteTo, ServingMode, Subscriber,
    SubscriberLoss, TouchResult, Unproved,
};
pub use latency::{BUCKETS, LatencyArray, LatencySnapshot, MAX_NANOS};
pub use node::{LOAD_ROWS, LoadFigures, NODE_ROWS, NodeFigures, NodeMetrics, REPLICA_ROWS, ReplicaFigures};
pub use process::PROCESS_ROWS;
pub use render::CONTENT_TYPE;
pub use rows::{COMMAND_ROWS, Metrics, ROWS, Values};
pub use shadow::{SHADOW_ROWS, ShadowLookup, ShadowMetrics, ShadowTotals, ShadowVerdict};
pub use window::{Percentiles, Window};
pub use worker::{Cells, OTHER, WorkerRecorder};
