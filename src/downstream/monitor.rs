//! MONITOR, of what goes through this nearhit: every request that is done, from memory or not, in the server's format.
//!
//! ```text
//! a turn ─ request done → line ─→ every watcher's backlog ─ Wake → its session writes it between replies
//! ```
//! Nobody waits for a watcher: what does not fit into its backlog is lost, and counted. While nobody watches, a turn
//! costs one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::context::Shared;
use super::live::Seat;
use super::orders::What;
use super::request::{Flow, Turn, not_permitted};
use super::session::{Core, Session};
use crate::command::{Command, flag};
use crate::config::MonitorMode;
use crate::resp::{Request, encode};
use crate::time;

/// Bytes of lines that wait for one watcher at most; chosen, not measured: some ten thousand lines.
const BACKLOG: usize = 1 << 20;
/// A watcher's session takes lines over while it has fewer bytes than these to write.
const UNSENT: usize = 64 * 1024;

/// Who watches.
#[derive(Debug, Default)]
pub struct Monitors {
    /// How many there are. Relaxed: a line more or less at the beginning and the end is nothing.
    count: AtomicUsize,
    /// Guards the list; held while a line is handed to every backlog, never across anything that waits.
    watchers: Mutex<Vec<Arc<Watcher>>>,
}

/// One session that watches.
#[derive(Debug)]
pub(super) struct Watcher {
    seat: Seat,
    /// Lines that its session has not taken over. Taken inside the list's lock, never the other way round.
    backlog: Mutex<Vec<u8>>,
}

impl Monitors {
    /// Whether anybody watches.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn add(&self, seat: Seat) -> Arc<Watcher> {
        let watcher = Arc::new(Watcher {
            seat,
            backlog: Mutex::default(),
        });
        let mut watchers = self.watchers.lock();
        watchers.push(Arc::clone(&watcher));
        self.count.store(watchers.len(), Ordering::Relaxed);
        watcher
    }

    fn remove(&self, watcher: &Arc<Watcher>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|other| !Arc::ptr_eq(other, watcher));
        self.count.store(watchers.len(), Ordering::Relaxed);
    }
}

/// Hands a line to everybody who watches.
fn feed(shared: &Shared, line: &[u8]) {
    for watcher in &*shared.common.monitors.watchers.lock() {
        let mut backlog = watcher.backlog.lock();
        if backlog.len() + line.len() > BACKLOG {
            shared.metrics.monitor_lost.inc();
            continue;
        }
        let first = backlog.is_empty();
        backlog.extend_from_slice(line);
        drop(backlog);
        if first {
            shared.common.order(watcher.seat, What::Wake);
        }
    }
}

/// What a request looks like in a line; `None`: it is never shown. The server hides what administrators do.
pub(super) fn words(command: &Command, request: &Request<'_>) -> Option<Box<[u8]>> {
    if command.flags.has(flag::ADMIN) {
        return None;
    }
    let mut words = Vec::with_capacity(request.frame().len());
    for (at, arg) in request.args_from(0).enumerate() {
        words.push(b' ');
        match is_secret(command, request, at) {
            true => words.extend_from_slice(b"\"(redacted)\""),
            false => quote(&mut words, arg),
        }
    }
    Some(words.into())
}

/// Whether an argument is one the server redacts: user names and passwords.
fn is_secret(command: &Command, request: &Request<'_>, at: usize) -> bool {
    let follows =
        |option: &[u8], distance: usize| at > distance && request.arg(at - distance).eq_ignore_ascii_case(option);
    match command.name() {
        "auth" => at > 0,
        "hello" => follows(b"AUTH", 1) || follows(b"AUTH", 2),
        "migrate" => follows(b"AUTH", 1) || follows(b"AUTH2", 1) || follows(b"AUTH2", 2),
        _ => false,
    }
}

/// As the server quotes: printable ASCII as it is.
fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

/// Whether an error says that the request was not done at all: the server does not show those.
fn is_rejection(frame: &[u8]) -> bool {
    const CODES: &[&[u8]] = &[
        b"NOAUTH",
        b"NOPERM",
        b"OOM",
        b"MISCONF",
        b"NOREPLICAS",
        b"READONLY",
        b"MASTERDOWN",
        b"LOADING",
        b"BUSY",
        b"CLUSTERDOWN",
        b"MOVED",
        b"ASK",
        b"CROSSSLOT",
        b"TRYAGAIN",
        b"DENIED",
    ];
    const TEXTS: &[&[u8]] = &[
        b"ERR unknown command",
        b"ERR unknown subcommand",
        b"ERR wrong number of arguments",
        b"ERR Can't execute",
        b"ERR Replica can't interact",
    ];
    let text = frame.get(1..).unwrap_or_default();
    let code = text
        .split(|byte| matches!(byte, b' ' | b'\r'))
        .next()
        .unwrap_or_default();
    CODES.contains(&code) || TEXTS.iter().any(|start| text.starts_with(start))
}

