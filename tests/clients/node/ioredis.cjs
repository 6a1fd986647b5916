// What a program does with ioredis: ioredis.cjs PROTOCOL PORT BEHIND.
const Redis = require("ioredis");
const { version } = require("ioredis/package.json");
const { port, behindPort, say, attempt, eventually, restart, run } = require("./transcript.cjs");

const protocol = Number(process.argv[2]);
const connect = (options = {}) => {
  const client = new Redis({ port, protocol, maxRetriesPerRequest: 1, ...options });
  // Refused connections are an event as well as a rejected command.
  client.on("error", () => {});
  return client;
};
const near = connect();
const behind = connect({ port: behindPort });
const blocked = async () => (await behind.info("clients")).includes("blocked_clients:1");
const numbers = (count) => Array.from({ length: count }, (_, number) => number);

async function options() {
  const named = connect({ db: 3, connectionName: "mine", enableReadyCheck: true });
  await named.set("where", "three");
  say("name and database", [await named.client("GETNAME"), await named.get("where"), await near.get("where")]);
  await behind.acl("SETUSER", "app", "on", ">secret", "~app:*", "+@all");
  const app = connect({ username: "app", password: "secret" });
  say("allowed", [await app.acl("WHOAMI"), await app.set("app:1", "a"), await app.get("app:1"), await app.get("app:1")]);
  await attempt("forbidden", () => app.get("s"));
  const refused = { retryStrategy: null, lazyConnect: true };
  await attempt("wrong password", () => connect({ username: "app", password: "wrong", ...refused }).connect());
  await attempt("no such database", () => connect({ db: 99, ...refused }).connect());
  const byUrl = new Redis(`redis://app:secret@localhost:${port}/2`, { protocol });
  say("by url", [await byUrl.set("app:2", "b"), await byUrl.get("app:2")]);
  const prefixed = connect({ keyPrefix: "mine:" });
  say("prefix", [await prefixed.set("k", "v"), await prefixed.get("k"), await near.get("mine:k")]);
  await attempt("time out", () => connect({ commandTimeout: 100 }).blpop("nothing", 5));
  for (const client of [named, app, byUrl, prefixed]) await client.quit();
}

async function values() {
  say("set and get", [await near.set("s", "grün"), await near.get("s"), await near.get("s"), await near.get("none")]);
  const bytes = Buffer.from(numbers(256));
  say("binary", [await near.set(bytes, bytes), bytes.equals(await near.getBuffer(bytes)), await near.getBuffer(bytes)]);
  const big = Buffer.alloc(10_000_000, bytes);
  await near.set("big", big);
  say("10 MB", [big.equals(await near.getBuffer("big")), big.equals(await near.getBuffer("big")), await near.strlen("big")]);
  await near.hset("h", { a: 1, b: "2" });
  say("hash", [await near.hgetall("h"), await near.hmget("h", "a", "c"), await near.hgetall("none")]);
  await near.zadd("z", 1.5, "x", 2, "y", "+inf", "w");
  say("scores", [await near.zrange("z", 0, -1, "WITHSCORES"), await near.zscore("z", "x"), await near.zmscore("z", "x", "no")]);
  await near.sadd("set", 1, 2, 3);
  say("set", [(await near.smembers("set")).sort(), await near.sismember("set", 1), await near.smismember("set", 1, 9)]);
  say("many", [await near.mset({ m1: 1, m2: 2 }), await near.mget("m1", "none", "h"), await near.mget("m1", "m2")]);
  say("expiry", [await near.set("e", 1, "EX", 100, "NX"), await near.ttl("e"), await near.set("e", 1, "NX"), await near.type("e")]);
  // PROXY is nearhit's own.
  const names = (await near.command("LIST")).filter((name) => !name.startsWith("proxy"));
  say("command", [names.sort(), (await near.command("INFO", "get"))[0]]);
  await attempt("wrong type", () => near.get("h"));
  await attempt("unknown", () => near.call("NOSUCH", "a"));
  await attempt("arity", () => near.call("GET"));
  await attempt("not a number", () => near.incr("s"));
}

