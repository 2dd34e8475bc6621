/**
 * The call: joins stage, controls, chat and list of people to the room, with words for every change.
 * It follows the events of the client library's Room and keeps no state that the Room already has.
 */

import {
  ConnectionState,
  DisconnectReason,
  Room,
  RoomEvent,
  Track,
  type LocalAudioTrack,
  type LocalVideoTrack,
  type Participant,
  type RemoteTrack,
} from "livekit-client";
import { announce } from "./announcement";
import { Banner } from "./banner";
import { Chat } from "./chat";
import { audioOnly, keepAudioOnly } from "./choice";
import { Confirmation } from "./confirmation";
import { Controls } from "./controls";
import { make } from "./element";
import { publishFault } from "./faults";
import { Hand } from "./hand";
import { say } from "./language";
import { forgetToken } from "./link";
import { languageSwitch } from "./masthead";
import { Moderation, Refused } from "./moderation";
import { People, PeopleButton } from "./people";
import type { Acts } from "./person";
import { followDevices, type Plugged } from "./plugged";
import { ownLinkWord, takeBlame, weak } from "./quality";
import { difference, may, TO_DO, type Permission, type Right } from "./rights";
import { Settings } from "./settings";
import { Speaking } from "./speaking";
import { Stage } from "./stage";
import { takeReasons } from "./streams";
import { keepAwake } from "./wakelock";
import type { Word } from "./words";

type Source = "microphone" | "camera" | "screen";
type Panel = "chat" | "people";

/** What is told when a moderator stops a publication. */
const STOPPED: Partial<Record<Track.Source, Word>> = {
  [Track.Source.Microphone]: "mutedByModerator",
  [Track.Source.Camera]: "cameraByModerator",
  [Track.Source.ScreenShare]: "shareByModerator",
};

export class Call {
  readonly element: HTMLElement;
  private readonly banner = new Banner("alert");
  private readonly notice = new Banner("status");
  private readonly stage = new Stage(() => this.refreshPeople());
  private readonly chat: Chat;
  private readonly people: People;
  private readonly peopleButton = new PeopleButton(() => this.show(this.people.open ? null : "people"));
  private readonly controls: Controls;
  private readonly settings: Settings;
  private readonly confirmation = new Confirmation();
  private readonly moderation: Moderation;
  private readonly speaking: Speaking;
  private readonly hand: Hand;
  private readonly sounds = document.getElementById("sounds");
  private readonly narrow = window.matchMedia("(max-width: 760px)"); // as in the style sheet
  private readonly topline: HTMLElement;
  private readonly stop = new AbortController();

  constructor(
    private readonly room: Room,
    token: string,
    private readonly ended: (reason: DisconnectReason | undefined) => void,
  ) {
    this.hand = new Hand(room);
    this.moderation = new Moderation(room, token);
    this.settings = new Settings(
      room,
      (on) => this.listenOnly(on),
      (error, source) => this.complain(error, source),
    );
    this.controls = new Controls(room, {
      microphone: () => void this.toggle("microphone"),
      camera: () => void this.toggle("camera"),
      screen: () => void this.toggle("screen"),
      hand: () => void this.toggleHand(),
      chat: () => this.show(this.chat.open ? null : "chat"),
      settings: () => this.settings.open(),
      leave: () => {
        // Said by a press and not by the reason of the end: a reload ends the call for that reason too.
        forgetToken();
        void room.disconnect();
      },
    });
    this.chat = new Chat(
      room,
      (count) => this.controls.unread(count),
      () => this.show(null),
    );
    this.people = new People(
      room,
      this.acts(),
      (count, hands) => this.peopleButton.show(count, hands),
      () => this.show(null),
    );
    this.speaking = new Speaking(room, (speakers) => this.stage.hear(speakers));
    const heading = make("h1", { say: "roomNamed", values: { room: room.name }, attributes: { tabindex: "-1" } });
    this.topline = make("header", { class: "topline" }, heading, this.peopleButton.element, languageSwitch());
    this.element = make(
      "div",
      { class: "call" },
      this.topline,
      make("div", { class: "strips" }, this.banner.element, this.notice.element),
      make("main", { class: "room" }, this.stage.element, this.chat.element, this.people.element),
      this.controls.element,
      this.settings.element,
      this.confirmation.element,
    );
    this.follow();
    this.everyone();
    this.permissions();
    this.listenOnly(audioOnly());
    this.narrow.addEventListener("change", () => this.cover(), { signal: this.stop.signal });
    keepAwake(this.stop.signal);
    followDevices((change) => this.plugged(change), this.stop.signal);
  }

  /** Sends what the person brought from the lobby, as far as her role allows. */
  async bring(tracks: readonly (LocalAudioTrack | LocalVideoTrack | null)[]): Promise<void> {
    await Promise.all(
      tracks.map(async (track) => {
        if (track === null) return;
        const source = track.source === Track.Source.Camera ? "camera" : "microphone";
        if (!this.controls.may(source) || (source === "camera" && audioOnly())) {
          track.stop();
          return;
        }
        try {
          await this.room.localParticipant.publishTrack(track);
        } catch (error) {
          track.stop();
          this.complain(error, source);
        }
      }),
    );
  }

