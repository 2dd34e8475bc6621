//! `d4e-peer`: peers behind sockets.
fn main() {}
