// What a program does with node-redis: node_redis.cjs PROTOCOL PORT BEHIND.
const { createClient, createClientPool, defineScript, RESP_TYPES } = require("redis");
const { version } = require("redis/package.json");
const { port, behindPort, say, attempt, eventually, restart, run } = require("./transcript.cjs");

const protocol = Number(process.argv[2]);
const lua = "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], v * ARGV[1]) return v * ARGV[1]";
const scripts = {
  times: defineScript({
    SCRIPT: lua,
    NUMBER_OF_KEYS: 1,
    parseCommand(parser, key, by) {
      parser.pushKey(key);
      parser.push(`${by}`);
    },
    transformReply: (reply) => reply,
  }),
};
const make = ({ socket, ...options } = {}) => {
  const client = createClient({ RESP: protocol, scripts, ...options, socket: { port, ...socket } });
  client.on("error", () => {});
  return client;
};
const connect = async (options) => make(options).connect();
const numbers = (count) => Array.from({ length: count }, (_, number) => number);
// Replies that are objects without a prototype print like the others.
const plain = (value) => JSON.parse(JSON.stringify(value));
let near, behind;
const blocked = async () => (await behind.info("clients")).includes("blocked_clients:1");

async function options() {
  [near, behind] = [await connect(), await connect({ socket: { port: behindPort } })];
  const named = await connect({ database: 3, name: "mine", pingInterval: 100, clientInfoTag: "tag" });
  await named.set("where", "three");
  say("name and database", [await named.clientGetName(), await named.get("where"), await near.get("where")]);
  const info = await named.clientInfo();
  say("client info", [info.name, info.db, info.user, info.resp, info.cmd]);
  await behind.aclSetUser("app", ["on", ">secret", "~app:*", "+@all"]);
  const app = await connect({ username: "app", password: "secret" });
  say("allowed", [await app.aclWhoAmI(), await app.set("app:1", "a"), await app.get("app:1"), await app.get("app:1")]);
  await attempt("forbidden", () => app.get("s"));
  const socket = { reconnectStrategy: false };
  await attempt("wrong password", () => connect({ username: "app", password: "wrong", socket }));
  await attempt("no such database", () => connect({ database: 99, socket }));
  const byUrl = await createClient({ url: `redis://app:secret@localhost:${port}/2`, RESP: protocol }).connect();
  say("by url", [await byUrl.set("app:2", "b"), await byUrl.get("app:2")]);
  await near.select(1);
  say("selected", [await near.set("one", "1"), await near.dbSize(), await near.select(0), await near.get("one")]);
  for (const client of [named, app, byUrl]) await client.close();
}

async function values() {
  say("set and get", [await near.set("s", "grün"), await near.get("s"), await near.get("s"), await near.get("none")]);
  const raw = near.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  const bytes = Buffer.from(numbers(256));
  say("binary", [await near.set(bytes, bytes), bytes.equals(await raw.get(bytes)), bytes.equals(await raw.get(bytes))]);
  const big = Buffer.alloc(10_000_000, bytes);
  await near.set("big", big);
  say("10 MB", [big.equals(await raw.get("big")), big.equals(await raw.get("big")), await near.strLen("big")]);
  await near.hSet("h", { a: "1", b: "2" });
  say("hash", plain([await near.hGetAll("h"), await near.hmGet("h", ["a", "c"]), await near.hGetAll("none")]));
  await near.zAdd("z", [{ score: 1.5, value: "x" }, { score: Infinity, value: "w" }]);
  say("scores", [await near.zRangeWithScores("z", 0, -1), await near.zScore("z", "x"), await near.zmScore("z", ["x", "no"])]);
  await near.sAdd("set", ["1", "2"]);
  say("set", [[...(await near.sMembers("set"))].sort(), await near.sIsMember("set", "1"), await near.smIsMember("set", ["1", "9"])]);
  say("many", [await near.mSet({ m1: "1", m2: "2" }), await near.mGet(["m1", "none", "h"]), await near.mGet(["m1", "m2"])]);
  say("expiry", [await near.set("e", "1", { EX: 100, NX: true }), await near.ttl("e"), await near.set("e", "1", { NX: true })]);
  // PROXY is nearhit's own.
  const names = (await near.commandList()).filter((name) => !name.startsWith("proxy"));
  say("command", [names.sort(), plain(await near.commandInfo(["get"]))]);
  await attempt("wrong type", () => near.get("h"));
  await attempt("unknown", () => near.sendCommand(["NOSUCH", "a"]));
  await attempt("arity", () => near.sendCommand(["GET"]));
  await attempt("not a number", () => near.incr("s"));
}

