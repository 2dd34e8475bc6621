//! Which voices one viewer hears where only so many may pass: picked per packet, by level (RFC 6464) and rank. Whoever has a
//! place keeps it for a while after he was last loud; who begins to speak takes a place with his first loud packet, so that
//! no first word is lost while there is one to take. Python sets how many and the ranks, and is not asked again.

use std::cmp::Reverse;
use std::time::Duration;

use crate::now::Now;

/// −dBov: louder than this is speech. A quiet room is at 50 to 60, somebody who speaks into a phone at 20 to 35.
pub const SPEECH: u8 = 40;

/// More than anyone could tell apart.
pub const MAX_PLACES: u8 = 32;
/// A pause for breath, or between two sentences, is no end.
const HOLD: Duration = Duration::from_secs(1);
/// Where nobody speaks, dB by which one must be louder to take another's place.
const LOUDER: u8 = 6;

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Row of the subscription.
    subscription: u32,
    rank: u8,
    /// −dBov, up at once and down slowly, in sixteenths.
    level: u16,
    /// Until when nobody of the same rank may take it.
    held: Now,
}

impl Place {
    fn hear(&mut self, now: Now, rank: u8, level: u8) {
        let quieter = u16::from(level) * 16;
        self.level = quieter.min(self.level + quieter.saturating_sub(self.level) / 16);
        self.rank = rank;
        if level <= SPEECH {
            self.held = now.plus(HOLD);
        }
    }
}

#[derive(Debug, Default)]
pub struct Voices {
    limit: Option<u8>,
    places: Vec<Place>,
}

impl Voices {
    /// How many may pass; `None`: all.
    pub fn set_limit(&mut self, now: Now, limit: Option<u8>) {
        self.limit = limit.map(|limit| limit.min(MAX_PLACES));
        let keep = usize::from(self.limit.unwrap_or(0));
        self.places
            .sort_unstable_by_key(|place| Reverse(weight(now, place)));
        self.places.truncate(keep);
        self.places.reserve_exact(keep - self.places.len());
    }

    #[must_use]
    pub fn limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Does this packet pass? `level`: the byte of RFC 6464; a client that sends none counts as speaking.
    pub fn pass(&mut self, now: Now, subscription: u32, rank: u8, level: Option<u8>) -> bool {
        let Some(limit) = self.limit else {
            return true;
        };
        let level = level.map_or(SPEECH, |level| level & 0x7f);
        if let Some(own) = self
            .places
            .iter_mut()
            .find(|place| place.subscription == subscription)
        {
            own.hear(now, rank, level);
            return true;
        }
        let mut new = Place {
            subscription,
            rank,
            level: u16::from(level) * 16,
            held: now,
        };
        new.hear(now, rank, level);
        if self.places.len() < usize::from(limit) {
            self.places.push(new);
            return true;
        }
        let Some(least) = self
            .places
            .iter_mut()
            .min_by_key(|place| weight(now, place))
        else {
            return false;
        };
        let speaks = level <= SPEECH;
        let taken = if least.held > now {
            speaks && rank > least.rank
        } else {
            speaks || new.level + u16::from(LOUDER) * 16 <= least.level
        };
        if taken {
            *least = new;
        }
        taken
    }

    /// The subscription is gone.
    pub fn release(&mut self, subscription: u32) {
        self.places
            .retain(|place| place.subscription != subscription);
    }
}

/// Who is missed least goes first: who does not speak, then the lower in rank, then the quieter.
fn weight(now: Now, place: &Place) -> (bool, u8, Reverse<u16>) {
    (place.held > now, place.rank, Reverse(place.level))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: Option<u8> = Some(0x80 | 25);
    const ROOM: Option<u8> = Some(60);

    fn voices(limit: u8) -> Voices {
        let mut voices = Voices::default();
        voices.set_limit(Now(0), Some(limit));
        voices
    }

    fn at(ms: u64) -> Now {
        Now::from_millis(ms)
    }

    #[test]
    fn without_a_limit_all_pass_and_with_none_nobody_does() {
        let mut all = Voices::default();
        assert!((0..200).all(|row| all.pass(at(0), row, 0, ROOM)));
        assert!(!voices(0).pass(at(0), 1, 9, LOUD));
    }

    #[test]
    fn who_begins_to_speak_takes_the_quietest_place_that_is_not_held() {
        let mut voices = voices(3);
        for (row, level) in [(1, 60), (2, 70), (3, 50)] {
            assert!(voices.pass(at(0), row, 0, Some(level)), "a place is free");
        }
        assert!(!voices.pass(at(20), 4, 0, Some(65)), "another quiet room");
        assert!(voices.pass(at(20), 4, 0, LOUD), "the first loud packet");
        assert!(!voices.pass(at(40), 2, 0, Some(70)), "it was the quietest");
        assert!(voices.pass(at(40), 3, 0, Some(50)));
        assert!(voices.pass(at(40), 5, 0, LOUD));
        assert!(voices.pass(at(40), 6, 0, None), "no level: he speaks");
        assert!(!voices.pass(at(60), 7, 0, Some(0)), "three speak");
    }

    #[test]
    fn a_place_is_held_for_a_second_after_the_last_loud_packet() {
        let mut voices = voices(1);
        assert!(voices.pass(at(0), 1, 0, LOUD));
        for ms in (20..1_000).step_by(20) {
            assert!(voices.pass(at(ms), 1, 0, ROOM), "the end of a word");
            assert!(!voices.pass(at(ms), 2, 0, LOUD), "after {ms} ms");
        }
        assert!(voices.pass(at(1_000), 2, 0, LOUD));
        assert!(!voices.pass(at(1_000), 1, 0, ROOM));
    }

    #[test]
    fn a_higher_rank_waits_for_nobody() {
        let mut voices = voices(2);
        assert!(voices.pass(at(0), 1, 0, LOUD) && voices.pass(at(0), 2, 1, LOUD));
        assert!(!voices.pass(at(20), 3, 0, LOUD));
        assert!(!voices.pass(at(20), 3, 5, ROOM), "but he has to speak");
        assert!(voices.pass(at(20), 3, 5, LOUD));
        assert!(!voices.pass(at(20), 1, 0, LOUD), "the lowest has gone");
        assert!(voices.pass(at(20), 2, 1, LOUD));
    }

    #[test]
    fn fewer_places_keep_who_speaks_and_a_subscription_that_ends_gives_its_place_back() {
        let mut voices = voices(3);
        assert!(voices.pass(at(0), 1, 0, ROOM));
        assert!(voices.pass(at(0), 2, 0, LOUD));
        assert!(voices.pass(at(0), 3, 0, ROOM));
        voices.set_limit(at(20), Some(1));
        assert!(voices.pass(at(20), 2, 0, ROOM));
        assert!(!voices.pass(at(20), 1, 0, LOUD));
        voices.release(2);
        assert!(voices.pass(at(20), 1, 0, ROOM));
        voices.set_limit(at(20), None);
        assert!(voices.pass(at(20), 9, 0, ROOM));
    }
}
