// Train, watch it, and see how good it is.

import { $, button, make, say } from "./dom.js";
import { progressOf } from "./progress.js";
import { isRunning, onChange, run, state } from "./store.js";
import { texts } from "./texts.js";

const words = texts.train;
let result = null; // of the last training that this page knows of

export function showTraining() {
  const hint = make("p", { className: "soft", id: "train-hint", textContent: words.need });
  const go = button(words.button, train, { className: "primary large" });
  go.setAttribute("aria-describedby", hint.id);
  const qualities = make("fieldset", { className: "row" }, make("legend", { textContent: words.quality }));
  for (const [value, [name, what]] of Object.entries(words.qualities)) {
    const choice = make("input", { type: "radio", name: "quality", value, checked: value === "fast" });
    qualities.append(make("label", {}, choice, ` ${name} `, make("span", { className: "soft small", textContent: what })));
  }
  const measured = make("div", { className: "result" });
  $("train").append(make("div", { className: "row" }, go, qualities), hint, progressOf("train"), measured);

  async function train() {
    if (state.classes.filter((it) => it.pictures).length < 2 || isRunning()) return;
    const job = await run("studio/train", { quality: qualities.querySelector(":checked").value });
    if (job) say(words.done(job.result));
  }

  let shown = "";
  onChange(({ classes, model, job }) => {
    if (job?.kind === "train" && job.state === "done") result = job.result;
    const isReady = classes.filter((it) => it.pictures).length >= 2;
    hint.hidden = isReady && !isRunning();
    hint.textContent = isReady ? texts.jobBusy : words.need;
    go.ariaDisabled = String(!isReady || isRunning());
    go.textContent = model?.stale ? words.again : words.button;
    const now = JSON.stringify([model, result]);
    if (now === shown) return;
    shown = now;
    measured.replaceChildren(...(model ? describe(model) : []));
  });
}

function* describe(model) {
  const isMeasured = model.accuracy != null;
  yield make(
    "p", { className: "headline" },
    make("strong", { textContent: isMeasured ? texts.percent(model.accuracy) : words.unmeasured }),
    make("span", { textContent: isMeasured ? words.right(model.accuracy_interval) : words.few }),
  );
  if (model.stale) yield make("p", { className: "notice", textContent: words.stale });
  const sentences = model.test_images ? [words.tested(model.test_images)] : [];
  if (result) sentences.push(words.took(result));
  if (result?.skipped) sentences.push(words.skipped(result.skipped));
  yield make("p", { textContent: sentences.join(" ") });
  if (!result?.advice.length) return;
  yield make("h3", { textContent: words.advice });
  yield make("ul", { className: "advice" }, ...result.advice.map((sentence) => make("li", { textContent: sentence })));
}
