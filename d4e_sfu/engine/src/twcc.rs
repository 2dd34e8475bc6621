//! When the packets of one publisher's transport arrived, and the feedback that tells him, so that his encoders ramp up
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01). It measures nothing itself: the sender estimates.

use std::time::Duration;

use crate::now::Now;
use crate::wire::rtcp;
use crate::wire::seq::{SeqNo, Ssrc, Timestamp};

/// Numbers remembered; feedback goes out long before so many are waiting.
const WINDOW: u64 = 2_048;
/// libwebrtc sends every 50–250 ms by bandwidth (`RemoteEstimatorProxy`); we know two speeds.
const BUSY: Duration = Duration::from_millis(50);
const QUIET: Duration = Duration::from_millis(100);
const BUSY_PACKETS: u32 = 10;
/// Late by more than this is not reported again.
const REPORT_BACK: u64 = 500;
/// Statuses of one feedback packet: stays far below a datagram even when each needs a two-byte delta.
const PER_PACKET: usize = 400;

pub struct Arrivals {
    /// Arrival in ticks of 250 µs, plus one; 0 = has not come.
    ticks: Box<[u64]>,
    /// First number not reported yet.
    start: u64,
    highest: Option<u64>,
    waiting: u32,
    sent: Now,
    feedback: u8,
    /// Of the last packet: feedback names a media source, though it is about all of them.
    media: Ssrc,
}

impl Arrivals {
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            ticks: vec![0; WINDOW as usize].into_boxed_slice(),
            start: 0,
            highest: None,
            waiting: 0,
            sent: now,
            feedback: 0,
            media: Ssrc(0),
        }
    }

    pub fn record(&mut self, now: Now, seq: SeqNo, media: Ssrc) {
        self.media = media;
        let stamp = now.0 / 250_000 + 1;
        let Some(highest) = self.highest else {
            let first = (1 << 32) | u64::from(seq.0);
            (self.start, self.highest) = (first, Some(first));
            self.ticks[(first % WINDOW) as usize] = stamp;
            self.waiting = 1;
            return;
        };
        let number = highest.wrapping_add_signed(i64::from(seq.since(SeqNo(highest as u16))));
        if number > highest {
            for passed in highest + 1..=number.min(highest + WINDOW) {
                self.ticks[(passed % WINDOW) as usize] = 0;
            }
            self.highest = Some(number);
            if number - self.start >= WINDOW / 2 {
                // A jump, or feedback could not be sent: what lies before is not worth a bomb of "not received".
                self.start = number;
            }
        } else if highest - number >= REPORT_BACK {
            return;
        }
        let slot = &mut self.ticks[(number % WINDOW) as usize];
        if *slot == 0 {
            *slot = stamp;
            self.waiting += 1;
            self.start = self.start.min(number);
        }
    }

    #[must_use]
    pub fn waiting(&self) -> bool {
        self.waiting > 0
    }

    #[must_use]
    pub fn due(&self, now: Now) -> bool {
        let every = if self.waiting >= BUSY_PACKETS {
            BUSY
        } else {
            QUIET
        };
        self.waiting > 0 && now.since(self.sent) >= every
    }

    /// Writes one feedback packet into `out` and returns its length; `None` when all is told. Call until then.
    pub fn write(&mut self, now: Now, out: &mut [u8], sender: Ssrc) -> Option<usize> {
        let highest = self.highest?;
        let lost = (self.start..=highest)
            .take_while(|number| self.ticks[(number % WINDOW) as usize] == 0)
            .count();
        if lost >= PER_PACKET {
            self.start += lost as u64; // One packet could not get past them: they are as good as not sent.
        }
        self.sent = now;
        if self.start > highest {
            self.waiting = 0;
            return None;
        }
        let mut arrivals = [None; PER_PACKET];
        let count = ((highest - self.start + 1) as usize).min(PER_PACKET);
        for (i, arrival) in arrivals[..count].iter_mut().enumerate() {
            let tick = self.ticks[((self.start + i as u64) % WINDOW) as usize];
            *arrival = (tick != 0).then(|| tick as i64 - 1);
        }
        let base = SeqNo(self.start as u16);
        let written = rtcp::write_transport_feedback(
            out,
            sender,
            self.media,
            base,
            self.feedback,
            &arrivals[..count],
        )?;
        if written.covered == 0 {
            self.waiting = 0;
            return None;
        }
        self.start += written.covered as u64;
        self.feedback = self.feedback.wrapping_add(1);
        Some(written.len)
    }
}

