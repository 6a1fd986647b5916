//! Learning what the server can do: commands the table does not have, and whether hash fields expire there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::downstream::Shared;
use crate::upstream::{Control, Handshake, Loss};

/// How long to wait before the server is asked again after a failure. Chosen, not measured.
const RETRY: Duration = Duration::from_millis(250);

/// Asks the server once it can be reached, and again after every time it may have been replaced.
pub(super) async fn keep_learning(shared: Arc<Shared>, handshake: Handshake) {
    let mut learned_at = None;
    loop {
        let connects = shared
            .tracking
            .as_ref()
            .map(|tracking| tracking.status().connects.load(Ordering::Relaxed));
        if learned_at == Some(connects) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        match learn(&shared, &handshake).await {
            Ok(()) => learned_at = Some(connects),
            Err(loss) => {
                tracing::debug!(upstream = %handshake.address, why = %loss, "the server's commands are not known yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn learn(shared: &Shared, handshake: &Handshake) -> Result<(), Loss> {
    let facts = Control::connect(handshake).await?.facts().await?;
    let table = shared.table.load().learn(&facts.commands);
    shared.cache.set_hash_fields_expire(
        facts
            .commands
            .iter()
            .any(|command| command.name.eq_ignore_ascii_case("hpexpire")),
    );
    tracing::info!(upstream = %handshake.address, version = facts.version, commands = facts.commands.len(), "the server is known");
    shared.table.store(Arc::new(table));
    Ok(())
}
