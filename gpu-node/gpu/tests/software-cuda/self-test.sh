#!/bin/sh
# Builds software CUDA and its self-test in a folder, and runs the test.
#
# Usage: self-test.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/build.sh" "$1"
folder=$(cd "$1" && pwd)
test=$folder/self-test
newest=$(ls -t "$here"/self-test/*.cpp "$here"/self-test/*.h | head -n 1)
if ! [ "$test" -nt "$newest" ]; then
  g++ -std=c++17 -O1 -Wall -Wextra -pthread "$here"/self-test/*.cpp -o "$test.$$" \
    "$folder/libcuda.so.1" "$folder/libnvrtc.so.12" "-Wl,-rpath,$folder"
  mv "$test.$$" "$test"
fi
exec "$test" "$here/self-test/kernels.cu"
