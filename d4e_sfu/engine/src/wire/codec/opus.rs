//! Opus payloads (RFC 7587, RFC 6716 §3): is this silence.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Comfort noise or DTX: nothing worth a repair (at most 2 bytes, RFC 6716 §2.1.9).
    pub dtx: bool,
    /// Duration of the packet in 48 kHz ticks; 0 when the payload is malformed or empty.
    pub duration: u32,
}

impl Facts {
    #[must_use]
    pub fn parse(payload: &[u8]) -> Self {
        todo!()
    }
}
