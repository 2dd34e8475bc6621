//! The streams (SSRCs) that one client sends, each bound to an encoding of one of his publications, with its replay window
//! and statistics. A stream gets a row only after it has authenticated *and* been bound, so junk costs no memory. One that
//! was replaced keeps its row while there is room: its late packets are known for what they are, cannot be replayed, and
//! its roll-over count (RFC 3711 §3.3.1) is still there if it comes back.

use std::time::Duration;

use crate::now::Now;
use crate::twcc::Reception;
use crate::wire::drop::DropReason;
use crate::wire::seq::{ExtSeq, Ssrc, Timestamp};
use crate::wire::srtp::ReplayWindow;

/// Camera and screen in three encodings with RTX, two voices: 14. The rest is room for what is being replaced.
pub const MAX_STREAMS: usize = 64;
/// A stream that was replaced may come back when its successor has been silent for this long.
const SUCCESSOR_SILENT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Row of the publication in the router.
    pub publication: u32,
    pub encoding: u8,
    /// Retransmissions of that encoding (RFC 4588).
    pub rtx: bool,
    /// RTP clock, for statistics.
    pub clock_rate: u32,
}

impl Binding {
    /// RFC 3551 §5: the clock of every picture has 90 kHz, and that of no voice has.
    #[must_use]
    pub fn is_voice(&self) -> bool {
        self.clock_rate != 90_000
    }
}

pub struct Stream {
    pub ssrc: Ssrc,
    pub binding: Binding,
    pub window: ReplayWindow,
    pub reception: Reception,
    heard: Now,
    /// Another stream has its role now, or the role is gone.
    retired: bool,
}

impl Stream {
    pub fn accept(&mut self, now: Now, index: ExtSeq, timestamp: Timestamp) {
        self.window.accept(index);
        self.heard = now;
        self.reception
            .receive(now, index.0, timestamp, self.binding.clock_rate);
    }
}

#[derive(Default)]
pub struct Streams(Vec<Stream>);

impl Streams {
    /// Whatever its state.
    #[must_use]
    pub fn get(&self, ssrc: Ssrc) -> Option<&Stream> {
        self.0.iter().find(|stream| stream.ssrc == ssrc)
    }

    /// Whatever its state.
    pub fn find(&mut self, ssrc: Ssrc) -> Option<&mut Stream> {
        self.0.iter_mut().find(|stream| stream.ssrc == ssrc)
    }

    /// Only while it is bound.
    pub fn bound(&mut self, ssrc: Ssrc) -> Option<&mut Stream> {
        self.find(ssrc).filter(|stream| !stream.retired)
    }

    /// Binds a stream of which a packet has just authenticated. An older stream in the same role is retired: its sender has
    /// started anew.
    pub fn bind(
        &mut self,
        now: Now,
        ssrc: Ssrc,
        binding: Binding,
        index: ExtSeq,
        timestamp: Timestamp,
    ) -> Result<(), DropReason> {
        let known = self.0.iter().position(|stream| stream.ssrc == ssrc);
        let mut roles = self
            .0
            .iter_mut()
            .filter(|stream| !stream.retired && stream.binding == binding);
        if let Some(before) = roles.next() {
            if known.is_some() && now.since(before.heard) < SUCCESSOR_SILENT {
                return Err(DropReason::Late);
            }
            before.retired = true;
        }
        if let Some(stream) = known.and_then(|at| self.0.get_mut(at)) {
            // Its packets have been counted by `accept`, while it was retired too.
            stream.binding = binding;
            stream.reception = Reception::default();
            stream.retired = false;
            return Ok(());
        }
        if self.0.len() >= MAX_STREAMS {
            let (at, _) = self
                .0
                .iter()
                .enumerate()
                .filter(|(_, stream)| stream.retired)
                .min_by_key(|(_, stream)| stream.heard)
                .ok_or(DropReason::TooManyStreams)?;
            self.0.swap_remove(at);
        }
        let mut stream = Stream {
            ssrc,
            binding,
            window: ReplayWindow::default(),
            reception: Reception::default(),
            heard: now,
            retired: false,
        };
        stream.accept(now, index, timestamp);
        self.0.push(stream);
        Ok(())
    }

    pub fn retire_publication(&mut self, publication: u32) {
        for stream in &mut self.0 {
            stream.retired |= stream.binding.publication == publication;
        }
    }

    /// Those that are bound.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.0.iter_mut().filter(|stream| !stream.retired)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|stream| stream.retired)
    }
}
