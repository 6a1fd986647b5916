"""What a program does with redis-py: redis_py.py PROTOCOL PORT BEHIND."""

import sys
import threading

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from transcript import BEHIND, PORT, attempt, done, eventually, restart, say

PROTOCOL = int(sys.argv[1])


def connect(port=PORT, **options):
    return redis.Redis(**{"port": port, "protocol": PROTOCOL, "decode_responses": True, "socket_timeout": 20, **options})


near, behind = connect(), connect(BEHIND)


def options():
    named = connect(db=3, client_name="mine", health_check_interval=1, socket_keepalive=True)
    named.set("where", "three")
    say("name", named.client_getname())
    say("database of its own", (named.get("where"), near.get("where"), behind.execute_command("DBSIZE")))
    info = named.client_info()
    say("client info", [str(info[field]) for field in ("name", "db", "resp", "user", "cmd") if field in info])
    say("listed", [line["name"] for line in near.client_list() if line["name"]])
    say("id", near.client_id() > 0)
    behind.acl_setuser("app", enabled=True, passwords=["+secret"], keys=["app:*"], commands=["+@all"])
    app = connect(username="app", password="secret")
    say("whoami", app.acl_whoami())
    say("allowed", (app.set("app:1", "a"), app.get("app:1"), app.get("app:1")))
    attempt("forbidden", lambda: app.get("s"))
    attempt("wrong password", connect(username="app", password="wrong").ping)
    attempt("password where none is asked for", connect(password="none").ping)
    attempt("no such database", connect(db=99).ping)
    url = redis.Redis.from_url(f"redis://app:secret@localhost:{PORT}/2?protocol={PROTOCOL}&decode_responses=True")
    say("by url", (url.set("app:2", "b"), url.get("app:2"), url.connection_pool.connection_kwargs["db"]))
    attempt("nobody there", connect(1, retry=Retry(ConstantBackoff(0), 0)).ping)
    attempt("time out", lambda: connect(socket_timeout=0.1, retry=Retry(ConstantBackoff(0), 0)).blpop("nothing", 5))
    for client in (named, app, url):
        client.close()


def values():
    say("set and get", (near.set("s", "grün"), near.get("s"), near.get("s"), near.get("none")))
    raw = connect(decode_responses=False)
    every_byte = bytes(range(256))
    say("binary", (raw.set(every_byte, every_byte), raw.get(every_byte) == every_byte, sorted(raw.keys(b"*")) == sorted([every_byte, b"s"])))
    big = bytes(range(256)) * 40_000
    raw.set("big", big)
    say("10 MB", [raw.get("big") == big, raw.getrange("big", 255, 257), raw.strlen("big")])
    near.hset("h", mapping={"a": 1, "b": "2"})
    say("hash", (near.hgetall("h"), near.hmget("h", "a", "c"), near.hgetall("h")))
    near.zadd("z", {"x": 1.5, "y": 2, "w": float("inf")})
    say("scores", (near.zrange("z", 0, -1, withscores=True), near.zscore("z", "x"), near.zmscore("z", ["x", "no"])))
    near.sadd("set", 1, 2, 3)
    say("set", (sorted(near.smembers("set")), near.smismember("set", ["1", "9"]), near.sismember("set", "1")))
    say("many", (near.mset({"m1": 1, "m2": 2}), near.mget("m1", "none", "m2", "h"), near.mget("m1", "m2")))
    say("geo", (near.geoadd("g", [13.361389, 38.115556, "Palermo"]), near.geopos("g", "Palermo", "no")))
    say("bits", (near.setbit("b", 7, 1), near.bitcount("b"), near.bitfield("b").get("u8", 0).execute()))
    say("loglog", (near.pfadd("p", 1, 2, 3), near.pfcount("p")))
    say("expiry", (near.set("e", 1, ex=100), near.ttl("e"), near.persist("e"), near.ttl("e"), near.type("e")))
    say("lcs", (near.mset({"l1": "ohmytext", "l2": "mynewtext"}), near.lcs("l1", "l2", idx=True)))
    say("config", (near.config_get("maxmemory"), near.time()[0] > 0, near.echo("hi"), near.ping()))
    say("version", near.info("server")["redis_version"] == behind.info("server")["redis_version"])
    # PROXY is nearhit's own, and is one more.
    commands = near.command()
    say("commands", (sorted(set(commands) - {"proxy"}), near.command_count() - ("proxy" in commands)))
    say("command", (commands["get"], near.command_getkeys("SET", "k", "v")))


def failures():
    attempt("wrong type", lambda: near.get("h"))
    attempt("wrong type, from memory", lambda: near.hgetall("s"))
    attempt("unknown", lambda: near.execute_command("NOSUCH", "a"))
    attempt("arity", lambda: near.execute_command("GET"))
    attempt("not a number", lambda: near.incr("s"))
    attempt("syntax", lambda: near.execute_command("SET", "s", "v", "XX", "NX"))
    attempt("subcommand", lambda: near.execute_command("CONFIG", "NOSUCH"))
    attempt("script", lambda: near.eval("return redis.error_reply('MINE of my own')", 0))
    attempt("script that fails", lambda: near.eval("return redis.call('INCR', KEYS[1])", 1, "s"))
    attempt("cluster", lambda: near.execute_command("CLUSTER", "INFO"))


