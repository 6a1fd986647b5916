//! `nearhit serve`: starts the proxy, waits for a signal, drains.
//!
//! ```text
//! Starting ─started→ Serving ─SIGTERM, SIGINT→ Draining ─done→ exit 0
//!     └─signal→ exit 0                             └─second signal→ exit 143, 130
//! ```

use std::io;
use std::process::ExitCode;

use nearhit::Proxy;
use nearhit::config::{CacheMode, Config, InvalidationMode};
use nearhit::error::{Error, Kind, Side};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Settings, exit, files, logging};

/// Runs the command.
pub(super) fn run(settings: &Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(exit::CONFIG);
        }
    };
    logging::init(&config.log);
    files::make_room(&config);
    // Only signals are waited for here: the proxy's workers bring their own threads and runtimes.
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal("start the runtime", error))
        .and_then(|runtime| {
            let served = runtime.block_on(serve(config));
            // A second signal means now: nothing is waited for.
            runtime.shutdown_background();
            served
        });
    match served {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("nearhit: {}", exit::describe(&error));
            ExitCode::from(exit::code(&error))
        }
    }
}

async fn serve(config: Config) -> Result<u8, Error> {
    // Before anything is started: a signal that comes early is not lost.
    let mut signals = Signals::install()?;
    let drain_timeout = config.server.drain_timeout;
    let proxy = tokio::select! {
        biased; // a signal that is already here wins over a start that is just done
        _ = signals.next() => return Ok(0),
        proxy = Proxy::builder().config(config.clone()).process_metrics(true).start() => proxy?,
    };
    // Whoever waits for "ready" is then answered. A master that is away must not keep nearhit from running, though.
    tokio::select! {
        biased;
        _ = signals.next() => return Ok(0),
        _ = tokio::time::timeout(config.upstream.connect_timeout, proxy.master_known()) => {}
    }
    announce(&config, &proxy);
    signals.next().await;
    tracing::info!(drain_timeout = ?drain_timeout, "draining");
    tokio::select! {
        biased; // whoever asks twice does not want to wait, not even for what is just done
        code = signals.next() => Ok(code),
        () = proxy.shutdown(drain_timeout) => Ok(0),
    }
}

/// The signals that end nearhit.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> Result<Self, Error> {
        let install = |kind| signal(kind).map_err(|error| internal("install a signal handler", error));
        Ok(Self {
            interrupt: install(SignalKind::interrupt())?,
            terminate: install(SignalKind::terminate())?,
        })
    }

    /// Waits for one, and gives the exit code of a process it kills.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => exit::INTERRUPTED,
            _ = self.terminate.recv() => exit::TERMINATED,
        }
    }
}

fn internal(attempt: &str, error: io::Error) -> Error {
    Error::new(Side::Internal, Kind::Io, attempt).with_source(error)
}

/// Says what runs and where, once clients can connect: one line for people, one log line for machines.
fn announce(config: &Config, proxy: &Proxy) {
    let listen: Vec<String> = proxy.listening().iter().map(ToString::to_string).collect();
    let (listen, upstream, cache) = (listen.join(", "), config.upstream.url.to_string(), cache_mode(config));
    let threads = config.server.worker_count();
    let metrics = proxy.metrics_addr().map_or("off".to_owned(), |at| at.to_string());
    let version = env!("CARGO_PKG_VERSION");
    if logging::is_text(&config.log) {
        eprintln!(
            "nearhit ready: listen {listen}, metrics {metrics}, upstream {upstream}, cache {cache}, threads {threads}, version {version}"
        );
    } else {
        tracing::info!(version, listen, upstream, cache, metrics, threads, "nearhit ready");
    }
}

fn cache_mode(config: &Config) -> String {
    let mode = config.invalidation.mode;
    if config.cache.mode == CacheMode::Off || mode == InvalidationMode::Off {
        return "off".to_owned();
    }
    let shadow = match config.cache.mode {
        CacheMode::Shadow => ", shadow only",
        _ => "",
    };
    format!("{}, {mode}{shadow}", config.cache.max_memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_says_whether_anything_is_cached() {
        let mut config = Config::default();
        assert_eq!(cache_mode(&config), "256mb, auto");
        config.invalidation.mode = InvalidationMode::Off;
        assert_eq!(cache_mode(&config), "off");
        config = Config::default();
        config.cache.mode = CacheMode::Shadow;
        assert_eq!(cache_mode(&config), "256mb, auto, shadow only");
        config.cache.mode = CacheMode::Off;
        assert_eq!(cache_mode(&config), "off");
    }
}
