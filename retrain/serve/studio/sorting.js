// Sort a folder by what is on its pictures: first what would happen, then, if wanted, for real.

import { $, bdi, button, fillSelect, make, say } from "./dom.js";
import { progressOf } from "./progress.js";
import { onChange, run } from "./store.js";
import { texts } from "./texts.js";

const words = texts.sort;

export function showSorting() {
  const need = make("p", { className: "soft" });
  const folder = make("select", { ariaLabel: words.folder });
  const mode = make("select", { ariaLabel: words.mode });
  const plan = make("div");
  const tools = make(
    "div", { className: "row" }, make("label", {}, words.folder, " ", folder), make("label", {}, words.mode, " ", mode),
    button(words.preview, preview, { className: "primary" }),
  );
  fillSelect(mode, Object.entries(words.modes));
  for (const select of [folder, mode]) select.addEventListener("change", () => plan.replaceChildren());
  $("sort").append(need, tools, progressOf("sort"), plan);

  async function preview() {
    const what = { folder: folder.value, mode: mode.value };
    plan.replaceChildren();
    const job = await run("studio/sort", { ...what, dry_run: true });
    if (job) plan.replaceChildren(...describe(job.result, what, sort));
    plan.querySelector("h3")?.focus();
  }

  async function sort(what) {
    const job = await run("studio/sort", { ...what, dry_run: false });
    if (!job) return;
    plan.replaceChildren(make("p", { textContent: words.done(total(job.result), job.result.to) }));
    say(words.done(total(job.result), job.result.to), { undo: true });
  }

  onChange(({ folders, model }) => {
    tools.hidden = !model || !folders.length;
    need.hidden = !tools.hidden;
    need.textContent = model ? words.none : words.train;
    fillSelect(folder, folders.map(({ id, name }) => [id, name]));
  });
}

const total = ({ sorted, unknown, ambiguous, errors }) =>
  Object.values(sorted).reduce((sum, count) => sum + count, unknown + ambiguous + errors);

function describe(result, what, sort) {
  const counts = [
    ...Object.entries(result.sorted), ...["unknown", "ambiguous", "errors"].map((key) => [words[key], result[key]]),
  ].filter(([, count]) => count);
  const scroll = make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: words.plan });
  scroll.append(table([words.from, words.to], result.plan.map(({ from, to }) => [from, to])));
  return [
    make("h3", { textContent: words.wouldGo, tabIndex: -1 }),
    table([words.class, words.count], counts),
    make("details", {}, make("summary", { textContent: words.plan }), scroll),
    make("p", {}, button(words.apply(total(result), what.mode), () => sort(what), { className: "primary" })),
  ];
}

function table(heads, rows) {
  const cell = (value) => make("td", {}, bdi(value));
  return make(
    "table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col", textContent: head })))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))),
  );
}