async function coherence() {
  const seen = [];
  for (const number of numbers(200)) {
    const [, ...values] = await Promise.all([near.set("c", `${number}`), near.get("c"), near.get("c")]);
    seen.push(values.every((value) => value === `${number}`));
  }
  say("own writes", seen.every(Boolean));
  await behind.set("c", "foreign");
  await eventually("a foreign write is seen", async () => (await near.get("c")) === "foreign");
}

async function pipelines() {
  const calls = numbers(1000).flatMap((number) => [near.set(`p:${number % 10}`, `${number}`), near.get(`p:${number % 10}`)]);
  say("pipeline", await Promise.all(calls));
  say("as one", await near.multi().set("s", "v").get("s").execAsPipeline());
  await attempt("error inside", () => near.multi().set("s", "v").incr("s").execAsPipeline());
}

async function transactions() {
  await near.set("t", "1");
  say("transaction", await near.multi().incr("t").get("t").exec());
  for (const [name, writer] of [["foreign", behind], ["own", await connect()]]) {
    await near.watch("t");
    say("watched", await near.get("t"));
    await writer.set("t", "10");
    await attempt(`conflict, ${name} write`, () => near.multi().set("t", "3").exec());
  }
  await near.watch("t");
  say("no conflict", await near.multi().get("t").set("t", "3").exec());
  await near.watch("t");
  await near.unwatch();
  await behind.set("t", "4");
  say("unwatched", await near.multi().get("t").exec());
  await attempt("refused while queueing", () => near.multi().addCommand(["NOSUCH"]).get("t").exec());
  await attempt("error inside", () => near.multi().incr("s").get("t").exec());
}

async function channels() {
  const [listener, got] = [await connect(), []];
  const note = (text, channel) => got.push([channel, text]);
  await listener.subscribe(["news", "more"], note);
  await listener.pSubscribe("new*", note);
  await listener.sSubscribe("shard", note);
  say("numbers", plain([await behind.pubSubNumSub(["news"]), await behind.pubSubNumPat(), (await near.pubSubChannels()).sort()]));
  say("receivers", [await near.publish("news", "one"), await near.publish("more", "two"), await near.sPublish("shard", "three")]);
  await eventually("messages", () => got.length === 4);
  for (const number of numbers(500)) near.publish("more", `${number}`);
  await eventually("all messages", () => got.length === 504);
  say("in order", got.splice(0));
  await attempt("a command meanwhile", () => listener.ping());
  await listener.unsubscribe();
  await listener.pUnsubscribe("new*");
  await listener.sUnsubscribe("shard");
  say("usable again", [await listener.ping(), await listener.get("s")]);
  await listener.close();
}

async function blocking() {
  const waiter = await connect();
  const popped = waiter.blPop(["q1", "q2"], 15);
  await eventually("a blocked client", blocked);
  await near.rPush("q2", "job");
  say("popped", plain([await popped, await waiter.blPop("q1", 0.05), await waiter.brPop("q1", 0.05)]));
  await near.rPush("q1", ["a", "b"]);
  say("there already", plain([await waiter.blMove("q1", "q2", "LEFT", "RIGHT", 1), await waiter.brPop("q1", 1)]));
  await near.zAdd("bz", { score: 1, value: "m" });
  say("sorted", plain([await waiter.bzPopMin("bz", 1), await waiter.bzPopMin("bz", 0.05)]));
  const ghost = await connect();
  ghost.blPop("ghost", 15).catch(() => {});
  await eventually("a blocked client", blocked);
  ghost.destroy();
  await eventually("nobody blocked", async () => !(await blocked()));
  await near.rPush("ghost", "kept");
  say("kept", await near.lRange("ghost", 0, -1));
  await waiter.close();
}

