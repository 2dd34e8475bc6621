//! What a publisher is asked for on behalf of all who watch him: packets that are missing, and keyframes.

use super::counters::{Counters, Kind};
use crate::now::Now;
use crate::outlet::Outlet;
use crate::publication::Publication;
use crate::transport::{OUR_SSRC, Sending};
use crate::wire::rtcp;
use crate::wire::seq::SeqNo;

/// Missing packets asked for in one NACK: fits a datagram even when no two are neighbours.
const NACKS_AT_ONCE: usize = 128;

/// Asks the publisher for missing packets, and for keyframes that somebody waits for.
pub(super) fn ask(
    now: Now,
    publication: &mut Publication,
    mut sending: Sending<'_>,
    out: &mut impl Outlet,
    counters: &mut Counters,
) {
    for at in 0..publication.encodings.len() {
        let Some(ssrc) = publication.encodings[at].ssrc else {
            continue;
        };
        let mut lost = [SeqNo(0); NACKS_AT_ONCE];
        let count = if publication.subscriptions.is_empty() || !publication.nack {
            publication.encodings[at].gaps.let_go();
            0
        } else {
            publication.missing(now, at as u8, &mut lost)
        };
        if count > 0 {
            let sent = sending.rtcp(out, |slot| {
                rtcp::write_nack(slot, OUR_SSRC, ssrc, &lost[..count])
            });
            if let Some(len) = sent {
                counters.nacks_sent += count as u64;
                counters.sent(Kind::Rtcp, len);
            }
        }
        let voice = publication.is_voice();
        let encoding = &mut publication.encodings[at];
        if encoding.gaps.take_given_up() && !voice && publication.watched[at] {
            encoding.keyframes.want();
        }
        if encoding.keyframes.due(now)
            && let Some(len) = sending.rtcp(out, |slot| rtcp::write_pli(slot, OUR_SSRC, ssrc))
        {
            counters.keyframe_requests_sent += 1;
            counters.sent(Kind::Rtcp, len);
        }
    }
}
