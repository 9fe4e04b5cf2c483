/**
 * Gives the memory behind a typed array back at once, instead of when the garbage collector comes by: a
 * calibration's arrays are gigabytes, and a few that wait to be collected are more than the run itself.
 * The array has no elements afterwards.
 */
export function freeMemory(values: { buffer: ArrayBuffer }): void {
  // The transferred copy of no bytes is what detaches, and with it frees, the memory.
  values.buffer.transfer(0)
}
