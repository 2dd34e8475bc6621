//! The whole state of the router as JSON, for a person who looks for a fault. Addresses are in it: it is for the admin
//! listener, not for metrics.

use std::fmt::Write;

use super::Router;
use crate::now::Now;
use crate::transport::Transport;

impl Router {
    pub(super) fn debug_state(&self, now: Now) -> String {
        let mut json = String::from("{\"transports\":[");
        for (at, (row, transport)) in self.transports.iter().enumerate() {
            let path = transport.path.selected();
            let _ = write!(
                json,
                "{}{{\"id\":{},\"path\":{},\"pairs\":{},\"keys\":{},\"may_publish\":{},\"signal_lost\":{},\"streams\":{},\"round_trip_ms\":{},\"redundant_blocks\":{},\"link\":{}}}",
                comma(at),
                transport.id,
                path.map_or("null".into(), |(local, remote)| format!(
                    "\"{local} {remote}\""
                )),
                transport.path.pairs().count(),
                transport.has_keys(),
                transport.may_publish,
                transport.signal_lost,
                transport.streams.len(),
                transport.round_trip().as_millis(),
                transport.link.losses.plan().blocks(),
                link(now, transport, &self.behind_one_link(row)),
            );
        }
        json.push_str("],\"publications\":[");
        for (at, (_, publication)) in self.publications.iter().enumerate() {
            let _ = write!(
                json,
                "{}{{\"id\":{},\"codec\":\"{:?}\",\"subscriptions\":{},\"encodings\":[",
                comma(at),
                publication.id,
                publication.codec,
                publication.subscriptions.len()
            );
            for (at, encoding) in publication.encodings.iter().enumerate() {
                let _ = write!(
                    json,
                    "{}{{\"active\":{},\"ssrc\":{},\"missing\":{},\"keyframe_wanted\":{},\"picture_cached\":{}}}",
                    comma(at),
                    encoding.active,
                    encoding
                        .ssrc
                        .map_or("null".into(), |ssrc| ssrc.0.to_string()),
                    encoding.gaps.missing(),
                    encoding.keyframes.wanted(),
                    encoding.picture(now).is_some(),
                );
            }
            json.push_str("]}");
        }
        json.push_str("],\"subscriptions\":[");
        for (at, (_, subscription)) in self.subscriptions.iter().enumerate() {
            let layer = |layer: Option<u8>| layer.map_or("null".into(), |layer| layer.to_string());
            let publication = self
                .publications
                .get(subscription.publication)
                .map_or(0, |publication| publication.id);
            let _ = write!(
                json,
                "{}{{\"id\":{},\"publication\":{},\"ssrc\":{},\"wanted\":{},\"target\":{},\"current\":{},\"held\":{},\"packets\":{}}}",
                comma(at),
                subscription.id,
                publication,
                subscription.ssrc.0,
                layer(subscription.wanted()),
                layer(subscription.target()),
                layer(subscription.current()),
                subscription.is_held(),
                subscription.packets,
            );
        }
        json.push_str("]}");
        json
    }
}

/// What is estimated of the way to him, and what waits for it.
fn link(now: Now, transport: &Transport, with: &str) -> String {
    let Some(estimate) = transport.link.estimate(now, transport.id) else {
        return "null".into();
    };
    let facts = transport.link.facts();
    format!(
        "{{\"bitrate\":{},\"delay_bps\":{},\"loss_bps\":{},\"through_bps\":{},\"loss\":{},\"queue_ms\":{},\"limited\":{},\"shared\":{},\"with\":[{with}],\"waiting\":{}}}",
        estimate.bitrate,
        facts.map_or(0, |facts| facts.delay_bps),
        facts.and_then(|facts| facts.loss_bps).unwrap_or(u32::MAX),
        facts.and_then(|facts| facts.acknowledged).unwrap_or(0),
        estimate.loss,
        estimate.queue_ms,
        estimate.limited,
        facts.is_some_and(|facts| facts.shared),
        transport.link.pacer.waiting(),
    )
}

fn comma(at: usize) -> &'static str {
    if at == 0 { "" } else { "," }
}
