// The panel below the classes: one thing at a time, and the way back from it.

import { $, button, make } from "./dom.js";
import { texts } from "./texts.js";

let open = null; // {section, onClose, opener}

/** Show nodes under a title; returns its heading.  onClose: called when the panel goes. */
export function openPanel(title, nodes, { onClose = () => {} } = {}) {
  const opener = open?.opener ?? document.activeElement;
  close();
  const heading = make("h3", { id: "panel-title", tabIndex: -1, textContent: title });
  const section = make(
    "section", { className: "panel" }, make("div", { className: "head" }, heading, button(texts.close, closePanel)), ...nodes,
  );
  section.setAttribute("aria-labelledby", heading.id);
  section.addEventListener("keydown", (event) => event.key === "Escape" && closePanel());
  $("panel").replaceChildren(section);
  open = { section, onClose, opener };
  heading.focus({ preventScroll: true });
  section.scrollIntoView();
  return heading;
}

/** Close it, and go back to where it was opened. */
export function closePanel() {
  const opener = open?.opener;
  close();
  opener?.focus();
}

function close() {
  open?.section.remove();
  open?.onClose();
  open = null;
}
