//! The router as a state machine: each input is a little program of commands, datagrams and time for two rooms of three
//! people each. Whatever is said in whatever order, nothing panics, tables and events stay bounded, what leaves goes to an
//! address that its owner has proven, opens with his keys, under an SRTP index never used before, and holds nothing of
//! the other room. `world.rs` keeps the books that this is judged by.

#![no_main]

mod checks;
mod world;

use d4e_engine::api::{
    Codec, Command, Encoding, Extension, Profile, PublicationSpec, SubscriptionSpec,
};
use d4e_engine::wire::rtcp::{self, Block, SenderInfo};
use d4e_engine::wire::seq::{SeqNo, Ssrc, Timestamp};
use libfuzzer_sys::fuzz_target;

use crate::world::{Labels, PUBLICATIONS, RIDS, SUBSCRIPTIONS, TRANSPORTS, World, room};

/// Steps of one program: more only makes it slower.
const STEPS: usize = 200;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut world = World::new();
    let how = input.byte();
    if how & 1 == 0 {
        a_call(&mut world, how);
    }
    for _ in 0..STEPS {
        if input.0.is_empty() {
            break;
        }
        step(&mut world, &mut input);
        world.judge();
    }
    world.end();
});

/// Numbers off the front of the input; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }
    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }
    fn below(&mut self, bound: u32) -> u32 {
        u32::from(self.byte()) % bound
    }
    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }
    /// A length, and as many bytes as there are of it.
    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

const PICTURES: [Codec; 4] = [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];

/// Everyone is connected; the first of each room publishes voice and a picture, the others receive them. Two bits say of
/// which codec, and one whether as simulcast or with its layers in one stream.
fn a_call(world: &mut World, how: u8) {
    let codec = PICTURES[usize::from(how >> 1 & 3)];
    let simulcast = how & 8 == 0;
    for id in 0..4 {
        let profile = [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm][id as usize / 2];
        world.add_transport(id, true);
        world.check(id, id as u8, 0, true, &[]);
        world.set_keys(id, profile);
        if id < 2 {
            world.apply(publication(id, id, Codec::Opus, 1, false));
            world.apply(publication(
                id + 2,
                id,
                codec,
                if simulcast { 3 } else { 1 },
                simulcast,
            ));
        }
    }
    for id in 0..2 {
        for (n, publication) in [id, id + 2].into_iter().enumerate() {
            let spec = subscription(world, Some(2 * n as u8));
            world.apply(Command::AddSubscription {
                subscription: publication,
                publication,
                transport: id + 2,
                spec,
            });
        }
    }
}

fn publication(id: u32, transport: u32, codec: Codec, encodings: usize, rids: bool) -> Command {
    let encoding = |at: usize| Encoding {
        rid: rids.then(|| RIDS[at % RIDS.len()].into()),
        ssrc: (!rids && at > 0).then_some(0x1000 * (id + 1) + at as u32),
        rtx_ssrc: None,
    };
    let video = codec != Codec::Opus;
    Command::AddPublication {
        publication: id,
        transport,
        spec: PublicationSpec {
            codec,
            mid: format!("{id}"),
            payload_type: if video { 96 } else { 111 },
            rtx_payload_type: video.then_some(97),
            red_payload_type: None,
            event_payload_type: None,
            encodings: (0..encodings).map(encoding).collect(),
            max_bitrate: 20_000_000,
            nack: true,
        },
    }
}

fn subscription(world: &mut World, spatial: Option<u8>) -> SubscriptionSpec {
    let ssrc = world.fresh_ssrc();
    SubscriptionSpec {
        mid: "s".into(),
        payload_type: 100,
        rtx_payload_type: Some(101),
        red_payload_type: None,
        event_payload_type: None,
        ssrc,
        rtx_ssrc: Some(world.fresh_ssrc()),
        cname: "someone".into(),
        spatial,
        temporal: 255,
        transport_wide: true,
    }
}

