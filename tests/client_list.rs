//! CLIENT LIST and CLIENT INFO tell about nearhit's clients what the server tells about its own.

mod session_support;
mod support;

use session_support::{Pair, Twin, commands};
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};

/// Fields that must have the server's value, not only its name.
const TRUE: &[&str] = &[
    "name", "flags", "db", "sub", "psub", "ssub", "multi", "events", "cmd", "user", "redir", "resp",
];

/// A line of CLIENT LIST, field by field, in its order.
fn fields(line: &str) -> Vec<(String, String)> {
    let pairs = line
        .trim_end()
        .split(' ')
        .map(|field| field.split_once('=').expect("name=value"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn field(line: &str, name: &str) -> String {
    let found = fields(line).into_iter().find(|(own, _)| own == name);
    found.unwrap_or_else(|| panic!("no {name} in {line}")).1
}

fn line_of(watcher: &mut Resp, id: i64) -> String {
    watcher.line(&format!("CLIENT LIST ID {id}")).text()
}

/// Waits until nearhit shows a client as the server shows the same one.
fn same_line(watchers: &mut Twin, ids: [i64; 2], what: &str) {
    let mut seen = (Vec::new(), Vec::new());
    let told = |line: &str| -> Vec<_> {
        let all = fields(line).into_iter();
        all.filter(|(name, _)| TRUE.contains(&name.as_str())).collect()
    };
    let same = support::eventually(SOON, || {
        let direct = line_of(&mut watchers.direct, ids[0]);
        let proxied = line_of(&mut watchers.proxied, ids[1]);
        seen = (told(&direct), told(&proxied));
        seen.0 == seen.1
    });
    assert!(same, "{what}:\n direct:  {:?}\n proxied: {:?}", seen.0, seen.1);
}

#[test]
fn a_client_is_listed_in_every_state_as_the_server_lists_it() {
    let pair = Pair::start();
    let mut watchers = pair.twin();
    for state in [
        "PING",
        "NOSUCH",
        "CLIENT SETNAME me | SELECT 3 | GET x",
        "HELLO 3 | SET a 1",
        "MULTI | GET a | GET b",
        "MULTI | EXEC",
        "WATCH a",
        "CLIENT NO-EVICT on",
        "CLIENT NO-EVICT on | RESET",
        "CLIENT NO-EVICT on | CLIENT NO-EVICT off | CLIENT LIST",
        "SUBSCRIBE a b | PSUBSCRIBE c* | SSUBSCRIBE d",
        "SUBSCRIBE a | UNSUBSCRIBE a",
        "HELLO 3 | SUBSCRIBE a | GET x",
    ] {
        let mut twin = pair.twin();
        let ids = [&mut twin.direct, &mut twin.proxied].map(|client| client.line("CLIENT ID").int());
        for command in commands(state) {
            let several = if command.starts_with("SUBSCRIBE a b") { 2 } else { 1 };
            for client in [&mut twin.direct, &mut twin.proxied] {
                client.send_raw(session_support::line_bytes(command));
                (0..several).for_each(|_| drop(client.read_frame_bytes()));
            }
        }
        same_line(&mut watchers, ids, state);
    }
    let mut twin = pair.twin();
    let ids = [&mut twin.direct, &mut twin.proxied].map(|client| client.line("CLIENT ID").int());
    twin.send(&session_support::line_bytes("BLPOP none 0"));
    same_line(&mut watchers, ids, "BLPOP");
}

#[test]
fn a_line_has_the_servers_fields_in_its_order_and_then_the_librarys() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    let names = |client: &mut Resp| -> Vec<String> {
        let line = client.line("CLIENT INFO").text();
        fields(&line).into_iter().map(|(name, _)| name).collect()
    };
    let (direct, mut proxied) = (names(&mut twin.direct), names(&mut twin.proxied));
    let added = proxied.split_off(direct.len());
    assert_eq!(proxied, direct);
    assert_eq!(added, ["lib-name", "lib-ver"]);
    twin.proxied
        .lines_ok(&["CLIENT SETINFO LIB-NAME lib(x)", "client setinfo lib-ver 1.2"]);
    let line = twin.proxied.line("CLIENT INFO").text();
    assert!(line.ends_with(" lib-name=lib(x) lib-ver=1.2\n"), "{line:?}");
    assert_eq!(field(&line, "addr"), twin.proxied.local_addr().to_string());
    assert_eq!(field(&line, "laddr"), pair.nearhit.addr().to_string());
    assert!(field(&line, "fd").parse::<u32>().is_ok_and(|fd| fd > 2), "{line}");
}

#[test]
fn both_protocols_get_their_own_kind_of_text() {
    let pair = Pair::start();
    let mut watcher = pair.nearhit.connect();
    for (mut client, kind) in [(pair.nearhit.connect(), b'$'), (pair.nearhit.connect3(), b'=')] {
        for line in ["CLIENT INFO", "CLIENT LIST", "CLIENT LIST TYPE normal"] {
            client.send_raw(session_support::line_bytes(line));
            let frame = client.read_reply_bytes();
            assert_eq!(frame[0], kind, "{line}");
            assert!(frame.ends_with(b"\n\r\n"), "{line}");
        }
    }
    assert!(watcher.line("CLIENT LIST ID 99999").text().is_empty());
}

#[test]
fn what_is_asked_for_is_listed_and_mistakes_are_told_in_the_servers_words() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    twin.table(
        &[
            "CLIENT LIST TYPE foo",
            "CLIENT LIST TYPE slave",
            "CLIENT LIST TYPE replica",
            "CLIENT LIST TYPE master",
            "CLIENT LIST ID",
            "CLIENT LIST ID 99",
            "CLIENT LIST ID x",
            "CLIENT LIST ID 99 -1",
            "CLIENT LIST FOO",
            "CLIENT LIST FOO BAR",
            "CLIENT LIST TYPE normal x",
            "CLIENT LIST TYPE",
            "CLIENT LIST TYPE pubsub",
            "CLIENT INFO x",
            "CLIENT ID x",
            "CLIENT GETNAME x",
            "CLIENT SETNAME",
            "CLIENT SETNAME a b",
            "CLIENT NO-EVICT",
            "CLIENT NO-EVICT maybe",
            "CLIENT NO-TOUCH on",
            "CLIENT CAPA redirect",
            "CLIENT REPLY",
            "CLIENT REPLY x",
            "CLIENT HELP",
            "CLIENT",
            "CLIENT FOO",
            "CLIENT FOO BAR",
        ],
        1,
    );
    for name in ["a b", "a\n", "\u{e4}", "", "a\u{7f}"] {
        twin.same(&["CLIENT", "SETNAME", name]);
        twin.line("CLIENT GETNAME");
    }
    let mut listener = pair.nearhit.connect();
    let id = listener.line("CLIENT ID").int();
    listener.line("SUBSCRIBE c");
    let client = &mut twin.proxied;
    let listed = wait_for("the subscriber", SOON, || {
        Some(client.line("CLIENT LIST TYPE pubsub").text()).filter(|list| !list.is_empty())
    });
    assert_eq!(field(&listed, "id"), id.to_string());
    let own = client.line("CLIENT ID").int();
    let list = client.line(&format!("CLIENT LIST ID {id} {own} 99999 {id}")).text();
    let ids: Vec<_> = list.lines().map(|line| field(line, "id")).collect();
    assert_eq!(ids, [id, own, id].map(|id| id.to_string()));
}

#[test]
fn idle_time_grows_while_nothing_is_sent_and_age_all_the_time() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let (mut idle, mut watcher) = (nearhit.connect(), nearhit.connect());
    let id = idle.line("CLIENT ID").int();
    wait_for("a second", SOON, || field(&line_of(&mut watcher, id), "idle") != "0");
    wait_for("somebody who speaks", SOON, || {
        idle.line("PING");
        let line = line_of(&mut watcher, id);
        assert_ne!(field(&line, "age"), "0");
        field(&line, "idle") == "0"
    });
}

