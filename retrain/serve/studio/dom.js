// Small helpers.  Names of classes and files reach the page as text alone: textContent, never HTML.

import { Advice, Refused, server, tell } from "./api.js";
import { texts } from "./texts.js";

const SAID = 8_000; // ms that a message stays

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const { dataset, ...others } = properties;
  const node = Object.assign(document.createElement(tag), others);
  Object.assign(node.dataset, dataset);
  node.append(...children.filter((child) => child != null));
  return node;
}

/** A name by somebody else, whatever its direction of writing. */
export const bdi = (text) => make("bdi", { textContent: text });

/** A button that is busy while its act is, and says what failed. */
export function button(text, act, properties = {}) {
  const node = make("button", { type: "button", textContent: text, ...properties });
  node.addEventListener("click", once(act));
  return node;
}

/** A form: its fields, and a button by which it is sent. */
export function form(fields, text, act, properties = {}) {
  const node = make("form", properties, ...fields, make("button", { type: "submit", textContent: text }));
  const send = once(act);
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    send(event);
  });
  return node;
}

export function once(act) {
  let busy = false;
  return async (event) => {
    if (busy) return;
    busy = true;
    try {
      await act(event);
    } catch (error) {
      fail(error);
    } finally {
      busy = false;
    }
  };
}

/** A select of classes, the first entry asking for a choice. */
export function chooseClass(label, placeholder) {
  return make("select", { ariaLabel: label }, make("option", { value: "", textContent: placeholder }));
}

/** Fill a select with [value, text], keeping what is chosen. */
export function fillSelect(select, options, kept = 0) {
  const chosen = select.value;
  const told = JSON.stringify(options);
  if (select.dataset.told === told) return;
  select.dataset.told = told;
  select.replaceChildren(
    ...[...select.options].slice(0, kept),
    ...options.map(([value, text]) => make("option", { value, textContent: text })),
  );
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

/** Say what was done.  undo: offer to take it back; isSeen: the page shows it elsewhere, this is for who listens. */
export function say(text, { undo = false, isSeen = false } = {}) {
  const offer = undo ? button(texts.undo, () => tell("undo")) : null;
  const message = make("div", { className: isSeen ? "heard" : "message" }, make("p", { textContent: text }), offer);
  $("said").replaceChildren(message);
  const wait = () => setTimeout(() => (message.matches(":hover, :focus-within") ? wait() : message.remove()), SAID);
  wait();
}

/** Say what went wrong, until it is read.  lines: what else there is to it. */
export function fail(error, lines = []) {
  const text = typeof error === "string" ? error : error.message;
  if (error instanceof Error && !(error instanceof Refused || error instanceof Advice)) console.error(error);
  const message = make("div", { className: "message failure" }, make("p", { textContent: text }));
  if (lines.length) message.append(make("ul", {}, ...lines.map((line) => make("li", { textContent: line }))));
  message.append(button(texts.close, () => {
    message.remove();
    $("main").focus({ preventScroll: true });
  }));
  for (const old of [...$("failed").children].filter((child) => child.firstChild.textContent === text)) old.remove();
  $("failed").append(message);
}

server.addEventListener("lost", () => ($("connection").textContent = texts.lost));
server.addEventListener("back", () => ($("connection").textContent = ""));
