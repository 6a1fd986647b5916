//! Flags win over the environment, the environment over the file, the file over the defaults.

use std::io::Write as _;
use std::time::Duration;

use nearhit::config::{ByteSize, Code, Config, ConfigErrors, Place, env_name, flag_name, rows, settings_markdown};

/// Loads a file with this text, these variables and these flags.
fn load(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(file.as_bytes()).unwrap();
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    Config::load(Some(written.path()), owned(env).into_iter(), &owned(flags))
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let file = "[cache]\nmax_memory = \"1gb\"\nmax_entry = \"1kb\"\nnegative_ttl = \"2s\"\n";
    let env = [
        ("NEARHIT_CACHE__MAX_MEMORY", "2gb"),
        ("NEARHIT_CACHE__MAX_ENTRY", "2kb"),
    ];
    let config = load(file, &env, &[("cache.max-memory", "3gb")]).unwrap();
    assert_eq!(config.cache.max_memory, ByteSize::gib(3));
    assert_eq!(config.cache.max_entry, ByteSize::kib(2));
    assert_eq!(config.cache.negative_ttl, Duration::from_secs(2));
    assert_eq!(config.cache.max_entry_ttl, Config::default().cache.max_entry_ttl);
}

#[test]
fn every_setting_is_a_variable_and_a_flag() {
    for row in rows() {
        let toml = row.default_toml();
        let text = toml
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .unwrap_or(&toml)
            .to_owned();
        let names = [flag_name(row), format!("--{}", row.key), row.key.to_owned()];
        let env = std::iter::once((env_name(row), text.clone()));
        assert_eq!(Config::load(None, env, &[]), Ok(Config::default()), "{}", row.key);
        for name in names {
            let flags = [(name, text.clone())];
            assert_eq!(
                Config::load(None, std::iter::empty(), &flags),
                Ok(Config::default()),
                "{}",
                row.key
            );
        }
    }
}

#[test]
fn lists_and_policies_are_toml_outside_files() {
    let env = [
        ("NEARHIT_SERVER__LISTEN", "[\"127.0.0.1:1\", '[::1]:2']"),
        ("NEARHIT_POLICY", "[{ name = \"a\", match = \"a:*\", ttl = \"5s\" }]"),
    ];
    let file = "[[policy]]\nname = \"old\"\nmatch = \"x\"\n[[policy]]\nname = \"older\"\nmatch = \"y\"\nttl = \"1s\"\n";
    let config = load(file, &env, &[]).unwrap();
    assert_eq!(
        config.server.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.1:1", "[::1]:2"]
    );
    assert_eq!(config.policies.len(), 1);
    assert_eq!(config.policies[0].ttl, Some(Duration::from_secs(5)));
}

#[test]
fn one_address_needs_no_brackets_and_repeated_flags_add_up() {
    let config = load("", &[("NEARHIT_SERVER__LISTEN", "[::1]:6380")], &[]).unwrap();
    assert_eq!(config.server.listen[0].to_string(), "[::1]:6380");
    let flags = [("server.listen", "127.0.0.1:1"), ("server.listen", "[\"127.0.0.1:2\"]")];
    let config = load("server.listen = [\"127.0.0.1:9\"]", &[], &flags).unwrap();
    assert_eq!(
        config.server.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.1:1", "127.0.0.1:2"]
    );
    let config = load("", &[], &[("server.threads", "1"), ("server.threads", "2")]).unwrap();
    assert_eq!(config.server.threads, 2);
}

