// What a program does with ioredis: ioredis.cjs NEARHIT_PORT REDIS_PORT PROTOCOL. Exit status 0: all is as with Redis.
const assert = require("node:assert/strict");
const Redis = require("ioredis");

const [nearPort, redisPort, protocol] = process.argv.slice(2).map(Number);
const connect = (port = nearPort, options = {}) => new Redis({ port, protocol, maxRetriesPerRequest: 1, ...options });
const near = connect();
const behind = connect(redisPort);

async function eventually(what, condition) {
  const deadline = Date.now() + 5000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function values() {
  assert.equal(await near.set("s", "grün"), "OK");
  assert.equal(await near.get("s"), "grün");
  assert.equal(await near.get("none"), null);
  await near.set("b", Buffer.from([0, 255, 13, 10]));
  assert.deepEqual(await near.getBuffer("b"), Buffer.from([0, 255, 13, 10]));
  await near.hset("h", { a: 1, b: "2" });
  assert.deepEqual(await near.hgetall("h"), await behind.hgetall("h"));
  await near.zadd("z", 1.5, "x", 2, "y");
  assert.deepEqual(await near.zrange("z", 0, -1, "WITHSCORES"), await behind.zrange("z", 0, -1, "WITHSCORES"));
  assert.deepEqual(await near.mget("s", "none"), ["grün", null]);
  await assert.rejects(near.get("h"), /WRONGTYPE/);
  await assert.rejects(near.call("NOSUCH"), /unknown command/);
}

async function coherence() {
  for (let number = 0; number < 200; number++) {
    await near.set("c", number);
    assert.deepEqual(await Promise.all([near.get("c"), near.get("c")]), [`${number}`, `${number}`]);
  }
  await behind.set("c", "foreign");
  await eventually("a foreign write", async () => (await near.get("c")) === "foreign");
}

async function pipelines() {
  const pipeline = near.pipeline();
  for (let number = 0; number < 1000; number++) pipeline.set(`p:${number % 10}`, number).get(`p:${number % 10}`);
  const replies = await pipeline.exec();
  replies.forEach(([error, reply], at) => {
    assert.equal(error, null);
    assert.equal(reply, at % 2 ? `${(at - 1) / 2}` : "OK");
  });
}

async function transactions() {
  await near.set("t", 1);
  assert.deepEqual(await near.multi().incr("t").get("t").exec(), [[null, 2], [null, "2"]]);
  await near.watch("t");
  await behind.set("t", 10);
  assert.equal(await near.multi().set("t", 3).exec(), null);
  assert.equal(await near.get("t"), "10");
}

async function channels() {
  const listener = connect();
  const got = [];
  listener.on("message", (channel, text) => got.push(`${channel} ${text}`));
  listener.on("pmessage", (pattern, channel, text) => got.push(`${pattern} ${channel} ${text}`));
  await listener.subscribe("news");
  await listener.psubscribe("new*");
  await near.publish("news", "one");
  await eventually("messages", () => got.length === 2);
  assert.deepEqual(got.sort(), ["new* news one", "news one"]);
  await listener.unsubscribe("news");
  await listener.punsubscribe("new*");
  assert.equal(await listener.ping(), "PONG");
  listener.disconnect();
}

async function blocking() {
  const waiter = connect();
  const popped = waiter.blpop("queue", 5);
  await eventually("a blocked client", async () => (await behind.info("clients")).includes("blocked_clients:1"));
  await near.rpush("queue", "job");
  assert.deepEqual(await popped, ["queue", "job"]);
  assert.equal(await waiter.blpop("queue", 0.05), null);
  waiter.disconnect();
}

async function scans() {
  await near.mset(Object.fromEntries(Array.from({ length: 300 }, (_, number) => [`scan:${number}`, "x"])));
  const found = new Set();
  for await (const keys of near.scanStream({ match: "scan:*", count: 20 })) keys.forEach((key) => found.add(key));
  assert.equal(found.size, 300);
}

async function scripts() {
  near.defineCommand("double", {
    numberOfKeys: 1,
    lua: "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], v * 2) return v * 2",
  });
  await near.set("script", 5);
  assert.deepEqual([await near.get("script"), await near.double("script"), await near.get("script")], ["5", 10, "10"]);
  const [[, first], [, second]] = await near.pipeline().double("script").double("script").exec();
  assert.deepEqual([first, second], [20, 40]);
}

(async () => {
  for (const part of [values, coherence, pipelines, transactions, channels, blocking, scans, scripts]) await part();
  near.disconnect();
  behind.disconnect();
  console.log("ok");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
