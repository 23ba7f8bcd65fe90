// Try the model: on pictures, and live on what the webcam sees.  A wrong guess becomes an example.

import { Advice, post, sleep } from "./api.js";
import { openCamera } from "./camera.js";
import { $, bdi, button, chooseClass, fail, fillSelect, form, make, say } from "./dom.js";
import { chooseFiles, takeDrops } from "./files.js";
import { onChange, refresh, state } from "./store.js";
import { texts } from "./texts.js";
import { send } from "./upload.js";

const words = texts.guess;
const TOP = 5;
const MANY = 24; // pictures at a time
const PAUSE = 150; // ms between two guesses of the webcam
let live = null; // {camera, card}

export function showGuessing() {
  const need = make("p", { className: "soft", textContent: words.train });
  const list = make("div", { className: "guesses" });
  const clear = button(words.clear, () => list.replaceChildren(), { className: "quiet" });
  const webcam = button(words.webcam, () => (live ? stopLive() : startLive(list, webcam)));
  const drop = make(
    "div", { className: "drop", tabIndex: -1 }, make("span", { textContent: words.drop }),
    button(words.files, () => chooseFiles(look)), webcam, clear,
  );
  takeDrops($("try").parentElement, (files) => (state.model ? look(files) : fail(words.train)));
  $("try").append(need, drop, list);

  async function look(files) {
    if (files.length > MANY) fail(words.many(MANY));
    for (const { file } of files.slice(0, MANY)) {
      const card = makeCard(file.name, makeStill(file), () => file);
      list.prepend(card.node);
      try {
        const guess = await guessOf(file);
        card.show(guess);
        say(words.result(file.name, guess.unknown ? words.unknown : guess.label, guess.confidence), { isSeen: true });
      } catch (error) {
        card.node.remove();
        fail(words.failed(file.name, error.message));
      }
    }
  }

  onChange(({ model }) => {
    need.hidden = Boolean(model);
    drop.hidden = !model;
  });
}

async function guessOf(file) {
  const body = new FormData();
  body.append("file", file, file.name);
  const ask = (explain) => post(`guess?explain=${explain}&top=${TOP}`, body);
  const answer = await ask(true).catch((error) => {
    if (error.status === 422) return ask(false); // of some networks there are no heat maps
    throw error;
  });
  return answer.guesses[0];
}

function makeStill(file) {
  const image = make("img", { alt: words.picture(file.name), src: URL.createObjectURL(file) });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  image.addEventListener("error", () => image.closest("figure").remove()); // of a kind that the browser does not know
  return image;
}

/** A card with a picture, what it is taken for, and a way to say what it is.  file: gives the File to add. */
function makeCard(name, picture, file) {
  const title = make("h3");
  const detail = make("p", { className: "soft" });
  const heat = make("img", { alt: "" });
  const heatText = make("figcaption");
  const bars = make("ol", { className: "bars", ariaLabel: words.bars });
  const select = chooseClass(words.wrong, words.choose);
  const correction = form([make("label", {}, words.wrong, " ", select)], words.correct, correct, { className: "row" });
  const node = make(
    "article", { className: "guess", tabIndex: -1 },
    make("figure", {}, picture, make("figcaption", {}, bdi(name))), make("figure", { hidden: true }, heat, heatText),
    make("div", {}, title, detail, bars, correction),
  );
  title.textContent = words.working(name);
  correction.hidden = true;
  const fill = () => fillSelect(select, state.classes.map((it) => [it.id, it.name]), 1);
  select.addEventListener("focus", fill); // there may be others by then

  function show({ label, confidence, scores, unknown, heat_map }) {
    title.replaceChildren(unknown ? words.unknown : bdi(label));
    detail.textContent = unknown ? words.nearest(label, confidence) : words.sure(confidence);
    node.classList.toggle("unknown", unknown);
    const best = Object.entries(scores).sort((one, other) => other[1] - one[1]).slice(0, TOP);
    best.forEach(([name, share], index) => showBar(bars.children[index] ?? bars.appendChild(makeBar()), name, share));
    while (bars.children.length > best.length) bars.lastChild.remove();
    heat.parentElement.hidden = !heat_map;
    if (heat_map) heat.src = heat_map;
    heat.alt = heatText.textContent = words.heat(label);
    correction.hidden = false;
    fill();
  }

  async function correct() {
    select.focus();
    const id = select.value;
    if (!id) throw new Advice(words.unchosen);
    const chosen = select.selectedOptions[0].textContent;
    const { added, known, refused } = await send(id, [await file()]);
    if (refused.length) throw new Advice(refused[0].reason);
    select.value = "";
    const told = known.length && !added.length ? words.known(chosen) : words.corrected(chosen);
    detail.textContent = told;
    say(told, { undo: added.length > 0 });
    await refresh();
  }

  return { node, show, correction };
}

const makeBar = () => make("li", {}, bdi(""), make("span"), make("div", { className: "bar" }, make("div")));

function showBar(node, name, share) {
  node.children[0].textContent = name;
  node.children[1].textContent = texts.percent(share);
  node.querySelector(".bar div").style.width = `${100 * share}%`;
}

async function startLive(list, webcam) {
  const video = make("video", { muted: true, playsInline: true, ariaLabel: texts.webcam.video });
  const camera = await openCamera(video);
  const card = makeCard(words.live, video, camera.take);
  // The picture stands still while the person says what it is.
  card.correction.addEventListener("focusin", () => video.pause());
  card.correction.addEventListener("focusout", () => setTimeout(() => card.node.contains(document.activeElement) || video.play()));
  list.prepend(card.node);
  webcam.textContent = words.stop;
  live = { camera, webcam, node: card.node };
  watch(card, camera, video).catch(fail).finally(stopLive);
}

async function watch(card, camera, video) {
  while (live?.camera === camera && card.node.isConnected) {
    await sleep(PAUSE);
    if (video.paused || document.hidden) continue;
    try {
      const guess = await guessOf(await camera.take());
      if (!video.paused) card.show(guess);
    } catch (error) {
      if (!error.isPassing) throw error;
      await sleep(1_000);
    }
  }
}

function stopLive() {
  if (!live) return;
  const { camera, webcam, node } = live;
  live = null;
  camera.close();
  node.remove();
  webcam.textContent = words.webcam;
}
