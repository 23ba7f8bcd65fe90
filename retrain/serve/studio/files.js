// Pictures out of the person's hands: chosen, dropped or pasted, as [{file, folder}].

import { fail, make } from "./dom.js";
import { texts } from "./texts.js";

const KINDS = /^(image\/.*|application\/octet-stream|)$/; // browsers do not know every kind of picture
const OTHERS = /^(\.|thumbs\.db$|desktop\.ini$)|\.(txt|json|csv|xmp|md|html?|pdf|zip)$/i;
const takers = new Map(); // node → take(files)
let chooser; // kept, lest it be swept away while the person chooses

/** Have files chosen, or a folder with all in it. */
export function chooseFiles(take, isFolder = false) {
  chooser = make("input", { type: "file", multiple: true, webkitdirectory: isFolder });
  if (!isFolder) chooser.accept = "image/*,.heic,.heif,.avif,.tif,.tiff";
  chooser.addEventListener("change", () => {
    handOn(take, [...chooser.files].map((file) => ({ file, folder: parent(file.webkitRelativePath) })));
  });
  chooser.click();
}

/** Let pictures be dropped on a node, and pasted where it has the focus or the pointer. */
export function takeDrops(node, take) {
  takers.set(node, take);
}

/** Watch the whole page: what is dropped beside a target must not take its place. */
export function watchDrops() {
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    const target = targetOf(event.target);
    event.dataTransfer.dropEffect = target ? "copy" : "none";
    mark(target);
  });
  addEventListener("dragleave", (event) => event.relatedTarget || mark(null));
  addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(null);
    const target = targetOf(event.target);
    if (target) handOn(takers.get(target), await filesOf(event.dataTransfer));
    else fail(texts.upload.missed);
  });
  addEventListener("paste", async (event) => {
    if (!event.clipboardData.types.includes("Files")) return;
    const target = targetOf(document.activeElement) ?? targetOf([...document.querySelectorAll(":hover")].at(-1));
    if (target) handOn(takers.get(target), (await filesOf(event.clipboardData)).map(named));
    else fail(texts.upload.pasted);
  });
}

function handOn(take, files) {
  const pictures = files.filter(({ file }) => KINDS.test(file.type) && !OTHERS.test(file.name));
  if (pictures.length) take(pictures, files.length - pictures.length);
  else if (files.length) fail(texts.upload.nothing);
}

/** Browsers name every pasted picture alike. */
function named({ file, folder }, index) {
  const name = texts.upload.pastedName(new Date().toISOString().replace(/\D/g, ""), index, file.type.split("/")[1]);
  return { file: new File([file], name, { type: file.type }), folder };
}

function targetOf(node) {
  for (; node; node = node.parentElement) if (takers.has(node)) return node;
  return null;
}

function mark(target) {
  for (const node of document.querySelectorAll(".over")) if (node !== target) node.classList.remove("over");
  target?.classList.add("over");
}

async function filesOf(transfer) {
  // Asked for before the first wait: afterwards the transfer is empty.
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const found = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  return (await Promise.all(found.map((it) => (it instanceof File ? [{ file: it, folder: "" }] : filesIn(it))))).flat();
}

async function filesIn(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    return file ? [{ file, folder: parent(entry.fullPath) }] : [];
  }
  const reader = entry.createReader();
  const files = [];
  for (;;) { // it tells a hundred at a time
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return files;
    for (const inner of some) files.push(...(await filesIn(inner)));
  }
}

const parent = (path) => path.split("/").at(-2) ?? "";
