//! A listener whose address changes, and who has nothing to show for it but his checks.

use super::client::Source;
use super::{Client, World, opus};
use crate::wire::seq::Ssrc;

#[test]
fn who_only_listens_is_followed_a_tenth_of_a_second_after_his_check_and_a_copy_of_it_is_not() {
    let mut world = World::new();
    let mut speaker = Client::join(&mut world, 1);
    let mut listener = Client::join(&mut world, 2);
    world.publish_voice(&speaker, 1);
    world.subscribe(&listener, 1, 1, Some(0));
    let mut source = Source::new(0x1111, 111, 0).mid("p1");
    let mut talk = |world: &mut World, speaker: &mut Client| {
        speaker.send(world, &mut source, &opus(1), false);
        std::mem::take(&mut world.kept.datagrams)
            .into_iter()
            .filter(|(_, to, datagram)| *to != speaker.remote && datagram[0] >= 128)
            .map(|(_, to, _)| to)
            .collect::<Vec<_>>()
    };
    let home = listener.remote;
    let copy = listener.request_as(true, 8);
    world.handle(home, &copy);
    world.pass(1_000);
    // Somebody who has seen it sends it again, from where he is.
    world.handle("203.0.113.66:6666".parse().unwrap(), &copy);
    world.pass(1_000);
    assert_eq!(talk(&mut world, &mut speaker), [home]);
    // The listener's NAT gives him another port; all that he sends is his check of consent.
    listener.remote = "198.51.100.7:1234".parse().unwrap();
    world.handle(listener.remote, &listener.request_as(true, 9));
    world.pass(70);
    assert_eq!(talk(&mut world, &mut speaker), [home]);
    world.pass(30);
    assert_eq!(talk(&mut world, &mut speaker), [listener.remote]);
    // And back, but here something authentic comes from where he still is.
    world.handle(home, &listener.request_as(true, 10));
    world.pass(50);
    listener.send_rtcp(&mut world, |slot| {
        crate::wire::rtcp::write_receiver_report(slot, Ssrc(1), &[])
    });
    world.pass(200);
    assert_eq!(talk(&mut world, &mut speaker), [listener.remote]);
}
