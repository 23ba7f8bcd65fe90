// The classes: a card each, and one to add another.

import { Advice, post, remove } from "./api.js";
import { $, bdi, button, fail, form, make, say } from "./dom.js";
import { chooseFiles, takeDrops } from "./files.js";
import { openPictures } from "./pictures.js";
import { onChange, refresh, state } from "./store.js";
import { texts } from "./texts.js";
import { forgetPictures, showPicture } from "./thumbs.js";
import { redirect, upload } from "./upload.js";
import { openWebcam } from "./webcam.js";

const words = texts.classes;
const cards = new Map(); // id → {node, update}
const newCard = makeNewCard();

export function showClasses() {
  $("classes").append(newCard);
  onChange(({ classes }) => {
    for (const [id, { node }] of cards) {
      if (classes.some((it) => it.id === id)) continue;
      node.remove();
      cards.delete(id);
    }
    classes.forEach((it, index) => {
      if (!cards.has(it.id)) cards.set(it.id, makeCard(it.id));
      const { node, update } = cards.get(it.id);
      update(it);
      if ($("classes").children[index] !== node) $("classes").insertBefore(node, $("classes").children[index]);
    });
  });
}

function makeCard(id) {
  let it = null;
  const heading = make("h3", { tabIndex: -1 });
  const count = make("span", { className: "soft small" });
  const cover = make("button", { type: "button", className: "cover" });
  const empty = make("p", { className: "soft empty", textContent: words.drop });
  const take = (files, others) => upload(id, it.name, files, others);
  const buttons = {
    files: button(words.files, () => chooseFiles(take)),
    folder: button(words.folder, () => chooseFiles(take, true)),
    webcam: button(words.webcam, () => openWebcam(it)),
    rename: button(words.rename, () => rename(it, heading, buttons.rename)),
    remove: button(words.remove, () => removeClass(it), { className: "quiet" }),
  };
  buttons.rename.className = "quiet";
  cover.addEventListener("click", () => openPictures(id));
  const node = make(
    "li", { className: "card", tabIndex: -1 },
    make("div", { className: "head" }, heading, count), cover, empty,
    make("div", { className: "row" }, buttons.files, buttons.folder, buttons.webcam),
    make("div", { className: "row quiet" }, buttons.rename, buttons.remove),
  );
  takeDrops(node, take);

  function update(told) {
    const isRenamed = it?.name !== told.name;
    it = told;
    count.textContent = words.count(it.pictures);
    if (isRenamed) {
      heading.replaceChildren(bdi(it.name));
      for (const [key, node] of Object.entries(buttons)) node.ariaLabel = words.of(words[key], it.name);
    }
    cover.ariaLabel = words.see(it.name, it.pictures);
    cover.hidden = !it.pictures;
    empty.hidden = Boolean(it.pictures);
    cover.dataset.pictures = Math.min(it.cover.length, 4);
    const images = it.cover.map((_, index) => cover.children[index] ?? make("img", { alt: "" }));
    if (images.length !== cover.children.length) cover.replaceChildren(...images);
    images.forEach((image, index) => showPicture(image, it.cover[index]));
  }

  return { node, update, heading };
}

function rename(it, heading, opener) {
  const field = make("input", { value: it.name, ariaLabel: words.name, required: true, maxLength: 200, autocomplete: "off" });
  const close = () => {
    naming.replaceWith(heading);
    opener.focus();
  };
  const naming = form([field], words.save, async () => {
    const name = field.value.trim();
    if (!name) throw new Advice(words.unnamed);
    if (name !== it.name) {
      const { id } = await post(`studio/classes/${encodeURIComponent(it.id)}`, { name });
      redirect(it.id, id);
      say(words.renamed(name), { undo: true });
      await refresh();
      cards.get(id)?.heading.focus();
    }
    close();
  }, { className: "row", noValidate: true });
  naming.append(button(words.cancel, close));
  naming.addEventListener("keydown", (event) => event.key === "Escape" && close());
  heading.replaceWith(naming);
  field.select();
}

async function removeClass({ id, name }) {
  const index = state.classes.findIndex((it) => it.id === id);
  const { moved } = await remove(`studio/classes/${encodeURIComponent(id)}`);
  forgetPictures();
  say(words.removed(name, moved), { undo: true });
  await refresh();
  const neighbour = state.classes[Math.min(index, state.classes.length - 1)];
  (neighbour ? cards.get(neighbour.id).heading : newCard.querySelector("input")).focus();
}

function makeNewCard() {
  const field = make("input", { ariaLabel: words.name, placeholder: words.name, maxLength: 200, autocomplete: "off" });
  const naming = form([field], words.create, async () => {
    const name = field.value.trim();
    field.focus();
    if (!name) throw new Advice(words.unnamed);
    await post("studio/classes", { name });
    field.value = "";
    say(words.created(name));
    await refresh();
  }, { className: "row" });
  const card = make(
    "li", { className: "card new", tabIndex: -1 }, make("h3", { textContent: words.newTitle }), naming,
    make("p", { className: "soft small", textContent: words.newDrop }),
    make("div", { className: "row" }, button(words.newFolder, () => chooseFiles(addFolders, true))),
  );
  takeDrops(card, (files) => addFolders(files).catch(fail));
  return card;
}

/** Each folder with pictures becomes a class, or is added to the class of its name. */
async function addFolders(files) {
  const folders = Map.groupBy(files.filter(({ folder }) => folder), ({ folder }) => folder);
  if (!folders.size) throw new Advice(words.noFolders);
  for (const [name, inside] of folders) {
    const there = state.classes.find((it) => it.name === name);
    upload(there?.id ?? (await post("studio/classes", { name })).id, name, inside);
  }
  await refresh();
}
