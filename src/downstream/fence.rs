//! The end of a connection is not the end of what was sent over it: the server executes what it has read, and what still
//! reaches it, whenever it gets to it. Redis tells nobody of a SWAPDB, so one that runs unseen would leave the near-cache
//! with the other database's values.
//!
//! ```text
//! lost, with its guard ─ CLIENT KILL ID old ┬ :1, :0 → it cannot run any more ──────────────→ guard let go: flushed again
//!                        (again until there  └ nobody may kill → held for fence_hold ───────→
//!                         is an answer)
//! ```
//! While the guard is held nothing is stored. What a session is told does not wait for this.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use super::context::{Context, Ticket};
use crate::coherence::Flushing;
use crate::metrics::FenceResult;
use crate::mutants::{Mutant, mutated};
use crate::resp::{Value, Version};
use crate::topology::NodeId;
use crate::upstream::{Control, Handshake, Identity, Loss, Peer, jittered_pause};

/// A lost connection: in a cluster, the node it was to, and which client it was there.
type Lost = (Option<NodeId>, Peer);

/// What one worker's lost connections have left.
#[derive(Default)]
pub(super) struct Fences {
    /// Guards by which client their connection was to which server, until that has closed it.
    pending: RefCell<HashMap<Lost, Vec<Flushing<Ticket>>>>,
    /// Taken by one attempt at a time: a server that is away meets few of them, however many connections were lost.
    turn: tokio::sync::Mutex<()>,
}

/// Keeps `flushing`, the guard of a command that was sent over a lost connection, until it cannot run any more. `peer` is
/// which client the connection was to the server, in a cluster to `node`, and `identity` who the session is there.
pub(super) fn hold(
    context: &Rc<Context>,
    flushing: Flushing<Ticket>,
    identity: &Identity,
    node: Option<NodeId>,
    peer: Option<Peer>,
) {
    if mutated(Mutant::NoFenceKill) {
        return;
    }
    // It ends with the worker; then nothing is served any more.
    let context = Rc::clone(context);
    let Some(peer) = peer else {
        drop(tokio::task::spawn_local(async move {
            let_go(&context, None, vec![flushing]).await
        }));
        return;
    };
    let mut pending = context.fences.pending.borrow_mut();
    if let Some(guards) = pending.get_mut(&(node, peer)) {
        return guards.push(flushing);
    }
    pending.insert((node, peer), vec![flushing]);
    drop(pending);
    let mut askers = vec![context.shared.accounts.own().identity().clone()];
    if !askers.contains(identity) {
        askers.push(identity.clone());
    }
    drop(tokio::task::spawn_local(async move {
        context.shared.metrics.kill_fences_held.inc();
        let ended = end(&context, &askers, node, peer).await;
        let guards = context
            .fences
            .pending
            .borrow_mut()
            .remove(&(node, peer))
            .unwrap_or_default();
        context.shared.metrics.kill_fences_held.dec();
        let_go(&context, ended, guards).await;
    }));
}

async fn let_go(context: &Context, ended: Option<FenceResult>, guards: Vec<Flushing<Ticket>>) {
    let metrics = &context.shared.metrics;
    metrics.kill_fences.inc(ended.unwrap_or(FenceResult::Held));
    if ended.is_none() {
        let hold = context.shared.settings.fence_hold;
        tracing::warn!(
            ?hold,
            "a command that may change every key was lost and its connection may not be killed; nothing is cached for a while"
        );
        metrics.kill_fences_held.inc();
        tokio::time::sleep(hold).await;
        metrics.kill_fences_held.dec();
    }
    drop(guards);
}

/// Has the server close the connection it knows as `peer`; `None`: nobody may.
async fn end(context: &Context, askers: &[Identity], node: Option<NodeId>, peer: Peer) -> Option<FenceResult> {
    loop {
        let turn = context.fences.turn.lock().await;
        let mut denied = true;
        for asker in askers {
            let handshake = context.with_pool(node, |pool| pool.handshake(asker, 0, Version::V2));
            let Ok(handshake) = handshake else {
                denied = false;
                break;
            };
            match tokio::time::timeout(handshake.timeout, kill(&handshake, peer)).await {
                Ok(Ok(Some(ended))) => return Some(ended),
                Ok(Ok(None)) => {}
                // It is away or busy: it may have to say something else later.
                Ok(Err(_)) | Err(_) => denied = false,
            }
        }
        if denied {
            return None;
        }
        tokio::time::sleep(jittered_pause()).await;
        drop(turn);
    }
}

