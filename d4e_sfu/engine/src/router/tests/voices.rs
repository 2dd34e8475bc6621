//! Where only so many voices may pass: which do, per packet, and that nobody sees a hole.

use super::client::Source;
use super::{Client, World, opus};
use crate::api::Command;
use crate::wire::drop::DropReason;
use crate::wire::packet::Header;

/// `count` who publish and subscribe to each other, publication n of transport n, and at most `voices` for each.
fn meeting(world: &mut World, publishers: u32, count: u32, voices: u8) -> Vec<(Client, Source)> {
    let people: Vec<_> = (1..=count)
        .map(|id| {
            let client = Client::join(world, id);
            world.apply(Command::SetVoices {
                transport: id,
                voices: Some(voices),
            });
            if id <= publishers {
                world.publish_voice(&client, id);
            }
            let source = Source::new(100_000 + id, 111, 65_530).mid(&format!("p{id}"));
            (client, source)
        })
        .collect();
    for (client, _) in &people {
        for publication in (1..=publishers).filter(|&publication| publication != client.id) {
            world.subscribe(
                client,
                client.id * 1_000 + publication,
                publication,
                Some(0),
            );
        }
    }
    people
}

fn say(world: &mut World, person: &mut (Client, Source), level: Option<u8>, body: u8) {
    let (client, source) = person;
    source.level = level;
    client.send(world, source, &opus(body), false);
    source.timestamp += 960;
}

/// Whose packet each is, by the SSRC that is his for this viewer.
fn whose(got: &[(Header, Vec<u8>)]) -> Vec<u32> {
    got.iter()
        .map(|(header, _)| (header.ssrc.0 - 0x5000_0000) % 1_000)
        .collect()
}

#[test]
fn of_two_hundred_the_three_who_talk_reach_everyone_with_their_first_loud_packet() {
    let mut world = World::new();
    let mut people = meeting(&mut world, 6, 200, 3);
    for n in 0..3 {
        for noisy in &mut people[..3] {
            say(&mut world, noisy, Some(60), n);
        }
        world.pass(20);
    }
    world.kept.datagrams.clear();
    // From here on Python does nothing at all.
    for talker in &mut people[3..6] {
        say(&mut world, talker, Some(0x80 | 30), 9);
    }
    for (client, _) in &mut people {
        let own = client.id;
        let expected: Vec<u32> = (4..=6).filter(|&id| id != own).collect();
        let got = client.media(&mut world);
        assert_eq!(whose(&got), expected, "{own}");
        assert!(got.iter().all(|(_, payload)| *payload == opus(9)));
    }
}

#[test]
fn what_does_not_pass_leaves_no_hole_and_lost_packets_of_it_neither() {
    let mut world = World::new();
    let mut people = meeting(&mut world, 3, 3, 1);
    let (mut numbers, mut bodies) = (Vec::new(), Vec::new());
    for n in 0..240_u8 {
        // Two who take turns. Who does not pass loses packets on their way here: his place ends a second after his turn.
        let speaks = usize::from(n / 60 % 2);
        for (at, person) in people.iter_mut().enumerate().take(2) {
            let level = if at == speaks { 20 } else { 70 };
            if at != speaks && n % 60 > 52 && n % 3 == 1 {
                person.1.seq = person.1.seq.next();
                person.1.timestamp += 960;
                continue;
            }
            say(&mut world, person, Some(level), n);
        }
        for (client, _) in &people {
            client.check(&mut world, false);
        }
        for (header, payload) in people[2].0.media(&mut world) {
            if header.ssrc.0 % 1_000 == 0x5000_0000 % 1_000 + 1 {
                numbers.push(header.seq);
                bodies.push(payload[1]);
            }
        }
        world.pass(20);
    }
    assert!(numbers.windows(2).all(|pair| pair[1].since(pair[0]) == 1));
    let firsts = bodies.iter().filter(|&&body| body == 0 || body >= 120);
    assert!(firsts.count() > 50, "{bodies:?}");
    assert!(
        bodies.iter().any(|body| (120..175).contains(body)),
        "he had his second turn"
    );
    assert!(world.drops(DropReason::NotPicked) > 60);
}

#[test]
fn ranks_and_limits_are_pythons_and_no_level_counts_as_speech() {
    let mut world = World::new();
    let mut people = meeting(&mut world, 4, 4, 1);
    say(&mut world, &mut people[0], None, 1);
    say(&mut world, &mut people[1], Some(10), 2);
    assert_eq!(whose(&people[3].0.media(&mut world)), [1]);
    let ranked = |subscription| Command::SetRank {
        subscription,
        rank: 7,
    };
    world.apply(ranked(4_002));
    say(&mut world, &mut people[1], Some(10), 3);
    say(&mut world, &mut people[0], None, 4);
    assert_eq!(whose(&people[3].0.media(&mut world)), [2]);
    world.apply(Command::SetVoices {
        transport: 4,
        voices: None,
    });
    say(&mut world, &mut people[0], None, 5);
    say(&mut world, &mut people[1], Some(10), 6);
    assert_eq!(whose(&people[3].0.media(&mut world)), [1, 2]);
    // A row that is used again has no place of another's.
    world.apply(Command::SetVoices {
        transport: 4,
        voices: Some(1),
    });
    say(&mut world, &mut people[1], Some(10), 7);
    world.apply(Command::RemoveSubscription {
        subscription: 4_002,
    });
    say(&mut world, &mut people[0], Some(60), 8);
    assert_eq!(whose(&people[3].0.media(&mut world)), [2, 1]);
}
