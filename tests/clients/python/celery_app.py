"""Celery with its broker and its results in Redis: celery_app.py PORT BEHIND."""

import os
import subprocess
import sys

import celery
import redis
from celery import chain, chord, group

if __name__ == "__main__":
    from transcript import PORT, attempt, done, eventually, restart, say

    os.environ["CELERY_REDIS"] = f"redis://127.0.0.1:{PORT}/1"

REDIS = os.environ["CELERY_REDIS"]
app = celery.Celery("celery_app", broker=REDIS, backend=REDIS)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"visibility_timeout": 60, "socket_timeout": 20},
    broker_pool_limit=5,
    result_expires=600,
    task_track_started=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)


@app.task(name="add")
def add(*numbers):
    return sum(numbers[0]) if len(numbers) == 1 else sum(numbers)


@app.task(name="fail")
def fail():
    raise ValueError("as it should")


@app.task(name="flaky", bind=True, max_retries=3)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(name="progress", bind=True)
def progress(self):
    self.update_state(state="HALF", meta={"done": 50})
    return "whole"


@app.task(name="note", ignore_result=True)
def note():
    redis.Redis.from_url(REDIS).rpush("noted", "x")


def results():
    say("result", add.delay(1, 2).get(timeout=30))
    failed = fail.delay()
    attempt("failure", lambda: failed.get(timeout=30))
    say("state", (failed.state, str(failed.result)))
    say("retries", flaky.delay().get(timeout=30))
    say("countdown", add.apply_async((2, 3), countdown=0.5).get(timeout=30))
    say("states", progress.delay().get(timeout=30))
    ignored = add.apply_async((1, 1), ignore_result=True)
    say("ignored", (ignored.state, ignored.result))
    expired = add.apply_async((1, 1), expires=-1)
    attempt("expired", lambda: expired.get(timeout=30))


def workflows():
    say("group", group(add.s(number, number) for number in range(20)).apply_async().get(timeout=30))
    say("chain", chain(add.s(1, 2), add.s(3), add.s(4)).apply_async().get(timeout=30))
    say("chord", chord(add.s(number, 1) for number in range(10))(add.s()).get(timeout=30))
    attempt("failing chord", lambda: chord([add.s(1, 1), fail.s()])(add.s()).get(timeout=30))
    say("many", sum(result.get(timeout=60) for result in [add.delay(number, 1) for number in range(200)]))


def control():
    eventually("a worker answers", lambda: app.control.ping(timeout=0.5))
    say("ping", [list(answer.values()) for answer in app.control.ping(timeout=2, limit=1)])
    say("registered", sorted(list(app.control.inspect(timeout=2, limit=1).registered().values())[0]))
    later = add.apply_async((1, 1), countdown=4)
    eventually("it waits for its time", lambda: any((app.control.inspect(timeout=0.5, limit=1).scheduled() or {}).values()))
    later.revoke()
    eventually("the revocation arrives", lambda: any((app.control.inspect(timeout=0.5, limit=1).revoked() or {}).values()))
    # A worker that still holds one when it loses its connection dies of a mistake in kombu, with any Redis.
    eventually("its time has passed", lambda: not any((app.control.inspect(timeout=0.5, limit=1).scheduled() or {0: 0}).values()))
    attempt("revoked", lambda: later.get(timeout=30))
    say("purged", app.control.purge())


def restarts():
    near = redis.Redis.from_url(REDIS)
    restart()
    note.delay()
    eventually("tasks again, by the worker that lived through the restart", lambda: near.llen("noted") > 0)


def main():
    print(f"version {celery.__version__}")
    folder = os.path.dirname(os.path.abspath(__file__))
    log = open(os.devnull, "w")
    arguments = ["-A", "celery_app", "worker", "--concurrency", "2", "--loglevel", "WARNING", "--hostname", "worker@here"]
    worker = subprocess.Popen([sys.executable, "-m", "celery", *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for scenario in (results, workflows, control, restarts):
            say("---", scenario.__name__)
            scenario()
        worker.terminate()
        say("worker ended", worker.wait(timeout=30))
    finally:
        worker.kill()
        worker.wait()
    done()


if __name__ == "__main__":
    main()
