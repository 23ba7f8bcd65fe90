// What the server last told, and who shows it.

import { Advice, get, post, server } from "./api.js";
import { fail, say } from "./dom.js";
import { texts } from "./texts.js";
import { forgetPictures } from "./thumbs.js";

export const state = {
  classes: [], model: null, job: null, undo: null, report: false, folders: [],
  limits: { max_bytes: 64e6, max_images: 64 },
};
const views = [];
const waiting = new Map(); // job id → {since, resolve}
let asking = null;
let isOld = false;

/** Show the state now and whenever it changes. */
export function onChange(view) {
  views.push(view);
  view(state);
}

export const nameOf = (id) => state.classes.find((it) => it.id === id)?.name ?? "";
export const isRunning = (kind) => state.job?.state === "running" && (!kind || state.job.kind === kind);

/** Ask for the state; calls while one is under way are answered by one more. */
export function refresh() {
  isOld = true;
  asking ??= (async () => {
    try {
      while (isOld) {
        isOld = false;
        const since = performance.now();
        const { job, ...others } = await (await get("studio/state")).json();
        Object.assign(state, others);
        if (job) take(job);
        for (const [id, waiter] of waiting) {
          if (waiter.since < since && id !== job?.id) settle({ id, state: "failed", error: texts.jobLost });
        }
      }
    } catch (error) {
      if (!error.isPassing) fail(error);
    } finally {
      asking = null;
    }
    show();
  })();
  return asking;
}

/** Have a job done.  Returns it when it has ended well, null when stopped; throws where it failed. */
export async function run(path, body) {
  if (isRunning()) throw new Advice(texts.jobBusy);
  const job = await post(path, body);
  const ended = new Promise((resolve) => waiting.set(job.id, { since: performance.now(), resolve }));
  take(job);
  show();
  const last = await ended;
  refresh();
  if (last.state === "failed") throw new Advice(last.error);
  if (last.state === "stopped") say(texts.jobStopped);
  return last.state === "done" ? last : null;
}

/** Take back what was done last. */
export async function undo() {
  const { undone } = await post("studio/undo");
  forgetPictures();
  say(texts.undone(undone));
  await refresh();
}

function take(job) {
  // An event may be faster than the answer to the request that began the job.
  if (state.job?.id === job.id && state.job.state !== "running") job = state.job;
  state.job = job;
  if (job.state !== "running") settle(job);
}

function settle(job) {
  waiting.get(job.id)?.resolve(job);
  waiting.delete(job.id);
}

function show() {
  for (const view of views) view(state);
}

server.addEventListener("state", refresh);
server.addEventListener("back", refresh);
server.addEventListener("opened", refresh);
server.addEventListener("job", ({ detail }) => {
  take(detail.job);
  show();
});
