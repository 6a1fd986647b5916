"""What a program does with redis-py: python.py NEARHIT_PORT REDIS_PORT PROTOCOL. Exit status 0: all is as with Redis."""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio

near_port, redis_port, protocol = (int(word) for word in sys.argv[1:])


def connect(port=near_port, **options):
    return redis.Redis(port=port, protocol=protocol, decode_responses=True, socket_timeout=10, **options)


near, behind = connect(), connect(redis_port)


def eventually(what, condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def values():
    assert near.set("s", "grün") and near.get("s") == "grün"
    raw = redis.Redis(port=near_port, protocol=protocol)
    raw.set("b", bytes(range(256)))
    assert raw.get("b") == bytes(range(256)) and raw.get("none") is None
    near.hset("h", mapping={"a": 1, "b": "2"})
    assert near.hgetall("h") == {"a": "1", "b": "2"} == behind.hgetall("h")
    near.zadd("z", {"x": 1.5, "y": 2})
    assert near.zrange("z", 0, -1, withscores=True) == behind.zrange("z", 0, -1, withscores=True)
    near.sadd("set", 1, 2, 3)
    assert near.smembers("set") == {"1", "2", "3"}
    near.xadd("x", {"f": "v"}, id="1-1")
    assert near.xrange("x") == behind.xrange("x") and near.xread({"x": 0}) == behind.xread({"x": 0})
    assert near.mget("s", "none", "h2") == ["grün", None, None]
    for key, wrong in (("h", near.get), ("s", near.hgetall)):
        try:
            wrong(key)
            raise AssertionError("no error")
        except redis.ResponseError as error:
            assert "WRONGTYPE" in str(error)
    assert "proxy_version" in near.info() or near.info()["redis_version"] == behind.info()["redis_version"]


def coherence():
    for number in range(200):
        near.set("c", number)
        assert near.get("c") == near.get("c") == str(number)
    behind.set("c", "foreign")
    eventually("a foreign write", lambda: near.get("c") == "foreign")


def pipelines():
    with near.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.set(f"p:{number % 10}", number).get(f"p:{number % 10}")
        replies = pipe.execute()
    assert replies[1::2] == [str(number) for number in range(1000)]


def transactions():
    near.set("t", 1)
    with near.pipeline() as pipe:
        pipe.watch("t")
        value = int(pipe.get("t"))
        pipe.multi()
        pipe.set("t", value + 1).get("t")
        assert pipe.execute() == [True, "2"]
        pipe.watch("t")
        behind.set("t", 10)
        pipe.multi()
        pipe.set("t", 3)
        try:
            pipe.execute()
            raise AssertionError("committed over a foreign write")
        except redis.WatchError:
            pass
    assert near.get("t") == "10"
    assert near.transaction(lambda pipe: pipe.multi() or pipe.incr("t"), "t") == [11]


def channels():
    listener = near.pubsub()
    listener.subscribe("news")
    listener.psubscribe("new*")
    eventually("subscriptions", lambda: behind.pubsub_numsub("news") == [("news", 1)] and behind.pubsub_numpat() == 1)
    near.publish("news", "one")
    got = []
    eventually("messages", lambda: got.append(listener.get_message(timeout=0.01)) or len([m for m in got if m and "message" in m["type"]]) == 2)
    assert {m["type"] for m in got if m} == {"subscribe", "psubscribe", "message", "pmessage"}
    listener.unsubscribe()
    listener.punsubscribe()
    listener.close()


def blocking():
    popped = []
    waiter = threading.Thread(target=lambda: popped.append(connect().blpop("queue", 5)))
    waiter.start()
    eventually("a blocked client", lambda: behind.info()["blocked_clients"] == 1)
    near.rpush("queue", "job")
    waiter.join()
    assert [tuple(pair) for pair in popped] == [("queue", "job")], popped
    assert near.blpop("queue", 0.05) is None
    assert near.brpop("queue", 0.05) is None


def scans():
    for number in range(300):
        near.set(f"scan:{number}", "x")
    assert len(set(near.scan_iter("scan:*", count=20))) == 300
    assert dict(near.hscan_iter("h")) == {"a": "1", "b": "2"}


def scripts():
    near.set("script", 5)
    double = near.register_script("local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], v * 2) return v * 2")
    assert near.get("script") == near.get("script") == "5"
    assert [double(keys=["script"]), double(keys=["script"])] == [10, 20]
    assert near.get("script") == "20"
    assert near.eval("return {1, 'two', false, {3}}", 0) == [1, "two", None, [3]]


def client_side_caching():
    """redis-py's own cache, which tracks through nearhit."""
    from redis.cache import CacheConfig

    cached = connect(cache_config=CacheConfig())
    near.set("own", "1")
    assert cached.get("own") == cached.get("own") == "1"
    behind.set("own", "2")
    eventually("an invalidation", lambda: cached.get("own") == "2")
    cached.close()


async def asynchronous():
    client = redis.asyncio.Redis(port=near_port, protocol=protocol, decode_responses=True)
    await asyncio.gather(*(client.set(f"async:{number}", number) for number in range(50)))
    values = await asyncio.gather(*(client.get(f"async:{number}") for number in range(50)))
    assert values == [str(number) for number in range(50)]
    await client.aclose()


for part in (values, coherence, pipelines, transactions, channels, blocking, scans, scripts):
    part()
# redis-py asks for 7.4 before it caches.
if protocol == 3 and tuple(map(int, behind.info()["redis_version"].split(".")[:2])) >= (7, 4):
    client_side_caching()
asyncio.run(asynchronous())
print("ok")
