//! PROXY HOTKEYS: which keys are read most, counted from a sample of all workers' reads.

mod support;

use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

fn field(map: &Reply, name: &str) -> Reply {
    map.get(name).unwrap_or_else(|| panic!("no {name} in {map:?}"))
}

/// Reads `hot` as often as all of a thousand other keys together, and an `MGET` of two keys now and then.
fn read(client: &mut Resp, rounds: usize) {
    for round in 0..rounds {
        let line = |key: String| format!("GET {key}\r\n");
        let pipeline: String = (0..100)
            .flat_map(|at| [line("hot".into()), line(format!("cold:{}", (round * 100 + at) % 1000))])
            .chain(["MGET warm:1 warm:2\r\n".to_owned()].into_iter().cycle().take(10))
            .collect();
        client.send_raw(pipeline);
        for _ in 0..210 {
            client.reply();
        }
    }
}

#[test]
fn the_keys_that_are_read_most_come_first_with_how_sure_that_is() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "2", "--cache.admission", "always"]);
    let mut clients = [nearhit.connect(), nearhit.connect3()];
    clients[0].lines_ok(&["SET hot v", "MSET warm:1 v warm:2 v"]);
    wait_for("hits", SOON, || {
        clients[0].line("GET hot");
        nearhit.metric("nearhit_cache_requests_total", &["\"hit\""]) > 0.0
    });
    for client in &mut clients {
        read(client, 80);
    }
    for client in &mut clients {
        let report = client.cmd(&["PROXY", "HOTKEYS", "COUNT", "3"]);
        let keys = field(&report, "keys").items();
        assert_eq!(keys.len(), 3);
        let (hot, mut warm) = (&keys[0], [field(&keys[1], "key").text(), field(&keys[2], "key").text()]);
        warm.sort_unstable();
        assert_eq!(
            (field(hot, "key").text(), warm),
            ("hot".into(), ["warm:1".into(), "warm:2".into()])
        );
        // 16,000 reads, of which one in eight is looked at, at random.
        let (reads, error) = (field(hot, "reads").int(), field(hot, "error").int());
        assert!((14_000..=18_000).contains(&(reads - error)), "{reads} - {error}");
        let ratio: f64 = field(hot, "hit_ratio").text().parse().expect("a ratio");
        assert!(ratio > 0.8, "{ratio}");
        assert_eq!(field(&report, "sampled").int(), 8);
    }
}

#[test]
fn mistakes_are_told_and_nothing_is_hot_at_first() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let mut client = nearhit.connect();
    assert!(field(&client.cmd(&["PROXY", "HOTKEYS"]), "keys").items().is_empty());
    for (line, error) in [
        ("PROXY HOTKEYS COUNT", "ERR syntax error"),
        ("PROXY HOTKEYS NUMBER 3", "ERR syntax error"),
        ("PROXY HOTKEYS COUNT x", "ERR value is not an integer"),
        ("PROXY HOTKEYS COUNT 0", "ERR COUNT must be between"),
    ] {
        assert!(client.line(line).is_error_with(error), "{line}");
    }
}
