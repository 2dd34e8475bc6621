/**
 * The device check before the call: a mirror, a level meter, the choice of devices, the name, and
 * the button to join. Whatever is missing, the person can still join with what there is.
 */

import type { LocalAudioTrack, LocalVideoTrack } from "livekit-client";
import { audioOnly } from "./choice";
import { open, type DeviceKind } from "./devices";
import { DrawnButton, make } from "./element";
import { speak, tell } from "./language";
import type { Invitation } from "./link";
import { masthead } from "./masthead";
import { Meter } from "./meter";
import { NetworkView } from "./netcheckview";
import { Pickers } from "./pickers";
import { badge, showRole } from "./role";
import type { Fault } from "./words";

/** What a person brings into the room. The tracks are open and become the room's. */
export interface Ready {
  name: string;
  camera: LocalVideoTrack | null;
  microphone: LocalAudioTrack | null;
}

export class Lobby {
  readonly element: HTMLElement;
  private camera: LocalVideoTrack | null = null;
  private microphone: LocalAudioTrack | null = null;
  private readonly wanted: { camera: boolean; microphone: boolean };
  private opening: Promise<void> = Promise.resolve(); // one question to the person at a time
  private closed = false;

  private readonly video = make("video", { label: "preview", attributes: { playsinline: "" } });
  private readonly veil = make("p", { class: "veil" });
  private readonly stage: HTMLElement;
  private readonly meter = new Meter();
  private readonly pickers = new Pickers((kind) => void this.picked(kind));
  private readonly microphoneButton = new DrawnButton("microphone", () => void this.toggle("microphone"));
  private readonly cameraButton = new DrawnButton("camera", () => void this.toggle("camera"));
  private readonly problem = make("div", { class: "problem", attributes: { role: "alert" } });
  private readonly joinButton = make("button", { class: "main", attributes: { type: "submit", "data-button": "join" } });
  private readonly nameField: HTMLInputElement | null;
  private readonly network: NetworkView;

