//! What rows mean: effects, places, what is cached. Each rule has its reason in the design of the coherence layer.

mod command_support;

use command_support::{OwnedRequest, Reply, Server};
use nearhit::command::{
    Cacheable, Command, CommandTable, Effect, Flags, Keys, LearnedCommand, Lookup, Pin, Place, flag,
};
use nearhit::resp::Shape;

fn row<'t>(table: &'t CommandTable, name: &str) -> &'t Command {
    table.by_name(name).unwrap_or_else(|| panic!("no row {name}"))
}

fn with<T>(words: &str, ask: impl FnOnce(&Command, &nearhit::resp::Request<'_>) -> T) -> T {
    let table = CommandTable::builtin();
    let owned = OwnedRequest::new(&words.split(' ').collect::<Vec<_>>());
    let Lookup::Known(command) = table.lookup(&owned.request()) else {
        panic!("{words} is not known")
    };
    ask(command, &owned.request())
}

#[test]
fn every_write_of_the_server_is_more_than_a_read() {
    for row in CommandTable::builtin().iter().filter(|row| row.flags.has(flag::WRITE)) {
        let expected = match row.keys {
            Keys::None => matches!(row.effect, Effect::Admin | Effect::Unknown),
            _ => matches!(row.effect, Effect::Write | Effect::Unknown),
        };
        assert!(expected, "{}: {:?}", row.name(), row.effect);
        assert_eq!(row.cache, Cacheable::No, "{}", row.name());
    }
}

#[test]
fn reads_have_keys_or_hold_back_older_hits() {
    for row in CommandTable::builtin()
        .iter()
        .filter(|row| row.flags.has(flag::READONLY))
    {
        match row.effect {
            Effect::Read => assert_ne!(row.keys, Keys::None, "{}", row.name()),
            Effect::KeylessRead => (),
            other => assert!(["pfcount", "lolwut"].contains(&row.name()), "{}: {other:?}", row.name()),
        }
    }
}

#[test]
fn what_is_silent_or_total_flushes() {
    let table = CommandTable::builtin();
    for name in [
        "flushall",
        "flushdb",
        "swapdb",
        "debug",
        "function|load",
        "function|delete",
        "function|flush",
        "function|restore",
        "sflush",
        "trimslots",
        "cluster|setslot",
        "cluster|reset",
        "replicaof",
        "slaveof",
        "failover",
        "acl|setuser",
    ] {
        assert_eq!(row(&table, name).effect, Effect::Admin, "{name}");
    }
}

#[test]
fn what_reads_or_writes_beyond_its_arguments_is_known_for_it() {
    let table = CommandTable::builtin();
    for name in ["eval", "evalsha", "fcall", "sort", "exec"] {
        assert_eq!(row(&table, name).effect, Effect::Unknown, "{name}");
    }
    for name in [
        "eval_ro",
        "evalsha_ro",
        "fcall_ro",
        "sort_ro",
        "scan",
        "keys",
        "dbsize",
        "randomkey",
    ] {
        assert_eq!(row(&table, name).effect, Effect::KeylessRead, "{name}");
    }
    assert_eq!(
        row(&table, "pfcount").effect,
        Effect::Write,
        "it stores what it counted"
    );
    for name in [
        "ping",
        "info",
        "publish",
        "spublish",
        "watch",
        "time",
        "client|kill",
        "subscribe",
    ] {
        assert_eq!(row(&table, name).effect, Effect::None, "{name}");
    }
}

#[test]
fn every_read_of_keys_may_be_asked_of_a_replica_but_for_a_few_that_say_why() {
    let table = CommandTable::builtin();
    let reads = table
        .iter()
        .filter(|row| row.flags.has(flag::READONLY) && row.keys != Keys::None);
    let barred: Vec<_> = reads
        .filter(|row| !row.suits_replicas(1, false))
        .map(Command::name)
        .collect();
    // PFCOUNT stores what it counted, TOUCH is an access that the primary is to count.
    assert_eq!(barred, ["pfcount", "touch"]);
    for name in ["eval_ro", "evalsha_ro", "fcall_ro", "sort_ro", "mget", "sunion"] {
        assert!(row(&table, name).suits_replicas(1, false), "{name}");
        assert!(!row(&table, name).suits_replicas(0, false), "{name} without a key");
        assert!(
            !row(&table, name).suits_replicas(2, true),
            "{name} of a cluster, with several keys"
        );
    }
    for name in ["eval", "evalsha", "fcall", "sort", "set"] {
        assert!(!row(&table, name).suits_replicas(1, false), "{name}");
    }
    // Of one key a reply shows whether it was there, unless it is a script's.
    assert!(row(&table, "get").suits_replicas(1, true) && !row(&table, "eval_ro").suits_replicas(1, true));
}

#[test]
fn connections_are_shared_unless_a_command_needs_its_own() {
    let table = CommandTable::builtin();
    for (place, names) in [
        (
            Place::Local,
            "hello auth select reset quit client|id client|setname client|getname client|setinfo client|reply client|no-evict proxy cluster|slots cluster|keyslot readonly readwrite asking",
        ),
        (
            Place::Shared,
            "get set eval fcall scan flushall publish info config|set object|encoding ping migrate role command|docs client|trackinginfo client|getredir",
        ),
        (Place::Pinned(Pin::Transaction), "multi exec discard watch unwatch"),
        (
            Place::Pinned(Pin::Blocking),
            "blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop",
        ),
        (
            Place::Pinned(Pin::Subscribe),
            "subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe",
        ),
        (Place::Pinned(Pin::Monitor), "monitor"),
        (
            Place::Pinned(Pin::Sticky),
            "client|tracking client|caching script|debug",
        ),
        (
            Place::Pinned(Pin::Once),
            "wait waitaof client|pause debug shutdown script|kill function|kill",
        ),
        (Place::Refused, "sync psync replconf"),
    ] {
        for name in names.split(' ') {
            assert_eq!(row(&table, name).place, place, "{name}");
        }
    }
}

#[test]
fn a_blocking_row_never_runs_on_a_shared_connection() {
    for row in CommandTable::builtin()
        .iter()
        .filter(|row| row.flags.has(flag::BLOCKING))
    {
        let own = matches!(row.place, Place::Pinned(_));
        assert!(own || row.keys == Keys::Streams, "{}", row.name());
    }
}

#[test]
fn reading_streams_blocks_only_with_the_option() {
    let blocks = |words| {
        with(words, |command, request| {
            (command.is_blocking_call(request), command.place(request))
        })
    };
    let pinned = (true, Place::Pinned(Pin::Blocking));
    assert_eq!(blocks("xread block 0 streams s $"), pinned);
    assert_eq!(blocks("XREAD COUNT 1 BLOCK 5 STREAMS s 0"), pinned);
    assert_eq!(blocks("xreadgroup group g c noack block 5 streams s >"), pinned);
    assert_eq!(blocks("xread streams block 0"), (false, Place::Shared));
    assert_eq!(blocks("xreadgroup group block c streams s >"), (false, Place::Shared));
    assert_eq!(blocks("blpop k 0"), pinned);
    assert_eq!(blocks("get k"), (false, Place::Shared));
}

#[test]
fn exists_is_cached_for_one_key_and_mget_by_its_parts() {
    let cacheable = |words| with(words, |command, request| command.cacheable(request));
    assert_eq!(cacheable("exists a"), Cacheable::Yes);
    assert_eq!(cacheable("exists a b"), Cacheable::No);
    assert_eq!(cacheable("mget a"), Cacheable::Decomposed);
    assert_eq!(cacheable("mget a b"), Cacheable::Decomposed);
    assert_eq!(cacheable("hmget h a b"), Cacheable::Yes);
    for never in [
        "pfcount a",
        "ttl a",
        "xread streams a 0",
        "sinter a",
        "object encoding a",
        "dump a",
        "pfcount a",
        "xpending a g",
        "xinfo stream a",
        "hscan h 0",
    ] {
        assert_eq!(cacheable(never), Cacheable::No, "{never}");
    }
}

#[test]
fn cached_reads_of_hash_fields_are_marked() {
    for row in CommandTable::builtin().iter() {
        let reads_fields = row.cache == Cacheable::Yes && row.name().starts_with('h');
        assert_eq!(row.hash_field_ttl_cap, reads_fields, "{}", row.name());
    }
}

#[test]
fn a_missing_rank_is_a_nil_array_only_with_score() {
    let shape = |words| with(words, |command, request| command.shape(request));
    assert_eq!(shape("zrank z m"), Shape::Generic);
    assert_eq!(shape("zrank z m withscore"), Shape::NilArray);
    assert_eq!(shape("geopos g m"), Shape::NilArrayElements);
    assert_eq!(shape("zrange z 0 -1 withscores"), Shape::Pairs);
    assert_eq!(shape("strlen s"), Shape::Same);
}

#[test]
fn the_last_store_is_the_one_that_is_written() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let keys = |words: &str| {
        let mut found = Vec::new();
        let text: Vec<_> = words.split(' ').map(ToOwned::to_owned).collect();
        with(words, |command, request| {
            command.for_each_key(request, |index| found.push(text[index].clone()))
        })
        .expect("keys");
        found.sort();
        found
    };
    for words in [
        "SORT l STORE a STORE b",
        "SORT l STORE by STORE b",
        "SORT l STORE get BY w_* STORE store",
        "SORT l BY store GET # STORE limit",
        "SORT l GET store LIMIT 0 5 STORE c",
        "GEORADIUS g 15 37 200 km STORE a STOREDIST b",
        "GEORADIUS g 15 37 200 km STOREDIST store STORE storedist",
        "GEORADIUSBYMEMBER g Palermo 200 km STORE any COUNT 1 ANY STORE c",
    ] {
        connection.call(&["FLUSHALL"]);
        connection.call(&["RPUSH", "l", "1", "2"]);
        connection.call(&[
            "GEOADD",
            "g",
            "13.361389",
            "38.115556",
            "Palermo",
            "15.087269",
            "37.502669",
            "Catania",
        ]);
        let reply = connection.call(&words.split(' ').collect::<Vec<_>>());
        assert!(matches!(reply, Reply::Integer(1..)), "{words}: {reply:?}");
        let source = words.split(' ').nth(1).expect("a source");
        let mut there: Vec<_> = connection
            .call(&["KEYS", "*"])
            .items()
            .iter()
            .map(Reply::text)
            .collect();
        there.retain(|key| key == source || !["l", "g"].contains(&key.as_str()));
        there.sort();
        assert_eq!(keys(words), there, "{words}");
    }
}

