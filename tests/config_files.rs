//! What a file may say, and what is said about one that says something else.

use std::net::SocketAddr;
use std::time::Duration;

use nearhit::config::{
    Address, Admission, ByteSize, CacheMode, Code, Config, InvalidationMode, Listen, LogFormat, Place, Policy, rows,
};

/// The text of every problem in a file called `nearhit.toml`.
fn complaint(text: &str) -> String {
    Config::parse("nearhit.toml", text)
        .expect_err("the file is wrong")
        .to_string()
}

fn codes(text: &str) -> Vec<Code> {
    Config::parse("nearhit.toml", text)
        .expect_err("the file is wrong")
        .iter()
        .map(|error| error.code())
        .collect()
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(Config::parse("nearhit.toml", ""), Ok(Config::default()));
    assert_eq!(
        Config::parse("nearhit.toml", "# nothing\n[cache]\n"),
        Ok(Config::default())
    );
    assert_eq!(Config::default().validate(), Ok(()));
}

#[test]
fn every_default_read_back_from_its_row_is_the_default() {
    let file: Vec<String> = rows()
        .map(|row| format!("{} = {}\n", row.key, row.default_toml()))
        .collect();
    assert_eq!(Config::parse("nearhit.toml", &file.concat()), Ok(Config::default()));
}

#[test]
fn both_ends_of_every_range_are_allowed() {
    for row in rows() {
        let Some((low, high)) = row.range_toml() else { continue };
        for end in [low, high] {
            let text = format!("{} = {end}\n", row.key);
            // Alone it may contradict another default; it must not be out of range.
            if let Err(errors) = Config::parse("nearhit.toml", &text) {
                assert!(
                    errors.iter().all(|error| error.code() == Code::Conflict),
                    "{text}{errors}"
                );
            }
        }
    }
}

/// A file that sets something of every type.
const FULL: &str = r#"
config_version = 1
[server]
listen = ["127.0.0.1:0", "[::1]:6380", "unix:///run/n.sock?mode=0660"]
threads = 4
drain_timeout = "0s"
limits.max_bulk = "1MB"
limits.max_inline = 4096
[upstream]
url = "redis://10.0.0.1/2"
username = "app"
password = "s3cret"
[cache]
mode = "off"
max_memory = "2gb"
admission = "always"
[invalidation]
mode = "redirect"
max_staleness = "250ms"
[metrics]
listen = ""
[log]
level = "nearhit=debug,warn"
format = "json"
[[policy]]
name = "sessions"
match = "session:*"
ttl = "30s"
max_entry = "64kb"
commands = ["get", "HGETALL"]
[[policy]]
name = "locks"
match = "lock:*"
cache = false
"#;

#[test]
fn a_full_file_is_read_into_types() {
    let config = Config::parse("nearhit.toml", FULL).unwrap();
    let v6: SocketAddr = "[::1]:6380".parse().unwrap();
    assert_eq!(config.server.listen[1], Listen::Tcp(v6));
    assert_eq!(
        config.server.listen[2],
        Listen::Unix {
            path: "/run/n.sock".into(),
            mode: Some(0o660)
        }
    );
    assert_eq!(
        (config.server.threads, config.server.drain_timeout),
        (4, Duration::ZERO)
    );
    assert_eq!(config.server.limits.max_bulk, ByteSize::mib(1));
    assert_eq!(config.server.limits.max_inline, ByteSize::kib(4));
    assert_eq!(
        config.upstream.url.first(),
        Some(Address::Tcp {
            host: "10.0.0.1".into(),
            port: 6379
        })
    );
    assert_eq!(config.upstream.url.db, 2);
    let credentials = config.upstream.credentials().unwrap();
    assert_eq!(
        (&*credentials.username, credentials.password.reveal()),
        (b"app".as_slice(), b"s3cret".as_slice())
    );
    assert_eq!(
        (config.cache.mode, config.cache.admission),
        (CacheMode::Off, Admission::Always)
    );
    assert_eq!(config.invalidation.mode, InvalidationMode::Redirect);
    assert_eq!(config.invalidation.max_staleness, Duration::from_millis(250));
    assert_eq!(config.metrics.listen, None);
    assert_eq!(
        (&*config.log.level, config.log.format),
        ("nearhit=debug,warn", LogFormat::Json)
    );
    let sessions = Policy::new("sessions", "session:*")
        .ttl(Duration::from_secs(30))
        .max_entry(ByteSize::kib(64));
    let locks = Policy::new("locks", "lock:*").cache(false);
    assert_eq!(config.policies, [sessions.commands(["GET", "hgetall"]), locks]);
}

