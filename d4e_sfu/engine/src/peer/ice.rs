//! The peer's ICE agent: checks, nomination and consent as the controlling side of RFC 8445 (or the silent lite side).
//! One local address at a time; what moves between addresses is the caller's play.

use std::net::SocketAddr;

use crate::wire::stun::{self, BindingRequest, Class, IntegrityKey, Message, TransactionId};

use super::chance::Chance;
use super::spec::PeerSpec;
use super::{Nanos, SECOND, seconds};

/// RFC 8445 §14.2: Ta, between checks of one check list.
const PACE: Nanos = 50 * SECOND / 1000;
/// First retransmission; doubles up to a limit that keeps set-up under loss short.
const FIRST_RTO: Nanos = 100 * SECOND / 1000;
const MAX_RTO: Nanos = 800 * SECOND / 1000;
/// RFC 7675 §5.1: consent expires after 30 s without a response.
const EXPIRY: Nanos = 30 * SECOND;
/// Host candidate, component 1 (RFC 8445 §5.1.2.1), as a peer-reflexive check says it: type preference 110.
const PRIORITY: u32 = 110 << 24 | 0xffff << 8 | 255;

pub struct Agent {
    lite: bool,
    answers: bool,
    /// What requests to us are signed with.
    ours: IntegrityKey,
    /// What our requests are signed with.
    theirs: IntegrityKey,
    username: String,
    expected: String,
    tie_breaker: u64,
    pairs: Vec<Pair>,
    selected: Option<SocketAddr>,
    consent: Nanos,
    next: Nanos,
    /// Last response on the selected pair.
    heard: Nanos,
    started: Nanos,
    lost: bool,
    /// Answers are not read: silence says nothing.
    pub deaf: bool,
    pub checks: u64,
    pub responses: u64,
    pub errors: u64,
}

struct Pair {
    remote: SocketAddr,
    valid: bool,
    transaction: Option<TransactionId>,
    nominating: bool,
    next: Nanos,
    rto: Nanos,
}

impl Agent {
    pub fn new(spec: &PeerSpec, now: Nanos, chance: &mut Chance) -> Self {
        let pairs = spec.remotes.iter().enumerate().map(|(n, &remote)| Pair {
            remote,
            valid: false,
            transaction: None,
            nominating: false,
            next: now + n as Nanos * PACE,
            rto: FIRST_RTO,
        });
        Self {
            lite: spec.lite,
            answers: spec.answers,
            ours: IntegrityKey::new(&spec.local_pwd),
            theirs: IntegrityKey::new(&spec.remote_pwd),
            username: format!("{}:{}", spec.remote_ufrag, spec.local_ufrag),
            expected: format!("{}:{}", spec.local_ufrag, spec.remote_ufrag),
            tie_breaker: chance.word(),
            pairs: pairs.collect(),
            selected: None,
            consent: seconds(spec.consent),
            next: now,
            heard: now,
            started: now,
            lost: false,
            deaf: false,
            checks: 0,
            responses: 0,
            errors: 0,
        }
    }

    pub fn selected(&self) -> Option<SocketAddr> {
        self.selected.filter(|_| !self.lost)
    }

    /// No answer for 30 s: consent is gone, and we must not send (RFC 7675 §5.1).
    pub fn lost(&self) -> bool {
        self.lost
    }

    /// Checks anew at once: our address has changed.
    pub fn moved(&mut self, now: Nanos) {
        self.next = now;
    }

    pub fn next_timeout(&self) -> Option<Nanos> {
        if self.lite || self.lost {
            return None;
        }
        match self.selected {
            None => self.pairs.iter().map(|pair| pair.next).min(),
            Some(_) if self.consent == 0 => None,
            Some(_) => Some(self.next),
        }
    }

