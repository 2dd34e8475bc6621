//! Hostility by rate: what a client with valid keys, or a stranger on its address, can throw at a server.

use crate::wire::packet::{Fields, write_header};
use crate::wire::rtcp;
use crate::wire::seq::{SeqNo, Ssrc, Timestamp};
use crate::wire::stun::{BindingRequest, IntegrityKey, write_binding_request};

use super::chance::Chance;
use super::outlet::Outlet;
use super::spec::StormSpec;
use super::{Nanos, SECOND};

/// In one step, so that a pause is not followed by a flood of the tester's own making.
const MAX_BURST: f64 = 200.0;

#[derive(Default)]
pub struct Storm {
    pub spec: StormSpec,
    last: Nanos,
    owed: [f64; 6],
    first_byte: u8,
    pub sent: u64,
}

impl Storm {
    pub fn set(&mut self, spec: StormSpec, now: Nanos) {
        self.spec = spec;
        self.last = now;
        self.owed = [0.0; 6];
    }

    fn rates(&self) -> [f64; 6] {
        let spec = &self.spec;
        [
            spec.nacks,
            spec.plis,
            spec.ssrcs,
            spec.stun,
            spec.replays,
            spec.noise,
        ]
    }

    pub fn next_timeout(&self) -> Option<Nanos> {
        let fastest = self.rates().into_iter().fold(0.0, f64::max);
        (fastest > 0.0).then(|| self.last + (SECOND as f64 / fastest.min(1000.0)) as Nanos)
    }

    pub fn advance(
        &mut self,
        now: Nanos,
        media: &[Ssrc],
        payload_type: u8,
        outlet: &mut Outlet,
        chance: &mut Chance,
    ) {
        let passed = now.saturating_sub(self.last) as f64 / SECOND as f64;
        self.last = now;
        for (kind, rate) in self.rates().into_iter().enumerate() {
            self.owed[kind] = (self.owed[kind] + rate * passed).min(MAX_BURST);
            while self.owed[kind] >= 1.0 {
                self.owed[kind] -= 1.0;
                self.sent += 1;
                match kind {
                    0 => nacks(media, outlet, chance),
                    1 => plis(media, outlet),
                    2 => new_ssrc(payload_type, outlet, chance),
                    3 => bogus_check(outlet, chance),
                    4 => outlet.replay(1),
                    _ => self.noise(outlet, chance),
                }
            }
        }
    }

    fn noise(&mut self, outlet: &mut Outlet, chance: &mut Chance) {
        let Some(remote) = outlet.remote else { return };
        let mut datagram = vec![0; chance.between(0.0, 1400.0) as usize];
        for byte in &mut datagram {
            *byte = chance.word() as u8;
        }
        if let Some(first) = datagram.first_mut() {
            *first = self.first_byte;
        }
        self.first_byte = self.first_byte.wrapping_add(1);
        outlet.raw(remote, datagram);
    }
}

fn nacks(media: &[Ssrc], outlet: &mut Outlet, chance: &mut Chance) {
    for &ssrc in media {
        let start = SeqNo(chance.word() as u16);
        let lost: Vec<_> = (0..17 * 60).map(|n| start.add(n)).collect();
        let mut compound = [0; 1000];
        if let Some(len) = rtcp::write_nack(&mut compound, Ssrc(1), ssrc, &lost) {
            outlet.rtcp(&compound[..len]);
        }
    }
}

fn plis(media: &[Ssrc], outlet: &mut Outlet) {
    for &ssrc in media {
        let mut compound = [0; 16];
        if let Some(len) = rtcp::write_pli(&mut compound, Ssrc(1), ssrc) {
            outlet.rtcp(&compound[..len]);
        }
    }
}

fn new_ssrc(payload_type: u8, outlet: &mut Outlet, chance: &mut Chance) {
    let fields = Fields {
        marker: false,
        padding: false,
        payload_type,
        seq: SeqNo(chance.word() as u16),
        timestamp: Timestamp(0),
        ssrc: Ssrc(chance.word() as u32),
    };
    let mut packet = [0xf8; 60];
    if let Some(len) = write_header(&mut packet, &fields, &[]) {
        outlet.sealed(&packet, len, 0);
    }
}

fn bogus_check(outlet: &mut Outlet, chance: &mut Chance) {
    let Some(remote) = outlet.remote else { return };
    let mut transaction = [0; 12];
    transaction[..8].copy_from_slice(&chance.word().to_be_bytes());
    let request = BindingRequest {
        transaction,
        username: "nobody:nowhere",
        priority: 1,
        controlling: Some(1),
        controlled: None,
        use_candidate: true,
    };
    let mut datagram = vec![0; 200];
    if let Some(len) = write_binding_request(&mut datagram, &request, &IntegrityKey::new("wrong")) {
        datagram.truncate(len);
        outlet.raw(remote, datagram);
    }
}
