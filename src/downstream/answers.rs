//! What nearhit answers by itself about its clients, at once or in the place of a part of EXEC's reply.

use super::client_list;
use super::context::{Asker, Peer};
use super::identity::client_name;
use super::session::{Core, Session};
use crate::command::Command;
use crate::resp::{Request, RequestLimits, RequestScan, RequestScanner, Version, encode};

/// A reply, or the text of an error.
type Answer = Result<Vec<u8>, String>;

/// The reply to `request`, whose number of arguments fits; `None` when it is not answered here alone.
pub(super) fn answer(session: &Session, core: &mut Core, command: &Command, request: &Request<'_>) -> Option<Vec<u8>> {
    if matches!(command.name(), "client|info" | "client|list") {
        session.show(core, 0, 0);
    }
    let answer = match command.name() {
        "client|id" => Ok(integer(session.id)),
        "client|info" => Ok(text_reply(core.version, &client_list::info(session))),
        "client|list" => {
            client_list::list(&session.context.shared, request).map(|list| text_reply(core.version, &list))
        }
        "client|getname" => Ok(get_name(session, core.version)),
        "client|setname" => set_name(session, request),
        "client|setinfo" => set_info(session, request),
        "client|no-evict" => no_evict(core, request),
        // A promise of the client's about what it understands, which nearhit makes no use of.
        "client|capa" => Ok(ok()),
        "proxy" => Ok(admin(session, core, request)),
        _ => return None,
    };
    Some(answer.unwrap_or_else(|text| {
        let mut reply = Vec::new();
        encode::error(&mut reply, text.as_bytes());
        reply
    }))
}

/// The reply to a request that was kept as bytes.
pub(super) fn answer_kept(session: &Session, core: &mut Core, frame: &[u8]) -> Option<Vec<u8>> {
    let mut scanner = RequestScanner::new(RequestLimits::default());
    let Ok(RequestScan::Complete { .. }) = scanner.scan(frame) else {
        return None;
    };
    let request = scanner.request(frame);
    let table = session.context.shared.table.load();
    let crate::command::Lookup::Known(command) = table.lookup(&request) else {
        let own = session.context.shared.settings.is_admin_command(request.name());
        return own.then(|| admin(session, core, &request));
    };
    answer(session, core, command, &request)
}

pub(super) fn integer(value: u64) -> Vec<u8> {
    let mut reply = Vec::new();
    encode::integer(&mut reply, i64::try_from(value).unwrap_or(i64::MAX));
    reply
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

/// A text, as INFO and CLIENT LIST give one.
pub(super) fn text_reply(version: Version, text: &str) -> Vec<u8> {
    let mut reply = Vec::with_capacity(text.len() + 32);
    encode::verbatim(&mut reply, version, *b"txt", text.as_bytes());
    reply
}

fn get_name(session: &Session, version: Version) -> Vec<u8> {
    let mut reply = Vec::new();
    match with_peer(session, |peer| peer.name.clone()).as_str() {
        "" => encode::null(&mut reply, version),
        name => encode::bulk(&mut reply, name.as_bytes()),
    }
    reply
}

fn set_name(session: &Session, request: &Request<'_>) -> Answer {
    let name = client_name(request.arg(2))?;
    with_peer(session, |peer| peer.name = name);
    Ok(ok())
}

fn set_info(session: &Session, request: &Request<'_>) -> Answer {
    let (option, value) = (request.arg(2), request.arg(3));
    let named = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
    if !named("lib-name") && !named("lib-ver") {
        let option = String::from_utf8_lossy(option);
        return Err(format!("ERR Unrecognized option '{option}'"));
    }
    if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        let option = String::from_utf8_lossy(option);
        return Err(format!(
            "ERR {option} cannot contain spaces, newlines or special characters."
        ));
    }
    let value = String::from_utf8_lossy(value).into_owned();
    with_peer(session, |peer| {
        if named("lib-name") {
            peer.library.0 = value;
        } else {
            peer.library.1 = value;
        }
    });
    Ok(ok())
}

/// What it protects from, the server's eviction of clients, cannot happen to a client of nearhit's.
fn no_evict(core: &mut Core, request: &Request<'_>) -> Answer {
    let mode = request.arg(2);
    core.no_evict = match () {
        () if mode.eq_ignore_ascii_case(b"on") => true,
        () if mode.eq_ignore_ascii_case(b"off") => false,
        () => return Err("ERR syntax error".to_owned()),
    };
    Ok(ok())
}

/// nearhit's own command.
fn admin(session: &Session, core: &Core, request: &Request<'_>) -> Vec<u8> {
    let mut reply = Vec::new();
    match session.context.shared.admin.get() {
        Some(admin) => {
            let asker = Asker {
                seen: core.seen.as_deref(),
                replicas: core.replicas,
                account: &core.account,
                db: core.db,
                version: core.version,
                causality: &core.causality,
                attributes: &core.attributes,
            };
            admin.run(request, &asker, &mut reply);
        }
        None => encode::error(&mut reply, b"ERR nearhit is still starting"),
    }
    reply
}

/// What is registered about a client.
pub(super) fn with_peer<T: Default>(session: &Session, look: impl FnOnce(&mut Peer) -> T) -> T {
    let peer = session.context.shared.peers.get_mut(&session.id);
    peer.map(|mut peer| look(&mut peer)).unwrap_or_default()
}
