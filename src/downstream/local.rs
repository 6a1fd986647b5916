//! Commands that are answered here: what is about the client's connection to us, and nearhit's own.

use std::fmt::Write as _;

use super::context::Peer;
use super::forward::Special;
use super::identity::client_name;
use super::request::{Flow, Turn};
use super::session::Replies;
use crate::command::{Command, error_text};
use crate::metrics::{Disconnect, Outcome};
use crate::resp::{Request, Version, encode};
use crate::time;

impl Turn<'_> {
    /// A command whose row says that the session handles it.
    pub(super) fn local(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let number = command.id().number();
        match command.name() {
            "select" => return self.select(command, request),
            "proxy" => return self.admin(request),
            _ if !command.check_arity(request) => {
                let text = error_text::wrong_arity(command);
                self.core.pipeline.ready(self.muted, |out| encode::error(out, &text));
                self.core.answer(number, Outcome::Error);
                return Flow::Next;
            }
            "hello" => return self.hello(command, request),
            "auth" => return self.auth(command, request),
            "reset" => return self.reset(number),
            "quit" => {
                self.reply(number, |out| encode::simple(out, b"OK"));
                self.core.closing = Some(Disconnect::Eof);
            }
            "client|id" => {
                let id = i64::try_from(self.session.id).unwrap_or(i64::MAX);
                self.reply(number, |out| encode::integer(out, id));
            }
            "client|getname" => {
                let (name, version) = (self.peer(|peer| peer.name.clone()), self.core.version);
                self.reply(number, |out| match name.as_str() {
                    "" => encode::null(out, version),
                    name => encode::bulk(out, name.as_bytes()),
                });
            }
            "client|setname" => match client_name(request.arg(2)) {
                Ok(name) => {
                    self.peer(|peer| peer.name = name);
                    self.reply(number, |out| encode::simple(out, b"OK"));
                }
                Err(text) => self.refuse(number, &text),
            },
            "client|setinfo" => self.set_info(number, request),
            "client|reply" => self.set_replies(number, request),
            "client|info" => {
                let id = self.session.id;
                let line = self.peer(|peer| client_line(id, peer));
                self.text(number, &line);
            }
            "client|list" => self.list_clients(number),
            // They ask for nothing that nearhit would do to a client otherwise.
            "client|no-evict" | "client|no-touch" | "client|capa" => {
                self.reply(number, |out| encode::simple(out, b"OK"));
            }
            other => {
                let name = other.replace('|', " ").to_uppercase();
                self.refuse(number, &format!("ERR nearhit does not support '{name}' yet"));
            }
        }
        Flow::Next
    }

    fn list_clients(&mut self, number: u16) {
        let peers = self.context.shared.peers.iter();
        let mut rows: Vec<_> = peers
            .map(|peer| (*peer.key(), client_line(*peer.key(), peer.value())))
            .collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        let text: String = rows.into_iter().map(|(_, line)| line).collect();
        self.text(number, &text);
    }

    /// nearhit's own command.
    pub(super) fn admin(&mut self, request: &Request<'_>) -> Flow {
        let (version, db) = (self.core.version, self.core.db);
        let number = self
            .table
            .by_name("proxy")
            .map_or(crate::metrics::OTHER, |row| row.id().number());
        match self.context.shared.admin.get() {
            Some(admin) => self.reply(number, |out| admin.run(request, version, db, out)),
            None => self.refuse(number, "ERR nearhit is still starting"),
        }
        Flow::Next
    }

    /// INFO: `None` when it was answered here, else what its reply needs.
    pub(super) fn info(&mut self, request: &Request<'_>) -> Option<Special> {
        let asks = |name: &str| {
            request
                .args_from(1)
                .any(|arg| arg.eq_ignore_ascii_case(name.as_bytes()))
        };
        if request.len() == 2 && asks("proxy") {
            let text = self
                .context
                .shared
                .admin
                .get()
                .map(|admin| admin.info_section())
                .unwrap_or_default();
            let number = self
                .table
                .by_name("info")
                .map_or(crate::metrics::OTHER, |row| row.id().number());
            self.text(number, &text);
            return None;
        }
        let wanted = request.len() == 1 || asks("default") || asks("all") || asks("everything") || asks("proxy");
        Some(if wanted && self.context.shared.settings.info_section {
            Special::Info
        } else {
            Special::No
        })
    }

    /// RESET: back to how the connection began, once everything before it is answered.
    fn reset(&mut self, number: u16) -> Flow {
        let pin_quiet = self.core.pin.as_ref().is_none_or(super::pinned::Pin::is_quiet);
        if !self.core.is_quiet() || !pin_quiet {
            return Flow::Hold;
        }
        if let Some(pin) = self.core.pin.take() {
            pin.connection.close();
            self.context.shared.metrics.clients_pinned.dec();
        }
        self.core.version = Version::V2;
        self.core.db = self.context.shared.settings.db;
        // As Redis does: OFF ends before the answer, SKIP behind it.
        self.muted &= self.core.replies == Replies::On;
        self.core.replies = Replies::On;
        let db = self.core.db;
        self.peer(|peer| {
            peer.name.clear();
            peer.db = db;
            peer.resp = 2;
        });
        self.reply(number, |out| encode::simple(out, b"RESET"));
        Flow::Next
    }

    fn set_replies(&mut self, number: u16, request: &Request<'_>) {
        let mode = request.arg(2);
        if mode.eq_ignore_ascii_case(b"on") {
            self.core.replies = Replies::On;
            self.muted = false;
            self.reply(number, |out| encode::simple(out, b"OK"));
        } else if mode.eq_ignore_ascii_case(b"off") {
            self.core.replies = Replies::Off;
        } else if mode.eq_ignore_ascii_case(b"skip") {
            if self.core.replies != Replies::Off {
                self.core.skip_next = true;
            }
        } else {
            self.refuse(number, "ERR syntax error");
        }
    }

    fn set_info(&mut self, number: u16, request: &Request<'_>) {
        let (option, value) = (request.arg(2), request.arg(3));
        if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
            let option = String::from_utf8_lossy(option).to_lowercase();
            return self.refuse(
                number,
                &format!("ERR {option} cannot contain spaces, newlines or special characters."),
            );
        }
        let value = String::from_utf8_lossy(value).into_owned();
        if option.eq_ignore_ascii_case(b"lib-name") {
            self.peer(|peer| peer.library.0 = value);
        } else if option.eq_ignore_ascii_case(b"lib-ver") {
            self.peer(|peer| peer.library.1 = value);
        } else {
            return self.refuse(
                number,
                &format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(option)),
            );
        }
        self.reply(number, |out| encode::simple(out, b"OK"));
    }

    fn reply(&mut self, number: u16, write: impl FnOnce(&mut Vec<u8>)) {
        self.core.pipeline.ready(self.muted, write);
        self.core.answer(number, Outcome::Local);
    }

    fn text(&mut self, number: u16, text: &str) {
        let version = self.core.version;
        self.reply(number, |out| encode::verbatim(out, version, *b"txt", text.as_bytes()));
    }

    fn peer<T: Default>(&self, change: impl FnOnce(&mut Peer) -> T) -> T {
        self.context
            .shared
            .peers
            .get_mut(&self.session.id)
            .map(|mut peer| change(&mut peer))
            .unwrap_or_default()
    }
}

/// A client as CLIENT LIST shows it: Redis' own fields first.
fn client_line(id: u64, peer: &Peer) -> String {
    let mut line = String::new();
    let age = time::now().since(peer.since).as_secs();
    let Peer {
        addr,
        laddr,
        name,
        db,
        resp,
        library: (lib, ver),
        ..
    } = peer;
    let _infallible = writeln!(
        line,
        "id={id} addr={addr} laddr={laddr} fd=-1 name={name} age={age} db={db} resp={resp} lib-name={lib} lib-ver={ver}"
    );
    line
}
