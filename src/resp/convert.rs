//! The RESP2 reply that Redis would have sent, made from the RESP3 reply it did send.

use super::Version;
use super::encode;
use super::fault::ReplyError;
use super::reply_scan::ReplyLimits;
use super::shape::Shape;
use super::walk::{Item, Token, Walk};
use crate::mutants::{Mutant, mutated};

/// Appends `resp3`, one whole reply, to `out` as a RESP2 client expects it.
///
/// Maps and sets become arrays, doubles, big numbers and verbatim strings become bulk strings of the same text (the
/// format of a verbatim string is dropped), booleans become integers, `_` becomes `$-1`, attributes are dropped;
/// `shape` says what is special about the command. What RESP2 has too stays as it is, byte for byte.
///
/// # Errors
///
/// When `resp3` is not one whole reply; `out` is then as it was.
pub fn to_resp2(shape: Shape, resp3: &[u8], out: &mut Vec<u8>) -> Result<(), ReplyError> {
    if shape == Shape::Same {
        out.extend_from_slice(resp3);
        return Ok(());
    }
    let start = out.len();
    let written = match write(shape, resp3, out) {
        // Not the array of pairs that it should be: an error, or a reply without scores.
        Ok(false) => {
            out.truncate(start);
            write(Shape::Generic, resp3, out)
        }
        written => written,
    };
    if written.is_err() {
        out.truncate(start);
    }
    written.map(|_| ())
}

