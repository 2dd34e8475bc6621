//! Who may use the TURN server: names that end with time, passwords that follow from them, nonces. Nothing is stored: a
//! password is a MAC of its name under a secret that Python and this thread share for the life of the process.

use std::time::Duration;

use aws_lc_rs::{constant_time, digest, hmac};

use crate::now::Now;
use crate::wire::turn::{Algorithm, LongTermKey};

/// Names are longer than a time and an id need not be; nonces are ours.
pub const MAX_USERNAME: usize = 128;
/// RFC 8656 §5: a nonce of TURN lives an hour at least.
const NONCE_LIFE: Duration = Duration::from_secs(3_600);
/// RFC 8489 §9.2: what the nonce of a server with password algorithms begins with; "gAAA" is the first of 24 bits.
const COOKIE: &str = "obMatJos2gAAA";

pub struct Credentials {
    realm: String,
    secret: hmac::Key,
}

impl Credentials {
    #[must_use]
    pub fn new(realm: &str, secret: &[u8]) -> Self {
        Self {
            realm: realm.to_owned(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The key of a name of ours; `wall` are seconds since 1970, where the name has to be valid still.
    #[must_use]
    pub fn key(
        &self,
        username: &[u8],
        algorithm: Algorithm,
        wall: Option<u64>,
    ) -> Option<LongTermKey> {
        let name = std::str::from_utf8(username)
            .ok()
            .filter(|name| name.len() <= MAX_USERNAME)?;
        let expires: u64 = name.split_once(':')?.0.parse().ok()?;
        if wall.is_some_and(|wall| wall >= expires) {
            return None;
        }
        let password = hex(hmac::sign(&self.secret, username).as_ref());
        // RFC 8489 §9.2.2; OpaqueString (RFC 8265) changes nothing of what is ASCII.
        let text = [name, &self.realm, &password].join(":");
        Some(match algorithm {
            Algorithm::Md5 => LongTermKey::new(&md5(text.as_bytes())),
            Algorithm::Sha256 => {
                LongTermKey::new(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
            }
        })
    }

    /// Of this connection alone.
    #[must_use]
    pub fn nonce(&self, connection: u64, now: Now) -> String {
        let made = now.0 / 1_000_000_000;
        let tag = self.tag(connection, made);
        format!("{COOKIE}{made:010x}{}", hex(&tag))
    }

    /// It is ours, of this connection, and not too old.
    #[must_use]
    pub fn knows(&self, nonce: &[u8], connection: u64, now: Now) -> bool {
        let read = || {
            let rest = nonce.strip_prefix(COOKIE.as_bytes())?;
            let (made, tag) = rest.split_at_checked(10)?;
            let made = u64::from_str_radix(std::str::from_utf8(made).ok()?, 16).ok()?;
            Some((made, tag))
        };
        read().is_some_and(|(made, tag)| {
            let expected = hex(&self.tag(connection, made));
            let ours = constant_time::verify_slices_are_equal(expected.as_bytes(), tag).is_ok();
            ours && now.0 / 1_000_000_000 < made.saturating_add(NONCE_LIFE.as_secs())
        })
    }

    fn tag(&self, connection: u64, made: u64) -> [u8; 12] {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(b"nonce");
        context.update(&connection.to_be_bytes());
        context.update(&made.to_be_bytes());
        let mut tag = [0; 12];
        tag.copy_from_slice(&context.sign().as_ref()[..12]);
        tag
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 8489 §9.2.2 knows no other for clients of before; the library's safe interface leaves it out.
fn md5(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    // SAFETY: EVP_md5 is a constant; reads `len` bytes, writes 16, and has nothing to say of their number.
    unsafe {
        aws_lc_sys::EVP_Digest(
            bytes.as_ptr().cast(),
            bytes.len(),
            out.as_mut_ptr(),
            std::ptr::null_mut(),
            aws_lc_sys::EVP_md5(),
            std::ptr::null_mut(),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_is_that_of_rfc_1321() {
        assert_eq!(hex(&md5(b"abc")), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn a_name_is_good_until_its_time_and_no_other_is() {
        let credentials = Credentials::new("realm", b"secret");
        let has = |name: &str, wall| {
            credentials
                .key(name.as_bytes(), Algorithm::Sha256, wall)
                .is_some()
        };
        assert!(has("1000:PA_x", Some(999)) && !has("1000:PA_x", Some(1_000)));
        assert!(has("1000:PA_x", None));
        for name in ["", "1000", ":", "x:y", "-1:x", "99999999999999999999:x"] {
            assert!(!has(name, Some(0)), "{name}");
        }
        assert!(!has(&format!("1000:{}", "x".repeat(MAX_USERNAME)), Some(0)));
    }

    #[test]
    fn a_nonce_is_good_for_its_connection_and_an_hour() {
        let credentials = Credentials::new("realm", b"secret");
        let now = Now(5_000_000_000_000);
        let nonce = credentials.nonce(7, now);
        let knows =
            |nonce: &str, connection, now| credentials.knows(nonce.as_bytes(), connection, now);
        assert!(knows(&nonce, 7, now) && knows(&nonce, 7, now.plus(Duration::from_secs(3_599))));
        assert!(!knows(&nonce, 8, now) && !knows(&nonce, 7, now.plus(NONCE_LIFE)));
        assert!(!knows(&nonce[..nonce.len() - 1], 7, now) && !knows("", 7, now));
        assert!(nonce.len() <= 128, "RFC 8489 §14.10");
    }
}
