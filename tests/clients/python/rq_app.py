"""RQ: jobs, failures, retries, dependencies and schedules: rq_app.py PORT BEHIND."""

import os
import subprocess
import sys
import time
from datetime import timedelta

import redis
import rq
from rq import Queue, Retry, SimpleWorker, Worker
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry

import rq_jobs
from transcript import PORT, attempt, done, eventually, restart, say

URL = f"redis://127.0.0.1:{PORT}/0"
near = redis.Redis.from_url(URL)
queue = Queue("work", connection=near)
urgent = Queue("urgent", connection=near)
folder = os.path.dirname(os.path.abspath(__file__))
environment = {**os.environ, "PYTHONPATH": folder}


def start_worker(*options):
    arguments = ["worker", "--url", URL, "--quiet", *options, "urgent", "work"]
    return subprocess.Popen(
        [sys.executable, "-m", "rq.cli", *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def burst():
    jobs = [queue.enqueue(rq_jobs.add, number, 1) for number in range(20)]
    failing = queue.enqueue(rq_jobs.fail, job_id="failing")
    retried = queue.enqueue(rq_jobs.flaky, URL, retry=Retry(max=3))
    first = queue.enqueue(rq_jobs.add, 20, 1)
    dependent = queue.enqueue(rq_jobs.after, depends_on=first)
    say("waiting", (len(queue), dependent.get_status(), queue.get_job_ids()[20]))
    say("worked", SimpleWorker([urgent, queue], connection=near).work(burst=True, logging_level="ERROR"))
    say("results", [job.return_value() for job in jobs])
    say("failure", (failing.get_status(), failing.latest_result().exc_string.strip().splitlines()[-1]))
    say("retried", (retried.get_status(), retried.return_value()))
    say("dependent", (dependent.get_status(), dependent.return_value()))
    say("registries", (FailedJobRegistry(queue=queue).get_job_ids(), len(FinishedJobRegistry(queue=queue)), len(queue)))
    FailedJobRegistry(queue=queue).requeue("failing")
    say("requeued", (failing.get_status(refresh=True), queue.get_job_ids()))
    failing.cancel()
    say("cancelled", (failing.get_status(refresh=True), len(queue)))
    attempt("no such job", lambda: Job.fetch("none", connection=near))


def processes():
    # Each job in a process of its own, forked by the worker.
    workers = [start_worker("--burst") for _ in range(2)]
    for number in range(10):
        queue.enqueue(rq_jobs.note, URL, f"n{number}")
    say("ended", [worker.wait(timeout=60) for worker in workers])
    start_worker("--burst").wait(timeout=60)
    say("notes", sorted(near.lrange("notes", 0, -1)))


def schedules():
    worker = start_worker("--with-scheduler")
    try:
        later = queue.enqueue_in(timedelta(seconds=1), rq_jobs.add, 40, 2)
        say("scheduled", (later.get_status(), len(ScheduledJobRegistry(queue=queue))))
        eventually("its time has come", lambda: later.get_status(refresh=True) == "finished")
        say("result", later.return_value())
        quick = urgent.enqueue(rq_jobs.add, 1, 1)
        eventually("a waiting worker takes it", lambda: quick.get_status(refresh=True) == "finished")
        say("workers", (len(Worker.all(connection=near)), [q.name for q in sorted(Queue.all(connection=near), key=lambda q: q.name)]))
        # One that is about to note its result when it loses its connection ends.
        eventually("it is idle", lambda: [one.get_state() for one in Worker.all(connection=near)] == ["idle"])
        restart()
        # It asks again after 1, 2, 4 … seconds.
        eventually("jobs again", again, limit=60)
        worker.terminate()
        say("worker ended", worker.wait(timeout=60))
    finally:
        worker.kill()
        worker.wait()


def again():
    """Whether a job put in now is worked off, by the worker that lived through the restart."""
    try:
        return finished_within(queue.enqueue(rq_jobs.add, 5, 5), 3)
    except (redis.ConnectionError, redis.TimeoutError):
        return False


def finished_within(job, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if job.get_status(refresh=True) == "finished":
            return True
        time.sleep(0.01)
    return False


def main():
    print(f"version {rq.VERSION}")
    for scenario in (burst, processes, schedules):
        say("---", scenario.__name__)
        scenario()
    done()


main()
