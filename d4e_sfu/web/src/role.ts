/** The badge that tells a person's role. Only the server's word counts for rights; this is a label. */

import { make } from "./element";
import { say, speak } from "./language";

const NAMED = ["doctor", "health-worker", "patient", "observer", "moderator"] as const;
const LONGEST = 24; // characters of a role that a site has named itself

export function badge(): HTMLElement {
  return make("span", { class: "badge" });
}

export function showRole(element: HTMLElement, role: string): void {
  const named = NAMED.find((each) => each === role);
  element.hidden = role === "";
  speak(element, () => (named === undefined ? role.slice(0, LONGEST) : say(named)));
}
