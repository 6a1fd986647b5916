//! wip
use crate::downstream::*;
use crate::resp::{Request, Version};
use crate::upstream::Gauges;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
pub struct Facts {
    pub upstream: String,
    pub source: &'static str,
    pub started: crate::time::Instant,
    pub name: String,
}
pub struct Console;
impl Console {
    pub fn new(_: &Arc<Shared>, _: Arc<Gauges>, _: Facts) -> Self {
        Self
    }
}
impl AdminCommand for Console {
    fn run(&self, _: &Request<'_>, _: Version, _: u32, out: &mut Vec<u8>) {
        crate::resp::encode::simple(out, b"OK")
    }
    fn info_section(&self) -> String {
        "# Proxy\r\n".into()
    }
}
pub struct Prober {
    s: Arc<Shared>,
}
impl Prober {
    pub fn new(s: Arc<Shared>, _: Arc<Gauges>, _: Vec<Arc<AtomicU64>>) -> Self {
        Self { s }
    }
}
impl super::http::Probe for Prober {
    fn live(&self) -> super::http::Check {
        super::http::Check::Pass
    }
    fn ready(&self) -> super::http::Check {
        super::http::Check::Pass
    }
    fn render(&self) -> String {
        self.s.metrics.render(crate::time::now())
    }
}
