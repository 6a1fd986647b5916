//! Faults of replicas, and failovers.

use super::nodes::{Nodes, Unmade};
use super::server_faults::{Made, ServerLane};
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::sleep;

impl ServerLane<'_> {
    fn nodes(&mut self) -> Result<&mut Nodes, String> {
        self.servers.group()
    }

    fn some_replica(&mut self) -> usize {
        let count = self.nodes().map_or(0, |nodes| nodes.replicas.len());
        self.random.index(count)
    }

    /// It comes back after a while, with nothing or with what it last got as a whole.
    pub(super) async fn replica_kill(&mut self) -> Made {
        let (chosen, empty) = (self.some_replica(), self.random.below(2) == 0);
        let pause = self.random.millis(0, 1000);
        let nodes = self.nodes()?;
        nodes.replicas.get_mut(chosen).ok_or("no replica")?.process.kill().await;
        sleep(pause).await;
        nodes.restart_replica(chosen, empty).await
    }

    /// For longer than it may lag behind, or not.
    pub(super) async fn replica_stop(&mut self) -> Made {
        let (chosen, time) = (self.some_replica(), self.random.millis(50, 2500));
        let nodes = self.nodes()?;
        let replica = nodes.replicas.get(chosen).ok_or("no replica")?;
        replica.process.signal(Signal::STOP);
        sleep(time).await;
        replica.process.signal(Signal::CONT);
        Ok(())
    }

    /// Again and again for a time: replicas that come back get what they missed.
    pub(super) async fn replica_link(&self, time: Duration) -> Made {
        for _ in 0..4 {
            self.say("CLIENT KILL TYPE replica").await?;
            sleep(time / 4).await;
        }
        Ok(())
    }

    /// The primary's history has another name, so replicas must begin anew.
    pub(super) async fn replica_resync(&self, time: Duration) -> Made {
        self.say("DEBUG CHANGE-REPL-ID").await?;
        self.say("CLIENT KILL TYPE replica").await?;
        sleep(time).await;
        Ok(())
    }

    /// Writers stop and replicas get what they lack before it, so that a failover loses nothing: otherwise it might lose
    /// what was acknowledged, which Redis says and nearhit cannot help.
    pub(super) async fn fail_over(&mut self) -> Made {
        self.quiet().await?;
        let count = self.nodes()?.sentinels();
        let sentinel = self.random.index(count);
        match self.nodes()?.fail_over(sentinel).await {
            Ok(()) => Ok(()),
            Err(Unmade::NotBegun(why)) => Err(why),
            Err(Unmade::Lost(why)) => {
                // Writes might go to one primary and reads to another one.
                self.world.stop();
                Err(why)
            }
        }
    }
}
