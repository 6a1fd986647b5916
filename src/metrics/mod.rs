//! Metric rows and latency histograms.
