//! What comes to the front as a stream: the decision by the first bytes, frames, and a TURN server that is sent whatever a
//! client could send, signed and unsigned, which no mutation would find. However it is cut, the same is read; nothing is
//! relayed to anything but the one media address; what was allocated is given back.

#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use d4e_engine::front::credentials::Credentials;
use d4e_engine::front::turn::{Effect, Peer, Server, Turn};
use d4e_engine::now::Now;
use d4e_engine::wire::stream::{OPENING, Piece, frame, opening, turn};
use d4e_engine::wire::turn::ALGORITHMS;
use libfuzzer_sys::fuzz_target;

const NAME: &str = "2000:PA_x";
const SECRET: &[u8] = b"secret";
const REALM: &str = "sfu";

fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    match mode & 1 {
        0 => streams(data),
        _ => conversation(data),
    }
});

fn streams(data: &[u8]) {
    let decided = opening(data);
    assert!(decided.is_some() || data.len() < OPENING);
    for len in 0..data.len().min(OPENING) {
        let sooner = opening(&data[..len]);
        assert!(sooner.is_none() || sooner == decided, "more bytes change nothing");
    }
    for cut in [frame as fn(&[u8]) -> (Piece<'_>, usize), turn] {
        let mut rest = data;
        loop {
            let (piece, taken) = cut(rest);
            match piece {
                Piece::Incomplete | Piece::Broken => {
                    assert_eq!(taken, 0);
                    break;
                }
                Piece::Message(inner) | Piece::Channel(_, inner) => {
                    assert!(inner.len() <= taken && taken <= rest.len());
                    // Not before it is here as a whole.
                    assert_eq!(cut(&rest[..taken - 1]), (Piece::Incomplete, 0));
                    rest = &rest[taken..];
                }
            }
        }
    }
}

/// Steps: a time that passes, then a message with these attributes, signed or not; or ChannelData; or bytes as they are.
fn conversation(mut data: &[u8]) {
    let media = SocketAddr::from(([192, 0, 2, 10], 7_882));
    let client = SocketAddr::from(([203, 0, 113, 1], 50_000));
    let peers = vec![Peer {
        address: media,
        worker: 0,
    }];
    let mut server = Server::new(Credentials::new(REALM, SECRET), peers);
    let ours = Credentials::new(REALM, SECRET);
    let mut turn = Turn::new(7);
    let mut now = Now(1_000_000_000);
    while let [how, method, seconds, len, ref rest @ ..] = *data {
        now = now.plus(Duration::from_secs(u64::from(seconds) * 8));
        turn.expire(now, &mut server);
        let (body, after) = rest.split_at(usize::from(len).min(rest.len()));
        data = after;
        let mut out = [0; 512];
        let message = match how & 3 {
            0 => body.to_vec(),
            1 => {
                let number = u16::from_be_bytes([0x40, method]);
                if let Effect::Relay(peer, relayed) = turn.channel(now, number, body) {
                    assert!(peer == 0 && relayed == body);
                }
                continue;
            }
            signed => message(method, body, signed == 2, how & 4 != 0, &ours.nonce(7, now)),
        };
        match turn.message(now, 1_000, client, &message, &mut server, &mut out) {
            Effect::Answer(len) => assert!(len <= out.len() && len >= 20),
            Effect::Relay(peer, relayed) => {
                assert!(peer == 0 && relayed.len() <= message.len());
                assert!(turn.is_allocated(), "nobody is relayed who has not proven who he is");
            }
            Effect::Nothing | Effect::Refused(_) | Effect::Close => {}
        }
        if let Some(relayed) = turn.relayed() {
            assert_eq!(relayed.ip(), media.ip());
        }
        let _ = turn.way(now, 0, &server);
    }
    turn.release(&mut server);
    assert!(!turn.is_allocated());
}

/// A request or an indication; by its own arithmetic, not by the engine's.
fn message(kind: u8, attributes: &[u8], signed: bool, sha256: bool, nonce: &str) -> Vec<u8> {
    let indication = u8::from(kind & 0x40 != 0) << 4;
    let mut out = vec![0, (kind & 15) | indication, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    out.extend([9; 12]);
    if signed {
        for (kind, value) in [
            (6u16, NAME.as_bytes()),
            (20, REALM.as_bytes()),
            (21, nonce.as_bytes()),
            (0x8002, &ALGORITHMS),
            (0x1d, &[0, 2, 0, 0]),
        ] {
            out.extend(kind.to_be_bytes());
            out.extend((value.len() as u16).to_be_bytes());
            out.extend(value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    out.extend(&attributes[..attributes.len() & !3]);
    let length = |out: &mut Vec<u8>, extra: usize| {
        let len = ((out.len() - 20 + extra) as u16).to_be_bytes();
        out[2..4].copy_from_slice(&len);
    };
    if !signed {
        length(&mut out, 0);
        return out;
    }
    let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let password: String = hmac::sign(&secret, NAME.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let text = format!("{NAME}:{REALM}:{password}");
    let key = digest::digest(&digest::SHA256, text.as_bytes());
    let (kind, algorithm, len) = if sha256 {
        (0x1cu16, hmac::HMAC_SHA256, 32)
    } else {
        (8, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, 20)
    };
    length(&mut out, 4 + len);
    let tag = hmac::sign(&hmac::Key::new(algorithm, key.as_ref()), &out);
    out.extend(kind.to_be_bytes());
    out.extend((len as u16).to_be_bytes());
    out.extend(tag.as_ref());
    out
}
