//! A link with a rate and a queue between the router and one client, who tells what has come and when, as a browser does.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::client::TWCC;
use super::{Client, Got, World};
use crate::now::Now;
use crate::wire::packet::Header;
use crate::wire::rtcp;
use crate::wire::seq::{SeqNo, Ssrc, Unwrapper};

/// What waits in the link longer than this is dropped at its entry.
const QUEUE: Duration = Duration::from_millis(300);
const DELAY: Duration = Duration::from_millis(25);
const FEEDBACK: Duration = Duration::from_millis(50);

/// From, to, and what it holds.
type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

pub struct Bottleneck {
    /// `None`: no limit.
    pub bps: Option<u64>,
    /// What the client says instead of the truth.
    pub lie: Option<Lie>,
    free: Now,
    underway: VecDeque<(Now, Datagram)>,
    answers: VecDeque<(Now, Vec<u8>)>,
    unwrapper: Unwrapper,
    arrivals: BTreeMap<u64, i64>,
    highest: u64,
    /// The first number that was not told of.
    next: Option<u64>,
    told: Now,
    count: u8,
    /// When each packet came, its header and its payload.
    pub came: Vec<(Now, Header, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    Everything,
    Nothing,
}

impl Bottleneck {
    pub fn new(bps: Option<u64>) -> Self {
        Self {
            bps,
            lie: None,
            free: Now(0),
            underway: VecDeque::new(),
            answers: VecDeque::new(),
            unwrapper: Unwrapper::default(),
            arrivals: BTreeMap::new(),
            highest: 0,
            next: None,
            told: Now(0),
            count: 0,
            came: Vec::new(),
        }
    }

    /// Call every millisecond, before time passes.
    pub fn carry(&mut self, world: &mut World, client: &mut Client) {
        let now = world.now;
        let (mine, others) = std::mem::take(&mut world.kept.datagrams)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, to, _)| *to == client.remote);
        for datagram in mine {
            let bits = (datagram.2.len() as u64 + 28) * 8;
            let takes = self.bps.map_or(Duration::ZERO, |bps| {
                Duration::from_nanos(bits * 1_000_000_000 / bps)
            });
            if self.free.since(now) <= QUEUE {
                self.free = self.free.max(now).plus(takes);
                self.underway.push_back((self.free.plus(DELAY), datagram));
            }
        }
        while self.underway.front().is_some_and(|(at, _)| *at <= now) {
            world
                .kept
                .datagrams
                .extend(self.underway.pop_front().map(|(_, datagram)| datagram));
        }
        for got in client.got(world) {
            let Got::Rtp {
                header,
                packet,
                payload,
            } = got
            else {
                continue;
            };
            if let Some(&[high, low]) = header.extension(&packet, TWCC) {
                let number = self
                    .unwrapper
                    .unwrap(SeqNo(u16::from_be_bytes([high, low])))
                    .0;
                self.arrivals.insert(number, (now.0 / 250_000) as i64);
                self.highest = self.highest.max(number);
                self.next.get_or_insert(number);
            }
            self.came.push((now, header, payload));
        }
        world.kept.datagrams = others;
        self.tell(now, client);
        while self.answers.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, answer)) = self.answers.pop_front() {
                world.handle(client.remote, &answer);
            }
        }
    }

    fn tell(&mut self, now: Now, client: &mut Client) {
        let (Some(next), highest) = (self.next, self.highest) else {
            return;
        };
        if now.since(self.told) < FEEDBACK || next > highest {
            return;
        }
        self.told = now;
        let tick = (now.0 / 250_000) as i64;
        let statuses: Vec<Option<i64>> = (next..=highest)
            .map(|number| match self.lie {
                None => self.arrivals.get(&number).copied(),
                Some(Lie::Everything) => Some(tick),
                Some(Lie::Nothing) => (number == highest).then_some(tick),
            })
            .collect();
        let mut covered = 0;
        let answer = client.sealed_rtcp(|slot| {
            let written = rtcp::write_transport_feedback(
                &mut slot[..1_000],
                Ssrc(1),
                Ssrc(0),
                SeqNo(next as u16),
                self.count,
                &statuses,
            )?;
            covered = written.covered;
            Some(written.len)
        });
        self.count = self.count.wrapping_add(1);
        self.next = Some(next + covered as u64);
        self.arrivals = self.arrivals.split_off(&(next + covered as u64));
        self.answers.push_back((now.plus(DELAY), answer));
    }
}
