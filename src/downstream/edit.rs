//! Replies of the server that clients read with something of nearhit's in them.

use super::client_tracking;
use super::command_list::Merge;
use super::context::Shared;
use super::facade::{self, Info};
use super::pubsub::Receivers;
use super::session::Core;
use crate::command::Command;
use crate::config::PresentAs;
use crate::resp::Request;

/// What becomes of a reply of the server.
#[derive(Debug)]
pub(super) enum Edit {
    /// INFO.
    Info(Info),
    /// ROLE of a server that is not to show its replicas, or its primary.
    Role,
    /// COMMAND and its family, with nearhit's own command.
    Commands(Merge),
    /// A command about a cluster that clients are not to know of.
    NoCluster,
    /// CLIENT GETREDIR.
    GetRedirect,
    /// CLIENT TRACKINGINFO.
    TrackingInfo,
    /// PUBLISH: so many more clients hear it than the server counts.
    Published(u64),
    /// PUBLISH within MULTI, or of a subscriber to itself: how many hear it, is known when it is published.
    Publish { shard: bool, channel: Box<[u8]> },
    /// PUBSUB NUMSUB or SHARDNUMSUB.
    Subscribers { shard: bool },
}

impl Edit {
    /// What becomes of the reply to a request whose row says that it is edited.
    pub(super) fn of(command: &Command, request: &Request<'_>, shared: &Shared) -> Option<Self> {
        let receivers = &shared.common.receivers;
        match command.name() {
            "info" => Some(Self::Info(Info::of(request, &shared.settings))),
            "role" => (shared.settings.present_as == PresentAs::Standalone).then_some(Self::Role),
            "publish" => Some(Self::Published(receivers.of_message(false, request.arg(1)))),
            "spublish" => Some(Self::Published(receivers.of_message(true, request.arg(1)))),
            "pubsub|numsub" => Some(Self::Subscribers { shard: false }),
            "pubsub|shardnumsub" => Some(Self::Subscribers { shard: true }),
            "client|getredir" => Some(Self::GetRedirect),
            "client|trackinginfo" => Some(Self::TrackingInfo),
            name => Merge::of(name, request, shared).map(Self::Commands),
        }
    }

    /// The same for a request that is queued in a transaction.
    pub(super) fn queued(command: &Command, request: &Request<'_>, shared: &Shared) -> Option<Self> {
        match command.name() {
            name @ ("publish" | "spublish") => Some(Self::Publish {
                shard: name == "spublish",
                channel: request.arg(1).into(),
            }),
            _ => Self::of(command, request, shared),
        }
    }

    /// The reply as the client is to read it; `None`: as it came.
    pub(super) fn apply(&self, shared: &Shared, core: &Core, kind: u8, frame: &[u8]) -> Option<Vec<u8>> {
        let failed = matches!(kind, b'-' | b'!');
        match self {
            Self::Commands(merge) => merge.apply(shared, core.version, failed, frame),
            _ if failed => None,
            Self::Info(info) => info.apply(shared, core, frame),
            Self::Role => facade::role(core.version, frame),
            Self::NoCluster => Some(facade::no_cluster()),
            Self::GetRedirect => client_tracking::own_redirect(core, frame),
            Self::TrackingInfo => client_tracking::own_info(core, frame),
            Self::Published(more) => Receivers::published(frame, *more),
            Self::Publish { shard, channel } => {
                Receivers::published(frame, shared.common.receivers.of_message(*shard, channel))
            }
            Self::Subscribers { shard } => shared.common.receivers.subscribers(*shard, frame),
        }
    }

    /// What a client is told when the server does not answer; `None`: that it does not.
    pub(super) fn without_server(&self, shared: &Shared, core: &Core) -> Option<Vec<u8>> {
        match self {
            Self::Info(info) => info.last_known(shared, core),
            _ => None,
        }
    }
}
