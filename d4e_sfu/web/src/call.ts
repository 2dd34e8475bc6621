/**
 * The call: tiles, controls, chat, and words for every change of the connection. It follows the
 * events of the client library's Room and keeps no state of its own that the Room already has.
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
import { Controls } from "./controls";
import { DeviceDialog } from "./dialog";
import { make } from "./element";
import { publishFault } from "./faults";
import { Grid } from "./grid";
import { say } from "./language";
import { forgetToken } from "./link";
import { languageSwitch } from "./masthead";
import { Speaking } from "./speaking";
import { Tile, type TileSource } from "./tile";
import { keepAwake } from "./wakelock";

type Source = "microphone" | "camera" | "screen";

const TILES: readonly (readonly [TileSource, Track.Source])[] = [
  ["camera", Track.Source.Camera],
  ["screen", Track.Source.ScreenShare],
];

export class Call {
  readonly element: HTMLElement;
  private readonly stage: HTMLElement;
  private readonly people = new Grid("people", "people");
  private readonly screens = new Grid("screens", "shared");
  private readonly tiles = new Set<Tile>();
  private readonly banner = new Banner();
  private readonly chat: Chat;
  private readonly controls: Controls;
  private readonly devices: DeviceDialog;
  private readonly speaking: Speaking;
  private readonly alone = make("p", { class: "alone", say: "alone" });
  private readonly sounds = document.getElementById("sounds");
  private readonly stop = new AbortController();

  constructor(
    private readonly room: Room,
    private readonly ended: (reason: DisconnectReason | undefined) => void,
  ) {
    this.devices = new DeviceDialog(room, (error, source) => this.complain(error, source));
    this.controls = new Controls(room, {
      microphone: () => void this.toggle("microphone"),
      camera: () => void this.toggle("camera"),
      screen: () => void this.toggle("screen"),
      chat: () => this.showChat(!this.chat.open),
      devices: () => this.devices.open(),
      leave: () => {
        // Said by a press and not by the reason of the end: a reload ends the call for that reason too.
        forgetToken();
        void room.disconnect();
      },
    });
    this.chat = new Chat(
      room,
      (count) => this.controls.unread(count),
      () => this.showChat(false),
    );
    this.speaking = new Speaking(room, (participant, speaking) => {
      for (const tile of this.tiles) if (tile.source === "camera" && tile.owns(participant)) tile.speaking = speaking;
    });
    this.stage = make("main", { class: "stage" }, this.screens.element, this.people.element, this.alone);
    const heading = make("h1", { say: "roomNamed", values: { room: room.name }, attributes: { tabindex: "-1" } });
    this.element = make(
      "div",
      { class: "call" },
      make("header", { class: "topline" }, heading, languageSwitch()),
      this.banner.element,
      this.stage,
      this.chat.element,
      this.controls.element,
      this.devices.element,
    );
    this.follow();
    for (const participant of [room.localParticipant, ...room.remoteParticipants.values()]) this.refresh(participant);
    this.permissions();
    keepAwake(this.stop.signal);
  }

  /** Sends what the person brought from the lobby, as far as her role allows. */
  async bring(tracks: readonly (LocalAudioTrack | LocalVideoTrack | null)[]): Promise<void> {
    await Promise.all(
      tracks.map(async (track) => {
        if (track === null) return;
        const source = track.source === Track.Source.Camera ? "camera" : "microphone";
        if (!this.controls.may(source)) {
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
    this.devices.close();
    for (const tile of this.tiles) tile.close();
    this.people.close();
    this.screens.close();
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
      .on(RoomEvent.LocalTrackPublished, publication)
      .on(RoomEvent.LocalTrackUnpublished, publication)
      .on(RoomEvent.ParticipantNameChanged, (_, participant) => this.refresh(participant))
      .on(RoomEvent.ParticipantAttributesChanged, (_, participant) => this.refresh(participant))
      .on(RoomEvent.TrackStreamStateChanged, (_, __, participant) => this.refresh(participant))
      .on(RoomEvent.ParticipantPermissionsChanged, (_, participant) => {
        if (participant.isLocal) this.permissions();
      })
      .on(RoomEvent.AudioPlaybackStatusChanged, () => this.playback())
      .on(RoomEvent.MediaDevicesError, (error, kind) => this.complain(error, kind === "videoinput" ? "camera" : "microphone"))
      .on(RoomEvent.Reconnecting, () => this.lost())
      .on(RoomEvent.SignalReconnecting, () => this.lost())
      .on(RoomEvent.Reconnected, () => {
        document.body.dataset["state"] = "joined";
        this.banner.show("reconnected", { tone: "good", seconds: 4 });
        for (const participant of [room.localParticipant, ...room.remoteParticipants.values()]) this.refresh(participant);
        this.playback();
      })
      .on(RoomEvent.Disconnected, (reason) => this.ended(reason));
    this.playback();
  }

  private lost(): void {
    document.body.dataset["state"] = "reconnecting";
    this.banner.show("reconnecting", { tone: "busy" });
  }

  /** Makes the tiles of a participant agree with what he publishes. */
  private refresh(participant: Participant): void {
    for (const [source, published] of TILES) {
      const wanted = source === "camera" || participant.getTrackPublication(published)?.track !== undefined;
      // A participant who rejoined is another object with the same identity.
      let tile = [...this.tiles].find((each) => each.source === source && each.owns(participant));
      if (tile !== undefined && (!wanted || tile.participant !== participant)) {
        this.drop(tile);
        tile = undefined;
      }
      if (!wanted) continue;
      if (tile === undefined) {
        tile = new Tile(participant, source);
        this.tiles.add(tile);
        (source === "screen" ? this.screens : this.people).add(tile.element);
      }
      tile.refresh();
    }
    if (participant.isLocal) this.controls.refresh();
    this.count();
  }

  private remove(participant: Participant): void {
    for (const tile of this.tiles) if (tile.participant === participant) this.drop(tile);
    this.count();
  }

  private drop(tile: Tile): void {
    this.tiles.delete(tile);
    tile.close();
    (tile.source === "screen" ? this.screens : this.people).remove(tile.element);
  }

  private count(): void {
    this.element.dataset["screens"] = String(this.screens.count);
    this.alone.hidden = this.room.remoteParticipants.size > 0;
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

  private permissions(): void {
    this.controls.refresh();
    this.chat.allow(this.room.localParticipant.permissions?.canPublishData ?? true);
  }

  private showChat(open: boolean): void {
    this.chat.show(open);
    this.element.dataset["chat"] = String(open);
    this.controls.chatOpen(open);
    // On a phone the chat covers the call: what cannot be seen must not take the focus.
    const covers = open && window.matchMedia("(max-width: 760px)").matches;
    for (const part of [this.stage, this.controls.element]) part.inert = covers;
    if (!open) this.controls.focus("chat");
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

  private complain(error: unknown, source: Source): void {
    const fault = publishFault(error, source);
    if (fault !== null) this.banner.fault(fault);
    this.controls.refresh();
  }
}
