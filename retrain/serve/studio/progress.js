// How far a job is, and a button to stop it.

import { post } from "./api.js";
import { button, make } from "./dom.js";
import { isRunning, onChange } from "./store.js";
import { texts } from "./texts.js";

const TICK = 200; // ms

/** A node that shows the jobs of a kind while they run. */
export function progressOf(kind) {
  const stage = make("span", { role: "status" });
  const count = make("span", { className: "soft" });
  const seconds = make("span", { className: "soft" });
  const bar = make("progress");
  const stop = button(texts.stop, () => post("studio/job/stop"));
  const node = make("div", { className: "row job", hidden: true }, stage, bar, count, seconds, stop);
  let start = 0; // s, of the page's clock

  setInterval(() => {
    if (!node.hidden) seconds.textContent = texts.job.seconds(performance.now() / 1000 - start);
  }, TICK);
  onChange(({ job }) => {
    node.hidden = !isRunning(kind);
    if (node.hidden) return;
    start = performance.now() / 1000 - job.seconds;
    if (stage.textContent !== texts.job.stage(job)) stage.textContent = texts.job.stage(job);
    bar.ariaLabel = texts.job.stage(job);
    count.textContent = texts.job.count(job);
    if (job.total) Object.assign(bar, { max: job.total, value: job.done });
    else bar.removeAttribute("value");
  });
  return node;
}
