//! Asking one sentinel, and listening to it: two connections, because one that is subscribed takes no questions.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Discovery;
use super::group::{Answer, Event, Replica};
use super::node::address;
use crate::config::Address;
use crate::resp::Value;
use crate::upstream::{Control, Link, Loss, jittered_pause};

/// How often a sentinel is asked that announces nothing. Chosen, not measured: half of the second in which a change must
/// be seen.
const EVERY: Duration = Duration::from_millis(500);
/// How long a sentinel that refused is not asked again.
const REFUSED: Duration = Duration::from_secs(1);
/// An announcement is a line; a larger one is none.
const LARGEST: usize = 64 << 10;

/// What came of asking a sentinel.
#[derive(Debug)]
pub(super) enum Said {
    /// It answered.
    Answer {
        /// Who the primary is, and who follows it.
        answer: Answer,
        /// The other sentinels it knows to be there, with their ids.
        others: Vec<(Address, Option<String>)>,
    },
    /// It announced something about the group.
    Event(Event),
    /// It cannot be asked.
    Lost(Loss),
}

/// Asks one sentinel.
pub(super) struct Asker {
    pub(super) discovery: Arc<Discovery>,
    pub(super) sentinel: Address,
    /// What it calls the primary and its replicas.
    pub(super) group: String,
    /// Whether to go on once it was lost.
    pub(super) persists: bool,
    pub(super) said: mpsc::Sender<(Address, Said)>,
}