fn reported(name: &str, arity: i64, flags: &[&str], keys: (i64, i64, i64)) -> LearnedCommand {
    let flags = flags.iter().map(ToString::to_string).collect();
    let (first, last, step) = keys;
    LearnedCommand {
        name: name.into(),
        arity,
        flags,
        first,
        last,
        step,
        subcommands: Vec::new(),
    }
}

#[test]
fn a_learned_command_is_trusted_as_far_as_its_flags_go() {
    let table = CommandTable::builtin().learn(&[
        reported("newread", 2, &["readonly", "fast"], (1, 1, 1)),
        reported("newscan", -2, &["readonly"], (0, 0, 0)),
        reported("newwrite", -3, &["write", "denyoom"], (1, -1, 2)),
        reported("newflush", 1, &["write"], (0, 0, 0)),
        reported("MOD.GET", 3, &["readonly", "module"], (1, 1, 1)),
        reported("mod.all", 3, &["write", "module"], (0, 0, 0)),
        reported("newblock", 3, &["write", "blocking"], (1, 1, 1)),
        reported("newmoves", 3, &["readonly", "movablekeys"], (0, 0, 0)),
        reported("newstate", 3, &["noscript", "loading"], (0, 0, 0)),
        reported("newkeys", 3, &["write"], (1, 1, 0)),
    ]);
    let sticky = Place::Pinned(Pin::Sticky);
    for (name, place, effect) in [
        ("newread", Place::Shared, Effect::Read),
        ("newscan", Place::Shared, Effect::KeylessRead),
        ("newwrite", Place::Shared, Effect::Unknown),
        ("newflush", Place::Shared, Effect::Admin),
        ("mod.get", Place::Shared, Effect::Unknown),
        ("mod.all", Place::Shared, Effect::Unknown),
        ("newblock", sticky, Effect::Unknown),
        ("newmoves", sticky, Effect::Unknown),
        ("newstate", sticky, Effect::Unknown),
        ("newkeys", sticky, Effect::Unknown),
    ] {
        let learned = row(&table, name);
        assert_eq!(
            (learned.place, learned.effect, learned.cache),
            (place, effect, Cacheable::No),
            "{name}"
        );
    }
    assert_eq!(
        row(&table, "newwrite").keys,
        Keys::Range {
            first: 1,
            last: -1,
            step: 2
        }
    );
}

