//! SRTP and SRTCP: framing, key derivation and replay windows (RFC 3711, RFC 7714); the ciphers are AWS-LC's.
//!
//! One [`Sealer`] and one [`Opener`] per transport, for all of its SSRCs; key schedules and HMAC pads are computed once.
//! The per-SSRC state is the caller's: a [`ReplayWindow`] for each stream received, and for each stream sent the roll-over
//! counter of its `ExtSeq`, which must begin in cycle 0 (and, so that an early loss cannot hide the first wrap from the
//! receiver, below 2^15).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time;
use aws_lc_rs::iv::FixedLength;

use super::cm::{CounterMode, MAC_LEN, Mac};
use super::drop::DropReason;
use super::seq::{ExtSeq, SeqNo};

/// DTLS-SRTP protection profiles (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    AeadAes128Gcm,
    AeadAes256Gcm,
    Aes128CmHmacSha1_80,
}

const MAX_KEY_LEN: usize = 32;
const GCM_TAG_LEN: usize = MAX_TAG_LEN;
const SHA1_TAG_LEN: usize = 10;
/// RFC 3711 §5.2: 160-bit authentication key.
const AUTH_KEY_LEN: usize = 20;
/// E flag and SRTCP index (RFC 3711 §3.4).
const INDEX_LEN: usize = 4;
/// What SRTCP leaves in clear: first header word and SSRC.
const RTCP_CLEAR_LEN: usize = 8;
const RTP_FIXED_LEN: usize = 12;

impl Profile {
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmHmacSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Bytes that sealing adds to an RTP packet.
    #[must_use]
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => GCM_TAG_LEN,
            Self::Aes128CmHmacSha1_80 => SHA1_TAG_LEN,
        }
    }

    /// Bytes that sealing adds to an RTCP compound: tag, E flag and index.
    #[must_use]
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + INDEX_LEN
    }
}

/// The master key and salt have the wrong length for the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey;

/// The sending half of one transport's keys.
#[derive(Debug)]
pub struct Sealer {
    rtp: Cipher,
    rtcp: Cipher,
}

impl Sealer {
    /// `master` = master key followed by master salt.
    pub fn new(profile: Profile, master: &[u8]) -> Result<Self, BadKey> {
        let (rtp, rtcp) = derive(profile, master)?;
        Ok(Self { rtp, rtcp })
    }

    /// Seals one RTP packet in its send slot: `slot[..header_len]` is the header and `slot[header_len..][..prefix_len]` the
    /// rewritten first bytes of the payload (RTX sequence number, VP8 descriptor; often none), both already written;
    /// `rest` is the remainder of the payload, read where it lies (the ring) and encrypted into the slot behind them, then
    /// the tag. Returns the datagram's length; `None` when the slot is too short or a length lies.
    #[must_use]
    pub fn seal_rtp(
        &self,
        slot: &mut [u8],
        header_len: usize,
        prefix_len: usize,
        rest: &[u8],
        roc: u32,
    ) -> Option<usize> {
        let body_len = prefix_len.checked_add(rest.len())?;
        let end = header_len.checked_add(body_len)?;
        let id = PacketId::rtp(slot.get(..header_len)?, roc)?;
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (header, body) = slot.get_mut(..end + GCM_TAG_LEN)?.split_at_mut(header_len);
                let (prefix, rest_and_tag) = body.split_at_mut(prefix_len);
                let (nonce, aad) = (id.gcm_nonce(salt), Aad::from(&*header));
                // Neither call copies. The second continues the cipher stream of the prefix into `rest_and_tag`; without a
                // prefix the first saves it a pass over nothing (about 25 ns of a voice packet's 107).
                if prefix_len == 0 {
                    let (out, tag) = rest_and_tag.split_at_mut(rest.len());
                    key.seal_out_of_place_scatter(nonce, aad, rest, out, &[], tag)
                        .ok()?;
                } else {
                    key.seal_in_place_scatter(nonce, aad, prefix, rest, rest_and_tag)
                        .ok()?;
                }
                Some(end + GCM_TAG_LEN)
            }
            Cipher::Cm { key, salt, auth } => {
                let (packet, tag) = slot.get_mut(..end + SHA1_TAG_LEN)?.split_at_mut(end);
                let (prefix, out) = packet[header_len..].split_at_mut(prefix_len);
                let mut stream = key.stream(id.cm_iv(salt));
                stream.apply(prefix);
                stream.apply_between(rest, out)?;
                // RFC 3711 §4.2: over the packet and the roll-over counter, which is not sent.
                let signed = auth.sign(packet, &roc.to_be_bytes())?;
                tag.copy_from_slice(&signed[..SHA1_TAG_LEN]);
                Some(end + SHA1_TAG_LEN)
            }
        }
    }

    /// Seals the compound in `slot[..len]` in place. `index` counts up per transport, below 2^31.
    #[must_use]
    pub fn seal_rtcp(&self, slot: &mut [u8], len: usize, index: u32) -> Option<usize> {
        let id = PacketId::rtcp(slot.get(..len)?, index)?;
        let trailer = (index | ENCRYPTED).to_be_bytes();
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let end = len + GCM_TAG_LEN;
                let (packet, last) = slot.get_mut(..end + INDEX_LEN)?.split_at_mut(end);
                let (clear, body) = packet.split_at_mut(RTCP_CLEAR_LEN);
                let (body, tag) = body.split_at_mut(len - RTCP_CLEAR_LEN);
                let aad = Aad::from(rtcp_aad(clear, trailer)?);
                key.seal_in_place_scatter(id.gcm_nonce(salt), aad, body, &[], tag)
                    .ok()?;
                last.copy_from_slice(&trailer);
                Some(end + INDEX_LEN)
            }
            Cipher::Cm { key, salt, auth } => {
                let end = len + INDEX_LEN;
                let (packet, tag) = slot.get_mut(..end + SHA1_TAG_LEN)?.split_at_mut(end);
                key.stream(id.cm_iv(salt))
                    .apply(&mut packet[RTCP_CLEAR_LEN..len]);
                packet[len..].copy_from_slice(&trailer);
                tag.copy_from_slice(&auth.sign(packet, &[])?[..SHA1_TAG_LEN]);
                Some(end + SHA1_TAG_LEN)
            }
        }
    }
}

