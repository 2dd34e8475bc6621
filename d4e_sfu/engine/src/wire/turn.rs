//! TURN messages (RFC 8656) with long-term credentials (RFC 8489 §9.2): checked reading, and writing with integrity. What
//! they mean is `front`'s; the framing on a stream is `stream`'s.

use std::net::SocketAddr;

use aws_lc_rs::hmac;

use super::drop::DropReason;
use super::stun::{
    BINDING, Class, ERROR_CODE, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, NONCE,
    PASSWORD_ALGORITHM, REALM, TransactionId, UNKNOWN_ATTRIBUTES, USERNAME, Writer,
    XOR_MAPPED_ADDRESS, attributes, header, proves, unmask,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Binding,
    Allocate,
    Refresh,
    Send,
    Data,
    CreatePermission,
    ChannelBind,
}

impl Method {
    const ALL: [(u16, Self); 7] = [
        (BINDING, Self::Binding),
        (3, Self::Allocate),
        (4, Self::Refresh),
        (6, Self::Send),
        (7, Self::Data),
        (8, Self::CreatePermission),
        (9, Self::ChannelBind),
    ];

    fn number(self) -> u16 {
        Self::ALL
            .iter()
            .find(|(_, method)| *method == self)
            .map_or(0, |(number, _)| *number)
    }
}

// Attributes (RFC 8656 §18, RFC 8489 §18.3).
const CHANNEL_NUMBER: u16 = 0x000c;
const LIFETIME: u16 = 0x000d;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const PASSWORD_ALGORITHMS: u16 = 0x8002;

/// Addresses that one CreatePermission may name.
pub const MAX_PEERS: usize = 16;

/// RFC 8489 §18.5.
const MD5: u16 = 1;
const SHA256: u16 = 2;
/// Both, the better first, each without parameters: what we offer, and what must come back unchanged.
pub const ALGORITHMS: [u8; 8] = [0, SHA256 as u8, 0, 0, 0, MD5 as u8, 0, 0];

/// How a client makes his key of his password (RFC 8489 §9.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
}

/// HMAC under the key of long-term credentials, in both forms.
#[derive(Clone, Debug)]
pub struct LongTermKey {
    sha1: hmac::Key,
    sha256: hmac::Key,
}

impl LongTermKey {
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self {
            sha1: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key),
            sha256: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }
}

/// Which of the two integrities a message has; an answer has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    Sha1,
    Sha256,
}

/// A message whose framing and (where present) FINGERPRINT are right. Nothing in it is trusted before
/// [`Message::verify`]; attributes behind the integrity are ignored.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub method: Method,
    pub class: Class,
    pub transaction: TransactionId,
    pub username: Option<&'a [u8]>,
    pub realm: Option<&'a [u8]>,
    pub nonce: Option<&'a [u8]>,
    pub lifetime: Option<u32>,
    /// An IP protocol number.
    pub transport: Option<u8>,
    /// 1 or 2, as in addresses.
    pub family: Option<u8>,
    pub channel: Option<u16>,
    pub data: Option<&'a [u8]>,
    /// PASSWORD-ALGORITHM, as it came.
    pub algorithm: Option<&'a [u8]>,
    /// PASSWORD-ALGORITHMS, as they came.
    pub algorithms: Option<&'a [u8]>,
    /// As many as [`MAX_PEERS`] of them, and how many there are.
    pub peers: [Option<SocketAddr>; MAX_PEERS],
    pub peer_count: usize,
    pub unknown: [u16; 4],
    pub unknown_count: usize,
    raw: &'a [u8],
    sha1_at: Option<usize>,
    sha256_at: Option<usize>,
}

