"""Why there is no connection, in words that say what to do: the same for the WebSocket and the downloads.

Nothing that a server may have written is quoted without redaction, and no header that was sent to it at all.
"""

from __future__ import annotations

import ssl

from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.client.errors import ServiceUnavailableError
from fdtcc_dagster.client.protocol import excerpt
from fdtcc_dagster.client.redaction import redact

_EXPIRED, _NOT_YET_VALID, _WRONG_NAME, _WRONG_ADDRESS = 10, 9, 62, 64


def refused(endpoint: Endpoint, status: int, *, handshake: bool) -> ServiceUnavailableError:
    """Make the error for an HTTP status that is neither 101 nor 200.

    Args:
        endpoint: Where it came from.
        status: The status.
        handshake: Whether it answers a handshake: there, 403 is what the container says without credentials of its
            own (S16), which may pass. It gives its downloads to anybody.

    Returns:
        The error; `permanent` where the same request would be refused again.
    """
    where = f"{endpoint} answers with HTTP {status}"
    if 300 <= status < 400:
        return ServiceUnavailableError(
            f"{where}, a redirect, which is not followed: give the address that it leads to as host, port and secure",
            permanent=True,
        )
    if status in (401, 407) or (status == 403 and not handshake):
        advice = "check bearer_token and headers" if endpoint.headers else "set bearer_token or headers"
        return ServiceUnavailableError(
            f"{where}: a proxy in front of the container refuses the credentials; {advice}", permanent=True
        )
    if status == 403:
        advice = ", or a proxy in front of it refuses bearer_token and headers" if endpoint.headers else ""
        return ServiceUnavailableError(f"{where}; its Foundry credentials may be missing{advice}")
    if status == 400 and not endpoint.secure:
        return ServiceUnavailableError(f"{where}; if a proxy in front of it speaks TLS, set secure=True")
    return ServiceUnavailableError(f"{where}; its log may say why")


def unreachable(endpoint: Endpoint, error: Exception) -> ServiceUnavailableError:
    """Make the error for a connection or a handshake that failed.

    Args:
        endpoint: Where it was to lead.
        error: The failure of the socket, of TLS, or of the handshake.

    Returns:
        The error; `permanent` where trust is missing or one side speaks TLS alone, which no retry changes. It is to be
        raised without a cause: what stands in those of a handshake may be the server's own text.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return ServiceUnavailableError(
            f"the certificate of {endpoint} is not trusted ({error.verify_message}): {_advice(error.verify_code)}",
            permanent=True,
        )
    if isinstance(error, ssl.SSLError):
        plain = error.reason == "WRONG_VERSION_NUMBER"
        advice = "it seems to speak plain HTTP: set secure=False, or give the port that speaks TLS"
        return ServiceUnavailableError(
            f"{endpoint} does not complete a TLS handshake ({error.reason}); "
            + (advice if plain else "its log may say why"),
            permanent=plain,
        )
    advice = "" if endpoint.secure else " If a proxy in front of it speaks TLS, set secure=True."
    seen = excerpt(redact(str(error)))
    return ServiceUnavailableError(
        f"{endpoint} cannot be reached ({seen}); is it running, and are host and port right?{advice}"
    )


def slow(endpoint: Endpoint, seconds: float, max_handshakes: int) -> ServiceUnavailableError:
    """Make the error for a handshake that a container which is online has dropped or not answered in time."""
    return ServiceUnavailableError(
        f"{endpoint} is up but answers slowly: a handshake was dropped or not answered after {seconds:.1f} s. It runs "
        "a command of 1.5 s for each, and drops one after 10 s: let fewer clients begin at once (here "
        f"max_handshakes={max_handshakes}, for each machine), or give it more processors"
    )


def _advice(verify_code: int) -> str:
    if verify_code in (_WRONG_NAME, _WRONG_ADDRESS):
        return "give the host by a name that the certificate is for, or have one issued for this name"
    if verify_code == _EXPIRED:
        return "it must be renewed"
    if verify_code == _NOT_YET_VALID:
        return "check this machine's clock"
    return "give the certificate of the authority that issued it as ca_file"
