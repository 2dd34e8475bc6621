/** Devices that come and go during a call: a headset plugged in, a camera pulled out. */

export type Plugged = (change: { came: MediaDeviceInfo[]; went: MediaDeviceInfo[] }) => void;

export function followDevices(changed: Plugged, until: AbortSignal): void {
  let known: MediaDeviceInfo[] | undefined;
  const look = async (): Promise<void> => {
    const now = await navigator.mediaDevices.enumerateDevices();
    if (known !== undefined && !until.aborted) {
      const change = difference(known, now);
      if (change.came.length + change.went.length > 0) changed(change);
    }
    known = now;
  };
  void look();
  navigator.mediaDevices.addEventListener("devicechange", () => void look(), { signal: until });
}

/** By what the browser calls a device: "default" and "communications" are other names for one that is listed as well. */
export function difference(before: readonly MediaDeviceInfo[], after: readonly MediaDeviceInfo[]): ReturnType<typeof both> {
  const real = (each: MediaDeviceInfo): boolean => !["", "default", "communications"].includes(each.deviceId);
  const missing = (from: readonly MediaDeviceInfo[], these: readonly MediaDeviceInfo[]): MediaDeviceInfo[] =>
    these.filter((each) => real(each) && !from.some((other) => other.kind === each.kind && other.deviceId === each.deviceId));
  return both(missing(before, after), missing(after, before));
}

function both(came: MediaDeviceInfo[], went: MediaDeviceInfo[]): { came: MediaDeviceInfo[]; went: MediaDeviceInfo[] } {
  return { came, went };
}
