//! The metrics listener over a real socket, on a current-thread runtime as in the control thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearhit::admin::http::{Check, Probe, serve};
use nearhit::metrics::{Metrics, Outcome};
use nearhit::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Proxy {
    metrics: Metrics,
    draining: AtomicBool,
    stuck: AtomicBool,
}

impl Probe for Proxy {
    fn live(&self) -> Check {
        let stuck = self.stuck.load(Ordering::Relaxed);
        if stuck {
            Check::fail("worker", "worker 1 did not answer for 2s")
        } else {
            Check::Pass
        }
    }

    fn ready(&self) -> Check {
        let draining = self.draining.load(Ordering::Relaxed);
        if draining {
            Check::fail("draining", "stops in 5s")
        } else {
            Check::Pass
        }
    }

    fn render(&self) -> String {
        self.metrics.render(Instant::ZERO)
    }
}

/// A listener on a free port, serving `/metrics`.
async fn started() -> (Arc<Proxy>, SocketAddr) {
    let metrics = Metrics::new(["get"], Instant::ZERO);
    metrics.add_worker().record(0, Outcome::Hit, 1_000);
    let proxy = Arc::new(Proxy {
        metrics,
        draining: AtomicBool::default(),
        stuck: AtomicBool::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(
        listener,
        "/metrics".to_owned(),
        Arc::clone(&proxy) as Arc<dyn Probe>,
    ));
    (proxy, address)
}

/// Sends one request head and reads until the server closes: head and body of the answer.
async fn exchange(address: SocketAddr, head: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: anything.example\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn metrics_are_served_with_the_exact_content_type() {
    let (_proxy, address) = started().await;
    let (head, body) = get(address, "/metrics").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.lines()
            .any(|line| line == "content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(
        body.contains("nearhit_commands_total{cmd=\"get\",outcome=\"hit\"} 1\n"),
        "{body}"
    );
}

#[tokio::test]
async fn a_stuck_worker_fails_liveness_and_is_named() {
    let (proxy, address) = started().await;
    assert!(get(address, "/livez").await.0.starts_with("http/1.1 200 "));
    proxy.stuck.store(true, Ordering::Relaxed);
    let (head, body) = get(address, "/livez").await;
    assert!(
        head.starts_with("http/1.1 503 ") && head.contains("content-type: application/json"),
        "{head}"
    );
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["status"], &body["check"]), (&"failing".into(), &"worker".into()));
    assert!(get(address, "/readyz").await.0.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn draining_fails_readiness_and_leaves_liveness_alone() {
    let (proxy, address) = started().await;
    assert_eq!(get(address, "/readyz").await.1, r#"{"status":"ok"}"#);
    proxy.draining.store(true, Ordering::Relaxed);
    let (head, body) = get(address, "/readyz").await;
    assert!(
        head.starts_with("http/1.1 503 ") && body.contains("\"check\":\"draining\""),
        "{head} {body}"
    );
    assert!(get(address, "/livez").await.0.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn anything_else_is_not_found_and_nothing_can_be_posted() {
    let (_proxy, address) = started().await;
    for path in ["/", "/metrics/", "/api/v1/flush", "/livez/x"] {
        assert!(get(address, path).await.0.starts_with("http/1.1 404 "), "{path}");
    }
    let post = "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert!(exchange(address, post).await.0.starts_with("http/1.1 405 "));
}

#[tokio::test]
async fn a_head_request_has_the_same_head_and_no_body() {
    let (_proxy, address) = started().await;
    let (head, body) = exchange(address, "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200 ") && body.is_empty(), "{head}");
}

#[tokio::test]
async fn a_body_nobody_asked_for_is_not_waited_for() {
    let (_proxy, address) = started().await;
    let head = "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n";
    assert!(exchange(address, head).await.0.starts_with("http/1.1 405 "));
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_given_up_and_its_place_is_free_again() {
    let (_proxy, address) = started().await;
    let mut silent = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HT").await.unwrap();
        silent.push(stream);
    }
    // The 64 places are taken: the next one waits until their five seconds are over.
    let waited = tokio::time::timeout(Duration::from_secs(15), get(address, "/livez")).await;
    assert!(waited.unwrap().0.starts_with("http/1.1 200 "));
    // The first in line was closed by the server: end of file or a reset, never an answer.
    let mut rest = Vec::new();
    if silent[0].read_to_end(&mut rest).await.is_ok() {
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}
