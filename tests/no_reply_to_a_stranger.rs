//! No reply ever goes to the wrong client. Hundreds of sessions leave in the middle of a request, of a reply, of a
//! blocking command or of a subscription, while others check every byte they hear, and the server is stopped, resumed,
//! killed and started again.
//!
//! `make test` checks 200,000 replies; `make strangers REPLIES=1000000` as many as one likes.

mod session_support;
mod stranger_support;
mod support;

use session_support::{caching, line_bytes};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stranger_support::scene::Scene;
use stranger_support::{checker, rude};
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};
use tokio::task::JoinSet;

const REPLIES: u64 = 200_000;
const CHECKERS: usize = 120;
const SUBSCRIBERS: usize = 20;
const RUDE: usize = 120;

/// Shorter than the server is stopped for, so that replies come after their sessions were told that none came.
const SETTINGS: &[&str] = &["--upstream.command_timeout", "1s", "--upstream.pinned_max", "100000"];

/// What can happen to the server.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It hangs until sessions were told that it does, and then answers all the same.
    Hangs,
    /// It drops every connection.
    HangsUp,
    /// It dies, and another one without data takes its place.
    Dies,
}

impl Fault {
    fn happen(self, redis: &mut RedisServer, scene: &Scene) {
        let failed = scene.failed.load(Ordering::Relaxed);
        let noticed = || scene.is_over() || scene.failed.load(Ordering::Relaxed) >= failed + 100;
        match self {
            Self::Hangs => {
                redis.pause();
                wait_for("sessions to be told that the server hangs", SOON, noticed);
                redis.resume();
            }
            Self::HangsUp => {
                redis.client().line("CLIENT KILL TYPE normal SKIPME yes");
                redis.client().line("CLIENT KILL TYPE pubsub");
            }
            Self::Dies => {
                redis.kill9();
                wait_for("sessions to be told that the server is gone", SOON, noticed);
                redis.restart();
            }
        }
    }
}

/// Waits until nearhit has found its server again, on every worker and for good: a worker whose connection the server
/// still has much to read from may have a PUBLISH in it that its client has given up. Clients go to the worker with the
/// fewest, so that among so many at once each worker has some.
fn recover(nearhit: &Nearhit, scene: &Scene) {
    let mut right = 0;
    wait_for("nearhit to find its server again", Duration::from_secs(30), || {
        let mut clients: Vec<Resp> = (0..16).map(|_| nearhit.connect()).collect();
        let lines = ["SET probe 1", "MULTI", "EXEC", "GET probe"];
        clients
            .iter_mut()
            .for_each(|client| client.send_raw(lines.map(line_bytes).concat()));
        let works = |client: &mut Resp| lines.iter().all(|_| !client.reply().is_error());
        right = if clients.iter_mut().all(works) { right + 1 } else { 0 };
        right > 2 || scene.is_over()
    });
}

/// Disturbs the server whenever so many replies were checked, until enough were.
fn direct(redis: &mut RedisServer, nearhit: &Nearhit, scene: &Scene, replies: u64) {
    let faults = [Fault::Hangs, Fault::HangsUp, Fault::Dies];
    let each = (replies / 10).min(100_000);
    let mut next = each;
    for fault in faults.iter().cycle() {
        wait_for("sessions to hear replies", Duration::from_secs(60), || {
            scene.is_over() || scene.checked.load(Ordering::Relaxed) >= next
        });
        if scene.is_over() || next >= replies {
            return;
        }
        next += each;
        scene.unrest.fetch_add(1, Ordering::SeqCst);
        fault.happen(redis, scene);
        recover(nearhit, scene);
        scene.unrest.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn every_reply_is_its_own_sessions_whatever_others_and_the_server_do() {
    let mut redis = RedisServer::start();
    let nearhit = caching(&redis, SETTINGS);
    let asked = std::env::var("NEARHIT_REPLIES").ok().and_then(|text| text.parse().ok());
    let replies = asked.unwrap_or(REPLIES);
    let scene = Arc::new(Scene::new(nearhit.addr()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut sessions = JoinSet::new();
    let enter = runtime.enter();
    for session in 0..CHECKERS {
        let scene = Arc::clone(&scene);
        sessions.spawn(async move { checker::check(&scene, session).await });
    }
    for session in CHECKERS..CHECKERS + SUBSCRIBERS {
        let scene = Arc::clone(&scene);
        sessions.spawn(async move { checker::listen(&scene, session).await });
    }
    for session in 0..RUDE {
        let scene = Arc::clone(&scene);
        sessions.spawn(async move { rude::disturb(&scene, session).await });
    }
    let heater = Arc::clone(&scene);
    sessions.spawn(async move { rude::heat(&heater).await });
    drop(enter);

    direct(&mut redis, &nearhit, &scene, replies);
    scene.over.store(true, Ordering::Relaxed);
    runtime.block_on(async { while sessions.join_next().await.is_some() {} });

    let wrong = scene.wrong.lock().join("\n");
    assert!(wrong.is_empty(), "{wrong}");
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (checked, failed, left) = (count(&scene.checked), count(&scene.failed), count(&scene.left));
    println!("{checked} replies checked, {failed} excused by faults, {left} sessions left rudely");
    assert!(checked >= replies && left > 500, "{checked} replies, {left} left");
    assert!(failed > 200, "the faults were felt: {failed}");
    assert_eq!(nearhit.metric("nearhit_panics_total", &[]), 0.0);
    wait_for("nobody to wait at the server for a client that left", SOON, || {
        redis.info("blocked_clients") == "0" && nearhit.metric("nearhit_clients_pinned", &[]) == 0.0
    });
}
