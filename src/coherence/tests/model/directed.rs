//! Schedules that chance seldom makes: each holds one party back at the worst moment. All of them hold, and each mutant
//! that chance seldom finds fails one of them.

use super::redis::Op;
use super::world::World;
use super::*;

/// The clients: A and B in database 0, which ask one thing after the other; C in database 1.
const A: usize = 1;
const B: usize = 2;
const C: usize = 3;

/// All of them, by name.
pub(super) const ALL: &[(&str, fn())] = &[
    ("seen_then_hit", seen_then_hit),
    ("seen_then_hit_on_a_copy", seen_then_hit_on_a_copy),
    ("script_then_hit", script_then_hit),
    ("told_of_by_a_script_then_hit", told_of_by_a_script_then_hit),
    ("frozen_beyond_the_bound", frozen_beyond_the_bound),
    ("answer_that_was_long_on_its_way", answer_that_was_long_on_its_way),
    ("filled_while_a_write_travels", filled_while_a_write_travels),
    ("read_while_its_flight_is_dead", read_while_its_flight_is_dead),
    ("stored_while_its_flight_is_dead", stored_while_its_flight_is_dead),
    ("old_flight", old_flight),
    ("joined_after_it_expired", joined_after_it_expired),
    ("swapdb_of_a_lost_connection", swapdb_of_a_lost_connection),
    ("torn_mget", torn_mget),
    ("names_pushed_together", names_pushed_together),
    ("watched_then_read", watched_then_read),
    ("filled_across_a_swapdb", filled_across_a_swapdb),
    ("stored_during_a_swapdb", stored_during_a_swapdb),
    ("swapdb", swapdb),
    ("flushall", flushall),
    ("expired_by_the_tracked_connection", expired_by_the_tracked_connection),
    ("new_length_then_old_value", new_length_then_old_value),
    ("filling_connection_closed_unheard", filling_connection_closed_unheard),
];

#[test]
fn what_chance_seldom_does_breaks_no_promise() {
    for (name, schedule) in ALL {
        let outcome = std::panic::catch_unwind(schedule);
        assert!(outcome.is_ok(), "{name}");
    }
}

fn world(redirect: bool) -> World {
    let mut world = World::new(Setup {
        // An even one: what is served once is copied.
        seed: 2,
        steps: 0,
        redirect,
        white: false,
    });
    // Something is there before anybody reads.
    for (db, key) in (0..DBS).flat_map(|db| (0..NAMES.len()).map(move |key| (db, key))) {
        others(&mut world, Op::Set(key, None), db);
    }
    prove(&mut world);
    world
}

fn others(world: &mut World, op: Op, db: usize) {
    world.pass(1_000_000);
    world.redis.execute(op, db, &mut None, world.now);
}

fn asks(world: &mut World, client: usize, op: Op, pinned: bool) {
    world.pass(1_000_000);
    // Each is a `read` of its own.
    world.clients[client].batch = None;
    let asked = world.asked(client, op, pinned);
    assert!(!world.must_wait(&asked), "{op:?} has to wait");
    world.begins(asked);
}

/// The client's commands are executed, and it hears of them.
fn home(world: &mut World, client: usize) {
    world.pass(1_000_000);
    for _ in 0..3 {
        world.client_is_executed(client);
        hears(world, client);
    }
}

fn hears(world: &mut World, client: usize) {
    for _ in 0..3 {
        world.client_hears(client);
    }
}

/// The server executes everything that the tracked connection has asked for; nothing arrives.
fn serve(world: &mut World) {
    world.pass(1_000_000);
    for _ in 0..8 {
        world.take_orders();
    }
    for _ in 0..30 {
        world.serve();
    }
}

/// What is on its way on the tracked and the subscribed connection arrives, and everybody hears of it.
fn arrive(world: &mut World) {
    world.pass(1_000_000);
    for _ in 0..6 {
        world.deliver_bytes(usize::MAX);
        world.redis.pong();
        while !world.redis.messages.bytes.is_empty() {
            world.deliver_messages();
        }
    }
    for client in 0..4 {
        hears(world, client);
    }
}

/// The stream proves itself as of now.
fn prove(world: &mut World) {
    world.ping();
    serve(world);
    arrive(world);
}

