//! What is sent again when its connection is lost, and what never is.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use support::{Nearhit, RedisServer, SOON, wait_for};

/// A way to a server that can lose requests and connections.
struct Way {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// So many of the next requests' reads are swallowed, and their connections closed.
    lose: AtomicU32,
    /// So many of the next connections are closed at once.
    refuse: AtomicU32,
    /// Nothing the server says is passed on.
    mute: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

fn take(count: &AtomicU32) -> bool {
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok()
}

impl Way {
    fn to(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let (state, addr) = (Arc::new(State::default()), server.addr());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for asking in listener.incoming().map_while(Result::ok) {
                if take(&shared.refuse) {
                    continue;
                }
                let Ok(answering) = TcpStream::connect(addr) else {
                    continue;
                };
                let clone = |stream: &TcpStream| stream.try_clone().expect("clone a socket");
                shared.open.lock().push(clone(&asking));
                let (from, to) = (clone(&answering), clone(&asking));
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.answer(from, to));
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.pass_on(asking, answering));
            }
        });
        Self { port, state }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Closes all connections there are now.
    fn cut(&self) {
        for stream in self.state.open.lock().drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn answer(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !self.mute.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _gone = to.shutdown(Shutdown::Both);
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..count];
            let marked = bytes.windows(6).any(|window| window == b"marked");
            if marked && take(&self.lose) {
                break;
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

fn serve(way: &Way) -> Nearhit {
    Nearhit::serve_with(&way.url(), &["--cache.mode", "off", "--server.threads", "1"])
}

fn retries(proxy: &Nearhit, reason: &str) -> f64 {
    proxy.metric("nearhit_retries_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn a_read_is_sent_again_twice_and_then_the_client_is_told() {
    let server = RedisServer::start();
    let way = Way::to(&server);
    let proxy = serve(&way);
    let mut client = proxy.connect();
    assert_eq!(client.cmd(&["SET", "marked", "v"]), "OK");
    for lost in 1..=2 {
        way.state.lose.store(lost, Ordering::SeqCst);
        assert_eq!(client.cmd(&["GET", "marked"]), "v", "lost {lost} times");
    }
    assert_eq!(retries(&proxy, "read"), 3.0);
    way.state.lose.store(3, Ordering::SeqCst);
    assert!(
        client
            .cmd(&["GET", "marked"])
            .is_error_with("ERR nearhit: upstream connection lost")
    );
    assert_eq!(retries(&proxy, "exhausted"), 1.0);
    wait_for("the next request to be answered", SOON, || {
        client.cmd(&["GET", "marked"]) == "v"
    });
}

#[test]
fn a_write_that_was_sent_is_never_sent_again() {
    let server = RedisServer::start();
    let way = Way::to(&server);
    let proxy = serve(&way);
    let mut client = proxy.connect();
    for command in [
        &["INCR", "marked"][..],
        &["GETEX", "marked", "PERSIST"],
        &["EVAL", "return redis.call('incr', KEYS[1])", "1", "marked"],
        &["SPOP", "marked"],
        &["PUBLISH", "marked", "x"],
    ] {
        way.state.lose.store(1, Ordering::SeqCst);
        let reply = client.cmd(command);
        assert!(reply.is_error_with("UNCERTAIN"), "{command:?}: {reply:?}");
        // A server whose connections end without an answer is tried again a few milliseconds later.
        wait_for("the next request to be answered", SOON, || {
            client.cmd(&["GET", "other"]).is_nil()
        });
    }
    assert!(server.cmd(&["GET", "marked"]).is_nil());
    assert_eq!(retries(&proxy, "unsent"), 0.0);
}

#[test]
fn what_never_left_is_sent_once_there_is_a_connection() {
    let server = RedisServer::start();
    let way = Way::to(&server);
    let proxy = serve(&way);
    let mut client = proxy.connect();
    assert_eq!(client.cmd(&["PING"]), "PONG");
    assert_eq!(client.cmd(&["INCR", "count"]), 1);
    for count in 2..10 {
        way.cut();
        way.state.refuse.store(1, Ordering::SeqCst);
        wait_for("the connection to be noticed as lost", SOON, || {
            proxy.metric("nearhit_upstream_connections", &["pool=\"shared\""]) == 0.0
        });
        let reply = client.cmd(&["INCR", "count"]);
        let counted = ["unsent", "exhausted", "budget"].map(|reason| retries(&proxy, reason));
        assert_eq!(reply, count, "{counted:?}");
    }
    assert!(retries(&proxy, "unsent") >= 1.0);
}

#[test]
fn requests_keep_their_order_when_they_are_sent_again() {
    let server = RedisServer::start();
    let way = Way::to(&server);
    let proxy = serve(&way);
    let mut client = proxy.connect();
    for round in 0..20 {
        client.cmd(&["SET", "marked", &round.to_string()]);
        way.state.lose.store(1, Ordering::SeqCst);
        let next = (round + 1000).to_string();
        // The first read is lost, and not sent again where the write behind it may have been executed.
        let requests = [
            vec!["GET", "marked"],
            vec!["SET", "marked", &next],
            vec!["GET", "marked"],
            vec!["GET", "other"],
        ];
        let replies = client.pipeline(&requests);
        let lost = replies[0].is_error_with("ERR nearhit");
        assert!(lost || replies[0] == round.to_string().as_str(), "{:?}", replies[0]);
        let written = !replies[1].is_error();
        assert!(written || replies[1].is_error_with("UNCERTAIN"), "{:?}", replies[1]);
        let expected = if written { next.clone() } else { round.to_string() };
        // Without a near-cache nobody knows that nothing on its key is behind it, so it is not sent again either.
        let lost = replies[2].is_error_with("ERR nearhit");
        assert!(lost || replies[2] == expected.as_str(), "{:?}", replies[2]);
        assert!(replies[3].is_nil());
    }
}

#[test]
fn a_read_does_not_see_what_its_client_wrote_behind_it() {
    let server = RedisServer::start();
    let way = Way::to(&server);
    let proxy = serve(&way);
    let mut client = proxy.connect();
    for round in 0..50 {
        let (before, after) = (format!("before {round}"), format!("after {round}"));
        client.cmd(&["SET", "k", &before]);
        // The server gets all of it, and its answers are lost.
        way.state.mute.store(true, Ordering::SeqCst);
        let requests = [vec!["GET", "k"], vec!["SET", "k", &after], vec!["GET", "other"]];
        requests.iter().for_each(|request| client.send(request));
        wait_for("the write to be executed", SOON, || {
            server.cmd(&["GET", "k"]) == after.as_str()
        });
        way.cut();
        way.state.mute.store(false, Ordering::SeqCst);
        let read = client.reply();
        assert!(read.is_error_with("ERR nearhit") || read == before.as_str(), "{read:?}");
        assert!(client.reply().is_error_with("UNCERTAIN"));
        let other = client.reply();
        assert!(other.is_nil(), "nothing on its key was sent behind it: {other:?}");
        wait_for("the next connection", SOON, || client.cmd(&["PING"]) == "PONG");
    }
}

#[test]
fn transactions_and_what_is_behind_them_are_not_sent_again() {
    let server = RedisServer::start();
    let way = Way::to(&server);
    let proxy = serve(&way);
    let mut client = proxy.connect();
    client.lines_ok(&["MULTI"]);
    assert_eq!(client.cmd(&["GET", "k"]), "QUEUED");
    way.cut();
    let closed = client.try_reply().is_none_or(|reply| reply.is_error());
    assert!(closed);
    assert_eq!(retries(&proxy, "read"), 0.0);
    let mut client = proxy.connect();
    client.patience(Duration::from_secs(5));
    wait_for("another client to be served", SOON, || {
        client.cmd(&["GET", "k"]).is_nil()
    });
}
