//! The world that the clients of tests live in: one router, a clock that is set by hand, and the datagrams that have left;
//! and what is published and subscribed to in it.

use std::net::SocketAddr;

use super::Client;
use crate::api::{
    Codec, Command, Encoding, Estimate, Event, Link, PublicationSpec, Rate, SubscriptionSpec, Voice,
};
use crate::now::Now;
use crate::outlet::Kept;
use crate::router::Router;
use crate::wire::drop::DropReason;

pub struct World {
    pub router: Router,
    pub kept: Kept,
    pub now: Now,
    pub local: SocketAddr,
}

impl World {
    pub fn new() -> Self {
        Self {
            router: Router::default(),
            kept: Kept::default(),
            now: Now::from_millis(1_000),
            local: "10.0.0.1:7882".parse().unwrap(),
        }
    }

    pub fn apply(&mut self, command: Command) {
        self.router.apply(self.now, command, &mut self.kept);
        self.router.advance(self.now, &mut self.kept);
    }

    pub fn handle(&mut self, remote: SocketAddr, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        self.router
            .handle(self.now, self.local, remote, &mut datagram, &mut self.kept);
        self.router.advance(self.now, &mut self.kept);
    }

    /// Several datagrams that one call of recvmmsg brought.
    pub fn handle_batch(&mut self, remote: SocketAddr, datagrams: &[&[u8]]) {
        for datagram in datagrams {
            let mut datagram = datagram.to_vec();
            self.router
                .handle(self.now, self.local, remote, &mut datagram, &mut self.kept);
        }
        self.router.advance(self.now, &mut self.kept);
    }

    /// Lets time pass, waking the router whenever it asked for it.
    pub fn pass(&mut self, ms: u64) {
        let end = Now(self.now.0 + ms * 1_000_000);
        while let Some(at) = self.router.next_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.router.advance(self.now, &mut self.kept);
        }
        self.now = end;
        self.router.advance(self.now, &mut self.kept);
    }

    /// But for what is measured: that comes by the clock, whatever a test is about.
    pub fn events(&mut self) -> Vec<Event> {
        let measured = |event: &Event| {
            matches!(
                event,
                Event::Voices { .. }
                    | Event::Links { .. }
                    | Event::Estimates { .. }
                    | Event::Rates { .. }
            )
        };
        std::iter::from_fn(|| self.router.events().pop())
            .filter(|event| !measured(event))
            .collect()
    }

    /// The latest voices and the latest links.
    pub fn measured(&mut self) -> (Vec<Voice>, Vec<Link>) {
        let (mut voices_told, mut links_told) = (Vec::new(), Vec::new());
        while let Some(event) = self.router.events().pop() {
            match event {
                Event::Voices { voices } => voices_told = voices,
                Event::Links { links } => links_told = links,
                _ => {}
            }
        }
        (voices_told, links_told)
    }

    /// The latest estimates.
    pub fn estimates(&mut self) -> Vec<Estimate> {
        let mut latest = Vec::new();
        while let Some(event) = self.router.events().pop() {
            if let Event::Estimates { estimates } = event {
                latest = estimates;
            }
        }
        latest
    }

    /// What has waited of the rates.
    pub fn rates(&mut self) -> Vec<Rate> {
        std::iter::from_fn(|| self.router.events().pop())
            .filter_map(|event| match event {
                Event::Rates { rates } => Some(rates),
                _ => None,
            })
            .flatten()
            .collect()
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.router.snapshot().counters.drops.get(reason)
    }

    /// One video publication of `client` with encodings named `rids` (none: one without a name), as publication 1.
    pub fn publish_video(
        &mut self,
        client: &Client,
        publication: u32,
        codec: Codec,
        rids: &[&str],
    ) {
        let encodings = if rids.is_empty() {
            vec![Encoding {
                rid: None,
                ssrc: None,
                rtx_ssrc: None,
            }]
        } else {
            rids.iter()
                .map(|rid| Encoding {
                    rid: Some((*rid).into()),
                    ssrc: None,
                    rtx_ssrc: None,
                })
                .collect()
        };
        self.apply(Command::AddPublication {
            publication,
            transport: client.id,
            spec: PublicationSpec {
                codec,
                mid: format!("p{publication}"),
                payload_type: 96,
                rtx_payload_type: Some(97),
                red_payload_type: None,
                event_payload_type: None,
                encodings,
                max_bitrate: 50_000_000,
                nack: true,
            },
        });
    }

    pub fn publish_voice(&mut self, client: &Client, publication: u32) {
        self.apply(Command::AddPublication {
            publication,
            transport: client.id,
            spec: PublicationSpec {
                codec: Codec::Opus,
                mid: format!("p{publication}"),
                payload_type: 111,
                rtx_payload_type: None,
                red_payload_type: None,
                event_payload_type: None,
                encodings: vec![Encoding {
                    rid: None,
                    ssrc: None,
                    rtx_ssrc: None,
                }],
                max_bitrate: 1_000_000,
                nack: false,
            },
        });
    }

    pub fn subscribe(
        &mut self,
        client: &Client,
        subscription: u32,
        publication: u32,
        spatial: Option<u8>,
    ) {
        self.subscribe_as(
            client,
            subscription,
            publication,
            spec(subscription, spatial),
        );
    }

    pub fn subscribe_as(
        &mut self,
        client: &Client,
        subscription: u32,
        publication: u32,
        spec: SubscriptionSpec,
    ) {
        self.apply(Command::AddSubscription {
            subscription,
            publication,
            transport: client.id,
            spec,
        });
    }
}

/// As most subscriptions are: with a stream for what is sent again, and nothing else beside it.
pub fn spec(subscription: u32, spatial: Option<u8>) -> SubscriptionSpec {
    SubscriptionSpec {
        mid: format!("s{subscription}"),
        payload_type: 100,
        rtx_payload_type: Some(101),
        red_payload_type: None,
        event_payload_type: None,
        ssrc: 0x5000_0000 + subscription,
        rtx_ssrc: Some(0x6000_0000 + subscription),
        cname: "someone".into(),
        spatial,
        temporal: 255,
        transport_wide: true,
    }
}

/// Of one who has agreed on no stream for what is sent again.
pub fn without_repairs(subscription: u32) -> SubscriptionSpec {
    SubscriptionSpec {
        rtx_payload_type: None,
        rtx_ssrc: None,
        ..spec(subscription, Some(0))
    }
}
