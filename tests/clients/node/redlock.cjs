// Redlock on ioredis: mutual exclusion, extension, release by time: redlock.cjs PROTOCOL PORT BEHIND.
const Redis = require("ioredis");
const { default: Redlock } = require("redlock");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { port, behindPort, say, attempt, eventually, run } = require("./transcript.cjs");

// The package does not export it.
const version = JSON.parse(readFileSync(join(process.env.NODE_PATH, "redlock/package.json"))).version.replace("v", "");
const protocol = Number(process.argv[2]);
const connect = (to = port) => new Redis({ port: to, protocol });
const [near, behind] = [connect(), connect(behindPort)];
const redlock = (clients, settings = {}) => new Redlock(clients, { retryCount: 2000, retryDelay: 2, retryJitter: 3, ...settings });
const numbers = (count) => Array.from({ length: count }, (_, number) => number);

async function exclusion() {
  await near.set("counter", 0);
  let [inside, wrong] = [0, 0];
  // Half of them past nearhit: a lock must hold across both.
  const contenders = numbers(10).map((number) => [connect(number % 2 ? port : behindPort)]);
  const work = async ([client]) => {
    const lock = redlock([client]);
    for (const _ of numbers(10)) {
      await lock.using(["lock"], 10_000, async () => {
        if (++inside > 1) wrong++;
        await client.set("counter", Number(await client.get("counter")) + 1);
        inside--;
      });
    }
  };
  await Promise.all(contenders.map(work));
  say("counted", [await behind.get("counter"), wrong]);
  contenders.forEach(([client]) => client.disconnect());
}

async function life() {
  const hasty = redlock([near], { retryCount: 0 });
  let lock = await hasty.acquire(["a", "b"], 5000);
  say("taken", [await near.exists("a", "b"), (await near.get("a")) === lock.value]);
  await attempt("taken already", () => hasty.acquire(["b"], 5000));
  lock = await lock.extend(60_000);
  say("longer", (await near.pttl("a")) > 50_000);
  await lock.release();
  say("released", [await near.exists("a", "b"), await near.get("a")]);
  await attempt("released twice", () => lock.release());
  const short = await hasty.acquire(["short"], 100);
  await eventually("it is released by itself", async () => (await near.get("short")) === null);
  await attempt("too late", () => short.extend(1000));
  const routine = hasty.using(["auto"], 600, { automaticExtensionThreshold: 400 }, async (signal) => {
    const value = await near.get("auto");
    const start = Date.now();
    await eventually("longer than it was asked for", () => Date.now() - start > 1000);
    return [(await near.get("auto")) === value, signal.aborted];
  });
  say("extended by itself", await routine);
  await hasty.acquire(["stolen"], 60_000).then(async (stolen) => {
    await behind.set("stolen", "by someone");
    await attempt("stolen", () => stolen.release());
  });
}

run(version, [exclusion, life]);
