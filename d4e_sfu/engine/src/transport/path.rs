//! The address pairs that a client has proven to own by authenticated checks, and the one we send on (ICE-lite, RFC 8445).
//! A small table with one rule; it reads no datagram.
//!
//! The rule: among validated, nominated pairs send on the one where SRTP or SRTCP last authenticated; before keys exist,
//! where the last check with USE-CANDIDATE came from; and after an ICE restart the first nomination with its credentials
//! counts. A client who only listens may say nothing for a second after his NAT has forgotten him: so the path also follows
//! a nomination, where nothing authentic comes on the selected pair for [`GRACE`] after it; and an answer to a check of
//! ours (`inquiry.rs`), under the same condition. Nothing else moves the path; a copy of an earlier check does not. A pair
//! that has not been checked for [`PAIR_LIFE`] is no longer validated.

use std::net::SocketAddr;
use std::time::Duration;

use super::inquiry::Inquiries;
use crate::now::Now;
use crate::wire::stun::TransactionId;

/// Pairs remembered per transport; the least recently checked one makes room.
pub const MAX_PAIRS: usize = 8;
/// Consent (RFC 7675 §5.1), and the shorter time when the signalling is lost as well.
pub const CONSENT: Duration = Duration::from_secs(30);
pub const CONSENT_SIGNAL_LOST: Duration = Duration::from_secs(15);
/// Who receives media tells so about every 50 to 100 ms (transport-wide feedback).
pub const GRACE: Duration = Duration::from_millis(80);
/// Transactions remembered, so that a copy of a check is known. A client checks every 2.5 s: the last minutes.
const TRANSACTIONS: usize = 64;
/// Clients check the pair in use every 2.5 s (libwebrtc) to 6 s (RFC 7675); one that is silent this long is left.
pub const PAIR_LIFE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
struct Pair {
    local: SocketAddr,
    remote: SocketAddr,
    checked: Now,
    nominated: Option<Now>,
    media: Option<Now>,
}

#[derive(Debug)]
pub struct Path {
    pairs: Vec<Pair>,
    selected: Option<(SocketAddr, SocketAddr)>,
    /// Nominated, and since when nothing authentic has come on the selected pair.
    candidate: Option<(SocketAddr, SocketAddr, Now)>,
    keyed: bool,
    /// The client has restarted ICE, and has nominated nothing since.
    restarting: bool,
    checked: Now,
    transactions: [u32; TRANSACTIONS],
    next_transaction: usize,
    /// Where he may have moved to. Anything authentic on the selected pair ends them.
    pub inquiries: Inquiries,
}

/// What a check or a media packet changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The selected pair is another one now.
    pub moved: bool,
    /// This pair had to make room.
    pub evicted: Option<(SocketAddr, SocketAddr)>,
}

