//! Counters, gauges and histograms: a cell that can be read back, and the `metrics` handle through which it is exported.
//!
//! A `metrics` handle can only be written. `INFO`, the dashboard and the tests want to read, so the value lives in a
//! plain atomic here, and rendering publishes it through the handle, which was registered once.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::{Key, Level, Metadata, Recorder};

use super::label::Labels;

/// What a row is, as Prometheus calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowType {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets.
    Histogram,
    /// Quantiles of the last minute.
    Summary,
}

impl RowType {
    /// The word behind `# TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// One metric: what `# HELP` and `# TYPE` say about it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// `nearhit_noun_unit_total`.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: RowType,
    /// What it tells, and its unit where the name does not.
    pub help: &'static str,
}

/// Something a row can be: made once, published at every rendering.
pub trait Instrument {
    /// What kind of number it is.
    const KIND: RowType;

    /// Registers `row` with all its label values, each zero.
    fn register(row: &Row, recorder: &dyn Recorder) -> Self;

    /// Hands the value to the exporter.
    fn publish(&self);
}

const METADATA: Metadata<'static> = Metadata::new("nearhit", Level::INFO, None);

/// A number that only grows. Relaxed: it orders nothing.
#[derive(Debug)]
pub struct Counter {
    value: AtomicU64,
    handle: ::metrics::Counter,
}

impl Counter {
    fn with_key(key: &Key, recorder: &dyn Recorder) -> Self {
        Self {
            value: AtomicU64::new(0),
            handle: recorder.register_counter(key, &METADATA),
        }
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes over a total that is counted elsewhere; a smaller one than before is ignored. Such a counter is not
    /// incremented here.
    pub fn set_total(&self, total: u64) {
        self.value.fetch_max(total, Ordering::Relaxed);
    }

    /// The count until now.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Instrument for Counter {
    const KIND: RowType = RowType::Counter;

    fn register(row: &Row, recorder: &dyn Recorder) -> Self {
        recorder.describe_counter(row.name.into(), None, row.help.into());
        Self::with_key(&Key::from_static_name(row.name), recorder)
    }

    fn publish(&self) {
        self.handle.absolute(self.get());
    }
}

/// A number that goes up and down. Relaxed: it orders nothing.
#[derive(Debug)]
pub struct Gauge {
    bits: AtomicU64,
    handle: ::metrics::Gauge,
}

impl Gauge {
    fn with_key(key: &Key, recorder: &dyn Recorder) -> Self {
        Self {
            bits: AtomicU64::new(0),
            handle: recorder.register_gauge(key, &METADATA),
        }
    }

    /// Sets the value: how numbers kept elsewhere are sampled before rendering.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Sets a whole number; exact up to 2^53.
    #[allow(clippy::cast_precision_loss, reason = "bytes and keys stay far below 2^53")]
    pub fn set_count(&self, value: u64) {
        self.set(value as f64);
    }

    /// Sets one for true, zero for false.
    pub fn set_bool(&self, value: bool) {
        self.set(f64::from(u8::from(value)));
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.add(-1.0);
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: f64) {
        let added = |bits| Some((f64::from_bits(bits) + delta).to_bits());
        // The closure always gives a value, so this cannot fail.
        let _previous = self.bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }
}

impl Instrument for Gauge {
    const KIND: RowType = RowType::Gauge;

    fn register(row: &Row, recorder: &dyn Recorder) -> Self {
        recorder.describe_gauge(row.name.into(), None, row.help.into());
        Self::with_key(&Key::from_static_name(row.name), recorder)
    }

