//! Clients behind one bottleneck: two of one station, whose packets wait in one queue. Estimators that know nothing of each
//! other come to an even share over minutes, and each takes the other's probe for room; coupled they are one flow, and its
//! estimate is divided (RFC 8699). Who they are shows in the queue (RFC 8382): `estimator/waits.rs`.
//!
//! What one tells of the link counts for the others only where they see it too. A queue that nobody else has seen within
//! [`DOUBT`] is his alone, and so is he, until as much is known of him again as of a stranger.

use std::time::Duration;

use super::Router;
use super::table::Table;
use crate::estimator::{Estimator, MAX_AHEAD, SHORT_QUEUE, THIN, reduced};
use crate::now::Now;
use crate::transport::Transport;

const INTERVAL: Duration = Duration::from_millis(200);
/// Pairs that are compared each time, and the rest of one client's: it takes microseconds.
const PAIRS: u32 = 200;
/// Longer than a feedback takes; by then the others must have seen half of the queue.
const DOUBT: Duration = Duration::from_millis(250);
const SEEN: u32 = 2;

#[derive(Default)]
pub(super) struct Bottlenecks {
    looked: Now,
    /// Whose turn it was to be compared.
    last: u32,
    /// Of two at least; who is in one is in no other.
    groups: Vec<Group>,
    probing: Vec<Probing>,
}

/// Row keys.
#[derive(Default)]
struct Group {
    rows: Vec<u32>,
    doubt: Option<Doubt>,
}

/// He has given way to a queue.
#[derive(Clone, Copy)]
struct Doubt {
    row: u32,
    since: Now,
    queue: Duration,
    /// His estimate, bit/s.
    before: f64,
}

/// His probe leaves.
struct Probing {
    row: u32,
    since: Now,
    /// What had left for the others of his group.
    bytes: u64,
}

impl Bottlenecks {
    /// Both are behind one.
    fn join(&mut self, a: u32, b: u32) {
        let mut group = self.take(a).unwrap_or_default();
        if group.rows.is_empty() {
            group.rows.push(a);
        }
        if !group.rows.contains(&b) {
            let mut other = self.take(b).unwrap_or_default();
            if other.rows.is_empty() {
                other.rows.push(b);
            }
            group.rows.extend(other.rows);
            group.doubt = group.doubt.or(other.doubt);
        }
        // What left for others is counted among those who were there.
        self.probing.retain(|it| !group.rows.contains(&it.row));
        self.groups.push(group);
    }

    /// He is gone, or behind another.
    pub fn leave(&mut self, row: u32) {
        self.probing.retain(|it| it.row != row);
        let Some(mut group) = self.take(row) else {
            return;
        };
        self.probing.retain(|it| !group.rows.contains(&it.row));
        group.rows.retain(|&kept| kept != row);
        group.doubt.take_if(|doubt| doubt.row == row);
        if group.rows.len() > 1 {
            self.groups.push(group);
        }
    }

    fn take(&mut self, row: u32) -> Option<Group> {
        let at = self.groups.iter().position(|it| it.rows.contains(&row))?;
        Some(self.groups.swap_remove(at))
    }

    pub const fn any(&self) -> bool {
        !self.groups.is_empty()
    }

    /// All of his group, and he; nobody where he is alone.
    pub fn with(&self, row: u32) -> &[u32] {
        let group = self.groups.iter().find(|it| it.rows.contains(&row));
        group.map_or(&[], |group| &group.rows)
    }
}

impl Router {
    pub(super) fn couple(&mut self, now: Now) {
        if now.since(self.bottlenecks.looked) >= INTERVAL {
            self.bottlenecks.looked = now;
            self.compare();
        }
        self.end_probes(now);
        let mut groups = std::mem::take(&mut self.bottlenecks.groups);
        let mut apart = Vec::new();
        for group in &mut groups {
            self.divide(now, group, &mut apart);
        }
        self.bottlenecks.groups = groups;
        for row in apart {
            self.part(row);
        }
    }

    /// He of this row is alone, until as much is known of him again as of a stranger.
    pub(super) fn part(&mut self, row: u32) {
        self.bottlenecks.leave(row);
        if let Some(estimator) = estimator(&mut self.transports, row) {
            estimator.part();
        }
    }

