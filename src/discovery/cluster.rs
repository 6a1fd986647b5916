//! A Redis Cluster: its nodes say which of them has which slots.

use std::sync::Arc;

use super::{Discovery, Publisher};
use crate::config::Address;

/// Watches the cluster that `seeds` belong to; see [`Discovery::watch`].
pub(super) async fn watch(_discovery: Arc<Discovery>, _seeds: Vec<Address>, _publisher: Publisher) {
    std::future::pending().await
}
