//! Replies of replicas that are not passed on, because the master is asked instead.

use super::forward::Forwarded;
use crate::command::Effect;
use crate::time::Instant;
use crate::topology::Objection;

/// Why a replica's reply is not the one that its master would give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It cannot be read from now.
    Unfit,
    /// It has not got the script or function.
    NoScript,
    /// It will not run it, or not now, and says so in words that are not the master's.
    NotHere,
}

/// Errors that are a replica's own. A script that answers with one of them itself is run once more, by the master.
const REFUSALS: [(&[u8], Refusal); 7] = [
    (b"-LOADING ", Refusal::Unfit),
    (b"-MASTERDOWN ", Refusal::Unfit),
    (b"-NOSCRIPT ", Refusal::NoScript),
    (b"-ERR Function not found", Refusal::NoScript),
    // A script that may write, by its first line; the master refuses it as well, but calls it by its name.
    (b"-READONLY ", Refusal::NotHere),
    // Another script runs there, and goes on.
    (b"-BUSY ", Refusal::NotHere),
    (b"-ERR Can not execute the command on a stale replica", Refusal::NotHere),
];

impl Refusal {
    fn read(frame: &[u8]) -> Option<Self> {
        if frame.first() != Some(&b'-') {
            return None;
        }
        let said = REFUSALS.iter().find(|(words, _)| frame.starts_with(words));
        said.map(|&(_, refusal)| refusal)
    }
}

impl Forwarded {
    /// Whether the replica cannot answer, for reasons of its own.
    pub(super) fn is_refused_by_replica(&self, frame: &[u8], now: Instant) -> bool {
        let Some(replica) = &self.op.replica else { return false };
        let refusal = Refusal::read(frame);
        // A replica does not know that a slot is on the move: keys that are gone to another node are nothing to it.
        let may_be_elsewhere = self.op.slot.is_some() && says_nothing(frame);
        if !(refusal.is_some() || may_be_elsewhere) || !self.may_go_home() {
            return false;
        }
        match (refusal, replica.script) {
            // What a script says about its node is its own business.
            (Some(Refusal::Unfit), _) if self.op.effect == Effect::Read => replica.choice.node.object(Objection::Link),
            (Some(Refusal::NoScript), Some(script)) => {
                self.session.context.replicas.lacks_script(&replica.choice, script, now);
            }
            _ => {}
        }
        true
    }

    fn may_go_home(&self) -> bool {
        !self.late && !self.partly && self.number.is_some()
    }
}

/// Whether a reply could be one about a key that does not exist.
fn says_nothing(frame: &[u8]) -> bool {
    let nothing: [&[u8]; 11] = [
        b"$-1\r\n",
        b"*-1\r\n",
        b"_\r\n",
        b":0\r\n",
        b":-1\r\n",
        b":-2\r\n",
        b"*0\r\n",
        b"%0\r\n",
        b"~0\r\n",
        b"$0\r\n",
        b"+none\r\n",
    ];
    // HMGET, ZMSCORE and the like answer with as many nulls as were asked for; one value is enough to know that it is there.
    let all_null = matches!(frame.first(), Some(b'*')) && {
        let elements = memchr::memchr(b'\n', frame)
            .and_then(|end| frame.get(end + 1..))
            .unwrap_or_default();
        let is_null = |line: &[u8]| matches!(line, b"$-1\r" | b"_\r" | b"*-1\r" | b":0\r" | b"");
        elements.split(|&byte| byte == b'\n').all(is_null)
    };
    all_null || nothing.iter().any(|reply| frame.starts_with(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_are_a_replica_s_own_are_known_from_those_of_what_was_asked() {
        for (said, expected) in [
            ("-LOADING Redis is loading", Some(Refusal::Unfit)),
            (
                "-NOSCRIPT No matching script. Please use EVAL.",
                Some(Refusal::NoScript),
            ),
            ("-ERR Function not found", Some(Refusal::NoScript)),
            (
                "-READONLY You can't write against a read only replica.",
                Some(Refusal::NotHere),
            ),
            ("-BUSY Redis is busy running a script.", Some(Refusal::NotHere)),
            ("-ERR Write commands are not allowed from read-only scripts.", None),
            ("-WRONGTYPE Operation against a key", None),
            ("$9\r\n-NOSCRIPT", None),
        ] {
            assert_eq!(Refusal::read(said.as_bytes()), expected, "{said}");
        }
    }

    #[test]
    fn replies_about_keys_that_are_not_there_are_known() {
        let nothing = [
            "$-1\r\n",
            "_\r\n",
            ":0\r\n",
            "*0\r\n",
            "$0\r\n\r\n",
            "+none\r\n",
            "*2\r\n$-1\r\n$-1\r\n",
            "*2\r\n_\r\n_\r\n",
        ];
        assert!(nothing.iter().all(|reply| says_nothing(reply.as_bytes())));
        let something = [
            "$1\r\nx\r\n",
            ":1\r\n",
            "*2\r\n$-1\r\n$1\r\nx\r\n",
            "+string\r\n",
            "*1\r\n:0\r\n:1\r\n",
        ];
        assert!(!something.iter().any(|reply| says_nothing(reply.as_bytes())));
    }
}
