//! nearhit: a RESP proxy with a coherent near-cache.
//!
//! It stands where the Redis address stood. Hot keys are answered from memory, and the cache stays true because Redis
//! itself says what changed. Everything else passes through byte for byte.
//!
//! Inside a program it needs no socket; any client library that speaks over a stream can use it, here the crate `redis`:
//!
//! ```
//! # use std::process::{Child, Command, Stdio};
//! # struct Server(Child);
//! # impl Drop for Server {
//! #     fn drop(&mut self) {
//! #         self.0.kill().and_then(|()| self.0.wait()).expect("stop redis-server");
//! #     }
//! # }
//! # fn server() -> std::io::Result<(Server, String)> {
//! #     let program = std::env::var("REDIS_SERVER").unwrap_or("redis-server".into());
//! #     let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
//! #     let words = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
//! #     let child = Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
//! #     Ok((Server(child), format!("redis://127.0.0.1:{port}")))
//! # }
//! use redis::AsyncTypedCommands;
//! use redis::aio::MultiplexedConnection;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #   let (_server, url) = server()?;
//! #   let upstream = url.as_str();
//!     let proxy = nearhit::Proxy::builder().upstream(upstream).start().await?;
//!     let (info, config) = (Default::default(), Default::default());
//!     let (mut redis, driver) = MultiplexedConnection::new_with_config(&info, proxy.connect(), config).await?;
//!     tokio::spawn(driver);
//! #   while redis.set("greeting", "hello").await.is_err() || !proxy.cache().stats().tracking {
//! #       tokio::task::yield_now().await; // the server is starting
//! #   }
//! #   redis.del("greeting").await?;
//!
//!     redis.set("greeting", "hello").await?;
//!     for _ in 0..10 {
//!         assert_eq!(redis.get("greeting").await?.as_deref(), Some("hello"));
//!     }
//!     println!("{} of 10 from memory", proxy.cache().stats().hits); // 8: a key is cached from its second read on
//! #   assert_eq!(proxy.cache().stats().hits, 8);
//!     proxy.shutdown(std::time::Duration::from_secs(5)).await;
//!     Ok(())
//! }
//! ```
//!
//! Modules are floors: each imports from lower floors only (`tests/architecture.rs` holds the list and checks it).
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)
)]

pub mod admin;
pub mod cache;
pub mod channel;
pub mod coherence;
pub mod command;
pub mod config;
pub mod discovery;
pub mod downstream;
pub mod error;
pub mod load;
pub mod metrics;
pub mod mutants;
pub mod proxy;
pub mod resp;
mod sync;
pub mod time;
pub mod tls;
pub mod topology;
pub mod tracking;
pub mod upstream;

pub use config::Policy;
pub use proxy::Proxy;

/// Compiles the README's Rust; `tests/library_readme.rs` holds it to be what the example above runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
