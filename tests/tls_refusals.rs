//! What is said when TLS does not come about: with which node, which name was expected, and what to do.

mod support;
mod tls_support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{Nearhit, RedisServer, SOON, eventually, run};
use tls_support::{Authority, Certified, text, url};

/// What a client is told by a nearhit that cannot reach `upstream`; the log says the same.
#[track_caller]
fn told(upstream: &str, args: &[&str]) -> String {
    let nearhit = Nearhit::serve_with(upstream, args);
    let mut client = nearhit.connect();
    let mut answer = String::new();
    let refused = eventually(SOON, || {
        answer = client.line("GET k").text();
        answer.contains("connect to ")
    });
    assert!(refused, "{answer}");
    let (_, why) = answer.split_once("connect to ").expect("what was attempted");
    let why = why
        .split("; the command was not sent")
        .next()
        .expect("a reason")
        .to_owned();
    nearhit.wait_for_stderr(&why);
    let reads = client.line("SET k v");
    assert!(reads.is_error_with("ERR"), "nothing is sent: {reads:?}");
    why
}

#[track_caller]
fn told_believing(authority: &Authority, upstream: &str) -> String {
    told(upstream, &["--upstream.tls.ca-file", &authority.ca()])
}

fn localhost(redis: &RedisServer) -> String {
    format!("localhost:{}", redis.tls_port())
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let redis = Authority::new().server();
    let other = Authority::new();
    assert_eq!(
        told_believing(&other, &url(&redis)),
        format!(
            "{}: its certificate was not issued by an authority of upstream.tls.ca_file",
            localhost(&redis)
        )
    );
}

/// As when an authority was made anew.
#[test]
fn an_authority_of_the_same_name_with_another_key_is_another_one() {
    let redis = Authority::named("ours").server();
    assert_eq!(
        told_believing(&Authority::named("ours"), &url(&redis)),
        format!(
            "{}: its certificate was not issued by an authority of upstream.tls.ca_file, but by one of the same name with another key",
            localhost(&redis)
        )
    );
}

/// The system's authorities know nothing of a test's; a machine without any says so when nearhit starts.
#[test]
fn a_certificate_that_the_system_does_not_know_is_refused() {
    let authority = Authority::new();
    let redis = authority.server();
    let mut command = Nearhit::command();
    command.env("SSL_CERT_FILE", Authority::new().file());
    command.args([
        "serve",
        "--upstream",
        &url(&redis),
        "--listen",
        "127.0.0.1:0",
        "--metrics.listen",
        "",
    ]);
    let nearhit = Nearhit::start({
        command.args(["--log.format", "text"]);
        command
    });
    let why =
        "its certificate was not issued by an authority that this system knows; upstream.tls.ca_file names another one";
    nearhit.wait_for_stderr(why);
    assert!(eventually(SOON, || nearhit
        .connect()
        .line("GET k")
        .text()
        .contains(why)));
    drop(nearhit);
    let mut command = Nearhit::command();
    command.env("SSL_CERT_FILE", authority.file());
    command.args([
        "serve",
        "--upstream",
        &url(&redis),
        "--listen",
        "127.0.0.1:0",
        "--log.format",
        "text",
    ]);
    command.args(["--metrics.listen", ""]);
    assert_eq!(Nearhit::start(command).connect().line("SET k v"), "OK");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let redis = authority.server_as(&authority.issue("other", &["*.example", "10.0.0.1"]));
    assert_eq!(
        told_believing(&authority, &url(&redis)),
        format!(
            "{}: its certificate is not for 'localhost' but for *.example, 10.0.0.1; upstream.tls.server_name says which name to expect",
            localhost(&redis)
        )
    );
}

#[test]
fn the_name_that_is_expected_is_the_one_that_was_set() {
    let authority = Authority::new();
    let redis = authority.server();
    let args = [
        "--upstream.tls.ca-file",
        &authority.ca(),
        "--upstream.tls.server-name",
        "redis.example",
    ];
    let why = told(&url(&redis), &args);
    let wanted = format!(
        "{}: its certificate is not for 'redis.example' but for localhost, 127.0.0.1; ",
        localhost(&redis)
    );
    assert!(why.starts_with(&wanted), "{why}");
}

