//! What a run is to be, with every number within its bounds.

use super::Failure;
use super::flags::BenchFlags;
use nearhit::config::{ByteSize, Config, UpstreamTls, UpstreamUrl};
use nearhit::load::{MIN_VALUE_BYTES, Order, Pace, Server, Trace};
use nearhit::tls::ClientTls;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How all keys of all runs begin.
pub(super) const PREFIX: &str = "__nearhit_bench:";
/// What redis-benchmark opens.
pub(super) const CONNECTIONS: usize = 50;
/// Few enough that all of them are hot.
pub(super) const KEYS: u32 = 1_000;
pub(super) const SIZE: &str = "64";
pub(super) const SECONDS: u64 = 5;
pub(super) const ROUNDS: u32 = 3;
/// The most that a run puts into somebody's server. Chosen, not measured.
const MOST_BYTES: u64 = 1 << 30;
/// Keys end by themselves so long after the run should have, if they could not be removed.
const GRACE: Duration = Duration::from_secs(600);

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) target: UpstreamUrl,
    pub(super) through: Through,
    /// Whom to believe, and what to show, where a URL says TLS.
    pub(super) tls: UpstreamTls,
    /// The same, read; `None`: no URL says TLS.
    pub(super) client_tls: Option<ClientTls>,
    pub(super) connections: usize,
    pub(super) pace: Pace,
    pub(super) keys: u32,
    pub(super) value_bytes: usize,
    pub(super) order: Order,
    /// SETs of every 1,000 requests.
    pub(super) sets: u32,
    pub(super) seconds: Duration,
    pub(super) rounds: u32,
    pub(super) json: Option<PathBuf>,
}

/// The other way to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Through {
    /// A nearhit in this process.
    Own,
    /// One that runs already.
    Running(UpstreamUrl),
    /// There is only one way.
    Nobody,
}

impl Options {
    pub(super) fn read(flags: BenchFlags) -> Result<Self, Failure> {
        let target = flags.target.as_deref().map(|text| url("target", text)).transpose()?;
        let size: ByteSize = flags
            .size
            .as_deref()
            .unwrap_or(SIZE)
            .parse()
            .map_err(|error| Failure::usage(format!("--size: {error}")))?;
        let (order, keys) = order(&flags)?;
        let value_bytes = within("size", size.as_usize() as u64, MIN_VALUE_BYTES as u64, 64 << 20)?;
        if u64::from(keys) * value_bytes > MOST_BYTES {
            return Err(Failure::usage(format!(
                "{keys} keys of {value_bytes} bytes are more than the 1 GiB that a run may put into a server"
            )));
        }
        let seconds = within("seconds", flags.seconds.unwrap_or(SECONDS), 1, 3600)?;
        let connections = within(
            "connections",
            flags.connections.unwrap_or(CONNECTIONS) as u64,
            1,
            10_000,
        )?;
        let writes = within("writes", flags.writes.unwrap_or(0).into(), 0, 100)?;
        let rounds = within("rounds", flags.rounds.unwrap_or(ROUNDS).into(), 1, 1_000)?;
        let (target, through) = (target.unwrap_or_default(), through(flags.through.as_deref())?);
        let (tls, client_tls) = tls(&target, &through, &flags.tls)?;
        Ok(Self {
            target,
            through,
            tls,
            client_tls,
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            pace: pace(&flags)?,
            keys,
            value_bytes: usize::try_from(value_bytes).unwrap_or(usize::MAX),
            order,
            sets: u32::try_from(writes * 10).unwrap_or(1000),
            seconds: Duration::from_secs(seconds),
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            json: flags.json,
        })
    }

    /// Whom a URL of this run means.
    pub(super) fn server<'a>(&'a self, url: &'a UpstreamUrl) -> Server<'a> {
        let tls = self.client_tls.as_ref();
        Server { url, tls }
    }

    /// How long a key lives that nobody removes: as long as all rounds both ways, twice, and some minutes.
    pub(super) fn life(&self) -> Duration {
        GRACE + self.seconds * self.rounds * 4
    }
}

