//! One reply for a RESP2 client: what is whole converts to one whole reply, and what is RESP2 stays as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhit::resp::{ReplyLimits, ReplyScan, ReplyScanner, Shape, to_resp2};

fuzz_target!(|data: &[u8]| {
    for shape in [Shape::Generic, Shape::Pairs, Shape::NilArray, Shape::NilArrayElements] {
        let mut converted = b"before".to_vec();
        let result = to_resp2(shape, data, &mut converted);
        assert!(converted.starts_with(b"before"));
        let resp2 = &converted[6..];
        if is_whole(data) {
            assert_eq!(result, Ok(()));
            assert!(is_whole(resp2));
            let mut again = Vec::new();
            assert_eq!(to_resp2(Shape::Generic, resp2, &mut again), Ok(()));
            assert_eq!(again, resp2);
        } else if result.is_err() {
            assert!(resp2.is_empty());
        }
    }
});

fn is_whole(bytes: &[u8]) -> bool {
    let scanned = ReplyScanner::new(ReplyLimits::default()).scan(bytes);
    scanned == Ok(ReplyScan::Complete { consumed: bytes.len() })
}