/// The receiving half of one transport's keys.
#[derive(Debug)]
pub struct Opener {
    rtp: Cipher,
    rtcp: Cipher,
}

impl Opener {
    /// `master` = master key followed by master salt.
    pub fn new(profile: Profile, master: &[u8]) -> Result<Self, BadKey> {
        let (rtp, rtcp) = derive(profile, master)?;
        Ok(Self { rtp, rtcp })
    }

    /// Authenticates and decrypts in place; returns the plain packet's length (header included). `header_len` is
    /// `Header::len`, `index` what `ReplayWindow::check` allowed. On error the packet's bytes are undefined.
    pub fn open_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        index: ExtSeq,
    ) -> Result<usize, DropReason> {
        let id = packet
            .get(..header_len)
            .and_then(|header| PacketId::rtp(header, index.roc()))
            .ok_or(DropReason::BadRtp)?;
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (header, body) = packet.split_at_mut(header_len);
                let plain = key
                    .open_in_place(id.gcm_nonce(salt), Aad::from(&*header), body)
                    .map_err(|_| DropReason::BadAuthentication)?;
                Ok(header_len + plain.len())
            }
            Cipher::Cm { key, salt, auth } => {
                let end = packet
                    .len()
                    .checked_sub(SHA1_TAG_LEN)
                    .filter(|&end| end >= header_len)
                    .ok_or(DropReason::BadRtp)?;
                let (packet, tag) = packet.split_at_mut(end);
                verify(auth.sign(packet, &index.roc().to_be_bytes()), tag)?;
                key.stream(id.cm_iv(salt)).apply(&mut packet[header_len..]);
                Ok(end)
            }
        }
    }

    /// Returns the plain compound's length and its SRTCP index, for the caller's [`ReplayWindow::check_index`].
    /// Unencrypted SRTCP (E flag 0) is refused: WebRTC always encrypts (RFC 8827 §6.5).
    pub fn open_rtcp(&self, packet: &mut [u8]) -> Result<(usize, u32), DropReason> {
        let (tag_len, tag_last) = match self.rtcp {
            Cipher::Gcm { .. } => (GCM_TAG_LEN, false),
            Cipher::Cm { .. } => (SHA1_TAG_LEN, true),
        };
        let plain_len = packet
            .len()
            .checked_sub(tag_len + INDEX_LEN)
            .filter(|&len| len >= RTCP_CLEAR_LEN)
            .ok_or(DropReason::BadRtcp)?;
        let trailer_at = if tag_last {
            plain_len
        } else {
            plain_len + tag_len
        };
        let trailer = packet[trailer_at..]
            .first_chunk::<INDEX_LEN>()
            .copied()
            .ok_or(DropReason::BadRtcp)?;
        let word = u32::from_be_bytes(trailer);
        if word & ENCRYPTED == 0 {
            return Err(DropReason::BadRtcp);
        }
        let index = word & !ENCRYPTED;
        let id = PacketId::rtcp(packet, index).ok_or(DropReason::BadRtcp)?;
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let (clear, body) = packet[..trailer_at].split_at_mut(RTCP_CLEAR_LEN);
                let aad = Aad::from(rtcp_aad(clear, trailer).ok_or(DropReason::BadRtcp)?);
                key.open_in_place(id.gcm_nonce(salt), aad, body)
                    .map_err(|_| DropReason::BadAuthentication)?;
            }
            Cipher::Cm { key, salt, auth } => {
                let end = plain_len + INDEX_LEN;
                verify(auth.sign(&packet[..end], &[]), &packet[end..])?;
                key.stream(id.cm_iv(salt))
                    .apply(&mut packet[RTCP_CLEAR_LEN..plain_len]);
            }
        }
        Ok((plain_len, index))
    }
}

