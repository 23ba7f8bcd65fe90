// Pictures on their way into classes: in batches that the server takes, again and again until it has them.

import { post, sleep } from "./api.js";
import { $, fail, make, say } from "./dom.js";
import { refresh, state } from "./store.js";
import { texts } from "./texts.js";

const BATCH_BYTES = 32e6; // for progress to be seen; what comes in one batch is undone as one
const AROUND = 1_000; // bytes of a form around each file
const PAUSE = 2_000; // ms before the next try
const LISTED = 20;
const queue = []; // {id, name, file}
let counts = null;
let largest = Infinity; // files a request

/** Add pictures to a class.  files: [{file}].  others: how many were no pictures. */
export function upload(id, name, files, others = 0) {
  const isIdle = !counts;
  counts ??= { total: 0, done: 0, added: new Map(), batches: 0, known: 0, refused: [] };
  counts.total += files.length;
  if (others) counts.refused.push(`${others} × ${texts.upload.noPicture}`);
  for (const { file } of files) {
    if (file.size + AROUND > state.limits.max_bytes) refuse(file, texts.upload.tooLarge(state.limits.max_bytes));
    else queue.push({ id, name, file });
  }
  if (isIdle) work();
}

/** A class has another id: what waits for it goes there. */
export function redirect(from, to) {
  for (const waiting of queue) if (waiting.id === from) waiting.id = to;
}

/** Send pictures in one form.  Throws Refused. */
export function send(id, files) {
  const body = new FormData();
  for (const file of files) body.append("file", file, file.name);
  return post(`studio/classes/${encodeURIComponent(id)}/pictures`, body);
}

async function work() {
  const bar = make("progress", { ariaLabel: texts.upload.label });
  const text = make("span");
  $("upload").replaceChildren(text, bar);
  const show = (waiting) => {
    text.textContent = waiting ? texts.upload.waiting : texts.upload.progress(counts.done, counts.total);
    Object.assign(bar, { max: counts.total, value: counts.done });
  };
  while (queue.length) {
    show();
    const batch = nextBatch();
    try {
      const answer = await send(batch[0].id, batch.map(({ file }) => file));
      counts.done += batch.length;
      counts.batches += 1;
      counts.known += answer.known.length;
      counts.added.set(batch[0].name, (counts.added.get(batch[0].name) ?? 0) + answer.added.length);
      for (const { name, reason } of answer.refused) counts.refused.push(texts.upload.reason(name, reason));
    } catch (error) {
      await onRefusal(error, batch, show);
    }
  }
  $("upload").replaceChildren();
  tellEnd(counts);
  counts = null;
  refresh();
}

function nextBatch() {
  const most = Math.min(largest, state.limits.max_images);
  let bytes = 0;
  let end = 0;
  for (; end < Math.min(most, queue.length); end += 1) {
    bytes += queue[end].file.size + AROUND;
    if (queue[end].id !== queue[0].id || (end && bytes > Math.min(BATCH_BYTES, state.limits.max_bytes))) break;
  }
  return queue.splice(0, end);
}

async function onRefusal(error, batch, show) {
  if (error.status === 408 || (error.status === 413 && batch.length > 1)) largest = Math.max(1, batch.length >> 1);
  if (error.status === 413 && batch.length > 1) {
    queue.unshift(...batch);
  } else if (error.isPassing) {
    const there = await Promise.all(batch.map(isThere));
    queue.unshift(...batch.filter((_, index) => there[index]));
    batch.filter((_, index) => !there[index]).forEach(({ file }) => refuse(file, texts.upload.unreadable));
    show(true);
    await sleep(PAUSE);
  } else {
    for (const { file } of batch) refuse(file, error.message);
  }
}

/** A file that was moved or deleted looks like a broken connection. */
async function isThere({ file }) {
  return file.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

function refuse(file, reason) {
  counts.done += 1;
  counts.refused.push(texts.upload.reason(file.name, reason));
}

function tellEnd({ added, batches, known, refused }) {
  const sentences = [...added].filter(([, count]) => count).map(([name, count]) => texts.upload.done(count, name));
  if (known) sentences.push(texts.upload.known(known));
  if (sentences.length) say(sentences.join(" "), { undo: batches === 1 && !known });
  if (!refused.length) return;
  const lines = refused.slice(0, LISTED);
  if (refused.length > LISTED) lines.push(texts.upload.more(refused.length - LISTED));
  fail(texts.upload.refused(refused.length), lines);
}

addEventListener("beforeunload", (event) => counts && event.preventDefault());
