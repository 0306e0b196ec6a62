"""The functions of PKCS #11 that are called directly, beside python-pkcs11.

Beginning (the wrapper promises to use one thread only), logging in (it loses a session at every refused attempt), and
signing: the wrapper asks for the length of every signature first, and each call into a library is a moment at which all
threads of the process compete for the interpreter; decrypting takes the same way.
Source: PKCS #11 version 2.40, sections 3 (data types), 5.4, 5.6, 5.9 and 5.13 (functions).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from pkcs11 import exceptions as ck

CKR_OK = 0x000
CKR_ALREADY_INITIALIZED = 0x191
_CKR_USER_ALREADY_LOGGED_IN = 0x100
_CKF_OS_LOCKING_OK = 0x2
_CKU_USER = 1
# Places in CK_FUNCTION_LIST.
_C_INITIALIZE, _C_FINALIZE, _C_LOGIN, _C_DECRYPT_INIT, _C_DECRYPT, _C_SIGN_INIT, _C_SIGN = 0, 1, 18, 33, 34, 42, 43
_LARGEST_SIGNATURE = 2048  # octets; RSA with 16384 bits

#: Return values by which something is decided; any other one is a PKCS11Error, after which the library begins anew.
_ERRORS: dict[int, type[ck.PKCS11Error]] = {
    0x005: ck.GeneralError, 0x006: ck.FunctionFailed, 0x020: ck.DataInvalid, 0x021: ck.DataLenRange,
    0x030: ck.DeviceError, 0x032: ck.DeviceRemoved, 0x040: ck.EncryptedDataInvalid,
    0x041: ck.EncryptedDataLenRange, 0x054: ck.FunctionNotSupported, 0x060: ck.KeyHandleInvalid,
    0x062: ck.KeySizeRange, 0x063: ck.KeyTypeInconsistent, 0x070: ck.MechanismInvalid,
    0x071: ck.MechanismParamInvalid, 0x082: ck.ObjectHandleInvalid, 0x090: ck.OperationActive,
    0x091: ck.OperationNotInitialized, 0x0A0: ck.PinIncorrect, 0x0A1: ck.PinInvalid, 0x0A2: ck.PinLenRange,
    0x0A3: ck.PinExpired, 0x0A4: ck.PinLocked, 0x0B0: ck.SessionClosed, 0x0B3: ck.SessionHandleInvalid,
    0x0E0: ck.TokenNotPresent, 0x101: ck.UserNotLoggedIn, 0x102: ck.UserPinNotInitialized,
}  # fmt: skip
_KEY_FUNCTION_NOT_PERMITTED = 0x068

Buffer = Any  # an array of ctypes


class _FunctionList(ctypes.Structure):
    _fields_ = (("major", ctypes.c_ubyte), ("minor", ctypes.c_ubyte), ("functions", ctypes.c_void_p * 68))


class _InitializeArguments(ctypes.Structure):
    _fields_ = (("callbacks", ctypes.c_void_p * 4), ("flags", ctypes.c_ulong), ("reserved", ctypes.c_void_p))


class _Mechanism(ctypes.Structure):
    _fields_ = (("mechanism", ctypes.c_ulong), ("parameter", ctypes.c_void_p), ("length", ctypes.c_ulong))


class _PssParameters(ctypes.Structure):
    _fields_ = (("hash", ctypes.c_ulong), ("mask", ctypes.c_ulong), ("salt", ctypes.c_ulong))


class Functions:
    """The functions of one library. All of them release the interpreter while they run."""

    def __init__(self, path: str) -> None:
        """Raises PKCS11Error when the file is no such library."""
        found = ctypes.POINTER(_FunctionList)()
        try:
            code = ctypes.CDLL(path).C_GetFunctionList(ctypes.byref(found))
        except (OSError, AttributeError) as error:
            raise ck.PKCS11Error(f"{path} is no PKCS #11 library: {error}") from None
        if code != CKR_OK:
            raise ck.PKCS11Error("the library gives no list of its functions")
        self._functions = found.contents.functions
        number, pointer = ctypes.c_ulong, ctypes.c_void_p
        self._initialize = self._function(_C_INITIALIZE, pointer)
        self._finalize = self._function(_C_FINALIZE, pointer)
        self._login = self._function(_C_LOGIN, number, number, ctypes.c_char_p, number)
        self._sign_init = self._function(_C_SIGN_INIT, number, pointer, number)
        self._sign = self._function(_C_SIGN, number, ctypes.c_char_p, number, pointer, pointer)
        self._decrypt_init = self._function(_C_DECRYPT_INIT, number, pointer, number)
        self._decrypt = self._function(_C_DECRYPT, number, ctypes.c_char_p, number, pointer, pointer)

    def initialize(self) -> int:
        """C_Initialize for many threads; returns what the library says."""
        return self._initialize(ctypes.byref(_InitializeArguments(flags=_CKF_OS_LOCKING_OK)))

    def finalize(self) -> None:
        """C_Finalize. What it returns tells nothing that could be acted on."""
        self._finalize(None)

    def login(self, session: int, pin: bytes) -> None:
        """Log the application in as user. Raises PinIncorrect and its kin, PKCS11Error."""
        code = self._login(session, _CKU_USER, pin, len(pin))
        if code not in (CKR_OK, _CKR_USER_ALREADY_LOGGED_IN):
            raise _error("C_Login", code)

    def sign(
        self, session: int, key: int, mechanism: int, data: bytes, buffer: Buffer, pss: tuple[int, int, int] | None
    ) -> bytes:
        """The signature of ``key`` over ``data``; ``buffer`` is of :func:`signature_buffer` and used by nobody else
        meanwhile; ``pss`` are hash, mask and salt length. Raises PKCS11Error."""
        chosen = _Mechanism(mechanism, None, 0)
        if pss is not None:
            parameters = _PssParameters(*pss)
            chosen.parameter, chosen.length = ctypes.addressof(parameters), ctypes.sizeof(parameters)
        if code := self._sign_init(session, ctypes.byref(chosen), key):
            raise _error("C_SignInit", code)
        length = ctypes.c_ulong(_LARGEST_SIGNATURE)
        if code := self._sign(session, data, len(data), buffer, ctypes.byref(length)):
            raise _error("C_Sign", code)
        return ctypes.string_at(buffer, length.value)

    def decrypt(self, session: int, key: int, mechanism: int, data: bytes, buffer: Buffer) -> bytes:
        """What ``key`` makes of ``data`` that was encrypted for it; ``buffer`` as for :meth:`sign`. Raises
        PKCS11Error."""
        if code := self._decrypt_init(session, ctypes.byref(_Mechanism(mechanism, None, 0)), key):
            raise _error("C_DecryptInit", code)
        length = ctypes.c_ulong(_LARGEST_SIGNATURE)
        if code := self._decrypt(session, data, len(data), buffer, ctypes.byref(length)):
            raise _error("C_Decrypt", code)
        return ctypes.string_at(buffer, length.value)

    def _function(self, place: int, *arguments: Any) -> Callable[..., int]:
        return ctypes.CFUNCTYPE(ctypes.c_ulong, *arguments)(self._functions[place])


def signature_buffer() -> Buffer:
    """Room for the largest signature there is."""
    return ctypes.create_string_buffer(_LARGEST_SIGNATURE)


def _error(function: str, code: int) -> ck.PKCS11Error:
    if code == _KEY_FUNCTION_NOT_PERMITTED:
        return ck.KeyTypeInconsistent("the key is not for that")
    return _ERRORS.get(code, ck.PKCS11Error)(f"{function} returned 0x{code:x}")
