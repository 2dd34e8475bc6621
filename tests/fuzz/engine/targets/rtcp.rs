//! RTCP compounds: all that they hold is bounded by their length, and every packet that we can write ourselves is read
//! again from our own writing. Transport-wide feedback above all: what it says is told anew, and must say the same.

#![no_main]

use d4e_engine::wire::rtcp::{self, Compound, MAX_STATUSES, Packet, TransportFeedback};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(compound) = Compound::parse(bytes) else {
        return;
    };
    let (mut packets, mut statuses) = (0, 0);
    for packet in compound {
        packets += 1;
        if let Packet::TransportFeedback(feedback) = packet {
            statuses += usize::from(feedback.count);
        }
        told(packet, bytes.len());
    }
    assert!(packets > 0 && packets * 4 <= bytes.len());
    assert!(statuses <= MAX_STATUSES);
    // A compound is refused whole: cut short by one byte, it is nothing.
    assert!(Compound::parse(&bytes[..bytes.len() - 1]).is_err());
});

/// One packet written by us and read again.
fn told(packet: Packet<'_>, len: usize) {
    let mut out = vec![0; len + 1_500];
    match packet {
        Packet::SenderReport {
            sender,
            info,
            blocks,
        } => {
            let blocks: Vec<_> = blocks.collect();
            let len = rtcp::write_sender_report(&mut out, sender, &info, &blocks);
            let Packet::SenderReport {
                sender: s,
                info: i,
                blocks: b,
            } = only(&out, len)
            else {
                panic!("another kind")
            };
            assert!(s == sender && i == info && b.eq(blocks));
        }
        Packet::ReceiverReport { sender, blocks } => {
            let blocks: Vec<_> = blocks.collect();
            let len = rtcp::write_receiver_report(&mut out, sender, &blocks);
            let Packet::ReceiverReport {
                sender: s,
                blocks: b,
            } = only(&out, len)
            else {
                panic!("another kind")
            };
            assert!(s == sender && b.eq(blocks));
        }
        Packet::Sdes(sdes) => {
            for (ssrc, cname) in sdes.take(31) {
                let Ok(cname) = std::str::from_utf8(cname) else {
                    continue;
                };
                let len = rtcp::write_sdes(&mut out, ssrc, cname);
                let Packet::Sdes(again) = only(&out, len) else {
                    panic!("another kind")
                };
                assert!(again.eq([(ssrc, cname.as_bytes())]));
            }
        }
        Packet::Bye(ssrcs) => {
            let ssrcs: Vec<_> = ssrcs.collect();
            let len = rtcp::write_bye(&mut out, &ssrcs);
            let Packet::Bye(again) = only(&out, len) else {
                panic!("another kind")
            };
            assert!(again.eq(ssrcs));
        }
        Packet::Nack {
            sender,
            media,
            lost,
        } => {
            let lost: Vec<_> = lost.collect();
            assert!(!lost.is_empty() && lost.len() * 4 <= len * 17);
            let mut sorted = lost.clone();
            let first = lost[0];
            sorted.sort_by_key(|seq| seq.0.wrapping_sub(first.0));
            sorted.dedup();
            // Half a circle at most is in order on it.
            sorted.retain(|seq| seq.0.wrapping_sub(first.0) < 0x8000);
            let mut out = vec![0; 12 + sorted.len() * 4];
            let len = rtcp::write_nack(&mut out, sender, media, &sorted);
            let Packet::Nack {
                sender: s,
                media: m,
                lost: l,
            } = only(&out, len)
            else {
                panic!("another kind")
            };
            assert!(s == sender && m == media && l.eq(sorted));
        }
        Packet::Pli { sender, media } => {
            let len = rtcp::write_pli(&mut out, sender, media);
            assert!(
                matches!(only(&out, len), Packet::Pli { sender: s, media: m } if s == sender && m == media)
            );
        }
        Packet::Fir { sender, entries } => {
            for (media, command) in entries.take(4) {
                let len = rtcp::write_fir(&mut out, sender, media, command);
                let Packet::Fir {
                    sender: s,
                    entries: e,
                } = only(&out, len)
                else {
                    panic!("another kind")
                };
                assert!(s == sender && e.eq([(media, command)]));
            }
        }
        Packet::Remb {
            sender,
            bitrate,
            ssrcs,
        } => {
            let ssrcs: Vec<_> = ssrcs.collect();
            let len = rtcp::write_remb(&mut out, sender, bitrate, &ssrcs);
            let Packet::Remb {
                sender: s,
                bitrate: b,
                ssrcs: all,
            } = only(&out, len)
            else {
                panic!("another kind")
            };
            assert!(s == sender && b == bitrate && all.eq(ssrcs));
        }
        Packet::TransportFeedback(feedback) => arrivals(&feedback),
        Packet::ExtendedReport { .. } | Packet::Other { .. } => {}
    }
}

fn only(out: &[u8], len: Option<usize>) -> Packet<'_> {
    let Some(len) = len else {
        panic!("there was room")
    };
    let Ok(mut compound) = Compound::parse(&out[..len]) else {
        panic!("our own packet is refused")
    };
    match (compound.next(), compound.next()) {
        (Some(packet), None) => packet,
        _ => panic!("not one packet"),
    }
}

/// The same arrivals in our own feedback packets, as many as it takes.
fn arrivals(feedback: &TransportFeedback<'_>) {
    let statuses: Vec<_> = feedback.statuses().collect();
    assert_eq!(statuses.len(), usize::from(feedback.count));
    for (n, (seq, _)) in statuses.iter().enumerate() {
        assert_eq!(*seq, feedback.base.add(n as u16));
    }
    let mut rest = &statuses[..];
    // The clock runs on past the reference time's 24 bits: the writer is told of times, not of what they wrap to.
    let mut out = [0; 1_200];
    while !rest.is_empty() {
        let times: Vec<Option<i64>> = rest.iter().map(|(_, at)| *at).collect();
        let written = rtcp::write_transport_feedback(
            &mut out,
            feedback.sender,
            feedback.media,
            rest[0].0,
            feedback.feedback,
            &times,
        );
        let Some(written) = written else {
            // The rest was lost, all of it.
            assert!(times.iter().all(Option::is_none), "arrivals are kept back");
            return;
        };
        assert!((1..=rest.len()).contains(&written.covered) && written.len <= out.len());
        let Packet::TransportFeedback(again) = only(&out, Some(written.len)) else {
            panic!("another kind")
        };
        assert_eq!(usize::from(again.count), written.covered);
        for (told, said) in again.statuses().zip(rest) {
            assert_eq!(told.0, said.0);
            match (told.1, said.1) {
                // 24 bits of 64 ms: 2^32 ticks of 250 µs.
                (Some(told), Some(said)) => assert_eq!(told as u32, said as u32),
                (told, said) => assert_eq!(told, said),
            }
        }
        rest = &rest[written.covered..];
    }
}
