"""What our subclasses lean on below aiortc's public surface. A new minor version that moves any of it fails here, and
not as a strange fault in a call; `pyproject.toml` therefore pins one minor version.

Names and signatures are checked, and the few facts of behaviour that the guards rely on. The list is complete: a
private name of aiortc's that `d4e_sfu` uses and this list does not fails too.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from aiortc import rtcsctptransport as sctp
from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AES128_CM_SHA1_80,
    X509_DIGEST_ALGORITHMS,
    RTCCertificate,
    RTCDtlsTransport,
    State,
)
from aiortc.rtcsctptransport import InboundStream, RTCSctpTransport
from aiortc.utils import uint16_add, uint16_gt, uint32_gte
from OpenSSL import SSL

DRIVERS = Path(__file__).parents[2] / "d4e_sfu" / "drivers"

SUBCLASSES = {"EngineCertificate", "EngineDtls", "GuardedSctp", "Reassembly"}
# class → method → parameter names after self, and whether it is a coroutine
METHODS: dict[type, dict[str, tuple[list[str], bool]]] = {
    RTCCertificate: {"_create_ssl_context": (["srtp_profiles"], False)},
    RTCDtlsTransport: {
        "_do_handshake": ([], True),
        "_recv_next": ([], True),
        "_write_ssl": ([], True),
        "_send_data": (["data"], True),
        "_setup_srtp": ([], False),
        "_set_role": (["role"], False),
        "_set_state": (["state"], False),
        "_unregister_data_receiver": (["receiver"], False),
        "_register_data_receiver": (["receiver"], False),
        "_validate_peer_identity": (["remoteParameters"], False),
        "start": (["remoteParameters"], True),
        "stop": ([], True),
    },
    RTCSctpTransport: {
        "_handle_data": (["data"], True),
        "_receive_chunk": (["chunk"], True),
        "_receive_data_chunk": (["chunk"], True),
        "_receive_forward_tsn_chunk": (["chunk"], True),
        "_receive": (["stream_id", "pp_id", "data"], True),
        "_data_channel_receive": (["stream_id", "pp_id", "data"], True),
        "_data_channel_flush": ([], True),
        "_mark_received": (["tsn"], False),
        "_get_inbound_stream": (["stream_id"], False),
        "_reset_deferred_streams": ([], True),
        "_send_chunk": (["chunk"], True),
        "_send_sack": ([], True),
        "_transmit": ([], True),
        "_set_state": (["state"], False),
        "start": (["remoteCaps", "remotePort"], True),
    },
    InboundStream: {
        "add_chunk": (["chunk"], False),
        "pop_messages": ([], False),
        "prune_chunks": (["tsn"], False),
    },
    RTCDataChannel: {"_addBufferedAmount": (["amount"], False)},
}
ATTRIBUTES: dict[type, set[str]] = {
    RTCCertificate: {"_key", "_cert"},
    RTCDtlsTransport: {"_ssl", "_srtp_profiles", "_role", "_state", "_data_receiver", "encrypted"},
    RTCSctpTransport: {
        "_advertised_rwnd",
        "_association_state",
        "_cwnd",
        "_data_channel_queue",
        "_data_channels",
        "_flight_size",
        "_inbound_streams",
        "_last_received_tsn",
        "_last_sacked_tsn",
        "_local_port",
        "_local_tsn",
        "_outbound_queue",
        "_remote_max_message_size",
        "_remote_port",
        "_remote_verification_tag",
        "_sack_duplicates",
        "_sack_misordered",
        "_sack_needed",
        "_sent_queue",
    },
}


@pytest.mark.parametrize(
    ("owner", "name", "parameters", "coroutine"),
    [(owner, name, *shape) for owner, methods in METHODS.items() for name, shape in methods.items()],
)
def test_methods_keep_their_shape(owner: type, name: str, parameters: list[str], coroutine: bool) -> None:
    method = inspect.getattr_static(owner, name)
    assert list(inspect.signature(method).parameters)[1:] == parameters
    assert inspect.iscoroutinefunction(method) == coroutine


async def test_attributes_are_there_from_the_start() -> None:
    certificate = RTCCertificate.generateCertificate()
    dtls = RTCDtlsTransport(type("Ice", (), {"role": "controlled", "state": "new"})(), [certificate])
    for instance in (certificate, dtls, RTCSctpTransport(dtls)):
        missing = [name for name in ATTRIBUTES[type(instance)] if not hasattr(instance, name)]
        assert not missing


def test_every_private_name_that_we_use_is_in_this_contract() -> None:
    known = {name for methods in METHODS.values() for name in methods} | {
        n for names in ATTRIBUTES.values() for n in names
    }
    foreign = set()
    for owner in METHODS:
        foreign |= {
            name for name in vars(owner) if name.startswith("_") and not name.startswith(("__", f"_{owner.__name__}__"))
        }
        source = ast.parse(inspect.getsource(owner))
        foreign |= {
            node.attr
            for node in ast.walk(source)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr.startswith("_")
        }
    used = set()
    for file in ("dtls.py", "datachannel.py", "reassembly.py"):
        for subclass in ast.parse((DRIVERS / file).read_text()).body:
            if not isinstance(subclass, ast.ClassDef) or subclass.name not in SUBCLASSES:
                continue
            for node in ast.walk(subclass):
                if isinstance(node, ast.Attribute):
                    used.add(node.attr)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    used.add(node.name)
    assert {name for name in used & foreign if not name.startswith("__")} <= known


def test_our_own_attributes_do_not_cover_aiortcs() -> None:
    """A subclass that uses a name of its base for something else breaks it silently."""
    for file, ours, bases in (
        ("dtls.py", "EngineDtls", [RTCDtlsTransport, *RTCDtlsTransport.__mro__[1:-1]]),
        ("datachannel.py", "GuardedSctp", [RTCSctpTransport, *RTCSctpTransport.__mro__[1:-1]]),
    ):
        theirs = set()
        for base in bases:
            theirs |= _stored(ast.parse(inspect.getsource(base)))
        tree = ast.parse((DRIVERS / file).read_text())
        body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == ours)
        on_purpose = {"encrypted", "_srtp_profiles", "_advertised_rwnd", "_last_received_tsn", "_sack_needed"}
        assert _stored(body) & theirs <= on_purpose


def _stored(tree: ast.AST) -> set[str]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def test_constants_and_helpers_mean_what_they_did() -> None:
    assert version("aiortc").split(".")[:2] == ["1", "16"]
    assert (SRTP_AEAD_AES_128_GCM.key_length, SRTP_AEAD_AES_128_GCM.salt_length) == (16, 12)
    assert (SRTP_AES128_CM_SHA1_80.key_length, SRTP_AES128_CM_SHA1_80.salt_length) == (16, 14)
    assert set(X509_DIGEST_ALGORITHMS) == {"sha-256", "sha-384", "sha-512"}
    assert {state.name for state in State} == {"NEW", "CONNECTING", "CONNECTED", "CLOSED", "FAILED"}
    # A packet with its DTLS record stays below the 1,232 bytes that every IPv6 path carries.
    assert sctp.USERDATA_MAX_LENGTH + 28 + 37 <= 1232
    assert {kind: cls.__name__ for kind, cls in sctp.CHUNK_TYPES.items()} == {
        0: "DataChunk", 1: "InitChunk", 2: "InitAckChunk", 3: "SackChunk", 4: "HeartbeatChunk",
        5: "HeartbeatAckChunk", 6: "AbortChunk", 7: "ShutdownChunk", 8: "ShutdownAckChunk", 9: "ErrorChunk",
        10: "CookieEchoChunk", 11: "CookieAckChunk", 14: "ShutdownCompleteChunk", 130: "ReconfigChunk",
        192: "ForwardTsnChunk",
    }  # fmt: skip
    assert uint16_add(65535, 1) == 0
    assert uint16_gt(0, 65535)
    assert uint32_gte(0, 2**32 - 1)


def test_openssl_offers_what_the_context_needs() -> None:
    lib: Callable[..., object] = SSL._lib.SSL_CTX_set_verify  # type: ignore[attr-defined]
    assert callable(lib)
    for name in ("OP_NO_QUERY_MTU", "OP_NO_RENEGOTIATION", "OP_NO_TICKET", "MODE_RELEASE_BUFFERS", "SESS_CACHE_OFF"):
        assert isinstance(getattr(SSL, name), int)


async def test_sending_never_waits_so_that_close_can_be_synchronous() -> None:
    """`dtls.complete` runs `stop` and `start` to their end in one step."""
    dtls = RTCDtlsTransport(type("Ice", (), {"role": "controlled"})(), [RTCCertificate.generateCertificate()])
    with pytest.raises(StopIteration):
        dtls.stop().send(None)
    assert asyncio.get_running_loop().is_running()