/// Writes the reply; false when it has not the shape that was said.
fn write(shape: Shape, resp3: &[u8], out: &mut Vec<u8>) -> Result<bool, ReplyError> {
    let mut walk = Walk::new(resp3, ReplyLimits::default().max_depth);
    while let Some(item) = walk.next()? {
        let fits = match shape {
            Shape::Pairs if !mutated(Mutant::PairsNested) => write_of_pairs(&item, out)?,
            Shape::NilArray if !mutated(Mutant::NilKind) => write_nil_at(0, &item, out)?,
            Shape::NilArrayElements if !mutated(Mutant::NilKind) => write_nil_at(1, &item, out)?,
            Shape::Pairs | Shape::NilArray | Shape::NilArrayElements | Shape::Same | Shape::Generic => {
                write_generic(&item, out)?
            }
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `*N` of `*2 member score`: the outer header counts double, the inner ones go.
fn write_of_pairs(item: &Item<'_>, out: &mut Vec<u8>) -> Result<bool, ReplyError> {
    match (item.depth, item.token) {
        (0, Token::Aggregate { kind: b'*', values }) => {
            header(out, values.checked_mul(2).ok_or(ReplyError::Length)?)?;
            Ok(true)
        }
        (1, Token::Aggregate { kind: b'*', values: 2 }) => Ok(true),
        (0 | 1, _) => Ok(false),
        _ => write_generic(item, out),
    }
}

/// The generic rules, but a null at `depth` is a null array.
fn write_nil_at(depth: usize, item: &Item<'_>, out: &mut Vec<u8>) -> Result<bool, ReplyError> {
    if item.depth == depth && matches!(item.token, Token::Line { kind: b'_', .. }) {
        encode::null_array(out, Version::V2);
        return Ok(true);
    }
    write_generic(item, out)
}

fn write_generic(item: &Item<'_>, out: &mut Vec<u8>) -> Result<bool, ReplyError> {
    match item.token {
        Token::Line { kind: b'_', .. } => encode::null(out, Version::V2),
        Token::Line { kind: b'#', text } => encode::boolean(out, Version::V2, text == b"t"),
        Token::Line {
            kind: b',' | b'(',
            text,
        } => encode::bulk(out, text),
        Token::Bulk { kind: b'=', bytes } => encode::bulk(out, bytes.get(4..).ok_or(ReplyError::Length)?),
        Token::Bulk { kind: b'!', bytes } => encode::error(out, bytes),
        Token::Aggregate {
            kind: b'%' | b'~' | b'>',
            values,
        } => header(out, values)?,
        Token::Line { .. } | Token::Bulk { .. } | Token::Null { .. } | Token::Aggregate { .. } => {
            out.extend_from_slice(item.raw);
        }
    }
    Ok(true)
}

fn header(out: &mut Vec<u8>, values: u64) -> Result<(), ReplyError> {
    encode::array_header(out, usize::try_from(values).map_err(|_| ReplyError::Length)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(shape: Shape, resp3: &str) -> String {
        let mut out = Vec::new();
        to_resp2(shape, resp3.as_bytes(), &mut out).expect("a whole reply");
        String::from_utf8(out).expect("tests write text")
    }

    #[test]
    fn types_that_resp2_lacks_become_those_it_has() {
        for (resp3, resp2) in [
            (
                "%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n_\r\n#t\r\n",
                "*4\r\n+a\r\n:1\r\n+b\r\n*2\r\n$-1\r\n:1\r\n",
            ),
            ("~1\r\n#f\r\n", "*1\r\n:0\r\n"),
            (">1\r\n+x\r\n", "*1\r\n+x\r\n"),
            (",-1.50\r\n", "$5\r\n-1.50\r\n"),
            (",inf\r\n", "$3\r\ninf\r\n"),
            ("(123\r\n", "$3\r\n123\r\n"),
            ("=6\r\ntxt:hi\r\n", "$2\r\nhi\r\n"),
            ("!7\r\nERR a\r\n\r\n", "-ERR a  \r\n"),
            (
                "|1\r\n+ttl\r\n%1\r\n+a\r\n_\r\n*1\r\n|1\r\n+x\r\n_\r\n_\r\n",
                "*1\r\n$-1\r\n",
            ),
        ] {
            assert_eq!(converted(Shape::Generic, resp3), resp2);
        }
    }

    #[test]
    fn what_resp2_has_stays_as_it_is() {
        for reply in [
            "+OK\r\n",
            "-ERR x\r\n",
            ":+05\r\n",
            "$2\r\n\r\n\r\n",
            "*2\r\n*0\r\n$0\r\n\r\n",
            "$-1\r\n",
            "*-1\r\n",
        ] {
            for shape in [
                Shape::Generic,
                Shape::Pairs,
                Shape::NilArray,
                Shape::NilArrayElements,
                Shape::Same,
            ] {
                assert_eq!(converted(shape, reply), reply, "{shape:?}");
            }
        }
    }

    #[test]
    fn pairs_become_flat() {
        let flat = converted(Shape::Pairs, "*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n");
        assert_eq!(flat, "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\n2.5\r\n");
    }

    #[test]
    fn what_is_not_all_pairs_follows_the_generic_rules() {
        let reply = "*2\r\n*2\r\n$1\r\na\r\n,1\r\n*1\r\n,2\r\n";
        assert_eq!(
            converted(Shape::Pairs, reply),
            "*2\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n*1\r\n$1\r\n2\r\n"
        );
    }

    #[test]
    fn a_missing_array_is_a_null_array() {
        assert_eq!(converted(Shape::NilArray, "_\r\n"), "*-1\r\n");
        assert_eq!(converted(Shape::NilArray, "*1\r\n_\r\n"), "*1\r\n$-1\r\n");
        assert_eq!(converted(Shape::NilArrayElements, "_\r\n"), "$-1\r\n");
        assert_eq!(
            converted(Shape::NilArrayElements, "*2\r\n_\r\n*1\r\n_\r\n"),
            "*2\r\n*-1\r\n*1\r\n$-1\r\n"
        );
    }

    #[test]
    fn what_is_not_one_whole_reply_leaves_nothing_behind() {
        for (bytes, error) in [
            (&b"*2\r\n_\r\n"[..], ReplyError::Incomplete),
            (b"_\r\n_\r\n", ReplyError::Trailing),
            (b"$1\r\nabc", ReplyError::Terminator),
            (b"=2\r\nab\r\n", ReplyError::Length),
            (b"*1\r\n$?\r\n", ReplyError::Streamed),
            (b"", ReplyError::Incomplete),
        ] {
            let mut out = b"before".to_vec();
            assert_eq!(
                to_resp2(Shape::Generic, bytes, &mut out),
                Err(error),
                "{}",
                bytes.escape_ascii()
            );
            assert_eq!(out, b"before");
        }
        let deep = b"*1\r\n".repeat(1_000_000);
        assert_eq!(
            to_resp2(Shape::Generic, &deep, &mut Vec::new()),
            Err(ReplyError::TooDeep)
        );
    }
}
