//! What forwarding must know of a payload format: where frames start, which are keyframes, which numbers to rewrite, and
//! who needs which layer. Not a decoder: pictures and sound stay closed.

pub mod av1;
pub mod dependency;
pub mod h264;
pub mod layer;
pub mod opus;
pub mod red;
pub mod vp8;
pub mod vp9;