async function coherence() {
  const seen = [];
  for (const number of numbers(200)) {
    await near.set("c", number);
    const both = await Promise.all([near.get("c"), near.get("c")]);
    seen.push(both.every((value) => value === `${number}`));
  }
  say("own writes", seen.every(Boolean));
  await behind.set("c", "foreign");
  await eventually("a foreign write is seen", async () => (await near.get("c")) === "foreign");
}

async function pipelines() {
  const pipeline = near.pipeline();
  for (const number of numbers(1000)) pipeline.set(`p:${number % 10}`, number).get(`p:${number % 10}`);
  say("pipeline", await pipeline.exec());
  say("errors inside", (await near.pipeline().set("s", "v").incr("s").get("s").exec()).map(([error, value]) => [error?.message, value]));
  const automatic = connect({ enableAutoPipelining: true });
  say("automatic", await Promise.all(numbers(100).map((number) => automatic.get(`p:${number % 10}`))));
  await automatic.quit();
}

async function transactions() {
  await near.set("t", 1);
  say("transaction", await near.multi().incr("t").get("t").exec());
  for (const [name, writer] of [["foreign", behind], ["own", connect()]]) {
    await near.watch("t");
    say("watched", await near.get("t"));
    await writer.set("t", 10);
    say(`conflict, ${name} write`, await near.multi().set("t", 3).exec());
  }
  await near.watch("t");
  say("no conflict", await near.multi().get("t").set("t", 3).exec());
  say("error inside", (await near.multi().incr("s").get("t").exec()).map(([error, value]) => [error?.message, value]));
  await attempt("refused while queueing", () => near.multi().call("NOSUCH").get("t").exec());
  await near.multi({ pipeline: false });
  say("step by step", [await near.incr("t"), await near.get("t"), await near.exec()]);
  await near.multi({ pipeline: false });
  say("discarded", [await near.set("t", 99), await near.discard(), await near.get("t")]);
}

async function channels() {
  const [listener, got] = [connect(), []];
  listener.on("message", (channel, text) => got.push(["message", channel, text]));
  listener.on("pmessage", (pattern, channel, text) => got.push([pattern, channel, text]));
  say("subscribed", [await listener.subscribe("news", "more"), await listener.psubscribe("new*")]);
  say("numbers", [await behind.pubsub("NUMSUB", "news"), await behind.pubsub("NUMPAT"), (await near.pubsub("CHANNELS")).sort()]);
  await attempt("in this context", () => listener.call("GET", "s"));
  say("receivers", [await near.publish("news", "one"), await near.publish("more", "two")]);
  await eventually("messages", () => got.length === 3);
  for (const number of numbers(500)) near.publish("more", number);
  await eventually("all messages", () => got.length === 503);
  say("in order", got.splice(0));
  say("unsubscribed", [await listener.unsubscribe("news", "more"), await listener.punsubscribe("new*")]);
  say("usable again", [await listener.ping(), await listener.get("s")]);
  await listener.quit();
}

async function blocking() {
  const waiter = connect();
  const popped = waiter.blpop("q1", "q2", 15);
  await eventually("a blocked client", blocked);
  await near.rpush("q2", "job");
  say("popped", [await popped, await waiter.blpop("q1", 0.05), await waiter.brpop("q1", 0.05)]);
  await near.rpush("q1", "a", "b");
  say("there already", [await waiter.blmove("q1", "q2", "LEFT", "RIGHT", 1), await waiter.brpop("q1", 1)]);
  await near.zadd("bz", 1, "m");
  say("sorted", [await waiter.bzpopmin("bz", 1), await waiter.bzpopmin("bz", 0.05)]);
  const ghost = connect();
  ghost.blpop("ghost", 15).catch(() => {});
  await eventually("a blocked client", blocked);
  ghost.disconnect();
  await eventually("nobody blocked", async () => !(await blocked()));
  await near.rpush("ghost", "kept");
  say("kept", await near.lrange("ghost", 0, -1));
  await waiter.quit();
}

