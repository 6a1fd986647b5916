//! Watching what users may do, for changes that do not pass through nearhit. Four times a second the server is asked how
//! often rights were changed, as nearhit or as any user who may ask. What a user may do now would not be enough to know:
//! what was granted and taken away again between two looks looks as if nothing had happened.
//!
//! ```text
//! own connection ─ RESET, PING → does a stranger need a password now?     (when nearhit has no credentials)
//! somebody's     ─ INFO commandstats ─ ACL SETUSER, DELUSER, LOAD ran → cached replies go; ACL GETUSER → who is deleted
//!                                    └ NOPERM → as somebody else; nobody may → nothing is kept for longer than a second
//! ```

use std::collections::{HashMap, hash_map};
use std::sync::Arc;
use std::time::Duration;

use crate::downstream::Shared;
use crate::resp::Value;
use crate::time::{self, Instant};
use crate::upstream::{Control, Handshake, Identity, Loss};

/// How often the server is asked: cached replies of a user who lost a right are served for so long at most, and the way to
/// the server and back. Chosen, not measured: a quarter of the second that is promised.
const EVERY: Duration = Duration::from_millis(250);
/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// How long an answer holds. Without a newer one nothing is answered from memory.
const HOLDS: Duration = Duration::from_secs(1);
/// How long a user who may not ask is not tried again: the server notes each try in its ACL LOG.
const DENIED: Duration = Duration::from_secs(60);

/// Watches for as long as the proxy runs.
pub(super) async fn watch(shared: Arc<Shared>, handshake: Handshake) {
    let mut watcher = Watcher {
        shared,
        handshake,
        controls: HashMap::new(),
        asker: None,
        counted: None,
        counts_info: false,
        denied: HashMap::new(),
        open: None,
        resets: true,
    };
    // What is cached before the first look must not outlive what nobody has looked at.
    watcher.shared.cache.set_rights_unwatched(true);
    loop {
        let began = time::now();
        watcher.look().await;
        // Somebody new is asked about at once; who changes things in a loop does not have the server asked in a loop.
        tokio::time::sleep(PAUSE).await;
        let rest = EVERY.saturating_sub(time::now().since(began));
        drop(tokio::time::timeout(rest, watcher.shared.accounts.changed()).await);
    }
}

struct Watcher {
    shared: Arc<Shared>,
    /// What its connections say, but for who they are.
    handshake: Handshake,
    controls: HashMap<Identity, Control>,
    /// Who was let ask last.
    asker: Option<Identity>,
    /// What the server had counted when it was asked last.
    counted: Option<Counted>,
    /// It has counted what is asked here.
    counts_info: bool,
    /// Who may not ask, and until when they are not tried again.
    denied: HashMap<Identity, Instant>,
    /// Whether a stranger needed no password when the server was asked last.
    open: Option<bool>,
    /// The server knows RESET.
    resets: bool,
}

/// What one look came to.
enum Look {
    /// What the server has counted so far.
    Counted(Counted),
    /// Whoever asked may not.
    Denied,
}

impl Watcher {
    async fn look(&mut self) {
        let sent_at = time::now();
        match tokio::time::timeout(HOLDS, self.ask()).await {
            Ok(Ok(Look::Counted(counted))) => {
                self.counts_info |= counted.counts_info();
                let own = if self.counts_info { ASKED } else { 0 };
                let differs = |before| counted.may_differ(before, own);
                let changed = self.counted.as_ref().is_none_or(differs);
                match self.counted {
                    Some(_) if changed => self.shared.accounts.forget_all(),
                    // Before the first look, and while nobody may ask, no reply is kept for longer than a second.
                    None => self.shared.accounts.forget_rights(),
                    Some(_) => {}
                }
                self.counted = Some(counted);
                self.shared.cache.set_rights_unwatched(false);
                let holds = HOLDS.max(self.shared.cache.limits().max_staleness);
                self.shared.cache.prove_rights(sent_at.after(holds));
                if changed {
                    self.close_the_deleted().await;
                }
            }
            Ok(Ok(Look::Denied)) => self.unwatched(),
            // The last answer holds as long as it does. The server may be another one when it is back.
            Ok(Err(_)) | Err(_) => self.controls.clear(),
        }
    }

