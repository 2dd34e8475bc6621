/** The network check: what its findings mean, and which candidates of an answer are tried. */

import { expect, test } from "vitest";
import { only, verdict, type Carried } from "../src/netcheck";

const needs = {
  voice: { bits_per_second: 40_000, loss: 0.15, round_trip: 1 },
  picture: { bits_per_second: 200_000, loss: 0.08, round_trip: 0.6 },
};
const good: Carried = { roundTrip: 0.05, lossUp: 0, lossDown: 0, up: 1_000_000, down: 1_000_000 };
const of = (worse: Partial<Carried>): string =>
  verdict({ ways: { udp: 0.05, tcp: "absent", tls: "absent" }, carried: { ...good, ...worse } }, needs);

test("what will work is decided by the worse direction", () => {
  expect(of({})).toBe("picture");
  for (const one of [{ up: 100_000 }, { down: 100_000 }, { lossUp: 0.1 }, { lossDown: 0.1 }, { roundTrip: 0.8 }]) {
    expect(of(one), JSON.stringify(one)).toBe("voice");
  }
  for (const one of [{ up: 10_000 }, { down: 10_000 }, { lossUp: 0.2 }, { lossDown: 0.2 }, { roundTrip: 2 }]) {
    expect(of(one), JSON.stringify(one)).toBe("weak");
  }
});

test("without a way through nothing works", () => {
  expect(verdict({ ways: { udp: "blocked", tcp: "absent", tls: "blocked" }, carried: null }, needs)).toBe("blocked");
});

test("one transport's candidates are left and nothing else is touched", () => {
  const answer = [
    "v=0",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host",
    "a=candidate:2 1 TCP 1518280447 192.0.2.1 443 typ host tcptype passive",
    "a=mid:0",
    "",
  ];
  expect(only("udp", answer.join("\r\n"))).toBe(answer.filter((line) => !line.includes("TCP 1518")).join("\r\n"));
  expect(only("tcp", answer.join("\r\n"))).toBe(answer.filter((line) => !line.includes(" udp ")).join("\r\n"));
});