async function streams() {
  await near.xgroup("CREATE", "x", "workers", "0", "MKSTREAM");
  await attempt("group exists", () => near.xgroup("CREATE", "x", "workers", "0"));
  for (const number of numbers(5)) await near.xadd("x", `${number + 1}-1`, "n", number);
  say("read by group", await near.xreadgroup("GROUP", "workers", "one", "COUNT", 3, "STREAMS", "x", ">"));
  say("the rest", await near.xreadgroup("GROUP", "workers", "two", "BLOCK", 50, "STREAMS", "x", ">"));
  say("nothing more", await near.xreadgroup("GROUP", "workers", "two", "BLOCK", 50, "STREAMS", "x", ">"));
  say("acknowledged", [await near.xack("x", "workers", "1-1", "2-1"), await near.xpending("x", "workers")]);
  say("claimed", await near.xautoclaim("x", "workers", "three", 0, "0-0", "COUNT", 2));
  say("ranges", [await near.xrange("x", "2-1", "3-1"), await near.xrevrange("x", "+", "-", "COUNT", 1), await near.xlen("x")]);
  const waiter = connect();
  const awaited = waiter.xread("BLOCK", 15_000, "STREAMS", "x", "$");
  await eventually("a blocked reader", blocked);
  await near.xadd("x", "6-1", "n", 6);
  say("awaited", await awaited);
  await waiter.quit();
}

async function scripts() {
  near.defineCommand("double", {
    numberOfKeys: 1,
    lua: "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], v * 2) return v * 2",
  });
  await near.set("script", 5);
  say("script", [await near.get("script"), await near.double("script"), await near.get("script")]);
  await near.script("FLUSH");
  say("after a flush", [await near.double("script"), await near.get("script")]);
  say("in a pipeline", await near.pipeline().double("script").get("script").exec());
  await attempt("unknown script", () => near.evalsha("0".repeat(40), 0));
  say("nested", await near.eval("return {1, 'two', false, {3, {4, {5}}}}", 0));
  await near.function("LOAD", "#!lua name=mine\nredis.register_function('put', function(k, a) redis.call('SET', k[1], a[1]) return a[1] end)");
  say("function", [await near.fcall("put", 1, "f", "1"), await near.get("f"), await near.fcall("put", 1, "f", "2"), await near.get("f")]);
}

async function scans() {
  await near.mset(Object.fromEntries(numbers(5000).map((number) => [`scan:${number}`, "x"])));
  await near.hset("hscan", Object.fromEntries(numbers(1000).map((number) => [`f${number}`, number])));
  const count = async (stream, step) => {
    const found = new Set();
    for await (const part of stream) part.forEach((item, at) => at % step || found.add(item));
    return found.size;
  };
  say("keys", await count(near.scanStream({ match: "scan:*", count: 50 }), 1));
  say("fields", await count(near.hscanStream("hscan", { count: 50 }), 2));
}

async function tasks() {
  await near.set("shared", "everyone");
  const clients = numbers(20).map(() => connect());
  const work = async (name) => {
    const client = clients[name % clients.length];
    let wrong = 0;
    for (const number of numbers(3)) {
      await client.set(`task:${name}`, `${name}-${number}`);
      if ((await client.get(`task:${name}`)) !== `${name}-${number}`) wrong++;
      if ((await client.get("shared")) !== "everyone") wrong++;
      await client.incr("counter");
    }
    return wrong;
  };
  const wrong = await Promise.all(numbers(1000).map(work));
  say("1,000 tasks", [wrong.reduce((sum, one) => sum + one), await near.get("counter")]);
  clients.forEach((client) => client.disconnect());
}

async function watching() {
  const lines = [];
  const monitor = await connect().monitor();
  monitor.on("monitor", (_, words) => lines.push(words));
  await near.set("watched", "from afar");
  await eventually("a line of MONITOR", () => lines.some((words) => words.join(" ") === "set watched from afar"));
  monitor.disconnect();
}

async function restarts() {
  const [listener, got] = [connect({ maxRetriesPerRequest: null }), []];
  listener.on("message", (channel, text) => got.push([channel, text]));
  await listener.subscribe("news");
  await restart();
  const patient = connect({ maxRetriesPerRequest: null });
  say("after a restart", [await patient.set("again", "1"), await patient.get("again")]);
  await eventually("reconnected", async () => (await near.get("again").catch(() => null)) === "1");
  await eventually("subscribed again", async () => (await patient.publish("news", "again")) === 1);
  await eventually("a message after the restart", () => got.length > 0);
}

const scenarios = [options, values, coherence, pipelines, transactions, channels, blocking, streams, scripts, scans, tasks, watching, restarts];
run(version, scenarios);