#[test]
fn a_wrong_value_is_pointed_at_with_what_to_write_instead() {
    let expected = r#"error[E104]: cache.max_memory: unknown size unit 'parsecs'
 --> nearhit.toml:2:14
  |
2 | max_memory = "512 parsecs"
  |              ^^^^^^^^^^^^^ expected bytes, kb, mb, gb (powers of 1024) or k, m, g (powers of 1000)
  = help: write "512mb""#;
    assert_eq!(complaint("[cache]\nmax_memory = \"512 parsecs\"\n"), expected);
}

#[test]
fn an_unknown_setting_is_answered_with_the_known_ones() {
    let expected = r#"error[E102]: facade.info_secton: unknown setting
  --> nearhit.toml:11:1
   |
11 | info_secton = true
   | ^^^^^^^^^^^ expected info_section, present_as, monitor or admin_command
   = help: did you mean "info_section"?"#;
    assert_eq!(
        complaint(&format!("[facade]\n{}info_secton = true", "\n".repeat(9))),
        expected
    );
    let sections = complaint("[cahce]\nmode = \"off\"\n");
    assert!(sections.contains("nearhit.toml:1:2"), "{sections}");
    assert!(
        sections.contains("expected config_version, server, upstream, sentinel, routing, facade, pubsub, cache,"),
        "{sections}"
    );
    assert!(sections.contains("did you mean \"cache\"?"), "{sections}");
    assert!(complaint("[server.limits]\nx = 1").contains("expected max_bulk, max_args,"));
}

#[test]
fn a_value_of_the_wrong_kind_says_which_kind_is_wanted() {
    let expected = r#"error[E103]: server.threads: this is text
 --> nearhit.toml:1:18
  |
1 | server.threads = "4"
  |                  ^^^ expected a whole number
  = help: write it without quotes

error[E103]: server.listen: this is text
 --> nearhit.toml:2:17
  |
2 | server.listen = "127.0.0.1:1"
  |                 ^^^^^^^^^^^^^ expected a list of ip:port, [ipv6]:port or unix:///path?mode=0660
  = help: write ["127.0.0.1:1"]

error[E103]: cache: this is an integer
 --> nearhit.toml:3:9
  |
3 | cache = 5
  |         ^ expected a section: its settings stand below its name in brackets"#;
    assert_eq!(
        complaint("server.threads = \"4\"\nserver.listen = \"127.0.0.1:1\"\ncache = 5\n"),
        expected
    );
}

#[test]
fn a_value_out_of_range_says_the_range() {
    let expected = r#"error[E105]: server.threads: 1025 is out of range
 --> nearhit.toml:2:11
  |
2 | threads = 1025
  |           ^^^^ expected 0 to 1024

error[E105]: server.max_clients: -1 is out of range
 --> nearhit.toml:3:15
  |
3 | max_clients = -1
  |               ^^ expected 1 to 1000000

error[E105]: invalidation.max_staleness: "0s" is out of range
 --> nearhit.toml:5:17
  |
5 | max_staleness = "0s"
  |                 ^^^^ expected "10ms" to "1h""#;
    let text = "[server]\nthreads = 1025\nmax_clients = -1\n[invalidation]\nmax_staleness = \"0s\"\n";
    assert_eq!(complaint(text), expected);
}

#[test]
fn what_is_not_toml_is_reported_together_with_what_is_wrong_elsewhere() {
    let expected = r#"error[E101]: string values must be quoted
 --> nearhit.toml:2:8
  |
2 | mode = yes
  |        ^^^ expected literal string

error[E104]: cache.negative_ttl: the unit is missing
 --> nearhit.toml:3:16
  |
3 | negative_ttl = "5"
  |                ^^^ expected a duration such as 250us, 5ms, 1s, 2m, 1h or 1d
  = help: write "5s" for seconds"#;
    assert_eq!(complaint("[cache]\nmode = yes\nnegative_ttl = \"5\"\n"), expected);
}

