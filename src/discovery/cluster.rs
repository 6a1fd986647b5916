//! A Redis Cluster: its nodes say which of them has which slots. (Stand-in.)

use std::sync::Arc;

use super::{Discovery, Publisher};
use crate::config::Address;
use crate::resp::Value;
use crate::topology::{Shard, Shards, Topology};
use crate::upstream::Control;

/// Watches the cluster that `seeds` belong to; see [`Discovery::watch`].
pub(super) async fn watch(discovery: Arc<Discovery>, seeds: Vec<Address>, publisher: Publisher) {
    loop {
        for seed in &seeds {
            let handshake = discovery.handshake(seed, &discovery.identity);
            let Ok(mut control) = Control::connect(&handshake).await else {
                continue;
            };
            let Ok(reply) = control.exchange(&[b"CLUSTER", b"SLOTS"]).await else {
                continue;
            };
            let mut shards: Vec<Shard> = Vec::new();
            for range in reply.as_values().unwrap_or_default() {
                let range = range.as_values().unwrap_or_default();
                let int = |v: &Value| match v {
                    Value::Integer(n) => u16::try_from(*n).unwrap_or(0),
                    _ => 0,
                };
                let at = |v: &Value| {
                    let v = v.as_values().unwrap_or_default();
                    let host = v[0]
                        .as_bytes()
                        .map(|b| String::from_utf8_lossy(b).into_owned())
                        .unwrap_or_default();
                    Address::Tcp { host, port: int(&v[1]) }
                };
                let slots = int(&range[0])..=int(&range[1]);
                let primary = at(&range[2]);
                match shards.iter_mut().find(|s| s.primary == primary) {
                    Some(s) => s.slots.push(slots),
                    None => shards.push(Shard {
                        primary,
                        replicas: range[3..].iter().map(at).collect(),
                        slots: vec![slots],
                    }),
                }
            }
            publisher.publish(Topology {
                primary: shards.first().map(|s| s.primary.clone()),
                replicas: Vec::new(),
                shards: Some(Arc::new(Shards::new(shards))),
            });
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}