const ENCRYPTED: u32 = 1 << 31;

/// Session keys of one direction and one of RTP, RTCP.
// A few hundred bytes each, one of each per transport: boxing the larger would cost a cache miss per packet.
#[allow(clippy::large_enum_variant)]
enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
    Cm {
        key: CounterMode,
        salt: [u8; 14],
        auth: Mac,
    },
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gcm { .. } => "Gcm",
            Self::Cm { .. } => "Cm",
        })
    }
}

impl Cipher {
    /// AES-128 or AES-256, by the length of the key.
    fn gcm(key: &[u8], salt: [u8; 12]) -> Result<Self, BadKey> {
        let algorithm = if key.len() == MAX_KEY_LEN {
            &AES_256_GCM
        } else {
            &AES_128_GCM
        };
        let key = UnboundKey::new(algorithm, key).map_err(|_| BadKey)?;
        Ok(Self::Gcm {
            key: LessSafeKey::new(key),
            salt,
        })
    }

    fn cm(key: &[u8], salt: [u8; 14], auth: &[u8]) -> Result<Self, BadKey> {
        Ok(Self::Cm {
            key: key
                .try_into()
                .ok()
                .and_then(CounterMode::new)
                .ok_or(BadKey)?,
            salt,
            auth: Mac::new(auth).ok_or(BadKey)?,
        })
    }
}

/// RFC 3711 §4.3.1 with a key derivation rate of 0; RFC 7714 §11: the same function for GCM, the 96-bit salt padded
/// with zeros to 112 bits; RFC 6188 §3: with AES-256 where the master key has 256 bits. Returns the ciphers of RTP and RTCP.
fn derive(profile: Profile, master: &[u8]) -> Result<(Cipher, Cipher), BadKey> {
    let (key, salt) = master.split_at_checked(profile.key_len()).ok_or(BadKey)?;
    if salt.len() != profile.salt_len() {
        return Err(BadKey);
    }
    let mut master_salt = [0; 14];
    master_salt[..salt.len()].copy_from_slice(salt);
    let master_key = counter_mode(key)?;
    // Labels of RFC 3711 §4.3.2: encryption, authentication, salt.
    let cipher = |labels: [u8; 3]| {
        let mut key = [0; MAX_KEY_LEN];
        let key = &mut key[..profile.key_len()];
        prf(&master_key, &master_salt, labels[0], key)?;
        match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let mut salt = [0; 12];
                prf(&master_key, &master_salt, labels[2], &mut salt)?;
                Cipher::gcm(key, salt)
            }
            Profile::Aes128CmHmacSha1_80 => {
                let (mut auth, mut salt) = ([0; AUTH_KEY_LEN], [0; 14]);
                prf(&master_key, &master_salt, labels[1], &mut auth)?;
                prf(&master_key, &master_salt, labels[2], &mut salt)?;
                Cipher::cm(key, salt, &auth)
            }
        }
    };
    Ok((cipher([0, 1, 2])?, cipher([3, 4, 5])?))
}

/// AES-CM as a pseudo-random function (RFC 3711 §4.3.3).
fn prf(
    master_key: &DecryptingKey,
    master_salt: &[u8; 14],
    label: u8,
    out: &mut [u8],
) -> Result<(), BadKey> {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(master_salt);
    iv[7] ^= label;
    out.fill(0);
    // `DecryptingKey` because its call takes the IV; in counter mode both directions are one operation.
    master_key
        .decrypt(out, DecryptionContext::Iv128(FixedLength::from(iv)))
        .map_err(|_| BadKey)?;
    Ok(())
}

fn counter_mode(key: &[u8]) -> Result<DecryptingKey, BadKey> {
    let algorithm = if key.len() == MAX_KEY_LEN {
        &AES_256
    } else {
        &AES_128
    };
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| BadKey)?;
    DecryptingKey::ctr(key).map_err(|_| BadKey)
}

fn verify(tag: Option<[u8; MAC_LEN]>, given: &[u8]) -> Result<(), DropReason> {
    tag.and_then(|tag| constant_time::verify_slices_are_equal(&tag[..SHA1_TAG_LEN], given).ok())
        .ok_or(DropReason::BadAuthentication)
}

