/** A choice that this browser remembers; where storage is forbidden it lasts as long as the page. */

export function kept(name: string): string | null {
  try {
    return localStorage.getItem(`d4e-${name}`);
  } catch {
    return null;
  }
}

export function keep(name: string, value: string): void {
  try {
    localStorage.setItem(`d4e-${name}`, value);
  } catch {
    // As above.
  }
}

/** To receive no pictures and send none: for links that carry a voice and little more, or are paid by the megabyte. */
export function audioOnly(): boolean {
  return kept("audio-only") === "true";
}

export function keepAudioOnly(on: boolean): void {
  keep("audio-only", String(on));
}
