// Pictures of the data set: fetched when they come near the screen, few at a time, and kept for a while.

import { get, sleep } from "./api.js";

const KEPT = 600;
const AT_ONCE = 4;
const NEAR = "300px";
const kept = new Map(); // path → blob: address, the oldest first
const queue = [];
let running = 0;
let version = 0;

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    queue.push(target);
  }
  work();
}, { rootMargin: NEAR });

/** Let an image show a picture.  side: 160 or 1024 px. */
export function showPicture(image, id, side = 160) {
  const path = `studio/pictures/${encodeURIComponent(id)}?side=${side}&version=${version}`;
  if (image.dataset.path === path) return image;
  image.dataset.path = path;
  if (kept.has(path)) image.src = kept.get(path);
  else near.observe(image);
  return image;
}

/** Fetch everything anew: ids are names of files, and a file may have gone and another come in its place. */
export function forgetPictures() {
  version += 1;
}

function work() {
  while (running < AT_ONCE && queue.length) {
    const image = queue.shift();
    if (!image.isConnected) continue;
    running += 1;
    load(image).finally(() => {
      running -= 1;
      work();
    });
  }
}

async function load(image) {
  const { path } = image.dataset;
  try {
    if (!kept.has(path)) keep(path, URL.createObjectURL(await (await get(path)).blob()));
    if (image.dataset.path === path) image.src = kept.get(path);
  } catch (error) {
    if (error.isPassing) await sleep(1_000);
    if (error.isPassing && image.dataset.path === path) near.observe(image);
    else image.classList.add("gone");
  }
}

function keep(path, address) {
  kept.set(path, address);
  if (kept.size <= KEPT) return;
  const [oldest, gone] = kept.entries().next().value;
  kept.delete(oldest);
  URL.revokeObjectURL(gone);
}
