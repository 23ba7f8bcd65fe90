// Take pictures of a class with the webcam.

import { sleep } from "./api.js";
import { openCamera } from "./camera.js";
import { button, fail, make } from "./dom.js";
import { openPanel } from "./panel.js";
import { texts } from "./texts.js";
import { upload } from "./upload.js";

const PAUSE = 250; // ms between two pictures while the button is held
const SHOWN = 8;

export async function openWebcam({ id, name }) {
  const video = make("video", { muted: true, playsInline: true, ariaLabel: texts.webcam.video });
  const camera = await openCamera(video);
  const strip = make("div", { className: "strip" });
  const count = make("p", { textContent: texts.webcam.taken(0) });
  let taken = 0;
  let press = 0; // counts presses and releases: a picture is taken for as long as it stays

  async function take() {
    const file = await camera.take();
    const image = make("img", { src: URL.createObjectURL(file), alt: "" });
    image.onload = () => URL.revokeObjectURL(image.src);
    strip.prepend(image);
    strip.children[SHOWN]?.remove();
    count.textContent = texts.webcam.taken((taken += 1));
    return { file };
  }

  async function hold() {
    const mine = (press += 1);
    const files = [];
    try {
      do {
        files.push(await take());
        await sleep(PAUSE);
      } while (press === mine);
    } catch (error) {
      fail(error);
    }
    upload(id, name, files);
  }

  const release = () => (press += 1);
  const isPress = ({ key }) => key === " " || key === "Enter";
  const shutter = make("button", { type: "button", className: "primary large", textContent: texts.webcam.take });
  shutter.addEventListener("pointerdown", hold);
  for (const event of ["pointerup", "pointerleave", "pointercancel", "blur", "keyup"]) {
    shutter.addEventListener(event, release);
  }
  shutter.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch
  shutter.addEventListener("keydown", (event) => {
    if (!isPress(event)) return;
    event.preventDefault();
    if (!event.repeat) hold();
  });
  shutter.addEventListener("click", (event) => {
    if (event.detail) return;
    hold(); // screen readers click without pressing
    release();
  });

  const buttons = make("p", { className: "row" }, shutter, camera.next && button(texts.webcam.other, camera.next));
  const hint = make("p", { className: "soft", textContent: texts.webcam.hint });
  openPanel(texts.webcam.title(name), [make("div", { className: "webcam" }, video, make("div", {}, buttons, hint, count, strip))], {
    onClose: () => {
      release();
      camera.close();
    },
  });
  shutter.focus();
}
