// What a program does with node-redis: node_redis.cjs NEARHIT_PORT REDIS_PORT PROTOCOL. Exit status 0: all is as with Redis.
const assert = require("node:assert/strict");
const { createClient } = require("redis");

const [nearPort, redisPort, protocol] = process.argv.slice(2).map(Number);
const connect = (port = nearPort, options = {}) => createClient({ RESP: protocol, socket: { port }, ...options }).connect();

async function eventually(what, condition) {
  const deadline = Date.now() + 5000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

(async () => {
  const [near, behind] = [await connect(), await connect(redisPort)];
  await near.set("s", "grün");
  assert.deepEqual(await near.mGet(["s", "none"]), ["grün", null]);
  await near.hSet("h", { a: "1", b: "2" });
  assert.deepEqual({ ...(await near.hGetAll("h")) }, { a: "1", b: "2" });
  for (let number = 0; number < 200; number++) {
    const [, value] = await Promise.all([near.set("c", `${number}`), near.get("c")]);
    assert.equal(value, `${number}`);
  }
  for (let number = 0; number < 5; number++) assert.equal(await near.get("c"), "199");
  await behind.set("c", "foreign");
  await eventually("a foreign write", async () => (await near.get("c")) === "foreign");
  assert.deepEqual(await near.multi().incr("n").get("n").exec(), [1, "1"]);
  await near.watch("n");
  await behind.set("n", "10");
  await assert.rejects(near.multi().set("n", "3").exec(), /watched/i);
  assert.equal(await near.get("n"), "10");
  const [listener, got] = [await connect(), []];
  await listener.subscribe("news", (text) => got.push(text));
  await near.publish("news", "one");
  await eventually("a message", () => got.length === 1);
  await listener.unsubscribe("news");
  const waiter = await connect();
  const popped = waiter.blPop("queue", 5);
  await near.rPush("queue", "job");
  assert.deepEqual({ ...(await popped) }, { key: "queue", element: "job" });
  let found = 0;
  for await (const keys of near.scanIterator({ MATCH: "*" })) found += [].concat(keys).length;
  assert.equal(found, Number(await behind.dbSize()));
  if (protocol === 3) {
    const cached = await connect(nearPort, { clientSideCache: { ttl: 0, maxEntries: 10 } });
    assert.equal(await cached.get("s"), "grün");
    await behind.set("s", "blau");
    await eventually("an invalidation", async () => (await cached.get("s")) === "blau");
    cached.destroy();
  }
  for (const client of [near, behind, listener, waiter]) client.destroy();
  console.log("ok");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
