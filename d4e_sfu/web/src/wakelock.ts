/** Keeps the screen of a phone awake during a call; where that is not possible, nothing happens. */

export function keepAwake(until: AbortSignal): void {
  let lock: WakeLockSentinel | undefined;
  const request = async (): Promise<void> => {
    if (document.visibilityState !== "visible" || until.aborted) return;
    // The browser takes the lock away whenever the page is hidden.
    lock = await navigator.wakeLock?.request("screen").catch(() => undefined);
    if (until.aborted) void lock?.release();
  };
  document.addEventListener("visibilitychange", () => void request(), { signal: until });
  until.addEventListener("abort", () => void lock?.release());
  void request();
}
