/**
 * The chat beside the call: text streams on the topic `lk.chat`, which the client SDKs share.
 * Messages live in this page only, and no longer than it.
 */

import type { Room, TextStreamReader } from "livekit-client";
import { announce } from "./announcement";
import { drawing, make } from "./element";
import { language, say, speak } from "./language";
import { panel } from "./panel";

const TOPIC = "lk.chat";
const LONGEST = 2000; // characters of one message, sent or shown
const MOST = 500; // messages kept on the page

export class Chat {
  readonly element: HTMLElement;
  private readonly messages = make("ol");
  private readonly log = make("div", { class: "log", label: "chat", attributes: { role: "log", tabindex: "0" } }, this.messages);
  private readonly input = make("textarea", { label: "chatWrite", attributes: { rows: "1", maxlength: String(LONGEST), enterkeyhint: "send" } });
  private readonly send = make("button", { class: "send", label: "chatSend", attributes: { type: "submit" } }, drawing("send"));
  private readonly problem = make("p", { class: "problem", attributes: { role: "alert" } });
  private readonly form: HTMLFormElement;
  private readonly forbidden = make("p", { class: "hint", say: "chatForbidden" });
  private count = 0;

  constructor(
    private readonly room: Room,
    private readonly unreadChanged: (count: number) => void,
    closed: () => void,
  ) {
    this.form = make("form", {}, this.input, this.send);
    speak(this.input, "chatWrite", undefined, "placeholder");
    this.element = panel(
      "chat",
      "chat",
      make("h2", { say: "chat" }),
      closed,
      make("p", { class: "hint", say: "chatEmpty" }),
      this.log,
      this.problem,
      this.form,
      this.forbidden,
    );
    this.input.addEventListener("keydown", (event) => {
      // Enter sends, Shift+Enter breaks the line; an input method's Enter chooses a word (Telex).
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.submit();
    });
    room.registerTextStreamHandler(TOPIC, (reader, from) => void this.receive(reader, from.identity));
    this.allow(true);
  }

  get open(): boolean {
    return !this.element.hidden;
  }

  show(open: boolean): void {
    this.element.hidden = !open;
    if (!open) return;
    this.unread(0);
    this.log.scrollTop = this.log.scrollHeight;
    (this.form.hidden ? this.log : this.input).focus();
  }

  /** The right to send; everyone in the room reads. */
  allow(send: boolean): void {
    this.form.hidden = !send;
    this.forbidden.hidden = send;
  }

  private async submit(): Promise<void> {
    const text = this.input.value.trim();
    if (text === "" || this.send.disabled) return;
    this.send.disabled = true;
    this.problem.textContent = "";
    try {
      await this.room.localParticipant.sendText(text, { topic: TOPIC });
      this.input.value = "";
      this.append(null, text);
    } catch {
      speak(this.problem, "chatFailed"); // the text stays in the field
    } finally {
      this.send.disabled = false;
    }
  }

  private async receive(reader: TextStreamReader, identity: string): Promise<void> {
    const sender = this.room.remoteParticipants.get(identity);
    const name = (sender?.name || identity).slice(0, 60);
    let text = "";
    try {
      for await (const piece of reader) {
        text += piece;
        if (text.length > LONGEST) break;
      }
    } catch {
      return; // cut off or too large: half a message in a clinic is worse than none
    }
    text = text.slice(0, LONGEST).trim();
    if (text === "") return;
    this.append(name, text);
    if (this.open) return;
    this.unread(this.count + 1);
    announce(() => say("chatFrom", { name, text: text.slice(0, 120) }));
  }

  private append(from: string | null, text: string): void {
    const now = new Date();
    const author = make("span", { class: "author", ...(from === null ? { say: "chatMine" as const } : { text: from }) });
    const time = make("time", {
      text: now.toLocaleTimeString(language(), { hour: "2-digit", minute: "2-digit" }),
      attributes: { datetime: now.toISOString() },
    });
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80;
    this.messages.append(
      make("li", { class: from === null ? "mine" : "theirs" }, make("p", { class: "from" }, author, time), make("p", { class: "text", text })),
    );
    while (this.messages.childElementCount > MOST) this.messages.firstElementChild?.remove();
    if (atEnd || from === null) this.log.scrollTop = this.log.scrollHeight;
  }

  private unread(count: number): void {
    this.count = count;
    this.unreadChanged(count);
  }
}
