//! What a server refuses because it is no master, or not ready to be one, was not run: it is run by the master there is a
//! moment later, and in the client's order.

mod support;

use std::time::Duration;

use nearhit::time;
use support::{Nearhit, RedisServer, Replicated, Reply, Resp, SOON, eventually, wait_for};

const REFUSAL: &str = "READONLY You can't write against a read only replica.";
/// On a machine that is so busy that a refused request is given up before the test has done its part, it is done once more.
const ROUNDS: usize = 10;

fn serve(url: &str) -> Nearhit {
    Nearhit::serve_with(url, &["--cache.mode", "off", "--server.threads", "1"])
}

fn retries(proxy: &Nearhit, reason: &str) -> f64 {
    proxy.metric("nearhit_retries_total", &[&format!("reason=\"{reason}\"")])
}

/// How often a server has run a command, and refused to.
fn counted(server: &RedisServer, command: &str, what: &str) -> u64 {
    let stats = server.cmd(&["INFO", "commandstats"]);
    let stats = stats.text().to_owned();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
    let field = line.and_then(|line| {
        line.split(',')
            .find_map(|field| field.strip_prefix(&format!("{what}=")))
    });
    field.map_or(0, |count| count.parse().expect("a number"))
}

/// A replica whose master stays, and nearhit in front of the replica alone.
struct Demoted {
    nodes: Replicated,
    proxy: Nearhit,
}

impl Demoted {
    fn start() -> Self {
        let nodes = Replicated::start(1);
        let proxy = serve(&nodes.replica(0).url());
        assert_eq!(proxy.connect().cmd(&["PING"]), "PONG");
        Self { nodes, proxy }
    }

    /// Sends requests, promotes the server as soon as it has refused `command`, and gives the replies.
    fn promoted_meanwhile(&self, client: &mut Resp, requests: &[Vec<&str>], command: &str) -> Vec<Reply> {
        let server = self.nodes.replica(0);
        let before = counted(server, command, "rejected_calls");
        for request in requests {
            client.send(request);
        }
        wait_for("the replica to refuse", SOON, || {
            counted(server, command, "rejected_calls") > before
        });
        self.nodes.promote(1);
        requests.iter().map(|_| client.reply()).collect()
    }

    fn demote(&self) {
        self.nodes.demote(1, 0);
        self.nodes.replica(0).wait_for_link();
    }
}

#[test]
fn a_write_waits_until_the_server_that_refused_it_is_the_master() {
    let demoted = Demoted::start();
    let mut client = demoted.proxy.connect();
    let written = (0..ROUNDS).any(|_| {
        let reply = demoted.promoted_meanwhile(&mut client, &[vec!["SET", "k", "v"]], "set");
        let [reply] = reply.as_slice() else { unreachable!() };
        if *reply == "OK" {
            return true;
        }
        assert!(reply.is_error_with(REFUSAL), "{reply:?}");
        demoted.demote();
        false
    });
    assert!(written, "{} given up", retries(&demoted.proxy, "exhausted"));
    assert_eq!(demoted.nodes.replica(0).cmd(&["GET", "k"]), "v");
    assert!(retries(&demoted.proxy, "readonly") >= 1.0);
}

#[test]
fn what_was_refused_is_run_in_the_clients_order_and_once() {
    let demoted = Demoted::start();
    let mut client = demoted.proxy.connect();
    let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let requests: Vec<_> = names.iter().map(|name| vec!["RPUSH", "list", name]).collect();
    let whole = (0..ROUNDS).any(|_| {
        let replies = demoted.promoted_meanwhile(&mut client, &requests, "rpush");
        let told = names.iter().zip(&replies);
        let (done, refused): (Vec<_>, Vec<_>) = told.partition(|(_, reply)| !reply.is_error());
        for (_, reply) in &refused {
            assert!(reply.is_error_with(REFUSAL), "{reply:?}");
        }
        let list = demoted.nodes.replica(0).cmd(&["LRANGE", "list", "0", "-1"]);
        let list: Vec<_> = list.items().iter().map(|item| item.text().to_owned()).collect();
        let done: Vec<_> = done.iter().map(|(name, _)| (*name).clone()).collect();
        assert_eq!(list, done, "what was acknowledged, in order, and nothing else");
        demoted.nodes.replica(0).cmd(&["DEL", "list"]);
        demoted.demote();
        refused.is_empty()
    });
    assert!(whole, "all of a pipeline waits");
}