#[test]
fn clients_of_all_workers_are_listed_oldest_first() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "4"]);
    let mut clients: Vec<_> = (0..40).map(|_| nearhit.connect()).collect();
    let mut ids: Vec<_> = clients
        .iter_mut()
        .map(|client| client.line("CLIENT ID").int())
        .collect();
    ids.sort_unstable();
    let list = clients[0].line("CLIENT LIST").text();
    let listed: Vec<i64> = list
        .lines()
        .map(|line| field(line, "id").parse().expect("an id"))
        .collect();
    assert_eq!(listed, ids);
    drop(clients.split_off(1));
    wait_for("the others to leave", SOON, || {
        clients[0].line("CLIENT LIST").text().lines().count() == 1
    });
}

#[test]
fn clients_of_a_unix_socket_are_listed_with_its_path() {
    let redis = RedisServer::start();
    let dir = support::temp_dir();
    let path = dir.path().join("s");
    let listen = format!("unix://{}", path.display());
    let nearhit = Nearhit::serve_with(&redis.url(), &["--listen", &listen]);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("connect");
    std::io::Write::write_all(&mut stream, b"CLIENT INFO\r\n").expect("send");
    let mut reply = [0; 4096];
    let count = std::io::Read::read(&mut stream, &mut reply).expect("a reply");
    let text = String::from_utf8_lossy(&reply[..count]).into_owned();
    let address = format!(" addr={0}:0 laddr={0}:0 ", path.display());
    assert!(text.contains(&address) && text.contains(" flags=U "), "{text}");
    drop(nearhit);
}

#[test]
fn inside_a_transaction_the_answer_is_nearhits_and_stands_in_its_place() {
    let pair = Pair::start();
    let mut twin = pair.twin_in(3);
    twin.lines(&[
        "MULTI",
        "SET k 1",
        "CLIENT SETNAME inside",
        "CLIENT GETNAME",
        "CLIENT NO-EVICT on",
        "CLIENT NO-EVICT x",
        "CLIENT LIST TYPE foo",
        "CLIENT LIST ID 999",
        "CLIENT KILL ID 0",
        "CLIENT KILL ID 999",
        "GET k",
        "EXEC",
        "CLIENT GETNAME",
        "MULTI",
        "CLIENT LIST x",
        "CLIENT ID x",
        "EXEC",
        "CLIENT GETNAME",
    ]);
    let client = &mut twin.proxied;
    let id = client.line("CLIENT ID");
    client.lines_ok(&[
        "MULTI",
        "CLIENT ID",
        "CLIENT INFO",
        "CLIENT SETINFO lib-name x",
        "PROXY VERSION",
        "EXEC",
    ]);
    client.lines_ok(&[
        "MULTI",
        "CLIENT ID",
        "CLIENT INFO",
        "CLIENT SETINFO lib-name y",
        "PROXY PING",
    ]);
    let parts = client.line("EXEC").items();
    assert_eq!(parts[0], id);
    let line = parts[1].text();
    assert_eq!(field(&line, "id"), id.int().to_string());
    assert_eq!(field(&line, "lib-name"), "x");
    assert_eq!(parts[2], "OK");
    assert_eq!(parts[3], "PONG");
}
