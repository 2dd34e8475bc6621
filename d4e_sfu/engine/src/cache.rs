//! The packets of one encoding's last second, decrypted: what subscribers are served from, what retransmissions are
//! answered from, and what a late joiner's first picture comes from. A log of payloads in one fixed arena, and an index by
//! sequence number; both are made once. It sits between `publication` (which fills it) and the forwarding loop.

use std::time::Duration;

use crate::now::Now;
use crate::wire::codec::layer::Frame;
use crate::wire::codec::{dependency, vp8, vp9};
use crate::wire::seq::{ExtSeq, Timestamp};

/// Older packets are not served: a picture or a repair that late helps nobody.
pub const MAX_AGE: Duration = Duration::from_secs(1);

/// What forwarding needs to know of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facts {
    Audio,
    /// A key pressed (RFC 4733).
    Event,
    Vp8(vp8::Descriptor),
    Vp9(vp9::Descriptor),
    H264,
    Av1,
    /// No payload: probe padding, which ends here without leaving a gap downstream.
    Padding,
}

/// Header extensions that are passed on as they came, when the subscriber has mapped them too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub audio_level: Option<u8>,
    pub orientation: Option<u8>,
    pub playout_delay: Option<[u8; 3]>,
    /// abs-capture-time is 8 bytes, or 16 with the clock offset.
    pub capture_time: [u8; 16],
    pub capture_time_len: u8,
}

#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub seq: ExtSeq,
    pub timestamp: Timestamp,
    pub marker: bool,
    /// A decoder may start here.
    pub keyframe_start: bool,
    pub arrival: Now,
    pub facts: Facts,
    /// Who needs it.
    pub frame: Frame,
    /// The dependency descriptor that came with it, and which structure of this encoding it goes by, where that is known.
    pub dependency: Option<(dependency::Descriptor, Option<u8>)>,
    /// The structure that its descriptor goes by is not here yet: nobody is sent it, for nobody could decode it.
    pub waits: bool,
    pub carried: Carried,
}

/// A packet in the cache, with its payload and the bytes of its dependency descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    pub packet: &'a Packet,
    pub payload: &'a [u8],
    pub dependency: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Row {
    packet: Packet,
    /// Where the payload starts in the endless log, and behind it the dependency descriptor; the arena holds its last
    /// `arena.len()` bytes.
    position: u64,
    len: u16,
    dependency: u8,
}

pub struct Cache {
    rows: Box<[Option<Row>]>,
    arena: Box<[u8]>,
    /// Length of the endless log.
    written: u64,
}

impl Cache {
    /// `packets` is rounded up to a power of two.
    #[must_use]
    pub fn new(packets: usize, bytes: usize) -> Self {
        Self {
            rows: vec![None; packets.next_power_of_two()].into_boxed_slice(),
            arena: vec![0; bytes].into_boxed_slice(),
            written: 0,
        }
    }

    /// The oldest packets make room. A payload larger than the whole arena is not kept.
    pub fn insert(&mut self, packet: Packet, payload: &[u8], dependency: &[u8]) {
        let size = self.arena.len() as u64;
        let len = (payload.len() + dependency.len()) as u64;
        let (Ok(payload_len), Ok(dependency_len)) =
            (u16::try_from(payload.len()), u8::try_from(dependency.len()))
        else {
            return;
        };
        if len > size {
            return;
        }
        let mut start = self.written % size.max(1);
        if start + len > size {
            // A payload lies in one piece, so that it can be sealed from here: skip the end of the arena.
            self.written += size - start;
            start = 0;
        }
        let (head, tail) = self.arena[start as usize..][..len as usize].split_at_mut(payload.len());
        head.copy_from_slice(payload);
        tail.copy_from_slice(dependency);
        let row = self.row_of(packet.seq);
        self.rows[row] = Some(Row {
            packet,
            position: self.written,
            len: payload_len,
            dependency: dependency_len,
        });
        self.written += len;
    }

