//! The scripts that make a fresh machine ready, on machines that are not: a PATH with nothing but what each test puts
//! there. No real package manager is ever called.

mod support;

use parking_lot::Mutex;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use support::child::{self, Finished};
use tempfile::TempDir;

/// Held while a program is written and while one is started: a child forked in between would still hold the file open
/// for writing, and running it would fail with "text file busy".
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(command: &mut Command) -> Finished {
    let _guard = ONE_AT_A_TIME.lock();
    child::run(command, Duration::from_secs(10))
}

/// A folder that is the whole PATH of a script.
struct Machine {
    bin: TempDir,
}

impl Machine {
    /// Only what POSIX scripts cannot do without.
    fn bare() -> Self {
        let machine = Self {
            bin: support::temp_dir(),
        };
        for tool in ["sh", "dirname", "basename", "cat", "chmod", "mkdir", "cp", "cksum"] {
            let real = ["/usr/bin", "/bin"]
                .map(|dir| PathBuf::from(dir).join(tool))
                .into_iter()
                .find(|path| path.exists());
            symlink(real.unwrap_or_else(|| panic!("no {tool}")), machine.path(tool)).expect("link a tool");
        }
        machine
    }

    /// Adds a program that is this script.
    fn with(self, name: &str, script: &str) -> Self {
        let _guard = ONE_AT_A_TIME.lock();
        std::fs::write(self.path(name), format!("#!/bin/sh\n{script}\n")).expect("write a program");
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).expect("make it executable");
        self
    }

    /// A package manager that writes down what it is told, and on `install` brings both programs.
    fn with_manager(self, name: &str) -> Self {
        let bin = self.bin.path().display().to_string();
        let bring = format!(
            "echo \"$0 $*\" >> {bin}/told\n\
             case \"$*\" in *redis*|*valkey*)\n\
             for p in redis-server redis-cli; do printf '#!/bin/sh\\necho fake\\n' > {bin}/$p; chmod 755 {bin}/$p; done;;\n\
             esac"
        );
        self.with(name, &bring)
    }

    fn with_user(self, uid: u32) -> Self {
        self.with("id", &format!("echo {uid}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bin.path().join(name)
    }

    /// What the package manager was told, one call a line.
    fn told(&self) -> String {
        std::fs::read_to_string(self.path("told")).unwrap_or_default()
    }

    fn need_redis(&self, environment: &[(&str, &str)]) -> Finished {
        let mut command = Command::new(support::root().join("deploy/need-redis.sh"));
        command
            .env_clear()
            .env("PATH", self.bin.path())
            .envs(environment.iter().copied());
        run(&mut command)
    }
}

#[test]
fn redis_that_is_here_is_not_installed() {
    let machine = Machine::bare()
        .with_user(0)
        .with_manager("apt-get")
        .with("redis-server", "")
        .with("redis-cli", "");
    let done = machine.need_redis(&[]);
    assert_eq!((done.code(), done.output().trim()), (Some(0), ""));
    assert_eq!(machine.told(), "");
}

#[test]
fn root_on_debian_gets_redis_installed_without_a_question() {
    let machine = Machine::bare().with_user(0).with_manager("apt-get");
    let done = machine.need_redis(&[]);
    assert_eq!(done.code(), Some(0), "{}", done.output());
    assert!(machine.told().contains("apt-get update -q\n"), "{}", machine.told());
    assert!(
        machine
            .told()
            .contains("install -q -y --no-install-recommends redis-server"),
        "{}",
        machine.told()
    );
    assert!(machine.path("redis-server").exists());
}

#[test]
fn every_known_package_manager_installs() {
    for manager in ["apt-get", "dnf", "apk", "pacman", "brew"] {
        let machine = Machine::bare().with_user(0).with_manager(manager);
        let done = machine.need_redis(&[]);
        assert_eq!(done.code(), Some(0), "{manager}: {}", done.output());
        assert!(!machine.told().is_empty(), "{manager} was not called");
    }
}

#[test]
fn brew_needs_no_root() {
    let machine = Machine::bare().with_user(501).with_manager("brew");
    assert_eq!(machine.need_redis(&[]).code(), Some(0));
    assert!(machine.told().contains("brew install redis"));
}

#[test]
fn without_root_the_exact_command_is_printed_and_nothing_is_called() {
    let machine = Machine::bare().with_user(1000).with_manager("apt-get");
    let done = machine.need_redis(&[]);
    assert_eq!(done.code(), Some(69));
    let wanted = "sudo sh -c \"apt-get update -q && DEBIAN_FRONTEND=noninteractive \
                  apt-get install -q -y --no-install-recommends redis-server\"";
    assert!(done.stderr.contains(wanted), "{}", done.stderr);
    assert_eq!(machine.told(), "");
}

#[test]
fn the_printed_command_works_when_typed() {
    let machine = Machine::bare().with_user(1000).with_manager("apt-get");
    let printed = machine.need_redis(&[]).stderr;
    let line = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("sudo "))
        .expect("a command")
        .to_owned();
    let mut typed = Command::new(machine.path("sh"));
    typed.args(["-c", &line]).env_clear().env("PATH", machine.bin.path());
    assert_eq!(run(&mut typed).code(), Some(0));
    assert_eq!(machine.need_redis(&[]).code(), Some(0));
}

