"""Compiles a CUDA source for some architectures with NVRTC from the package nvidia-cuda-nvrtc, without a GPU.

Arguments: the source, the architectures. Prints a line for each: the architecture and the bytes of its binary. Exits with 1
and the compiler's log if one fails.
"""
import ctypes
import pathlib
import sys

source, *architectures = sys.argv[1:]
libraries = (found for entry in sys.path for found in pathlib.Path(entry).glob("nvidia/*/lib/libnvrtc.so.*"))
nvrtc = ctypes.CDLL(str(next(libraries)))
text = pathlib.Path(source).read_bytes()
for architecture in architectures:
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, source.encode(), 0, None, None)
    options = [b"--std=c++17", f"--gpu-architecture={architecture}".encode()]
    code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    if code != 0:
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        sys.exit(f"{architecture}: {log.value.decode()}")
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    print(architecture, size.value)