  close(): void {
    this.stop.abort();
    this.speaking.close();
    this.settings.close();
    this.stage.close();
    this.sounds?.replaceChildren();
    this.room.removeAllListeners();
  }

  private follow(): void {
    const { room } = this;
    const person = (participant: Participant): void => this.refresh(participant);
    const publication = (_: unknown, participant: Participant): void => this.refresh(participant);
    room
      .on(RoomEvent.ParticipantConnected, (participant) => {
        person(participant);
        announce(() => say("joined", { name: participant.name || participant.identity }));
      })
      .on(RoomEvent.ParticipantDisconnected, (participant) => {
        this.remove(participant);
        announce(() => say("departed", { name: participant.name || participant.identity }));
      })
      .on(RoomEvent.TrackSubscribed, (track, _, participant) => {
        this.sound(track);
        person(participant);
      })
      .on(RoomEvent.TrackUnsubscribed, (track, _, participant) => {
        for (const element of track.kind === Track.Kind.Audio ? track.detach() : []) element.remove();
        person(participant);
      })
      .on(RoomEvent.TrackPublished, publication)
      .on(RoomEvent.TrackUnpublished, publication)
      .on(RoomEvent.TrackUnmuted, publication)
      .on(RoomEvent.TrackMuted, publication)
      .on(RoomEvent.DataReceived, (payload, sender, _, topic) => {
        for (const participant of takeReasons(room, payload, sender, topic)) person(participant);
        for (const participant of takeBlame(room, payload, sender, topic)) {
          person(participant);
          if (participant.isLocal) this.network();
        }
      })
      .on(RoomEvent.ConnectionQualityChanged, (_, participant) => {
        person(participant);
        if (participant.isLocal) this.network();
      })
      .on(RoomEvent.LocalTrackPublished, publication)
      .on(RoomEvent.LocalTrackUnpublished, publication)
      .on(RoomEvent.ParticipantNameChanged, (_, participant) => this.refresh(participant))
      .on(RoomEvent.ParticipantAttributesChanged, (_, participant) => {
        person(participant);
        if (participant.isLocal && this.hand.lowered()) this.banner.show("handLowered", { seconds: 8 });
      })
      .on(RoomEvent.TrackStreamStateChanged, (_, __, participant) => this.refresh(participant))
      .on(RoomEvent.ParticipantPermissionsChanged, (before, participant) => {
        person(participant);
        if (participant.isLocal) this.permissions(before);
      })
      .on(RoomEvent.AudioPlaybackStatusChanged, () => this.playback())
      .on(RoomEvent.MediaDevicesError, (error, kind) => this.complain(error, kind === "videoinput" ? "camera" : "microphone"))
      .on(RoomEvent.Reconnecting, () => this.lost())
      .on(RoomEvent.SignalReconnecting, () => this.lost())
      .on(RoomEvent.Reconnected, () => {
        document.body.dataset["state"] = "joined";
        this.banner.show("reconnected", { tone: "good", seconds: 4 });
        this.everyone();
        this.playback();
        this.hand.again().catch(() => undefined);
      })
      .on(RoomEvent.Disconnected, (reason) => this.ended(reason));
    room.engine.on("remoteMute", (sid, muted) => {
      const source = room.localParticipant.trackPublications.get(sid)?.source;
      const word = source === undefined ? undefined : STOPPED[source];
      if (muted && word !== undefined) this.banner.show(word, { seconds: 12 });
    });
    this.playback();
  }

  private lost(): void {
    document.body.dataset["state"] = "reconnecting";
    this.banner.show("reconnecting", { tone: "busy" });
  }

  private refresh(participant: Participant): void {
    this.stage.refresh(participant);
    this.people.refresh(participant);
    if (participant.isLocal) this.controls.refresh();
  }

  private remove(participant: Participant): void {
    this.stage.remove(participant);
    this.people.remove(participant);
  }

  private everyone(): void {
    for (const participant of [this.room.localParticipant, ...this.room.remoteParticipants.values()]) this.refresh(participant);
  }

  private refreshPeople(): void {
    for (const participant of this.room.remoteParticipants.values()) this.people.refresh(participant);
  }

  private sound(track: RemoteTrack): void {
    if (track.kind !== Track.Kind.Audio) return;
    this.sounds?.append(track.attach());
  }

  private playback(): void {
    if (this.room.canPlaybackAudio) {
      this.banner.clear("soundBlocked");
      return;
    }
    this.banner.show("soundBlocked", { button: { word: "soundOn", press: () => void this.room.startAudio() } });
  }

