//! The server's exact words for requests that name no command or have the wrong number of arguments.
//!
//! Each function gives the text between `-` and CRLF. Verified against redis-server 7.0.15 (`tests/command_errors.rs`).

use super::lookup::Lookup;
use super::row::Command;
use crate::resp::Request;

/// Longest part of a name that is repeated, and longest list of arguments. A Redis default.
const LIMIT: usize = 128;

/// `ERR unknown command 'x', with args beginning with: 'a' 'b' `, with its blank at the end.
pub fn unknown_command(request: &Request<'_>) -> Vec<u8> {
    let mut args = Vec::with_capacity(LIMIT + 3);
    for arg in request.args_from(1) {
        // As the server does: the limit holds for the list before this argument, so quotes may exceed it.
        let Some(room) = LIMIT.checked_sub(args.len()).filter(|room| *room > 0) else {
            break;
        };
        args.push(b'\'');
        args.extend_from_slice(cut(arg, room));
        args.extend_from_slice(b"' ");
    }
    let name = cut(request.name(), LIMIT);
    one_line([
        &b"ERR unknown command '"[..],
        name,
        b"', with args beginning with: ",
        &args,
    ])
}

/// What `request`, which names no command, is told: which of the two that `lookup` found to be unknown.
pub fn unknown(lookup: &Lookup<'_>, request: &Request<'_>) -> Vec<u8> {
    match lookup {
        Lookup::UnknownSubcommand(_) => unknown_subcommand(request),
        _ => unknown_command(request),
    }
}

/// `ERR unknown subcommand 'x'. Try CONFIG HELP.`
pub fn unknown_subcommand(request: &Request<'_>) -> Vec<u8> {
    let container = request.name().to_ascii_uppercase();
    one_line([
        &b"ERR unknown subcommand '"[..],
        cut(request.arg(1), LIMIT),
        b"'. Try ",
        &container,
        b" HELP.",
    ])
}

/// `ERR wrong number of arguments for 'client|kill' command`
///
/// EXEC says so in the words of a discarded transaction, even outside of one; inside, the transaction is over.
pub fn wrong_arity(command: &Command) -> Vec<u8> {
    let name = command.name().as_bytes();
    one_line([code(command), b"wrong number of arguments for '", name, b"' command"])
}

/// `ERR Can't execute 'get': only …`: what a RESP2 connection is told while it is subscribed. EXEC says it as above.
pub fn not_while_subscribed(command: &Command) -> Vec<u8> {
    let name = command.name().as_bytes();
    let allowed =
        b"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context".as_slice();
    one_line([code(command), b"Can't execute '", name, allowed])
}

/// The beginning of a refusal that comes before the command runs.
fn code(command: &Command) -> &'static [u8] {
    match command.name() {
        "exec" => b"EXECABORT Transaction discarded because of: ",
        _ => b"ERR ",
    }
}

/// What C's `%.*s` prints: at most `limit` bytes, and none from the first NUL on.
fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or(bytes)
}

/// Joins the parts; an error is one line, so CR and LF become blanks.
fn one_line<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    let mut text = parts.concat();
    for byte in &mut text {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    text
}