impl Asker {
    /// Asks and listens: for ever, or until the sentinel is lost.
    pub(super) async fn run(self) {
        loop {
            let Err(loss) = self.hear().await;
            let pause = match loss {
                Loss::Refused(_) => REFUSED,
                _ => jittered_pause(),
            };
            self.say(Said::Lost(loss)).await;
            if !self.persists {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn hear(&self) -> Result<Infallible, Loss> {
        let handshake = self
            .discovery
            .handshake(&self.sentinel, &self.discovery.sentinel_identity);
        let mut control = Control::connect(&handshake).await?;
        let mut link = Link::new(Control::connect(&handshake).await?.into_socket(), LARGEST, EVERY);
        // All of them: which announcements there are differs from version to version.
        link.send(&[b"PSUBSCRIBE", b"*"]).await?;
        // What is announced before this counts shows in the first answer.
        match self.within(link.next()).await? {
            Value::Error(text) => return Err(refused(&text)),
            Value::Array(_) => {}
            _ => return Err(Loss::Protocol("PSUBSCRIBE was not confirmed".into())),
        }
        let id = self.within(control.exchange(&[b"SENTINEL", b"MYID"])).await?;
        let id = match id {
            Value::Error(_) => None,
            id => text(Some(&id)),
        };
        loop {
            let said = self.within(self.ask(&mut control, id.as_ref())).await?;
            self.say(said).await;
            if let Ok(event) = tokio::time::timeout(EVERY, self.next(&mut link)).await {
                self.say(Said::Event(event?)).await;
            }
        }
    }

    async fn ask(&self, control: &mut Control, id: Option<&String>) -> Result<Said, Loss> {
        let group = self.group.as_bytes();
        let mut questions: Vec<&[&[u8]]> = Vec::new();
        let primary: &[&[u8]] = &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", group];
        let sentinels: &[&[u8]] = &[b"SENTINEL", b"SENTINELS", group];
        let replicas: &[&[u8]] = &[b"SENTINEL", b"REPLICAS", group];
        let state: &[&[u8]] = &[b"SENTINEL", b"MASTER", group];
        questions.extend([primary, sentinels, state]);
        if self.discovery.find_replicas {
            questions.push(replicas);
        }
        let answers = control.exchange_all(&questions).await?;
        let mut answers = answers.iter();
        let primary = match answers.next() {
            Some(Value::Error(text)) => return Err(refused(text)),
            Some(Value::Array(parts)) => match parts.as_slice() {
                [host, port] => address(host, port),
                _ => None,
            },
            _ => None,
        };
        fn rows(answer: Option<&Value>) -> std::slice::Iter<'_, Value> {
            answer.and_then(Value::as_values).unwrap_or_default().iter()
        }
        let others = rows(answers.next()).filter_map(other).collect();
        let state = answers.next();
        let replicas = rows(answers.next())
            .filter_map(|row| replica(row, primary.as_ref()))
            .collect();
        let answer = Answer {
            id: id.cloned(),
            primary,
            replicas,
            fails_over: state.is_some_and(fails_over),
            epoch: state.and_then(epoch).unwrap_or_default(),
        };
        Ok(Said::Answer { answer, others })
    }

    /// The next announcement about the group. Safe to cancel.
    async fn next(&self, link: &mut Link) -> Result<Event, Loss> {
        loop {
            let frame = link.next().await?;
            if let Some(event) = event(&frame, &self.group) {
                return Ok(event);
            }
        }
    }

    async fn within<T>(&self, asking: impl Future<Output = Result<T, Loss>>) -> Result<T, Loss> {
        let patience = self.discovery.timeout;
        let answer = tokio::time::timeout(patience, asking).await;
        answer.map_err(|_| Loss::Timeout(patience))?
    }

    async fn say(&self, said: Said) {
        // Nobody listens only when this task is about to be ended.
        drop(self.said.send((self.sentinel.clone(), said)).await);
    }
}

fn refused(text: &[u8]) -> Loss {
    Loss::Refused(String::from_utf8_lossy(text).into_owned())
}

/// What a frame announces about `group`, as in `pmessage * +switch-master "mymaster 10.0.0.1 6379 10.0.0.2 6379"` or
/// `pmessage * +sdown "slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.1 6379"`.
fn event(frame: &Value, group: &str) -> Option<Event> {
    let [kind, _, channel, message] = frame.as_values()? else {
        return None;
    };
    if kind.as_bytes() != Some(b"pmessage") {
        return None;
    }
    let (channel, message) = (text(Some(channel))?, text(Some(message))?);
    let words: Vec<&str> = message.split(' ').collect();
    if channel == "+switch-master" {
        let [name, _, _, host, port] = words.as_slice() else {
            return None;
        };
        let port = port.parse().ok()?;
        let host = (*host).to_owned();
        return (*name == group).then_some(Event::Switched(Address::Tcp { host, port }));
    }
    let about = match words.as_slice() {
        ["master", name, ..] => *name,
        [_, _, _, _, "@", name, ..] => *name,
        _ => return None,
    };
    if about != group {
        return None;
    }
    Some(match channel.as_str() {
        "+failover-state-send-slaveof-noone" => Event::Promoting,
        aborted if aborted.starts_with("-failover-abort") => Event::Aborted,
        _ => Event::Other,
    })
}

/// A sentinel that another one knows; `None` if it holds it for gone.
fn other(row: &Value) -> Option<(Address, Option<String>)> {
    let address = address(row.get(b"ip")?, row.get(b"port")?)?;
    is_well(row).then(|| (address, text(row.get(b"runid"))))
}

/// A replica that a sentinel knows; `None` if it holds it for gone.
fn replica(row: &Value, primary: Option<&Address>) -> Option<Replica> {
    let field = |name: &[u8]| text(row.get(name)).unwrap_or_default();
    let address = address(row.get(b"ip")?, row.get(b"port")?)?;
    // What Sentinel wrote down for it and what it says may differ for a while after a failover.
    let says_so = field(b"role-reported") == "slave";
    let follows = followed(row).is_some_and(|followed| primary.is_some_and(|primary| may_be(&followed, primary)));
    let hears = field(b"master-link-status") == "ok";
    is_well(row).then_some(Replica {
        address,
        was_connected: says_so && follows && hears,
    })
}

/// Whether a sentinel is replacing the primary that it describes.
fn fails_over(row: &Value) -> bool {
    let flags = text(row.get(b"flags")).unwrap_or_default();
    flags.split(',').any(|flag| flag == "failover_in_progress")
}

/// By which failover, of those that sentinels count, the primary came to be.
fn epoch(row: &Value) -> Option<u64> {
    text(row.get(b"config-epoch"))?.parse().ok()
}

/// Whom a replica follows.
fn followed(row: &Value) -> Option<Address> {
    address(row.get(b"master-host")?, row.get(b"master-port")?)
}

/// Whether two addresses may be one: a name and a number may, which differ from sentinel to node by their settings.
fn may_be(one: &Address, other: &Address) -> bool {
    let (
        Address::Tcp { host, port },
        Address::Tcp {
            host: others,
            port: another,
        },
    ) = (one, other)
    else {
        return one == other;
    };
    let is_number = |host: &str| host.parse::<IpAddr>().is_ok();
    port == another && (host == others || is_number(host) != is_number(others))
}

fn is_well(row: &Value) -> bool {
    let flags = text(row.get(b"flags")).unwrap_or_default();
    !flags
        .split(',')
        .any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected"))
}

fn text(value: Option<&Value>) -> Option<String> {
    String::from_utf8(value?.as_bytes()?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address::Tcp {
            host: "10.0.0.1".to_owned(),
            port,
        }
    }

    fn heard(channel: &str, message: &str) -> Option<Event> {
        let words = ["pmessage", "*", channel, message];
        let frame = Value::Array(words.map(|word| Value::bulk(word.to_owned())).into());
        event(&frame, "mymaster")
    }

    fn row(fields: &[(&str, &str)]) -> Value {
        let flat = fields.iter().flat_map(|(name, value)| [*name, *value]);
        Value::Array(flat.map(|word| Value::bulk(word.to_owned())).collect())
    }

    #[test]
    fn announcements_about_the_group_are_told_apart() {
        let replica = "slave 10.0.0.1:2 10.0.0.1 2 @ mymaster 10.0.0.1 1";
        let master = "master mymaster 10.0.0.1 1";
        assert_eq!(
            heard("+switch-master", "mymaster 10.0.0.1 1 10.0.0.1 2"),
            Some(Event::Switched(at(2)))
        );
        assert_eq!(
            heard("+failover-state-send-slaveof-noone", replica),
            Some(Event::Promoting)
        );
        for channel in ["-failover-abort-no-good-slave", "-failover-abort-slave-timeout"] {
            assert_eq!(heard(channel, master), Some(Event::Aborted));
        }
        for (channel, message) in [
            ("+sdown", master),
            ("+sdown", replica),
            ("+convert-to-slave", replica),
            ("+failover-end", master),
            ("+odown", "master mymaster 10.0.0.1 1 #quorum 2/2"),
        ] {
            assert_eq!(heard(channel, message), Some(Event::Other), "{channel} {message}");
        }
    }

    #[test]
    fn announcements_about_others_are_none() {
        for (channel, message) in [
            ("+switch-master", "other 10.0.0.1 1 10.0.0.1 2"),
            ("+switch-master", "mymaster 10.0.0.1 1"),
            ("+switch-master", "mymaster 10.0.0.1 1 10.0.0.1 x"),
            ("+sdown", "master other 10.0.0.1 1"),
            ("+sdown", "slave 10.0.0.1:2 10.0.0.1 2 @ other 10.0.0.1 1"),
            ("+tilt", "#tilt mode entered"),
            ("+new-epoch", "7"),
        ] {
            assert_eq!(heard(channel, message), None, "{channel} {message}");
        }
        let confirmed = [Value::bulk("psubscribe"), Value::bulk("*"), Value::Integer(1)];
        assert_eq!(event(&Value::Array(confirmed.into()), "mymaster"), None);
    }

    #[test]
    fn replicas_that_are_gone_are_left_out_and_others_may_not_be_connected() {
        let well = [
            ("ip", "10.0.0.1"),
            ("port", "2"),
            ("flags", "slave"),
            ("role-reported", "slave"),
            ("master-link-status", "ok"),
            ("master-host", "10.0.0.1"),
            ("master-port", "1"),
        ];
        let was_connected = |fields: &[(&str, &str)], primary: u16| {
            let known = replica(&row(fields), Some(&at(primary)))?;
            assert_eq!(known.address, at(2));
            Some(known.was_connected)
        };
        assert_eq!(was_connected(&well, 1), Some(true));
        assert_eq!(was_connected(&well, 3), Some(false), "it follows another one");
        let but = |name: &str, value| well.map(|field| (field.0, if field.0 == name { value } else { field.1 }));
        assert_eq!(
            was_connected(&but("master-host", "db"), 1),
            Some(true),
            "it may be that one's name"
        );
        for (name, value, expected) in [
            ("flags", "s_down,slave", None),
            ("flags", "slave,disconnected", None),
            ("port", "0", None),
            ("role-reported", "master", Some(false)),
            ("master-link-status", "err", Some(false)),
            ("master-host", "10.0.0.2", Some(false)),
            ("master-port", "0", Some(false)),
        ] {
            assert_eq!(was_connected(&but(name, value), 1), expected, "{name} {value}");
        }
    }

    #[test]
    fn a_sentinel_says_that_it_is_about_to_replace_the_primary() {
        let flags = |flags| fails_over(&row(&[("name", "mymaster"), ("flags", flags)]));
        assert_eq!(epoch(&row(&[("flags", "master"), ("config-epoch", "7")])), Some(7));
        assert!(flags("master,failover_in_progress"));
        assert!(!flags("master,s_down"));
        assert!(!fails_over(&Value::Error(
            b"ERR No such master with that name".as_slice().into()
        )));
    }

    #[test]
    fn other_sentinels_come_with_their_ids() {
        let fields = [
            ("ip", "10.0.0.1"),
            ("port", "7"),
            ("runid", "abc"),
            ("flags", "sentinel"),
        ];
        assert_eq!(other(&row(&fields)), Some((at(7), Some("abc".to_owned()))));
        let gone = fields.map(|field| {
            if field.0 == "flags" {
                ("flags", "s_down,sentinel")
            } else {
                field
            }
        });
        assert_eq!(other(&row(&gone)), None);
    }
}
