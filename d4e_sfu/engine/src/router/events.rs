//! What waits for Python, in bounded memory however long it is busy. What says how things stand now (a path, whether an
//! encoding is active, which layer is forwarded) replaces what it said before, in its old place; what happens once is
//! never lost; DTLS datagrams are dropped, and counted, when too many wait.

use std::collections::{HashMap, VecDeque};

use crate::api::{Event, PublicationId, SubscriptionId, TransportId};

/// DTLS datagrams waiting for Python, in all and for one transport: a handshake takes ten, SCTP repairs what is lost.
const MAX_DTLS: usize = 4_096;
const MAX_DTLS_EACH: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Path(TransportId),
    Active(PublicationId, u8),
    Layer(SubscriptionId),
    Voices,
    Links,
    Estimates,
    Rates,
    /// Happens once.
    Once(u64),
}

#[derive(Debug, Default)]
pub struct Events {
    order: VecDeque<Key>,
    waiting: HashMap<Key, Event>,
    dtls: HashMap<TransportId, usize>,
    dtls_total: usize,
    once: u64,
}

impl Events {
    /// False when it was dropped.
    pub fn push(&mut self, event: Event) -> bool {
        let key = match &event {
            Event::PathChanged { transport, .. } => Key::Path(*transport),
            Event::EncodingActive {
                publication,
                encoding,
                ..
            } => Key::Active(*publication, *encoding),
            Event::LayerChanged { subscription, .. } => Key::Layer(*subscription),
            Event::Voices { .. } => Key::Voices,
            Event::Links { .. } => Key::Links,
            Event::Estimates { .. } => Key::Estimates,
            Event::Rates { .. } => Key::Rates,
            Event::Dtls { transport, .. } => {
                let of_one = self.dtls.get(transport).copied().unwrap_or(0);
                if of_one >= MAX_DTLS_EACH || self.dtls_total >= MAX_DTLS {
                    return false;
                }
                self.dtls.insert(*transport, of_one + 1);
                self.dtls_total += 1;
                self.unique()
            }
            Event::TransportGone { .. } | Event::Debug { .. } | Event::WorkerDied { .. } => {
                self.unique()
            }
        };
        if self.waiting.insert(key, event).is_none() {
            self.order.push_back(key);
        }
        true
    }

    pub fn pop(&mut self) -> Option<Event> {
        let event = self.waiting.remove(&self.order.pop_front()?)?;
        if let Event::Dtls { transport, .. } = &event {
            self.dtls_total -= 1;
            if let Some(of_one) = self.dtls.get_mut(transport) {
                *of_one -= 1;
                if *of_one == 0 {
                    self.dtls.remove(transport);
                }
            }
        }
        Some(event)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn unique(&mut self) -> Key {
        self.once += 1;
        Key::Once(self.once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(events: &mut Events) -> Vec<Event> {
        std::iter::from_fn(|| events.pop()).collect()
    }

    #[test]
    fn values_overwrite_in_their_place_and_edges_stay() {
        let mut events = Events::default();
        let active = |encoding, active| Event::EncodingActive {
            publication: 1,
            encoding,
            active,
        };
        events.push(active(0, true));
        events.push(Event::TransportGone { transport: 9 });
        events.push(active(1, true));
        events.push(active(0, false));
        events.push(Event::TransportGone { transport: 9 });
        assert_eq!(
            drain(&mut events),
            [
                active(0, false),
                Event::TransportGone { transport: 9 },
                active(1, true),
                Event::TransportGone { transport: 9 }
            ]
        );
        events.push(active(0, true));
        assert_eq!(drain(&mut events), [active(0, true)]);
    }

    #[test]
    fn a_flood_of_datagrams_is_bounded_for_one_and_for_all_and_others_get_through() {
        let mut events = Events::default();
        let dtls = |transport| Event::Dtls {
            transport,
            datagram: vec![22; 100],
        };
        let kept = (0..10_000).filter(|_| events.push(dtls(1))).count();
        assert_eq!(kept, MAX_DTLS_EACH);
        assert!(events.push(dtls(2)), "another transport is not shut out");
        for transport in 3..100 {
            for _ in 0..1_000 {
                events.push(dtls(transport));
            }
        }
        assert_eq!(events.len(), MAX_DTLS);
        assert!(
            events.push(Event::TransportGone { transport: 1 }),
            "edges are never dropped"
        );
        assert_eq!(drain(&mut events).len(), MAX_DTLS + 1);
        assert!(events.push(dtls(1)));
        assert_eq!((events.dtls.len(), events.dtls_total), (1, 1));
    }
}
