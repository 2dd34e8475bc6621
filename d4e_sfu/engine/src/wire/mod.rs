//! The wire tier: bytes to values and back, with no state but keys and replay windows.
//!
//! Nothing here knows a publication, a subscription or a socket, reads a clock, allocates per packet or panics on
//! any input: every function takes slices, does work bounded by their length, and answers with a value or a
//! [`drop::DropReason`]. The router and the laboratory peer share this tier and nothing else.

pub mod cm;
pub mod codec;
pub mod drop;
pub mod packet;
pub mod rtcp;
mod rtcp_write;
pub mod seq;
pub mod srtp;
pub mod stream;
pub mod stun;
pub mod turn;
