//! Where everything leaves the peer: header extensions, transport-wide numbers, SRTP, and the list of datagrams to send.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::wire::packet::{Fields, write_header};
use crate::wire::seq::ExtSeq;
use crate::wire::srtp::{BadKey, Profile, Sealer};

use super::spec::ExtensionIds;
use super::{Nanos, SECOND};

/// A datagram for the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub datagram: Vec<u8>,
}

/// What an RTP packet carries besides its fields and payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks<'a> {
    pub mid: Option<&'a str>,
    pub rid: Option<&'a str>,
    pub repaired_rid: Option<&'a str>,
    /// −dBov and voice activity (RFC 6464).
    pub audio_level: Option<(u8, bool)>,
    /// A dependency descriptor.
    pub dependency: Option<&'a [u8]>,
}

pub struct Outlet {
    pub local: SocketAddr,
    /// The selected path; media and RTCP before it are not sent.
    pub remote: Option<SocketAddr>,
    ids: ExtensionIds,
    sealer: Option<Sealer>,
    transport_seq: u16,
    rtcp_index: u32,
    queue: Vec<Transmit>,
    /// The last sealed datagrams, for replay.
    recent: VecDeque<Vec<u8>>,
    pub packets: u64,
    pub bytes: u64,
    pub rtcp_packets: u64,
}

const RECENT: usize = 64;

impl Outlet {
    pub fn new(local: SocketAddr, ids: ExtensionIds) -> Self {
        Self {
            local,
            remote: None,
            ids,
            sealer: None,
            transport_seq: 0,
            rtcp_index: 0,
            queue: Vec::new(),
            recent: VecDeque::new(),
            packets: 0,
            bytes: 0,
            rtcp_packets: 0,
        }
    }

    pub fn set_key(&mut self, profile: Profile, master: &[u8]) -> Result<(), BadKey> {
        self.sealer = Some(Sealer::new(profile, master)?);
        Ok(())
    }

    pub fn set_ids(&mut self, ids: ExtensionIds) {
        self.ids = ids;
    }

    /// Media may flow.
    pub fn open(&self) -> bool {
        self.remote.is_some() && self.sealer.is_some()
    }

    pub fn raw(&mut self, remote: SocketAddr, datagram: Vec<u8>) {
        self.queue.push(Transmit {
            local: self.local,
            remote,
            datagram,
        });
    }

    pub fn drain(&mut self) -> Vec<Transmit> {
        std::mem::take(&mut self.queue)
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Seals and queues one packet; `index` gives sequence number and roll-over count, `fields.seq` is set from it.
    pub fn rtp(
        &mut self,
        now: Nanos,
        mut fields: Fields,
        index: ExtSeq,
        marks: Marks<'_>,
        payload: &[u8],
    ) {
        let (Some(remote), Some(sealer)) = (self.remote, &self.sealer) else {
            return;
        };
        fields.seq = index.seq();
        let transport_seq = self.transport_seq.to_be_bytes();
        // 24 bits of 6.18 fixed-point seconds.
        let send_time = ((u128::from(now) << 18) / u128::from(SECOND)) as u32;
        let level = marks
            .audio_level
            .map_or(0, |(level, voice)| u8::from(voice) << 7 | level & 0x7f);
        let (level, send_time) = ([level], send_time.to_be_bytes());
        let possible = [
            (self.ids.mid, marks.mid.map(str::as_bytes)),
            (self.ids.rid, marks.rid.map(str::as_bytes)),
            (self.ids.repaired_rid, marks.repaired_rid.map(str::as_bytes)),
            (self.ids.audio_level, marks.audio_level.map(|_| &level[..])),
            (self.ids.transport_cc, Some(&transport_seq[..])),
            (self.ids.abs_send_time, Some(&send_time[1..])),
            (self.ids.dependency_descriptor, marks.dependency),
        ];
        let mut elements: [(u8, &[u8]); 7] = [(0, &[]); 7];
        let mut count = 0;
        for (id, value) in possible.into_iter().filter_map(|(id, value)| id.zip(value)) {
            elements[count] = (id, value);
            count += 1;
        }
        let mut slot = vec![0; 400 + payload.len() + 32];
        let sealed = write_header(&mut slot, &fields, &elements[..count])
            .and_then(|header_len| sealer.seal_rtp(&mut slot, header_len, 0, payload, index.roc()));
        let Some(len) = sealed else { return };
        slot.truncate(len);
        self.transport_seq = self.transport_seq.wrapping_add(1);
        self.packets += 1;
        self.bytes += len as u64;
        self.push_sealed(remote, slot);
    }

    /// Seals and queues a compound.
    pub fn rtcp(&mut self, compound: &[u8]) {
        let (Some(remote), Some(sealer)) = (self.remote, &self.sealer) else {
            return;
        };
        let mut slot = vec![0; compound.len() + 32];
        slot[..compound.len()].copy_from_slice(compound);
        let Some(len) = sealer.seal_rtcp(&mut slot, compound.len(), self.rtcp_index) else {
            return;
        };
        slot.truncate(len);
        self.rtcp_index += 1;
        self.rtcp_packets += 1;
        self.push_sealed(remote, slot);
    }

    /// Seals and queues a packet whose header the caller wrote: anything at all, with valid keys.
    pub fn sealed(&mut self, packet: &[u8], header_len: usize, roc: u32) -> bool {
        let (Some(remote), Some(sealer)) = (self.remote, &self.sealer) else {
            return false;
        };
        let Some((header, payload)) = packet.split_at_checked(header_len) else {
            return false;
        };
        let mut slot = vec![0; packet.len() + 32];
        slot[..header_len].copy_from_slice(header);
        let Some(len) = sealer.seal_rtp(&mut slot, header_len, 0, payload, roc) else {
            return false;
        };
        slot.truncate(len);
        self.push_sealed(remote, slot);
        true
    }

    fn push_sealed(&mut self, remote: SocketAddr, datagram: Vec<u8>) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(datagram.clone());
        self.raw(remote, datagram);
    }

    /// Queues the last `count` sealed datagrams once more, byte for byte.
    pub fn replay(&mut self, count: usize) {
        let Some(remote) = self.remote else { return };
        for at in self.recent.len().saturating_sub(count)..self.recent.len() {
            let datagram = self.recent[at].clone();
            self.raw(remote, datagram);
        }
    }
}
