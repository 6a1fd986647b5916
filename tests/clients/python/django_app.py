"""Django's cache and sessions in Redis, by django-redis: django_app.py PORT BEHIND."""

import importlib.metadata
import threading

import django
from django.conf import settings

from transcript import BEHIND, PORT, attempt, done, eventually, restart, say

OPTIONS = {"CLIENT_CLASS": "django_redis.client.DefaultClient", "SOCKET_TIMEOUT": 20}
settings.configure(
    CACHES={
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{PORT}/1", "OPTIONS": OPTIONS},
        "json": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{PORT}/1",
            "KEY_PREFIX": "json",
            "OPTIONS": {**OPTIONS, "SERIALIZER": "django_redis.serializers.json.JSONSerializer", "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"},
        },
        "behind": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{BEHIND}/1", "OPTIONS": OPTIONS},
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    INSTALLED_APPS=[],
    USE_TZ=True,
    SECRET_KEY="for this test",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import cache, caches  # noqa: E402

behind = caches["behind"]


def values():
    say("set and get", (cache.set("a", {"b": [1, None]}), cache.get("a"), cache.get("a"), cache.get("none", "default")))
    say("add", (cache.add("a", 1), cache.add("new", 1), cache.get("new")))
    say("many", (cache.set_many({"m1": 1, "m2": "zwei"}), cache.get_many(["m1", "m2", "none"]), cache.get_many(["m1", "m2"])))
    say("count", (cache.set("n", 5), cache.incr("n"), cache.decr("n", 2), cache.get("n")))
    attempt("count what is not there", lambda: cache.incr("none"))
    say("or set", (cache.get_or_set("computed", lambda: 42), cache.get_or_set("computed", lambda: 43)))
    say("versions", (cache.set("v", "new", version=2), cache.get("v"), cache.get("v", version=2), cache.incr_version("v", version=2)))
    say("compressed", (caches["json"].set("big", ["x" * 10_000]), caches["json"].get("big") == ["x" * 10_000], caches["json"].get("big") == ["x" * 10_000]))
    say("deleted", (cache.delete("a"), cache.delete("a"), cache.get("a"), cache.has_key("n"), cache.delete_many(["m1", "m2"])))


def expiry():
    cache.set("short", 1, timeout=100)
    say("ttl", (cache.ttl("short"), cache.touch("short", 500), cache.ttl("short"), cache.persist("short"), cache.ttl("short"), cache.ttl("none")))
    cache.set("gone", 1, timeout=0.2)
    cache.get("gone")
    eventually("it expires", lambda: cache.get("gone") is None)


def patterns():
    cache.set_many({f"page:{number}": number for number in range(1000)})
    say("found", (len(set(cache.keys("page:*"))), len(set(cache.iter_keys("page:1*")))))
    say("read", sum(cache.get_many([f"page:{number}" for number in range(1000)]).values()))
    say("deleted", (cache.delete_pattern("page:1*"), len(cache.get_many([f"page:{number}" for number in range(1000)]))))
    say("cleared", (behind.set("other", 1), cache.get("other"), cache.clear(), cache.get("other"), cache.keys("*")))


def foreign():
    cache.set("shared", "one")
    cache.get("shared")
    behind.set("shared", "two")
    eventually("a foreign write is seen", lambda: cache.get("shared") == "two")


def locks():
    cache.set("counter", 0)

    def work():
        for _ in range(10):
            with cache.lock("lock", timeout=20, sleep=0.001):
                cache.set("counter", cache.get("counter") + 1)

    threads = [threading.Thread(target=work) for _ in range(10)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    say("counted", cache.get("counter"))


def sessions():
    session = SessionStore()
    session["user"] = 7
    session.save()
    again = SessionStore(session_key=session.session_key)
    say("loaded", (again["user"], again.get_expiry_age()))
    again["user"] = 8
    again.save()
    say("seen", (SessionStore(session_key=session.session_key)["user"], again.exists(session.session_key)))
    again.cycle_key()
    say("new key", (SessionStore(session_key=again.session_key)["user"], session.exists(session.session_key)))
    again.flush()
    say("flushed", SessionStore(session_key=session.session_key).get("user"))


def restarts():
    restart()

    def stored():
        try:
            cache.set("again", 1)
            return cache.get("again") == 1
        except Exception:  # noqa: BLE001, django-redis has its own for a lost connection
            return False

    eventually("stored again", stored)


print(f"version {importlib.metadata.version('django-redis')}")
for scenario in (values, expiry, patterns, foreign, locks, sessions, restarts):
    say("---", scenario.__name__)
    scenario()
done()
