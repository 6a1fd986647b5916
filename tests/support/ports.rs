//! Free ports that stay free.
//!
//! Asking the system for port 0 gives a port of the ephemeral range, and there any outgoing connection may take it
//! between a server's stop and its restart. These lie below that range (Linux: from 32768), and so does `port + 10000`,
//! which Redis Cluster uses for its bus.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 20_000;
const COUNT: u32 = 2_700;

/// A port that nothing listens on now, and that this process has not handed out lately. Never 6379.
pub fn free_port() -> u16 {
    // Relaxed: only the numbers must differ. Processes start at different places; the probe below does the rest.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + start.wrapping_add(step) % COUNT).expect("the range fits");
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// `127.0.0.1` with a free port.
pub fn free_addr() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
