//! The streams (SSRCs) that one client sends, each bound to an encoding of one of his publications, with its replay window
//! and statistics. A stream gets a row only after it has authenticated *and* been bound, so junk costs no memory.

use crate::now::Now;
use crate::twcc::Reception;
use crate::wire::drop::DropReason;
use crate::wire::seq::{ExtSeq, Ssrc, Timestamp};
use crate::wire::srtp::ReplayWindow;

/// Camera and screen in three encodings with RTX, two voices: 14. The rest is room for what is being replaced.
pub const MAX_STREAMS: usize = 64;

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

pub struct Stream {
    pub ssrc: Ssrc,
    pub binding: Binding,
    pub window: ReplayWindow,
    pub reception: Reception,
}

impl Stream {
    pub fn accept(&mut self, now: Now, index: ExtSeq, timestamp: Timestamp) {
        self.window.accept(index);
        self.reception
            .receive(now, index.0, timestamp, self.binding.clock_rate);
    }
}

#[derive(Default)]
pub struct Streams(Vec<Stream>);

impl Streams {
    pub fn find(&mut self, ssrc: Ssrc) -> Option<&mut Stream> {
        self.0.iter_mut().find(|stream| stream.ssrc == ssrc)
    }

    /// Binds a stream whose first packet has just authenticated. An older stream in the same role is forgotten: its
    /// sender has started anew.
    pub fn bind(
        &mut self,
        now: Now,
        ssrc: Ssrc,
        binding: Binding,
        index: ExtSeq,
        timestamp: Timestamp,
    ) -> Result<(), DropReason> {
        self.0.retain(|stream| stream.binding != binding);
        if self.0.len() >= MAX_STREAMS {
            return Err(DropReason::TooManyStreams);
        }
        let mut stream = Stream {
            ssrc,
            binding,
            window: ReplayWindow::default(),
            reception: Reception::default(),
        };
        stream.accept(now, index, timestamp);
        self.0.push(stream);
        Ok(())
    }

    pub fn forget_publication(&mut self, publication: u32) {
        self.0
            .retain(|stream| stream.binding.publication != publication);
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.0.iter_mut()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
