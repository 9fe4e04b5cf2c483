/**
 * Frees the memory of a typed array at once instead of at the next garbage collection. Arrays of a calibration are
 * gigabytes, and a few that wait for collection exceed the run itself. The array has no elements afterwards.
 */
export function freeMemory(values: { buffer: ArrayBuffer }): void {
  // Transferring to an empty copy detaches the buffer and frees its memory.
  values.buffer.transfer(0)
}
