#!/bin/sh
# Builds libcuda.so.1 and libnvrtc.so.12 of software CUDA. Needs g++ alone, and builds only after a source changed.
#
# Usage: build.sh FOLDER
set -eu

if [ $# -ne 1 ]; then
  echo 'usage: build.sh FOLDER' >&2
  exit 2
fi
if ! command -v g++ >/dev/null; then
  echo 'software CUDA needs g++, which is not installed. On Debian: apt-get install g++' >&2
  exit 1
fi

mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
source=$(pwd)

# The version of what compiled kernels and the driver share: a kernel from a cache must be of the same.
abi=$(cat device/* | cksum | cut -d ' ' -f 1)
options="-std=c++17 -O2 -fPIC -fvisibility=hidden -pthread -Wall -Wextra -ffp-contract=off -U_FORTIFY_SOURCE"
definitions="-DSOFTWARE_CUDA_ABI=${abi}u -DSOFTWARE_CUDA_DEVICE=\"$source/device\""

# Compiles the sources that changed, or all after a header did, two at a time. `make` would do, but needs a package.
objects=$folder/objects
mkdir -p "$objects"
headers=$(ls driver/*.h nvrtc/*.h device/* build.sh)
newest=$(ls -t $headers | head -n 1)
changed=
for file in driver/*.cpp nvrtc/*.cpp; do
  object=$objects/$(basename "$file" .cpp).o
  if ! [ "$object" -nt "$file" ] || ! [ "$object" -nt "$newest" ]; then changed="$changed $file"; fi
done
# Every process that builds writes files of its own, and moves them into place when they are complete.
if [ -n "$changed" ]; then
  printf '%s\n' $changed | xargs -P 2 -I FILE sh -c '
    object=$1/$(basename "$2" .cpp).o
    g++ $3 $4 -c "$2" -o "$object.$5" && mv "$object.$5" "$object"
  ' build "$objects" FILE "$options" "$definitions" $$
fi

link() {
  library=$1
  shift
  link=false
  for object in "$@"; do
    if ! [ "$folder/$library" -nt "$object" ]; then link=true; fi
  done
  if $link; then
    g++ -shared -pthread -Wl,-z,defs "-Wl,-soname,$library" "$@" -ldl -o "$folder/$library.$$"
    mv "$folder/$library.$$" "$folder/$library"
  fi
  # The name without a version is the first that programs look for.
  ln -sf "$library" "$folder/${library%.*}"
}
of() {
  for file in "$@"; do printf '%s ' "$objects/$(basename "$file" .cpp).o"; done
}
link libcuda.so.1 $(of driver/*.cpp)
link libnvrtc.so.12 $(of nvrtc/*.cpp driver/process.cpp driver/settings.cpp)
