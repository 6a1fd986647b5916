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
