/**
 * Cameras, microphones and loudspeakers: open them, list them, remember the choice. The tracks
 * opened for the device check are the ones that are published later, so that nobody is asked twice.
 */

import { createLocalTracks, LocalAudioTrack, LocalVideoTrack, VideoPresets } from "livekit-client";
import { keep, kept } from "./choice";
import { deviceFault } from "./faults";
import type { Fault } from "./words";

export type DeviceKind = "videoinput" | "audioinput" | "audiooutput";

export interface Opened {
  camera: LocalVideoTrack | null;
  microphone: LocalAudioTrack | null;
  fault: Fault | null;
}

export interface Wanted {
  camera: boolean;
  microphone: boolean;
}

/** Opens what is wanted with one question to the person; what fails is left out and named. */
export async function open(wanted: Wanted): Promise<Opened> {
  if (!wanted.camera && !wanted.microphone) return { camera: null, microphone: null, fault: null };
  try {
    return { ...(await capture(wanted)), fault: null };
  } catch (error) {
    const fault = deviceFault(error, wanted);
    // One missing device fails the whole question: ask for each alone. A refusal is not repeated,
    // but a person may have refused only one of the two.
    if (!wanted.camera || !wanted.microphone) return { camera: null, microphone: null, fault };
    const microphone = await open({ camera: false, microphone: true });
    const camera = await open({ camera: true, microphone: false });
    return {
      camera: camera.camera,
      microphone: microphone.microphone,
      fault: fault === "denied" || (camera.fault && microphone.fault) ? fault : (camera.fault ?? microphone.fault),
    };
  }
}

async function capture(wanted: Wanted): Promise<Pick<Opened, "camera" | "microphone">> {
  const tracks = await createLocalTracks({
    video: wanted.camera && { resolution: VideoPresets.h720.resolution, ...chosenFor("videoinput") },
    audio: wanted.microphone && chosenFor("audioinput"),
  });
  return {
    camera: tracks.find((track) => track instanceof LocalVideoTrack) ?? null,
    microphone: tracks.find((track) => track instanceof LocalAudioTrack) ?? null,
  };
}

/** The devices of a kind. Their names are hidden until one of them was allowed. */
export async function list(kind: DeviceKind): Promise<MediaDeviceInfo[]> {
  const all = await navigator.mediaDevices.enumerateDevices();
  return all.filter((device) => device.kind === kind && device.deviceId !== "");
}

export function chosen(kind: DeviceKind): string | null {
  return kept(kind);
}

export function choose(kind: DeviceKind, id: string): void {
  keep(kind, id);
}

export function chosenFor(kind: DeviceKind): { deviceId: string } | Record<never, never> {
  const id = chosen(kind);
  return id === null ? {} : { deviceId: id };
}
