//! Faults on the way to the server and of the instances themselves: one after the other, on an instance chosen by chance.

use super::faults::{Fault, Marks, Order};
use super::proof::Proof;
use super::relay::{Relay, Sky, Weather};
use super::servers::Instance;
use super::workload::Random;
use super::world::World;
use rustix::process::Signal;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// What this lane works with.
pub(super) struct PathLane<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) marks: &'a Marks,
    pub(super) relays: &'a [Relay],
    pub(super) instances: &'a mut [Instance],
    pub(super) faults: Order,
    pub(super) random: Random,
    /// What the instances counted; a killed one takes its counters with it.
    pub(super) proof: &'a Mutex<Proof>,
    /// Held while a fault is on: the server's lane takes it when a command must arrive once and at once.
    pub(super) clear: &'a Mutex<()>,
}

impl PathLane<'_> {
    /// Makes faults until the run is over.
    pub(super) async fn run(mut self) {
        while let Some(fault) = self.faults.next(&mut self.random, self.world) {
            let clear = self.clear.lock().await;
            self.marks.begin(fault, self.world);
            let made = self.make(fault).await;
            self.marks.end(fault, made);
            drop(clear);
            sleep(self.random.millis(100, 500)).await;
        }
    }

    async fn make(&mut self, fault: Fault) -> Result<(), String> {
        let chosen = self.random.index(self.instances.len());
        match fault {
            Fault::InstanceStop => self.stop(chosen).await,
            Fault::InstanceKill => self.kill(chosen).await,
            _ => self.weather(fault, chosen).await,
        }
    }

    async fn stop(&mut self, chosen: usize) -> Result<(), String> {
        let time = self.random.millis(200, 2000);
        let instance = self.instances.get(chosen).ok_or("no instance")?;
        instance.process.signal(Signal::STOP);
        sleep(time).await;
        instance.process.signal(Signal::CONT);
        Ok(())
    }

    async fn kill(&mut self, chosen: usize) -> Result<(), String> {
        let instance = self.instances.get_mut(chosen).ok_or("no instance")?;
        self.proof.lock().await.keep(chosen, instance).await;
        instance.process.kill().await;
        sleep(self.random.millis(0, 200)).await;
        instance.start().await.map_err(|failure| failure.message)
    }

    /// Short, noticeable, or so long that a lease lapses although everything is answered in the end.
    fn random_delay(&mut self) -> Weather {
        let (least, most) = self.random.pick(&[(1, 30), (30, 300), (900, 1500)]).unwrap_or((1, 30));
        Weather::Delay(self.random.millis(least, most))
    }

    async fn weather(&mut self, fault: Fault, chosen: usize) -> Result<(), String> {
        let time = match fault {
            Fault::ResetTracked | Fault::ResetData | Fault::CloseMidFrame => self.random.millis(100, 400),
            Fault::DelayTo | Fault::DelayFrom | Fault::DelayCrossed => self.random.millis(1000, 3500),
            _ => self.random.millis(300, 2500),
        };
        let delays = [self.random_delay(), self.random_delay()];
        let after = self.random.index(400);
        let change = move |sky: &mut Sky| change(sky, fault, delays, after);
        let relay = self.relays.get(chosen).ok_or("no relay")?;
        relay.set(change);
        sleep(time).await;
        relay.set(|sky| *sky = Sky::default());
        Ok(())
    }
}

fn change(sky: &mut Sky, fault: Fault, [delay, other]: [Weather; 2], after: usize) {
    let cut = |reset| Weather::Cut { after, reset };
    match fault {
        Fault::DelayTo => (sky.tracked_to, sky.data_to) = (delay, delay),
        Fault::DelayFrom => (sky.tracked_from, sky.data_from) = (delay, delay),
        Fault::DelayCrossed => (sky.data_to, sky.tracked_from) = (delay, other),
        Fault::StallTrackedTo => sky.tracked_to = Weather::Stall,
        Fault::StallTrackedFrom => sky.tracked_from = Weather::Stall,
        Fault::StallDataTo => sky.data_to = Weather::Stall,
        Fault::StallDataFrom => sky.data_from = Weather::Stall,
        Fault::ResetTracked => sky.tracked_from = cut(true),
        Fault::ResetData => sky.data_from = cut(true),
        Fault::CloseMidFrame => (sky.tracked_from, sky.data_from) = (cut(false), cut(false)),
        Fault::OneByteSegments => *sky = every(Weather::Dribble),
        _ => *sky = every(Weather::Stall),
    }
}

fn every(weather: Weather) -> Sky {
    Sky {
        tracked_to: weather,
        tracked_from: weather,
        data_to: weather,
        data_from: weather,
    }
}
