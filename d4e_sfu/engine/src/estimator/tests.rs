//! The estimator against a link in virtual time; what it is told is written and read as on the wire.

mod feedback;
mod link;
mod scenarios;
