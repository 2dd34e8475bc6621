//! Redundant audio of a publisher, taken apart where it arrives: what a block brings again of a packet that has not come is
//! that packet from then on. It gets its own number and timestamp and lies in the cache as if received, so that nobody
//! asks for it any more and every subscriber is served it, whatever he has agreed to.

use crate::cache::{Cache, Carried, Facts, Packet};
use crate::nack::Seen;
use crate::now::Now;
use crate::wire::codec::layer::Frame;
use crate::wire::codec::red::{self, Block, MAX_REDUNDANT};
use crate::wire::seq::{ExtSeq, Timestamp};

use super::encoding::Encoding;

/// Numbers looked through behind a packet: what a block's offset can reach at 10 ms a packet, and more.
const REACH: u64 = 48;

/// The packet that brought the blocks, which is in the cache itself.
#[derive(Clone, Copy)]
pub struct Carrier {
    pub seq: ExtSeq,
    pub timestamp: Timestamp,
    pub carried: Carried,
}

/// Puts back what `carrier` brings again of packets that are missing, and tells of each, the oldest first.
pub fn restore(
    now: Now,
    row: &mut Encoding,
    carrier: &Carrier,
    payload: &red::Payload<'_>,
    mut restored: impl FnMut(ExtSeq),
) {
    let Some(cache) = row.cache.as_mut() else {
        return;
    };
    let mut found: [Option<(ExtSeq, Block<'_>)>; MAX_REDUNDANT] = [None; MAX_REDUNDANT];
    locate(cache, carrier, payload, &mut found);
    for (seq, block) in found.into_iter().rev().flatten() {
        if seq < row.epoch || !matches!(row.gaps.receive(now, seq), Seen::Repair { .. }) {
            continue;
        }
        let packet = Packet {
            seq,
            timestamp: before(carrier.timestamp, block.offset),
            marker: false,
            keyframe_start: true,
            arrival: now,
            facts: Facts::Audio,
            frame: Frame::default(),
            dependency: None,
            waits: false,
            // As loud as what came right after it, for all that is known.
            carried: Carried {
                audio_level: carrier.carried.audio_level,
                ..Carried::default()
            },
        };
        cache.insert(packet, block.sound, &[]);
        restored(seq);
    }
}

/// Whose sound each block is. It says only when that began, so its packet is sought between two that are here: where one is
/// missing there, that one it is; where more are, the one whose turn it was, if they came evenly; else nobody knows.
fn locate<'a>(
    cache: &Cache,
    carrier: &Carrier,
    payload: &red::Payload<'a>,
    found: &mut [Option<(ExtSeq, Block<'a>)>; MAX_REDUNDANT],
) {
    let last = carrier.seq.0.saturating_sub(REACH);
    let known_before = |seq: ExtSeq| {
        (last..seq.0).rev().find_map(|seq| {
            let packet = cache.get(ExtSeq(seq))?.packet;
            (packet.facts == Facts::Audio).then_some((packet.seq, packet.timestamp))
        })
    };
    let mut above = (carrier.seq, carrier.timestamp);
    let Some(mut below) = known_before(above.0) else {
        return;
    };
    for (place, block) in found.iter_mut().zip(payload.blocks()) {
        let began = before(carrier.timestamp, block.offset);
        while below.1.newer_than(began) {
            above = below;
            let Some(earlier) = known_before(above.0) else {
                return;
            };
            below = earlier;
        }
        let (steps, ticks) = (above.0.0 - below.0.0, above.1.since(below.1));
        let back = above.1.since(began);
        if block.sound.is_empty() || steps < 2 || back <= 0 || back >= ticks {
            continue; // It is here, or its turn was never.
        }
        let each = ticks / steps as i32;
        let step = match steps {
            2 => 1,
            _ if ticks % steps as i32 == 0 && back % each == 0 => (back / each) as u64,
            _ => continue,
        };
        *place = Some((ExtSeq(above.0.0 - step), block));
    }
}

fn before(timestamp: Timestamp, offset: u16) -> Timestamp {
    Timestamp(timestamp.0.wrapping_sub(u32::from(offset)))
}