  private permissions(before?: Participant["permissions"]): void {
    this.controls.refresh();
    const now = this.room.localParticipant.permissions as unknown as Permission | undefined;
    this.chat.allow(may(now, "data"));
    if (now === undefined) return;
    const { given, taken } = difference(before as unknown as Permission | undefined, now);
    const list = (rights: readonly Right[]): string => rights.map((right) => say(TO_DO[right])).join(", ");
    if (taken.length > 0) this.banner.show(() => say("rightTaken", { what: list(taken) }), { seconds: 12 });
    else if (given.length > 0) this.banner.show(() => say("rightGiven", { what: list(given) }), { tone: "good", seconds: 12 });
  }

  private show(panel: Panel | null): void {
    const before: Panel | null = this.chat.open ? "chat" : this.people.open ? "people" : null;
    this.element.dataset["panel"] = panel ?? "none";
    this.controls.chatOpen(panel === "chat");
    this.peopleButton.open(panel === "people");
    this.chat.show(panel === "chat");
    this.people.show(panel === "people");
    this.cover();
    if (panel !== null) return;
    if (before === "chat") this.controls.focus("chat");
    if (before === "people") this.peopleButton.element.focus();
  }

  /** On a phone a panel covers the call: what cannot be seen must not take the focus. */
  private cover(): void {
    const covers = this.narrow.matches && (this.chat.open || this.people.open);
    for (const part of [this.topline, this.stage.element, this.controls.element]) part.inert = covers;
  }

  /** Pictures of the others are received or not; one's own camera stops, and may be started again. */
  private listenOnly(on: boolean): void {
    keepAudioOnly(on);
    this.settings.audioOnly = on;
    this.element.dataset["audioOnly"] = String(on);
    this.stage.showPictures(!on);
    if (on && this.room.localParticipant.isCameraEnabled) void this.toggle("camera");
    this.network();
  }

  /** One line about what one's own link carries, where there is something to say. */
  private network(): void {
    const me = this.room.localParticipant;
    let word: Word | null = null;
    if (audioOnly()) word = "audioOnlyNow";
    else if (weak(me.connectionQuality)) word = ownLinkWord(me);
    if (word === null) return this.notice.clear();
    if (this.notice.shows(word)) return; // said once, not at every measurement
    const on = word !== "audioOnlyNow";
    this.notice.show(word, { button: { word: on ? "audioOnly" : "picturesAgain", press: () => this.listenOnly(on) } });
  }

  private plugged({ came, went }: Parameters<Plugged>[0]): void {
    const device = came[0] ?? went[0];
    if (device === undefined || device.label === "") return;
    this.banner.show(came.length > 0 ? "devicePlugged" : "deviceUnplugged", {
      values: { name: device.label },
      seconds: 12,
      button: { word: "chooseDevices", press: () => this.settings.open() },
    });
  }

  private acts(): Acts {
    return {
      pin: (participant) => this.stage.togglePin(participant, "camera"),
      isPinned: (participant) => this.stage.isPinned(participant, "camera"),
      mute: (participant, sid) => void this.moderate(participant, this.moderation.mute(participant, sid)),
      lowerHand: (participant) => void this.moderate(participant, this.moderation.lowerHand(participant)),
      allow: (participant, permission, right, given) =>
        this.moderate(participant, this.moderation.allow(participant, permission, right, given)),
      remove: (participant) => {
        const name = participant.name || participant.identity;
        this.confirmation.ask(
          () => say("removeQuestion", { name }),
          "removeMeans",
          "removeYes",
          () => void this.moderate(participant, this.moderation.remove(participant)),
        );
      },
    };
  }

  private async moderate<Answer>(participant: Participant, asked: Promise<Answer>): Promise<Answer | undefined> {
    try {
      return await asked;
    } catch (error) {
      this.banner.fault(error instanceof Refused ? error.fault : "broken");
      return undefined;
    } finally {
      this.people.refresh(participant);
    }
  }

  private async toggleHand(): Promise<void> {
    this.controls.busy("hand", true);
    try {
      await this.hand.toggle();
    } catch {
      this.banner.fault("broken");
    } finally {
      this.controls.busy("hand", false);
    }
  }

  private async toggle(source: Source): Promise<void> {
    if (this.room.state !== ConnectionState.Connected) return;
    const me = this.room.localParticipant;
    this.controls.busy(source, true);
    try {
      if (source === "microphone") await me.setMicrophoneEnabled(!me.isMicrophoneEnabled);
      else if (source === "camera") await me.setCameraEnabled(!me.isCameraEnabled);
      else await me.setScreenShareEnabled(!me.isScreenShareEnabled, { audio: true, contentHint: "detail" });
    } catch (error) {
      this.complain(error, source);
    } finally {
      this.controls.busy(source, false);
    }
  }

  private complain(error: unknown, source: Source | "speaker"): void {
    const fault = publishFault(error, source);
    if (fault !== null) this.banner.fault(fault);
    this.controls.refresh();
  }
}
