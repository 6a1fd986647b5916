//! The ways, the rounds, and the end of both.

use super::keys::Keys;
use super::options::{Options, Through};
use super::report::{Report, Way};
use super::{Failure, exit};
use crate::cli::signals::Signals;
use indicatif::{ProgressBar, ProgressStyle};
use nearhit::Proxy;
use nearhit::config::{Listen, UpstreamUrl};
use nearhit::load::{Caller, Done, Load, Picker, Server, Until};
use nearhit::resp::Value;
use nearhit::upstream::info_field;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a nearhit of the run's own may take to track its server.
const START: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const DRAIN: Duration = Duration::from_secs(1);
/// Before a way is measured it is used a while: hot keys come into memory.
const LEAD_IN: Duration = Duration::from_millis(500);

/// Runs it all; prints the report.
pub(super) fn blocking(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::broke(format!("start a runtime: {error}")))?;
    let report = runtime.block_on(until_done(options))?;
    print_report(&report, options)
}

fn print_report(report: &Report, options: &Options) -> Result<(), Failure> {
    print!("{}", report.text());
    let Some(path) = &options.json else { return Ok(()) };
    std::fs::write(path, format!("{:#}\n", report.json()))
        .map_err(|error| Failure::broke(format!("write {}: {error}", path.display())))
}

async fn until_done(options: &Options) -> Result<Report, Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::broke(format!("listen for signals: {error}")))?;
    // Before anything is written: nobody there is the usual mistake.
    drop(
        Caller::connect(options.server(&options.target))
            .map_err(|error| Failure::usage(format!("--target: {error}")))?,
    );
    let own = match options.through {
        Through::Own => Some(start_proxy(options).await?),
        _ => None,
    };
    let ways = ways(options, own.as_ref())?;
    // Set here, read by the load.
    let stop = Arc::new(AtomicBool::new(false));
    let (asked, theirs) = (options.clone(), Arc::clone(&stop));
    let mut work = tokio::task::spawn_blocking(move || measure(&asked, ways, &theirs));
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = signals.next() => {
            stop.store(true, Ordering::Relaxed);
            // The keys are removed; a second signal does not wait for that.
            tokio::select! {
                ended = work => ended,
                () = signals.next() => std::process::exit(exit::INTERRUPTED.into()),
            }
        }
    };
    if let Some(proxy) = own {
        proxy.shutdown(DRAIN).await;
    }
    let report = ended.map_err(|_| Failure::broke("the load panicked"))??;
    if stop.load(Ordering::Relaxed) {
        return Err(Failure {
            status: exit::INTERRUPTED,
            message: "stopped; its keys are removed".to_owned(),
        });
    }
    Ok(report)
}

/// A nearhit with its default settings, on a free port of this machine.
async fn start_proxy(options: &Options) -> Result<Proxy, Failure> {
    let failed = |error| Failure::broke(format!("start a nearhit: {error}"));
    let mut config = nearhit::config::Config::default();
    config.server.listen.clear();
    config.metrics.listen = None;
    config.upstream.url = options.target.clone();
    config.upstream.tls = options.tls.clone();
    let builder = Proxy::builder().config(config).listen("127.0.0.1:0");
    let proxy = builder.start().await.map_err(failed)?;
    let tracking = async {
        while !proxy.cache().stats().tracking {
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(START, tracking).await {
        Ok(()) => Ok(proxy),
        Err(_) => Err(Failure::broke(
            "the server tells a nearhit of this run nothing about its keys; see what nearhit serve says about it",
        )),
    }
}

/// Direct first, then through nearhit.
fn ways(options: &Options, own: Option<&Proxy>) -> Result<Vec<Way>, Failure> {
    let mut ways = vec![Way::new("direct", options.target.clone())];
    let through = match (&options.through, own.map(Proxy::listening)) {
        (Through::Running(url), _) => Some(url.clone()),
        (_, Some([Listen::Tcp(addr), ..])) => {
            let mut url = UpstreamUrl::tcp(addr.ip().to_string(), addr.port());
            url.db = options.target.db;
            Some(url)
        }
        _ => None,
    };
    if let Some(url) = through {
        drop(Caller::connect(options.server(&url)).map_err(|error| Failure::usage(format!("--through: {error}")))?);
        ways.push(Way::new("through", url));
    }
    Ok(ways)
}

/// All rounds. Blocks; the keys are gone when it returns.
fn measure(options: &Options, mut ways: Vec<Way>, stop: &AtomicBool) -> Result<Report, Failure> {
    let steps = u64::from(options.rounds) * ways.len() as u64;
    let bar = ProgressBar::new(steps).with_style(style());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message("writing keys");
    let keys = Keys::write(options, stop).map_err(|error| Failure::broke(error.to_string()))?;
    for round in 1..=options.rounds {
        for way in &mut ways {
            bar.set_message(format!("round {round} of {}, {}", options.rounds, way.name));
            let done = one(options, &keys, way, round, stop).map_err(|error| Failure::broke(told(way, &error)))?;
            way.rounds.push(done);
            bar.inc(1);
            if stop.load(Ordering::Relaxed) {
                bar.finish_and_clear();
                return Ok(Report::new(options, ways));
            }
        }
    }
    bar.set_message("removing keys");
    drop(keys);
    bar.finish_and_clear();
    Ok(Report::new(options, ways))
}

/// One way in one round: what was done, and the share that came from memory, where somebody says so.
fn one(
    options: &Options,
    keys: &Keys<'_>,
    way: &Way,
    round: u32,
    stop: &AtomicBool,
) -> nearhit::error::Result<(Done, Option<f64>)> {
    // The same sequence both ways, another one in each round.
    let picker = Picker::new(&options.order, options.keys, options.sets, round.into());
    let mut load = Load::open(options.server(&way.url), &keys.script, picker, options.connections)?.stopped_by(stop);
    load.run(options.pace, Until::Elapsed(LEAD_IN), false)?;
    let before = answers(options.server(&way.url));
    let done = load.run(options.pace, Until::Elapsed(options.seconds), true)?;
    let share = before
        .zip(answers(options.server(&way.url)))
        .map(|((hits, all), (hits_after, all_after))| {
            let all = all_after.saturating_sub(all).max(1);
            hits_after.saturating_sub(hits) as f64 / all as f64
        });
    Ok((done, share))
}

/// What nearhit says it answered: from memory, and in all. `None`: this is no nearhit, or it does not say.
fn answers(server: Server<'_>) -> Option<(u64, u64)> {
    let mut caller = Caller::connect(server).ok()?;
    let Value::Bulk(text) = caller.ask(&[b"INFO"]).ok()? else {
        return None;
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let number = |field: &str| -> Option<u64> { info_field(&text, field)?.trim().parse().ok() };
    let hits = number("proxy_cache_hits")?;
    let others = ["proxy_cache_misses", "proxy_cache_bypassed"]
        .into_iter()
        .filter_map(number);
    Some((hits, hits + others.sum::<u64>()))
}

/// A wrong reply through nearhit has one usual cause.
fn told(way: &Way, error: &nearhit::error::Error) -> String {
    let hint = match (way.name, error.kind()) {
        ("through", nearhit::error::Kind::Protocol) => {
            " (does --through stand before --target, with the same database?)"
        }
        _ => "",
    };
    format!("{}: {error}{hint}", way.name)
}

fn style() -> ProgressStyle {
    let template = "{elapsed_precise} {bar:30} {pos}/{len} {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
