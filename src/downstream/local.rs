//! Commands that are handled here: what is about the client's connection to us, and nearhit's own.

use super::answers::{answer, with_peer};
use super::client_kill::Kill;
use super::edit::Edit;
use super::facade;
use super::forward::{Op, Special};
use super::request::{Flow, Turn};
use super::session::Replies;
use crate::command::{Command, error_text};
use crate::config::PresentAs;
use crate::metrics::{Disconnect, Outcome};
use crate::mutants::{Mutant, mutated};
use crate::resp::{Request, Version, encode};

impl Turn<'_> {
    /// A command whose row says that the session handles it.
    pub(super) fn local(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let number = command.id().number();
        if command.check_arity(request)
            && let Some(flow) = self.permitted(command)
        {
            return flow;
        }
        match command.name() {
            "select" => return self.select(command, request),
            _ if !command.check_arity(request) => {
                self.refuse(number, error_text::wrong_arity(command));
            }
            "hello" => return self.hello(command, request),
            "auth" => return self.auth(command, request),
            "reset" => return self.reset(number),
            "quit" => {
                self.local_reply(number, |out| encode::simple(out, b"OK"));
                self.core.closing = Some(Disconnect::Eof);
            }
            "client|reply" => self.set_replies(number, request),
            "client|unblock" => return self.unblock(number, request),
            "client|kill" => {
                let (kill, judged) = Kill::read(request);
                // Whoever kills itself is not to have anything behind that done.
                self.core.switching = true;
                return self.ask(number, Special::Kill(Box::new(kill)), &judged);
            }
            // Whether there is such a thing depends on the server's version, and so is its own to say.
            "client|no-evict" | "client|capa" if command.reported.is_none() => {
                return self.forward_here(command, request);
            }
            "readonly" | "readwrite" if self.context.shared.routing.is_some() => {
                self.core.replicas = Some(command.name() == "readonly");
                self.local_reply(number, |out| encode::simple(out, b"OK"));
            }
            name if facade::is_about_cluster(name) => {
                if self.context.shared.settings.present_as == PresentAs::Transparent {
                    return self.ask_cluster(command, request);
                }
                let question = facade::cluster_question(&self.context.shared, request);
                return self.ask(number, Special::from(Edit::NoCluster), &question);
            }
            _ => return self.answer_here(command, request),
        }
        Flow::Next
    }

    /// Answers a command that asks only nearhit.
    pub(super) fn answer_here(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let number = command.id().number();
        match answer(self.session, self.core, command, request) {
            Some(reply) if reply.starts_with(b"-") => self.pass_error(number, &reply),
            Some(reply) => self.local_reply(number, |out| out.extend_from_slice(&reply)),
            None => return self.forward_here(command, request),
        }
        Flow::Next
    }

    /// The server answers, over whichever connection the session has now.
    pub(super) fn forward_here(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        match &self.core.pin {
            Some(_) => self.send_pinned_plain(command, request),
            None => self.forward_plain(command, request),
        }
    }

    /// A command about the cluster, where clients are to know of it.
    fn ask_cluster(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let changes_connection = !command.name().contains('|');
        if self.core.pin.is_none() && !changes_connection {
            return self.shared(command, request);
        }
        match self.pin(command.id().number()) {
            Ok(()) => self.send_pinned(command, request),
            Err(flow) => flow,
        }
    }

    /// A command that the server does while a script runs: over a connection that waits for no script, and in the database
    /// connections begin in, because while a script runs a server lets nobody change it.
    pub(super) fn past_a_script(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if let Err(flow) = self.pin_in(0, command.id().number()) {
            return flow;
        }
        let flow = self.send_pinned(command, request);
        // The next request belongs into the session's own database.
        self.core.switching = true;
        flow
    }

    /// Sends `frame` in the place of a request; `special` makes the client's reply of the server's.
    fn ask(&mut self, number: u16, special: Special, frame: &[u8]) -> Flow {
        let op = Op {
            special,
            outcome: Outcome::Local,
            pinned: self.core.pin.is_some(),
            ..Op::plain(number, self.now)
        };
        match op.pinned {
            true => self.send_on_pin(Some(op), frame),
            false => self.send_home(op, frame, self.core.db, self.core.version),
        }
        Flow::Next
    }

    /// RESET: back to how the connection began, once everything before it is answered.
    fn reset(&mut self, number: u16) -> Flow {
        let pin_quiet = self.core.pin.as_ref().is_none_or(super::pin::Pin::is_quiet);
        if !self.core.is_quiet() || !pin_quiet {
            return Flow::Hold;
        }
        if !self.end_listening() {
            return Flow::Hold;
        }
        if let Some(pin) = self.core.pin.take() {
            pin.connection.close();
            self.context.shared.metrics.clients_pinned.dec();
        }
        if !mutated(Mutant::ResetLeaksUser) {
            self.core.account = self.context.shared.accounts.initial();
        }
        self.core.replicas = None;
        self.core.causality.saw(self.now);
        self.forget_sight();
        self.session.end_watching(self.core);
        self.core.version = Version::V2;
        self.core.attributes.set(false);
        self.core.db = self.context.shared.settings.db;
        // As Redis does: OFF ends before the answer, SKIP behind it.
        self.muted &= self.core.replies == Replies::On;
        self.core.replies = Replies::On;
        let (db, user) = (self.core.db, self.core.account.user_name());
        with_peer(self.session, |peer| {
            peer.name.clear();
            peer.user = user;
            peer.db = db;
            peer.resp = 2;
        });
        self.local_reply(number, |out| encode::simple(out, b"RESET"));
        Flow::Next
    }

    fn set_replies(&mut self, number: u16, request: &Request<'_>) {
        let mode = request.arg(2);
        if mode.eq_ignore_ascii_case(b"on") {
            self.core.replies = Replies::On;
            self.muted = false;
            self.local_reply(number, |out| encode::simple(out, b"OK"));
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

    /// A reply of nearhit's own.
    pub(super) fn local_reply(&mut self, number: u16, write: impl FnOnce(&mut Vec<u8>)) {
        self.core.pipeline.ready(self.muted, write);
        self.core.answer(number, Outcome::Local);
    }

    /// Answers with an error of our own.
    pub(super) fn refuse(&mut self, command: u16, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        self.core.pipeline.ready(self.muted, |out| encode::error(out, text));
        self.core.answer(command, Outcome::Error);
    }
}
