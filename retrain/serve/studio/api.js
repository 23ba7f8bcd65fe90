// The server: asked with the token, its refusals as readable errors, its events for as long as the page is open.

import { texts } from "./texts.js";

const KEY = "retrain-token";
const SILENCE = 40_000; // ms; the server says that it is alive every 15 s
const PASSING = [0, 401, 408, 429, 503]; // of which a later try may be free
let token = new URLSearchParams(location.hash.slice(1)).get("token");

export const server = new EventTarget();
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
    this.isPassing = PASSING.includes(status);
  }
}

/** What the person has to do first, or better.  Not the server's doing, and no fault of ours. */
export class Advice extends Error {}

if (token) {
  keepToken(token);
  history.replaceState(null, "", location.pathname + location.search);
} else {
  try {
    token = sessionStorage.getItem(KEY);
  } catch {} // a browser that keeps nothing
}

export function keepToken(value) {
  token = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {}
}

export const get = (path, options) => ask("GET", path, options);
export const post = async (path, body) => (await ask("POST", path, { body })).json();
export const remove = async (path) => (await ask("DELETE", path)).json();

/** The Response.  Throws Refused. */
async function ask(method, path, { body, signal } = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (body && !(body instanceof FormData)) {
    headers["content-type"] = "application/json";
    body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(texts.unreachable);
  }
  if (answer.ok) return answer;
  if (answer.status === 401) tell("locked");
  const told = await answer.json().catch(() => ({}));
  throw new Refused(told.error ?? texts.status(answer.status), answer.status);
}

/** Hand on what the server tells: `job`, `state`; and `back`, `lost` of the connection itself. */
export async function listen() {
  for (let pause = 500; ; pause = Math.min(2 * pause, 8_000)) {
    const control = new AbortController();
    try {
      const answer = await get("studio/events", { signal: control.signal });
      pause = 250;
      tell("back");
      await readLines(answer.body, control);
    } catch (error) {
      if (error.status === 401) {
        await new Promise((resolve) => server.addEventListener("opened", resolve, { once: true }));
        continue;
      }
    }
    tell("lost");
    await sleep(pause);
  }
}

async function readLines(body, control) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const silence = setTimeout(() => control.abort(), SILENCE);
    const { value, done } = await reader.read();
    clearTimeout(silence);
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter(Boolean)) {
      const told = JSON.parse(line);
      tell(told.event, told);
    }
  }
}

export function tell(event, detail) {
  server.dispatchEvent(new CustomEvent(event, { detail }));
}
