//! The laboratory's door: [`Peer`] in virtual time as `d4e_sfu._engine.lab.Peer`. Conversions and nothing else; specs are
//! dictionaries of the fields in `spec.rs`, the same as on `d4e-peer`'s input. `now` never goes back.

use std::net::SocketAddr;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde::de::DeserializeOwned;

use super::spec::{KeySpec, PeerSpec, PublishSpec, ReceiveSpec, StormSpec};
use super::{Nanos, SECOND, seconds};

#[pyclass(name = "Peer")]
struct PyPeer {
    peer: super::Peer,
    now: Nanos,
}

impl PyPeer {
    fn at(&mut self, now: f64) -> PyResult<Nanos> {
        self.now = instant(now)?.max(self.now);
        Ok(self.now)
    }
}

#[pymethods]
impl PyPeer {
    #[new]
    #[pyo3(signature = (spec, *, now))]
    fn new(spec: &Bound<'_, PyDict>, now: f64) -> PyResult<Self> {
        let now = instant(now)?;
        Ok(Self {
            peer: super::Peer::new(&read::<PeerSpec>(spec)?, now),
            now,
        })
    }
    fn set_keys(&mut self, keys: &Bound<'_, PyDict>) -> PyResult<()> {
        let keys = read::<KeySpec>(keys)?;
        self.peer
            .set_key_spec(&keys)
            .map_err(|_| PyValueError::new_err("key of the wrong length"))
    }
    fn set_extensions(&mut self, extensions: &Bound<'_, PyDict>) -> PyResult<()> {
        self.peer.set_extensions(read(extensions)?);
        Ok(())
    }
    #[pyo3(signature = (spec, *, now))]
    fn add_publication(&mut self, spec: &Bound<'_, PyDict>, now: f64) -> PyResult<()> {
        let (spec, now) = (read::<PublishSpec>(spec)?, self.at(now)?);
        self.peer.add_publication(spec, now);
        Ok(())
    }
    fn remove_publication(&mut self, publication: u32) {
        self.peer.remove_publication(publication);
    }
    fn set_publication(&mut self, publication: u32, active: bool) {
        self.peer.set_publication(publication, active);
    }
    #[pyo3(signature = (publication, encoding, active, bitrate=None))]
    fn set_encoding(
        &mut self,
        publication: u32,
        encoding: usize,
        active: bool,
        bitrate: Option<u32>,
    ) {
        self.peer
            .set_encoding(publication, encoding, active, bitrate);
    }
    #[pyo3(signature = (spec, *, now))]
    fn add_receiver(&mut self, spec: &Bound<'_, PyDict>, now: f64) -> PyResult<()> {
        let (spec, now) = (read::<ReceiveSpec>(spec)?, self.at(now)?);
        self.peer.add_receiver(spec, now);
        Ok(())
    }
    fn remove_receiver(&mut self, receiver: u32) {
        self.peer.remove_receiver(receiver);
    }
    fn take_arrivals(&mut self, receiver: u32) -> Vec<(u32, f64, f64, bool)> {
        let at = |at: Nanos| at as f64 / SECOND as f64;
        self.peer
            .take_arrivals(receiver)
            .into_iter()
            .map(|(frame, made, came, repaired)| (frame, at(made), at(came), repaired))
            .collect()
    }
    fn request_keyframe(&mut self, receiver: u32) {
        self.peer.request_keyframe(receiver);
    }
    #[pyo3(signature = (spec, *, now))]
    fn set_storm(&mut self, spec: &Bound<'_, PyDict>, now: f64) -> PyResult<()> {
        let (spec, now) = (read::<StormSpec>(spec)?, self.at(now)?);
        self.peer.set_storm(spec, now);
        Ok(())
    }
    #[pyo3(signature = (local, *, now))]
    fn set_local(&mut self, local: &str, now: f64) -> PyResult<()> {
        let (local, now) = (address(local)?, self.at(now)?);
        self.peer.set_local(local, now);
        Ok(())
    }
    fn send_raw(&mut self, remote: &str, datagram: Vec<u8>) -> PyResult<()> {
        self.peer.send_raw(address(remote)?, datagram);
        Ok(())
    }
    #[pyo3(signature = (packet, header_len, roc=0))]
    fn send_rtp(&mut self, packet: &[u8], header_len: usize, roc: u32) -> bool {
        self.peer.send_rtp(packet, header_len, roc)
    }
    fn send_rtcp(&mut self, compound: &[u8]) {
        self.peer.send_rtcp(compound);
    }
    fn replay(&mut self, count: usize) {
        self.peer.replay(count);
    }
    fn send_dtls(&mut self, datagram: &[u8]) -> bool {
        self.peer.send_dtls(datagram)
    }
    fn take_dtls<'py>(&mut self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.peer
            .take_dtls()
            .iter()
            .map(|datagram| PyBytes::new(py, datagram))
            .collect()
    }
    #[pyo3(signature = (datagram, *, remote, now))]
    fn receive(&mut self, datagram: Vec<u8>, remote: &str, now: f64) -> PyResult<()> {
        let (mut datagram, remote, now) = (datagram, address(remote)?, self.at(now)?);
        self.peer.handle(now, remote, &mut datagram);
        Ok(())
    }
    #[pyo3(signature = (*, now))]
    fn advance(&mut self, now: f64) -> PyResult<()> {
        let now = self.at(now)?;
        self.peer.advance(now);
        Ok(())
    }
    /// (local, remote, datagram), in order of sending; each is returned once.
    fn transmits<'py>(&mut self, py: Python<'py>) -> Vec<(String, String, Bound<'py, PyBytes>)> {
        let transmits = self.peer.transmits().into_iter();
        transmits
            .map(|t| {
                (
                    t.local.to_string(),
                    t.remote.to_string(),
                    PyBytes::new(py, &t.datagram),
                )
            })
            .collect()
    }
    fn next_timeout(&self) -> Option<f64> {
        self.peer
            .next_timeout(self.now)
            .map(|at| at as f64 / SECOND as f64)
    }
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let text = serde_json::to_string(&self.peer.stats())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        py.import("json")?.call_method1("loads", (text,))
    }
}

/// Adds the submodule `lab`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let lab = PyModule::new(module.py(), "lab")?;
    lab.add_class::<PyPeer>()?;
    module.add_submodule(&lab)
}

fn read<T: DeserializeOwned>(spec: &Bound<'_, PyDict>) -> PyResult<T> {
    let text: String = spec
        .py()
        .import("json")?
        .call_method1("dumps", (spec,))?
        .extract()?;
    serde_json::from_str(&text).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn instant(now: f64) -> PyResult<Nanos> {
    // Above a century the nanoseconds of a double are no longer exact, and the caller has mixed up units.
    if !(0.0..3.2e9).contains(&now) {
        return Err(PyValueError::new_err("now is in seconds, from 0"));
    }
    Ok(seconds(now))
}

fn address(text: &str) -> PyResult<SocketAddr> {
    text.parse()
        .map_err(|_| PyValueError::new_err(format!("no ip:port: {text}")))
}
