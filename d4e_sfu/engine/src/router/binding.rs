//! To which encoding of which publication an SSRC belongs: by repaired RID, RID, signalled SSRC, MID, and at last by payload
//! type. Browsers send the names only until a receiver report has named the SSRC, so the answer is kept with the stream.

use super::Router;
use crate::api::Extension;
use crate::now::Now;
use crate::publication::Publication;
use crate::transport::streams::Binding;
use crate::transport::{ExtensionIds, OUR_SSRC};
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;
use crate::wire::seq::{ExtSeq, Ssrc};

/// What a packet says about where it belongs.
#[derive(Clone, Copy, Debug)]
struct Labels<'a> {
    ssrc: Ssrc,
    payload_type: u8,
    mid: Option<&'a [u8]>,
    rid: Option<&'a [u8]>,
    repaired_rid: Option<&'a [u8]>,
}

impl<'a> Labels<'a> {
    fn read(ids: &ExtensionIds, header: &Header, packet: &'a [u8]) -> Self {
        let mut labels = Self {
            ssrc: header.ssrc,
            payload_type: header.payload_type,
            mid: None,
            rid: None,
            repaired_rid: None,
        };
        for (id, value) in header.extensions(packet) {
            for (extension, label) in [
                (Extension::Mid, &mut labels.mid),
                (Extension::Rid, &mut labels.rid),
                (Extension::RepairedRid, &mut labels.repaired_rid),
            ] {
                if ids.get(extension) == Some(id) {
                    *label = Some(value);
                }
            }
        }
        labels
    }

    /// The encoding of this publication that the packet belongs to, and whether as a retransmission. `strong`: by name or
    /// number; otherwise by payload type alone.
    fn encoding(&self, publication: &Publication, strong: bool) -> Option<(usize, bool)> {
        if self
            .mid
            .is_some_and(|mid| mid != publication.mid.as_bytes())
        {
            return None;
        }
        let named = |rid: &[u8]| {
            let is = |encoding: &crate::publication::encoding::Encoding| {
                encoding
                    .rid
                    .as_deref()
                    .is_some_and(|known| known.as_bytes() == rid)
            };
            publication.encodings.iter().position(is)
        };
        if strong {
            if let Some(rid) = self.repaired_rid {
                return Some((named(rid)?, true));
            }
            if let Some(rid) = self.rid {
                return Some((named(rid)?, false));
            }
            let by_ssrc = publication
                .encodings
                .iter()
                .enumerate()
                .find_map(|(at, encoding)| match Some(self.ssrc) {
                    ssrc if ssrc == encoding.signalled_ssrc => Some((at, false)),
                    ssrc if ssrc == encoding.signalled_rtx_ssrc => Some((at, true)),
                    _ => None,
                });
            if by_ssrc.is_some() {
                return by_ssrc;
            }
            self.mid?;
        }
        // An m-section without simulcast has one stream for each payload type.
        let [only] = publication.encodings.as_slice() else {
            return None;
        };
        let rtx = if publication.takes(self.payload_type) {
            false
        } else if Some(self.payload_type) == publication.rtx_payload_type {
            true
        } else {
            return None;
        };
        // A payload type alone does not take the place of a stream that is there.
        (only.rid.is_none() && (strong || only.ssrc.is_none() || rtx)).then_some((0, rtx))
    }
}

impl Router {
    /// The binding of the stream that this packet, which has just authenticated, belongs to; made on its first packet, and again when it comes back.
    pub(super) fn bind(
        &mut self,
        now: Now,
        row: u32,
        header: &Header,
        packet: &[u8],
        index: ExtSeq,
    ) -> Result<Binding, DropReason> {
        let transport = self
            .transports
            .get_mut(row)
            .ok_or(DropReason::UnknownAddress)?;
        if !transport.may_publish {
            return Err(DropReason::NotPermitted);
        }
        if let Some(stream) = transport.streams.bound(header.ssrc) {
            return Ok(stream.binding);
        }
        // RFC 3550 §8.2: of two sources under one SSRC one is kept. Ours was there first and is signalled; reports about the
        // other could not be told from reports about it.
        let ours = |row: &u32| {
            self.subscriptions
                .get(*row)
                .is_some_and(|subscription| subscription.sends_as(header.ssrc))
        };
        if header.ssrc == OUR_SSRC || transport.subscriptions.iter().any(ours) {
            return Err(DropReason::SsrcCollision);
        }
        let labels = Labels::read(&transport.extensions, header, packet);
        let find = |strong: bool| {
            let mut found = None;
            for &row in &transport.publications {
                let Some(publication) = self.publications.get(row) else {
                    continue;
                };
                if let Some((encoding, rtx)) = labels.encoding(publication, strong) {
                    if found.is_some() {
                        return None; // Two could be meant: better none than the wrong one.
                    }
                    found = Some(Binding {
                        publication: row,
                        encoding: encoding as u8,
                        rtx,
                        clock_rate: publication.clock_rate(),
                    });
                }
            }
            found
        };
        let named = labels.rid.or(labels.repaired_rid).is_some();
        let binding = find(true)
            .or_else(|| if named { None } else { find(false) })
            .ok_or(DropReason::UnknownStream)?;
        transport
            .streams
            .bind(now, header.ssrc, binding, index, header.timestamp)?;
        if !binding.rtx
            && let Some(publication) = self.publications.get_mut(binding.publication)
        {
            publication.encodings[usize::from(binding.encoding)].bind(header.ssrc, header.seq);
            publication.unsettled = true;
        }
        Ok(binding)
    }
}