    /// Pushes what is due: (destination, datagram).
    pub fn advance(
        &mut self,
        now: Nanos,
        chance: &mut Chance,
        out: &mut Vec<(SocketAddr, Vec<u8>)>,
    ) {
        if self.lite || self.lost {
            return;
        }
        if let Some(selected) = self.selected {
            if now >= self.heard + EXPIRY && !self.deaf {
                self.lost = true;
            } else if self.consent > 0 && now >= self.next {
                self.next = now + (self.consent as f64 * chance.between(0.8, 1.2)) as Nanos;
                let at = self.pairs.iter().position(|pair| pair.remote == selected);
                if let Some(at) = at {
                    self.check(at, true, chance, out);
                }
            }
            return;
        }
        if now >= self.started + EXPIRY {
            self.lost = true;
            return;
        }
        // The first pair that answered is nominated; the others go on in case it falls silent.
        let chosen = self.pairs.iter().position(|pair| pair.valid);
        for at in 0..self.pairs.len() {
            if now >= self.pairs[at].next && chosen.is_none_or(|chosen| chosen == at) {
                let rto = self.pairs[at].rto;
                self.pairs[at].next = now + rto;
                self.pairs[at].rto = (rto * 2).min(MAX_RTO);
                self.check(at, chosen.is_some(), chance, out);
            } else if now >= self.pairs[at].next {
                self.pairs[at].next = now + MAX_RTO;
            }
        }
    }

    fn check(
        &mut self,
        at: usize,
        use_candidate: bool,
        chance: &mut Chance,
        out: &mut Vec<(SocketAddr, Vec<u8>)>,
    ) {
        let mut fresh = [0; 12];
        fresh[..8].copy_from_slice(&chance.word().to_be_bytes());
        fresh[8..].copy_from_slice(&chance.word().to_be_bytes()[..4]);
        // A retransmission is the same request, or no answer would ever be in time where the round trip is longer than
        // the timer (RFC 8489 §6.2.1). A check of consent is always a new one (RFC 7675 §5.1).
        let before = &self.pairs[at];
        let again = self.selected.is_none() && before.nominating == use_candidate;
        let transaction = before.transaction.filter(|_| again).unwrap_or(fresh);
        let request = BindingRequest {
            transaction,
            username: &self.username,
            priority: PRIORITY,
            controlling: Some(self.tie_breaker),
            controlled: None,
            use_candidate,
        };
        let mut datagram = vec![0; 1200];
        let Some(len) = stun::write_binding_request(&mut datagram, &request, &self.theirs) else {
            return;
        };
        datagram.truncate(len);
        self.checks += 1;
        let pair = &mut self.pairs[at];
        pair.transaction = Some(transaction);
        pair.nominating = use_candidate;
        out.push((pair.remote, datagram));
    }

    /// Takes a STUN datagram; pushes an answer if one is due. True when a path was selected by it.
    pub fn handle(
        &mut self,
        now: Nanos,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Vec<(SocketAddr, Vec<u8>)>,
    ) -> bool {
        let Ok(message) = Message::parse(datagram) else {
            self.errors += 1;
            return false;
        };
        match message.class {
            Class::Request => {
                if !self.answers {
                    return false;
                }
                let username = message.username == Some(self.expected.as_bytes());
                if !username || !message.fingerprint || !message.verify(&self.ours) {
                    self.errors += 1;
                    return false;
                }
                let mut answer = vec![0; 128];
                if let Some(len) =
                    stun::write_binding_success(&mut answer, &message.transaction, from, &self.ours)
                {
                    answer.truncate(len);
                    out.push((from, answer));
                }
                let first = self.lite && message.use_candidate && self.selected != Some(from);
                if first {
                    self.selected = Some(from);
                }
                first
            }
            Class::Success => {
                let pair = self
                    .pairs
                    .iter_mut()
                    .find(|pair| pair.transaction == Some(message.transaction));
                let Some(pair) =
                    pair.filter(|pair| pair.remote == from && message.verify(&self.theirs))
                else {
                    self.errors += 1;
                    return false;
                };
                self.responses += 1;
                self.heard = now;
                pair.valid = true;
                pair.next = now;
                pair.rto = FIRST_RTO;
                pair.transaction = None;
                if pair.nominating && self.selected.is_none() {
                    self.selected = Some(from);
                    self.next = now + self.consent;
                    return true;
                }
                false
            }
            Class::Error => {
                self.errors += 1;
                false
            }
            Class::Indication => false,
        }
    }
}
