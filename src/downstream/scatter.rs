//! stub
#[derive(Debug)]
pub(super) enum Part {}
