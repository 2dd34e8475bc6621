/** The choice of devices during a call. */

import type { Room } from "livekit-client";
import type { DeviceKind } from "./devices";
import { make } from "./element";
import { Pickers } from "./pickers";

export class DeviceDialog {
  readonly element: HTMLDialogElement;
  private readonly pickers: Pickers;

  constructor(
    private readonly room: Room,
    private readonly failed: (error: unknown, source: "camera" | "microphone") => void,
  ) {
    this.pickers = new Pickers((kind, id) => void this.use(kind, id));
    const done = make("button", { class: "main", say: "done", attributes: { type: "submit" } });
    const form = make("form", { attributes: { method: "dialog" } }, make("h2", { say: "devices" }), this.pickers.element, done);
    this.element = make("dialog", { class: "card", label: "devices" }, form);
  }

  open(): void {
    void this.pickers.refresh({
      videoinput: this.room.getActiveDevice("videoinput"),
      audioinput: this.room.getActiveDevice("audioinput"),
      audiooutput: this.room.getActiveDevice("audiooutput"),
    });
    this.element.showModal();
  }

  close(): void {
    this.pickers.close();
  }

  private async use(kind: DeviceKind, id: string): Promise<void> {
    try {
      await this.room.switchActiveDevice(kind, id);
    } catch (error) {
      this.failed(error, kind === "videoinput" ? "camera" : "microphone");
    }
  }
}
