"""What a program does with redis-py's asyncio client: redis_py_async.py PROTOCOL PORT BEHIND."""

import asyncio
import sys
import time

import redis
import redis.asyncio as aio
from redis.backoff import ConstantBackoff
from redis.asyncio.retry import Retry

from transcript import BEHIND, PORT, attempt_async, done, restart, say

PROTOCOL = int(sys.argv[1])


def connect(port=PORT, **options):
    return aio.Redis(**{"port": port, "protocol": PROTOCOL, "decode_responses": True, "socket_timeout": 20, **options})


near, behind = connect(), connect(BEHIND)


async def eventually(what, condition):
    deadline = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.002)
    say("eventually", what)


async def blocked():
    return (await behind.info("clients"))["blocked_clients"] == 1


async def options():
    named = connect(db=3, client_name="mine", health_check_interval=1)
    await named.set("where", "three")
    say("name and database", (await named.client_getname(), await named.get("where"), await near.get("where")))
    await behind.acl_setuser("app", enabled=True, passwords=["+secret"], keys=["app:*"], commands=["+@all"])
    app = connect(username="app", password="secret")
    say("allowed", (await app.acl_whoami(), await app.set("app:1", "a"), await app.get("app:1"), await app.get("app:1")))
    await attempt_async("forbidden", app.get("s"))
    await attempt_async("wrong password", connect(username="app", password="wrong").ping())
    await attempt_async("no such database", connect(db=99).ping())
    once = Retry(ConstantBackoff(0), 0)
    await attempt_async("time out", connect(socket_timeout=0.1, retry=once).blpop("nothing", 5))
    for client in (named, app):
        await client.aclose()


async def values():
    say("set and get", [await near.set("s", "grün"), await near.get("s"), await near.get("s"), await near.get("none")])
    raw = connect(decode_responses=False)
    big = bytes(range(256)) * 40_000
    await raw.set("big", big)
    say("10 MB", [await raw.get("big") == big for _ in range(2)])
    await near.hset("h", mapping={"a": 1, "b": "2"})
    await near.zadd("z", {"x": 1.5, "y": 2})
    say("aggregates", [await near.hgetall("h"), await near.zrange("z", 0, -1, withscores=True), await near.mget("s", "none")])
    await attempt_async("wrong type", near.get("h"))
    await attempt_async("unknown", near.execute_command("NOSUCH"))
    await raw.aclose()


async def pipelines():
    async with near.pipeline(transaction=False) as pipe:
        for number in range(500):
            pipe.set(f"p:{number % 10}", number).get(f"p:{number % 10}")
        say("pipeline", await pipe.execute())
    await near.set("t", 1)
    async with near.pipeline() as pipe:
        for name, writer in (("foreign", behind), ("own", near)):
            await pipe.watch("t")
            say("watched", await pipe.get("t"))
            await writer.set("t", 10)
            pipe.multi()
            await attempt_async(f"conflict, {name} write", pipe.set("t", 3).execute())
        say("transaction", await pipe.incr("t").get("t").execute())


async def channels():
    listener = near.pubsub()
    await listener.subscribe("news")
    await listener.psubscribe("new*")
    got = []

    async def collect(count):
        while len(got) < count:
            message = await listener.get_message(timeout=10)
            assert message, "no message"
            got.append(message)
        say("messages", got)
        got.clear()

    await collect(2)
    say("receivers", await near.publish("news", "one"))
    await collect(2)
    await listener.unsubscribe("news")
    await listener.punsubscribe("new*")
    await collect(2)
    await listener.aclose()


async def blocking():
    popped = asyncio.create_task(near.blpop("queue", 15))
    await eventually("a blocked client", blocked)
    await near.rpush("queue", "job")
    say("popped", (await popped, await near.blpop("queue", 0.05)))
    cancelled = asyncio.create_task(near.blpop("queue", 15))
    await eventually("a blocked client", blocked)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    say("cancelled", cancelled.cancelled())
    # The library closes the connection, and the element stays for others.
    await eventually("nobody blocked", lambda: _not(blocked()))
    await near.rpush("queue", "kept")
    say("kept", await near.lrange("queue", 0, -1))


async def _not(awaitable):
    return not await awaitable


async def streams():
    await near.xgroup_create("x", "workers", id="0", mkstream=True)

    async def work(name, count):
        ids = []
        while len(ids) < count:
            for _, entries in _pairs(await near.xreadgroup("workers", name, {"x": ">"}, count=1, block=10_000)):
                for entry, _ in entries:
                    ids.append(entry)
                    await near.xack("x", "workers", entry)
        return ids

    worker = asyncio.create_task(work("one", 20))
    for number in range(1, 21):
        await near.xadd("x", {"n": number}, id=f"{number}-1")
    say("worked off", await worker)
    say("pending", await near.xpending("x", "workers"))


def _pairs(reply):
    """RESP3 gives a map with one list more."""
    if isinstance(reply, dict):
        return [(name, [entry for part in parts for entry in part]) for name, parts in reply.items()]
    return reply


async def scripts():
    double = near.register_script("redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) * 2) return redis.call('GET', KEYS[1])")
    await near.set("script", 5)
    before = await near.get("script")
    say("script", [before, await double(keys=["script"]), await near.get("script")])
    await near.script_flush()
    say("after a flush", [await double(keys=["script"]), await near.get("script")])


async def scans():
    await near.mset({f"scan:{number}": number for number in range(5000)})
    say("keys", len({key async for key in near.scan_iter("scan:*", count=100)}))


async def tasks():
    pool = aio.BlockingConnectionPool(port=PORT, protocol=PROTOCOL, decode_responses=True, max_connections=100, timeout=60)
    client = aio.Redis(connection_pool=pool)
    await client.set("shared", "everyone")

    async def work(name):
        wrong = 0
        for number in range(3):
            await client.set(f"task:{name}", f"{name}-{number}")
            wrong += await client.get(f"task:{name}") != f"{name}-{number}"
            wrong += await client.get("shared") != "everyone"
            await client.incr("counter")
        return wrong

    say("1,000 tasks", (sum(await asyncio.gather(*(work(name) for name in range(1000)))), await client.get("counter")))
    await client.aclose()
    await pool.disconnect()


async def restarts():
    listener = near.pubsub()
    await listener.subscribe("news")
    await listener.get_message(timeout=10)
    restart()
    say("after a restart", (await near.set("again", "1"), await near.get("again")))

    async def received():
        message = await listener.get_message(timeout=0.05)
        await near.publish("news", "again")
        return message and message["type"] == "message"

    await eventually("a message after the restart", received)
    await listener.aclose()


async def main():
    print(f"version {redis.__version__}")
    for scenario in (options, values, pipelines, channels, blocking, streams, scripts, scans, tasks, restarts):
        say("---", scenario.__name__)
        await scenario()
    await near.aclose()
    await behind.aclose()
    done()


asyncio.run(main())
