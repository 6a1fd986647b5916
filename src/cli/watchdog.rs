//! Cleans up when this process is killed without a chance to: a shell that waits for the end of its stdin.
//!
//! The pipe's other end closes with this process, however it ends. The shell then kills the servers whose pids it was
//! told and removes the directory. After an ordinary stop it is ended first, so it never meets a pid of somebody else.

use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

/// `$0` is the directory. Pids come one a line. SIGKILL: nothing of a sandbox is worth saving.
const SCRIPT: &str = r#"while read -r pid; do pids="$pids $pid"; done; kill -9 $pids 2>/dev/null; rm -rf "$0""#;

/// A running watchdog. Dropping it counts as a death of this process: it acts.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
    pids: ChildStdin,
}

impl Watchdog {
    /// Starts watching over `dir`.
    pub(super) fn start(dir: &Path) -> std::io::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in the terminal's group: Ctrl-C is for this process, which then stops everything in order.
            .process_group(0)
            .spawn()?;
        let pids = child
            .stdin
            .take()
            .ok_or_else(|| std::io::Error::other("a child without its pipe"))?;
        Ok(Self { child, pids })
    }

    /// Watches over one more process.
    pub(super) async fn add(&mut self, pid: u32) -> std::io::Result<()> {
        self.pids.write_all(format!("{pid}\n").as_bytes()).await?;
        self.pids.flush().await
    }

    /// Ends it before it can act.
    pub(super) async fn dismiss(mut self) {
        // It fails only when the shell is gone already, and then it has nothing left to do.
        drop(self.child.kill().await);
    }
}
