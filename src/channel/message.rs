//! What applications publish: JSON objects that name an operation and keys.

use serde::Deserialize;

use crate::metrics::ChannelOp;

/// What is to be dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The entries of these keys, in all databases.
    Keys(Vec<Vec<u8>>),
    /// Those of all keys that match a glob.
    Matching(String),
    Everything,
}

/// Fields of other names are the application's own.
#[derive(Deserialize)]
struct Message {
    op: Op,
    key: Option<String>,
    keys: Option<Vec<String>>,
    key_base64: Option<String>,
    keys_base64: Option<Vec<String>>,
    pattern: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Op {
    Set,
    Delete,
    Clear,
}

/// Reads a message; the error is what is wrong with it, without a word of it.
pub(super) fn read(payload: &[u8]) -> Result<(ChannelOp, What), String> {
    let message: Message = serde_json::from_slice(payload).map_err(|error| {
        format!(
            "no object with a known op (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let op = match message.op {
        Op::Set => ChannelOp::Set,
        Op::Delete => ChannelOp::Delete,
        Op::Clear => ChannelOp::Clear,
    };
    if message.pattern.is_none() && message.op == Op::Clear && !message.names_keys() {
        return Ok((op, What::Everything));
    }
    if message.pattern.is_some() && message.names_keys() {
        return Err("both keys and a pattern".into());
    }
    if !message.names_keys() && message.pattern.is_none() {
        return Err("neither a key nor a pattern".into());
    }
    match message.pattern {
        Some(pattern) => Ok((op, What::Matching(pattern))),
        None => Ok((op, What::Keys(message.all_keys()?))),
    }
}

impl Message {
    fn names_keys(&self) -> bool {
        self.key.is_some() || self.keys.is_some() || self.key_base64.is_some() || self.keys_base64.is_some()
    }

    fn all_keys(self) -> Result<Vec<Vec<u8>>, String> {
        let plain = self.key.into_iter().chain(self.keys.into_iter().flatten());
        let encoded = self.key_base64.iter().chain(self.keys_base64.iter().flatten());
        let decoded = encoded.map(|text| base64(text.as_bytes()).ok_or_else(|| "a key that is not base64".to_owned()));
        plain.map(|key| Ok(key.into_bytes())).chain(decoded).collect()
    }
}

/// The bytes of standard base64 (RFC 4648 §4), padding included.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let value = |letter: u8| {
        Some(match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|&&letter| letter == b'=').count();
    let letters = text.get(..text.len() - padding)?;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in letters.chunks(4) {
        let mut bits = 0_u32;
        for &letter in group {
            bits = bits << 6 | u32::from(value(letter)?);
        }
        bits <<= 6 * (4 - group.len());
        let [_, whole @ ..] = bits.to_be_bytes();
        bytes.extend(whole.iter().take(group.len() - 1));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&[u8]]) -> What {
        What::Keys(keys.iter().map(|key| key.to_vec()).collect())
    }

    #[test]
    fn messages_say_what_to_drop() {
        use ChannelOp::{Clear, Delete, Set};
        for (text, expected) in [
            (r#"{"op":"SET","key":"k"}"#, (Set, keys(&[b"k"]))),
            (r#"{"op":"DELETE","keys":["a","b"]}"#, (Delete, keys(&[b"a", b"b"]))),
            (
                r#"{"op":"SET","key":"k","value":{"is":"ours"},"at":1}"#,
                (Set, keys(&[b"k"])),
            ),
            (r#"{"op":"SET","key":""}"#, (Set, keys(&[b""]))),
            (r#"{"op":"SET","key_base64":"AP8K"}"#, (Set, keys(&[b"\x00\xff\n"]))),
            (
                r#"{"op":"SET","key":"a","keys_base64":["Yg==","YmM=",""]}"#,
                (Set, keys(&[b"a", b"b", b"bc", b""])),
            ),
            (
                r#"{"op":"DELETE","pattern":"user:*"}"#,
                (Delete, What::Matching("user:*".into())),
            ),
            (
                r#"{"op":"CLEAR","pattern":"user:*"}"#,
                (Clear, What::Matching("user:*".into())),
            ),
            (r#"{"op":"CLEAR","key":"k"}"#, (Clear, keys(&[b"k"]))),
            (r#" { "op" : "CLEAR" } "#, (Clear, What::Everything)),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_message_is_refused_without_being_repeated() {
        for text in [
            "",
            "secret",
            "[]",
            r#"{"op":"set","key":"secret"}"#,
            r#"{"op":"secret","key":"k"}"#,
            r#"{"key":"secret"}"#,
            r#"{"op":"SET"}"#,
            r#"{"op":"DELETE","value":"secret"}"#,
            r#"{"op":"SET","key":1}"#,
            r#"{"op":"SET","key":"secret","key":"l"}"#,
            r#"{"op":"SET","key":"secret","pattern":"*"}"#,
            r#"{"op":"SET","key":"secret"} {}"#,
            r#"{"op":"SET","key_base64":"secret"}"#,
            r#"{"op":"SET","key_base64":"Yg="}"#,
            r#"{"op":"SET","key_base64":"Y==="}"#,
            r#"{"op":"SET","key_base64":"Yg=a"}"#,
            "{\"op\":\"SET\",\"key\":\"\u{0}\"}",
        ] {
            let error = read(text.as_bytes()).expect_err(text);
            assert!(!error.contains("secret"), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes()).is_err());
    }
}
