//! The last packets of one voice, as they left for one client: for him to have one of them again. Where he has agreed on no
//! stream for retransmissions (RFC 4588; no browser does for a voice) the packet goes again under its own number, and then it
//! has to be the same to the last bit: another text, or other extensions, under that number would use its key stream a
//! second time (RFC 3711 §9.1, RFC 7714 §8.1).

use crate::now::Now;
use crate::wire::seq::SeqNo;

/// At 20 ms each more than any playout waits for.
const KEPT: usize = 64;

#[derive(Debug)]
pub struct Sealed {
    number: SeqNo,
    pub at: Now,
    /// Its transport-wide number.
    pub transport_wide: Option<u16>,
    pub datagram: Vec<u8>,
}

/// A ring by the low bits of the number. It costs 64 packets, so it is made for who asks.
#[derive(Debug, Default)]
pub struct Voice {
    ring: Vec<Option<Sealed>>,
}

impl Voice {
    /// It has left, with the number at its place in the header (RFC 3550 §5.1).
    pub fn keep(&mut self, now: Now, transport_wide: Option<u16>, datagram: &[u8]) {
        let Some(&[high, low]) = datagram.get(2..4).and_then(<[u8]>::first_chunk) else {
            return;
        };
        let number = SeqNo(u16::from_be_bytes([high, low]));
        if self.ring.is_empty() {
            self.ring.resize_with(KEPT, || None);
        }
        let place = &mut self.ring[usize::from(number.0) % KEPT];
        let mut bytes = place.take().map_or_else(Vec::new, |old| old.datagram);
        bytes.clear();
        bytes.extend_from_slice(datagram);
        *place = Some(Sealed {
            number,
            at: now,
            transport_wide,
            datagram: bytes,
        });
    }

    /// What left under this number.
    #[must_use]
    pub fn get(&self, number: SeqNo) -> Option<&Sealed> {
        let place = self.ring.get(usize::from(number.0) % KEPT)?;
        place.as_ref().filter(|sealed| sealed.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(number: u16) -> Vec<u8> {
        let mut datagram = vec![0x80, 111, 0, 0, number as u8];
        datagram[2..4].copy_from_slice(&number.to_be_bytes());
        datagram
    }

    #[test]
    fn a_number_means_the_last_packet_that_had_it_over_the_wrap() {
        let mut voice = Voice::default();
        assert!(voice.get(SeqNo(0)).is_none());
        for n in 0..200_000u64 {
            let number = (n + 65_500) as u16;
            voice.keep(Now(n), Some(n as u16), &datagram(number));
            let kept = voice.get(SeqNo(number)).unwrap();
            assert_eq!((kept.at, &kept.datagram), (Now(n), &datagram(number)));
            let oldest = SeqNo(number.wrapping_sub(KEPT as u16 - 1));
            assert_eq!(voice.get(oldest).is_some(), n >= KEPT as u64 - 1);
            assert!(voice.get(SeqNo(number.wrapping_sub(KEPT as u16))).is_none());
            assert!(voice.get(SeqNo(number.wrapping_add(1))).is_none());
        }
    }
}
