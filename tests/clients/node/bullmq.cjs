// BullMQ: queues, retries, delays, priorities, flows, events, schedules: bullmq.cjs PROTOCOL PORT BEHIND.
const { Queue, Worker, QueueEvents, FlowProducer, UnrecoverableError } = require("bullmq");
const { version } = require("bullmq/package.json");
const { port, say, attempt, eventually, restart, run } = require("./transcript.cjs");

const protocol = Number(process.argv[2]);
// Workers wait in blocking commands, which must not be given up.
const connection = { port, protocol, maxRetriesPerRequest: null };
const quiet = (thing) => thing.on("error", () => {});
const queue = quiet(new Queue("work", { connection }));
const events = quiet(new QueueEvents("work", { connection }));
const numbers = (count) => Array.from({ length: count }, (_, number) => number);
const order = [];

async function work(job) {
  order.push(job.name);
  switch (job.name) {
    case "fail":
      throw new Error("as it should");
    case "hopeless":
      throw new UnrecoverableError("no use");
    case "flaky":
      if (job.attemptsMade < 2) throw new Error("not yet");
      return job.attemptsMade;
    case "progress":
      await job.updateProgress(50);
      await job.log("half");
      return "whole";
    case "parent":
      return Object.values(await job.getChildrenValues()).sort();
    default:
      return job.data.number * 2;
  }
}
const worker = quiet(new Worker("work", work, { connection, concurrency: 1 }));

async function jobs() {
  await events.waitUntilReady();
  const added = await queue.addBulk(numbers(50).map((number) => ({ name: "double", data: { number } })));
  say("results", await Promise.all(added.map((job) => job.waitUntilFinished(events, 20_000))));
  const failing = await queue.add("fail", {});
  await attempt("failure", () => failing.waitUntilFinished(events, 20_000));
  say("state", [await failing.getState(), await failing.isFailed(), (await queue.getFailed()).map((job) => job.failedReason)]);
  const flaky = await queue.add("flaky", {}, { attempts: 3, backoff: { type: "fixed", delay: 50 } });
  say("after retries", await flaky.waitUntilFinished(events, 20_000));
  const hopeless = await queue.add("hopeless", {}, { attempts: 3 });
  await attempt("without retries", () => hopeless.waitUntilFinished(events, 20_000));
  const seen = [];
  events.on("progress", ({ data }) => seen.push(data));
  const progress = await queue.add("progress", {});
  say("progress", [await progress.waitUntilFinished(events, 20_000), seen, (await queue.getJobLogs(progress.id)).logs]);
  const again = await queue.getJob(failing.id);
  await again.retry();
  await attempt("retried by hand", () => again.waitUntilFinished(events, 20_000));
}

async function orders() {
  await queue.pause();
  order.length = 0;
  const added = await queue.addBulk([
    { name: "low", data: { number: 1 }, opts: { priority: 10 } },
    { name: "high", data: { number: 2 }, opts: { priority: 1 } },
    { name: "once", data: { number: 3 }, opts: { jobId: "same", priority: 20 } },
  ]);
  await queue.add("once", { number: 4 }, { jobId: "same", priority: 20 });
  say("paused", [await queue.isPaused(), await queue.getJobCounts("paused", "prioritized", "waiting")]);
  await queue.resume();
  say("results", await Promise.all(added.map((job) => job.waitUntilFinished(events, 20_000))));
  say("order", order);
  const before = Date.now();
  const later = await queue.add("later", { number: 5 }, { delay: 300 });
  say("delayed", [await later.getState(), await later.waitUntilFinished(events, 20_000), Date.now() - before >= 300]);
}

async function flows() {
  const flow = quiet(new FlowProducer({ connection }));
  const children = numbers(3).map((number) => ({ name: "child", data: { number }, queueName: "work" }));
  const tree = await flow.add({ name: "parent", queueName: "work", children });
  say("parent", await tree.job.waitUntilFinished(events, 20_000));
  await flow.close();
}

async function schedules() {
  order.length = 0;
  await queue.upsertJobScheduler("often", { every: 100 }, { name: "tick", data: { number: 1 } });
  await eventually("three ticks", () => order.filter((name) => name === "tick").length >= 3);
  say("scheduler", [(await queue.getJobSchedulers()).map(({ key, every }) => [key, Number(every)]), await queue.removeJobScheduler("often")]);
}

async function limits() {
  const limited = quiet(new Queue("limited", { connection }));
  await limited.addBulk(numbers(6).map((number) => ({ name: "double", data: { number } })));
  const [start, done] = [Date.now(), []];
  const slow = quiet(new Worker("limited", async (job) => done.push(job.data.number), { connection, limiter: { max: 2, duration: 200 } }));
  await eventually("all of them", () => done.length === 6);
  say("limited", [done, Date.now() - start >= 400]);
  await slow.close();
  await limited.obliterate();
  await limited.close();
}

async function restarts() {
  await restart();
  await eventually("jobs again", async () => {
    order.length = 0;
    await queue.add("after", { number: 6 });
    const deadline = Date.now() + 2000;
    while (Date.now() < deadline) {
      if (order.includes("after")) return true;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return false;
  });
  await worker.close();
  say("closed", worker.isRunning());
  await events.close();
  await queue.close();
}

run(version, [jobs, orders, flows, schedules, limits, restarts]);
