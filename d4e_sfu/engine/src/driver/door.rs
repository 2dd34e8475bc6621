//! The door between a worker and `front`: datagrams of clients who come by TCP, in memory, both ways. Each way is bounded,
//! and what does not fit is refused there and then: nobody waits for the other thread. Who hands something over wakes the
//! other by its eventfd.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::{lock, os};
use crate::outlet::Class;

/// What may wait at one door, each way: a tenth of a second of 160 Mbit/s.
const MAX_BYTES: usize = 2 << 20;
const MAX_LETTERS: usize = 4_096;

/// One datagram. `local` is a [`crate::outlet::stream`].
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub class: Class,
    len: usize,
}

/// Datagrams back to back, oldest first. Its room is kept when it is emptied.
#[derive(Debug, Default)]
pub struct Mail {
    bytes: Vec<u8>,
    letters: Vec<Letter>,
}

impl Mail {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// False where it is full.
    pub fn put(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        class: Class,
        datagram: &[u8],
    ) -> bool {
        if self.letters.len() >= MAX_LETTERS || self.bytes.len() + datagram.len() > MAX_BYTES {
            return false;
        }
        self.bytes.extend_from_slice(datagram);
        self.letters.push(Letter {
            local,
            remote,
            class,
            len: datagram.len(),
        });
        true
    }

    pub fn letters(&mut self) -> impl Iterator<Item = (Letter, &mut [u8])> {
        let mut rest = self.bytes.as_mut_slice();
        self.letters.iter().map(move |letter| {
            let (datagram, others) = std::mem::take(&mut rest).split_at_mut(letter.len);
            rest = others;
            (*letter, datagram)
        })
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.letters.clear();
    }

    /// As many of `other` as fit, in order; returns how many did not.
    fn take_over(&mut self, other: &mut Self) -> usize {
        if self.is_empty() {
            std::mem::swap(self, other);
            return 0;
        }
        let mut refused = 0;
        for (letter, datagram) in other.letters() {
            refused += usize::from(!self.put(letter.local, letter.remote, letter.class, datagram));
        }
        other.clear();
        refused
    }
}

/// One for each worker; `front` keeps the other end.
pub struct Door {
    to_worker: Mutex<Mail>,
    from_worker: Mutex<Mail>,
    worker: Arc<OwnedFd>,
    /// None while no `front` serves.
    front: Mutex<Option<Arc<OwnedFd>>>,
}

impl Door {
    pub(super) fn new(worker: Arc<OwnedFd>) -> Self {
        Self {
            to_worker: Mutex::default(),
            from_worker: Mutex::default(),
            worker,
            front: Mutex::default(),
        }
    }

    /// From now on this eventfd is woken where the worker hands something over.
    pub fn attach(&self, front: Arc<OwnedFd>) {
        *lock(&self.front) = Some(front);
    }

    /// To the worker; returns how many it did not take. `mail` is empty afterwards.
    pub fn submit(&self, mail: &mut Mail) -> usize {
        let refused = lock(&self.to_worker).take_over(mail);
        os::signal(&self.worker);
        refused
    }

    /// What the worker has handed over, into `mail`, which is empty.
    pub fn collect(&self, mail: &mut Mail) {
        std::mem::swap(&mut *lock(&self.from_worker), mail);
    }

    /// The worker's side of `submit`.
    pub(super) fn receive(&self, mail: &mut Mail) {
        std::mem::swap(&mut *lock(&self.to_worker), mail);
    }

    /// The worker's side of `collect`; returns how many were refused.
    pub(super) fn send(&self, mail: &mut Mail) -> usize {
        let front = lock(&self.front);
        let Some(front) = front.as_ref() else {
            let refused = mail.letters.len();
            mail.clear();
            return refused;
        };
        let refused = lock(&self.from_worker).take_over(mail);
        os::signal(front);
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlet::stream;

    #[test]
    fn what_is_handed_over_comes_out_in_order_and_no_more_than_may_wait() {
        let door = Door::new(Arc::new(os::eventfd().unwrap()));
        let (remote, mut mail) = (SocketAddr::from(([192, 0, 2, 1], 5)), Mail::default());
        for n in 0..3u8 {
            assert!(mail.put(stream(7, 0), remote, Class::Voice, &[n; 3]));
        }
        assert_eq!(door.send(&mut mail), 3, "nobody serves");
        assert!(mail.is_empty());
        door.attach(Arc::new(os::eventfd().unwrap()));
        let mut sent = 0usize;
        let refused = loop {
            for _ in 0..1_000 {
                assert!(mail.put(stream(7, 0), remote, Class::Picture, &[sent as u8; 9]));
                sent += 1;
            }
            let refused = door.send(&mut mail);
            if refused > 0 {
                break refused;
            }
        };
        assert_eq!(sent - refused, MAX_LETTERS);
        door.collect(&mut mail);
        let seen: Vec<u8> = mail
            .letters()
            .map(|(letter, datagram)| {
                assert_eq!((letter.local, datagram.len()), (stream(7, 0), 9));
                datagram[0]
            })
            .collect();
        assert_eq!(seen, (0..MAX_LETTERS).map(|n| n as u8).collect::<Vec<_>>());
        mail.clear();
        door.collect(&mut mail);
        assert!(mail.is_empty());
    }
}