/// The client reads and whatever that takes is done.
fn reads(world: &mut World, client: usize, op: Op) {
    asks(world, client, op, false);
    home(world, client);
    serve(world);
    arrive(world);
    home(world, client);
}

/// `key` of database 0 is in the cache.
fn cached(world: &mut World, key: usize) {
    reads(world, B, Op::Get(key));
    let hits = world.deeds.hits;
    reads(world, B, Op::Get(key));
    assert_eq!(world.deeds.hits, hits + 1, "it was not stored");
}

fn ends(mut world: World) {
    world.settle_down();
    for (db, key) in (0..DBS).flat_map(|db| (0..NAMES.len()).map(move |key| (db, key))) {
        world.must_converge(db, key);
    }
}

fn seen_then_hit() {
    let mut world = world(false);
    cached(&mut world, 0);
    sees_newer_at_home_then_hits(world);
}

fn seen_then_hit_on_a_copy() {
    let mut world = world(false);
    cached(&mut world, 0);
    asks(&mut world, A, Op::Get(0), false);
    sees_newer_at_home_then_hits(world);
}

fn sees_newer_at_home_then_hits(mut world: World) {
    others(&mut world, Op::Set(0, None), 0);
    // Not as a whole in the cache, so it is asked at home.
    asks(&mut world, A, Op::Mget, false);
    world.look_on(A);
    home(&mut world, A);
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}

fn script_then_hit() {
    let mut world = world(false);
    cached(&mut world, 0);
    asks(&mut world, A, Op::Script(0), false);
    home(&mut world, A);
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}

fn told_of_by_a_script_then_hit() {
    let mut world = world(false);
    cached(&mut world, 0);
    others(&mut world, Op::Set(0, None), 0);
    // In one packet: the second is asked for before the first is answered, and must not know less.
    asks(&mut world, A, Op::Look, false);
    asks(&mut world, A, Op::Get(0), false);
    home(&mut world, A);
    ends(world);
}

fn frozen_beyond_the_bound() {
    let mut world = world(false);
    cached(&mut world, 0);
    others(&mut world, Op::Set(0, None), 0);
    world.pass(61_000_000);
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}

fn answer_that_was_long_on_its_way() {
    let mut world = world(false);
    cached(&mut world, 0);
    world.ping();
    serve(&mut world);
    others(&mut world, Op::Set(0, None), 0);
    world.pass(55_000_000);
    world.deliver_bytes(b"+PONG\r\n".len());
    world.pass(30_000_000);
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}

fn filled_while_a_write_travels() {
    let mut world = world(false);
    asks(&mut world, B, Op::Set(0, None), false);
    asks(&mut world, A, Op::Get(0), false);
    serve(&mut world);
    arrive(&mut world);
    home(&mut world, B);
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}

fn read_while_its_flight_is_dead() {
    let mut world = world(false);
    asks(&mut world, A, Op::Get(0), false);
    serve(&mut world);
    asks(&mut world, B, Op::Set(0, None), false);
    home(&mut world, B);
    asks(&mut world, B, Op::Get(0), false);
    arrive(&mut world);
    ends(world);
}

fn stored_while_its_flight_is_dead() {
    let mut world = world(false);
    asks(&mut world, A, Op::Get(0), false);
    serve(&mut world);
    let first = world.redis.stream.bytes.len();
    asks(&mut world, B, Op::Set(0, None), false);
    home(&mut world, B);
    asks(&mut world, B, Op::Get(0), false);
    // The first fetch is over while the second is on its way; what was pushed between them is, too.
    world.deliver_bytes(first);
    hears(&mut world, A);
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}

fn old_flight() {
    let mut world = world(false);
    asks(&mut world, A, Op::Get(0), false);
    serve(&mut world);
    others(&mut world, Op::Set(0, None), 0);
    world.pass(70_000_000);
    asks(&mut world, B, Op::Get(0), false);
    ends(world);
}

fn joined_after_it_expired() {
    let mut world = world(false);
    others(&mut world, Op::Set(0, Some(5)), 0);
    asks(&mut world, A, Op::Get(0), false);
    serve(&mut world);
    world.pass(10_000_000);
    asks(&mut world, B, Op::Get(0), false);
    ends(world);
}

