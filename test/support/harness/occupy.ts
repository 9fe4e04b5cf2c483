/** Occupies the event loop for so long. */
export function occupyMs(ms: number): void {
  const endMs = performance.now() + ms
  while (performance.now() < endMs);
}
