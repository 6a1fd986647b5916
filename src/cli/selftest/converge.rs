//! After the run, when nothing changes any more: what nearhit says must be what the server says, byte for byte.

use super::cell::{Broken, Content};
use super::client::Seat;
use super::exchange::Raw;
use super::nodes::Servers;
use super::requests;
use super::server_faults;
use super::workload::Op;
use super::world::World;
use nearhit::resp::Version;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How often nearhit is asked: cold, then fetched, then from memory.
const TIMES: usize = 3;
/// How long one database may take on one connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// Compares every key with every read in both protocols through each of `seats` with what the servers say. Gives back how many
/// replies were compared.
///
/// # Errors
///
/// Who did not answer.
pub(super) async fn check(world: &World, servers: &Servers, seats: &[Seat]) -> Result<u64, String> {
    let mut compared = 0;
    for version in [Version::V2, Version::V3] {
        for place in 0..world.dbs.len() {
            let questions = questions(world, place);
            let owners = owners(world, servers, &questions).await?;
            // The guest is nobody special here; everybody may read everything by now.
            for seat in seats.iter().filter(|seat| seat.version == version) {
                let before = ask_owners(world, &owners, seat, place, &questions).await?;
                let mut near = Vec::new();
                for _ in 0..TIMES {
                    near.push(ask(world, &seat.addr.now(), seat, place, &questions).await?);
                }
                let after = ask_owners(world, &owners, seat, place, &questions).await?;
                compared += compare(world, seat, &questions, [&before, &after], &near);
            }
        }
    }
    Ok(compared)
}

type Question = (usize, Op, Vec<u8>);

/// Every read of every key of a database.
fn questions(world: &World, place: usize) -> Vec<Question> {
    let keys = world.keys() / world.dbs.len().max(1);
    let mut questions = Vec::new();
    for index in place * keys..(place + 1) * keys {
        let Some(part) = world.meet(index, None) else { continue };
        let mut ops: Vec<Op> = Vec::new();
        for op in Op::reads(world.kind(index)) {
            let op = &if world.tagged { op.before_a_cluster() } else { *op };
            // MGET of several keys is MGET of one here.
            if !ops.contains(op) {
                ops.push(*op);
            }
        }
        for op in ops {
            let mut request = Vec::new();
            let names = world.names(index, part.generation, op);
            requests::operation(&mut request, op, &names, Content::Nothing, Duration::ZERO);
            questions.push((index, op, request));
        }
    }
    questions
}

/// Who is to be asked each of these, once nothing moves any more.
async fn owners(world: &World, servers: &Servers, questions: &[Question]) -> Result<Vec<String>, String> {
    let Servers::Cluster(cluster) = servers else {
        let primary = servers.target().addr.now();
        return Ok(vec![primary; questions.len()]);
    };
    cluster.wait_until_whole().await?;
    let mut owners = BTreeMap::new();
    for (index, ..) in questions {
        let slot = world.slot_of(*index);
        if let Entry::Vacant(unknown) = owners.entry(slot.get()) {
            unknown.insert(cluster.owner_address(slot).await?);
        }
    }
    let owner = |(index, ..): &Question| owners.get(&world.slot_of(*index).get()).cloned();
    Ok(questions.iter().filter_map(owner).collect())
}

/// Asks everybody what he has.
async fn ask_owners(
    world: &World,
    owners: &[String],
    seat: &Seat,
    place: usize,
    questions: &[Question],
) -> Result<Vec<Vec<u8>>, String> {
    let mut replies = vec![Vec::new(); questions.len()];
    let all: BTreeSet<_> = owners.iter().collect();
    for owner in all {
        let own: Vec<usize> = (0..questions.len())
            .filter(|number| owners.get(*number) == Some(owner))
            .collect();
        let asked: Vec<_> = own
            .iter()
            .filter_map(|number| questions.get(*number).cloned())
            .collect();
        let answers = ask(world, owner, seat, place, &asked).await?;
        for (number, answer) in own.into_iter().zip(answers) {
            if let Some(reply) = replies.get_mut(number) {
                *reply = answer;
            }
        }
    }
    Ok(replies)
}

async fn ask(
    world: &World,
    addr: &str,
    seat: &Seat,
    place: usize,
    questions: &[Question],
) -> Result<Vec<Vec<u8>>, String> {
    let ask = async {
        let mut stream = TcpStream::connect(addr).await?;
        let (mut out, mut greetings) = (Vec::new(), 2);
        if let Some((user, password)) = &seat.credentials {
            requests::request(&mut out, &[b"AUTH", server_faults::user_name(user), password]);
            greetings += 1;
        }
        let version: &[u8] = if seat.version == Version::V3 { b"3" } else { b"2" };
        requests::request(&mut out, &[b"HELLO", version]);
        let db = world.dbs.get(place).copied().unwrap_or(0).to_string();
        requests::request(&mut out, &[b"SELECT", db.as_bytes()]);
        stream.write_all(&out).await?;
        let mut raw = Raw::new(stream, seat.version);
        for _ in 0..greetings {
            raw.reply().await?;
        }
        let mut replies = Vec::with_capacity(questions.len());
        // Not all at once: neither side may wait for the other to read.
        for some in questions.chunks(64) {
            let bytes: Vec<u8> = some
                .iter()
                .flat_map(|(_, _, request)| request.iter().copied())
                .collect();
            raw.stream.write_all(&bytes).await?;
            for _ in some {
                replies.push(raw.reply().await?);
            }
        }
        Ok::<_, std::io::Error>(replies)
    };
    timeout(PATIENCE, ask)
        .await
        .map_err(|_| format!("{seat:?} at {addr} took longer than {PATIENCE:?}"))?
        .map_err(|error| format!("{seat:?} at {addr}: {error}"))
}

fn compare(
    world: &World,
    seat: &Seat,
    questions: &[Question],
    [before, after]: [&[Vec<u8>]; 2],
    near: &[Vec<Vec<u8>>],
) -> u64 {
    let mut compared = 0;
    for (number, (index, op, _)) in questions.iter().enumerate() {
        let (before, after) = (before.get(number), after.get(number));
        // It expired meanwhile.
        if before != after {
            continue;
        }
        for replies in near {
            compared += 1;
            if replies.get(number) == before {
                continue;
            }
            let shown =
                |reply: Option<&Vec<u8>>| String::from_utf8_lossy(reply.map_or(&[][..], Vec::as_slice)).into_owned();
            let (said, truth) = (shown(replies.get(number)), shown(before));
            let (kind, db) = (world.kind(*index), world.db_of(*index));
            let story = || {
                format!(
                    "  {op:?} of {kind:?} {index} in database {db}, {seat:?}\n  nearhit {said:?}\n  server  {truth:?}\n"
                )
            };
            world.findings.violation(Broken::Convergence, story, 0);
        }
    }
    compared
}