/// RFC 7714 §9.2: the clear words, then E flag and index.
fn rtcp_aad(clear: &[u8], trailer: [u8; INDEX_LEN]) -> Option<[u8; RTCP_CLEAR_LEN + INDEX_LEN]> {
    let mut aad = [0; RTCP_CLEAR_LEN + INDEX_LEN];
    aad[..RTCP_CLEAR_LEN].copy_from_slice(clear.get(..RTCP_CLEAR_LEN)?);
    aad[RTCP_CLEAR_LEN..].copy_from_slice(&trailer);
    Some(aad)
}

/// What makes a packet's nonce unique under a key: SSRC and 48-bit index (31-bit for SRTCP).
struct PacketId {
    ssrc: [u8; 4],
    index: u64,
}

impl PacketId {
    fn rtp(header: &[u8], roc: u32) -> Option<Self> {
        let fixed = header.first_chunk::<RTP_FIXED_LEN>()?;
        let seq = u16::from_be_bytes([fixed[2], fixed[3]]);
        Some(Self {
            ssrc: [fixed[8], fixed[9], fixed[10], fixed[11]],
            index: u64::from(roc) << 16 | u64::from(seq),
        })
    }

    fn rtcp(packet: &[u8], index: u32) -> Option<Self> {
        let clear = packet.first_chunk::<RTCP_CLEAR_LEN>()?;
        Some(Self {
            ssrc: [clear[4], clear[5], clear[6], clear[7]],
            index: u64::from(index & !ENCRYPTED),
        })
    }

    /// RFC 7714 §8.1 and §9.1: 0 0, SSRC, index in 48 bits, exclusive-or salt.
    fn gcm_nonce(&self, salt: &[u8; 12]) -> Nonce {
        let mut nonce = *salt;
        xor(&mut nonce[2..6], &self.ssrc);
        xor(&mut nonce[6..], &self.index.to_be_bytes()[2..]);
        Nonce::assume_unique_for_key(nonce)
    }

    /// RFC 3711 §4.1.1: (salt · 2^16) xor (SSRC · 2^64) xor (index · 2^16).
    fn cm_iv(&self, salt: &[u8; 14]) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(salt);
        xor(&mut iv[4..8], &self.ssrc);
        xor(&mut iv[8..14], &self.index.to_be_bytes()[2..]);
        iv
    }
}

fn xor(into: &mut [u8], with: &[u8]) {
    for (a, b) in into.iter_mut().zip(with) {
        *a ^= b;
    }
}

/// Roll-over and replay state of one received stream, 1024 packets wide (RFC 3711 §3.3.2 asks for at least 64; a lossy
/// mobile link reorders more at video rates).
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    highest: Option<u64>,
    /// Bit `index % 1024`: seen. Bits right of the window are 0.
    seen: [u64; WINDOW_WORDS],
}

const WINDOW_WORDS: usize = 16;
const WINDOW: u64 = WINDOW_WORDS as u64 * 64;

impl ReplayWindow {
    /// Before authentication: the packet index that this sequence number means (RFC 3711 §3.3.1), or `Replayed` or
    /// `TooOld`. Changes nothing.
    pub fn check(&self, seq: SeqNo) -> Result<ExtSeq, DropReason> {
        let index = match self.highest {
            None => u64::from(seq.0),
            Some(highest) => {
                let ahead = i64::from(seq.since(SeqNo(highest as u16)));
                highest
                    .checked_add_signed(ahead)
                    .ok_or(DropReason::TooOld)?
            }
        };
        self.check_index(index)
    }

    /// The same for an explicit index (SRTCP).
    pub fn check_index(&self, index: u64) -> Result<ExtSeq, DropReason> {
        if let Some(highest) = self.highest {
            if index + WINDOW <= highest {
                return Err(DropReason::TooOld);
            }
            let (word, bit) = Self::place(index);
            if index <= highest && self.seen[word] & bit != 0 {
                return Err(DropReason::Replayed);
            }
        }
        Ok(ExtSeq(index))
    }

    /// After authentication: mark it seen. `index` comes from a check of this window.
    pub fn accept(&mut self, index: ExtSeq) {
        let index = index.0;
        match self.highest {
            Some(highest) if index <= highest => {}
            Some(highest) if index - highest < WINDOW => {
                for skipped in highest + 1..index {
                    let (word, bit) = Self::place(skipped);
                    self.seen[word] &= !bit;
                }
                self.highest = Some(index);
            }
            _ => {
                self.seen = [0; WINDOW_WORDS];
                self.highest = Some(index);
            }
        }
        let (word, bit) = Self::place(index);
        self.seen[word] |= bit;
    }

    #[must_use]
    pub fn highest(&self) -> Option<ExtSeq> {
        self.highest.map(ExtSeq)
    }

    fn place(index: u64) -> (usize, u64) {
        ((index / 64) as usize % WINDOW_WORDS, 1 << (index % 64))
    }
}

#[cfg(test)]
#[path = "srtp_tests.rs"]
mod tests;