fn step(world: &mut World, input: &mut Input<'_>) {
    match input.below(20) {
        0 => {
            let (id, may) = (input.below(TRANSPORTS), input.flag());
            world.add_transport(id, may);
        }
        1 => {
            let (id, remote, local) = (input.below(TRANSPORTS), input.byte(), input.byte());
            let (nominated, extra) = (input.flag(), input.below(4));
            let extra: &[u8] = match extra {
                0 => &[0x80, 0x29, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8], // ICE-CONTROLLED
                1 => &[0x7f, 0xf0, 0, 0],                         // unknown, and to be understood
                _ => &[],
            };
            world.check(id, remote, local, nominated, extra);
        }
        2 => {
            let (id, remote, at, with) = (
                input.below(TRANSPORTS),
                input.byte(),
                input.byte(),
                input.byte(),
            );
            world.forged_check(id, remote, at, with);
        }
        3 => {
            let (id, gcm) = (input.below(TRANSPORTS), input.flag());
            let profile = if gcm {
                Profile::AeadAes128Gcm
            } else {
                Profile::Aes128CmHmacSha1_80
            };
            world.set_keys(id, profile);
        }
        4 => {
            let (id, transport) = (input.below(PUBLICATIONS), input.below(TRANSPORTS));
            let codec = match input.below(5) {
                0 => Codec::Opus,
                picture => PICTURES[picture as usize - 1],
            };
            let (encodings, rids) = (input.below(5) as usize, input.flag());
            if room(id) == room(transport) {
                world.apply(publication(id, transport, codec, encodings, rids));
            }
        }
        5 => {
            let id = input.below(SUBSCRIPTIONS);
            let (publication, transport) = (input.below(PUBLICATIONS), input.below(TRANSPORTS));
            let (spatial, temporal) = (input.byte(), input.byte());
            let mut spec = subscription(world, (spatial < 200).then_some(spatial % 5));
            spec.temporal = temporal;
            spec.rtx_payload_type = (temporal & 1 == 0).then_some(101);
            if room(publication) == room(transport) {
                world.apply(Command::AddSubscription {
                    subscription: id,
                    publication,
                    transport,
                    spec,
                });
            }
        }
        // Three opcodes, because most of what comes is media.
        6..=8 => media(world, input),
        9 => {
            let (id, plain) = (input.below(TRANSPORTS), input.bytes());
            world.send_plain_rtp(id, plain);
        }
        10 => {
            let (id, plain) = (input.below(TRANSPORTS), input.bytes());
            world.send_rtcp(id, plain);
        }
        11 => feedback(world, input),
        12 => {
            let (remote, local, bytes) = (input.byte(), input.byte(), input.bytes());
            world.send_raw(remote, local, bytes);
        }
        13 => {
            let (which, remote, at, with) =
                (input.byte(), input.byte(), input.byte(), input.byte());
            world.replay(which, remote, at, with);
        }
        14 => {
            let ms = u64::from(input.byte()) * 4;
            world.pass(ms);
        }
        15 => {
            let seconds = u64::from(input.byte() % 40);
            world.stall(seconds);
        }
        16 => {
            let (id, spatial, temporal) = (input.below(SUBSCRIPTIONS), input.byte(), input.byte());
            world.apply(Command::SetLayer {
                subscription: id,
                spatial: (spatial < 200).then_some(spatial % 5),
                temporal,
            });
        }
        17 => settings(world, input),
        18 => match input.below(3) {
            0 => {
                let transport = input.below(TRANSPORTS);
                world.remove_transport(transport);
            }
            1 => world.apply(Command::RemovePublication {
                publication: input.below(PUBLICATIONS),
            }),
            _ => world.apply(Command::RemoveSubscription {
                subscription: input.below(SUBSCRIPTIONS),
            }),
        },
        _ => match input.below(3) {
            0 => {
                let (id, datagram) = (input.below(TRANSPORTS), input.bytes());
                world.send_dtls(id, datagram);
            }
            1 => world.drain(),
            _ => world.inspect(),
        },
    }
}