    fn publish(&self) {
        self.handle.set(self.get());
    }
}

/// How long something that is rare took. The exporter keeps every sample until its next upkeep, so this is not for what
/// happens thousands of times a second.
#[derive(Debug)]
pub struct Histogram {
    handle: ::metrics::Histogram,
    count: AtomicU64,
}

impl Histogram {
    /// Adds a sample.
    pub fn record(&self, duration: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.handle.record(duration.as_secs_f64());
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Instrument for Histogram {
    const KIND: RowType = RowType::Histogram;

    fn register(row: &Row, recorder: &dyn Recorder) -> Self {
        recorder.describe_histogram(row.name.into(), None, row.help.into());
        Self {
            handle: recorder.register_histogram(&Key::from_static_name(row.name), &METADATA),
            count: AtomicU64::new(0),
        }
    }

    /// Samples are handed over as they come.
    fn publish(&self) {}
}

/// One instrument for every combination of label values.
#[derive(Debug)]
pub struct Family<L, I> {
    /// Invariant: `L::COUNT` instruments, in index order.
    instruments: Box<[I]>,
    labels: PhantomData<L>,
}

/// A counter for every combination of label values.
pub type Counters<L> = Family<L, Counter>;
/// A gauge for every combination of label values.
pub type Gauges<L> = Family<L, Gauge>;

impl<L: Labels, I> Family<L, I> {
    fn from_keys(row: &Row, make: impl Fn(&Key) -> I) -> Self {
        let instruments = L::all()
            .into_iter()
            .map(|labels| make(&Key::from((row.name, labels.pairs().as_slice()))));
        Self {
            instruments: instruments.collect(),
            labels: PhantomData,
        }
    }

    fn at(&self, labels: L) -> Option<&I> {
        self.instruments.get(labels.index())
    }
}

impl<L: Labels> Counters<L> {
    /// Adds one.
    pub fn inc(&self, labels: L) {
        self.add(labels, 1);
    }

    /// Adds `n`.
    pub fn add(&self, labels: L, n: u64) {
        if let Some(counter) = self.at(labels) {
            counter.add(n);
        }
    }

    /// Takes over a total that is counted elsewhere; see [`Counter::set_total`].
    pub fn set_total(&self, labels: L, total: u64) {
        if let Some(counter) = self.at(labels) {
            counter.set_total(total);
        }
    }

    /// The count until now.
    pub fn get(&self, labels: L) -> u64 {
        self.at(labels).map_or(0, Counter::get)
    }
}

impl<L: Labels> Gauges<L> {
    /// Sets the value.
    pub fn set(&self, labels: L, value: f64) {
        if let Some(gauge) = self.at(labels) {
            gauge.set(value);
        }
    }

    /// Adds one.
    pub fn inc(&self, labels: L) {
        if let Some(gauge) = self.at(labels) {
            gauge.inc();
        }
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, labels: L, delta: f64) {
        if let Some(gauge) = self.at(labels) {
            gauge.add(delta);
        }
    }

    /// Takes one away.
    pub fn dec(&self, labels: L) {
        if let Some(gauge) = self.at(labels) {
            gauge.dec();
        }
    }

    /// Sets this value to one and all others to zero: which of several states holds.
    pub fn set_only(&self, labels: L) {
        for (index, gauge) in self.instruments.iter().enumerate() {
            gauge.set_bool(index == labels.index());
        }
    }

    /// The value now.
    pub fn get(&self, labels: L) -> f64 {
        self.at(labels).map_or(0.0, Gauge::get)
    }
}

impl<L: Labels> Instrument for Counters<L> {
    const KIND: RowType = RowType::Counter;

    fn register(row: &Row, recorder: &dyn Recorder) -> Self {
        recorder.describe_counter(row.name.into(), None, row.help.into());
        Self::from_keys(row, |key| Counter::with_key(key, recorder))
    }

    fn publish(&self) {
        self.instruments.iter().for_each(Instrument::publish);
    }
}

impl<L: Labels> Instrument for Gauges<L> {
    const KIND: RowType = RowType::Gauge;

    fn register(row: &Row, recorder: &dyn Recorder) -> Self {
        recorder.describe_gauge(row.name.into(), None, row.help.into());
        Self::from_keys(row, |key| Gauge::with_key(key, recorder))
    }

    fn publish(&self) {
        self.instruments.iter().for_each(Instrument::publish);
    }
}

/// A gauge that is one, and says something in its labels.
#[derive(Debug)]
pub struct Info {
    handle: ::metrics::Gauge,
}

impl Instrument for Info {
    const KIND: RowType = RowType::Gauge;

    fn register(row: &Row, recorder: &dyn Recorder) -> Self {
        recorder.describe_gauge(row.name.into(), None, row.help.into());
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", option_env!("NEARHIT_REVISION").unwrap_or("unknown")),
        ];
        Self {
            handle: recorder.register_gauge(&Key::from((row.name, labels.as_slice())), &METADATA),
        }
    }

    fn publish(&self) {
        self.handle.set(1.0);
    }
}
