//! The packet engine of d4e-sfu: a sans-IO selective-forwarding router, and the thread that drives it.
//!
//! Tiers, each of which names only those above it: `wire` (bytes ↔ values, no state but keys); mechanisms (`cache`, `clock`,
//! `nack`, `twcc`, `bucket`, `legs`, `losses`, `voices`, `sealed`, `pacer`, `estimator`: state and `now`); nouns (`transport`,
//! `publication`, `subscription`, which never name each other); `router` (the tables and the media path); outside (`driver`, `front`, `python`: threads, their sockets
//! and PyO3, no logic). `api` is what crosses to Python. `peer` shares only `wire` with all this. The way of a packet:
//! `engine/README.md`.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic) // a test that finds the wrong thing stops there
)]

pub mod api;
pub mod wire;

pub mod bucket;
pub mod cache;
pub mod clock;
pub mod estimator;
pub mod legs;
pub mod losses;
pub mod nack;
pub mod now;
pub mod outlet;
pub mod pacer;
pub mod sealed;
pub mod twcc;
pub mod voices;

pub mod publication;
pub mod subscription;
pub mod transport;

pub mod router;

pub mod driver;
pub mod front;
#[cfg(feature = "python")]
mod python;

#[cfg(feature = "peer")]
pub mod peer;
