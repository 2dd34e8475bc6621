//! A WebRTC endpoint on the wire tier alone: laboratory, load generator, hostile client.