#[test]
fn sudo_without_a_password_is_used_and_one_with_is_not() {
    let free = Machine::bare()
        .with_user(1000)
        .with_manager("apt-get")
        .with("sudo", "shift; [ \"$1\" = true ] || exec \"$@\"");
    assert_eq!(free.need_redis(&[]).code(), Some(0));
    assert!(free.told().contains("redis-server"));
    let asking = Machine::bare()
        .with_user(1000)
        .with_manager("apt-get")
        .with("sudo", "exit 1");
    assert_eq!(asking.need_redis(&[]).code(), Some(69));
    assert_eq!(asking.told(), "");
}

#[test]
fn without_a_known_package_manager_it_says_so() {
    let done = Machine::bare().with_user(0).need_redis(&[]);
    assert_eq!(done.code(), Some(69));
    assert!(
        done.stderr.contains("REDIS_SERVER=/path/to/redis-server"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_failed_installation_is_no_success() {
    let machine = Machine::bare().with_user(0).with("apt-get", "exit 100");
    assert_eq!(machine.need_redis(&[]).code(), Some(69));
    let lying = Machine::bare().with_user(0).with("apt-get", "exit 0");
    assert_eq!(lying.need_redis(&[]).code(), Some(69));
}

#[test]
fn a_named_server_is_taken_and_a_wrong_name_is_refused() {
    let machine = Machine::bare()
        .with_user(0)
        .with_manager("apt-get")
        .with("my-redis", "");
    let mine = machine.path("my-redis").display().to_string();
    assert_eq!(machine.need_redis(&[("REDIS_SERVER", &mine)]).code(), Some(0));
    let done = machine.need_redis(&[("REDIS_SERVER", "/nowhere/redis-server")]);
    assert_eq!(done.code(), Some(69));
    assert!(done.stderr.contains("/nowhere/redis-server"), "{}", done.stderr);
    assert_eq!(machine.told(), "");
}

/// A copy of the scripts and of what they read: they write below their own folder.
fn need_clients(machine: &Machine, args: &[&str]) -> (Finished, TempDir) {
    let house = support::temp_dir();
    let files = [
        "deploy/install.sh",
        "deploy/need-clients.sh",
        "tests/clients/python/requirements.txt",
    ];
    let files = files.iter().chain(&[
        "tests/clients/node/package.json",
        "tests/clients/node/package-lock.json",
    ]);
    for file in files {
        let copy = house.path().join(file);
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("make a folder");
        std::fs::copy(support::root().join(file), copy).expect("copy a file");
    }
    let mut command = Command::new(machine.path("sh"));
    command.arg(house.path().join("deploy/need-clients.sh")).args(args);
    command.env_clear().env("PATH", machine.bin.path());
    (run(&mut command), house)
}

fn state(house: &TempDir, language: &str) -> String {
    std::fs::read_to_string(house.path().join("target/clients/state").join(language)).unwrap_or_default()
}

#[test]
fn clients_that_cannot_be_installed_are_named_and_how_they_could_be() {
    let machine = Machine::bare().with_user(1000).with_manager("apt-get");
    let (done, house) = need_clients(&machine, &["all"]);
    assert_eq!(done.code(), Some(69), "{}", done.output());
    for language in ["python", "node", "c", "perl", "php", "ruby"] {
        assert!(state(&house, language).starts_with("missing: "), "{language}");
        let said = format!("the tests of {language} clients will not run");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
    }
    assert!(done.stderr.contains("libhiredis-dev"), "{}", done.stderr);
    assert_eq!(machine.told(), "");
}

#[test]
fn clients_of_languages_that_may_be_missing_are_no_error() {
    let python = "case \"$*\" in *venv\\ *) mkdir -p \"$3/bin\"; printf '#!/bin/sh\\n' >\"$3/bin/python\"; chmod 755 \"$3/bin/python\";; esac";
    let machine = Machine::bare()
        .with_user(0)
        .with("apt-get", "exit 100")
        .with("python3", python)
        .with("node", "")
        .with("npm", "")
        .with("php", "");
    let (done, house) = need_clients(&machine, &["all"]);
    assert_eq!(done.code(), Some(0), "{}", done.output());
    for language in ["python", "node", "php"] {
        assert!(
            state(&house, language).starts_with("ready"),
            "{language}: {}",
            done.output()
        );
    }
    for language in ["c", "perl", "ruby"] {
        assert!(state(&house, language).starts_with("missing: "), "{language}");
    }
}

#[test]
fn make_alone_lists_what_there_is() {
    let mut make = Command::new("make");
    make.current_dir(support::root())
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    let listed = run(&mut make);
    for target in [
        "run",
        "test",
        "bench",
        "fmt",
        "lint",
        "doc",
        "fuzz",
        "clean",
        "test-clients",
    ] {
        assert!(
            listed.stdout.contains(&format!("make {target} ")),
            "{target} is missing:\n{}",
            listed.stdout
        );
    }
}

#[test]
fn ci_runs_what_a_person_runs() {
    let script = support::read(".ci/run");
    assert!(script.contains("set -euo pipefail") && script.contains("make test"));
    let mode = std::fs::metadata(support::root().join(".ci/run"))
        .expect("a script")
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111, ".ci/run is executable");
}
