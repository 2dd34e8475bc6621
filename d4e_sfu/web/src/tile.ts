/**
 * One picture in the room with its caption: a person, or a screen that a person shares. What it
 * shows is also in `data-*` attributes, which the style sheet and the tests read.
 */

import { facingModeFromLocalTrack, LocalVideoTrack, Track, type Participant, type TrackPublication } from "livekit-client";
import { drawing, make } from "./element";
import { say, speak } from "./language";
import { badge, showRole } from "./role";
import type { Word } from "./words";

export type TileSource = "camera" | "screen";

const SOURCES = { camera: Track.Source.Camera, screen: Track.Source.ScreenShare } as const;
const LONGEST_NAME = 60; // characters; a name comes from outside

export class Tile {
  readonly element: HTMLLIElement;
  private readonly video = make("video", { attributes: { playsinline: "", "aria-hidden": "true" } });
  private readonly initials = make("span", { class: "initials", attributes: { "aria-hidden": "true" } });
  private readonly badge = badge();
  private readonly name = make("span", { class: "name" });
  private readonly silent = make("span", { class: "silent" }, drawing("microphoneOff"), make("span", { class: "unseen", say: "micIsOff" }));
  private shown: Track | undefined;

  constructor(
    readonly participant: Participant,
    readonly source: TileSource,
  ) {
    const paused = make("span", { class: "paused", say: "videoPaused" });
    this.element = make(
      "li",
      { class: "tile", attributes: { "data-source": source, "data-local": String(participant.isLocal) } },
      this.video,
      this.initials,
      paused,
      this.badge,
      make("p", { class: "caption" }, this.name, this.silent),
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

  /** Shows the participant as it is now. Cheap, so it is called at every event about it. */
  refresh(): void {
    const { participant, element } = this;
    element.dataset["participant"] = participant.identity;
    const name = (participant.name || participant.identity).slice(0, LONGEST_NAME);
    const word: Word | null = this.source === "screen" ? "screenOf" : participant.isLocal ? "you" : null;
    speak(this.name, word === null ? () => name : () => say(word, { name }));
    this.initials.textContent = initials(name);

    const role = this.source === "camera" ? (participant.attributes["d4e.role"] ?? "") : "";
    element.dataset["role"] = role;
    showRole(this.badge, role);

    const microphone = participant.getTrackPublication(Track.Source.Microphone);
    const heard = microphone !== undefined && !microphone.isMuted;
    element.dataset["microphone"] = heard ? "on" : "off";
    this.silent.hidden = heard || this.source === "screen";

    const picture = participant.getTrackPublication(SOURCES[this.source]);
    const track = picture !== undefined && !picture.isMuted ? picture.track : undefined;
    element.dataset["camera"] = track === undefined ? "off" : "on";
    element.dataset["paused"] = String(track?.streamState === Track.StreamState.Paused);
    this.attach(track);
  }

  owns(participant: Participant, publication?: TrackPublication): boolean {
    if (participant.identity !== this.participant.identity) return false;
    return publication === undefined || publication.source === SOURCES[this.source];
  }

  close(): void {
    this.attach(undefined);
    this.element.remove();
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
