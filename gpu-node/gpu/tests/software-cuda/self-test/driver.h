// The interfaces of CUDA's driver and of NVRTC, as a program declares them.
#pragma once
#include <cstddef>

using CUresult = unsigned;
using CUdeviceptr = unsigned long long;
using Handle = struct Opaque *;

extern "C" {
CUresult cuInit(unsigned flags);
CUresult cuGetErrorName(CUresult result, const char **name);
CUresult cuDeviceGetCount(int *count);
CUresult cuDeviceGetName(char *name, int bytes, int device);
CUresult cuDeviceGetAttribute(int *value, unsigned attribute, int device);
CUresult cuDevicePrimaryCtxRetain(Handle *context, int device);
CUresult cuDevicePrimaryCtxRelease_v2(int device);
CUresult cuDevicePrimaryCtxReset_v2(int device);
CUresult cuCtxSetCurrent(Handle context);
CUresult cuCtxSynchronize();
CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes);
CUresult cuMemFree_v2(CUdeviceptr pointer);
CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags);
CUresult cuMemGetInfo_v2(size_t *free, size_t *total);
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes);
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes);
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, Handle stream);
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, Handle stream);
CUresult cuMemsetD8_v2(CUdeviceptr address, unsigned char value, size_t count);
CUresult cuMemsetD32Async(CUdeviceptr address, unsigned value, size_t count, Handle stream);
CUresult cuModuleLoadData(Handle *module, const void *image);
CUresult cuModuleUnload(Handle module);
CUresult cuModuleGetFunction(Handle *function, Handle module, const char *name);
CUresult cuLaunchKernel(Handle function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads_x,
                        unsigned threads_y, unsigned threads_z, unsigned shared_bytes, Handle stream,
                        void **parameters, void **extra);
CUresult cuStreamCreate(Handle *stream, unsigned flags);
CUresult cuStreamDestroy_v2(Handle stream);
CUresult cuStreamSynchronize(Handle stream);
CUresult cuStreamQuery(Handle stream);
CUresult cuStreamWaitEvent(Handle stream, Handle event, unsigned flags);
CUresult cuEventCreate(Handle *event, unsigned flags);
CUresult cuEventRecord(Handle event, Handle stream);
CUresult cuEventSynchronize(Handle event);
CUresult cuStreamBeginCapture_v2(Handle stream, unsigned mode);
CUresult cuStreamEndCapture(Handle stream, Handle *graph);
CUresult cuGraphInstantiateWithFlags(Handle *executable, Handle graph, unsigned long long flags);
CUresult cuGraphLaunch(Handle executable, Handle stream);
CUresult cuGraphExecDestroy(Handle executable);
CUresult cuGraphDestroy(Handle graph);

unsigned nvrtcCreateProgram(Handle *program, const char *source, const char *name, int header_count,
                            const char *const *headers, const char *const *include_names);
unsigned nvrtcCompileProgram(Handle program, int option_count, const char *const *options);
unsigned nvrtcGetProgramLogSize(Handle program, size_t *bytes);
unsigned nvrtcGetProgramLog(Handle program, char *log);
unsigned nvrtcGetCUBINSize(Handle program, size_t *bytes);
unsigned nvrtcGetCUBIN(Handle program, char *cubin);
unsigned nvrtcDestroyProgram(Handle *program);

void softwareCudaFail(CUresult result);
void softwareCudaSetMemory(size_t bytes);
void softwareCudaLastReport(char *text, size_t bytes);
}