impl Session {
    /// Shows a request that is done to whoever watches.
    pub(super) fn show_line(&self, db: u32, words: &[u8]) {
        let shared = &self.context.shared;
        let addr = shared
            .peers
            .get(&self.id)
            .map(|peer| peer.addr.clone())
            .unwrap_or_default();
        // The server says so of clients of its Unix socket.
        let unix = match addr.starts_with('/') {
            true => "unix:",
            false => "",
        };
        let addr = addr.strip_suffix(":0").filter(|_| !unix.is_empty()).unwrap_or(&addr);
        let micros = time::unix_micros();
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let mut line = format!("+{seconds}.{micros:06} [{db} {unix}{addr}]").into_bytes();
        line.extend_from_slice(words);
        line.extend_from_slice(b"\r\n");
        feed(shared, &line);
    }

    /// The same once its reply is known.
    pub(super) fn show_answered(&self, words: &[u8], kind: u8, frame: &[u8]) {
        if !(kind == b'-' && is_rejection(frame)) {
            let db = self.core.borrow().db;
            self.show_line(db, words);
        }
    }

    /// Nothing more is shown to it.
    pub(super) fn end_watching(&self, core: &mut Core) {
        if let Some(watcher) = core.watcher.take() {
            self.context.shared.common.monitors.remove(&watcher);
        }
    }

    /// Whether lines wait for this session.
    pub(super) fn has_lines(&self) -> bool {
        let core = self.core.borrow();
        let watcher = core.watcher.as_ref().filter(|_| core.closing.is_none());
        watcher.is_some_and(|watcher| !watcher.backlog.lock().is_empty())
    }

    /// Takes lines over that wait for this session, unless it has enough to write.
    pub(super) fn take_lines(&self, core: &mut Core) {
        if let Some(watcher) = &core.watcher
            && core.closing.is_none()
            && core.pipeline.bytes() < UNSENT
        {
            let lines = std::mem::take(&mut *watcher.backlog.lock());
            if !lines.is_empty() {
                core.pipeline.push(&lines);
            }
        }
    }
}

impl Turn<'_> {
    /// MONITOR. `None`: the server does it.
    pub(super) fn monitor(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let number = command.id().number();
        match self.context.shared.settings.monitor {
            MonitorMode::Upstream => return None,
            _ if !command.check_arity(request) => return None,
            MonitorMode::Deny => self.refuse(number, not_permitted(command)),
            // The server says nothing to who watches already.
            MonitorMode::Local if self.core.watcher.is_some() => {}
            MonitorMode::Local if let Some(flow) = self.permitted(command) => return Some(flow),
            MonitorMode::Local => {
                self.core.watcher = Some(self.context.shared.common.monitors.add(self.session.live.seat));
                self.local_reply(number, |out| encode::simple(out, b"OK"));
            }
        }
        Some(Flow::Next)
    }

    /// Who watches counts as a replica, and so may do nothing to keys, in the server's words.
    pub(super) fn refuse_watcher(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        const KEYS: [u32; 3] = [flag::READONLY, flag::WRITE, flag::MAY_REPLICATE];
        self.core.watcher.as_ref()?;
        if !KEYS.iter().any(|bit| command.flags.has(*bit)) || !command.check_arity(request) {
            return None;
        }
        let text = "ERR Replica can't interact with the keyspace";
        match self.core.pin.as_ref().is_some_and(|pin| pin.transaction.is_some()) {
            true => self.refuse_queued(command, text),
            false => self.refuse(command.id().number(), text),
        }
        Some(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{CommandTable, Lookup};
    use crate::resp::{RequestLimits, RequestScanner};

    fn shown(words_of: &[&[u8]]) -> Option<String> {
        let table = CommandTable::builtin();
        let mut frame = Vec::new();
        encode::request(&mut frame, words_of.iter().copied());
        let mut scanner = RequestScanner::new(RequestLimits::default());
        assert!(scanner.scan(&frame).is_ok());
        let request = scanner.request(&frame);
        let Lookup::Known(command) = table.lookup(&request) else {
            return None;
        };
        words(command, &request).map(|words| String::from_utf8_lossy(&words).into_owned())
    }

    #[test]
    fn who_somebody_is_and_what_administrators_do_is_not_shown() {
        for (request, line) in [
            ("AUTH secret", Some(r#" "AUTH" "(redacted)""#)),
            ("auth me secret", Some(r#" "auth" "(redacted)" "(redacted)""#)),
            (
                "HELLO 3 AUTH me secret SETNAME auth",
                Some(r#" "HELLO" "3" "AUTH" "(redacted)" "(redacted)" "SETNAME" "auth""#),
            ),
            (
                "MIGRATE h 1 k 0 10 AUTH2 me secret",
                Some(r#" "MIGRATE" "h" "1" "k" "0" "10" "AUTH2" "(redacted)" "(redacted)""#),
            ),
            ("CONFIG SET requirepass secret", None),
            ("ACL SETUSER me >secret", None),
            ("CLIENT LIST", None),
            ("GET secret", Some(r#" "GET" "secret""#)),
        ] {
            let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            assert_eq!(shown(&words).as_deref(), line, "{request}");
        }
    }

    #[test]
    fn only_what_was_not_done_at_all_is_left_out() {
        for (error, rejected) in [
            ("-NOPERM this user", true),
            ("-BUSY Redis is busy", true),
            ("-BUSYKEY Target key name", false),
            ("-WRONGTYPE Operation", false),
            ("-ERR wrong number of arguments for 'get' command\r\n", true),
            ("-ERR value is not an integer\r\n", false),
            ("-LOADING\r\n", true),
        ] {
            assert_eq!(is_rejection(error.as_bytes()), rejected, "{error}");
        }
    }
}
