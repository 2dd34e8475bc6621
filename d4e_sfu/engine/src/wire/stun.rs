//! STUN Binding messages as ICE uses them (RFC 8489, RFC 8445): checked reading, and writing with integrity.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};

use super::drop::DropReason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

pub type TransactionId = [u8; 12];

/// Short-term credential: HMAC-SHA1 keyed with the ICE password (RFC 8489 §9.1.1), set up once.
#[derive(Clone, Debug)]
pub struct IntegrityKey {
    key: hmac::Key,
}

impl IntegrityKey {
    #[must_use]
    pub fn new(password: &str) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()),
        }
    }

    /// Of a check of ours: whose it is, and then what nobody without the password foretells. No message is as short as
    /// what is signed here.
    #[must_use]
    pub fn transaction(&self, whose: u32, number: u64) -> TransactionId {
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&whose.to_be_bytes());
        let tag = hmac::sign(&self.key, &number.to_be_bytes());
        transaction[4..].copy_from_slice(&tag.as_ref()[..8]);
        transaction
    }
}

pub(super) const COOKIE: u32 = 0x2112_a442;
pub(super) const HEADER_LEN: usize = 20;
pub(super) const BINDING: u16 = 0x0001;

// Attributes (RFC 8489 §18.3, RFC 8445 §16.1).
const MAPPED_ADDRESS: u16 = 0x0001;
pub(super) const USERNAME: u16 = 0x0006;
pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
pub(super) const ERROR_CODE: u16 = 0x0009;
pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
pub(super) const REALM: u16 = 0x0014;
pub(super) const NONCE: u16 = 0x0015;
pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
pub(super) const PASSWORD_ALGORITHM: u16 = 0x001d;
const USERHASH: u16 = 0x001e;
pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
pub(super) const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

const INTEGRITY_LEN: usize = 20;
pub(super) const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// A Binding message whose framing, cookie and (where present) FINGERPRINT are right. Nothing in it is trusted before
/// [`Message::verify`]; attributes after MESSAGE-INTEGRITY are ignored, as RFC 8489 §14.5 demands.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub class: Class,
    pub transaction: TransactionId,
    /// FINGERPRINT was present (ICE demands it, RFC 8445 §7.1.1), and right.
    pub fingerprint: bool,
    pub username: Option<&'a [u8]>,
    pub priority: Option<u32>,
    pub use_candidate: bool,
    pub controlling: Option<u64>,
    pub controlled: Option<u64>,
    pub mapped: Option<SocketAddr>,
    pub error: Option<u16>,
    /// The first few unknown comprehension-required attributes (RFC 8489 §6.3.1), and how many there are.
    pub unknown: [u16; 4],
    pub unknown_count: usize,
    raw: &'a [u8],
    integrity_at: Option<usize>,
}

/// Method, class and transaction of what is framed as one whole message (RFC 8489 §5).
pub(super) fn header(bytes: &[u8]) -> Option<(u16, Class, TransactionId)> {
    let header = bytes.first_chunk::<HEADER_LEN>()?;
    let kind = u16::from_be_bytes([header[0], header[1]]);
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let cookie = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    if cookie != COOKIE || len % 4 != 0 || bytes.len() != HEADER_LEN + len {
        return None;
    }
    // The two class bits are 4 and 8 of the type; the rest is the method.
    let class = match (kind >> 8 & 1, kind >> 4 & 1) {
        (0, 0) => Class::Request,
        (0, _) => Class::Indication,
        (_, 0) => Class::Success,
        _ => Class::Error,
    };
    let mut transaction = [0; 12];
    transaction.copy_from_slice(&header[8..]);
    Some((kind & 0xfeef, class, transaction))
}

/// Shows each attribute of what [`header`] takes, with the place where it begins. Returns whether FINGERPRINT is there, which
/// is not shown; `None` where it is wrong or not the last, where a value reaches over the end, or where `see` says so.
pub(super) fn attributes<'a>(
    message: &'a [u8],
    mut see: impl FnMut(usize, u16, &'a [u8]) -> Option<()>,
) -> Option<bool> {
    let mut at = HEADER_LEN;
    let mut fingerprint = false;
    while at < message.len() {
        let &[k0, k1, l0, l1] = message.get(at..)?.first_chunk::<4>()?;
        let kind = u16::from_be_bytes([k0, k1]);
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let value = message.get(at + 4..at + 4 + len)?;
        if fingerprint {
            return None; // RFC 8489 §14.7: FINGERPRINT is the last attribute.
        }
        if kind == FINGERPRINT {
            let crc = crc32fast::hash(&message[..at]) ^ FINGERPRINT_XOR;
            if value != crc.to_be_bytes() {
                return None;
            }
            fingerprint = true;
        } else {
            see(at, kind, value)?;
        }
        at += 4 + len.next_multiple_of(4);
    }
    Some(fingerprint)
}

