//! Decimal numbers of the wire: counts and lengths in the one spelling that Redis accepts and writes.

/// The number spelled by `text`, when it is spelled canonically: what Redis' `string2ll` accepts.
///
/// No `+`, no leading zero, no space, no `-0`, and it fits 64 bits. Written again it gives the same bytes.
pub(crate) fn canonical(text: &[u8]) -> Option<i64> {
    if text == b"0" {
        return Some(0);
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // Nineteen nines fit 64 unsigned bits, so the sum below cannot overflow.
    if !matches!(digits.first(), Some(b'1'..=b'9')) || digits.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative {
        0_i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// Reads a short canonical length and its CRLF at the start of `bytes`: the number, and how many bytes it took.
///
/// The fast path of both scanners. `None` means "look closer": longer, negative, malformed, or not all here yet.
#[inline]
pub(super) fn short_length(bytes: &[u8]) -> Option<(usize, usize)> {
    // Almost all counts and lengths have one digit or two.
    match *bytes {
        [one @ b'0'..=b'9', b'\r', b'\n', ..] => return Some((usize::from(one - b'0'), 3)),
        [ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', b'\n', ..] => {
            return Some((usize::from(ten - b'0') * 10 + usize::from(one - b'0'), 4));
        }
        _ => {}
    }
    let mut value = 0_usize;
    // Nine digits fit 32 bits.
    for (index, byte) in bytes.iter().enumerate().take(10) {
        match byte {
            b'0'..=b'9' => value = value.wrapping_mul(10).wrapping_add(usize::from(byte - b'0')),
            b'\r' => {
                let zero_leads = index > 1 && bytes.first() == Some(&b'0');
                let ends = bytes.get(index + 1) == Some(&b'\n');
                return (index > 0 && !zero_leads && ends).then_some((value, index + 2));
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_of_a_number_is_canonical() {
        for refused in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "00",
            " 1",
            "1 ",
            "1a",
            "--1",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(canonical(refused.as_bytes()), None, "{refused}");
        }
        for accepted in [0, 1, -1, 10, 1_048_576, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(canonical(accepted.to_string().as_bytes()), Some(accepted));
        }
    }

    #[test]
    fn short_lengths_agree_with_the_slow_way() {
        for accepted in [0_usize, 1, 9, 10, 12345, 999_999_999] {
            let text = format!("{accepted}\r\nrest");
            assert_eq!(short_length(text.as_bytes()), Some((accepted, text.len() - 4)));
        }
        for refused in [
            "\r\n",
            "01\r\n",
            "00\r\n",
            "1\r",
            "1",
            "1\n",
            "1\rx",
            "-1\r\n",
            "+1\r\n",
            "1234567890\r\n",
            "",
        ] {
            assert_eq!(short_length(refused.as_bytes()), None, "{refused:?}");
        }
    }
}
