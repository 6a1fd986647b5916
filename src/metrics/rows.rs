//! Every metric, one row each. To add one, add a row; registering, help, zero values and rendering follow from it.
//!
//! Rules, checked by a test: names begin with `nearhit_`, use base units (seconds, bytes), counters end in `_total`;
//! labels are closed enums ([`super::label`]), never a key, a client address, a client name or a user.

use std::sync::Arc;

use ::metrics::Recorder;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::commands::CommandMetrics;
use super::family::{Counter, Counters, Gauge, Gauges, Histogram, Info, Instrument, Row, RowType};
use super::label::{
    Bypass, CacheResult, CanaryFailure, ChannelOp, ChannelOutcome, ConnectResult, Direction, Disconnect, ErrorKind,
    Evicted, FenceReason, FenceResult, FlushReason, InvalidationEffect, InvalidationKind, InvalidationSource, Label,
    Lost, Origin, Pool, Refusal, Rejected, Retry, RouteReason, RouteTo, ServingMode, Subscriber, SubscriberLoss,
    TouchResult, Unproved,
};
use super::node::NodeMetrics;
use super::shadow::ShadowMetrics;
use super::worker::WorkerRecorder;
use crate::time::{self, Instant};

/// Makes the struct of all rows, its registration and its publication from one list.
macro_rules! rows {
    ($($vis:vis $field:ident: $type:ty = $name:literal, $help:literal;)+) => {
        /// The value behind every row but those of commands.
        #[derive(Debug)]
        pub struct Values {
            $(#[doc = concat!("`", $name, "`: ", $help)] $vis $field: $type,)+
        }

        /// Every row but those of commands, in the order they are written here.
        pub const ROWS: &[Row] = &[
            $(Row { name: $name, kind: <$type as Instrument>::KIND, help: $help },)+
        ];

        impl Values {
            fn register(recorder: &dyn Recorder) -> Self {
                Self {
                    $($field: Instrument::register(
                        &Row { name: $name, kind: <$type as Instrument>::KIND, help: $help },
                        recorder,
                    ),)+
                }
            }

            fn publish(&self) {
                $(self.$field.publish();)+
            }
        }
    };
}

rows! {
    build_info: Info = "nearhit_build_info", "One; its labels say which nearhit this is.";
    pub start_time: Gauge = "nearhit_start_time_seconds", "When this nearhit started, in seconds since 1970.";
    pub ready: Gauge = "nearhit_ready", "1 while new clients are welcome, as /readyz says.";
    pub insecure: Gauge = "nearhit_insecure",
        "1 while any certificate of the server is believed (upstream.tls.insecure_skip_verify), so that others can be the server.";
    pub draining: Gauge = "nearhit_draining", "1 while nearhit finishes what is in flight before it stops.";

    pub command_errors: Counters<(Origin, ErrorKind)> = "nearhit_command_errors_total",
        "Error replies, by who made them; origin=proxy is what a service level objective counts.";

    client_bytes: Counters<Direction> = "nearhit_client_bytes_total", "Bytes exchanged with clients.";
    upstream_bytes: Counters<Direction> = "nearhit_upstream_bytes_total", "Bytes exchanged with servers.";

    pub clients_connected: Gauge = "nearhit_clients_connected", "Clients connected now.";
    pub clients_max: Gauge = "nearhit_clients_max", "Clients that may be connected at once.";
    pub clients_pinned: Gauge = "nearhit_clients_pinned", "Clients that hold an upstream connection of their own now.";
    pub client_connections: Counter = "nearhit_client_connections_total", "Client connections accepted.";
    pub client_disconnects: Counters<Disconnect> = "nearhit_client_disconnects_total",
        "Client connections ended, by reason.";

    pub pubsub_subscriptions: Gauges<Subscriber> = "nearhit_pubsub_subscriptions",
        "Subscriptions of clients that share connections, and those to the server that serve them.";
    pub pubsub_received: Counter = "nearhit_pubsub_received_messages_total", "Messages the server sent for sharing clients.";
    pub pubsub_delivered: Counter = "nearhit_pubsub_delivered_messages_total", "Messages handed to sharing clients.";
    pub pubsub_closed: Counters<SubscriberLoss> = "nearhit_pubsub_closed_total", "Subscribers closed by nearhit, by reason.";

    cache_requests: Counters<CacheResult> = "nearhit_cache_requests_total",
        "Cacheable requests, by what the near-cache said.";
    cache_bypass: Counters<Bypass> = "nearhit_cache_bypass_total",
        "Cacheable requests that passed the near-cache by, by reason.";
    pub cache_keys: Gauge = "nearhit_cache_keys", "Keys with at least one entry.";
    pub cache_entries: Gauge = "nearhit_cache_entries", "Replies in memory.";
    pub cache_bytes: Gauge = "nearhit_cache_bytes", "Bytes the near-cache uses, overhead included.";
    pub cache_max_bytes: Gauge = "nearhit_cache_max_bytes", "Bytes the near-cache may use.";
    pub cache_enabled: Gauge = "nearhit_cache_enabled", "1 while hits may be answered from memory.";
    pub cache_mode: Gauges<ServingMode> = "nearhit_cache_mode", "1 at what cache.mode says, 0 at the others.";
    pub cache_unproved: Counters<Unproved> = "nearhit_cache_unproved_total",
        "Lookups that found an entry which was not served for want of a proof that it is still true, by reason.";
    pub cache_inserts: Counter = "nearhit_cache_inserts_total", "Replies stored.";
    pub cache_compressed: Counter = "nearhit_cache_compressed_total", "Replies compressed to be stored.";
    pub cache_compressed_saved_bytes: Counter = "nearhit_cache_compressed_saved_bytes_total",
        "Bytes by which that made them shorter.";
    pub cache_rejected: Counters<Rejected> = "nearhit_cache_rejected_total", "Fetched replies not stored, by reason.";
    pub cache_evictions: Counters<Evicted> = "nearhit_cache_evictions_total",
        "Entries that left the near-cache, by reason.";
    pub cache_flushes: Counters<FlushReason> = "nearhit_cache_flushes_total",
        "Times the whole near-cache was dropped, by reason.";

    pub touch: Counters<TouchResult> = "nearhit_touch_total",
        "Keys read from memory that the server was told of (TOUCH), by what it said.";

    pub invalidations: Counters<(InvalidationKind, InvalidationEffect)> = "nearhit_invalidations_total",
        "Invalidations received, by what they named and what they did.";
    pub invalidation_source: Gauges<InvalidationSource> = "nearhit_invalidation_source",
        "1 at the mode invalidations come by now, 0 at the others.";
    pub invalidation_refused: Gauges<(InvalidationSource, Refusal)> = "nearhit_invalidation_refused",
        "1 at the modes that were tried and did not work for nearhit's own user, with the reason.";
    pub canary: Histogram = "nearhit_invalidation_canary_seconds",
        "Time from writing the canary at the server to its invalidation applied.";
    pub canary_last_success: Gauge = "nearhit_invalidation_canary_last_success_timestamp_seconds",
        "When the canary's invalidation came last, in seconds since 1970.";
    pub canary_failures: Counters<CanaryFailure> = "nearhit_invalidation_canary_failures_total",
        "Times the canary's invalidation was not timed, by reason.";
    pub tracking_fences: Counters<FenceReason> = "nearhit_tracking_fences_total",
        "Times an invalidation stream was given up, and with it all that was cached over it, by reason.";
    pub staleness_limit: Gauge = "nearhit_staleness_limit_seconds",
        "What nearhit_staleness_bound_seconds may grow to before answers from memory stop: invalidation.max_staleness.";

    pub upstream_up: Gauge = "nearhit_upstream_up", "1 while the server answers.";
    pub upstream_connections: Gauges<Pool> = "nearhit_upstream_connections", "Connections to servers now.";
    pub upstream_connects: Counters<ConnectResult> = "nearhit_upstream_connects_total",
        "Attempts to connect to a server, by result.";
    pub upstream_names_moved: Counter = "nearhit_upstream_names_moved_total",
        "Times the host name of a node led no more to where nearhit was connected.";
    pub upstream_connects_delayed: Counters<Pool> = "nearhit_upstream_connects_delayed_total",
        "Connections to servers that waited for their turn (upstream.connect_rate).";
    pub upstream_lost: Counters<Lost> = "nearhit_upstream_lost_total", "Connections to servers lost, by reason.";
    pub uncertain_replies: Counter = "nearhit_uncertain_replies_total",
        "Writes whose connection was lost before the reply: nobody knows whether they took effect.";

    pub retries: Counters<Retry> = "nearhit_retries_total",
        "Requests that their connection was lost with and that may be sent again, by what became of them.";
    pub routed_reads: Counters<(RouteTo, RouteReason)> = "nearhit_reads_routed_total",
        "Reads that memory did not answer, by the node they were sent to and why, where replicas may be read.";

    pub channel_connected: Gauge = "nearhit_channel_connected", "1 while the application channel is heard.";
    pub channel_messages: Counters<(ChannelOp, ChannelOutcome)> = "nearhit_channel_messages_total",
        "Messages on the application channel, by what they said and what that did.";

    pub kill_fences: Counters<FenceResult> = "nearhit_kill_fences_total",
        "Connections lost while a SWAPDB, FLUSHALL or the like was on its way, by how it was kept from running unseen.";
    pub kill_fences_held: Gauge = "nearhit_kill_fences_held", "Of these: those because of which nothing is cached now.";

    pub info_stale: Counter = "nearhit_info_stale_total",
        "Times INFO was answered with the last known text because the server did not answer.";
    pub monitor_lost: Counter = "nearhit_monitor_lines_lost_total",
        "Lines of MONITOR that a client which read too slowly did not get.";

    pub panics: Counter = "nearhit_panics_total", "Panics caught; each closed one connection. Anything but 0 is a bug.";
}

/// Upper bounds of the buckets of histograms that the exporter keeps, in seconds. Invalidations take 0.1 ms; the default
/// staleness bound is one second.
const RARE_BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// The rows of commands and of answers. They are rendered from the workers' recorders, not through the exporter: its
/// histograms keep every sample until they are drained.
pub const COMMAND_ROWS: &[Row] = &[COMMANDS, DURATION, LATENCY, SERVED_AGE];

pub(super) const COMMANDS: Row = Row {
    name: "nearhit_commands_total",
    kind: RowType::Counter,
    help: "Commands answered, by how they ended.",
};
pub(super) const DURATION: Row = Row {
    name: "nearhit_command_duration_seconds",
    kind: RowType::Histogram,
    help: "Time from a command read to its reply queued. A bucket may count 3.2 % too few, never too many.",
};
pub(super) const LATENCY: Row = Row {
    name: "nearhit_command_latency_seconds",
    kind: RowType::Summary,
    help: "Quantiles over the last 60 seconds, to 3.2 %, sum and count since the start. \
           Quantiles of several instances cannot be added up: use nearhit_command_duration_seconds for that.",
};

pub(super) const SERVED_AGE: Row = Row {
    name: "nearhit_served_age_seconds",
    kind: RowType::Histogram,
    help: "Time since the answer of a hit was fetched, for reads of one key. A bucket may count 3.2 % too few, never too \
           many.",
};

/// All metrics of one proxy. Nothing here is global: two proxies in a process do not mix.
///
/// The fields of [`Values`] are reached directly: `metrics.client_disconnects.inc(Disconnect::Eof)`. What workers count
/// for every request is in their [`WorkerRecorder`] instead and is only folded here.
#[derive(Debug)]
pub struct Metrics {
    /// Commands: totals, latencies, the last minute.
    pub commands: CommandMetrics,
    /// The server.
    pub node: NodeMetrics,
    /// Shadow mode, by policy.
    pub shadow: ShadowMetrics,
    values: Values,
    pub(super) exporter: PrometheusHandle,
    pub(super) process: bool,
}

impl std::ops::Deref for Metrics {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}

impl Metrics {
    /// Metrics of a proxy that starts `now` and knows the commands `names`, in the order of the command table.
    pub fn new<N: Into<Box<str>>>(names: impl IntoIterator<Item = N>, now: Instant) -> Self {
        // A recorder of our own: installing it would make it the process's, which belongs to whoever embeds us.
        let builder = PrometheusBuilder::new();
        // It fails only without buckets.
        let builder = builder
            .set_buckets(&RARE_BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let values = Values::register(&recorder);
        values.start_time.set(time::unix_seconds());
        values.invalidation_source.set_only(InvalidationSource::Off);
        let exporter = recorder.handle();
        Self {
            commands: CommandMetrics::new(names, now),
            node: NodeMetrics::new(""),
            shadow: ShadowMetrics::new([]),
            values,
            exporter,
            process: false,
        }
    }

    /// Also reports `process_*`: CPU, memory, open files. Off unless asked: in a library the host owns these.
    #[must_use]
    pub fn with_process(mut self, process: bool) -> Self {
        self.process = process;
        self
    }

    /// The server's address, without credentials.
    #[must_use]
    pub fn with_upstream(mut self, address: &str) -> Self {
        self.node = NodeMetrics::new(address);
        self
    }

    /// The names of the policies, in the order of the configuration.
    #[must_use]
    pub fn with_policies<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.shadow = ShadowMetrics::new(names);
        self
    }

    /// A recorder for one more worker, which alone may write to it.
    pub fn add_worker(&self) -> Arc<WorkerRecorder> {
        self.commands.add_worker()
    }

    /// Upkeep: call it every five to ten seconds.
    pub fn tick(&self, now: Instant) {
        self.commands.tick(now);
        self.exporter.run_upkeep();
    }

    /// Requests the near-cache gave `result` to, of all workers.
    pub fn cache_requests(&self, result: CacheResult) -> u64 {
        self.commands.sum(|worker| worker.cache.get(result))
    }

    /// Requests that passed the near-cache by for `reason`, of all workers.
    pub fn cache_bypass(&self, reason: Bypass) -> u64 {
        self.commands.sum(|worker| worker.bypass.get(reason))
    }

    /// Bytes exchanged with clients, of all workers.
    pub fn client_bytes(&self, direction: Direction) -> u64 {
        self.commands.sum(|worker| worker.client_bytes.get(direction))
    }

    /// Bytes exchanged with servers, of all workers.
    pub fn upstream_bytes(&self, direction: Direction) -> u64 {
        self.commands.sum(|worker| worker.upstream_bytes.get(direction))
    }

    /// Hands every value to the exporter; what workers count is folded first.
    pub(super) fn publish(&self) {
        take_over(&self.values.cache_requests, |result| self.cache_requests(result));
        take_over(&self.values.cache_bypass, |reason| self.cache_bypass(reason));
        take_over(&self.values.client_bytes, |direction| self.client_bytes(direction));
        take_over(&self.values.upstream_bytes, |direction| self.upstream_bytes(direction));
        self.values.publish();
    }
}

fn take_over<L: Label>(counters: &Counters<L>, total: impl Fn(L) -> u64) {
    for label in L::ALL {
        counters.set_total(*label, total(*label));
    }
}
