//! RTCP read against bytes written by hand and by libwebrtc, written and read again, and on anything.

use proptest::prelude::*;

use super::*;
use crate::wire::seq::Timestamp;

const US: Ssrc = Ssrc(0x0101_0101);
const THEM: Ssrc = Ssrc(0x0202_0202);

fn only(bytes: &[u8]) -> Packet<'_> {
    let Ok(mut compound) = Compound::parse(bytes) else {
        unreachable!("{bytes:02x?}")
    };
    match (compound.next(), compound.next()) {
        (Some(packet), None) => packet,
        _ => unreachable!(),
    }
}

#[test]
fn a_compound_of_everything_is_read_back() {
    let mut out = [0; 1200];
    let mut len = 0;
    let block = Block {
        ssrc: THEM,
        fraction_lost: 9,
        lost: -3,
        highest: 0x1_0002,
        jitter: 5,
        last_sr: 6,
        delay: 7,
    };
    let info = SenderInfo {
        ntp: 0x0123_4567_89ab_cdef,
        rtp: Timestamp(99),
        packets: 3,
        octets: 4,
    };
    let mut add =
        |write: &dyn Fn(&mut [u8]) -> Option<usize>| len += write(&mut out[len..]).unwrap_or(0);
    add(&|out| write_sender_report(out, US, &info, &[block, block]));
    add(&|out| write_receiver_report(out, US, &[block]));
    add(&|out| write_sdes(out, US, "voice"));
    add(&|out| {
        write_nack(
            out,
            US,
            THEM,
            &[
                SeqNo(65_534),
                SeqNo(65_535),
                SeqNo(14),
                SeqNo(15),
                SeqNo(900),
            ],
        )
    });
    add(&|out| write_pli(out, US, THEM));
    add(&|out| write_fir(out, US, THEM, 3));
    add(&|out| write_remb(out, US, 2_500_000, &[THEM]));
    add(&|out| write_bye(out, &[US]));
    let Ok(compound) = Compound::parse(&out[..len]) else {
        unreachable!()
    };
    let packets: Vec<_> = compound.collect();
    assert_eq!(packets.len(), 8);
    assert!(
        matches!(packets[0], Packet::SenderReport { sender: US, info: i, blocks } if i == info && blocks.eq([block, block]))
    );
    assert!(
        matches!(packets[1], Packet::ReceiverReport { sender: US, blocks } if blocks.eq([block]))
    );
    assert!(matches!(packets[2], Packet::Sdes(sdes) if sdes.eq([(US, &b"voice"[..])])));
    assert!(
        matches!(packets[3], Packet::Nack { lost, .. } if lost.map(|s| s.0).eq([65_534, 65_535, 14, 15, 900]))
    );
    assert!(matches!(
        packets[4],
        Packet::Pli {
            sender: US,
            media: THEM
        }
    ));
    assert!(matches!(packets[5], Packet::Fir { entries, .. } if entries.eq([(THEM, 3)])));
    assert!(
        matches!(packets[6], Packet::Remb { bitrate: 2_499_968..=2_500_000, ssrcs, .. } if ssrcs.eq([THEM]))
    );
    assert!(matches!(packets[7], Packet::Bye(ssrcs) if ssrcs.eq([US])));
    // Cut anywhere but between packets it is refused whole.
    let ends: Vec<usize> = (1..len)
        .filter(|&end| Compound::parse(&out[..end]).is_ok())
        .collect();
    assert_eq!(ends.len(), 7);
}

#[test]
fn a_bad_packet_at_the_end_rejects_the_whole() {
    let mut out = [0; 64];
    let len = write_pli(&mut out, US, THEM).unwrap_or(0);
    assert!(Compound::parse(&out[..len]).is_ok());
    for bad in [
        &[0x81, 206, 0, 1][..],
        &[0x41, 206, 0, 0],
        &[0x80, 72, 0, 0],
        &[0x80],
        &[0xa0, 204, 0, 1, 0, 0, 0, 9],
        &[0x81, 201, 0, 1, 0, 0, 0, 0],
    ] {
        let mut both = out[..len].to_vec();
        both.extend(bad);
        assert!(Compound::parse(&both).is_err(), "{bad:x?}");
    }
    assert!(Compound::parse(&[]).is_err());
}

