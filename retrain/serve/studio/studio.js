// Studio: teach a model by showing it pictures.  Each part of the page is a module of its own.

import { keepToken, listen, server, tell } from "./api.js";
import { showClasses } from "./classes.js";
import { $, button, fail, form, make, once } from "./dom.js";
import { showExports } from "./exports.js";
import { watchDrops } from "./files.js";
import { showGuessing } from "./guess.js";
import { showSorting } from "./sorting.js";
import { onChange, refresh, state, undo } from "./store.js";
import { showSuspects } from "./suspects.js";
import { texts } from "./texts.js";
import { showTraining } from "./train.js";

const takeBack = once(undo);

function writeTexts() {
  const find = (path) => path.split(".").reduce((texts, key) => texts[key], texts);
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = find(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) node.ariaLabel = find(node.dataset.label);
}

function showUndo() {
  const node = button(texts.undo, takeBack);
  $("undo").append(node);
  onChange(({ undo }) => {
    node.textContent = undo ? texts.undoWhat(undo) : texts.undo;
    node.title = node.textContent;
    node.disabled = !undo;
  });
  server.addEventListener("undo", takeBack);
  addEventListener("keydown", (event) => {
    const isWriting = event.target.matches("textarea, input:not([type=checkbox], [type=radio])");
    if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || isWriting) return;
    event.preventDefault();
    if (state.undo) takeBack();
  });
}

function showLock() {
  const field = make("input", { type: "password", autocomplete: "off", ariaLabel: texts.token.label });
  const lock = form([make("p", { textContent: texts.token.text }), field], texts.token.open, () => {
    keepToken(field.value.trim());
    lock.hidden = true;
    tell("opened");
  }, { className: "notice", hidden: true });
  $("token").replaceWith(lock);
  server.addEventListener("locked", () => {
    if (!lock.hidden) return;
    lock.hidden = false;
    field.focus();
  });
}

writeTexts();
showLock();
showUndo();
showClasses();
showTraining();
showGuessing();
showSuspects();
showSorting();
showExports();
watchDrops();
listen();
