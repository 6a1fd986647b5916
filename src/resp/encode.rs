//! Writing the protocol: small, hot writers that append to a buffer.

use super::Version;

/// Appends a simple string, `+text`. A line end inside it would end it, so it becomes a space.
pub fn simple(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'+', text);
}

/// Appends an error, `-text`; `text` begins with its code (`ERR …`). A line end inside it becomes a space.
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'-', text);
}

/// Appends a bulk string.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends "there is no such value": `$-1`, or `_` in RESP3.
pub fn null(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::V2 => b"$-1\r\n",
        Version::V3 => b"_\r\n",
    });
}

/// Appends "there is no such array": `*-1`, or `_` in RESP3.
pub fn null_array(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::V2 => b"*-1\r\n",
        Version::V3 => b"_\r\n",
    });
}

/// Appends a boolean: `:1` or `:0`, or `#t` or `#f` in RESP3.
pub fn boolean(out: &mut Vec<u8>, version: Version, value: bool) {
    out.extend_from_slice(match (version, value) {
        (Version::V2, true) => b":1\r\n",
        (Version::V2, false) => b":0\r\n",
        (Version::V3, true) => b"#t\r\n",
        (Version::V3, false) => b"#f\r\n",
    });
}

/// Appends a verbatim string; `format` is three letters (`txt`, `mkd`). RESP2 has none and gets a bulk string.
pub fn verbatim(out: &mut Vec<u8>, version: Version, format: [u8; 3], text: &[u8]) {
    match version {
        Version::V2 => bulk(out, text),
        Version::V3 => {
            header(out, b'=', text.len().saturating_add(4));
            out.extend_from_slice(&format);
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Begins an array; the caller appends `count` values.
pub fn array_header(out: &mut Vec<u8>, count: usize) {
    header(out, b'*', count);
}

/// Begins a map; the caller appends `pairs` keys, each followed by its value. RESP2 has no maps and gets a flat array.
pub fn map_header(out: &mut Vec<u8>, version: Version, pairs: usize) {
    match version {
        Version::V2 => header(out, b'*', pairs.saturating_mul(2)),
        Version::V3 => header(out, b'%', pairs),
    }
}

/// Begins a set; the caller appends `count` values. RESP2 has no sets and gets an array.
pub fn set_header(out: &mut Vec<u8>, version: Version, count: usize) {
    header(out, if version == Version::V3 { b'~' } else { b'*' }, count);
}

/// Begins a push; the caller appends `count` values. RESP2 has no pushes and gets an array.
pub fn push_header(out: &mut Vec<u8>, version: Version, count: usize) {
    header(out, if version == Version::V3 { b'>' } else { b'*' }, count);
}

/// Appends a request in its canonical encoding, and nothing when there is no argument (a request has a name).
pub fn request<'a, I>(out: &mut Vec<u8>, args: I)
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: ExactSizeIterator,
{
    let args = args.into_iter();
    if args.len() > 0 {
        array_header(out, args.len());
    }
    for arg in args {
        bulk(out, arg);
    }
}

fn header(out: &mut Vec<u8>, kind: u8, number: usize) {
    // One piece for almost all of them.
    if let Ok(digit @ 0..=9) = u8::try_from(number) {
        out.extend_from_slice(&[kind, b'0' + digit, b'\r', b'\n']);
    } else if let Ok(number @ 10..=99) = u8::try_from(number) {
        out.extend_from_slice(&[kind, b'0' + number / 10, b'0' + number % 10, b'\r', b'\n']);
    } else {
        out.push(kind);
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(text);
    for byte in out.iter_mut().skip(start) {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("tests write text")
    }

    #[test]
    fn values_are_written_as_the_protocol_says() {
        assert_eq!(written(|out| simple(out, b"OK")), "+OK\r\n");
        assert_eq!(written(|out| error(out, b"ERR a\r\nb")), "-ERR a  b\r\n");
        assert_eq!(written(|out| bulk(out, b"")), "$0\r\n\r\n");
        assert_eq!(written(|out| integer(out, i64::MIN)), ":-9223372036854775808\r\n");
        assert_eq!(
            written(|out| verbatim(out, Version::V3, *b"txt", b"hi")),
            "=6\r\ntxt:hi\r\n"
        );
        assert_eq!(
            written(|out| verbatim(out, Version::V2, *b"txt", b"hi")),
            "$2\r\nhi\r\n"
        );
    }

    #[test]
    fn headers_of_every_length_are_decimal() {
        for number in [0_usize, 9, 10, 99, 100, 255, 256, 266, 1_000_000] {
            assert_eq!(written(|out| header(out, b'$', number)), format!("${number}\r\n"));
        }
    }

    #[test]
    fn each_version_gets_its_own_types() {
        assert_eq!(written(|out| null(out, Version::V2)), "$-1\r\n");
        assert_eq!(written(|out| null_array(out, Version::V2)), "*-1\r\n");
        assert_eq!(written(|out| null(out, Version::V3)), "_\r\n");
        assert_eq!(written(|out| map_header(out, Version::V2, 2)), "*4\r\n");
        assert_eq!(written(|out| map_header(out, Version::V3, 2)), "%2\r\n");
        assert_eq!(written(|out| push_header(out, Version::V3, 2)), ">2\r\n");
        assert_eq!(written(|out| set_header(out, Version::V3, 2)), "~2\r\n");
        assert_eq!(written(|out| boolean(out, Version::V2, true)), ":1\r\n");
    }

    #[test]
    fn a_request_is_an_array_of_bulks() {
        assert_eq!(
            written(|out| request(out, [&b"GET"[..], b"k"])),
            "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
        );
        assert_eq!(written(|out| request(out, [])), "");
    }
}