fn feedback_of(fci: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x8f, 205, 0, 0];
    bytes.extend(US.0.to_be_bytes());
    bytes.extend(THEM.0.to_be_bytes());
    bytes.extend(fci);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes[3] = (bytes.len() / 4 - 1) as u8;
    bytes
}

#[test]
fn feedback_with_every_kind_of_chunk() {
    let fci = [
        0xff, 0xfe, 0, 28, 0xff, 0xff, 0xff,
        7, // base 65534, 28 statuses, reference −1, count 7
        0x20, 3, // run: 3 small
        0xa0, 0x01, // one-bit: .1...........1
        0xe4, 0x00, // two-bit: large, small(1), 0 …
        0x60, 4, // run of reserved symbol would be refused; see below
        4, 0, 255, 8, 9, 0xff, 0xfc, 1,
    ];
    // Reserved symbol 3.
    assert!(Compound::parse(&feedback_of(&fci)).is_err());
    let mut fci = fci.to_vec();
    fci[14] = 0x00; // run: 4 lost
    let bytes = feedback_of(&fci);
    let Packet::TransportFeedback(feedback) = only(&bytes) else {
        unreachable!()
    };
    assert_eq!(
        (
            feedback.base,
            feedback.count,
            feedback.reference,
            feedback.feedback
        ),
        (SeqNo(65_534), 28, -1, 7)
    );
    let got: Vec<_> = feedback.statuses().collect();
    assert_eq!(got.len(), 28);
    let received: Vec<_> = got
        .iter()
        .filter_map(|(seq, at)| at.map(|at| (seq.0, at)))
        .collect();
    assert_eq!(
        received,
        [
            (65_534, -252),
            (65_535, -252),
            (0, 3),
            (1, 11),
            (14, 20),
            (15, 16),
            (16, 17)
        ]
    );
    assert!(
        got.iter()
            .enumerate()
            .all(|(n, (seq, _))| *seq == SeqNo(65_534).add(n as u16))
    );
}

#[test]
fn status_count_bombs_are_refused() {
    let lost_run = 0x1fffu16.to_be_bytes();
    let bomb = |count: u16, chunks: usize| {
        let mut fci = vec![0, 0];
        fci.extend(count.to_be_bytes());
        fci.extend([0, 0, 0, 0]);
        fci.extend(lost_run.repeat(chunks));
        feedback_of(&fci)
    };
    assert!(Compound::parse(&bomb(65_535, 9)).is_err());
    assert!(Compound::parse(&bomb(8191, 1)).is_ok());
    assert!(Compound::parse(&bomb(8191, 1).repeat(2)).is_ok());
    assert!(
        Compound::parse(&bomb(8191, 1).repeat(3)).is_err(),
        "many small ones together"
    );
    assert!(
        Compound::parse(&bomb(8192, 1)).is_err(),
        "chunks do not hold that many"
    );
    assert!(Compound::parse(&bomb(0, 1)).is_err());
    // Chunks promise deltas that are not there.
    assert!(Compound::parse(&feedback_of(&[0, 0, 0, 40, 0, 0, 0, 0, 0x20, 40, 0, 0])).is_err());
}

fn read_back(base: SeqNo, arrivals: &[Option<i64>], room: usize) -> usize {
    let mut out = vec![0; room];
    let Some(written) = write_transport_feedback(&mut out, US, THEM, base, 3, arrivals) else {
        return 0;
    };
    assert!(written.covered > 0 && written.len <= room);
    let Packet::TransportFeedback(feedback) = only(&out[..written.len]) else {
        unreachable!()
    };
    let got: Vec<_> = feedback.statuses().collect();
    assert_eq!(got.len(), written.covered);
    for (n, (seq, arrival)) in got.into_iter().enumerate() {
        assert_eq!(seq, base.add(n as u16));
        assert_eq!(arrival, arrivals[n], "status {n}");
    }
    written.covered
}