    /// Who is behind the same link as whom.
    fn compare(&mut self) {
        let rows = self.transports.rows();
        let mut left = PAIRS;
        for _ in 0..rows {
            let at = (self.bottlenecks.last + 1) % rows;
            self.bottlenecks.last = at;
            let own = self.transports.get(at).and_then(|it| it.link.told());
            let with = self.bottlenecks.with(at);
            let Some(own) = own.filter(|own| own.waits().is_known() || !with.is_empty()) else {
                continue;
            };
            let (mut stays, mut leaves, mut joins) = (false, false, None);
            for (row, other) in self.transports.iter() {
                let Some(other) = other.link.told().filter(|_| row != at) else {
                    continue;
                };
                left = left.saturating_sub(1);
                match (own.waits().alike(other.waits()), with.contains(&row)) {
                    (Some(true), true) => stays = true,
                    (Some(true), false) => joins = Some(row),
                    (Some(false), true) => leaves = true,
                    _ => {}
                }
            }
            if let Some(row) = joins {
                for row in [at, row] {
                    if self.bottlenecks.with(row).is_empty()
                        && let Some(estimator) = estimator(&mut self.transports, row)
                    {
                        estimator.meet();
                    }
                }
                self.bottlenecks.join(at, row);
            } else if leaves && !stays {
                self.bottlenecks.leave(at);
            }
            if left == 0 {
                break;
            }
        }
    }

    /// To each as much as he wants, or as is left for those who want more. `apart`: who is not to be believed, or is cut off.
    fn divide(&mut self, now: Now, group: &mut Group, apart: &mut Vec<u32>) {
        let mut members = Vec::with_capacity(group.rows.len());
        for &row in &group.rows {
            let Some(estimator) = estimator(&mut self.transports, row) else {
                continue;
            };
            if estimator.is_cut() {
                apart.push(row);
                continue;
            }
            let Some(flow) = estimator.flow() else {
                continue;
            };
            // One at a time: what others say meanwhile is looked at afterwards.
            let gave_way = if group.doubt.is_none() {
                estimator.gave_way().take()
            } else {
                *estimator.gave_way()
            };
            if let (Some(gave_way), None) = (gave_way, group.doubt) {
                group.doubt = Some(Doubt {
                    row,
                    since: now,
                    queue: gave_way.queue.max(SHORT_QUEUE),
                    before: gave_way.before,
                });
            }
            // What he says of the link lowers nobody's part until another has seen it.
            let doubt = group.doubt.filter(|doubt| doubt.row == row);
            let before = doubt.map(|doubt| doubt.before);
            let before = before.or(gave_way.map(|it| it.before)).unwrap_or(flow.has);
            members.push((flow, flow.has.max(before), row));
        }
        if let Some(doubt) = group.doubt {
            let transports = &mut self.transports;
            let seen = members.iter().any(|&(_, _, row)| {
                row != doubt.row
                    && estimator(transports, row).is_some_and(|it| it.queue() * SEEN >= doubt.queue)
            });
            if !seen {
                if now.since(doubt.since) > DOUBT {
                    apart.push(doubt.row);
                }
                return;
            }
        }
        let gave_way = group.doubt.take();
        let (mut left, mut before, mut through, mut whole) = (0.0, 0.0, 0.0, None);
        for &(flow, has, row) in &members {
            let Some(estimator) = estimator(&mut self.transports, row) else {
                continue;
            };
            let probed = estimator.probed();
            let part = has.min(flow.wants);
            left += part;
            before += probed.map_or(has, |it| it.before).min(flow.wants);
            whole = whole.or(probed.map(|it| it.whole));
            // Who tells that nothing comes does not speak for the others.
            through += estimator.through().max(part / 2.0);
        }
        // What a probe has shown is the whole link's, of which the others' estimates are a part.
        if let Some(whole) = whole {
            left = left.min(before.max(whole));
        }
        if let Some(gave_way) = gave_way {
            left = reduced(gave_way.queue, left, through);
        }
        // On a thin link each knows best what his voices get.
        if members.len() < 2 || left < THIN * members.len() as f64 {
            return;
        }
        members.sort_unstable_by(|a, b| a.0.wants.total_cmp(&b.0.wants));
        let count = members.len();
        for (at, (flow, _, row)) in members.into_iter().enumerate() {
            let part = left / (count - at) as f64;
            let given = part.min(flow.wants);
            left -= given;
            // Who wants less may have more: it is of no use to the others.
            if (flow.wants > part || flow.has < given)
                && let Some(transport) = self.transports.get_mut(row)
            {
                transport.link.divide(now, |estimator| {
                    // Nobody is raised further by what another has found than he would be by himself.
                    let most = MAX_AHEAD.0 * estimator.through() + MAX_AHEAD.1;
                    let given = given.min(most.max(flow.has));
                    if gave_way.is_some() {
                        estimator.give_way(now, given);
                    } else {
                        estimator.set_part(given);
                    }
                });
            }
        }
    }