    /// Nobody may ask: what is remembered is not remembered for long.
    fn unwatched(&mut self) {
        self.counted = None;
        if self.shared.cache.set_rights_unwatched(true) {
            tracing::info!("no user may ask for INFO; nothing is cached for longer than a second");
            self.shared.accounts.forget_all();
        }
        self.shared.accounts.forget_rights();
        self.shared.cache.prove_rights(Instant::MAX);
    }

    async fn ask(&mut self) -> Result<Look, Loss> {
        let own = self.shared.accounts.own().identity().clone();
        if own.credentials().is_none() && self.resets {
            self.ask_as_stranger(&own).await?;
        }
        let asker = self.choose(&own);
        self.controls
            .retain(|identity, _| *identity == own || Some(identity) == asker.as_ref());
        let Some(asker) = asker else {
            return Ok(Look::Denied);
        };
        let look = match self.connect(&asker).await {
            Ok(control) => count(control).await?,
            Err(Loss::Refused(_)) => Look::Denied,
            Err(loss) => return Err(loss),
        };
        if matches!(look, Look::Denied) {
            self.asker = None;
            self.denied.insert(asker, time::now().after(DENIED));
        } else {
            self.asker = Some(asker);
        }
        Ok(look)
    }

    /// Who is to ask: whoever was let ask last, else nearhit itself, else somebody who was not refused lately.
    fn choose(&mut self, own: &Identity) -> Option<Identity> {
        let now = time::now();
        self.denied.retain(|_, until| now < *until);
        let others = self.shared.accounts.identities();
        let last = self.asker.clone().filter(|last| last == own || others.contains(last));
        let mut candidates = last.into_iter().chain([own.clone()]).chain(others);
        candidates.find(|identity| !self.denied.contains_key(identity))
    }

    /// Whether who says nothing needs a password now: then connections that needed none are not for new sessions.
    async fn ask_as_stranger(&mut self, own: &Identity) -> Result<(), Loss> {
        let control = self.connect(own).await?;
        let replies = control.exchange_all(&[&[b"RESET"], &[b"PING"]]).await?;
        if matches!(replies.first(), Some(Value::Error(_))) {
            self.resets = false;
        }
        let open = !is_error(replies.get(1), b"NOAUTH ");
        if self.open == Some(true) && !open {
            self.shared.accounts.renew_own();
        }
        let accounts = &self.shared.accounts;
        if !open {
            accounts.own().set_locked_out(true);
        } else if self.open != Some(true) || !accounts.own().is_authenticated() {
            accounts.let_strangers_in();
        }
        if self.resets {
            accounts.watch_strangers();
        }
        self.open = Some(open);
        if !open {
            self.denied.insert(own.clone(), time::now().after(EVERY));
        }
        Ok(())
    }

    async fn connect(&mut self, identity: &Identity) -> Result<&mut Control, Loss> {
        Ok(match self.controls.entry(identity.clone()) {
            hash_map::Entry::Occupied(open) => open.into_mut(),
            hash_map::Entry::Vacant(place) => {
                let handshake = Handshake {
                    identity: identity.clone(),
                    ..self.handshake.clone()
                };
                place.insert(Control::connect(&handshake).await?)
            }
        })
    }

    /// Ends the sessions of users the server does not know any more, as far as whoever asks may know that.
    async fn close_the_deleted(&mut self) {
        let Some(control) = self.asker.as_ref().and_then(|asker| self.controls.get_mut(asker)) else {
            return;
        };
        let mut users = self.shared.accounts.users();
        users.sort_unstable();
        users.dedup();
        let requests: Vec<[&[u8]; 3]> = users.iter().map(|user| [&b"ACL"[..], b"GETUSER", user]).collect();
        let requests: Vec<&[&[u8]]> = requests.iter().map(<[&[u8]; 3]>::as_slice).collect();
        let answers = tokio::time::timeout(HOLDS, control.exchange_all(&requests)).await;
        let Ok(Ok(answers)) = answers else {
            return self.controls.clear();
        };
        for (user, answer) in users.iter().zip(answers) {
            if answer == Value::Null {
                self.shared.accounts.user_deleted(user);
                self.shared.close_user(user, None);
            }
        }
    }
}

/// Commands that change rights. Redis 6 counts all subcommands as one.
const CHANGING: [&str; 4] = ["acl|setuser", "acl|deluser", "acl|load", "acl"];
/// INFOs of one look. The server counts each once it has answered it.
const ASKED: u64 = 2;