/// Packets of one of the streams that a client might send, in a row, in order or not.
fn media(world: &mut World, input: &mut Input<'_>) {
    let (id, source, shape) = (input.below(TRANSPORTS), input.byte(), input.byte());
    let (ahead, later, count) = (input.word(), input.word(), input.byte());
    let body = input.bytes();
    // Some with a dependency descriptor before them, which the body's first bytes are.
    let (descriptor, body) = match count / 12 {
        len @ 1.. if usize::from(len) <= body.len() => body.split_at(len.into()),
        _ => (&[][..], body),
    };
    let count = count % 12 + 1;
    let publication = u32::from(source) % PUBLICATIONS;
    let encoding = usize::from(source / 8) % 3;
    let rtx = source & 0x80 != 0;
    let labels = Labels {
        ssrc: 0x1000 * (publication + 1) + encoding as u32 + if rtx { 0x100 } else { 0 },
        payload_type: match shape & 3 {
            0 => 111,
            1 => 127,
            _ if rtx => 97,
            _ => 96,
        },
        mid: (shape & 4 == 0).then(|| format!("{publication}")),
        rid: (shape & 8 == 0).then(|| RIDS[encoding]),
        repaired: rtx,
        marker: shape & 16 != 0,
        padding: shape & 32 != 0,
        level: shape & 64 != 0,
        descriptor,
    };
    for n in 0..count {
        // Most streams go on by one; some jump, and then go on.
        let ahead = if n == 0 && shape & 128 != 0 { ahead } else { 1 };
        let later = u32::from(if n == 0 { later } else { 0 }) << (shape & 7);
        world.send_media(id, &labels, ahead, later, body);
    }
}

/// Reports and requests about streams that are really there.
fn feedback(world: &mut World, input: &mut Input<'_>) {
    let (id, which, number, kind) = (
        input.below(TRANSPORTS),
        input.byte(),
        input.word(),
        input.below(7),
    );
    let sent = world.sent_ssrc(which);
    let theirs = 0x1000 * (u32::from(which) % PUBLICATIONS + 1);
    let mut out = [0; 1_200];
    let us = Ssrc(7);
    let len = match kind {
        0 => {
            let lost: Vec<SeqNo> = (0..40)
                .step_by(usize::from(which % 5) + 1)
                .map(|n| SeqNo(number.wrapping_add(n)))
                .collect();
            rtcp::write_nack(&mut out, us, Ssrc(sent), &lost)
        }
        1 => rtcp::write_pli(&mut out, us, Ssrc(sent)),
        2 => rtcp::write_fir(&mut out, us, Ssrc(sent), which),
        3 => {
            let block = Block {
                ssrc: Ssrc(sent),
                fraction_lost: which,
                lost: -1,
                highest: u32::from(number),
                jitter: 3,
                last_sr: world.last_sr(),
                delay: u32::from(number) << (which & 15),
            };
            rtcp::write_receiver_report(&mut out, us, &[block; 2])
        }
        4 => {
            let info = SenderInfo {
                ntp: u64::from(number) << (which & 31),
                rtp: Timestamp(u32::from(number) << 8),
                packets: 1,
                octets: 1,
            };
            rtcp::write_sender_report(&mut out, Ssrc(theirs), &info, &[])
        }
        5 => rtcp::write_bye(&mut out, &[Ssrc(theirs)]),
        _ => rtcp::write_remb(
            &mut out,
            us,
            u64::from(number) << (which & 47),
            &[Ssrc(sent)],
        ),
    };
    if let Some(len) = len {
        world.send_rtcp(id, &out[..len]);
    }
}

fn settings(world: &mut World, input: &mut Input<'_>) {
    let (kind, id, value) = (input.below(5), input.byte(), input.byte());
    let transport = u32::from(id) % TRANSPORTS;
    match kind {
        0 => world.apply(Command::SetMayPublish {
            transport,
            may_publish: value & 1 == 1,
        }),
        1 => world.apply(Command::SetSignalLost {
            transport,
            lost: value & 1 == 1,
        }),
        2 => world.apply(Command::SetMaxBitrate {
            publication: u32::from(id) % PUBLICATIONS,
            max_bitrate: u32::from(value) << (id & 31),
        }),
        3 => world.apply(Command::SendDtls {
            transport,
            datagram: world::dtls(transport, usize::from(value)),
        }),
        _ => world.apply(Command::SetExtensions {
            transport,
            extensions: vec![
                (Extension::Mid, value % 17),
                (Extension::AudioLevel, id),
                (Extension::TransportWideCc, value),
                (Extension::AbsCaptureTime, id % 17),
                (Extension::VideoOrientation, value ^ id),
                (Extension::PlayoutDelay, value.wrapping_add(id)),
            ],
            allow_mixed: value & 1 == 1,
        }),
    }
}
