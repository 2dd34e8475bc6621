//! What comes as a stream of bytes, cut into what it is made of: which protocol a connection speaks (the first bytes
//! decide), frames of RFC 4571, messages of TURN over TCP (RFC 8656 §3.1, §12.5). Nothing here is trusted or kept.

use super::stun::COOKIE;

/// No datagram that is handled is larger.
pub const LARGEST: usize = 2_048;
/// What a message of TURN that wraps one may be larger by.
const WRAPPING: usize = 256;

/// What the first bytes of a connection are the beginning of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A ClientHello in a handshake record (RFC 8446 §5.1).
    Tls,
    /// A connectivity check in a frame (RFC 6544, RFC 4571).
    Ice,
    /// STUN without a frame: a TURN client.
    Turn,
    /// A method and a space (RFC 9110 §9.1).
    Http,
    /// Whatever it is, it is not for us.
    Unknown,
}

/// So many bytes always decide.
pub const OPENING: usize = 10;
/// The longest method that is looked for; WebDAV's are longer, and not ours.
const METHOD: usize = 8;

/// `None`: more bytes are needed. Never with [`OPENING`] of them.
#[must_use]
pub fn opening(bytes: &[u8]) -> Option<Opening> {
    let &[first, ref rest @ ..] = bytes else {
        return None;
    };
    match first {
        // Handshake, version 3.x (RFC 8446 §5.1: the version is not to be looked at more closely).
        22 => match rest.first() {
            None => None,
            Some(3) => Some(Opening::Tls),
            Some(_) => Some(Opening::Unknown),
        },
        b'A'..=b'Z' => method(bytes),
        // The two upper bits of a message's type, and of a length below 16,384.
        0..=63 => {
            let cookie = COOKIE.to_be_bytes();
            let starts = |at: usize| {
                let here = bytes.get(at..).unwrap_or_default();
                let known = here.len().min(cookie.len());
                (here[..known] == cookie[..known]).then_some(known == cookie.len())
            };
            match (starts(4), starts(6)) {
                (Some(true), _) => Some(Opening::Turn),
                (_, Some(true)) => Some(Opening::Ice),
                (None, None) => Some(Opening::Unknown),
                _ => None,
            }
        }
        _ => Some(Opening::Unknown),
    }
}

fn method(bytes: &[u8]) -> Option<Opening> {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase());
    match (letters.count(), bytes) {
        (letters, _) if letters > METHOD => Some(Opening::Unknown),
        (letters, bytes) if letters < bytes.len() => Some(match bytes[letters] {
            b' ' if letters >= 3 => Opening::Http,
            _ => Opening::Unknown,
        }),
        _ => None,
    }
}

