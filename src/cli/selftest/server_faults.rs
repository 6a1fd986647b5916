//! Faults of the server: one after the other. What changes data is told to the keys' histories before and after.

use super::cell::Outcome;
use super::faults::{Fault, Marks, Order};
use super::nodes::Servers;
use super::servers::Target;
use super::workload::Random;
use super::world::World;
use nearhit::resp::Value;
use rustix::process::Signal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// A user whose rights change; some clients are this one.
pub(super) const GUEST: &str = "nearhit-selftest-guest";
/// How long writers may take to come to an end: longer than nearhit makes them wait.
const QUIET: Duration = Duration::from_secs(20);
/// Between two looks.
const POLL: Duration = Duration::from_millis(5);
/// A database nobody uses: flushing it tells every tracking client that everything changed.
const SPARE_DB: &[u8] = b"15";

/// What this lane works with.
pub(super) struct ServerLane<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) marks: &'a Marks,
    pub(super) servers: &'a mut Servers,
    /// Who is told what a fault is made of; in a cluster, another primary for each.
    pub(super) target: Target,
    /// The instances' addresses.
    pub(super) instances: Vec<Target>,
    pub(super) faults: Order,
    pub(super) random: Random,
    pub(super) clear: &'a Mutex<()>,
}

pub(super) type Made = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl ServerLane<'_> {
    /// Makes faults until the run is over.
    pub(super) async fn run(mut self) {
        while let Some(fault) = self.faults.next(&mut self.random, self.world) {
            self.marks.begin(fault, self.world);
            self.choose_primary().await;
            let made = self.make(fault).await;
            self.world.resume_writes();
            self.marks.end(fault, made);
            sleep(self.random.millis(100, 400)).await;
        }
    }

    async fn make(&mut self, fault: Fault) -> Made {
        let time = self.random.millis(200, 1500);
        match fault {
            Fault::KillNormal => self.say("CLIENT KILL TYPE normal").await,
            Fault::KillPubSub => self.say("CLIENT KILL TYPE pubsub").await,
            Fault::KillTracked => self.kill_tracked().await,
            Fault::OutputBufferLimit => {
                let limit = "client-output-buffer-limit";
                self.with(limit, "normal 2048 0 0", "normal 0 0 0", time).await
            }
            Fault::ClientEviction => self.with("maxmemory-clients", "100000", "0", time).await,
            Fault::PauseWrite => self.pause("WRITE", time).await,
            Fault::PauseAll => self.pause("ALL", time).await,
            Fault::DebugSleep => self.say(&format!("DEBUG SLEEP {}", time.as_secs_f64())).await,
            Fault::ServerStop => self.stop(time).await,
            Fault::RestartEmpty => self.restart_empty().await,
            Fault::RestartAof => self.restart_with_aof().await,
            Fault::TrackingTable => self.with("tracking-table-max-keys", "5", "1000000", time).await,
            Fault::ActiveExpireOff => {
                self.say("DEBUG SET-ACTIVE-EXPIRE 0").await?;
                sleep(time).await;
                self.say("DEBUG SET-ACTIVE-EXPIRE 1").await
            }
            Fault::Eviction => self.evict(time).await,
            Fault::DebugReload => self.say("DEBUG RELOAD").await,
            Fault::SwapDb => self.swap().await,
            Fault::FlushDb => self.flush().await,
            Fault::AclChange => {
                self.say_everywhere(&format!("ACL SETUSER {GUEST} resetkeys")).await?;
                sleep(time).await;
                self.say_everywhere(&format!("ACL SETUSER {GUEST} allkeys")).await
            }
            Fault::ClockJump => self.jump(time).await,
            Fault::ReplicaKill => self.replica_kill().await,
            Fault::ReplicaStop => self.replica_stop().await,
            Fault::ReplicaLink => self.replica_link(time).await,
            Fault::ReplicaResync => self.replica_resync(time).await,
            Fault::FailOver => self.fail_over().await,
            Fault::SlotMove => self.slot_move(time).await,
            Fault::SlotHalf => self.slot_half(time).await,
            Fault::SlotTake => self.slot_take(time).await,
            Fault::ClusterFailOver => self.cluster_failover().await,
            Fault::PrimaryKill => self.primary_kill().await,
            Fault::PrimaryStop => self.primary_stop(time).await,
            Fault::FollowerKill => self.follower_kill().await,
            Fault::FlushAll => self.flush_all().await,
            _ => Err("not a fault of the server".to_owned()),
        }
    }

    pub(super) async fn say(&self, line: &str) -> Made {
        self.target.command(line).await.map(drop).map_err(text)
    }

    /// What replicas do not hear from their primary.
    async fn say_everywhere(&self, line: &str) -> Made {
        for node in self.servers.all() {
            node.command(line).await.map_err(text)?;
        }
        Ok(())
    }

    async fn set(&self, name: &str, value: &str) -> Made {
        let answer = self
            .target
            .ask(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()])
            .await;
        match answer.map_err(text)? {
            Value::Error(error) => Err(String::from_utf8_lossy(&error).into_owned()),
            _ => Ok(()),
        }
    }

    /// A setting for a time. The server may close the very connection that sets it, before it answers or when it is set
    /// back, which is therefore tried again.
    async fn with(&self, name: &str, value: &str, back: &str, time: Duration) -> Made {
        let made = self.set(name, value).await;
        sleep(time).await;
        let restore = async {
            while self.set(name, back).await.is_err() {
                sleep(POLL).await;
            }
        };
        let restored = timeout(QUIET, restore).await;
        restored.map_err(|_| format!("{name} was not set back"))?;
        made
    }

    async fn kill_tracked(&self) -> Made {
        let list = self.target.command("CLIENT LIST").await.map_err(text)?;
        let list = String::from_utf8_lossy(list.as_bytes().unwrap_or_default()).into_owned();
        for line in list.lines() {
            let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
            if let (Some(id), Some(flags)) = (field("id="), field("flags="))
                && flags.contains('t')
            {
                self.say(&format!("CLIENT KILL ID {id}")).await?;
            }
        }
        Ok(())
    }

    async fn pause(&self, what: &str, time: Duration) -> Made {
        self.say(&format!("CLIENT PAUSE {} {what}", time.as_millis())).await?;
        sleep(time).await;
        Ok(())
    }

    async fn stop(&mut self, time: Duration) -> Made {
        let redis = &self.servers.group()?.primary;
        redis.process.signal(Signal::STOP);
        sleep(time).await;
        redis.process.signal(Signal::CONT);
        Ok(())
    }

    /// Lets the writes under way come to an end, and no other begin.
    pub(super) async fn quiet(&self) -> Made {
        self.world.stop_writes();
        let over = async {
            while !self.world.writes_are_over() {
                sleep(POLL).await;
            }
        };
        let waited = timeout(QUIET, over).await;
        waited.map_err(|_| "the writes under way did not end".to_owned())
    }

    async fn restart_empty(&mut self) -> Made {
        self.quiet().await?;
        let parts = self.world.begin_loss(&self.world.dbs);
        let redis = &mut self.servers.group()?.primary;
        redis.process.kill().await;
        redis.forget_data();
        let started = redis.start(&[]).await.map_err(|failure| failure.message);
        let outcome = if started.is_ok() {
            Outcome::Done
        } else {
            Outcome::Unknown
        };
        self.world.end_fault(&parts, outcome, None);
        self.world.resume_writes();
        started?;
        add_guest(&self.target).await
    }

    /// What was acknowledged is still there afterwards, for it was on disk before it was acknowledged.
    async fn restart_with_aof(&mut self) -> Made {
        self.set("appendfsync", "always").await?;
        self.set("appendonly", "yes").await?;
        self.wait_for_aof().await?;
        sleep(self.random.millis(50, 300)).await;
        let redis = &mut self.servers.group()?.primary;
        redis.process.kill().await;
        let started = redis.start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
        started.map_err(|failure| failure.message)?;
        self.set("appendonly", "no").await?;
        add_guest(&self.target).await
    }

    async fn wait_for_aof(&self) -> Made {
        let written = async {
            loop {
                let info = self.target.command("INFO persistence").await.map_err(text)?;
                let info = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
                let says = |line: &str| info.lines().any(|said| said.trim_end() == line);
                if says("aof_rewrite_in_progress:0") && says("aof_rewrite_scheduled:0") {
                    return match says("aof_last_bgrewrite_status:ok") {
                        true => Ok(()),
                        false => Err("the append-only file could not be written".to_owned()),
                    };
                }
                sleep(POLL).await;
            }
        };
        timeout(QUIET, written).await.map_err(text)?
    }

    async fn evict(&self, time: Duration) -> Made {
        let info = self.target.command("INFO memory").await.map_err(text)?;
        let info = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        let used = used.ok_or("INFO memory says nothing")?.trim().to_owned();
        self.set("maxmemory-policy", "allkeys-lru").await?;
        self.world.set_evicting(true);
        let made = self.with("maxmemory", &used, "0", time).await;
        self.quiet().await?;
        self.world.set_evicting(false);
        made
    }

    /// SWAPDB through one instance, which must know at once. The server tells nobody, so the others are told by the
    /// flush of a database nobody uses.
    async fn swap(&mut self) -> Made {
        let [first, second] = self.world.dbs.as_slice() else {
            return Err("there are not two databases".to_owned());
        };
        let line = format!("SWAPDB {first} {second}");
        let chosen = self.random.index(self.instances.len());
        let instance = self.instances.get(chosen).ok_or("no instance")?.clone();
        self.quiet().await?;
        let clear = self.clear.lock().await;
        let parts = self.world.begin_swap(chosen);
        let swapped = instance.command(&line).await.map_err(text);
        let outcome = if swapped.is_ok() {
            Outcome::Done
        } else {
            Outcome::Unknown
        };
        self.world.end_fault(&parts, outcome, Some(chosen));
        sleep(Duration::from_millis(60)).await;
        drop(clear);
        let told = self.target.ask_all(&[&[b"SELECT", SPARE_DB], &[b"FLUSHDB"]]).await;
        self.world.swap_is_known();
        swapped.and(told.map(drop).map_err(text))
    }

    /// FLUSHDB, at the server or through an instance.
    async fn flush(&mut self) -> Made {
        let chosen = self.random.index(self.instances.len() + 1);
        let through = (chosen < self.instances.len()).then_some(chosen);
        let target = self.instances.get(chosen).unwrap_or(&self.target).clone();
        let db = self.random.pick(&self.world.dbs).ok_or("no database")?;
        self.quiet().await?;
        let clear = self.clear.lock().await;
        let parts = self.world.begin_loss(&[db]);
        let flushed = target
            .ask_all(&[&[b"SELECT", db.to_string().as_bytes()], &[b"FLUSHDB"]])
            .await;
        let failed = match flushed {
            Ok(answers) => answers
                .into_iter()
                .find_map(|answer| matches!(answer, Value::Error(_)).then(|| format!("{answer:?}"))),
            Err(error) => Some(text(error)),
        };
        let outcome = if failed.is_none() {
            Outcome::Done
        } else {
            Outcome::Unknown
        };
        self.world.end_fault(&parts, outcome, through);
        drop(clear);
        failed.map_or(Ok(()), Err)
    }

    /// FLUSHALL through an instance, which must reach every node.
    async fn flush_all(&mut self) -> Made {
        let chosen = self.random.index(self.instances.len());
        let instance = self.instances.get(chosen).ok_or("no instance")?.clone();
        self.quiet().await?;
        let clear = self.clear.lock().await;
        let parts = self.world.begin_loss(&self.world.dbs);
        let flushed = instance.command("FLUSHALL").await.map_err(text);
        let outcome = if flushed.is_ok() {
            Outcome::Done
        } else {
            Outcome::Unknown
        };
        self.world.end_fault(&parts, outcome, Some(chosen));
        drop(clear);
        flushed.map(drop)
    }

    async fn jump(&mut self, time: Duration) -> Made {
        let offset = if self.random.below(2) == 0 { "+3600" } else { "-3600" };
        let redis = &self.servers.group()?.primary;
        self.world.set_clock_jumps(true);
        let jumped = redis.set_clock(offset);
        sleep(time + CLOCK_CACHE).await;
        let back = redis.set_clock("+0");
        sleep(CLOCK_CACHE).await;
        self.world.set_clock_jumps(false);
        jumped.and(back).map_err(|failure| failure.message)
    }
}

/// How long libfaketime believes what it has read.
const CLOCK_CACHE: Duration = Duration::from_millis(1200);

/// As AUTH wants it.
pub(super) fn user_name(user: &str) -> &[u8] {
    if user.is_empty() { b"default" } else { user.as_bytes() }
}

/// Makes the user whose rights will change.
pub(super) async fn add_guest(target: &Target) -> Made {
    let line = format!("ACL SETUSER {GUEST} on >{GUEST} allkeys allchannels +@all");
    target.command(&line).await.map(drop).map_err(text)
}

/// Where libfaketime is: `LIBFAKETIME` of the environment, or where distributions install it.
pub(super) fn faketime() -> Option<PathBuf> {
    let usual = ["x86_64-linux-gnu/", "aarch64-linux-gnu/", "../lib64/", ""]
        .map(|dir| PathBuf::from(format!("/usr/lib/{dir}faketime/libfaketime.so.1")));
    let named = std::env::var_os("LIBFAKETIME").map(PathBuf::from);
    named.into_iter().chain(usual).find(|path| path.exists())
}
