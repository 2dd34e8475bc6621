//! What a probe is made of: RTX packets of padding alone. Never the stream itself, whose numbers must have no holes; and
//! nothing that was sent before: libwebrtc probes with old packets as well (`RTPSender::GeneratePadding`), but nearly all of
//! them are there already, so that the client and whoever reads his statistics take them for repairs that nobody needed,
//! and as few packets as a probe must have stand in a thin link's queue for a multiple of the time if a picture is in them.

use super::Router;
use super::counters::Kind;
use crate::api::Extension;
use crate::now::Now;
use crate::outlet::Outlet;
use crate::subscription::Subscription;
use crate::transport::Sending;
use crate::wire::packet::{Fields, write_header};
use crate::wire::seq::Timestamp;

impl Router {
    /// Probes that estimators want begin.
    pub(super) fn probe(&mut self, now: Now) {
        for row in 0..self.transports.rows() {
            let Some(transport) = self.transports.get_mut(row) else {
                continue;
            };
            transport.link.advance(now);
            if transport.link.probe(
                now,
                self.bottlenecks.any() && !self.bottlenecks.with(row).is_empty(),
            ) {
                self.counters.probes += 1;
                if !std::mem::replace(&mut transport.link.pacer.listed, true) {
                    self.pacing.push(row);
                }
                self.probe_begins(now, row);
            }
        }
    }

    /// One packet that is sent for nothing but the probe.
    pub(super) fn pad(&mut self, now: Now, row: u32, out: &mut impl Outlet) {
        let Some(transport) = self.transports.get_mut(row) else {
            return;
        };
        let subscriptions = &self.subscriptions;
        // The picture that he sees, before one that he does not.
        let padding = transport.link.pacer.padding().max(1);
        let found = transport
            .subscriptions
            .iter()
            .copied()
            .filter(|&at| subscriptions.get(at).is_some_and(is_repaired))
            .max_by_key(|&at| {
                subscriptions
                    .get(at)
                    .is_some_and(|subscription| subscription.current().is_some())
            });
        let sent = found
            .and_then(|at| self.subscriptions.get_mut(at))
            .and_then(|subscription| {
                pad_with(padding, now, out, &mut transport.sending()?, subscription)
            });
        match sent {
            Some(len) => self.counters.sent(Kind::Probe, len),
            // Nothing that a probe could be made of.
            None => {
                if let Some(transport) = self.transports.get_mut(row) {
                    transport.link.pacer.stop_probe();
                }
            }
        }
    }
}

/// It has a stream for retransmissions, of whose packets the client tells.
fn is_repaired(subscription: &Subscription) -> bool {
    subscription.transport_wide
        && subscription.rtx_ssrc.is_some()
        && subscription.rtx_payload_type.is_some()
}

/// Libwebrtc's receivers take padding on an RTX stream of which no packet has come yet.
fn pad_with(
    padding: u8,
    now: Now,
    out: &mut impl Outlet,
    sending: &mut Sending<'_>,
    subscription: &mut Subscription,
) -> Option<usize> {
    let ids = *sending.extensions;
    let (ssrc, payload_type) = (subscription.rtx_ssrc?, subscription.rtx_payload_type?);
    let id = ids.sent(Extension::TransportWideCc, 2)?;
    let seq = subscription.repairs.number();
    let mid = subscription.mid.as_bytes();
    sending.rtp(now, out, seq.roc(), &[], true, |slot| {
        let fields = Fields {
            marker: false,
            padding: true,
            payload_type,
            seq: seq.seq(),
            timestamp: subscription.shown().unwrap_or(Timestamp(0)),
            ssrc,
        };
        let elements: [(u8, &[u8]); 2] = [
            (id, &[0; 2]),
            (ids.sent(Extension::Mid, mid.len()).unwrap_or(0), mid),
        ];
        let count = 1 + usize::from(elements[1].0 != 0);
        let header = write_header(slot, &fields, &elements[..count])?;
        let body = slot.get_mut(header..header + usize::from(padding))?;
        body.fill(0);
        *body.last_mut()? = padding;
        Some((header, body.len()))
    })
}
