//! Subscriptions that begin and end while messages come: nobody misses one, and nobody hears one it should not.

mod session_support;
mod support;

use session_support::{Dice, line_bytes};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::resp::decode;
use support::{Nearhit, RedisServer, Reply, Resp};

const CHANNELS: usize = 3;
const SUBSCRIBERS: u64 = 12;
const ROUNDS: usize = 150;

/// How many messages were begun and finished on one channel; each carries its number.
#[derive(Default)]
struct Stream {
    begun: AtomicU64,
    finished: AtomicU64,
}

/// What one subscriber knows of one channel.
#[derive(Default, Clone)]
struct Known {
    /// Every later message must come.
    since: Option<u64>,
    last: Option<u64>,
}

struct Subscriber<'s> {
    client: Resp,
    streams: &'s [Stream; CHANNELS],
    known: Vec<Known>,
    dice: Dice,
}

impl Subscriber<'_> {
    /// Reads a frame; gives the confirmation's channel, if it is one.
    fn next(&mut self) -> Option<usize> {
        let frame = decode(&self.client.read_frame_bytes()).items();
        let at = usize::from(frame[1].text().as_bytes()[0] - b'a');
        if frame[0] != "message" {
            return Some(at);
        }
        let number: u64 = frame[2].text().parse().expect("a number");
        let known = &mut self.known[at];
        let since = known.since.expect("no message without a subscription");
        match known.last {
            Some(last) => assert_eq!(number, last + 1, "none is missing, none comes twice"),
            None => assert!(
                number <= since + 1,
                "{number} came, but what came after {since} did not"
            ),
        }
        known.last = Some(number);
        None
    }

    fn subscribe(&mut self, at: usize) {
        // What comes before the confirmation would be of nobody's subscription.
        self.client.send_raw(line_bytes(&format!("SUBSCRIBE {}", name(at))));
        while self.next() != Some(at) {}
        let begun = self.streams[at].begun.load(Ordering::SeqCst);
        self.known[at] = Known {
            since: Some(begun),
            last: None,
        };
    }

    fn unsubscribe(&mut self, at: usize) {
        let finished = self.streams[at].finished.load(Ordering::SeqCst);
        self.client.send_raw(line_bytes(&format!("UNSUBSCRIBE {}", name(at))));
        while self.next() != Some(at) {}
        let known = std::mem::take(&mut self.known[at]);
        let since = known.since.expect("it was subscribed");
        let last = known.last.unwrap_or(since);
        assert!(
            last >= finished || finished <= since,
            "{finished} was published, the last to come was {last}"
        );
    }

    fn run(mut self) {
        for _ in 0..ROUNDS {
            let at = self.dice.below(CHANNELS);
            match self.known[at].since {
                None => self.subscribe(at),
                Some(_) if self.dice.below(3) == 0 => drop(self.next()),
                Some(_) => self.unsubscribe(at),
            }
        }
        for at in 0..CHANNELS {
            if self.known[at].since.is_some() {
                self.unsubscribe(at);
            }
        }
    }
}

fn name(at: usize) -> String {
    ["a", "b", "c"][at].to_owned()
}

/// Publishes numbers until it is told to stop.
fn publish(mut client: Resp, at: usize, stream: &Stream, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        stream.begun.store(number, Ordering::SeqCst);
        assert!(matches!(
            client.cmd(&["PUBLISH", &name(at), &number.to_string()]),
            Reply::Int(_)
        ));
        stream.finished.store(number, Ordering::SeqCst);
    }
}

#[test]
fn nobody_misses_a_message_or_hears_one_too_many() {
    let redis = RedisServer::start();
    for threads in ["1", "2"] {
        let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", threads]);
        let (streams, stop) = (<[Stream; CHANNELS]>::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for (at, stream) in streams.iter().enumerate() {
                let client = if at == 0 { nearhit.connect() } else { redis.client() };
                let stop = &stop;
                scope.spawn(move || publish(client, at, stream, stop));
            }
            let subscribers: Vec<_> = (0..SUBSCRIBERS)
                .map(|seed| Subscriber {
                    client: if seed % 2 == 0 {
                        nearhit.connect()
                    } else {
                        nearhit.connect3()
                    },
                    streams: &streams,
                    known: vec![Known::default(); CHANNELS],
                    dice: Dice(seed),
                })
                .map(|subscriber| scope.spawn(|| subscriber.run()))
                .collect();
            let failed = subscribers.into_iter().filter_map(|thread| thread.join().err()).count();
            stop.store(true, Ordering::SeqCst);
            assert_eq!(failed, 0, "subscribers that saw something wrong");
        });
        for at in 0..CHANNELS {
            assert_eq!(redis.cmd(&["PUBLISH", &name(at), "x"]), 0, "everybody has left");
        }
        assert_eq!(nearhit.metric("nearhit_panics_total", &[]), 0.0);
    }
}

#[test]
fn clients_that_vanish_take_nothing_from_those_who_stay() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "1"]);
    let (mut steady, mut publisher) = (nearhit.connect(), redis.client());
    steady.line("SUBSCRIBE a");
    let mut dice = Dice(7);
    for number in 0..300 {
        // Gone with its request on its way, with its confirmation unread, or while it is subscribed.
        let mut passing = nearhit.connect();
        passing.send_raw(line_bytes("SUBSCRIBE a b"));
        if dice.below(2) == 0 {
            passing.read_frame_bytes();
            let parting = *dice.pick(&["UNSUBSCRIBE a", "UNSUBSCRIBE", "RESET", "QUIT"]);
            passing.send_raw(line_bytes(parting));
        }
        drop(passing);
        publisher.line(&format!("PUBLISH a {number}"));
        assert_eq!(decode(&steady.read_frame_bytes()).items()[2], number.to_string());
    }
    support::wait_for("the server to have one subscriber", support::SOON, || {
        redis.cmd(&["PUBSUB", "NUMSUB", "a", "b"]).items()[1..]
            == [Reply::Int(1), Reply::Bulk(b"b".to_vec()), Reply::Int(0)]
    });
}
