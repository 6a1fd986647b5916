//! A connection of the session's own, as far as it is known what it is in the middle of.

use super::client_tracking::ClientTracking;
use super::forward::{Forwarded, Special};
use super::live::{Shown, letter};
use super::subscribe::Subscriptions;
use super::transaction::Transaction;
use crate::resp::Version;
use crate::topology::NodeId;
use crate::upstream::{Connection, Identity};

/// The session's own connection and what keeps it.
pub(super) struct Pin {
    pub(super) connection: Connection<Forwarded>,
    /// In a cluster, the node it leads to; `None`: the one that is asked what names no key.
    pub(super) node: Option<NodeId>,
    /// As which it was handed out, and to which it may go back.
    pub(super) identity: Identity,
    pub(super) db: u32,
    pub(super) version: Version,
    /// Requests on their way on it.
    pub(super) outstanding: usize,
    /// Of these: may wait for as long as they like.
    pub(super) blocking: usize,
    /// Of these: begin or end subscriptions.
    pub(super) subscribing: usize,
    pub(super) transaction: Option<Transaction>,
    pub(super) watching: bool,
    pub(super) subscriptions: Subscriptions,
    pub(super) monitoring: bool,
    /// The session keeps it until it leaves or says RESET.
    pub(super) sticky: bool,
    /// Half of a request was sent over it.
    pub(super) uploading: bool,
    /// It is not in the state it was handed out in: nobody else may have it.
    pub(super) altered: bool,
    /// How the server tracks it.
    pub(super) tracking: Option<ClientTracking>,
    /// Its server is asked to end what it waits in: until then nothing more is sent, and nobody else may have it.
    pub(super) held: usize,
}

impl Pin {
    /// Whether the session may go home.
    pub(super) fn is_free(&self) -> bool {
        self.is_quiet() && self.will_be_free()
    }

    /// Whether it may once everything on its way is answered.
    pub(super) fn will_be_free(&self) -> bool {
        !self.uploading
            && self.transaction.is_none()
            && !self.watching
            && !self.sticky
            && !self.monitoring
            && self.held == 0
            && self.subscriptions.is_empty()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.outstanding == 0
    }

    /// Whether nothing but WATCH keeps it.
    pub(super) fn only_watches(&self) -> bool {
        self.watching && self.transaction.is_none() && self.is_quiet()
    }

    /// Whether it is not known yet if messages may come.
    pub(super) fn is_subscribing(&self) -> bool {
        self.subscribing > 0
    }

    /// Whether messages may come.
    pub(super) fn is_subscribed(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Whether subscriptions belong on this connection, too.
    pub(super) fn keeps_subscriptions(&self) -> bool {
        self.sticky || self.monitoring || self.subscribing > 0 || !self.subscriptions.is_empty()
    }

    /// Whether it waits for something that may never come, or only listens: nobody needs to wait for it.
    pub(super) fn is_waiting(&self) -> bool {
        self.blocking > 0 || self.monitoring || !self.subscriptions.is_empty()
    }

    /// Whether the server tells it which keys change.
    pub(super) fn is_tracked(&self) -> bool {
        self.tracking.is_some()
    }

    /// The beginning of a request was sent.
    pub(super) fn begin_upload(&mut self) {
        self.outstanding += 1;
        self.uploading = true;
    }

    /// The request is whole.
    pub(super) fn end_upload(&mut self) {
        self.uploading = false;
    }

    /// Whether it was handed out for the one request on its way, and is of no use to anybody after it.
    pub(super) fn is_for_one(&self) -> bool {
        let plain = self.transaction.is_none() && !self.watching && !self.altered && self.tracking.is_none();
        self.outstanding == 1 && plain && !self.keeps_subscriptions()
    }

    /// Whether the server may be waiting for something on it.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocking > 0
    }

    /// Nothing more is sent until [`super::pinned::unhold`].
    pub(super) fn hold(&mut self) {
        self.held += 1;
    }

    /// Other clients' invalidations may come on it for as long as it lives: it is neither given back nor given up.
    pub(super) fn keep_as_target(&mut self) {
        self.sticky = true;
        self.altered = true;
    }

    /// The server tracks it like this from now on. It does not go back: another client's keys would be remembered.
    pub(super) fn track(&mut self, tracking: Option<ClientTracking>) {
        self.sticky = true;
        self.altered = true;
        self.tracking = tracking;
    }

    /// How the server tracks it.
    pub(super) fn tracked(&self) -> Option<&ClientTracking> {
        self.tracking.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn tracking(&mut self) -> Option<&mut ClientTracking> {
        self.tracking.as_mut()
    }

    /// Whether nothing may be sent for now.
    pub(super) fn is_held(&self) -> bool {
        self.held > 0
    }

    /// What CLIENT LIST tells about it.
    pub(super) fn show(&self, shown: &mut Shown) {
        let letters = [
            (self.monitoring, letter::MONITOR),
            (self.is_subscribed(), letter::PUBSUB),
            (self.transaction.is_some(), letter::MULTI),
            (self.is_blocked(), letter::BLOCKED),
        ];
        shown.letters |= letters.iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit);
        if let Some(transaction) = &self.transaction {
            shown.queued = i32::try_from(transaction.count()).unwrap_or(i32::MAX);
        }
        shown.subscriptions = self.subscriptions.counts();
        if let Some(tracking) = self.tracking {
            tracking.show(shown);
        }
    }

    /// A request is over.
    pub(super) fn returned(&mut self, special: &Special) {
        self.outstanding = self.outstanding.saturating_sub(1);
        match special {
            Special::Blocking => self.blocking = self.blocking.saturating_sub(1),
            Special::Subscribe(_) => self.subscribing = self.subscribing.saturating_sub(1),
            _ => {}
        }
    }

    /// It is in another database, or speaks another protocol, than it was handed out with.
    pub(super) fn alter(&mut self) {
        self.altered = true;
    }
}
