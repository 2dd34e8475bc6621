//! Opus payloads (RFC 7587, RFC 6716 §3): is this silence, and how long is it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Discontinuous transmission: a packet of at most 2 bytes carries no sound (RFC 6716 §2.1.9), and needs no repair.
    pub dtx: bool,
    /// Duration of the packet in 48 kHz ticks; 0 when the payload is malformed or empty.
    pub duration: u32,
}

/// RFC 6716 §3.2.5, R5: a packet holds at most 120 ms.
const MAX_DURATION: u32 = 5760;

impl Facts {
    #[must_use]
    pub fn parse(payload: &[u8]) -> Self {
        let dtx = matches!(payload.len(), 1 | 2);
        let Some(&toc) = payload.first() else {
            return Self { dtx, duration: 0 };
        };
        let config = usize::from(toc >> 3);
        // RFC 6716 §3.1, table 2.
        let frame = match config {
            0..=11 => [480, 960, 1920, 2880][config & 3],
            12..=15 => [480, 960][config & 1],
            _ => [120, 240, 480, 960][config & 3],
        };
        let frames = match toc & 3 {
            0 => 1,
            1 | 2 => 2,
            _ => payload.get(1).map_or(0, |&count| u32::from(count & 0x3f)),
        };
        let duration = frame * frames;
        Self {
            dtx,
            duration: if duration > MAX_DURATION { 0 } else { duration },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_by_table_of_contents() {
        let parse = |payload: &[u8]| Facts::parse(payload);
        // libopus at 48 kHz, 20 ms, fullband CELT: config 31, code 0.
        assert_eq!(
            parse(&[0xf8, 1, 2]),
            Facts {
                dtx: false,
                duration: 960
            }
        );
        assert_eq!(
            parse(&[0xf8]),
            Facts {
                dtx: true,
                duration: 960
            }
        );
        assert_eq!(parse(&[0x18 | 1, 1, 2]).duration, 2 * 2880);
        assert_eq!(parse(&[0xf8 | 3, 6, 0]).duration, 5760);
        assert_eq!(
            parse(&[0xf8 | 3, 7, 0]).duration,
            0,
            "140 ms is not allowed"
        );
        assert_eq!(
            parse(&[]),
            Facts {
                dtx: false,
                duration: 0
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..8)) {
            prop_assert!(Facts::parse(&payload).duration <= MAX_DURATION);
        }
    }
}