  constructor(
    private readonly invitation: Invitation,
    private readonly join: (ready: Ready) => void,
  ) {
    const brings = invitation.mayPublish;
    this.wanted = { camera: brings && !audioOnly(), microphone: brings };
    this.video.muted = true;
    this.stage = make(
      "div",
      { class: "mirror" },
      this.video,
      this.veil,
      make("div", { class: "switches" }, this.microphoneButton.element, this.cameraButton.element),
    );
    this.nameField = invitation.mayRename
      ? make("input", { attributes: { value: invitation.name, maxlength: "60", autocomplete: "name", required: "" } })
      : null;
    const role = badge();
    showRole(role, invitation.role);
    const name =
      this.nameField === null
        ? make("p", { class: "named" }, make("span", { say: "yourNameFixed" }), make("strong", { text: invitation.name }), role)
        : make("label", {}, make("span", { say: "yourName" }), this.nameField);
    this.network = new NetworkView(invitation.token);
    const devices = make("details", { class: "devices" }, make("summary", { say: "chooseDevices" }), this.pickers.element);
    devices.open = window.matchMedia("(min-width: 761px)").matches; // on a phone the way to join stays in sight
    const form = make(
      "form",
      { class: "choices" },
      make("p", { class: "where", say: "roomNamed", values: { room: invitation.room } }),
      make("h1", { say: "checkTitle", attributes: { tabindex: "-1" } }),
      name,
      this.problem,
      ...(brings ? [this.meter.element, devices] : [make("p", { class: "hint", say: "watchOnly" })]),
      this.joinButton,
      this.network.element,
      make("p", { class: "hint", say: "privacy" }),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter();
    });
    this.element = make("div", { class: "still" }, masthead(), make("main", { class: brings ? "lobby" : "lobby watching" }, ...(brings ? [this.stage] : []), form));
    this.refresh();
    if (brings) void this.reopen("both");
  }

  /** The call did not begin: say why, and let the person try again. */
  fail(fault: Fault): void {
    this.complain(fault, false);
    this.refresh();
  }

  /** Takes the view away; the tracks are stopped unless they went into the room. */
  close(keep: boolean): void {
    this.closed = true;
    this.network.close();
    this.meter.close();
    this.pickers.close();
    this.camera?.detach(this.video);
    if (keep) return;
    this.camera?.stop();
    this.microphone?.stop();
  }

  private enter(): void {
    speak(this.joinButton, "joining");
    this.joinButton.disabled = true;
    this.problem.replaceChildren();
    const name = this.nameField?.value.trim() || this.invitation.name;
    this.join({ name, camera: this.camera, microphone: this.microphone });
  }

  private async toggle(which: "camera" | "microphone"): Promise<void> {
    // What is wanted but did not open is asked for again, not switched off.
    this.wanted[which] = this[which] === null ? true : !this.wanted[which];
    await this.reopen(which);
  }

  private async picked(kind: DeviceKind): Promise<void> {
    if (kind === "videoinput" && this.wanted.camera) await this.reopen("camera");
    if (kind === "audioinput" && this.wanted.microphone) await this.reopen("microphone");
  }

  private reopen(which: "camera" | "microphone" | "both"): Promise<void> {
    this.opening = this.opening.then(() => this.openNow(which));
    return this.opening;
  }

  /** Opens what is wanted and closes what is not. */
  private async openNow(which: "camera" | "microphone" | "both"): Promise<void> {
    if (this.closed) return;
    const camera = which !== "microphone";
    const microphone = which !== "camera";
    // A camera must be let go before it opens with another choice: many open only once.
    if (camera) this.takeCamera(null);
    if (microphone) this.takeMicrophone(null);
    this.problem.replaceChildren();
    this.element.dataset["asking"] = "true";
    this.refresh();
    const opened = await open({ camera: camera && this.wanted.camera, microphone: microphone && this.wanted.microphone });
    if (this.closed) {
      opened.camera?.stop();
      opened.microphone?.stop();
      return;
    }
    delete this.element.dataset["asking"];
    if (camera) this.takeCamera(opened.camera);
    if (microphone) this.takeMicrophone(opened.microphone);
    if (opened.fault !== null) this.complain(opened.fault, true);
    this.refresh();
    await this.pickers.refresh({
      videoinput: this.camera?.mediaStreamTrack.getSettings().deviceId,
      audioinput: this.microphone?.mediaStreamTrack.getSettings().deviceId,
    });
  }

  private takeCamera(track: LocalVideoTrack | null): void {
    this.camera?.detach(this.video);
    this.camera?.stop();
    this.camera = track;
    track?.attach(this.video);
  }

  private takeMicrophone(track: LocalAudioTrack | null): void {
    this.microphone?.stop();
    this.microphone = track;
    this.meter.listen(track?.mediaStreamTrack ?? null);
  }

  private complain(fault: Fault, devices: boolean): void {
    const what = make("strong");
    speak(what, () => tell(fault).what);
    const todo = make("p");
    speak(todo, () => tell(fault).todo);
    this.problem.dataset["fault"] = fault;
    this.problem.replaceChildren(what, todo);
    if (!devices) return;
    const again = make("button", { class: "quiet", say: "retryDevices", attributes: { type: "button", "data-button": "retry" } });
    again.addEventListener("click", () => void this.reopen("both"));
    this.problem.append(again);
  }

  private refresh(): void {
    const asking = this.element.dataset["asking"] !== undefined;
    this.stage.dataset["camera"] = this.camera === null ? "off" : "on";
    speak(this.veil, asking && this.wanted.camera ? "previewAsk" : "previewOff");
    this.microphoneButton.show(this.microphone ? "microphone" : "microphoneOff", this.microphone ? "muteMic" : "unmuteMic", this.microphone !== null);
    this.cameraButton.show(this.camera ? "camera" : "cameraOff", this.camera ? "stopCamera" : "startCamera", this.camera !== null);
    // Always open: a question that the person never answers must not lock the door.
    speak(this.joinButton, this.camera || this.microphone ? "join" : "joinSilently");
    this.joinButton.disabled = false;
  }
}
