//! INFO: the server's text with nearhit's section behind it.

use super::context::Shared;
use crate::resp::{Value, Version, encode};

/// The reply to INFO with the `# Proxy` section appended; `None` when it is not the text it should be.
pub(super) fn info(shared: &Shared, frame: &[u8], kind: u8) -> Option<Vec<u8>> {
    let admin = shared.admin.get()?;
    let version = if kind == b'=' { Version::V3 } else { Version::V2 };
    let value = Value::decode(frame, version).ok()?;
    let mut text = value.as_bytes()?.to_vec();
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(admin.info_section().as_bytes());
    let mut reply = Vec::with_capacity(text.len() + 16);
    match kind {
        b'=' => encode::verbatim(&mut reply, Version::V3, *b"txt", &text),
        _ => encode::bulk(&mut reply, &text),
    }
    Some(reply)
}
