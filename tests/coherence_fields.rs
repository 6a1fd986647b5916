//! Fields of hashes that expire on their own. The installed server has none, so one is played.

mod coherence_support;
mod failure_support;
mod support;

use coherence_support::{bytes, front_at};
use failure_support::{Answer, Fake, Then};
use nearhit::time::{self, Instant};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use support::{Nearhit, wait_for};

/// How long the field `f` of the hash `h` lives after it was first read.
const LIFE: Duration = Duration::from_millis(400);

/// `COMMAND` of a server that knows HPEXPIRE.
const COMMAND: &str = "*1\r\n*6\r\n$8\r\nhpexpire\r\n:-6\r\n*2\r\n+write\r\n+fast\r\n:1\r\n:1\r\n:1\r\n";

/// A server with one hash, `h`, whose field `f` expires, and what it was asked.
struct Played {
    fake: Fake,
    end: Arc<Mutex<Option<Instant>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Played {
    fn start() -> Self {
        let (end, asked) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(Vec::new())));
        let (its_end, noted) = (Arc::clone(&end), Arc::clone(&asked));
        let fake = Fake::saying(move |request| {
            noted.lock().push(request.to_owned());
            let now = time::now();
            let end = *its_end.lock().get_or_insert_with(|| now.after(LIFE));
            answer(request, end.since(now)).map(|bytes| -> Answer { (bytes.into_bytes(), Then::GoOn) })
        });
        Self { fake, end, asked }
    }

    /// A nearhit that knows what the server knows.
    fn front(&self) -> Nearhit {
        let nearhit = front_at(&self.fake.url(), "tracking", &["--cache.admission", "always"]);
        wait_for("what the server knows", support::SOON, || {
            nearhit.stderr().contains("the server is known")
        });
        // Before the first look at users' rights nothing is kept for longer than a second.
        wait_for("a second look", support::SOON, || self.count("INFO COMMANDSTATS") > 1);
        *self.end.lock() = None;
        nearhit
    }

    fn count(&self, request: &str) -> usize {
        self.asked.lock().iter().filter(|asked| *asked == request).count()
    }
}

fn answer(request: &str, left: Duration) -> Option<String> {
    let is_there = left > Duration::ZERO;
    Some(match (request, is_there) {
        ("COMMAND", _) => COMMAND.into(),
        ("HGET H F", true) => "$1\r\nv\r\n".into(),
        ("HGET H F", false) => "_\r\n".into(),
        ("HGET H G", _) => "$1\r\nw\r\n".into(),
        ("HGETALL H", _) => "%1\r\n$1\r\ng\r\n$1\r\nw\r\n".into(),
        ("HPTTL H FIELDS 1 F", true) => format!("*1\r\n:{}\r\n", left.as_millis()),
        ("HPTTL H FIELDS 1 F", false) => "*1\r\n:-2\r\n".into(),
        ("HPTTL H FIELDS 1 G", _) => "*1\r\n:-1\r\n".into(),
        _ => return None,
    })
}

#[test]
fn a_field_is_answered_from_memory_until_it_expires_and_not_after() {
    let server = Played::start();
    let nearhit = server.front();
    let mut client = nearhit.connect();
    let mut reads = 0;
    loop {
        let asked_at = time::now();
        let reply = bytes(&mut client, "HGET h f");
        if reply == b"$-1\r\n" {
            break;
        }
        reads += 1;
        let end = server.end.lock().expect("the field was read");
        assert!(asked_at <= end.after(Duration::from_millis(2)), "served after its end");
    }
    let asked = server.count("HGET H F");
    assert!(reads > asked, "{reads} reads, and the server was asked {asked} times");
}

#[test]
fn a_field_that_does_not_expire_outlives_the_bound_of_whole_hashes() {
    let server = Played::start();
    let nearhit = server.front();
    let mut client = nearhit.connect();
    let until = time::now().after(Duration::from_millis(1500));
    while time::now() < until {
        assert_eq!(bytes(&mut client, "HGET h g"), b"$1\r\nw\r\n");
        assert_eq!(bytes(&mut client, "HGETALL h"), b"*2\r\n$1\r\ng\r\n$1\r\nw\r\n");
    }
    // Fetched anew whenever its second was over; a busy machine may have lost a lease as well.
    let (field, whole) = (server.count("HGET H G"), server.count("HGETALL H"));
    assert!(field < whole, "{field} reads of the field, {whole} of the hash");
}
