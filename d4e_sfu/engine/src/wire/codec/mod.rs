//! What forwarding must know of a payload format: where frames start, which are keyframes, which numbers to rewrite.
//! Not a decoder: pictures and sound stay closed.

pub mod h264;
pub mod opus;
pub mod vp8;