/// What is at the head of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Not here as a whole yet.
    Incomplete,
    /// Larger than any datagram may be, or no such thing: the stream is lost.
    Broken,
    /// A datagram in a frame, or a message of STUN.
    Message(&'a [u8]),
    /// ChannelData (RFC 8656 §12.4): the channel's number, and what is in it.
    Channel(u16, &'a [u8]),
}

/// A frame (RFC 4571 §2), and how many bytes of the stream it takes.
#[must_use]
pub fn frame(bytes: &[u8]) -> (Piece<'_>, usize) {
    let Some(&[high, low]) = bytes.first_chunk() else {
        return (Piece::Incomplete, 0);
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > LARGEST {
        return (Piece::Broken, 0);
    }
    match bytes.get(2..2 + len) {
        Some(datagram) => (Piece::Message(datagram), 2 + len),
        None => (Piece::Incomplete, 0),
    }
}

/// A message of STUN or ChannelData with its padding (RFC 8656 §12.5), and how many bytes of the stream it takes.
#[must_use]
pub fn turn(bytes: &[u8]) -> (Piece<'_>, usize) {
    let Some(&[k0, k1, l0, l1]) = bytes.first_chunk() else {
        return (Piece::Incomplete, 0);
    };
    let (kind, len) = (
        u16::from_be_bytes([k0, k1]),
        usize::from(u16::from_be_bytes([l0, l1])),
    );
    // RFC 8656 §12: the two upper bits tell them apart.
    let (head, whole) = match kind >> 14 {
        0 if len.is_multiple_of(4) => (0, 20 + len),
        1 => (4, 4 + len.next_multiple_of(4)),
        _ => return (Piece::Broken, 0),
    };
    if len > LARGEST + WRAPPING {
        return (Piece::Broken, 0);
    }
    let Some(piece) = bytes.get(..whole) else {
        return (Piece::Incomplete, 0);
    };
    let piece = if head == 0 {
        Piece::Message(piece)
    } else {
        Piece::Channel(kind, &piece[4..4 + len])
    };
    (piece, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHECK: [u8; 12] = [0, 0x48, 0, 1, 0, 0x34, 0x21, 0x12, 0xa4, 0x42, 1, 2];
    const ALLOCATE: [u8; 12] = [0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4];

    #[test]
    fn the_first_bytes_decide_and_no_sooner_than_they_can() {
        let cases: [(&[u8], Opening, usize); 13] = [
            (&[22, 3, 1, 2, 0, 1], Opening::Tls, 2),
            (&[22, 2, 1, 2, 0, 1], Opening::Unknown, 2),
            (&CHECK, Opening::Ice, 10),
            (&ALLOCATE, Opening::Turn, 8),
            (b"GET / HTTP/1.1\r\n", Opening::Http, 4),
            (b"OPTIONS * HTTP/1.1\r\n", Opening::Http, 8),
            (b"G / HTTP/1.1\r\n", Opening::Unknown, 2),
            (b"PROPPATCH / HTTP/1.1\r\n", Opening::Unknown, 9),
            (b"Get / HTTP/1.1\r\n", Opening::Unknown, 2),
            (b"SSH-2.0-OpenSSH", Opening::Unknown, 4),
            (&[0xff; 12], Opening::Unknown, 1),
            (&[0; 12], Opening::Unknown, 7),
            (&[63; 12], Opening::Unknown, 7),
        ];
        for (bytes, expected, needed) in cases {
            for len in 0..bytes.len() {
                let seen = opening(&bytes[..len]);
                assert_eq!(
                    seen,
                    (len >= needed).then_some(expected),
                    "{bytes:x?} {len}"
                );
            }
        }
    }

    #[test]
    fn frames_are_cut_where_they_end() {
        let mut bytes = [&[0, 3][..], b"abc", &[0, 0], &[0, 2], b"d"].concat();
        assert_eq!(frame(&bytes), (Piece::Message(b"abc"), 5));
        assert_eq!(frame(&bytes[5..]), (Piece::Message(b""), 2));
        assert_eq!(frame(&bytes[7..]), (Piece::Incomplete, 0));
        bytes.push(b'e');
        assert_eq!(frame(&bytes[7..]), (Piece::Message(b"de"), 4));
        assert_eq!(frame(&[8, 1]), (Piece::Broken, 0), "2,049 bytes");
        assert_eq!(frame(&[8, 0]), (Piece::Incomplete, 0));
    }

    #[test]
    fn channel_data_is_padded_and_stun_is_not() {
        let bytes = [0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0x40];
        assert_eq!(turn(&bytes), (Piece::Channel(0x4001, &[1, 2, 3, 4, 5]), 12));
        assert_eq!(
            turn(&bytes[..11]),
            (Piece::Incomplete, 0),
            "padding belongs to it"
        );
        assert_eq!(turn(&[0x40, 1, 0, 0]), (Piece::Channel(0x4001, &[]), 4));
        let mut message = ALLOCATE.to_vec();
        message.resize(28, 0);
        assert_eq!(turn(&message), (Piece::Message(&message), 28));
        assert_eq!(turn(&message[..27]), (Piece::Incomplete, 0));
        assert_eq!(turn(&[0, 3, 0, 7]), (Piece::Broken, 0), "RFC 8489 §5");
        assert_eq!(
            turn(&[0x80, 3, 0, 8]),
            (Piece::Broken, 0),
            "RTP without a frame"
        );
        assert_eq!(turn(&[0x40, 0, 0xff, 0xff]), (Piece::Broken, 0));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(bytes.len() < OPENING || opening(&bytes).is_some());
            for (piece, taken) in [frame(&bytes), turn(&bytes)] {
                let whole = matches!(piece, Piece::Message(_) | Piece::Channel(..));
                prop_assert!(taken <= bytes.len() && whole == (taken > 0));
            }
        }
    }
}
