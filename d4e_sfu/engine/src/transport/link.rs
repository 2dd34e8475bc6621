//! The way down to one client: the estimate of what it carries, and the pacer that obeys it. Every packet that leaves passes
//! here for its transport-wide number and its place in the account. Without feedback from the client nothing is
//! estimated for long and nothing is paced: he is served as one whose link has no limit.

use std::time::Duration;

use crate::api::{Estimate, TransportId};
use crate::estimator::{Estimator, Facts};
use crate::losses::Losses;
use crate::now::Now;
use crate::pacer::Pacer;
use crate::voices::Voices;
use crate::wire::drop::DropReason;
use crate::wire::rtcp::TransportFeedback;
use crate::wire::seq::{ExtSeq, SeqNo};

/// Who has agreed to give feedback and has given none for this long after the first packet gives none.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nothing is paced before the first probes have told, or so long: until then the estimate is what it was set to begin with.
const BEGINNING: Duration = Duration::from_secs(1);

/// An estimator begins with this at least, bits per second: what libwebrtc begins with.
const LEAST_START: u32 = 300_000;

pub struct Link {
    pub pacer: Pacer,
    /// Of the voices.
    pub losses: Losses,
    pub voices: Voices,
    /// Bytes that have left, down to the IP header.
    pub bytes: u64,
    estimator: Option<Box<Estimator>>,
    /// The number of the packet that left last, if it had one.
    latest: Option<u16>,
    /// 0: what transport-wide feedback tells of losses and queues is told on, and nothing is limited by it.
    start_bitrate: u32,
    /// What he would be sent if his link had no limit.
    demand: u32,
    /// The first packet that he should have told of.
    began: Option<Now>,
    /// He has been sent packets of which he will tell nothing.
    plain: bool,
    /// He has told something.
    heard: bool,
    /// Last told to Python.
    told: Option<Estimate>,
}

impl Link {
    #[must_use]
    pub fn new(start_bitrate: u32) -> Self {
        Self {
            pacer: Pacer::default(),
            losses: Losses::default(),
            voices: Voices::default(),
            bytes: 0,
            latest: None,
            estimator: None,
            start_bitrate,
            demand: 0,
            began: None,
            plain: false,
            heard: false,
            told: None,
        }
    }

    /// A packet of `bytes`, down to the IP header, leaves; it bears the number returned, if it is `numbered`.
    pub fn sent(&mut self, now: Now, bytes: usize, numbered: bool) -> Option<u16> {
        self.bytes += bytes as u64;
        let probe = self.pacer.sent(now, bytes);
        self.latest = None;
        if numbered {
            self.began.get_or_insert(now);
            self.latest = Some(self.estimator(now).sent(now, bytes, probe));
        } else {
            self.plain = true;
            if let Some(estimator) = &mut self.estimator {
                estimator.unnumbered(now, bytes);
            }
        }
        self.latest
    }

    /// A packet of `bytes` leaves once more, under the number that it had: what was lost is lost, and what comes of that
    /// number says nothing of the link any more.
    pub fn sent_again(&mut self, now: Now, bytes: usize, number: Option<u16>) {
        self.bytes += bytes as u64;
        self.pacer.sent(now, bytes);
        if let Some(estimator) = &mut self.estimator {
            estimator.unnumbered(now, bytes);
            if let Some(number) = number {
                estimator.lost(SeqNo(number));
            }
        }
        if let Some(number) = number {
            self.losses.lost(SeqNo(number));
        }
    }

    /// The packet that left last was packet `seq` of this voice.
    pub fn was_voice(&mut self, stream: u32, seq: ExtSeq) {
        if let Some(number) = self.latest {
            self.losses.sent(number, stream, seq);
        }
    }

    pub fn feedback(
        &mut self,
        now: Now,
        feedback: &TransportFeedback<'_>,
    ) -> Result<(), DropReason> {
        // Who has been sent no number has nothing to tell.
        self.estimator
            .as_mut()
            .ok_or(DropReason::BadFeedback)?
            .feedback(now, feedback)?;
        if self.start_bitrate > 0 {
            self.learnt(now);
        }
        self.losses.feedback(feedback);
        Ok(())
    }

    /// Receiver Estimated Maximum Bitrate: all there is of clients without transport-wide feedback, a cap for others.
    pub fn remb(&mut self, now: Now, bps: u64) {
        self.estimator(now).remb(now, bps);
        self.learnt(now);
    }

