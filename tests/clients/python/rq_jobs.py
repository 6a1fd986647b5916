"""What RQ's workers do for rq_app.py."""

import redis
from rq import get_current_job


def add(left, right):
    return left + right


def fail():
    raise ValueError("as it should")


def flaky(url):
    client = redis.Redis.from_url(url)
    if client.incr("tries") < 3:
        raise ValueError("not yet")
    return int(client.get("tries"))


def after():
    dependency = get_current_job().dependency
    return ["after", dependency.return_value()]


def note(url, text):
    redis.Redis.from_url(url).rpush("notes", text)
