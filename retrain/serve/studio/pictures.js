// The pictures of a class, a page at a time: look through them, move them, take them out.

import { Advice, get, post } from "./api.js";
import { button, chooseClass, fail, fillSelect, form, make, say } from "./dom.js";
import { takeDrops } from "./files.js";
import { closePanel, openPanel } from "./panel.js";
import { nameOf, onChange, refresh, state } from "./store.js";
import { texts } from "./texts.js";
import { forgetPictures, showPicture } from "./thumbs.js";
import { upload } from "./upload.js";

const PAGE = 60;
let shown = null; // {id, update}

/** Open the panel with the pictures of a class. */
export async function openPictures(id) {
  const selected = new Set();
  let start = 0;
  let told = "";
  const list = make("ul", { className: "pictures" });
  const count = make("span", { role: "status" });
  const range = make("span", { className: "soft" });
  const all = button(texts.panel.all, () => selectAll(selected.size === 0));
  const move = chooseClass(texts.panel.moveTo, texts.panel.choose);
  const actions = form([make("label", {}, texts.panel.moveTo, " ", move)], texts.panel.move, async () => {
    if (!move.value) throw new Advice(texts.panel.unchosen);
    await act(move.value);
  }, { className: "row" });
  actions.append(button(texts.panel.takeOut, () => act(null)));
  const previous = button(texts.panel.previous, () => turn(-PAGE));
  const next = button(texts.panel.next, () => turn(PAGE));
  const pages = make("nav", { className: "row", ariaLabel: texts.panel.pages }, previous, range, next);
  const toolbar = make("div", { className: "row toolbar" }, count, all, actions);
  const heading = openPanel(texts.panel.title(nameOf(id), 0), [toolbar, list, pages], { onClose: () => (shown = null) });
  takeDrops(heading.closest("section"), (files, others) => upload(id, nameOf(id), files, others));

  function choose() {
    count.textContent = texts.panel.selected(selected.size);
    all.textContent = selected.size ? texts.panel.none : texts.panel.all;
    actions.hidden = !selected.size;
  }

  function selectAll(isChecked) {
    for (const box of list.querySelectorAll("input")) {
      box.checked = isChecked;
      if (isChecked) selected.add(box.value);
    }
    if (!isChecked) selected.clear();
    choose();
  }

  function item({ id: picture, name }) {
    const box = make("input", { type: "checkbox", value: picture, checked: selected.has(picture) });
    box.addEventListener("change", () => {
      selected[box.checked ? "add" : "delete"](picture);
      choose();
    });
    const image = showPicture(make("img", { alt: "" }), picture);
    return make("li", {}, make("label", {}, box, image, make("bdi", { className: "small", textContent: name })));
  }

  async function turn(by) {
    start += by;
    selected.clear();
    await update();
    heading.scrollIntoView();
  }

  async function act(to) {
    const pictures = [...selected];
    const { moved } = await post("studio/pictures/move", { pictures, class: to });
    forgetPictures();
    move.value = "";
    selected.clear();
    say(to ? texts.panel.moved(moved, nameOf(to)) : texts.panel.takenOut(moved), { undo: true });
    heading.focus();
    await refresh();
    await update();
  }

  async function update() {
    const of = `studio/classes/${encodeURIComponent(id)}/pictures`;
    let page = await (await get(`${of}?start=${start}&count=${PAGE}`)).json();
    if (start && start >= page.total) {
      start = Math.max(0, Math.ceil(page.total / PAGE) - 1) * PAGE;
      page = await (await get(`${of}?start=${start}&count=${PAGE}`)).json();
    }
    heading.textContent = texts.panel.title(nameOf(id), page.total);
    fillSelect(move, state.classes.filter((it) => it.id !== id).map((it) => [it.id, it.name]), 1);
    const now = JSON.stringify(page.pictures);
    if (now !== told) {
      const focused = list.contains(document.activeElement) && document.activeElement.value;
      list.replaceChildren(...page.pictures.map(item));
      if (focused) (list.querySelector(`[value="${CSS.escape(focused)}"]`) ?? heading).focus();
    }
    told = now;
    for (const it of selected) if (!page.pictures.some((picture) => picture.id === it)) selected.delete(it);
    if (!page.total) list.replaceChildren(make("li", { className: "soft", textContent: texts.panel.empty }));
    toolbar.hidden = !page.total;
    pages.hidden = page.total <= PAGE;
    range.textContent = texts.panel.range(start + 1, Math.min(start + PAGE, page.total), page.total);
    for (const [node, isLast] of [[previous, start === 0], [next, start + PAGE >= page.total]]) node.disabled = isLast;
    choose();
  }

  shown = { id, update };
  await update();
}

onChange(() => {
  if (!shown) return;
  if (nameOf(shown.id)) shown.update().catch((error) => error.isPassing || fail(error));
  else closePanel();
});
