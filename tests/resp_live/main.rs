//! What a real server says: conversion to RESP2, inline quoting, protocol errors and globs against redis-server.
//!
//! Needs `redis-server` in the path, or `REDIS_SERVER` with another one.

mod globs;
mod replies;
mod requests;
mod server;
#[path = "../support/mod.rs"]
mod support;
