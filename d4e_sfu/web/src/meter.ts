/**
 * The microphone's level, drawn and in words. An AnalyserNode reads the samples: it needs no
 * worklet script, so the Content-Security-Policy stays strict.
 */

import { make } from "./element";
import { speak } from "./language";
import type { Word } from "./words";

const SEGMENTS = 16;
const FLOOR_DB = -60; // quieter than a quiet room
const SPEECH_DB = -45; // somebody speaks at arm's length
const SILENT_AFTER_MS = 7000;

/** The level of samples between -1 and 1, in decibels of full scale. */
export function decibels(samples: Float32Array): number {
  let squares = 0;
  for (const sample of samples) squares += sample * sample;
  return 10 * Math.log10(squares / samples.length + 1e-12);
}

/** How many segments a level lights. */
export function segments(level: number): number {
  return Math.max(0, Math.min(SEGMENTS, Math.round(((level - FLOOR_DB) / -FLOOR_DB) * SEGMENTS)));
}

export class Meter {
  readonly element: HTMLElement;
  private readonly bar: HTMLElement;
  private readonly verdict = make("p", { class: "verdict", attributes: { "aria-live": "polite" } });
  private said: Word | null = null;
  private audio: AudioContext | null = null;
  private source: MediaStreamAudioSourceNode | null = null;
  private timer: number | undefined;

  constructor() {
    const cells = Array.from({ length: SEGMENTS }, () => make("span"));
    this.bar = make(
      "div",
      { class: "bar", label: "level", attributes: { role: "meter", "aria-valuemin": "0", "aria-valuemax": String(SEGMENTS) } },
      ...cells,
    );
    this.element = make("div", { class: "meter" }, this.bar, this.verdict);
  }

  /** Listens to a track, or with null shows that the microphone is off. */
  listen(track: MediaStreamTrack | null): void {
    this.stop();
    this.draw(0);
    if (track === null) {
      this.speak("levelOff");
      return;
    }
    this.speak("levelTry");
    this.audio ??= new AudioContext();
    const audio = this.audio;
    // Without a gesture some browsers start an AudioContext suspended; the first touch wakes it.
    if (audio.state === "suspended") {
      void audio.resume();
      document.addEventListener("pointerdown", () => void audio.resume(), { once: true });
    }
    const analyser = audio.createAnalyser();
    analyser.fftSize = 1024;
    this.source = audio.createMediaStreamSource(new MediaStream([track]));
    this.source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let shown = 0;
    let heardAt = performance.now();
    this.timer = window.setInterval(() => {
      if (audio.state !== "running") return;
      analyser.getFloatTimeDomainData(samples);
      const level = decibels(samples);
      shown = Math.max(segments(level), shown - 1); // up at once, down slowly: easier on the eye
      this.draw(shown);
      const now = performance.now();
      if (level > SPEECH_DB) {
        heardAt = now;
        this.speak("levelHeard");
      } else if (now - heardAt > SILENT_AFTER_MS) {
        this.speak("levelSilent");
      }
    }, 60);
  }

  close(): void {
    this.stop();
    void this.audio?.close();
    this.audio = null;
  }

  private stop(): void {
    window.clearInterval(this.timer);
    this.source?.disconnect();
    this.source = null;
  }

  private draw(lit: number): void {
    this.bar.setAttribute("aria-valuenow", String(lit));
    [...this.bar.children].forEach((cell, index) => cell.classList.toggle("lit", index < lit));
  }

  private speak(word: Word): void {
    if (word === this.said) return;
    this.said = word;
    speak(this.verdict, word);
  }
}