#[test]
fn a_blocking_command_that_was_refused_waits_at_the_master() {
    let demoted = Demoted::start();
    let mut client = demoted.proxy.connect();
    let waits = (0..ROUNDS).any(|_| {
        let server = demoted.nodes.replica(0);
        let before = counted(server, "blpop", "rejected_calls");
        client.send(&["BLPOP", "list", "0"]);
        wait_for("the replica to refuse", SOON, || {
            counted(server, "blpop", "rejected_calls") > before
        });
        demoted.nodes.promote(1);
        let blocked = eventually(Duration::from_secs(2), || server.info("blocked_clients") == "1");
        if blocked {
            return true;
        }
        assert!(client.reply().is_error_with(REFUSAL));
        demoted.demote();
        false
    });
    assert!(waits);
    demoted.nodes.replica(0).cmd(&["RPUSH", "list", "x"]);
    assert_eq!(client.reply().items()[1], "x");
}

#[test]
fn a_server_that_stays_a_replica_has_the_last_word() {
    let demoted = Demoted::start();
    let (server, mut client) = (demoted.nodes.replica(0), demoted.proxy.connect());
    let begun = time::now();
    assert!(client.cmd(&["SET", "k", "v"]).is_error_with(REFUSAL));
    assert!(time::now().since(begun) < SOON, "it is given up");
    assert!(
        counted(server, "set", "rejected_calls") >= 2,
        "it was tried again before that"
    );
    assert_eq!(retries(&demoted.proxy, "exhausted"), 1.0);
    assert!(client.cmd(&["GET", "k"]).is_nil(), "the client goes on");
}

#[test]
fn a_read_waits_for_a_server_that_may_not_answer_without_its_master() {
    let mut nodes = Replicated::start(1);
    nodes.primary().cmd(&["SET", "k", "v"]);
    nodes.wait_until_synced(0);
    let proxy = Nearhit::serve_with(&nodes.replica(0).url(), &["--cache.admission", "always"]);
    let mut client = proxy.connect();
    assert_eq!(client.cmd(&["GET", "k"]), "v");
    nodes
        .replica(0)
        .cmd(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    nodes.nodes()[0].kill9();
    let server = nodes.replica(0);
    wait_for("the link to break", SOON, || {
        server.info("master_link_status") == "down"
    });
    let read = (0..ROUNDS).any(|round| {
        let before = counted(server, "get", "rejected_calls");
        // Not in memory.
        client.send(&["GET", &format!("k{round}")]);
        wait_for("the server to refuse", SOON, || {
            counted(server, "get", "rejected_calls") > before
        });
        nodes.promote(1);
        let reply = client.reply();
        if reply.is_nil() {
            return true;
        }
        assert!(reply.is_error_with("MASTERDOWN "), "{reply:?}");
        assert_eq!(server.cmd(&["REPLICAOF", "127.0.0.1", "1"]), "OK");
        false
    });
    assert!(read);
    assert!(retries(&proxy, "masterdown") >= 1.0);
}

#[test]
fn many_refused_requests_ask_one_by_one_whether_the_server_is_ready() {
    let demoted = Demoted::start();
    let mut clients: Vec<_> = (0..50).map(|_| demoted.proxy.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(&["SET", "k", "v"]));
    for client in &mut clients {
        assert!(client.reply().is_error_with(REFUSAL));
    }
    let refused = counted(demoted.nodes.replica(0), "set", "rejected_calls");
    assert!(
        refused < 50 + 51,
        "{refused} refusals for 50 requests: at most one more each 20 ms"
    );
    assert_eq!(retries(&demoted.proxy, "budget"), 0.0);
}

#[test]
fn what_may_have_had_an_effect_is_never_sent_again() {
    let demoted = Demoted::start();
    let (server, mut client) = (demoted.nodes.replica(0), demoted.proxy.connect());
    let mut subscriber = server.client();
    subscriber.cmd(&["SUBSCRIBE", "c"]);
    let caught = "redis.call('PUBLISH', 'c', ARGV[1]); return redis.pcall('SET', KEYS[1], '1')";
    let thrown = "redis.call('PUBLISH', 'c', ARGV[1]); return redis.call('SET', KEYS[1], '1')";
    for (script, message) in [(caught, "1"), (thrown, "2")] {
        // The first one says, word by word, what a server says that has not begun.
        let reply = client.cmd(&["EVAL", script, "1", "k", message]);
        assert!(reply.is_error_with(REFUSAL), "{reply:?}");
        assert_eq!(subscriber.reply().items()[2], message, "it had an effect");
    }
    assert_eq!(counted(server, "eval", "calls"), 2);
    // Nor within MULTI: the answers to what is queued were given.
    assert_eq!(client.cmd(&["MULTI"]), "OK");
    assert!(client.cmd(&["SET", "k", "v"]).is_error_with(REFUSAL));
    assert!(client.cmd(&["EXEC"]).is_error_with("EXECABORT"));
    assert_eq!(counted(server, "set", "rejected_calls"), 1 + 2);
    assert_eq!(retries(&demoted.proxy, "readonly"), 0.0);
    subscriber.expect_silence(Duration::from_millis(100));
}

#[test]
fn a_write_that_a_demoted_master_refuses_is_run_by_its_successor() {
    let nodes = Replicated::start(1);
    let proxy = serve(&nodes.url());
    let mut client = proxy.connect();
    wait_for("the master", SOON, || client.cmd(&["SET", "k", "0"]) == "OK");
    let mut master = 0;
    let run = (1..=ROUNDS).any(|round| {
        let next = 1 - master;
        nodes.wait_until_synced(master);
        nodes.promote(next);
        nodes.demote(master, next);
        let value = round.to_string();
        let reply = client.cmd(&["SET", "k", &value]);
        master = next;
        if reply == "OK" && retries(&proxy, "readonly") >= 1.0 {
            let all = [nodes.at(0), nodes.at(1)];
            let written = nodes_cmd(&all[next].to_string(), &["GET", "k"]);
            assert_eq!(written, value.as_str());
            return true;
        }
        // Discovery was faster than the client, or left the master with the command on its way, or the machine is slow.
        let told = ["ERR nearhit: ", "UNCERTAIN ", "READONLY "];
        assert!(
            reply == "OK" || told.iter().any(|words| reply.is_error_with(words)),
            "{reply:?}"
        );
        wait_for("the master", SOON, || client.cmd(&["SET", "k", "0"]) == "OK");
        false
    });
    assert!(run);
}

fn nodes_cmd(address: &str, args: &[&str]) -> Reply {
    Resp::connect(address.parse().expect("an address")).cmd(args)
}

/// A server that takes `each` for each of its 100 keys when it is started again.
fn slow_to_load(each: Duration) -> RedisServer {
    let mut server = RedisServer::builder()
        .arg("--key-load-delay", &each.as_micros().to_string())
        .arg("--loading-process-events-interval-bytes", "1024")
        .start();
    let value = "v".repeat(2000);
    let mut client = server.client();
    // Numbers and repetitions would be packed.
    assert_eq!(client.cmd(&["CONFIG", "SET", "rdbcompression", "no"]), "OK");
    for key in 0..100 {
        assert_eq!(client.cmd(&["SET", &format!("key:{key}"), &value]), "OK");
    }
    assert_eq!(client.cmd(&["SAVE"]), "OK");
    server.kill9();
    server
}

/// Starts a server again, which takes its time, and gives what `meanwhile` says.
fn while_it_loads<T>(server: &mut RedisServer, meanwhile: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        scope.spawn(|| server.restart());
        meanwhile()
    })
}

