//! H.264 payloads: what is said of an aggregate is what its units say one by one, and the first fragment of a unit says
//! what the unit would. Opus payloads too, which are one byte of facts.

#![no_main]

use d4e_engine::wire::codec::h264::Facts;
use d4e_engine::wire::codec::opus;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    assert!(opus::Facts::parse(payload).duration <= 5_760);
    let facts = Facts::parse(payload);
    let Some((&header, rest)) = payload.split_first() else {
        assert_eq!(facts, None);
        return;
    };
    let expected = match header & 31 {
        1..=23 => Some(unit(header, rest, true)),
        24 => aggregate(rest),
        28 => fragment(header, rest),
        _ => None,
    };
    assert_eq!(facts, expected);
});

/// ITU-T H.264 §7.4.1 and table 7-1, of one unit by itself.
fn unit(header: u8, body: &[u8], start: bool) -> Facts {
    let kind = header & 31;
    let first_slice = start && [1, 2, 5].contains(&kind) && body.first().is_some_and(|b| *b >= 128);
    Facts {
        sps: kind == 7,
        pps: kind == 8,
        idr: kind == 5,
        keyframe: kind == 7 || (kind == 5 && first_slice),
        start_of_frame: first_slice || (start && [6, 7, 9].contains(&kind)),
        non_reference: header >> 5 & 3 == 0,
    }
}

/// RFC 6184 §5.7.1.
fn aggregate(rest: &[u8]) -> Option<Facts> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < rest.len() {
        let size = usize::from(*rest.get(at)?) << 8 | usize::from(*rest.get(at + 1)?);
        let unit_bytes = rest.get(at + 2..at + 2 + size)?;
        let kind = unit_bytes.first()? & 31;
        if kind == 0 || kind > 23 {
            return None;
        }
        found.push(unit(unit_bytes[0], &unit_bytes[1..], true));
        at += 2 + size;
    }
    let any = |says: fn(&Facts) -> bool| found.iter().any(says);
    (!found.is_empty()).then(|| Facts {
        sps: any(|f| f.sps),
        pps: any(|f| f.pps),
        idr: any(|f| f.idr),
        keyframe: any(|f| f.keyframe),
        start_of_frame: any(|f| f.start_of_frame),
        non_reference: found.iter().all(|f| f.non_reference),
    })
}

/// RFC 6184 §5.8.
fn fragment(indicator: u8, rest: &[u8]) -> Option<Facts> {
    let (&header, body) = rest.split_first()?;
    let (start, end, kind) = (header >> 7 == 1, header >> 6 & 1 == 1, header & 31);
    if (start && end) || kind == 0 || kind > 23 {
        return None;
    }
    Some(unit(indicator & 0xe0 | kind, body, start))
}
