"""Compiles CUDA sources, as one, for some architectures with NVRTC from the package nvidia-cuda-nvrtc, without a GPU.

Arguments: the architectures, options, which begin with a dash, and the sources. Prints a line for each architecture: its name
and the bytes of its binary. Exits with 1 and the compiler's log if one fails.
"""
import ctypes
import pathlib
import sys

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
    print(architecture, size.value, flush=True)
