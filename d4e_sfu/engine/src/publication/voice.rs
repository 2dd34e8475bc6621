//! How loud a voice was and for how long it spoke (RFC 6464), summed as its packets come and taken a few times a second.
//! It decides nothing: who counts as speaking is Python's.

use std::time::Duration;

use crate::now::Now;
use crate::voices::SPEECH;
use crate::wire::seq::Timestamp;

/// A longer step of the timestamp is a pause of the encoder (RFC 7587 §3.1.3: 400 ms), not the length of a packet.
const LONGEST_MS: u32 = 120;
const USUAL_MS: u32 = 20;

/// Power by −dBov, 1 = full scale.
const POWER: [f32; 128] = {
    let mut power = [1.0; 128];
    let mut level = 1;
    while level < power.len() {
        power[level] = power[level - 1] * 0.794_328_2; // 10^(−1/10)
        level += 1;
    }
    power
};

#[derive(Debug, Default)]
pub struct Voice {
    /// Power times length, and length, of the packets that were speech; in ticks of the RTP clock.
    energy: f32,
    spoken: u32,
    last: Option<Timestamp>,
    taken: Option<Now>,
}

impl Voice {
    /// One packet; `level` is the byte of RFC 6464. Its V bit is not asked: browsers set it on whatever is not silence.
    pub fn hear(&mut self, level: u8, timestamp: Timestamp, rate: u32) {
        let level = level & 0x7f;
        let step = self
            .last
            .map_or(0, |last| timestamp.since(last))
            .unsigned_abs();
        self.last = Some(timestamp);
        if level > SPEECH {
            return;
        }
        let usual = rate / 1_000 * USUAL_MS;
        let ticks = match step {
            1.. if step <= rate / 1_000 * LONGEST_MS => step,
            _ => usual,
        };
        self.spoken = self.spoken.saturating_add(ticks);
        self.energy += POWER[usize::from(level)] * ticks as f32;
    }

    /// The mean −dBov of what was speech since the last time, and its length in ms, never more than the time that has
    /// passed; `None` when there was none.
    pub fn take(&mut self, now: Now, rate: u32) -> Option<(u8, u16)> {
        let longest = self
            .taken
            .replace(now)
            .map_or(Duration::MAX, |before| now.since(before));
        let (energy, spoken) = (
            std::mem::take(&mut self.energy),
            std::mem::take(&mut self.spoken),
        );
        if spoken == 0 {
            return None;
        }
        let level = -10.0 * (energy / spoken as f32).log10();
        let ms = u128::from(spoken) * 1_000 / u128::from(rate.max(1));
        let ms = ms.min(longest.as_millis()).min(u128::from(u16::MAX));
        Some((level.round().clamp(0.0, 127.0) as u8, ms as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 48_000;

    fn spoken(voice: &mut Voice, from: u32, packets: u32, level: u8, ticks: u32) -> u32 {
        for n in 0..packets {
            voice.hear(level, Timestamp(from.wrapping_add(n * ticks)), RATE);
        }
        from.wrapping_add(packets * ticks)
    }

    #[test]
    fn the_length_of_speech_is_that_of_its_packets_whatever_their_size_and_start() {
        for start in (0..16).map(|n| u32::MAX / 16 * n) {
            for ticks in [480, 960, 1_920] {
                let mut voice = Voice::default();
                voice.take(Now(0), RATE);
                let next = spoken(&mut voice, start, 10, 0x80 | 90, ticks); // silence
                spoken(&mut voice, next, 9_600 / ticks, 0x80 | 30, ticks);
                assert_eq!(voice.take(Now::from_millis(400), RATE), Some((30, 200)));
            }
        }
    }

    #[test]
    fn silence_is_nothing_and_loud_counts_more_than_quiet() {
        let mut voice = Voice::default();
        spoken(&mut voice, 0, 10, 60, 960);
        assert_eq!(voice.take(Now(1), RATE), None);
        spoken(&mut voice, 9_600, 5, 20, 960);
        spoken(&mut voice, 14_400, 5, 40, 960);
        let (level, _) = voice.take(Now::from_millis(200), RATE).unwrap();
        assert_eq!(level, 23, "half the time 20 dB below: 3 dB less, not 10");
        assert_eq!(
            voice.take(Now::from_millis(400), RATE),
            None,
            "it was taken"
        );
    }

    #[test]
    fn a_pause_is_no_speech_and_a_lie_cannot_be_longer_than_time() {
        let mut voice = Voice::default();
        voice.take(Now(0), RATE);
        voice.hear(30, Timestamp(0), RATE);
        voice.hear(30, Timestamp(48_000), RATE); // a second later, after a pause
        assert_eq!(voice.take(Now::from_millis(1_200), RATE), Some((30, 40)));
        for n in 0..10_000 {
            voice.hear(0, Timestamp(n * 5_000), RATE);
        }
        assert_eq!(voice.take(Now::from_millis(1_400), RATE), Some((0, 200)));
    }
}
