//! AV1 payloads: no size that they claim leads out of them, and a payload cut short is not taken for a longer one.

#![no_main]

use d4e_engine::wire::codec::av1::Facts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let facts = Facts::parse(payload);
    assert!(facts.is_none() || payload.len() > 1);
    if let Some(facts) = facts {
        assert!(!(facts.keyframe && facts.continued));
        // What is behind the elements belongs to the last one: one byte more is as good, where that one has no size.
        if payload[0] >> 4 & 3 != 0 {
            assert_eq!(Facts::parse(&[payload, &[0]].concat()), Some(facts));
        }
    }
});