/// One attempt; `None`: this identity may not.
async fn kill(handshake: &Handshake, peer: Peer) -> Result<Option<FenceResult>, Loss> {
    let own = match Control::connect(handshake).await {
        Ok(mut control) => control.client_id().await.map(|id| (control, id)),
        Err(loss) => Err(loss),
    };
    let (mut control, id) = match own {
        Err(Loss::Refused(text)) if is_final(text.as_bytes()) => return Ok(None),
        own => own?,
    };
    // A server's ids only grow. This is another process, so the old connection is gone, and whoever has its number now is
    // somebody else.
    if id <= peer.id {
        return Ok(Some(FenceResult::Gone));
    }
    let info = control.exchange(&[b"CLIENT", b"INFO"]).await?;
    let local = control.local_addr();
    match control.exchange(&borrowed(&kill_words(peer, local, &info))).await? {
        Value::Integer(0) => Ok(Some(FenceResult::Gone)),
        Value::Integer(_) => Ok(Some(FenceResult::Killed)),
        Value::Error(text) if is_final(&text) => Ok(None),
        Value::Error(text) => Err(Loss::Refused(String::from_utf8_lossy(&text).into_owned())),
        _ => Err(Loss::Protocol("CLIENT KILL did not answer with a number".into())),
    }
}

/// What to ask for. Where the server sees clients under the addresses that they have on this side, the one to be killed must
/// have the address, too: numbers begin anew when a server is started again, and by now this one may be somebody else's.
/// `info` is what CLIENT INFO says of a client that comes from `local`.
fn kill_words(peer: Peer, local: Option<SocketAddr>, info: &Value) -> Vec<Vec<u8>> {
    let mut words = vec![
        b"CLIENT".to_vec(),
        b"KILL".to_vec(),
        b"ID".to_vec(),
        peer.id.to_string().into_bytes(),
    ];
    let text = info.as_bytes().map(String::from_utf8_lossy).unwrap_or_default();
    let seen = text.split(' ').find_map(|field| field.strip_prefix("addr="));
    let is_seen_as_it_is = seen.is_some_and(|seen| local.is_some_and(|local| local.to_string() == seen));
    if let Some(address) = peer.local.filter(|_| is_seen_as_it_is) {
        words.extend([b"ADDR".to_vec(), address.to_string().into_bytes()]);
    }
    words
}

fn borrowed(words: &[Vec<u8>]) -> Vec<&[u8]> {
    words.iter().map(Vec::as_slice).collect()
}

/// Whether an error would be the same next time: unlike LOADING or BUSY.
fn is_final(error: &[u8]) -> bool {
    [b"NOPERM ".as_slice(), b"NOAUTH ", b"WRONGPASS ", b"ERR "]
        .iter()
        .any(|code| error.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_got_the_number_of_the_lost_one_is_spared_where_addresses_tell() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let peer = Peer {
            id: 12,
            local: Some(at(5000)),
        };
        let says = |addr: &str| Value::Bulk(format!("id=51 addr={addr} laddr=127.0.0.1:6379 fd=8").into());
        let asked = |peer, local, info: &Value| {
            String::from_utf8(kill_words(peer, local, info).join(&b' ')).unwrap_or_default()
        };
        let both = "CLIENT KILL ID 12 ADDR 127.0.0.1:5000";
        assert_eq!(asked(peer, Some(at(5001)), &says("127.0.0.1:5001")), both);
        // Something in between gives clients other addresses; or there are none; or nobody says.
        for (peer, local, info) in [
            (peer, Some(at(5001)), says("10.0.0.7:40000")),
            (Peer { local: None, ..peer }, None, says("/tmp/redis.sock:0")),
            (peer, Some(at(5001)), Value::Error("ERR unknown subcommand".into())),
        ] {
            assert_eq!(asked(peer, local, &info), "CLIENT KILL ID 12");
        }
    }
}
