/** The network check before a call: a button, how far it is, what will work in one sentence, and the figures. */

import { make } from "./element";
import { answerFault } from "./faults";
import { language, say, speak, tell } from "./language";
import { NetworkCheck, WAYS, type Findings, type Passage, type Verdict, type Way } from "./netcheck";
import type { Word } from "./words";

const SENTENCES: Record<Exclude<Verdict, "blocked">, Word> = {
  weak: "networkCarriesNothing",
  voice: "networkCarriesVoice",
  picture: "networkCarriesPicture",
};
const NAMES: Record<Way, string> = { udp: "UDP", tcp: "TCP", tls: "TLS (TURN)" };

export class NetworkView {
  readonly element: HTMLElement;
  private check: NetworkCheck | null = null;
  private readonly button = make("button", { class: "quiet", say: "networkCheck", attributes: { type: "button", "data-button": "network" } });
  private readonly bar = make("progress", { label: "networkChecking", attributes: { max: "1" } });
  private readonly said = make("div", { attributes: { role: "status" } });

  constructor(private readonly token: string) {
    this.bar.hidden = true;
    this.button.addEventListener("click", () => void this.run());
    this.element = make("div", { class: "network" }, this.button, this.bar, this.said);
  }

  close(): void {
    this.check?.close();
  }

  private async run(): Promise<void> {
    this.button.disabled = true;
    this.bar.hidden = false;
    this.bar.value = 0;
    delete this.element.dataset["verdict"];
    this.said.replaceChildren(make("p", { say: "networkChecking" }));
    try {
      this.check = new NetworkCheck(new URL(".", location.href), this.token, (share) => (this.bar.value = share));
      const { findings, verdict } = await this.check.run();
      this.show(findings, verdict);
    } catch (error) {
      await this.fail(error);
    }
    this.check = null;
    this.bar.hidden = true;
    this.button.disabled = false;
    speak(this.button, "networkCheckAgain");
  }

  private show(findings: Findings, verdict: Verdict): void {
    const sentence = make("p", { class: "what" });
    if (verdict === "blocked") speak(sentence, () => `${tell("noMedia").what} ${tell("noMedia").todo}`);
    else speak(sentence, SENTENCES[verdict]);
    const ways = WAYS.filter((way) => findings.ways[way] !== "absent").map((way) => {
      const line = make("li", { attributes: { "data-way": way } });
      speak(line, () => `${NAMES[way]}: ${passage(findings.ways[way])}`);
      return line;
    });
    const { carried } = findings;
    if (carried !== null) {
      const line = make("li", { attributes: { "data-way": "carried" } });
      speak(line, () =>
        say("networkFigures", {
          up: number(carried.up / 1000),
          down: number(carried.down / 1000),
          lost: number(Math.max(carried.lossUp, carried.lossDown) * 100),
          trip: number(carried.roundTrip * 1000),
        }),
      );
      ways.push(line);
    }
    this.element.dataset["verdict"] = verdict;
    this.said.replaceChildren(sentence, make("ul", {}, ...ways));
  }

  private async fail(error: unknown): Promise<void> {
    const fault = error instanceof Response ? answerFault(error.status, await error.text().catch(() => "")) : "unreachable";
    const sentence = make("p");
    speak(sentence, () => `${tell(fault).what} ${tell(fault).todo}`);
    this.said.replaceChildren(sentence);
  }
}

function passage(passage: Passage): string {
  return typeof passage === "number" ? say("networkOpen", { trip: number(passage * 1000) }) : say("networkBlocked");
}

function number(value: number): string {
  return new Intl.NumberFormat(language(), { maximumFractionDigits: 0 }).format(value);
}
