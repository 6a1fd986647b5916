//! What a client sends: split into reads in any way it gives the same requests, and each is canonical.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhit::resp::{ProtocolError, RequestLimits, RequestScan, RequestScanner, encode};

fuzz_target!(|data: &[u8]| {
    let Some((seed, bytes)) = data.split_first() else {
        return;
    };
    let whole = requests(bytes, bytes.len());
    assert_eq!(whole, requests(bytes, usize::from(*seed) % 16 + 1));
    for args in &whole.0 {
        let mut frame = Vec::new();
        encode::request(&mut frame, args.iter().map(Vec::as_slice));
        assert_eq!(requests(&frame, frame.len()), (vec![args.clone()], None));
    }
});

type Requests = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// The arguments of all requests in `bytes`, which arrive `step` bytes at a time, and the error that ends them.
fn requests(bytes: &[u8], step: usize) -> Requests {
    let mut scanner = RequestScanner::new(RequestLimits::default());
    let (mut found, mut start, mut end) = (Vec::new(), 0, 0);
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        loop {
            let buffer = &bytes[start..end];
            match scanner.scan(buffer) {
                Ok(RequestScan::Incomplete) => break,
                Ok(RequestScan::Skip { consumed }) => start += consumed,
                Ok(RequestScan::Complete { consumed }) => {
                    let request = scanner.request(buffer);
                    let args: Vec<_> = request.args_from(0).map(<[u8]>::to_vec).collect();
                    let mut frame = Vec::new();
                    encode::request(&mut frame, args.iter().map(Vec::as_slice));
                    assert_eq!(request.frame(), frame);
                    found.push(args);
                    start += consumed;
                }
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}
