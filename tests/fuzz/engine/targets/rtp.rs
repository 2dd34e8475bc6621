//! RTP headers and their extensions, in both forms: what is read lies inside the packet, agrees with a slower reading, and
//! is read again from what we write.

#![no_main]

use d4e_engine::wire::packet::{Fields, Header, Kind, classify, write_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    let kind = classify(packet);
    let Ok(header) = Header::parse(packet) else {
        return;
    };
    assert!(matches!(kind, Some(Kind::Rtp | Kind::Rtcp)));
    assert!((12..=packet.len()).contains(&header.len));
    if let Ok(payload) = header.payload(packet) {
        assert!(payload.start == header.len && payload.end <= packet.len());
        let padding = packet.len() - payload.end;
        assert_eq!(padding > 0, header.padding);
        assert!(padding <= 255);
    }

    let elements: Vec<(u8, &[u8])> = header.extensions(packet).collect();
    assert_eq!(elements, slowly(packet));
    for (id, value) in &elements {
        let first = elements.iter().find(|(other, _)| other == id);
        assert_eq!(
            header.extension(packet, *id),
            first.map(|(_, value)| *value)
        );
        assert!(*id != 0 && value.len() <= 255);
    }

    let fields = Fields {
        marker: header.marker,
        padding: header.padding,
        payload_type: header.payload_type,
        seq: header.seq,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let room = usize::from(packet[1]) * 16;
    let mut out = vec![0xaa; room];
    let Some(len) = write_header(&mut out, &fields, &elements) else {
        let needed: usize = elements.iter().map(|(_, value)| value.len() + 2).sum();
        assert!(room < 16 + needed + 3, "it would have fitted");
        return;
    };
    assert!(
        out[len..].iter().all(|&byte| byte == 0xaa),
        "written past its end"
    );
    let Ok(again) = Header::parse(&out[..len]) else {
        panic!("our own header is refused")
    };
    assert_eq!(again.len, len);
    assert_eq!(
        (again.marker, again.padding, again.payload_type, again.seq),
        (
            header.marker,
            header.padding,
            header.payload_type,
            header.seq
        )
    );
    assert_eq!(
        (again.timestamp, again.ssrc),
        (header.timestamp, header.ssrc)
    );
    assert!(again.extensions(&out[..len]).eq(elements));
});

/// RFC 8285 §4.2 and §4.3 once more, as a loop over indices. The header was found right before.
fn slowly(packet: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    let start = 12 + usize::from(packet[0] & 15) * 4;
    if packet[0] & 0x10 == 0 {
        return found;
    }
    let profile = u16::from_be_bytes([packet[start], packet[start + 1]]);
    let words = u16::from_be_bytes([packet[start + 2], packet[start + 3]]);
    let end = start + 4 + usize::from(words) * 4;
    let mut at = start + 4;
    if profile == 0xbede {
        while at < end {
            let (id, len) = (packet[at] >> 4, usize::from(packet[at] & 15) + 1);
            if id == 0 {
                at += 1;
                continue;
            }
            if id == 15 {
                break;
            }
            assert!(at + 1 + len <= end, "a lie was let through");
            found.push((id, &packet[at + 1..at + 1 + len]));
            at += 1 + len;
        }
    } else if profile & 0xfff0 == 0x1000 {
        while at < end {
            if packet[at] == 0 {
                at += 1;
                continue;
            }
            assert!(at + 1 < end, "a lie was let through");
            let len = usize::from(packet[at + 1]);
            assert!(at + 2 + len <= end, "a lie was let through");
            found.push((packet[at], &packet[at + 2..at + 2 + len]));
            at += 2 + len;
        }
    }
    found
}
