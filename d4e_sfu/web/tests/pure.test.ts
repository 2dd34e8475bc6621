/** The parts of the page that need no browser. */

import { ConnectionError, ConnectionQuality, DisconnectReason, PublishTrackError, type Participant, type Room } from "livekit-client";
import { describe, expect, test } from "vitest";
import { answerFault, deviceFault, endFault, joinFault, publishFault } from "../src/faults";
import { fill, preferred } from "../src/language";
import { layout } from "../src/layout";
import { read, tokenOf } from "../src/link";
import { decibels, segments } from "../src/meter";
import { difference } from "../src/plugged";
import { qualityWord, readBlame, weak, type Cause, type Leg } from "../src/quality";
import { serverUrl } from "../src/room";
import { readReasons, reasonWord, STREAMS_TOPIC, takeReasons } from "../src/streams";
import { missing } from "../src/support";
import { initials } from "../src/tile";

const token = (claims: object): string =>
  ["{}", JSON.stringify(claims)].map((part) => Buffer.from(part).toString("base64url")).join(".") + ".unchecked";

describe("the join link", () => {
  test("carries the token, with or without the room", () => {
    expect(tokenOf("#room=ward%207&token=a.b.c")).toBe("a.b.c");
    expect(tokenOf("#token=a.b.c")).toBe("a.b.c");
    expect(tokenOf("")).toBeNull();
    expect(tokenOf("#token=")).toBeNull();
  });

  test("is read with its Vietnamese name, role and rights", () => {
    const claims = { sub: "bn-12", name: "Nguyễn Thị Đào", d4e: { role: "patient" }, video: { room: "khám 3", canPublish: true } };
    expect(read(token(claims))).toMatchObject({
      room: "khám 3",
      identity: "bn-12",
      name: "Nguyễn Thị Đào",
      role: "patient",
      mayPublish: true,
      mayRename: false,
    });
  });

  test("shows the identity where the token has no name, and takes an absent right as given", () => {
    expect(read(token({ sub: "x", video: { room: "r" } }))).toMatchObject({ name: "x", role: "", mayPublish: true });
    expect(read(token({ sub: "x", video: { canPublish: false } }))).toMatchObject({ mayPublish: false });
  });

  test("that is no token, or has parts of the wrong type, is not a crash", () => {
    expect(read("hello")).toBeNull();
    expect(read("a.b.c")).toBeNull();
    expect(read(token({ sub: 7, name: [], video: "no", d4e: null }))).toMatchObject({ room: "", identity: "", role: "" });
  });
});

describe("a failed join is told", () => {
  test.each([
    [ConnectionError.notAllowed("the token has expired", 401), "expired"],
    [ConnectionError.notAllowed("the token is not yet valid", 401), "early"],
    [ConnectionError.notAllowed("the token is not accepted", 401), "refused"],
    [ConnectionError.notAllowed("requested room does not exist", 404), "noRoom"],
    [ConnectionError.serverUnreachable("Failed to fetch"), "unreachable"],
    [ConnectionError.timeout("room connection has timed out (signal)"), "unreachable"],
    [ConnectionError.websocket("Encountered websocket error during connection establishment"), "unreachable"],
    [ConnectionError.internal("could not establish pc connection"), "noMedia"],
    [ConnectionError.leaveRequest("leave", DisconnectReason.PARTICIPANT_REMOVED), "removed"],
    [new TypeError("a defect of ours"), "broken"],
  ])("%s → %s", (error, fault) => expect(joinFault(error)).toBe(fault));

  test.each([
    [429, "Too many requests. Please try again in a moment.", "hurried"],
    [503, "The room is full.", "busy"],
    [503, "The server is full.", "busy"],
    [503, "The server is restarting. Please try again in a moment.", "stopped"],
    [503, "This room has failed too often. Please try again in a minute.", "broken"],
    [500, "Something went wrong on the server. Please try again.", "broken"],
    [200, "success", "unreachable"],
  ])("by what the server answers: %s %s → %s", (status, said, fault) => expect(answerFault(status, said)).toBe(fault));
});

test("every reason of the protocol for an ending has a sentence", () => {
  for (const reason of [undefined, ...Object.values(DisconnectReason)]) {
    if (typeof reason !== "string") expect(endFault(reason)).toMatch(/^[a-z]/);
  }
  expect(endFault(DisconnectReason.CLIENT_INITIATED)).toBe("left");
  expect(endFault(DisconnectReason.DUPLICATE_IDENTITY)).toBe("replaced");
});

