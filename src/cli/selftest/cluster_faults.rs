//! Faults of a cluster: slots that move, primaries that others take the place of.

use super::cell::Outcome;
use super::cluster::{Cluster, within};
use super::server_faults::{Made, ServerLane};
use nearhit::command::Slot;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::sleep;

impl ServerLane<'_> {
    fn cluster(&mut self) -> Result<&mut Cluster, String> {
        self.servers.cluster()
    }

    /// In a cluster, commands of a fault go to a primary by chance.
    pub(super) async fn choose_primary(&mut self) {
        let Ok(cluster) = self.cluster() else { return };
        let primaries = cluster.primaries().await;
        let all: Vec<_> = primaries
            .iter()
            .filter_map(|primary| cluster.target(*primary))
            .collect();
        let chosen = self.random.index(all.len());
        if let Some(target) = all.get(chosen) {
            self.target = target.clone();
        }
    }

    /// A slot that has keys, who has it, and another primary.
    async fn some_slot(&mut self) -> Result<(Slot, usize, usize), String> {
        let slot = self.world.some_slot(self.random.below(1 << 20));
        let cluster = self.cluster()?;
        let owner = cluster.owner(slot).await?;
        let mut others = cluster.primaries().await;
        others.retain(|primary| *primary != owner);
        let other = self.random.pick(&others).ok_or("there is one primary only")?;
        Ok((slot, owner, other))
    }

    /// There and back, while clients work.
    pub(super) async fn slot_move(&mut self, time: Duration) -> Made {
        let (slot, from, to) = self.some_slot().await?;
        self.move_slot(slot, from, to, Duration::ZERO).await?;
        sleep(time).await;
        self.move_slot(slot, to, from, Duration::ZERO).await
    }

    /// Half of the keys are here and half are there for a while.
    pub(super) async fn slot_half(&mut self, time: Duration) -> Made {
        let (slot, from, to) = self.some_slot().await?;
        self.move_slot(slot, from, to, time).await
    }

    /// Moves a slot with its keys; half way it takes a rest.
    async fn move_slot(&mut self, slot: Slot, from: usize, to: usize, rest: Duration) -> Made {
        // What a key's journey takes is added to its time to live.
        self.world.set_moving(slot, true);
        let cluster = self.cluster()?;
        let made = async {
            cluster.begin_move(slot, from, to).await?;
            cluster.move_keys(slot, from, to, 3).await?;
            sleep(rest).await;
            cluster.move_keys(slot, from, to, usize::MAX).await?;
            cluster.end_move(slot, from, to).await
        };
        let made = made.await;
        self.world.set_moving(slot, false);
        self.unless_lost(made)
    }

    /// Another primary takes a slot by a newer epoch, and the keys are gone. The old one drops them without telling anybody,
    /// its replica included, which must therefore begin anew.
    pub(super) async fn slot_take(&mut self, time: Duration) -> Made {
        let (slot, owner, other) = self.some_slot().await?;
        self.quiet().await?;
        let world = self.world;
        let parts = world.begin_loss_of(|index| world.slot_of(index) == slot);
        let cluster = self.cluster()?;
        let taken = cluster.take(slot, other).await;
        let outcome = if taken.is_ok() { Outcome::Done } else { Outcome::Unknown };
        self.world.end_fault(&parts, outcome, None);
        self.world.resume_writes();
        let rest = async {
            taken?;
            sleep(time).await;
            let cluster = self.cluster()?;
            cluster.say(owner, "DEBUG CHANGE-REPL-ID").await?;
            cluster.say(owner, "CLIENT KILL TYPE replica").await?;
            cluster.wait_until_whole().await
        };
        let made = rest.await;
        self.unless_lost(made)
    }

    /// A replica takes its primary's place when it has everything, while clients work: nothing is lost.
    pub(super) async fn cluster_failover(&mut self) -> Made {
        let (_, primary, _) = self.some_slot().await?;
        let cluster = self.cluster()?;
        let replica = cluster.replica_of(primary).await?;
        cluster.say(replica, "CLUSTER FAILOVER").await?;
        let made = async {
            within("the replica to take over", async || cluster.is_primary(replica).await).await?;
            cluster.wait_until_whole().await
        };
        let made = made.await;
        self.unless_lost(made)
    }

    /// Writers stop, and the replica gets what it lacks, before the primary dies: otherwise what was acknowledged might be lost,
    /// which nearhit cannot help.
    pub(super) async fn primary_kill(&mut self) -> Made {
        let (_, primary, _) = self.some_slot().await?;
        self.quiet().await?;
        let cluster = self.cluster()?;
        let replica = cluster.replica_of(primary).await?;
        cluster.wait_until_synced(primary, replica).await?;
        cluster.nodes.get_mut(primary).ok_or("no primary")?.process.kill().await;
        let made = async {
            within("the replica to take over", async || cluster.is_primary(replica).await).await?;
            cluster.restart(primary).await?;
            cluster.wait_until_whole().await
        };
        let made = made.await;
        self.unless_lost(made)
    }

    /// It comes back after a while, with nothing.
    pub(super) async fn follower_kill(&mut self) -> Made {
        let (_, primary, _) = self.some_slot().await?;
        let pause = self.random.millis(0, 3000);
        let cluster = self.cluster()?;
        let replica = cluster.replica_of(primary).await?;
        cluster.nodes.get_mut(replica).ok_or("no replica")?.process.kill().await;
        sleep(pause).await;
        let made = async {
            cluster.restart(replica).await?;
            cluster.wait_until_whole().await
        };
        let made = made.await;
        self.unless_lost(made)
    }

    /// For less than the others bear.
    pub(super) async fn primary_stop(&mut self, time: Duration) -> Made {
        let (_, primary, _) = self.some_slot().await?;
        let node = self.cluster()?.nodes.get(primary).ok_or("no primary")?;
        node.process.signal(Signal::STOP);
        sleep(time.min(LONGEST_STOP)).await;
        node.process.signal(Signal::CONT);
        Ok(())
    }

    /// Who did not come to an end has left servers of which nothing is known.
    fn unless_lost(&self, made: Made) -> Made {
        if made.is_err() {
            self.world.stop();
        }
        made
    }
}

/// Half of the time in which a node must answer.
const LONGEST_STOP: Duration = Duration::from_secs(1);
