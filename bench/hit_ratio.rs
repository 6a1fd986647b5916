//! Hit ratio of each eviction policy, and of two cache libraries, on the same requests.
//!
//! ```text
//! make bench-hit-ratio                       generated requests only, a minute or two
//! TRACES=dir make bench-hit-ratio            and every NAME.u64.zst there: one little-endian u64 a request
//! BENCH_ARGS=--quick                         a tenth of the generated requests, and of each trace
//! ```
//!
//! nearhit's own columns replay through the production store (`nearhit::cache::Shard` and its policies). Every cache
//! may hold 1, 5 and 20 % of the unique keys; in the second table 1, 5 and 20 % of all bytes, where sizes differ.
//! A missed key is stored at once, so admission plays no part. Results go to `bench/results/hit_ratio.{md,json,svg}`.

#[path = "hit_ratio/caches.rs"]
mod caches;
#[path = "hit_ratio/causes.rs"]
mod causes;
#[path = "hit_ratio/panels.rs"]
mod panels;
#[allow(dead_code, reason = "the other kinds of plots are another bench's")]
#[path = "support/plot.rs"]
mod plot;
#[path = "hit_ratio/requests.rs"]
mod requests;
#[path = "hit_ratio/table.rs"]
mod table;

use std::path::Path;
use std::process::ExitCode;

use caches::{Bound, NAMES};
use requests::Requests;
use table::{Point, Table};

/// Shares of the unique keys, or of all bytes, in thousandths.
const SHARES: [usize; 3] = [10, 50, 200];

/// Traces whose keys are given sizes, beside those that have sizes of their own.
const SIZED: [&str; 6] = ["zipf-0.9", "zipf-1.0", "scarab-recs", "web12", "orm-busy", "arc-OLTP"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hit_ratio: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let quick = words.iter().any(|word| word == "--quick");
    let only: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut all = requests::generated(quick);
    if let Some(directory) = std::env::var_os("TRACES") {
        all.extend(requests::recorded(Path::new(&directory), quick)?);
    }
    all.retain(|requests| only.is_empty() || only.iter().any(|name| requests.name.contains(*name)));
    let mut equal = Table::new("Entries of equal size, bounded by count");
    let mut sized = Table::new("Entries of different size, bounded by bytes");
    for requests in &all {
        measure(requests, &mut equal, None);
        if let Some(sizes) = &requests.sizes {
            measure(requests, &mut sized, Some(sizes));
        } else if SIZED.contains(&requests.name.as_str()) {
            measure(requests, &mut sized, Some(&requests.made_up_sizes()));
        }
    }
    table::publish(&[equal, sized], quick || !only.is_empty())
}

fn measure(requests: &Requests, table: &mut Table, sizes: Option<&[u32]>) {
    for share in SHARES {
        let bound = match sizes {
            None => Bound::Entries((requests.unique * share / 1000).max(20)),
            Some(sizes) => Bound::Bytes(sizes.iter().map(|&size| u64::from(size)).sum::<u64>() * share as u64 / 1000),
        };
        eprintln!("{} at {:.0} %", requests.name, share as f64 / 10.0);
        let hits = NAMES.map(|name| caches::replay(name, &requests.keys, bound, sizes));
        table.points.push(Point {
            trace: requests.name.clone(),
            share,
            ratios: hits.map(|hits| 100.0 * hits as f64 / requests.keys.len() as f64),
        });
    }
}
