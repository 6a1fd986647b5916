//! The keys of a run. They have a prefix of their own, end by themselves, and are removed behind it: nothing stays at a
//! server that was only to be measured.

use super::options::{Options, PREFIX};
use nearhit::error::Result;
use nearhit::load::{Caller, Load, Order, Pace, Picker, Script, Until};
use std::sync::atomic::AtomicBool;

/// Keys removed by one command: few enough that nobody else waits long.
const AT_ONCE: u32 = 500;
/// Bytes written at once.
const BATCH: usize = 1 << 20;

/// Written keys. Dropping this removes them, as far as the server can still be reached.
pub(super) struct Keys<'a> {
    pub(super) script: Script,
    options: &'a Options,
}

impl<'a> Keys<'a> {
    /// Writes all of them, or as many as there is time for until `stop` is set.
    pub(super) fn write(options: &'a Options, stop: &AtomicBool) -> Result<Self> {
        let run = nearhit::time::unix_micros();
        let script = Script::new(&format!("{PREFIX}{run}:"), options.keys, options.value_bytes);
        let keys = Self {
            script: script.with_life(options.life()),
            options,
        };
        let picker = Picker::new(&Order::InTurn, options.keys, 1000, 0);
        let pipeline = (BATCH / options.value_bytes).clamp(1, 100);
        let mut load = Load::open(options.server(&options.target), &keys.script, picker, 1)?.stopped_by(stop);
        load.run(Pace::Closed { pipeline }, Until::Requests(options.keys.into()), false)?;
        Ok(keys)
    }

    fn remove(&self) -> Result<()> {
        let mut caller = Caller::connect(self.options.server(&self.options.target))?;
        let mut first = 0;
        while first < self.script.keys() {
            let last = (first + AT_ONCE).min(self.script.keys());
            let names: Vec<Vec<u8>> = (first..last).map(|key| self.script.key_name(key)).collect();
            let mut command: Vec<&[u8]> = vec![b"UNLINK"];
            command.extend(names.iter().map(Vec::as_slice));
            caller.ask(&command)?;
            first = last;
        }
        Ok(())
    }
}

impl Drop for Keys<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("nearhit bench: its keys could not be removed and will expire: {error}");
        }
    }
}
