"""Takes the README's picture: three people in a call, with painted cameras: `python -m tests.lab.picture FILE`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.lab.browser import Person, chromium, until
from tests.lab.server import running

# Instead of Chromium's green test card: a wall, a window and somebody in front of it.
CAMERA = """
(() => {
  const [wall, coat, hair] = %s;
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = new MediaStream();
    if (wanted.audio) stream.addTrack(new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0]);
    if (wanted.video) {
      const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
      const draw = canvas.getContext("2d");
      let n = 0;
      const round = (x, y, rx, ry, colour) => {
        draw.fillStyle = colour; draw.beginPath(); draw.ellipse(x, y, rx, ry, 0, 0, 7); draw.fill();
      };
      setInterval(() => {
        const sway = Math.sin(n++ / 25) * 6;
        const light = draw.createLinearGradient(0, 0, 1280, 720);
        light.addColorStop(0, wall); light.addColorStop(1, "#f4efe6");
        draw.fillStyle = light; draw.fillRect(0, 0, 1280, 720);
        draw.fillStyle = "#dff1fb"; draw.fillRect(930, 70, 240, 300);
        draw.strokeStyle = "#ffffff"; draw.lineWidth = 14; draw.strokeRect(930, 70, 240, 300);
        round(640 + sway, 760, 330, 270, coat);
        draw.fillStyle = "#d9a679"; draw.fillRect(590 + sway, 440, 100, 90);
        round(640 + sway, 310, 165, 190, hair);
        round(640 + sway, 345, 132, 160, "#e3b48a");
        round(640 + sway, 205, 140, 75, hair);
        for (const side of [-52, 52]) round(640 + sway + side, 335, 12, n %% 90 < 5 ? 2 : 13, "#3b2a20");
        draw.strokeStyle = "#9c5a44"; draw.lineWidth = 7; draw.lineCap = "round";
        draw.beginPath(); draw.arc(640 + sway, 400, 46, 0.35, Math.PI - 0.35); draw.stroke();
      }, 1000 / 25);
      stream.addTrack(canvas.captureStream(25).getVideoTracks()[0]);
    }
    return stream;
  };
})();
"""
PEOPLE = [
    ("bs-lan", "BS. Lan", "doctor", ["#b9d7d3", "#fdfdfd", "#2b211c"]),
    ("tram-nam-pung", "Trạm y tế Nậm Pung", "health-worker", ["#d8c9ae", "#3d7a8c", "#1f1a18"]),
    ("ba-mai", "Bà Mai", "patient", ["#e3d3c3", "#9a5b6e", "#8d8a88"]),
]


async def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as server, chromium() as browser:
            people = []
            for identity, name, role, colours in PEOPLE:
                person = await Person.arrive(
                    browser, server, "kham-tu-xa", identity, role=role, name=name, script=CAMERA % colours
                )
                await person.join()
                people.append(person)
            doctor, station, patient = people
            for person in people:
                await person.press("chat")
            await station.say("Huyết áp của bà hôm nay là 130/85.")
            await doctor.say("Cảm ơn chị. Bà Mai ơi, bà thấy trong người thế nào?")
            await patient.say("Tôi đỡ nhiều rồi, bác sĩ ạ.")
            await until("all three messages", doctor.messages, so=lambda texts: len(texts) == 3)
            await patient.press("hand")
            for other in (station, patient):
                await until(
                    "the doctor sees everybody in full size",
                    lambda other=other: doctor.tile(other.identity),  # type: ignore[misc]
                    so=lambda tile: tile is not None and int(tile.get("decodedWidth", "0")) >= 640,
                    seconds=90,
                )
            await asyncio.sleep(2)
            await doctor.page.screenshot(path=path)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