    /// His probe begins. It asks for all of his group.
    pub(super) fn probe_begins(&mut self, now: Now, row: u32) {
        let with = self.bottlenecks.with(row);
        if with.is_empty() {
            return;
        }
        for &other in with.iter().filter(|&&other| other != row) {
            if let Some(estimator) = estimator(&mut self.transports, other) {
                estimator.another_probes(now);
            }
        }
        let bytes = self.beside(row);
        let since = now;
        let probing = &mut self.bottlenecks.probing;
        probing.retain(|it| it.row != row); // One at a time, whatever became of the last.
        probing.push(Probing { row, since, bytes });
    }

    /// Those that have left know what they met: others' pictures come in bursts, and their mean says little of 33 ms.
    fn end_probes(&mut self, now: Now) {
        let mut probing = std::mem::take(&mut self.bottlenecks.probing);
        probing.retain(|probing| {
            let Some(transport) = self.transports.get(probing.row) else {
                return false;
            };
            if transport.link.pacer.probes() {
                return true;
            }
            let bytes = self.beside(probing.row).saturating_sub(probing.bytes);
            let span = now.since(probing.since).as_secs_f64();
            if let Some(estimator) = estimator(&mut self.transports, probing.row)
                && span > 0.0
            {
                estimator.met(bytes as f64 * 8.0 / span);
            }
            false
        });
        self.bottlenecks.probing = probing;
    }

    /// The ids of those who share a link with this row, for the state that is shown.
    pub(super) fn behind_one_link(&self, row: u32) -> String {
        let others = self.bottlenecks.with(row).iter();
        let ids = others
            .filter(|&&other| other != row)
            .filter_map(|&other| Some(self.transports.get(other)?.id.to_string()));
        ids.collect::<Vec<_>>().join(",")
    }

    /// What has left for the others of his group, ever.
    fn beside(&self, row: u32) -> u64 {
        let with = self.bottlenecks.with(row).iter();
        with.filter(|&&other| other != row)
            .filter_map(|&other| Some(self.transports.get(other)?.link.bytes))
            .sum()
    }
}

fn estimator(transports: &mut Table<Transport>, row: u32) -> Option<&mut Estimator> {
    transports.get_mut(row)?.link.told_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(rows: &[u32]) -> Vec<u32> {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn who_is_behind_one_link_with_another_is_with_all_of_his() {
        let mut all = Bottlenecks::default();
        assert!(all.with(1).is_empty());
        all.join(1, 2);
        all.join(3, 4);
        all.join(2, 1);
        assert_eq!(sorted(all.with(1)), [1, 2]);
        all.join(2, 4);
        for row in 1..=4 {
            assert_eq!(sorted(all.with(row)), [1, 2, 3, 4]);
        }
        all.join(4, 5);
        assert_eq!(sorted(all.with(1)), [1, 2, 3, 4, 5]);
        assert_eq!(all.groups.len(), 1);
    }

    #[test]
    fn who_leaves_takes_his_doubts_along_and_nobody_stays_alone() {
        let mut all = Bottlenecks::default();
        for row in [2, 3] {
            all.join(1, row);
        }
        let doubt = |row| Doubt {
            row,
            since: Now(0),
            queue: DOUBT,
            before: 1e6,
        };
        all.groups[0].doubt = Some(doubt(1));
        let (since, bytes) = (Now(0), 0);
        all.probing = vec![Probing {
            row: 3,
            since,
            bytes,
        }];
        all.leave(3);
        assert!(all.groups[0].doubt.is_some() && all.probing.is_empty());
        all.join(3, 2);
        all.leave(1);
        assert!(all.groups[0].doubt.is_none());
        assert_eq!(sorted(all.with(2)), [2, 3]);
        all.leave(2);
        all.leave(2);
        assert!(all.groups.is_empty());
    }
}
