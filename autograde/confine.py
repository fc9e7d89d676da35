"""Locks a process of Linux in: namespaces, limits, no capabilities, a filter of system calls. Needs no privileges.

``autograde.warm`` calls these in a child that it has forked for one notebook. The files that the child can see were
chosen before, by bubblewrap; what is done here keeps one notebook from the next, and bounds what it can use.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from dataclasses import dataclass

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 4, 24, 38, 22
LAST_CAPABILITY = 40

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    """What one notebook may use. Seconds of the clock are watched by the process that grades.

    Attributes:
        cpu_seconds: of the processor, for the whole notebook.
        memory: bytes, beyond what the warm process has.
        processes: processes and threads.
        disk: bytes in the only folder that can be written, and of one file.
        files: files there.
    """

    cpu_seconds: int = 300
    memory: int = 2_000_000_000
    processes: int = 128
    disk: int = 200_000_000
    files: int = 5_000


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def new_namespaces() -> None:
    """Own users, mounts, processes (for children), semaphores and host name, with the same user and group numbers.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
    _check(_libc.unshare(flags), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def end_with_parent() -> None:
    """From here on this process is killed when its parent has ended; a change of user or of namespace undoes it."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0), "pdeathsig")


def _mount(kind: str | None, place: str, flags: int, options: str = "") -> None:
    encoded = (kind or "none").encode(), place.encode(), (kind or "").encode() or None
    _check(_libc.mount(*encoded, ctypes.c_ulong(flags), options.encode() or None), f"mount {place}")


def private_files(limits: Limits) -> None:
    """A fresh, bounded folder for each place that can be written, and nothing in ``/proc``.

    Without ``/proc`` no process can look at another one.
    """
    _mount(None, "/", MS_REC | MS_PRIVATE)
    user = f"uid={os.getuid()},gid={os.getgid()}"
    plain = MS_NOSUID | MS_NODEV
    _mount("tmpfs", "/tmp", plain, f"size={limits.disk},nr_inodes={limits.files},mode=700,{user}")
    _mount("tmpfs", "/dev/shm", plain | MS_NOEXEC, f"size={limits.disk},nr_inodes=200,mode=700,{user}")
    _mount("tmpfs", "/proc", plain | MS_NOEXEC | MS_RDONLY, "size=4k,nr_inodes=2,mode=555")


def bounded(limits: Limits, data_now: int) -> None:
    """Resource limits for this process and its children; ``data_now`` are the bytes of data that it has already."""
    for what, most in (
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_DATA, data_now + limits.memory),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, limits.disk),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_STACK, 8 << 20),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # Past the soft limit of the processor there is a signal that says so, past the hard one only SIGKILL.
        over = 5 if what == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else 0
        resource.setrlimit(what, (most, most + over))


def powerless() -> None:
    """No capability, now or ever again, and a filter that refuses system calls which no lesson needs."""
    for capability in range(LAST_CAPABILITY + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # one that this kernel does not have is none
    header = struct.pack("II", 0x20080522, 0)
    _check(_libc.capset(header, bytes(24)), "capset")
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _filter_calls()


# System calls by name: their numbers on x86-64 and on 64-bit ARM. What they do has no place in a notebook: new namespaces
# and mounts (which would give capabilities back), other processes' memory, the kernel's keys, programs and counters,
# memory that no limit sees.
REFUSED = {
    "ptrace": (101, 117), "syslog": (103, 116), "personality": (135, 92), "pivot_root": (155, 41),
    "chroot": (161, 51), "acct": (163, 89), "mount": (165, 40), "umount2": (166, 39), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "sethostname": (170, 161), "setdomainname": (171, 162),
    "init_module": (175, 105), "delete_module": (176, 106), "quotactl": (179, 60), "mq_open": (240, 180),
    "kexec_load": (246, 104), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "unshare": (272, 97), "perf_event_open": (298, 241), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "setns": (308, 268), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "finit_module": (313, 273), "memfd_create": (319, 279),
    "kexec_file_load": (320, 294), "bpf": (321, 280), "userfaultfd": (323, 282), "shmget": (29, 194),
    "semget": (64, 190), "msgget": (68, 186), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442), "memfd_secret": (447, 447),
}  # fmt: skip
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
FAMILIES = (1, 2, 10, 16)
"""Socket families that are allowed: Unix, IPv4, IPv6, netlink; there is no network behind them."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def supported() -> bool:
    """Whether the filter knows this machine's system calls."""
    return platform.machine() in ARCHITECTURES


def _program() -> bytes:
    """The filter, in the classic BPF of seccomp(2): each instruction is (code, jump if true, jump if false, value)."""
    column, architecture = ARCHITECTURES[platform.machine()]
    steps: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL),
    ]  # fmt: skip
    for numbers in REFUSED.values():
        steps += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    # Without clone3, whose flags a filter cannot read, the C library falls back on clone.
    steps += [(_EQUAL, 0, 1, CLONE3[column]), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    steps += [
        (_EQUAL, 0, 4, CLONE[column]), (_LOAD, 0, 0, 16), (_ANY_BIT, 0, 1, CLONE_NEWUSER),
        (_RETURN, 0, 0, _ERROR | errno.EPERM), (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    steps += [(_EQUAL, 0, len(FAMILIES) + 2, SOCKET[column]), (_LOAD, 0, 0, 16)]
    steps += [(_EQUAL, len(FAMILIES) - i, 0, family) for i, family in enumerate(FAMILIES)]
    steps += [(_RETURN, 0, 0, _ERROR | errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _filter_calls() -> None:
    program = _program()
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filled = Program(len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(filled), 0, 0), "seccomp")