def coherence():
    seen = []
    for number in range(200):
        near.set("c", number)
        seen.append(near.get("c") == near.get("c") == str(number))
    say("own writes", all(seen))
    behind.set("c", "foreign")
    eventually("a foreign write is seen", lambda: near.get("c") == "foreign")


def pipelines():
    with near.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.set(f"p:{number % 10}", number).get(f"p:{number % 10}")
        say("pipeline", pipe.execute())
    with near.pipeline(transaction=False) as pipe:
        say("errors inside", pipe.set("s", "v").incr("s").get("s").execute(raise_on_error=False))
        attempt("error raised", lambda: pipe.set("s", "v").incr("s").execute())


def transactions():
    near.set("t", 1)
    with near.pipeline() as pipe:
        pipe.watch("t")
        value = int(pipe.get("t"))
        pipe.multi()
        say("transaction", pipe.set("t", value + 1).get("t").execute())
        for name, writer in (("foreign", behind), ("own", near)):
            pipe.watch("t")
            say("watched", pipe.get("t"))
            writer.set("t", 10)
            pipe.multi()
            attempt(f"conflict, {name} write", lambda: pipe.set("t", 3).execute())
        pipe.watch("t")
        pipe.unwatch()
        near.set("t", 10)
        pipe.multi()
        say("unwatched", pipe.incr("t").execute())
        attempt("refused while queueing", lambda: pipe.execute_command("NOSUCH").get("t").execute())
        attempt("error inside", lambda: pipe.incr("s").get("t").execute())
    say("left", near.get("t"))
    say("with retries", near.transaction(lambda pipe: pipe.multi() or pipe.incr("t"), "t"))


def channels():
    listener = near.pubsub()
    listener.subscribe("news", "more")
    listener.psubscribe("new*")
    got = []

    def collect(count):
        eventually(f"{count} messages", lambda: got.append(listener.get_message(timeout=0.01)) or len([1 for m in got if m]) == count)
        say("messages", [m for m in got if m])
        got.clear()

    collect(3)
    say("numbers", (behind.pubsub_numsub("news"), behind.pubsub_numpat(), sorted(near.pubsub_channels())))
    say("receivers", [near.publish("news", "one"), near.publish("more", "two"), near.publish("none", "three")])
    collect(3)
    listener.ping("hello")
    listener.unsubscribe("more")
    collect(2)
    listener.unsubscribe()
    listener.punsubscribe()
    collect(2)
    listener.close()
    handled = []
    threaded = near.pubsub()
    threaded.subscribe(news=lambda message: handled.append(message["data"]))
    thread = threaded.run_in_thread(sleep_time=0.01)
    eventually("a subscription", lambda: behind.pubsub_numsub("news") == [("news", 1)])
    for number in range(500):
        near.publish("news", number)
    eventually("all messages", lambda: len(handled) == 500)
    say("in order", handled == [str(number) for number in range(500)])
    thread.stop()
    thread.join()


def blocking():
    got = []
    waiter = threading.Thread(target=lambda: got.append(near.blpop(["q1", "q2"], timeout=15)))
    waiter.start()
    eventually("a blocked client", lambda: behind.info("clients")["blocked_clients"] == 1)
    near.rpush("q2", "job")
    waiter.join()
    say("popped", got)
    say("timed out", (near.blpop("q1", timeout=0.05), near.brpop("q1", 0.05), near.blmove("q1", "q2", 0.05)))
    near.rpush("q1", "a", "b", "c")
    say("there already", (near.brpop("q1"), near.blmove("q1", "q2", 1), near.blmpop(1, 1, "q1", direction="LEFT")))
    near.zadd("bz", {"m": 1, "n": 2})
    say("sorted", (near.bzpopmin("bz", 1), near.bzpopmax(["bz"], 1), near.bzpopmin("bz", 0.05)))


