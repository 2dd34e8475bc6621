//! What Python decides by and does not see: who was heard how loud, how each client's link does, and what each encoding
//! weighs. Told a few times a second, in events that replace each other, so that a busy Python finds the latest.

use std::time::Duration;

use super::Router;
use crate::api::{Event, Leg, Link, Rate, Voice};
use crate::legs;
use crate::now::Now;
use crate::transport::Transport;

/// Half of what clients are told at most: who begins to speak is seen soon after.
const VOICES_INTERVAL: Duration = Duration::from_millis(200);
/// Receivers report every second (video) to five (voice): oftener would say nothing new.
const LINKS_INTERVAL: Duration = Duration::from_secs(2);
/// The allocator acts a few times a second at most.
const ESTIMATES_INTERVAL: Duration = Duration::from_millis(200);
/// Without news as well: what a busy Python missed, and what changes slowly.
const ESTIMATES_AT_LEAST: Duration = Duration::from_secs(1);
/// A picture's rate rises and falls with what it shows; of less than a second a keyframe would be most.
const RATES_INTERVAL: Duration = Duration::from_secs(1);

impl Router {
    pub(super) fn measure(&mut self, now: Now) {
        if now.since(self.voices_told) >= VOICES_INTERVAL {
            self.voices_told = now;
            self.tell_voices(now);
        }
        if now.since(self.links_told) >= LINKS_INTERVAL {
            self.links_told = now;
            self.tell_links(now);
        }
        let since = now.since(self.estimates_told);
        if since >= ESTIMATES_INTERVAL {
            self.tell_estimates(now, since >= ESTIMATES_AT_LEAST);
        }
        let over = now.since(self.rates_told);
        if over >= RATES_INTERVAL {
            self.rates_told = now;
            self.tell_rates(over);
        }
    }

    /// Those in whom speech was heard. Where nobody speaks nothing is told.
    fn tell_voices(&mut self, now: Now) {
        let mut voices = Vec::new();
        for (_, publication) in self.publications.iter_mut() {
            let rate = publication.clock_rate();
            let Some((level, spoken_ms)) = publication.voice.take(now, rate) else {
                continue;
            };
            if let Some(transport) = self.transports.get(publication.transport) {
                voices.push(Voice {
                    transport: transport.id,
                    publication: publication.id,
                    level,
                    spoken_ms,
                });
            }
        }
        if !voices.is_empty() {
            self.events.push(Event::Voices { voices });
        }
    }

    /// What links carry, when there is news of one or it is time.
    fn tell_estimates(&mut self, now: Now, due: bool) {
        let told = |transport: &Transport| transport.link.estimate(now, transport.id);
        let news = due
            || self.transports.iter().any(|(_, transport)| {
                told(transport).is_some_and(|estimate| transport.link.is_news(&estimate))
            });
        if !news {
            return;
        }
        self.estimates_told = now;
        let mut estimates = Vec::new();
        for (_, transport) in self.transports.iter_mut() {
            if let Some(estimate) = told(transport) {
                transport.link.tell(&estimate);
                estimates.push(estimate);
            }
        }
        if !estimates.is_empty() {
            self.events.push(Event::Estimates { estimates });
        }
    }

    fn tell_links(&mut self, now: Now) {
        let subscriptions = &self.subscriptions;
        let links: Vec<Link> = self
            .transports
            .iter_mut()
            .filter(|(_, transport)| transport.ready().is_some())
            .map(|(_, transport)| Link {
                transport: transport.id,
                silent_ms: now.since(transport.path.heard()).as_millis() as u32,
                round_trip_ms: transport
                    .measured_round_trip()
                    .map(|sample| sample.as_millis() as u32),
                up: leg(transport.up.take()),
                down: leg(transport.down.take()),
                sent: transport
                    .subscriptions
                    .iter()
                    .filter_map(|&row| subscriptions.get(row))
                    .map(|subscription| u64::from(subscription.packets))
                    .sum(),
            })
            .collect();
        if !links.is_empty() {
            self.events.push(Event::Links { links });
        }
    }

    /// Of `over`, the time since it was told last.
    fn tell_rates(&mut self, over: Duration) {
        let mut rates = Vec::new();
        for (_, publication) in self.publications.iter_mut() {
            for (at, encoding) in publication.encodings.iter_mut().enumerate() {
                let layers: Vec<_> = encoding.weight.take(over).collect();
                if !layers.is_empty() {
                    rates.push(Rate {
                        publication: publication.id,
                        encoding: at as u8,
                        layers,
                    });
                }
            }
        }
        if !rates.is_empty() {
            self.events.push(Event::Rates { rates });
        }
    }
}

fn leg(leg: legs::Leg) -> Leg {
    Leg {
        expected: leg.expected,
        lost: leg.lost,
        jitter_ms: leg.jitter.as_millis().min(u128::from(u32::MAX)) as u32,
        queue_ms: leg.queue.as_millis().min(u128::from(u32::MAX)) as u32,
    }
}
