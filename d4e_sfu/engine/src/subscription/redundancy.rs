//! Redundant audio made for one viewer (RFC 2198): which of a voice's earlier packets go with this one, out of the cache. How
//! many and how far back is the link's matter; here it is held within what a block can say, a datagram, and its share.

use crate::cache::{Cache, Cached, Facts};
use crate::losses::Plan;
use crate::wire::codec::red::{Block, MAX_LEN, MAX_OFFSET, MAX_WRITTEN, Redundant};
use crate::wire::seq::ExtSeq;

/// The least that every packet of a voice costs besides its payload: IP, UDP and RTP headers, the extensions that it was
/// agreed on (transport-wide number, MID), and the shorter of the seals.
const HEADERS: usize = 40 + 8 + 10;
/// What may be saved up, in bytes: some packets' worth.
const MOST: usize = 1_000;
/// Payloads with all that goes with them; leaves room for headers and extensions in every datagram.
const MAX_PAYLOAD: usize = 1_100;

/// What redundancy may still cost: one and a half times what the voice itself does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redundancy {
    credit: usize,
}

impl Redundancy {
    /// The blocks for `cached`, a packet of a run that began at `first`: the viewer was sent nothing from before it. Which
    /// he `has` he needs no more.
    #[must_use]
    pub fn of<'a>(
        &mut self,
        plan: Plan,
        payload_type: u8,
        cache: &'a Cache,
        cached: &Cached<'_>,
        first: ExtSeq,
        has: impl Fn(ExtSeq) -> bool,
    ) -> Redundant<'a> {
        let mut redundant = Redundant {
            payload_type,
            ..Redundant::default()
        };
        let packet = cached.packet;
        self.credit = (self.credit + (cached.payload.len() + HEADERS) * 3 / 2).min(MOST);
        for (place, back) in redundant.blocks.iter_mut().rev().zip(plan.distances) {
            let seq = packet.seq.0.checked_sub(u64::from(back));
            let Some(earlier) = seq
                .filter(|&seq| back > 0 && seq >= first.0 && !has(ExtSeq(seq)))
                .and_then(|seq| cache.get(ExtSeq(seq)))
                .filter(|earlier| earlier.packet.facts == Facts::Audio)
            else {
                continue;
            };
            let offset = packet.timestamp.since(earlier.packet.timestamp);
            if !(1..=MAX_OFFSET as i32).contains(&offset) || earlier.payload.len() > MAX_LEN {
                continue;
            }
            *place = Some(Block {
                offset: offset as u16,
                sound: earlier.payload,
            });
        }
        // Where they are too much the nearest goes first: it is the likeliest to be lost with this packet, or to come by itself.
        for at in (0..MAX_WRITTEN).rev() {
            let len = redundant.len();
            if len <= self.credit && len + cached.payload.len() <= MAX_PAYLOAD {
                break;
            }
            redundant.blocks[at] = None;
        }
        self.credit -= redundant.len();
        redundant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Carried, Packet};
    use crate::now::Now;
    use crate::wire::codec::layer::Frame;
    use crate::wire::seq::Timestamp;

    const PLAN: Plan = Plan {
        distances: [3, 6, 9, 0],
    };

    fn cache(packets: impl IntoIterator<Item = (u64, u32, usize)>) -> Cache {
        let mut cache = Cache::new(256, 1 << 20);
        for (seq, timestamp, len) in packets {
            let packet = Packet {
                seq: ExtSeq(seq),
                timestamp: Timestamp(timestamp),
                marker: false,
                keyframe_start: true,
                arrival: Now(0),
                facts: Facts::Audio,
                frame: Frame::default(),
                dependency: None,
                waits: false,
                carried: Carried::default(),
            };
            cache.insert(packet, &vec![seq as u8; len], &[]);
        }
        cache
    }

    fn saved() -> Redundancy {
        Redundancy { credit: MOST }
    }

    fn offsets(redundancy: &mut Redundancy, cache: &Cache, seq: u64, first: u64) -> Vec<u16> {
        let cached = cache.get(ExtSeq(seq)).unwrap();
        let redundant = redundancy.of(PLAN, 9, cache, &cached, ExtSeq(first), |_| false);
        let blocks = redundant.blocks.iter().flatten();
        blocks.map(|block| block.offset).collect()
    }

    #[test]
    fn what_is_there_goes_along_the_oldest_first() {
        let wrap = u32::MAX - 5_000;
        let cache = cache((0..20).map(|n| (n, wrap.wrapping_add(960 * n as u32), 60)));
        let of = |seq, first| offsets(&mut saved(), &cache, seq, first);
        assert_eq!(of(10, 0), [8_640, 5_760, 2_880]);
        assert_eq!(of(10, 4), [5_760, 2_880]);
        assert_eq!(of(10, 5), [2_880], "the run has begun after the older");
        assert_eq!(of(2, 0), [0; 0]);
        assert_eq!(of(5, 0), [2_880]);
    }

    #[test]
    fn what_he_has_does_not_go_again() {
        let cache = cache((0..20).map(|n| (n, 960 * n as u32, 60)));
        let cached = cache.get(ExtSeq(10)).unwrap();
        let has = |seq| seq == ExtSeq(1) || seq == ExtSeq(7);
        let redundant = saved().of(PLAN, 9, &cache, &cached, ExtSeq(0), has);
        let offsets: Vec<_> = redundant
            .blocks
            .iter()
            .flatten()
            .map(|b| b.offset)
            .collect();
        assert_eq!(offsets, [5_760]);
    }

    #[test]
    fn what_no_block_can_say_stays() {
        let step = MAX_OFFSET / 5;
        let far = cache((0..20).map(|n| (n, step * n as u32, 60)));
        assert_eq!(offsets(&mut saved(), &far, 10, 0), [9_828]);
        let long = cache((0..20).map(|n| (n, 960 * n as u32, if n == 7 { 1_024 } else { 60 })));
        assert_eq!(offsets(&mut saved(), &long, 10, 4), [5_760]);
        let lost = cache((0..20).filter(|&n| n != 7).map(|n| (n, 960 * n as u32, 60)));
        assert_eq!(offsets(&mut saved(), &lost, 10, 4), [5_760]);
    }

    #[test]
    fn it_costs_at_most_one_and_a_half_times_the_voice_and_fits_a_datagram() {
        for size in [3, 20, 60, 100, 160, 320, 500, 900] {
            let mut redundancy = Redundancy::default();
            let cache = cache((0..200).map(|n| (n, 960 * n as u32, size)));
            let (mut plain, mut more) = (0, 0);
            for seq in 0..200 {
                let cached = cache.get(ExtSeq(seq)).unwrap();
                let redundant = redundancy.of(PLAN, 9, &cache, &cached, ExtSeq(0), |_| false);
                assert!(redundant.len() + size <= MAX_PAYLOAD);
                plain += size + HEADERS;
                more += redundant.len();
            }
            assert!(more * 2 <= plain * 3, "{size}: {more} for {plain}");
            assert!(
                size > 320 || more > plain / 10,
                "{size}: {more} for {plain}"
            );
        }
    }
}