impl<'a> Message<'a> {
    /// Anything that is no well-formed message of a method that is known: `BadStun`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Self::read(bytes).ok_or(DropReason::BadStun)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (number, class, transaction) = header(bytes)?;
        let (_, method) = *Method::ALL.iter().find(|(known, _)| *known == number)?;
        let mut message = Self {
            method,
            class,
            transaction,
            username: None,
            realm: None,
            nonce: None,
            lifetime: None,
            transport: None,
            family: None,
            channel: None,
            data: None,
            algorithm: None,
            algorithms: None,
            peers: [None; MAX_PEERS],
            peer_count: 0,
            unknown: [0; 4],
            unknown_count: 0,
            raw: bytes,
            sha1_at: None,
            sha256_at: None,
        };
        attributes(bytes, |at, kind, value| match kind {
            // RFC 8489 §14.6: behind MESSAGE-INTEGRITY this one counts still.
            MESSAGE_INTEGRITY_SHA256 if message.sha256_at.is_none() => {
                message.sha256_at = (value.len() == 32).then_some(at);
                message.sha256_at.map(drop)
            }
            _ if message.sha1_at.is_some() || message.sha256_at.is_some() => Some(()),
            MESSAGE_INTEGRITY => {
                message.sha1_at = (value.len() == 20).then_some(at);
                message.sha1_at.map(drop)
            }
            _ => message.attribute(kind, value),
        })?;
        Some(message)
    }

    fn attribute(&mut self, kind: u16, value: &'a [u8]) -> Option<()> {
        match kind {
            // RFC 8489 §14: of a repeated attribute only the first counts.
            USERNAME => self.username = self.username.or(Some(value)),
            REALM => self.realm = self.realm.or(Some(value)),
            NONCE => self.nonce = self.nonce.or(Some(value)),
            DATA => self.data = self.data.or(Some(value)),
            PASSWORD_ALGORITHM => self.algorithm = self.algorithm.or(Some(value)),
            PASSWORD_ALGORITHMS => self.algorithms = self.algorithms.or(Some(value)),
            LIFETIME => self.lifetime = Some(u32::from_be_bytes(value.try_into().ok()?)),
            REQUESTED_TRANSPORT => self.transport = Some(value.first_chunk::<4>()?[0]),
            REQUESTED_ADDRESS_FAMILY => self.family = Some(value.first_chunk::<4>()?[0]),
            CHANNEL_NUMBER => {
                let &[high, low, _, _] = value.first_chunk()?;
                self.channel = Some(u16::from_be_bytes([high, low]));
            }
            XOR_PEER_ADDRESS => {
                let peer = unmask(value, &self.transaction)?;
                if let Some(slot) = self.peers.get_mut(self.peer_count) {
                    *slot = Some(peer);
                }
                self.peer_count += 1;
            }
            // What is known and says nothing here.
            ERROR_CODE | UNKNOWN_ATTRIBUTES | XOR_MAPPED_ADDRESS | XOR_RELAYED_ADDRESS => {}
            0x8000.. => {}
            _ => {
                if let Some(slot) = self.unknown.get_mut(self.unknown_count) {
                    *slot = kind;
                }
                self.unknown_count += 1;
            }
        }
        Some(())
    }

    #[must_use]
    pub fn integrity(&self) -> Option<Integrity> {
        match (self.sha256_at, self.sha1_at) {
            (Some(_), _) => Some(Integrity::Sha256),
            (None, Some(_)) => Some(Integrity::Sha1),
            (None, None) => None,
        }
    }

    /// Which algorithm he has chosen of those that we offer; without a word of his it is the old one. `None`: he chooses
    /// what was not offered, or somebody has changed the offer (RFC 8489 §9.2.4).
    #[must_use]
    pub fn chosen(&self) -> Option<Algorithm> {
        match (self.algorithm, self.algorithms) {
            (None, None) => Some(Algorithm::Md5),
            (Some(chosen), Some(offered)) if offered == ALGORITHMS => match *chosen {
                [0, number, 0, 0] if u16::from(number) == MD5 => Some(Algorithm::Md5),
                [0, number, 0, 0] if u16::from(number) == SHA256 => Some(Algorithm::Sha256),
                _ => None,
            },
            _ => None,
        }
    }

    /// The better of its integrities is right, compared in constant time.
    #[must_use]
    pub fn verify(&self, key: &LongTermKey) -> bool {
        match (self.sha256_at, self.sha1_at) {
            (Some(at), _) => proves(self.raw, at, &key.sha256),
            (None, Some(at)) => proves(self.raw, at, &key.sha1),
            (None, None) => false,
        }
    }
}