#[test]
fn variables_that_are_no_settings_are_ignored_unless_they_look_like_one() {
    let kubernetes = [
        ("NEARHIT_PORT", "tcp://10.0.0.1:6380"),
        ("NEARHIT_SERVICE_HOST", "10.0.0.1"),
        ("HOME", "/root"),
    ];
    assert_eq!(load("", &kubernetes, &[]), Ok(Config::default()));
    let errors = load("", &[("NEARHIT_CACHE__MAX_MEMROY", "1gb")], &[]).unwrap_err();
    let known: Vec<_> = nearhit::config::rows()
        .filter(|row| row.key.starts_with("cache."))
        .map(nearhit::config::env_name)
        .collect();
    let (last, others) = known.split_last().expect("settings of the cache");
    let expected = format!(
        "error[E102]: cache.max_memroy: unknown setting
 --> environment variable NEARHIT_CACHE__MAX_MEMROY
  = expected {} or {last}
  = help: did you mean NEARHIT_CACHE__MAX_MEMORY?",
        others.join(", ")
    );
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn wrong_variables_and_flags_are_named_with_what_was_expected() {
    let env = [("NEARHIT_LOG__FORMAT", "xml"), ("NEARHIT_SERVER__THREADS", "many")];
    let flags = [
        ("server.allow_unprotected", "yes"),
        ("metrics.listen", "9381"),
        ("facade.admin", "X"),
        ("policy", "[{]"),
    ];
    let errors = load("", &env, &flags).unwrap_err();
    let expected = "error[E104]: log.format: unknown choice 'xml'
 --> environment variable NEARHIT_LOG__FORMAT
  = expected auto, text or json

error[E103]: server.threads: 'many' cannot be read
 --> environment variable NEARHIT_SERVER__THREADS
  = expected a whole number

error[E103]: server.allow_unprotected: 'yes' cannot be read
 --> flag --server.allow-unprotected
  = expected true or false

error[E104]: metrics.listen: '9381' is not an address to listen on
 --> flag --metrics.listen
  = expected ip:port or [ipv6]:port, or \"\" for off
  = help: write \"0.0.0.0:9381\" for every address, \"127.0.0.1:9381\" for this machine only

error[E102]: facade.admin: unknown setting
 --> flag --facade.admin
  = expected --facade.info-section, --facade.present-as, --facade.monitor or --facade.admin-command";
    assert!(errors.to_string().starts_with(expected), "{errors}");
    let policy = errors.iter().last().unwrap();
    assert_eq!((policy.key(), policy.code()), ("policy", Code::Syntax));
    assert_eq!(policy.place(), &Place::Flag("--policy".into()));
}

#[test]
fn a_range_is_checked_where_the_effective_value_was_set() {
    let errors = load("server.threads = 5000", &[("NEARHIT_SERVER__THREADS", "6000")], &[]).unwrap_err();
    let only: Vec<_> = errors
        .iter()
        .map(|error| (error.place().clone(), error.message()))
        .collect();
    assert_eq!(
        only,
        [(Place::Env("NEARHIT_SERVER__THREADS".into()), "6000 is out of range")]
    );
    assert!(load("server.threads = 5000", &[("NEARHIT_SERVER__THREADS", "6")], &[]).is_ok());
}

#[test]
fn a_password_may_come_from_a_file() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b" pass word \r\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let file = format!("upstream.password_file = '{path}'");
    assert_eq!(
        load(&file, &[], &[]).unwrap().upstream.password.reveal(),
        b" pass word "
    );
    // The later layer wins, in whichever form it says it.
    let config = load(&file, &[("NEARHIT_UPSTREAM__PASSWORD", "other")], &[]).unwrap();
    assert_eq!(config.upstream.password.reveal(), b"other");
    let config = load(
        "upstream.password = 'other'",
        &[("NEARHIT_UPSTREAM__PASSWORD_FILE", path)],
        &[],
    )
    .unwrap();
    assert_eq!(config.upstream.password.reveal(), b" pass word ");
    // Each section has its own.
    let config = load(&format!("sentinel.password_file = '{path}'"), &[], &[]).unwrap();
    assert_eq!(config.upstream.credentials(), None);
    assert_eq!(config.sentinel.credentials().unwrap().password.reveal(), b" pass word ");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing = std::path::Path::new("/nonexistent/nearhit.toml");
    let errors = Config::load(Some(missing), std::iter::empty(), &[]).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "error[E109]: no such file\n --> /nonexistent/nearhit.toml\n  = expected a TOML file"
    );
    let errors = load("", &[], &[("upstream.password_file", "/nonexistent/p")]).unwrap_err();
    let expected = "error[E109]: upstream.password_file: no such file\n --> flag --upstream.password-file\n  = expected /nonexistent/p to be readable";
    assert_eq!(errors.to_string(), expected);
    let empty = tempfile::NamedTempFile::new().unwrap();
    let flags = [("upstream.password_file", empty.path().to_str().unwrap())];
    assert!(load("", &[], &flags).unwrap_err().to_string().contains("is empty"));
}

#[test]
fn the_table_of_settings_has_a_line_for_every_setting() {
    let page = settings_markdown();
    for row in rows() {
        assert!(
            page.contains(&format!("| `{}` | `{}` |", row.name(), row.default_toml())),
            "{}",
            row.key
        );
        assert!(!row.help().is_empty(), "{}", row.key);
    }
    assert!(page.contains("`cache.max_memory` is `NEARHIT_CACHE__MAX_MEMORY` and `--cache.max-memory`"));
    assert!(page.contains("### `[server.limits]`") && page.contains("### `[[policy]]`"));
}