fn swapdb_of_a_lost_connection() {
    let mut world = world(false);
    asks(&mut world, A, Op::SwapDb, false);
    world.client_is_cut_off(A, 1);
    reads(&mut world, B, Op::Get(0));
    world.zombie_acts();
    world.pass(61_000_000);
    prove(&mut world);
    asks(&mut world, B, Op::Get(0), false);
    ends(world);
}

fn torn_mget() {
    let mut world = world(false);
    cached(&mut world, 0);
    cached(&mut world, 1);
    asks(&mut world, A, Op::Mget, false);
    others(&mut world, Op::Both, 0);
    prove(&mut world);
    reads(&mut world, B, Op::Get(1));
    for _ in 0..3 {
        world.look_on(A);
    }
    ends(world);
}

fn names_pushed_together() {
    let mut world = world(false);
    cached(&mut world, 0);
    cached(&mut world, 1);
    others(&mut world, Op::Both, 0);
    prove(&mut world);
    world.pass(61_000_000);
    prove(&mut world);
    asks(&mut world, A, Op::Get(1), false);
    ends(world);
}

fn watched_then_read() {
    let mut world = world(false);
    cached(&mut world, 0);
    others(&mut world, Op::Set(0, None), 0);
    for op in [Op::Watch(0), Op::Get(0), Op::Cas(0)] {
        asks(&mut world, A, op, true);
        home(&mut world, A);
    }
    ends(world);
}

fn filled_across_a_swapdb() {
    let mut world = world(false);
    asks(&mut world, A, Op::SwapDb, false);
    asks(&mut world, B, Op::Get(0), false);
    serve(&mut world);
    home(&mut world, A);
    arrive(&mut world);
    prove(&mut world);
    asks(&mut world, B, Op::Get(0), false);
    ends(world);
}

fn stored_during_a_swapdb() {
    let mut world = world(false);
    asks(&mut world, A, Op::SwapDb, false);
    reads(&mut world, B, Op::Get(0));
    world.client_is_executed(A);
    reads(&mut world, B, Op::Mget);
    world.look_on(B);
    home(&mut world, B);
    prove(&mut world);
    asks(&mut world, B, Op::Get(0), false);
    ends(world);
}

fn swapdb() {
    let mut world = world(false);
    cached(&mut world, 0);
    asks(&mut world, A, Op::SwapDb, false);
    home(&mut world, A);
    prove(&mut world);
    asks(&mut world, B, Op::Get(0), false);
    ends(world);
}

fn flushall() {
    let mut world = world(false);
    cached(&mut world, 0);
    others(&mut world, Op::FlushAll, 0);
    prove(&mut world);
    world.pass(61_000_000);
    prove(&mut world);
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}

fn expired_by_the_tracked_connection() {
    let mut world = world(false);
    cached(&mut world, 0);
    // The name in the other database expires between the read and the PTTL of one fetch.
    others(&mut world, Op::Set(0, Some(20)), 1);
    prove(&mut world);
    cached(&mut world, 0);
    asks(&mut world, C, Op::Get(0), false);
    world.take_orders();
    for _ in 0..3 {
        world.serve();
    }
    world.pass(20_000_000);
    serve(&mut world);
    others(&mut world, Op::Set(0, None), 0);
    arrive(&mut world);
    world.pass(61_000_000);
    prove(&mut world);
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}

fn new_length_then_old_value() {
    let mut world = world(true);
    cached(&mut world, 0);
    others(&mut world, Op::Set(0, None), 0);
    asks(&mut world, A, Op::Strlen(0), false);
    serve(&mut world);
    world.deliver_bytes(usize::MAX);
    // Messages go nowhere for now, but what was held back is looked at.
    world.release();
    hears(&mut world, A);
    if world.clients[A].is_idle() {
        asks(&mut world, A, Op::Get(0), false);
    }
    ends(world);
}

fn filling_connection_closed_unheard() {
    let mut world = world(true);
    cached(&mut world, 0);
    world.redis.drop_connection(0, 0);
    others(&mut world, Op::Set(0, None), 0);
    world.pass(61_000_000);
    world.ping();
    world.redis.pong();
    while !world.redis.messages.bytes.is_empty() {
        world.deliver_messages();
    }
    asks(&mut world, A, Op::Get(0), false);
    ends(world);
}
