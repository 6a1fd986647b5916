//! Who may be let in: an address that other machines reach is a decision, never a default.

mod support;

use nearhit::Proxy;
use nearhit::config::{Code, Config};
use nearhit::error::{Kind, Side};
use std::time::Duration;
use support::{Nearhit, RedisServer, child};

fn codes(text: &str) -> Vec<Code> {
    match Config::parse("nearhit.toml", text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(|error| error.code()).collect(),
    }
}

#[test]
fn an_address_that_other_machines_reach_is_refused() {
    for open in [
        "0.0.0.0:6380",
        "[::]:6380",
        "10.0.0.1:0",
        "[2001:db8::1]:6380",
        "[::ffff:10.0.0.1]:6380",
    ] {
        let text = format!("[server]\nlisten = [\"127.0.0.1:6380\", \"{open}\"]\n");
        assert_eq!(codes(&text), [Code::Unprotected], "{open}");
        for decided in ["allow_unprotected", "require_auth"] {
            assert_eq!(codes(&format!("{text}{decided} = true\n")), [], "{decided}, {open}");
        }
    }
}

#[test]
fn an_address_of_this_machine_is_fine() {
    for own in [
        "127.0.0.1:6380",
        "127.8.8.8:0",
        "[::1]:6380",
        "[::ffff:127.0.0.1]:6380",
        "unix:///run/n.sock",
    ] {
        assert_eq!(codes(&format!("server.listen = [\"{own}\"]")), [], "{own}");
    }
}

#[test]
fn the_process_says_what_to_do_and_ends_with_the_code_of_a_wrong_setting() {
    let mut command = Nearhit::command();
    command.args(["serve", "--listen", "0.0.0.0:0", "--metrics.listen", ""]);
    let finished = child::run(&mut command, Duration::from_secs(10));
    assert_eq!(finished.code(), Some(78), "{}", finished.output());
    for part in [
        "error[E110]: server.listen",
        "0.0.0.0:0",
        "--server.listen",
        "127.0.0.1",
        "server.allow_unprotected = true",
    ] {
        assert!(finished.stderr.contains(part), "no {part:?} in {}", finished.stderr);
    }
}

#[test]
fn an_operator_who_insists_is_served() {
    let redis = RedisServer::start();
    let mut command = Nearhit::command();
    let url = redis.url();
    command.args([
        "serve",
        "--upstream",
        &url,
        "--listen",
        "0.0.0.0:0",
        "--metrics.listen",
        "127.0.0.1:0",
    ]);
    command.args(["--server.allow-unprotected", "true", "--log.format", "text"]);
    let nearhit = Nearhit::start(command);
    let mut client = support::Resp::connect(([127, 0, 0, 1], nearhit.addr().port()).into());
    assert_eq!(client.line("PING"), "PONG");
}

#[tokio::test]
async fn a_library_user_gets_the_same_error() {
    let error = Proxy::builder().listen("0.0.0.0:0").start().await.expect_err("refused");
    assert_eq!((error.side(), error.kind()), (Side::Config, Kind::Invalid));
    assert!(error.to_string().contains("E110"), "{error}");
    let allowed = Proxy::builder()
        .listen("0.0.0.0:0")
        .allow_unprotected(true)
        .start()
        .await;
    allowed.expect("insisted").shutdown(Duration::ZERO).await;
}
