/**
 * One picture in the room with its caption: a person, or a screen that a person shares. What it
 * shows is also in `data-*` attributes, which the style sheet and the tests read.
 */

import { facingModeFromLocalTrack, LocalVideoTrack, Track, type Participant } from "livekit-client";
import { drawing, make } from "./element";
import { raised } from "./hand";
import { say, speak } from "./language";
import { linkWord, weak } from "./quality";
import { badge, showRole } from "./role";
import { reasonWord } from "./streams";
import type { Word } from "./words";

export type TileSource = "camera" | "screen";

const SOURCES = { camera: Track.Source.Camera, screen: Track.Source.ScreenShare } as const;
const LONGEST_NAME = 60; // characters; a name comes from outside
let made = 0;

export class Tile {
  readonly element: HTMLLIElement;
  /** Place among the others: as they came, one's own last. */
  readonly order: number;
  private readonly video = make("video", { attributes: { playsinline: "", "aria-hidden": "true" } });
  private readonly initials = make("span", { class: "initials", attributes: { "aria-hidden": "true" } });
  private readonly hand = make("span", { class: "hand" }, drawing("hand"), make("span", { class: "unseen", say: "handIsUp" }));
  private readonly badge = badge();
  private readonly pin: HTMLButtonElement | null;
  private readonly state = make("span", { class: "state" });
  private readonly name = make("span", { class: "name" });
  private readonly silent = make("span", { class: "silent" }, drawing("microphoneOff"), make("span", { class: "unseen", say: "micIsOff" }));
  private shown: Track | undefined;
  private wanted = true;

  constructor(
    readonly participant: Participant,
    readonly source: TileSource,
    pinPressed: (tile: Tile) => void,
  ) {
    this.order = participant.isLocal ? Infinity : made++;
    this.pin = participant.isLocal ? null : make("button", { class: "pin", attributes: { type: "button" } }, drawing("pin"));
    this.pin?.addEventListener("click", () => pinPressed(this));
    this.element = make(
      "li",
      { class: "tile", attributes: { "data-source": source, "data-local": String(participant.isLocal) } },
      this.video,
      this.initials,
      make("p", { class: "marks" }, this.hand, this.badge),
      this.state,
      make("p", { class: "caption" }, this.name, this.silent),
      this.pin,
    );
    // Sound has elements of its own; a picture is always silent, so that it may always play.
    this.video.muted = true;
    this.video.addEventListener("resize", () => {
      this.element.dataset["decodedWidth"] = String(this.video.videoWidth);
      this.element.dataset["decodedHeight"] = String(this.video.videoHeight);
    });
    this.refresh();
  }

  set speaking(speaking: boolean) {
    this.element.dataset["speaking"] = String(speaking);
  }

  set pinned(pinned: boolean) {
    this.element.dataset["pinned"] = String(pinned);
    this.pin?.setAttribute("aria-pressed", String(pinned));
  }

  /** Whether a picture from others is wanted. What no element shows, the server need not send. */
  set pictures(wanted: boolean) {
    this.wanted = wanted;
    this.refresh();
  }

  /** Shows the participant as it is now. Cheap, so it is called at every event about it. */
  refresh(): void {
    const { participant, element } = this;
    element.dataset["participant"] = participant.identity;
    const name = (participant.name || participant.identity).slice(0, LONGEST_NAME);
    const word: Word | null = this.source === "screen" ? "screenOf" : participant.isLocal ? "you" : null;
    const title = word === null ? () => name : () => say(word, { name });
    speak(this.name, title);
    this.initials.textContent = initials(name);
    if (this.pin !== null) speak(this.pin, () => say("pin", { name: title() }), undefined, "aria-label");

    const person = this.source === "camera";
    const role = person ? (participant.attributes["d4e.role"] ?? "") : "";
    element.dataset["role"] = role;
    showRole(this.badge, role);
    element.dataset["hand"] = person && raised(participant) ? "up" : "down";
    this.hand.hidden = element.dataset["hand"] === "down";

    const microphone = participant.getTrackPublication(Track.Source.Microphone);
    const heard = microphone !== undefined && !microphone.isMuted;
    element.dataset["microphone"] = heard ? "on" : "off";
    this.silent.hidden = heard || !person;

    const picture = participant.getTrackPublication(SOURCES[this.source]);
    const track = picture !== undefined && !picture.isMuted ? picture.track : undefined;
    const received = this.wanted || participant.isLocal;
    element.dataset["camera"] = track === undefined ? "off" : "on";
    // A paused picture keeps its element: without one the client library would take back that it is wanted.
    const paused = track?.streamState === Track.StreamState.Paused;
    element.dataset["picture"] = track === undefined || !received ? "none" : paused ? "paused" : "shown";
    element.dataset["quality"] = participant.connectionQuality;
    const voicePaused = microphone === undefined ? null : reasonWord(participant, microphone.trackSid);
    const reason = paused && picture !== undefined ? (reasonWord(participant, picture.trackSid) ?? "videoPaused") : null;
    this.tellState(track, received, voicePaused ?? reason);
    this.attach(received ? track : undefined);
  }

  owns(participant: Participant): boolean {
    return participant.identity === this.participant.identity;
  }

  close(): void {
    this.attach(undefined);
    this.element.remove();
  }

  /** One sentence on the picture, the most telling; none when all is well. */
  private tellState(track: Track | undefined, received: boolean, reason: Word | null): void {
    const { connectionQuality } = this.participant;
    let word: Word | null = null;
    if (track !== undefined && !received) word = "pictureNotReceived";
    else if (reason !== null) word = reason;
    else if (weak(connectionQuality)) word = linkWord(this.participant);
    this.element.dataset["paused"] = String(this.element.dataset["picture"] === "paused");
    this.state.hidden = word === null;
    if (word !== null) speak(this.state, word);
  }

  private attach(track: Track | undefined): void {
    if (track === this.shown) {
      this.mirror(track);
      return;
    }
    this.shown?.detach(this.video);
    this.shown = track;
    track?.attach(this.video);
    this.mirror(track);
    if (track === undefined) {
      delete this.element.dataset["decodedWidth"];
      delete this.element.dataset["decodedHeight"];
    }
  }

  /** People know themselves from the mirror; a camera that looks away is not mirrored. */
  private mirror(track: Track | undefined): void {
    const own = track instanceof LocalVideoTrack && track.source === Track.Source.Camera;
    this.element.dataset["mirror"] = String(own && facingModeFromLocalTrack(track).facingMode === "user");
  }
}

/** Vietnamese names end with the given name: first and last word stand for the person. */
export function initials(name: string): string {
  const parts = name.trim().split(/[\s_-]+/).filter((part) => part !== "");
  const letters = [parts[0], parts.length > 1 ? parts.at(-1) : undefined];
  return letters.map((part) => [...(part ?? "")][0] ?? "").join("").toUpperCase();
}
