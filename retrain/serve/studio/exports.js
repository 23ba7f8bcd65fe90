// Take the model away: downloads for other programs, and the report.

import { get, post } from "./api.js";
import { $, button, make, say } from "./dom.js";
import { progressOf } from "./progress.js";
import { onChange, run } from "./store.js";
import { texts } from "./texts.js";

const words = texts.exports;

export function showExports() {
  const need = make("p", { className: "soft", textContent: words.train });
  const report = button(words.report, openReport);
  const list = make("ul", { className: "formats" });
  for (const [format, [name, what]] of Object.entries(words.formats)) {
    const text = make("span", {}, make("strong", { textContent: name }), " ", make("span", { className: "soft", textContent: what }));
    list.append(make("li", {}, text, button(words.download, () => download(format, name), { ariaLabel: words.of(name) })));
  }
  $("exports").append(need, make("p", {}, report), progressOf("export"), list);
  onChange((state) => {
    need.hidden = Boolean(state.model);
    list.hidden = !state.model;
    report.hidden = !state.report;
  });
}

/** In a tab of its own, by an address that is good for once: a tab cannot bring a token. */
async function openReport() {
  const { address } = await post("studio/report");
  open(address, "_blank", "noopener");
}

async function download(format, name) {
  if (!(await run("studio/exports", { format }))) return;
  const address = URL.createObjectURL(await (await get(`studio/exports/${encodeURIComponent(format)}`)).blob());
  make("a", { href: address, download: `retrain-${format}.zip` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  say(words.done(name));
}