#[test]
fn settings_that_contradict_each_other_are_refused_where_they_were_set() {
    let expected = r#"error[E107]: cache.max_memory: cache.max_entry (1mb) is larger than cache.max_memory (512kb)
 --> nearhit.toml:2:14
  |
2 | max_memory = "512kb"
  |              ^^^^^^^ expected cache.max_entry to be at most 512kb"#;
    assert_eq!(complaint("[cache]\nmax_memory = \"512kb\"\n"), expected);
    let cases = [
        ("server.listen = []", Code::Missing),
        ("server.listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", Code::Conflict),
        (
            "server.listen = [\"unix:///a\", \"unix:///a?mode=0600\"]",
            Code::Conflict,
        ),
        ("server.listen = [\"127.0.0.1:9381\"]", Code::Conflict),
        ("server.limits.max_bulk = \"2gb\"", Code::Conflict),
        ("[upstream]\nurl = \"redis://:a@db\"\npassword = \"b\"", Code::Conflict),
        (
            "[upstream]\npassword = \"b\"\npassword_file = \"/run/p\"",
            Code::Conflict,
        ),
        ("config_version = 2", Code::BadValue),
        ("invalidation.mode = \"broadcast\"", Code::Conflict),
        ("invalidation.mode = \"ttl\"", Code::Conflict),
        ("invalidation.prefixes = [\"b\", \"a:b\", \"a:\"]", Code::Conflict),
        ("invalidation.prefixes = [\"\", \"a\"]", Code::Conflict),
        ("invalidation.canary_key = \"\"", Code::Conflict),
        ("routing.zones = [\"10.0.0.2:6379 eu-1a\"]", Code::BadValue),
        ("routing.zones = [\"10.0.0.2:0=eu-1a\"]", Code::BadValue),
        ("routing.addresses = [\"10.0.0.2\"]", Code::BadValue),
        ("routing.addresses = [\"a:1=b:2\", \"b:2=c:3\"]", Code::Conflict),
    ];
    for (text, code) in cases {
        assert_eq!(codes(text), [code], "{text}");
    }
    assert!(Config::parse("f", "server.listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]").is_ok());
}

#[test]
fn every_problem_of_a_policy_is_reported_at_its_own_place() {
    let text = "[[policy]]\nname = \"a\"\ncahce = true\n[[policy]]\nname = \"a\"\nmatch = \"\"\nttl = \"0s\"\nmax_entry = \"1gb\"\ncommands = [\"GET\", \"a b\"]\n";
    let errors = Config::parse("nearhit.toml", text).unwrap_err();
    let found: Vec<_> = errors
        .iter()
        .map(|error| (error.key(), error.code(), line_of(error.place())))
        .collect();
    let expected = [
        ("policy[0]", Code::Missing, 1),
        ("policy[0].cahce", Code::UnknownKey, 3),
        ("policy[1].name", Code::Conflict, 5),
        ("policy[1].match", Code::BadValue, 6),
        ("policy[1].ttl", Code::OutOfRange, 7),
        ("policy[1].max_entry", Code::OutOfRange, 8),
        ("policy[1].commands", Code::BadValue, 9),
    ];
    assert_eq!(found, expected, "{errors}");
}

fn line_of(place: &Place) -> usize {
    match place {
        Place::File { line, .. } => *line,
        _ => 0,
    }
}

#[test]
fn no_message_and_no_debug_output_holds_a_password() {
    let texts = [
        "[upstream]\nurl = \"redis://me:s3cret@db:port\"\n",
        "[upstream]\npassword = \"s3cret\n",
        "upstream = { password = \"s3cret\", bogus = 1 }\n",
        "[upstream]\nurl = \"redis://me:s3cret@db\"\npassword = \"s3cret\"\n",
        "[upstream]\nurl = \"redis://me:s3cret@db\n",
        "upstream.password = s3cret\n",
    ];
    for text in texts {
        let complaint = complaint(text);
        assert!(!complaint.contains("s3cret"), "{complaint}");
    }
    let good = "[upstream]\nusername = \"me\"\npassword = \"s3cret\"\n[[policy]]\nname = \"a\"\nmatch = \"b\"\n";
    let config = Config::parse("f", good).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(!format!("{:?}", "redis://me:s3cret@db".parse::<nearhit::config::UpstreamUrl>()).contains("s3cret"));
}

#[test]
fn nothing_a_file_can_say_makes_the_reader_panic() {
    let mut text =
        String::from("[[policy]]\nname=\"é\"\nmatch='x'\n[cache]\nmax_entry=\"9\"\n[server]\nlisten=[\"[::1]:1\"]\n");
    while !text.is_empty() {
        // Every beginning of a file, alone and with something strange behind it.
        for tail in ["", "\"", "[[", "= {", "\u{0}", "ü"] {
            if let Err(errors) = Config::parse("f", &format!("{text}{tail}")) {
                assert!(!errors.to_string().is_empty());
            }
        }
        text.pop();
    }
}
