//! Labels about connections to servers, and what comes by them.

use super::Label;

label! {
    /// How a command that changes keys without saying which, and whose connection was lost, was kept from running unseen.
    FenceResult = "result" {
        /// The server closed the old connection because nearhit asked for it.
        Killed = "killed",
        /// The old connection was gone already.
        Gone = "gone",
        /// It was not to be known; nothing is stored for `invalidation.fence_hold`.
        Held = "held",
    }
}

label! {
    /// What a message on the application channel said.
    ChannelOp = "op" {
        /// Keys were written.
        Set = "set",
        /// Keys were deleted.
        Delete = "delete",
        /// Everything changed, or all that matches a pattern.
        Clear = "clear",
        /// Nobody knows.
        Other = "other",
    }
}

label! {
    /// What a message on the application channel did.
    ChannelOutcome = "outcome" {
        /// Entries were dropped.
        Removed = "removed",
        /// There was nothing to drop.
        Absent = "absent",
        /// It cannot be read.
        Refused = "refused",
    }
}

label! {
    /// What upstream connections are for.
    Pool = "pool" {
        /// Shared by all sessions of a worker.
        Shared = "shared",
        /// Held by one session.
        Pinned = "pinned",
        /// Carries fills and invalidations.
        Tracking = "tracking",
    }
}

label! {
    /// How an attempt to connect upstream ended.
    ConnectResult = "result" {
        /// Connected, and the handshake was accepted.
        Ok = "ok",
        /// Not.
        Failed = "failed",
        /// Not begun: too many others were being opened (`upstream.connect_rate`).
        Crowded = "crowded",
    }
}

label! {
    /// Why an upstream connection was lost.
    Lost = "reason" {
        /// The server closed it.
        Eof = "eof",
        /// The socket failed.
        Io = "io",
        /// The server sent what is not RESP, or a reply nobody waited for.
        Protocol = "protocol",
        /// No answer in time.
        Timeout = "timeout",
        /// nearhit closed it.
        Shutdown = "shutdown",
    }
}

label! {
    /// Which node a read was sent to.
    RouteTo = "to" {
        /// The node that takes writes.
        Primary = "primary",
        /// One that follows it.
        Replica = "replica",
        /// None: `routing.reads = "replica"`, and there is no replica to read from.
        Nobody = "nobody",
    }
}

label! {
    /// Why a read was sent to that node.
    RouteReason = "reason" {
        /// As `routing.reads`, the policy of the key, or READONLY and READWRITE of the connection say.
        Setting = "setting",
        /// The primary is the nearest node.
        Nearest = "nearest",
        /// The key was written through this nearhit, and no replica is known to have that.
        Written = "written",
        /// The connection has seen something newer than what the replicas are known to have.
        Seen = "seen",
        /// Something else of the connection on the same keys is on its way to the primary.
        Pipelined = "pipelined",
        /// The replicas are too far behind.
        Lag = "lag",
        /// No replica's link to the primary is up.
        Link = "link",
        /// No replica can be reached, or none is known.
        Away = "away",
        /// The connection to the replica is new: it is used once the replica was seen to be the same behind it.
        Warming = "warming",
        /// The primary is away, and `routing.stale_reads` allows replicas whatever they lack.
        Degraded = "degraded",
        /// The replica said a moment ago that it has not got the script or the function.
        Script = "script",
    }
}

label! {
    /// What became of a request whose connection was lost, or which a node would not run, and that may be sent again.
    Retry = "reason" {
        /// Sent again: nothing of it had reached the server.
        Unsent = "unsent",
        /// Sent again: it only reads.
        Read = "read",
        /// Sent to the master: a replica had been asked.
        Replica = "replica",
        /// Sent to another node: the first one has not got the slot any more.
        Moved = "moved",
        /// Sent to another node: the key is on its way there.
        Ask = "ask",
        /// Sent once more a little later: the cluster does not know who has the slot, or has only some of the keys there.
        Unsettled = "unsettled",
        /// Sent again: the server was no master, or is none any more.
        ReadOnly = "readonly",
        /// Sent again: the server was loading its data.
        Loading = "loading",
        /// Sent again: the server was a replica without its master.
        MasterDown = "masterdown",
        /// Answered with the server's refusal: something that the client had sent behind it has run.
        Overtaken = "overtaken",
        /// Answered with an error: it was sent again twice before, or for a second.
        Exhausted = "exhausted",
        /// Answered with an error: too many were sent again lately.
        Budget = "budget",
    }
}
