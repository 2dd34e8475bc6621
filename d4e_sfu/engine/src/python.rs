//! The Python face of the engine: conversions and nothing else. Python threads enter here and may wait for a worker's
//! thread to end; a worker's thread never comes here, and so never waits for Python. Wrong arguments raise, never panic.

mod front;

use std::net::SocketAddr;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::api::{
    self, Codec, Command, Encoding, Estimate, Event, Extension, Leg, Link, Profile,
    PublicationSpec, Rate, SubscriptionSpec, Voice,
};
use crate::driver;
use crate::now::Now;
use crate::outlet::Kept;
use crate::router::counters::Snapshot;
use crate::router::{self, fault};

#[pymethods]
impl Encoding {
    #[new]
    #[pyo3(signature = (*, rid=None, ssrc=None, rtx_ssrc=None))]
    fn py_new(rid: Option<String>, ssrc: Option<u32>, rtx_ssrc: Option<u32>) -> Self {
        Self {
            rid,
            ssrc,
            rtx_ssrc,
        }
    }
    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

#[pymethods]
impl PublicationSpec {
    #[new]
    #[pyo3(signature = (*, codec, mid, payload_type, rtx_payload_type=None, red_payload_type=None, event_payload_type=None, encodings, max_bitrate, nack))]
    #[allow(clippy::too_many_arguments)] // the fields of one m-section, by keyword only
    fn py_new(
        codec: Codec,
        mid: String,
        payload_type: u8,
        rtx_payload_type: Option<u8>,
        red_payload_type: Option<u8>,
        event_payload_type: Option<u8>,
        encodings: Vec<Encoding>,
        max_bitrate: u32,
        nack: bool,
    ) -> Self {
        Self {
            codec,
            mid,
            payload_type,
            rtx_payload_type,
            red_payload_type,
            event_payload_type,
            encodings,
            max_bitrate,
            nack,
        }
    }
    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

#[pymethods]
impl SubscriptionSpec {
    #[new]
    #[pyo3(signature = (*, mid, payload_type, rtx_payload_type=None, red_payload_type=None, event_payload_type=None, ssrc, rtx_ssrc=None, cname, spatial, temporal=255, transport_wide=true))]
    #[allow(clippy::too_many_arguments)] // as above
    fn py_new(
        mid: String,
        payload_type: u8,
        rtx_payload_type: Option<u8>,
        red_payload_type: Option<u8>,
        event_payload_type: Option<u8>,
        ssrc: u32,
        rtx_ssrc: Option<u32>,
        cname: String,
        spatial: Option<u8>,
        temporal: u8,
        transport_wide: bool,
    ) -> Self {
        Self {
            mid,
            payload_type,
            rtx_payload_type,
            red_payload_type,
            event_payload_type,
            ssrc,
            rtx_ssrc,
            cname,
            spatial,
            temporal,
            transport_wide,
        }
    }
    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

#[pymethods]
impl Voice {
    #[new]
    #[pyo3(signature = (*, transport, publication, level, spoken_ms))]
    fn py_new(transport: u32, publication: u32, level: u8, spoken_ms: u16) -> Self {
        Self {
            transport,
            publication,
            level,
            spoken_ms,
        }
    }
    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

#[pymethods]
impl Leg {
    #[new]
    #[pyo3(signature = (*, expected=0, lost=0, jitter_ms=0, queue_ms=0))]
    fn py_new(expected: u64, lost: u64, jitter_ms: u32, queue_ms: u32) -> Self {
        Self {
            expected,
            lost,
            jitter_ms,
            queue_ms,
        }
    }
    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

#[pymethods]
impl Link {
    #[new]
    #[pyo3(signature = (*, transport, up, down, sent=0, silent_ms=0, round_trip_ms=None))]
    fn py_new(
        transport: u32,
        up: Leg,
        down: Leg,
        sent: u64,
        silent_ms: u32,
        round_trip_ms: Option<u32>,
    ) -> Self {
        Self {
            transport,
            up,
            down,
            sent,
            silent_ms,
            round_trip_ms,
        }
    }
    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

#[pymethods]
impl Estimate {
    #[new]
    #[pyo3(signature = (*, transport, bitrate, loss=0, queue_ms=0, limited=false, redundancy=0, copies=0))]
    fn py_new(
        transport: u32,
        bitrate: u32,
        loss: u16,
        queue_ms: u16,
        limited: bool,
        redundancy: u8,
        copies: u8,
    ) -> Self {
        Self {
            transport,
            bitrate,
            loss,
            queue_ms,
            limited,
            redundancy,
            copies,
        }
    }
    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

#[pymethods]
impl Rate {
    #[new]
    #[pyo3(signature = (*, publication, encoding, layers))]
    fn py_new(publication: u32, encoding: u8, layers: Vec<(u8, u8, u32)>) -> Self {
        Self {
            publication,
            encoding,
            layers,
        }
    }
    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

/// A router on its own thread.
#[pyclass(frozen)]
struct Worker {
    worker: std::sync::Mutex<driver::Worker>,
}

impl Worker {
    fn worker(&self) -> std::sync::MutexGuard<'_, driver::Worker> {
        self.worker
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[pymethods]
impl Worker {
    #[new]
    #[pyo3(signature = (sockets, *, name))]
    fn new(sockets: Vec<i32>, name: &str) -> PyResult<Self> {
        if name.contains('\0') {
            return Err(PyValueError::new_err("a thread's name has no NUL"));
        }
        let worker =
            driver::Worker::start(&sockets, name).map_err(|error| match error.raw_os_error() {
                Some(_) => PyOSError::new_err(error),
                None => PyValueError::new_err(error.to_string()),
            })?;
        Ok(Self {
            worker: worker.into(),
        })
    }
    fn submit(&self, commands: Vec<Command>) -> PyResult<()> {
        check(&commands)?;
        self.worker().submit(commands);
        Ok(())
    }
    fn fileno(&self) -> i32 {
        self.worker().event_fd()
    }
    fn events(&self) -> Vec<Event> {
        self.worker().events()
    }
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.worker().snapshot();
        let dict = to_dict(py, &snapshot.router)?;
        dict.set_item("busy_ratio", snapshot.busy_ratio)?;
        dict.set_item("cpu_seconds", snapshot.cpu_seconds)?;
        Ok(dict)
    }
    fn alive(&self) -> bool {
        self.worker().alive()
    }
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.worker().stop());
    }
    /// Only in builds for the laboratory.
    #[cfg(feature = "peer")]
    #[pyo3(signature = (transport=None))]
    fn panic_for_test(&self, transport: Option<api::TransportId>) {
        self.worker().panic_for_test(transport);
    }
}

/// The same router in virtual time.
#[pyclass]
#[derive(Default)]
struct Router {
    router: router::Router,
    kept: Kept,
}

#[pymethods]
impl Router {
    #[new]
    fn new() -> Self {
        Self::default()
    }
    #[pyo3(signature = (commands, *, now))]
    fn submit(&mut self, commands: Vec<Command>, now: f64) -> PyResult<()> {
        let now = instant(now)?;
        check(&commands)?;
        for command in commands {
            self.router.apply(now, command, &mut self.kept);
        }
        self.router.advance(now, &mut self.kept);
        Ok(())
    }
    #[pyo3(signature = (datagram, *, local, remote, now))]
    fn receive(&mut self, datagram: Vec<u8>, local: &str, remote: &str, now: f64) -> PyResult<()> {
        let now = instant(now)?;
        let (local, remote) = (address(local)?, address(remote)?);
        let mut datagram = datagram;
        self.router
            .handle(now, local, remote, &mut datagram, &mut self.kept);
        self.router.advance(now, &mut self.kept);
        Ok(())
    }
    #[pyo3(signature = (*, now))]
    fn advance(&mut self, now: f64) -> PyResult<()> {
        self.router.advance(instant(now)?, &mut self.kept);
        Ok(())
    }
    fn transmits<'py>(&mut self, py: Python<'py>) -> Vec<(String, String, Bound<'py, PyBytes>)> {
        std::mem::take(&mut self.kept.datagrams)
            .into_iter()
            .map(|(local, remote, bytes)| {
                (
                    local.to_string(),
                    remote.to_string(),
                    PyBytes::new(py, &bytes),
                )
            })
            .collect()
    }
    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.router.events().pop()).collect()
    }
    fn next_timeout(&self) -> Option<f64> {
        // Rounded up to the next microsecond, so that advancing to it is never too early.
        self.router
            .next_timeout()
            .map(|at| at.0.div_ceil(1_000) as f64 / 1e6)
    }
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.router.snapshot())
    }
}

fn check(commands: &[Command]) -> PyResult<()> {
    match commands.iter().find_map(fault) {
        Some(fault) => Err(PyValueError::new_err(fault)),
        None => Ok(()),
    }
}

fn instant(seconds: f64) -> PyResult<Now> {
    // Up to 31 years: far beyond any test, and far below the end of u64 nanoseconds.
    if !(0.0..=1e9).contains(&seconds) {
        return Err(PyValueError::new_err("now is seconds from 0 to 1e9"));
    }
    Ok(Now((seconds * 1e9).round() as u64))
}

fn address(text: &str) -> PyResult<SocketAddr> {
    text.parse()
        .map_err(|_| PyValueError::new_err("an address is ip:port or [ip]:port"))
}

fn to_dict<'py>(py: Python<'py>, snapshot: &Snapshot) -> PyResult<Bound<'py, PyDict>> {
    let (dict, counters, drops) = (PyDict::new(py), PyDict::new(py), PyDict::new(py));
    let mut failed = Ok(());
    snapshot.counters.each(|name, value| {
        if failed.is_ok() {
            failed = counters.set_item(name, value);
        }
    });
    failed?;
    for (reason, count) in snapshot.counters.drops.iter() {
        drops.set_item(reason.name(), count)?;
    }
    dict.set_item("counters", counters)?;
    dict.set_item("drops", drops)?;
    dict.set_item("transports", snapshot.transports)?;
    dict.set_item("transports_connected", snapshot.transports_connected)?;
    dict.set_item("publications", snapshot.publications)?;
    dict.set_item("subscriptions", snapshot.subscriptions)?;
    dict.set_item(
        "subscriptions_forwarding",
        snapshot.subscriptions_forwarding,
    )?;
    dict.set_item("events_waiting", snapshot.events_waiting)?;
    Ok(dict)
}