/// An answer that is being written. Every part is `None` when there is no room for it.
pub struct Answer<'a> {
    writer: Writer<'a>,
    transaction: TransactionId,
}

impl<'a> Answer<'a> {
    #[must_use]
    pub fn success(out: &'a mut [u8], to: &Message<'_>) -> Option<Self> {
        Self::of(out, to.method, Class::Success, to.transaction)
    }

    #[must_use]
    pub fn error(out: &'a mut [u8], to: &Message<'_>, code: u16, reason: &str) -> Option<Self> {
        let mut answer = Self::of(out, to.method, Class::Error, to.transaction)?;
        let head = [0, 0, (code / 100) as u8 & 7, (code % 100) as u8];
        answer
            .writer
            .attribute(ERROR_CODE, &[&head, reason.as_bytes()])?;
        Some(answer)
    }

    fn of(
        out: &'a mut [u8],
        method: Method,
        class: Class,
        transaction: TransactionId,
    ) -> Option<Self> {
        Some(Self {
            writer: Writer::of(out, method.number(), class, &transaction)?,
            transaction,
        })
    }

    /// RFC 8489 §9.2.3.1: what a client needs to prove who he is.
    #[must_use]
    pub fn challenge(mut self, realm: &str, nonce: &str) -> Option<Self> {
        self.writer.attribute(REALM, &[realm.as_bytes()])?;
        self.writer.attribute(NONCE, &[nonce.as_bytes()])?;
        self.writer.attribute(PASSWORD_ALGORITHMS, &[&ALGORITHMS])?;
        Some(self)
    }

    #[must_use]
    pub fn unknown(mut self, kinds: &[u16]) -> Option<Self> {
        let mut bytes = [0; 8];
        for (to, kind) in bytes.chunks_exact_mut(2).zip(kinds) {
            to.copy_from_slice(&kind.to_be_bytes());
        }
        let len = bytes.len().min(2 * kinds.len());
        self.writer
            .attribute(UNKNOWN_ATTRIBUTES, &[&bytes[..len]])?;
        Some(self)
    }

    #[must_use]
    pub fn lifetime(mut self, seconds: u32) -> Option<Self> {
        self.writer.attribute(LIFETIME, &[&seconds.to_be_bytes()])?;
        Some(self)
    }

    #[must_use]
    pub fn mapped(mut self, address: SocketAddr) -> Option<Self> {
        self.writer
            .address(XOR_MAPPED_ADDRESS, &self.transaction, address)?;
        Some(self)
    }

    #[must_use]
    pub fn relayed(mut self, address: SocketAddr) -> Option<Self> {
        self.writer
            .address(XOR_RELAYED_ADDRESS, &self.transaction, address)?;
        Some(self)
    }

    /// Signed as the request was, where it is known whose that was. Returns the length.
    #[must_use]
    pub fn finish(mut self, signed: Option<(&LongTermKey, Integrity)>) -> Option<usize> {
        match signed {
            Some((key, Integrity::Sha256)) => {
                self.writer.sign(MESSAGE_INTEGRITY_SHA256, &key.sha256)?;
            }
            Some((key, Integrity::Sha1)) => self.writer.sign(MESSAGE_INTEGRITY, &key.sha1)?,
            None => {}
        }
        self.writer.fingerprint()
    }
}

/// A datagram from a peer without a channel (RFC 8656 §11.6). Returns the length.
#[must_use]
pub fn write_data_indication(
    out: &mut [u8],
    transaction: &TransactionId,
    peer: SocketAddr,
    datagram: &[u8],
) -> Option<usize> {
    let mut writer = Writer::of(out, Method::Data.number(), Class::Indication, transaction)?;
    writer.address(XOR_PEER_ADDRESS, transaction, peer)?;
    writer.attribute(DATA, &[datagram])?;
    writer.end()
}