def streams():
    near.xgroup_create("x", "workers", id="0", mkstream=True)
    attempt("group exists", lambda: near.xgroup_create("x", "workers"))
    for number in range(1, 6):
        near.xadd("x", {"n": number}, id=f"{number}-1")
    say("read by group", near.xreadgroup("workers", "one", {"x": ">"}, count=3))
    say("and again", near.xreadgroup("workers", "two", {"x": ">"}, block=50))
    say("nothing more", near.xreadgroup("workers", "two", {"x": ">"}, block=50))
    say("acknowledged", near.xack("x", "workers", "1-1", "2-1"))
    say("pending", near.xpending("x", "workers"))
    say("claimed", near.xautoclaim("x", "workers", "three", min_idle_time=0, start_id="0-0"))
    say("of three", [p["message_id"] for p in near.xpending_range("x", "workers", "-", "+", 10, "three")])
    say("ranges", (near.xrange("x", "2-1", "3-1"), near.xrevrange("x", count=1), near.xlen("x")))
    say("read", near.xread({"x": "4-1"}))
    info = near.xinfo_stream("x")
    say("info", (info["length"], info["last-generated-id"], [g["name"] for g in near.xinfo_groups("x")]))
    got = []
    waiter = threading.Thread(target=lambda: got.append(near.xread({"x": "$"}, block=15000)))
    waiter.start()
    eventually("a blocked reader", lambda: behind.info("clients")["blocked_clients"] == 1)
    near.xadd("x", {"n": 6}, id="6-1")
    waiter.join()
    say("awaited", got)
    attempt("no group", lambda: near.xreadgroup("none", "one", {"x": ">"}))


def scripts():
    double = near.register_script("local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], v * ARGV[1]) return v * ARGV[1]")
    near.set("script", 5)
    before = near.get("script")
    say("script", (before, double(keys=["script"], args=[2]), near.get("script"), double(keys=["script"], args=[2])))
    near.script_flush()
    say("after a flush", (double(keys=["script"], args=[3]), near.get("script"), near.script_exists(double.sha)))
    with near.pipeline() as pipe:
        near.script_flush()
        double(keys=["script"], args=[2], client=pipe)
        say("in a transaction", pipe.get("script").execute())
    attempt("unknown script", lambda: near.evalsha("0" * 40, 0))
    say("nested", near.eval("return {1, 'two', false, {3, {4, {5}}}}", 0))
    say("read only", near.eval_ro("return redis.call('GET', KEYS[1])", 1, "script"))
    code = "#!lua name=mine\nredis.register_function('put', function(k, a) redis.call('SET', k[1], a[1]) return a[1] end)"
    say("function", (near.function_load(code), near.fcall("put", 1, "f", "1"), near.get("f"), near.fcall("put", 1, "f", "2"), near.get("f")))
    attempt("function exists", lambda: near.function_load(code))
    say("functions", (len(near.function_list()), near.function_delete("mine")))
    attempt("no function", lambda: near.fcall("put", 1, "f", "1"))


def scans():
    near.mset({f"scan:{number}": number for number in range(5000)})
    near.hset("hscan", mapping={f"f{number}": number for number in range(1000)})
    near.sadd("sscan", *range(1000))
    near.zadd("zscan", {f"m{number}": number for number in range(1000)})
    say("keys", len(set(near.scan_iter("scan:*", count=50))))
    say("by type", sorted(near.scan_iter("?scan", _type="hash")))
    say("inside", [len(set(scan)) for scan in (near.hscan_iter("hscan"), near.sscan_iter("sscan"), near.zscan_iter("zscan"))])
    say("sorted", (near.sort("zscan", 0, 3, alpha=True, desc=True), near.sort("zscan", by="nosort", num=2, start=0, get=["scan:*", "#"])))


def threads():
    wrong = []

    def work(name):
        for number in range(100):
            near.set(f"thread:{name}", f"{name}-{number}")
            near.incr("counter")
            if near.get(f"thread:{name}") != f"{name}-{number}" or near.get("shared") != "everyone":
                wrong.append(name)

    near.set("shared", "everyone")
    workers = [threading.Thread(target=work, args=(name,)) for name in range(20)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    say("threads", (wrong, near.get("counter")))


def own_cache():
    from redis.cache import CacheConfig
    from redis.connection import CacheProxyConnection

    # The library wants 7.4 by default; what it does works with every server that tracks.
    CacheProxyConnection.MIN_ALLOWED_VERSION = "7.0.0"
    cached = connect(cache_config=CacheConfig(max_size=100))
    behind.set("own", "one")
    say("own cache", (cached.get("own"), cached.get("own"), len(cached.get_cache().collection)))
    for name, writer in (("foreign", behind), ("proxied", near)):
        writer.set("own", name)
        eventually(f"an invalidation after a {name} write", lambda: cached.get("own") == name)
    cached.close()


def restarts():
    listener = near.pubsub()
    listener.subscribe("news")
    eventually("a subscription", lambda: listener.get_message(timeout=0.01))
    near.get("s")
    restart()
    patient = connect(retry=Retry(ConstantBackoff(0.05), 100), retry_on_error=[redis.ConnectionError])
    say("after a restart", (patient.set("again", "1"), patient.get("again"), near.set("s", "2"), near.get("s")))

    def received():
        message = listener.get_message(timeout=0.05)
        near.publish("news", "again")
        return message and message["type"] == "message"

    eventually("a message after the restart", received)
    listener.close()


print(f"version {redis.__version__}")
for scenario in (options, values, failures, coherence, pipelines, transactions, channels, blocking, streams, scripts, scans, threads):
    say("---", scenario.__name__)
    scenario()
if PROTOCOL == 3:
    own_cache()
restarts()
done()