    pub fn round_trip(&mut self, round_trip: Duration) {
        if let Some(estimator) = &mut self.estimator {
            estimator.round_trip(round_trip);
        }
    }

    pub fn set_demand(&mut self, bps: u32) {
        self.demand = bps;
        if let Some(estimator) = &mut self.estimator {
            estimator.set_demand(bps);
        }
    }

    /// The estimator of one who has told something.
    #[must_use]
    pub fn told(&self) -> Option<&Estimator> {
        self.estimator.as_deref().filter(|_| self.heard)
    }

    pub fn told_mut(&mut self) -> Option<&mut Estimator> {
        self.estimator.as_deref_mut().filter(|_| self.heard)
    }

    /// The link is divided among those who share it.
    pub fn divide(&mut self, now: Now, part: impl FnOnce(&mut Estimator)) {
        if let Some(estimator) = self.told_mut() {
            part(estimator);
            self.paced(now);
        }
    }

    /// What happens by the clock.
    pub fn advance(&mut self, now: Now) {
        if !self.heard {
            return;
        }
        if let Some(estimator) = &mut self.estimator {
            estimator.advance(now);
        }
        self.paced(now);
    }

    /// A probe begins, if the estimator wants one and he tells what comes.
    pub fn probe(&mut self, now: Now, coupled: bool) -> bool {
        if !self.heard || self.pacer.probes() {
            return false;
        }
        let wanted = self
            .estimator
            .as_mut()
            .and_then(|estimator| estimator.probe(now, coupled));
        if let Some(probe) = wanted {
            self.pacer.probe(now, probe);
        }
        wanted.is_some()
    }

    /// He has told something: from now on his packets are paced.
    fn learnt(&mut self, now: Now) {
        self.heard = true;
        self.paced(now);
    }

    fn paced(&mut self, now: Now) {
        if let Some(estimator) = self.estimator.as_ref().filter(|_| !self.begins(now)) {
            self.pacer
                .set_bitrate(estimator.bitrate(), estimator.is_full());
        }
    }

    fn begins(&self, now: Now) -> bool {
        let begun = self.estimator.as_ref().is_some_and(|it| it.has_begun());
        !begun && self.began.is_some_and(|began| now.since(began) < BEGINNING)
    }

    fn estimator(&mut self, now: Now) -> &mut Estimator {
        self.estimator.get_or_insert_with(|| {
            let mut estimator = Box::new(Estimator::new(now, self.start_bitrate.max(LEAST_START)));
            estimator.set_demand(self.demand);
            estimator
        })
    }

    /// What Python should know; `None` while nothing was sent.
    #[must_use]
    pub fn estimate(&self, now: Now, transport: TransportId) -> Option<Estimate> {
        let Some(estimator) = &self.estimator else {
            return self.plain.then_some(Estimate {
                transport,
                bitrate: u32::MAX,
                loss: 0,
                queue_ms: 0,
                limited: false,
                redundancy: 0,
                copies: 0,
            });
        };
        let waited = self.began.is_none_or(|began| now.since(began) > PATIENCE);
        let silent = !self.heard && (waited || self.start_bitrate == 0);
        let Facts { loss, queue, .. } = estimator.facts();
        Some(Estimate {
            transport,
            bitrate: if silent {
                u32::MAX
            } else if self.begins(now) && self.start_bitrate > 0 {
                self.start_bitrate
            } else {
                estimator.bitrate()
            },
            loss,
            queue_ms: queue.as_millis().min(u128::from(u16::MAX)) as u16,
            limited: self.pacer.limited(now),
            redundancy: self.losses.needed().blocks() as u8,
            copies: self.losses.copies(),
        })
    }

    /// For the state that is shown.
    #[must_use]
    pub fn facts(&self) -> Option<Facts> {
        self.estimator.as_ref().map(|estimator| estimator.facts())
    }

    /// It differs from what was told by so much that it cannot wait.
    #[must_use]
    pub fn is_news(&self, estimate: &Estimate) -> bool {
        self.told.is_none_or(|told| {
            let change = told.bitrate.abs_diff(estimate.bitrate);
            told.limited != estimate.limited
                || told.redundancy != estimate.redundancy
                || told.copies != estimate.copies
                || u64::from(change) * 100 > u64::from(told.bitrate) * 3
        })
    }

    pub fn tell(&mut self, estimate: &Estimate) {
        self.told = Some(*estimate);
    }
}