/// A datagram from a peer with a channel, padded as a stream needs it (RFC 8656 §12.5). Returns the length.
#[must_use]
pub fn write_channel_data(out: &mut [u8], channel: u16, datagram: &[u8]) -> Option<usize> {
    let whole = 4 + datagram.len().next_multiple_of(4);
    let out = out.get_mut(..whole)?;
    let (head, body) = out.split_at_mut(4);
    head[..2].copy_from_slice(&channel.to_be_bytes());
    head[2..].copy_from_slice(&u16::try_from(datagram.len()).ok()?.to_be_bytes());
    let (content, padding) = body.split_at_mut(datagram.len());
    content.copy_from_slice(datagram);
    padding.fill(0);
    Some(whole)
}

/// A request as a client makes it: for tests and for targets of the fuzzer.
#[cfg(any(test, feature = "peer"))]
pub mod client {
    use super::*;
    use crate::wire::stun::HEADER_LEN;

    /// Attributes in this order, signed where there is a key. Returns the message.
    #[must_use]
    pub fn request(
        method: Method,
        class: Class,
        attributes: &[(u16, Vec<u8>)],
        signed: Option<(&LongTermKey, Integrity)>,
    ) -> Option<Vec<u8>> {
        let mut out = vec![0; 4_096];
        let mut writer = Writer::of(&mut out, method.number(), class, b"abcdefghijkl")?;
        for (kind, value) in attributes {
            writer.attribute(*kind, &[value])?;
        }
        let len = match signed {
            Some((key, Integrity::Sha256)) => {
                writer.sign(MESSAGE_INTEGRITY_SHA256, &key.sha256)?;
                writer.fingerprint()?
            }
            Some((key, Integrity::Sha1)) => {
                writer.sign(MESSAGE_INTEGRITY, &key.sha1)?;
                writer.fingerprint()?
            }
            None => writer.end()?,
        };
        out.truncate(len);
        Some(out)
    }

    /// XOR-PEER-ADDRESS of this.
    #[must_use]
    pub fn peer(address: SocketAddr) -> (u16, Vec<u8>) {
        let mut out = [0; 64];
        let written =
            Writer::of(&mut out, 0, Class::Request, b"abcdefghijkl").and_then(|mut writer| {
                writer.address(XOR_PEER_ADDRESS, b"abcdefghijkl", address)?;
                writer.end()
            });
        let value = out[HEADER_LEN + 4..written.unwrap_or(HEADER_LEN + 4)].to_vec();
        (XOR_PEER_ADDRESS, value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stun::{COOKIE, HEADER_LEN};
    use super::client::{peer, request};
    use super::*;
    use proptest::prelude::*;

    // RFC 5769 §2.4: long-term credentials; key of the username, realm "example.org" and password "TheMatrIX".
    const REQUEST: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382af e382b90000 0015001c662f2f3439396b3935346436 4f4c33346f4c394653547679363473410014000b6578616d706c652e6f7267000008 0014f67024656dd64a3e02b8e0712e85c9a28ca89666";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter_map(|c| c.to_digit(16))
            .map(|d| d as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    #[test]
    fn rfc_5769_long_term() {
        let bytes = hex(REQUEST);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            (message.method, message.realm, message.integrity()),
            (
                Method::Binding,
                Some(&b"example.org"[..]),
                Some(Integrity::Sha1)
            )
        );
        assert_eq!(message.nonce, Some(&b"f//499k954d6OL34oL9FSTvy64sA"[..]));
        // MD5("マトリックス:example.org:TheMatrIX")
        let key = hex(KEY);
        assert!(message.verify(&LongTermKey::new(&key)));
        assert!(!message.verify(&LongTermKey::new(b"another")));
    }

    const KEY: &str = "e8ca7ad59d5eb0518e312911d2dab2a9";

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_noticed() {
        let key = LongTermKey::new(b"key");
        for integrity in [Integrity::Sha1, Integrity::Sha256] {
            let there = SocketAddr::from(([203, 0, 113, 9], 7882));
            let attributes = [
                (USERNAME, b"me".to_vec()),
                peer(there),
                (CHANNEL_NUMBER, vec![0x40, 1, 0, 0]),
                (LIFETIME, 600u32.to_be_bytes().to_vec()),
                (REQUESTED_TRANSPORT, vec![17, 0, 0, 0]),
                (PASSWORD_ALGORITHMS, ALGORITHMS.to_vec()),
                (PASSWORD_ALGORITHM, vec![0, 2, 0, 0]),
                (0x001a, vec![]),
            ];
            let bytes = request(
                Method::ChannelBind,
                Class::Request,
                &attributes,
                Some((&key, integrity)),
            )
            .unwrap();
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(
                (message.method, message.class, message.integrity()),
                (Method::ChannelBind, Class::Request, Some(integrity))
            );
            assert_eq!((message.peers[0], message.peer_count), (Some(there), 1));
            assert_eq!(
                (message.channel, message.lifetime, message.transport),
                (Some(0x4001), Some(600), Some(17))
            );
            assert_eq!(message.chosen(), Some(Algorithm::Sha256));
            assert_eq!((message.unknown[0], message.unknown_count), (0x001a, 1));
            assert!(message.verify(&key));
            // FINGERPRINT, eight bytes behind the integrity, is for telling STUN from other things.
            for bit in 0..(bytes.len() - 8) * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    !Message::parse(&changed).is_ok_and(|message| message.verify(&key)),
                    "bit {bit}"
                );
            }
        }
    }