/// How often each command was called at a server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    /// Which process it is; empty: it does not say.
    run_id: String,
    calls: HashMap<String, u64>,
}

impl Counted {
    /// From what the server says to INFO about its commands and about itself.
    fn read(commands: &str, server: &str) -> Self {
        let calls = commands.lines().filter_map(|line| {
            let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let (calls, _) = rest.split_once(',')?;
            Some((command.to_owned(), calls.parse().ok()?))
        });
        let run_id = server.lines().find_map(|line| line.strip_prefix("run_id:"));
        Self {
            run_id: run_id.unwrap_or_default().trim_end().to_owned(),
            calls: calls.collect(),
        }
    }

    fn calls(&self, command: &str) -> u64 {
        self.calls.get(command).copied().unwrap_or(0)
    }

    /// Whether the server counts what is asked here: the other INFO of this look came first.
    fn counts_info(&self) -> bool {
        self.calls("info") > 0
    }

    /// Whether rights may have changed since `before`, the last look: by a command, or because it is another process now, or
    /// because counting began anew (CONFIG RESETSTAT), and nobody can tell what happened before that. Since the last look at
    /// least `own` INFOs were counted.
    fn may_differ(&self, before: &Self, own: u64) -> bool {
        let fewer = before.calls.iter().any(|(command, &calls)| self.calls(command) < calls);
        let anew = fewer || self.calls("info") < before.calls("info") + own;
        let changed = CHANGING
            .iter()
            .any(|command| self.calls(command) != before.calls(command));
        anew || changed || self.run_id != before.run_id
    }
}

/// What the server has counted so far.
async fn count(control: &mut Control) -> Result<Look, Loss> {
    let replies = control
        .exchange_all(&[&[b"INFO", b"server"], &[b"INFO", b"commandstats"]])
        .await?;
    if let Some(Value::Error(text)) = replies.last() {
        if text.starts_with(b"LOADING ") {
            return Err(Loss::Refused(String::from_utf8_lossy(text).into_owned()));
        }
        return Ok(Look::Denied);
    }
    let text = |at: usize| String::from_utf8_lossy(replies.get(at).and_then(Value::as_bytes).unwrap_or_default());
    Ok(Look::Counted(Counted::read(&text(1), &text(0))))
}

fn is_error(reply: Option<&Value>, code: &[u8]) -> bool {
    matches!(reply, Some(Value::Error(text)) if text.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(calls: &[(&str, u64)], run_id: &str) -> Counted {
        let line = |(command, calls): &(&str, u64)| format!("cmdstat_{command}:calls={calls},usec=1\r\n");
        let commands: String = calls.iter().map(line).collect();
        Counted::read(
            &commands,
            &format!("# Server\r\nrun_id:{run_id}\r\nuptime_in_seconds:1\r\n"),
        )
    }

    #[test]
    fn rights_may_differ_after_a_change_a_restart_and_whenever_counting_began_anew() {
        let before = counted(&[("info", 7), ("acl|load", 1), ("config|resetstat", 1)], "a");
        let same = counted(
            &[("info", 9), ("acl|load", 1), ("config|resetstat", 1), ("get", 5)],
            "a",
        );
        assert!(!same.may_differ(&before, ASKED));
        for (what, now) in [
            (
                "ACL LOAD",
                counted(&[("info", 8), ("acl|load", 2), ("config|resetstat", 1)], "a"),
            ),
            (
                "ACL SETUSER",
                counted(
                    &[
                        ("info", 8),
                        ("acl|load", 1),
                        ("config|resetstat", 1),
                        ("acl|setuser", 1),
                    ],
                    "a",
                ),
            ),
            (
                "CONFIG RESETSTAT and ACL LOAD",
                counted(&[("info", 1), ("acl|load", 1), ("config|resetstat", 1)], "a"),
            ),
            (
                "a restart",
                counted(&[("info", 9), ("acl|load", 1), ("config|resetstat", 1)], "b"),
            ),
        ] {
            assert!(now.may_differ(&before, ASKED), "{what}");
        }
        let reset = counted(&[("config|resetstat", 1)], "a");
        assert!(reset.may_differ(&reset, ASKED), "and once more, at once");
        assert!(!reset.may_differ(&reset, 0), "a server that does not count INFO");
    }
}
