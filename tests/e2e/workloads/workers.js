// Worker threads, timers, promises and a stream that is appended to.
const { Worker, isMainThread, parentPort } = require("node:worker_threads");
const { createHash } = require("node:crypto");
const { appendFileSync, existsSync } = require("node:fs");

const paceMs = Number(process.env.PACE) * 1000;
const STEPS = 30;

if (isMainThread) {
    const workers = [0, 1].map(() => new Worker(__filename));
    const ask = (worker, text) =>
        new Promise((resolve) => {
            worker.once("message", resolve);
            worker.postMessage(text);
        });
    (async () => {
        for (let step = 0; step < STEPS; step++) {
            const answers = await Promise.all(workers.map((worker, n) => ask(worker, `${step} ${n}`)));
            console.log("step", step, ...answers);
            appendFileSync("answers.txt", answers.join(" ") + "\n");
            await new Promise((resolve) => setTimeout(resolve, existsSync(process.env.HURRY) ? 0 : paceMs));
        }
        workers.forEach((worker) => worker.terminate());
    })();
} else {
    const digest = createHash("sha256");
    parentPort.on("message", (text) => {
        for (let round = 0; round < 2000; round++) digest.update(text);
        parentPort.postMessage(digest.copy().digest("hex").slice(0, 12));
    });
}
