/** The bar of buttons at the bottom of the call. What a role may not do has no button. */

import type { Room } from "livekit-client";
import { DrawnButton, make } from "./element";
import { raised } from "./hand";
import { say, speak } from "./language";
import { may, type Permission } from "./rights";
import { canShareScreen } from "./support";

type Source = "microphone" | "camera" | "screen";
type Name = Source | "hand" | "chat" | "settings" | "leave";

export class Controls {
  readonly element: HTMLElement;
  private readonly buttons: Record<Name, DrawnButton>;
  private readonly badge = make("span", { class: "count", attributes: { "aria-hidden": "true" } });

  constructor(
    private readonly room: Room,
    press: Record<Name, () => void>,
  ) {
    const button = (name: Name): DrawnButton => new DrawnButton(name, press[name]);
    this.buttons = {
      microphone: button("microphone"),
      camera: button("camera"),
      screen: button("screen"),
      hand: button("hand"),
      chat: button("chat"),
      settings: button("settings"),
      leave: button("leave"),
    };
    this.element = make("nav", { class: "controls", label: "controls" }, ...Object.values(this.buttons).map((each) => each.element));
    this.buttons.chat.show("chat", "chat", false);
    this.buttons.chat.element.append(this.badge);
    this.buttons.chat.element.setAttribute("aria-controls", "chat");
    this.buttons.settings.show("settings", "settings", true);
    this.buttons.leave.show("leave", "leave", true);
    this.chatOpen(false);
    this.unread(0);
    this.refresh();
  }

  may(source: Source): boolean {
    // The library's type of the message, of which we name what concerns us.
    return may(this.room.localParticipant.permissions as unknown as Permission | undefined, source);
  }

  refresh(): void {
    const me = this.room.localParticipant;
    const { microphone, camera, screen, hand } = this.buttons;
    const talking = me.isMicrophoneEnabled;
    microphone.show(talking ? "microphone" : "microphoneOff", talking ? "muteMic" : "unmuteMic", talking);
    const filming = me.isCameraEnabled;
    camera.show(filming ? "camera" : "cameraOff", filming ? "stopCamera" : "startCamera", filming);
    const sharing = me.isScreenShareEnabled;
    screen.show("screen", sharing ? "stopShare" : "share", sharing);
    const up = raised(me);
    hand.show("hand", up ? "lowerHand" : "raiseHand", up);
    microphone.element.hidden = !this.may("microphone");
    camera.element.hidden = !this.may("camera");
    screen.element.hidden = !this.may("screen") || !canShareScreen();
  }

  busy(source: Source | "hand", busy: boolean): void {
    this.buttons[source].element.disabled = busy;
    if (!busy) this.refresh();
  }

  chatOpen(open: boolean): void {
    this.buttons.chat.element.setAttribute("aria-expanded", String(open));
    this.buttons.chat.element.dataset["on"] = String(open);
  }

  unread(count: number): void {
    this.badge.hidden = count === 0;
    this.badge.textContent = count > 99 ? "99+" : String(count);
    speak(this.buttons.chat.element, () => (count === 0 ? say("chat") : say("chatUnread", { count })), undefined, "aria-label");
  }

  focus(name: Name): void {
    this.buttons[name].element.focus();
  }
}
