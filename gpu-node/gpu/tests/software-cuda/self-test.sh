#!/bin/sh
# Builds software CUDA and its self-test in a folder, and runs the test.
#
# Usage: self-test.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/build.sh" "$1"
folder=$(cd "$1" && pwd)
test=$folder/self-test
if ! [ "$test" -nt "$here/self-test/main.cpp" ] || ! [ "$test" -nt "$here/self-test/device.h" ] ||
  ! [ "$test" -nt "$here/self-test/driver.h" ]; then
  g++ -std=c++17 -O1 -Wall -Wextra -pthread "$here/self-test/main.cpp" -o "$test.$$" \
    "$folder/libcuda.so.1" "$folder/libnvrtc.so.12" "-Wl,-rpath,$folder"
  mv "$test.$$" "$test"
fi
exec "$test" "$here/self-test/kernels.cu"
