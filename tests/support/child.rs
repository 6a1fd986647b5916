//! Child processes: run one to its end with a bound, or end one that will not.

use super::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a finished child left.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Both outputs, for a message.
    pub fn output(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Runs `command` with nothing on stdin; panics (and kills it) when it is not done within `limit`.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child, limit);
    if status.is_none() {
        kill_now(&mut child);
    }
    let (stdout, stderr) = (stdout.join().expect("reader"), stderr.join().expect("reader"));
    match status {
        Some(status) => Finished { status, stdout, stderr },
        None => panic!("{command:?} was not done within {limit:?}\n{stdout}\n{stderr}"),
    }
}

/// The child's exit status, if it ends within `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let mut status = None;
    eventually(limit, || {
        status = child.try_wait().expect("ask for a child's status");
        status.is_some()
    });
    status
}

/// Sends a signal to a child that has not been waited for, so its pid is still its own.
pub fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    // A child that has just ended is no error: it is a zombie until it is waited for.
    let _: Result<(), _> = kill_process(pid, signal);
}

/// SIGTERM, and SIGKILL after `patience`. Gives back how it ended.
pub fn end(child: &mut Child, patience: Duration) -> ExitStatus {
    signal(child, Signal::TERM);
    wait(child, patience).unwrap_or_else(|| kill_now(child))
}

/// SIGKILL, and wait until it is gone.
pub fn kill_now(child: &mut Child) -> ExitStatus {
    drop(child.kill());
    child.wait().expect("wait for a killed child")
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
