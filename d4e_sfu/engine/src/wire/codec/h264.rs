//! H.264 payloads in packetization-mode 1 (RFC 6184): what kind of picture a packet belongs to and where it starts.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Holds an SPS, or the start of an IDR slice: a decoder may start at this access unit.
    pub keyframe: bool,
    pub sps: bool,
    pub pps: bool,
    pub idr: bool,
    /// First packet of an access unit, as far as the payload shows (AUD, SPS, SEI, or a slice with first_mb_in_slice 0).
    pub start_of_frame: bool,
    /// nal_ref_idc 0 throughout: nobody refers to it.
    pub non_reference: bool,
}

impl Facts {
    /// `None`: empty, reserved type, or a STAP-A / FU-A whose lengths lie.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        todo!()
    }
}
