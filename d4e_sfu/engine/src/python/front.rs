//! The Python face of the front: conversions and nothing else, as in `python.rs`.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::IntoRawFd;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Worker;
use crate::front::{self, Dropped, Limits, Peer, Refused, Settings, Tally};

/// TCP 443 on its own thread.
#[pyclass(frozen)]
pub struct Front {
    front: std::sync::Mutex<front::Front>,
}

impl Front {
    fn front(&self) -> std::sync::MutexGuard<'_, front::Front> {
        self.front
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[pymethods]
impl Front {
    #[new]
    #[pyo3(signature = (listeners, *, name, realm, secret, peers, workers, connections, per_address, rate, burst))]
    #[allow(clippy::too_many_arguments)] // by keyword only
    fn new(
        listeners: Vec<i32>,
        name: &str,
        realm: String,
        secret: Vec<u8>,
        peers: Vec<(String, u16, usize)>,
        workers: usize,
        connections: usize,
        per_address: usize,
        rate: u64,
        burst: u64,
    ) -> PyResult<Self> {
        let peers = peers
            .into_iter()
            .map(|(ip, port, worker)| {
                let ip: IpAddr = ip
                    .parse()
                    .map_err(|_| PyValueError::new_err("a peer is an address"))?;
                Ok(Peer {
                    address: SocketAddr::new(ip, port),
                    worker,
                })
            })
            .collect::<PyResult<_>>()?;
        let settings = Settings {
            realm,
            secret,
            peers,
            workers,
            limits: Limits {
                connections,
                per_address,
                rate,
                burst,
            },
        };
        if name.contains('\0') {
            return Err(PyValueError::new_err("a thread's name has no NUL"));
        }
        let front = front::Front::start(&listeners, name, settings).map_err(|error| match error
            .raw_os_error()
        {
            Some(_) => PyOSError::new_err(error),
            None => PyValueError::new_err(error.to_string()),
        })?;
        Ok(Self {
            front: front.into(),
        })
    }
    fn attach(&self, number: usize, worker: &Worker) {
        let door = worker.worker().door();
        self.front().attach(number, door);
    }
    fn set_certificate(&self, chain: &[u8], key: &[u8]) -> PyResult<()> {
        self.front()
            .set_certificate(chain, key)
            .map_err(PyValueError::new_err)
    }
    fn fileno(&self) -> i32 {
        self.front().event_fd()
    }
    /// Descriptors that the caller owns from here on, each with the client's address.
    fn handed(&self) -> Vec<(i32, String, u16)> {
        let handed = self.front().handed();
        handed
            .into_iter()
            .map(|(fd, remote)| {
                let ip = remote.ip().to_canonical().to_string();
                (fd.into_raw_fd(), ip, remote.port())
            })
            .collect()
    }
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tally = self.front().tally();
        let dict = PyDict::new(py);
        let named = |names: &mut dyn Iterator<Item = (&'static str, u64)>| {
            let dict = PyDict::new(py);
            for (name, count) in names {
                dict.set_item(name, count)?;
            }
            Ok::<_, PyErr>(dict)
        };
        let refused = Refused::ALL.iter().map(|&it| it.name()).zip(tally.refused);
        let dropped = Dropped::ALL.iter().map(|&it| it.name()).zip(tally.dropped);
        let open = Tally::KINDS.into_iter().zip(tally.open.map(|it| it as u64));
        dict.set_item("refused", named(&mut { refused })?)?;
        dict.set_item("dropped", named(&mut { dropped })?)?;
        dict.set_item("open", named(&mut { open })?)?;
        dict.set_item("accepted", tally.accepted)?;
        dict.set_item("received", tally.received)?;
        dict.set_item("sent", tally.sent)?;
        Ok(dict)
    }
    fn alive(&self) -> bool {
        self.front().alive()
    }
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.front().stop());
    }
    /// Only in builds for the laboratory.
    #[cfg(feature = "peer")]
    fn panic_for_test(&self) {
        self.front().panic_for_test();
    }
}
