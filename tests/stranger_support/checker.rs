//! Sessions that know every reply they must hear. Each value has its session's number and the request's own in it, so a
//! reply that is somebody else's, or came late, is known for what it is.

use super::scene::{Client, Gone, STUCK, Scene};
use crate::session_support::Dice;
use crate::support::resp::encode;
use std::sync::atomic::Ordering;

/// Requests of one batch, about.
const BATCH: usize = 100;

/// What nearhit says of a server that does not answer in time.
const LATE: &[u8] = b" no answer from ";

/// What a request must be answered with.
enum Expected {
    /// These bytes.
    Exactly(Vec<u8>),
    /// These bytes, but while the server is disturbed anything of the session's own: what was to be written or queued
    /// before it may not have been.
    Own(Vec<u8>),
    /// A value that all sessions read and somebody writes: this one's name is in it.
    Hot(String),
}

/// Requests that are sent at once, and what must be heard.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    expected: Vec<Expected>,
}

impl Batch {
    fn ask(&mut self, words: &[&str], reply: impl Into<Vec<u8>>) {
        self.bytes.extend_from_slice(&encode(words));
        self.expected.push(Expected::Exactly(reply.into()));
    }

    fn ask_own(&mut self, words: &[&str], reply: impl Into<Vec<u8>>) {
        self.bytes.extend_from_slice(&encode(words));
        self.expected.push(Expected::Own(reply.into()));
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn array(items: &[&str]) -> String {
    let items: String = items.iter().map(|item| bulk(item)).collect();
    format!("*{}\r\n{items}", items.matches("\r\n").count() / 2)
}

/// Everything that bears a mark bears one like this.
fn mark(session: usize, number: u64) -> String {
    format!("<{session}.{number}>")
}

/// One session, again and again until it is over.
pub async fn check(scene: &Scene, session: usize) {
    let mut dice = Dice(session as u64);
    let mut number = 0;
    while !scene.is_over() {
        // When the connection was not closed yet, as far as what was heard over it proves: the last reply of a batch may lie
        // there for as long as a fault lasts, and behind it the end.
        let mut open = scene.moment();
        let Ok(mut client) = Client::open(scene.addr).await else {
            scene.accuse(format!("session {session} could not connect"));
            return;
        };
        let version = *dice.pick(&[2, 3]);
        // A session lives for some batches, or until it is cut off.
        for _ in 0..1 + dice.below(30) {
            let moment = scene.moment();
            let batch = batch(session, version, &mut number, &mut dice);
            if let Err(gone) = run(scene, &mut client, &batch, session, moment).await {
                if gone == Gone::Stuck || scene.calm_since(open) {
                    scene.accuse(format!(
                        "session {session}: {gone:?}, with nothing wrong with the upstream, or for {STUCK:?}"
                    ));
                }
                break;
            }
            if scene.is_over() {
                return;
            }
            open = moment;
        }
    }
}

/// Sends a batch and compares what is heard.
async fn run(scene: &Scene, client: &mut Client, batch: &Batch, session: usize, moment: u64) -> Result<(), Gone> {
    client.send(&batch.bytes).await?;
    let (mut checked, mut late) = (0, false);
    for (at, expected) in batch.expected.iter().enumerate() {
        let right = match expected {
            Expected::Exactly(bytes) | Expected::Own(bytes) => client.hears(bytes).await?,
            Expected::Hot(_) => false,
        };
        if right {
            checked += 1;
            continue;
        }
        let frame = client.frame().await?;
        // On a busy machine a time-out needs no fault.
        late |= frame.starts_with(b"-") && frame.windows(LATE.len()).any(|part| part == LATE);
        let calm = !late && scene.calm_since(moment);
        if let Some(what) = wrong(calm, expected, &frame, session) {
            scene.accuse(format!("session {session}, reply {at}: {what}"));
            return Err(Gone::Closed);
        }
        let counter = match expected {
            Expected::Hot(_) if !frame.starts_with(b"-") => &scene.checked,
            _ => &scene.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    scene.checked.fetch_add(checked, Ordering::Relaxed);
    Ok(())
}

/// What is wrong with a reply that is not the expected bytes.
fn wrong(calm: bool, expected: &Expected, frame: &[u8], session: usize) -> Option<String> {
    let shown = String::from_utf8_lossy(frame);
    let own = format!("<{session}.");
    let strange = shown.match_indices('<').any(|(at, _)| !shown[at..].starts_with(&own));
    let nothing = matches!(frame, b"$-1\r\n" | b"_\r\n" | b"*-1\r\n");
    match expected {
        Expected::Hot(name) if !strange && (nothing || shown.contains(name.as_str())) => None,
        Expected::Hot(_) if !calm && frame.starts_with(b"-") => None,
        Expected::Hot(name) => Some(format!("{shown:?} instead of a value of {name}")),
        Expected::Exactly(bytes) | Expected::Own(bytes) => {
            // Without the server there are errors, and what then was not written is not there.
            let harmless = nothing || matches!(expected, Expected::Own(_)) || !shown.contains('<');
            let excused = !calm && !strange && harmless;
            (!excused).then(|| format!("{shown:?} instead of {:?}", String::from_utf8_lossy(bytes)))
        }
    }
}

/// Requests of all kinds; their keys are no other batch's.
fn batch(session: usize, version: u8, number: &mut u64, dice: &mut Dice) -> Batch {
    let mut batch = Batch::default();
    *number += 1;
    let key = format!("k{session}.{number}");
    let none = if version == 3 { "_\r\n" } else { "$-1\r\n" };
    greet(&mut batch, version);
    let mut last = None;
    while batch.expected.len() < BATCH {
        *number += 1;
        let mark = mark(session, *number);
        match dice.below(40) {
            0..8 => batch.ask(&["ECHO", &mark], bulk(&mark)),
            8..14 => {
                batch.ask(&["SET", &key, &mark], "+OK\r\n");
                batch.ask_own(&["GET", &key], bulk(&mark));
                last = Some(mark);
            }
            14..24 => batch.ask_own(&["GET", &key], last.as_deref().map_or(none.to_owned(), bulk)),
            24..30 => {
                let name = format!("hot{}", dice.below(16));
                batch.bytes.extend_from_slice(&encode(&["GET", &name]));
                batch.expected.push(Expected::Hot(name));
            }
            30..32 => batch.ask(&["PING", &mark], bulk(&mark)),
            32 => transaction(&mut batch, &key, &mark, &mut last),
            33 => {
                let script = "return {KEYS[1],ARGV[1]}";
                batch.ask(&["EVAL", script, "1", &key, &mark], array(&[&key, &mark]));
            }
            34 => {
                let list = format!("l{session}.{number}");
                batch.ask(&["RPUSH", &list, &mark], ":1\r\n");
                batch.ask(&["BLPOP", &list, "0.2"], array(&[&list, &mark]));
            }
            35 => {
                let text = format!("-ERR unknown command 'NOSUCH', with args beginning with: '{mark}' \r\n");
                batch.ask(&["NOSUCH", &mark], text);
            }
            36 => batch.ask_own(&["MGET", &key, &key], both(last.as_deref(), none)),
            37 => {
                let hash = format!("h{session}.{number}");
                batch.ask(&["HSET", &hash, "f", &mark], ":1\r\n");
                batch.ask(&["HGET", &hash, "f"], bulk(&mark));
            }
            38 => {
                let large = mark.repeat(1 + dice.below(3000));
                batch.ask(&["ECHO", &large], bulk(&large));
            }
            _ => {
                batch.ask(&["CLIENT", "SETNAME", &mark], "+OK\r\n");
                batch.ask_own(&["CLIENT", "GETNAME"], bulk(&mark));
            }
        }
    }
    batch.ask(&["DEL", &key], if last.is_some() { ":1\r\n" } else { ":0\r\n" });
    batch
}

/// The session's protocol. What HELLO says is of no interest, so it is not heard.
fn greet(batch: &mut Batch, version: u8) {
    batch.ask(&["RESET"], "+RESET\r\n");
    if version == 3 {
        for words in [&["CLIENT", "REPLY", "SKIP"][..], &["HELLO", "3"]] {
            batch.bytes.extend_from_slice(&encode(words));
        }
    }
}

fn both(last: Option<&str>, none: &str) -> String {
    let item = last.map_or(none.to_owned(), bulk);
    format!("*2\r\n{item}{item}")
}

fn transaction(batch: &mut Batch, key: &str, mark: &str, last: &mut Option<String>) {
    batch.ask(&["MULTI"], "+OK\r\n");
    batch.ask_own(&["SET", key, mark], "+QUEUED\r\n");
    batch.ask_own(&["GET", key], "+QUEUED\r\n");
    batch.ask_own(&["ECHO", mark], "+QUEUED\r\n");
    batch.ask_own(&["EXEC"], format!("*3\r\n+OK\r\n{}{}", bulk(mark), bulk(mark)));
    *last = Some(mark.to_owned());
}

/// A subscriber who hears what it publishes itself on another connection, and nothing else.
pub async fn listen(scene: &Scene, session: usize) {
    let channel = format!("channel{session}");
    let mut number = 0;
    while !scene.is_over() {
        let moment = scene.moment();
        if let Err(gone) = converse(scene, session, &channel, &mut number).await
            && (gone == Gone::Stuck || scene.calm_since(moment))
        {
            scene.accuse(format!(
                "subscriber {session}: {gone:?} with nothing wrong with the upstream"
            ));
        }
    }
}

async fn converse(scene: &Scene, session: usize, channel: &str, number: &mut u64) -> Result<(), Gone> {
    let moment = scene.moment();
    let mut subscriber = Client::open(scene.addr).await.map_err(|_| Gone::Closed)?;
    let mut publisher = Client::open(scene.addr).await.map_err(|_| Gone::Closed)?;
    subscriber.send(&encode(&["SUBSCRIBE", channel])).await?;
    let confirmed = format!("*3\r\n{}{}:1\r\n", bulk("subscribe"), bulk(channel));
    hear(scene, &mut subscriber, confirmed.as_bytes(), session, moment).await?;
    for _ in 0..20 {
        *number += 1;
        let mark = mark(session, *number);
        publisher.send(&encode(&["PUBLISH", channel, &mark])).await?;
        hear(scene, &mut publisher, b":1\r\n", session, moment).await?;
        let message = array(&["message", channel, &mark]);
        hear(scene, &mut subscriber, message.as_bytes(), session, moment).await?;
        scene.checked.fetch_add(2, Ordering::Relaxed);
    }
    Ok(())
}

/// Hears what is expected. Only a fault explains something else (a message that was published when its publisher had been
/// told that there is no answer), and no fault explains what is another session's.
async fn hear(scene: &Scene, client: &mut Client, expected: &[u8], session: usize, moment: u64) -> Result<(), Gone> {
    if client.hears(expected).await? {
        return Ok(());
    }
    let expected = Expected::Own(expected.to_vec());
    if let Some(what) = wrong(scene.calm_since(moment), &expected, &client.frame().await?, session) {
        scene.accuse(format!("subscriber {session}: {what}"));
    }
    Err(Gone::Closed)
}
