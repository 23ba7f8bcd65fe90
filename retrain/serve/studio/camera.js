// The webcam, and pictures taken with it.

import { Advice, sleep } from "./api.js";
import { texts } from "./texts.js";

const SIDE = 640; // px, of what a network sees a third
const QUALITY = 0.92;
const start = new Date().toISOString().replace(/\D/g, "").slice(0, 14);
let taken = 0;

/** Show the webcam in a video.  Returns {take, next, close}; throws an Error that says what to do. */
export async function openCamera(video) {
  if (!navigator.mediaDevices) throw new Advice(texts.webcam.insecure);
  let stream;
  const open = async (which) => {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: SIDE }, ...which } }).catch((error) => {
      throw new Advice({ NotAllowedError: texts.webcam.denied, NotFoundError: texts.webcam.none }[error.name]
        ?? texts.webcam.failed(error.message));
    });
    video.srcObject = stream;
    await video.play();
  };
  const close = () => stream.getTracks().forEach((track) => track.stop());
  await open({ facingMode: "environment" });
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  return {
    close,
    take: () => takePicture(video),
    next: cameras.length < 2 ? null : async () => {
      const { deviceId } = stream.getVideoTracks()[0].getSettings();
      const index = cameras.findIndex((camera) => camera.deviceId === deviceId);
      close();
      await open({ deviceId: cameras[(index + 1) % cameras.length].deviceId });
    },
  };
}

async function takePicture(video) {
  while (!video.videoWidth) await sleep(20);
  const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = new OffscreenCanvas(Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
  taken += 1;
  return new File([blob], texts.webcam.file(start, taken), { type: blob.type });
}
