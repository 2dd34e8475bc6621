//! What waits for one client's TCP connection: voice before everything else, never more than a little, and nothing for
//! longer than it is of use. A connection that is slower than what is sent to it drops pictures here, by name, instead of
//! delaying the voice behind them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::now::Now;
use crate::outlet::Class;

/// Bytes that may wait for one client: half a second of 4 Mbit/s.
const MAX_BYTES: usize = 256 << 10;
/// Of them, that pictures leave to the rest.
const RESERVE: usize = 32 << 10;
/// A picture that is later has been asked for again; a voice is played no later than this.
const PICTURE_LIFE: Duration = Duration::from_millis(400);
const VOICE_LIFE: Duration = Duration::from_millis(600);

struct Item {
    since: Now,
    bytes: Box<[u8]>,
}

#[derive(Default)]
pub struct Queue {
    first: VecDeque<Item>,
    rest: VecDeque<Item>,
    bytes: usize,
}

impl Queue {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    /// False: it is full. Voice makes room by the oldest pictures.
    pub fn push(&mut self, now: Now, class: Class, bytes: &[u8]) -> bool {
        let voice = class == Class::Voice;
        let most = if voice {
            MAX_BYTES
        } else {
            MAX_BYTES - RESERVE
        };
        if self.bytes + bytes.len() > most {
            return false;
        }
        self.bytes += bytes.len();
        let item = Item {
            since: now,
            bytes: bytes.into(),
        };
        if voice {
            self.first.push_back(item);
        } else {
            self.rest.push_back(item);
        }
        true
    }

    /// The next to leave, appended to `out`; false when nothing waits. `late` counts what was dropped on the way.
    pub fn pop(&mut self, now: Now, out: &mut Vec<u8>, late: &mut u64) -> bool {
        for (line, life) in [
            (&mut self.first, VOICE_LIFE),
            (&mut self.rest, PICTURE_LIFE),
        ] {
            while let Some(item) = line.pop_front() {
                self.bytes -= item.bytes.len();
                if now.since(item.since) < life {
                    out.extend_from_slice(&item.bytes);
                    return true;
                }
                *late += 1;
            }
        }
        if self.first.capacity() + self.rest.capacity() > 256 {
            *self = Self::default();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut Queue, now: Now) -> (Vec<u8>, u64) {
        let (mut out, mut late) = (Vec::new(), 0);
        while queue.pop(now, &mut out, &mut late) {}
        (out, late)
    }

    #[test]
    fn voice_goes_first_and_the_rest_in_order() {
        let (mut queue, now) = (Queue::default(), Now(1));
        for (class, byte) in [
            (Class::Picture, 1),
            (Class::Voice, 2),
            (Class::Data, 3),
            (Class::Voice, 4),
        ] {
            assert!(queue.push(now, class, &[byte]));
        }
        assert_eq!(all(&mut queue, now), (vec![2, 4, 1, 3], 0));
        assert!(queue.is_empty());
    }

    #[test]
    fn pictures_leave_room_for_the_voice_and_all_of_it_is_bounded() {
        let (mut queue, now) = (Queue::default(), Now(1));
        let mut pictures = 0;
        while queue.push(now, Class::Picture, &[0; 1_000]) {
            pictures += 1_000;
        }
        assert_eq!(pictures, (MAX_BYTES - RESERVE) / 1_000 * 1_000);
        let mut voice = 0;
        while queue.push(now, Class::Voice, &[0; 100]) {
            voice += 100;
        }
        assert!(voice >= RESERVE - 100 && pictures + voice <= MAX_BYTES);
    }

    #[test]
    fn what_is_late_is_dropped_and_pictures_sooner() {
        let (mut queue, now) = (Queue::default(), Now(1));
        assert!(queue.push(now, Class::Picture, &[1]) && queue.push(now, Class::Voice, &[2]));
        let later = now.plus(PICTURE_LIFE);
        assert!(queue.push(later, Class::Picture, &[3]));
        assert_eq!(all(&mut queue, later), (vec![2, 3], 1));
        assert!(queue.push(now, Class::Voice, &[4]));
        assert_eq!(all(&mut queue, now.plus(VOICE_LIFE)), (vec![], 1));
        assert_eq!(queue.bytes, 0);
    }
}