fn pace(flags: &BenchFlags) -> Result<Pace, Failure> {
    if let Some(rate) = flags.rate {
        let rate = within("rate", rate, 1, 10_000_000)?;
        return Ok(Pace::Open {
            rate: NonZeroU64::new(rate).unwrap_or(NonZeroU64::MIN),
        });
    }
    let pipeline = within("pipeline", flags.pipeline.unwrap_or(1) as u64, 1, 1_000)?;
    Ok(Pace::Closed {
        pipeline: usize::try_from(pipeline).unwrap_or(1),
    })
}

/// In which order keys are asked for, and how many there are.
fn order(flags: &BenchFlags) -> Result<(Order, u32), Failure> {
    if let Some(path) = &flags.trace {
        let trace = Trace::read(path).map_err(|error| Failure::usage(format!("--trace: {error}")))?;
        let keys = trace.unique();
        return Ok((Order::Trace(Arc::new(trace)), keys));
    }
    let keys = within("keys", flags.keys.unwrap_or(KEYS).into(), 1, 10_000_000)?;
    let keys = u32::try_from(keys).unwrap_or(u32::MAX);
    match flags.zipf {
        None => Ok((Order::Uniform, keys)),
        Some(exponent) if (0.0..=5.0).contains(&exponent) => Ok((Order::Zipf(exponent), keys)),
        Some(_) => Err(Failure::usage("--zipf must be between 0 and 5")),
    }
}

fn through(typed: Option<&str>) -> Result<Through, Failure> {
    match typed {
        None => Ok(Through::Own),
        Some("none") => Ok(Through::Nobody),
        Some(text) => url("through", text).map(Through::Running),
    }
}

/// Reads what `[upstream.tls]` would say; it is for both ways.
fn tls(
    target: &UpstreamUrl,
    through: &Through,
    flags: &[(String, String)],
) -> Result<(UpstreamTls, Option<ClientTls>), Failure> {
    let url = match through {
        Through::Running(url) if url.tls => url,
        _ => target,
    };
    let scheme = if url.tls { "rediss://tls" } else { "redis://clear" };
    let mut all = flags.to_vec();
    // What is read is TLS; the URLs were read before.
    all.push(("upstream.url".to_owned(), scheme.to_owned()));
    let config = Config::load(None, std::iter::empty(), &all).map_err(|errors| Failure::usage(errors.to_string()))?;
    let client_tls = config.upstream.client_tls();
    let client_tls = client_tls.map_err(|errors| Failure::usage(errors.to_string()))?;
    Ok((config.upstream.tls, client_tls))
}

fn url(flag: &str, text: &str) -> Result<UpstreamUrl, Failure> {
    text.parse()
        .map_err(|error| Failure::usage(format!("--{flag}: {error}")))
}

fn within(flag: &str, value: u64, least: u64, most: u64) -> Result<u64, Failure> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(Failure::usage(format!("--{flag} must be between {least} and {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(flags: BenchFlags) -> String {
        let failure = Options::read(flags).unwrap_err();
        assert_eq!(failure.status, 2);
        failure.message
    }

    #[test]
    fn a_run_is_modest_unless_told_otherwise() {
        let options = Options::read(BenchFlags::default()).unwrap();
        assert_eq!(options.target, UpstreamUrl::tcp("127.0.0.1", 6379));
        assert_eq!(
            (options.through, options.pace),
            (Through::Own, Pace::Closed { pipeline: 1 })
        );
        assert_eq!((options.connections, options.keys, options.value_bytes), (50, 1000, 64));
        assert_eq!(options.sets, 0);
    }

    #[test]
    fn nobodys_server_is_filled() {
        let flags = BenchFlags {
            keys: Some(100_000),
            size: Some("16kb".to_owned()),
            ..BenchFlags::default()
        };
        assert!(refused(flags).contains("1 GiB"));
    }

    #[test]
    fn what_is_out_of_range_is_told_with_the_range() {
        let flags = BenchFlags {
            connections: Some(0),
            ..BenchFlags::default()
        };
        assert_eq!(refused(flags), "--connections must be between 1 and 10000");
        let flags = BenchFlags {
            size: Some("7".to_owned()),
            ..BenchFlags::default()
        };
        assert!(refused(flags).starts_with("--size must be between 8 and"));
        let flags = BenchFlags {
            target: Some("me:secret@db".to_owned()),
            ..BenchFlags::default()
        };
        assert!(!refused(flags).contains("secret"));
    }
}