#[test]
fn learning_keeps_numbers_and_meaning_and_widens_arity() {
    let before = CommandTable::builtin();
    let mut container = reported("config", -2, &[], (0, 0, 0));
    container
        .subcommands
        .push(reported("config|newsub", 3, &["admin"], (0, 0, 0)));
    let after = before.learn(&[
        reported("get", -2, &["write"], (0, 0, 0)),
        reported("zrank", 3, &["readonly"], (1, 1, 1)),
        container,
        reported("", 1, &[], (0, 0, 0)),
        reported("zero", 0, &[], (0, 0, 0)),
        reported("huge", i64::MAX, &[], (0, 0, 0)),
        reported(&"long".repeat(20), 1, &[], (0, 0, 0)),
    ]);
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(row(&after, "config|newsub").id().index(), before.len());
    let get = row(&after, "get");
    assert_eq!((get.arity, get.effect, get.cache), (-2, Effect::Read, Cacheable::Yes));
    assert_eq!(
        row(&after, "zrank").arity,
        -3,
        "an older server's arity does not narrow the row"
    );
    let owned = OwnedRequest::new(&["CONFIG", "NEWSUB", "x"]);
    assert!(matches!(after.lookup(&owned.request()), Lookup::Known(found) if found.name() == "config|newsub"));
}

#[test]
fn flags_have_the_names_that_command_reports() {
    let flags = Flags::new(flag::WRITE | flag::NO_AUTH);
    assert_eq!(flags.names().collect::<Vec<_>>(), ["write", "no_auth"]);
    assert_eq!(Flags::from_name("movablekeys"), Some(Flags::new(flag::MOVABLEKEYS)));
    assert_eq!(Flags::from_name("nosuch"), None);
}
