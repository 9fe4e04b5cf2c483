"""Compiles CUDA sources, as one, for some architectures with NVRTC from the package nvidia-cuda-nvrtc, without a GPU.

Arguments: the architectures, options, which begin with a dash, and the sources. Prints a line for each architecture: its name,
the bytes of its binary, and of its kernels the largest stack frame of a thread and the most shared memory of a block, bytes.
Exits with 1 and the compiler's log if one fails.
"""
import ctypes
import pathlib
import struct
import sys

# Of the section .nv.info: an entry with a size, and the stack frame of a function.
SIZED, FRAME_SIZE = 4, 0x11


def sections(binary):
    """The name, the bytes and the length of each section of an ELF file."""
    (start,) = struct.unpack_from("<Q", binary, 40)
    size, count, names = struct.unpack_from("<HHH", binary, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", binary, start + index * size) for index in range(count)]
    for name, _, _, _, offset, length, *_ in headers:
        at = headers[names][4] + name
        yield binary[at : binary.index(b"\0", at)].decode(), binary[offset : offset + length], length


def stack_frames(entries):
    """The bytes of the stack frames of functions, from a section .nv.info."""
    at = 0
    while at < len(entries):
        kind, attribute, size = struct.unpack_from("<BBH", entries, at)
        at += 4
        if kind == SIZED:
            if attribute == FRAME_SIZE:
                yield struct.unpack_from("<II", entries, at)[1]
            at += size


def resources(binary):
    """The largest stack frame, and the most shared memory of a kernel."""
    frames, shared = [], [0]
    for name, data, length in sections(binary):
        if name == ".nv.info":
            frames.extend(stack_frames(data))
        elif name.startswith(".nv.shared."):
            shared.append(length)
    return max(frames), max(shared)


arguments = sys.argv[1:]
options = [argument.encode() for argument in arguments if argument.startswith("-")]
architectures = [argument for argument in arguments if argument.startswith("sm_")]
sources = [argument for argument in arguments if argument.endswith((".cu", ".cuh"))]
libraries = (found for entry in sys.path for found in pathlib.Path(entry).glob("nvidia/*/lib/libnvrtc.so.*"))
nvrtc = ctypes.CDLL(str(next(libraries)))
lines = (f'#line 1 "{pathlib.Path(source).name}"\n{pathlib.Path(source).read_text("utf-8")}' for source in sources)
text = "\n".join(lines).encode()
for architecture in architectures:
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None)
    every = [b"--std=c++17", f"--gpu-architecture={architecture}".encode(), *options]
    code = nvrtc.nvrtcCompileProgram(program, len(every), (ctypes.c_char_p * len(every))(*every))
    size = ctypes.c_size_t()
    if code != 0:
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        sys.exit(f"{architecture}: {log.value.decode()}")
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    binary = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, binary)
    print(architecture, size.value, *resources(binary.raw), flush=True)
