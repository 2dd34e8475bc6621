//! The two operations of AES_CM with HMAC-SHA1 (RFC 3711 §4.1.1, §4.2.1), by AWS-LC's C interface. Nothing of a cipher is
//! written here: `aws-lc-rs` has the same two, but it encrypts only in place, and makes and wipes several copies of a MAC
//! context of 700 bytes for each packet, which cost a fifth of sealing 1,100 bytes and half of sealing a voice packet
//! (`benchmarks/results/ciphers.json`). This is the one file that calls the library below its safe interface.

use std::mem::MaybeUninit;
use std::ptr;

use aws_lc_sys::{
    AES_KEY, AES_ctr128_encrypt, AES_set_encrypt_key, EVP_sha1, HMAC_CTX, HMAC_CTX_cleanup,
    HMAC_CTX_copy_ex, HMAC_CTX_init, HMAC_Final, HMAC_Init_ex, HMAC_Update,
};

pub const MAC_LEN: usize = 20;

/// AES-128 with its key schedule.
pub struct CounterMode(AES_KEY);

impl CounterMode {
    #[must_use]
    pub fn new(key: &[u8; 16]) -> Option<Self> {
        let mut schedule = MaybeUninit::uninit();
        // SAFETY: the key has the 128 bits that are announced; on success (0) the schedule is written whole.
        unsafe {
            (AES_set_encrypt_key(key.as_ptr(), 128, schedule.as_mut_ptr()) == 0)
                .then(|| Self(schedule.assume_init()))
        }
    }

    /// The key stream that begins with the counter block `iv`.
    #[must_use]
    pub fn stream(&self, iv: [u8; 16]) -> Stream<'_> {
        Stream {
            key: &self.0,
            counter: iv,
            block: [0; 16],
            used: 0,
        }
    }
}

/// A key stream, used from front to back.
pub struct Stream<'a> {
    key: &'a AES_KEY,
    counter: [u8; 16],
    block: [u8; 16],
    used: u32,
}

impl Stream<'_> {
    /// Exclusive-or of `data` with the next bytes of the stream.
    pub fn apply(&mut self, data: &mut [u8]) {
        let at = data.as_mut_ptr();
        // SAFETY: the library reads and writes `data.len()` bytes there, and allows both to be the same.
        unsafe { self.run(at, at, data.len()) }
    }

    /// The same, read from one place and written to another. `None` when their lengths differ.
    #[must_use]
    pub fn apply_between(&mut self, from: &[u8], into: &mut [u8]) -> Option<()> {
        // SAFETY: both are of the length given, and borrowed so that they cannot overlap.
        (from.len() == into.len())
            .then(|| unsafe { self.run(from.as_ptr(), into.as_mut_ptr(), from.len()) })
    }

    /// # Safety
    /// `from` can be read, and `into` written, for `len` bytes; they are equal or do not overlap.
    unsafe fn run(&mut self, from: *const u8, into: *mut u8, len: usize) {
        let (counter, block) = (self.counter.as_mut_ptr(), self.block.as_mut_ptr());
        // SAFETY: the caller's promise; counter and block have a block's length, `used` is below it as the library left it.
        unsafe {
            AES_ctr128_encrypt(
                from,
                into,
                len,
                self.key,
                counter,
                block,
                &raw mut self.used,
            )
        }
    }
}

/// HMAC-SHA1 with both pads hashed.
pub struct Mac(HMAC_CTX);

// SAFETY: the context owns nothing and points only to the library's constants.
unsafe impl Send for Mac {}
// SAFETY: it is only ever copied from.
unsafe impl Sync for Mac {}

impl Mac {
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut context = MaybeUninit::uninit();
        // SAFETY: the context is initialised before use; key and length belong together.
        unsafe {
            HMAC_CTX_init(context.as_mut_ptr());
            let (key, len) = (key.as_ptr().cast(), key.len());
            (HMAC_Init_ex(context.as_mut_ptr(), key, len, EVP_sha1(), ptr::null_mut()) == 1)
                .then(|| Self(context.assume_init()))
        }
    }

    /// Of `first` followed by `then`. The library reports failure only for a context that was never set up.
    #[must_use]
    pub fn sign(&self, first: &[u8], then: &[u8]) -> Option<[u8; MAC_LEN]> {
        let mut context = MaybeUninit::uninit();
        let (context, mut tag) = (context.as_mut_ptr(), [0; MAC_LEN]);
        // SAFETY: the copy sets the context up, which owns nothing that would have to be given back; the parts are live and
        // of their lengths; SHA-1 writes 20 bytes.
        let done = unsafe {
            HMAC_CTX_copy_ex(context, &raw const self.0) == 1
                && HMAC_Update(context, first.as_ptr(), first.len()) == 1
                && HMAC_Update(context, then.as_ptr(), then.len()) == 1
                && HMAC_Final(context, tag.as_mut_ptr(), ptr::null_mut()) == 1
        };
        done.then_some(tag)
    }
}

impl Drop for Mac {
    fn drop(&mut self) {
        // SAFETY: it was set up by `new`. Wipes the key.
        unsafe { HMAC_CTX_cleanup(&raw mut self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or(0))
            .collect()
    }

    /// RFC 2202 §3, test cases 1, 2 and 6.
    #[test]
    fn hmac_sha1_by_its_vectors() {
        let cases: [(&[u8], &[u8], &str); 3] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b617318655057264e28bc0b6fb378c8ef146be00",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            ),
            (
                &[0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "aa4ae5e15272d00e95705637ce8a3b55ed402112",
            ),
        ];
        for (key, data, tag) in cases {
            let mac = Mac::new(key);
            for cut in 0..data.len() {
                let signed = mac
                    .as_ref()
                    .and_then(|mac| mac.sign(&data[..cut], &data[cut..]));
                assert_eq!(signed.map(Vec::from), Some(hex(tag)), "again and again");
            }
        }
    }

    /// NIST SP 800-38A, F.5.1; whatever the pieces.
    #[test]
    fn counter_mode_by_its_vector() {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let plain = hex(concat!(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        ));
        let sealed = hex(concat!(
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff",
            "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
        ));
        let iv: Vec<u8> = (0xf0..=0xff).collect();
        let (Ok(key), Ok(iv)) = (key.as_slice().try_into(), iv.as_slice().try_into()) else {
            unreachable!()
        };
        let Some(mode) = CounterMode::new(key) else {
            unreachable!()
        };
        for cut in 0..=plain.len() {
            let mut out = vec![0; plain.len()];
            let (first, rest) = out.split_at_mut(cut);
            first.copy_from_slice(&plain[..cut]);
            let mut stream = mode.stream(iv);
            stream.apply(first);
            assert_eq!(stream.apply_between(&plain[cut..], rest), Some(()));
            assert_eq!(out, sealed, "cut at {cut}");
        }
        assert_eq!(mode.stream(iv).apply_between(&[1], &mut []), None);
    }
}
