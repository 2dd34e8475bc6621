/**
 * The network check: which ways to the server are open, and what the best of them carries in both
 * directions. Three connections with a voice each try UDP, TCP and TLS; then a voice and a moving
 * picture go to the server and come back (WHIP and WHEP, docs/whip.md). Nobody else is in that
 * place, and neither microphone nor camera is used: a tone that nobody hears, and noise as a picture.
 */

export const WAYS = ["udp", "tcp", "tls"] as const;
export type Way = (typeof WAYS)[number];

/** The round trip in seconds; or nothing came through; or the server has no such way. */
export type Passage = number | "blocked" | "absent";

/** Seconds, shares of packets, bits per second. A rate is what was carried: there may be more. */
export interface Findings {
  ways: Record<Way, Passage>;
  carried: Carried | null;
}

export interface Carried {
  roundTrip: number;
  lossUp: number;
  lossDown: number;
  up: number;
  down: number;
}

interface Need {
  bits_per_second: number;
  loss: number;
  round_trip: number;
}

export interface Terms {
  seconds: number;
  needs: { voice: Need; picture: Need };
  iceServers: RTCIceServer[];
}

export type Verdict = "blocked" | "weak" | "voice" | "picture";

/** Seconds for one way to connect; a handshake over a satellite takes two. */
const CONNECT = 4;
/** Of the time that is left, the end counts: the browser begins with little and feels its way up. */
const COUNTED = 3;

export function verdict(findings: Findings, needs: Terms["needs"]): Verdict {
  const { carried } = findings;
  if (carried === null) return "blocked";
  const enough = (need: Need): boolean =>
    Math.min(carried.up, carried.down) >= need.bits_per_second &&
    Math.max(carried.lossUp, carried.lossDown) <= need.loss &&
    carried.roundTrip <= need.round_trip;
  if (enough(needs.picture)) return "picture";
  return enough(needs.voice) ? "voice" : "weak";
}

/** The answer with the candidates of one transport alone, so that only this way is tried. */
export function only(transport: "udp" | "tcp", answer: string): string {
  return answer
    .split("\r\n")
    .filter((line) => !line.startsWith("a=candidate:") || line.split(" ")[2]?.toLowerCase() === transport)
    .join("\r\n");
}

export class NetworkCheck {
  private readonly media = new Media();
  private readonly lines: Line[] = [];

  constructor(
    private readonly base: URL,
    private readonly token: string,
    private readonly progress: (share: number) => void,
  ) {}

  /** Throws what `fetch` throws, and a Response that refuses. */
  async run(): Promise<{ findings: Findings; verdict: Verdict }> {
    const terms = (await this.ask("GET", "check").then((answer) => answer.json())) as Terms;
    const begin = performance.now();
    const timer = setInterval(() => this.progress(Math.min(1, (performance.now() - begin) / 1000 / terms.seconds)), 200);
    try {
      const passages = await Promise.all(WAYS.map((way) => this.passage(way, terms)));
      const ways = { udp: passages[0], tcp: passages[1], tls: passages[2] } as Findings["ways"];
      const open = passages.some((passage) => typeof passage === "number");
      const left = terms.seconds - (performance.now() - begin) / 1000;
      const findings = { ways, carried: open ? await this.carry(terms, left) : null };
      return { findings, verdict: verdict(findings, terms.needs) };
    } finally {
      clearInterval(timer);
      this.close();
    }
  }

  close(): void {
    for (const line of this.lines.splice(0)) line.close();
    this.media.close();
  }

  private async passage(way: Way, terms: Terms): Promise<Passage> {
    if (way === "tls" && terms.iceServers.length === 0) return "absent";
    const line = this.line(way === "tls" ? { iceServers: terms.iceServers, iceTransportPolicy: "relay" } : {});
    line.peer.addTransceiver(this.media.voice, { direction: "sendonly" });
    const answer = await line.open(way);
    const sdp = way === "tls" ? answer : only(way, answer);
    if (!sdp.includes("a=candidate:")) return "absent";
    await line.peer.setRemoteDescription({ type: "answer", sdp });
    const passage = (await line.connected(CONNECT)) ? await line.roundTrip() : "blocked";
    line.close();
    return passage;
  }

  /** By whichever way ICE takes, as a call would. */
  private async carry(terms: Terms, seconds: number): Promise<Carried | null> {
    const end = performance.now() + seconds * 1000;
    const send = this.line({ iceServers: terms.iceServers });
    send.peer.addTransceiver(this.media.voice, { direction: "sendonly" });
    send.peer.addTransceiver(this.media.picture(), {
      direction: "sendonly",
      sendEncodings: [
        { rid: "l", scaleResolutionDownBy: 4, maxBitrate: 120_000 },
        { rid: "m", scaleResolutionDownBy: 2, maxBitrate: 400_000 },
        { rid: "h", maxBitrate: 1_200_000 },
      ],
    });
    await send.accept("send");
    const receive = this.line({ iceServers: terms.iceServers });
    receive.peer.addTransceiver("audio", { direction: "recvonly" });
    receive.peer.addTransceiver("video", { direction: "recvonly" });
    await receive.accept("receive");
    const remaining = (): number => (end - performance.now()) / 1000;
    const both = await Promise.all([send.connected(remaining()), receive.connected(remaining())]);
    if (both.includes(false)) return null;
    await pause(Math.max(0, remaining() - COUNTED));
    const [sentBefore, receivedBefore] = [await send.counted(), await receive.counted()];
    const from = performance.now();
    await pause(Math.max(1, remaining()));
    const [sent, received] = [await send.counted(), await receive.counted()];
    const lasted = (performance.now() - from) / 1000;
    const arrived = received.packets - receivedBefore.packets;
    const lost = Math.max(0, received.lost - receivedBefore.lost);
    return {
      roundTrip: await send.roundTrip(),
      lossUp: sent.fractionLost,
      lossDown: arrived + lost === 0 ? 1 : lost / (arrived + lost),
      up: ((sent.bytes - sentBefore.bytes) * 8 * (1 - sent.fractionLost)) / lasted,
      down: ((received.bytes - receivedBefore.bytes) * 8) / lasted,
    };
  }

