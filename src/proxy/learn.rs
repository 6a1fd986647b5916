//! Watching the server over a connection of our own: can it be reached, which commands does it have, do hash fields
//! expire there.
//!
//! ```text
//! Away ─ connected → Learning ─ COMMAND answered, or refused → Watching (a PING a second) ─ no answer → Away
//! ```
//! Every new connection may be to another server than the last one, so everything is learned again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::downstream::Shared;
use crate::upstream::{Control, Gauges, Handshake, Identity, Loss};

/// How long to wait after a failure. Chosen, not measured.
const RETRY: Duration = Duration::from_millis(250);
/// How often the server must show that it is there. Chosen, not measured: probes are read every few seconds.
const WATCH: Duration = Duration::from_secs(1);

/// Watches the server for as long as the proxy runs.
pub(super) async fn watch(shared: Arc<Shared>, gauges: Arc<Gauges>, handshake: Handshake) {
    loop {
        let Err(loss) = watch_once(&shared, &gauges, &handshake).await;
        if gauges.reachable.swap(false, Ordering::Relaxed) {
            tracing::warn!(upstream = %handshake.address, why = %loss, "the server cannot be reached");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch_once(shared: &Shared, gauges: &Gauges, handshake: &Handshake) -> Result<std::convert::Infallible, Loss> {
    let mut control = match Control::connect(handshake).await {
        // It is there, and wants credentials we do not have; clients bring their own.
        Err(Loss::Refused(_)) => {
            Control::connect(&Handshake {
                identity: Identity::new(None),
                db: 0,
                ..handshake.clone()
            })
            .await?
        }
        connected => connected?,
    };
    let mut known = match learn(shared, &mut control, handshake).await {
        Ok(()) => true,
        Err(Loss::Refused(why)) => {
            tracing::warn!(upstream = %handshake.address, why, "the server's commands are not known; only the built-in ones are");
            false
        }
        Err(loss) => return Err(loss),
    };
    let mut tried = HashSet::new();
    loop {
        let ping = tokio::time::timeout(handshake.timeout, control.exchange(&[b"PING"])).await;
        drop(ping.map_err(|_| Loss::Timeout(handshake.timeout))??);
        gauges.reachable.store(true, Ordering::Relaxed);
        if !known {
            known = learn_as_somebody(shared, handshake, &mut tried).await;
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// nearhit itself is not told; somebody who has said who they are may be. Each is asked once, for the server notes in its
/// ACL LOG who may not.
async fn learn_as_somebody(shared: &Shared, handshake: &Handshake, tried: &mut HashSet<u64>) -> bool {
    let mut candidates = shared.accounts.identities().into_iter();
    let Some(identity) = candidates.find(|identity| tried.insert(identity.number())) else {
        return false;
    };
    let handshake = Handshake {
        identity,
        db: 0,
        ..handshake.clone()
    };
    match Control::connect(&handshake).await {
        Ok(mut control) => learn(shared, &mut control, &handshake).await.is_ok(),
        Err(_) => false,
    }
}

async fn learn(shared: &Shared, control: &mut Control, handshake: &Handshake) -> Result<(), Loss> {
    let facts = tokio::time::timeout(handshake.timeout, control.facts()).await;
    let facts = facts.map_err(|_| Loss::Timeout(handshake.timeout))??;
    let alone = facts.info.contains("redis_mode:standalone");
    shared.common.is_alone.store(alone, Ordering::Relaxed);
    shared
        .common
        .last_info
        .remember(handshake.identity.number(), facts.info);
    let table = shared.table.load().learn(&facts.commands);
    let hash_fields_expire = facts
        .commands
        .iter()
        .any(|command| command.name.eq_ignore_ascii_case("hpexpire"));
    shared.cache.set_hash_fields_expire(hash_fields_expire);
    tracing::info!(upstream = %handshake.address, version = facts.version, commands = facts.commands.len(), "the server is known");
    shared.table.store(Arc::new(table));
    Ok(())
}