/// Nothing waits longer than this, s: it is another clock.
const LONGEST_WAIT: u32 = 5;

/// Reception statistics of one stream, for receiver reports (RFC 3550 §6.4.1, appendices A.3 and A.8).
#[derive(Clone, Debug, Default)]
pub struct Reception {
    base: Option<u64>,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// in 1/16 tick
    jitter: u64,
    transit: Option<u32>,
    /// The shortest transit of late, and how far above it one was since `waited` was last asked; in ticks.
    shortest: Option<u32>,
    above: u32,
    /// Middle of the last sender report's NTP time, and when it came.
    report: Option<(u32, Now)>,
}

impl Reception {
    /// `index` is the SRTP packet index, `rate` the RTP clock.
    pub fn receive(&mut self, now: Now, index: u64, timestamp: Timestamp, rate: u32) {
        self.base.get_or_insert(index);
        self.highest = self.highest.max(index);
        self.received += 1;
        let transit = crate::now::ticks(now.since(Now(0)), rate).wrapping_sub(timestamp.0);
        if let Some(before) = self.transit.replace(transit) {
            let difference = u64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            // Capped at 10 s of jitter, far above any use of it: a hostile timestamp must not overflow the sum.
            let difference = difference.min(u64::from(rate) * 10);
            self.jitter = (self.jitter + difference).saturating_sub((self.jitter + 8) >> 4);
        }
        self.wait(transit, rate);
    }

    fn wait(&mut self, transit: u32, rate: u32) {
        let shortest = self.shortest.unwrap_or(transit);
        let above = transit.wrapping_sub(shortest) as i32;
        if above < 0 || above as u32 > rate.saturating_mul(LONGEST_WAIT) {
            // A shorter way, or another clock.
            self.shortest = Some(transit);
            return;
        }
        self.shortest = Some(shortest);
        self.above = self.above.max(above as u32);
    }

    /// The longest that a packet has waited on its way since the last time, in ticks: longer than the shortest of late. Asked
    /// every second, by which a millisecond more becomes the shortest, so that clocks may differ and ways become longer.
    pub fn waited(&mut self, rate: u32) -> u32 {
        self.shortest = self
            .shortest
            .map(|shortest| shortest.wrapping_add(rate / 1000));
        std::mem::take(&mut self.above)
    }

    pub fn sender_report(&mut self, now: Now, ntp: u64) {
        self.report = Some(((ntp >> 16) as u32, now));
    }

    /// Packets expected and lost since the last time.
    pub fn interval(&mut self) -> (u64, u64) {
        let total = self.expected();
        let expected = total.saturating_sub(self.expected_before);
        let received = self.received - self.received_before;
        (self.expected_before, self.received_before) = (total, self.received);
        (expected, expected.saturating_sub(received))
    }

    /// In ticks of the RTP clock.
    #[must_use]
    pub fn jitter(&self) -> u32 {
        (self.jitter >> 4) as u32
    }

    fn expected(&self) -> u64 {
        self.base
            .map_or(0, |base| (self.highest + 1).saturating_sub(base))
    }

    /// `None` before the first packet. `interval`: since the block before.
    #[must_use]
    pub fn block(&self, now: Now, ssrc: Ssrc, interval: (u64, u64)) -> Option<rtcp::Block> {
        self.base?;
        let lost = self.expected() as i64 - self.received as i64;
        let (expected_now, lost_now) = interval;
        Some(rtcp::Block {
            ssrc,
            fraction_lost: (lost_now * 256)
                .checked_div(expected_now)
                .unwrap_or(0)
                .min(255) as u8,
            lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest: self.highest as u32,
            jitter: self.jitter(),
            last_sr: self.report.map_or(0, |(ntp, _)| ntp),
            delay: self
                .report
                .map_or(0, |(_, at)| crate::now::ticks(now.since(at), 65_536)),
        })
    }
}
