//! Applications' core paths do the same through nearhit as without it: job queues with their workers, a framework's
//! cache and sessions, distributed locks. `make test-clients` installs them.

mod clients_support;
mod support;

use clients_support::{node, program, python, speaks};
use std::process::Command;

const BOTH: &[&str] = &["RESP2", "RESP3"];

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn celery_runs_its_tasks() {
    speaks("Celery", &[""], &|| python("python/celery_app.py"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn rq_runs_its_jobs() {
    speaks("RQ", &[""], &|| python("python/rq_app.py"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn bullmq_runs_its_jobs() {
    speaks("BullMQ", BOTH, &|| node("node/bullmq.cjs"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh all; make test-clients runs it"]
fn sidekiq_runs_its_jobs() {
    speaks("Sidekiq", &[""], &|| {
        let mut command = Command::new("ruby");
        command.arg(program("ruby/sidekiq_app.rb"));
        command
    });
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn django_caches_and_keeps_sessions() {
    speaks("django-redis", &[""], &|| python("python/django_app.py"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn redlock_excludes() {
    speaks("Redlock", BOTH, &|| node("node/redlock.cjs"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn a_lock_of_redis_py_excludes() {
    speaks("redis-py Lock", BOTH, &|| python("python/lock_app.py"));
}
