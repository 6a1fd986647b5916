//! Sessions that leave in the middle of what they said or what they are told.

use super::scene::{Client, Gone, Scene};
use crate::session_support::{Dice, line_bytes};
use crate::support::resp::encode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a session listens that waits for what never comes.
const MOMENT: Duration = Duration::from_millis(20);

/// Comes and goes until it is over.
pub async fn disturb(scene: &Scene, session: usize) {
    let mut dice = Dice(1_000_000 + session as u64);
    while !scene.is_over() {
        let moment = scene.moment();
        let left = come_and_go(scene, session, &mut dice).await;
        if left == Err(Gone::Stuck) {
            scene.accuse(format!("rude session {session} was not answered, begun at {moment}"));
        }
        scene.left.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a rude session says before it goes. What it is told bears no mark, so a checker that hears it knows.
fn request(session: usize, dice: &mut Dice) -> Vec<u8> {
    let lines = [
        "GET {cold}",
        "GET big",
        "ECHO <rude>",
        "SET {cold} <rude>",
        "BLPOP {ghost} 0",
        "BLPOP {ghost} 0.01",
        "SUBSCRIBE {ghost}",
        "PUBLISH {ghost} <rude>",
        "MULTI",
        "EXEC",
        "WATCH {cold}",
        "HELLO 3",
        "CLIENT REPLY OFF",
        "EVAL return{'<rude>',{'<rude>'}} 0",
    ];
    let count = *dice.pick(&[1, 2, 10, 40]);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let cold = format!("cold{}", dice.below(10_000));
        let line = dice.pick(&lines).replace("{cold}", &cold);
        bytes.extend(line_bytes(&line.replace("{ghost}", &format!("ghost{session}"))));
    }
    bytes
}

async fn come_and_go(scene: &Scene, session: usize, dice: &mut Dice) -> Result<(), Gone> {
    let mut client = Client::open(scene.addr).await.map_err(|_| Gone::Closed)?;
    let bytes = request(session, dice);
    let said = match dice.below(3) {
        0 => dice.below(bytes.len() + 1),
        _ => bytes.len(),
    };
    client.send(&bytes[..said]).await?;
    match dice.below(4) {
        // At once, before anything is said.
        0 => {}
        1 => {
            // In the middle of a reply, or while it waits in vain.
            for _ in 0..1 + dice.below(3) {
                if let Ok(heard) = tokio::time::timeout(MOMENT, client.listen()).await {
                    heard?;
                }
            }
        }
        2 => {
            client.reset();
            return Ok(());
        }
        _ => {
            // What blocks is cancelled then, too.
            client.half_close().await;
            return Ok(());
        }
    }
    Ok(())
}

/// Writes what everybody reads.
pub async fn heat(scene: &Scene) {
    let mut number = 0_u64;
    while !scene.is_over() {
        let Ok(mut client) = Client::open(scene.addr).await else {
            continue;
        };
        let big = "<rude>".repeat(20_000);
        let mut heard = client.send(&encode(&["SET", "big", &big])).await;
        while heard.is_ok() && !scene.is_over() {
            number += 1;
            let name = format!("hot{}", number % 16);
            heard = match client.send(&encode(&["SET", &name, &format!("{name}:{number}")])).await {
                Ok(()) => client.frame().await.map(drop),
                Err(gone) => Err(gone),
            };
        }
    }
}
