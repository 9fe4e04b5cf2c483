#include "module.h"

#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "report.h"
#include "settings.h"

namespace software_cuda {

namespace {

/// The bytes of a shared object, whose section headers may be anywhere in it; 0 unless it is one.
size_t image_bytes(const char *image) {
  if (std::memcmp(image, ELFMAG, SELFMAG) != 0 || image[EI_CLASS] != ELFCLASS64) return 0;
  auto *header = reinterpret_cast<const Elf64_Ehdr *>(image);
  auto *sections = reinterpret_cast<const Elf64_Shdr *>(image + header->e_shoff);
  size_t end = header->e_shoff + size_t(header->e_shnum) * sizeof(Elf64_Shdr);
  for (int index = 0; index < header->e_shnum; index++)
    if (sections[index].sh_type != SHT_NOBITS)
      end = std::max<size_t>(end, sections[index].sh_offset + sections[index].sh_size);
  return end;
}

/// Of all thread-local variables of a shared object.
size_t thread_local_size(const char *image) {
  auto *header = reinterpret_cast<const Elf64_Ehdr *>(image);
  auto *segments = reinterpret_cast<const Elf64_Phdr *>(image + header->e_phoff);
  for (int index = 0; index < header->e_phnum; index++)
    if (segments[index].p_type == PT_TLS) return segments[index].p_memsz;
  return 0;
}

/// Whether the device runs the code: of its own major version, or portable, and not of a later version.
bool runs_here(const Image &image) {
  unsigned device = settings().architecture * 10;
  bool same_major = image.architecture / 100 == device / 100;
  return (image.portable || same_major) && image.architecture <= device;
}

}  // namespace

CUresult Module::load(const void *data, std::shared_ptr<Module> &module) {
  auto *bytes = static_cast<const char *>(data);
  size_t size = image_bytes(bytes);
  if (size == 0) return CUDA_ERROR_INVALID_IMAGE;
  int file = memfd_create("software CUDA module", MFD_CLOEXEC);
  for (size_t written = 0; written < size;) {
    ssize_t count = write(file, bytes + written, size - written);
    if (count <= 0) return close(file), CUDA_ERROR_OUT_OF_MEMORY;
    written += size_t(count);
  }
  std::string path = "/proc/self/fd/" + std::to_string(file);
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    report(std::string("the module cannot be loaded: ") + dlerror());
    return close(file), CUDA_ERROR_INVALID_IMAGE;
  }
  auto *image = static_cast<const Image *>(dlsym(library, "software_cuda_image"));
  CUresult result = CUDA_SUCCESS;
  if (!image || image->abi != SOFTWARE_CUDA_ABI) {
    report("the module was not compiled by this version of software CUDA");
    result = CUDA_ERROR_INVALID_IMAGE;
  } else if (!runs_here(*image)) {
    report("the module is for another architecture than that of the device");
    result = CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  if (result != CUDA_SUCCESS) return dlclose(library), close(file), result;
  module = std::make_shared<Module>(library, file, image, thread_local_size(bytes));
  return CUDA_SUCCESS;
}

Module::Module(void *library, int file, const Image *image, size_t shared_bytes)
    : library(library), file(file), image(image), thread_local_bytes(shared_bytes) {}

Module::~Module() {
  dlclose(library);
  close(file);
}

const Entry *Module::find(const std::string &name) const {
  for (unsigned index = 0; index < image->entry_count; index++)
    if (image->entries[index].name == name) return &image->entries[index];
  return nullptr;
}

Code Module::code(const Entry *entry) const { return {entry, image->enter, library, thread_local_bytes}; }

}  // namespace software_cuda