    #[test]
    fn who_has_changed_the_offer_is_refused() {
        let offers: [(&[u8], &[u8], Option<Algorithm>); 4] = [
            (&ALGORITHMS, &[0, 1, 0, 0], Some(Algorithm::Md5)),
            (&ALGORITHMS[4..], &[0, 1, 0, 0], None),
            (&ALGORITHMS, &[0, 3, 0, 0], None),
            (&ALGORITHMS, &[0, 2, 0, 4, 0, 0, 0, 0], None),
        ];
        for (offered, chosen, expected) in offers {
            let attributes = [
                (PASSWORD_ALGORITHMS, offered.to_vec()),
                (PASSWORD_ALGORITHM, chosen.to_vec()),
            ];
            let bytes = request(Method::Allocate, Class::Request, &attributes, None).unwrap();
            assert_eq!(Message::parse(&bytes).unwrap().chosen(), expected);
            let bytes = request(Method::Allocate, Class::Request, &attributes[..1], None).unwrap();
            assert_eq!(Message::parse(&bytes).unwrap().chosen(), None, "half of it");
        }
    }

    #[test]
    fn data_goes_back_in_both_forms() {
        let (mut out, there) = ([0xee; 128], "[2001:db8::1]:443".parse().unwrap());
        let len = write_data_indication(&mut out, b"abcdefghijkl", there, b"hello").unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        assert_eq!(
            (message.method, message.data),
            (Method::Data, Some(&b"hello"[..]))
        );
        assert_eq!(message.peers[0], Some(there));
        let len = write_channel_data(&mut out, 0x4001, b"hello").unwrap();
        assert_eq!(
            out[..len],
            [0x40, 1, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 0, 0]
        );
        assert!(
            (0..len).all(|room| write_channel_data(&mut [0; 12][..room], 1, b"hello").is_none())
        );
    }

    proptest! {
        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..160), framed in any::<bool>()) {
            if framed && bytes.len() >= HEADER_LEN {
                bytes.truncate(bytes.len() / 4 * 4);
                let len = (bytes.len() - HEADER_LEN) as u16;
                bytes[0] = 0;
                bytes[1] %= 10;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
                for at in (HEADER_LEN..bytes.len().saturating_sub(4)).step_by(8) {
                    let head = [0, bytes[at] % 0x26, 0, bytes[at + 3] % 5];
                    bytes[at..at + 4].copy_from_slice(&head);
                }
            }
            if let Ok(message) = Message::parse(&bytes) {
                let _ = (message.chosen(), message.verify(&LongTermKey::new(b"x")));
            }
        }
    }
}
