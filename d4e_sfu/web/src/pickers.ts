/** The lists from which a person chooses camera, microphone and loudspeaker: before and in the call. */

import { choose, chosen, list, type DeviceKind } from "./devices";
import { make } from "./element";
import { say, speak } from "./language";
import { canChooseSpeaker } from "./support";
import type { Word } from "./words";

const NAMES: Record<DeviceKind, Word> = {
  videoinput: "camera",
  audioinput: "microphone",
  audiooutput: "speaker",
};

export class Pickers {
  readonly element = make("div", { class: "pickers" });
  private readonly selects = new Map<DeviceKind, HTMLSelectElement>();
  private readonly stop = new AbortController();

  constructor(private readonly picked: (kind: DeviceKind, id: string) => void) {
    const kinds: DeviceKind[] = ["videoinput", "audioinput"];
    if (canChooseSpeaker()) kinds.push("audiooutput");
    for (const kind of kinds) {
      const select = make("select", { attributes: { "data-device": kind } });
      select.addEventListener("change", () => {
        choose(kind, select.value);
        this.picked(kind, select.value);
      });
      this.selects.set(kind, select);
      this.element.append(make("label", {}, make("span", { say: NAMES[kind] }), select));
    }
    navigator.mediaDevices.addEventListener("devicechange", () => void this.refresh(), {
      signal: this.stop.signal,
    });
    void this.refresh();
  }

  /** Lists the devices again; `used` are those that really opened, where they are known. */
  async refresh(used: Partial<Record<DeviceKind, string | undefined>> = {}): Promise<void> {
    for (const [kind, select] of this.selects) {
      const devices = await list(kind);
      const wanted = used[kind] ?? (select.value || chosen(kind));
      select.replaceChildren(
        ...devices.map((device, index) => {
          const option = make("option", { text: device.label, attributes: { value: device.deviceId } });
          if (device.label === "") speak(option, () => say("deviceNumber", { number: index + 1 }));
          option.selected = device.deviceId === wanted;
          return option;
        }),
      );
      select.disabled = devices.length === 0;
      if (devices.length === 0) select.append(make("option", { say: "deviceNone" }));
    }
  }

  close(): void {
    this.stop.abort();
  }
}