#[test]
fn long_runs_and_long_losses_are_one_chunk_each() {
    let mut arrivals: Vec<Option<i64>> = (0..1000).map(|n| Some(70_000 + n * 4)).collect();
    arrivals.extend(vec![None; 6000]);
    arrivals.push(Some(80_000));
    assert_eq!(read_back(SeqNo(65_000), &arrivals, 1200), 7001);
    let mut out = [0; 1200];
    let written = write_transport_feedback(&mut out, US, THEM, SeqNo(0), 0, &arrivals);
    // Header, 4 chunks at most, 999 + 2 small deltas and one large.
    assert!(written.is_some_and(|written| written.len <= 20 + 8 + 1003 + 3));
}

#[test]
fn an_arrival_out_of_reach_waits_for_the_next_packet() {
    let arrivals = [Some(0), Some(4), None, Some(40_000), Some(40_001)];
    assert_eq!(read_back(SeqNo(9), &arrivals, 1200), 3);
    assert_eq!(read_back(SeqNo(12), &arrivals[3..], 1200), 2);
    assert_eq!(read_back(SeqNo(0), &[None, None], 1200), 0);
    assert_eq!(read_back(SeqNo(0), &[Some(1)], 23), 0, "no room");
    assert_eq!(read_back(SeqNo(0), &[Some(1)], 26), 1);
}

proptest! {
    #[test]
    fn feedback_is_read_as_written(
        steps in proptest::collection::vec(prop_oneof![
            4 => (0..300i64).prop_map(Some),
            1 => (-2000..2000i64).prop_map(Some),
            2 => Just(None),
        ], 1..400),
        base in any::<u16>(),
        start in 10_000_000..20_000_000i64,
        room in 30..1200usize,
    ) {
        let mut time = start;
        let arrivals: Vec<_> = steps.into_iter().map(|step| step.map(|step| { time += step; time })).collect();
        let mut at = 0;
        while at < arrivals.len() {
            let covered = read_back(SeqNo(base).add(at as u16), &arrivals[at..], room);
            if covered == 0 {
                prop_assert!(arrivals[at..].iter().all(Option::is_none));
                break;
            }
            at += covered;
        }
    }

    #[test]
    fn nacks_are_read_as_written(steps in proptest::collection::vec(1..40u16, 1..60), start in any::<u16>()) {
        let mut seq = SeqNo(start);
        let lost: Vec<_> = steps.into_iter().map(|step| { seq = seq.add(step); seq }).collect();
        let mut out = [0; 400];
        let len = write_nack(&mut out, US, THEM, &lost).unwrap_or(0);
        let Packet::Nack { lost: read, .. } = only(&out[..len]) else { unreachable!() };
        prop_assert!(read.eq(lost));
    }

    #[test]
    fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 199..208u8, framed in any::<bool>()) {
        if framed && bytes.len() >= 8 {
            let len = bytes.len() / 4 * 4;
            bytes.truncate(len);
            bytes[0] = 0x80 | (bytes[0] & 0x3f);
            bytes[1] = kind;
            bytes[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
        }
        if let Ok(compound) = Compound::parse(&bytes) {
            let mut work = 0;
            for packet in compound {
                work += match packet {
                    Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => blocks.count(),
                    Packet::Sdes(sdes) => sdes.count(),
                    Packet::Bye(ssrcs) | Packet::Remb { ssrcs, .. } => ssrcs.count(),
                    Packet::Nack { lost, .. } => lost.count(),
                    Packet::Fir { entries, .. } => entries.count(),
                    Packet::TransportFeedback(feedback) => {
                        let statuses = feedback.statuses().count();
                        prop_assert_eq!(statuses, usize::from(feedback.count));
                        0
                    }
                    Packet::Pli { .. } | Packet::ExtendedReport { .. } | Packet::Other { .. } => 1,
                };
            }
            prop_assert!(work <= bytes.len() * 17 / 4);
        }
    }
}
