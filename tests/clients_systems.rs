//! The libraries that come as packages of the system: hiredis, phpredis, redis-rb, Perl's Redis. `make test-clients`
//! installs them where it may.

mod clients_support;
mod support;

use clients_support::{program, speaks};
use std::process::Command;
use std::time::Duration;
use support::child;

#[test]
#[ignore = "needs deploy/need-clients.sh all; make test-clients runs it"]
fn hiredis_cannot_tell_nearhit_from_redis() {
    let folder = support::temp_dir();
    let built = folder.path().join("hiredis");
    let build = || {
        let mut compiler = Command::new("cc");
        compiler.args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&built);
        compiler.arg(program("c/hiredis.c")).arg("-lhiredis");
        let done = child::run(&mut compiler, Duration::from_secs(60));
        assert_eq!(done.code(), Some(0), "{}", done.output());
    };
    let compiled = std::sync::Once::new();
    speaks("hiredis", &[""], &|| {
        // Only once it is known that there is a compiler, and once for both stages.
        compiled.call_once(build);
        Command::new(&built)
    });
}

#[test]
#[ignore = "needs deploy/need-clients.sh all; make test-clients runs it"]
fn phpredis_cannot_tell_nearhit_from_redis() {
    speaks("phpredis", &[""], &|| script("php", "php/phpredis.php"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh all; make test-clients runs it"]
fn redis_rb_cannot_tell_nearhit_from_redis() {
    speaks("redis-rb", &[""], &|| script("ruby", "ruby/redis_rb.rb"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh all; make test-clients runs it"]
fn perl_redis_cannot_tell_nearhit_from_redis() {
    speaks("perl Redis", &[""], &|| script("perl", "perl/redis.pl"));
}

fn script(interpreter: &str, script: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(program(script));
    command
}
