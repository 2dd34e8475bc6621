/**
 * Who is speaking: for the outline around a tile, and for the large picture. The server tells it
 * (`speakers_changed`); until it has, the level that the browser's own receiver reports is asked a few
 * times a second, which costs no decoding and no audio graph.
 */

import { RemoteAudioTrack, RoomEvent, Track, type Participant, type Room } from "livekit-client";

const EVERY_MS = 250;
const HOLD_MS = 700; // an outline that flickers between words disturbs
const SPEECH = 0.02; // linear, about -34 dB: above the noise of a quiet room

export class Speaking {
  private readonly timer: number;
  private readonly heardAt = new Map<Participant, number>();

  constructor(
    private readonly room: Room,
    private readonly changed: (speakers: readonly Participant[]) => void,
  ) {
    this.timer = window.setInterval(() => this.look(performance.now()), EVERY_MS);
    room.on(RoomEvent.ActiveSpeakersChanged, (speakers) => {
      window.clearInterval(this.timer);
      changed(speakers);
    });
  }

  close(): void {
    window.clearInterval(this.timer);
  }

  private look(now: number): void {
    for (const participant of this.room.remoteParticipants.values()) {
      if (level(participant) > SPEECH) this.heardAt.set(participant, now);
    }
    for (const [participant, at] of this.heardAt) if (now - at > HOLD_MS) this.heardAt.delete(participant);
    this.changed([...this.heardAt.keys()]);
  }
}

function level(participant: Participant): number {
  const publication = participant.getTrackPublication(Track.Source.Microphone);
  const track = publication?.track;
  if (publication?.isMuted !== false || !(track instanceof RemoteAudioTrack)) return 0;
  return Math.max(0, ...(track.receiver?.getSynchronizationSources() ?? []).map((source) => source.audioLevel ?? 0));
}