test("a device that does not open is named by what was asked", () => {
  const error = (name: string): Error => Object.assign(new Error(), { name });
  const both = { camera: true, microphone: true };
  expect(deviceFault(error("NotAllowedError"), both)).toBe("denied");
  expect(deviceFault(error("NotFoundError"), both)).toBe("noDevices");
  expect(deviceFault(error("NotFoundError"), { camera: true, microphone: false })).toBe("noCamera");
  expect(deviceFault(error("NotFoundError"), { camera: false, microphone: true })).toBe("noMicrophone");
  expect(deviceFault(error("NotReadableError"), both)).toBe("inUse");
  expect(deviceFault("?", both)).toBe("deviceBroken");
});

test("closing the browser's screen chooser is not an error", () => {
  const refusal = Object.assign(new Error(), { name: "NotAllowedError" });
  expect(publishFault(refusal, "screen")).toBeNull();
  expect(publishFault(refusal, "camera")).toBe("denied");
  expect(publishFault(new PublishTrackError("insufficient permissions", 403), "screen")).toBe("notPermitted");
});

test("an insecure page is told apart from an old browser", () => {
  const good = { isSecureContext: true, RTCPeerConnection: class {}, mediaDevices: { getUserMedia: () => 0 } };
  expect(missing(good)).toBeNull();
  expect(missing({ ...good, isSecureContext: false, mediaDevices: undefined })).toBe("insecure");
  expect(missing({ ...good, RTCPeerConnection: undefined })).toBe("unsupported");
  expect(missing({ ...good, mediaDevices: undefined })).toBe("unsupported");
});

test("the language is the kept one, else the browser's, else Vietnamese", () => {
  expect(preferred("en", ["vi-VN"])).toBe("en");
  expect(preferred(null, ["fr-FR", "en-US", "vi"])).toBe("en");
  expect(preferred(null, ["vi-VN", "en"])).toBe("vi");
  expect(preferred(null, ["fr-FR"])).toBe("vi");
});

test("a value that looks like a mark is not filled in again", () => {
  expect(fill("{name}: {text}", { name: "{text}", text: "hello" })).toBe("{text}: hello");
  expect(fill("{name}", {})).toBe("{name}");
});

describe("the layout", () => {
  const gap = 8;
  test.each([
    [1, 1256, 600, 1],
    [2, 1256, 600, 2],
    [3, 1256, 640, 2],
    [4, 1256, 640, 2],
    [2, 374, 620, 1],
    [4, 374, 620, 2],
  ])("%i people in %i × %i stand in %i columns", (count, width, height, columns) => {
    expect(layout(count, { width, height }, gap).columns).toBe(columns);
  });

  test("always fits, or is wide enough to read and scrolls", () => {
    for (let count = 1; count <= 60; count++) {
      for (const [width, height] of [[374, 620], [1256, 640], [640, 200], [320, 480]] as const) {
        const made = layout(count, { width, height }, gap);
        expect(made.columns * made.width + (made.columns - 1) * gap).toBeLessThanOrEqual(width);
        const rows = Math.ceil(count / made.columns);
        const tall = rows * made.height + (rows - 1) * gap;
        expect(tall <= height || made.width >= 132, `${count} in ${width}×${height}`).toBe(true);
        expect(made.width / made.height).toBeLessThan(1.8);
      }
    }
  });
});

test("the meter shows silence as nothing and full scale as everything", () => {
  expect(segments(decibels(new Float32Array(64)))).toBe(0);
  expect(segments(decibels(new Float32Array(64).fill(1)))).toBe(16);
  expect(decibels(new Float32Array(64).fill(0.1))).toBeCloseTo(-20, 3);
});

test("the server is where the page came from, by the same security", () => {
  const at = (href: string): string => serverUrl({ href, protocol: new URL(href).protocol } as Location);
  expect(at("https://kham.example.vn/")).toBe("wss://kham.example.vn");
  expect(at("http://localhost:7880/?a=1#b")).toBe("ws://localhost:7880");
  expect(at("https://example.vn/call/index.html")).toBe("wss://example.vn/call");
});

test("initials are the first and the last word", () => {
  expect(initials("Nguyễn Thị Đào")).toBe("NĐ");
  expect(initials("  điều-dưỡng_01 ")).toBe("Đ0");
  expect(initials("")).toBe("");
});