impl Path {
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            pairs: Vec::new(),
            selected: None,
            candidate: None,
            keyed: false,
            restarting: false,
            checked: now,
            transactions: [0; TRANSACTIONS],
            next_transaction: 0,
            inquiries: Inquiries::new(now),
        }
    }

    #[must_use]
    pub fn selected(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.selected
    }

    pub fn keyed(&mut self) {
        self.keyed = true;
    }

    /// An authenticated check came from `remote` to `local`.
    pub fn check(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        use_candidate: bool,
        transaction: &TransactionId,
    ) -> Change {
        let mut change = Change::default();
        let fresh = self.is_fresh(transaction);
        self.checked = now;
        let pair = self.proven(now, local, remote, &mut change);
        if use_candidate {
            pair.nominated = Some(now);
            if !self.keyed || self.selected.is_none() {
                change.moved = self.select(Some((local, remote)));
            }
        }
        if fresh && self.selected == Some((local, remote)) {
            self.candidate = None;
            self.inquiries.end();
        } else if fresh && use_candidate {
            self.candidate = Some((local, remote, now));
        }
        change
    }

    /// The client begins anew (RFC 8445 §9): the path stays until it has nominated another.
    pub fn restarted(&mut self) {
        self.restarting = true;
    }

    /// This pair, just checked, was nominated with the newest credentials. True when that moved the path: a client has
    /// restarted because it has moved, and may have no media to show it by. Only the first does so.
    pub fn renominated(&mut self, local: SocketAddr, remote: SocketAddr) -> bool {
        std::mem::take(&mut self.restarting) && self.select(Some((local, remote)))
    }

    /// A nomination or an answer waits for its time, or for something authentic on the selected pair.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.candidate.is_some() || self.inquiries.is_unsettled()
    }

    /// True when a nomination has moved the path.
    pub fn settle(&mut self, now: Now) -> bool {
        match self.candidate {
            Some((local, remote, since)) if now.since(since) >= GRACE => {
                self.find(local, remote).is_some() && self.select(Some((local, remote)))
            }
            _ => false,
        }
    }

    /// An inquiry has found him here: he sends here, and nowhere else. It is as good as a check of his with a nomination.
    pub fn arrive(&mut self, now: Now, local: SocketAddr, remote: SocketAddr) -> Change {
        let mut change = Change::default();
        self.checked = now;
        let pair = self.proven(now, local, remote, &mut change);
        (pair.nominated, pair.media) = (Some(now), Some(now));
        change.moved = self.select(Some((local, remote)));
        change
    }

    /// How long nothing authentic has come on the selected pair.
    #[must_use]
    pub fn quiet(&self, now: Now) -> Duration {
        self.selected
            .and_then(|(local, remote)| Some(&self.pairs[self.find(local, remote)?]))
            .map_or(Duration::ZERO, |pair| {
                now.since(pair.media.map_or(pair.checked, |at| at.max(pair.checked)))
            })
    }

    /// SRTP or SRTCP that came from `remote` to `local` authenticated. True when that moved the path.
    pub fn media(&mut self, now: Now, local: SocketAddr, remote: SocketAddr) -> bool {
        let Some(at) = self.find(local, remote) else {
            return false;
        };
        self.pairs[at].media = Some(now);
        if self.selected == Some((local, remote)) {
            self.candidate = None;
            self.inquiries.end();
        }
        self.pairs[at].nominated.is_some() && self.select(Some((local, remote)))
    }

    /// How long nothing but checks has been authentic.
    #[must_use]
    pub fn silence(&self, now: Now) -> Duration {
        let media = self.pairs.iter().filter_map(|pair| pair.media).max();
        media.map_or(Duration::ZERO, |media| now.since(media))
    }

    /// Forgets pairs that are no longer checked, but never the last one: consent ends with the transport.
    pub fn expire(&mut self, now: Now) -> (bool, Option<(SocketAddr, SocketAddr)>) {
        let freshest = self.pairs.iter().map(|pair| pair.checked).max();
        let Some(at) = self
            .pairs
            .iter()
            .position(|pair| now.since(pair.checked) > PAIR_LIFE && Some(pair.checked) != freshest)
        else {
            return (false, None);
        };
        let gone = self.pairs.swap_remove(at);
        let mut moved = false;
        if self.selected == Some((gone.local, gone.remote)) {
            let next = self
                .pairs
                .iter()
                .filter(|pair| pair.nominated.is_some())
                .max_by_key(|pair| (pair.media, pair.nominated))
                .map(|pair| (pair.local, pair.remote));
            moved = self.select(next);
        }
        (moved, Some((gone.local, gone.remote)))
    }

    /// The pair belongs to another transport now.
    pub fn remove(&mut self, local: SocketAddr, remote: SocketAddr) {
        self.pairs
            .retain(|pair| (pair.local, pair.remote) != (local, remote));
        if self.selected == Some((local, remote)) {
            self.selected = None;
        }
    }

    /// When this pair was last checked, if it is one of ours.
    #[must_use]
    pub fn last_checked(&self, local: SocketAddr, remote: SocketAddr) -> Option<Now> {
        self.find(local, remote).map(|at| self.pairs[at].checked)
    }

    /// When anything authentic last came.
    #[must_use]
    pub fn heard(&self) -> Now {
        let media = self.pairs.iter().filter_map(|pair| pair.media).max();
        media.map_or(self.checked, |media| media.max(self.checked))
    }

    /// No authenticated check for too long.
    #[must_use]
    pub fn gone(&self, now: Now, signal_lost: bool) -> bool {
        let limit = if signal_lost {
            CONSENT_SIGNAL_LOST
        } else {
            CONSENT
        };
        now.since(self.checked) >= limit
    }

    pub fn pairs(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> + '_ {
        self.pairs.iter().map(|pair| (pair.local, pair.remote))
    }

    /// The pair, which has just been proven; one may have to make room for it.
    fn proven(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        change: &mut Change,
    ) -> &mut Pair {
        let at = match self.find(local, remote) {
            Some(at) => at,
            None => {
                if self.pairs.len() == MAX_PAIRS {
                    change.evicted = self.evict();
                }
                self.pairs.push(Pair {
                    local,
                    remote,
                    checked: now,
                    nominated: None,
                    media: None,
                });
                self.pairs.len() - 1
            }
        };
        let pair = &mut self.pairs[at];
        pair.checked = now;
        pair
    }

    fn find(&self, local: SocketAddr, remote: SocketAddr) -> Option<usize> {
        self.pairs
            .iter()
            .position(|pair| pair.remote == remote && pair.local == local)
    }

    fn select(&mut self, pair: Option<(SocketAddr, SocketAddr)>) -> bool {
        let moved = self.selected != pair;
        self.selected = pair;
        self.candidate = None;
        self.inquiries.end();
        moved
    }

    /// False for a transaction that came before, from wherever: a check does not say where it was sent from.
    fn is_fresh(&mut self, transaction: &TransactionId) -> bool {
        // Chosen at random by the client (RFC 8489 §5); nobody else can sign one.
        let known = transaction.iter().fold(0_u32, |hash, &byte| {
            hash.rotate_left(5) ^ hash ^ u32::from(byte).wrapping_mul(0x9e37_79b1)
        });
        if self.transactions.contains(&known) {
            return false;
        }
        self.transactions[self.next_transaction] = known;
        self.next_transaction = (self.next_transaction + 1) % TRANSACTIONS;
        true
    }

    fn evict(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        let (at, _) = self
            .pairs
            .iter()
            .enumerate()
            .filter(|(_, pair)| self.selected != Some((pair.local, pair.remote)))
            .min_by_key(|(_, pair)| pair.checked)?;
        let gone = self.pairs.swap_remove(at);
        Some((gone.local, gone.remote))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "10.0.0.1:7882";
    fn at(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }
    fn remote(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }
    fn secs(s: u64) -> Now {
        Now::from_millis(s * 1_000)
    }

    /// One that no check has had yet.
    fn new_one(n: u32) -> [u8; 12] {
        let mut transaction = [3; 12];
        transaction[..4].copy_from_slice(&(n + 1).to_be_bytes());
        transaction
    }

    struct Case {
        name: &'static str,
        steps: &'static [Step],
        selected: Option<u16>,
    }
    enum Step {
        Check(u16),
        Nominate(u16),
        Keys,
        Media(u16),
    }
    use Step::{Check, Keys, Media, Nominate};

    #[test]
    fn the_rule_as_a_table() {
        let cases = [
            Case {
                name: "nothing",
                steps: &[],
                selected: None,
            },
            Case {
                name: "a check without USE-CANDIDATE selects nothing",
                steps: &[Check(1)],
                selected: None,
            },
            Case {
                name: "the first nomination selects",
                steps: &[Check(1), Nominate(1)],
                selected: Some(1),
            },
            Case {
                name: "before keys the last nomination wins",
                steps: &[Nominate(1), Nominate(2)],
                selected: Some(2),
            },
            Case {
                name: "and may return",
                steps: &[Nominate(1), Nominate(2), Nominate(1)],
                selected: Some(1),
            },
            Case {
                name: "after keys a nomination alone does not move",
                steps: &[Nominate(1), Keys, Nominate(2)],
                selected: Some(1),
            },
            Case {
                name: "media on a nominated pair moves",
                steps: &[Nominate(1), Keys, Nominate(2), Media(2)],
                selected: Some(2),
            },
            Case {
                name: "media on a pair only checked does not",
                steps: &[Nominate(1), Keys, Check(2), Media(2)],
                selected: Some(1),
            },
            Case {
                name: "media before its nomination does not move by itself",
                steps: &[Nominate(1), Keys, Check(2), Media(2), Nominate(2)],
                selected: Some(1),
            },
            Case {
                name: "the next media after it does",
                steps: &[Nominate(1), Keys, Check(2), Media(2), Nominate(2), Media(2)],
                selected: Some(2),
            },
            Case {
                name: "media from an address never checked moves nothing",
                steps: &[Nominate(1), Keys, Media(3)],
                selected: Some(1),
            },
            Case {
                name: "back and forth follows the media",
                steps: &[Nominate(1), Keys, Nominate(2), Media(2), Media(1)],
                selected: Some(1),
            },
            Case {
                name: "keys before any pair: the first nomination selects",
                steps: &[Keys, Check(1), Nominate(1)],
                selected: Some(1),
            },
        ];
        for case in cases {
            let mut path = Path::new(Now(0));
            for (n, step) in case.steps.iter().enumerate() {
                let now = Now::from_millis(n as u64);
                match *step {
                    Check(port) => {
                        path.check(now, at(LOCAL), remote(port), false, &new_one(n as u32));
                    }
                    Nominate(port) => {
                        path.check(now, at(LOCAL), remote(port), true, &new_one(n as u32));
                    }
                    Keys => path.keyed(),
                    Media(port) => {
                        path.media(now, at(LOCAL), remote(port));
                    }
                }
            }
            let expected = case.selected.map(|port| (at(LOCAL), remote(port)));
            assert_eq!(path.selected(), expected, "{}", case.name);
        }
    }

    #[test]
    fn two_sockets_of_ours_are_two_pairs() {
        let mut path = Path::new(Now(0));
        path.check(Now(0), at(LOCAL), remote(1), true, &new_one(0));
        path.check(Now(1), at("10.0.0.2:7882"), remote(1), true, &new_one(1));
        assert_eq!(path.selected(), Some((at("10.0.0.2:7882"), remote(1))));
        assert_eq!(path.pairs().count(), 2);
    }

    #[test]
    fn eight_pairs_and_the_selected_one_stays() {
        let mut path = Path::new(Now(0));
        path.check(Now(0), at(LOCAL), remote(1), true, &new_one(0));
        for port in 2..=20 {
            let change = path.check(
                Now(u64::from(port)),
                at(LOCAL),
                remote(port),
                false,
                &new_one(u32::from(port)),
            );
            assert_eq!(change.evicted.is_some(), port > 8, "{port}");
        }
        assert_eq!(path.pairs().count(), MAX_PAIRS);
        assert_eq!(path.selected(), Some((at(LOCAL), remote(1))));
    }

    #[test]
    fn consent_ends_after_thirty_seconds_or_fifteen_without_signalling() {
        let mut path = Path::new(Now(0));
        path.check(secs(5), at(LOCAL), remote(1), true, &new_one(5));
        assert!(!path.gone(Now(secs(35).0 - 1), false));
        assert!(path.gone(secs(35), false));
        assert!(!path.gone(Now(secs(20).0 - 1), true));
        assert!(path.gone(secs(20), true));
    }

    #[test]
    fn a_selected_pair_that_is_no_longer_checked_is_left_for_a_live_one() {
        let mut path = Path::new(Now(0));
        path.check(Now(0), at(LOCAL), remote(1), true, &new_one(0));
        path.keyed();
        path.media(Now(1), at(LOCAL), remote(1));
        for s in 1..=15 {
            path.check(secs(s), at(LOCAL), remote(2), true, &new_one(s as u32));
            assert_eq!(path.expire(secs(s)), (false, None), "{s}");
        }
        path.check(secs(16), at(LOCAL), remote(2), true, &new_one(16));
        assert_eq!(path.expire(secs(16)), (true, Some((at(LOCAL), remote(1)))));
        assert_eq!(path.selected(), Some((at(LOCAL), remote(2))));
        // The last pair stays until consent ends.
        assert_eq!(path.expire(secs(60)), (false, None));
    }

    fn listening() -> Path {
        let mut path = Path::new(Now(0));
        path.check(Now(0), at(LOCAL), remote(1), true, &new_one(0));
        path.keyed();
        path.media(Now::from_millis(1), at(LOCAL), remote(1));
        path
    }
    fn ms(ms: u64) -> Now {
        Now::from_millis(1_000 + ms)
    }

    #[test]
    fn the_path_follows_a_nomination_within_a_tenth_of_a_second_where_the_selected_pair_is_silent()
    {
        let mut path = listening();
        path.check(ms(0), at(LOCAL), remote(2), true, &new_one(1));
        assert!(!path.settle(ms(79)));
        assert_eq!(path.selected(), Some((at(LOCAL), remote(1))));
        assert!(path.is_unsettled());
        assert!(path.settle(ms(80)));
        assert_eq!(path.selected(), Some((at(LOCAL), remote(2))));
        assert!(!path.is_unsettled() && !path.settle(ms(200)));
    }

    #[test]
    fn it_stays_where_something_authentic_comes_after_the_nomination() {
        for by_check in [false, true] {
            let mut path = listening();
            path.check(ms(0), at(LOCAL), remote(2), true, &new_one(1));
            if by_check {
                path.check(ms(50), at(LOCAL), remote(1), false, &new_one(2));
            } else {
                path.media(ms(50), at(LOCAL), remote(1));
            }
            assert!(!path.settle(ms(80)) && !path.settle(ms(500)), "{by_check}");
            assert_eq!(path.selected(), Some((at(LOCAL), remote(1))));
        }
    }

    #[test]
    fn a_check_without_nomination_and_a_copy_of_one_with_it_move_nothing() {
        let mut path = listening();
        path.check(ms(0), at(LOCAL), remote(2), false, &new_one(1));
        assert!(!path.settle(ms(500)));
        path.check(ms(600), at(LOCAL), remote(1), true, &new_one(2));
        path.check(ms(601), at(LOCAL), remote(3), true, &new_one(2));
        assert!(!path.settle(ms(2_000)), "somebody has sent it again");
        for n in 0..TRANSACTIONS as u32 - 1 {
            path.check(ms(2_000), at(LOCAL), remote(1), true, &new_one(10 + n));
        }
        path.check(ms(2_001), at(LOCAL), remote(3), true, &new_one(2));
        assert!(!path.settle(ms(5_000)), "known as long as that");
    }

    #[test]
    fn a_pair_that_was_taken_away_is_not_followed() {
        let mut path = listening();
        path.check(ms(0), at(LOCAL), remote(2), true, &new_one(1));
        path.remove(at(LOCAL), remote(2));
        assert!(!path.settle(ms(500)));
    }
}
