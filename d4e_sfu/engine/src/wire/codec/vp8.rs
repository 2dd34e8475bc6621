//! VP8 payload descriptor (RFC 7741 §4.2): read, changed and written again; and the keyframe header's facts.

/// The descriptor as fields. Forwarding parses it, changes `picture_id` and `tl0_pic_idx`, and writes it again before
/// `payload[descriptor.len..]`. `len` is what it took in the packet it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub len: usize,
    /// N: nobody refers to this frame.
    pub non_reference: bool,
    /// S: first packet of a partition.
    pub start_of_partition: bool,
    pub partition: u8,
    /// 7 or 15 bits as received; always written in the 15-bit form.
    pub picture_id: Option<u16>,
    /// The 15-bit form was received.
    pub long_picture_id: bool,
    pub tl0_pic_idx: Option<u8>,
    pub tid: Option<u8>,
    /// Y: refers only to base-layer frames: a switching-up point.
    pub layer_sync: bool,
    pub key_idx: Option<u8>,
    /// First packet of a keyframe.
    pub keyframe: bool,
}

impl Descriptor {
    /// `None`: not VP8, or cut short (also when nothing follows the descriptor).
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        todo!()
    }
    /// Writes the descriptor (at most 6 bytes), returns its length.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        todo!()
    }
    #[must_use]
    pub const fn start_of_frame(&self) -> bool {
        self.start_of_partition && self.partition == 0
    }
}

/// Longest descriptor that `write` makes.
pub const MAX_DESCRIPTOR: usize = 6;

/// Width and height from the first packet of a keyframe (RFC 6386 §9.1).
#[must_use]
pub fn dimensions(payload: &[u8], descriptor: &Descriptor) -> Option<(u16, u16)> {
    todo!()
}
