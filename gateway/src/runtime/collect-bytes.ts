/**
 * Gathers a stream, at most `maxBytes` of it. `cut` says that there was more: up to `drainBytes` of that
 * are read and dropped, the rest is cancelled.
 *
 * @param begun what was read of it before, which counts too
 */
export async function collectBytes(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  drainBytes = 0,
  begun?: Uint8Array,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; cut: boolean }> {
  const chunks = begun ? [begun] : []
  let keptBytes = begun?.byteLength ?? 0
  let droppedBytes = 0
  const reader = stream.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    const kept = value.subarray(0, maxBytes - keptBytes)
    if (kept.byteLength > 0) chunks.push(kept)
    keptBytes += kept.byteLength
    droppedBytes += value.byteLength - kept.byteLength
    if (droppedBytes > drainBytes) {
      await reader.cancel()
      break
    }
  }
  const bytes = new Uint8Array(keptBytes)
  let offset = 0
  for (const chunk of chunks) {
    bytes.set(chunk, offset)
    offset += chunk.byteLength
  }
  return { bytes, cut: droppedBytes > 0 }
}
