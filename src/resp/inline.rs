//! Inline requests: words on a line, as people type them into telnet, made canonical.
//!
//! Quoting is Redis' (`sdssplitargs`). One difference: a NUL is a byte like any other, where Redis never sees the line
//! end behind it and waits.

use super::encode;
use super::fault::ProtocolError;
use super::request::Arg;

/// More than this is given back after a request; few lines are longer.
const KEPT_BYTES: usize = 4096;

/// Buffers for making an inline request canonical, kept between requests.
#[derive(Debug, Default)]
pub(super) struct Inline {
    /// The words with quotes and escapes undone, end to end.
    words: Vec<u8>,
    /// The canonical request.
    frame: Vec<u8>,
}

impl Inline {
    /// Splits `line` (without its line end) and encodes its words canonically; `args` gets their places in
    /// [`Inline::frame`], none for a blank line.
    pub(super) fn parse(&mut self, line: &[u8], args: &mut Vec<Arg>) -> Result<(), ProtocolError> {
        self.words.clear();
        self.frame.clear();
        args.clear();
        let mut at = skip_spaces(line, 0);
        while at < line.len() {
            let start = self.words.len();
            at = skip_spaces(line, word(line, at, &mut self.words)?);
            args.push(Arg {
                header: 0,
                start,
                end: self.words.len(),
            });
        }
        encode::array_header(&mut self.frame, args.len());
        for arg in args {
            let text = self.words.get(arg.start..arg.end).unwrap_or_default();
            arg.header = self.frame.len();
            encode::bulk(&mut self.frame, text);
            arg.end = self.frame.len() - 2;
            arg.start = arg.end - text.len();
        }
        Ok(())
    }

    /// The canonical request made by the last [`Inline::parse`].
    pub(super) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Gives back what an unusually long line needed.
    pub(super) fn shrink(&mut self) {
        if self.frame.capacity() > KEPT_BYTES {
            self.words = Vec::new();
            self.frame = Vec::new();
        }
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn skip_spaces(line: &[u8], from: usize) -> usize {
    let spaces = line
        .get(from..)
        .unwrap_or_default()
        .iter()
        .take_while(|byte| is_space(**byte))
        .count();
    from + spaces
}

/// Appends the word that begins at `at` to `out` and returns where it ends.
fn word(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    while let Some(&byte) = line.get(at) {
        match byte {
            // Not `is_space`: a vertical tab or form feed ends no word, it only is skipped before one.
            b' ' | b'\t' | b'\r' | b'\n' => break,
            // A closing quote ends the word, so what stood before an opening one belongs to the same word.
            b'"' => return double_quoted(line, at + 1, out),
            b'\'' => return single_quoted(line, at + 1, out),
            _ => out.push(byte),
        }
        at += 1;
    }
    Ok(at)
}

fn double_quoted(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        let (byte, taken) = match line.get(at..).unwrap_or_default() {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', ..] => return closing_quote(line, at),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) * 16 + hex(*low), 4)
            }
            [b'\\', escaped, ..] => (unescape(*escaped), 2),
            [byte, ..] => (*byte, 1),
        };
        out.push(byte);
        at += taken;
    }
}

fn single_quoted(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        let (byte, taken) = match line.get(at..).unwrap_or_default() {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', ..] => return closing_quote(line, at),
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, ..] => (*byte, 1),
        };
        out.push(byte);
        at += taken;
    }
}

/// A closing quote must be followed by a space or by nothing.
fn closing_quote(line: &[u8], at: usize) -> Result<usize, ProtocolError> {
    match line.get(at + 1) {
        Some(next) if !is_space(*next) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(at + 1),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut inline = Inline::default();
        let mut args = Vec::new();
        inline.parse(line, &mut args)?;
        Ok(args
            .iter()
            .map(|arg| inline.frame()[arg.start..arg.end].to_vec())
            .collect())
    }

    fn words(line: &[u8]) -> Vec<Vec<u8>> {
        split(line).expect("a line with balanced quotes")
    }

    #[test]
    fn words_are_separated_by_any_run_of_spaces() {
        assert_eq!(words(b"  SET\tkey \x0b value\r "), [&b"SET"[..], b"key", b"value"]);
        assert_eq!(words(b"a\x0bb"), [&b"a\x0bb"[..]]);
        assert!(words(b" \t ").is_empty());
    }

    #[test]
    fn quotes_are_undone_as_redis_does() {
        assert_eq!(words(br#""a b" 'c d'"#), [&b"a b"[..], b"c d"]);
        assert_eq!(words(br#"foo"bar baz""#), [&b"foobar baz"[..]]);
        assert_eq!(
            words(br#""\x41\x7a\xFf\xg1\n\r\t\b\a\q\"""#),
            [&b"Az\xffxg1\n\r\t\x08\x07q\""[..]]
        );
        assert_eq!(words(br"'it\'s \n'"), [&br"it's \n"[..]]);
        assert_eq!(words(br#""" ''"#), [&b""[..], b""]);
    }

    #[test]
    fn quotes_that_do_not_close_a_word_are_refused() {
        for line in [
            &br#""a"#[..],
            b"'a",
            br#""a"b"#,
            b"'a'b",
            br#""a\"#,
            br#""a\""#,
            br"'\'",
            br#""a""b""#,
        ] {
            assert_eq!(
                split(line),
                Err(ProtocolError::UnbalancedQuotes),
                "{}",
                line.escape_ascii()
            );
        }
    }
}