    /// The packet, if it is still whole.
    #[must_use]
    pub fn get(&self, seq: ExtSeq) -> Option<Cached<'_>> {
        let row = self.rows[self.row_of(seq)].as_ref()?;
        let size = self.arena.len() as u64;
        if row.packet.seq != seq || row.position + size < self.written {
            return None;
        }
        let start = (row.position % size.max(1)) as usize;
        let (payload, rest) = self.arena[start..].split_at(usize::from(row.len));
        Some(Cached {
            packet: &row.packet,
            payload,
            dependency: &rest[..usize::from(row.dependency)],
        })
    }

    /// The packet, to learn more about it, and the bytes of its dependency descriptor.
    pub fn amend(&mut self, seq: ExtSeq) -> Option<(&mut Packet, &[u8])> {
        let size = self.arena.len() as u64;
        let at = self.row_of(seq);
        let row = self.rows[at].as_mut()?;
        if row.packet.seq != seq || row.position + size < self.written {
            return None;
        }
        let start = (row.position % size.max(1)) as usize + usize::from(row.len);
        let dependency = &self.arena[start..][..usize::from(row.dependency)];
        Some((&mut row.packet, dependency))
    }

    /// `get`, but nothing that is over [`MAX_AGE`] old.
    #[must_use]
    pub fn recent(&self, now: Now, seq: ExtSeq) -> Option<Cached<'_>> {
        self.get(seq)
            .filter(|cached| now.since(cached.packet.arrival) <= MAX_AGE)
    }

    fn row_of(&self, seq: ExtSeq) -> usize {
        (seq.0 as usize) & (self.rows.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(seq: u64) -> Packet {
        Packet {
            seq: ExtSeq(seq),
            timestamp: Timestamp(0),
            marker: false,
            keyframe_start: false,
            arrival: Now(0),
            facts: Facts::Audio,
            frame: Frame::default(),
            dependency: None,
            waits: false,
            carried: Carried::default(),
        }
    }

    #[test]
    fn what_was_overwritten_is_gone_and_the_rest_is_whole() {
        let mut cache = Cache::new(64, 1_000);
        for seq in 0..20 {
            cache.insert(packet(seq), &[seq as u8; 90], &[]);
        }
        // 11 packets of 90 bytes fit into 1,000 bytes; the rest of the arena is skipped at each turn.
        let alive: Vec<u64> = (0..20)
            .filter(|&s| cache.get(ExtSeq(s)).is_some())
            .collect();
        assert!(alive.len() >= 10 && alive.len() <= 11, "{alive:?}");
        assert_eq!(alive.last(), Some(&19));
        for seq in alive {
            assert_eq!(cache.get(ExtSeq(seq)).unwrap().payload, &[seq as u8; 90]);
        }
    }

    #[test]
    fn a_row_taken_by_a_newer_packet_does_not_answer_for_the_old_one() {
        let mut cache = Cache::new(16, 10_000);
        cache.insert(packet(1), b"old", b"");
        cache.insert(packet(17), b"new", b"er");
        assert!(cache.get(ExtSeq(1)).is_none());
        let newer = cache.get(ExtSeq(17)).unwrap();
        assert_eq!((newer.payload, newer.dependency), (&b"new"[..], &b"er"[..]));
    }

    #[test]
    fn after_one_second_a_packet_is_no_longer_recent() {
        let mut cache = Cache::new(16, 10_000);
        cache.insert(packet(1), b"x", b"");
        assert!(cache.recent(Now::from_millis(1_000), ExtSeq(1)).is_some());
        assert!(cache.recent(Now::from_millis(1_001), ExtSeq(1)).is_none());
    }

    proptest! {
        #[test]
        fn never_a_wrong_payload(lengths in proptest::collection::vec(0usize..400, 1..200), size in 1usize..2_000) {
            let mut cache = Cache::new(32, size);
            let mut sent = Vec::new();
            for (seq, len) in lengths.iter().enumerate() {
                let payload: Vec<u8> = (0..*len).map(|i| (i * 7 + seq) as u8).collect();
                let dependency = vec![seq as u8; len % 5];
                cache.insert(packet(seq as u64), &payload, &dependency);
                sent.push((payload, dependency));
                for (old, (payload, dependency)) in sent.iter().enumerate() {
                    if let Some(found) = cache.get(ExtSeq(old as u64)) {
                        prop_assert_eq!(found.payload, &payload[..]);
                        prop_assert_eq!(found.dependency, &dependency[..]);
                    }
                }
            }
        }
    }
}