impl<'a> Message<'a> {
    /// Anything that is not a well-formed Binding message: `BadStun`.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, DropReason> {
        Self::read(datagram).ok_or(DropReason::BadStun)
    }

    fn read(datagram: &'a [u8]) -> Option<Self> {
        let (method, class, transaction) = header(datagram)?;
        if method != BINDING {
            return None;
        }
        let mut message = Self {
            class,
            transaction,
            fingerprint: false,
            username: None,
            priority: None,
            use_candidate: false,
            controlling: None,
            controlled: None,
            mapped: None,
            error: None,
            unknown: [0; 4],
            unknown_count: 0,
            raw: datagram,
            integrity_at: None,
        };
        message.fingerprint = attributes(datagram, |at, kind, value| match kind {
            _ if message.integrity_at.is_some() => Some(()),
            MESSAGE_INTEGRITY => {
                message.integrity_at = (value.len() == INTEGRITY_LEN).then_some(at);
                message.integrity_at.map(drop)
            }
            _ => message.attribute(kind, value),
        })?;
        Some(message)
    }

    fn attribute(&mut self, kind: u16, value: &'a [u8]) -> Option<()> {
        match kind {
            // RFC 8489 §14: of a repeated attribute only the first counts.
            USERNAME => self.username = self.username.or(Some(value)),
            PRIORITY => self.priority = Some(u32::from_be_bytes(value.try_into().ok()?)),
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLING => self.controlling = Some(u64::from_be_bytes(value.try_into().ok()?)),
            ICE_CONTROLLED => self.controlled = Some(u64::from_be_bytes(value.try_into().ok()?)),
            XOR_MAPPED_ADDRESS => self.mapped = Some(unmask(value, &self.transaction)?),
            ERROR_CODE => {
                let head = value.first_chunk::<4>()?;
                self.error = Some(u16::from(head[2] & 7) * 100 + u16::from(head[3]));
            }
            MAPPED_ADDRESS
            | UNKNOWN_ATTRIBUTES
            | REALM
            | NONCE
            | MESSAGE_INTEGRITY_SHA256
            | PASSWORD_ALGORITHM
            | USERHASH => {}
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

    /// USERNAME split at its first colon: (receiver's ufrag, sender's ufrag).
    #[must_use]
    pub fn ufrags(&self) -> Option<(&'a str, &'a str)> {
        std::str::from_utf8(self.username?).ok()?.split_once(':')
    }

    /// MESSAGE-INTEGRITY is present and right, compared in constant time.
    #[must_use]
    pub fn verify(&self, key: &IntegrityKey) -> bool {
        self.integrity_at
            .is_some_and(|at| proves(self.raw, at, &key.key))
    }
}

/// The integrity at this place, whole and of this key's kind, is right. RFC 8489 §14.5: it is over the message before it,
/// with a length that already counts it.
pub(super) fn proves(message: &[u8], at: usize, key: &hmac::Key) -> bool {
    let len = key.algorithm().digest_algorithm().output_len();
    let counted = (at - HEADER_LEN + 4 + len) as u16;
    let mut context = hmac::Context::with_key(key);
    context.update(&message[..2]);
    context.update(&counted.to_be_bytes());
    context.update(&message[4..at]);
    let given = &message[at + 4..at + 4 + len];
    constant_time::verify_slices_are_equal(context.sign().as_ref(), given).is_ok()
}

pub(super) fn unmask(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], address) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([p0, p1]) ^ (COOKIE >> 16) as u16;
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from_bits(
            u32::from_be_bytes(address.try_into().ok()?) ^ COOKIE,
        )),
        2 => IpAddr::V6(Ipv6Addr::from_bits(
            u128::from_be_bytes(address.try_into().ok()?) ^ mask(transaction),
        )),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// RFC 8489 §14.2: cookie followed by transaction.
fn mask(transaction: &TransactionId) -> u128 {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&COOKIE.to_be_bytes());
    bytes[4..].copy_from_slice(transaction);
    u128::from_be_bytes(bytes)
}

