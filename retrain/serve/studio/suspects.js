// Review what may be wrong with the pictures: side by side, with the reason, to take out or to keep.

import { Advice, post } from "./api.js";
import { $, bdi, button, make, say } from "./dom.js";
import { progressOf } from "./progress.js";
import { onChange, refresh, run } from "./store.js";
import { texts } from "./texts.js";
import { forgetPictures, showPicture } from "./thumbs.js";

const words = texts.suspects;
const AT_ONCE = 6; // cards

export function showSuspects() {
  const status = make("p", { role: "status", tabIndex: -1 });
  const list = make("ul", { className: "suspects" });
  let shown = null; // the findings on the page
  let left = [];
  const look = button(words.button, () => run("studio/suspects"));
  $("suspects").append(make("p", { className: "row" }, look), progressOf("suspects"), status, list);

  function fill() {
    while (list.children.length < AT_ONCE && left.length) list.append(makeSuspect(left.shift(), next));
    status.textContent = list.children.length ? words.left(list.children.length + left.length) : words.reviewed;
  }

  function next(card) {
    const neighbour = card.nextElementSibling ?? card.previousElementSibling;
    card.remove();
    fill();
    (neighbour?.querySelector("button") ?? status).focus();
  }

  onChange(({ job }) => {
    if (job?.kind !== "suspects" || job.state !== "done" || shown === job.id) return;
    shown = job.id;
    left = [...job.result.findings];
    list.replaceChildren();
    if (left.length) fill();
    else status.textContent = words.none;
  });
}

function makeSuspect({ reason, pictures, names, keep }, next) {
  const figures = pictures.map((id, index) => {
    const image = showPicture(make("img", { alt: words.picture(index + 1) }), id, 1024);
    const caption = make("figcaption", {}, bdi(names[index]), id === keep ? words.best : null);
    if (pictures.length === 1) return make("figure", {}, image, caption);
    const box = make("input", { type: "checkbox", checked: keep != null && id !== keep, value: id });
    return make("figure", {}, image, caption, make("label", {}, box, words.mark));
  });
  const card = make(
    "li", { className: "suspect" }, make("p", { textContent: reason }),
    make("div", { className: "side" }, ...figures),
    make("div", { className: "row" }, button(words.takeOut, takeOut), button(words.keep, () => next(card))),
  );

  async function takeOut() {
    const chosen = pictures.length === 1 ? pictures : [...card.querySelectorAll(":checked")].map((box) => box.value);
    if (!chosen.length) throw new Advice(words.choose);
    const { moved } = await post("studio/pictures/move", { pictures: chosen, class: null });
    forgetPictures();
    say(texts.panel.takenOut(moved), { undo: true });
    next(card);
    await refresh();
  }

  return card;
}
