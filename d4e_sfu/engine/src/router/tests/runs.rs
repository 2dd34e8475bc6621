//! The order in which datagrams leave: what UDP segmentation offload would need is kept, though it is not used yet.

use super::client::Source;
use super::{Client, World, opus, vp8};
use crate::api::Codec;

/// What is sent with one call to one address lies in one piece: a frame's packets of one size, one after the other.
#[test]
fn a_batch_leaves_subscriber_by_subscriber_however_many_publications_had_news() {
    let mut world = World::new();
    let mut publisher = Client::join(&mut world, 1);
    let viewers: Vec<Client> = (2..6).map(|id| Client::join(&mut world, id)).collect();
    world.publish_video(&publisher, 1, Codec::Vp8, &[]);
    world.publish_voice(&publisher, 2);
    world.publish_video(&publisher, 3, Codec::Vp8, &[]);
    let mut subscription = 0;
    // In this order nothing lies side by side by chance.
    for publication in [1, 2, 3] {
        for viewer in viewers.iter().rev() {
            subscription += 1;
            world.subscribe(viewer, subscription, publication, Some(0));
        }
    }
    let mut camera = Source::new(0x1111, 96, 500).mid("p1");
    let mut voice = Source::new(0x2222, 111, 500).mid("p2");
    let mut screen = Source::new(0x3333, 96, 500).mid("p3");
    for (source, payload) in [
        (&mut camera, vp8(1, 0, 0, true, &[0; 900])),
        (&mut voice, opus(0)),
        (&mut screen, vp8(1, 0, 0, true, &[0; 900])),
    ] {
        publisher.send(&mut world, source, &payload, true);
    }
    world.pass(100);
    world.kept.datagrams.clear();

    // One batch: two frames of four packets each, and two packets of a voice, all mixed.
    let mut batch = Vec::new();
    for n in 0..4 {
        let body = [n; 1_000];
        batch.push(camera.next(&mut publisher, &vp8(2, 1, 0, false, &body), n == 3));
        if n % 2 == 0 {
            batch.push(voice.next(&mut publisher, &opus(n), false));
        }
        batch.push(screen.next(&mut publisher, &vp8(2, 1, 0, false, &body), n == 3));
    }
    let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
    world.handle_batch(publisher.remote, &batch);

    // (address, length, how many in a row)
    let mut runs: Vec<(std::net::SocketAddr, usize, usize)> = Vec::new();
    for (_, to, datagram) in &world.kept.datagrams {
        match runs.last_mut() {
            Some((last, len, count)) if last == to && *len == datagram.len() => *count += 1,
            _ => runs.push((*to, datagram.len(), 1)),
        }
    }
    let mut expected: Vec<_> = viewers.iter().map(|viewer| viewer.remote).collect();
    let mut order: Vec<_> = runs.iter().map(|(to, ..)| *to).collect();
    order.dedup();
    order.sort();
    expected.sort();
    assert_eq!(order, expected, "each address once: {runs:?}");
    for viewer in &viewers {
        let counts: Vec<usize> = runs
            .iter()
            .filter(|(to, ..)| *to == viewer.remote)
            .map(|(_, _, count)| *count)
            .collect();
        assert_eq!(counts, [4, 2, 4], "two frames and a voice");
    }
}
