"""Run a program that finds that the kernel does not provide a process's extended registers; a program of its
own.

User-mode Linux keeps the registers of its guest's processes through ptrace, and has room for 2,696 bytes of
them. A host processor with AMX has 11,008; the host's kernel takes back all of it or nothing, so the guest's
first process dies with "ptrace set fp regs failed". User-mode Linux falls back to the 512 bytes of FXSAVE
when the kernel refuses PTRACE_GETREGSET, and this is what a seccomp filter makes it do here, on every machine
alike.

What FXSAVE lacks, the AVX registers, is then lost in the guest at each page fault. So the guest's environment
must keep its programs from using them: see `ENVIRONMENT`.

Usage: python fxsave_only.py PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import sys

__all__ = ["ENVIRONMENT"]

ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD",
    "OPENSSL_ia32cap": "~0x1000000000000000:0",
}
"""Keeps glibc's string functions and OpenSSL, the two that look for AVX by themselves, from using it."""

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_ERRNO = 0x00050000
_SECCOMP_RET_ALLOW = 0x7FFF0000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _FIRST_ARGUMENT_AT = 0, 16  # offsets in struct seccomp_data
_SYS_PTRACE_X86_64 = 101
_PTRACE_GETREGSET = 0x4204

_FILTER = b"".join(
    struct.pack("HBBI", *step)
    for step in (
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_EQUAL, 0, 3, _SYS_PTRACE_X86_64),
        (_LOAD_WORD, 0, 0, _FIRST_ARGUMENT_AT),
        (_JUMP_IF_EQUAL, 0, 1, _PTRACE_GETREGSET),
        (_RETURN, 0, 0, _SECCOMP_RET_ERRNO | errno.EIO),
        (_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
    )
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def _prctl(option: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def main() -> None:
    # The guest must not outlive a test run that was killed and could not clean up.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    steps = ctypes.create_string_buffer(_FILTER, len(_FILTER))
    program = _Program(len(_FILTER) // 8, ctypes.addressof(steps))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
