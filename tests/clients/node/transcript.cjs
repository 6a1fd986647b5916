// What every program here prints: one line a result, free of ports and pids, the last one `done`.
const { inspect } = require("node:util");
const readline = require("node:readline");

const [port, behindPort] = process.argv.slice(-2).map(Number);

const plain = (text) => text.replaceAll(`:${port}`, ":PORT");

function say(what, value) {
  const text = inspect(value, { depth: 9, maxArrayLength: 2000, maxStringLength: 1000, breakLength: Infinity, compact: true });
  console.log(plain(`${what}: ${text}`));
}

// The value of the promise, or the library's own error.
async function attempt(what, promise) {
  try {
    say(what, await promise());
  } catch (error) {
    say(what, `${error.constructor.name}: ${error.message}`);
  }
}

// Asks until the answer is true, and says so.
async function eventually(what, condition) {
  const deadline = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  say("eventually", what);
}

// Has the server that the port belongs to restarted.
async function restart() {
  console.log("@restart");
  const lines = readline.createInterface({ input: process.stdin });
  await new Promise((resolve) => lines.once("line", resolve));
  lines.close();
}

// Runs the scenarios one after the other, then ends the process with what they left open.
async function run(version, scenarios) {
  try {
    console.log(`version ${version}`);
    for (const scenario of scenarios) {
      say("---", scenario.name);
      await scenario();
    }
    console.log("done");
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}

module.exports = { port, behindPort, say, attempt, eventually, restart, run };
