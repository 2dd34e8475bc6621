/**
 * Where the page begins, and its whole path: browser → link → device check → call → ending, and
 * from the ending back to the device check. Each view is one module; this file only leads on.
 */

import { DisconnectReason, setLogLevel, type Room } from "livekit-client";
import { Call } from "./call";
import { present } from "./element";
import { ending } from "./ending";
import { endFault, joinFault } from "./faults";
import { startLanguage } from "./language";
import { forgetToken, read, takeToken, tokenOf, type Invitation } from "./link";
import { Lobby, type Ready } from "./lobby";
import { newRoom, noSocketFault, serverUrl } from "./room";
import { missing } from "./support";
import type { Fault } from "./words";

/** After these a new link is needed: the kept token would only fail again. */
const FINAL: readonly Fault[] = ["expired", "refused", "badLink"];

function start(): void {
  setLogLevel("warn");
  startLanguage();
  // A new link pasted into this tab changes only the fragment, and loads nothing by itself.
  window.addEventListener("hashchange", () => {
    if (tokenOf(location.hash) === null) return;
    takeToken();
    location.reload();
  });
  const token = takeToken();
  const lacking = missing({
    isSecureContext: window.isSecureContext,
    RTCPeerConnection: window.RTCPeerConnection,
    mediaDevices: navigator.mediaDevices,
  });
  if (lacking !== null) return present("fault", ending(lacking, null));
  if (token === null) return present("fault", ending("noLink", null));
  const invitation = read(token);
  if (invitation === null) {
    forgetToken();
    return present("fault", ending("badLink", null));
  }
  check(invitation);
}

function check(invitation: Invitation): void {
  const lobby = new Lobby(invitation, (ready) => void join(invitation, lobby, ready));
  present("lobby", lobby.element);
}

async function join(invitation: Invitation, lobby: Lobby, ready: Ready): Promise<void> {
  document.body.dataset["state"] = "joining";
  const room = newRoom();
  try {
    await room.connect(serverUrl(), invitation.token);
  } catch (error) {
    let fault = joinFault(error);
    if (fault === "unreachable") fault = await noSocketFault(invitation.token);
    if (FINAL.includes(fault)) {
      forgetToken();
      lobby.close(false);
      return present("fault", ending(fault, null));
    }
    document.body.dataset["state"] = "lobby";
    return lobby.fail(fault);
  }
  lobby.close(true);
  enter(invitation, room, ready);
}

function enter(invitation: Invitation, room: Room, ready: Ready): void {
  const call = new Call(room, invitation.token, (reason) => {
    call.close();
    const fault = endFault(reason);
    const removed = reason === DisconnectReason.PARTICIPANT_REMOVED; // the server lets nobody back in with the same token
    if (removed) forgetToken();
    present("ended", ending(fault, removed ? null : () => check(invitation)));
  });
  present("joined", call.element);
  void call.bring([ready.microphone, ready.camera]);
  if (ready.name !== invitation.name) {
    room.localParticipant.setName(ready.name).catch(() => {
      // The server keeps the name of the token; everyone then sees that one.
    });
  }
}

start();
