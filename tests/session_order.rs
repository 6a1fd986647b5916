//! Program order: what a session has sent takes effect before what it sends next, whatever is cached.

mod session_support;
mod support;

use session_support::{caching, line_bytes};
use support::RedisServer;

#[test]
fn a_read_pipelined_behind_a_flush_does_not_overtake_it() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut client = nearhit.connect();
    client.line("SET warm up");
    for flush in ["FLUSHDB", "FLUSHALL", "SWAPDB 0 5"] {
        for round in 0..200 {
            let key = format!("{}{round}", &flush[..5]);
            client.line(&format!("SET {key} old"));
            // The flush was on its way on the home connection while the read was fetched over the tracked one.
            client.send_raw([line_bytes(flush), line_bytes(&format!("GET {key}"))].concat());
            assert_eq!(client.reply(), "OK");
            assert!(
                client.reply().is_nil(),
                "{flush}: its own effect is seen, round {round}"
            );
        }
    }
}