#[test]
fn a_certificate_without_names_is_for_nobody() {
    let authority = Authority::new();
    let redis = authority.server_as(&authority.issue("nameless", &[]));
    assert_eq!(
        told_believing(&authority, &url(&redis)),
        format!(
            "{}: its certificate has no subject alternative names, so it is not for 'localhost' (a common name does not count)",
            localhost(&redis)
        )
    );
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let redis = authority.server_as(&authority.issue_until("old", &["localhost"], 2021));
    let why = told_believing(&authority, &url(&redis));
    let days = why
        .strip_prefix(&format!("{}: its certificate expired ", localhost(&redis)))
        .and_then(|rest| rest.strip_suffix(" days ago")?.parse::<u32>().ok());
    assert!(days.is_some_and(|days| days > 1000), "{why}");
}

#[test]
fn a_server_that_does_not_speak_tls_is_told_as_such() {
    let redis = RedisServer::start();
    let authority = Authority::new();
    let args = [
        "--upstream.tls.ca-file",
        &authority.ca(),
        "--upstream.connect-timeout",
        "300ms",
    ];
    let at = format!("rediss://localhost:{}", redis.port());
    assert_eq!(
        told(&at, &args),
        format!(
            "localhost:{}: timed out after 300ms, waiting for the TLS handshake; does that port speak TLS? (redis:// is for those that do not)",
            redis.port()
        )
    );
}

#[test]
fn a_server_that_speaks_tls_where_it_is_spoken_to_in_the_clear_is_told_as_such() {
    let redis = Authority::new().server();
    assert_eq!(
        told(&format!("redis://localhost:{}", redis.tls_port()), &[]),
        format!(
            "{}: connection reset by the server, at the first command; if that port speaks TLS, the URL begins with rediss://",
            localhost(&redis)
        )
    );
}

/// A client of TLS 1.3 hears of it only when it has taken the handshake for done.
#[test]
fn a_server_that_wants_a_certificate_is_told_as_such() {
    for (protocols, wanted) in [
        (
            "TLSv1.3",
            "the server wants a certificate from its clients: set upstream.tls.cert_file and upstream.tls.key_file",
        ),
        (
            "TLSv1.2",
            "the server refuses the TLS handshake (TLS alert 40); if it wants a certificate from its clients, set upstream.tls.cert_file and upstream.tls.key_file",
        ),
    ] {
        let authority = Authority::new();
        let strict = authority.tls(RedisServer::builder()).arg("--tls-auth-clients", "yes");
        let redis = strict.arg("--tls-protocols", protocols).start();
        let why = told_believing(&authority, &url(&redis));
        assert_eq!(why, format!("{}: {wanted}", localhost(&redis)), "{protocols}");
    }
}

#[test]
fn a_server_that_does_not_believe_our_certificate_is_told_as_such() {
    for protocols in ["TLSv1.3", "TLSv1.2"] {
        let authority = Authority::new();
        let strict = authority.tls(RedisServer::builder()).arg("--tls-auth-clients", "yes");
        let redis = strict.arg("--tls-protocols", protocols).start();
        let stranger = Authority::new().issued();
        let (certificate, key) = (text(&stranger.1.certificate), text(&stranger.1.key));
        let args = [
            "--upstream.tls.ca-file",
            &authority.ca(),
            "--upstream.tls.cert-file",
            &certificate,
            "--upstream.tls.key-file",
            &key,
        ];
        assert_eq!(
            told(&url(&redis), &args),
            format!(
                "{}: the server refuses the certificate of upstream.tls.cert_file: UnknownCA (TLS alert 48)",
                localhost(&redis)
            ),
            "{protocols}"
        );
    }
}

/// A file with this content.
fn file(authority: &Authority, name: &str, content: &str) -> PathBuf {
    let path = authority.file().with_file_name(name);
    std::fs::write(&path, content).expect("write a file");
    path
}

/// Files of `[upstream.tls]` are refused at this line and column.
#[track_caller]
fn files_refused(files: &[(&str, &Path)], at: &str, says: &str) {
    let mut all = "upstream.url = \"rediss://db\"\n[upstream.tls]\n".to_owned();
    for (name, path) in files {
        all += &format!("{name} = {:?}\n", text(path));
    }
    refused(&all, at, says);
}