/// The first reply that is the server's.
fn server_says(client: &mut Resp, request: &[&str]) -> Reply {
    wait_for("the server to listen", SOON, || {
        Some(client.cmd(request)).filter(|reply| !reply.is_error_with("ERR nearhit: "))
    })
}

#[test]
fn a_server_that_loads_is_waited_for() {
    let mut server = slow_to_load(Duration::from_millis(4));
    let proxy = serve(&server.url());
    let mut client = proxy.connect();
    let loaded = (0..ROUNDS).any(|_| {
        let reply = while_it_loads(&mut server, || server_says(&mut client, &["INCR", "count"]));
        if reply == 1 && retries(&proxy, "loading") >= 1.0 {
            return true;
        }
        assert!(reply == 1 || reply.is_error_with("LOADING "), "{reply:?}");
        server.kill9();
        false
    });
    assert!(loaded);
    assert_eq!(server.cmd(&["GET", "count"]), "1");
}

#[test]
fn a_server_that_loads_for_long_says_so_itself() {
    let mut server = slow_to_load(Duration::from_millis(40));
    let proxy = serve(&server.url());
    let mut client = proxy.connect();
    let reply = while_it_loads(&mut server, || server_says(&mut client, &["GET", "key:1"]));
    assert!(
        reply.is_error_with("LOADING Redis is loading the dataset in memory"),
        "{reply:?}"
    );
    assert!(retries(&proxy, "exhausted") >= 1.0);
    assert!(retries(&proxy, "loading") >= 1.0);
}