/// A connectivity check.
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    pub transaction: TransactionId,
    /// `receiver:sender`.
    pub username: &'a str,
    pub priority: u32,
    /// The tie-breaker of RFC 8445 §16.1.
    pub controlling: Option<u64>,
    pub controlled: Option<u64>,
    pub use_candidate: bool,
}

// Writers return the length, `None` when `out` is too short. All end with MESSAGE-INTEGRITY and FINGERPRINT.

#[must_use]
pub fn write_binding_request(
    out: &mut [u8],
    request: &BindingRequest<'_>,
    key: &IntegrityKey,
) -> Option<usize> {
    let mut writer = Writer::new(out, Class::Request, &request.transaction)?;
    writer.attribute(USERNAME, &[request.username.as_bytes()])?;
    writer.attribute(PRIORITY, &[&request.priority.to_be_bytes()])?;
    if let Some(tie_breaker) = request.controlling {
        writer.attribute(ICE_CONTROLLING, &[&tie_breaker.to_be_bytes()])?;
    }
    if let Some(tie_breaker) = request.controlled {
        writer.attribute(ICE_CONTROLLED, &[&tie_breaker.to_be_bytes()])?;
    }
    if request.use_candidate {
        writer.attribute(USE_CANDIDATE, &[])?;
    }
    writer.finish(key)
}

#[must_use]
pub fn write_binding_success(
    out: &mut [u8],
    transaction: &TransactionId,
    mapped: SocketAddr,
    key: &IntegrityKey,
) -> Option<usize> {
    let mut writer = Writer::new(out, Class::Success, transaction)?;
    writer.address(XOR_MAPPED_ADDRESS, transaction, mapped)?;
    writer.finish(key)
}

/// `unknown` becomes UNKNOWN-ATTRIBUTES (with code 420).
#[must_use]
pub fn write_binding_error(
    out: &mut [u8],
    transaction: &TransactionId,
    code: u16,
    reason: &str,
    unknown: &[u16],
    key: &IntegrityKey,
) -> Option<usize> {
    let mut writer = Writer::new(out, Class::Error, transaction)?;
    writer.attribute(
        ERROR_CODE,
        &[
            &[0, 0, (code / 100) as u8 & 7, (code % 100) as u8],
            reason.as_bytes(),
        ],
    )?;
    if !unknown.is_empty() {
        writer.open(UNKNOWN_ATTRIBUTES, unknown.len() * 2)?;
        for kind in unknown {
            writer.push(&kind.to_be_bytes())?;
        }
        writer.pad()?;
    }
    writer.finish(key)
}

