"""redis-py's Lock, which is Redlock on one server: lock_app.py PROTOCOL PORT BEHIND."""

import sys
import threading

import redis

from transcript import BEHIND, PORT, attempt, done, eventually, say

PROTOCOL = int(sys.argv[1])


def connect(port=PORT):
    return redis.Redis(port=port, protocol=PROTOCOL, decode_responses=True, socket_timeout=20)


near, behind = connect(), connect(BEHIND)


def exclusion():
    near.set("counter", 0)
    inside, wrong = [], []

    def work(client):
        for _ in range(10):
            with client.lock("lock", timeout=20, sleep=0.001):
                inside.append(1)
                if len(inside) > 1:
                    wrong.append("two at once")
                client.set("counter", int(client.get("counter")) + 1)
                inside.pop()

    # Half of them past nearhit: a lock must hold across both.
    threads = [threading.Thread(target=work, args=(connect(PORT if number % 2 else BEHIND),)) for number in range(10)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    say("counted", (behind.get("counter"), wrong))


def life():
    lock = near.lock("life", timeout=10)
    say("taken", (lock.acquire(), lock.locked(), lock.owned(), near.lock("life").acquire(blocking=False)))
    say("waited in vain", near.lock("life").acquire(blocking_timeout=0.1))
    say("longer", (lock.extend(50), 50 < near.ttl("life") <= 60, lock.reacquire(), near.ttl("life") <= 10))
    say("released", (lock.release(), lock.locked(), near.exists("life")))
    attempt("released twice", lock.release)
    short = near.lock("short", timeout=0.2)
    short.acquire()
    eventually("it is released by itself", lambda: not short.owned())
    attempt("too late", short.release)
    other = near.lock("short", timeout=20)
    say("another's", (other.acquire(), short.owned(), other.owned()))
    attempt("not mine to extend", lambda: short.extend(5))
    behind.set("short", "stolen")
    attempt("stolen", other.release)


print(f"version {redis.__version__}")
for scenario in (exclusion, life):
    say("---", scenario.__name__)
    scenario()
done()
