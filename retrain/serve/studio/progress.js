// How far a job is, and a button to stop it.

import { post } from "./api.js";
import { button, make } from "./dom.js";
import { isRunning, onChange } from "./store.js";
import { texts } from "./texts.js";

/** A node that shows the jobs of a kind while they run. */
export function progressOf(kind) {
  const stage = make("span", { role: "status" });
  const count = make("span", { className: "soft" });
  const bar = make("progress");
  const stop = button(texts.stop, () => post("studio/job/stop"));
  const node = make("div", { className: "row job", hidden: true }, stage, bar, count, stop);
  onChange(({ job }) => {
    node.hidden = !isRunning(kind);
    if (node.hidden) return;
    if (stage.textContent !== texts.job.stage(job)) stage.textContent = texts.job.stage(job);
    bar.ariaLabel = texts.job.stage(job);
    count.textContent = [texts.job.count(job), texts.job.seconds(job)].filter(Boolean).join(" · ");
    if (job.total) Object.assign(bar, { max: job.total, value: job.done });
    else bar.removeAttribute("value");
  });
  return node;
}