async function streams() {
  await near.xGroupCreate("x", "workers", "0", { MKSTREAM: true });
  await attempt("group exists", () => near.xGroupCreate("x", "workers", "0"));
  for (const number of numbers(5)) await near.xAdd("x", `${number + 1}-1`, { n: `${number}` });
  const read = async (consumer, options) => plain(await near.xReadGroup("workers", consumer, { key: "x", id: ">" }, options));
  say("read by group", await read("one", { COUNT: 3 }));
  say("the rest", await read("two", { BLOCK: 50 }));
  say("nothing more", await read("two", { BLOCK: 50 }));
  say("acknowledged", plain([await near.xAck("x", "workers", ["1-1", "2-1"]), await near.xPending("x", "workers")]));
  say("claimed", plain(await near.xAutoClaim("x", "workers", "three", 0, "0-0")));
  say("ranges", plain([await near.xRange("x", "2-1", "3-1"), await near.xLen("x")]));
  const waiter = await connect();
  const awaited = waiter.xRead({ key: "x", id: "$" }, { BLOCK: 15_000 });
  await eventually("a blocked reader", blocked);
  await near.xAdd("x", "6-1", { n: "6" });
  say("awaited", plain(await awaited));
  await waiter.close();
}

async function scripting() {
  await near.set("script", "5");
  say("script", [await near.get("script"), await near.times("script", 2), await near.get("script")]);
  await near.scriptFlush();
  say("after a flush", [await near.times("script", 3), await near.get("script")]);
  await attempt("unknown script", () => near.evalSha("0".repeat(40)));
  say("nested", await near.eval("return {1, 'two', false, {3, {4, {5}}}}"));
  await near.functionLoad("#!lua name=mine\nredis.register_function('put', function(k, a) redis.call('SET', k[1], a[1]) return a[1] end)");
  const put = (value) => near.fCall("put", { keys: ["f"], arguments: [value] });
  say("function", [await put("1"), await near.get("f"), await put("2"), await near.get("f")]);
}

async function scans() {
  await near.mSet(numbers(5000).map((number) => [`scan:${number}`, "x"]));
  await near.hSet("hscan", Object.fromEntries(numbers(1000).map((number) => [`f${number}`, `${number}`])));
  const [keys, fields] = [new Set(), new Set()];
  for await (const found of near.scanIterator({ MATCH: "scan:*", COUNT: 50 })) [].concat(found).forEach((key) => keys.add(key));
  for await (const found of near.hScanIterator("hscan")) [].concat(found).forEach(({ field }) => fields.add(field));
  say("found", [keys.size, fields.size]);
}

async function tasks() {
  const pool = await createClientPool({ RESP: protocol, socket: { port } }, { minimum: 5, maximum: 50, acquireTimeout: 60_000 }).connect();
  await pool.set("shared", "everyone");
  const work = async (name) => {
    let wrong = 0;
    for (const number of numbers(3)) {
      await pool.set(`task:${name}`, `${name}-${number}`);
      if ((await pool.get(`task:${name}`)) !== `${name}-${number}`) wrong++;
      if ((await pool.get("shared")) !== "everyone") wrong++;
      await pool.incr("counter");
    }
    return wrong;
  };
  const wrong = await Promise.all(numbers(1000).map(work));
  say("1,000 tasks", [wrong.reduce((sum, one) => sum + one), await pool.get("counter")]);
  await pool.close();
}

async function ownCache() {
  if (protocol !== 3) return;
  const cached = await connect({ clientSideCache: { ttl: 0, maxEntries: 10 } });
  await behind.set("own", "one");
  say("own cache", [await cached.get("own"), await cached.get("own")]);
  for (const [name, writer] of [["foreign", behind], ["proxied", near]]) {
    await writer.set("own", name);
    await eventually(`an invalidation after a ${name} write`, async () => (await cached.get("own")) === name);
  }
  cached.destroy();
}

async function watching() {
  const [monitor, lines] = [await connect(), []];
  await monitor.monitor((line) => lines.push(`${line}`));
  await near.set("watched", "from afar");
  await eventually("a line of MONITOR", () => lines.some((line) => line.endsWith('"SET" "watched" "from afar"')));
  monitor.destroy();
}

async function restarts() {
  const [listener, got] = [await connect(), []];
  await listener.subscribe("news", (text) => got.push(text));
  await restart();
  await eventually("reconnected", async () => (await near.set("again", "1").catch(() => null)) === "OK");
  say("after a restart", [await near.get("again"), await near.get("again")]);
  await eventually("subscribed again", async () => (await near.publish("news", "again")) === 1);
  await eventually("a message after the restart", () => got.length > 0);
}

const scenarios = [options, values, coherence, pipelines, transactions, channels, blocking, streams, scripting, scans, tasks, ownCache, watching, restarts];
run(version, scenarios);
