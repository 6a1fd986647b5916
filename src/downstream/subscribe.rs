//! SUBSCRIBE and its family on a connection of the session's own (that of a session that does client tracking, or of a
//! server without RESP3; all others share, see `pubsub`): which frames answer the command, which are messages.
//!
//! A command that names n channels is answered by n confirmations; one that names none by one per subscription, or one.
//! In RESP3 confirmations and messages are pushes; in RESP2 both are arrays, and while the session is subscribed no
//! other reply looks like one.

use std::collections::HashSet;

use bytes::Bytes;

use super::forward::Special;
use super::pubsub::words;
use super::session::{Core, Session};
use crate::command::Command;
use crate::resp::{Request, Version};

/// What a session is subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    channels: HashSet<Bytes>,
    patterns: HashSet<Bytes>,
    shards: HashSet<Bytes>,
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty()
    }

    /// Channels, patterns and shard channels.
    pub(super) fn counts(&self) -> [u32; 3] {
        let count = |set: &HashSet<Bytes>| u32::try_from(set.len()).unwrap_or(u32::MAX);
        [&self.channels, &self.patterns, &self.shards].map(count)
    }

    fn set(&mut self, kind: &[u8]) -> Option<&mut HashSet<Bytes>> {
        match kind {
            b"subscribe" | b"unsubscribe" => Some(&mut self.channels),
            b"psubscribe" | b"punsubscribe" => Some(&mut self.patterns),
            b"ssubscribe" | b"sunsubscribe" => Some(&mut self.shards),
            _ => None,
        }
    }
}

/// The confirmations a command waits for.
#[derive(Debug)]
pub(super) struct Expected {
    /// The command's name, which its confirmations repeat.
    kind: String,
    /// How many are missing; `None`: one per subscription there is when the first one comes.
    missing: Option<usize>,
}

impl Expected {
    pub(super) fn of(command: &Command, request: &Request<'_>) -> Self {
        let channels = request.len() - 1;
        Self {
            kind: command.name().to_owned(),
            missing: (channels > 0).then_some(channels),
        }
    }
}

/// What a frame on a pinned connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sorted {
    /// The reply of the command in front.
    Reply,
    /// Nobody's: a message, a push, a line of MONITOR.
    Message,
    /// A confirmation of the command in front; it was passed on.
    Confirmation { last: bool },
}

/// Tells what `frame` is, given the command in front.
pub(super) fn sort(session: &Session, special: &mut Special, number: Option<u64>, kind: u8, frame: &[u8]) -> Sorted {
    let mut core = session.core.borrow_mut();
    let core = &mut *core;
    if kind == b'+' && core.pin.as_ref().is_some_and(|pin| pin.monitoring) && is_monitor_line(frame) {
        return Sorted::Message;
    }
    let waiting = matches!(special, Special::Subscribe(_));
    let listening = core.pin.as_ref().is_some_and(|pin| !pin.subscriptions.is_empty());
    let shaped = kind == b'>' || (kind == b'*' && core.version == Version::V2 && (waiting || listening));
    if !shaped {
        return Sorted::Reply;
    }
    let message = if kind == b'>' { Sorted::Message } else { Sorted::Reply };
    let Some((name, channel)) = words(frame) else {
        return message;
    };
    if let Special::Subscribe(expected) = special
        && name == expected.kind.as_bytes()
    {
        return Sorted::Confirmation {
            last: confirm(core, expected, number, name, channel, frame),
        };
    }
    match name {
        b"message" | b"pmessage" | b"smessage" => Sorted::Message,
        // The server ends a subscription by itself (a moved slot, a permission withdrawn).
        b"sunsubscribe" | b"unsubscribe" | b"punsubscribe" => {
            forget(core, name, channel);
            Sorted::Message
        }
        _ => message,
    }
}

/// Whether a frame of this kind can only be a reply, before more of it is known.
pub(super) fn is_reply(core: &Core, kind: u8) -> bool {
    let Some(pin) = &core.pin else { return true };
    match kind {
        b'*' => core.version == Version::V3 || !pin.is_subscribed(),
        b'+' => !pin.monitoring,
        _ => true,
    }
}

fn confirm(
    core: &mut Core,
    expected: &mut Expected,
    number: Option<u64>,
    name: &[u8],
    channel: Option<&[u8]>,
    frame: &[u8],
) -> bool {
    let Some(pin) = &mut core.pin else { return true };
    let Some(set) = pin.subscriptions.set(name) else {
        return true;
    };
    let missing = expected.missing.unwrap_or_else(|| set.len().max(1)) - 1;
    expected.missing = Some(missing);
    match channel {
        Some(channel) if name.ends_with(b"unsubscribe") => drop(set.remove(channel)),
        Some(channel) => drop(set.insert(Bytes::copy_from_slice(channel))),
        None => {}
    }
    if let Some(number) = number {
        // CLIENT REPLY does not silence confirmations.
        core.pipeline.unmute(number);
        core.pipeline.append(number, frame);
        if missing == 0 {
            core.pipeline.finish(number);
        }
    }
    missing == 0
}

fn forget(core: &mut Core, name: &[u8], channel: Option<&[u8]>) {
    if let Some(set) = core.pin.as_mut().and_then(|pin| pin.subscriptions.set(name))
        && let Some(channel) = channel
    {
        set.remove(channel);
    }
}

/// `+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`
fn is_monitor_line(frame: &[u8]) -> bool {
    let digits = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    let mut words = frame.get(1..).unwrap_or_default().splitn(3, |&byte| byte == b' ');
    let (time, origin) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut parts = time.splitn(2, |&byte| byte == b'.');
    digits(parts.next().unwrap_or_default())
        && digits(parts.next().unwrap_or_default())
        && origin.first() == Some(&b'[')
}
