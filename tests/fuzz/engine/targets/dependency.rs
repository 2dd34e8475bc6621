//! Dependency descriptors, as a stream of them that lies: the input is cut into descriptors, each read by the structures that
//! came before, rewritten with a mask as forwarding does, and read again.

#![no_main]

use d4e_engine::publication::dependencies::Dependencies;
use d4e_engine::wire::codec::dependency::MAX_LEN;
use d4e_engine::wire::codec::layer::Layer;
use d4e_engine::wire::seq::ExtSeq;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (mut sent, mut received) = (Dependencies::default(), Dependencies::default());
    let mut rest = data;
    // One byte of length and three of what is to be done with it, then the descriptor.
    while let Some((&[len, step, shift, limit], after)) = rest.split_first_chunk() {
        let (bytes, after) = after.split_at(after.len().min(usize::from(len)));
        rest = after;
        let seq = ExtSeq((1 << 20) - data.len() as u64 + rest.len() as u64 * u64::from(step % 3));
        let Ok(reading) = sent.read(seq, bytes) else {
            continue;
        };
        let limit = Layer::at_most(limit & 3, limit >> 2 & 7);
        let mask = sent.mask(reading.generation, limit, step & 4 != 0);
        let mut out = [0; MAX_LEN];
        let (template, number) = (shift & 63, u16::from(shift) << 7);
        let written = reading
            .descriptor
            .write(bytes, &mut out, template, number, mask);
        assert!(mask.is_some() || written == Some(bytes.len()));
        let Some(len) = written else { continue };
        if let Ok(again) = received.read(seq, &out[..len]) {
            assert_eq!(
                again.descriptor.number,
                reading.descriptor.number.wrapping_sub(number)
            );
            assert_eq!(again.descriptor.start, reading.descriptor.start);
        }
    }
});