test("a device counts once, however many names the browser has for it", () => {
  const device = (kind: string, deviceId: string): MediaDeviceInfo => ({ kind, deviceId }) as MediaDeviceInfo;
  const before = [device("audioinput", "default"), device("audioinput", "a")];
  const after = [...before, device("audioinput", "communications"), device("audioinput", "b"), device("audiooutput", "")];
  expect(difference(before, after)).toEqual({ came: [device("audioinput", "b")], went: [] });
  expect(difference(after, before)).toEqual({ came: [], went: [device("audioinput", "b")] });
});

test("every connection quality but the unknown has a word, and a weak one tells its leg and cause", () => {
  for (const quality of Object.values(ConnectionQuality)) {
    expect(qualityWord(quality, { leg: "", cause: "" }) === null, quality).toBe(quality === ConnectionQuality.Unknown);
  }
  expect([ConnectionQuality.Poor, ConnectionQuality.Lost].every(weak)).toBe(true);
  const poor = (leg: Leg, cause: Cause) => qualityWord(ConnectionQuality.Poor, { leg, cause });
  const legs = ["up", "down", "both", ""] as const;
  expect(legs.map((leg) => poor(leg, "loss"))).toEqual(["networkWeakUp", "networkWeakDown", "networkWeak", "networkWeak"]);
  expect(legs.map((leg) => poor(leg, "queue"))).toEqual(["networkFullUp", "networkFullDown", "networkWeak", "networkWeak"]);
  expect([poor("up", "sender"), poor("", "server")]).toEqual(["deviceSilent", "serverBusy"]);
});

test("what is to blame is read from the server's packet, and nothing from another", () => {
  const packet = (text: string): Uint8Array => new TextEncoder().encode(text);
  const updates = [
    { participant: "PA_1", quality: "poor", leg: "up", cause: "queue" },
    { participant: 2, leg: "up", cause: "loss" },
    { participant: "PA_3", leg: "x", cause: "loss" },
    { participant: "PA_4", leg: "up", cause: "bad luck" },
    { participant: "PA_5", leg: "down" },
  ];
  expect(readBlame(packet(JSON.stringify({ updates })))).toEqual([
    ["PA_1", { leg: "up", cause: "queue" }],
    ["PA_5", { leg: "down", cause: "" }],
  ]);
  for (const text of ["", "{", "[]", "7", '{"updates":[]}']) expect(readBlame(packet(text)), text).toEqual([]);
});

describe("why a picture or a voice is not sent", () => {
  const packet = (told: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(told));
  const update = (track: string, reason: string): Uint8Array => packet({ updates: [{ track, reason }] });

  test("is put into words, for the publication it is about", () => {
    const participant = { trackPublications: new Map([["TR_a", {}]]) } as unknown as Participant;
    const room = { remoteParticipants: new Map([["an", participant]]) } as unknown as Room;
    expect(takeReasons(room, update("TR_a", "not_recent"), undefined, STREAMS_TOPIC)).toEqual([participant]);
    expect(reasonWord(participant, "TR_a")).toBe("pictureNotRecent");
    expect(reasonWord(participant, "TR_b")).toBeNull();
    takeReasons(room, update("TR_a", "link_paused"), undefined, STREAMS_TOPIC);
    expect(reasonWord(participant, "TR_a")).toBe("videoPaused");
    takeReasons(room, update("TR_a", "link_voice_paused"), undefined, STREAMS_TOPIC);
    expect(reasonWord(participant, "TR_a")).toBe("voicePaused");
    takeReasons(room, update("TR_a", ""), undefined, STREAMS_TOPIC);
    expect(reasonWord(participant, "TR_a")).toBeNull();
  });

  test("is the server's word alone", () => {
    const participant = { trackPublications: new Map([["TR_a", {}]]) } as unknown as Participant;
    const room = { remoteParticipants: new Map([["an", participant]]) } as unknown as Room;
    expect(takeReasons(room, update("TR_a", "not_recent"), participant, STREAMS_TOPIC)).toEqual([]);
    expect(takeReasons(room, update("TR_a", "not_recent"), undefined, "chat")).toEqual([]);
    expect(reasonWord(participant, "TR_a")).toBeNull();
  });

  test("is left aside where it is not understood", () => {
    expect(readReasons(update("TR_a", "toString"))).toEqual([]);
    expect(readReasons(packet({ updates: [{ track: 7, reason: "not_recent" }] }))).toEqual([]);
    expect(readReasons(packet({ updates: 7 }))).toEqual([]);
    expect(readReasons(packet(null))).toEqual([]);
    expect(readReasons(new Uint8Array([0xff]))).toEqual([]);
  });
});