/// `int (*)(int preverify_ok, X509_STORE_CTX *)`: every certificate passes here, because what counts in WebRTC is its
/// fingerprint, compared after the handshake (RFC 8827 §6.5).
extern "C" fn accept_certificate(
    _preverify_ok: std::ffi::c_int,
    _store: *mut std::ffi::c_void,
) -> std::ffi::c_int {
    1
}

/// Its address, for `SSL_CTX_set_verify`. A C function needs no executable memory, as a Python callback does.
#[pyfunction]
fn certificate_verify_callback() -> usize {
    accept_certificate as *const () as usize
}

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Profile>()?;
    module.add_class::<Codec>()?;
    module.add_class::<Extension>()?;
    module.add_class::<Encoding>()?;
    module.add_class::<PublicationSpec>()?;
    module.add_class::<SubscriptionSpec>()?;
    module.add_class::<Voice>()?;
    module.add_class::<Leg>()?;
    module.add_class::<Link>()?;
    module.add_class::<Estimate>()?;
    module.add_class::<Rate>()?;
    module.add_class::<api::Command>()?;
    module.add_class::<api::Event>()?;
    module.add_class::<Worker>()?;
    module.add_class::<Router>()?;
    module.add_class::<front::Front>()?;
    #[cfg(feature = "peer")]
    crate::peer::python::register(module)?;
    module.add_function(wrap_pyfunction!(certificate_verify_callback, module)?)
}