/// Writes one message; `turn` uses it too.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut [u8], class: Class, transaction: &TransactionId) -> Option<Self> {
        Self::of(out, BINDING, class, transaction)
    }

    /// Of a method below 16, which all are (RFC 8489 §5, RFC 8656 §17).
    pub(super) fn of(
        out: &'a mut [u8],
        method: u16,
        class: Class,
        transaction: &TransactionId,
    ) -> Option<Self> {
        let kind = method
            | match class {
                Class::Request => 0x000,
                Class::Indication => 0x010,
                Class::Success => 0x100,
                Class::Error => 0x110,
            };
        let mut writer = Self { out, len: 0 };
        writer.push(&kind.to_be_bytes())?;
        writer.push(&[0, 0])?;
        writer.push(&COOKIE.to_be_bytes())?;
        writer.push(transaction)?;
        Some(writer)
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        self.out
            .get_mut(self.len..self.len + bytes.len())?
            .copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn open(&mut self, kind: u16, len: usize) -> Option<()> {
        self.push(&kind.to_be_bytes())?;
        self.push(&u16::try_from(len).ok()?.to_be_bytes())
    }

    fn pad(&mut self) -> Option<()> {
        let zeros = self.len.next_multiple_of(4) - self.len;
        self.push(&[0; 3][..zeros])
    }

    pub(super) fn attribute(&mut self, kind: u16, parts: &[&[u8]]) -> Option<()> {
        self.open(kind, parts.iter().map(|part| part.len()).sum())?;
        for part in parts {
            self.push(part)?;
        }
        self.pad()
    }

    /// RFC 8489 §14.2, and whatever else has its form.
    pub(super) fn address(
        &mut self,
        kind: u16,
        transaction: &TransactionId,
        address: SocketAddr,
    ) -> Option<()> {
        let port = (address.port() ^ (COOKIE >> 16) as u16).to_be_bytes();
        match address.ip() {
            IpAddr::V4(ip) => {
                let ip = (ip.to_bits() ^ COOKIE).to_be_bytes();
                self.attribute(kind, &[&[0, 1], &port, &ip])
            }
            IpAddr::V6(ip) => {
                let ip = (ip.to_bits() ^ mask(transaction)).to_be_bytes();
                self.attribute(kind, &[&[0, 2], &port, &ip])
            }
        }
    }

    fn set_len(&mut self, len: usize) -> Option<()> {
        let len = u16::try_from(len - HEADER_LEN).ok()?;
        self.out.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
        Some(())
    }

    fn finish(mut self, key: &IntegrityKey) -> Option<usize> {
        self.sign(MESSAGE_INTEGRITY, &key.key)?;
        self.fingerprint()
    }

    /// MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256, as its key is.
    pub(super) fn sign(&mut self, kind: u16, key: &hmac::Key) -> Option<()> {
        let len = key.algorithm().digest_algorithm().output_len();
        self.set_len(self.len + 4 + len)?;
        let tag = hmac::sign(key, &self.out[..self.len]);
        self.attribute(kind, &[tag.as_ref()])
    }

    /// The last attribute. Returns the message's length.
    pub(super) fn fingerprint(mut self) -> Option<usize> {
        // RFC 8489 §14.7: the length counts FINGERPRINT before the CRC is taken.
        self.set_len(self.len + 8)?;
        let crc = crc32fast::hash(&self.out[..self.len]) ^ FINGERPRINT_XOR;
        self.attribute(FINGERPRINT, &[&crc.to_be_bytes()])?;
        Some(self.len)
    }

    /// Without FINGERPRINT. Returns the message's length.
    pub(super) fn end(mut self) -> Option<usize> {
        self.set_len(self.len)?;
        Some(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 5769 §2.1–2.3: password of all three.
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
    const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b3600060009657674 6a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
    const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
    const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter_map(|b| (b as char).to_digit(16))
            .map(|d| d as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    #[test]
    fn a_message_is_whole_words_long_and_has_its_cookie() {
        let mut bytes = vec![0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend([7; 12]);
        bytes.extend([0x80, 0x22, 0, 1, b'x', 0, 0, 0]); // SOFTWARE, padded (RFC 8489 §14)
        assert!(Message::parse(&bytes).is_ok());
        let mut unpadded = bytes[..bytes.len() - 3].to_vec();
        unpadded[3] = 5;
        assert_eq!(Message::parse(&unpadded).err(), Some(DropReason::BadStun));
        bytes[4] ^= 1;
        assert_eq!(Message::parse(&bytes).err(), Some(DropReason::BadStun));
    }

    #[test]
    fn rfc_5769_request() {
        let bytes = hex(REQUEST);
        let Ok(message) = Message::parse(&bytes) else {
            unreachable!()
        };
        assert_eq!(
            (message.class, message.ufrags()),
            (Class::Request, Some(("evtj", "h6vY")))
        );
        assert_eq!(
            (message.priority, message.controlled),
            (Some(0x6e00_01ff), Some(0x932f_f9b1_5126_3b36))
        );
        assert!(message.fingerprint && message.verify(&IntegrityKey::new(PASSWORD)));
        assert!(!message.verify(&IntegrityKey::new("VOkJxbRl1RmTxUk/WvJxBu")));
    }

    #[test]
    fn rfc_5769_responses() {
        for (text, mapped) in [
            (RESPONSE_V4, "192.0.2.1:32853"),
            (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let bytes = hex(text);
            let Ok(message) = Message::parse(&bytes) else {
                unreachable!()
            };
            assert_eq!(message.class, Class::Success);
            assert_eq!(
                message.mapped.map(|address| address.to_string()).as_deref(),
                Some(mapped)
            );
            assert!(message.fingerprint && message.verify(&IntegrityKey::new(PASSWORD)));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = hex(REQUEST);
        let key = IntegrityKey::new(PASSWORD);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !Message::parse(&changed)
                    .is_ok_and(|message| message.fingerprint && message.verify(&key)),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let key = IntegrityKey::new("pass");
        let mut out = [0; 256];
        let request = BindingRequest {
            transaction: *b"abcdefghijkl",
            username: "them:us",
            priority: 77,
            controlling: Some(9),
            controlled: None,
            use_candidate: true,
        };
        let Some(len) = write_binding_request(&mut out, &request, &key) else {
            unreachable!()
        };
        let Ok(message) = Message::parse(&out[..len]) else {
            unreachable!()
        };
        assert!(message.verify(&key) && message.fingerprint && message.use_candidate);
        assert_eq!(
            (message.ufrags(), message.priority, message.controlling),
            (Some(("them", "us")), Some(77), Some(9))
        );
        assert!(
            (0..len)
                .all(|room| write_binding_request(&mut [0; 256][..room], &request, &key).is_none())
        );

        for text in ["203.0.113.9:1", "[2001:db8::1]:65535"] {
            let Ok(mapped) = text.parse() else {
                unreachable!()
            };
            let Some(len) = write_binding_success(&mut out, b"abcdefghijkl", mapped, &key) else {
                unreachable!()
            };
            let Ok(message) = Message::parse(&out[..len]) else {
                unreachable!()
            };
            assert_eq!(
                (message.class, message.mapped),
                (Class::Success, Some(mapped))
            );
            assert!(message.verify(&key));
        }

        let Some(len) = write_binding_error(
            &mut out,
            b"abcdefghijkl",
            420,
            "Unknown Attribute",
            &[0x7fff],
            &key,
        ) else {
            unreachable!()
        };
        let Ok(message) = Message::parse(&out[..len]) else {
            unreachable!()
        };
        assert_eq!((message.class, message.error), (Class::Error, Some(420)));
    }

    #[test]
    fn unknown_required_attributes_are_listed_and_optional_ones_skipped() {
        let key = IntegrityKey::new("pass");
        let mut out = [0; 256];
        let Some(mut writer) = Writer::new(&mut out, Class::Request, b"abcdefghijkl") else {
            unreachable!()
        };
        for kind in [0x7000, 0xc057, 0x7001, 0x7002, 0x7003, 0x7004] {
            assert!(writer.attribute(kind, &[b"xyz"]).is_some());
        }
        let Some(len) = writer.finish(&key) else {
            unreachable!()
        };
        let Ok(message) = Message::parse(&out[..len]) else {
            unreachable!()
        };
        assert_eq!(
            (message.unknown, message.unknown_count),
            ([0x7000, 0x7001, 0x7002, 0x7003], 5)
        );
    }

    #[test]
    fn nothing_comes_behind_the_fingerprint() {
        for behind in [false, true] {
            let mut out = [0; 64];
            let Some(mut writer) = Writer::new(&mut out, Class::Request, b"abcdefghijkl") else {
                unreachable!()
            };
            let len = HEADER_LEN + 8 + if behind { 4 } else { 0 };
            assert!(writer.set_len(len).is_some());
            let crc = crc32fast::hash(&writer.out[..HEADER_LEN]) ^ FINGERPRINT_XOR;
            assert!(
                writer
                    .attribute(FINGERPRINT, &[&crc.to_be_bytes()])
                    .is_some()
            );
            assert!(writer.attribute(USE_CANDIDATE, &[]).is_some());
            assert_eq!(Message::parse(&out[..len]).is_err(), behind);
        }
    }

    #[test]
    fn attributes_behind_the_integrity_do_not_count() {
        let key = IntegrityKey::new("pass");
        let mut out = [0; 256];
        let Some(mut writer) = Writer::new(&mut out, Class::Request, b"abcdefghijkl") else {
            unreachable!()
        };
        assert!(writer.sign(MESSAGE_INTEGRITY, &key.key).is_some());
        assert!(writer.attribute(USE_CANDIDATE, &[]).is_some());
        let len = writer.len;
        assert!(writer.set_len(len).is_some());
        let Ok(message) = Message::parse(&out[..len]) else {
            unreachable!()
        };
        assert!(message.verify(&key) && !message.use_candidate && !message.fingerprint);
    }

    proptest! {
        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), framed in any::<bool>()) {
            if framed && bytes.len() >= HEADER_LEN {
                let len = (bytes.len() - HEADER_LEN) as u16;
                bytes[..2].copy_from_slice(&[0, 1]);
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
                for at in (HEADER_LEN..bytes.len().saturating_sub(4)).step_by(8) {
                    let head = [0, bytes[at] % 0x26, 0, bytes[at + 3] % 5];
                    bytes[at..at + 4].copy_from_slice(&head);
                }
            }
            if let Ok(message) = Message::parse(&bytes) {
                let _ = (message.ufrags(), message.verify(&IntegrityKey::new("x")));
            }
        }
    }
}