  private line(configuration: RTCConfiguration): Line {
    const line = new Line(configuration, (method, path, offer) => this.ask(method, path, offer));
    this.lines.push(line);
    return line;
  }

  private async ask(method: string, path: string, offer?: string): Promise<Response> {
    const answer = await fetch(new URL(path, this.base), {
      method,
      headers: { Authorization: `Bearer ${this.token}`, ...(offer === undefined ? {} : { "Content-Type": "application/sdp" }) },
      ...(offer === undefined ? {} : { body: offer }),
    });
    if (!answer.ok) throw answer;
    return answer;
  }
}

interface Counted {
  bytes: number;
  packets: number;
  lost: number;
  fractionLost: number;
}

type Ask = (method: string, path: string, offer?: string) => Promise<Response>;

/** One peer connection to one way's endpoint. */
class Line {
  readonly peer: RTCPeerConnection;
  private place: string | null = null;

  constructor(
    configuration: RTCConfiguration,
    private readonly ask: Ask,
  ) {
    this.peer = new RTCPeerConnection(configuration);
  }

  /** Offers; the answer. */
  async open(endpoint: string): Promise<string> {
    await this.peer.setLocalDescription();
    const answer = await this.ask("POST", `check/${endpoint}`, this.peer.localDescription?.sdp ?? "");
    this.place = answer.headers.get("Location")?.replace(/^\//, "") ?? null;
    return answer.text();
  }

  async accept(endpoint: string): Promise<void> {
    await this.peer.setRemoteDescription({ type: "answer", sdp: await this.open(endpoint) });
  }

  connected(seconds: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), Math.max(0, seconds) * 1000);
      const look = (): void => {
        if (this.peer.connectionState !== "connected" && this.peer.connectionState !== "failed") return;
        clearTimeout(timer);
        resolve(this.peer.connectionState === "connected");
      };
      this.peer.addEventListener("connectionstatechange", look);
      look();
    });
  }

  async roundTrip(): Promise<number> {
    let best = Infinity;
    for (const report of (await this.peer.getStats()).values()) {
      if (report.type !== "candidate-pair" || typeof report.currentRoundTripTime !== "number") continue;
      if (report.nominated === true) return report.currentRoundTripTime;
      best = Math.min(best, report.currentRoundTripTime);
    }
    return best === Infinity ? 0 : best;
  }

  async counted(): Promise<Counted> {
    const counted: Counted = { bytes: 0, packets: 0, lost: 0, fractionLost: 0 };
    for (const report of (await this.peer.getStats()).values()) {
      if (report.type === "outbound-rtp") counted.bytes += report.bytesSent + report.headerBytesSent;
      if (report.type === "inbound-rtp") {
        counted.bytes += report.bytesReceived + report.headerBytesReceived;
        counted.packets += report.packetsReceived;
        counted.lost += report.packetsLost;
      }
      if (report.type === "remote-inbound-rtp") counted.fractionLost = Math.max(counted.fractionLost, report.fractionLost ?? 0);
    }
    return counted;
  }

  close(): void {
    this.peer.close();
    const place = this.place;
    this.place = null;
    // What we do not end, the server does in some seconds.
    if (place !== null) void this.ask("DELETE", place).catch(() => undefined);
  }
}

/** A tone and noise. */
class Media {
  private readonly context = new AudioContext();
  private readonly tone = this.context.createOscillator();
  readonly voice: MediaStreamTrack;
  private drawing = 0;
  private moving: MediaStreamTrack | null = null;

  constructor() {
    const destination = this.context.createMediaStreamDestination();
    this.tone.connect(destination);
    this.tone.start();
    const [voice] = destination.stream.getAudioTracks();
    if (voice === undefined) throw new Error("no sound can be made here");
    this.voice = voice;
  }

  picture(): MediaStreamTrack {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [640, 360];
    const brush = canvas.getContext("2d");
    // Coarse noise: it costs what a moving picture costs, and little to draw.
    this.drawing = window.setInterval(() => {
      for (let block = 0; brush !== null && block < 400; block += 1) {
        brush.fillStyle = `hsl(${Math.random() * 360} 60% ${Math.random() * 100}%)`;
        brush.fillRect(Math.random() * canvas.width, Math.random() * canvas.height, 24, 24);
      }
    }, 50);
    const [track] = canvas.captureStream(20).getVideoTracks();
    if (track === undefined) throw new Error("no picture can be made here");
    this.moving = track;
    return track;
  }

  close(): void {
    clearInterval(this.drawing);
    this.moving?.stop();
    this.voice.stop();
    if (this.context.state !== "closed") void this.context.close();
  }
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