#[test]
fn authorities_that_are_missing_or_wrong_are_errors_of_the_configuration() {
    let authority = Authority::new();
    let pem = |content: &str| format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n");
    let missing = authority.file().with_file_name("missing");
    let no_base64 = file(&authority, "no_base64.crt", &pem("????"));
    let no_certificate = file(&authority, "no_certificate.crt", &pem("AAAA"));
    let key = authority.issue("node", &["node"]).key;
    for (path, says) in [
        (&missing, "no such file"),
        (&key, "there is no certificate in"),
        (&no_base64, "is not PEM"),
        (&no_certificate, "certificate 1 of"),
    ] {
        files_refused(&[("ca_file", path)], "3:11", says);
    }
}

#[test]
fn certificates_and_keys_that_are_missing_or_wrong_are_errors_of_the_configuration() {
    let authority = Authority::new();
    let Certified { certificate, key } = authority.issue("node", &["node"]);
    let other = authority.issue("other", &["other"]).key;
    let missing = key.with_file_name("missing");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = file(&authority, "encrypted.key", encrypted);
    let alone = "cert_file is given, and it is of no use without key_file";
    files_refused(&[("cert_file", &certificate)], "3:13", alone);
    let alone = "key_file is given, and it is of no use without cert_file";
    files_refused(&[("key_file", &key)], "3:12", alone);
    for (key, says) in [
        (&missing, "no such file"),
        (&certificate, "there is no private key in"),
        (&encrypted, "is encrypted"),
        (&other, "this key is not that of the certificate in cert_file"),
    ] {
        files_refused(&[("cert_file", &certificate), ("key_file", key)], "4:12", says);
    }
}

#[test]
fn settings_that_cannot_be_meant_are_errors_of_the_configuration() {
    refused(
        "upstream.url = \"rediss://db\"\n[upstream.tls]\nserver_name = \"a b\"\n",
        "3:15",
        "'a b' is neither a host name nor an address",
    );
    refused(
        &format!("[upstream.tls]\nca_file = {:?}\n", Authority::new().ca()),
        "2:11",
        "upstream.tls.ca_file is of no use: upstream.url says nothing of TLS",
    );
    refused(
        "upstream.url = \"unix:///run/redis.sock\"\n[upstream.tls]\ninsecure_skip_verify = true\n",
        "3:24",
        "upstream.tls.insecure_skip_verify is of no use",
    );
}

/// `nearhit check` and `nearhit serve` say the same about a file, and where in it.
#[track_caller]
fn refused(file: &str, at: &str, says: &str) {
    let dir = support::temp_dir();
    let path = dir.path().join("nearhit.toml");
    std::fs::write(&path, file).expect("write a file");
    for command in ["check", "serve"] {
        let done = run(
            Nearhit::command().args([command, "-c", &text(&path)]),
            Duration::from_secs(20),
        );
        assert_eq!(done.code(), Some(78), "{file}\n{done:?}");
        assert!(done.stderr.contains(says), "{file}\n{}", done.stderr);
        assert!(
            done.stderr.contains(&format!("nearhit.toml:{at}\n")),
            "{file}\n{}",
            done.stderr
        );
    }
}

#[test]
fn all_settings_may_stand_in_the_environment() {
    let authority = Authority::new();
    let redis = authority.strict_server();
    let Certified { certificate, key } = authority.issue("nearhit", &["nearhit"]);
    let mut command = Nearhit::command();
    command
        .env(
            "NEARHIT_UPSTREAM__URL",
            format!("rediss://127.0.0.1:{}", redis.tls_port()),
        )
        .env("NEARHIT_UPSTREAM__TLS__CA_FILE", authority.file())
        .env("NEARHIT_UPSTREAM__TLS__CERT_FILE", certificate)
        .env("NEARHIT_UPSTREAM__TLS__KEY_FILE", key)
        .env("NEARHIT_UPSTREAM__TLS__SERVER_NAME", "localhost")
        .env("NEARHIT_UPSTREAM__TLS__INSECURE_SKIP_VERIFY", "false")
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--metrics.listen",
            "",
            "--log.format",
            "text",
        ]);
    assert_eq!(Nearhit::start(command).connect().line("SET k v"), "OK");
}
