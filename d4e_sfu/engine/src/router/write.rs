//! A cached packet in the words of the one it goes to: header, header extensions and the first bytes of the payload are
//! written into the send slot, the rest is sealed behind them from where it lies.

use crate::api::Extension;
use crate::cache::{Cached, Facts, Packet};
use crate::now::Now;
use crate::outlet::{Class, Outlet};
use crate::publication::encoding::Encoding;
use crate::subscription::Rewrite;
use crate::transport::{ExtensionIds, Sending};
use crate::wire::codec::red::Redundant;
use crate::wire::codec::{dependency, vp8, vp9};
use crate::wire::packet::{Fields, write_header};
use crate::wire::seq::{ExtSeq, SeqNo, Ssrc};

/// What a packet is called where it goes.
#[derive(Clone, Copy)]
pub(super) struct Stamp<'a> {
    pub ssrc: Ssrc,
    pub payload_type: u8,
    pub seq: ExtSeq,
    /// For a retransmission: the number it had first (RFC 4588 §4).
    pub original: Option<SeqNo>,
    /// It bears a transport-wide number, if the client has an extension for it.
    pub transport_wide: bool,
    /// The sound of earlier packets that goes with it.
    pub redundant: Redundant<'a>,
}

/// Writes header and changed first bytes into the send slot and seals the rest from the cache behind them. `None` when it
/// does not fit.
#[allow(clippy::too_many_arguments)] // the slot, the way to it, and the packet by its parts
pub(super) fn write(
    now: Now,
    out: &mut impl Outlet,
    sending: &mut Sending<'_>,
    mid: &str,
    stamp: Stamp<'_>,
    encoding: &Encoding,
    cached: Cached<'_>,
    rewrite: &Rewrite,
) -> Option<usize> {
    let ids = *sending.extensions;
    let Cached {
        packet, payload, ..
    } = cached;
    // What is written anew of the payload.
    let head = match packet.facts {
        _ if rewrite.filler => payload.len(),
        Facts::Vp8(descriptor) => descriptor.len,
        Facts::Vp9(descriptor) => descriptor.head,
        Facts::Audio | Facts::Event | Facts::H264 | Facts::Av1 | Facts::Padding => 0,
    };
    let numbered = stamp.transport_wide && ids.sent(Extension::TransportWideCc, 2).is_some();
    let rest = payload.get(head..)?;
    sending.class = match packet.facts {
        Facts::Audio | Facts::Event => Class::Voice,
        _ => Class::Picture,
    };
    sending.rtp(now, out, stamp.seq.roc(), rest, numbered, |slot| {
        let fields = Fields {
            marker: rewrite.marker && !rewrite.filler,
            padding: rewrite.filler,
            payload_type: stamp.payload_type,
            seq: stamp.seq.seq(),
            timestamp: rewrite.timestamp,
            ssrc: stamp.ssrc,
        };
        let mut described = [0; dependency::MAX_LEN];
        // All of them or none: one without the structure that it goes by is worth nothing.
        let described = match ids.sent(Extension::DependencyDescriptor, dependency::MAX_LEN) {
            Some(_) if !rewrite.filler => describe(&mut described, encoding, &cached, rewrite),
            _ => &[],
        };
        let sent = (!numbered).then(|| abs_send_time(now));
        let header = write_fields(slot, &fields, &ids, mid, packet, described, sent)?;
        let body = slot.get_mut(header..)?;
        let mut prefix = 0;
        if let Some(original) = stamp.original {
            body.get_mut(..2)?
                .copy_from_slice(&original.0.to_be_bytes());
            prefix = 2;
        }
        let body = body.get_mut(prefix..)?;
        prefix += match packet.facts {
            _ if rewrite.filler => {
                *body.first_mut()? = 1; // One byte of padding, which counts itself.
                1
            }
            Facts::Vp8(descriptor) => vp8::Descriptor {
                picture_id: rewrite.picture_id,
                tl0_pic_idx: rewrite.tl0,
                ..descriptor
            }
            .write(body)?,
            Facts::Vp9(descriptor) => vp9::Descriptor {
                picture_id: rewrite.picture_id,
                tl0_pic_idx: rewrite.tl0,
                ..descriptor
            }
            .write(body)?,
            Facts::Audio => stamp.redundant.write(body)?,
            Facts::Event | Facts::H264 | Facts::Av1 | Facts::Padding => 0,
        };
        Some((header, prefix))
    })
}

/// The packet's dependency descriptor in the subscriber's numbers. Where the layers that he gets begin to be others, and
/// with each structure, it says which decode targets are left to him.
fn describe<'a>(
    out: &'a mut [u8; dependency::MAX_LEN],
    encoding: &Encoding,
    cached: &Cached<'_>,
    rewrite: &Rewrite,
) -> &'a [u8] {
    let (Some((descriptor, generation)), Some(dependencies)) =
        (cached.packet.dependency, &encoding.dependencies)
    else {
        return &[];
    };
    let restated = rewrite.first || descriptor.masks();
    let mask = (restated || descriptor.structure.is_some())
        .then(|| dependencies.mask(generation, rewrite.layer, restated))
        .flatten();
    let bytes = cached.dependency;
    let (template, number) = (rewrite.template_shift, rewrite.frame_shift);
    let len = descriptor
        .write(bytes, out, template, number, mask)
        .or_else(|| descriptor.write(bytes, out, template, number, None));
    &out[..len.unwrap_or(0)]
}

/// For clients that know REMB alone: seconds in 24 bits, 18 of them behind the point
/// (http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time).
fn abs_send_time(now: Now) -> [u8; 3] {
    let time = (u128::from(now.0) << 18) / 1_000_000_000;
    let [.., a, b, c] = time.to_be_bytes();
    [a, b, c]
}

/// `sent`: when it leaves; `None`: it bears a transport-wide number.
fn write_fields(
    slot: &mut [u8],
    fields: &Fields,
    ids: &ExtensionIds,
    mid: &str,
    packet: &Packet,
    described: &[u8],
    sent: Option<[u8; 3]>,
) -> Option<usize> {
    let carried = &packet.carried;
    let (level, rotation) = (
        [carried.audio_level.unwrap_or(0)],
        [carried.orientation.unwrap_or(0)],
    );
    let delay = carried.playout_delay.unwrap_or_default();
    let capture = &carried.capture_time[..usize::from(carried.capture_time_len)];
    let mut elements: [(u8, &[u8]); 8] = [(0, &[]); 8];
    let mut count = 0;
    for (present, extension, value) in [
        // First, so that `Sending::rtp` knows where to put the number.
        (sent.is_none(), Extension::TransportWideCc, &[0; 2][..]),
        (
            sent.is_some(),
            Extension::AbsSendTime,
            sent.as_ref().map_or(&[][..], |sent| sent),
        ),
        (true, Extension::Mid, mid.as_bytes()),
        (carried.audio_level.is_some(), Extension::AudioLevel, &level),
        (
            carried.orientation.is_some(),
            Extension::VideoOrientation,
            &rotation,
        ),
        (
            carried.playout_delay.is_some(),
            Extension::PlayoutDelay,
            &delay,
        ),
        (!capture.is_empty(), Extension::AbsCaptureTime, capture),
        (
            !described.is_empty(),
            Extension::DependencyDescriptor,
            described,
        ),
    ] {
        if let (true, Some(id)) = (present, ids.sent(extension, value.len())) {
            elements[count] = (id, value);
            count += 1;
        }
    }
    write_header(slot, fields, &elements[..count])
}
