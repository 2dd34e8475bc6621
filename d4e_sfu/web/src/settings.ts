/** What a person can set during the call: whether pictures are received, and which devices are used. */

import type { Room } from "livekit-client";
import type { DeviceKind } from "./devices";
import { make } from "./element";
import { Pickers } from "./pickers";

export class Settings {
  readonly element: HTMLDialogElement;
  private readonly pickers: Pickers;
  private readonly switch = make("input", {
    attributes: { type: "checkbox", role: "switch", "aria-describedby": "audio-only-means", "data-button": "audio-only" },
  });

  constructor(
    private readonly room: Room,
    audioOnly: (on: boolean) => void,
    private readonly failed: (error: unknown, source: "camera" | "microphone" | "speaker") => void,
  ) {
    this.pickers = new Pickers((kind, id) => void this.use(kind, id));
    this.switch.addEventListener("change", () => audioOnly(this.switch.checked));
    const done = make("button", { class: "main", say: "done", attributes: { type: "submit", "data-button": "done" } });
    const form = make(
      "form",
      { attributes: { method: "dialog" } },
      make("h2", { say: "settings" }),
      make(
        "div",
        { class: "switch" },
        make("label", { class: "check" }, make("span", { say: "audioOnly" }), this.switch),
        make("p", { class: "hint", say: "audioOnlyMeans", attributes: { id: "audio-only-means" } }),
      ),
      this.pickers.element,
      done,
    );
    this.element = make("dialog", { class: "card", label: "settings" }, form);
  }

  open(): void {
    void this.pickers.refresh({
      videoinput: this.room.getActiveDevice("videoinput"),
      audioinput: this.room.getActiveDevice("audioinput"),
      audiooutput: this.room.getActiveDevice("audiooutput"),
    });
    this.element.showModal();
  }

  set audioOnly(on: boolean) {
    this.switch.checked = on;
  }

  close(): void {
    this.pickers.close();
  }

  private async use(kind: DeviceKind, id: string): Promise<void> {
    try {
      await this.room.switchActiveDevice(kind, id);
    } catch (error) {
      this.failed(error, kind === "videoinput" ? "camera" : kind === "audioinput" ? "microphone" : "speaker");
    }
  }
}
